//! The links of a `Link` field (RFC 8288, section 3), as far as they are wishes to load something early. Pure.

use ::http::HeaderMap;
use ::http::header::LINK;

use super::fields;

/// One link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link<'h> {
    /// What stands between the angle brackets.
    pub target: &'h str,
    /// Whether it is a preload (`rel=preload`).
    pub is_preload: bool,
    /// What it is loaded as: the value of `as`; empty if there is none.
    pub kind: &'h str,
}

/// Every link, all lines of the field read as one list. One that breaks the grammar counts as absent.
pub fn read(headers: &HeaderMap) -> impl Iterator<Item = Link<'_>> {
    let lines = headers.get_all(LINK).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(parts).filter_map(link)
}

/// Cut at commas, but neither in quotes nor within the angle brackets, where a comma belongs to the target.
fn parts(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return None;
        }
        let target = if rest.starts_with('<') { rest.find('>').unwrap_or(rest.len()) } else { 0 };
        let end = target + fields::end_of_part(&rest.as_bytes()[target..], b',');
        let part = &rest[..end];
        rest = &rest[end..];
        Some(part)
    })
}

fn link(text: &str) -> Option<Link<'_>> {
    let (target, parameters) = text.strip_prefix('<')?.split_once('>')?;
    let mut link = Link { target: target.trim(), is_preload: false, kind: "" };
    let (mut has_rel, mut has_as) = (false, false);
    for (name, value) in fields::split(parameters.as_bytes(), b';').filter_map(fields::parameter) {
        let value = str::from_utf8(value).ok()?;
        // Of several the first counts (section 3.3).
        if name.eq_ignore_ascii_case(b"rel") && !std::mem::replace(&mut has_rel, true) {
            link.is_preload = value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("preload"));
        } else if name.eq_ignore_ascii_case(b"as") && !std::mem::replace(&mut has_as, true) {
            link.kind = value;
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;

    #[test]
    fn links_are_read_as_they_are_written() {
        let style = |target| Link { target, is_preload: true, kind: "style" };
        for (lines, expected) in [
            (&["</a.css>; rel=preload; as=style"][..], &[style("/a.css")][..]),
            (&["</a.css>;REL=\"Preload next\" ; as = \"style\";crossorigin"], &[style("/a.css")]),
            (
                &["</a,b.css>; title=\"x, <y>\"; rel=preload; as=style,</c.css>; as=style; rel=preload"],
                &[style("/a,b.css"), style("/c.css")],
            ),
            (
                &["</a.css>; rel=preload; as=style", "</b.css>; rel=preload; as=style"],
                &[style("/a.css"), style("/b.css")],
            ),
            (&["</a>; rel=next; rel=preload"], &[Link { target: "/a", is_preload: false, kind: "" }]),
            (&["</a>; rel=preload; as=font; as=style"], &[Link { target: "/a", is_preload: true, kind: "font" }]),
            (&["", ", ,", "/a.css; rel=preload", "</a.css; rel=preload"], &[]),
        ] {
            let headers: HeaderMap = lines.iter().map(|line| (LINK, HeaderValue::from_static(line))).collect();
            assert_eq!(read(&headers).collect::<Vec<_>>(), expected, "for {lines:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_is_read_to_its_end(line in "[<>,;=\"\\\\a-c /\u{e9}]{0,40}") {
            let headers = HeaderMap::from_iter([(LINK, HeaderValue::try_from(&line).expect("a header value"))]);
            for link in read(&headers) {
                proptest::prop_assert!(line.contains(link.target));
            }
        }
    }
}
