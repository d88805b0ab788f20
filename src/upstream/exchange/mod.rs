//! One request and its answer on one connection.
//!
//! Whoever waits for something on the connection drives it: `sending` for the head of the answer, `received` for its
//! body. So a client that goes away takes its connection to the application with it, because nobody else holds it. There
//! are two exceptions, each with a task: `pump` reads an answer that did not come whole while the client's connection is
//! busy, and ends with the client; and `sending` sends the rest of an upload whose client has left.
//!
//! Why no client of a library: gunicorn's sync worker closes every connection, and hyper's makes for each of them what
//! only pays where it is kept; it does not tell in which phase a request failed, which the deadlines, the blame and the
//! decision to try again all need; it keeps the answers that come before the answer to itself; and it cannot speak
//! uwsgi. What is left to write is little, since the application is sent what was made up of values, one request at a
//! time: a head is read by `httparse`, as hyper reads it, and its end is decided in `framing`.

mod sending;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio_util::io::poll_read_buf;

use super::background::Background;
use super::connect::Socket;
use super::consumed;
use super::framing::{BadFraming, Framing, Taken};
use super::sent::Sent;
use crate::config::UpstreamConfig;
use crate::config::values::UpstreamProtocol;
use crate::http::room;

pub(super) use self::sending::{Asked, Deadlines, Unanswered};

/// How much is read at once: a little more than Linux lets lie in a unix socket as it comes (`net.core.wmem_default`), so
/// that one read takes all that is there. Each read is a call of the system and a turn of the runtime, and so is each
/// write of what it brought.
const READ: usize = 256 * 1024;
/// What fills less of it than this part is copied: it may be held for as long as its client reads, and all of the room
/// with it.
const FILLS_THE_ROOM: usize = READ / 2;

thread_local! {
    /// Where all connections of a thread read. While their clients keep up it is always the same memory, which stays in
    /// the processor's cache.
    static ROOM: RefCell<BytesMut> = RefCell::default();
}

/// A connection to the application that carries one request at a time.
#[derive(Debug)]
pub(super) struct Exchange {
    socket: Socket,
    sent: Sent,
    /// What the application has sent and nobody has taken.
    buffer: BytesMut,
    /// What is still to come of the answer's body.
    framing: Framing,
    /// The application has sent something since the request was begun.
    has_answered: bool,
    was_reset: bool,
    /// The application has closed it without an answer.
    is_closed: bool,
    /// Another request may follow this one.
    keeps_alive: bool,
    /// It has served a request before, so it may have been closed in the meantime.
    was_used: bool,
    /// The uwsgi protocol: one request a connection.
    speaks_uwsgi: bool,
    head_limit: usize,
    /// Why the application may hang up without a word.
    hint: Option<&'static str>,
    /// More may lie in it than the system allows by itself.
    is_wide: bool,
    /// What is to be finished although the client has gone.
    background: Background,
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("the connection was closed before the end of the body")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    BadFraming(#[from] BadFraming),
}

impl Exchange {
    /// A fresh connection. It goes through several hands, each of which has room for it.
    pub(super) fn new(
        socket: Socket,
        protocol: UpstreamProtocol,
        config: &UpstreamConfig,
        background: &Background,
    ) -> Box<Self> {
        let speaks_uwsgi = protocol == UpstreamProtocol::Uwsgi;
        Box::new(Self {
            socket,
            sent: Sent::nothing(),
            buffer: BytesMut::new(),
            framing: Framing::Ended,
            has_answered: false,
            was_reset: false,
            is_closed: false,
            keeps_alive: !speaks_uwsgi,
            was_used: false,
            speaks_uwsgi,
            head_limit: config.response_header_size.as_usize(),
            hint: None,
            is_wide: false,
            background: background.clone(),
        })
    }

    /// The next piece of the answer's body. What is left of the request is written meanwhile.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        self.poll_write(cx);
        loop {
            match self.framing.take(&mut self.buffer) {
                Ok(Taken::Piece(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(Taken::End) => return Poll::Ready(None),
                Ok(Taken::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if self.framing.end_with_connection() => {
                    self.keeps_alive = false;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(Cut::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// How long the answer's body is, if all of it is here.
    pub(super) fn whole(&self) -> Option<usize> {
        let length = usize::try_from(self.framing.remaining()?).ok()?;
        (self.sent.is_done() && length <= self.buffer.len()).then_some(length)
    }

    /// The answer's body, all of which is here.
    pub(super) fn take_whole(&mut self, length: usize) -> Bytes {
        self.framing = Framing::Ended;
        self.buffer.split_to(length).freeze()
    }

    /// Whether the answer's body has come to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.framing.has_ended()
    }

    /// How long what is left of the answer's body is, if that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.framing.remaining()
    }

    /// Whether another request may follow this one, as far as both sides have said.
    pub(super) fn is_reusable(&self) -> bool {
        self.keeps_alive && self.sent.is_done() && self.framing.has_ended() && self.buffer.is_empty()
    }

    /// Whether the connection is open and silent.
    pub(super) fn is_silent(&self) -> bool {
        // Whatever has come, if only the end, makes it useless: it is for nobody, and must not be taken for the answer to
        // the next request.
        matches!(self.peek(), Err(Errno::AGAIN))
    }

    /// How much has come, one byte at most; none is the end. The runtime knows of it late, that of another thread later
    /// still, so the system is asked.
    fn peek(&self) -> rustix::io::Result<usize> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(descriptor(&self.socket), &mut [0; 1], flags).map(|(length, _)| length)
    }

    /// Gives memory back that is not needed while it is idle.
    pub(super) fn shrink(&mut self) {
        self.buffer = BytesMut::new();
    }

    /// Lets go of what was sent in place: of all that was read, so that it can be used again, if the answer has ended as
    /// well, and of the rest.
    pub(super) fn let_go(&mut self) {
        if self.sent.has_outstanding()
            && self.sent.is_done()
            && self.has_ended()
            && let Socket::Left(socket) = &self.socket
            && consumed::is_consumed(socket) == Some(true)
        {
            self.sent.release_outstanding();
        }
        self.sent.forsake_outstanding();
    }

    /// Holds nothing of the request that is written, from here on.
    pub(super) fn hold_nothing(&mut self) {
        self.let_go();
        self.sent.copy_all();
    }

    /// The bare connection after 101, and what the application sent already of the new protocol.
    pub(super) fn into_upgraded(self) -> (Socket, Bytes) {
        (self.socket, self.buffer.freeze())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        if self.sent.poll_write(&mut self.socket, cx) == Poll::Ready(true) {
            self.was_reset = true;
        }
    }

    /// Reads what is there.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            // Even so it may hold the room.
            self.buffer = BytesMut::new();
        }
        ROOM.with_borrow_mut(|room| {
            room::clear(room, READ);
            let read = ready!(poll_read_buf(Pin::new(&mut self.socket), cx, room))?;
            if self.buffer.is_empty() && read >= FILLS_THE_ROOM {
                self.buffer = room.split();
            } else {
                self.buffer.extend_from_slice(room);
            }
            Poll::Ready(Ok(read))
        })
    }
}

fn descriptor(socket: &Socket) -> BorrowedFd<'_> {
    match socket {
        Socket::Left(socket) => socket.as_fd(),
        Socket::Right(socket) => socket.as_fd(),
    }
}
