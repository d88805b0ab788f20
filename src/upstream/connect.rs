//! Opens connections to the application, over a unix socket or TCP.
//!
//! It knows nothing of what is spoken on them. A `Wire` is the connection as hyper sees it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::either::Either;

use super::failure::Failure;
use crate::config::values::Endpoint;

/// A connection to the application.
pub(super) type Socket = Either<UnixStream, TcpStream>;

/// Opens a connection, or says why that cannot be done within `limit`. Of the addresses that a name has, `turn` says
/// which comes first.
pub(super) async fn connect(endpoint: &Endpoint, limit: Duration, turn: usize) -> Result<Socket, Failure> {
    let started = Instant::now();
    let connected = timeout(limit, async {
        match endpoint {
            Endpoint::Unix(path) => connect_unix(path).await.map(Either::Left),
            Endpoint::Tcp { host, port } => {
                let stream = connect_tcp(host, *port, started + limit, turn).await?;
                stream.set_nodelay(true)?;
                Ok(Either::Right(stream))
            }
        }
    });
    match (connected.await, endpoint) {
        (Ok(Err(error)), _) if error.kind() == io::ErrorKind::TimedOut => {
            Err(Failure::ConnectTooSlow { waited: started.elapsed() })
        }
        (Ok(result), _) => result.map_err(Failure::Connect),
        // Only a full backlog makes a unix socket wait.
        (Err(_), Endpoint::Unix(_)) => Err(Failure::BacklogFull { waited: started.elapsed() }),
        (Err(_), Endpoint::Tcp { .. }) => Err(Failure::ConnectTooSlow { waited: started.elapsed() }),
    }
}

/// A unix socket whose backlog is full does not make the caller wait but fails with `EAGAIN`, and
/// nothing tells when there is room again. gunicorn under load does this often, so it is asked again,
/// at growing intervals, until the deadline around us ends it.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let mut pause = Duration::from_millis(1);
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(pause).await,
            result => return result,
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Tries one address after the other, each for its part of the time that is left. A name is resolved each time, since
/// its addresses may change, as those of a container that is started again.
async fn connect_tcp(host: &str, port: u16, deadline: Instant, turn: usize) -> io::Result<TcpStream> {
    let unresolved =
        |cause: io::Error| io::Error::new(io::ErrorKind::NotFound, format!("cannot resolve {host}: {cause}"));
    let addresses = in_turn(lookup_host((host, port)).await.map_err(unresolved)?.collect(), turn);
    let mut outcome = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for (place, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let part = left / (addresses.len() - place).try_into().unwrap_or(u32::MAX);
        match timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => outcome = error,
            Err(_) => outcome = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(outcome)
}

/// The addresses of a name, beginning with another at each turn. Those of the family that the system puts first stay
/// before the others: there may be no way to those.
fn in_turn(mut addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    let is_preferred = addresses.first().map(SocketAddr::is_ipv4);
    addresses.sort_by_key(|address| Some(address.is_ipv4()) != is_preferred);
    let preferred = addresses.iter().filter(|address| Some(address.is_ipv4()) == is_preferred).count();
    addresses[..preferred].rotate_left(turn % preferred.max(1));
    addresses
}

/// What `Wire` tells those who no longer hold it: hyper does, while a connection lives.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The other side is on this machine and reads the bytes of HTTP as they are.
    is_local: bool,
    answered: AtomicBool,
    /// How often it was written, and how much.
    writes: AtomicUsize,
    written: AtomicUsize,
    was_reset: AtomicBool,
}

/// A request of so many bytes is read whole by the first read of every application server.
const READ_AT_ONCE: usize = 4096;

impl Traffic {
    pub(super) fn new(is_local: bool) -> Self {
        Self { is_local, ..Self::default() }
    }

    /// Whether the application has sent anything since the last [`Traffic::forget`].
    pub(super) fn has_answer(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether the connection was closed before anybody read a byte of the request, so that nothing can have come of
    /// it: as it happens to those that wait in the backlog of a socket when its application stops, and to those that
    /// meet an idle connection just as it is closed.
    ///
    /// What was never written is unread. A unix socket that is closed while bytes lie in it unread resets the connection, and otherwise just ends it. A
    /// short request that was written at once is either read whole or not at all.
    pub(super) fn is_unread(&self) -> bool {
        let (writes, written) = (self.writes.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed));
        let was_in_one_piece = writes == 1 && written <= READ_AT_ONCE;
        let was_reset = self.was_reset.load(Ordering::Relaxed);
        !self.has_answer() && (written == 0 || self.is_local && was_reset && was_in_one_piece)
    }

    /// Begins anew, for the next request on the same connection.
    pub(super) fn forget(&self) {
        self.answered.store(false, Ordering::Relaxed);
        self.writes.store(0, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
    }

    fn wrote(&self, bytes: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A connection between hyper and the socket. It notices whether an answer has begun, and it does not
/// let an application that stops reading take its answer with it.
#[derive(Debug)]
pub(super) struct Wire<S = Socket> {
    socket: S,
    traffic: Arc<Traffic>,
    is_deaf: bool,
}

impl<S> Wire<S> {
    pub(super) fn new(socket: S, traffic: Arc<Traffic>) -> Self {
        Self { socket, traffic, is_deaf: false }
    }

    pub(super) fn into_socket(self) -> S {
        self.socket
    }

    /// An application that answers an upload early, with 413 or a redirect to the login page, closes
    /// its connection while we still write. That write's error would hide the answer, which lies
    /// ready to be read; so from then on writes go nowhere, and what can be read decides.
    fn wrote(&mut self, result: io::Result<usize>, length: usize) -> io::Result<usize> {
        match result {
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                self.is_deaf = true;
                self.traffic.wrote(0);
                self.traffic.was_reset.store(true, Ordering::Relaxed);
                Ok(length)
            }
            result => {
                self.traffic.wrote(*result.as_ref().unwrap_or(&0));
                result
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if let Err(error) = ready!(Pin::new(&mut this.socket).poll_read(cx, buf)) {
            if error.kind() == io::ErrorKind::ConnectionReset {
                this.traffic.was_reset.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(Err(error));
        }
        if buf.filled().len() > before {
            this.traffic.answered.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = ready!(Pin::new(&mut this.socket).poll_write(cx, buf));
        Poll::Ready(this.wrote(result, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if this.is_deaf {
            return Poll::Ready(Ok(length));
        }
        let result = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, bufs));
        Poll::Ready(this.wrote(result, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut this.socket).poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut this.socket).poll_shutdown(cx) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Whether a request counts as unread: the pieces in which it was written, and what the other side read of it.
    async fn is_unread(is_local: bool, pieces: &[usize], reads: usize) -> bool {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let traffic = Arc::new(Traffic::new(is_local));
        let mut wire = Wire::new(ours, Arc::clone(&traffic));
        for piece in pieces {
            wire.write_all(&vec![b'x'; *piece]).await.unwrap();
        }
        if reads > 0 {
            theirs.read_exact(&mut vec![0; reads]).await.unwrap();
        }
        drop(theirs);
        assert!(!wire.read(&mut [0; 9]).await.is_ok_and(|read| read > 0));
        traffic.is_unread()
    }

    #[test]
    fn the_addresses_of_a_name_take_turns() {
        let addresses = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let (a, b, c, six) = ("192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "[2001:db8::1]:1");
        for (found, turn, expected) in [
            (&[a, b, c][..], 0, &[a, b, c][..]),
            (&[a, b, c], 1, &[b, c, a]),
            (&[a, b, c], 5, &[c, a, b]),
            (&[six, a, b], 1, &[six, a, b]), // the family that the system prefers comes first
            (&[a, six, b], 1, &[b, a, six]),
            (&[a], 7, &[a]),
            (&[], 7, &[]),
        ] {
            assert_eq!(in_turn(addresses(found), turn), addresses(expected), "{found:?} at turn {turn}");
        }
    }

    #[tokio::test]
    async fn a_name_that_has_no_address_now_may_have_one_later() {
        let endpoint = Endpoint::Tcp { host: "nowhere.invalid".into(), port: 80 };
        let failure = connect(&endpoint, Duration::from_secs(20), 0).await.unwrap_err();
        assert!(failure.is_absence(), "{failure:?}");
    }

    #[tokio::test]
    async fn a_request_is_unread_only_where_that_is_certain() {
        for (is_local, pieces, reads, expected) in [
            (true, &[][..], 0, true),
            (false, &[], 0, true),
            (true, &[100], 0, true),
            (true, &[4096], 0, true),
            (true, &[100], 100, false),
            (true, &[4097], 0, false),   // some of it may have been read
            (true, &[50, 50], 0, false), // as of this one
            (true, &[50, 50], 50, false),
            (false, &[100], 0, false),
        ] {
            let found = is_unread(is_local, pieces, reads).await;
            assert_eq!(found, expected, "for {pieces:?}, of which {reads} were read");
        }
    }

    #[tokio::test]
    async fn what_was_never_sent_is_unread_and_what_was_answered_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let traffic = Arc::new(Traffic::new(true));
        let mut wire = Wire::new(ours, Arc::clone(&traffic));
        drop(theirs);
        wire.write_all(b"request").await.unwrap();
        assert!(traffic.is_unread());

        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let traffic = Arc::new(Traffic::new(true));
        let mut wire = Wire::new(ours, Arc::clone(&traffic));
        wire.write_all(b"request").await.unwrap();
        theirs.write_all(b"answer").await.unwrap();
        drop(theirs);
        while wire.read(&mut [0; 9]).await.is_ok_and(|read| read > 0) {}
        assert!(!traffic.is_unread());
    }
}
