//! After `101 Switching Protocols`: bytes go both ways until one side ends, nobody says anything for
//! too long, or the server shuts down.
//!
//! What the bytes mean is no matter here; a WebSocket's frames are not looked at.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Why a tunnel ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error("both sides are done")]
    Done,
    #[error("a side went away: {0}")]
    Broken(io::Error),
    #[error("neither side said anything for too long")]
    Idle,
    #[error("the server shuts down")]
    ShutDown,
}

/// Copies both ways. `early` is what the application sent already.
///
/// When one side has ended, the other may still speak: an end is handed on as an end, not as a cut.
pub(super) async fn run<C, A>(
    client: C,
    mut application: A,
    early: Bytes,
    idle_timeout: Duration,
    closing: CancellationToken,
) -> Ending
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    let clock = Clock::start();
    let mut client = Heard { stream: client, clock: &clock };
    let copying = async {
        client.write_all(&early).await?;
        copy_bidirectional(&mut client, &mut application).await
    };
    tokio::select! {
        // What has come already goes on before a stop is looked at.
        biased;
        copied = copying => match copied {
            Ok(_) => Ending::Done,
            Err(error) => Ending::Broken(error),
        },
        () = clock.silent_for(idle_timeout) => Ending::Idle,
        () = closing.cancelled() => Ending::ShutDown,
    }
}

/// When a byte last passed.
struct Clock {
    started: Instant,
    last: AtomicU64,
}

impl Clock {
    fn start() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0) }
    }

    fn heard(&self) {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    async fn silent_for(&self, span: Duration) {
        loop {
            let end = self.started + Duration::from_millis(self.last.load(Ordering::Relaxed)) + span;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// The client's side. Every byte of either direction is read from it or written to it, so it alone
/// tells whether anything is said.
struct Heard<'a, S> {
    stream: S,
    clock: &'a Clock,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<'_, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.clock.heard();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.clock.heard();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::background::Background;
    use super::*;
    use tokio::io::{AsyncReadExt as _, duplex};

    #[tokio::test]
    async fn an_end_is_handed_on_and_the_other_side_may_still_speak() {
        let ((mut browser, client), (application, mut app)) = (duplex(64), duplex(64));
        let run = tokio::spawn(run(
            client,
            application,
            Bytes::from_static(b"early "),
            Duration::from_secs(9),
            CancellationToken::new(),
        ));
        browser.write_all(b"hello").await.unwrap();
        browser.shutdown().await.unwrap();
        let mut heard = String::new();
        app.read_to_string(&mut heard).await.unwrap();
        app.write_all(b"goodbye").await.unwrap();
        app.shutdown().await.unwrap();
        let mut answer = String::new();
        browser.read_to_string(&mut answer).await.unwrap();
        assert_eq!((heard.as_str(), answer.as_str()), ("hello", "early goodbye"));
        assert!(matches!(run.await.unwrap(), Ending::Done));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_tunnel_and_a_byte_in_either_direction_prolongs_it() {
        let ((mut browser, client), (application, mut app)) = (duplex(64), duplex(64));
        let started = Instant::now();
        let idle = Duration::from_secs(10);
        let run = tokio::spawn(run(client, application, Bytes::new(), idle, CancellationToken::new()));
        tokio::time::sleep(Duration::from_secs(8)).await;
        browser.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_secs(8)).await;
        app.write_all(b"x").await.unwrap();
        assert!(matches!(run.await.unwrap(), Ending::Idle));
        assert_eq!(started.elapsed().as_secs(), 26);
    }

    #[tokio::test]
    async fn shutting_down_ends_all_tunnels() {
        let background = Background::default();
        let ((_browser, client), (application, _app)) = (duplex(64), duplex(64));
        let closing = background.closing();
        background.spawn(async move {
            run(client, application, Bytes::new(), Duration::from_secs(3600), closing).await;
        });
        background.close();
        background.closed().await;
    }
}
