//! The integration tests, in one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]
#![allow(clippy::print_stdout, reason = "the harness shows what a failed test printed")]

mod browser;
mod django;
mod support;
