//! An answer's body between an application that is fast and a client that may not be: first in, first out, in memory
//! first and then in a file.
//!
//! ```text
//! Writer -> back -> file -> front -> Reader
//! ```
//! `front` is what the client gets next. While it takes everything at once, each piece goes there, as it came, or past
//! all of this ([`Reader::pass`]), and so
//! do large ones as long as there is room for them in memory. What else comes while something waits is gathered in
//! `back`. When that has grown to a batch, it goes to `front` if the body has room in memory, and otherwise to the file;
//! from then on all goes through the file, until the client has caught up with it and it is closed. Where there is room
//! neither in memory nor on the disk, the writer waits for the reader: the answer streams through.
//!
//! It knows nothing of connections: `pump` writes, and the client's connection reads.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use fs_err::File;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tracing::warn;

use super::pieces::WORTH_KEEPING;
use super::storage::{self, Share, Storage};
use crate::http::body::{BodyError, FileSlice};
use crate::logging::seldom::Seldom;

/// How much goes to the file at once.
const BATCH: usize = 256 * 1024;

/// A way for one body; `length` is what the application announced.
pub(super) fn spool(storage: &Arc<Storage>, length: Option<u64>) -> (Writer, Reader) {
    let state = State {
        front: VecDeque::new(),
        file: None,
        back: Vec::new(),
        is_writing: false,
        in_hand: 0,
        memory: storage.memory.share(),
        disk: storage.disk_share(None),
        has_disk: storage.has_disk(),
        limit: storage.limit,
        end: None,
        reader: None,
        writer: None,
    };
    let shared = Arc::new(Shared(Mutex::new(state)));
    let writer = Writer { shared: Arc::clone(&shared), storage: Arc::clone(storage), file: None };
    (writer, Reader { shared, slice: None, remaining: length, failed: None, has_failed: false })
}

struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    /// What comes next.
    front: VecDeque<Bytes>,
    /// What comes after `front`.
    file: Option<Filed>,
    /// What comes last.
    back: Vec<u8>,
    /// A batch is on its way to the file.
    is_writing: bool,
    /// How long the piece is that the reader has. It may be long in taking it.
    in_hand: u64,
    /// For `front`, `back` and the piece in hand.
    memory: Share,
    disk: Share,
    /// Files may be used; no more after one failed.
    has_disk: bool,
    limit: usize,
    end: Option<Result<(), BodyError>>,
    /// Who waits for a piece.
    reader: Option<Waker>,
    /// Who waits for room.
    writer: Option<Waker>,
}

/// What is in the file.
struct Filed {
    /// For the reader, until it has taken it.
    file: Option<File>,
    written: u64,
    read: u64,
}

/// What became of a piece.
enum Placed {
    Kept,
    /// These bytes go to the file, the piece at their end.
    ForFile(Vec<u8>),
    NoRoom,
}

impl State {
    /// Whether the reader has all that came.
    fn is_empty(&self) -> bool {
        self.front.is_empty() && self.file.is_none() && self.back.is_empty() && !self.is_writing
    }

    /// Takes memory for so much, if there is as much.
    fn keeps(&mut self, length: usize) -> bool {
        self.memory.size() + length as u64 <= self.limit as u64 && self.memory.grow(length as u64)
    }

    fn place(&mut self, piece: &Bytes, storage: &Storage) -> Placed {
        let length = piece.len();
        let fits = self.keeps(length);
        let is_next = self.file.is_none() && self.back.is_empty() && !self.is_writing;
        if fits && is_next && (self.front.is_empty() || length >= WORTH_KEEPING) {
            self.front.push_back(piece.clone());
            return Placed::Kept;
        }
        if !fits {
            return self.place_in_file(piece, storage);
        }
        self.back.extend_from_slice(piece);
        if self.back.len() >= BATCH.min(self.limit / 4) {
            let has_room = self.memory.size() + BATCH.min(self.limit / 4) as u64 <= self.limit as u64;
            if self.file.is_none() && has_room {
                self.front.push_back(std::mem::take(&mut self.back).into());
            } else if self.take_disk(self.back.len(), storage) {
                return Placed::ForFile(std::mem::take(&mut self.back));
            }
        }
        Placed::Kept
    }

    /// Places a piece for which there is no memory.
    fn place_in_file(&mut self, piece: &Bytes, storage: &Storage) -> Placed {
        if self.take_disk(self.back.len() + piece.len(), storage) {
            let mut batch = std::mem::take(&mut self.back);
            batch.extend_from_slice(piece);
            return Placed::ForFile(batch);
        }
        if !self.is_empty() {
            return Placed::NoRoom;
        }
        // It is in hand already; the next one waits until this one is taken.
        self.memory.grow_anyway(piece.len() as u64);
        self.front.push_back(piece.clone());
        Placed::Kept
    }

    fn take_disk(&mut self, bytes: usize, storage: &Storage) -> bool {
        self.has_disk && storage.take_disk(&mut self.disk, bytes as u64)
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Gives memory back, but not what is still held.
    fn recount(&mut self) {
        let held = self.held();
        self.memory.shrink(self.memory.size().saturating_sub(held));
    }

    fn held(&self) -> u64 {
        self.front.iter().map(Bytes::len).sum::<usize>() as u64 + self.back.len() as u64 + self.in_hand
    }

    /// The reader wants another piece, and so is done with the last one.
    fn put_down(&mut self) {
        match std::mem::take(&mut self.in_hand) {
            0 => {}
            length => {
                self.memory.shrink(length);
                self.wake_writer();
            }
        }
    }
}

/// The end into which the application's answer goes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    storage: Arc<Storage>,
    /// The file, open to be written.
    file: Option<File>,
}

impl Writer {
    /// Adds the first piece, if there is memory for it now.
    pub(super) fn begin(&mut self, piece: &Bytes) -> bool {
        let mut state = self.shared.lock();
        let fits = state.keeps(piece.len());
        if fits {
            state.front.push_back(piece.clone());
        }
        fits
    }

    /// Adds a piece; waits while there is room for it nowhere.
    pub(super) async fn write(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        let placed = poll_fn(|cx| {
            let mut state = self.shared.lock();
            match state.place(&piece, &self.storage) {
                Placed::NoRoom => {
                    state.writer = Some(cx.waker().clone());
                    Poll::Pending
                }
                Placed::Kept => {
                    state.wake_reader();
                    Poll::Ready(None)
                }
                Placed::ForFile(batch) => {
                    state.is_writing = true;
                    Poll::Ready(Some(batch))
                }
            }
        });
        if let Some(batch) = placed.await {
            self.write_out(batch).await;
        }
    }

    /// The body has ended, or broken off. What came before is still read.
    pub(super) fn end(self, end: Result<(), BodyError>) {
        let mut state = self.shared.lock();
        state.end = Some(end);
        state.wake_reader();
    }

    /// Moves a batch to the file. If that fails, it stays in memory, and no other is tried: the answer goes on at the
    /// pace of its client.
    async fn write_out(&mut self, batch: Vec<u8>) {
        let (length, batch) = (batch.len() as u64, Bytes::from(batch));
        let result = self.append(batch.clone()).await;
        let mut state = self.shared.lock();
        state.is_writing = false;
        match result {
            Ok(fresh) => {
                match &mut state.file {
                    Some(file) => file.written += length,
                    none => *none = Some(Filed { file: fresh, written: length, read: 0 }),
                }
                state.recount();
            }
            Err(error) => {
                static UNHELD: Seldom = Seldom::new();
                if let Some(untold) = UNHELD.note(std::time::Instant::now()) {
                    warn!(%error, untold, "an answer cannot be held in a file for its client ([upstream] buffer_directory)");
                }
                state.has_disk = false;
                state.disk.shrink(length);
                state.back = batch.into();
                let lacking = state.held().saturating_sub(state.memory.size());
                state.memory.grow_anyway(lacking);
            }
        }
        state.wake_reader();
    }

    /// Writes behind what the file has; a fresh one is opened for the reader too.
    async fn append(&mut self, batch: Bytes) -> io::Result<Option<File>> {
        let offset = self.shared.lock().file.as_ref().map(|file| file.written);
        let (file, offset, fresh) = match (self.file.take(), offset) {
            (Some(file), Some(offset)) => (file, offset, None),
            _ => {
                let (file, again) = self.storage.file().await?;
                (file, 0, Some(again))
            }
        };
        self.file = Some(storage::write(file, offset, vec![batch]).await?);
        Ok(fresh)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.end.get_or_insert_with(|| Err("the answer was given up".into()));
        state.wake_reader();
    }
}

/// The end from which the client's connection takes.
pub(super) struct Reader {
    shared: Arc<Shared>,
    /// The part of the file that is known to be written.
    slice: Option<FileSlice>,
    /// How much of an announced length is still to come.
    remaining: Option<u64>,
    /// Why the answer broke off, to be told when what came before has been sent.
    failed: Option<BodyError>,
    has_failed: bool,
}

impl Reader {
    /// Whether it has all that came, and more may come.
    pub(super) fn has_all(&self) -> bool {
        let state = self.shared.lock();
        state.is_empty() && state.end.is_none()
    }

    /// Counts a piece that comes to the client on another way, behind all that came on this one.
    pub(super) fn pass(&mut self, length: usize) {
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(length as u64));
        let mut state = self.shared.lock();
        state.in_hand = length as u64;
        state.memory.grow_anyway(length as u64);
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let mut guard = self.shared.lock();
            let state = &mut *guard;
            state.put_down();
            if let Some(piece) = state.front.pop_front() {
                state.in_hand = piece.len() as u64;
                state.wake_writer();
                return Poll::Ready(Some(Ok(piece)));
            }
            match &mut state.file {
                Some(file) if file.read < file.written => {
                    let slice = self.slice.get_or_insert_with(|| {
                        let file = file.file.take().expect("it is opened for the reader");
                        // Its pieces are not counted.
                        FileSlice::new(file, 0..0).in_small_pieces()
                    });
                    slice.extend_to(file.written);
                    drop(guard);
                    return self.poll_file(cx);
                }
                Some(_) if !state.is_writing => {
                    // The client has caught up; the next that must wait begins anew.
                    state.file = None;
                    self.slice = None;
                    state.disk.shrink(state.disk.size());
                    state.wake_writer();
                    continue;
                }
                None if !state.is_writing && !state.back.is_empty() => {
                    let back = std::mem::take(&mut state.back);
                    state.front.push_back(back.into());
                    continue;
                }
                _ => {}
            }
            if state.is_writing || state.end.is_none() {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            return match state.end.replace(Ok(())) {
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                _ => Poll::Ready(None),
            };
        }
    }

    fn poll_file(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(slice) = &mut self.slice else { return Poll::Ready(None) };
        let piece = ready!(slice.poll_piece(cx))?;
        let mut state = self.shared.lock();
        if let Some(file) = &mut state.file {
            file.read += piece.len() as u64;
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(error) = this.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(this.poll_piece(cx)) {
            Some(Ok(piece)) => {
                this.remaining = this.remaining.map(|remaining| remaining.saturating_sub(piece.len() as u64));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Some(Err(error)) => {
                // An error ends the client's connection, and with it what is not sent yet, which may be the head and
                // all that came of the body; a pause lets that go first.
                this.failed = Some(error);
                this.has_failed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.has_failed || self.remaining == Some(0) {
            return !self.has_failed;
        }
        let state = self.shared.lock();
        state.is_empty() && matches!(state.end, Some(Ok(())))
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map(SizeHint::with_exact).unwrap_or_default()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamConfig;
    use crate::config::values::ByteSize;
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    fn storage(limit: u64, memory: u64, disk: u64) -> Arc<Storage> {
        let (_, answers) = Storage::both(&UpstreamConfig {
            response_buffer: ByteSize(limit),
            response_buffer_memory: ByteSize(memory),
            // Answers take half.
            buffer_disk: ByteSize(disk * 2),
            ..UpstreamConfig::default()
        });
        answers
    }

    fn piece(from: usize, length: usize) -> Bytes {
        (from..from + length).map(|n| (n % 251) as u8).collect::<Vec<_>>().into()
    }

    #[tokio::test]
    async fn a_client_that_takes_everything_gets_each_piece_as_it_came() {
        let storage = storage(100, 100, 0);
        let (mut writer, mut reader) = spool(&storage, None);
        for text in ["one", "two"] {
            writer.write(Bytes::from_static(text.as_bytes())).await;
            assert_eq!(reader.frame().await.unwrap().unwrap().into_data().unwrap(), text);
            assert!(reader.frame().now_or_never().is_none(), "the next has not come");
            assert_eq!(storage.memory.taken(), 0);
        }
        writer.end(Ok(()));
        assert!(reader.is_end_stream() && reader.frame().await.is_none());
    }

    #[tokio::test]
    async fn what_the_client_is_taking_is_counted_until_it_asks_for_more() {
        let storage = storage(100, 100, 0);
        let (mut writer, mut reader) = spool(&storage, None);
        for length in [30, 20] {
            writer.write(piece(0, length)).await;
        }
        // Those that are small go on together.
        let mut held = 50;
        for length in [30, 20] {
            assert_eq!(reader.frame().await.unwrap().unwrap().into_data().unwrap().len(), length);
            assert_eq!(storage.memory.taken(), held);
            held -= length as u64;
        }
        drop((writer, reader));
        assert_eq!(storage.memory.taken(), 0);
    }

    #[tokio::test]
    async fn the_writer_is_done_before_the_reader_has_begun_if_memory_and_disk_suffice() {
        for (limit, disk) in [(2_000_000, 0), (300_000, 2_000_000), (1, 2_000_000)] {
            let storage = storage(limit, limit, disk);
            let (mut writer, reader) = spool(&storage, None);
            for n in 0..100 {
                writer.write(piece(n * 10_007, 10_007)).await;
                assert!(storage.memory.taken() <= limit);
            }
            writer.end(Ok(()));
            assert!(reader.collect().await.unwrap().to_bytes() == piece(0, 1_000_700), "for {limit} and {disk}");
            assert_eq!((storage.memory.taken(), storage.disk_taken()), (0, 0));
        }
    }

    #[tokio::test]
    async fn without_room_the_writer_waits_for_the_reader_a_piece_at_a_time() {
        let storage = storage(1, 1, 0);
        let (mut writer, mut reader) = spool(&storage, None);
        writer.write(piece(0, 10)).await;
        {
            let mut next = std::pin::pin!(writer.write(piece(10, 10)));
            assert!(next.as_mut().now_or_never().is_none());
            assert_eq!(reader.frame().await.unwrap().unwrap().into_data().unwrap(), piece(0, 10));
            next.await;
        }
        assert_eq!(reader.frame().await.unwrap().unwrap().into_data().unwrap(), piece(10, 10));
        assert!(reader.frame().now_or_never().is_none(), "nothing has come since");
        assert_eq!(storage.memory.taken(), 0);
    }

    #[tokio::test]
    async fn a_folder_that_takes_no_files_makes_the_writer_wait_and_loses_nothing() {
        let (_, storage) = Storage::both(&UpstreamConfig {
            response_buffer: ByteSize(5),
            buffer_directory: Some("/no/such/folder".into()),
            ..UpstreamConfig::default()
        });
        let (mut writer, reader) = spool(&storage, None);
        let writing = async move {
            for n in 0..10 {
                writer.write(piece(n * 10, 10)).await;
            }
            writer.end(Ok(()));
        };
        let ((), read) = tokio::join!(writing, reader.collect());
        assert_eq!(read.unwrap().to_bytes(), piece(0, 100));
        assert_eq!((storage.memory.taken(), storage.disk_taken()), (0, 0));
    }

    #[tokio::test]
    async fn what_breaks_off_is_never_an_end_whoever_gave_up() {
        for length in [None, Some(6)] {
            for is_told in [true, false] {
                let (mut writer, mut reader) = spool(&storage(100, 100, 0), length);
                writer.write(piece(0, 3)).await;
                if is_told {
                    writer.end(Err("cut".into()));
                } else {
                    drop(writer);
                }
                assert_eq!(reader.frame().await.unwrap().unwrap().into_data().unwrap(), piece(0, 3));
                assert!(!reader.is_end_stream());
                assert!(reader.frame().await.unwrap().is_err());
                assert!(!reader.is_end_stream(), "nor is it one afterwards");
            }
        }
    }

    #[tokio::test]
    async fn an_announced_length_is_the_end_without_a_further_question() {
        let (mut writer, mut reader) = spool(&storage(100, 100, 0), Some(3));
        assert_eq!(reader.size_hint().exact(), Some(3));
        writer.write(piece(0, 3)).await;
        reader.frame().await.unwrap().unwrap();
        assert!(reader.is_end_stream());
    }

    #[tokio::test]
    async fn who_reads_no_more_gives_everything_back() {
        let storage = storage(100, 100, 10_000);
        let (mut writer, reader) = spool(&storage, None);
        for n in 0..50 {
            writer.write(piece(n * 100, 100)).await;
        }
        assert!(storage.disk_taken() > 0);
        drop((writer, reader));
        assert_eq!((storage.memory.taken(), storage.disk_taken()), (0, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..Default::default() })]

        /// Each step of the reader is how many pieces it takes and for how many turns it then does nothing.
        #[test]
        fn whatever_the_pieces_the_bounds_and_the_pace_what_comes_out_is_what_went_in(
            lengths in prop::collection::vec(0usize..3000, 0..60),
            pace in prop::collection::vec((1usize..8, 0usize..30), 1..20),
            limit in 1u64..8000, memory in 0u64..12_000, disk in prop_oneof![Just(0u64), 1u64..40_000],
            others in 0u64..12_000, announces: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let storage = storage(limit, memory, disk);
                let mut taken_by_others = storage.memory.share();
                let others = if taken_by_others.grow(others) { others } else { 0 };
                let total = lengths.iter().sum::<usize>();
                let (mut writer, mut reader) = spool(&storage, announces.then_some(total as u64));
                let writing = tokio::spawn(async move {
                    let mut at = 0;
                    for length in lengths {
                        writer.write(piece(at, length)).await;
                        at += length;
                    }
                    writer.end(Ok(()));
                });
                let mut read = Vec::new();
                let mut paces = pace.into_iter().cycle();
                'reading: loop {
                    let (pieces, turns) = paces.next().unwrap();
                    for _ in 0..pieces {
                        if announces && reader.is_end_stream() {
                            break 'reading;
                        }
                        let Some(frame) = reader.frame().await else { break 'reading };
                        read.extend_from_slice(&frame.unwrap().into_data().unwrap());
                        assert!(storage.memory.taken() <= memory.max(others) + 3000, "a piece in hand at most");
                        assert!(storage.disk_taken() <= disk);
                    }
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                }
                assert!(reader.is_end_stream() && read == piece(0, total));
                writing.await.unwrap();
                drop(reader);
                assert_eq!((storage.memory.taken(), storage.disk_taken()), (others, 0));
            });
        }
    }
}
