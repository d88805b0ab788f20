//! All that answers depend on, made whole from one configuration and swapped whole at a reload.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::http::HeaderValue;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::{Mutex, Semaphore};
use tracing::warn;

use super::ServeError;
use super::fresh::Looked;
use crate::assets::Mounts;
use crate::config::header_rule::{self, HeaderRule};
use crate::config::values::ListenAddress;
use crate::config::{Config, HttpsConfig, LimitsConfig, TimeoutsConfig, UpstreamConfig};
use crate::files::media::Media;
use crate::files::send_file::SendFile;
use crate::gate::Gate;
use crate::gate::maintenance::Maintenance;
use crate::http::header_rules::HeaderRules;
use crate::layers::error_pages::ErrorPages;
use crate::layers::redirects::Redirects;
use crate::tls::{self, Tickets};
use crate::upstream::background::Background;
use crate::upstream::routes::Applications;
use crate::upstream::try_buffer_directory;

/// What a connection keeps of the configuration that it began under. Not the whole [`Site`]: an idle
/// connection must not hold the files of an old release in memory.
#[derive(Debug)]
pub struct Bounds {
    /// How large and how many.
    pub limits: LimitsConfig,
    /// How long to wait.
    pub timeouts: TimeoutsConfig,
}

/// One configuration, ready to answer from.
#[derive(Debug, Clone)]
pub struct Site {
    /// What the operator asked for.
    pub config: Config,
    /// What new connections begin under.
    pub bounds: Arc<Bounds>,
    /// The folders of files, if there are any.
    pub assets: Arc<Mounts>,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// While the application rests.
    pub maintenance: Option<Arc<Maintenance>>,
    /// The operator's pages for errors.
    pub error_pages: Arc<ErrorPages>,
    /// The paths that have moved.
    pub redirects: Arc<Redirects>,
    /// What is set and removed of headers, as the operator wrote it. [`Mounts`] has it with the names of a release.
    pub header_rules: Arc<HeaderRules>,
    /// Permits for answers that are compressed.
    pub encoders: Arc<Semaphore>,
    /// The uploads, if they are served here.
    pub media: Option<Arc<Media>>,
    /// The files that the application may hand over.
    pub send_file: Arc<SendFile>,
    /// The application, if there is one, and those that have a part of the site.
    pub applications: Arc<Applications>,
    /// What outlives its request, that of a site before this one included.
    pub background: Background,
    /// How TLS is spoken, if it is.
    pub tls: Option<Arc<ServerConfig>>,
    /// The value of `Strict-Transport-Security`, if it is sent.
    pub hsts: Option<HeaderValue>,
    /// The port to which plain HTTP is redirected, if it is.
    pub redirect_port: Option<u16>,
}

impl Site {
    /// Reads the static files and the certificate. Opens no port and connects to nothing.
    ///
    /// `before` is the site that this one is going to follow: what has not changed is taken over, so that
    /// the application's connections survive.
    ///
    /// # Errors
    /// When any part is not sound; nothing has changed then.
    pub fn prepare(config: Config, before: Option<&Self>, tickets: &Tickets) -> Result<Self, ServeError> {
        let header_rules = header_rules(&config.headers);
        let assets = Arc::new(match before {
            // While somebody develops, whatever is there counts.
            Some(before) if !config.assets.watch => Mounts::open_in_place_of(&before.assets, &config, &header_rules)?,
            _ => Mounts::open(&config, &header_rules)?,
        });
        let media = Media::open(&config.media, config.assets.max_ranges)?.map(Arc::new);
        let send_file = Arc::new(SendFile::open(&config.send_file, config.assets.max_ranges)?);
        let tls = match config.listen.https.is_empty() {
            true => None,
            false => Some(tls::server_config(&config.tls, tickets)?),
        };
        let background = before.map(|before| before.background.clone()).unwrap_or_default();
        if config.has_application() && before.is_none_or(|before| before.config.upstream != config.upstream) {
            try_buffers(&config.upstream)?;
        }
        let applications = Applications::new(&config, before.map(|before| &*before.applications), &background);
        let applications = Arc::new(applications);
        // A preview is not the place to make browsers promise anything.
        let hsts = hsts(&config.https).filter(|_| !config.staging.enabled);
        let (hsts, redirect_port) = (hsts, redirect_port(&config));
        let gate = Arc::new(Gate::new(&config, before.map(|before| (&before.config, &*before.gate)))?);
        let maintenance = Maintenance::new(&config.maintenance).map(Arc::new);
        let error_pages = config.pages.errors.as_deref().map(ErrorPages::read).transpose();
        let error_pages = error_pages.map_err(ServeError::ErrorPages)?.unwrap_or_default();
        let error_pages = Arc::new(error_pages);
        let encoders = Arc::new(Semaphore::new(config.compression.concurrency.get()));
        let redirects = Arc::new(Redirects::new(&config.redirects));
        let bounds = Arc::new(Bounds { limits: config.limits.clone(), timeouts: config.timeouts.clone() });
        Ok(Self {
            config,
            bounds,
            assets,
            gate,
            maintenance,
            error_pages,
            redirects,
            header_rules,
            encoders,
            media,
            send_file,
            applications,
            background,
            tls,
            hsts,
            redirect_port,
        })
    }

    /// Whether nothing is put on every answer for which the fields that it has would have to be looked at.
    pub fn takes_heads_as_they_are(&self) -> bool {
        !self.config.pages.security_headers && !self.gate.is_staging()
    }

    /// The same with other files.
    pub fn with_assets(&self, assets: Mounts) -> Self {
        Self { assets: Arc::new(assets), ..self.clone() }
    }
}

/// The operator's rules for headers, ready to be looked up.
pub fn header_rules(rules: &[HeaderRule]) -> Arc<HeaderRules> {
    // The configuration is refused if they are too much together; `check` looks at the rest of such a one too.
    let Ok(paths) = header_rule::glob_set(rules) else { return Arc::default() };
    Arc::new(HeaderRules::new(paths, rules.iter().map(HeaderRule::edits).collect()))
}

/// A folder that somebody named must take files. The system's own may be absent, as in a container whose files
/// cannot be written: small bodies need none.
fn try_buffers(config: &UpstreamConfig) -> Result<(), ServeError> {
    match (try_buffer_directory(config), &config.buffer_directory) {
        (Err(cause), Some(directory)) => Err(ServeError::BufferDirectory { directory: directory.clone(), cause }),
        (Err(error), None) => {
            warn!(%error, "request bodies of more than [upstream] request_buffer get 503: no temporary folder takes \
                files; name one in [upstream] buffer_directory, or stream them with buffer_disk = 0");
            Ok(())
        }
        (Ok(()), _) => Ok(()),
    }
}

fn hsts(https: &HttpsConfig) -> Option<HeaderValue> {
    let seconds = https.hsts_max_age.0.as_secs();
    let subdomains = if https.hsts_include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if https.hsts_preload { "; preload" } else { "" };
    let text = format!("max-age={seconds}{subdomains}{preload}");
    (seconds > 0).then(|| HeaderValue::try_from(text).expect("numbers and letters are a header value"))
}

fn redirect_port(config: &Config) -> Option<u16> {
    let first = config.listen.https.iter().find_map(|address| match address {
        ListenAddress::Tcp { port, .. } => Some(*port),
        ListenAddress::Unix(_) => None,
    });
    config.https.port.or(first).filter(|_| config.https.redirect)
}

/// What is in force now.
#[derive(Debug)]
pub struct Live {
    site: ArcSwap<Site>,
    stopping: AtomicBool,
    /// The last look into the folders, while somebody develops.
    pub looked: Mutex<Looked>,
    /// Permits for client connections.
    pub connections: Arc<Semaphore>,
}

impl Live {
    /// Begins with a site.
    pub fn new(site: Site) -> Self {
        let connections = Arc::new(Semaphore::new(site.config.limits.connections.get()));
        Self {
            site: ArcSwap::from_pointee(site),
            stopping: AtomicBool::new(false),
            looked: Mutex::default(),
            connections,
        }
    }

    /// The site in force. A request keeps the one that it began with.
    pub fn site(&self) -> Arc<Site> {
        self.site.load_full()
    }

    /// The same for a look that ends before anything is waited for; it costs no count.
    pub fn glance(&self) -> impl Deref<Target = Arc<Site>> {
        self.site.load()
    }

    /// Puts another site in force, for every request from now on.
    pub fn replace(&self, site: Site) {
        self.site.store(Arc::new(site));
    }

    /// The same, unless what is in force by now is no longer `before`.
    pub fn replace_if_still(&self, before: &Arc<Site>, site: Site) -> bool {
        Arc::ptr_eq(&self.site.compare_and_swap(before, Arc::new(site)), before)
    }

    /// Notes that the server is about to stop, so that readiness can say so.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
