//! The body of a request that comes after its head, and the stream that it is read from.
//!
//! Whoever wants the body reads it off the connection, straight into the buffers that it is kept in. So a connection
//! lends its stream for as long as a body comes ([`Line`]), and never reads beyond its end.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body_room::BodyRoom;
use crate::http::body::{BodyError, Place};
use crate::serve::client_stream::ClientStream;
use crate::upstream::shared_room;

/// The most that is read at once of a body that comes fast.
const LARGEST: usize = shared_room::SIZE;
/// How much is read at once of a body that comes slowly. Of such there may be many for long, so that no buffer waits for
/// them.
const SLOW: usize = 8 * 1024;

/// A connection's stream, which is lent to the body of a request while that comes. The two may be driven by different
/// tasks.
#[derive(Debug)]
pub(super) enum Line<T> {
    Free(T),
    Lent(Loan<T>),
    /// For a moment, while it changes.
    Gone,
}

impl<T> Line<T> {
    pub(super) fn new(stream: T) -> Self {
        Self::Free(stream)
    }

    /// The stream, unless it is lent.
    pub(super) fn free(&self) -> Option<&T> {
        match self {
            Self::Free(stream) => Some(stream),
            Self::Lent(_) | Self::Gone => None,
        }
    }

    /// The same, for good.
    pub(super) fn into_free(mut self) -> Option<T> {
        match std::mem::replace(&mut self, Self::Gone) {
            Self::Free(stream) => Some(stream),
            Self::Lent(_) | Self::Gone => None,
        }
    }

    /// Lends the stream to a body that has begun like this, and of which so much is still to come.
    pub(super) fn lend(&mut self, begun: Bytes, missing: u64) -> Incoming<T> {
        let stream = match std::mem::replace(self, Self::Gone) {
            Self::Free(stream) => Some(stream),
            Self::Lent(_) | Self::Gone => None,
        };
        // Who sends much at once sends more.
        let (room, is_fast) = (BodyRoom::none(), begun.len() >= SLOW / 2);
        let (has_reader, is_cut, waiter) = (true, false, None);
        let lent = Lent { stream, begun, missing, room, came_fast: 0, is_fast, has_reader, is_cut, waiter };
        let lent = Arc::new(Mutex::new(lent));
        *self = Self::Lent(Loan(lent.clone()));
        Incoming(lent)
    }

    /// Takes the stream back, if the body has come to its end. Whether it is free.
    pub(super) fn take_back(&mut self) -> bool {
        if let Self::Lent(lent) = self {
            let mut lent = lock(&lent.0);
            if lent.missing > 0 {
                return false;
            }
            if let Some(stream) = lent.stream.take() {
                drop(lent);
                *self = Self::Free(stream);
            }
        }
        true
    }

    /// Ready when the stream is back, or never will be, because nobody reads the body any more that has not come to its
    /// end. Whether it is free.
    pub(super) fn poll_back(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Self::Lent(lent) = self {
            let mut lent = lock(&lent.0);
            let may_come = lent.has_reader && !lent.is_cut;
            if lent.missing > 0 {
                lent.waiter = Some(cx.waker().clone());
                return if may_come { Poll::Pending } else { Poll::Ready(false) };
            }
        }
        Poll::Ready(self.take_back())
    }

    /// Whether a body has broken off.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self, Self::Lent(lent) if lock(&lent.0).is_cut)
    }

    /// Gives back what memory is not in use. The pieces that lie in the room hold all of it on, so the next ones begin as
    /// small as those of a new body.
    pub(super) fn shrink(&mut self) {
        if let Self::Lent(lent) = self {
            let mut lent = lock(&lent.0);
            (lent.room, lent.came_fast) = (BodyRoom::none(), 0);
        }
    }

    fn with<R>(&mut self, act: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>>
    where
        T: Unpin,
    {
        match self {
            Self::Free(stream) => act(Pin::new(stream)),
            Self::Lent(lent) => match &mut lock(&lent.0).stream {
                Some(stream) => act(Pin::new(stream)),
                None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            },
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Line<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buffer))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Line<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write_vectored(cx, slices))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

impl<T: ClientStream + Unpin> ClientStream for Line<T> {
    fn waiting(&self) -> usize {
        self.free().map_or(0, ClientStream::waiting)
    }

    fn poll_send_placed(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        before: &[u8],
        piece: &[u8],
        place: &Place,
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_send_placed(cx, before, piece, place))
    }
}

/// What a connection has in place of a stream that it lent.
#[derive(Debug)]
pub(super) struct Loan<T>(Arc<Mutex<Lent<T>>>);

impl<T> Drop for Loan<T> {
    fn drop(&mut self) {
        // If it is not back by now, the connection has ended, whoever still reads.
        lock(&self.0).stream = None;
    }
}

/// What a connection and the body of a request share.
#[derive(Debug)]
pub(super) struct Lent<T> {
    /// `None` when the connection has it again, or has ended.
    stream: Option<T>,
    /// What has been read and is not handed on.
    begun: Bytes,
    /// How much is to be read.
    missing: u64,
    /// Where it is read while it comes fast.
    room: BodyRoom,
    /// How much of it came fast, as far as that decides how large the next room is.
    came_fast: usize,
    /// The piece before was a large one.
    is_fast: bool,
    /// Somebody may want the rest.
    has_reader: bool,
    /// The client has ended before its body.
    is_cut: bool,
    /// The connection, if it waits for the stream.
    waiter: Option<Waker>,
}

fn lock<T>(lent: &Mutex<Lent<T>>) -> MutexGuard<'_, Lent<T>> {
    lent.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Lent<T> {
    /// What is not handed on.
    fn remaining(&self) -> u64 {
        self.begun.len() as u64 + self.missing
    }

    fn wake(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

impl<T: AsyncRead + ClientStream + Unpin> Lent<T> {
    /// The next piece.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.remaining() == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(if self.is_fast { self.poll_fast(cx) } else { self.poll_slow(cx) });
        match &piece {
            Ok(piece) => self.is_fast = piece.len() >= SLOW,
            Err(_) => self.is_cut = true,
        }
        if self.missing == 0 || self.is_cut {
            self.wake();
        }
        Poll::Ready(Some(piece))
    }

    /// What has come, and no more memory than that.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if !self.begun.is_empty() {
            return Poll::Ready(Ok(std::mem::take(&mut self.begun)));
        }
        let mut space = [const { MaybeUninit::uninit() }; SLOW];
        let most = usize::try_from(self.missing).map_or(SLOW, |missing| missing.min(SLOW));
        let mut read = ReadBuf::uninit(&mut space[..most]);
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        self.missing -= read.filled().len() as u64;
        Poll::Ready(match read.filled() {
            [] => Err(io::ErrorKind::UnexpectedEof.into()),
            piece => Ok(Bytes::copy_from_slice(piece)),
        })
    }

    /// All that is there, as far as there is room for it.
    ///
    /// Only the pieces are counted, and each holds all of the room that it lies in. So a room is no larger than what came
    /// before it, or what is there to be read (which may be much less once it is decrypted), or two pieces that come
    /// slowly (a shared one is less than twice as large as that); and it is used up, but for less than [`SLOW`], by however
    /// many pieces, before there is another.
    fn poll_fast(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let remaining = usize::try_from(self.remaining()).unwrap_or(usize::MAX);
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let room = &mut self.room;
        if room.left() < remaining.min(SLOW) {
            let most = remaining.min(LARGEST);
            // The system is asked only if that may make a difference.
            let come = if self.came_fast >= most { most } else { self.came_fast.max(stream.waiting()) };
            room.renew(most.min((self.begun.len() + come).max(2 * SLOW)));
        }
        // There is some at the first piece only, for which the room is new.
        room.add(&std::mem::take(&mut self.begun));
        while self.missing > 0 && room.left() > 0 {
            let most = usize::try_from(self.missing).unwrap_or(usize::MAX).min(room.left());
            match room.poll_read(stream, cx, most) {
                Poll::Ready(Ok(read)) if read > 0 => self.missing -= read as u64,
                // What has come goes first.
                _ if room.filled() > 0 => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        self.came_fast = (self.came_fast + room.filled()).min(LARGEST);
        Poll::Ready(Ok(room.split()))
    }
}

/// A body that comes.
#[derive(Debug)]
pub(super) struct Incoming<T>(Arc<Mutex<Lent<T>>>);

impl<T: AsyncRead + ClientStream + Unpin> HttpBody for Incoming<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        lock(&self.0).poll_piece(cx).map_ok(Frame::data).map_err(BodyError::from)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(lock(&self.0).remaining())
    }
}

impl<T> Drop for Incoming<T> {
    fn drop(&mut self) {
        let mut lent = lock(&self.0);
        lent.has_reader = false;
        lent.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::task::noop_waker_ref;
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    const MUCH: usize = 64 * 1024;

    /// A line of which the body has begun with `ab`, and has so many bytes more; and its client.
    fn lent(missing: u64) -> (Line<UnixStream>, Incoming<UnixStream>, UnixStream) {
        let (client, server) = UnixStream::pair().unwrap();
        let mut line = Line::new(server);
        let incoming = line.lend(Bytes::from_static(b"ab"), missing);
        (line, incoming, client)
    }

    #[tokio::test]
    async fn a_body_ends_where_it_should_and_what_follows_is_the_connections() {
        let (mut line, mut incoming, mut client) = lent(3);
        assert_eq!(incoming.size_hint().exact(), Some(5));
        client.write_all(b"cdefg").await.unwrap();
        assert!(!line.take_back(), "it has not come to its end");
        let read = [incoming.frame().await, incoming.frame().await].map(|piece| piece.unwrap().unwrap());
        assert_eq!(read.map(|piece| piece.into_data().unwrap()), ["ab", "cde"]);
        assert!(incoming.is_end_stream() && incoming.frame().await.is_none());
        assert!(line.take_back() && line.free().is_some());
        let mut rest = [0; 2];
        line.read_exact(&mut rest).await.unwrap();
        assert_eq!((&rest, line.is_cut()), (b"fg", false));
    }

    #[tokio::test]
    async fn what_has_come_is_handed_on_before_more_is_there() {
        let (_line, mut incoming, mut client) = lent(2);
        for piece in ["ab", "c", "d"] {
            assert_eq!(incoming.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
            client.write_all(if piece == "ab" { b"c" } else { b"d" }).await.unwrap();
        }
        assert!(incoming.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_body_that_is_too_short_is_an_error_for_good_and_its_connection_ends() {
        let (mut line, mut incoming, mut client) = lent(3);
        client.write_all(b"c").await.unwrap();
        drop(client);
        for expected in ["ab", "c"] {
            assert_eq!(incoming.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
        }
        for _ in 0..2 {
            assert!(incoming.frame().await.unwrap().is_err());
        }
        assert!(line.is_cut() && !line.take_back() && !incoming.is_end_stream());
        assert!(!std::future::poll_fn(|cx| line.poll_back(cx)).await);
    }

    #[tokio::test]
    async fn the_stream_comes_back_with_the_end_of_the_body_or_not_at_all() {
        for is_read in [true, false] {
            let (mut line, mut incoming, mut client) = lent(1);
            assert!(line.poll_back(&mut Context::from_waker(noop_waker_ref())).is_pending());
            let reading = tokio::spawn(async move {
                if is_read {
                    while incoming.frame().await.is_some() {}
                }
                drop(incoming);
            });
            client.write_all(b"c").await.unwrap();
            let is_back = std::future::poll_fn(|cx| line.poll_back(cx)).await;
            assert_eq!((is_back, line.free().is_some()), (is_read, is_read));
            reading.await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_reads_beyond_the_end_of_the_connection_gets_an_error() {
        let (line, mut incoming, mut client) = lent(3);
        drop(line);
        assert!(incoming.frame().await.unwrap().is_ok() && incoming.frame().await.unwrap().is_err());
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the client sees its end at once");
    }

    #[tokio::test]
    async fn what_comes_fast_is_read_in_large_pieces_that_are_not_written_over_while_they_are_held() {
        let (_line, mut incoming, mut client) = lent(4 * MUCH as u64);
        tokio::spawn(async move {
            for byte in 0..4 {
                client.write_all(&vec![byte; MUCH]).await.unwrap();
            }
        });
        let mut held: Vec<Bytes> = Vec::new();
        while let Some(piece) = incoming.frame().await {
            held.push(piece.unwrap().into_data().unwrap());
        }
        assert!(held.concat() == [&b"ab"[..], &[0; MUCH], &[1; MUCH], &[2; MUCH], &[3; MUCH]].concat());
        assert!(held.len() < 10, "{:?}", held.iter().map(Bytes::len).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_room_is_used_again_when_nobody_holds_what_was_read() {
        let (mut line, mut incoming, mut client) = lent(104 * MUCH as u64);
        lock(&incoming.0).is_fast = true;
        let (mut places, mut taken) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            client.write_all(&vec![b'x'; MUCH]).await.unwrap();
            let mut read = 0;
            while read < MUCH {
                let piece = incoming.frame().await.unwrap().unwrap().into_data().unwrap();
                places.push(piece.as_ptr());
                read += piece.len();
                drop(piece);
                // It would get the place of one that was freed.
                taken.push(vec![0_u8; MUCH]);
            }
        }
        // Those that grow have a quarter of a MiB; all that was read has 6.
        let mut mebibytes: Vec<_> = places.iter().map(|place| place.addr() >> 20).collect();
        mebibytes.sort_unstable();
        mebibytes.dedup();
        assert!(mebibytes.len() <= 5, "{mebibytes:x?}");
        line.shrink();
        assert_eq!(lock(&incoming.0).room.left(), 0);
    }

    #[tokio::test]
    async fn who_holds_little_pieces_holds_no_more_rooms_than_these_fill() {
        const PIECE: usize = SLOW + 1000;
        let (_line, mut incoming, mut client) = lent(40 * PIECE as u64);
        lock(&incoming.0).is_fast = true;
        let (mut held, mut rooms, mut end) = (Vec::<Bytes>::new(), 0, std::ptr::null());
        for _ in 0..40 {
            client.write_all(&[b'x'; PIECE]).await.unwrap();
            let piece = incoming.frame().await.unwrap().unwrap().into_data().unwrap();
            rooms += usize::from(piece.as_ptr() != end);
            end = piece.as_ptr_range().end;
            held.push(piece);
        }
        assert!(incoming.is_end_stream());
        // 16, 16 and 32 KiB, twice as much each time, and one that is begun.
        assert!(rooms <= 10, "{rooms}");
    }

    #[tokio::test]
    async fn what_is_there_at_once_is_read_into_one_room() {
        let (_line, mut incoming, mut client) = lent(2 * MUCH as u64);
        lock(&incoming.0).is_fast = true;
        client.write_all(&vec![b'x'; 2 * MUCH]).await.unwrap();
        for expected in [2, SLOW, 2 * MUCH - SLOW] {
            assert_eq!(incoming.frame().await.unwrap().unwrap().into_data().unwrap().len(), expected);
        }
    }

    /// Its stream says that much more has come than has.
    struct Boaster(UnixStream);

    impl AsyncRead for Boaster {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Boaster {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl ClientStream for Boaster {
        fn waiting(&self) -> usize {
            4 << 20
        }
    }

    #[tokio::test]
    async fn no_room_is_larger_than_it_may_be() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut line = Line::new(Boaster(server));
        let mut incoming = line.lend(Bytes::from_static(&[b'x'; SLOW]), 8 << 20);
        client.write_all(b"x").await.unwrap();
        while incoming.frame().now_or_never().is_some() {}
        let room = lock(&incoming.0).room.left();
        assert!((LARGEST - 2 * SLOW..=LARGEST + 64).contains(&room), "{room}");
    }

    #[tokio::test]
    async fn who_sends_a_little_and_pauses_holds_little() {
        let (mut line, mut incoming, mut client) = lent(1 << 20);
        lock(&incoming.0).is_fast = true;
        for pieces in [[SLOW, SLOW, 4 * SLOW, 8 * SLOW], [SLOW; 4]] {
            for piece in pieces {
                client.write_all(&vec![b'x'; piece]).await.unwrap();
                let _held = incoming.frame().await.unwrap().unwrap();
                let lent = lock(&incoming.0);
                let (room, came) = (lent.room.left(), lent.came_fast);
                assert!(room <= came.max(2 * SLOW) + 64, "{room} bytes beside {came}");
            }
            line.shrink();
        }
    }

    #[tokio::test]
    async fn what_came_fast_of_a_body_that_breaks_off_is_handed_on_before_the_error() {
        let (line, mut incoming, mut client) = lent(4 * MUCH as u64);
        lock(&incoming.0).is_fast = true;
        client.write_all(&[b'c'; MUCH + SLOW]).await.unwrap();
        drop(client);
        let mut came = Vec::new();
        let error = loop {
            match incoming.frame().await.unwrap() {
                Ok(piece) => came.extend_from_slice(&piece.into_data().unwrap()),
                Err(error) => break error,
            }
        };
        assert!(came == [&b"ab"[..], &[b'c'; MUCH + SLOW]].concat(), "{} bytes", came.len());
        assert_eq!(error.downcast::<io::Error>().unwrap().kind(), io::ErrorKind::UnexpectedEof);
        assert!(line.is_cut() && incoming.frame().await.unwrap().is_err());
    }
}
