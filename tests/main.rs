//! The integration tests, in one binary: each module starts what it needs on ports of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]
#![allow(clippy::print_stdout, reason = "the harness shows what a failed test printed")]

mod support;

mod audit;
mod browser;
mod bundlers;
mod cache;
mod collect;
mod command_line;
mod compression;
mod config_example;
mod connections;
mod corpus;
mod deltas;
mod differences;
mod django;
mod django_rewriting;
mod early_hints;
mod exchanges;
mod files;
mod gate;
mod header_rules;
mod house;
mod images;
mod integrity;
mod large_files;
mod mounts;
mod overlap;
mod preload;
mod proof;
mod proxy;
mod proxy_exchanges;
mod proxy_protocol;
mod references;
mod releases;
mod reload;
mod requests;
mod restarts;
mod routes;
mod send_file;
mod servers;
mod shutdown;
mod slow_clients;
mod sources;
mod static_files;
mod tls;
mod tunnel;
mod uploads;
mod uwsgi;
mod watch;
