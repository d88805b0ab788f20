//! Reads an output folder again and proves it: `vestibule collect --check`.
//!
//! Nothing of the run that made it is trusted, and nothing is written. Proved is that
//! - the manifest agrees with itself (`agreement`), and lists what is in the folder and no more;
//! - every file has its length and its hashes, and every copy and delta decodes to its file (`contents`);
//! - every reference leads to a listed file, every rewritten file is what its original becomes, and
//!   every name has the hash of its contents (`references`).
//!
//! What a reference that leads nowhere is worth says the configuration, as for `collect`. In files of
//! earlier releases it is a warning at most: nobody can mend those any more.

mod agreement;
mod contents;
mod decode;
mod proof;
mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use thiserror::Error;
use walkdir::WalkDir;

pub use self::proof::Proof;

use self::proof::Findings;
use super::error::CollectError;
use super::{STACK_SIZE, publish, staging};
use crate::config::CollectConfig;
use crate::config::values::UrlPrefix;
use crate::finding::Finding;
use crate::http::encoding::Coding;
use crate::manifest::json::ManifestError;
use crate::manifest::{Entry, FILE_NAME, Manifest, Rewriting};

/// How many files that are not listed are told by name. A folder that another tool filled has thousands.
const STRAYS_TOLD: usize = 20;

/// Why there is nothing to prove.
#[derive(Debug, Error)]
pub enum ProofError {
    /// No folder is named.
    #[error("no output folder is given")]
    NoOutput,
    /// The manifest is missing or cannot be understood.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest is Django's or WhiteNoise's.
    #[error("{} was not written by vestibule: it says nothing of sizes, hashes and copies", .0.display())]
    NotOurs(PathBuf),
    /// A run of `collect` is at work.
    #[error("a vestibule collect is writing to {}", .0.display())]
    Busy(PathBuf),
    /// A run of `collect` was at work.
    #[error("{} was published anew while it was being checked", .0.display())]
    Changed(PathBuf),
    /// The configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] CollectError),
    /// The threads could not be started.
    #[error("cannot start the threads for reading")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

impl ProofError {
    /// Whether the command line or the configuration must be changed, as opposed to files.
    pub fn is_operators_mistake(&self) -> bool {
        match self {
            Self::NoOutput | Self::Manifest(ManifestError::Missing(_)) => true,
            Self::Configuration(error) => error.is_operators_mistake(),
            Self::Manifest(_) | Self::NotOurs(_) | Self::Busy(_) | Self::Changed(_) | Self::Threads(_) => false,
        }
    }

    /// What to do about it, where there is one answer.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoOutput => "name one with --output DIR, or under [collect] output or [static] directory",
            Self::Manifest(ManifestError::Missing(_)) => "name the folder that `vestibule collect` wrote",
            Self::NotOurs(_) => "a proof needs the manifest of `vestibule collect`; collect into this folder first",
            Self::Busy(_) | Self::Changed(_) => "check again when it is done",
            Self::Configuration(error) => return error.hint(),
            Self::Manifest(_) | Self::Threads(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// Proves the folder `config.output`. How references were looked for, the manifest says itself; the configuration
/// says what one that leads nowhere is worth.
///
/// # Errors
/// When there is nothing to prove. What is wrong with the folder is in the [`Proof`].
pub fn verify(config: &CollectConfig, prefix: &UrlPrefix) -> Result<Proof, ProofError> {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(config.threads).stack_size(STACK_SIZE);
    threads.build().map_err(ProofError::Threads)?.install(|| run(config, prefix))
}

fn run(config: &CollectConfig, prefix: &UrlPrefix) -> Result<Proof, ProofError> {
    let started = Instant::now();
    let folder = config.output.as_deref().ok_or(ProofError::NoOutput)?;
    check_nobody_writes(folder)?;
    let path = folder.join(FILE_NAME);
    let text = match fs_err::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ManifestError::Missing(folder.to_owned()).into());
        }
        Err(error) => return Err(ManifestError::Unreadable(error).into()),
    };
    let manifest = Manifest::parse(&path, &text)?;
    let listed = manifest.files.as_ref().ok_or(ProofError::NotOurs(path.clone()))?;

    let mut findings = Findings::default();
    agreement::agrees_with_itself(&manifest, listed, &text, &mut findings);
    let present = present(folder, &mut findings);
    let has_died = folder.join(staging::NAME).is_dir();
    if has_died {
        let message = "a run of `vestibule collect` ended before its time; the next one puts this folder right";
        findings.warn(Finding::about(staging::NAME, message));
    }
    strays(listed, &manifest.leaving, &present, has_died, &mut findings);
    let counts = contents::prove(folder, listed, &present, &mut findings);
    let (config, prefix) = as_collected(config, prefix, manifest.rewriting.as_ref());
    let references = references::prove(folder, &manifest, listed, &config, &prefix, &mut findings)?;

    check_nobody_writes(folder)?;
    if fs_err::read(&path).ok().as_deref() != Some(&text[..]) {
        return Err(ProofError::Changed(folder.to_owned()));
    }
    Ok(Proof::new(folder, listed.len(), references, counts, findings, started.elapsed()))
}

/// What the output was collected with, as far as it decides which references there are.
fn as_collected(
    config: &CollectConfig,
    prefix: &UrlPrefix,
    rewriting: Option<&Rewriting>,
) -> (CollectConfig, UrlPrefix) {
    let mut config = config.clone();
    let Some(Rewriting { prefix: collected, hash, javascript_modules, html, web_manifests }) = rewriting.cloned()
    else {
        return (config, prefix.clone());
    };
    config.hash = hash;
    config.javascript_modules = javascript_modules;
    config.html = html;
    config.web_manifests = web_manifests;
    (config, collected.parse().unwrap_or_else(|_| prefix.clone()))
}

/// The lock is asked for and given back: a check must not stand in the way of a deploy.
fn check_nobody_writes(folder: &Path) -> Result<(), ProofError> {
    let Ok(lock) = fs_err::File::open(folder.join(publish::LOCK)) else { return Ok(()) };
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(ProofError::Busy(folder.to_owned())),
        // Where there are no locks, the manifest still tells whether somebody wrote.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// A file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Present {
    size: u64,
    /// Device and number: two names of one file have the same.
    identity: (u64, u64),
}

/// Everything that is in the folder, without our lock and staging folder, and the manifest.
fn present(folder: &Path, findings: &mut Findings) -> BTreeMap<String, Present> {
    let mut present = BTreeMap::new();
    let real = fs_err::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    for entry in WalkDir::new(folder).follow_links(true).min_depth(1) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(folder);
                findings.warn(Finding::about(format!("{path:?}"), format!("it cannot be looked at ({error})")));
                continue;
            }
        };
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let Some(name) = relative.to_str() else {
            findings.warn(Finding::about(format!("{relative:?}"), "its name is not UTF-8, so no manifest can list it"));
            continue;
        };
        let is_reserved = name == FILE_NAME || name.starts_with(".vestibule");
        let is_outside = |path: &Path| fs_err::canonicalize(path).is_ok_and(|target| !target.starts_with(&real));
        if entry.path_is_symlink() && is_outside(entry.path()) {
            let message = "it is a link that leads out of the folder; `collect` makes none";
            findings.error(Finding::about(name, message));
        }
        match entry.metadata() {
            _ if is_reserved => {}
            Ok(found) if found.is_file() => {
                let identity = (found.dev(), found.ino());
                present.insert(name.to_owned(), Present { size: found.len(), identity });
            }
            Ok(found) if !found.is_dir() => findings.error(Finding::about(name, "it is neither a file nor a folder")),
            _ => {}
        }
    }
    present
}

/// Files that the manifest does not speak of.
fn strays(
    listed: &BTreeMap<String, Entry>,
    leaving: &BTreeSet<String>,
    present: &BTreeMap<String, Present>,
    has_died: bool,
    findings: &mut Findings,
) {
    let mut beside = contents::names(listed);
    beside.extend(leaving.iter().cloned());
    let is_stray = |name: &&String| !beside.contains(*name);
    let strays: Vec<&String> = present.keys().filter(is_stray).collect();
    for name in strays.iter().take(STRAYS_TOLD) {
        let original = Coding::ALL
            .iter()
            .find_map(|coding| name.strip_suffix(coding.suffix()).filter(|of| listed.contains_key(*of)));
        let message = match original {
            Some(original) => format!(
                "the manifest does not list this copy of {original}; remove it: vestibule does not send it, but another server might"
            ),
            None if has_died => "the manifest does not list it; run `vestibule collect` again".to_owned(),
            None => "the manifest does not list it; remove it, or collect into a folder of its own".to_owned(),
        };
        findings.error(Finding::about(name.as_str(), message));
    }
    if let Some(more @ 1..) = strays.len().checked_sub(STRAYS_TOLD) {
        findings.error(Finding::about(FILE_NAME, format!("{more} more files in the folder are not listed in it")));
    }
}
