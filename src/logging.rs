//! What the program tells on standard error: text for people, JSON for machines.
//!
//! The access log is not written here; it goes to standard output, by `layers::access_log`. What is told seldom, so
//! that no stranger fills the log with it, is counted by [`seldom`].

pub mod seldom;

use std::io::{self, IsTerminal as _};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::LogConfig;
use crate::config::values::{LogFormat, LogLevel};

/// Keeps the telling going; what has been told so far is written when it is dropped.
#[must_use]
pub struct Guard(#[expect(dead_code, reason = "it works by being dropped")] WorkerGuard);

/// How many lines may wait to be written. Room for them is taken at once, 32 bytes for each.
const LINES: usize = 10_000;

/// Starts telling. Further calls change nothing, so that tests may call it freely.
///
/// A thread of its own writes, and what it cannot write is dropped: when nobody reads standard error any
/// more, the site goes on.
pub fn start(config: &LogConfig) -> Guard {
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES).finish(io::stderr());
    let level = match config.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Only our own messages go below warnings: those of the libraries speak to their authors.
    let filter = EnvFilter::default()
        .add_directive(level.min(LevelFilter::WARN).into())
        .add_directive(format!("vestibule={level}").parse().expect("a name and a level are a directive"));
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    // It fails only when one is running already.
    let _ = if json { builder.json().flatten_event(true).try_init() } else { builder.with_ansi(terminal).try_init() };
    Guard(guard)
}
