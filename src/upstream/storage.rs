//! Where bodies wait for the slower side: in memory, and beyond that in files without a name.
//!
//! Each kind of memory and the disk have a bound, and who takes a part of one holds a [`Share`] of it, which is
//! given back when it is dropped. Nobody waits for a share: who waited would hold what others wait for. Of what is
//! there for requests, the bodies of one client network have a part at most, so that one client that stalls does
//! not keep out all others; and some memory is there for small bodies alone.
//!
//! A file has no name from the moment it is made, so it is gone with the last who has it open, however the
//! program ends. Files are written on tokio's threads for blocking work.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use fs_err::File;
use fs_err::os::unix::fs::FileExt as _;
use tokio::task::spawn_blocking;

use crate::config::UpstreamConfig;

/// So much of something: for all together, or, as a part of that, for one client network.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    taken: AtomicU64,
    part_of: Option<Whole>,
    /// How much one client network may have.
    part: u64,
    /// The networks that have something now: no more than there are shares.
    parts: Mutex<HashMap<IpAddr, Weak<Budget>>>,
}

/// What a network's budget is a part of.
#[derive(Debug)]
struct Whole {
    budget: Arc<Budget>,
    network: IpAddr,
}

impl Budget {
    /// `part` is how much of it one client network may have, from 0 to 1.
    pub(super) fn new(limit: u64, part: f64) -> Arc<Self> {
        let part = if part < 1.0 { (limit as f64 * part) as u64 } else { limit };
        Arc::new(Self { limit, taken: AtomicU64::new(0), part_of: None, part, parts: Mutex::default() })
    }

    /// A share of nothing, to grow.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), size: 0 }
    }

    /// The same for a body of a client network. Who has no address, as behind a unix socket, shares with all.
    pub(super) fn share_for(self: &Arc<Self>, network: Option<IpAddr>) -> Share {
        let Some(network) = network else { return self.share() };
        let mut parts = self.parts();
        if let Some(part) = parts.get(&network).and_then(Weak::upgrade) {
            return part.share();
        }
        let part = Arc::new(Self {
            limit: self.part,
            taken: AtomicU64::new(0),
            part_of: Some(Whole { budget: Arc::clone(self), network }),
            part: self.part,
            parts: Mutex::default(),
        });
        parts.insert(network, Arc::downgrade(&part));
        part.share()
    }

    fn parts(&self) -> MutexGuard<'_, HashMap<IpAddr, Weak<Self>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes more for a share that has `own` already, if all together have no more than `ceiling` then.
    ///
    /// What a network has is no bound for the only body of it: an upload that is larger than that comes through.
    fn take(&self, own: u64, by: u64, ceiling: u64) -> bool {
        let is_only = |taken| self.part_of.is_some() && taken == own;
        let limit = if self.part_of.is_some() { self.limit } else { self.limit.min(ceiling) };
        let fits = |taken: u64| taken.checked_add(by).filter(|sum| *sum <= limit || is_only(taken));
        if self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        let is_taken = self.part_of.as_ref().is_none_or(|whole| whole.budget.take(own, by, ceiling));
        if !is_taken {
            self.taken.fetch_sub(by, Ordering::Relaxed);
        }
        is_taken
    }

    fn take_anyway(&self, by: u64) {
        self.taken.fetch_add(by, Ordering::Relaxed);
        if let Some(whole) = &self.part_of {
            whole.budget.take_anyway(by);
        }
    }

    fn give_back(&self, by: u64) {
        self.taken.fetch_sub(by, Ordering::Relaxed);
        if let Some(whole) = &self.part_of {
            whole.budget.give_back(by);
        }
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        let Some(Whole { budget, network }) = &self.part_of else { return };
        let mut parts = budget.parts();
        // Another one may have taken its place in the meantime.
        if parts.get(network).is_some_and(|part| part.strong_count() == 0) {
            parts.remove(network);
        }
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
        self.grow_below(by, u64::MAX)
    }

    /// Takes more, if all together have no more than `ceiling` then.
    #[must_use]
    fn grow_below(&mut self, by: u64, ceiling: u64) -> bool {
        let is_taken = self.budget.take(self.size, by, ceiling);
        self.size += if is_taken { by } else { 0 };
        is_taken
    }

    /// The client network that has no more to take, if that is why so much could not be taken.
    pub(super) fn bound_by(&self, by: u64) -> Option<IpAddr> {
        let whole = self.budget.part_of.as_ref()?;
        let taken = self.budget.taken.load(Ordering::Relaxed);
        (taken > self.size && taken.saturating_add(by) > self.budget.limit).then_some(whole.network)
    }

    /// Takes more, whatever the others have: for what is in hand already and has no other place.
    pub(super) fn grow_anyway(&mut self, by: u64) {
        self.budget.take_anyway(by);
        self.size += by;
    }

    /// Gives some of it back.
    pub(super) fn shrink(&mut self, by: u64) {
        let by = by.min(self.size);
        self.budget.give_back(by);
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
    /// Memory for small bodies, when all other is taken.
    pub(super) reserve: Arc<Budget>,
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
        let part = config.request_buffer_share;
        let disk = Budget::new(config.buffer_disk.0, part);
        let storage = |limit: usize, memory: Arc<Budget>, reserve: u64, disk_ceiling| {
            let (reserve, disk) = (Budget::new(reserve, part), Arc::clone(&disk));
            Arc::new(Self { limit, memory, reserve, disk, disk_ceiling, directory: config.buffer_directory.clone() })
        };
        let memory = Budget::new(config.request_buffer_memory.0, part);
        let (limit, reserve) = (config.request_buffer.as_usize(), config.request_buffer_reserve.0);
        let requests = storage(limit, memory, reserve, config.buffer_disk.0);
        let memory = Budget::new(config.response_buffer_memory.0, 1.0);
        let answers = storage(config.response_buffer.as_usize(), memory, 0, config.buffer_disk.0 / 2);
        (requests, answers)
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

    /// What a file takes of the disk however little is in it: so their number has a bound as well.
    pub(super) fn least_on_disk(&self) -> u64 {
        (64 << 10).min(self.disk_ceiling / 1024)
    }

    /// A share of nothing of the disk, for a body of a client network.
    pub(super) fn disk_share(&self, network: Option<IpAddr>) -> Share {
        self.disk.share_for(network)
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

/// Writes to a file at a place, one piece after the other, and gives the file back.
pub(super) async fn write(file: File, mut offset: u64, pieces: Vec<Bytes>) -> io::Result<File> {
    let written = spawn_blocking(move || {
        for piece in pieces {
            file.write_all_at(&piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(file)
    });
    written.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_is_taken_together_stays_within_the_bound_and_is_given_back() {
        let budget = Budget::new(10, 1.0);
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

    const ONE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    const OTHER: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn the_bodies_of_one_network_have_their_part_and_leave_the_rest() {
        let budget = Budget::new(100, 0.25);
        let (mut first, mut second) = (budget.share_for(ONE), budget.share_for(ONE));
        assert!(first.grow(20) && second.grow(5) && !second.grow(1));
        assert_eq!((first.bound_by(1), second.bound_by(1)), (ONE, ONE));
        let mut nobodys = budget.share_for(None);
        assert!(nobodys.grow(50) && nobodys.bound_by(1).is_none());
        let mut others = budget.share_for(OTHER);
        assert!(!others.grow(26) && others.grow(25) && !others.grow(1));
        assert_eq!(budget.taken(), 100);
        second.shrink(5);
        drop(nobodys);
        assert!(first.grow(55), "the only body of its network is bound by the whole alone");
        assert!(!second.grow(1) && !first.grow(1));
        assert_eq!((first.bound_by(1), second.bound_by(1)), (None, ONE));
        drop((first, second, others));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn of_networks_that_have_nothing_nothing_is_kept() {
        let budget = Budget::new(100, 0.5);
        for last in 0..=255 {
            let mut share = budget.share_for(Some([192, 0, 2, last].into()));
            assert!(share.grow(1));
            assert_eq!(budget.parts().len(), 1);
        }
        assert_eq!(budget.parts().len(), 0);
    }

    #[tokio::test]
    async fn a_file_has_no_name_and_is_read_where_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let config = UpstreamConfig { buffer_directory: Some(folder.path().into()), ..UpstreamConfig::default() };
        let (storage, _) = Storage::both(&config);
        let (file, again) = storage.file().await.unwrap();
        let _file = write(file, 3, vec![Bytes::from_static(b"a"), Bytes::from_static(b"bc")]).await.unwrap();
        let mut read = [1; 6];
        again.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"\0\0\0abc");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    }
}
