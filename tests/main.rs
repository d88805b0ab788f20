//! The integration tests, in one binary.

mod proxy;
mod support;
