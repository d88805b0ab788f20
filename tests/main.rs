//! The integration tests, in one binary: each module starts what it needs on ports of its own.

mod support;

mod collect;
mod command_line;
mod config_example;
mod connections;
mod house;
mod proxy;
mod reload;
mod requests;
mod shutdown;
mod static_files;
mod tls;
mod tunnel;
mod uwsgi;
