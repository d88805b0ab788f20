//! The contract between the two halves: what `collect` made and `serve` may answer from.
//!
//! It is Django's `staticfiles.json`, version 1.1, with one key of ours beside Django's three. Django
//! reads `paths` and ignores what it does not know, so one file serves both readers.
//! This folder knows neither how files are made nor how they are sent.

pub mod json;

use std::collections::BTreeMap;

use crate::http::encoding::Coding;

/// The manifest's name inside the output folder, as Django's `ManifestFilesMixin.manifest_name` has it.
pub const FILE_NAME: &str = "staticfiles.json";

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
}

/// One file of the output folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Length in bytes of the file itself, without any content coding.
    pub size: u64,
    /// The whole `Content-Type` value, with its charset where it has one.
    pub media_type: String,
    /// SHA-256 of the file's bytes, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// The compressed copies beside the file (`name` + [`Coding::suffix`]), with their sizes in bytes.
    pub variants: BTreeMap<Coding, u64>,
}
