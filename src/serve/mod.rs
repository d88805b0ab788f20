//! During: the frame around the kinds of answer.
//!
//! `bind` does everything that can fail, before the first connection is accepted; `run` accepts until it
//! is told to stop. The order of both is the order of the lines below.
//!
//! # What was tried for speed
//!
//! CPU time per request beside the faster nginx, on two cores of a shared machine; `benches/versus` measures again.
//!
//! - A runtime per core and gathered HTTP/2 writes ([`workers`], [`http2::gather`]) in place of one runtime for all cores: 4 KB
//!   over HTTP/1.1 1.12 → 0.94, the mix of files 1.33 → 1.10, 304 1.50 → 1.35, over HTTP/2 1.33 → 0.87; over TLS 0.86 →
//!   0.93, which is within the spread.
//! - mimalloc in place of the system's allocator: 0.96 to 1.08 of the time, which is no gain; left out.
//! - Buffers given back while a connection rests ([`accept`]): an idle connection in the clear took 28.4 KiB before and
//!   15.8 after, with TLS 30.8 and 27.0 (with mimalloc in the second of each).
//! - A box each for a connection's TLS stream and for what it is once its protocol is known: with TLS 27.0 → 19.4, in the
//!   clear no change (15.8 → 16.3).
//! - The empty buffer that hyper hands back when a connection rests, let go of: it held 8 KiB. In the clear 9.3 → 4.3 with
//!   5,000 clients that came within 15 to 19 seconds, 12.4 → 6.3 within 3 to 7.
//! - One buffer a thread for what is read of requests over HTTP/1.1, and for the heads of answers, in place of one a
//!   connection, which it gave back when it rested: between what stays, what was given back left holes. With 10,000 clients
//!   that came within two seconds, 9.7 KB an idle connection in the clear became 3.0, of which 2.4 are in use; no change of
//!   the time, with the access log, whose records hold the buffer for a while, neither (1.09 and 1.10 of the time without
//!   the log, ten alternating rounds). 64 such buffers in turn: 1.09; left out.
//! - The release build linked as one unit in place of thin link-time optimisation: 0.96 of the time for 4 KB over
//!   HTTP/1.1, 1.01 for 304, 0.92 over HTTP/2 (five alternating rounds of both, single rounds 0.8 to 1.2).
//! - Of a 304, three quarters are in the kernel, nearly all of it for one read and one write; a write of one buffer is
//!   therefore no list of one. What is left is spread thin. A loop in C that answers
//!   whatever it reads with the same bytes (a program for this alone) took 0.79 for a 304 and 0.74 for 4 KB.
//! - A client of our own for HTTP/1.1 with the application ([`upstream::exchange`](crate::upstream)), in place of hyper's:
//!   0.76 of the time for 1 KB over kept connections, 0.84 where the application closes each, no change for 1 MB. Uploads
//!   of 1 MB kept in the pieces in which they came, and not copied together: 0.73 (four alternating rounds of before and
//!   after, on a busy machine).
//! - A loop of our own for requests over HTTP/1.1 that come whole (`http1` as it began), in place of hyper's: 0.93 of the
//!   instructions for 4 KB, 0.95 for 304, 0.96 for 1 KB from an application, by callgrind.
//! - Each field of a request looked at once before it is answered, and less moved between futures: with the loop before,
//!   4 KB took 18,200 instructions and takes 13,000 (nginx 15,000), a 304 17,300 and 12,600 (nginx 13,300), 1 KB from an
//!   application 43,800 and 31,200, and from one that closes its connections 49,200 and 34,300.
//! - The heads of static answers kept as lines of HTTP/1.1, with a file's own values between them, in place of a map that
//!   is copied and written field by field: 4 KB 13,000 → 10,800 instructions, a 304 12,600 → 11,600.
//! - The lines of the access log made by the thread that writes them, many at once: 4 KB with the log took 1.17 of the
//!   time without (1.13 to 1.25), and takes 1.02 (0.86 to 1.14, seven rounds).
//! - Uploads with a length read by the loop, with one timer: 1 MB to an application 229,400 → 69,400 instructions (without
//!   link-time optimisation).
//! - Uploads read into rooms that grow with what came, and that are used up by however many pieces, in place of one room of
//!   64 KiB for each piece: 0.81, 0.92 and 0.94 of the time for 1 MB (eight to twelve alternating rounds each, on a busy
//!   machine). Rooms that stay at 64 KiB: 0.98 and 1.08; that grow to 1 MiB: 0.95.
//! - Rooms as large as what waits to be read, and 512 KiB that may lie in the application's socket in place of
//!   208 (`net.core.wmem_max` was 4 MiB): 0.90 of the time for 1 MB to an application, and 11 reads and writes in place of 24.
//! - Rooms of up to 512 KiB where so much is there, in the clear, in place of 256: 0.97 and 0.99 (eight and twenty rounds),
//!   but 500 uploads that stall held 252 MB in place of 142; left out. Uploads that stream to the application, while what
//!   was read is in the cache: 1.01.
//! - The body of a POST held back until its head was read: 0.99 of the time for 1 MB (nine rounds), which is no change.
//! - Of such an upload nearly all is two copies. A loop in C that reads 1 MB from TCP and writes it to a unix socket (a
//!   program for this alone) took 441 to 483 µs in minutes when we took 451 and nginx 459.
//! - Such an upload read into memory that the system shares, and sent from there by `sendfile`
//!   ([`upstream::shared_room`](crate::upstream::shared_room)): 591 → 501 µs (six alternating rounds; nginx 550). While
//!   rooms beyond 64 lost their pages as they came free it took 1.5 of the time. With a client's bytes awaited until there
//!   are 192 KiB (`SO_RCVLOWAT`): 0.96; left out, since it would make who sends slowly look like one who sends nothing.
//! - What the compiler makes of a profile of the same workloads (PGO): 0.94 to 1.03 of the time; left out.
//! - The rest of a head that comes slowly awaited by the loop: such a client costs 12.3 KB in place of 21.8.
//! - Long answers of the application read into one buffer for each thread, while their clients keep up: at 64 of 1 MB the
//!   process holds 5.5 MiB in place of 18.8; no clear change of the time.
//! - That buffer as large as what lies in a unix socket (256 KiB, and not 192, of which every second read brought the rest),
//!   and what is freed kept by the allocator: 0.81, 0.83 and 0.86 of the time for 1 MB (three times eight alternating
//!   rounds, on a busy machine); no page faults for 1 MB in place of 31 to 36. mimalloc in place of all that: 0.93, but 1.36 for
//!   uploads.
//! - The same answers spliced from socket to socket through a pipe (a program for this alone): 1.18 to 1.30 of the time
//!   where the application writes, 0.88 to 0.93 where it uses sendfile, as no application server does; left out.
//! - A file of 1 MB written in pieces of 64 to 512 KiB, in place of as much as the system takes: 0.94 to 1.21 of the time,
//!   never twice the same; left out.
//! - Bodies of 64 KiB and more sent by the system from memory that it shares with us (`client_stream`), in place of a copy:
//!   1 MB with 64 connections 1.22 → 0.83 and 1.36 → 1.17 (two series; 433 → 311 and 424 → 322 µs), with 16 0.89 → 0.72
//!   and 0.83 → 0.63, with 4 0.61 → 0.56 and 0.76 → 0.52; 64 KiB 0.77 of the time, 32 KiB 0.89 to 1.09. While much else
//!   was done on the machine, 64 connections were at 2.0 → 1.6 to 1.8.
//! - The same with the begin of the body copied behind the head (4 to 128 KiB), in place of the flag that more comes: 0.94
//!   to 1.4 of the time, and twice 0.7; left out. With 1 MiB that may wait unsent (`TCP_NOTSENT_LOWAT`) in place of 256 KiB:
//!   0.90; left out, since it would make four times as fast a client look like one that takes nothing.

pub mod accept;
mod client_stream;
mod date;
pub mod fresh;
mod http1;
pub mod http2;
pub mod linger;
pub mod listen;
pub mod open_files;
pub mod proxy_protocol;
pub mod releases;
pub mod signals;
pub mod site;
pub mod stack;
pub mod watch;
pub mod workers;

use std::hint::black_box;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::accept::{Beginning, Door, Security};
use self::listen::Listener;
use self::site::{Live, Site};
use self::workers::Workers;
use crate::assets::AssetsError;
use crate::config::ListenConfig;
use crate::config::load::{ConfigError, Loaded, Origin};
use crate::config::values::ListenAddress;
use crate::files::FilesError;
use crate::gate::GateError;
use crate::layers::access_log::{AccessLog, Writer};
use crate::tls::{Tickets, TlsError, certificates};
use crate::upstream::shared_room;

/// Why the server does not start, or does not change over.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is not sound.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The static files are not sound.
    #[error(transparent)]
    Assets(#[from] AssetsError),
    /// A folder of uploads, or of files that the application hands over, cannot be served from.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The certificate is not sound.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file of passwords is not sound.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The folder of error pages cannot be read.
    #[error("cannot read the pages of [pages] errors")]
    ErrorPages(#[source] io::Error),
    /// An address cannot be listened on.
    #[error("{}cannot listen on {address}", .origin.as_ref().map(|at| format!("{at}: ")).unwrap_or_default())]
    Bind {
        /// The address.
        address: ListenAddress,
        /// Where the operator wrote it.
        origin: Option<Origin>,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The threads that are to serve do not start.
    #[error("cannot start the threads that serve")]
    Workers(#[source] io::Error),
    /// Too few files may be open.
    #[error(transparent)]
    OpenFiles(#[from] open_files::TooFew),
    /// The folder for what waits takes no files.
    #[error("[upstream] buffer_directory: cannot make a file in {}", directory.display())]
    BufferDirectory {
        /// The folder.
        directory: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The access log has no thread to write it.
    #[error("cannot start the access log")]
    AccessLog(#[source] io::Error),
}

/// What to do about a low limit of open files.
const MORE_FILES: &str = "raise the limit: LimitNOFILE=65536 in the systemd unit, `ulimit -n 65536` in a shell, \
                          `--ulimit nofile=65536` with docker run";

impl ServeError {
    /// Whether the operator can mend it by writing something else, as opposed to what the system refuses.
    pub fn is_operators_mistake(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Gate(_)
            | Self::ErrorPages(_)
            | Self::Bind { .. }
            | Self::OpenFiles(_)
            | Self::BufferDirectory { .. } => true,
            Self::Assets(error) => error.is_operators_mistake(),
            Self::Files(error) => error.is_operators_mistake(),
            Self::Tls(TlsError::Certificate(error)) => error.is_operators_mistake(),
            Self::Tls(TlsError::Library(_)) | Self::AccessLog(_) | Self::Workers(_) => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { address, cause, .. } => match (cause.kind(), address) {
                (io::ErrorKind::AddrInUse, ListenAddress::Tcp { port, .. }) => {
                    Some(format!("another program has this port; `ss -ltnp sport = :{port}` tells which"))
                }
                (io::ErrorKind::PermissionDenied, ListenAddress::Tcp { port, .. }) => Some(format!(
                    "ports below 1024 are for root; take a higher one, or allow port {port} with \
                     AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit"
                )),
                (io::ErrorKind::NotFound, ListenAddress::Unix(path)) => {
                    Some(format!("the folder of {} is not there; create it first", path.display()))
                }
                _ => None,
            },
            Self::OpenFiles(_) => Some(MORE_FILES.into()),
            Self::Workers(cause) if cause.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                Some(MORE_FILES.into())
            }
            Self::Workers(_) => Some("lower [limits] threads, or allow more of them (TasksMax, LimitNPROC)".into()),
            Self::BufferDirectory { .. } => {
                Some("name a folder that is there and that this user may write to, or leave the key out".into())
            }
            Self::Tls(TlsError::Certificate(certificates::CertificateError::Mismatch { .. })) => {
                Some("give the two files that were issued together, the certificate first".into())
            }
            _ => None,
        }
    }
}

/// Reads the configuration anew. Called at a reload.
pub type Reread = Box<dyn Fn() -> Result<Loaded, ConfigError> + Send + Sync>;

/// A server that has its ports and has not accepted anything yet.
pub struct Server {
    live: Arc<Live>,
    listeners: Vec<(Listener, Beginning)>,
    workers: Workers,
    tickets: Tickets,
    log: AccessLog,
    writer: Writer,
    reread: Reread,
}

/// What ended a server's last requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// They finished.
    Drained,
    /// Their time was up.
    DeadlinePassed,
}

/// What a running server can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Read the configuration, the static files and the certificate again.
    Reload,
    /// Finish what runs, and end; told a second time, end at once.
    Stop,
}

impl Server {
    /// Prepares every answer and takes every port.
    ///
    /// # Errors
    /// Everything that can be known to be wrong before the first request.
    pub async fn bind(loaded: Loaded, reread: Reread) -> Result<Self, ServeError> {
        open_files::allow_many();
        keep_what_is_freed();
        let tickets = Tickets::default();
        let site = Site::prepare(loaded.config.clone(), None, &tickets)?;
        let listeners = listeners(&loaded).await?;
        let workers = Workers::start(loaded.config.limits.threads).map_err(ServeError::Workers)?;
        let (log, writer) = AccessLog::start(loaded.config.log.access).map_err(ServeError::AccessLog)?;
        shared_room::prepare();
        // Last, because it counts what is open. Each thread opens each listener for itself.
        open_files::require(&loaded.config, workers.threads().count() * listeners.len())?;
        announce(&site, &loaded);
        Ok(Self { live: Arc::new(Live::new(site)), listeners, workers, tickets, log, writer, reread })
    }

    /// The addresses that were taken, with the ports that port 0 became.
    pub fn addresses(&self) -> Vec<(ListenAddress, Security)> {
        let known = self.listeners.iter();
        let known = known.map(|(listener, beginning)| Some((listener.address().ok()?, beginning.security)));
        known.flatten().collect()
    }

    /// Serves until `orders` says stop, or ends.
    pub async fn run(self, mut orders: tokio::sync::mpsc::Receiver<Order>) -> Ending {
        for (address, security) in self.addresses() {
            let scheme = if security == Security::Tls { "https" } else { "http" };
            info!("listening on {address} ({scheme})");
        }
        let Self { live, listeners, workers, tickets, log, writer, reread } = self;
        let door = Door {
            stack: stack::build(live.clone(), &log),
            log: log.clone(),
            live: live.clone(),
            connections: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let accepting = TaskTracker::new();
        for (thread, (listener, beginning)) in
            workers.threads().flat_map(|thread| listeners.iter().map(move |one| (thread.clone(), one)))
        {
            let (door, beginning, handle) = (door.clone(), *beginning, thread.handle().clone());
            let shared = listener.share();
            accepting.spawn_on(
                async move {
                    // A thread that cannot accept leaves it to the others.
                    match shared.and_then(Listener::accepting) {
                        Ok(listener) => door.accept_from(listener, beginning, thread).await,
                        Err(error) => error!(%error, "a thread cannot accept connections"),
                    }
                },
                &handle,
            );
        }
        // What is left are the threads' own descriptors, and a port is closed with the last of them.
        drop(listeners);
        accepting.spawn(releases::follow(live.clone(), door.stop.clone()));
        live.glance().applications.begin_checks();
        let reread = Arc::new(reread);
        while let Some(Order::Reload) = orders.recv().await {
            reload(&live, &reread, &tickets).await;
        }
        let (stop, connections) = (door.stop.clone(), door.connections.clone());
        drop((door, log));
        accepting.close();
        let ending = drain(&live, &stop, [&accepting, &connections], &mut orders).await;
        // Connections that are cut here still have their lines in the log.
        workers.end();
        writer.finish();
        ending
    }
}

/// The largest block that glibc takes from what is free. It gives back what is free at an arena's end beyond twice as
/// much.
const LARGEST_BLOCK: usize = 8 << 20;

/// Has glibc keep what is freed for what comes next, in the whole program. At first it gives all but 128 KiB back to the
/// system, so that each large body takes fresh memory, which the system must clear page by page. It learns from the blocks
/// that are freed what to keep (mallopt(3), `M_MMAP_THRESHOLD`); this one is never written to, so it costs nothing. musl,
/// glibc on 32 bits, and glibc with thresholds in the environment (`MALLOC_…_`) take no notice.
fn keep_what_is_freed() {
    drop(black_box(Vec::<u8>::with_capacity(LARGEST_BLOCK)));
}

async fn listeners(loaded: &Loaded) -> Result<Vec<(Listener, Beginning)>, ServeError> {
    let listen = &loaded.config.listen;
    let plain = listen.http.iter().map(|address| (address, Security::Plain, "http"));
    let tls = listen.https.iter().map(|address| (address, Security::Tls, "https"));
    let mut bound = Vec::new();
    for (address, security, key) in plain.chain(tls) {
        let listeners = Listener::bind(address, listen.unix_mode).await.map_err(|cause| ServeError::Bind {
            address: address.clone(),
            origin: loaded.origin("listen", key),
            cause,
        })?;
        let beginning = Beginning { has_header: listen.proxy_protocol.contains(address), security };
        bound.extend(listeners.into_iter().map(|listener| (listener, beginning)));
    }
    Ok(bound)
}

/// Tells what is served, and what looks wrong but is no mistake.
fn announce(site: &Site, loaded: &Loaded) {
    let config = &site.config;
    match &loaded.file {
        Some(file) => info!("configuration: {}", file.display()),
        None => info!("configuration: flags and environment only"),
    }
    announce_files(site);
    if config.assets.watch {
        warn!("files are looked for before each answer ([static] watch); use it for development only");
    }
    if let Some(media) = &site.media {
        info!("uploads: {media}");
    }
    if !site.send_file.is_empty() {
        info!("files that the application may hand over: {}", site.send_file);
    }
    match site.applications.main() {
        Some(application) => info!("application: {application}"),
        None if config.has_application() => {}
        None => warn!("no application: only static files are served; name one with --upstream"),
    }
    for (route, application) in site.applications.routes() {
        info!("application for {route}: {application}");
    }
    if config.tls.self_signed {
        warn!("the certificate is self-signed and made anew at each start; use it for development only");
    }
    if let Some(trouble) = config.tls.certificate.as_deref().and_then(certificate_trouble) {
        warn!("{trouble}");
    }
}

fn announce_files(site: &Site) {
    for folder in site.assets.folders() {
        info!("static files: {folder}");
    }
    let plain = site.assets.assets().filter(|assets| !assets.has_manifest());
    if let Some(folder) = plain.map(|assets| assets.folder()).filter(|_| !site.config.assets.watch) {
        warn!(folder = %folder.display(), "no staticfiles.json in the folder of static files: no file is cached for long");
    }
}

/// What is wrong with the dates of a certificate, if anything.
fn certificate_trouble(path: &std::path::Path) -> Option<String> {
    let description = certificates::describe(path).ok()?;
    description.trouble(std::time::SystemTime::now()).map(|trouble| format!("{}: {trouble}", path.display()))
}

/// Changes over to what the configuration, the static files and the certificate say now, or to nothing
/// at all if any of them is not sound.
async fn reload(live: &Live, reread: &Arc<Reread>, tickets: &Tickets) {
    let began = Instant::now();
    let (before, reread, tickets) = (live.site(), reread.clone(), tickets.clone());
    let made = tokio::task::spawn_blocking(move || -> Result<Site, ServeError> {
        let mut config = reread()?.config;
        keep_listeners(&mut config.listen, &before.config.listen);
        keep("[limits] threads", &mut config.limits.threads, &before.config.limits.threads);
        keep("[limits] connections", &mut config.limits.connections, &before.config.limits.connections);
        keep("[log]", &mut config.log, &before.config.log);
        Site::prepare(config, Some(&before), &tickets)
    });
    match made.await {
        Ok(Ok(site)) => {
            site.applications.begin_checks();
            live.replace(site);
            info!("reloaded in {} ms", began.elapsed().as_millis());
        }
        Ok(Err(error)) => error!("not reloaded, all stays as it was: {}", chain(&error)),
        Err(panic) => error!("not reloaded, all stays as it was: {panic}"),
    }
}

/// The sockets stay those that were bound at start, and with them the redirect and the certificate that
/// they need.
fn keep<T: Clone + PartialEq>(name: &str, new: &mut T, before: &T) {
    if new != before {
        warn!("{name} stays as it was until the next restart");
        *new = before.clone();
    }
}

fn keep_listeners(listen: &mut ListenConfig, bound: &ListenConfig) {
    let ListenConfig { trusted_proxies, trusted_headers, .. } = listen.clone();
    let wanted = std::mem::replace(listen, ListenConfig { trusted_proxies, trusted_headers, ..bound.clone() });
    if wanted != *listen {
        warn!("[listen] http, https, proxy_protocol and unix_mode stay as they were until the next restart");
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// Lets running requests finish, for as long as the configuration allows.
async fn drain(
    live: &Live,
    stop: &CancellationToken,
    [accepting, connections]: [&TaskTracker; 2],
    orders: &mut tokio::sync::mpsc::Receiver<Order>,
) -> Ending {
    let site = live.site();
    let deadline = site.config.timeouts.shutdown.0;
    // Upgraded connections, and uploads whose client has left, are none of a client's connections any more.
    let open = || connections.len() + site.background.count();
    info!(open = open(), "stopping: no new connections; running requests have {deadline:?} to finish");
    live.stop();
    stop.cancel();
    site.background.close();
    let drained = async {
        accepting.wait().await;
        connections.close();
        connections.wait().await;
        site.background.closed().await;
    };
    let aborted = async {
        // A second signal means: now.
        while let Some(order) = orders.recv().await {
            if order != Order::Reload {
                return;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        outcome = timeout(deadline, drained) => match outcome {
            Ok(()) => {
                info!("stopped: every request finished");
                Ending::Drained
            }
            Err(_) => {
                warn!(cut = open(), "stopped: the deadline passed, and open connections were cut");
                Ending::DeadlinePassed
            }
        },
        () = aborted => {
            warn!(cut = open(), "stopped: told a second time, and open connections were cut");
            Ending::DeadlinePassed
        }
    }
}
