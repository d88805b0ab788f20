//! Opens connections to the application, over a unix socket or TCP.
//!
//! It knows nothing of what is spoken on them. A `Wire` is the connection as hyper sees it.

use std::io::{self, IoSlice};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::either::Either;

use super::failure::Failure;
use crate::config::values::Endpoint;

/// A connection to the application.
pub(super) type Socket = Either<UnixStream, TcpStream>;

/// Opens a connection, or says why that cannot be done within `limit`.
pub(super) async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<Socket, Failure> {
    let started = Instant::now();
    let connected = timeout(limit, async {
        match endpoint {
            Endpoint::Unix(path) => connect_unix(path).await.map(Either::Left),
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Either::Right(stream))
            }
        }
    });
    match (connected.await, endpoint) {
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

/// What `Wire` tells those who no longer hold it: hyper does, while a connection lives.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    answered: AtomicBool,
}

impl Traffic {
    /// Whether the application has sent anything since the last [`Traffic::forget`].
    pub(super) fn has_answer(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Begins anew, for the next request on the same connection.
    pub(super) fn forget(&self) {
        self.answered.store(false, Ordering::Relaxed);
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
                Ok(length)
            }
            result => result,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
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
