//! How large a request's body may be, how long its sender may pause, and how slow it may be.
//!
//! A client that sends a byte now and then never pauses for long, but holds what its body takes here, or a worker of the
//! application. So in each span of time a least number of bytes must come. Only the time counts in which the body is
//! waited for: an application that reads slowly is no fault of the client's.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::StatusCode;
use ::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_http::timeout::{TimeoutBody, TimeoutError};

use crate::config::{LimitsConfig, TimeoutsConfig};
use crate::http::body::{Body, BodyError, SlowBody};
use crate::http::{Request, Response, answers};

/// Puts bounds on the body, or refuses a request that announces too much.
///
/// A body that grows beyond the limit on the way ends with `http_body_util::LengthLimitError`, and one
/// that pauses for too long or is too slow with [`SlowBody`]; who reads it decides what to answer.
///
/// # Errors
/// The refusal (413) of a body that announces more than it may have.
pub fn bound(request: &mut Request, limits: &LimitsConfig, timeouts: &TimeoutsConfig) -> Result<(), Box<Response>> {
    // Nothing to bound, and no box to pay for.
    if request.body.is_end_stream() {
        return Ok(());
    }
    let announced = request.head.headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let limit = match limits.body_size.as_usize() {
        0 => usize::MAX,
        limit => limit,
    };
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Box::new(answers::status(StatusCode::PAYLOAD_TOO_LARGE)));
    }
    let body = Limited::new(std::mem::take(&mut request.body), limit);
    request.body = paced(body, timeouts.body.0, limits.body_rate.0);
    Ok(())
}

/// A body that may pause for so long, and of which so many bytes must come in a second.
fn paced(body: Limited<Body>, span: Duration, rate: u64) -> Body {
    match rate {
        // Then a pause is all there is to look for.
        0 => Body::stream(TimeoutBody::new(span, body).map_err(name_pause)),
        rate => Body::stream(Paced { body, pace: Pace::new(span, rate), waiting_since: None, alarm: None }),
    }
}

fn name_pause(error: BodyError) -> BodyError {
    if error.is::<TimeoutError>() { SlowBody::Paused.into() } else { error }
}

/// What is known of the pace of one body.
#[derive(Debug)]
struct Pace {
    /// How long the span is in which bytes are counted.
    span: Duration,
    /// How many bytes must come in one.
    least: u64,
    /// How much of the present span has been waited for.
    waited: Duration,
    /// How much of it has been waited for since the last bytes, and spans before it.
    paused: Duration,
    /// How many bytes have come in it.
    came: u64,
}

impl Pace {
    fn new(span: Duration, rate: u64) -> Self {
        let least = (u128::from(rate) * span.as_millis() / 1000).try_into().unwrap_or(u64::MAX);
        Self { span, least, waited: Duration::ZERO, paused: Duration::ZERO, came: 0 }
    }

    /// Notes that nothing has come for `pause` by now. Tells after how long a pause to look again.
    fn nothing_came(&mut self, pause: Duration) -> Result<Duration, SlowBody> {
        if pause >= self.span {
            return Err(SlowBody::Paused);
        }
        self.wait(pause)?;
        Ok((pause + self.span - self.waited).min(self.span))
    }

    /// Notes that bytes have come, after a pause.
    fn bytes_came(&mut self, bytes: usize, pause: Duration) -> Result<(), SlowBody> {
        self.came += bytes as u64;
        self.wait(pause)?;
        self.paused = Duration::ZERO;
        Ok(())
    }

    fn wait(&mut self, pause: Duration) -> Result<(), SlowBody> {
        self.waited += pause.saturating_sub(self.paused);
        self.paused = pause;
        if self.waited >= self.span {
            if self.came < self.least {
                return Err(SlowBody::BelowRate);
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(())
    }
}

pin_project_lite::pin_project! {
    /// A body that is given up when it pauses for too long, or comes too slowly.
    struct Paced {
        body: Limited<Body>,
        pace: Pace,
        // When the wait for the next bytes began, if it has.
        waiting_since: Option<Instant>,
        // It may ring for a wait that is over, which costs far less than to set it for each.
        #[pin]
        alarm: Option<Sleep>,
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut this = self.project();
        if let Poll::Ready(frame) = Pin::new(this.body).poll_frame(cx) {
            let pause = this.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
            let Some(Ok(bytes)) = &frame else { return Poll::Ready(frame) };
            return Poll::Ready(match this.pace.bytes_came(bytes.data_ref().map_or(0, Bytes::len), pause) {
                Ok(()) => frame,
                Err(slow) => Some(Err(slow.into())),
            });
        }
        let since = *this.waiting_since.get_or_insert_with(Instant::now);
        loop {
            if let Some(alarm) = this.alarm.as_mut().as_pin_mut() {
                ready!(alarm.poll(cx));
            }
            match this.pace.nothing_came(since.elapsed()) {
                Ok(pause) => this.alarm.set(Some(sleep_until(since + pause))),
                Err(slow) => return Poll::Ready(Some(Err(slow.into()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::sleep;

    use super::*;

    /// Reads a body that comes in pieces of so many bytes, each after so many seconds. Tells how much of it came, when
    /// it ended, and why.
    async fn read(rate: u64, pieces: &'static [(u64, usize)]) -> (usize, u64, Option<SlowBody>) {
        let frames = stream::iter(pieces).then(|(seconds, bytes)| async move {
            sleep(Duration::from_secs(*seconds)).await;
            Ok::<_, BodyError>(Frame::data(Bytes::from(vec![b'x'; *bytes])))
        });
        let body = Limited::new(Body::stream(StreamBody::new(Box::pin(frames))), usize::MAX);
        let mut body = paced(body, Duration::from_secs(60), rate);
        let (began, mut length) = (Instant::now(), 0);
        let end = loop {
            match body.frame().await {
                Some(Ok(frame)) => length += frame.into_data().expect("data").len(),
                Some(Err(error)) => break Some(*error.downcast().expect("it is slow")),
                None => break None,
            }
        };
        (length, began.elapsed().as_secs(), end)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_pause_and_be_slow_within_bounds() {
        use SlowBody::{BelowRate, Paused};
        for (rate, pieces, expected) in [
            (10, &[(1, 5), (1, 5)][..], (10, 2, None)),
            (10, &[(59, 600), (59, 600), (59, 600)], (1800, 177, None)),
            (10, &[(61, 600)], (0, 60, Some(Paused))),
            (10, &[(30, 600), (61, 600)], (600, 90, Some(Paused))),
            (0, &[(50, 1), (50, 1), (50, 1)], (3, 150, None)),
            (10, &[(50, 1), (50, 1), (50, 1)], (1, 60, Some(BelowRate))),
            (10, &[(30, 599), (31, 600)], (599, 60, Some(BelowRate))),
            (10, &[(0, 10_000), (50, 1), (50, 1), (50, 1)], (10_002, 120, Some(BelowRate))),
        ] {
            assert_eq!(read(rate, pieces).await, expected, "for {rate} and {pieces:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_counts_in_which_the_body_is_waited_for() {
        let frames = stream::iter(0..5).map(|_| Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x"))));
        let body = Limited::new(Body::stream(StreamBody::new(frames)), usize::MAX);
        let mut body = paced(body, Duration::from_secs(60), 10);
        for _ in 0..5 {
            assert!(body.frame().await.expect("a piece").is_ok());
            sleep(Duration::from_secs(100)).await;
        }
        assert!(body.frame().await.is_none());
    }
}
