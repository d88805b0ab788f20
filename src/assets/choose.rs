//! What to answer, decided from the asset and the request's head alone.

use std::ops::Range;

use ::http::request::Parts;
use ::http::{HeaderMap, Method};

use super::asset::{Asset, Variant};
use crate::http::conditional::{self, Outcome, Validators};
use crate::http::encoding::Accepted;
use crate::http::range::{self, Requested, Selected};

/// What to answer.
#[derive(Debug, Clone)]
pub(super) enum Choice<'a> {
    /// All of a variant.
    Whole(&'a Variant),
    /// These bytes of a variant.
    Part(&'a Variant, Range<u64>),
    /// The client has this variant already.
    NotModified(&'a Variant),
    /// The file is not what the client expects.
    PreconditionFailed,
    /// The client asks for bytes beyond the end of this variant.
    Unsatisfiable(&'a Variant),
    /// The client refuses every variant.
    NotAcceptable,
    /// Files can only be read.
    MethodNotAllowed,
}

/// Chooses the answer.
pub(super) fn choose<'a>(asset: &'a Asset, head: &Parts) -> Choice<'a> {
    let headers = &head.headers;
    // A range is defined for GET only (RFC 9110, section 14.2), so HEAD is answered without one.
    let range = match head.method {
        Method::GET => range::requested(headers),
        Method::HEAD => None,
        _ => return Choice::MethodNotAllowed,
    };
    let Some((variant, range)) = select(asset, headers, range) else { return Choice::NotAcceptable };
    match conditional::evaluate(&head.method, headers, asset.validators(variant)) {
        Outcome::Failed => return Choice::PreconditionFailed,
        Outcome::Fresh => return Choice::NotModified(variant),
        Outcome::Stale => {}
    }
    match range.map(|range| range.within(variant.size)) {
        None | Some(Selected::Whole) => Choice::Whole(variant),
        Some(Selected::Part(part)) => Choice::Part(variant, part),
        Some(Selected::Unsatisfiable) => Choice::Unsatisfiable(variant),
    }
}

/// The variant to answer from, and the range if it is still to be honoured.
///
/// A range counts the bytes of one variant, so the question is which one the client means. With
/// `If-Range` it says so: a download of the brotli copy goes on in the brotli copy. Without, it means
/// the file itself, since nobody can know in which coding a first part would come.
fn select<'a>(
    asset: &'a Asset,
    headers: &HeaderMap,
    range: Option<Requested>,
) -> Option<(&'a Variant, Option<Requested>)> {
    let accepted = Accepted::read(headers);
    let whole = || Some((asset.best(&accepted)?, None));
    if range.is_none() {
        return whole();
    }
    let mut acceptable = asset.variants().iter().filter(|variant| accepted.allows(variant.coding));
    let may_continue = |variant: &Variant| conditional::range_may_continue(headers, part_validators(asset, variant));
    let is_meant = |variant: &&Variant| may_continue(variant).unwrap_or(variant.coding.is_none());
    match acceptable.find(is_meant) {
        Some(variant) => Some((variant, range)),
        None => whole(),
    }
}

/// What tells a part of a variant from a part of another. A date does not where there are several: they
/// share it.
fn part_validators<'a>(asset: &Asset, variant: &'a Variant) -> Validators<'a> {
    let all = asset.validators(variant);
    Validators { modified: all.modified.filter(|_| !asset.has_copies()), ..all }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    use crate::config::AssetsConfig;
    use crate::http::encoding::Coding;

    const TAG: &str = "\"abababababababababababababababab\"";
    const BR_TAG: &str = "\"abababababababababababababababab-br\"";
    const GZ_TAG: &str = "\"abababababababababababababababab-gz\"";
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn asset(variants: &[(Coding, u64)]) -> Asset {
        let file = Listed {
            location: "a.css".into(),
            name: "app.css".into(),
            sha256: "ab".repeat(32),
            media_type: "text/css".try_into().expect("a header value"),
            size: 1000,
            modified: Some(UNIX_EPOCH + Duration::from_secs(784_111_777)),
            variants: variants.to_vec(),
            is_fingerprinted: false,
        };
        Asset::new(&file, &Contents::zeros(&file), &Policy::new(&AssetsConfig::default()))
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
        let coding = |variant: &Variant| variant.coding.map_or("identity", Coding::token);
        match choose(asset, &head(method, fields)) {
            Choice::Whole(variant) => format!("200 {}", coding(variant)),
            Choice::Part(variant, part) => format!("206 {} {}-{}", coding(variant), part.start, part.end - 1),
            Choice::NotModified(variant) => format!("304 {}", coding(variant)),
            Choice::PreconditionFailed => "412".into(),
            Choice::Unsatisfiable(variant) => format!("416 */{}", variant.size),
            Choice::NotAcceptable => "406".into(),
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
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"] {
            assert_eq!(summary(&compressed(), method, &[("if-match", "\"x\"")]), "405", "for {method}");
        }
        assert_eq!(summary(&compressed(), "HEAD", &[("accept-encoding", "br")]), "200 br");
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
                // The date belongs to every coding alike.
                (&[("range", "bytes=0-9"), ("if-range", MODIFIED)], "200 identity"),
                (&[("range", "bytes=0-9"), ("accept-encoding", "br, identity;q=0")], "200 br"),
                (&[("range", "bytes=0-9"), ("if-none-match", TAG)], "304 identity"),
                (&[("range", "bytes=0-9"), ("if-match", "\"x\"")], "412"),
                (&[("range", "bytes=1000-")], "416 */1000"),
                (&[("range", "bytes=-0")], "416 */1000"),
                (&[("range", "bytes=200-"), ("accept-encoding", "br"), ("if-range", BR_TAG)], "416 */200"),
                (&[("range", "bytes=1000-"), ("if-range", "\"nope\"")], "200 identity"),
                (&[("range", "bytes=5-2"), ("accept-encoding", "br")], "200 br"),
                (&[("range", "bytes=0-1,3-4")], "200 identity"),
                (&[("range", "lines=0-9")], "200 identity"),
            ],
        );
        assert_eq!(summary(&compressed(), "HEAD", &[("range", "bytes=0-9")]), "200 identity");
    }

    #[test]
    fn a_date_may_continue_a_range_where_there_is_one_variant_only() {
        check_get(
            &asset(&[]),
            &[
                (&[("range", "bytes=0-9"), ("if-range", MODIFIED)], "206 identity 0-9"),
                (&[("range", "bytes=0-9"), ("if-range", "Sun, 06 Nov 1994 08:49:38 GMT")], "200 identity"),
            ],
        );
    }

    /// Field values that are nearly right, and some that are nothing.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            prop::sample::select(vec![
                TAG, BR_TAG, MODIFIED, "bytes=", "W/", "*", "\"", ",", ";q=", "br", "gzip", "identity", "-", "0",
                "999", "1000", " ",
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
        fn whatever_the_fields_say_a_part_lies_inside_of_its_variant(
            fields in prop::collection::vec((0..7usize, value()), 0..5),
            range in prop_oneof![Just(None), "bytes=[0-9]{0,4}-[0-9]{0,4}".prop_map(Some)],
        ) {
            let names = [ACCEPT_ENCODING, RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
            let mut head = head("GET", &[]);
            for (name, value) in fields {
                head.headers.append(&names[name], HeaderValue::from_bytes(&value).expect("a header value"));
            }
            if let Some(range) = range {
                head.headers.insert(RANGE, range.try_into().expect("a header value"));
            }
            if let Choice::Part(variant, part) = choose(&compressed(), &head) {
                prop_assert!(part.start < part.end && part.end <= variant.size, "{part:?} of {}", variant.size);
            }
        }
    }
}
