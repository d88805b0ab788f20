//! Reads a source-map comment, which is the same in CSS and in JavaScript (ECMA-426, section 11.1.2).
//!
//! It gets the inside of a real comment; telling comments from strings is the business of `css` and
//! `javascript`.

use std::ops::Range;

/// Where the URL stands inside a comment's text, if it is a source-map comment.
pub(super) fn url_in_comment(comment: &str) -> Option<Range<usize>> {
    let rest = comment.strip_prefix(['#', '@'])?.strip_prefix([' ', '\t'])?;
    let rest = rest.trim_start_matches([' ', '\t']).strip_prefix("sourceMappingURL=")?.trim_start();
    let start = comment.len() - rest.len();
    let url = rest.trim_end();
    let is_url = !url.is_empty() && !url.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    is_url.then_some(start..start + url.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_comment_that_is_a_source_map_comment_counts() {
        for (comment, expected) in [
            ("# sourceMappingURL=a.css.map ", Some("a.css.map")),
            ("@ sourceMappingURL=a.map", Some("a.map")), // the older form
            ("#\tsourceMappingURL=a.map\r", Some("a.map")),
            ("# sourcemappingurl=a.map", None),
            ("# sourceMappingURL=", None),
            ("# sourceMappingURL=a b", None),
            ("# sourceMappingURL='a'", None),
            (" # sourceMappingURL=a.map", None),
            ("", None),
        ] {
            let url = url_in_comment(comment).map(|range| &comment[range]);
            assert_eq!(url, expected, "for {comment:?}");
        }
    }
}
