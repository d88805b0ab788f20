//! The manifest on disk: `staticfiles.json`, version 1.1, as Django's `ManifestFilesMixin` reads it.
//!
//! Keys of Django: `paths`, `version`, `hash`. Key of ours: `vestibule`, with a version of its own, so
//! that a file from a later release is refused and not half understood.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Carried, Entry, FILE_NAME, Manifest, Rewriting};
use crate::http::encoding::{Coding, DictionaryCoding};

/// The version of the `vestibule` key that this program writes and reads.
const OUR_VERSION: u32 = 1;

/// Why a manifest cannot be used.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// There is none.
    #[error("there is no {FILE_NAME} in {}", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("cannot read the manifest; let the user that vestibule runs as read it")]
    Unreadable(#[source] io::Error),
    /// It is not the JSON that it should be; cut short, perhaps.
    #[error("{} is not a manifest of static files; run `vestibule collect` again", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        cause: serde_json::Error,
    },
    /// Its version is not known here.
    #[error("{} has {key} {found:?}, which this vestibule does not know; run `vestibule collect` again", .path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Which version key.
        key: &'static str,
        /// What it says.
        found: String,
    },
    /// A name in it would lead out of the folder, or is not a name at all.
    #[error("{} names {name:?}, which is not a path inside its folder; run `vestibule collect` again", .path.display())]
    BadName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

#[derive(Deserialize)]
struct OnDisk {
    paths: BTreeMap<String, String>,
    version: String,
    vestibule: Option<Ours>,
}

#[derive(Deserialize)]
struct Ours {
    version: u32,
    rewriting: Option<Rewriting>,
    #[serde(default)]
    leaving: BTreeSet<String>,
    files: BTreeMap<String, EntryOnDisk>,
}

/// What is written. It borrows, since the manifest of a large tree is large.
#[derive(Serialize)]
struct ToDisk<'m> {
    paths: &'m BTreeMap<String, String>,
    version: &'static str,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vestibule: Option<OursToDisk<'m>>,
}

#[derive(Serialize)]
struct OursToDisk<'m> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewriting: Option<&'m Rewriting>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    leaving: &'m BTreeSet<String>,
    #[serde(serialize_with = "entries")]
    files: &'m BTreeMap<String, Entry>,
}

fn entries<S: Serializer>(files: &BTreeMap<String, Entry>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(files.iter().map(|(name, entry)| (name, EntryOnDisk::from(entry))))
}

#[derive(Deserialize, Serialize)]
struct EntryOnDisk {
    size: u64,
    #[serde(rename = "type")]
    media_type: String,
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stored: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    integrity: String,
    #[serde(default, rename = "immutable", skip_serializing_if = "std::ops::Not::not")]
    is_immutable: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    variants: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dictionary_for: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    deltas: BTreeMap<String, BTreeMap<String, u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carried: Option<CarriedOnDisk>,
}

#[derive(Deserialize, Serialize)]
struct CarriedOnDisk {
    plain: String,
    release: String,
    releases: u32,
    since: u64,
}

impl Manifest {
    /// Reads the manifest of an output folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be read, is cut short, has an unknown version, or names a
    /// path that leads out of the folder.
    pub fn load(folder: &Path) -> Result<Self, ManifestError> {
        let path = folder.join(FILE_NAME);
        let text = match fs_err::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ManifestError::Missing(folder.to_owned()));
            }
            Err(error) => return Err(ManifestError::Unreadable(error)),
        };
        Self::parse(&path, &text)
    }

    /// Reads the text of a manifest; `path` is for messages.
    ///
    /// # Errors
    /// When it is cut short, has an unknown version, or names a path that leads out of the folder.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ManifestError> {
        let on_disk: OnDisk =
            serde_json::from_slice(text).map_err(|cause| ManifestError::Malformed { path: path.to_owned(), cause })?;
        let other_version = |key, found| ManifestError::OtherVersion { path: path.to_owned(), key, found };
        if !matches!(on_disk.version.as_str(), "1.0" | "1.1") {
            return Err(other_version("version", on_disk.version));
        }
        let (files, rewriting, leaving) = match on_disk.vestibule {
            Some(ours) if ours.version != OUR_VERSION => {
                return Err(other_version("vestibule.version", ours.version.to_string()));
            }
            Some(ours) => {
                let files = ours.files.into_iter().map(|(name, entry)| (name, entry.into())).collect();
                (Some(files), ours.rewriting, ours.leaving)
            }
            None => (None, None, BTreeSet::new()),
        };
        let manifest = Self { paths: on_disk.paths, files, leaving, rewriting };
        let is_digest =
            |key: &str| key.len() == 64 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if let Some(key) = manifest.dictionaries().find(|key| !is_digest(key)) {
            return Err(ManifestError::BadName { path: path.to_owned(), name: key.to_owned() });
        }
        if let Some(name) = manifest.names().find(|name| !stays_inside(name)) {
            return Err(ManifestError::BadName { path: path.to_owned(), name: name.to_owned() });
        }
        Ok(manifest)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let listed = self.files.iter().flat_map(BTreeMap::keys);
        let stored = self.files.iter().flat_map(BTreeMap::values).filter_map(|entry| entry.stored.as_ref());
        self.paths.values().chain(listed).chain(stored).chain(&self.leaving).map(String::as_str)
    }

    /// Part of file names too.
    fn dictionaries(&self) -> impl Iterator<Item = &str> {
        let entries = self.files.iter().flat_map(BTreeMap::values);
        entries.flat_map(|entry| entry.deltas.keys()).map(String::as_str)
    }

    /// The file's text: one line of JSON with sorted keys, the same for the same tree.
    pub fn to_json(&self) -> String {
        let mut text = Vec::new();
        self.write_json(&mut text).expect("a vector takes everything");
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    /// Writes that text.
    ///
    /// # Errors
    /// When the writer has one.
    pub fn write_json(&self, writer: impl io::Write) -> io::Result<()> {
        let ours = |files| OursToDisk {
            version: OUR_VERSION,
            rewriting: self.rewriting.as_ref(),
            leaving: &self.leaving,
            files,
        };
        let vestibule = self.files.as_ref().map(ours);
        let to_disk = ToDisk { paths: &self.paths, version: "1.1", hash: self.release(), vestibule };
        serde_json::to_writer(writer, &to_disk).map_err(io::Error::from)
    }

    /// The name of this release, from its set of paths: Django's `manifest_hash`, over the same text but
    /// with SHA-256. Django only compares it with itself.
    pub fn release(&self) -> String {
        let pairs: Vec<_> = self.paths.iter().collect();
        let text = serde_json::to_vec(&pairs).expect("pairs of strings are always JSON");
        hex(&Sha256::digest(text))[..12].to_owned()
    }
}

/// Whether a name is a relative path of plain components.
pub fn stays_inside(name: &str) -> bool {
    !name.contains(['\0', '\\']) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string never fails");
        text
    })
}

impl From<EntryOnDisk> for Entry {
    fn from(entry: EntryOnDisk) -> Self {
        // A coding of a later release is one that this release cannot send, so it is passed over.
        let variants = entry.variants.iter();
        let variants = variants.filter_map(|(token, size)| Some((Coding::from_token(token)?, *size))).collect();
        let known = |sizes: BTreeMap<String, u64>| {
            let sizes = sizes.iter();
            sizes.filter_map(|(token, size)| Some((DictionaryCoding::from_token(token)?, *size))).collect()
        };
        let deltas = entry.deltas.into_iter().map(|(dictionary, sizes)| (dictionary, known(sizes))).collect();
        let carried = entry.carried.map(|CarriedOnDisk { plain, release, releases, since }| Carried {
            plain,
            release,
            releases,
            since,
        });
        Self {
            size: entry.size,
            media_type: entry.media_type,
            sha256: entry.sha256,
            stored: entry.stored,
            integrity: entry.integrity,
            is_immutable: entry.is_immutable,
            variants,
            dictionary_for: entry.dictionary_for,
            deltas,
            carried,
        }
    }
}

impl From<&Entry> for EntryOnDisk {
    fn from(entry: &Entry) -> Self {
        let variants = entry.variants.iter().map(|(coding, size)| (coding.token().to_owned(), *size)).collect();
        let tokens = |sizes: &BTreeMap<DictionaryCoding, u64>| {
            sizes.iter().map(|(coding, size)| (coding.token().to_owned(), *size)).collect()
        };
        let deltas = entry.deltas.iter().map(|(dictionary, sizes)| (dictionary.clone(), tokens(sizes))).collect();
        let carried = entry.carried.clone().map(|Carried { plain, release, releases, since }| CarriedOnDisk {
            plain,
            release,
            releases,
            since,
        });
        Self {
            size: entry.size,
            media_type: entry.media_type.clone(),
            sha256: entry.sha256.clone(),
            stored: entry.stored.clone(),
            integrity: entry.integrity.clone(),
            is_immutable: entry.is_immutable,
            variants,
            dictionary_for: entry.dictionary_for.clone(),
            deltas,
            carried,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(Path::new("out/staticfiles.json"), text.as_bytes())
    }

    fn example() -> Manifest {
        let entry = Entry {
            size: 3,
            media_type: "text/css; charset=utf-8".into(),
            sha256: "ab".repeat(32),
            stored: Some("vestibule-originals/abab".into()),
            integrity: "sha384-AAAA".into(),
            is_immutable: true,
            variants: [(Coding::Gzip, 2)].into(),
            dictionary_for: Some("a.*.css".into()),
            deltas: [("cd".repeat(32), [(DictionaryCoding::Zstd, 1)].into())].into(),
            carried: Some(Carried { plain: "a.css".into(), release: "0123456789ab".into(), releases: 2, since: 1 }),
        };
        Manifest {
            paths: [("a.css".into(), "a.0123456789ab.css".into())].into(),
            files: Some([("a.0123456789ab.css".into(), entry)].into()),
            leaving: ["a.ba9876543210.css".to_owned()].into(),
            rewriting: Some(Rewriting { prefix: "/static/".into(), hash: true, ..Rewriting::default() }),
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(parse(&example().to_json()).expect("our own text"), example());
    }

    #[test]
    fn a_manifest_that_django_wrote_has_paths_only() {
        let manifest = parse(r#"{"paths": {"a.css": "a.1.css"}, "version": "1.1", "hash": "x"}"#).expect("Django's");
        assert_eq!(manifest.paths["a.css"], "a.1.css");
        assert_eq!(manifest.files, None);
    }

    #[test]
    fn a_truncated_manifest_is_refused() {
        let text = example().to_json();
        assert!(matches!(parse(&text[..text.len() / 2]), Err(ManifestError::Malformed { .. })));
    }

    #[test]
    fn a_manifest_of_another_version_is_refused() {
        let django = r#"{"paths": {}, "version": "9.0"}"#;
        let ours = r#"{"paths": {}, "version": "1.1", "vestibule": {"version": 99, "files": {}}}"#;
        for text in [django, ours] {
            assert!(matches!(parse(text), Err(ManifestError::OtherVersion { .. })), "for {text}");
        }
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() {
        for name in ["../secret", "/etc/passwd", "a//b", "a/./b", "", "a\\\\b", "a\\u0000b"] {
            let text = format!(r#"{{"paths": {{"a": "{name}"}}, "version": "1.1"}}"#);
            assert!(matches!(parse(&text), Err(ManifestError::BadName { .. })), "for {name:?}");
        }
    }
}
