//! Files into whose names a bundler has already put a hash: they keep their names and their bytes.
//!
//! A bundler's scripts load each other by name, so a second hash would break them, or at least be in vain. Which
//! files these are the bundler's own manifest says, and nothing else does: a name that only looks like
//! a hash may be the same for every content.
//!
//! A listed file is looked for where the manifest says that it is, then relative to the manifest and the
//! folders above it, and in the sources, by its path and then by its published name.

mod hash_in_name;
mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use self::hash_in_name::could_hold_hashes;
use self::parse::{Listed, Mistake, parse};
use super::error::CollectError;
use super::folders::Folders;
use super::scan::Scanned;
use super::summary::some;
use crate::config::CollectConfig;
use crate::config::values::UrlPrefix;
use crate::finding::{Finding, Level, Position, Rule};
use crate::manifest::packed::Name;

/// A webpack `stats.json` with every module in it can be large. It is held in memory while it is read.
const LARGEST: u64 = 64 << 20;

/// How many names one message has.
const SHOWN: usize = 5;

/// Marks the files that the manifests list. A manifest that cannot be used, and a listed file that is not
/// there, stops the run: the bundle and its manifest do not belong together.
pub(super) fn mark(
    scanned: &mut Scanned,
    folders: &Folders,
    config: &CollectConfig,
    prefix: &UrlPrefix,
    warnings: &mut Vec<Finding>,
) -> Result<(), CollectError> {
    if config.bundler_manifests.is_empty() {
        return Ok(());
    }
    let index = Index::new(scanned, folders, prefix);
    let (mut bad, mut marked) = (Vec::new(), BTreeSet::new());
    for path in &config.bundler_manifests {
        let found = read(path).and_then(|bytes| {
            let about = |mistake: Mistake| Finding { position: mistake.position, ..about(path, mistake.message) };
            index.find_all(path, &bytes, &parse(&bytes).map_err(about)?)
        });
        match found {
            Err(finding) => bad.push(finding),
            Ok(found) => {
                marked.extend(found.hashed);
                warnings.extend(found.warning);
            }
        }
    }
    if !bad.is_empty() {
        return Err(CollectError::BadBundlerManifests(bad));
    }
    for file in marked {
        scanned.files[file].is_prehashed = true;
    }
    Ok(())
}

fn about(manifest: &Path, message: String) -> Finding {
    Finding::error(Rule::BundlerManifest, manifest.display().to_string(), message).on_disk(manifest)
}

fn read(path: &Path) -> Result<Vec<u8>, Finding> {
    let about = |message| about(path, message);
    let mut bytes = Vec::new();
    let file = fs_err::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    file.map_err(|error| about(format!("it cannot be read ({})", error.kind())))?;
    if bytes.len() as u64 > LARGEST {
        return Err(about(format!(
            "it is larger than {LARGEST} bytes; let the bundler write a manifest of assets only"
        )));
    }
    Ok(bytes)
}

/// Where a manifest says a name, as far as it stands there as it is: with an escape in it, or put together of a folder
/// and a file, it does not.
fn position_of(name: &str, manifest: &[u8]) -> Option<Position> {
    let text = std::str::from_utf8(manifest).ok()?;
    let whole = text.find(&format!("\"{name}\"")).map(|quote| quote + 1);
    // What follows may be a query, and what stands before it a host.
    Some(Position::of(text, whole.or_else(|| text.find(name))?))
}

/// What a manifest's files are in the sources.
struct Found {
    hashed: Vec<usize>,
    warning: Option<Finding>,
}

/// Where a listed file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is collected.
    Collected(usize),
    /// It is there, and left out by a pattern.
    LeftOut,
}

struct Index<'a> {
    by_path: BTreeMap<PathBuf, usize>,
    by_name: BTreeMap<Name, usize>,
    /// The real paths of the source folders, each with the name under which its files appear.
    roots: Vec<(PathBuf, String)>,
    prefix: &'a str,
}

impl<'a> Index<'a> {
    fn new(scanned: &Scanned, folders: &Folders, prefix: &'a UrlPrefix) -> Self {
        let sources = folders.list.iter().map(|folder| &folder.source);
        let roots: Vec<_> = sources.clone().map(|source| (real(&source.directory), source.prefix.clone())).collect();
        let mut by_path = BTreeMap::new();
        for (at, file) in scanned.files.iter().enumerate() {
            for (source, (root, _)) in sources.clone().zip(&roots) {
                if let Ok(rest) = file.path.strip_prefix(&source.directory) {
                    by_path.insert(root.join(rest), at);
                }
            }
        }
        let by_name = scanned.files.iter().enumerate().map(|(at, file)| (file.name.clone(), at)).collect();
        Self { by_path, by_name, roots, prefix: prefix.as_str() }
    }

    fn find_all(&self, manifest: &Path, bytes: &[u8], listed: &[Listed]) -> Result<Found, Finding> {
        let manifest_path = real(manifest);
        let above = manifest_path.ancestors().skip(1).map(Path::to_owned);
        let bases: Vec<PathBuf> = above.chain(self.roots.iter().map(|(root, _)| root.clone())).collect();
        // All files of a manifest are relative to one folder: the one with the most of them, the nearest first.
        let hits = |base: &PathBuf| listed.iter().filter(|file| self.below(base, file).is_some()).count();
        let base = bases.iter().rev().max_by_key(|base| hits(base));

        let (mut files, mut absent) = (Vec::new(), Vec::new());
        for file in listed {
            let told = file.path.as_ref().and_then(|path| self.at(path));
            match told.or_else(|| self.below(base?, file)).or_else(|| self.published(file)) {
                Some(Place::Collected(at)) => files.push((at, file)),
                Some(Place::LeftOut) => {}
                None => absent.push(file.name.as_str()),
            }
        }
        if let Some(first) = absent.first() {
            let position = position_of(first, bytes);
            let message = format!("it lists {}, which no source folder has", some(&absent, SHOWN));
            return Err(Finding { position, ..about(manifest, message) });
        }
        let names: Vec<_> = files.iter().map(|(_, file)| (file.name.as_str(), file.logical.as_deref())).collect();
        let could = could_hold_hashes(&names);
        let (hashed, plain): (Vec<_>, Vec<_>) =
            files.iter().zip(could).partition(|((_, file), could)| file.is_certain || *could);
        let plain: Vec<_> = plain.iter().map(|((_, file), _)| file.name.as_str()).collect();
        let message =
            || format!("it lists {}, with no hash in the name: treated as any other file", some(&plain, SHOWN));
        let warning = (!plain.is_empty()).then(|| Finding { level: Level::Warning, ..about(manifest, message()) });
        Ok(Found { hashed: hashed.into_iter().map(|((at, _), _)| *at).collect(), warning })
    }

    /// The file at a path.
    fn at(&self, path: &Path) -> Option<Place> {
        let path = cleaned(path);
        if let Some(&at) = self.by_path.get(&path) {
            return Some(Place::Collected(at));
        }
        let inside = self.roots.iter().find_map(|(root, prefix)| {
            let rest = path.strip_prefix(root).ok()?.to_str()?;
            Some(if prefix.is_empty() { rest.to_owned() } else { format!("{prefix}/{rest}") })
        })?;
        // An earlier source has a file of that name, or a pattern has left it out.
        let published = self.by_name.get(inside.as_str()).map(|&at| Place::Collected(at));
        published.or_else(|| path.is_file().then_some(Place::LeftOut))
    }

    /// The file below a folder. What is listed as a URL may have more folders in front.
    fn below(&self, base: &Path, file: &Listed) -> Option<Place> {
        self.readings(&file.name).find_map(|name| self.at(&base.join(name)))
    }

    fn published(&self, file: &Listed) -> Option<Place> {
        self.readings(&file.name).find_map(|name| self.by_name.get(name)).map(|&at| Place::Collected(at))
    }

    /// The paths that a listed name may mean, the longest first.
    fn readings<'n>(&self, name: &'n str) -> impl Iterator<Item = &'n str> {
        let path =
            match name.split_once("://").or_else(|| name.split_once("//").filter(|(scheme, _)| scheme.is_empty())) {
                Some((_, rest)) => rest.find('/').map_or("", |slash| &rest[slash..]),
                None => name,
            };
        // webpack writes "auto/" for a public path that is found out in the browser.
        let is_url = path.starts_with('/') || path.starts_with("auto/");
        let whole = path.strip_prefix(self.prefix).unwrap_or(path).trim_start_matches('/');
        let shorter = whole.match_indices('/').filter(move |_| is_url).map(move |(slash, _)| &whole[slash + 1..]);
        std::iter::once(whole).chain(shorter).filter(|path| !path.is_empty())
    }
}

/// The path without symbolic links, or as it is where there is nothing.
fn real(path: &Path) -> PathBuf {
    fs_err::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// The path without `.` and `..`.
fn cleaned(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(cleaned.pop()),
            Component::CurDir => {}
            part => cleaned.push(part),
        }
    }
    cleaned
}
