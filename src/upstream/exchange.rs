//! One request and its answer on one connection.
//!
//! Nothing runs here by itself: the connection is driven by whoever waits for something on it, here for the head of
//! the answer, in `received` for its body. So no task of its own stands between the client and the application,
//! and a client that goes away takes its connection to the application with it, because nobody else holds
//! it: where an answer does not come whole at once, `pump` has a task that reads it while the client's connection is
//! busy, and ends with the client.
//!
//! Why no client of a library: gunicorn's sync worker closes every connection, and hyper's makes for each of them what
//! only pays where it is kept; it does not tell in which phase a request failed, which the deadlines, the blame and the
//! decision to try again all need; it keeps the answers that come before the answer to itself; and it cannot speak
//! uwsgi. What is left to write is little, since the application is sent what was made up of values, one request at a
//! time: a head is read by `httparse`, as hyper reads it, and its end is decided in `framing`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::answer_head::{self, Head};
use super::connect::Socket;
use super::failure::{Answered, Failure};
use super::framing::{BadFraming, Framing, Taken};
use super::sent::{Outgoing, Phase, READ_AT_ONCE, Sent, is_reset};
use super::{consumed, uwsgi};
use crate::config::UpstreamConfig;
use crate::config::values::UpstreamProtocol;
use crate::http::early_hints::EarlyHints;
use crate::http::room;

/// How much is read at once: a little more than Linux lets lie in a unix socket as it comes (`net.core.wmem_default`), so
/// that one read takes all that is there. Each read is a call of the system and a turn of the runtime, and so is each write of what it brought.
const READ: usize = 256 * 1024;
/// What fills less of it than this part is copied: it may be held for as long as its client reads, and all of the room
/// with it.
const FILLS_THE_ROOM: usize = READ / 2;

/// How much of an upload may lie in a unix socket until the application takes it: the more, the less often it has to be
/// woken. Linux counts its own records of it too and allows twice as much for both: 512 KiB, or twice `net.core.wmem_max` if
/// that is less (416 KiB where nobody has raised it). By itself it allows 208 KiB.
const UNTAKEN: usize = 256 * 1024;

thread_local! {
    /// Where all connections of a thread read. While their clients keep up it is always the same memory, which stays in
    /// the processor's cache.
    static ROOM: RefCell<BytesMut> = RefCell::default();
}

/// How long the application may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) response: Duration,
    pub(super) idle: Duration,
}

/// What of a request decides how its answer is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'r> {
    /// The method is HEAD.
    pub(super) is_head: bool,
    /// Takes early hints to the client.
    pub(super) early_hints: Option<&'r EarlyHints>,
    /// It is not sent a second time, once it may have been read.
    pub(super) is_unique: bool,
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
    /// [`UNTAKEN`] may lie in it.
    is_wide: bool,
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
    pub(super) fn new(socket: Socket, protocol: UpstreamProtocol, config: &UpstreamConfig) -> Box<Self> {
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
        })
    }

    /// Sends a request, whose head is `head`, and waits for the head of the answer. Of what comes before that (1xx),
    /// early hints go on and all else is passed over.
    ///
    /// Over a unix socket the body of a request that is unique, if it is in memory and not so short that head and body are
    /// read at once, follows when the head was read: until then it is certain that nothing has come of the request, and so
    /// that it may be sent again.
    pub(super) async fn send(
        &mut self,
        head: Bytes,
        body: Outgoing,
        asked: Asked<'_>,
        deadlines: Deadlines,
    ) -> Result<Head, Failure> {
        let reused = std::mem::replace(&mut self.was_used, true);
        self.hint = if self.speaks_uwsgi { uwsgi::hint(&head) } else { None };
        self.has_answered = false;
        let room = if self.speaks_uwsgi { 0 } else { READ_AT_ONCE.saturating_sub(head.len()) };
        let waits = asked.is_unique && body.is_here() && body.is_announced_longer(room as u64);
        self.sent.begin(head);
        let mut sending = Sending { exchange: self, body: Some(body) };
        if !(waits && matches!(sending.exchange.socket, Socket::Left(_))) {
            sending.follow();
        }
        if !reused {
            sending.exchange.write_at_once();
        }
        let mut alarm = pin!(Alarm::default());
        let result = poll_fn(|cx| {
            let exchange = &mut *sending.exchange;
            exchange.poll_write(cx);
            if reused && exchange.sent.is_refused() {
                // It was closed while it was idle. What it sent before that is for nobody.
                return Poll::Ready(Err(exchange.closed(None, reused)));
            }
            if let Poll::Ready(result) = exchange.poll_head(cx, asked, reused) {
                return Poll::Ready(result);
            }
            if exchange.sent.awaits_body() && exchange.poll_head_read(cx).is_ready() {
                sending.follow();
                sending.exchange.poll_write(cx);
            }
            match sending.exchange.sent.phase() {
                Phase::Broken(fault) => Poll::Ready(Err(Failure::Client(fault))),
                phase => alarm.as_mut().poll(cx, phase, deadlines).map(Err),
            }
        });
        result.await
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

    /// Lets more lie in a unix socket, for good. TCP finds out by itself how much it shall be.
    fn widen(&mut self) {
        if let Socket::Left(socket) = &self.socket
            && !std::mem::replace(&mut self.is_wide, true)
        {
            // It goes on with what it has, if that is more, or the system does not grant it.
            let has_less = sockopt::socket_send_buffer_size(socket).is_ok_and(|size| size < 2 * UNTAKEN);
            let _ = has_less.then(|| sockopt::set_socket_send_buffer_size(socket, UNTAKEN));
        }
    }

    /// Lets the body come after the head.
    fn follow(&mut self, body: Outgoing) {
        // What is shorter finds enough room as it is.
        if body.is_announced_longer(UNTAKEN as u64 / 2) {
            self.widen();
        }
        self.sent.follow(body);
    }

    /// Ready when the application has read the head. All that had come from it was read before this is asked.
    fn poll_head_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A connection that has ended is never read again, and tells no more when it could be written to.
        if self.has_more_to_read() {
            return Poll::Pending;
        }
        let Socket::Left(socket) = &self.socket else { return Poll::Ready(()) };
        ready!(consumed::poll_consumed(socket, cx));
        // What is thrown away as the application goes was not read: but then the connection had ended before that.
        if self.has_more_to_read() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Whether something has come, if only the end. Then the next read tells what.
    fn has_more_to_read(&mut self) -> bool {
        let peeked = self.peek();
        // This is told once only; what is left is the end.
        self.was_reset |= peeked == Err(Errno::CONNRESET);
        peeked != Err(Errno::AGAIN)
    }

    fn write_at_once(&mut self) {
        self.sent.write_at_once(descriptor(&self.socket));
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        if self.sent.poll_write(&mut self.socket, cx) == Poll::Ready(true) {
            self.was_reset = true;
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, asked: Asked<'_>, reused: bool) -> Poll<Result<Head, Failure>> {
        loop {
            while let Some(head) = answer_head::take(&mut self.buffer, self.head_limit)? {
                let framing = Framing::of(asked.is_head, &head);
                self.framing = framing.map_err(|error| Failure::Malformed(error.to_string()))?;
                let status = head.parts.status;
                if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                    if let (StatusCode::EARLY_HINTS, Some(hints)) = (status, asked.early_hints) {
                        hints.send(head.parts.headers);
                    }
                    continue;
                }
                self.keeps_alive &= answer_head::keeps_alive(&head);
                return Poll::Ready(Ok(head));
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(self.closed(None, reused))),
                Ok(_) => self.has_answered = true,
                Err(error) => {
                    self.was_reset |= is_reset(&error);
                    return Poll::Ready(Err(self.closed(Some(error), reused)));
                }
            }
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

    fn closed(&mut self, source: Option<io::Error>, reused: bool) -> Failure {
        self.is_closed = true;
        // Over TCP that says nothing of what was read.
        let was_reset = self.was_reset && matches!(self.socket, Socket::Left(_));
        let answered = match () {
            () if !self.buffer.is_empty() => Answered::InPart,
            () if self.has_answered => Answered::Interim,
            () if self.sent.is_unread(was_reset, !self.speaks_uwsgi) => Answered::Unread,
            () => Answered::Nothing,
        };
        Failure::Closed { answered, reused, hint: self.hint, source }
    }
}

/// A request on its way, with its body while that waits.
struct Sending<'s> {
    exchange: &'s mut Exchange,
    body: Option<Outgoing>,
}

impl Sending<'_> {
    fn follow(&mut self) {
        if let Some(body) = self.body.take() {
            self.exchange.follow(body);
        }
    }
}

impl Drop for Sending<'_> {
    /// Whose head is there may still be read, although nobody waits for the answer: as when the client leaves while all
    /// workers are busy. Its body must not be missing then, since gunicorn and Django take what there is for all of it. So
    /// it follows now, as far as the system takes it; what is longer is cut, as it is when it is on its way.
    fn drop(&mut self) {
        if self.exchange.sent.awaits_body() && !self.exchange.is_closed {
            self.follow();
            // Nobody comes to send the rest.
            self.exchange.sent.copy_all();
            self.exchange.write_at_once();
        }
    }
}

fn descriptor(socket: &Socket) -> BorrowedFd<'_> {
    match socket {
        Socket::Left(socket) => socket.as_fd(),
        Socket::Right(socket) => socket.as_fd(),
    }
}

pin_project_lite::pin_project! {
    /// Rings when whose turn it is, in a phase, has taken too long.
    #[derive(Default)]
    struct Alarm {
        #[pin]
        sleep: Option<Sleep>,
        set_for: Option<(Phase, Instant)>,
    }
}

impl Alarm {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, phase: Phase, deadlines: Deadlines) -> Poll<Failure> {
        let limit = match phase {
            Phase::Reading(_) => deadlines.idle,
            Phase::ReadingHead | Phase::Answering => deadlines.response,
            // The client has its own deadline, in the body itself.
            Phase::Client | Phase::Broken(_) => return Poll::Pending,
        };
        let mut this = self.project();
        let since = match *this.set_for {
            Some((set_for, since)) if set_for == phase => since,
            _ => {
                let now = Instant::now();
                this.sleep.set(Some(sleep_until(now + limit)));
                *this.set_for = Some((phase, now));
                now
            }
        };
        // A timer that is asked when the task has done too much at once does not ring, and who floods us sees to that.
        let is_over = !has_budget_remaining() && since + limit <= Instant::now();
        if let Some(sleep) = this.sleep.as_pin_mut().filter(|_| !is_over) {
            ready!(sleep.poll(cx));
        }
        let waited = since.elapsed();
        Poll::Ready(match phase {
            Phase::Reading(_) => Failure::NotReading { waited },
            _ => Failure::TooSlow { waited },
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;
    use tokio::time::timeout;

    use super::*;
    use crate::upstream::gather::{Front, Gathered};
    use crate::upstream::shared_room::{self, SharedRoom};
    use crate::upstream::storage::Storage;

    /// How a request fails of which the application takes all, if this comes for an answer, and then the end.
    async fn failure_after(answer: &str) -> Failure {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut exchange = exchange(ours);
        let sending = exchange.send(Bytes::from_static(b"<head>"), Outgoing::nothing(false), A_PAGE, MINUTE);
        let answering = async move {
            theirs.read_exact(&mut [0; 6]).await.unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(sending, answering).0.unwrap_err()
    }

    /// A body in memory.
    fn gathered(pieces: &[usize]) -> Outgoing {
        let pieces: Vec<_> = pieces.iter().map(|length| Bytes::from(vec![b'x'; *length])).collect();
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        let front = Front { pieces, memory: None };
        Outgoing::gathered(Gathered { front, rest: None, length: Some(length) }, None)
    }

    fn exchange(socket: UnixStream) -> Box<Exchange> {
        Exchange::new(Socket::Left(socket), UpstreamProtocol::Http, &UpstreamConfig::default())
    }

    const MINUTE: Deadlines = Deadlines { response: Duration::from_secs(60), idle: Duration::from_secs(60) };
    const A_PAGE: Asked<'_> = Asked { is_head: false, early_hints: None, is_unique: false };

    #[tokio::test]
    async fn the_first_request_is_written_without_a_turn_of_the_runtime() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut exchange = exchange(UnixStream::from_std(ours).unwrap());
        let sending = exchange.send(Bytes::from_static(b"<head>"), Outgoing::nothing(false), A_PAGE, MINUTE);
        assert!(sending.now_or_never().is_none());
        theirs.set_nonblocking(true).unwrap();
        let mut arrived = [0; 9];
        let length = io::Read::read(&mut &theirs, &mut arrived).unwrap();
        assert_eq!(&arrived[..length], b"<head>");
    }

    #[tokio::test]
    async fn whatever_comes_on_an_idle_connection_makes_it_useless_at_once() {
        for comes in ["", "X"] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let exchange = exchange(ours);
            assert!(exchange.is_silent());
            theirs.write_all(comes.as_bytes()).await.unwrap();
            drop(theirs);
            assert!(!exchange.is_silent(), "for {comes:?}");
        }
    }

    #[tokio::test]
    async fn what_an_idle_connection_says_as_it_closes_is_no_answer() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut exchange = exchange(ours);
        theirs.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        let head = Bytes::from_static(b"<head>");
        exchange.send(head.clone(), Outgoing::nothing(false), A_PAGE, MINUTE).await.unwrap();
        theirs.read_exact(&mut [0; 6]).await.unwrap();
        theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        drop(theirs);
        let failure = exchange.send(head, Outgoing::nothing(false), A_PAGE, MINUTE).await.unwrap_err();
        assert!(failure.is_unread(), "{failure}");
    }

    /// What becomes of a POST with a body of 5,000 bytes to an application that does this with the connection: the answer's
    /// status, or whether nobody read it.
    async fn post(application: impl AsyncFnOnce(UnixStream)) -> Result<StatusCode, bool> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut exchange = exchange(ours);
        let asked = Asked { is_unique: true, ..A_PAGE };
        let sending = exchange.send(Bytes::from_static(b"<head>"), gathered(&[5000]), asked, MINUTE);
        let (answer, ()) = tokio::join!(timeout(Duration::from_secs(10), sending), application(theirs));
        answer.expect("it is answered, or fails").map(|head| head.parts.status).map_err(|failure| failure.is_unread())
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_body_of_what_is_not_sent_twice_follows_when_the_head_was_read() {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
        const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        const A_WHILE: Duration = Duration::from_millis(20);
        let read = async |socket: &mut UnixStream, length: usize| {
            socket.read_exact(&mut vec![0; length]).await.unwrap();
        };
        let well = async |mut socket: UnixStream| {
            tokio::time::sleep(A_WHILE).await;
            assert_eq!(socket.try_read(&mut [0; 20]).unwrap(), 6, "the head alone");
            read(&mut socket, 5000).await;
            socket.write_all(ANSWER).await.unwrap();
        };
        assert_eq!(post(well).await, Ok(StatusCode::OK));
        let says_go_on = async |mut socket: UnixStream| {
            socket.write_all(INTERIM).await.unwrap();
            tokio::time::sleep(A_WHILE).await;
            read(&mut socket, 5006).await;
            socket.write_all(ANSWER).await.unwrap();
        };
        assert_eq!(post(says_go_on).await, Ok(StatusCode::OK));
        let stopped = async |socket| drop::<UnixStream>(socket);
        assert_eq!(post(stopped).await, Err(true));
        let stopped_late = async |socket| {
            tokio::time::sleep(A_WHILE).await;
            drop::<UnixStream>(socket);
        };
        assert_eq!(post(stopped_late).await, Err(true));
        let killed_in_the_head = async |mut socket: UnixStream| read(&mut socket, 5).await;
        assert_eq!(post(killed_in_the_head).await, Err(true));
        let killed_at_once = async |mut socket: UnixStream| read(&mut socket, 6).await;
        assert_eq!(post(killed_at_once).await, Err(false));
        let killed_before_the_body = async |mut socket: UnixStream| {
            read(&mut socket, 6).await;
            tokio::time::sleep(A_WHILE).await;
        };
        assert_eq!(post(killed_before_the_body).await, Err(false));
        let killed_in_the_body = async |mut socket: UnixStream| read(&mut socket, 7).await;
        assert_eq!(post(killed_in_the_body).await, Err(false));
        let answers_unread = async |mut socket: UnixStream| socket.write_all(ANSWER).await.unwrap();
        assert_eq!(post(answers_unread).await, Ok(StatusCode::OK));
        for answer in [ANSWER, b""] {
            let hangs_up_and_stays = async |mut socket: UnixStream| {
                socket.write_all(answer).await.unwrap();
                let socket = socket.into_std().unwrap();
                socket.shutdown(std::net::Shutdown::Both).unwrap();
                tokio::time::sleep(A_WHILE).await;
            };
            let expected = if answer.is_empty() { Err(false) } else { Ok(StatusCode::OK) };
            assert_eq!(post(hangs_up_and_stays).await, expected);
        }
    }

    #[tokio::test]
    async fn what_may_still_be_read_has_its_body_although_nobody_waits_for_the_answer() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut exchange = exchange(ours);
        let asked = Asked { is_unique: true, ..A_PAGE };
        let sending = exchange.send(Bytes::from_static(b"<head>"), gathered(&[1000; 100]), asked, MINUTE);
        assert!(sending.now_or_never().is_none());
        drop(exchange);
        let mut came = Vec::new();
        theirs.read_to_end(&mut came).await.unwrap();
        assert_eq!(came.len(), 6 + 100_000);
    }

    #[tokio::test]
    async fn what_is_read_at_once_or_is_not_in_memory_is_sent_at_once() {
        let has_come = |length| Bytes::from(vec![b'x'; length]).into();
        for (protocol, body, is_whole) in [
            (UpstreamProtocol::Http, gathered(&[READ_AT_ONCE - 6]), true),
            (UpstreamProtocol::Http, gathered(&[READ_AT_ONCE - 5]), false),
            (UpstreamProtocol::Uwsgi, gathered(&[1]), false),
            (UpstreamProtocol::Http, Outgoing::streamed(has_come(9000), Some(9000)), true),
            (UpstreamProtocol::Uwsgi, Outgoing::streamed(has_come(9000), Some(9000)), true),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut exchange = Exchange::new(Socket::Left(ours), protocol, &UpstreamConfig::default());
            let context = format!("{body:?} over {protocol:?}");
            let asked = Asked { is_unique: true, ..A_PAGE };
            let sending = exchange.send(Bytes::from_static(b"<head>"), body, asked, MINUTE);
            let reading = async {
                theirs.read_exact(&mut [0; 6]).await.unwrap();
                theirs.try_read(&mut [0; READ_AT_ONCE]).is_ok()
            };
            let came = tokio::select! {
                biased;
                _ = sending => panic!("there is no answer"),
                came = reading => came,
            };
            assert_eq!(came, is_whole || cfg!(not(target_os = "linux")), "{context}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_nobody_reads_has_the_time_of_an_answer() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut exchange = exchange(ours);
        let asked = Asked { is_unique: true, ..A_PAGE };
        let deadlines = Deadlines { response: Duration::from_secs(5), ..MINUTE };
        let head = Bytes::from_static(b"<head>");
        let failure = exchange.send(head, gathered(&[5000]), asked, deadlines).await.unwrap_err();
        assert!(matches!(failure, Failure::TooSlow { waited } if waited.as_secs() == 5), "{failure}");
    }

    #[tokio::test]
    async fn more_may_lie_in_a_unix_socket_of_a_long_upload_and_of_no_other() {
        for (announced, is_wide) in [(0, false), (UNTAKEN as u64 / 2, false), (UNTAKEN as u64 / 2 + 1, true)] {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let narrow = sockopt::socket_send_buffer_size(&ours).unwrap();
            let mut exchange = exchange(ours);
            exchange.sent.begin(Bytes::from_static(b"<head>"));
            exchange.follow(Outgoing::streamed(crate::http::body::Body::Empty, Some(announced)));
            let wide = sockopt::socket_send_buffer_size(descriptor(&exchange.socket)).unwrap();
            let has_much = narrow >= 2 * UNTAKEN;
            assert_eq!(wide > narrow, is_wide && !has_much, "{announced}: {narrow} became {wide}");
            assert_eq!(exchange.is_wide, is_wide, "{announced}");
        }
    }

    /// A body in so many shared rooms, and where the first begins.
    #[cfg(target_os = "linux")]
    fn in_shared_rooms(rooms: usize) -> (Outgoing, *const u8) {
        shared_room::prepare();
        let pieces: Vec<_> = (0..rooms)
            .map(|_| {
                let mut room = SharedRoom::take().unwrap();
                room.spare().fill(b'a');
                room.advance(room.left());
                room.split()
            })
            .collect();
        let (place, length) = (pieces[0].as_ptr(), pieces.iter().map(|piece| piece.len() as u64).sum());
        let front = Front { pieces, memory: Some(Storage::both(&UpstreamConfig::default()).0.memory.share().into()) };
        (Outgoing::gathered(Gathered { front, rest: None, length: Some(length) }, None), place)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_is_sent_in_place_is_held_until_the_exchange_is_over_and_stays_as_it_is_for_who_reads_late() {
        let _alone = shared_room::ALONE.lock().await;
        for (answer, reads_first) in
            [("Content-Length: 0\r\n\r\n", true), ("Content-Length: 0\r\n\r\n", false), ("\r\n", true)]
        {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut exchange = exchange(ours);
            let (body, place) = in_shared_rooms(1);
            let sending = exchange.send(Bytes::from_static(b"<head>"), body, A_PAGE, MINUTE);
            let mut body = vec![0; shared_room::SIZE];
            let answering = async {
                theirs.read_exact(&mut [0; 6]).await.unwrap();
                if reads_first {
                    theirs.read_exact(&mut body).await.unwrap();
                }
                theirs.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
            };
            tokio::join!(sending, answering).0.unwrap();
            assert!(exchange.sent.is_done() && exchange.sent.has_outstanding() && exchange.sent.holds_memory());
            exchange.let_go();
            assert!(!exchange.sent.has_outstanding() && !exchange.sent.holds_memory());
            shared_room::fill_again(place, b'b');
            if !reads_first {
                theirs.read_exact(&mut body).await.unwrap();
            }
            assert!(body.iter().all(|byte| *byte == b'a'), "reads first: {reads_first}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_long_body_in_shared_rooms_arrives_whole_after_its_head() {
        let _alone = shared_room::ALONE.lock().await;
        for is_unique in [true, false] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut exchange = exchange(ours);
            let asked = Asked { is_unique, ..A_PAGE };
            let mut request = vec![0; 6 + 9 * shared_room::SIZE];
            {
                let (body, _) = in_shared_rooms(9);
                let mut sending = Box::pin(exchange.send(Bytes::from_static(b"<head>"), body, asked, MINUTE));
                let reading = theirs.read_exact(&mut request);
                tokio::select! {
                    biased;
                    _ = &mut sending => panic!("there is no answer yet"),
                    read = reading => read.unwrap(),
                };
                theirs.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                sending.await.unwrap();
            }
            assert!(request.starts_with(b"<head>a") && request[6..].iter().all(|byte| *byte == b'a'));
            assert!(exchange.is_reusable() && exchange.sent.has_outstanding());
        }
    }

    /// Nobody is there any more to send the rest.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_body_that_follows_as_its_client_leaves_is_copied() {
        let _alone = shared_room::ALONE.lock().await;
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut exchange = exchange(ours);
        let asked = Asked { is_unique: true, ..A_PAGE };
        let (body, place) = in_shared_rooms(1);
        assert!(exchange.send(Bytes::from_static(b"<head>"), body, asked, MINUTE).now_or_never().is_none());
        assert!(!exchange.sent.has_outstanding());
        drop(exchange);
        shared_room::fill_again(place, b'b');
        let mut request = Vec::new();
        theirs.read_to_end(&mut request).await.unwrap();
        assert_eq!(request.len(), 6 + shared_room::SIZE);
        assert!(request[6..].iter().all(|byte| *byte == b'a'));
    }

    #[tokio::test]
    async fn a_body_is_whole_when_all_of_it_has_come() {
        for (answer, whole, left) in [
            ("Content-Length: 4\r\n\r\nbody", Some("body"), ""),
            ("Content-Length: 4\r\n\r\nbody and more", Some("body"), " and more"),
            ("Content-Length: 5\r\n\r\nbody", None, "body"),
            ("\r\nbody", None, "body"), // who knows
            ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None, "0\r\n\r\n"),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut exchange = exchange(ours);
            theirs.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
            exchange.send(Bytes::from_static(b"<head>"), Outgoing::nothing(false), A_PAGE, MINUTE).await.unwrap();
            let found = exchange.whole().map(|length| exchange.take_whole(length));
            let context = format!("for {answer:?}");
            assert_eq!(found.as_deref(), whole.map(str::as_bytes), "{context}");
            assert_eq!((&*exchange.buffer, exchange.has_ended()), (left.as_bytes(), whole.is_some()), "{context}");
        }
    }

    #[tokio::test]
    async fn the_room_is_held_by_what_fills_it_and_not_by_little() {
        for (length, is_held) in [(1, false), (FILLS_THE_ROOM - 1, false), (FILLS_THE_ROOM, true)] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut exchange = exchange(ours);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            theirs.write_all(head.as_bytes()).await.unwrap();
            exchange.send(Bytes::from_static(b"<head>"), Outgoing::nothing(false), A_PAGE, MINUTE).await.unwrap();
            let body = vec![b'x'; length];
            // All of it is there before it is read, as far as the system lets it.
            let written = theirs.try_write(&body).unwrap();
            assert_eq!(written, length, "the system lets less lie in a socket than it does as it comes");
            let place = ROOM.with_borrow(|room| room.as_ptr());
            let piece = poll_fn(|cx| exchange.poll_body(cx)).await.unwrap().unwrap();
            assert_eq!((piece.len(), piece.as_ptr() == place), (length, is_held), "{length}");
        }
    }

    #[tokio::test]
    async fn how_much_of_an_answer_there_was_is_told() {
        const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
        for (answer, told, may_retry) in [
            ("", "without an answer", true),
            ("HTTP/1.1 200 OK\r\nContent-Le", "in the middle of its answer's head", false),
            (HINTS, "after an interim answer (1xx), without the answer itself", false),
            (&HINTS[..30], "in the middle of its answer's head", false),
            (&format!("{HINTS}HTTP/1.1 2"), "in the middle of its answer's head", false),
        ] {
            let failure = failure_after(answer).await;
            assert_eq!(failure.to_string(), format!("the application closed the connection {told}"), "for {answer:?}");
            assert_eq!(failure.may_retry(), may_retry, "for {answer:?}");
        }
    }
}
