//! Compression dictionaries (RFC 9842): which one a client has, for what a response may be one, and
//! whether a client may be answered with a delta at all.
//!
//! A dictionary is an earlier response, known by the SHA-256 of its decoded body. The browser tells one
//! hash with a request whose URL fits the pattern that came with that response.

use ::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, COOKIE, HeaderName, ORIGIN,
};
use ::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The SHA-256 of a dictionary.
pub type Digest = [u8; 32];

/// Names the dictionary that a client has.
pub const AVAILABLE_DICTIONARY: HeaderName = HeaderName::from_static("available-dictionary");
/// Names the URLs for whose responses this one may be a dictionary.
pub const USE_AS_DICTIONARY: HeaderName = HeaderName::from_static("use-as-dictionary");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// As lenient with what fills up the last digits as RFC 9651, section 4.2.7, wants it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The dictionary that a client has, from `Available-Dictionary`: one byte sequence (RFC 9651, section
/// 3.3.5) of 32 bytes. Anything else is ignored.
pub fn available(headers: &HeaderMap) -> Option<Digest> {
    let mut values = headers.get_all(AVAILABLE_DICTIONARY).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let text = value.as_bytes().trim_ascii().strip_prefix(b":")?;
    let end = text.iter().position(|byte| *byte == b':')?;
    let (digits, parameters) = (&text[..end], &text[end + 1..]);
    // None is defined, and clients send none. Reading them only to pass them over is not worth it: who sends some
    // gets the whole file.
    if !parameters.is_empty() {
        return None;
    }
    // The decoder wants room for whole groups of three.
    let mut bytes = [0; 33];
    let length = BASE64.decode_slice(digits, &mut bytes).ok()?;
    bytes[..length].try_into().ok()
}

/// The value of `Use-As-Dictionary` for a URL pattern. `None` where it cannot be written: its text is
/// ASCII without control characters.
pub fn use_as_dictionary(pattern: &str) -> Option<HeaderValue> {
    let is_writable = pattern.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let text = pattern.replace('\\', "\\\\").replace('"', "\\\"");
    is_writable.then(|| HeaderValue::try_from(format!("match=\"{text}\"")).ok()).flatten()
}

/// What stays as it is in the URL of a static file, as Django's `filepath_to_uri` has it.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The URL pattern for all files whose names begin and end with these texts.
pub fn pattern(beginning: &str, end: &str) -> String {
    let fixed = |text: &str| escape(&utf8_percent_encode(text, PATH).to_string());
    format!("{}*{}", fixed(beginning), fixed(end))
}

/// A text as a URL pattern that only this text fits: what means something there gets a backslash.
///
/// A backslash alone does not keep a colon from ending a protocol, nor a question mark from beginning a
/// query, when the pattern is cut into the parts of a URL. Within a group nothing is cut.
pub fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            ':' | '?' => escaped.extend(['{', '\\', c, '}']),
            '(' | ')' | '{' | '}' | '*' | '+' | '\\' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
        escaped
    })
}

/// Whether a response with these headers may be sent as a delta, as far as the page is concerned that
/// asks: it must be allowed to read the response, or the size would tell it something that it may not
/// know (RFC 9842, section 9.3). A client that does not say which page asks looks after that itself.
pub fn page_may_read(request: &HeaderMap, response: &HeaderMap) -> bool {
    let is_same_origin = request.get(SEC_FETCH_SITE).is_none_or(|site| site == "same-origin");
    let Some(mode) = request.get(SEC_FETCH_MODE).filter(|_| !is_same_origin) else { return true };
    match mode.as_bytes() {
        b"navigate" | b"same-origin" => true,
        b"cors" => match (response.get(ACCESS_CONTROL_ALLOW_ORIGIN), request.get(ORIGIN)) {
            (Some(allowed), Some(_)) if allowed == "*" => !has_credentials(request),
            (Some(allowed), Some(origin)) if allowed == origin => {
                let takes_credentials = response.get(ACCESS_CONTROL_ALLOW_CREDENTIALS);
                !has_credentials(request) || takes_credentials.is_some_and(|value| value == "true")
            }
            _ => false,
        },
        _ => false,
    }
}

/// Whether a request says who the client is: then the answer must allow that too before a page elsewhere may
/// read it (Fetch, section 3.3.3).
fn has_credentials(request: &HeaderMap) -> bool {
    request.contains_key(COOKIE) || request.contains_key(AUTHORIZATION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose;
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    const DIGEST: Digest = [0xfb; 32];
    const DIGITS: &str = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=";

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                name.parse::<HeaderName>().expect("a name"),
                HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
            );
        }
        headers
    }

    #[test]
    fn a_dictionary_is_one_sequence_of_32_bytes() {
        let unpadded = DIGITS.trim_end_matches('=');
        for (value, expected) in [
            (format!(":{DIGITS}:"), true),
            (format!("  :{DIGITS}: "), true),
            (format!(":{unpadded}:"), true), // RFC 9651, section 4.2.7: should not fail
            (format!(":{}t=:", &DIGITS[..42]), true), // nor for bits that are over
            (format!(":{DIGITS}:;a=1"), false), // none is defined
            (DIGITS.to_owned(), false),
            (format!(":{DIGITS}"), false),
            (format!("{DIGITS}:"), false),
            (format!("\":{DIGITS}:\""), false),
            (format!(": {DIGITS} :"), false),
            (format!(":{DIGITS}:, :{DIGITS}:"), false),
            (format!(":{DIGITS}:x"), false),
            (format!(":{}:", DIGITS.replace('/', "_").replace('+', "-")), false),
            (format!(":{}:", &DIGITS[4..]), false), // 29 bytes
            (format!(":AAAA{DIGITS}:"), false),     // 35
            (format!(":{}:", "A".repeat(10_000)), false),
            (format!("sha-256=:{DIGITS}:"), false),
            (format!("(:{DIGITS}:)"), false),
            ("::".into(), false),
            (":".into(), false),
            (String::new(), false),
            (":é:".into(), false),
        ] {
            let found = available(&headers(&[("available-dictionary", &value)]));
            assert_eq!(found, expected.then_some(DIGEST), "for {value:?}");
        }
        assert_eq!(available(&HeaderMap::new()), None);
        let line = ("available-dictionary", &*format!(":{DIGITS}:"));
        assert_eq!(available(&headers(&[line, line])), None, "two lines are a list, and no item");
    }

    #[test]
    fn a_pattern_fits_the_names_as_pages_write_them() {
        for (beginning, end, expected) in [
            ("js/app.", ".js", "js/app.*.js"),
            ("Procfile.", "", "Procfile.*"),
            ("a b/café.", ".css", "a%20b/caf%C3%A9.*.css"),
            ("what?.", ".js", "what%3F.*.js"),
            ("a:b{c}+d\\e.", ".js", "a%3Ab%7Bc%7D%2Bd%5Ce.*.js"),
            ("jquery(1)*.", ".js", "jquery\\(1\\)\\*.*.js"),
            ("100%.", ".js", "100%25.*.js"),
            ("\"q\".", ".js", "%22q%22.*.js"),
        ] {
            assert_eq!(pattern(beginning, end), expected, "for {beginning}*{end}");
        }
    }

    /// As tried with `URLPattern` in Chromium 156.
    #[test]
    fn what_means_something_in_a_pattern_is_escaped() {
        assert_eq!(escape("/static/"), "/static/");
        assert_eq!(escape("/a(1)/b+c:d*/"), r"/a\(1\)/b\+c{\:}d\*/");
        assert_eq!(escape(r"{what?}\"), r"\{what{\?}\}\\");
    }

    #[test]
    fn the_header_is_a_structured_string() {
        for (pattern, expected) in [
            ("/static/js/app.*.js", Some(r#"match="/static/js/app.*.js""#)),
            (r"/static/a\(1\).*.js", Some(r#"match="/static/a\\(1\\).*.js""#)),
            (r#"/"/*"#, Some(r#"match="/\"/*""#)),
            ("/é.*", None),
            ("/\n.*", None),
            ("/\u{7f}*", None),
        ] {
            let value = use_as_dictionary(pattern);
            assert_eq!(value.as_ref().map(|value| value.to_str().expect("ASCII")), expected, "for {pattern:?}");
        }
    }

    #[test]
    fn only_a_page_that_may_read_the_response_gets_a_delta() {
        let anybody = [("access-control-allow-origin", "*")];
        let one = [("access-control-allow-origin", "https://a.test")];
        let with_cookies = ("access-control-allow-credentials", "true");
        let (one_with_cookies, anybody_with_cookies) = ([one[0], with_cookies], [anybody[0], with_cookies]);
        let origin = ("origin", "https://a.test");
        let (cross, cors) = (("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors"));
        for (request, response, expected) in [
            (&[][..], &[][..], true),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "no-cors")], &[], true),
            (&[("sec-fetch-mode", "no-cors")], &[], true),
            (&[cross], &[], true),
            (&[cross, ("sec-fetch-mode", "navigate")], &[], true),
            (&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], &[], true),
            (&[cross, ("sec-fetch-mode", "no-cors")], &anybody, false),
            (&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], &anybody, false),
            (&[cross, ("sec-fetch-mode", "websocket")], &anybody, false),
            (&[cross, cors, origin], &anybody, true),
            (&[("sec-fetch-site", "same-site"), cors, origin], &anybody, true),
            (&[cross, cors, origin], &one, true),
            (&[cross, cors, ("origin", "https://b.test")], &one, false),
            (&[cross, cors], &anybody, false),
            (&[cross, cors, origin], &[], false),
            // With cookies, everybody is not enough, and one must be allowed to send them.
            (&[cross, cors, origin, ("cookie", "a=1")], &anybody, false),
            (&[cross, cors, origin, ("authorization", "Basic x")], &anybody, false),
            (&[cross, cors, origin, ("cookie", "a=1")], &one, false),
            (&[cross, cors, origin, ("cookie", "a=1")], &one_with_cookies, true),
            (&[cross, cors, origin, ("cookie", "a=1")], &anybody_with_cookies, false),
            (&[("sec-fetch-site", "same-origin"), ("cookie", "a=1")], &[], true),
        ] {
            assert_eq!(page_may_read(&headers(request), &headers(response)), expected, "for {request:?}, {response:?}");
        }
    }

    /// What a structured string says, read slowly (RFC 9651, section 4.2.5).
    fn read_string(text: &str) -> Option<String> {
        let mut chars = text.strip_prefix('"')?.chars();
        let mut read = String::new();
        loop {
            match chars.next()? {
                '\\' => read.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
                '"' => return chars.next().is_none().then_some(read),
                c => read.push(c),
            }
        }
    }

    /// Whether a text fits a URL pattern of fixed text and asterisks.
    fn fits(pattern: &str, text: &str) -> bool {
        let mut chars = pattern.chars();
        match chars.next() {
            None => text.is_empty(),
            Some('*') => (0..=text.len()).any(|at| text.is_char_boundary(at) && fits(chars.as_str(), &text[at..])),
            Some(c) => {
                let c = if c == '\\' { chars.next().expect("something is escaped") } else { c };
                text.strip_prefix(c).is_some_and(|rest| fits(chars.as_str(), rest))
            }
        }
    }

    proptest! {
        #[test]
        fn every_digest_is_read_back(digest in any::<Digest>()) {
            let value = format!(":{}:", general_purpose::STANDARD.encode(digest));
            prop_assert_eq!(available(&headers(&[("available-dictionary", &value)])), Some(digest));
        }

        #[test]
        fn nothing_but_32_bytes_is_a_digest(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let value = format!(":{}:", general_purpose::STANDARD.encode(&bytes));
            let expected: Option<Digest> = bytes.try_into().ok();
            prop_assert_eq!(available(&headers(&[("available-dictionary", &value)])), expected);
        }

        #[test]
        fn no_text_breaks_the_reading(value in "[:;,A-Za-z0-9+/= \"é]{0,60}") {
            if let Some(digest) = available(&headers(&[("available-dictionary", &value)])) {
                prop_assert!(value.contains(general_purpose::STANDARD_NO_PAD.encode(digest).get(..42).expect("43 digits")));
            }
        }

        #[test]
        fn a_pattern_fits_every_version_and_its_header_says_it(
            beginning in "[a-zA-Z0-9 /._:(){}*+?\\\\%\"é~!'-]{0,12}",
            end in "[a-z.*)(+]{0,6}",
            hash in "[0-9a-f]{12}",
        ) {
            let pattern = pattern(&beginning, &end);
            let url = utf8_percent_encode(&format!("{beginning}{hash}{end}"), PATH).to_string();
            prop_assert!(fits(&pattern, &url), "{} does not fit {}", url, pattern);
            let another = format!("#{url}");
            prop_assert_eq!(fits(&pattern, &another), beginning.is_empty(), "for {}", another);
            let value = use_as_dictionary(&pattern).expect("a pattern is ASCII");
            let text = value.to_str().expect("ASCII").strip_prefix("match=").expect("the key");
            prop_assert_eq!(read_string(text), Some(pattern));
        }
    }
}
