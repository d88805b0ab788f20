//! The front door of a Django site, in one program.

pub mod cli;
pub mod config;
pub mod logging;

pub mod manifest;

pub mod collect;

pub mod http;

pub mod assets;
pub mod upstream;

pub mod layers;
pub mod tls;

pub mod serve;
