//! Where bodies wait for the slower side: in memory, and beyond that in files without a name.
//!
//! Each kind of memory and the disk have a bound, and who takes a part of one holds a [`Share`] of it, which is
//! given back when it is dropped. Nobody waits for a share: who waited would hold what others wait for.
//!
//! A file has no name from the moment it is made, so it is gone with the last who has it open, however the
//! program ends. Files are written on tokio's threads for blocking work.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fs_err::File;
use fs_err::os::unix::fs::FileExt as _;
use tokio::task::spawn_blocking;

use crate::config::UpstreamConfig;

/// So much of something, for all together.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    taken: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, taken: AtomicU64::new(0) })
    }

    /// A share of nothing, to grow.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), size: 0 }
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// What one body has of a budget.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    size: u64,
}

impl Share {
    /// Takes more, if there is as much.
    #[must_use]
    pub(super) fn grow(&mut self, by: u64) -> bool {
        self.grow_below(by, self.budget.limit)
    }

    /// Takes more, if all together have no more than `ceiling` then.
    #[must_use]
    fn grow_below(&mut self, by: u64, ceiling: u64) -> bool {
        let fits = |taken: u64| taken.checked_add(by).filter(|sum| *sum <= ceiling);
        let is_taken = self.budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.size += if is_taken { by } else { 0 };
        is_taken
    }

    /// Takes more, whatever the others have: for what is in hand already and has no other place.
    pub(super) fn grow_anyway(&mut self, by: u64) {
        self.budget.taken.fetch_add(by, Ordering::Relaxed);
        self.size += by;
    }

    /// Gives some of it back.
    pub(super) fn shrink(&mut self, by: u64) {
        let by = by.min(self.size);
        self.budget.taken.fetch_sub(by, Ordering::Relaxed);
        self.size -= by;
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.size);
    }
}

/// Where the bodies of one direction wait.
#[derive(Debug)]
pub(super) struct Storage {
    /// How much of one body stays in memory.
    pub(super) limit: usize,
    pub(super) memory: Arc<Budget>,
    disk: Arc<Budget>,
    /// How full the disk may be for this direction to write more.
    disk_ceiling: u64,
    /// `None` is the system's folder for temporary files.
    directory: Option<PathBuf>,
}

impl Storage {
    /// For requests and for answers. Answers take no more than half of the disk: where it is full, they go on at
    /// the pace of their clients, but uploads are refused.
    pub(super) fn both(config: &UpstreamConfig) -> (Arc<Self>, Arc<Self>) {
        let disk = Budget::new(config.buffer_disk.0);
        let storage = |limit: usize, memory: u64, disk_ceiling| {
            let (disk, directory) = (Arc::clone(&disk), config.buffer_directory.clone());
            Arc::new(Self { limit, memory: Budget::new(memory), disk, disk_ceiling, directory })
        };
        (
            storage(config.request_buffer.as_usize(), config.request_buffer_memory.0, config.buffer_disk.0),
            storage(config.response_buffer.as_usize(), config.response_buffer_memory.0, config.buffer_disk.0 / 2),
        )
    }

    /// How long a body can be and still be held whole.
    pub(super) fn longest(&self) -> u64 {
        self.disk_ceiling.max(self.limit as u64)
    }

    pub(super) fn has_disk(&self) -> bool {
        self.disk_ceiling > 0
    }

    #[cfg(test)]
    pub(super) fn disk_taken(&self) -> u64 {
        self.disk.taken()
    }

    /// A share of nothing of the disk.
    pub(super) fn disk_share(&self) -> Share {
        self.disk.share()
    }

    /// Takes so much of the disk for a body, if this direction may.
    #[must_use]
    pub(super) fn take_disk(&self, share: &mut Share, by: u64) -> bool {
        share.grow_below(by, self.disk_ceiling)
    }

    /// A new file without a name, opened twice: to write and to read.
    pub(super) async fn file(&self) -> io::Result<(File, File)> {
        let directory = self.directory.clone();
        let made = spawn_blocking(move || {
            let file = nameless_file(directory.as_deref())?;
            let again = file.try_clone()?;
            Ok((file, again))
        });
        made.await.map_err(io::Error::other)?
    }
}

/// Makes a file in the folder, or in the system's own for temporary files; it vanishes when it is closed.
pub(super) fn nameless_file(directory: Option<&Path>) -> io::Result<File> {
    let (file, path) = match directory {
        Some(directory) => (tempfile::tempfile_in(directory)?, directory),
        None => (tempfile::tempfile()?, Path::new("the temporary folder")),
    };
    Ok(File::from_parts(file, path))
}

/// Writes to a file at a place, and gives the file back.
pub(super) async fn write(file: File, offset: u64, bytes: Bytes) -> io::Result<File> {
    let written = spawn_blocking(move || file.write_all_at(&bytes, offset).map(|()| file));
    written.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_together_stays_within_the_bound_and_is_given_back() {
        let budget = Budget::new(10);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.grow(6) && !other.grow(5) && other.grow(4));
        assert!(!one.grow(u64::MAX), "no overflow");
        one.shrink(2);
        assert!(other.grow_below(1, 9) && !other.grow_below(1, 9));
        drop(one);
        assert_eq!(budget.taken(), 5);
        other.grow_anyway(100);
        drop(other);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_file_has_no_name_and_is_read_where_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let config = UpstreamConfig { buffer_directory: Some(folder.path().into()), ..UpstreamConfig::default() };
        let (storage, _) = Storage::both(&config);
        let (file, again) = storage.file().await.unwrap();
        let _file = write(file, 3, Bytes::from_static(b"abc")).await.unwrap();
        let mut read = [1; 6];
        again.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"\0\0\0abc");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    }
}
