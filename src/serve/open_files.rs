//! How many files may be open at once, connections among them.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::config::Config;

/// How many must be left when everything is ready: for a few clients, each with a connection to the application and a file.
const LEAST: u64 = 16;

/// Too few files may be open.
#[derive(Debug, thiserror::Error)]
#[error("only {limit} files and connections may be open at once, and {needed} are the least to serve anybody")]
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

/// Looks whether enough may be open, when everything is but for so many that are opened before the first client comes.
///
/// # Errors
/// If there are too few to serve anybody. Too few for all whom the configuration lets in are worth a warning.
pub(super) fn require(config: &Config, still_to_open: usize) -> Result<(), TooFew> {
    // Without a limit, or where nobody tells how many are open, it is as it is.
    let Some(limit) = getrlimit(Resource::Nofile).current else { return Ok(()) };
    let open = match std::fs::read_dir("/proc/self/fd") {
        Ok(open) => open.count() as u64,
        Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => limit,
        Err(_) => return Ok(()),
    };
    let needed = open + still_to_open as u64 + LEAST;
    match judge(limit, needed, permitted(config)) {
        Verdict::TooFew => return Err(TooFew { limit, needed }),
        Verdict::Few(most) => warn!(
            "only {limit} files and connections may be open at once, and the configuration permits {most} at least: raise \
             the limit (LimitNOFILE=), or lower `connections` in [limits] and [upstream]"
        ),
        Verdict::Enough => {}
    }
    Ok(())
}

/// How many connections there may be, to clients and to all applications.
fn permitted(config: &Config) -> u64 {
    let upstream = config.upstream.connections;
    let main = config.has_application().then_some(upstream);
    let others = config.applications.iter().map(|application| application.connections.unwrap_or(upstream));
    main.into_iter().chain(others).chain([config.limits.connections]).map(|number| number.get() as u64).sum()
}

/// Whether so many files are enough.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    TooFew,
    /// Not for so many.
    Few(u64),
    Enough,
}

fn judge(limit: u64, needed: u64, permitted: u64) -> Verdict {
    match needed + permitted {
        _ if limit < needed => Verdict::TooFew,
        most if limit < most => Verdict::Few(most),
        _ => Verdict::Enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_and_too_few_refused() {
        for (limit, expected) in [
            (29, Verdict::TooFew),
            (30, Verdict::Few(1030)),
            (1029, Verdict::Few(1030)),
            (1030, Verdict::Enough),
            (1 << 20, Verdict::Enough),
        ] {
            assert_eq!(judge(limit, 30, 1000), expected, "{limit}");
        }
    }

    #[test]
    fn each_application_has_its_connections() {
        for (text, expected) in [
            ("", 10_000),
            ("[upstream]\naddress = \"unix:a\"", 10_256),
            ("[upstream]\naddress = \"unix:a\"\nconnections = 5\n[limits]\nconnections = 7", 12),
            (
                "[upstream]\naddress = \"unix:a\"\nconnections = 5\n[limits]\nconnections = 7\n\
                 [[applications]]\nname = \"b\"\naddress = \"unix:b\"\n\
                 [[applications]]\nname = \"c\"\naddress = \"unix:c\"\nconnections = 1",
                18,
            ),
        ] {
            assert_eq!(permitted(&toml::from_str(text).unwrap()), expected, "for {text:?}");
        }
    }
}
