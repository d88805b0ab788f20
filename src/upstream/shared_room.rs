//! Rooms from which the system can send by itself: bodies that come fast are read into them.
//!
//! All rooms are parts of one file in memory, which has no name. A unix socket gets what lies in them by `sendfile`, as
//! references to the pages; the copy into memory of the system's own, a third of what it takes to hand on an upload, is
//! saved.
//!
//! The pages must then stay as they are until they have been read (sendfile(2)). So what was sent is `Lent` until it is
//! known that all of it was. Where that does not become known, as when the application answers without having read the body,
//! the room gets other pages before it is used again, and those that were sent are the reader's alone.
//!
//! A reader that does not take the bytes out but moves the pages on (splice(2)), as few programs do and no application
//! server, has read them by then, and must have done with them when the answer comes.

use std::io;
use std::os::fd::AsFd as _;

use bytes::Bytes;
use tokio::net::UnixStream;

pub use self::system::SharedRoom;

/// How large a room is.
pub const SIZE: usize = 256 * 1024;
/// From which length on a piece is sent from where it lies. A shorter one is copied faster.
const WORTH_LENDING: usize = 64 * 1024;

/// Pieces that were sent from where they lie, and may not have been read. Their rooms get other pages, unless it is said
/// that they were.
#[derive(Debug, Default)]
pub(super) struct Lent(Vec<Bytes>);

impl Lent {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Holds a piece of which some was sent just now.
    fn add(&mut self, piece: &Bytes) {
        // What was left of it may have been sent before.
        if self.0.last().is_none_or(|last| last.as_ptr_range().end != piece.as_ptr_range().end) {
            self.0.push(piece.clone());
        }
    }

    /// Lets them go: all of them were read.
    pub(super) fn were_read(&mut self) {
        self.0.clear();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.iter().for_each(system::forsake);
    }
}

/// Whether a piece can be sent from where it lies.
pub(super) fn can_lend(piece: &Bytes) -> bool {
    piece.len() >= WORTH_LENDING && system::place_of(piece).is_some()
}

/// Sends a piece from where it lies, as much of it as the socket takes now. `None` if it lies nowhere like that, or the
/// system cannot do it.
///
/// # Errors
/// If the socket takes nothing now. If it never will, whoever writes to it hears of that.
pub(super) fn lend(socket: &UnixStream, piece: &Bytes, lent: &mut Lent) -> io::Result<Option<usize>> {
    let Some((file, offset)) = system::place_of(piece) else { return Ok(None) };
    match system::send(socket.as_fd(), file, offset, piece.len()) {
        Ok(sent) => {
            lent.add(piece);
            Ok(Some(sent))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::ops::Range;
    use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
    use std::time::Duration;

    use bytes::Bytes;
    use memmap2::{MmapOptions, MmapRaw};
    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create, sendfile};
    use rustix::process::{Resource, getrlimit};
    use tokio::runtime::Handle;
    use tokio::task::spawn_blocking;
    use tokio::time::sleep;

    use super::SIZE;

    /// What `/proc` calls the file.
    const NAME: &str = "vestibule-uploads";
    /// How many rooms there are. Who finds none reads into memory of his own.
    const MOST: usize = 1024;
    /// A room that was not needed for so long gives its pages back.
    const KEPT_FOR: Duration = Duration::from_secs(10);

    /// All rooms.
    #[derive(Debug)]
    pub(super) struct Rooms {
        file: OwnedFd,
        map: MmapRaw,
        is_forsaken: [AtomicBool; MOST],
        free: Mutex<Free>,
    }

    /// The rooms that are not in use, by their numbers.
    #[derive(Debug)]
    struct Free {
        /// Those that have pages, the one used last at the end: it takes longer to get a page than to copy into it.
        with_pages: Vec<usize>,
        without: Vec<usize>,
        /// How many of those with pages have not been needed since a task looked last.
        unneeded: usize,
        /// Whether there is a task that looks.
        is_watched: bool,
    }

    impl Rooms {
        pub(super) fn new() -> io::Result<Self> {
            let size = MOST * SIZE;
            // Who tries it all the same is killed.
            if getrlimit(Resource::Fsize).current.is_some_and(|most| most < size as u64) {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            // Linux 6.3 and later may insist that it is no program; before that nobody knows the flag.
            let file = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL)
                .or_else(|_| memfd_create(NAME, MemfdFlags::CLOEXEC))?;
            ftruncate(&file, size as u64)?;
            let map = MmapOptions::new().len(size).map_raw(&file)?;
            let without = (0..MOST).rev().collect();
            let free = Free { with_pages: Vec::new(), without, unneeded: 0, is_watched: false };
            Ok(Self { file, map, is_forsaken: [const { AtomicBool::new(false) }; MOST], free: Mutex::new(free) })
        }

        /// Those of the program; `None` where the system has no such files.
        fn all() -> Option<&'static Self> {
            static ALL: OnceLock<Option<Rooms>> = OnceLock::new();
            ALL.get_or_init(|| Self::new().ok()).as_ref()
        }

        pub(super) fn take(&'static self) -> Option<SharedRoom> {
            let mut free = self.free();
            let number = free.with_pages.pop().or_else(|| free.without.pop())?;
            free.unneeded = free.unneeded.min(free.with_pages.len());
            drop(free);
            Some(SharedRoom { used: Arc::new(Used { rooms: self, number }), filled: 0..0 })
        }

        fn give_back(&'static self, number: usize) {
            if self.is_forsaken[number].swap(false, Ordering::Relaxed) {
                return self.give_pages_back(&[number]);
            }
            let mut free = self.free();
            free.with_pages.push(number);
            if !free.is_watched
                && let Ok(runtime) = Handle::try_current()
            {
                free.is_watched = true;
                runtime.spawn(self.give_back_in_time());
            }
        }

        /// Gives pages back until there are none but those that are in use.
        async fn give_back_in_time(&'static self) {
            while self.free().is_watched {
                sleep(KEPT_FOR).await;
                let unneeded = self.take_unneeded();
                // If it is not done, the program ends.
                let _ = spawn_blocking(move || self.give_pages_back(&unneeded)).await;
            }
        }

        /// The rooms that were not needed since this was asked last.
        pub(super) fn take_unneeded(&self) -> Vec<usize> {
            let mut free = self.free();
            let unneeded = free.unneeded;
            let numbers = free.with_pages.drain(..unneeded).collect();
            free.unneeded = free.with_pages.len();
            free.is_watched = free.unneeded > 0;
            numbers
        }

        pub(super) fn give_pages_back(&self, numbers: &[usize]) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            for number in numbers {
                // Where that cannot be done it is not used again.
                if fallocate(&self.file, flags, (number * SIZE) as u64, SIZE as u64).is_ok() {
                    self.free().without.push(*number);
                }
            }
        }

        #[cfg(test)]
        pub(super) fn file(&self) -> &OwnedFd {
            &self.file
        }

        fn free(&self) -> MutexGuard<'_, Free> {
            self.free.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Where in the file this lies, if it does.
        fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
            let offset = bytes.as_ptr().addr().checked_sub(self.map.as_ptr().addr())?;
            (offset < MOST * SIZE).then_some(offset)
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
            Rooms::all()?.take()
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

        /// What has not been filled.
        #[expect(unsafe_code, reason = "that nobody else has this part of the map only this type can promise")]
        pub fn spare(&mut self) -> &mut [u8] {
            let begin = self.used.begin().wrapping_add(self.filled.end);
            // SAFETY: the room lies within the map, which is never taken away, and while it is in use nobody else has it.
            // What is handed on ends at `filled.end`, and `self` is borrowed for as long as the slice.
            unsafe { std::slice::from_raw_parts_mut(begin, self.left()) }
        }

        /// Says that so much of the spare part was filled.
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
        let rooms = Rooms::all()?;
        rooms.offset_of(piece).map(|offset| (rooms.file.as_fd(), offset as u64))
    }

    /// Says of a piece that its pages may be read even when nobody holds it any more.
    pub(super) fn forsake(piece: &Bytes) {
        if let Some(rooms) = Rooms::all()
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::Read as _;

    use rustix::fs::fstat;

    use super::system::{Rooms, place_of};
    use super::*;

    fn rooms() -> &'static Rooms {
        Box::leak(Box::new(Rooms::new().unwrap()))
    }

    fn fill(room: &mut SharedRoom, byte: u8, length: usize) -> Bytes {
        room.spare()[..length].fill(byte);
        room.advance(length);
        room.split()
    }

    #[test]
    fn pieces_lie_side_by_side_and_the_system_has_them_where_it_is_said() {
        let mut room = SharedRoom::take().unwrap();
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
        assert!(place_of(&Bytes::from(vec![0; WORTH_LENDING])).is_none());
        assert!(!can_lend(&pieces[3]), "it is too short");
    }

    #[test]
    #[should_panic = "only what is spare"]
    fn no_more_is_filled_than_is_spare() {
        SharedRoom::take().unwrap().advance(SIZE + 1);
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
        assert_eq!(held.len(), 1024);
        held.pop();
        assert!(rooms.take().is_some());
    }

    #[test]
    fn what_is_not_needed_gives_its_pages_back() {
        let rooms = rooms();
        let in_memory = || fstat(rooms.file()).unwrap().st_blocks * 512 / SIZE as i64;
        let need = |number: usize| {
            let mut held: Vec<_> = (0..number).map(|_| rooms.take().unwrap()).collect();
            held.iter_mut().for_each(|room| room.spare().fill(1));
        };
        need(5);
        for (needed, left) in [(5, 5), (3, 3), (2, 2), (2, 2), (0, 0), (0, 0), (4, 4)] {
            need(needed);
            rooms.give_pages_back(&rooms.take_unneeded());
            assert_eq!(in_memory(), left, "{needed} were needed");
        }
    }

    /// What is read of a piece that was lent, when its room was used again meanwhile.
    fn read_late(were_read: bool) -> Vec<u8> {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        let mut room = SharedRoom::take().unwrap();
        let piece = fill(&mut room, b'a', WORTH_LENDING);
        let place = piece.as_ptr();
        let mut lent = Lent::default();
        assert!(can_lend(&piece));
        assert_eq!(lend(&ours, &piece, &mut lent).unwrap(), Some(WORTH_LENDING));
        if were_read {
            lent.were_read();
        }
        drop((room, piece, lent));
        let mut again = SharedRoom::take().unwrap();
        assert_eq!(again.spare().as_ptr(), place);
        again.spare().fill(b'b');
        let mut late = vec![0; WORTH_LENDING];
        theirs.read_exact(&mut late).unwrap();
        late
    }

    #[tokio::test]
    async fn what_may_not_have_been_read_does_not_change() {
        assert!(read_late(false).iter().all(|byte| *byte == b'a'));
        // It is not a copy that was sent: who says what is not so, has it otherwise.
        assert!(read_late(true).iter().all(|byte| *byte == b'b'));
    }

    #[test]
    fn a_piece_is_held_once_however_often_some_of_it_is_sent() {
        let mut piece = fill(&mut SharedRoom::take().unwrap(), b'a', SIZE);
        let mut lent = Lent::default();
        for _ in 0..3 {
            lent.add(&piece);
            bytes::Buf::advance(&mut piece, 100);
        }
        assert_eq!(lent.0.len(), 1);
    }
}
