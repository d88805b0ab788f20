//! The static kind of answer: a lookup among answers that were made ready at start.
//!
//! [`Assets::open`] reads the manifest, checks it against the folder and prepares the headers of answers, once for all
//! files that share them. After that a request lists no folder and looks for no file: the catalog says yes or no. A path
//! under the prefix is answered here even when nothing is found, and never goes on to the application. [`Mounts`] is
//! this folder and all others, each under its own path.

mod asset;
mod catalog;
mod choose;
mod contents;
mod inventory;
mod kinds;
mod made;
mod marks;
mod missing;
mod mounts;
mod preloads;
mod respond;
mod sealed;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ::http::header::REFERER;
use ::http::request::Parts;
use thiserror::Error;
use tracing::warn;

use self::asset::{Asset, Policy};
use self::catalog::{Catalog, Entry};
use self::inventory::{Hashed, Inventory, Listed, TwinsWanted};
use self::made::Made;
use self::missing::{Missing, News, Notice};
pub use self::mounts::{Found, Mounts, Signs};
use self::preloads::Preloads;
use crate::config::{AssetsConfig, header_rule};
use crate::http::header_rules::HeaderRules;
use crate::http::{Client, Response};
use crate::manifest::json::ManifestError;
use crate::manifest::nearest;

/// Why a folder cannot be served.
#[derive(Debug, Error)]
pub enum AssetsError {
    /// No folder was named.
    #[error("no folder of static files is named; set `directory` under [static]")]
    NotConfigured,
    /// The folder is not there.
    #[error("there is no folder {}; {}", .folder.display(), .role.advice())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
        /// Which part of the configuration names it.
        role: Role,
    },
    /// The page for unknown addresses is not there.
    #[error("there is no {name} in {}; correct `fallback` under [[mounts]]", .folder.display())]
    NoFallback {
        /// The folder.
        folder: PathBuf,
        /// The page.
        name: String,
    },
    /// A rule for headers names a file that is not there.
    #[error(
        "[[headers]] names {{static:{name}}}, and there is no {name} in {}{}", .folder.display(), meant(.nearest.as_deref())
    )]
    UnknownName {
        /// The folder.
        folder: PathBuf,
        /// The name.
        name: String,
        /// The name that was perhaps meant.
        nearest: Option<String>,
    },
    /// Its manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest and the folder do not agree.
    #[error("{} is not as its manifest says: {problems}; run `vestibule collect` again", .folder.display())]
    Disagrees {
        /// The folder.
        folder: PathBuf,
        /// Everything that is wrong.
        problems: Problems,
    },
    /// A folder that had a manifest has none any more.
    #[error("there is no staticfiles.json in {} any more; run `vestibule collect` again, or restart to go on without", .folder.display())]
    LostManifest {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder or a file in it cannot be read.
    #[error("cannot read the static files; let the user that vestibule runs as read the folder and all below it")]
    Unreadable(#[source] io::Error),
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(" (is {nearest:?} meant?)"))
}

impl AssetsError {
    /// The file that a rule for headers names, if that is what is wrong.
    pub fn unknown_name(&self) -> Option<&str> {
        if let Self::UnknownName { name, .. } = self { Some(name) } else { None }
    }

    /// Whether something else must be written or collected, as opposed to what the system refuses.
    pub fn is_operators_mistake(&self) -> bool {
        !matches!(self, Self::Unreadable(_) | Self::Manifest(ManifestError::Unreadable(_)))
    }
}

/// Everything that is wrong with a folder, one sentence for each; the first ten are printed.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<String>);

impl Problems {
    /// An error when there are any.
    fn stop(self, folder: &Path) -> Result<(), AssetsError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(AssetsError::Disagrees { folder: folder.to_owned(), problems: self })
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PRINTED: usize = 10;
        for (place, problem) in self.0.iter().take(PRINTED).enumerate() {
            write!(f, "{}{problem}", if place == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(PRINTED) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// Which part of the configuration names a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `[static]`
    Static,
    /// `[[mounts]]`
    Mount,
}

impl Role {
    fn advice(self) -> &'static str {
        match self {
            Self::Static => "run `vestibule collect`, or correct `directory` under [static]",
            Self::Mount => "make it, or correct `directory` under [[mounts]]",
        }
    }
}

/// A folder of which is known what there should be, and nothing is read yet.
#[derive(Debug)]
struct Folder {
    config: AssetsConfig,
    /// The name of the file that answers for the folder that it lies in.
    index: Option<String>,
    path: PathBuf,
    files: Vec<Listed>,
    hashed: Hashed,
    /// What is wrong with it, as far as it is known.
    problems: Problems,
    /// Plain name to the name that pages use.
    paths: Vec<(Box<str>, Box<str>)>,
    has_manifest: bool,
    /// The copies that are not on the disk.
    made: Made,
}

impl Folder {
    fn list(config: &AssetsConfig, role: Role, index: Option<String>) -> Result<Self, AssetsError> {
        let folder = config.directory.as_deref().ok_or(AssetsError::NotConfigured)?;
        if !folder.is_dir() {
            return Err(AssetsError::NoFolder { folder: folder.to_owned(), role });
        }
        // Often a link to the current release. What is read later must come from the release that was
        // opened, wherever the link points by then.
        let path = fs_err::canonicalize(folder).map_err(AssetsError::Unreadable)?;
        let wanted = TwinsWanted {
            paths: header_rule::path_set(&config.image_twins).unwrap_or_default(),
            prefix: config.prefix.as_str().to_owned(),
        };
        let Inventory { mut files, hashed, problems, paths, has_manifest } = inventory::take(&path, role, &wanted)?;
        if !config.deltas {
            files.iter_mut().for_each(|file| file.deltas.clear());
        }
        let (config, made) = (config.clone(), Made::new());
        Ok(Self { config, index, path, files, hashed, problems, paths, has_manifest, made })
    }

    /// The operator's rules with the names of this release in them.
    fn name_in(&self, rules: &Arc<HeaderRules>) -> Result<Arc<HeaderRules>, AssetsError> {
        let used = |name: &str| self.paths.iter().rfind(|(plain, _)| **plain == *name).map(|(_, used)| &**used);
        let listed = |name: &str| self.files.iter().find(|file| *file.name == *name).map(|file| &*file.name);
        let url = |name: &str| {
            let file = used(name).or_else(|| listed(name));
            file.map(|file| preloads::url(self.config.prefix.as_str(), file)).ok_or_else(|| AssetsError::UnknownName {
                folder: self.path.clone(),
                name: name.to_owned(),
                nearest: self.nearest(name),
            })
        };
        rules.with_names(header_rule::FILE, url)
    }

    fn nearest(&self, name: &str) -> Option<String> {
        let names = self.paths.iter().map(|(plain, _)| &**plain).chain(self.files.iter().map(|file| &*file.name));
        nearest::nearest(names, name).map(str::to_owned)
    }
}

/// Every static answer from one folder, in one release.
#[derive(Debug)]
pub struct Assets {
    /// As it is configured.
    directory: Option<PathBuf>,
    /// With links resolved.
    folder: PathBuf,
    has_manifest: bool,
    prefix: String,
    policy: Policy,
    catalog: Catalog,
    bytes_in_memory: u64,
    missing: Missing,
    has_changed: Arc<AtomicBool>,
    preloads: Preloads,
}

impl Assets {
    /// Reads the manifest, checks the folder against it, and prepares every answer; `rules` are the operator's
    /// for the headers.
    ///
    /// # Errors
    /// See [`AssetsError`]. All disagreements between manifest and folder come at once.
    pub fn open(config: &AssetsConfig, rules: &Arc<HeaderRules>) -> Result<Self, AssetsError> {
        let folder = Folder::list(config, Role::Static, None)?;
        Ok(Self::prepare(vec![folder], config.memory.0, rules)?.remove(0))
    }

    /// Prepares every answer of several folders, which share what may be held in memory.
    fn prepare(mut folders: Vec<Folder>, memory: u64, rules: &Arc<HeaderRules>) -> Result<Vec<Self>, AssetsError> {
        let contents = contents::load(&mut folders, memory)?;
        let prepared = folders.into_iter().zip(contents).map(|(folder, contents)| {
            let policy = Policy::new(&folder.config, rules);
            Self {
                preloads: Preloads::new(&folder.files, &folder.config),
                catalog: Catalog::build(&folder.files, &contents, &policy, folder.index.as_deref()),
                directory: folder.config.directory,
                folder: folder.path,
                has_manifest: folder.has_manifest,
                prefix: folder.config.prefix.as_str().to_owned(),
                policy,
                bytes_in_memory: contents.bytes_in_memory,
                missing: Missing::new(folder.config.missing_names),
                has_changed: contents.has_changed,
            }
        });
        Ok(prepared.collect())
    }

    /// Whether a request's raw path is answered here and nowhere else.
    pub fn owns(&self, raw_path: &str) -> bool {
        // The prefix may be encoded as well: the application would decode it, and a missing file must
        // not wake it.
        raw_path.starts_with(&self.prefix) || self.below_prefix(raw_path).is_some()
    }

    /// The decoded rest of a path under the prefix; `None` for what can be no name.
    fn below_prefix<'p>(&self, raw_path: &'p str) -> Option<Cow<'p, str>> {
        match catalog::decode(raw_path)? {
            Cow::Borrowed(path) => path.strip_prefix(&self.prefix).map(Cow::Borrowed),
            Cow::Owned(path) => path.strip_prefix(&self.prefix).map(|rest| Cow::Owned(rest.to_owned())),
        }
    }

    /// Answers a request whose path [`Assets::owns`]. A `HEAD` answer has no body, and the headers of
    /// the `GET` answer.
    pub async fn respond(&self, head: &Parts, client: &Client) -> Response {
        let Some(asset) = self.below_prefix(head.uri.path()).and_then(|path| self.file(&path)) else {
            return self.not_found(head);
        };
        let asset = asset.suited(&head.headers);
        match respond::respond(choose::choose(asset, head, client), asset, head, None) {
            Ok(response) => response,
            Err(unread) => respond::read(unread, asset, head).await,
        }
    }

    /// The answer for a name under the prefix that no file has.
    fn not_found(&self, head: &Parts) -> Response {
        if let Some(name) = self.below_prefix(head.uri.path()) {
            self.note_missing(&name, head);
        }
        respond::not_found(head, &self.policy)
    }

    /// The file with this name, below the prefix.
    fn file(&self, name: &str) -> Option<&Asset> {
        match self.catalog.find(name)? {
            Entry::File(asset) => Some(asset),
            Entry::Folder => None,
        }
    }

    /// Counts a missing file, and tells of it now and then. Names are text of anybody's; both forms of the log escape
    /// what is no plain letter.
    fn note_missing(&self, name: &str, head: &Parts) {
        let Some(Notice { news, untold }) = self.missing.note(name, Instant::now()) else { return };
        let News::Asked(times) = news else {
            warn!(
                untold,
                "too many different static files that are not there are asked for; new ones are no longer told"
            );
            return;
        };
        // To compare long names takes long, and nobody misspells one.
        let names = self.catalog.names().filter(|_| name.len() <= 100);
        let nearest = nearest::nearest(names, name).unwrap_or("-");
        let referer = head.headers.get(REFERER).filter(|referer| referer.len() <= 256);
        let referer = referer.and_then(|referer| referer.to_str().ok()).unwrap_or("-");
        warn!(name, nearest, times, referer, untold, "a static file that is not there is asked for");
    }

    /// The folder that is served, with links resolved.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether `collect`, or Django, has said what there is. Without its word no file is kept for long.
    pub fn has_manifest(&self) -> bool {
        self.has_manifest
    }

    /// Whether the two are configured as one folder, perhaps in two releases.
    fn is_same_folder(&self, other: &Self) -> bool {
        self.directory == other.directory
    }

    /// How many files can be asked for, under plain and hashed names alike.
    pub fn file_count(&self) -> usize {
        self.catalog.len()
    }

    /// How many files can be sent as deltas.
    pub fn files_with_deltas(&self) -> usize {
        self.catalog.with_deltas()
    }

    /// Whether a file that is read from disk was found to be no longer what it was.
    fn has_changed(&self) -> bool {
        self.has_changed.load(Ordering::Relaxed)
    }

    /// How many bytes of file contents are held in memory.
    pub fn bytes_in_memory(&self) -> u64 {
        self.bytes_in_memory
    }
}

/// For the start-up line and for `check`.
impl fmt::Display for Assets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, files) = (self.folder.display(), self.catalog.len());
        let mebibytes = self.bytes_in_memory as f64 / f64::from(1 << 20);
        write!(f, "{files} files of {folder} under {}, {mebibytes:.1} MiB in memory", self.prefix)
    }
}

#[cfg(test)]
mod tests;
