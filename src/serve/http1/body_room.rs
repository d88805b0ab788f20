//! Where a body is read that comes fast.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::http::room;
use crate::upstream::shared_room::{self, SharedRoom};

/// Memory to read into, which is not used again while somebody holds what was read.
#[derive(Debug)]
pub(super) enum BodyRoom {
    Own(BytesMut),
    /// From here the system can send it to the application by itself.
    Shared(SharedRoom),
}

impl BodyRoom {
    /// No room at all.
    pub(super) fn none() -> Self {
        Self::Own(BytesMut::new())
    }

    /// How much was read and is not handed on.
    pub(super) fn filled(&self) -> usize {
        match self {
            Self::Own(room) => room.len(),
            Self::Shared(room) => room.filled(),
        }
    }

    /// How much more there is place for.
    pub(super) fn left(&self) -> usize {
        match self {
            Self::Own(room) => room.capacity() - room.len(),
            Self::Shared(room) => room.left(),
        }
    }

    /// Makes a room for so much of it; what was read is handed on. One that is shared is always as large as they are.
    pub(super) fn renew(&mut self, size: usize) {
        let shared = if size > shared_room::SIZE / 2 { SharedRoom::take() } else { None };
        match (shared, &mut *self) {
            (Some(shared), _) => *self = Self::Shared(shared),
            (None, Self::Own(room)) => room::clear(room, size),
            (None, Self::Shared(_)) => {
                let mut own = BytesMut::new();
                room::clear(&mut own, size);
                *self = Self::Own(own);
            }
        }
    }

    /// Adds what was read elsewhere. There must be place for it.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Own(room) => room.extend_from_slice(bytes),
            Self::Shared(room) => {
                room.spare()[..bytes.len()].copy_from_slice(bytes);
                room.advance(bytes.len());
            }
        }
    }

    /// Reads so much at most, for which there must be place. How much it was.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Own(room) => poll_read_buf(Pin::new(stream), cx, &mut room.limit(most)),
            Self::Shared(room) => {
                let mut read = ReadBuf::new(&mut room.spare()[..most]);
                ready!(Pin::new(stream).poll_read(cx, &mut read))?;
                let length = read.filled().len();
                room.advance(length);
                Poll::Ready(Ok(length))
            }
        }
    }

    /// Hands on what was read.
    pub(super) fn split(&mut self) -> Bytes {
        match self {
            Self::Own(room) => room.split().freeze(),
            Self::Shared(room) => room.split(),
        }
    }
}
