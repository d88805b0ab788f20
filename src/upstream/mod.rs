//! The proxied kind of answer: the application, over HTTP/1.1 or the uwsgi protocol.
//!
//! `routes` says which application a request is for, `servers` which of its servers is asked: `balance` is the choice,
//! `standing` what is known of each, `checks` what asks them whether they are well.
//! `request` and `response` decide what each side gets to see, `connect` and `pool` provide
//! connections, `exchange` is one request and its answer on one of them: `exchange::sending` sends it, `sent` is what of it
//! is written, `consumed` whether the application has read that, `answer_head` and `framing` read the answer, `received`
//! is its body.
//! `gather` is what comes before: the whole body of a request, in memory (large pieces of it in a [`shared_room`], from
//! which they are sent without a copy) or in a file (`storage`).
//! `pump` takes the whole answer at the application's pace, and `spool` holds what the client has not taken yet.
//! `tunnel` is what follows a 101, `background` what outlives its request, `failure` is all that can go wrong.
//!
//! While nobody listens, requests wait (`hold`). One that met a connection that closed without a word is sent again
//! if it is idempotent and its body is in memory: an idle connection once, and a fresh one once. Any other is sent again
//! only if it is certain that nobody read it (`sent::Sent::is_unread`), as when an application stops before it has
//! accepted those that wait on its socket. So that this is known over a unix socket, bodies are held back until the
//! application has read the head, but for those that are read with it at once. Nothing else is ever sent twice. With
//! several servers it is another one that is asked next, if there is one.

mod answer_head;
pub mod background;
mod balance;
pub mod checks;
mod connect;
mod consumed;
mod exchange;
pub mod failure;
mod framing;
mod gather;
mod hold;
mod pieces;
mod pool;
mod pump;
mod received;
mod request;
mod response;
pub mod routes;
mod sent;
mod servers;
pub mod shared_room;
mod spool;
mod standing;
mod storage;
pub mod tunnel;
pub mod uwsgi;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ::http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, UPGRADE};
use ::http::{Method, StatusCode, Uri};
use bytes::Bytes;
use globset::GlobSet;
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep};
use tracing::debug;

use self::answer_head::Head;
use self::background::Background;
use self::balance::Set;
use self::connect::Socket;
use self::exchange::{Asked, Deadlines, Exchange, Unanswered};
use self::failure::Failure;
use self::gather::Gathering;
use self::hold::Hold;
use self::pool::Pool;
use self::received::{Label, Lease, Received};
use self::request::{More, Told};
use self::sent::{Length, Outgoing, READ_AT_ONCE};
use self::servers::{InUse, Server, Servers};
use self::standing::Checked;
use self::storage::Storage;
use crate::config::UpstreamConfig;
use crate::config::header_rule;
use crate::config::values::{Endpoint, HostName, UpstreamProtocol};
use crate::http::body::Body;
use crate::http::early_hints::EarlyHints;
use crate::http::path;
use crate::http::{HandedOver, Request, RequestId, Response, UpstreamServer, UpstreamTime};

/// The application, as seen from here.
#[derive(Debug)]
pub struct Upstream {
    servers: Servers,
    config: UpstreamConfig,
    deadlines: Deadlines,
    pool: Arc<Pool>,
    gathering: Gathering,
    /// The paths of requests whose bodies are not gathered.
    streamed: GlobSet,
    buffers: Buffers,
    hold: Hold,
    background: Background,
    /// When the application was last tried, and whether it could be reached.
    tried: Mutex<Option<(Instant, bool)>>,
    /// The name that health checks ask with.
    check_host: HostName,
    is_checked: AtomicBool,
}

/// Where bodies wait, those of all applications together.
#[derive(Debug, Clone)]
struct Buffers {
    requests: Arc<Storage>,
    /// Where answers wait for their clients.
    answers: Arc<Storage>,
}

impl Buffers {
    fn new(config: &UpstreamConfig) -> Self {
        let (requests, answers) = Storage::both(config);
        Self { requests, answers }
    }
}

/// A request of which all is known that must be known before a connection is taken.
struct Prepared {
    method: Method,
    /// Its head, as it is sent.
    text: Bytes,
    /// The client's address.
    address: Option<IpAddr>,
    id: RequestId,
    /// The protocol that the client wants to go on with, and its side of the connection.
    upgrade: Option<(HeaderValue, OnUpgrade)>,
    early_hints: Option<EarlyHints>,
}

/// What a connection to the application needs for as long as it is in use.
type Keep = (OwnedSemaphorePermit, InUse);

/// What was tried for one request.
#[derive(Debug, Clone, Copy)]
struct Attempts {
    started: Instant,
    /// How many fresh connections.
    fresh: u32,
    /// The servers that it was sent to.
    asked: Set,
}

/// What is told of a request that is under way.
#[derive(Debug, Default)]
struct Trace {
    started: Option<Instant>,
    /// The server that was asked last.
    server: Option<Arc<Server>>,
}

/// How many fresh connections one request is sent on that nobody seems to read, where there is one server. While one
/// stops, two are likely; who meets more has a server that drops what it has.
const MOST_TRIES: u32 = 5;

/// How long to wait before what nobody read is sent again: its application is just being stopped.
const PAUSE: Duration = Duration::from_millis(20);

/// For how long it is believed that the application can, or cannot, be reached.
const TRIED_LATELY: Duration = Duration::from_secs(1);

impl Upstream {
    /// Prepares to connect; nothing is opened yet. What outlives its request becomes part of `background`, which
    /// outlives this value.
    pub fn new(config: &UpstreamConfig, background: &Background) -> Self {
        Self::build(config.clone(), Buffers::new(config), &[], background)
    }

    /// The same with room for bodies that it shares, and with what is `known` of servers that it may have too.
    fn build(config: UpstreamConfig, buffers: Buffers, known: &[&Server], background: &Background) -> Self {
        Self {
            servers: Servers::new(&config, known),
            deadlines: Deadlines { response: config.response_timeout.0, idle: config.idle_timeout.0 },
            pool: Arc::new(Pool::new(&config)),
            gathering: Gathering::new(Arc::clone(&buffers.requests)),
            // The configuration is refused if they are too much together; `check` looks at the rest of such a one too.
            streamed: header_rule::path_set(&config.stream_requests).unwrap_or_default(),
            buffers,
            hold: Hold::new(&config),
            check_host: config.check_host.clone().unwrap_or_else(|| HostName("localhost".into())),
            config,
            background: background.clone(),
            tried: Mutex::default(),
            is_checked: AtomicBool::new(false),
        }
    }

    /// Sends a request to the application and answers with what comes back, or with 4xx or 5xx.
    pub async fn forward(&self, request: impl Into<Box<Request>>) -> Response {
        let request = request.into();
        let id = request.id;
        let mut trace = Trace::default();
        let result = self.try_forward(request, &mut trace).await;
        let mut response = result.unwrap_or_else(|failure| {
            match &trace.server {
                Some(server) => failure.log(&server.address, id),
                None => failure.log(self, id),
            }
            failure.answer()
        });
        let elapsed = trace.started.map(|started| started.elapsed()).unwrap_or_default();
        response.extensions_mut().insert(UpstreamTime(elapsed));
        if let (Some(server), None) = (trace.server, self.servers.only()) {
            response.extensions_mut().insert(UpstreamServer(Arc::clone(&server.name)));
        }
        response
    }

    /// Whether a server of the application accepts a connection now.
    ///
    /// # Errors
    /// Why none does.
    pub async fn probe(&self) -> Result<(), Failure> {
        self.servers.probe().await?;
        self.hold.is_there();
        Ok(())
    }

    /// Whether a server is well, if health checks are made, or else whether one accepted a connection within the last
    /// second. However many ask, they share one try: asking costs the application nothing.
    pub async fn is_reachable(&self) -> bool {
        if self.config.check_path.is_some() {
            return self.servers.iter().any(|server| !server.drains() && server.standing.checked() == Checked::Well);
        }
        let mut tried = self.tried.lock().await;
        match *tried {
            Some((when, result)) if when.elapsed() < TRIED_LATELY => result,
            _ => {
                let result = self.probe().await.is_ok();
                *tried = Some((Instant::now(), result));
                result
            }
        }
    }

    async fn try_forward(&self, request: Box<Request>, trace: &mut Trace) -> Result<Response, Failure> {
        let (prepared, body) = self.prepare(request).await?;
        let permit = self.pool.permit().await?;
        let started = Instant::now();
        trace.started = Some(started);
        let (exchange, (permit, in_use), answer) = self.attempt(&prepared, body, permit, started, trace).await?;
        let lease = Lease { exchange, pool: Arc::clone(&self.pool), permit, in_use };
        self.answer(prepared, answer, lease).await
    }

    /// Gathers the body, unless it shall stream, and so finds out how it is framed. No connection is held
    /// meanwhile: a slow client must not keep one of the application's workers.
    async fn prepare(&self, mut request: Box<Request>) -> Result<(Prepared, Outgoing), Failure> {
        let announced = request::announced_length(&request.head.headers);
        let body = match std::mem::take(&mut request.body) {
            body if body.is_end_stream() => Outgoing::nothing(announced.is_some()),
            body if self.streams(&request.head.uri, announced) => Outgoing::streamed(body, announced),
            body => {
                let network = request.client.network();
                let gathering = Box::pin(self.gathering.gather(body, announced, network));
                Outgoing::gathered(gathering.await?, announced)
            }
        };
        let length = body.length;
        if self.speaks_uwsgi() && length == Length::Chunked {
            return Err(Failure::LengthRequired);
        }
        let upgrade = match request::wanted_upgrade(&request.head) {
            Some(protocol) if !self.speaks_uwsgi() => {
                request.head.extensions.remove::<OnUpgrade>().map(|client| (protocol, client))
            }
            _ => None,
        };
        let more = More::now(&self.config, &request.head);
        let protocol = upgrade.as_ref().map(|(protocol, _)| protocol);
        let Request { head, client, id, .. } = &*request;
        let text = self.text(&Told { head, client, id: *id, more: &more, length, upgrade: protocol })?;
        let Request { head, client, id, early_hints, .. } = *request;
        let (method, address) = (head.method, client.address);
        Ok((Prepared { method, text, address, id, upgrade, early_hints }, body))
    }

    /// Whether a body goes on as it comes.
    fn streams(&self, uri: &Uri, announced: Option<u64>) -> bool {
        self.streamed.is_match(&*path::decided(uri.path())) || announced.is_some_and(|n| self.gathering.streams(n))
    }

    /// The head of a request as it is sent: with uwsgi, a packet.
    fn text(&self, told: &Told<'_>) -> Result<Bytes, Failure> {
        match self.servers.protocol() {
            UpstreamProtocol::Uwsgi => uwsgi::packet(told, self.config.uwsgi_path),
            UpstreamProtocol::Http => Ok(told.text()),
        }
    }

    /// Sends the request: on an idle connection if there is one that it may use, else on a fresh one; and again, as
    /// [`Upstream::may_send_again`] allows, to another server if there is one.
    async fn attempt(
        &self,
        request: &Prepared,
        mut body: Outgoing,
        mut permit: OwnedSemaphorePermit,
        started: Instant,
        trace: &mut Trace,
    ) -> Result<(Box<Exchange>, Keep, Head), Failure> {
        let mut attempts = Attempts { started, fresh: 0, asked: Set::default() };
        let mut chosen = self.servers.choose(request.address, Set::default(), Set::default());
        let mut idle = match &chosen {
            Some(chosen) if self.may_use_idle(request, &body, &chosen.server) => {
                self.pool.take(chosen.server.number, started)
            }
            _ => None,
        };
        loop {
            let again = body.again();
            let (exchange, in_use) = match (idle.take(), chosen.take()) {
                (Some(exchange), Some(in_use)) => (exchange, in_use),
                (_, first) => {
                    attempts.fresh += 1;
                    self.open(request, first, attempts.asked).await?
                }
            };
            let server = Arc::clone(&in_use.server);
            trace.server = Some(Arc::clone(&server));
            let Unanswered { failure, again: left } = match self.send(exchange, (permit, in_use), request, body).await {
                Ok(answered) => {
                    self.servers.answered(&server);
                    return Ok(answered);
                }
                Err(unanswered) => unanswered,
            };
            self.servers.failed(&server, &failure);
            attempts.asked.add(server.number);
            (permit, body) = match left.map(|left| (left.keep, left.body.or(again))) {
                Some(((permit, _), Some(body))) if self.may_send_again(request, &failure, attempts) => (permit, body),
                _ => return Err(failure),
            };
            debug!(socket = %server.address, id = %request.id, "{failure}");
            if failure.is_unread() && attempts.fresh > 0 && !self.servers.has_another(attempts.asked) {
                sleep(PAUSE).await;
            }
        }
    }

    /// An idle connection may be closed while a request is on its way, and over TCP what cannot be sent again takes none.
    /// What is not in memory takes none either: beside its length the time for a fresh one is nothing.
    fn may_use_idle(&self, request: &Prepared, body: &Outgoing, server: &Server) -> bool {
        // Over TCP nobody knows what was read.
        let is_known = matches!(server.address.endpoint, Endpoint::Unix(_)) || request.method.is_idempotent();
        !self.speaks_uwsgi() && body.is_here() && is_known
    }

    /// What nobody has read may be sent as long as requests wait for the application, a few times at most, and once to
    /// each of its servers; with a long head, twice.
    /// What may have been read is sent again only if that does no harm, and on one fresh connection after the first: it
    /// may be this request that ends the worker.
    fn may_send_again(&self, request: &Prepared, failure: &Failure, attempts: Attempts) -> bool {
        // RFC 9110, section 9.2.2.
        let is_harmless = request.method.is_idempotent();
        // A head that is too long for its reader ends like one that nobody has read.
        let may_be_refused = request.text.len() > READ_AT_ONCE && attempts.fresh > 1;
        let may_wait = || attempts.started.elapsed() < self.config.hold.0 && attempts.fresh < MOST_TRIES;
        failure.is_unread()
            && !may_be_refused
            && (attempts.fresh == 0 || self.servers.has_another(attempts.asked) || may_wait())
            || is_harmless && failure.may_retry() && attempts.fresh < 2
    }

    async fn open(
        &self,
        request: &Prepared,
        first: Option<InUse>,
        asked: Set,
    ) -> Result<(Box<Exchange>, InUse), Failure> {
        self.pool.make_room();
        let (in_use, socket) = Box::pin(self.hold.connect(&self.servers, first, request.address, asked)).await?;
        Ok((self.exchange(socket), in_use))
    }

    fn exchange(&self, socket: Socket) -> Box<Exchange> {
        Exchange::new(socket, self.servers.protocol(), &self.config, &self.background)
    }

    async fn send<K: Send + 'static>(
        &self,
        exchange: Box<Exchange>,
        keep: K,
        request: &Prepared,
        body: Outgoing,
    ) -> Result<(Box<Exchange>, K, Head), Unanswered<K>> {
        let is_head = request.method == Method::HEAD;
        let asked = Asked { is_head, early_hints: request.early_hints.as_ref(), id: request.id };
        exchange.send(keep, request.text.clone(), body, asked, self.deadlines).await
    }

    /// Turns what the application answered into what the client gets.
    async fn answer(&self, request: Prepared, head: Head, mut lease: Lease) -> Result<Response, Failure> {
        if head.parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(request, head, lease);
        }
        let is_live = self.buffers.answers.limit == 0 || response::is_live(&head);
        let head = response::for_client(head);
        // A file takes the place of this body: it is dropped, and some applications announce a length and send nothing.
        let is_live = is_live || head.extensions.get::<HandedOver>().is_some();
        if is_live || lease.exchange.remaining().is_none() {
            // This may take long, and what is sent in place would be held meanwhile.
            lease.exchange.hold_nothing();
        }
        if lease.exchange.has_ended() {
            // Some applications send a body where there can be none, and it would be taken for the next answer.
            if request.method != Method::HEAD && response::may_have_body(head.status) {
                lease.release();
            }
            return Ok(Response::from_parts(head, Body::Empty));
        }
        if !is_live && let Some(whole) = pump::whole(&mut lease.exchange, &self.buffers.answers) {
            lease.release();
            return Ok(Response::from_parts(head, whole));
        }
        let label = Label { socket: Arc::clone(&lease.in_use.server.address), id: request.id };
        let received = Received::new(lease, self.deadlines.idle, label);
        let body = match is_live {
            true => Body::stream(received),
            false => Box::pin(pump::pump(received, &self.buffers.answers)).await,
        };
        Ok(Response::from_parts(head, body))
    }

    /// Answers 101, and joins the two connections as soon as the client's has been handed over.
    fn switch(&self, request: Prepared, head: Head, lease: Lease) -> Result<Response, Failure> {
        let Some((protocol, client)) = request.upgrade else {
            return Err(Failure::Malformed("101 Switching Protocols, which nobody asked for".into()));
        };
        let protocol = head.ours.get(&UPGRADE).cloned().unwrap_or(protocol);
        let mut head = response::for_client(head);
        head.headers.remove(CONTENT_LENGTH);
        head.headers.insert(UPGRADE, protocol);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        let (closing, idle_timeout, id) = (self.background.closing(), self.config.tunnel_idle_timeout.0, request.id);
        self.background.spawn(async move {
            let Lease { exchange, permit, in_use, .. } = lease;
            let (application, early): (_, Bytes) = exchange.into_upgraded();
            match client.await {
                Ok(client) => {
                    let ending = tunnel::run(TokioIo::new(client), application, early, idle_timeout, closing).await;
                    debug!(%id, %ending, "the upgraded connection ended");
                }
                Err(error) => debug!(%id, %error, "the client left before its connection was upgraded"),
            }
            drop((permit, in_use));
        });
        Ok(Response::from_parts(head, Body::Empty))
    }

    fn speaks_uwsgi(&self) -> bool {
        self.servers.protocol() == UpstreamProtocol::Uwsgi
    }
}

/// Its servers.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, server) in self.config.all_servers().iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{server}")?;
        }
        Ok(())
    }
}

/// Tries whether bodies can be held in files as the configuration says.
///
/// # Errors
/// Why the folder takes no file.
pub fn try_buffer_directory(config: &UpstreamConfig) -> io::Result<()> {
    match config.buffer_disk.0 {
        0 => Ok(()),
        _ => storage::nameless_file(config.buffer_directory.as_deref()).map(drop),
    }
}
