//! Which media types a client takes: `Accept` (RFC 9110, section 12.5.1). Pure.

use ::http::HeaderMap;
use ::http::header::ACCEPT;

use super::encoding::parse_quality;
use super::fields;

/// What a client says of one media type, with the q-value in thousandths; 0 is a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The type itself.
    ByName(u16),
    /// All types like it: `image/*`, and if there is none `*/*`.
    ByRange(u16),
    /// Nothing.
    Nothing,
}

impl Said {
    /// The q-value; `None` for a type of which nothing is said.
    pub fn quality(self) -> Option<u16> {
        match self {
            Self::ByName(quality) | Self::ByRange(quality) => Some(quality),
            Self::Nothing => None,
        }
    }
}

/// One media range of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'h> {
    /// `type/subtype`, `type/*` or `*/*`.
    pub range: &'h [u8],
    /// Whether parameters narrow it down, as in `text/html;level=1`.
    pub has_parameters: bool,
    /// In thousandths.
    pub quality: u16,
}

/// Every media range, all lines of the field read as one list. One that breaks the grammar counts as absent.
pub fn members(headers: &HeaderMap) -> impl Iterator<Item = Member<'_>> {
    headers.get_all(ACCEPT).into_iter().flat_map(|line| fields::split(line.as_bytes(), b',')).filter_map(member)
}

/// What a request says of a media type without parameters. The most specific range counts, and of two for the same
/// types the first. A range with parameters is one for other representations than those that have none.
pub fn said_of(headers: &HeaderMap, media_type: &[u8]) -> Said {
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let kind = essence.split(|byte| *byte == b'/').next().unwrap_or_default();
    let (mut like_it, mut any) = (None, None);
    for member in members(headers).filter(|member| !member.has_parameters) {
        if member.range.eq_ignore_ascii_case(essence) {
            return Said::ByName(member.quality);
        }
        match member.range {
            b"*/*" => any = any.or(Some(member.quality)),
            [start @ .., b'/', b'*'] if start.eq_ignore_ascii_case(kind) => like_it = like_it.or(Some(member.quality)),
            _ => {}
        }
    }
    like_it.or(any).map_or(Said::Nothing, Said::ByRange)
}

/// `media-range [ weight ]`. What stands behind the weight were extensions once, which nobody used.
fn member(text: &[u8]) -> Option<Member<'_>> {
    let mut parts = fields::split(text, b';');
    let range = parts.next().filter(|range| range.contains(&b'/'))?;
    let mut member = Member { range, has_parameters: false, quality: 1000 };
    for part in parts.filter(|part| !part.is_empty()) {
        if let [b'q' | b'Q', b'=', quality @ ..] = part {
            member.quality = parse_quality(quality)?;
            return Some(member);
        }
        member.has_parameters = true;
    }
    Some(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;
    use proptest::prelude::*;

    fn request(lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| (ACCEPT, HeaderValue::from_bytes(line.as_bytes()).expect("a header value"));
        lines.iter().map(value).collect()
    }

    const CHROMIUM: &str = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";
    const FIREFOX: &str = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5";
    const OLD_SAFARI: &str = "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5";

    #[test]
    fn the_most_specific_range_counts() {
        use Said::{ByName, ByRange, Nothing};
        for (accept, media_type, expected) in [
            (CHROMIUM, "image/avif", ByName(1000)),
            (CHROMIUM, "image/jpeg", ByRange(1000)),
            (CHROMIUM, "text/css", ByRange(800)),
            (FIREFOX, "image/jpeg", ByRange(800)),
            (OLD_SAFARI, "image/avif", ByRange(800)), // which it cannot show
            ("*/*", "image/avif", ByRange(1000)),     // curl
            ("", "image/avif", Nothing),
            ("text/html", "image/avif", Nothing),
            ("IMAGE/AVIF;Q=0.5", "image/avif", ByName(500)),
            ("image/avif;q=0, */*", "image/avif", ByName(0)),
            ("*/*;q=0.1, image/*;q=0.2, image/avif;q=0.3", "image/avif", ByName(300)),
            ("*/*;q=0.1, image/*;q=0.2", "image/avif", ByRange(200)),
            ("image/*;q=0.2, image/*;q=0.9", "image/avif", ByRange(200)), // of two the first
            ("image/avif;q=0.2, image/avif", "image/avif", ByName(200)),
            ("image/avif;profile=x, image/*;q=0.1", "image/avif", ByRange(100)),
            ("image/avif; ; q=0.4;ext=1", "image/avif", ByName(400)),
            ("image/avif;q=1.5, */*;q=0.3", "image/avif", ByRange(300)), // breaks the grammar
            ("image/avif;q=high", "image/avif", Nothing),
            ("avif, *, image", "image/avif", Nothing),
            (r#"text/x;a="image/avif,image/avif""#, "image/avif", Nothing),
            ("image/svg+xml", "image/svg+xml; charset=utf-8", ByName(1000)),
            ("image/avifx, ximage/*", "image/avif", Nothing),
        ] {
            let said = said_of(&request(&[accept]), media_type.as_bytes());
            assert_eq!(said, expected, "for {media_type} in {accept:?}");
        }
        assert_eq!(said_of(&HeaderMap::new(), b"image/avif"), Nothing);
        assert_eq!(said_of(&request(&["text/css", "image/avif;q=0.5"]), b"image/avif"), ByName(500));
    }

    /// Section 12.5.1, read slowly and to the letter.
    mod reference {
        use super::Said;

        /// Type, subtype and weight of each range that has no parameters.
        fn ranges(list: &str) -> Vec<(String, String, u16)> {
            let range = |member: &str| {
                let mut pieces = member.split(';').map(|piece| piece.trim_matches([' ', '\t']));
                let (kind, subtype) = pieces.next()?.split_once('/')?;
                let pieces: Vec<_> = pieces.filter(|piece| !piece.is_empty()).collect();
                let weight = match pieces.first() {
                    None => 1000,
                    Some(first) => thousandths(first.strip_prefix("q=").or_else(|| first.strip_prefix("Q="))?)?,
                };
                Some((kind.to_lowercase(), subtype.to_lowercase(), weight))
            };
            list.split(',').map(|member| member.trim_matches([' ', '\t'])).filter_map(range).collect()
        }

        fn thousandths(text: &str) -> Option<u16> {
            let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
            let is_form = matches!(whole, "0" | "1") && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit());
            let value = is_form.then(|| format!("{whole}{digits:0<3}").parse::<u16>().expect("four digits"))?;
            (value <= 1000).then_some(value)
        }

        pub(super) fn said_of(list: &str, kind: &str, subtype: &str) -> Said {
            let ranges = ranges(list);
            let weight = |kind: &str, subtype: &str| {
                ranges.iter().find(|range| (range.0.as_str(), range.1.as_str()) == (kind, subtype)).map(|range| range.2)
            };
            match (weight(kind, subtype), weight(kind, "*"), weight("*", "*")) {
                (Some(weight), ..) => Said::ByName(weight),
                (None, Some(weight), _) | (None, None, Some(weight)) => Said::ByRange(weight),
                (None, None, None) => Said::Nothing,
            }
        }
    }

    fn list() -> impl Strategy<Value = String> {
        let range = prop_oneof![
            prop::sample::select(vec![
                "image/avif",
                "image/webp",
                "image/*",
                "*/*",
                "Image/AVIF",
                "image/jpeg",
                "*",
                "*/avif",
                "image",
                "text/*",
                "",
            ])
            .prop_map(str::to_owned),
            "[a-z*/]{0,6}",
        ];
        let weight = prop_oneof![
            prop::sample::select(vec![
                "",
                "",
                ";q=0",
                ";q=1",
                " ; q=0.5",
                ";Q=0.9",
                ";q=0.",
                ";q=1.001",
                ";q",
                ";x=1",
                ";x=1;q=0.5",
                ";q=0.5;x=1",
                ";;q=0.7",
            ])
            .prop_map(str::to_owned),
            ";q=[01]\\.[0-9]{0,4}",
            "[; q=01.]{0,6}",
        ];
        let blank = prop::sample::select(vec!["", " ", "\t", "  "]);
        let member =
            (blank.clone(), range, weight, blank).prop_map(|(a, range, weight, b)| format!("{a}{range}{weight}{b}"));
        prop::collection::vec(member, 0..7).prop_map(|members| members.join(","))
    }

    proptest! {
        #[test]
        fn it_is_read_as_in_the_rfc(list in list(), subtype in prop::sample::select(vec!["avif", "webp", "jpeg"])) {
            let said = said_of(&request(&[&list]), format!("image/{subtype}").as_bytes());
            prop_assert_eq!(said, reference::said_of(&list, "image", subtype), "for {:?}", list);
        }

        #[test]
        fn where_the_list_is_cut_into_lines_does_not_matter(lists in prop::collection::vec(list(), 1..4)) {
            let lines: Vec<_> = lists.iter().map(String::as_str).collect();
            let said = |headers: &HeaderMap| said_of(headers, b"image/avif");
            prop_assert_eq!(said(&request(&lines)), said(&request(&[&lists.join(",")])));
        }
    }
}
