//! What happens to requests and answers on their way, each in a file of its own. Knows no kind of answer; which of
//! them a request passes stands in `serve::stack`.

pub mod access_log;
pub mod body_limit;
pub mod client_address;
pub mod compression;
pub mod error_pages;
pub mod redirect_to_https;
pub mod redirects;
pub mod security_headers;
