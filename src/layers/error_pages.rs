//! The operator's own pages for errors that vestibule answers with.
//!
//! The application's error pages stay as they are, and who does not take HTML gets the plain line.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use ::http::request::Parts;
use ::http::{Method, StatusCode};
use bytes::Bytes;

use crate::http::answers::Own;
use crate::http::body::Body;
use crate::http::{Response, navigation};

/// The largest page.
const LARGEST: u64 = 1 << 20;

/// A client that takes pages.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    for_head: bool,
}

/// Pages by status.
#[derive(Debug, Default)]
pub struct ErrorPages(BTreeMap<u16, Bytes>);

impl ErrorPages {
    /// Reads `404.html`, `502.html` and so on in a folder. `5xx.html` and `4xx.html` stand for all that have none.
    ///
    /// # Errors
    /// When the folder or a page cannot be read, or a page is larger than 1 MiB.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut pages = BTreeMap::new();
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            let Some(statuses) = path.file_name().and_then(|name| statuses(name.to_str()?.strip_suffix(".html")?))
            else {
                continue;
            };
            if fs_err::metadata(&path)?.len() > LARGEST {
                return Err(io::Error::other(format!("{} is larger than 1 MiB", path.display())));
            }
            let page = Bytes::from(fs_err::read(&path)?);
            let is_exact = statuses.len() == 1;
            for status in statuses {
                if is_exact {
                    pages.insert(status, page.clone());
                } else {
                    pages.entry(status).or_insert_with(|| page.clone());
                }
            }
        }
        Ok(Self(pages))
    }

    /// Whether a client would take a page, and how.
    pub fn may_dress(&self, head: &Parts) -> Option<Wish> {
        (!self.0.is_empty() && navigation::opens_page(&head.headers))
            .then(|| Wish { for_head: head.method == Method::HEAD })
    }

    /// Puts the page into an answer of ours.
    pub fn dress(&self, response: &mut Response, wish: Wish) {
        if response.extensions().get::<Own>().is_none() {
            return;
        }
        let Some(page) = self.0.get(&response.status().as_u16()) else { return };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, page.len().into());
        *response.body_mut() = if wish.for_head { Body::Empty } else { page.clone().into() };
    }
}

/// The statuses that a page is for.
fn statuses(name: &str) -> Option<std::ops::Range<u16>> {
    match name {
        "4xx" => Some(400..500),
        "5xx" => Some(500..600),
        name => {
            let status = StatusCode::from_bytes(name.as_bytes()).ok()?;
            let is_error = status.is_client_error() || status.is_server_error();
            is_error.then(|| status.as_u16()..status.as_u16() + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use ::http::header::ACCEPT;

    use super::*;
    use crate::http::answers;

    #[test]
    fn the_page_of_a_status_goes_before_that_of_its_class() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, page) in
            [("404.html", "<p>404"), ("5xx.html", "<p>5xx"), ("502.html", "<p>502"), ("200.html", "no"), ("x.css", "")]
        {
            fs_err::write(folder.path().join(name), page).expect("a page");
        }
        let pages = ErrorPages::read(folder.path()).expect("pages");
        for (status, accept, expected) in [
            (404, "text/html,*/*;q=0.8", Some("6")),
            (404, "*/*", None),
            (404, "text/html;q=0.0", None),
            (503, "TEXT/HTML", Some("6")),
            (502, "application/json, text/html; q=0.5", Some("6")),
            (400, "text/html", None),
            (200, "text/html", None),
        ] {
            let mut response = answers::status(StatusCode::from_u16(status).expect("a status"));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            let head = ::http::Request::builder().header(ACCEPT, accept).body(()).expect("a request").into_parts().0;
            if let Some(wish) = pages.may_dress(&head) {
                pages.dress(&mut response, wish);
            }
            let is_page = response.headers()[CONTENT_TYPE] == "text/html; charset=utf-8";
            let length = is_page.then(|| response.headers()[CONTENT_LENGTH].to_str().expect("digits"));
            assert_eq!(length, expected, "for {status}, {accept}");
        }
    }

    #[test]
    fn the_applications_own_pages_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        fs_err::write(folder.path().join("4xx.html"), "<p>ours").expect("a page");
        let pages = ErrorPages::read(folder.path()).expect("pages");
        let mut response = Response::new(Body::from("theirs"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        pages.dress(&mut response, Wish { for_head: false });
        assert!(response.headers().is_empty());
    }
}
