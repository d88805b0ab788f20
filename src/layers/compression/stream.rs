//! A body that is compressed while it passes.
//!
//! What the application has sent so far is flushed as soon as there is no more of it for the moment, so that a page
//! in pieces, or a long poll, arrives in pieces. One turn takes a bounded number of bytes, so that no other request
//! waits for a long piece to be compressed.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::encoder::Encoder;
use crate::http::body::{Body, BodyError};

/// How many bytes are compressed in one turn: about a millisecond of work at the levels that are the defaults.
const TURN: usize = 32 * 1024;
/// How much is gathered, at least, before it is sent on without a flush.
const WORTH_SENDING: usize = 8 * 1024;

/// A body on its way through an encoder.
pub(super) struct Compressed {
    body: Body,
    encoder: Encoder,
    /// What is still to be compressed of the piece that came last.
    left: Bytes,
    /// What came out, and is too little to be sent by itself.
    ready: Vec<u8>,
    /// Whether something went in that may not have come out.
    is_dirty: bool,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Compressed {
    pub(super) fn new(body: Body, encoder: Encoder, permit: OwnedSemaphorePermit) -> Self {
        Self { body, encoder, left: Bytes::new(), ready: Vec::new(), is_dirty: false, is_over: false, _permit: permit }
    }

    fn give(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        let ready = std::mem::take(&mut self.ready);
        (!ready.is_empty()).then(|| Ok(Frame::data(ready.into())))
    }

    /// Compresses one turn's worth.
    fn work(&mut self) -> Result<(), BodyError> {
        let turn = self.left.len().min(TURN);
        self.encoder.write(&self.left[..turn])?;
        self.left.advance(turn);
        self.is_dirty = true;
        self.ready.extend(self.encoder.take());
        Ok(())
    }
}

impl HttpBody for Compressed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        if this.left.is_empty() {
            match Pin::new(&mut this.body).poll_frame(cx) {
                // Trailers have no data; what follows them is the end.
                Poll::Ready(Some(Ok(frame))) => this.left = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    this.is_over = true;
                    let last = this.encoder.finish()?;
                    this.ready.extend(last);
                    return Poll::Ready(this.give());
                }
                Poll::Pending => {
                    if std::mem::take(&mut this.is_dirty) {
                        this.encoder.flush()?;
                        this.ready.extend(this.encoder.take());
                    }
                    return this.give().map_or(Poll::Pending, |frame| Poll::Ready(Some(frame)));
                }
            }
        }
        if let Err(error) = this.work() {
            this.is_over = true;
            return Poll::Ready(Some(Err(error)));
        }
        if this.ready.len() >= WORTH_SENDING {
            return Poll::Ready(this.give());
        }
        // Another turn, after the others have had theirs.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::sync::mpsc;

    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::config::CompressionConfig;
    use crate::http::encoding::Coding;

    fn compressed(body: Body, coding: Coding) -> Compressed {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a permit");
        Compressed::new(body, Encoder::new(coding, &CompressionConfig::default()), permit)
    }

    fn brotli_so_far(sent: &[u8]) -> String {
        let (mut decoder, mut text, mut part) = (brotli::Decompressor::new(sent, 4096), Vec::new(), [0; 512]);
        while let Ok(read @ 1..) = decoder.read(&mut part) {
            text.extend(&part[..read]);
        }
        String::from_utf8(text).expect("text")
    }

    #[tokio::test]
    async fn each_piece_can_be_read_before_the_next_is_there() {
        let (sender, receiver) = mpsc::channel::<&'static str>(1);
        let pieces = stream::unfold(receiver, |mut receiver| async move {
            let piece = receiver.recv().await?;
            Some((Ok::<_, BodyError>(Frame::data(Bytes::from(piece))), receiver))
        });
        let mut body = compressed(Body::stream(StreamBody::new(pieces)), Coding::Brotli);
        let (mut sent, mut expected) = (Vec::new(), String::new());
        for piece in ["one\n", "two\n", "three\n"] {
            sender.send(piece).await.expect("it is being read");
            expected += piece;
            let frame = body.frame().await.expect("a piece").expect("no error");
            sent.extend(frame.into_data().expect("data"));
            assert_eq!(brotli_so_far(&sent), expected);
        }
        drop(sender);
        sent.extend(body.collect().await.expect("an end").to_bytes());
        assert_eq!(brotli_so_far(&sent), expected);
    }

    #[tokio::test]
    async fn a_long_body_comes_whole_and_in_bounded_turns() {
        let text: Vec<u8> =
            (0..300_000_u32).flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) >> 16).into_bytes()).collect();
        for coding in Coding::ALL {
            let mut body = compressed(Body::from(Bytes::from(text.clone())), coding);
            let (mut sent, mut turns) = (Vec::new(), 0);
            loop {
                turns += 1;
                let polled = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
                match polled {
                    Poll::Ready(Some(frame)) => {
                        let data = frame.expect("no error").into_data().expect("data");
                        sent.extend(data);
                    }
                    Poll::Ready(None) => break,
                    Poll::Pending => {}
                }
            }
            assert!(turns > text.len() / TURN, "{turns} turns were too long");
            let mut decoded = Vec::new();
            let read = match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut decoded),
                Coding::Brotli => brotli::Decompressor::new(&sent[..], 4096).read_to_end(&mut decoded),
                Coding::Zstd => {
                    zstd::stream::read::Decoder::new(&sent[..]).expect("a decoder").read_to_end(&mut decoded)
                }
            };
            assert!(read.is_ok() && decoded == text && sent.len() < text.len(), "{coding}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_does_not_look_whole() {
        let pieces = [Ok(Frame::data(Bytes::from("half"))), Err(BodyError::from("cut"))];
        for coding in Coding::ALL {
            let broken = pieces.iter().map(|piece| match piece {
                Ok(frame) => Ok(Frame::data(frame.data_ref().expect("data").clone())),
                Err(error) => Err(BodyError::from(error.to_string())),
            });
            let broken: Vec<_> = broken.collect();
            let body = compressed(Body::stream(StreamBody::new(stream::iter(broken))), coding);
            assert!(body.collect().await.is_err(), "{coding}");
        }
    }
}
