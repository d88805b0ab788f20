//! Source trees and an output folder in a temporary folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use vestibule::collect::{CollectError, Summary, collect};
use vestibule::config::CollectConfig;
use vestibule::config::values::{Source, UrlPrefix};
use vestibule::manifest::Manifest;

/// A folder that goes away with its value. The sources are folders in it, the output is `out`.
pub(crate) struct Site {
    folder: PathBuf,
    _owned: Option<tempfile::TempDir>,
    /// What `collect` is told. Brotli at its highest level is for the tests that are about it.
    pub(crate) config: CollectConfig,
}

impl Site {
    /// One empty source, `src`.
    pub(crate) fn new() -> Self {
        Self::with_sources(&["src"])
    }

    /// Empty sources in this order: `DIR` or `PREFIX=DIR`.
    pub(crate) fn with_sources(sources: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = CollectConfig { brotli_level: 5, zstd_level: 3, ..CollectConfig::default() };
        for source in sources {
            let source: Source = source.parse().expect("a source");
            let directory = folder.path().join(source.directory);
            fs_err::create_dir_all(&directory).expect("a source folder");
            config.sources.push(Source { prefix: source.prefix, directory });
        }
        config.output = Some(folder.path().join("out"));
        Self { folder: folder.path().to_owned(), _owned: Some(folder), config }
    }

    /// In a folder that belongs to somebody else.
    pub(crate) fn at(folder: PathBuf, config: CollectConfig) -> Self {
        Self { folder, _owned: None, config }
    }

    /// Adds a file to the source `src`.
    pub(crate) fn file(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        self.file_at(&format!("src/{name}"), contents)
    }

    /// Adds a file anywhere.
    pub(crate) fn file_at(self, path: &str, contents: impl AsRef<[u8]>) -> Self {
        let path = self.path(path);
        fs_err::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder");
        fs_err::write(path, contents).expect("a file");
        self
    }

    /// Changes what `collect` is told.
    pub(crate) fn set(mut self, change: impl FnOnce(&mut CollectConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// A path inside the temporary folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The output folder.
    pub(crate) fn output(&self) -> &Path {
        self.config.output.as_deref().expect("the output is set")
    }

    /// Runs `collect` under `/static/`.
    pub(crate) fn collect(&self) -> Result<Summary, CollectError> {
        collect(&self.config, &UrlPrefix::default(), SystemTime::now())
    }

    /// Runs `collect`, which must succeed.
    pub(crate) fn collected(&self) -> Summary {
        self.collect().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs `collect`, which must fail, and answers with the message.
    pub(crate) fn refusal(&self) -> String {
        self.collect().expect_err("a refusal").to_string()
    }

    /// The manifest in the output.
    pub(crate) fn manifest(&self) -> Manifest {
        Manifest::load(self.output()).expect("a manifest")
    }

    /// The hashed name of a plain one.
    pub(crate) fn hashed(&self, name: &str) -> String {
        self.manifest().paths.get(name).unwrap_or_else(|| panic!("{name} is in the manifest")).clone()
    }

    /// What is published under the hashed name of a plain one.
    pub(crate) fn published(&self, name: &str) -> String {
        let bytes = fs_err::read(self.output().join(self.hashed(name))).expect("a published file");
        String::from_utf8(bytes).expect("text")
    }
}

/// Every file below a folder, by its path in it, with its bytes.
pub(crate) fn files_below(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("a readable folder"));
    let files = entries.filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let name = entry.path().strip_prefix(folder).expect("below").to_str().expect("UTF-8").to_owned();
            (name, fs_err::read(entry.path()).expect("readable"))
        })
        .collect()
}
