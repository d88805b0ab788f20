//! Whether the other side of a unix socket has taken what was written.
//!
//! A connection to a unix socket is open before anybody has accepted it, and what is written on it lies in the system until
//! the application reads it. The system tells how much that is; over TCP nobody on this side can know.

use std::task::{Context, Poll};

use tokio::net::UnixStream;

/// Ready when nothing lies in the system any more: all of it was read, or the other side is gone. Ready at once where the
/// system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn poll_taken(socket: &UnixStream, cx: &mut Context<'_>) -> Poll<()> {
    use std::io;
    use std::task::ready;

    use tokio::io::Interest;

    // Whenever something is read Linux says anew that the socket can be written to, and that is what is waited for here.
    loop {
        if ready!(socket.poll_write_ready(cx)).is_err() {
            return Poll::Ready(());
        }
        let asked = socket.try_io(Interest::WRITABLE, || match system::untaken(socket) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
        });
        if asked.is_ok() {
            return Poll::Ready(());
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn poll_taken(_socket: &UnixStream, _cx: &mut Context<'_>) -> Poll<()> {
    Poll::Ready(())
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::c_int;
    use std::io;
    use std::os::fd::AsFd;

    use rustix::ioctl::{Getter, Opcode, ioctl};

    const OUTQ: Opcode = libc::TIOCOUTQ as Opcode;

    /// How much memory the system holds for what was written and not yet read (unix(7), `SIOCOUTQ`).
    #[expect(unsafe_code, reason = "what an ioctl writes only its manual can say")]
    pub(super) fn untaken(socket: impl AsFd) -> io::Result<c_int> {
        // SAFETY: this call writes one `int` (ioctl_tty(2), TIOCOUTQ, which is SIOCOUTQ), and reads nothing.
        let untaken = unsafe { ioctl(socket, Getter::<OUTQ, c_int>::new()) }?;
        Ok(untaken)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_was_written_is_taken_when_all_of_it_was_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let taken = async |ours: &UnixStream| poll_fn(|cx| poll_taken(ours, cx)).await;
        assert!(taken(&ours).now_or_never().is_some(), "nothing was written");
        for length in [1, 600, 5000, 100_000] {
            ours.write_all(&vec![b'x'; length]).await.unwrap();
            assert!(taken(&ours).now_or_never().is_none(), "{length}");
            theirs.read_exact(&mut vec![0; length - 1]).await.unwrap();
            tokio::task::yield_now().await;
            assert!(taken(&ours).now_or_never().is_none(), "{length} but for one byte");
            // It is waited for, and not only asked.
            let reading = async { theirs.read_exact(&mut [0]).await.unwrap() };
            let ((), _) = tokio::join!(taken(&ours), reading);
        }
    }

    #[tokio::test]
    async fn nothing_is_waited_for_once_the_other_side_is_gone() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"x").await.unwrap();
        let closing = async {
            tokio::task::yield_now().await;
            drop(theirs);
        };
        tokio::join!(poll_fn(|cx| poll_taken(&ours, cx)), closing);
    }
}
