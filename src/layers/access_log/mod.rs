//! One line per request, noted when the last byte of its answer has been handed on, and written a moment later.
//!
//! `entry` is what is told of a request, `json` one of the forms of its line, `queue` who writes it.

mod entry;
mod json;
mod queue;

use std::io::{self, IsTerminal as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use self::entry::{Entry, Line};
use self::queue::Queue;
pub use self::queue::Writer;
use crate::config::values::AccessLog as Form;
use crate::http::body::{Body, BodyError, Place};
use crate::http::lines::Lines;
use crate::http::{Client, Request, Response};

/// Where access lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: Option<Arc<Queue>>,
}

impl AccessLog {
    /// A log on standard output.
    ///
    /// # Errors
    /// When the system gives no thread for it.
    pub fn start(form: Form) -> io::Result<(Self, Writer)> {
        let terminal = io::stdout().is_terminal();
        let form = match form {
            Form::Off => return Ok((Self { queue: None }, Writer::none())),
            Form::Json => Line::Json,
            Form::Auto if !terminal => Line::Json,
            Form::Auto | Form::Text => Line::Text { colour: terminal },
        };
        let queue = Arc::new(Queue::default());
        let writer = Writer::start(&queue, form)?;
        Ok((Self { queue: Some(queue) }, writer))
    }

    /// Begins the line of a request, if there is to be one.
    pub fn begin(&self, request: &Request) -> Logging {
        let pending = |queue: &Arc<Queue>| Box::new(Pending { queue: queue.clone(), entry: Entry::of(request) });
        Logging(self.queue.as_ref().map(pending))
    }

    /// Writes a line for a request that could not be read, and was answered by the parser.
    pub fn malformed(&self, client: &Client, status: u16, reason: &str) {
        let Some(queue) = &self.queue else { return };
        queue.push(&Entry::malformed(client, status, reason).told());
    }
}

/// The line of a request that is not answered yet. It is large, and on the heap, because it goes through many hands.
#[derive(Debug)]
pub struct Logging(Option<Box<Pending>>);

impl Logging {
    /// Notes what the answer is; the rest its body does. `lines` is what is written of its head already.
    pub fn answered(mut self, response: Response, lines: Lines) -> ::http::Response<LoggedBody> {
        if let Some(pending) = &mut self.0 {
            pending.entry.answered(&response, lines.coding);
        }
        response.map(|inner| LoggedBody { inner, pending: self.0, head: lines.text, is_cut: false })
    }
}

/// What is told of a request when it is dropped: at the end of the answer, or of the client's patience.
#[derive(Debug)]
struct Pending {
    queue: Arc<Queue>,
    entry: Entry,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.queue.push(&self.entry.told());
    }
}

/// A body that counts its bytes for the log.
#[derive(Debug)]
pub struct LoggedBody {
    inner: Body,
    pending: Option<Box<Pending>>,
    /// What is written of the answer's head already, or the room for it.
    head: Vec<u8>,
    is_cut: bool,
}

impl LoggedBody {
    /// Takes what is written of the answer's head already, or the room for it.
    pub fn take_head(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    /// Where the system has the next piece, as [`Body::place`] says.
    pub fn place(&self) -> Option<&Place> {
        self.inner.place()
    }

    /// Has what is read from files come in small pieces.
    pub fn in_small_pieces(&mut self) {
        self.inner.in_small_pieces();
    }

    /// Notes that the last bytes that were taken of it do not reach the client, and nothing more does.
    pub fn cut(&mut self, bytes: usize) {
        self.is_cut = true;
        if let Some(Pending { entry, .. }) = self.pending.as_deref_mut() {
            entry.bytes = entry.bytes.saturating_sub(bytes as u64);
        }
    }
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Pending { entry, .. }) = self.pending.as_deref_mut() {
            match &frame {
                Some(Ok(frame)) => entry.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(error)) => entry.error = Some(error.to_string()),
                None => entry.complete = true,
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        if let Some(Pending { entry, .. }) = self.pending.as_deref_mut() {
            entry.complete |= self.inner.is_end_stream() && !self.is_cut;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{RequestId, Scheme};

    pub(super) fn entry() -> Entry {
        let (head, ()) = ::http::Request::get("/").body(()).unwrap().into_parts();
        let client = Client { address: None, port: 1, scheme: Scheme::Https, local_port: 443 };
        Entry::of(&Request { head, body: Body::Empty, client, id: RequestId(1), early_hints: None, lines: None })
    }

    #[test]
    fn what_was_taken_of_a_body_and_did_not_reach_the_client_does_not_count() {
        for (cut, expected) in [(None, (10, false)), (Some(4), (6, true))] {
            let queue = Arc::new(Queue::default());
            let mut entry = entry();
            entry.answered(&::http::Response::new(Body::Empty), None);
            let pending = Some(Box::new(Pending { queue: queue.clone(), entry }));
            let inner = Body::from("0123456789");
            let mut body = LoggedBody { inner, pending, head: Vec::new(), is_cut: false };
            let frame = Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
            assert!(frame.is_ready());
            if let Some(bytes) = cut {
                body.cut(bytes);
            }
            drop(body);
            let line: serde_json::Value = serde_json::from_slice(&queue.lines(Line::Json)).unwrap();
            assert_eq!((line["bytes"].as_u64().unwrap(), line["aborted"] == true), expected, "{line}");
        }
    }
}
