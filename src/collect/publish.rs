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

use std::collections::BTreeSet;
use std::fs::{Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err::File;

use super::compress::Compressed;
use super::error::CollectError;
use super::plan::{Bytes, Piece, Plan, plan};
use crate::http::encoding::Coding;
use crate::manifest::{self, Manifest};

const LOCK: &str = ".vestibule.lock";
const STAGING: &str = ".vestibule-staging";
/// Static files are for the public. Whoever publishes them under a careful umask still means a server
/// under another user to read them, as with Django's `FILE_UPLOAD_PERMISSIONS`.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
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
        if folder.exists() && !folder.is_dir() {
            return Err(CollectError::OutputIsNoFolder(folder.to_owned()));
        }
        make_folders(folder).map_err(|cause| failure(folder, "anything", cause))?;
        let lock = File::options().create(true).append(true).open(folder.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(CollectError::Busy(folder.to_owned())),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    /// Publishes everything.
    pub(super) fn publish(&self, compressed: &Compressed) -> Result<(), CollectError> {
        self.publish_in_steps(&plan(compressed), &mut |_| Ok(()))
    }

    /// Asks before each change to what is published. This is where a test stands in for a power cut.
    fn publish_in_steps(
        &self,
        plan: &Plan<'_>,
        before: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Result<(), CollectError> {
        self.check_nothing_is_in_the_way(plan)?;
        let staging = Staging::create(&self.folder)?;
        staging.fill(plan)?;
        for Piece { name, .. } in &plan.pieces {
            let put = before(name).and_then(|()| self.put_in_place(&staging, name));
            put.map_err(|cause| failure(&self.folder, name, cause))?;
        }
        self.sync_folders(plan)?;
        let put = before(manifest::FILE_NAME).and_then(|()| self.put_manifest_in_place(&staging));
        put.map_err(|cause| failure(&self.folder, manifest::FILE_NAME, cause))?;
        let removed = self.remove_stale_copies(&plan.manifest);
        removed.map_err(|cause| CollectError::Stale { output: self.folder.clone(), cause })
    }

    fn put_in_place(&self, staging: &Staging, name: &str) -> io::Result<()> {
        let to = self.folder.join(name);
        if let Some(parent) = to.parent() {
            make_folders(parent)?;
        }
        fs_err::rename(staging.folder.join(name), to)
    }

    fn put_manifest_in_place(&self, staging: &Staging) -> io::Result<()> {
        fs_err::rename(staging.folder.join(manifest::FILE_NAME), self.folder.join(manifest::FILE_NAME))?;
        File::open(&self.folder)?.sync_all()
    }

    /// The new names must be on the disk before the manifest that speaks of them.
    fn sync_folders(&self, plan: &Plan<'_>) -> Result<(), CollectError> {
        let folders: BTreeSet<&Path> =
            plan.pieces.iter().flat_map(|piece| Path::new(&piece.name).ancestors().skip(1)).collect();
        for folder in folders {
            let synced = File::open(self.folder.join(folder)).and_then(|open| open.sync_all());
            synced.map_err(|cause| failure(&self.folder, &folder.to_string_lossy(), cause))?;
        }
        Ok(())
    }

    /// A folder where a file must go, or the other way round, is left by other tools or by an earlier
    /// tree. To clear it would take away what the last manifest names, so people decide.
    fn check_nothing_is_in_the_way(&self, plan: &Plan<'_>) -> Result<(), CollectError> {
        let mut folders = BTreeSet::new();
        for Piece { name, .. } in &plan.pieces {
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

/// Makes a folder and those above it, readable for all. What is there already keeps its access rights:
/// people may have chosen them.
fn make_folders(folder: &Path) -> io::Result<()> {
    // The parent of a relative path can be nothing at all, which is where we are.
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(parent)?;
    }
    match fs_err::create_dir(folder) {
        Ok(()) => fs_err::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)),
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn failure(output: &Path, name: &str, cause: io::Error) -> CollectError {
    CollectError::Write { name: name.to_owned(), output: output.to_owned(), cause }
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

    /// Writes everything, the manifest included.
    fn fill(&self, plan: &Plan<'_>) -> Result<(), CollectError> {
        let mut written = vec![manifest::FILE_NAME];
        let text = plan.manifest.to_json();
        self.write(manifest::FILE_NAME, |file| Ok(file.write_all(text.as_bytes())))?;
        for piece in &plan.pieces {
            if !self.link(piece) {
                self.write_piece(piece)?;
                written.push(&piece.name);
            }
        }
        self.sync(&written)
    }

    /// Waits until the files are on the disk. It is nothing but waiting, and a journal takes many files
    /// in one go, so many threads wait together.
    fn sync(&self, names: &[&str]) -> Result<(), CollectError> {
        let sync = |name: &&str| {
            let synced = File::open(self.folder.join(name)).and_then(|file| file.sync_all());
            synced.map_err(|cause| failure(&self.output, name, cause))
        };
        std::thread::scope(|scope| {
            let chunks = names.chunks(names.len().div_ceil(SYNCS_AT_ONCE).max(1));
            let threads: Vec<_> = chunks.map(|chunk| scope.spawn(move || chunk.iter().try_for_each(sync))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("syncing does not panic"))
        })
    }

    /// One content under two names takes the room of one, where the file system can do it.
    fn link(&self, piece: &Piece<'_>) -> bool {
        let existing = piece.same_as.as_ref().map(|name| self.folder.join(name));
        let new = self.folder.join(&piece.name);
        existing.is_some_and(|existing| {
            new.parent().is_some_and(|parent| fs_err::create_dir_all(parent).is_ok())
                && fs_err::hard_link(existing, new).is_ok()
        })
    }

    fn write_piece(&self, piece: &Piece<'_>) -> Result<(), CollectError> {
        self.write(&piece.name, |file| {
            let written = match piece.bytes {
                Bytes::Whole(contents) => contents.write_to(file)?,
                Bytes::Copy(copy) => file.write_all(copy),
            };
            Ok(written.and_then(|()| file.set_modified(piece.modified)))
        })
    }

    fn write(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> Result<io::Result<()>, CollectError>,
    ) -> Result<(), CollectError> {
        let failed = |cause| failure(&self.output, name, cause);
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = File::create_new(&path).map_err(failed)?;
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(failed)?;
        write(&mut file)?.map_err(failed)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = fs_err::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;
    use crate::collect::compress::Copies;
    use crate::collect::contents::Contents;
    use crate::collect::name::Output;

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
    fn cut_at(target: &Target, release: &Compressed, change: usize) -> Result<(), CollectError> {
        let mut left = change;
        target.publish_in_steps(&plan(release), &mut |_| {
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
            target.publish(&first()).expect("the first release");
            let before = Manifest::load(folder.path()).expect("a manifest");
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
        target.publish_in_steps(&plan(&first()), &mut note).expect("published");
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
