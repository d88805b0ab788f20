//! What happens to every request, whichever kind of answer it gets. Knows no kind of answer.

pub mod access_log;
pub mod body_limit;
pub mod client_address;
pub mod compression;
pub mod error_pages;
pub mod redirect_to_https;
pub mod redirects;
pub mod security_headers;
