//! Whether the other side of a unix socket has read what was written.
//!
//! A connection to a unix socket is open before anybody has accepted it, and what is written on it lies in the system until
//! the application reads it. The system tells how much that is; over TCP nobody on this side can know.

use std::task::{Context, Poll};

use tokio::net::UnixStream;

/// Ready when nothing lies in the system any more: all of it was read, or thrown away as the other side was closed. Ready
/// at once where the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn poll_consumed(socket: &UnixStream, cx: &mut Context<'_>) -> Poll<()> {
    use std::io;
    use std::task::ready;

    use tokio::io::Interest;

    // Whenever something is read Linux says anew that the socket can be written to, and that is what is waited for here.
    loop {
        if ready!(socket.poll_write_ready(cx)).is_err() {
            return Poll::Ready(());
        }
        let asked = socket.try_io(Interest::WRITABLE, || match is_consumed(socket) {
            Some(false) => Err(io::ErrorKind::WouldBlock.into()),
            Some(true) | None => Ok(()),
        });
        if asked.is_ok() {
            return Poll::Ready(());
        }
    }
}

/// Whether nothing lies in the system any more: all of it was read, or thrown away as the other side was closed. `None`
/// where the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn is_consumed(socket: &UnixStream) -> Option<bool> {
    // Linux wakes who waits to write before it takes the last byte off the account (`sock_wfree` in its
    // net/core/sock.c), and nothing that lies there counts as little as one.
    system::unread(socket).ok().map(|unread| unread <= 1)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_consumed(_socket: &UnixStream) -> Option<bool> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(super) fn poll_consumed(_socket: &UnixStream, _cx: &mut Context<'_>) -> Poll<()> {
    Poll::Ready(())
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::c_int;
    use std::io;
    use std::os::fd::AsFd;

    use rustix::ioctl::{Getter, Opcode, ioctl};

    const OUTQ: Opcode = libc::TIOCOUTQ as Opcode;

    /// How much memory the system holds for what was written and not yet read (`unix_outq_len` in the kernel's
    /// net/unix/af_unix.c).
    #[expect(unsafe_code, reason = "what an ioctl writes only its manual can say")]
    pub(super) fn unread(socket: impl AsFd) -> io::Result<c_int> {
        // SAFETY: this call writes one `int` (ioctl_tty(2), TIOCOUTQ, which is SIOCOUTQ), and reads nothing.
        let unread = unsafe { ioctl(socket, Getter::<OUTQ, c_int>::new()) }?;
        Ok(unread)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::future::poll_fn;
    use std::io::Read as _;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_was_written_is_consumed_when_all_of_it_was_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let consumed = async |ours: &UnixStream| poll_fn(|cx| poll_consumed(ours, cx)).await;
        assert!(consumed(&ours).now_or_never().is_some(), "nothing was written");
        for length in [1, 600, 5000, 100_000] {
            ours.write_all(&vec![b'x'; length]).await.unwrap();
            assert!(consumed(&ours).now_or_never().is_none(), "{length}");
            theirs.read_exact(&mut vec![0; length - 1]).await.unwrap();
            tokio::task::yield_now().await;
            assert!(consumed(&ours).now_or_never().is_none(), "{length} but for one byte");
            // It is waited for, and not only asked.
            let reading = async { theirs.read_exact(&mut [0]).await.unwrap() };
            let ((), _) = tokio::join!(consumed(&ours), reading);
        }
    }

    /// Another processor reads while it is asked.
    #[tokio::test]
    async fn it_is_never_missed() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let reader = std::thread::spawn(move || while theirs.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {});
        let mut ours = UnixStream::from_std(ours).unwrap();
        for round in 0..50_000 {
            ours.write_all(&[b'x'; 600]).await.unwrap();
            let waited = timeout(Duration::from_secs(20), poll_fn(|cx| poll_consumed(&ours, cx))).await;
            assert!(waited.is_ok(), "in round {round}");
        }
        drop(ours);
        reader.join().unwrap();
    }

    #[tokio::test]
    async fn nothing_is_waited_for_once_the_other_side_is_closed() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"x").await.unwrap();
        let closing = async {
            tokio::task::yield_now().await;
            drop(theirs);
        };
        tokio::join!(poll_fn(|cx| poll_consumed(&ours, cx)), closing);
    }
}
