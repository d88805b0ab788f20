//! Opens connections to the application, over a unix socket or TCP.
//!
//! It knows nothing of what is spoken on them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::either::Either;

use super::failure::Failure;
use super::shared_room::{self, Outstanding};
use crate::config::values::Endpoint;

/// A connection to the application.
pub(super) type Socket = Either<UnixStream, TcpStream>;

/// What a request can be written to.
pub(super) trait Outlet: AsyncWrite + Unpin {
    /// Sends a piece from where it lies, as far as possible; `None` if it has to be written.
    fn poll_send_in_place(
        &mut self,
        _cx: &mut Context<'_>,
        _piece: &Bytes,
        _outstanding: &mut Outstanding,
    ) -> Poll<io::Result<Option<usize>>> {
        Poll::Ready(Ok(None))
    }
}

/// Only over a unix socket it is known when a piece was read.
impl Outlet for Socket {
    fn poll_send_in_place(
        &mut self,
        cx: &mut Context<'_>,
        piece: &Bytes,
        outstanding: &mut Outstanding,
    ) -> Poll<io::Result<Option<usize>>> {
        let Self::Left(socket) = self else { return Poll::Ready(Ok(None)) };
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let sent = socket.try_io(Interest::WRITABLE, || shared_room::send_in_place(socket, piece, outstanding));
            if !sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Poll::Ready(sent);
            }
        }
    }
}

/// Opens a connection, or says why that cannot be done within `limit`. Of the addresses that a name has, `turn` says
/// which comes first.
pub(super) async fn connect(endpoint: &Endpoint, limit: Duration, turn: usize) -> Result<Socket, Failure> {
    if let Endpoint::Unix(path) = endpoint
        && let Some(result) = connect_at_once(path)
    {
        return result.map(Either::Left).map_err(Failure::Connect);
    }
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

/// A unix socket is connected at once, or never: there is nobody on the way. So nothing needs to be waited for, and the
/// first request can be written before the runtime knows that it can. `None` if only its backlog is full.
#[cfg(target_os = "linux")]
fn connect_at_once(path: &Path) -> Option<io::Result<UnixStream>> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let connect = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        UnixStream::from_std(socket.into())
    };
    Some(connect()).filter(|result| !matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock))
}

#[cfg(not(target_os = "linux"))]
fn connect_at_once(_path: &Path) -> Option<io::Result<UnixStream>> {
    None
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_unix_socket_is_connected_at_once_unless_its_backlog_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        assert_eq!(connect_at_once(&path).unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        assert_eq!(connect_at_once(&path).unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        listener.listen(0).unwrap();
        let connected = connect_at_once(&path).unwrap();
        assert!(connected.is_ok() && connect_at_once(&path).is_none());
    }

    #[tokio::test]
    async fn a_name_that_has_no_address_now_may_have_one_later() {
        let endpoint = Endpoint::Tcp { host: "nowhere.invalid".into(), port: 80 };
        let failure = connect(&endpoint, Duration::from_secs(20), 0).await.unwrap_err();
        assert!(failure.is_absence(), "{failure:?}");
    }
}
