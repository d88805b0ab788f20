//! Rooms from which the system can send by itself: bodies that come fast are read into them.
//!
//! All rooms are parts of one file in memory, which has no name. A unix socket gets what lies in them by `sendfile`, as
//! references to the pages, in place of a copy of them in memory of the system's own: 0.85 of the time for an upload.
//! It is here, and not in `serve`, because only here it is known when the application has read.
//!
//! The pages must stay as they are until they have been read (sendfile(2)). So what was sent is `Outstanding` until it is
//! known that all of it was. Where that does not become known, as when the application answers without having read the body,
//! the room gets other pages before it is used again, and those that were sent are the reader's alone.
//!
//! Who moves the pages on instead of reading them (splice(2)), as systemd-socket-proxyd does, counts as having read, while
//! the application still has them to read. So a room is used again only when the answer has ended, too.

use std::io;
use std::os::fd::AsFd as _;

use bytes::Bytes;
use tokio::net::UnixStream;

pub use self::system::{SharedRoom, prepare};

/// How large a room is: as much as is read at once. A multiple of the size of a page.
pub const SIZE: usize = 256 * 1024;
/// From which length on a piece is sent in place. A shorter one is copied faster.
const WORTH_SENDING_IN_PLACE: usize = 64 * 1024;

/// Pieces that were sent in place, and may not have been read. Their rooms get other pages, unless it is said that they
/// were.
#[derive(Debug, Default)]
pub(super) struct Outstanding(Vec<Bytes>);

impl Outstanding {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Holds a piece of which some was sent just now.
    fn add(&mut self, piece: &Bytes) {
        // It may be the rest of the one that was added last: both end at the same place.
        if self.0.last().is_none_or(|last| last.as_ptr_range().end != piece.as_ptr_range().end) {
            self.0.push(piece.clone());
        }
    }

    /// Lets them go: all of them were read.
    pub(super) fn release(&mut self) {
        self.0.clear();
    }
}

impl Drop for Outstanding {
    /// Before the pieces go, since whoever drops the last piece of a room looks at the mark.
    fn drop(&mut self) {
        self.0.iter().for_each(system::forsake);
    }
}

/// Whether a piece is to be sent in place.
pub(super) fn can_send_in_place(piece: &Bytes) -> bool {
    piece.len() >= WORTH_SENDING_IN_PLACE && system::place_of(piece).is_some()
}

/// Sends a piece from where it lies, as much of it as the socket takes now. `None` if it lies in no room, or the system
/// cannot do it.
///
/// # Errors
/// As those of a write.
pub(super) fn send_in_place(
    socket: &UnixStream,
    piece: &Bytes,
    outstanding: &mut Outstanding,
) -> io::Result<Option<usize>> {
    let Some((file, offset)) = system::place_of(piece) else { return Ok(None) };
    match system::send(socket.as_fd(), file, offset, piece.len()) {
        Ok(sent) => {
            outstanding.add(piece);
            Ok(Some(sent))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::io::{self, Read as _};
    use std::ops::Range;
    use std::os::fd::{AsFd as _, BorrowedFd};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
    use std::time::Duration;

    use bytes::Bytes;
    use memmap2::{Advice, MmapOptions, MmapRaw};
    use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, sendfile};
    use tokio::runtime::Handle;
    use tokio::task::spawn_blocking;
    use tokio::time::sleep;
    use tracing::debug;

    use super::SIZE;
    use crate::http::memory_file;

    /// What `/proc` calls the file.
    const NAME: &str = "vestibule-uploads";
    /// How many rooms there are: 128 MiB, twice the default of `request_buffer_memory`, since each is half filled at least.
    /// Who finds none reads into memory of his own.
    pub(super) const ROOMS: usize = 512;
    /// A room that was not needed for so long gives its pages back.
    const KEPT_FOR: Duration = Duration::from_secs(10);

    static ALL: OnceLock<Option<&'static Rooms>> = OnceLock::new();

    /// Makes the rooms, which have no pages yet. Where the system has no such files, or does not do with them what is relied
    /// on here, there are none, for good.
    pub fn prepare() {
        ALL.get_or_init(|| {
            let rooms = Rooms::new().map(|rooms| &*Box::leak(Box::new(rooms)));
            let rooms = rooms.and_then(|rooms| rooms.try_out().map(|()| rooms));
            rooms.inspect_err(|error| debug!(%error, "no memory is shared with the system: uploads are copied")).ok()
        });
    }

    /// All rooms.
    #[derive(Debug)]
    pub(super) struct Rooms {
        file: File,
        map: MmapRaw,
        /// What was sent of this room may be read even when nobody here holds it any more. What is dropped here sees the
        /// marks that were set before, as it counts who holds a room.
        is_forsaken: [AtomicBool; ROOMS],
        free: Mutex<Free>,
    }

    /// The rooms that are not in use, by their numbers.
    #[derive(Debug)]
    struct Free {
        /// Those that have pages, the one used last at the end, where it is taken: it takes longer to get a page than to
        /// copy into it.
        with_pages: Vec<usize>,
        without: Vec<usize>,
        /// How many of those with pages, from the front, have not been needed since a task looked last.
        unneeded: usize,
        /// Whether there is a task that looks. It lives as long as the program, unless there is nothing to look for.
        is_watched: bool,
    }

    impl Rooms {
        pub(super) fn new() -> io::Result<Self> {
            let size = ROOMS * SIZE;
            let file = memory_file::create(NAME, size as u64)?;
            fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
            let map = MmapOptions::new().len(size).map_raw(&file)?;
            // In pages larger than a room no hole can be made for that room alone. A kernel that has none says so.
            match map.advise(Advice::NoHugePage) {
                Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
                Err(_) | Ok(()) => {}
            }
            let without = (0..ROOMS).rev().collect();
            let free = Free { with_pages: Vec::new(), without, unneeded: 0, is_watched: false };
            Ok(Self { file, map, is_forsaken: [const { AtomicBool::new(false) }; ROOMS], free: Mutex::new(free) })
        }

        pub(super) fn take(&'static self) -> Option<SharedRoom> {
            let mut free = self.free();
            let number = free.with_pages.pop().or_else(|| free.without.pop())?;
            free.unneeded = free.unneeded.min(free.with_pages.len());
            drop(free);
            Some(SharedRoom { used: Arc::new(Used { rooms: self, number }), filled: 0..0 })
        }

        /// Tries whether who has not read what was sent keeps it when the room gets other pages. Where the system insists on
        /// large pages (`shmem_enabled` is `force`) it is filled with zeros (`truncate_inode_partial_folio` in the kernel's
        /// mm/truncate.c), and the page stays.
        fn try_out(&'static self) -> io::Result<()> {
            const LENGTH: usize = 4096;
            let (ours, mut theirs) = UnixStream::pair()?;
            for byte in 1..=2 {
                let mut room = self.take().ok_or(io::ErrorKind::OutOfMemory)?;
                room.spare()[..LENGTH].fill(byte);
                if byte == 1 {
                    let number = room.used.number;
                    send(ours.as_fd(), self.file.as_fd(), (number * SIZE) as u64, LENGTH)?;
                    self.is_forsaken[number].store(true, Ordering::Relaxed);
                }
            }
            let mut read = [0; LENGTH];
            theirs.read_exact(&mut read)?;
            match read == [1; LENGTH] {
                true => Ok(()),
                false => Err(io::Error::other("what was sent from a file in memory changes with the file")),
            }
        }

        fn give_back(&'static self, number: usize) {
            if self.is_forsaken[number].swap(false, Ordering::Relaxed) {
                // Here and now: it waits for nothing, and the room would be missing meanwhile.
                return self.take_pages(&[number]);
            }
            let mut free = self.free();
            free.with_pages.push(number);
            if !free.is_watched
                && let Ok(runtime) = Handle::try_current()
            {
                free.is_watched = true;
                runtime.spawn(self.take_pages_in_time());
            }
        }

        /// Takes pages away until there are none but those that are in use.
        async fn take_pages_in_time(&'static self) {
            let mut is_over = false;
            while !is_over {
                sleep(KEPT_FOR).await;
                let unneeded;
                (unneeded, is_over) = self.take_unneeded();
                // It fails only as the runtime ends, and then nobody needs the pages.
                let _ = spawn_blocking(move || self.take_pages(&unneeded)).await;
            }
        }

        /// The rooms that were not needed since this was asked last, and whether the watch is over because no others have
        /// pages: another one begins with the next that comes free.
        pub(super) fn take_unneeded(&self) -> (Vec<usize>, bool) {
            let mut free = self.free();
            let unneeded = free.unneeded;
            let numbers = free.with_pages.drain(..unneeded).collect();
            free.unneeded = free.with_pages.len();
            free.is_watched = free.unneeded > 0;
            (numbers, !free.is_watched)
        }

        /// Takes the pages of rooms away, which can then be used again.
        pub(super) fn take_pages(&self, numbers: &[usize]) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            for number in numbers {
                match fallocate(&self.file, flags, (number * SIZE) as u64, SIZE as u64) {
                    Ok(()) => self.free().without.push(*number),
                    Err(error) => debug!(%error, "a room for uploads keeps its pages, and is not used again"),
                }
            }
        }

        #[cfg(test)]
        pub(super) fn file(&self) -> &File {
            &self.file
        }

        fn free(&self) -> MutexGuard<'_, Free> {
            self.free.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Where in the file this lies, if it does.
        fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
            let offset = bytes.as_ptr().addr().checked_sub(self.map.as_ptr().addr())?;
            (offset < ROOMS * SIZE).then_some(offset)
        }
    }

    /// A room that is in use until nobody holds a piece of it.
    #[derive(Debug)]
    struct Used {
        rooms: &'static Rooms,
        number: usize,
    }

    impl Used {
        fn begin(&self) -> *mut u8 {
            self.rooms.map.as_mut_ptr().wrapping_add(self.number * SIZE)
        }
    }

    impl Drop for Used {
        fn drop(&mut self) {
            self.rooms.give_back(self.number);
        }
    }

    /// A room that is being filled.
    #[derive(Debug)]
    pub struct SharedRoom {
        used: Arc<Used>,
        /// What was filled and is not handed on.
        filled: Range<usize>,
    }

    impl SharedRoom {
        /// An empty room, if there is one.
        #[must_use]
        pub fn take() -> Option<Self> {
            (*ALL.get()?)?.take()
        }

        /// How much was filled and is not handed on, in bytes.
        #[must_use]
        pub fn filled(&self) -> usize {
            self.filled.len()
        }

        /// How much more there is place for, in bytes.
        #[must_use]
        pub fn left(&self) -> usize {
            SIZE - self.filled.end
        }

        /// What has not been filled. It holds what was there before, which may be another client's.
        #[expect(unsafe_code, reason = "that nobody else has this part of the map only this type can promise")]
        pub fn spare(&mut self) -> &mut [u8] {
            let begin = self.used.begin().wrapping_add(self.filled.end);
            // SAFETY: the room lies within the map, which is never taken away, and nobody can make the file shorter
            // (fcntl(2), F_SEAL_SHRINK). While the room is in use nobody else has it: what is handed on ends at
            // `filled.end`, and `self` is borrowed for as long as the slice. Other programs that may open the file through
            // `/proc` may change all of our memory as well (ptrace(2)).
            unsafe { std::slice::from_raw_parts_mut(begin, self.left()) }
        }

        /// Says that so much of the spare part was written to. More than was written would hand on what another client
        /// sent.
        ///
        /// # Panics
        /// If there is not so much.
        pub fn advance(&mut self, length: usize) {
            assert!(length <= self.left(), "only what is spare can be filled");
            self.filled.end += length;
        }

        /// Hands on what was filled.
        pub fn split(&mut self) -> Bytes {
            let part = self.filled.clone();
            self.filled.start = part.end;
            Bytes::from_owner(Part { used: Arc::clone(&self.used), part })
        }
    }

    /// A part of a room that was handed on.
    struct Part {
        used: Arc<Used>,
        part: Range<usize>,
    }

    impl AsRef<[u8]> for Part {
        #[expect(unsafe_code, reason = "that nobody changes this part of the map only this module can promise")]
        fn as_ref(&self) -> &[u8] {
            // SAFETY: as in `SharedRoom::spare`, which gives out nothing that was handed on.
            unsafe { std::slice::from_raw_parts(self.used.begin().wrapping_add(self.part.start), self.part.len()) }
        }
    }

    /// Where a piece lies, if that is in a room: in which file, and where it begins there.
    pub(super) fn place_of(piece: &Bytes) -> Option<(BorrowedFd<'static>, u64)> {
        let rooms = (*ALL.get()?)?;
        rooms.offset_of(piece).map(|offset| (rooms.file.as_fd(), offset as u64))
    }

    /// Says of a piece that its pages may be read even when nobody holds it any more.
    pub(super) fn forsake(piece: &Bytes) {
        if let Some(Some(rooms)) = ALL.get()
            && let Some(offset) = rooms.offset_of(piece)
        {
            rooms.is_forsaken[offset / SIZE].store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn send(to: BorrowedFd<'_>, file: BorrowedFd<'_>, mut offset: u64, length: usize) -> io::Result<usize> {
        Ok(sendfile(to, file, Some(&mut offset), length)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::os::fd::BorrowedFd;

    use bytes::Bytes;

    /// There is nothing to make.
    pub fn prepare() {}

    /// There is none.
    #[derive(Debug)]
    pub enum SharedRoom {}

    impl SharedRoom {
        pub fn take() -> Option<Self> {
            None
        }

        pub fn filled(&self) -> usize {
            match *self {}
        }

        pub fn left(&self) -> usize {
            match *self {}
        }

        pub fn spare(&mut self) -> &mut [u8] {
            match *self {}
        }

        pub fn advance(&mut self, _length: usize) {
            match *self {}
        }

        pub fn split(&mut self) -> Bytes {
            match *self {}
        }
    }

    pub(super) fn place_of(_piece: &Bytes) -> Option<(BorrowedFd<'static>, u64)> {
        None
    }

    pub(super) fn forsake(_piece: &Bytes) {}

    pub(super) fn send(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: u64, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Who tests with all rooms of the program, or needs one to be free, takes this first: tests may run at the same time.
#[cfg(test)]
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Takes the room that begins there, which has come free, and fills it.
#[cfg(test)]
#[cfg(target_os = "linux")]
pub(super) fn fill_again(place: *const u8, byte: u8) {
    let mut before = Vec::new();
    let mut room = loop {
        let mut room = SharedRoom::take().expect("the room has come free");
        if room.spare().as_ptr() == place {
            break room;
        }
        before.push(room);
    };
    room.spare().fill(byte);
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::Read as _;

    use rustix::fs::fstat;

    use super::system::{ROOMS, Rooms, place_of};
    use super::*;

    fn rooms() -> &'static Rooms {
        Box::leak(Box::new(Rooms::new().unwrap()))
    }

    /// How many rooms have pages.
    fn in_memory(rooms: &Rooms) -> i64 {
        fstat(rooms.file()).unwrap().st_blocks * 512 / SIZE as i64
    }

    fn taken() -> SharedRoom {
        prepare();
        SharedRoom::take().unwrap()
    }

    fn fill(room: &mut SharedRoom, byte: u8, length: usize) -> Bytes {
        room.spare()[..length].fill(byte);
        room.advance(length);
        room.split()
    }

    #[test]
    fn pieces_lie_side_by_side_and_the_system_has_them_where_it_is_said() {
        let _alone = ALONE.blocking_lock();
        let mut room = taken();
        let pieces: Vec<_> = (1..=4).map(|byte| fill(&mut room, byte, usize::from(byte) * 1000)).collect();
        assert_eq!((room.filled(), room.left()), (0, SIZE - 10_000));
        room.spare().fill(9);
        for (piece, byte) in pieces.iter().zip(1_u8..) {
            let part = piece.slice(500..);
            let (file, offset) = place_of(&part).unwrap();
            let mut there = vec![0; part.len()];
            rustix::io::pread(file, &mut there, offset).unwrap();
            assert!(there == *part && piece.iter().all(|found| *found == byte), "{byte}");
        }
        assert_eq!(pieces[1].as_ptr(), pieces[0].as_ptr_range().end);
        assert!(place_of(&Bytes::from(vec![0; WORTH_SENDING_IN_PLACE])).is_none());
        assert!(!can_send_in_place(&pieces[3]), "it is too short");
    }

    #[test]
    #[should_panic = "only what is spare"]
    fn no_more_is_filled_than_is_spare() {
        let _alone = ALONE.blocking_lock();
        taken().advance(SIZE + 1);
    }

    #[test]
    fn a_room_is_used_again_when_nobody_holds_a_piece_of_it() {
        let rooms = rooms();
        let mut room = rooms.take().unwrap();
        let (first, second) = (fill(&mut room, 1, 10), fill(&mut room, 2, 10));
        let place = first.as_ptr();
        drop(room);
        for held in [first, second] {
            let mut other = rooms.take().unwrap();
            assert_ne!(other.spare().as_ptr(), place);
            drop((other, held));
        }
        assert_eq!(rooms.take().unwrap().spare().as_ptr(), place);
    }

    #[test]
    fn there_is_an_end_to_the_rooms() {
        let rooms = rooms();
        let mut held: Vec<_> = std::iter::from_fn(|| rooms.take()).collect();
        assert_eq!(held.len(), ROOMS);
        held.pop();
        assert!(rooms.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_given_back_in_time_and_again() {
        let rooms = rooms();
        for _ in 0..2 {
            let mut held = [(); 2].map(|()| rooms.take().unwrap());
            held.iter_mut().for_each(|room| room.spare().fill(1));
            drop(held);
            assert_eq!(in_memory(rooms), 2);
            tokio::time::sleep(std::time::Duration::from_secs(25)).await;
            assert_eq!(in_memory(rooms), 0);
        }
    }

    #[test]
    fn what_is_not_needed_gives_its_pages_back() {
        let rooms = rooms();
        let need = |number: usize| {
            let mut held: Vec<_> = (0..number).map(|_| rooms.take().unwrap()).collect();
            held.iter_mut().for_each(|room| room.spare().fill(1));
        };
        need(5);
        for (needed, left) in [(5, 5), (3, 3), (2, 2), (2, 2), (0, 0), (0, 0), (4, 4)] {
            need(needed);
            rooms.take_pages(&rooms.take_unneeded().0);
            assert_eq!(in_memory(rooms), left, "{needed} were needed");
        }
    }

    /// What is read of a piece that was sent in place, when its room was used again meanwhile.
    fn read_late(were_read: bool) -> Vec<u8> {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        let mut room = taken();
        let piece = fill(&mut room, b'a', WORTH_SENDING_IN_PLACE);
        let place = piece.as_ptr();
        let mut outstanding = Outstanding::default();
        assert!(can_send_in_place(&piece));
        assert_eq!(send_in_place(&ours, &piece, &mut outstanding).unwrap(), Some(WORTH_SENDING_IN_PLACE));
        if were_read {
            outstanding.release();
        }
        drop((room, piece, outstanding));
        fill_again(place, b'b');
        let mut late = vec![0; WORTH_SENDING_IN_PLACE];
        theirs.read_exact(&mut late).unwrap();
        late
    }

    #[tokio::test]
    async fn what_may_not_have_been_read_does_not_change() {
        let _alone = ALONE.lock().await;
        assert!(read_late(false).iter().all(|byte| *byte == b'a'));
        // It is not a copy that was sent: who says what is not so, has it otherwise.
        assert!(read_late(true).iter().all(|byte| *byte == b'b'));
    }

    #[test]
    fn a_piece_is_held_once_however_often_some_of_it_is_sent() {
        let _alone = ALONE.blocking_lock();
        let mut piece = fill(&mut taken(), b'a', SIZE);
        let mut outstanding = Outstanding::default();
        for _ in 0..3 {
            outstanding.add(&piece);
            bytes::Buf::advance(&mut piece, 100);
        }
        assert_eq!(outstanding.0.len(), 1);
    }
}
