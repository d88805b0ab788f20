//! The contract between the two halves: what `collect` made and `serve` may answer from.
//!
//! It is Django's `staticfiles.json`, version 1.1, with one key of ours beside Django's three. Django
//! reads `paths` and ignores what it does not know, so one file serves both readers.
//! This folder knows neither how files are made nor how they are sent.

pub mod digits;
pub mod json;
pub mod nearest;
pub mod packed;
pub mod twins;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::http::encoding::{Coding, DictionaryCoding};

/// The manifest's name inside the output folder, as Django's `ManifestFilesMixin.manifest_name` has it.
pub const FILE_NAME: &str = "staticfiles.json";

/// The folder in the output for the bytes that have only a plain name, under names with their hash.
pub const ORIGINALS: &str = "vestibule-originals";

/// What one run of `collect` published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Plain name to hashed name, both relative to the output folder with forward slashes.
    ///
    /// This is the map that `{% static %}` reads. A value differs from its key exactly when the
    /// file has a content-hash name.
    pub paths: BTreeMap<String, String>,
    /// Every file that may be served, under plain and hashed names alike.
    ///
    /// `None` in a manifest that Django or WhiteNoise wrote; the folder itself then says what there is.
    pub files: Option<BTreeMap<String, Entry>>,
    /// Files of the release before that are in the folder and not in this release, under names that never mean
    /// anything else. A server that has not been reloaded still reads them; the next run removes them.
    pub leaving: BTreeSet<String>,
    /// How references were looked for. `None` where nobody has said so.
    pub rewriting: Option<Rewriting>,
}

/// How `collect` looked for references, so that its output can be proved whatever the configuration says by then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewriting {
    /// The path of Django's `STATIC_URL`.
    pub prefix: String,
    /// Whether names were hashed and references rewritten at all.
    pub hash: bool,
    /// Whether imports in scripts were followed.
    pub javascript_modules: bool,
    /// The patterns of HTML files that were looked into.
    pub html: Vec<String>,
    /// The patterns of web app manifests that were looked into.
    pub web_manifests: Vec<String>,
}

/// One file of the output folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Length in bytes of the file itself, without any content coding.
    pub size: u64,
    /// The whole `Content-Type` value, with its charset where it has one.
    pub media_type: String,
    /// SHA-256 of the file's bytes, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// The file that holds the bytes, if that is another one; its compressed copies are the ones to send.
    ///
    /// A plain name has other bytes in the next release. So that a reader sees one whole release at any
    /// moment, also while the next one is put into place, it reads only files of which the bytes never change.
    pub stored: Option<String>,
    /// The value of an `integrity` attribute: "sha384-" and a digest (Subresource Integrity, section 3.1).
    /// Empty in a manifest that has none.
    pub integrity: String,
    /// Whether the name changes with the bytes, so that they may be kept for ever under it.
    pub is_immutable: bool,
    /// The compressed copies beside the file (`name` + [`Coding::suffix`]), with their sizes in bytes.
    pub variants: BTreeMap<Coding, u64>,
    /// The names, as a URL pattern below the static prefix, of the later versions of this file for which
    /// it may be a dictionary (RFC 9842, section 2.1.1). `None` where it should not be one.
    pub dictionary_for: Option<String>,
    /// Deltas beside the file ([`Entry::delta_name`]) by the SHA-256 of the dictionary, in 64 lower-case
    /// hexadecimal digits, with their sizes in bytes.
    pub deltas: BTreeMap<String, BTreeMap<DictionaryCoding, u64>>,
    /// Set for a file of an earlier release that the present one does not use.
    pub carried: Option<Carried>,
    /// For an image: the listed files with the same picture in another format, which may be sent in its place.
    pub twins: Vec<String>,
    /// For a stylesheet: what it loads by itself, whatever the page.
    pub needs: Needs,
}

/// The listed files that a stylesheet names and a browser loads as soon as it has read it. What those need in turn
/// stands with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The stylesheets that it imports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub styles: Vec<String>,
    /// The fonts that every browser takes that knows of preloading.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fonts: Vec<String>,
}

impl Needs {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.styles.is_empty() && self.fonts.is_empty()
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.styles.iter().chain(&self.fonts)
    }
}

impl Entry {
    /// The file, below the output folder, that holds the bytes of the entry with this name.
    pub fn location<'a>(&'a self, name: &'a str) -> &'a str {
        self.stored.as_deref().unwrap_or(name)
    }

    /// The name of the compressed copy beside a file with this name.
    pub fn copy_name(name: &str, coding: Coding) -> String {
        [name, coding.suffix()].concat()
    }

    /// The name of the file that holds a delta for `name` against the dictionary with this SHA-256.
    pub fn delta_name(name: &str, dictionary: &str, coding: DictionaryCoding) -> String {
        format!("{name}.{}{}", dictionary.get(..12).unwrap_or(dictionary), coding.suffix())
    }
}

/// Where a file of an earlier release comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The plain name that it was a version of.
    pub plain: String,
    /// The last release that used it: [`Manifest::release`] of that time.
    pub release: String,
    /// How many releases have not used it, the present one included.
    pub releases: u32,
    /// When it went out of use, in seconds since 1970.
    pub since: u64,
    /// By which clock.
    pub clock: Clock,
}

/// Where the time of a release comes from. Times of one are not compared with times of the other: a release may be
/// dated by a commit of years ago, or by one to come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// The machine's.
    #[default]
    Machine,
    /// `SOURCE_DATE_EPOCH`, as builds have it that shall come out the same at any time.
    SourceDate,
}
