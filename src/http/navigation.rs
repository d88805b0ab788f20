//! Whether somebody opens a page, as opposed to a page that loads something. Pure.

use ::http::HeaderMap;

use super::accept;

/// Whether the request names HTML among what it takes.
///
/// Browsers do so when somebody opens an address, in a frame too, and for nothing that a page loads: a
/// script, a style, an image, a `fetch`. `*/*` is therefore not enough. A dot in the last segment says
/// nothing: `/users/jo.doe` is a page, and a missing `app.js` is not asked for as HTML.
pub fn opens_page(headers: &HeaderMap) -> bool {
    accept::members(headers).any(|member| member.range.eq_ignore_ascii_case(b"text/html") && member.quality > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;
    use ::http::header::ACCEPT;

    #[test]
    fn a_browser_that_opens_an_address_asks_for_html_by_name() {
        for (accept, expected) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", true), // every browser
            ("application/json, Text/HTML ;q=0.5", true),
            ("text/html;level=1", true),
            ("*/*", false), // a script, a `fetch`, curl
            ("text/*", false),
            ("text/css,*/*;q=0.1", false),
            ("image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8", false),
            ("application/json, text/plain, */*", false),
            ("text/html;q=0, application/json", false),
            ("text/html; q=0.000", false),
            ("text/html;q=0.001", true),
            ("text/htmlx", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(opens_page(&headers), expected, "for {accept:?}");
        }
        assert!(!opens_page(&HeaderMap::new()));
    }
}
