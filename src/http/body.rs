//! The one body type, for requests and responses alike.

use std::error::Error;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use fs_err::File;
use fs_err::os::unix::fs::FileExt as _;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::task::{JoinHandle, spawn_blocking};

use super::room;

/// Why a body ended early. The access log prints it; the client sees a cut connection.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// Why a request's body was given up that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlowBody {
    /// Nothing came for too long.
    #[error("the client paused for too long within its request's body")]
    Paused,
    /// Too little came, on average.
    #[error("the client sent its request's body too slowly")]
    BelowRate,
}

/// A request's or a response's body.
///
/// Static answers are `Empty`, `Full` or `Placed` and cost no allocation; only what really streams is boxed.
#[derive(Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// One piece that is in memory already.
    Full(Bytes),
    /// The same, and where the system has it too.
    Placed(Bytes, Place),
    /// A part of a file, read piece by piece.
    File(FileSlice),
    /// Parts of one file or of what is in memory, with something between them.
    Pieces(Box<Pieces>),
    /// Frames from somewhere else: the client, or the application.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// Wraps any other body.
    pub fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        Self::Stream(body.map_err(Into::into).boxed_unsync())
    }

    /// One piece that is in memory, and a place where the system has the same bytes. For a short one the place is
    /// forgotten.
    pub fn placed(bytes: Bytes, place: Place) -> Self {
        if bytes.len() < WORTH_A_PLACE { bytes.into() } else { Self::Placed(bytes, place) }
    }

    /// Where the system has the piece that comes next.
    pub fn place(&self) -> Option<&Place> {
        if let Self::Placed(_, place) = self { Some(place) } else { None }
    }

    /// Reads less of a file at once, where a piece may have to wait and many others with it.
    pub fn in_small_pieces(&mut self) {
        match self {
            Self::File(slice) => slice.most = SMALL_PIECE,
            Self::Pieces(pieces) => pieces.file.iter_mut().for_each(|slice| slice.most = SMALL_PIECE),
            Self::Empty | Self::Full(_) | Self::Placed(..) | Self::Stream(_) => {}
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) | Self::Placed(bytes, _) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::File(slice) => match ready!(slice.poll_piece(cx)) {
                Ok(piece) if piece.is_empty() => Poll::Ready(None),
                Ok(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                Err(error) => Poll::Ready(Some(Err(error.into()))),
            },
            Self::Pieces(pieces) => pieces.poll_next(cx).map_ok(Frame::data).map_err(BodyError::from),
            Self::Stream(stream) => Pin::new(stream).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) | Self::Placed(..) => false,
            Self::File(slice) => slice.remaining() == 0,
            Self::Pieces(pieces) => pieces.remaining == 0,
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) | Self::Placed(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            Self::File(slice) => SizeHint::with_exact(slice.remaining()),
            Self::Pieces(pieces) => SizeHint::with_exact(pieces.remaining),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// From which length on a place is used. A shorter piece is copied faster than the system is asked twice.
pub const WORTH_A_PLACE: usize = 64 * 1024;

/// Where bytes in memory lie in a file as well, which is in memory too and never changes: from there the system can
/// send them without a copy.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file, which has no name.
    pub file: Arc<OwnedFd>,
    /// Where in it they begin.
    pub offset: u64,
}

impl Place {
    /// The place of what comes so many bytes behind.
    pub fn behind(&self, bytes: u64) -> Self {
        Self { file: Arc::clone(&self.file), offset: self.offset + bytes }
    }
}

/// One piece of a body that is made of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// In memory already.
    Ready(Bytes),
    /// These bytes of the file.
    OfFile(Range<u64>),
}

/// What is sent piece after piece. All pieces of a file are read from one that was opened once, so an answer
/// has one descriptor, however many parts it has, and all of them come from the same file.
#[derive(Debug)]
pub struct Pieces {
    queue: std::vec::IntoIter<Piece>,
    file: Option<FileSlice>,
    remaining: u64,
}

impl Pieces {
    /// These pieces, those of a file from that of `file`, whatever part of it that is.
    pub fn new(pieces: Vec<Piece>, file: Option<FileSlice>) -> Self {
        let length = |piece: &Piece| match piece {
            Piece::Ready(bytes) => bytes.len() as u64,
            Piece::OfFile(part) => part.end - part.start,
        };
        let remaining = pieces.iter().map(length).sum();
        Self { queue: pieces.into_iter(), file: file.map(|file| FileSlice { part: 0..0, ..file }), remaining }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(slice) = self.file.as_mut().filter(|slice| slice.remaining() > 0) {
                let piece = ready!(slice.poll_piece(cx))?;
                self.remaining -= piece.len() as u64;
                return Poll::Ready(Some(Ok(piece)));
            }
            match (self.queue.next(), &mut self.file) {
                (None, _) => return Poll::Ready(None),
                (Some(Piece::Ready(bytes)), _) => {
                    self.remaining -= bytes.len() as u64;
                    return Poll::Ready(Some(Ok(bytes)));
                }
                // The slice before is read to its end, so nothing is under way in it.
                (Some(Piece::OfFile(part)), Some(slice)) => slice.part = part,
                (Some(Piece::OfFile(_)), None) => {
                    return Poll::Ready(Some(Err(io::Error::other("a piece of a file without a file"))));
                }
            }
        }
    }
}

/// How much of a file is read at once: large enough that the system call vanishes beside the copy,
/// small enough that the piece is still in the processor's cache when it is written to the socket.
const PIECE: u64 = 128 * 1024;

/// How much where pieces may have to wait: a frame of HTTP/2. What is not in the page cache the system reads ahead.
const SMALL_PIECE: u64 = 16 * 1024;

/// A part of an open file that is sent piece by piece, at most one piece ahead of the client.
///
/// What the page cache holds is read where it is asked for: the copy takes some microseconds, a trip to
/// the blocking pool and back costs more than that. Only a read that would wait for the disk makes
/// the trip. With one for every piece, a file of 8 MB took 2.5 times the CPU time.
#[derive(Debug)]
pub struct FileSlice {
    state: ReadState,
    part: Range<u64>,
    /// How much is read at once.
    most: u64,
    modified: Option<SystemTime>,
}

#[derive(Debug)]
enum ReadState {
    /// The file, and a buffer that is used again once the piece before it has been sent.
    Idle(File, BytesMut),
    Reading(JoinHandle<(File, io::Result<BytesMut>)>),
    Failed,
}

impl FileSlice {
    /// These bytes of `file`.
    pub fn new(file: File, part: Range<u64>) -> Self {
        Self { state: ReadState::Idle(file, BytesMut::new()), part, most: PIECE, modified: None }
    }

    /// The same, for a file that was last modified then, and is to be so still when its last piece is read: if
    /// somebody writes into it meanwhile, the answer is cut off, so that no client takes a mixture of two files
    /// for one.
    pub fn unchanged_since(self, modified: SystemTime) -> Self {
        Self { modified: Some(modified), ..self }
    }

    /// The same, read as by [`Body::in_small_pieces`].
    pub fn in_small_pieces(self) -> Self {
        Self { most: SMALL_PIECE, ..self }
    }

    /// Makes the part longer, when more has been written to the file. It never gets shorter.
    pub fn extend_to(&mut self, end: u64) {
        self.part.end = self.part.end.max(end);
    }

    fn remaining(&self) -> u64 {
        self.part.end - self.part.start
    }

    /// The next piece; empty at the end. A file that is shorter than promised is an error, so that
    /// the connection is cut and no client takes half a file for a whole one.
    ///
    /// # Errors
    /// When the file cannot be read, is shorter than that, or was written to; and for good from then on.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.remaining() == 0 {
            return Poll::Ready(Ok(Bytes::new()));
        }
        // Whatever fails below leaves nothing that could be read on.
        let (file, piece) = match std::mem::replace(&mut self.state, ReadState::Failed) {
            ReadState::Failed => return Poll::Ready(Err(io::Error::other("a read of this file failed before"))),
            ReadState::Reading(task) => return self.poll_trip(task, cx),
            ReadState::Idle(file, mut buffer) => {
                let length = usize::try_from(self.remaining().min(self.most)).expect("a piece fits in memory");
                room::clear(&mut buffer, length);
                buffer.resize(length, 0);
                match read_cached(&file, &mut buffer, self.part.start) {
                    Some(read) => {
                        buffer.truncate(read?);
                        (file, buffer)
                    }
                    None => {
                        let offset = self.part.start;
                        let task = spawn_blocking(move || {
                            let read = file.read_exact_at(&mut buffer, offset).map(|()| buffer);
                            (file, read)
                        });
                        return self.poll_trip(task, cx);
                    }
                }
            }
        };
        Poll::Ready(self.take_piece(file, piece))
    }

    fn poll_trip(
        &mut self,
        mut task: JoinHandle<(File, io::Result<BytesMut>)>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Bytes>> {
        let Poll::Ready(read) = Pin::new(&mut task).poll(cx) else {
            self.state = ReadState::Reading(task);
            return Poll::Pending;
        };
        let (file, piece) = read.map_err(io::Error::other)?;
        Poll::Ready(self.take_piece(file, piece?))
    }

    fn take_piece(&mut self, file: File, mut buffer: BytesMut) -> io::Result<Bytes> {
        let piece = buffer.split().freeze();
        if piece.len() as u64 == self.remaining()
            && let Some(modified) = self.modified
            && file.metadata()?.modified()? != modified
        {
            return Err(io::Error::other(format!("{} was written to while it was sent", file.path().display())));
        }
        self.part.start += piece.len() as u64;
        self.state = ReadState::Idle(file, buffer);
        Ok(piece)
    }
}

/// Reads what the page cache holds; `None` when that is nothing, or when the system cannot tell.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> Option<io::Result<usize>> {
    use rustix::io::{ReadWriteFlags, preadv2};
    match preadv2(file, &mut [io::IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
        Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        Ok(read) => Some(Ok(read)),
        Err(_) => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_file: &File, _buffer: &mut [u8], _offset: u64) -> Option<io::Result<usize>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(file: File, part: Range<u64>) -> Result<Bytes, BodyError> {
        Ok(Body::File(FileSlice::new(file, part)).collect().await?.to_bytes())
    }

    fn file(bytes: &[u8]) -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        fs_err::write(&path, bytes).expect("a file");
        let file = File::open(path).expect("the file");
        (folder, file)
    }

    #[tokio::test]
    async fn a_slice_is_exactly_its_bytes() {
        let piece = usize::try_from(PIECE).expect("a piece fits in memory");
        let bytes: Vec<u8> = (0..3 * piece + 1).map(|n| (n % 251) as u8).collect();
        for part in [0..0, 0..1, 5..piece, piece - 1..piece + 1, 7..2 * piece + 7, 0..bytes.len()] {
            let (_folder, file) = file(&bytes);
            let read = read(file, part.start as u64..part.end as u64).await.expect("a whole slice");
            assert!(read == bytes[part.clone()], "for {part:?}");
        }
    }

    #[tokio::test]
    async fn pieces_come_in_their_order_from_wherever_they_are() {
        let piece = usize::try_from(PIECE).expect("a piece fits in memory");
        let bytes: Vec<u8> = (0..2 * piece).map(|n| (n % 251) as u8).collect();
        let (_folder, file) = file(&bytes);
        let between = |text: &'static str| Piece::Ready(Bytes::from_static(text.as_bytes()));
        let parts = [5..piece + 5, 0..1, 2 * piece - 1..2 * piece];
        let of_file = |part: &Range<usize>| Piece::OfFile(part.start as u64..part.end as u64);
        let pieces =
            vec![between("a"), of_file(&parts[0]), between("b"), of_file(&parts[1]), of_file(&parts[2]), between("c")];
        let mut body = Body::Pieces(Box::new(Pieces::new(pieces, Some(FileSlice::new(file, 0..0)))));
        let expected = [b"a", &bytes[5..piece + 5], b"b", &bytes[..1], &bytes[2 * piece - 1..], b"c"].concat();
        let mut read = Vec::new();
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some((expected.len() - read.len()) as u64));
            read.extend(body.frame().await.expect("more").expect("a piece").into_data().expect("data"));
        }
        assert!(read == expected);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_for_one_of_its_pieces_is_an_error_for_good() {
        let (_folder, file) = file(b"short");
        let pieces = vec![Piece::OfFile(0..2), Piece::OfFile(4..8), Piece::Ready(Bytes::from_static(b"end"))];
        let mut body = Body::Pieces(Box::new(Pieces::new(pieces, Some(FileSlice::new(file, 0..0)))));
        assert_eq!(body.frame().await.expect("a frame").expect("a piece").into_data().expect("data"), "sh");
        assert_eq!(body.frame().await.expect("a frame").expect("a piece").into_data().expect("data"), "t");
        for _ in 0..2 {
            assert!(body.frame().await.expect("a frame").is_err());
        }
    }

    #[tokio::test]
    async fn pieces_that_are_kept_are_not_written_over() {
        let piece = usize::try_from(PIECE).expect("a piece fits in memory");
        let (_folder, file) = file(&[vec![1; piece], vec![2; piece], vec![3; piece]].concat());
        let mut body = Body::File(FileSlice::new(file, 0..3 * PIECE));
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.push(frame.expect("a piece").into_data().expect("data"));
        }
        for (place, kept) in pieces.iter().enumerate() {
            assert!(kept.iter().all(|byte| usize::from(*byte) == place + 1), "piece {place}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error_for_good() {
        let (_folder, file) = file(b"short");
        let mut body = Body::File(FileSlice::new(file, 0..10));
        assert_eq!(body.frame().await.expect("a frame").expect("a piece").into_data().expect("data"), "short");
        for _ in 0..2 {
            assert!(body.frame().await.expect("a frame").is_err());
        }
    }

    /// Files of /proc have no page cache, so they take the way over the blocking pool.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_the_page_cache_does_not_hold_is_read_all_the_same() {
        let open = || File::open("/proc/version").expect("the kernel's version");
        assert!(read_cached(&open(), &mut [0; 5], 0).is_none());
        let version = fs_err::read("/proc/version").expect("the kernel's version");
        assert_eq!(read(open(), 2..9).await.expect("a slice"), version[2..9]);
        assert!(read(open(), 0..1_000_000).await.is_err(), "it is shorter than that");
    }
}
