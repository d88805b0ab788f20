//! Puts everything into the output folder. The only file that writes.
//!
//! All is first written into a staging folder inside the output, and synced to the disk. Then each
//! file is renamed into place: those with hashed names first, since nothing names them yet, then the
//! plain ones, the manifest last. Whatever happens before the manifest's rename, the last manifest
//! and every file that it names are there. (A plain file that it names may already be the new one:
//! its name cannot mean two contents.) After it, only compressed copies that no manifest names any
//! more are removed.
//!
//! Hashed files of earlier runs stay, because pages of an earlier deploy still ask for them. So do
//! plain files that have gone from the sources; the manifest does not name them, so they are not served.
//!
//! One run at a time has the output folder, by a lock that the kernel lifts when the process ends.
//! A staging folder that is there when we have the lock belongs to a run that died.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::TryLockError;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err::File;

use super::compress::{Compressed, Copies};
use super::error::CollectError;
use super::name::Output;
use crate::http::encoding::Coding;
use crate::http::media_type;
use crate::manifest::json::hex;
use crate::manifest::{self, Entry, Manifest};

const LOCK: &str = ".vestibule.lock";
const STAGING: &str = ".vestibule-staging";
/// How many files are synced to the disk at the same time.
const SYNCS_AT_ONCE: usize = 64;

/// The output folder, held by this run.
#[derive(Debug)]
pub(super) struct Target {
    folder: PathBuf,
    _lock: File,
}

impl Target {
    /// Makes the folder if need be, and takes it.
    pub(super) fn lock(folder: &Path) -> Result<Self, CollectError> {
        let failed = |cause| failure(folder, LOCK, cause);
        fs_err::create_dir_all(folder).map_err(|cause| failure(folder, "anything", cause))?;
        let lock = File::options().create(true).append(true).open(folder.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(CollectError::Busy(folder.to_owned())),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    /// Publishes everything.
    pub(super) fn publish(&self, compressed: &Compressed) -> Result<Manifest, CollectError> {
        self.publish_in_steps(compressed, &mut |_| Ok(()))
    }

    /// Asks before each change to what is published. This is where a test stands in for a power cut.
    fn publish_in_steps(
        &self,
        compressed: &Compressed,
        before: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Result<Manifest, CollectError> {
        let manifest = manifest_of(compressed);
        self.check_nothing_is_in_the_way(&manifest)?;
        let staging = Staging::create(&self.folder)?;
        let mut moves = staging.fill(compressed, &manifest)?;
        // Stable, so that files of one kind stay in the order of their names.
        moves.sort_by_key(|(kind, _)| *kind);
        for (_, name) in &moves {
            before(name)
                .and_then(|()| self.put_in_place(&staging, name))
                .map_err(|c| failure(&self.folder, name, c))?;
        }
        self.sync_folders(&moves)?;
        self.put_manifest_in_place(&staging, before).map_err(|c| failure(&self.folder, manifest::FILE_NAME, c))?;
        self.remove_stale_copies(&manifest)
            .map_err(|cause| CollectError::Stale { output: self.folder.clone(), cause })?;
        Ok(manifest)
    }

    fn put_in_place(&self, staging: &Staging, name: &str) -> io::Result<()> {
        let to = self.folder.join(name);
        if let Some(parent) = to.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::rename(staging.folder.join(name), to)
    }

    fn put_manifest_in_place(
        &self,
        staging: &Staging,
        before: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> io::Result<()> {
        before(manifest::FILE_NAME)?;
        fs_err::rename(staging.folder.join(manifest::FILE_NAME), self.folder.join(manifest::FILE_NAME))?;
        File::open(&self.folder)?.sync_all()
    }

    /// The new names must be on the disk before the manifest that speaks of them.
    fn sync_folders(&self, moves: &[(Kind, String)]) -> Result<(), CollectError> {
        let folders: BTreeSet<&Path> = moves.iter().flat_map(|(_, name)| Path::new(name).ancestors().skip(1)).collect();
        for folder in folders {
            let synced = File::open(self.folder.join(folder)).and_then(|open| open.sync_all());
            synced.map_err(|cause| failure(&self.folder, &folder.to_string_lossy(), cause))?;
        }
        Ok(())
    }

    /// A folder where a file must go, or the other way round, is left by other tools or by an earlier
    /// tree. To clear it would take away what the last manifest names, so people decide.
    fn check_nothing_is_in_the_way(&self, manifest: &Manifest) -> Result<(), CollectError> {
        let mut folders = BTreeSet::new();
        let copies = |(name, entry): (&String, &Entry)| {
            let suffixes = entry.variants.keys().map(|coding| coding.suffix());
            suffixes.chain([""]).map(|suffix| format!("{name}{suffix}")).collect::<Vec<_>>()
        };
        for name in &manifest.files.iter().flatten().flat_map(copies).collect::<Vec<_>>() {
            let path = Path::new(name);
            if self.folder.join(path).symlink_metadata().is_ok_and(|found| found.is_dir()) {
                return Err(CollectError::InTheWay { path: self.folder.join(path), wanted: name.to_owned() });
            }
            let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            for parent in parents.filter(|parent| folders.insert(parent.to_path_buf())) {
                let found = self.folder.join(parent).symlink_metadata();
                if found.is_ok_and(|found| !found.is_dir()) {
                    return Err(CollectError::InTheWay { path: self.folder.join(parent), wanted: name.to_owned() });
                }
            }
        }
        Ok(())
    }

    /// Compressed copies beside plain files that this run did not make hold older contents, and
    /// another server that looks for them by name would send them.
    fn remove_stale_copies(&self, manifest: &Manifest) -> io::Result<()> {
        let files = manifest.files.iter().flatten();
        for (name, entry) in files.filter(|(name, _)| manifest.paths.contains_key(*name)) {
            for coding in Coding::ALL.into_iter().filter(|coding| !entry.variants.contains_key(coding)) {
                let copy = format!("{name}{}", coding.suffix());
                let is_a_file_of_its_own = manifest.files.as_ref().is_some_and(|files| files.contains_key(&copy));
                let path = self.folder.join(copy);
                if !is_a_file_of_its_own && path.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
                    fs_err::remove_file(path)?;
                }
            }
        }
        Ok(())
    }
}

fn failure(output: &Path, name: &str, cause: io::Error) -> CollectError {
    CollectError::Write { name: name.to_owned(), output: output.to_owned(), cause }
}

/// The order in which files go into place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Nothing names it yet.
    Hashed,
    /// The last manifest may name it.
    Plain,
}

/// The folder in which everything is made ready; removed with all that is still in it.
#[derive(Debug)]
struct Staging {
    folder: PathBuf,
    output: PathBuf,
}

impl Staging {
    fn create(output: &Path) -> Result<Self, CollectError> {
        let folder = output.join(STAGING);
        let failed = |cause| failure(output, STAGING, cause);
        if folder.symlink_metadata().is_ok() {
            fs_err::remove_dir_all(&folder).map_err(failed)?;
        }
        fs_err::create_dir(&folder).map_err(failed)?;
        Ok(Self { folder, output: output.to_owned() })
    }

    /// Writes everything, the manifest included, and answers with the names that must be moved.
    fn fill(&self, compressed: &Compressed, manifest: &Manifest) -> Result<Vec<(Kind, String)>, CollectError> {
        let mut moves = Vec::new();
        let mut written = Vec::new();
        for (output, copies) in &compressed.outputs {
            self.write_output(output, copies, manifest, &mut moves, &mut written)?;
        }
        let text = manifest.to_json();
        self.write(manifest::FILE_NAME, None, |file| Ok(file.write_all(text.as_bytes())))?;
        written.push(manifest::FILE_NAME.to_owned());
        self.sync(&written)?;
        Ok(moves)
    }

    /// Waits until the files are on the disk. It is nothing but waiting, and a journal takes many files
    /// in one go, so many threads wait together.
    fn sync(&self, names: &[String]) -> Result<(), CollectError> {
        let sync = |name: &String| {
            let synced = File::open(self.folder.join(name)).and_then(|file| file.sync_all());
            synced.map_err(|cause| failure(&self.output, name, cause))
        };
        std::thread::scope(|scope| {
            let chunks = names.chunks(names.len().div_ceil(SYNCS_AT_ONCE).max(1));
            let threads: Vec<_> = chunks.map(|chunk| scope.spawn(move || chunk.iter().try_for_each(sync))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("syncing does not panic"))
        })
    }

    fn write_output(
        &self,
        output: &Output,
        copies: &Copies,
        manifest: &Manifest,
        moves: &mut Vec<(Kind, String)>,
        written: &mut Vec<String>,
    ) -> Result<(), CollectError> {
        let modified = Some(output.modified);
        let mut first: Option<&str> = None;
        for name in output.names() {
            let kind = if output.hashed.as_deref() == Some(name) { Kind::Hashed } else { Kind::Plain };
            let suffixes = copies.keys().filter(|coding| has_variant(manifest, name, **coding)).map(|c| c.suffix());
            for suffix in suffixes.chain([""]) {
                let target = format!("{name}{suffix}");
                let linked = first.is_some_and(|first| self.link(&format!("{first}{suffix}"), &target).is_ok());
                if !linked {
                    self.write(&target, modified, |file| match copies.iter().find(|(c, _)| c.suffix() == suffix) {
                        Some((_, copy)) => Ok(file.write_all(copy)),
                        None => output.contents.write_to(file),
                    })?;
                    written.push(target.clone());
                }
                moves.push((kind, target));
            }
            first = first.or(Some(name));
        }
        Ok(())
    }

    /// One content under two names takes the room of one, where the file system can do it.
    fn link(&self, existing: &str, new: &str) -> io::Result<()> {
        fs_err::hard_link(self.folder.join(existing), self.folder.join(new))
    }

    fn write(
        &self,
        name: &str,
        modified: Option<SystemTime>,
        contents: impl FnOnce(&mut File) -> Result<io::Result<()>, CollectError>,
    ) -> Result<(), CollectError> {
        let failed = |cause| failure(&self.output, name, cause);
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = File::create_new(&path).map_err(failed)?;
        contents(&mut file)?.map_err(failed)?;
        match modified {
            Some(modified) => file.set_modified(modified).map_err(failed),
            None => Ok(()),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = fs_err::remove_dir_all(&self.folder);
    }
}

fn has_variant(manifest: &Manifest, name: &str, coding: Coding) -> bool {
    let entry = manifest.files.as_ref().and_then(|files| files.get(name));
    entry.is_some_and(|entry| entry.variants.contains_key(&coding))
}

/// The manifest of all this. A copy whose name belongs to a file of the sources (`a.js.gz` beside
/// `a.js`) is left out under that name: the author's file goes before ours.
fn manifest_of(compressed: &Compressed) -> Manifest {
    let taken: BTreeSet<&str> = compressed.outputs.iter().flat_map(|(output, _)| output.names()).collect();
    let mut files = BTreeMap::new();
    for (output, copies) in &compressed.outputs {
        for name in output.names() {
            let is_free = |coding: &Coding| !taken.contains(format!("{name}{}", coding.suffix()).as_str());
            let variants = copies.iter().filter(|(coding, _)| is_free(coding));
            let entry = Entry {
                size: output.contents.size,
                media_type: media_type::content_type(name).into_owned(),
                sha256: hex(&output.contents.fingerprint),
                variants: variants.map(|(coding, copy)| (*coding, copy.len() as u64)).collect(),
            };
            files.insert(name.to_owned(), entry);
        }
    }
    Manifest { paths: compressed.paths.clone(), files: Some(files) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::contents::Contents;

    fn output(hashed: &str, plain: &str, text: &str, copy: &str) -> (Output, Copies) {
        let output = Output {
            hashed: Some(hashed.into()),
            plain: Some(plain.into()),
            contents: Contents::held(text.into()),
            modified: SystemTime::UNIX_EPOCH,
        };
        (output, Copies::from([(Coding::Gzip, copy.into())]))
    }

    fn release(outputs: Vec<(Output, Copies)>) -> Compressed {
        let paths = outputs.iter().filter_map(|(output, _)| output.plain.clone().zip(output.hashed.clone())).collect();
        Compressed { outputs, paths, totals: BTreeMap::new() }
    }

    fn first() -> Compressed {
        release(vec![output("a.1.css", "a.css", "first", "f"), output("css/b.1.css", "css/b.css", "first", "f")])
    }

    /// The second file has lost its copy, and there is a third one.
    fn second() -> Compressed {
        let mut smaller = output("css/b.2.css", "css/b.css", "second", "");
        smaller.1.clear();
        release(vec![output("a.2.css", "a.css", "second", "s"), smaller, output("c.2.css", "c.css", "second", "s")])
    }

    /// Fails at the given change, counted from zero; a power cut, but for the cleaning up.
    fn cut_at(target: &Target, release: &Compressed, change: usize) -> Result<Manifest, CollectError> {
        let mut left = change;
        target.publish_in_steps(release, &mut |_| {
            let is_now = left == 0;
            left = left.saturating_sub(1);
            if is_now { Err(io::Error::other("cut")) } else { Ok(()) }
        })
    }

    #[test]
    fn whenever_it_stops_the_manifest_is_whole_and_all_that_it_names_is_there() {
        let mut change = 0;
        loop {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let target = Target::lock(folder.path()).expect("a free folder");
            let before = target.publish(&first()).expect("the first release");
            let is_done = cut_at(&target, &second(), change).is_ok();
            let manifest = Manifest::load(folder.path()).expect("a manifest");
            assert_eq!(manifest == before, !is_done, "at change {change}");
            for (name, entry) in manifest.files.iter().flatten() {
                let text = fs_err::read_to_string(folder.path().join(name)).expect("a file of the manifest");
                if !manifest.paths.contains_key(name) {
                    assert_eq!(text.len() as u64, entry.size, "{name} at change {change}");
                }
                for coding in entry.variants.keys() {
                    let copy = folder.path().join(format!("{name}{}", coding.suffix()));
                    assert!(copy.exists(), "{name} at change {change} has lost its {coding}");
                }
            }
            if is_done {
                break;
            }
            change += 1;
        }
        assert!(change >= 10, "every file and the manifest are changes, but there were {change}");
    }

    #[test]
    fn the_manifest_is_put_in_place_last_and_plain_files_just_before() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = Target::lock(folder.path()).expect("a free folder");
        let mut order = Vec::new();
        let mut note = |name: &str| {
            order.push(name.to_owned());
            Ok(())
        };
        target.publish_in_steps(&first(), &mut note).expect("published");
        let expected = [
            "a.1.css.gz",
            "a.1.css",
            "css/b.1.css.gz",
            "css/b.1.css",
            "a.css.gz",
            "a.css",
            "css/b.css.gz",
            "css/b.css",
            "staticfiles.json",
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn nothing_is_left_of_a_run_that_failed_before_its_first_change() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = Target::lock(folder.path()).expect("a free folder");
        cut_at(&target, &first(), 0).expect_err("cut");
        let left: Vec<_> =
            fs_err::read_dir(folder.path()).expect("readable").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, [LOCK]);
    }
}
