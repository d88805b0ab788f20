//! How many files may be open at once, connections among them.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::config::Config;

/// How many must be left when everything is ready: for a few clients, each with a connection to the application and a file.
const LEAST: u64 = 16;

/// Too few files may be open.
#[derive(Debug, thiserror::Error)]
#[error(
    "only {limit} files and connections may be open at once, and {needed} are needed before the first client comes"
)]
pub struct TooFew {
    limit: u64,
    needed: u64,
}

/// Raises the number of files that may be open to what the system allows: the usual 1,024 is for
/// programs that wait with `select`, and fewer than the connections that the configuration permits.
pub(super) fn allow_many() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        debug!(%error, "the limit of open files stays as it is");
    }
}

/// Looks whether there are enough, when so many are still to be opened before the first client comes.
///
/// # Errors
/// If there are too few to serve anybody. Too few for all whom the configuration lets in are worth a warning.
pub(super) fn are_enough(config: &Config, still_to_open: usize) -> Result<(), TooFew> {
    // Without a limit, or where nobody tells how many are open, it is as it is.
    let (Some(limit), Ok(open)) = (getrlimit(Resource::Nofile).current, std::fs::read_dir("/proc/self/fd")) else {
        return Ok(());
    };
    let needed = (open.count() + still_to_open) as u64 + LEAST;
    if limit < needed {
        return Err(TooFew { limit, needed });
    }
    let application = if config.has_application() { config.upstream.connections.get() } else { 0 };
    let most = needed + (config.limits.connections.get() + application) as u64;
    if limit < most {
        warn!(
            "only {limit} files and connections may be open at once, and the configuration permits {most}: raise the limit \
             (LimitNOFILE=), or lower [limits] connections"
        );
    }
    Ok(())
}
