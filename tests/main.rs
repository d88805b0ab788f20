//! The integration tests, in one binary: each module starts what it needs on ports of its own.

mod support;

mod command_line;
mod config_example;
mod connections;
mod house;
mod reload;
mod shutdown;
mod static_files;
mod tls;
