//! The one body type, for requests and responses alike.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use fs_err::File;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::task::{JoinHandle, spawn_blocking};

/// Why a body ended early. The access log prints it; the client sees a cut connection.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// A request's or a response's body.
///
/// Static answers are `Empty` or `Full` and cost no allocation; only what really streams is boxed.
#[derive(Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// One piece that is in memory already.
    Full(Bytes),
    /// A part of a file, read piece by piece.
    File(FileSlice),
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

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::File(slice) => match ready!(slice.poll_piece(cx)) {
                Ok(piece) if piece.is_empty() => Poll::Ready(None),
                Ok(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                Err(error) => Poll::Ready(Some(Err(error.into()))),
            },
            Self::Stream(stream) => Pin::new(stream).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::File(slice) => slice.remaining == 0,
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::File(slice) => SizeHint::with_exact(slice.remaining),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// How much of a file one trip to the blocking pool reads: large enough that the trip's cost
/// vanishes beside the copy, small enough that a slow client holds little memory.
const PIECE: u64 = 256 * 1024;

/// A part of an open file that is sent piece by piece, at most one piece ahead of the client.
#[derive(Debug)]
pub struct FileSlice {
    state: ReadState,
    remaining: u64,
}

#[derive(Debug)]
enum ReadState {
    Idle(Option<File>),
    Reading(JoinHandle<(File, io::Result<BytesMut>)>),
}

impl FileSlice {
    /// `length` bytes of `file` from where it stands now.
    pub fn new(file: File, length: u64) -> Self {
        Self { state: ReadState::Idle(Some(file)), remaining: length }
    }

    /// The next piece; empty at the end. A file that is shorter than promised is an error, so that
    /// the connection is cut and no client takes half a file for a whole one.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            match &mut self.state {
                ReadState::Idle(_) if self.remaining == 0 => return Poll::Ready(Ok(Bytes::new())),
                ReadState::Idle(file) => {
                    let Some(file) = file.take() else {
                        return Poll::Ready(Err(io::Error::other("a read of this file failed before")));
                    };
                    let length = self.remaining.min(PIECE);
                    self.state = ReadState::Reading(spawn_blocking(move || read_piece(file, length)));
                }
                ReadState::Reading(task) => {
                    let read = ready!(Pin::new(task).poll(cx));
                    // A finished task must not be polled again, whatever comes of it.
                    self.state = ReadState::Idle(None);
                    let (file, piece) = read.map_err(io::Error::other)?;
                    let piece = piece?.freeze();
                    self.state = ReadState::Idle(Some(file));
                    self.remaining -= piece.len() as u64;
                    return Poll::Ready(Ok(piece));
                }
            }
        }
    }
}

fn read_piece(mut file: File, length: u64) -> (File, io::Result<BytesMut>) {
    use std::io::Read as _;
    let mut piece = BytesMut::zeroed(usize::try_from(length).expect("a piece fits in memory"));
    let read = file.read_exact(&mut piece).map(|()| piece);
    (file, read)
}
