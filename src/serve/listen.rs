//! Sockets to accept from: TCP and unix.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::config::values::{ListenAddress, UnixMode};

/// How many connections the kernel may hold that are not accepted yet. The kernel caps it further
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// How many bytes the kernel takes of a connection beyond what is on its way already.
const UNSENT: u32 = 256 * 1024;

/// A bound socket, of which every thread has its own descriptor.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A unix socket, whose file is removed when the last descriptor is dropped.
    Unix(net::UnixListener, Arc<SocketFile>),
}

/// A listener in the hands of a thread's runtime.
#[derive(Debug)]
pub enum Accepting {
    /// TCP, with the port.
    Tcp(TcpListener, u16),
    /// A unix socket.
    Unix(UnixListener, Arc<SocketFile>),
}

/// A connection that moves from one thread's runtime to another's.
#[derive(Debug)]
pub enum Moving {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a unix socket.
    Unix(net::UnixStream),
}

impl Moving {
    /// Takes a connection from the runtime that accepted it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn leave(stream: Stream) -> io::Result<Self> {
        Ok(match stream {
            Either::Left(stream) => Self::Tcp(stream.into_std()?),
            Either::Right(stream) => Self::Unix(stream.into_std()?),
        })
    }

    /// Puts it into the hands of the running thread's runtime.
    ///
    /// # Errors
    /// When the system refuses, for want of memory.
    pub fn enter(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Either::Left(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Either::Right(UnixStream::from_std(stream)?),
        })
    }
}

/// The file of a unix socket that is ours.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it before; then there is nothing to do.
        let _ = fs_err::remove_file(&self.0);
    }
}

/// A client's connection before TLS.
pub type Stream = Either<TcpStream, UnixStream>;

/// Where a connection came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The other end; `None` on a unix socket.
    pub address: Option<SocketAddr>,
    /// The port it came to; 0 on a unix socket.
    pub local_port: u16,
    /// Whether it is a balancer that hands a connection through and does not know whose. What stands in the requests is
    /// then nobody's word but the client's.
    pub is_opaque: bool,
}

impl Listener {
    /// Binds every socket that an address stands for: a name may have several.
    ///
    /// # Errors
    /// When the name is unknown, or the system refuses one of them.
    pub async fn bind(address: &ListenAddress, mode: UnixMode) -> io::Result<Vec<Self>> {
        match address {
            ListenAddress::Tcp { host, port } => {
                let found: Vec<_> = tokio::net::lookup_host((host.as_str(), *port)).await?.collect();
                // With port 0, each of a name's addresses would get a port of its own.
                let wanted = if *port == 0 { &found[..found.len().min(1)] } else { &found[..] };
                wanted.iter().map(|address| bind_tcp(*address).map(Self::Tcp)).collect()
            }
            ListenAddress::Unix(path) => Ok(vec![bind_unix(path, mode).await?]),
        }
    }

    /// The same socket for another thread.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn share(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener, file) => Self::Unix(listener.try_clone()?, file.clone()),
        })
    }

    /// Begins to accept with the runtime in whose context this is called.
    ///
    /// # Errors
    /// When the system refuses, for want of memory.
    pub fn accepting(self) -> io::Result<Accepting> {
        Ok(match self {
            Self::Tcp(listener) => {
                let port = listener.local_addr()?.port();
                Accepting::Tcp(TcpListener::from_std(listener)?, port)
            }
            Self::Unix(listener, file) => Accepting::Unix(UnixListener::from_std(listener)?, file),
        })
    }

    /// The address as the operator would write it, with the port that was really taken.
    ///
    /// # Errors
    /// When the system does not tell which port that is.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                Ok(ListenAddress::Tcp { host: address.ip().to_string(), port: address.port() })
            }
            Self::Unix(_, file) => Ok(ListenAddress::Unix(file.0.clone())),
        }
    }
}

impl Accepting {
    /// The next connection.
    ///
    /// # Errors
    /// When the system refuses it; most often because no file descriptor is left.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener, local_port) => {
                let (stream, address) = listener.accept().await?;
                // Answers go out in few large writes; waiting for more would only delay the last one.
                stream.set_nodelay(true)?;
                let peer = Peer { address: Some(canonical(address)), local_port: *local_port, is_opaque: false };
                Ok((Either::Left(stream), peer))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Either::Right(stream), Peer { address: None, local_port: 0, is_opaque: false }))
            }
        }
    }
}

/// An IPv4 client of an IPv6 socket has its IPv4 address everywhere: in logs, limits and headers.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for connections of the last run that linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` means every address, as in nginx's and Caddy's documentation; otherwise the system's
        // setting would decide.
        socket.set_only_v6(address.ip() != IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED))?;
    }
    // Otherwise megabytes wait in the kernel, a third of them must go before it says that there is room,
    // and a slow reader looks like one that takes nothing. Connections inherit it.
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn bind_unix(path: &Path, mode: UnixMode) -> io::Result<Listener> {
    // A run that was killed leaves its file behind, and connections to it are refused. Whatever else is
    // there, a living server with a full queue or a file of another kind, is not ours to remove.
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => {}
        _ => return Err(io::ErrorKind::AddrInUse.into()),
    }
    // Nobody may connect before the access rights are set, so the socket gets its name last.
    let hidden = hidden_name(path);
    let listener = net::UnixListener::bind(&hidden)?;
    listener.set_nonblocking(true)?;
    let placed = fs_err::set_permissions(&hidden, std::fs::Permissions::from_mode(mode.0))
        .and_then(|()| fs_err::rename(&hidden, path));
    match placed {
        Ok(()) => Ok(Listener::Unix(listener, Arc::new(SocketFile(path.to_owned())))),
        Err(error) => {
            // It may be gone already; the first error is the one to tell.
            let _ = fs_err::remove_file(&hidden);
            Err(error)
        }
    }
}

fn hidden_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs_err::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_a_killed_run_left_behind_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        bind_unix(&path, UnixMode(0o600)).await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_another_process_serves_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _living = net::UnixListener::bind(&path).unwrap();
        assert_eq!(bind_unix(&path, UnixMode(0o600)).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs_err::write(&path, "data").unwrap();
        assert!(bind_unix(&path, UnixMode(0o600)).await.is_err());
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "data");
    }
}
