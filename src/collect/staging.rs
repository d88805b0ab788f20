//! The folder in which a run makes everything ready, inside the output folder, so that each finished file
//! is put into place by a rename.
//!
//! Rewritten files and compressed copies are written here as soon as they are made: a large tree must not
//! end in memory. What the output has already, byte for byte, is left where it is: a run over sources that have not
//! changed writes next to nothing. The folder goes away with its value. One that is there at the start belongs to a run that
//! failed or died; what that run had already put into place stands in its list, and is removed if nothing names it. Until
//! then the list is there, whole, at every moment: another run may die at any of them.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use fs_err::File;

use super::contents::Contents;
use super::error::CollectError;
use super::name_set::key;
use crate::manifest;
use crate::manifest::packed::Packed;

/// The folder's name in the output.
pub(super) const NAME: &str = ".vestibule-staging";
/// The names that a run is about to put into place, one in each line. No name has a line break in it.
const LIST: &str = ".vestibule-pieces";
/// The list that is going to take its place.
const NEXT_LIST: &str = ".vestibule-pieces.new";
/// Static files are for the public. Whoever publishes them under a careful umask still means a server
/// under another user to read them, as with Django's `FILE_UPLOAD_PERMISSIONS`.
const FILE_MODE: u32 = 0o644;

/// The folder, and what a run that died has left behind.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    output: PathBuf,
    /// What an earlier run may have put into place without getting as far as its manifest.
    pub(super) left_behind: BTreeSet<String>,
    /// What was made ready here, each as its [`key`]. All else that is asked for is in the output already.
    ready: Mutex<BTreeSet<u128>>,
    /// Whether something may be in place that no manifest names: then the list outlives this value.
    owes_a_list: AtomicBool,
}

impl Staging {
    /// Makes the folder anew. Only who has the output's lock may.
    pub(super) fn create(output: &Path) -> Result<Self, CollectError> {
        let folder = output.join(NAME);
        let failed = |cause| failure(output, NAME, cause);
        let mut left_behind = BTreeSet::new();
        match folder.symlink_metadata() {
            Ok(found) if found.is_dir() => {
                // Without a list nothing was put into place.
                let list = fs_err::read_to_string(folder.join(LIST)).unwrap_or_default();
                left_behind = list.lines().map(str::to_owned).collect();
                clear_but_for_the_list(&folder).map_err(failed)?;
            }
            Ok(_) => {
                fs_err::remove_file(&folder).map_err(failed)?;
                fs_err::create_dir(&folder).map_err(failed)?;
            }
            Err(_) => fs_err::create_dir(&folder).map_err(failed)?,
        }
        let owes_a_list = AtomicBool::new(!left_behind.is_empty());
        let staging = Self { folder, output: output.to_owned(), left_behind, ready: Mutex::default(), owes_a_list };
        staging.note(std::iter::empty::<&str>())?;
        Ok(staging)
    }

    /// Nothing is left of this run or of earlier ones that no manifest names.
    pub(super) fn has_cleaned_up(&self) {
        self.owes_a_list.store(false, Ordering::Relaxed);
    }

    /// Where a name is ready.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        if self.is_in_place(name) { self.output.join(name) } else { self.folder.join(name) }
    }

    /// Whether the output has had it already.
    pub(super) fn is_in_place(&self, name: &str) -> bool {
        !self.ready().contains(&key(name))
    }

    fn ready(&self) -> MutexGuard<'_, BTreeSet<u128>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the output has under a name.
    pub(super) fn published(&self, name: &str) -> io::Result<Vec<u8>> {
        fs_err::read(self.output.join(name))
    }

    /// Looks whether the output has the file, as it would be written. No other run writes to it meanwhile.
    fn find_in_place(&self, name: &str, size: u64, has_the_bytes: impl FnOnce(&Path) -> bool) -> bool {
        let path = self.output.join(name);
        path.symlink_metadata().is_ok_and(|found| {
            found.is_file() && found.len() == size && found.permissions().mode() & 0o7777 == FILE_MODE
        }) && has_the_bytes(&path)
    }

    /// Writes bytes under a name, with the time of their source if they have one. What is there already has
    /// the same bytes, since the name says so.
    pub(super) fn write(
        &self,
        name: &str,
        bytes: &[u8],
        modified: impl Into<Option<SystemTime>>,
    ) -> Result<(), CollectError> {
        let has_them = |path: &Path| fs_err::read(path).is_ok_and(|found| found == bytes);
        if self.find_in_place(name, bytes.len() as u64, has_them) {
            return Ok(());
        }
        self.create_file(name, modified.into(), |file| Ok(file.write_all(bytes)))
    }

    /// Writes the manifest.
    pub(super) fn write_manifest(&self, manifest: &Packed) -> Result<(), CollectError> {
        self.create_file(manifest::FILE_NAME, None, |file| {
            let mut writer = BufWriter::new(file);
            Ok(manifest.write_json(&mut writer).and_then(|()| writer.flush()))
        })
    }

    /// Writes a copy of a file under a name.
    pub(super) fn copy(&self, name: &str, contents: &Contents, modified: SystemTime) -> Result<(), CollectError> {
        let has_them =
            |path: &Path| Contents::on_disk(path).is_ok_and(|found| found.fingerprint == contents.fingerprint);
        if !self.is_in_place(name) || self.find_in_place(name, contents.size, has_them) {
            return Ok(());
        }
        self.create_file(name, Some(modified), |file| contents.write_to(file))
    }

    /// Writes a copy of a file of an earlier release under its name.
    pub(super) fn copy_from(&self, name: &str, path: &Path) -> Result<(), CollectError> {
        let mut source = File::open(path).map_err(CollectError::Unreadable)?;
        let modified = source.metadata().and_then(|metadata| metadata.modified()).ok();
        self.create_file(name, modified, |file| Ok(io::copy(&mut source, file).map(drop)))
    }

    /// Gives what is ready under one name a second one: the same file, where the file system can do that.
    pub(super) fn duplicate(&self, existing: &str, name: &str) -> Result<(), CollectError> {
        let from = self.path(existing);
        let original = fs_err::metadata(&from).map_err(|cause| failure(&self.output, existing, cause))?;
        let is_it = |path: &Path| {
            fs_err::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (original.dev(), original.ino()))
        };
        if self.is_in_place(existing) && self.find_in_place(name, original.len(), is_it) {
            return Ok(());
        }
        let to = self.folder.join(name);
        self.make_parent(&to, name)?;
        self.ready().insert(key(name));
        if fs_err::hard_link(&from, &to).is_ok() {
            return Ok(());
        }
        let modified = fs_err::metadata(&from).and_then(|metadata| metadata.modified());
        let copied = modified.and_then(|modified| {
            fs_err::copy(&from, &to)?;
            File::options().write(true).open(&to)?.set_modified(modified)
        });
        copied.map_err(|cause| failure(&self.output, name, cause))
    }

    /// Notes what is about to be put into place, for the next run in case this one fails or dies.
    pub(super) fn note<N: AsRef<str>>(&self, names: impl Iterator<Item = N>) -> Result<(), CollectError> {
        let mut names = names.peekable();
        if self.left_behind.is_empty() && names.peek().is_none() {
            return Ok(());
        }
        self.owes_a_list.store(true, Ordering::Relaxed);
        let next = self.folder.join(NEXT_LIST);
        let noted = File::create(&next).and_then(|file| {
            let mut list = BufWriter::new(file);
            self.left_behind.iter().try_for_each(|name| writeln!(list, "{name}"))?;
            names.try_for_each(|name| writeln!(list, "{}", name.as_ref()))?;
            list.into_inner()?.sync_all()?;
            fs_err::rename(&next, self.folder.join(LIST))
        });
        noted.map_err(|cause| failure(&self.output, NAME, cause))
    }

    fn create_file(
        &self,
        name: &str,
        modified: Option<SystemTime>,
        write: impl FnOnce(&mut File) -> Result<io::Result<()>, CollectError>,
    ) -> Result<(), CollectError> {
        let failed = |cause| failure(&self.output, name, cause);
        let path = self.folder.join(name);
        self.make_parent(&path, name)?;
        let mut file = match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            file => file.map_err(failed)?,
        };
        self.ready().insert(key(name));
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(failed)?;
        write(&mut file)?.and_then(|()| modified.map_or(Ok(()), |time| file.set_modified(time))).map_err(failed)
    }

    fn make_parent(&self, path: &Path, name: &str) -> Result<(), CollectError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        fs_err::create_dir_all(parent).map_err(|cause| failure(&self.output, name, cause))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = match self.owes_a_list.load(Ordering::Relaxed) {
            true => clear_but_for_the_list(&self.folder),
            false => fs_err::remove_dir_all(&self.folder),
        };
    }
}

fn clear_but_for_the_list(folder: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            _ if entry.file_name() == LIST => {}
            true => fs_err::remove_dir_all(entry.path())?,
            false => fs_err::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// A file of the output that could not be written.
pub(super) fn failure(output: &Path, name: &str, cause: io::Error) -> CollectError {
    CollectError::Write { name: name.to_owned(), output: output.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_that_died_was_about_is_known_to_the_next() {
        let output = tempfile::tempdir().expect("a temporary folder");
        let staging = Staging::create(output.path()).expect("staging");
        assert!(staging.left_behind.is_empty());
        staging.write("a/b.css", b"x", SystemTime::UNIX_EPOCH).expect("written");
        staging.note(["a/b.css", "c d.css"].into_iter()).expect("noted");
        std::mem::forget(staging);
        let next = Staging::create(output.path()).expect("staging");
        assert_eq!(next.left_behind, ["a/b.css", "c d.css"].map(str::to_owned).into());
        assert!(!output.path().join(NAME).join("a").exists(), "what it had made ready is gone");
        // This one dies as soon as it has begun.
        std::mem::forget(next);
        let next = Staging::create(output.path()).expect("staging");
        assert_eq!(next.left_behind.len(), 2);
        drop(next);
        let third = Staging::create(output.path()).expect("staging");
        assert_eq!(third.left_behind.len(), 2, "the second run has published nothing, and the list is still owed");
        third.has_cleaned_up();
        drop(third);
        assert!(!output.path().join(NAME).exists());
    }

    #[test]
    fn what_the_output_has_already_is_not_written_again() {
        let output = tempfile::tempdir().expect("a temporary folder");
        let place = |name: &str, text: &str, mode: u32| {
            fs_err::write(output.path().join(name), text).expect("written");
            fs_err::set_permissions(output.path().join(name), Permissions::from_mode(mode)).expect("a mode");
        };
        place("same.css", "bytes", FILE_MODE);
        place("other.css", "BYTES", FILE_MODE);
        place("secret.css", "bytes", 0o600);
        std::os::unix::fs::symlink("same.css", output.path().join("link.css")).expect("a link");
        let staging = Staging::create(output.path()).expect("staging");
        for (name, in_place) in
            [("same.css", true), ("other.css", false), ("secret.css", false), ("link.css", false), ("new.css", false)]
        {
            staging.write(name, b"bytes", None).expect("written");
            assert_eq!(staging.is_in_place(name), in_place, "for {name}");
            assert_eq!(fs_err::read(staging.path(name)).expect("readable"), b"bytes");
        }
        staging.duplicate("same.css", "second.css").expect("duplicated");
        assert!(!staging.is_in_place("second.css"));
        fs_err::rename(staging.path("second.css"), output.path().join("second.css")).expect("renamed");
        drop(staging);
        let staging = Staging::create(output.path()).expect("staging");
        staging.duplicate("same.css", "second.css").expect("duplicated");
        assert!(staging.is_in_place("second.css"), "it is the same file by now");
    }

    #[test]
    fn a_second_name_has_the_same_bytes_and_time() {
        let output = tempfile::tempdir().expect("a temporary folder");
        let staging = Staging::create(output.path()).expect("staging");
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        staging.write("a.css", b"x", time).expect("written");
        staging.duplicate("a.css", "b/c.css").expect("duplicated");
        let copy = staging.path("b/c.css");
        assert_eq!(fs_err::read(&copy).expect("readable"), b"x");
        assert_eq!(fs_err::metadata(&copy).and_then(|metadata| metadata.modified()).expect("a time"), time);
    }
}
