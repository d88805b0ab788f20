//! The manifest on disk: `staticfiles.json`, version 1.1, as Django's `ManifestFilesMixin` reads it.
//!
//! Keys of Django: `paths`, `version`, `hash`. Key of ours: `vestibule`, with a version of its own, so
//! that a file from a later release is refused and not half understood.

mod entry;
mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use self::entry::EntryOnDisk;
use self::parts::Members;
pub use self::parts::Text;
use super::digits::{hex, sha256_of};
use super::packed::{Files, Packed};
use super::{FILE_NAME, Manifest, Rewriting};

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
    #[error("{} is not a manifest of static files", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        cause: serde_json::Error,
    },
    /// Its version is not known here.
    #[error("{} has {key} {found:?}, which this vestibule does not know", .path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Which version key.
        key: &'static str,
        /// What it says.
        found: String,
    },
    /// A name in it would lead out of the folder, or is not a name at all.
    #[error("{} names {name:?}, which is not a path inside its folder", .path.display())]
    BadName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

/// What is read, with the paths and the entries in whatever keeps them.
#[derive(Deserialize)]
struct OnDisk<P, F> {
    paths: P,
    version: String,
    vestibule: Option<Ours<F>>,
}

#[derive(Deserialize)]
struct Ours<F> {
    version: u32,
    rewriting: Option<Rewriting>,
    #[serde(default)]
    leaving: BTreeSet<String>,
    files: F,
}

impl<P, F> OnDisk<P, F> {
    /// What both of our versions and Django's must be.
    fn check_versions(&self, path: &Path) -> Result<(), ManifestError> {
        let other_version = |key, found| ManifestError::OtherVersion { path: path.to_owned(), key, found };
        if !matches!(self.version.as_str(), "1.0" | "1.1") {
            return Err(other_version("version", self.version.clone()));
        }
        match &self.vestibule {
            Some(ours) if ours.version != OUR_VERSION => {
                Err(other_version("vestibule.version", ours.version.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// The names must stay in the folder, and those of deltas have a digest in them.
fn check_names<'n>(
    path: &Path,
    mut names: impl Iterator<Item = &'n str>,
    mut dictionaries: impl Iterator<Item = &'n str>,
) -> Result<(), ManifestError> {
    let bad = dictionaries.find(|key| sha256_of(key).is_none()).or_else(|| names.find(|name| !stays_inside(name)));
    bad.map_or(Ok(()), |name| Err(ManifestError::BadName { path: path.to_owned(), name: name.to_owned() }))
}

/// What is written. It borrows, since the manifest of a large tree is large.
#[derive(Serialize)]
struct ToDisk<'m, P, F> {
    paths: P,
    version: &'static str,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vestibule: Option<OursToDisk<'m, F>>,
}

#[derive(Serialize)]
struct OursToDisk<'m, F> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewriting: Option<&'m Rewriting>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    leaving: &'m BTreeSet<String>,
    files: F,
}

impl<P: Serialize, F: Serialize> ToDisk<'_, P, F> {
    fn write(&self, writer: impl io::Write) -> io::Result<()> {
        serde_json::to_writer(writer, self).map_err(io::Error::from)
    }
}

impl<'m, F> OursToDisk<'m, F> {
    fn new(rewriting: Option<&'m Rewriting>, leaving: &'m BTreeSet<String>, files: F) -> Self {
        Self { version: OUR_VERSION, rewriting, leaving, files }
    }
}

/// A manifest that has its texts where it was read from, as far as they stand there as they are. Of two names that are
/// the same, the later one counts.
#[derive(Debug, Default)]
pub struct Listing<'t> {
    /// As [`Manifest::paths`].
    pub paths: Vec<(Text<'t>, Text<'t>)>,
    /// As [`Manifest::files`].
    pub files: Option<Vec<(Text<'t>, EntryOnDisk<'t>)>>,
    leaving: BTreeSet<String>,
    rewriting: Option<Rewriting>,
}

/// The text of a folder's manifest, and where it lies.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn read(folder: &Path) -> Result<(PathBuf, Vec<u8>), ManifestError> {
    let path = folder.join(FILE_NAME);
    match fs_err::read(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ManifestError::Missing(folder.to_owned())),
        Err(error) => Err(ManifestError::Unreadable(error)),
    }
}

impl<'t> Listing<'t> {
    /// Reads the text of a manifest; `path` is for messages.
    ///
    /// # Errors
    /// As for [`Manifest::parse`].
    pub fn parse(path: &Path, text: &'t [u8]) -> Result<Self, ManifestError> {
        let malformed = |cause| ManifestError::Malformed { path: path.to_owned(), cause };
        let on_disk: OnDisk<Members<_, _>, Members<_, _>> = serde_json::from_slice(text).map_err(malformed)?;
        on_disk.check_versions(path)?;
        let OnDisk { paths: Members(paths), vestibule, .. } = on_disk;
        let listing = match vestibule {
            Some(Ours { files: Members(files), leaving, rewriting, .. }) => {
                Self { paths, files: Some(files), leaving, rewriting }
            }
            None => Self { paths, ..Self::default() },
        };
        check_names(
            path,
            listing.names(),
            listing.entries().flat_map(|(_, entry)| entry.deltas.keys()).map(|key| &**key),
        )?;
        Ok(listing)
    }

    fn entries(&self) -> impl Iterator<Item = &(Text<'t>, EntryOnDisk<'t>)> {
        self.files.iter().flatten()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let listed = self.entries().flat_map(|(name, entry)| [Some(&**name), entry.stored.as_deref()]).flatten();
        let beside = self.entries().flat_map(|(_, entry)| entry.twins.iter().chain(entry.needs.names()));
        let beside = beside.chain(&self.leaving).map(String::as_str);
        self.paths.iter().map(|(_, name)| &**name).chain(listed).chain(beside)
    }
}

impl Manifest {
    /// Reads the manifest of an output folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be read, is cut short, has an unknown version, or names a
    /// path that leads out of the folder.
    pub fn load(folder: &Path) -> Result<Self, ManifestError> {
        let (path, text) = read(folder)?;
        Self::parse(&path, &text)
    }

    /// Reads the text of a manifest; `path` is for messages.
    ///
    /// # Errors
    /// When it is cut short, has an unknown version, or names a path that leads out of the folder.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ManifestError> {
        let Listing { paths, files, leaving, rewriting } = Listing::parse(path, text)?;
        let entry = |(name, entry): (Text<'_>, EntryOnDisk<'_>)| (name.into_owned(), entry.into());
        Ok(Self {
            paths: paths.into_iter().map(|(plain, name)| (plain.into_owned(), name.into_owned())).collect(),
            files: files.map(|files| files.into_iter().map(entry).collect()),
            leaving,
            rewriting,
        })
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
        let vestibule = self.files.as_ref().map(|files| OursToDisk::new(self.rewriting.as_ref(), &self.leaving, files));
        ToDisk { paths: &self.paths, version: "1.1", hash: self.release(), vestibule }.write(writer)
    }

    /// The name of this release, from its set of paths: Django's `manifest_hash`, over the same text but
    /// with SHA-256. Django only compares it with itself.
    pub fn release(&self) -> String {
        release_of(self.paths.iter().map(|(plain, name)| (plain.as_str(), name.as_str())))
    }
}

impl Packed {
    /// As [`Manifest::load`], but at no time is more in memory than what is packed.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn load(folder: &Path) -> Result<Self, ManifestError> {
        let path = folder.join(FILE_NAME);
        let file = match fs_err::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ManifestError::Missing(folder.to_owned()));
            }
            file => file.map_err(ManifestError::Unreadable)?,
        };
        let on_disk: OnDisk<BTreeMap<String, String>, Files> =
            serde_json::from_reader(BufReader::with_capacity(1 << 17, file)).map_err(|cause| {
                if cause.is_io() {
                    ManifestError::Unreadable(cause.into())
                } else {
                    ManifestError::Malformed { path: path.clone(), cause }
                }
            })?;
        on_disk.check_versions(&path)?;
        let OnDisk { paths, vestibule, .. } = on_disk;
        let manifest = match vestibule {
            Some(Ours { files, leaving, rewriting, .. }) => Self::new(paths, Some(files), leaving, rewriting),
            None => Self::new(paths, None, BTreeSet::new(), None),
        };
        let used = manifest.paths.values().map(AsRef::as_ref);
        let listed = manifest.files.iter().flat_map(Files::names);
        let names = used.chain(listed).chain(manifest.leaving.iter().map(String::as_str));
        check_names(&path, names, manifest.files.iter().flat_map(Files::dictionaries))?;
        Ok(manifest)
    }

    /// As [`Manifest::write_json`], to the byte.
    ///
    /// # Errors
    /// When the writer has one.
    pub fn write_json(&self, writer: impl io::Write) -> io::Result<()> {
        struct Paths<'m>(&'m Packed);
        impl Serialize for Paths<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.paths.iter().map(|(plain, name)| (plain.as_ref(), name.as_ref())))
            }
        }
        let vestibule = self.files.as_ref().map(|files| OursToDisk::new(self.rewriting.as_ref(), &self.leaving, files));
        ToDisk { paths: Paths(self), version: "1.1", hash: self.release(), vestibule }.write(writer)
    }

    /// As [`Manifest::release`].
    pub fn release(&self) -> String {
        release_of(self.paths.iter().map(|(plain, name)| (plain.as_ref(), name.as_ref())))
    }
}

fn release_of<'n>(pairs: impl Iterator<Item = (&'n str, &'n str)>) -> String {
    /// Nothing of the text is kept.
    struct Hashing(Sha256);
    impl io::Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashing = Hashing(Sha256::new());
    let mut serializer = serde_json::Serializer::new(&mut hashing);
    serializer.collect_seq(pairs).expect("pairs of strings are always JSON");
    hex(&hashing.0.finalize())[..12].to_owned()
}

/// Whether a name is a relative path of plain components.
pub fn stays_inside(name: &str) -> bool {
    let is_plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    !name.bytes().any(|byte| matches!(byte, 0 | b'\\')) && name.as_bytes().split(|byte| *byte == b'/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::super::{Carried, Clock, Entry, Needs};
    use super::*;
    use crate::http::encoding::{Coding, DictionaryCoding};

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
            carried: Some(Carried {
                plain: "a.css".into(),
                release: "0123456789ab".into(),
                releases: 2,
                since: 1,
                clock: Clock::SourceDate,
            }),
            twins: vec!["a.avif".into(), "a.webp".into()],
            needs: Needs { styles: vec!["b.css".into()], fonts: vec!["c.woff2".into()] },
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
    fn a_packed_manifest_is_written_and_read_as_the_other_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for text in [example().to_json(), Manifest { files: None, ..example() }.to_json()] {
            fs_err::write(folder.path().join(FILE_NAME), &text).expect("written");
            let packed = Packed::load(folder.path()).expect("our own text");
            let mut written = Vec::new();
            packed.write_json(&mut written).expect("a vector takes everything");
            assert_eq!(String::from_utf8(written).expect("JSON"), text);
            assert_eq!((packed.release(), packed.expanded()), (example().release(), parse(&text).expect("our own")));
        }
        for (text, is_expected) in [
            (
                r#"{"paths": {"a": "../b"}, "version": "1.1"}"#,
                (|error| matches!(error, ManifestError::BadName { .. })) as fn(&_) -> bool,
            ),
            (r#"{"paths": {}, "version": "9.0"}"#, |error| matches!(error, ManifestError::OtherVersion { .. })),
            (r#"{"paths": {"#, |error| matches!(error, ManifestError::Malformed { .. })),
        ] {
            fs_err::write(folder.path().join(FILE_NAME), text).expect("written");
            let error = Packed::load(folder.path()).expect_err("a refusal");
            assert!(is_expected(&error), "for {text}: {error}");
        }
        fs_err::remove_file(folder.path().join(FILE_NAME)).expect("removed");
        assert!(matches!(Packed::load(folder.path()), Err(ManifestError::Missing(_))));
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
    fn an_entry_of_before_there_were_twins_is_read() {
        let text = r#"{"paths": {}, "version": "1.1", "vestibule": {"version": 1, "files":
            {"a.jpg": {"size": 1, "type": "image/jpeg", "sha256": ""}}}}"#;
        let files = parse(text).expect("a manifest of ours").files.expect("files");
        assert!(files["a.jpg"].twins.is_empty() && files["a.jpg"].needs.is_empty());
        let written = Manifest { files: Some(files), ..Manifest::default() }.to_json();
        assert!(!written.contains("twins") && !written.contains("needs"), "{written}");
    }

    #[test]
    fn a_name_beside_an_entry_that_leaves_the_folder_is_refused() {
        for beside in [r#""twins": ["../a.avif"]"#, r#""needs": {"styles": ["/b"]}"#, r#""needs": {"fonts": ["a//b"]}"#]
        {
            let text = format!(
                r#"{{"paths": {{}}, "version": "1.1", "vestibule": {{"version": 1, "files":
                {{"a": {{"size": 1, "type": "x/y", "sha256": "", {beside}}}}}}}}}"#
            );
            assert!(matches!(parse(&text), Err(ManifestError::BadName { .. })), "for {beside}");
            let folder = tempfile::tempdir().expect("a temporary folder");
            fs_err::write(folder.path().join(FILE_NAME), &text).expect("written");
            assert!(matches!(Packed::load(folder.path()), Err(ManifestError::BadName { .. })), "for {beside}");
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
