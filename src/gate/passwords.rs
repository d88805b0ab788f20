//! HTTP Basic authentication (RFC 7617) against a file of names and bcrypt hashes, as `htpasswd -B` writes it.
//!
//! A hash takes a tenth of a second of a processor on purpose, so it is computed off the threads that serve, for a
//! bounded number at a time, and what was right once is remembered until the next reload, as its SHA-256.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::HeaderMap;
use ::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::GateError;
use crate::http::network_of;

/// How many right passwords are remembered: more than people share a staging site.
const REMEMBERED: usize = 1000;

/// How many checks one client may wait for: more than a browser asks for at once with the same password.
const EACH: usize = 8;

/// The longest credentials that are looked at.
const LONGEST: usize = 1024;

/// Who may come in.
#[derive(Debug)]
pub(super) struct Passwords {
    hashes: HashMap<String, String>,
    /// For names that nobody has: it must take as long to refuse them.
    decoy: String,
    right: Mutex<HashSet<[u8; 32]>>,
    waiting: Waiting,
    /// How many may be checked or wait for it.
    places: Arc<Semaphore>,
    /// How many are checked at once.
    checking: Arc<Semaphore>,
    /// How long one may wait for that.
    patience: Duration,
}

/// How many checks each client network waits for. It has as many entries as there are places at most.
type Waiting = Arc<Mutex<HashMap<Option<IpAddr>, usize>>>;

/// A place that one client has.
#[derive(Debug)]
struct Share {
    client: Option<IpAddr>,
    waiting: Waiting,
}

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    Known,
    Unknown,
    /// Too many wait, or one has waited for too long.
    Busy,
}

impl Passwords {
    pub(super) fn read(file: &Path, places: usize, patience: Duration) -> Result<Self, GateError> {
        let text = fs_err::read_to_string(file).map_err(GateError::Unreadable)?;
        let mut hashes = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason| GateError::Line { file: file.to_owned(), line: number + 1, reason };
            let (name, hash) = line.split_once(':').ok_or_else(|| wrong("a line is NAME:HASH"))?;
            // Whatever the password, the check tells a hash that is none.
            if !hash.starts_with("$2") || bcrypt::verify("", hash).is_err() {
                return Err(wrong("only bcrypt hashes are taken"));
            }
            hashes.insert(name.to_owned(), hash.to_owned());
        }
        let decoy = hashes.values().next().cloned().ok_or_else(|| GateError::Nobody(file.to_owned()))?;
        let half = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Ok(Self {
            hashes,
            decoy,
            right: Mutex::default(),
            waiting: Waiting::default(),
            places: Arc::new(Semaphore::new(places)),
            checking: Arc::new(Semaphore::new(half)),
            patience,
        })
    }

    pub(super) async fn check(&self, headers: &HeaderMap, client: Option<IpAddr>) -> Checked {
        let Some((name, password)) = credentials(headers) else { return Checked::Unknown };
        let digest: [u8; 32] = Sha256::digest(format!("{name}:{password}")).into();
        if self.right.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
            return Checked::Known;
        }
        let Some(share) = self.share(client.map(network_of)) else { return Checked::Busy };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return Checked::Busy };
        let turn = timeout(self.patience, Arc::clone(&self.checking).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Checked::Busy };
        let (hash, is_somebody) = match self.hashes.get(&name) {
            Some(hash) => (hash.clone(), true),
            None => (self.decoy.clone(), false),
        };
        let is_right = spawn_blocking(move || {
            // Kept until the work is done, also when the client has left.
            let _held = (place, turn, share);
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        if !is_right.await.unwrap_or(false) || !is_somebody {
            return Checked::Unknown;
        }
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= REMEMBERED {
            right.clear();
        }
        right.insert(digest);
        Checked::Known
    }
}

impl Passwords {
    /// One of the few checks that a client may wait for at once; `None` if it has them all.
    fn share(&self, client: Option<IpAddr>) -> Option<Share> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(client).or_default();
        if *count >= EACH {
            return None;
        }
        *count += 1;
        Some(Share { client, waiting: Arc::clone(&self.waiting) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = waiting.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The name and the password that a client gives.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let mut fields = headers.get_all(AUTHORIZATION).into_iter();
    let value = fields.next().filter(|value| value.len() <= LONGEST)?.to_str().ok()?;
    if fields.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let bytes = STANDARD.decode(token.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    // Cost 4, so that tests are quick: "secret".
    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs_err::write(file.path(), text).expect("a file");
        file
    }

    fn line(name: &str) -> String {
        format!("{name}:{}\n", bcrypt::hash("secret", 4).expect("a hash"))
    }

    fn given(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().expect("a value"))])
    }

    #[tokio::test]
    async fn who_knows_the_password_is_known() {
        let file = file(&format!("# people\n\n{}", line("ann")));
        let passwords = Passwords::read(file.path(), 8, PATIENCE).expect("passwords");
        for (value, expected) in [
            (format!("Basic {}", STANDARD.encode("ann:secret")), Checked::Known),
            (format!("basic  {}", STANDARD.encode("ann:secret")), Checked::Known), // by now remembered
            (format!("Basic {}", STANDARD.encode("ann:Secret")), Checked::Unknown),
            (format!("Basic {}", STANDARD.encode("bob:secret")), Checked::Unknown),
            (format!("Basic {}", STANDARD.encode("ann")), Checked::Unknown),
            (format!("Bearer {}", STANDARD.encode("ann:secret")), Checked::Unknown),
            ("Basic %%%".to_owned(), Checked::Unknown),
            (format!("Basic {}", STANDARD.encode(format!("ann:{}", "x".repeat(2000)))), Checked::Unknown),
        ] {
            assert_eq!(passwords.check(&given(&value), None).await, expected, "for {value}");
        }
        assert_eq!(passwords.check(&HeaderMap::new(), None).await, Checked::Unknown);
    }

    #[tokio::test]
    async fn no_more_wait_than_there_are_places() {
        let file = file(&line("ann"));
        let passwords = Passwords::read(file.path(), 0, PATIENCE).expect("passwords");
        let headers = given(&format!("Basic {}", STANDARD.encode("ann:secret")));
        assert_eq!(passwords.check(&headers, None).await, Checked::Busy);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_too_long_is_told_to_come_back_and_leaves_the_place() {
        let file = file(&line("ann"));
        let passwords = Passwords::read(file.path(), 1, Duration::from_secs(10)).expect("passwords");
        let turns = passwords.checking.available_permits().try_into().expect("a few");
        let busy = passwords.checking.acquire_many(turns).await.expect("all turns");
        let headers = given(&format!("Basic {}", STANDARD.encode("ann:secret")));
        assert_eq!(passwords.check(&headers, None).await, Checked::Busy);
        drop(busy);
        assert_eq!(passwords.check(&headers, None).await, Checked::Known);
    }

    #[tokio::test]
    async fn one_client_does_not_take_all_places() {
        let file = file(&line("ann"));
        let passwords = Passwords::read(file.path(), 64, PATIENCE).expect("passwords");
        let client = Some(IpAddr::from([192, 0, 2, 1]));
        let shares: Vec<_> = (0..EACH).map(|_| passwords.share(client).expect("a share")).collect();
        assert!(passwords.share(client).is_none());
        assert!(passwords.share(None).is_some());
        drop(shares);
        assert!(passwords.waiting.lock().expect("a lock").is_empty());
    }

    #[test]
    fn a_file_is_refused_with_its_line() {
        for (text, expected) in [
            ("ann\n", ":1: a line is NAME:HASH"),
            ("\nann:plain\n", ":2: only bcrypt hashes"),
            ("ann:$apr1$abc$def\n", ":1: only bcrypt hashes"),
            ("ann:$2y$short\n", ":1: only bcrypt hashes"),
            ("# nobody\n", "names nobody"),
        ] {
            let file = file(text);
            let error = Passwords::read(file.path(), 8, PATIENCE).expect_err("no passwords");
            assert!(error.to_string().contains(expected), "{error} for {text}");
        }
    }
}
