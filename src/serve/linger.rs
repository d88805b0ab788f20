//! Reads on what a client is still sending when it has its answer already.
//!
//! A request may be answered before its body has come: it is too large, its host is unknown, the
//! application does not want it. A client that is still sending would then meet a closed connection or
//! a reset stream, and browsers and curl lose the answer over that (nginx's `lingering_close` is for
//! the same). So what is on its way is taken and thrown away, for a while.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::HeaderMap;
use ::http::header::EXPECT;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::watch::Activity;

/// A request's body that is read to its end even when nobody wants it any more.
#[derive(Debug)]
pub struct Lingering<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> {
    /// `None` when it has ended.
    body: Option<B>,
    time: Duration,
    /// Whether the client sends without being asked. Reading a body that waits for `100 Continue` would
    /// ask for it.
    is_coming: bool,
    had_trailers: bool,
    /// It broke off. What has not come then is missing.
    is_broken: bool,
    activity: Arc<Activity>,
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> Lingering<B> {
    /// `headers` are those of the request; `time` is how long to go on reading.
    pub fn new(body: B, headers: &HeaderMap, time: Duration, activity: Arc<Activity>) -> Self {
        let is_coming = !headers.contains_key(EXPECT);
        Self { body: Some(body), time, is_coming, had_trailers: false, is_broken: false, activity }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> HttpBody for Lingering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.is_coming = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.had_trailers |= frame.is_trailers(),
            other => {
                self.is_broken = other.is_some();
                self.body = None;
            }
        }
        // Where trailers end, two readers may find differently: for hyper a line ends with CRLF or LF, and all of them
        // with CRLF twice. Then nothing must follow them on this connection.
        if frame.is_none() && !self.had_trailers {
            self.activity.note_chunks(false);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        !self.is_broken && self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> Drop for Lingering<B> {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| self.is_coming && !body.is_end_stream()) else { return };
        // Without a runtime the program is ending, and the connection with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(self.time, async move { while let Some(Ok(_)) = body.frame().await {} }));
        }
    }
}
