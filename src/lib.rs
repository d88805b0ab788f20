//! vestibule is the front door of a Django site, in one program: `collect` prepares the static files at
//! build time; `serve` terminates TLS, answers those files, and passes everything else on to gunicorn or
//! uWSGI. This page is the map of the source.
//!
//! # The idea in four sentences
//!
//! Two halves that never import each other, [`collect`] (before) and [`serve`] (during), meet in one
//! value: the [`manifest`]. [`serve`] is a short frame; the kinds of answer, [`assets`], [`files`] and
//! [`upstream`], never import each other either, and meet in one function, [`serve::stack`]. Everything
//! that can be decided from values alone is a plain function in a module that does no I/O; everything
//! that waits is at the edge. All that can be prepared at start is prepared at start, so that a static
//! request is a lookup among ready answers.
//!
//! # Three data flows
//!
//! `collect`, each arrow a value handed on:
//! ```text
//! main -> cli -> config::load -> collect
//!   (django) -> folders -> scan -> bundler -> twins -> link (find_links, resolve) -> needs
//!   -> name (order, rewrite, fingerprint)
//!   -> compress (cache) -> plan (carry, deltas) -> publish -> manifest; then the report
//! ```
//! What is made on the way lies in `collect::staging` until it is published. `collect --check` goes the other way:
//! manifest -> `collect::verify`; `audit-templates` holds templates against the manifest: [`audit`]. What they
//! find is told by [`telling`].
//!
//! A static request:
//! ```text
//! serve::accept -> (proxy_protocol, tls) -> http1 or hyper, or http2 -> serve::stack -> layers inward
//!   -> assets: mounts (which folder) -> catalog (lookup) -> choose (http::accept, encoding, conditional, range)
//!        -> respond (kinds: the headers that many files share)
//! -> layers outward -> http1 (client_stream: large ones the system sends by itself) or hyper, or http2 -> socket
//! ```
//! A proxied request:
//! ```text
//! serve::accept -> (proxy_protocol, tls) -> http1 or hyper, or http2 -> serve::stack -> layers inward
//!   -> upstream: routes (which application) -> gather (the whole body; storage)
//!        -> request (http::forwarded, hop_by_hop; uwsgi) -> pool -> servers (balance, standing, checks)
//!        -> hold (while nobody is there) -> connect
//!        -> exchange (sending: until it is answered; sent: what is written, of which the system sends what lies in a
//!           shared_room; answer_head, framing: the answer) -> response (received: the answer's body; tunnel: after 101)
//!        -> pump (spool: what the client has not taken yet)
//!        any failure -> failure
//!        what the application says before its answer -> http::early_hints -> http2
//!   -> files::send_file: if the answer names a file instead of being one; else layers::compression
//!   -> header rules -> assets::preloads: what a page announces with its stylesheets
//! -> layers outward -> http1 or hyper, or http2 -> socket
//! ```
//! `http1` has the plain requests, with bodies whose length is told; whatever else comes over HTTP/1.1, hyper reads.
//! Before either, [`gate`] decides who may come in at all.
//! An upload: `serve::stack -> files::media -> beneath (open) -> choose -> respond`. Files that the application hands
//! over go the same way.
//!
//! Startup ([`serve::Server::bind`]): configuration, static files, certificate, ports; all that can fail
//! fails there. Stop ([`serve::Server::run`]): listeners closed, running requests finished within a
//! deadline. Reload: a whole new [`serve::site::Site`] beside the old one, then one swap; the same for a new
//! release of the files alone ([`serve::releases`]).
//!
//! # What is absent, and must stay so
//!
//! 1. `collect` opens no socket; `serve` writes nothing into the folder of static files.
//! 2. A request never lists a directory. Whether there is a static file the catalog says, and not the disk; one that is
//!    not in memory is opened, and must be what it was.
//!    [`files`] opens what is named, once, and only below its folder. For development there is `[static] watch`, and
//!    then `serve::fresh` looks before a request is answered.
//! 3. [`http`] has no state, but for what a request and its answer carry, and reads no clock; times are passed in.
//! 4. Who does what at the same time:
//!    - Connections live on `serve::workers`, a runtime for each core. Tasks are spawned in `serve` (listeners and
//!      connections; `http2`, for an answer that takes time; signals; `releases`; `linger`, for what is left of a
//!      body) and `upstream` (tunnels; `pump`, for an answer that did not come whole with its head; `exchange`, for the
//!      rest of an upload whose client has left; `pool`, to close what stays idle; `shared_room`, to give memory back;
//!      `checks`, one for each server) only. Otherwise whoever waits for something on a connection to the application
//!      drives it.
//!    - Blocking work on files is handed to tokio's threads where a file is read (`assets::respond`, `files::respond`,
//!      `http::body`) or written (`upstream::storage`), where memory is given back (`upstream::shared_room`) and for a
//!      reload (`serve`, and `releases` and `fresh` in it), and so is bcrypt (`gate`). The page of `gate::maintenance` is
//!      read where it is looked for, once a second at most.
//!    - The access log and standard error have a thread each. `collect`, [`audit`] and [`assets`], at start, have
//!      rayon's threads; `collect` a few of its own that end where they begin.
//! 5. The environment is read in `environment` only; whether to print in colour is asked where it is printed.
//! 6. Assets, files and upstream always answer; a failure becomes a response in the module that understands it.
//! 7. Only `main.rs` prints and exits; besides, the access log writes to standard output, [`logging`] to standard
//!    error, and `collect` draws its progress on a terminal.
//! 8. Every wait on a peer has a deadline, and its name is in the configuration, but for three that nobody needs to
//!    change: `serve::http2::SILENCE`, and `LAST_REQUEST` and `LAST_PIECES` in `serve::accept`.
//! 9. No other program is run, but for `collect --django`: then one Python, before all else, with a deadline.
//! 10. Code that the compiler cannot vouch for (`unsafe`) is in `assets::sealed`, `upstream::consumed` and
//!     [`upstream::shared_room`] only, and in each it is a call or two.
//!
//! `tests/house.rs` holds the table of who may import whom.

// What the operator says.
pub mod cli;
pub mod config;
mod environment;
pub mod logging;

// What is said of a file.
pub mod finding;

// The contract between the halves.
pub mod manifest;

// Before.
pub mod audit;
pub mod collect;

// The vocabulary of all kinds of answer.
pub mod http;

// The kinds of answer.
pub mod assets;
pub mod files;
pub mod upstream;

// Who may come in.
pub mod gate;

// What happens to every request, and to every connection.
pub mod layers;
pub mod tls;

// During.
pub mod serve;

// A look at all of it.
pub mod check;

// How it is told.
pub mod telling;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use self::audit::{Audit, AuditError};
use self::check::Finding;
use self::cli::{CollectFlags, Command};
use self::collect::django::{Question, Saved};
use self::collect::{CollectError, Folders, Proof, ProofError, Summary};
use self::config::load::{ConfigError, Loaded, Reading, load, read};
use self::serve::{Ending, ServeError, Server, signals};

/// What a command did.
#[derive(Debug)]
pub enum Outcome {
    /// `collect` published a folder.
    Collected(Box<Summary>),
    /// `collect --check` has read the folder again.
    Proved(Box<Proof>),
    /// `audit-templates` has looked.
    Audited(Box<Audit>),
    /// `collect` wrote Django's answers to a configuration file.
    Saved(Box<Saved>),
    /// `serve` was told to stop.
    Served(Ending),
    /// `check` has looked.
    Checked(Vec<Finding>),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not sound.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `collect` failed.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// There was nothing that `collect --check` could prove.
    #[error(transparent)]
    Prove(#[from] ProofError),
    /// There was nothing to audit.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// `serve` did not start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The time of a reproducible build is none.
    #[error("environment variable SOURCE_DATE_EPOCH: {0:?} is not a number of seconds since 1970")]
    Epoch(String),
    /// The system did not give what every program needs: threads, signals.
    #[error("the system refuses what vestibule needs to run")]
    System(#[from] io::Error),
}

impl Error {
    /// Whether the operator can mend it by writing something else: exit code 2.
    pub fn is_operators_mistake(&self) -> bool {
        match self {
            Self::Config(_) | Self::Epoch(_) => true,
            Self::Serve(error) => error.is_operators_mistake(),
            Self::Collect(error) => error.is_operators_mistake(),
            Self::Prove(error) => error.is_operators_mistake(),
            Self::Audit(error) => error.is_operators_mistake(),
            Self::System(_) => false,
        }
    }

    /// What was found in the files of `collect`, if that is why it failed.
    pub fn findings(&self) -> &[finding::Finding] {
        match self {
            Self::Collect(error) => error.findings(),
            _ => &[],
        }
    }

    /// The message without a line for each of them.
    pub fn headline(&self) -> String {
        match self {
            Self::Collect(error) => error.headline(),
            _ => self.to_string(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Collect(error) => error.hint(),
            Self::Prove(error) => error.hint(),
            Self::Audit(error) => error.hint(),
            Self::Serve(error) => error.hint(),
            Self::Config(_) | Self::Epoch(_) | Self::System(_) => None,
        }
    }
}

/// Does what the command line says.
///
/// # Errors
/// See [`Error`].
pub fn run(command: &Command) -> Result<Outcome, Error> {
    let reading = read_configuration(command);
    let _telling = logging::start(&reading.loaded.config.log);
    match command {
        Command::Collect(flags) => collect(reading.sound()?, flags),
        Command::Serve(flags) => {
            let loaded = reading.sound()?;
            let (file, options) = (flags.config.clone(), command.options());
            let reread = Box::new(move || load(file.as_deref(), environment::variables(), &options));
            let ending = with_runtime(|runtime| {
                runtime.block_on(async {
                    let orders = signals::orders()?;
                    let server = Server::bind(loaded, reread).await?;
                    Ok::<_, Error>(server.run(orders).await)
                })
            })??;
            Ok(Outcome::Served(ending))
        }
        Command::AuditTemplates(flags) => {
            let loaded = reading.sound()?;
            let output = loaded.config.collect.output.or(loaded.config.assets.directory);
            let audit = audit::audit(&flags.folders, output.as_deref())?;
            Ok(Outcome::Audited(Box::new(Audit { lists_dynamic: flags.dynamic, ..audit })))
        }
        Command::Check(_) => Ok(Outcome::Checked(with_runtime(|runtime| check::check(&reading, runtime))?)),
    }
}

/// Django is asked only if a flag says so.
fn collect(mut loaded: Loaded, flags: &CollectFlags) -> Result<Outcome, Error> {
    if flags.check {
        let mut config = loaded.config.collect;
        config.output = config.output.or(loaded.config.assets.directory);
        return Ok(Outcome::Proved(Box::new(collect::verify(&config, &loaded.config.assets.prefix)?)));
    }
    let surroundings = environment::surroundings(&loaded);
    let folders = match &flags.django {
        None => Folders::named(&loaded.config.collect, &surroundings)?,
        Some(manage_py) => {
            let question = Question {
                manage_py: manage_py.clone(),
                settings: flags.settings.clone(),
                python: flags.python.clone(),
                virtual_env: loaded.config.collect.virtual_env.clone(),
            };
            let learned = question.ask(&surroundings).map_err(CollectError::from)?;
            if let Some(file) = &flags.save {
                let saved = learned.save(file, &loaded, &surroundings).map_err(CollectError::from)?;
                return Ok(Outcome::Saved(Box::new(saved)));
            }
            learned.apply(&mut loaded, &surroundings).map_err(CollectError::from)?
        }
    };
    let mut config = loaded.config.collect;
    config.output = config.output.or(loaded.config.assets.directory);
    config.cache = environment::cache_folder(config.cache);
    let now = environment::now().map_err(Error::Epoch)?;
    let summary = collect::collect_from(&folders, &config, &loaded.config.assets.prefix, now)?;
    Ok(Outcome::Collected(Box::new(summary)))
}

fn read_configuration(command: &Command) -> Reading {
    read(command.config_file().map(PathBuf::as_path), environment::variables(), &command.options())
}

/// Lends a runtime, and does not wait for what hangs in it afterwards: a disk or a name server that
/// does not answer must not keep the program from ending.
fn with_runtime<T>(work: impl FnOnce(&Runtime) -> T) -> io::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let done = work(&runtime);
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(done)
}
