//! The bytes of a request: which of them are written, and which come next.
//!
//! It keeps account of who is to move next, the client or the application, because the deadlines
//! depend on it: a slow client is no fault of the application's. It decides nothing about the head, waits for no answer,
//! and leaves to `exchange::sending` when the body may follow.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::Body as _;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::connect::Outlet;
use super::failure::ClientFault;
use super::gather::{Front, Gathered};
use super::pieces::Pieces;
use super::shared_room::{self, Outstanding};
use super::storage::Share;
use crate::http::body::{Body, BodyError};

/// Who is to move next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The application: it must read the head, which is all that it has been given, before the body follows.
    ReadingHead,
    /// The client, with the next piece of its body.
    Client,
    /// The application: it has been given a piece, and must take it. With the number of writes before, since each
    /// that it takes something of gives it new time.
    Reading(usize),
    /// The application: it has the whole request, and must answer.
    Answering,
    /// Nobody: the client's body broke off.
    Broken(ClientFault),
}

/// A request of so many bytes has been read whole when its head has been: the read that brings the head's end has room
/// for this much, and brings the body with it. uWSGI (unless its `buffer-size` is made smaller) reads 4,096 bytes at
/// once, gunicorn, waitress and Granian 8,192, those on asyncio 65,536 or more. Unit, with 2,048, waits for the whole
/// body before it does anything.
pub(super) const READ_AT_ONCE: usize = 4096;
/// How much is read ahead of a body that streams, while it is held back; the last piece of it may be as long again, or 256
/// KiB.
const AHEAD: usize = 64 * 1024;
/// How many pieces one write takes at most.
const MOST_SLICES: usize = 16;

/// A request that is being written.
#[derive(Debug)]
pub(super) struct Sent {
    /// What is to be written now: the head, then what there is of the body.
    ready: VecDeque<Bytes>,
    rest: Body,
    /// What of the body was gathered has this share of memory.
    memory: Option<Arc<Share>>,
    length: Length,
    /// How much of an announced length is still to come. Not every body knows its own end.
    remaining: Option<u64>,
    has_rest: bool,
    /// Only the client has what is still to come of the body.
    streams: bool,
    phase: Phase,
    /// The body has not been given yet.
    lacks_body: bool,
    head_length: usize,
    /// How often it was written, and how much.
    writes: usize,
    written: usize,
    /// The application reads no more.
    is_deaf: bool,
    /// What lies in shared rooms is sent from there.
    sends_in_place: bool,
    outstanding: Outstanding,
}

impl Sent {
    /// Nothing; nobody waits for anything.
    pub(super) fn nothing() -> Self {
        Self {
            ready: VecDeque::new(),
            rest: Body::Empty,
            memory: None,
            length: Length::None,
            remaining: None,
            has_rest: false,
            streams: false,
            phase: Phase::Client,
            lacks_body: false,
            head_length: 0,
            writes: 0,
            written: 0,
            is_deaf: false,
            sends_in_place: false,
            outstanding: Outstanding::default(),
        }
    }

    /// Begins with a request, with its head.
    pub(super) fn begin(&mut self, head: Bytes) {
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        *self = Self { ready, lacks_body: true, head_length: head.len(), phase: Phase::Reading(0), ..Self::nothing() };
        self.ready.push_back(head);
    }

    /// Goes on with its body. Of one that is all here large pieces may be sent in place: they, and the body's share of
    /// memory, are held until they are known to be read, or else until the exchange is over. Of one that streams that could
    /// be any number.
    pub(super) fn follow(&mut self, body: Outgoing) {
        self.sends_in_place = body.is_here();
        let Outgoing { length, content } = body;
        self.streams = content.as_ref().is_some_and(|content| content.streams);
        self.length = length;
        self.lacks_body = false;
        self.has_rest = length != Length::None;
        self.phase = Phase::Reading(self.writes);
        if let Length::Known(length) = length {
            self.remaining = Some(length);
        }
        if let Some(content) = content {
            let mut content = *content;
            (self.rest, self.memory) = (content.rest, content.front.memory);
            for piece in content.front.pieces.into_iter().chain(content.ahead.take()) {
                self.add(piece);
            }
            if length == Length::Chunked && !self.streams && self.rest.is_end_stream() {
                self.end_chunks();
            }
        }
    }

    /// Whether the head is written, and nothing else is to be done before the body comes.
    pub(super) fn awaits_body(&self) -> bool {
        self.lacks_body && self.ready.is_empty() && !self.is_deaf
    }

    /// Whether all of its head is written.
    pub(super) fn has_given_head(&self) -> bool {
        self.written >= self.head_length
    }

    /// Whether its head is written and some of its body is not, and no client is needed for that.
    pub(super) fn can_be_finished_alone(&self) -> bool {
        let has_all = !self.has_rest || self.remaining == Some(0);
        let lacks_some = !self.ready.is_empty() || !has_all;
        lacks_some && (has_all || !self.streams) && self.has_given_head() && !self.lacks_body && !self.is_deaf
    }

    /// Whether nobody reads it any more.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf
    }

    /// From here on all is copied.
    pub(super) fn copy_all(&mut self) {
        self.sends_in_place = false;
    }

    /// Whether pieces were sent in place, of which it is not known that they were read.
    pub(super) fn has_outstanding(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Lets go of what was sent in place: it was read.
    pub(super) fn release_outstanding(&mut self) {
        self.outstanding.release();
        self.free_memory();
    }

    /// Lets go of it although it may still be read.
    pub(super) fn forsake_outstanding(&mut self) {
        self.outstanding = Outstanding::default();
        self.free_memory();
    }

    #[cfg(test)]
    pub(super) fn holds_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the other side has taken nothing of it, and never will.
    pub(super) fn is_refused(&self) -> bool {
        self.is_deaf && self.written == 0 && self.phase == Phase::Answering
    }

    /// Whether all of it is written.
    pub(super) fn is_done(&self) -> bool {
        self.ready.is_empty() && !self.has_rest && !self.lacks_body && !self.is_deaf
    }

    /// Whether it is certain that nobody read the request, not even its head to the end, so that nothing can have come
    /// of it: as it happens to those that wait in the backlog of a socket when its application stops, and to those that
    /// meet an idle connection just as it is closed. `was_reset` is that the connection was a unix socket, and how it
    /// ended, `reads_at_once` that its reader keeps to [`READ_AT_ONCE`].
    ///
    /// What was never written is unread. A unix socket that is closed while bytes lie in it unread resets the
    /// connection, and otherwise just ends it: a worker that has taken a request and then dies never looks like this.
    /// So some of what was written was left: the head's end, if that was all. With a body it could be the body, of which
    /// a server may read less than all at once, act on the head, and then close without a word; unless the request is
    /// short and was written at once.
    pub(super) fn is_unread(&self, was_reset: bool, reads_at_once: bool) -> bool {
        let was_in_one_piece = self.writes == 1 && self.written <= READ_AT_ONCE;
        self.written == 0 || was_reset && (self.written <= self.head_length || reads_at_once && was_in_one_piece)
    }

    /// Writes what there is. Ready when all of it is written, or when nobody reads it any more. Who begins without the
    /// body asks again when that is there.
    ///
    /// An application that answers an upload early, with 413 or a redirect to the login page, closes its connection
    /// while we still write. That write's error must not hide the answer, which lies ready to be read; so it only ends
    /// the writing, and what can be read decides. `Ready(true)` says that the connection was reset.
    pub(super) fn poll_write<S: Outlet>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            while !self.ready.is_empty() {
                if let Err(error) = ready!(self.poll_write_once(socket, cx)) {
                    self.give_up();
                    return Poll::Ready(is_reset(&error));
                }
            }
            if self.lacks_body && !self.is_deaf {
                self.phase = Phase::ReadingHead;
                return Poll::Pending;
            }
            if !self.has_rest {
                if !matches!(self.phase, Phase::Broken(_)) {
                    self.phase = Phase::Answering;
                }
                return Poll::Ready(false);
            }
            ready!(self.poll_rest(cx));
        }
    }

    fn poll_write_once<S: Outlet>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_in_place(&self.ready[0]) {
            match ready!(socket.poll_send_in_place(cx, &self.ready[0], &mut self.outstanding))? {
                Some(sent) => return Poll::Ready(self.note(sent)),
                None => self.copy_all(),
            }
        }
        let socket = Pin::new(socket);
        // The first is no piece to send in place, so there is one at least.
        let (slices, count) = self.slices();
        let written = match &slices[..count] {
            [one] => ready!(socket.poll_write(cx, one)),
            several => ready!(socket.poll_write_vectored(cx, several)),
        };
        Poll::Ready(self.note(written?))
    }

    /// Writes what a fresh connection takes, without the runtime: it would first have to be told by the system that it can
    /// be written to, in a turn of its own. What cannot be written now, or never, the next write tells; what is to be sent
    /// in place is left to it.
    pub(super) fn write_at_once(&mut self, socket: BorrowedFd<'_>) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while let (slices, count @ 1..) = self.slices() {
            let written = sendmsg(socket, &slices[..count], &mut SendAncillaryBuffer::default(), flags);
            if written.map_err(io::Error::from).and_then(|written| self.note(written)).is_err() {
                break;
            }
        }
    }

    /// What is to be written next, up to what is to be sent in place, and in how many pieces.
    fn slices(&self) -> ([IoSlice<'_>; MOST_SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(&self.ready) {
            if self.is_in_place(bytes) {
                break;
            }
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        (slices, count)
    }

    fn is_in_place(&self, piece: &Bytes) -> bool {
        self.sends_in_place && shared_room::can_send_in_place(piece)
    }

    /// Notes how much was written.
    ///
    /// # Errors
    /// If it was nothing.
    fn note(&mut self, mut written: usize) -> io::Result<()> {
        self.writes += 1;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += written;
        while written > 0 {
            let first = &mut self.ready[0];
            if first.len() > written {
                first.advance(written);
                break;
            }
            written -= first.len();
            self.ready.pop_front();
        }
        if !self.ready.is_empty() {
            self.phase = Phase::Reading(self.writes);
        }
        Ok(())
    }

    /// Asks the client's body for more.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.remaining == Some(0) {
            self.end_body();
            return Poll::Ready(());
        }
        self.phase = Phase::Client;
        match ready!(poll_data(&mut self.rest, cx)) {
            Some(Ok(data)) => self.add(data),
            Some(Err(error)) => self.break_off(ClientFault::of(&*error)),
            None if self.remaining.is_some() => self.break_off(ClientFault::Broken),
            None => {
                self.end_body();
                if self.length == Length::Chunked {
                    self.end_chunks();
                }
            }
        }
        if !self.ready.is_empty() {
            self.phase = Phase::Reading(self.writes);
        }
        Poll::Ready(())
    }

    fn add(&mut self, data: Bytes) {
        match (&mut self.remaining, self.length) {
            (Some(remaining), _) => match remaining.checked_sub(data.len() as u64) {
                Some(left) => *remaining = left,
                // The application would take it for the next request.
                None => return self.break_off(ClientFault::Broken),
            },
            (None, Length::Chunked) if !data.is_empty() => {
                self.ready.push_back(Bytes::from(format!("{:x}\r\n", data.len())));
                self.ready.push_back(data);
                return self.ready.push_back(Bytes::from_static(b"\r\n"));
            }
            (None, _) => {}
        }
        if !data.is_empty() {
            self.ready.push_back(data);
        }
    }

    fn end_chunks(&mut self) {
        self.ready.push_back(Bytes::from_static(b"0\r\n\r\n"));
        self.remaining = Some(0);
    }

    fn break_off(&mut self, fault: ClientFault) {
        self.give_up();
        self.phase = Phase::Broken(fault);
    }

    /// Gives back what the body holds: of disk at once, of memory when nothing of it is outstanding any more.
    fn end_body(&mut self) {
        self.rest = Body::Empty;
        self.has_rest = false;
        self.free_memory();
    }

    fn free_memory(&mut self) {
        if !self.has_rest && self.outstanding.is_empty() {
            self.memory = None;
        }
    }

    /// Nothing more is written.
    fn give_up(&mut self) {
        self.ready.clear();
        self.end_body();
        self.is_deaf = true;
        self.phase = Phase::Answering;
    }
}

/// Whether this error means that the other side has closed the connection without having read everything. A broken pipe
/// may only mean that it has closed it; the next read then tells which.
pub(super) fn is_reset(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
}

/// The next piece of data. Trailers are dropped: no application server hands them on.
fn poll_data(body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }
}

/// A request's body before it is sent: how long it is, and what of it is here already.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) length: Length,
    /// Apart, because most requests have none, and all of this goes through many hands.
    content: Option<Box<Content>>,
}

/// What there is of a request's body, and what comes after it.
#[derive(Debug)]
struct Content {
    front: Front,
    /// What was read of `rest` while the body was held back.
    ahead: Pieces,
    rest: Body,
    /// `rest` comes from the client as it is sent; otherwise it is a file, or nothing.
    streams: bool,
}

/// How the end of a request's body is told to the application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Length {
    /// There is no body, and the client said nothing of a length.
    #[default]
    None,
    /// `Content-Length`.
    Known(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

impl Outgoing {
    /// No body; with `Content-Length: 0` if the client sent that.
    pub(super) fn nothing(is_announced: bool) -> Self {
        let length = if is_announced { Length::Known(0) } else { Length::None };
        Self { length, content: None }
    }

    /// Whether all of it is in memory.
    pub(super) fn is_here(&self) -> bool {
        self.content.as_ref().is_none_or(|content| content.rest.is_end_stream() && content.ahead.len() == 0)
    }

    /// Whether it is known to be longer than so many bytes.
    pub(super) fn is_announced_longer(&self, bytes: u64) -> bool {
        matches!(self.length, Length::Known(length) if length > bytes)
    }

    /// A body of which some was gathered, or all. One of known length is sent with it.
    pub(super) fn gathered(gathered: Gathered, announced: Option<u64>) -> Self {
        let Gathered { front, rest, length } = gathered;
        let rest = rest.unwrap_or_default();
        let streams = length.is_none() && !rest.is_end_stream();
        let length = length.or(announced).map_or(Length::Chunked, Length::Known);
        Self { length, content: Some(Box::new(Content { front, ahead: Pieces::default(), rest, streams })) }
    }

    /// The same body once more, if all of it is in memory.
    pub(super) fn again(&self) -> Option<Self> {
        let again = |content: &Content| {
            let front = content.front.clone();
            Box::new(Content { front, ahead: Pieces::default(), rest: Body::Empty, streams: false })
        };
        self.is_here().then(|| Self { length: self.length, content: self.content.as_deref().map(again) })
    }

    /// Reads ahead in a body that streams, while it is held back: so it is known when its client leaves, and who waits for
    /// `100 Continue` gets it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), ClientFault> {
        let Some(content) = self.content.as_deref_mut() else { return Ok(()) };
        while content.streams && content.ahead.len() < AHEAD {
            match poll_data(&mut content.rest, cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(data))) => content.ahead.add(&data, usize::MAX),
                Poll::Ready(Some(Err(error))) => return Err(ClientFault::of(&*error)),
                Poll::Ready(None) => (content.rest, content.streams) = (Body::Empty, false),
            }
        }
        Ok(())
    }

    /// A body that goes on as it comes.
    pub(super) fn streamed(body: Body, announced: Option<u64>) -> Self {
        Self::gathered(Gathered { front: Front::default(), rest: Some(body), length: None }, announced)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::net::UnixStream;

    impl Outlet for DuplexStream {}
    impl Outlet for UnixStream {}

    fn pieces(pieces: &[&'static str]) -> Body {
        let frames: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        Body::stream(StreamBody::new(stream::iter(frames)))
    }

    fn outgoing(front: &'static str, rest: &[&'static str], length: Length) -> Outgoing {
        let front = front.split_inclusive(' ').map(|piece| Bytes::from_static(piece.as_bytes())).collect();
        let content = Content {
            front: Front { pieces: front, memory: None },
            ahead: Pieces::default(),
            rest: pieces(rest),
            streams: false,
        };
        Outgoing { length, content: Some(Box::new(content)) }
    }

    fn begun(body: Outgoing) -> Sent {
        let mut sent = Sent::nothing();
        sent.begin(Bytes::from_static(b"<head>"));
        sent.follow(body);
        sent
    }

    /// What arrives of a request, through so small a pipe that most writes are cut.
    async fn arrives(body: Outgoing) -> (String, Sent) {
        let (mut near, mut far) = tokio::io::duplex(5);
        let mut sent = begun(body);
        let writing = tokio::spawn(async move {
            poll_fn(|cx| sent.poll_write(&mut near, cx)).await;
            sent
        });
        let mut arrived = String::new();
        far.read_to_string(&mut arrived).await.unwrap();
        (arrived, writing.await.unwrap())
    }

    #[tokio::test]
    async fn the_head_goes_first_and_then_the_body_framed_as_announced() {
        for (body, expected) in [
            (Outgoing::nothing(false), "<head>"),
            (Outgoing::nothing(true), "<head>"),
            (outgoing("abc", &[], Length::Known(3)), "<head>abc"),
            (outgoing("abc", &["de", "", "f"], Length::Known(6)), "<head>abcdef"),
            (outgoing("", &["abc"], Length::Known(3)), "<head>abc"),
            (
                outgoing("a b c d e f g h i j k l m n o p q r", &[], Length::Known(35)),
                "<head>a b c d e f g h i j k l m n o p q r",
            ),
            (outgoing("a b", &[], Length::Chunked), "<head>2\r\na \r\n1\r\nb\r\n0\r\n\r\n"),
            (
                outgoing("abc", &["0123456789", "", "f"], Length::Chunked),
                "<head>3\r\nabc\r\na\r\n0123456789\r\n1\r\nf\r\n0\r\n\r\n",
            ),
            (outgoing("", &[], Length::Chunked), "<head>0\r\n\r\n"),
        ] {
            let (arrived, sent) = arrives(body).await;
            assert_eq!((&*arrived, sent.is_done()), (expected, true));
            assert_eq!(sent.phase(), Phase::Answering, "for {expected:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_not_as_long_as_announced_breaks_the_request() {
        let broken = Phase::Broken(ClientFault::Broken);
        for (body, expected) in [
            (outgoing("abc", &["d"], Length::Known(5)), "<head>abcd"),
            (outgoing("", &["abc", "def"], Length::Known(5)), "<head>abc"),
            (outgoing("abcdef", &[], Length::Known(5)), ""),
        ] {
            let (arrived, sent) = arrives(body).await;
            assert_eq!((&*arrived, sent.phase(), sent.is_done()), (expected, broken, false));
        }
    }

    #[tokio::test]
    async fn it_is_known_who_is_to_move() {
        let (mut near, mut far) = tokio::io::duplex(9);
        let frames = stream::once(async { Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"abcdef"))) });
        let late = Body::stream(StreamBody::new(stream::StreamExt::chain(frames, stream::pending())));
        let mut sent = begun(Outgoing::streamed(late, Some(9)));
        assert!(matches!(sent.phase(), Phase::Reading(_)));
        let mut write = async |sent: &mut Sent| poll_fn(|cx| Poll::Ready(sent.poll_write(&mut near, cx))).await;
        assert!(write(&mut sent).await.is_pending());
        assert!(matches!(sent.phase(), Phase::Reading(_)), "three bytes do not fit");
        far.read_exact(&mut [0; 9]).await.unwrap();
        assert!(write(&mut sent).await.is_pending());
        assert_eq!(sent.phase(), Phase::Client);
    }

    /// Whether a request with such a head, that is written in these pieces, counts as unread, if so many bytes are read
    /// before the connection is closed.
    async fn is_unread(reads_at_once: bool, head_length: usize, pieces: &[usize], reads: usize) -> bool {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let mut sent = Sent { head_length, ..Sent::nothing() };
        for piece in pieces {
            sent.ready.push_back(Bytes::from(vec![b'x'; *piece]));
            poll_fn(|cx| sent.poll_write_once(&mut ours, cx)).await.unwrap();
        }
        theirs.read_exact(&mut vec![0; reads]).await.unwrap();
        drop(theirs);
        let was_reset = ours.read(&mut [0; 9]).await.is_err_and(|error| is_reset(&error));
        sent.is_unread(was_reset, reads_at_once)
    }

    #[tokio::test]
    async fn a_request_is_unread_only_where_that_is_certain() {
        for (reads_at_once, head_length, pieces, reads, expected) in [
            (false, 40, &[][..], 0, true),
            (false, 5000, &[5000], 0, true),
            (false, 5000, &[2000], 0, true),
            (false, 5000, &[5000], 24, true), // to see what is spoken; of so little of a head nothing can come
            (false, 5000, &[2000, 3000], 4999, true),
            (false, 5000, &[5000], 5000, false),
            (true, 5000, &[5001], 0, false), // the head may have been read
            (true, 5000, &[5000, 1], 0, false),
            (true, 40, &[4096], 0, true),
            (false, 40, &[4096], 0, false),
            (true, 40, &[4096], 24, true),
            (true, 40, &[4096], 4096, false),
            (true, 40, &[4097], 0, false),
            (true, 40, &[50, 50], 0, false),
        ] {
            let found = is_unread(reads_at_once, head_length, pieces, reads).await;
            assert_eq!(found, expected, "for {pieces:?} with a head of {head_length}, of which {reads} were read");
        }
    }

    #[tokio::test]
    async fn who_closes_hears_no_more_and_the_answer_is_still_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"answer").await.unwrap();
        drop(theirs);
        let mut sent = begun(outgoing("abc", &["def"], Length::Known(6)));
        assert!(!poll_fn(|cx| sent.poll_write(&mut ours, cx)).await, "nothing lay there to be read");
        assert!(sent.is_unread(false, false) && !sent.is_done());
        assert_eq!(sent.phase(), Phase::Answering);
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
    }
}
