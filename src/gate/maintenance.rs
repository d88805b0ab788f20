//! The application rests while a file says so, and no restart is needed to begin or to end it.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::StatusCode;
use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use bytes::Bytes;
use tracing::{info, warn};

use crate::config::MaintenanceConfig;
use crate::http::{Response, answers};

/// How long it may take until the file is noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// The largest page.
const LARGEST_PAGE: u64 = 1 << 20;

/// The file, and what was last seen of it.
#[derive(Debug)]
pub struct Maintenance {
    file: PathBuf,
    config: MaintenanceConfig,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    when: Option<Instant>,
    /// The page, while the file is there; empty if the file is.
    page: Option<Bytes>,
}

impl Maintenance {
    /// Nothing, if no file is named.
    pub fn new(config: &MaintenanceConfig) -> Option<Self> {
        let file = config.file.clone()?;
        Some(Self { file, config: config.clone(), seen: Mutex::default() })
    }

    /// The answer instead of the application's, if it rests. Looks for the file once a second at most.
    pub fn answer(&self, client: Option<IpAddr>) -> Option<Response> {
        let page = self.page()?;
        if self.config.allow.iter().any(|peer| peer.covers(client)) {
            return None;
        }
        let mut response = answers::status(StatusCode::SERVICE_UNAVAILABLE);
        if !page.is_empty() {
            // Its own page, and no other for errors.
            response.extensions_mut().remove::<answers::Own>();
        }
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, self.config.retry_after.0.as_secs().into());
        if !page.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            headers.insert(CONTENT_LENGTH, page.len().into());
            *response.body_mut() = page.into();
        }
        Some(response)
    }

    fn page(&self) -> Option<Bytes> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if seen.when.is_none_or(|when| now - when >= NOTICED_WITHIN) {
            let page = self.read();
            match (&seen.page, &page) {
                (None, Some(_)) => {
                    info!(file = %self.file.display(), "maintenance begins: the application is not asked")
                }
                (Some(_), None) => info!("maintenance has ended"),
                _ => {}
            }
            *seen = Seen { when: Some(now), page };
        }
        seen.page.clone()
    }

    /// A local file of a few kilobytes once a second: too little to be handed to another thread.
    fn read(&self) -> Option<Bytes> {
        let mut page = Vec::new();
        let file = match fs_err::File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(%error, "the file of [maintenance] is there and cannot be read; without its page");
                return Some(Bytes::new());
            }
        };
        if let Err(error) = file.take(LARGEST_PAGE).read_to_end(&mut page) {
            warn!(%error, "the file of [maintenance] is there and cannot be read; without its page");
            page.clear();
        }
        Some(page.into())
    }
}
