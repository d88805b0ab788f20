//! Sends a client that came in the clear to the same address over TLS.

use ::http::header::{HeaderValue, LOCATION};
use ::http::{StatusCode, Uri};

use crate::http::{Response, answers};

/// The answer that names the same target under https. 308, so that a POST stays a POST.
///
/// `host` is the checked host without its port. `None` when it makes no header value.
pub fn redirect(host: &str, port: u16, target: &Uri) -> Option<Response> {
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    let location = HeaderValue::try_from(format!("https://{host}{port}{target}")).ok()?;
    let mut response = answers::plain(StatusCode::PERMANENT_REDIRECT, "This site speaks https.\n");
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_stays_as_it_was() {
        for (port, target, expected) in [
            (443, "/a?b=c", "https://example.com/a?b=c"),
            (8443, "/", "https://example.com:8443/"),
            (443, "http://example.com/x", "https://example.com/x"),
        ] {
            let response = redirect("example.com", port, &target.parse().unwrap()).unwrap();
            assert_eq!(response.headers()[LOCATION], expected);
        }
    }
}
