//! The integration tests, in one binary: each module starts what it needs on ports of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

mod command_line;
mod config_example;
mod connections;
mod house;
mod proxy;
mod reload;
mod requests;
mod shutdown;
mod tls;
mod tunnel;
mod uwsgi;
