//! From a listener to the two protocols: accepts connections, finds out whose each is and which protocol it speaks, and
//! watches it until it ends. Every wait has a deadline here, because hyper's own need a timer per request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Response;
use ::http::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use ::http::request::Parts;
use bytes::{Bytes, BytesMut};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::server::conn::http1 as hyper1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tracing::field::display;
use tracing::{debug, warn};

use super::client_stream::ClientStream;
use super::linger::Lingering;
use super::listen::{Accepting, Moving, Peer, Stream};
use super::proxy_protocol;
use super::site::{Bounds, Live, Site};
use super::watch::{Activity, Heads, InFlight, REST, Verdict, Watched, WatchedBody};
use super::workers::Thread;
use super::{http1, http2};
use crate::config::TimeoutsConfig;
use crate::http::body::{Body, BodyError};
use crate::http::early_hints::EarlyHints;
use crate::http::{Client, Request, RequestId, Scheme, forwarded, request_rules};
use crate::layers::access_log::{AccessLog, LoggedBody};
use crate::logging::seldom::Seldom;

/// What an HTTP/2 connection in the clear begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection that has no request when the server stops may take to send one that is
/// already on its way.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How long an HTTP/2 connection without a request may take for what its client's windows hold back.
const LAST_PIECES: Duration = Duration::from_secs(5);

/// Whoever finds an address of `[listen] proxy_protocol` can connect to it again and again.
static UNINTRODUCED: Seldom = Seldom::new();

/// The service that answers every request.
pub trait Stack:
    Service<Request, Response = Response<LoggedBody>, Error = Infallible, Future: Send + Unpin>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Stack for S where
    S: Service<Request, Response = Response<LoggedBody>, Error = Infallible, Future: Send + Unpin>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What all listeners share.
#[derive(Clone)]
pub struct Door<S> {
    /// Answers the requests.
    pub stack: S,
    /// Where requests are logged that never came as far as the stack.
    pub log: AccessLog,
    /// The configuration in force.
    pub live: Arc<Live>,
    /// Counts the connections.
    pub connections: TaskTracker,
    /// Says when to stop.
    pub stop: CancellationToken,
}

/// Whether a listener's connections begin with a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// In the clear.
    Plain,
    /// TLS.
    Tls,
}

/// How a listener's connections begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// With a header of the PROXY protocol, before all else.
    pub has_header: bool,
    /// With a TLS handshake, or without.
    pub security: Security,
}

/// What the requests of one connection have in common.
pub(super) struct Requests {
    pub(super) client: Client,
    /// Whoever handed the connection through does not say whose it is.
    pub(super) is_opaque: bool,
    pub(super) activity: Arc<Activity>,
    /// How long to read on what is left of a body.
    pub(super) linger: Duration,
}

impl Requests {
    /// A request as the stack wants it, and what tells the connection how long it is under way.
    pub(super) fn take<B>(
        &self,
        mut head: Parts,
        body: Option<B>,
        early_hints: Option<EarlyHints>,
    ) -> (Request, InFlight)
    where
        B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Unpin + Send + 'static,
    {
        let Some(body) = body.filter(|body| !body.is_end_stream()) else {
            self.activity.give_back_much();
            return self.take_whole(head, Body::Empty, early_hints);
        };
        // What is without a body has no end to be unsure of, and is not looked at.
        request_rules::restore_lengths(&mut head, &self.activity.take_written());
        self.activity.body_comes();
        self.activity.note_chunks(head.headers.contains_key(TRANSFER_ENCODING));
        let body = Body::stream(Lingering::new(body, &head.headers, self.linger, self.activity.clone()));
        self.take_whole(head, body, early_hints)
    }

    /// The same for a request of which nothing more comes, or whatever does is seen to.
    pub(super) fn take_whole(
        &self,
        mut head: Parts,
        body: Body,
        early_hints: Option<EarlyHints>,
    ) -> (Request, InFlight) {
        if self.is_opaque {
            forwarded::forget(&mut head.headers);
        }
        let id = RequestId(fastrand::u128(..));
        (Request { head, body, client: self.client.clone(), id, early_hints, lines: None }, self.activity.request())
    }
}

/// A connection of either protocol.
pub(super) trait Graceful {
    /// Why it may fail.
    type Error;

    /// Does what can be done now; ends when the connection does.
    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    /// Takes no further request; ends when the running ones have their answers.
    fn finish(&mut self);

    /// Gives memory back that is not needed for now.
    fn shrink(&mut self);
}

impl<I, S, B> Graceful for Box<hyper1::UpgradeableConnection<I, S>>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BodyError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: HttpBody<Error: Into<BodyError>> + 'static,
{
    type Error = hyper::Error;

    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Pin::new(&mut **self).poll(cx)
    }

    fn finish(&mut self) {
        Pin::new(&mut **self).graceful_shutdown();
    }

    /// [`Left::Resting`] gives back far more.
    fn shrink(&mut self) {}
}

/// A client's stream, with TLS or without.
trait Readable {
    /// Waits until there is something to read, or to be told.
    fn readable(&self) -> impl Future<Output = ()> + Send;
}

impl Readable for Stream {
    async fn readable(&self) {
        // What is wrong with it, the next read tells.
        let _ = match self {
            Either::Left(stream) => stream.readable().await,
            Either::Right(stream) => stream.readable().await,
        };
    }
}

impl Readable for Box<TlsStream<Stream>> {
    async fn readable(&self) {
        let (stream, session) = self.get_ref();
        if session.wants_read() {
            stream.readable().await;
        }
    }
}

/// What follows when it is known who is at the other end and what is spoken; an error is a word for the log.
type Conversation = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A connection of which that is known.
struct Met<T> {
    stream: T,
    /// What has been read of it.
    first: Bytes,
    protocol: Protocol,
    peer: Peer,
    scheme: Scheme,
    bounds: Arc<Bounds>,
}

/// What has become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It has ended.
    Nothing,
    /// Its client was late, and is not waited for.
    Cut,
    /// It is between two requests, and may be for long.
    Resting,
}

/// Why the task of a connection goes on.
enum Event<E> {
    Ended(Result<(), E>),
    Stop,
    Flood,
    Timer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl<S: Stack> Door<S> {
    /// Accepts until told to stop. The listener's descriptor is closed when this returns.
    pub async fn accept_from(self, listener: Accepting, beginning: Beginning, thread: Thread) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Without a permit this one waits, and further ones in the kernel's queue.
                    let permits = self.live.connections.clone();
                    let permit = tokio::select! {
                        () = self.stop.cancelled() => return,
                        permit = permits.acquire_owned() => permit.expect("the semaphore is never closed"),
                    };
                    let (door, seat, activity) = (self.clone(), thread.seat(), Activity::begin(permit));
                    match seat.elsewhere().cloned() {
                        None => {
                            self.connections.spawn(async move {
                                door.receive(Ok(stream), peer, beginning, activity).await;
                                drop(seat);
                            });
                        }
                        Some(handle) => {
                            let moving = Moving::leave(stream);
                            let received = async move {
                                let stream = moving.and_then(Moving::enter);
                                door.receive(stream, peer, beginning, activity).await;
                                drop(seat);
                            };
                            self.connections.spawn_on(received, &handle);
                        }
                    }
                }
                Err(error) if is_the_clients(&error) => debug!(%error, "a client left before it was accepted"),
                Err(error) => {
                    // Out of descriptors, most likely. Trying again at once would only burn the processor.
                    warn!(%error, "cannot accept connections; raise the limit of open files (LimitNOFILE)");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Each part of a connection's life is on the heap by itself, and gone with its end: it lasts long and does nothing
    /// for most of that time, and a task has room for all that it could ever become.
    fn receive(
        self,
        stream: io::Result<Stream>,
        peer: Peer,
        beginning: Beginning,
        activity: Arc<Activity>,
    ) -> impl Future<Output = ()> + Send {
        let meeting = Box::pin(async move {
            match stream {
                Ok(stream) => self.meet(stream, peer, beginning, activity).await,
                Err(error) => Err(error.to_string()),
            }
        });
        async move {
            let ended = match meeting.await {
                Ok(conversation) => conversation.await,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = ended {
                debug!(client = ?peer.address, %reason, "connection ended");
            }
        }
    }

    /// Finds out who is at the other end, and what is spoken.
    async fn meet(
        self,
        mut stream: Stream,
        mut peer: Peer,
        beginning: Beginning,
        activity: Arc<Activity>,
    ) -> Result<Conversation, String> {
        let site = self.live.site();
        let (bounds, tls) = (site.bounds.clone(), site.tls.clone());
        drop(site);
        if beginning.has_header {
            let introduced = self.introduced(&mut stream, peer, bounds.timeouts.handshake.0).await;
            peer = introduced.inspect_err(|reason| {
                let peer = peer.address.map(display);
                match UNINTRODUCED.note(std::time::Instant::now()) {
                    Some(untold) => {
                        warn!(peer, %reason, untold, "closed a connection to an address of [listen] proxy_protocol")
                    }
                    None => debug!(peer, %reason, "closed a connection to an address of [listen] proxy_protocol"),
                }
            })?;
        }
        match beginning.security {
            Security::Plain => {
                let (protocol, first) = self
                    .within(bounds.timeouts.header.0, sniff(&mut stream))
                    .await
                    .ok_or("the client said nothing")?
                    .map_err(|error| error.to_string())?;
                let met = Met { stream, first, protocol, peer, scheme: Scheme::Http, bounds };
                Ok(Box::pin(self.converse(met, activity)))
            }
            Security::Tls => {
                let config = tls.ok_or("no certificate is configured")?;
                let stream = self
                    .within(bounds.timeouts.handshake.0, TlsAcceptor::from(config).accept(stream))
                    .await
                    .ok_or("the TLS handshake took too long")?
                    .map_err(|error| format!("the TLS handshake failed: {error}"))?;
                // It goes through several hands, each of which has room for it.
                let stream = Box::new(stream);
                let protocol = match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Protocol::Http2,
                    _ => Protocol::Http1,
                };
                let met = Met { stream, first: Bytes::new(), protocol, peer, scheme: Scheme::Https, bounds };
                Ok(Box::pin(self.converse(met, activity)))
            }
        }
    }

    /// Who is at the other end, as the balancer says that hands the connection through. Only one that is trusted may.
    async fn introduced(&self, stream: &mut Stream, peer: Peer, time: Duration) -> Result<Peer, String> {
        let address = peer.address.map(|address| address.ip());
        let trusted = |site: &Site| site.config.listen.trusted_proxies.iter().any(|proxy| proxy.covers(address));
        if !trusted(&self.live.site()) {
            return Err("the peer is not in [listen] trusted_proxies".to_owned());
        }
        let origin = self.within(time, proxy_protocol::read(stream)).await;
        let origin = origin.ok_or("the PROXY protocol header took too long")?.map_err(|error| error.to_string())?;
        Ok(Peer { address: origin.or(peer.address), is_opaque: origin.is_none(), ..peer })
    }

    /// What comes of a client's first words, unless they take too long. When the server stops, only what
    /// is already on its way is waited for: browsers open connections that they may never use.
    async fn within<O>(&self, time: Duration, words: impl Future<Output = O>) -> Option<O> {
        let stopping = async {
            self.stop.cancelled().await;
            sleep(LAST_REQUEST).await;
        };
        tokio::select! {
            words = timeout(time, words) => words.ok(),
            () = stopping => None,
        }
    }

    async fn converse<T>(self, met: Met<T>, activity: Arc<Activity>) -> Result<(), String>
    where
        T: AsyncRead + ClientStream + Readable + Unpin + Send + 'static,
    {
        let Met { stream, first, protocol, peer, scheme, bounds } = met;
        let client = Client {
            address: peer.address.map(|address| address.ip()),
            port: peer.address.map_or(0, |address| address.port()),
            scheme,
            local_port: peer.local_port,
        };
        let linger = bounds.timeouts.linger.0;
        let requests = Requests { client, is_opaque: peer.is_opaque, activity: activity.clone(), linger };
        let stream = Watched::new(stream, first, activity.clone());
        match protocol {
            Protocol::Http1 => self.converse_http1(stream, Arc::new(requests), bounds).await,
            Protocol::Http2 => {
                let connection =
                    http2::Connection::new(stream, self.stack.clone(), requests, &bounds, activity.clone());
                let mut connection = Box::new(connection);
                let ended = Box::pin(self.watch(&mut *connection, Heads::Untimed, &bounds.timeouts, &activity)).await;
                if ended.map_err(|error| error.to_string())? == Left::Nothing {
                    Box::pin(connection.linger(linger)).await;
                }
                Ok(())
            }
        }
    }

    /// A plain request is answered by [`http1`], with a body whose length is told. From whatever else on, hyper has the
    /// connection until it rests.
    async fn converse_http1<T>(
        &self,
        mut stream: Watched<T>,
        requests: Arc<Requests>,
        bounds: Arc<Bounds>,
    ) -> Result<(), String>
    where
        T: AsyncRead + ClientStream + Readable + Unpin + Send + 'static,
    {
        let (activity, timeouts) = (&requests.activity, &bounds.timeouts);
        loop {
            let connection = http1::Connection::new(stream, self.stack.clone(), requests.clone(), bounds.clone());
            let mut connection = Box::new(connection);
            let (mut other, read) = loop {
                match Box::pin(self.watch(&mut *connection, Heads::Timed, timeouts, activity)).await {
                    Ok(Left::Resting) => {
                        connection.shrink();
                        if let Some(stream) = connection.stream() {
                            self.rest(stream, timeouts, activity).await;
                        }
                    }
                    Ok(Left::Nothing | Left::Cut) => match connection.leave() {
                        Some(left) => break left,
                        None => return Ok(()),
                    },
                    Err(error) => return Err(error.to_string()),
                }
            };
            activity.keep_heads(bounds.limits.header_size.as_usize());
            other.put_back(read);
            let left = self.converse_hyper(other, &requests, &bounds).await;
            // What is read from now on is of another protocol, if it is not for `http1`.
            activity.keep_heads(0);
            stream = match left {
                Ok(Some(left)) => {
                    self.rest(&left, timeouts, activity).await;
                    left
                }
                Ok(None) => return Ok(()),
                Err(error) if error.is_parse() => {
                    // hyper has answered by itself, so this is no request that the stack has seen.
                    let status = if error.is_parse_too_large() { 431 } else { 400 };
                    self.log.malformed(&requests.client, status, &error.to_string());
                    return Ok(());
                }
                Err(error) => return Err(error.to_string()),
            };
        }
    }

    /// Whatever HTTP/1.1 there is. The stream again, if the connection rests.
    async fn converse_hyper<T>(
        &self,
        stream: Watched<T>,
        requests: &Arc<Requests>,
        bounds: &Bounds,
    ) -> hyper::Result<Option<Watched<T>>>
    where
        T: AsyncRead + ClientStream + Readable + Unpin + Send + 'static,
    {
        let (stack, asked) = (self.stack.clone(), requests.clone());
        // No layer of the stack has to be waited for, so that nobody asks whether it is ready.
        let service = service_fn(move |request: ::http::Request<Incoming>| {
            let (head, body) = request.into_parts();
            let (request, in_flight) = asked.take(head, Some(body), None);
            let answer = stack.clone().call(request);
            async move {
                let mut response = answer.await?;
                if in_flight.has_open_chunks() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| WatchedBody::new(body, in_flight)))
            }
        });
        let (Bounds { limits, timeouts }, activity) = (bounds, &requests.activity);
        let connection = hyper1::Builder::new()
            // `Watched` has a deadline for heads that leaves idle connections alone.
            .header_read_timeout(None)
            .max_headers(limits.header_count.get())
            .max_header_size(limits.header_size.as_usize())
            .max_buf_size(limits.header_size.as_usize().max(64 * 1024))
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = Box::new(connection);
        let left = Box::pin(self.watch(&mut connection, Heads::Timed, timeouts, activity)).await?;
        let parts = match left {
            Left::Resting => connection.into_parts(),
            Left::Nothing | Left::Cut => None,
        };
        Ok(parts.map(|parts| {
            let mut stream = parts.io.into_inner();
            if !parts.read_buf.is_empty() {
                activity.head_begins();
                stream.put_back(parts.read_buf);
            }
            stream
        }))
    }

    /// Waits without any buffer until the client says something, or something else is to be done. What it
    /// is, [`Self::watch`] finds out.
    async fn rest<T: Readable>(&self, stream: &Watched<T>, timeouts: &TimeoutsConfig, activity: &Activity) {
        let Some(stream) = stream.stream() else { return };
        tokio::select! {
            () = stream.readable() => {}
            () = self.stop.cancelled() => {}
            () = sleep_until(activity.idle_until(timeouts)) => {}
        }
    }

    /// Drives a connection to its end or until it rests, cutting it when it is overdue.
    async fn watch<C>(
        &self,
        connection: &mut C,
        heads: Heads,
        timeouts: &TimeoutsConfig,
        activity: &Activity,
    ) -> Result<Left, C::Error>
    where
        C: Graceful,
    {
        // When to look again while nothing is overdue.
        let soon = |until: Instant| if heads == Heads::Timed { until.min(Instant::now() + REST) } else { until };
        let first = match activity.verdict(Instant::now(), heads, timeouts) {
            Verdict::Wait(until) => soon(until),
            _ => Instant::now(),
        };
        let mut timer = pin!(sleep_until(first));
        let (mut stop, mut flood) = (pin!(self.stop.cancelled()), pin!(activity.too_many_abandoned()));
        let (mut stopping, mut finishing, mut flooded) = (false, false, false);
        let mut is_asked = false;
        // An idle HTTP/1.1 connection has nothing left to send. HTTP/2 may have: the last pieces, which the
        // client's window holds back.
        let grace = if heads == Heads::Timed { LAST_REQUEST } else { LAST_PIECES };
        loop {
            let event = poll_fn(|cx| {
                if let Poll::Ready(outcome) = connection.poll_on(cx) {
                    return Poll::Ready(Event::Ended(outcome));
                }
                // These two lock what all connections share, or all streams of this one. Asked once, they wake
                // this task; until then a glance is enough.
                if !stopping && (!is_asked || self.live.is_stopping()) && stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Stop);
                }
                if !flooded && (!is_asked || activity.is_flooded()) && flood.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Flood);
                }
                is_asked = true;
                // A timer that is asked when the task has done too much at once does not ring, and who floods us sees to
                // that.
                if !has_budget_remaining() && timer.deadline() <= Instant::now() {
                    return Poll::Ready(Event::Timer);
                }
                timer.as_mut().poll(cx).map(|()| Event::Timer)
            });
            let mut finish = match event.await {
                Event::Ended(outcome) => return outcome.map(|()| Left::Nothing),
                Event::Stop => {
                    stopping = true;
                    timer.as_mut().reset(Instant::now() + LAST_REQUEST);
                    // HTTP/2 has a way to say so, and takes what is under way. HTTP/1.1 has `Connection: close`
                    // with the next answer only; closed at once, it would lose a request that is on its way.
                    heads == Heads::Untimed
                }
                Event::Flood => {
                    flooded = true;
                    true
                }
                Event::Timer => match activity.verdict(Instant::now(), heads, timeouts) {
                    Verdict::Wait(_) if stopping || finishing => {
                        // Who floods may not even answer the farewell, and is not waited for.
                        if finishing && (flooded || activity.is_idle()) {
                            return Ok(Left::Cut);
                        }
                        timer.as_mut().reset(Instant::now() + grace);
                        true
                    }
                    Verdict::Wait(_) if heads == Heads::Timed && activity.rests(Instant::now()) => {
                        return Ok(Left::Resting);
                    }
                    Verdict::Wait(until) => {
                        timer.as_mut().reset(soon(until));
                        connection.shrink();
                        false
                    }
                    Verdict::Idle if !finishing => true,
                    verdict => {
                        debug!(?verdict, "a client was cut off");
                        return Ok(Left::Cut);
                    }
                },
            };
            finish &= !finishing;
            if finish {
                finishing = true;
                connection.finish();
                timer.as_mut().reset(Instant::now() + grace);
            }
        }
    }
}

/// Reads as much as it takes to tell HTTP/2 from HTTP/1.1.
async fn sniff(stream: &mut Stream) -> io::Result<(Protocol, Bytes)> {
    // Browsers open connections that they may never use. These cost no buffer.
    stream.readable().await;
    let mut first = BytesMut::with_capacity(2 * 1024);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = first.len().min(PREFACE.len());
        if first[..length] != PREFACE[..length] {
            return Ok((Protocol::Http1, first.freeze()));
        }
        if length == PREFACE.len() {
            return Ok((Protocol::Http2, first.freeze()));
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
