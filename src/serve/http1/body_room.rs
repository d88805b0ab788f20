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

    /// Goes on with an empty room for so many bytes. What was read before must have been handed on. For more than half of
    /// [`shared_room::SIZE`] it is a shared one, which has that size, as long as there are any.
    pub(super) fn renew(&mut self, size: usize) {
        debug_assert_eq!(self.filled(), 0, "it would be lost");
        if let Self::Shared(_) = self {
            // It comes free first: it may be the next one, and is in the cache.
            *self = Self::none();
        }
        match (size > shared_room::SIZE / 2).then(SharedRoom::take).flatten() {
            Some(room) => *self = Self::Shared(room),
            None => {
                if let Self::Own(room) = self {
                    room::clear(room, size);
                }
            }
        }
    }

    /// Adds what was read elsewhere. There must be place for it.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.left(), "there must be place for it");
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

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;

    use super::*;

    /// A room for so many bytes, to which two are added, and into which two of six are read.
    fn read(room: &mut BodyRoom, size: usize) -> Bytes {
        room.renew(size);
        assert!(room.filled() == 0 && room.left() >= size);
        room.add(b"ab");
        let mut stream = &b"cdefgh"[..];
        let mut poll = |room: &mut BodyRoom| {
            let read = room.poll_read(&mut stream, &mut Context::from_waker(noop_waker_ref()), 2);
            assert!(matches!(read, Poll::Ready(Ok(2))));
        };
        poll(room);
        let left = room.left();
        let first = room.split();
        poll(room);
        assert_eq!((room.filled(), room.left()), (2, left - 2));
        assert_eq!((first, room.split()), ("abcd".into(), "ef".into()));
        room.split()
    }

    #[test]
    fn a_room_is_shared_if_it_is_large_and_one_is_left() {
        let _alone = shared_room::ALONE.blocking_lock();
        shared_room::prepare();
        let mut room = BodyRoom::none();
        assert_eq!((room.filled(), room.left()), (0, 0));
        for (size, is_shared) in [(100, false), (shared_room::SIZE / 2, false), (shared_room::SIZE / 2 + 1, true)] {
            read(&mut room, size);
            assert_eq!(matches!(room, BodyRoom::Shared(_)), is_shared && cfg!(target_os = "linux"), "{size}");
        }
        let others: Vec<_> = std::iter::from_fn(SharedRoom::take).collect();
        if let BodyRoom::Shared(shared) = &mut room {
            // Somebody holds a piece of the last one.
            shared.advance(1);
            let piece = shared.split();
            read(&mut room, shared_room::SIZE);
            assert!(matches!(room, BodyRoom::Own(_)), "none is left");
            drop(piece);
        }
        drop(others);
        read(&mut room, shared_room::SIZE);
        assert_eq!(matches!(room, BodyRoom::Shared(_)), cfg!(target_os = "linux"));
    }
}
