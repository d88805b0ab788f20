//! What Django's SecurityMiddleware and XFrameOptionsMiddleware put on pages, for answers that have not passed them.

use ::http::header::{HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Adds what an answer does not have. What the application says stays.
pub fn add(headers: &mut HeaderMap) {
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (X_FRAME_OPTIONS, "DENY"),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_application_says_stays() {
        let mut headers = HeaderMap::from_iter([(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"))]);
        add(&mut headers);
        assert_eq!(headers.len(), 4);
        assert_eq!(headers[X_FRAME_OPTIONS], "SAMEORIGIN");
    }
}
