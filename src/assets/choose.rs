//! What to answer, decided from the asset and the request's head alone.

use std::ops::Range;

use ::http::header::RANGE;
use ::http::request::Parts;
use ::http::{HeaderMap, Method};

use super::asset::{Asset, Variant};
use super::inventory::Form;
use crate::http::Client;
use crate::http::conditional::{self, Outcome};
use crate::http::dictionary::{self, Digest};
use crate::http::encoding::Accepted;
use crate::http::range::{self, Requested, Selected};

/// What to answer.
#[derive(Debug, Clone)]
pub(super) enum Choice<'a> {
    /// All of a variant.
    Whole(&'a Variant),
    /// These bytes of a variant.
    Part(&'a Variant, Range<u64>),
    /// These several parts of a variant.
    Parts(&'a Variant, Vec<Range<u64>>),
    /// The client has this variant already.
    NotModified(&'a Variant),
    /// The file is not what the client expects.
    PreconditionFailed,
    /// The client asks for bytes beyond the end of this variant.
    Unsatisfiable(&'a Variant),
    /// The client refuses every variant.
    NotAcceptable,
    /// The client asks what may be done with the file.
    Options,
    /// Files can only be read.
    MethodNotAllowed,
}

/// Chooses the answer from an asset that suits the client.
pub(super) fn choose<'a>(asset: &'a Asset, head: &Parts, client: &Client) -> Choice<'a> {
    let headers = &head.headers;
    let present = Present::among(headers);
    // A range is defined for GET only (RFC 9110, section 14.2), so HEAD is answered without one.
    let range = match head.method {
        Method::GET if present.has_range => range::requested(headers, asset.most_ranges()),
        Method::GET | Method::HEAD => None,
        Method::OPTIONS => return Choice::Options,
        _ => return Choice::MethodNotAllowed,
    };
    let accepted = Accepted::read(headers);
    // Whoever asks for a range counts bytes of what it has seen, and that was no delta.
    let dictionary = if range.is_none() { usable_dictionary(asset, headers, client) } else { None };
    let selected = select(asset, headers, range, &accepted, dictionary.as_ref());
    let Some((variant, range)) = selected else { return Choice::NotAcceptable };
    let outcome = |variant: &Variant| match present.has_preconditions {
        true => conditional::evaluate(&head.method, headers, asset.validators(variant)),
        false => Outcome::Stale,
    };
    match outcome(variant) {
        Outcome::Failed => return Choice::PreconditionFailed,
        Outcome::Fresh => return Choice::NotModified(variant),
        Outcome::Stale => {}
    }
    // Whoever has what the whole would come as has it, of whatever a part would be (section 13.2.2).
    if range.is_some()
        && let Some(best) = asset.best(&accepted, None)
        && outcome(best) == Outcome::Fresh
    {
        return Choice::NotModified(best);
    }
    // The file may have come as the other delta from this dictionary: in the other coding.
    let mut others = dictionary.iter().flat_map(|dictionary| asset.deltas(dictionary));
    let is_known = |delta: &&Variant| accepted.allows(delta.form.coding()) && outcome(delta) == Outcome::Fresh;
    if let Some(delta) = others.find(is_known) {
        return Choice::NotModified(delta);
    }
    match range.map(|range| range.within(variant.size)) {
        None | Some(Selected::Whole) => Choice::Whole(variant),
        Some(Selected::Part(part)) => Choice::Part(variant, part),
        Some(Selected::Parts(parts)) => Choice::Parts(variant, parts),
        Some(Selected::Unsatisfiable) => Choice::Unsatisfiable(variant),
    }
}

/// Which fields there are. To look for each that is absent would cost more than one walk over those that are not.
#[derive(Debug, Clone, Copy, Default)]
struct Present {
    has_range: bool,
    has_preconditions: bool,
}

impl Present {
    fn among(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            present.has_range |= *name == RANGE;
            present.has_preconditions |= conditional::is_precondition(name);
        }
        present
    }
}

/// The client's dictionary, if an answer may refer to it: only where nobody between can meddle (RFC
/// 9842, section 8), and only to a page that may read the file.
fn usable_dictionary(asset: &Asset, headers: &HeaderMap, client: &Client) -> Option<Digest> {
    if !asset.has_deltas() || !client.is_secure() {
        return None;
    }
    dictionary::available(headers).filter(|_| dictionary::page_may_read(headers, asset.always()))
}

/// The variant to answer from, and the range if it is still to be honoured.
///
/// A range counts the bytes of one variant, so the question is which one the client means. With
/// `If-Range` or a tag in `If-Match` it says so: a download of the brotli copy goes on in the brotli copy. Without, it
/// means the file itself, since nobody can know in which coding a first part would come.
///
/// Several parts are sent of the file itself only: `Content-Encoding` would speak of the answer as a whole, text
/// between the parts included, and no client could decode that.
fn select<'a, 'h>(
    asset: &'a Asset,
    headers: &HeaderMap,
    range: Option<Requested<'h>>,
    accepted: &Accepted,
    dictionary: Option<&Digest>,
) -> Option<(&'a Variant, Option<Requested<'h>>)> {
    let whole = || Some((asset.best(accepted, dictionary)?, None));
    let Some(range) = range else { return whole() };
    let mut acceptable = asset.variants().iter().filter(|variant| accepted.allows(variant.form.coding()));
    let may_continue = |variant: &Variant| conditional::range_may_continue(headers, asset.validators(variant));
    let is_named = |variant: &Variant| conditional::is_named(headers, asset.validators(variant));
    let is_meant =
        |variant: &&Variant| may_continue(variant).or_else(|| is_named(variant)).unwrap_or(variant.form == Form::Whole);
    match acceptable.find(is_meant) {
        Some(variant) if variant.form == Form::Whole || !range.has_several() => Some((variant, Some(range))),
        _ => whole(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use ::http::HeaderValue;
    use ::http::header::{
        ACCEPT_ENCODING, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
    };
    use proptest::prelude::{Just, Strategy, prop};
    use proptest::{prop_assert, prop_oneof, proptest};

    use crate::assets::asset::Policy;
    use crate::assets::contents::Contents;
    use crate::assets::inventory::Listed;
    use crate::assets::kinds::Kinds;
    use crate::config::AssetsConfig;
    use crate::http::Scheme;
    use crate::http::encoding::{Coding, ContentCoding, DictionaryCoding};
    use crate::manifest::Needs;

    const TAG: &str = "\"abababababababababababababababab\"";
    const BR_TAG: &str = "\"abababababababababababababababab-br-200\"";
    const GZ_TAG: &str = "\"abababababababababababababababab-gz-300\"";
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn asset(variants: &[(Coding, u64)]) -> Asset {
        make(variants, &[])
    }

    fn make(variants: &[(Coding, u64)], deltas: &[(DictionaryCoding, Digest, u64)]) -> Asset {
        let file = Listed {
            location: "a.css".into(),
            name: "app.css".into(),
            sha256: [0xab; 32],
            media_type: "text/css".try_into().expect("a header value"),
            size: 1000,
            modified: Some(UNIX_EPOCH + Duration::from_secs(784_111_777)),
            variants: variants.to_vec(),
            deltas: deltas.to_vec(),
            spare: Vec::new(),
            dictionary_for: None,
            is_fingerprinted: false,
            twins: Vec::new(),
            needs: Needs::default(),
            first_body: 0,
        };
        let config = AssetsConfig { allow_all_origins: false, ..AssetsConfig::default() };
        let policy = Policy::new(&config, &Arc::default());
        Asset::new(&file, &[], &Contents::empty(8), &Kinds::new(&policy))
    }

    /// 1000 bytes, 200 with brotli; 20 and 30 from one dictionary, 40 from another.
    fn with_deltas() -> Asset {
        let copies = [(Coding::Gzip, 300), (Coding::Brotli, 200)];
        let (dcb, dcz) = (DictionaryCoding::Brotli, DictionaryCoding::Zstd);
        make(&copies, &[(dcz, [1; 32], 30), (dcb, [1; 32], 20), (dcz, [2; 32], 40)])
    }

    fn client() -> Client {
        Client { address: None, port: 0, scheme: Scheme::Https, local_port: 443 }
    }

    /// 1000 bytes, 300 with gzip, 200 with brotli.
    fn compressed() -> Asset {
        asset(&[(Coding::Gzip, 300), (Coding::Brotli, 200)])
    }

    fn head(method: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = ::http::Request::builder().method(method).uri("/static/app.css");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    /// The choice in few words: its status, its coding, and its bytes.
    fn summary(asset: &Asset, method: &str, fields: &[(&str, &str)]) -> String {
        summary_for(asset, method, fields, &client())
    }

    fn summary_for(asset: &Asset, method: &str, fields: &[(&str, &str)], client: &Client) -> String {
        let coding = |variant: &Variant| match variant.form.coding() {
            ContentCoding::Identity => "identity",
            ContentCoding::Alone(coding) => coding.token(),
            ContentCoding::Delta(coding) => coding.token(),
        };
        match choose(asset, &head(method, fields), client) {
            Choice::Whole(variant) => format!("200 {}", coding(variant)),
            Choice::Part(variant, part) => format!("206 {} {}-{}", coding(variant), part.start, part.end - 1),
            Choice::Parts(variant, parts) => {
                let parts: Vec<_> = parts.iter().map(|part| format!("{}-{}", part.start, part.end - 1)).collect();
                format!("206 {} {}", coding(variant), parts.join(","))
            }
            Choice::NotModified(variant) => format!("304 {}", coding(variant)),
            Choice::PreconditionFailed => "412".into(),
            Choice::Unsatisfiable(variant) => format!("416 */{}", variant.size),
            Choice::NotAcceptable => "406".into(),
            Choice::Options => "204".into(),
            Choice::MethodNotAllowed => "405".into(),
        }
    }

    fn check_get(asset: &Asset, table: &[(&[(&str, &str)], &str)]) {
        for (fields, expected) in table {
            assert_eq!(summary(asset, "GET", fields), *expected, "for {fields:?}");
        }
    }

    #[test]
    fn the_smallest_of_the_most_welcome_variants_is_sent() {
        check_get(
            &compressed(),
            &[
                (&[], "200 identity"),
                (&[("accept-encoding", "")], "200 identity"),
                (&[("accept-encoding", "gzip, br")], "200 br"),
                (&[("accept-encoding", "gzip")], "200 gzip"),
                (&[("accept-encoding", "gzip"), ("via", "1.1 cdn")], "200 gzip"),
                (&[("accept-encoding", "gzip;q=0")], "200 identity"),
                (&[("accept-encoding", "br;q=0, gzip")], "200 gzip"),
                (&[("accept-encoding", "gzip"), ("accept-encoding", "br")], "200 br"),
                (&[("accept-encoding", "identity;q=0")], "200 br"),
                (&[("accept-encoding", "identity;q=0, *;q=0.1")], "200 br"),
                (&[("accept-encoding", "*;q=0")], "406"),
                (&[("accept-encoding", "zstd, identity;q=0")], "406"), // there is no such copy
            ],
        );
        // Brotli is not always the smaller one.
        let gzip_smaller = asset(&[(Coding::Gzip, 300), (Coding::Brotli, 301)]);
        check_get(&gzip_smaller, &[(&[("accept-encoding", "gzip, br")], "200 gzip")]);
    }

    #[test]
    fn only_get_and_head_read_files() {
        for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "get"] {
            assert_eq!(summary(&compressed(), method, &[("if-match", "\"x\"")]), "405", "for {method}");
        }
        assert_eq!(summary(&compressed(), "HEAD", &[("accept-encoding", "br")]), "200 br");
        assert_eq!(summary(&compressed(), "OPTIONS", &[("if-match", "\"x\"")]), "204");
    }

    #[test]
    fn a_copy_is_fresh_by_the_tag_of_its_coding() {
        check_get(
            &compressed(),
            &[
                (&[("if-none-match", TAG)], "304 identity"),
                (&[("if-none-match", BR_TAG), ("accept-encoding", "br")], "304 br"),
                (&[("if-none-match", TAG), ("accept-encoding", "br")], "200 br"),
                (&[("if-none-match", BR_TAG), ("accept-encoding", "gzip")], "200 gzip"),
                (&[("if-none-match", &format!("{TAG}, {GZ_TAG}")), ("accept-encoding", "gzip")], "304 gzip"),
                (&[("if-none-match", &format!("W/{TAG}"))], "304 identity"),
                (&[("if-none-match", "*")], "304 identity"),
                (&[("if-modified-since", MODIFIED)], "304 identity"),
                (&[("if-modified-since", MODIFIED), ("if-none-match", "\"x\"")], "200 identity"),
                (&[("if-match", "\"x\"")], "412"),
                (&[("if-match", TAG), ("if-none-match", TAG)], "304 identity"),
                (&[("if-match", "\"x\""), ("accept-encoding", "*;q=0")], "406"), // never a success, so not evaluated
            ],
        );
        assert_eq!(summary(&compressed(), "HEAD", &[("if-none-match", TAG)]), "304 identity");
    }

    #[test]
    fn a_range_means_the_file_itself_unless_if_range_names_a_copy() {
        check_get(
            &compressed(),
            &[
                (&[("range", "bytes=0-9")], "206 identity 0-9"),
                (&[("range", "bytes=0-0")], "206 identity 0-0"),
                (&[("range", "bytes=-1")], "206 identity 999-999"),
                (&[("range", "bytes=0-9"), ("accept-encoding", "br")], "206 identity 0-9"),
                (&[("range", "bytes=150-"), ("accept-encoding", "br"), ("if-range", BR_TAG)], "206 br 150-199"),
                (&[("range", "bytes=150-"), ("accept-encoding", "br"), ("if-range", TAG)], "206 identity 150-999"),
                // The client no longer takes what it has a part of.
                (&[("range", "bytes=150-"), ("accept-encoding", "gzip"), ("if-range", BR_TAG)], "200 gzip"),
                (&[("range", "bytes=0-9"), ("if-range", "\"nope\"")], "200 identity"),
                (&[("range", "bytes=0-9"), ("if-range", "\"nope\""), ("accept-encoding", "br")], "200 br"),
                (&[("range", "bytes=0-9"), ("if-range", &format!("W/{TAG}"))], "200 identity"),
                // The date belongs to every coding alike, and maybe to another release too.
                (&[("range", "bytes=0-9"), ("if-range", MODIFIED)], "200 identity"),
                (&[("range", "bytes=0-9"), ("accept-encoding", "br, identity;q=0")], "200 br"),
                (&[("range", "bytes=0-9"), ("if-none-match", TAG)], "304 identity"),
                (&[("range", "bytes=0-9"), ("if-match", "\"x\"")], "412"),
                (&[("range", "bytes=0-9"), ("if-match", BR_TAG), ("accept-encoding", "br")], "206 br 0-9"),
                (&[("range", "bytes=0-9"), ("if-match", TAG), ("accept-encoding", "br")], "206 identity 0-9"),
                (&[("range", "bytes=0-9"), ("if-match", "*"), ("accept-encoding", "br")], "206 identity 0-9"),
                (&[("range", "bytes=0-9"), ("if-match", BR_TAG), ("accept-encoding", "gzip")], "412"),
                (&[("range", "bytes=0-9"), ("if-none-match", BR_TAG), ("accept-encoding", "br")], "304 br"),
                (&[("range", "bytes=0-9"), ("if-none-match", BR_TAG)], "206 identity 0-9"),
                (&[("range", "bytes=1000-")], "416 */1000"),
                (&[("range", "bytes=-0")], "416 */1000"),
                (&[("range", "bytes=200-"), ("accept-encoding", "br"), ("if-range", BR_TAG)], "416 */200"),
                (&[("range", "bytes=1000-"), ("if-range", "\"nope\"")], "200 identity"),
                (&[("range", "bytes=5-2"), ("accept-encoding", "br")], "200 br"),
                (&[("range", "bytes=3-4,0-1")], "206 identity 3-4,0-1"),
                (&[("range", "bytes=3-4,0-1"), ("accept-encoding", "br")], "206 identity 3-4,0-1"),
                (&[("range", "bytes=3-4,0-1"), ("accept-encoding", "br"), ("if-range", TAG)], "206 identity 3-4,0-1"),
                // Nobody could decode parts of a copy with text between them.
                (&[("range", "bytes=3-4,0-1"), ("accept-encoding", "br"), ("if-range", BR_TAG)], "200 br"),
                (&[("range", "bytes=3-4,0-2")], "206 identity 0-4"),
                (&[("range", "bytes=1000-,0-1")], "206 identity 0-1"),
                (&[("range", "bytes=1000-,-0")], "416 */1000"),
                (&[("range", "bytes=0-1,5-2")], "200 identity"),
                (&[("range", &"0-0,".repeat(1000))], "200 identity"),
                (&[("range", &format!("bytes={}", "0-0,".repeat(1000))), ("accept-encoding", "br")], "200 br"),
                (&[("range", "lines=0-9")], "200 identity"),
            ],
        );
        assert_eq!(summary(&compressed(), "HEAD", &[("range", "bytes=0-9")]), "200 identity");
    }

    #[test]
    fn a_date_continues_no_range_not_even_of_a_file_without_copies() {
        check_get(
            &asset(&[]),
            &[
                (&[("range", "bytes=0-9"), ("if-range", MODIFIED)], "200 identity"),
                (&[("range", "bytes=0-9"), ("if-range", "Sun, 06 Nov 1994 08:49:38 GMT")], "200 identity"),
                (&[("range", "bytes=0-9"), ("if-range", TAG)], "206 identity 0-9"),
            ],
        );
    }

    /// `Available-Dictionary` for 32 bytes of this value.
    fn available(byte: u8) -> (&'static str, String) {
        use base64::Engine as _;
        ("available-dictionary", format!(":{}:", base64::engine::general_purpose::STANDARD.encode([byte; 32])))
    }

    const BROWSER: (&str, &str) = ("accept-encoding", "gzip, deflate, br, zstd, dcb, dcz");

    #[test]
    fn who_has_a_dictionary_gets_its_smallest_delta() {
        let (one, two, other) = (available(1), available(2), available(3));
        let (one, two, other) = ((one.0, &*one.1), (two.0, &*two.1), (other.0, &*other.1));
        check_get(
            &with_deltas(),
            &[
                (&[BROWSER, one], "200 dcb"),
                (&[BROWSER, two], "200 dcz"),
                (&[BROWSER, other], "200 br"),
                (&[BROWSER], "200 br"),
                (&[one], "200 identity"),
                (&[("accept-encoding", "*"), one], "200 br"),
                (&[("accept-encoding", "dcz"), one], "200 dcz"),
                (&[("accept-encoding", "dcb"), two], "200 identity"), // there is no such delta
                (&[("accept-encoding", "dcb;q=0, dcz, br"), one], "200 dcz"),
                (&[("accept-encoding", "br, dcb;q=0.5"), one], "200 br"), // less welcome
                (&[("accept-encoding", "br;q=0.5, dcz;q=0.5"), one], "200 dcz"),
                (&[("accept-encoding", "identity;q=0, dcb"), other], "406"),
                (&[BROWSER, one, one], "200 br"),
                (&[BROWSER, ("available-dictionary", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")], "200 br"),
            ],
        );
        assert_eq!(summary(&with_deltas(), "HEAD", &[BROWSER, one]), "200 dcb");
        check_get(&compressed(), &[(&[BROWSER, one], "200 br")]);
    }

    #[test]
    fn a_delta_goes_only_where_nobody_can_meddle() {
        let one = available(1);
        let fields = [BROWSER, (one.0, &*one.1)];
        for (scheme, address, expected) in [
            (Scheme::Https, Some("192.0.2.1"), "200 dcb"),
            (Scheme::Https, None, "200 dcb"),
            (Scheme::Http, Some("127.0.0.1"), "200 dcb"),
            (Scheme::Http, Some("::1"), "200 dcb"),
            (Scheme::Http, Some("::ffff:127.0.0.1"), "200 dcb"),
            (Scheme::Http, Some("192.0.2.1"), "200 br"),
            (Scheme::Http, None, "200 br"),
        ] {
            let address = address.map(|address| address.parse().expect("an address"));
            let client = Client { address, scheme, ..client() };
            assert_eq!(summary_for(&with_deltas(), "GET", &fields, &client), expected, "for {client:?}");
        }
    }

    #[test]
    fn a_delta_goes_only_to_a_page_that_may_read_the_file() {
        let one = available(1);
        for (site, mode, expected) in [
            ("same-origin", "no-cors", "200 dcb"),
            ("none", "navigate", "200 dcb"),
            ("same-site", "no-cors", "200 br"),
            ("cross-site", "no-cors", "200 br"),
            ("cross-site", "cors", "200 br"), // without Access-Control-Allow-Origin
        ] {
            let fields = [
                BROWSER,
                (one.0, &*one.1),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("origin", "https://a.test"),
            ];
            assert_eq!(summary(&with_deltas(), "GET", &fields), expected, "for {site}, {mode}");
        }
    }

    #[test]
    fn a_range_is_never_one_of_a_delta() {
        let one = available(1);
        let one = (one.0, &*one.1);
        let delta = "\"abababababababababababababababab-dcb-0101010101010101-20\"";
        check_get(
            &with_deltas(),
            &[
                (&[BROWSER, one, ("range", "bytes=0-9")], "206 identity 0-9"),
                (&[BROWSER, one, ("range", "bytes=10-"), ("if-range", delta)], "200 br"),
                (&[BROWSER, one, ("range", "bytes=150-"), ("if-range", BR_TAG)], "206 br 150-199"),
                (&[BROWSER, one, ("range", "lines=0-9")], "200 dcb"), // no range
            ],
        );
    }

    #[test]
    fn a_delta_is_fresh_by_the_tag_of_its_coding_and_dictionary() {
        let (one, two) = (available(1), available(2));
        let (one, two) = ((one.0, &*one.1), (two.0, &*two.1));
        let tag = |token: &str, digits: &str, length: u64| {
            format!("\"abababababababababababababababab-{token}-{}-{length}\"", digits.repeat(8))
        };
        let (dcb, dcz, from_two) = (tag("dcb", "01", 20), tag("dcz", "01", 30), tag("dcz", "02", 40));
        check_get(
            &with_deltas(),
            &[
                (&[BROWSER, one, ("if-none-match", &dcb)], "304 dcb"),
                (&[BROWSER, one, ("if-none-match", &format!("W/{dcb}"))], "304 dcb"),
                (&[BROWSER, one, ("if-none-match", &dcz)], "304 dcz"), // the same file in the other coding
                (&[BROWSER, one, ("if-none-match", "*")], "304 dcb"),
                (&[BROWSER, one, ("if-none-match", &from_two)], "200 dcb"),
                (&[BROWSER, two, ("if-none-match", &dcz)], "200 dcz"),
                (&[BROWSER, ("if-none-match", &dcb)], "200 br"), // it cannot read what that tag stands for
                (&[("accept-encoding", "br, dcb"), one, ("if-none-match", &dcz)], "200 dcb"),
                (&[BROWSER, one, ("if-none-match", BR_TAG)], "200 dcb"),
                (&[BROWSER, one, ("if-match", &dcb)], "200 dcb"),
                (&[BROWSER, one, ("if-match", TAG)], "412"),
                (&[BROWSER, one, ("if-modified-since", MODIFIED)], "304 dcb"),
            ],
        );
    }

    /// 1000 bytes as JPEG, 300 as AVIF, 400 as WebP, and 1100 as something newer.
    fn picture() -> Asset {
        let file = |kind: &str, digit: u8, size| Listed {
            location: kind.into(),
            name: kind.into(),
            sha256: [digit * 0x11; 32],
            media_type: format!("image/{kind}").try_into().expect("a header value"),
            size,
            modified: None,
            variants: Vec::new(),
            deltas: Vec::new(),
            spare: Vec::new(),
            dictionary_for: None,
            is_fingerprinted: false,
            twins: Vec::new(),
            needs: Needs::default(),
            first_body: 0,
        };
        let all = [file("jpeg", 0, 1000), file("webp", 1, 400), file("avif", 2, 300), file("new", 3, 1100)];
        let all: Vec<_> = all.iter().collect();
        let policy = Policy::new(&AssetsConfig::default(), &Arc::default());
        Asset::new(all[0], &all[1..], &Contents::empty(1), &Kinds::new(&policy))
    }

    /// Status and format of an answer.
    fn format_of(method: &str, fields: &[(&str, &str)]) -> String {
        let (picture, head) = (picture(), head(method, fields));
        let asset = picture.suited(&head.headers);
        let kind = |variant: &Variant| asset.headers(variant)["content-type"].to_str().expect("text")[6..].to_owned();
        match choose(asset, &head, &client()) {
            Choice::Whole(variant) => format!("200 {}", kind(variant)),
            Choice::Part(variant, part) => format!("206 {} {}-{}", kind(variant), part.start, part.end - 1),
            Choice::Parts(variant, parts) => format!("206 {} {}", kind(variant), parts.len()),
            Choice::NotModified(variant) => format!("304 {}", kind(variant)),
            Choice::Unsatisfiable(variant) => format!("416 {}", kind(variant)),
            Choice::PreconditionFailed => "412".into(),
            Choice::NotAcceptable => "406".into(),
            Choice::Options => "204".into(),
            Choice::MethodNotAllowed => "405".into(),
        }
    }

    #[test]
    fn a_picture_is_sent_in_the_smallest_format_that_the_client_names() {
        for (accept, expected) in [
            ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "avif"), // Chromium
            ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "avif"), // Firefox
            (
                "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,*/*;q=0.5",
                "avif",
            ),
            ("image/webp,*/*", "webp"), // Firefox 65
            ("image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", "jpeg"), // Safari 13, which knows neither
            ("*/*", "jpeg"),            // curl, and Safari for its downloads
            ("image/*", "jpeg"),
            ("text/html", "jpeg"),
            ("image/new", "jpeg"), // it is larger
            ("image/avif;q=0, image/webp;q=0", "jpeg"),
            ("image/avif;q=0.5, image/webp;q=0.5", "avif"),
            ("image/avif;q=0.5, image/webp", "webp"),
            ("image/avif;q=0.5, image/jpeg", "jpeg"),
            ("image/avif;q=0.8, image/*;q=0.8", "avif"),
            ("image/avif;q=0.7, image/*;q=0.8", "jpeg"),
            ("image/avif;q=0.001, image/jpeg;q=0", "avif"),
            ("image/jpeg;q=0", "jpeg"), // as if there were no choice
            ("image/avif;q=2", "jpeg"),
            ("IMAGE/WEBP", "webp"),
        ] {
            assert_eq!(format_of("GET", &[("accept", accept)]), format!("200 {expected}"), "for {accept}");
            assert_eq!(format_of("HEAD", &[("accept", accept)]), format!("200 {expected}"), "for {accept}");
        }
        assert_eq!(format_of("GET", &[]), "200 jpeg");
        assert_eq!(format_of("GET", &[("accept", "text/css"), ("accept", "image/avif")]), "200 avif");
        assert_eq!(format_of("POST", &[("accept", "image/avif")]), "405");
    }

    #[test]
    fn conditions_and_ranges_are_about_the_format_that_is_chosen() {
        let tag = |digit: &str| format!("\"{}\"", digit.repeat(32));
        let (jpeg, avif) = (tag("0"), tag("2"));
        let wants = ("accept", "image/avif");
        for (fields, expected) in [
            (&[wants, ("if-none-match", &*avif)][..], "304 avif"),
            (&[wants, ("if-none-match", &jpeg)], "200 avif"),
            (&[("if-none-match", &jpeg)], "304 jpeg"),
            (&[("if-none-match", &avif)], "200 jpeg"),
            (&[wants, ("if-match", &jpeg)], "412"),
            (&[wants, ("range", "bytes=0-9")], "206 avif 0-9"),
            (&[wants, ("range", "bytes=0-0,5-6")], "206 avif 2"),
            (&[wants, ("range", "bytes=10-"), ("if-range", &avif)], "206 avif 10-299"),
            (&[wants, ("range", "bytes=10-"), ("if-range", &jpeg)], "200 avif"),
            (&[("range", "bytes=10-"), ("if-range", &jpeg)], "206 jpeg 10-999"),
            (&[wants, ("range", "bytes=300-")], "416 avif"),
            (&[("range", "bytes=300-")], "206 jpeg 300-999"),
            (&[wants, ("accept-encoding", "identity;q=0")], "406"),
        ] {
            assert_eq!(format_of("GET", fields), expected, "for {fields:?}");
        }
    }

    #[test]
    fn every_answer_about_a_picture_in_several_formats_depends_on_accept() {
        let picture = picture();
        assert_eq!(picture.always()["vary"], "Accept");
        for accept in ["image/avif", "image/webp", "*/*"] {
            let head = head("GET", &[("accept", accept)]);
            let asset = picture.suited(&head.headers);
            let Choice::Whole(variant) = choose(asset, &head, &client()) else {
                panic!("all of it");
            };
            assert_eq!(asset.headers(variant)["vary"], "Accept", "for {accept}");
            assert_eq!(asset.not_modified(variant)["vary"], "Accept", "for {accept}");
        }
        assert!(!asset(&[]).always().contains_key("vary"));
    }

    /// Field values that are nearly right, and some that are nothing.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            prop::sample::select(vec![
                TAG,
                BR_TAG,
                MODIFIED,
                "dcb",
                ":AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=:",
                "bytes=",
                "W/",
                "*",
                "\"",
                ",",
                ";q=",
                "br",
                "gzip",
                "identity",
                "-",
                "0",
                "999",
                "1000",
                " ",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            "[0-9]{1,22}".prop_map(String::into_bytes),
            prop::collection::vec(0x20..=0x7eu8, 0..4),
            prop::collection::vec(0x80..=0xffu8, 0..4),
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whatever_the_fields_say_every_part_lies_inside_of_its_variant(
            fields in prop::collection::vec((0..8usize, value()), 0..6),
            range in prop_oneof![Just(None), "bytes=[0-9]{0,4}-[0-9]{0,4}(,[0-9]{1,3}-[0-9]{1,4}){0,3}".prop_map(Some)],
        ) {
            let names = [ACCEPT_ENCODING, RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, dictionary::AVAILABLE_DICTIONARY];
            let mut head = head("GET", &[]);
            for (name, value) in fields {
                head.headers.append(&names[name], HeaderValue::from_bytes(&value).expect("a header value"));
            }
            if let Some(range) = range {
                head.headers.insert(RANGE, range.try_into().expect("a header value"));
            }
            let asset = with_deltas();
            let (variant, parts) = match choose(&asset, &head, &client()) {
                Choice::Part(variant, part) => (variant, vec![part]),
                Choice::Parts(variant, parts) => (variant, parts),
                _ => return Ok(()),
            };
            prop_assert!(!matches!(variant.form, Form::Delta(..)));
            for part in parts {
                prop_assert!(part.start < part.end && part.end <= variant.size, "{part:?} of {}", variant.size);
            }
        }
    }
}
