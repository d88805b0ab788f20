//! Finds the URLs of a stylesheet by its tokens (CSS Syntax, level 3), so that comments, strings and
//! escapes are what a browser takes them for.
//!
//! A URL is: `url(…)` quoted or bare, the string of `@import`, a string that is an image of
//! `image-set(…)`, the string of `src(…)`, and the URL of a source-map comment. Custom properties are
//! tokens like any others. The tokenizer never fails; only nesting beyond its limit is refused.

use cssparser::{ParseError, Parser, Token};

use super::{Form, Found, Link, Purpose, source_map};

/// How many blocks may be open at once. Each one is a level of recursion here and in the parser.
const NESTING_LIMIT: u8 = 200;

/// Finds every URL. A refused file has no links at all, because half of them would be worse.
pub(super) fn find(text: &str) -> Found {
    let mut parser = Parser::new(text);
    parser.set_nested_block_limit(NESTING_LIMIT);
    let mut links = Vec::new();
    match walk(&mut parser, text, Strings::Other, &mut links) {
        Ok(()) => Found { links, refusal: None },
        Err(_) => Found {
            refusal: Some(format!(
                "it has more than {NESTING_LIMIT} blocks inside each other; it is published as it is"
            )),
            ..Found::default()
        },
    }
}

/// What the strings directly inside a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strings {
    /// Not URLs.
    Other,
    /// The first token may be a URL: `url("x")`, `src("x")`.
    FirstIsUrl,
    /// Each is a URL: `image-set("x" 1x, "y" 2x)`.
    AreUrls,
}

fn walk(parser: &mut Parser<'_>, text: &str, strings: Strings, links: &mut Vec<Link>) -> Result<(), ParseError<()>> {
    let mut strings = strings;
    let mut after_import = false;
    loop {
        let start = parser.position().byte_index();
        // The only error of the tokenizer is the end of the block.
        let Ok(token) = parser.next_including_whitespace_and_comments().cloned() else { return Ok(()) };
        let raw = &text[start..parser.position().byte_index()];
        match token {
            Token::WhiteSpace(_) => continue,
            Token::Comment(comment) => {
                links.extend(source_map_link(comment, start + 2));
                continue;
            }
            Token::AtKeyword(name) if name.eq_ignore_ascii_case("import") => {
                after_import = true;
                continue;
            }
            Token::QuotedString(url) if after_import || strings != Strings::Other => {
                links.push(quoted(&url, raw, start));
            }
            Token::UnquotedUrl(url) => links.push(bare(&url, raw, start)),
            Token::Function(name) => {
                let inner = strings_of_function(&name);
                parser.parse_nested_block(|parser| walk(parser, text, inner, links))?;
            }
            Token::ParenthesisBlock | Token::SquareBracketBlock | Token::CurlyBracketBlock => {
                parser.parse_nested_block(|parser| walk(parser, text, Strings::Other, links))?;
            }
            _ => {}
        }
        after_import = false;
        if strings == Strings::FirstIsUrl {
            strings = Strings::Other;
        }
    }
}

fn strings_of_function(name: &str) -> Strings {
    match name.to_ascii_lowercase().as_str() {
        "url" | "src" => Strings::FirstIsUrl,
        "image-set" | "-webkit-image-set" => Strings::AreUrls,
        _ => Strings::Other,
    }
}

fn source_map_link(comment: &str, start: usize) -> Option<Link> {
    let range = source_map::url_in_comment(comment)?;
    Some(Link {
        url: comment[range.clone()].to_owned(),
        span: start + range.start..start + range.end,
        form: Form::Comment,
        purpose: Purpose::SourceMap,
    })
}

/// The end of the file closes an open string, so the last quote may be missing.
fn quoted(url: &str, raw: &str, start: usize) -> Link {
    let quote = if raw.starts_with('\'') { '\'' } else { '"' };
    let inner = raw.get(1..).unwrap_or("");
    let inner = match inner.strip_suffix(quote) {
        Some(before) if !ends_in_escape(before) => before,
        _ => inner,
    };
    let span = start + 1..start + 1 + inner.len();
    Link { span, url: url.to_owned(), form: Form::CssString(quote), purpose: Purpose::Content }
}

fn bare(url: &str, raw: &str, start: usize) -> Link {
    const SPACE: [char; 5] = [' ', '\t', '\n', '\r', '\x0C'];
    let open = raw.find('(').map_or(0, |at| at + 1);
    let inner = &raw[open..];
    let inner = match inner.strip_suffix(')') {
        Some(before) if !ends_in_escape(before) => before,
        _ => inner,
    };
    let begin = inner.len() - inner.trim_start_matches(SPACE).len();
    let mut end = inner.trim_end_matches(SPACE).len().max(begin);
    if end < inner.len() && ends_in_escape(&inner[..end]) {
        end += 1; // the first of the spaces belongs to the URL
    }
    let span = start + open + begin..start + open + end;
    Link { span, url: url.to_owned(), form: Form::CssBare, purpose: Purpose::Content }
}

/// Whether an odd number of backslashes stands at the end, so that the next character is escaped.
fn ends_in_escape(text: &str) -> bool {
    (text.len() - text.trim_end_matches('\\').len()) % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<(&str, String)> {
        let found = find(text);
        assert_eq!(found.refusal, None);
        found.links.into_iter().map(|link| (&text[link.span], link.url)).collect()
    }

    #[test]
    fn each_form_of_reference_is_found_with_its_exact_bytes() {
        for (text, raw, url) in [
            ("a{b:url(x.png)}", "x.png", "x.png"),
            ("a{b:url(  x.png\n)}", "x.png", "x.png"),
            ("a{b:url( 'x.png' )}", "x.png", "x.png"),
            ("a{b:URL(\"x.png\")}", "x.png", "x.png"),
            (r"a{b:url(x\.png)}", r"x\.png", "x.png"),
            (r"a{b:url(a\ )}", r"a\ ", "a "),
            (r#"a{b:url("a\"b.png")}"#, r#"a\"b.png"#, "a\"b.png"),
            ("@import 'x.css' screen;", "x.css", "x.css"),
            ("@import/**/\"x.css\";", "x.css", "x.css"),
            ("@import url(x.css) layer(base);", "x.css", "x.css"),
            ("a{b:src(\"x.png\")}", "x.png", "x.png"),
            ("a{b:image-set(\"x.png\" 1x type(\"image/png\"))}", "x.png", "x.png"),
            ("a{--i:url(x.png)}", "x.png", "x.png"),
            ("@media print{a{b:url(x.png)}}", "x.png", "x.png"),
            ("a{}\n/*# sourceMappingURL=x.map */", "x.map", "x.map"),
            ("\u{feff}@import 'x.css';", "x.css", "x.css"),
            ("a{b:url('x.png", "x.png", "x.png"), // the end of the file closes what is open
            ("a{b:url(x.png", "x.png", "x.png"),
            ("@import 'é.css';", "é.css", "é.css"),
        ] {
            assert_eq!(urls(text), [(raw, url.to_owned())], "for {text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_reference_is_left_alone() {
        for text in [
            "/* url(x.png) */",
            "a{content:'url(x.png)'}",
            "a{content:\"@import 'x.css'\"}",
            "@charset \"utf-8\";",
            "a{b:format(\"woff2\") local('x')}",
            "a{b:my-url(x.png)}",
            "@import;'x.css'",
            "a::before{content:'/*# sourceMappingURL=x.map */'}",
            "a{b:url()}b{c:url",
        ] {
            assert!(urls(text).iter().all(|(raw, _)| raw.is_empty()), "for {text}");
        }
    }

    #[test]
    fn several_references_are_all_found() {
        let text = "a{b:image-set(url(a.png) 1x, 'b.png' 2x), url('c.png')}";
        assert_eq!(urls(text).iter().map(|(raw, _)| *raw).collect::<Vec<_>>(), ["a.png", "b.png", "c.png"]);
    }

    #[test]
    fn too_many_nested_blocks_are_refused_and_do_not_crash() {
        let text = format!("@import 'x.css';{}", "a{".repeat(100_000));
        let found = find(&text);
        assert!(found.refusal.is_some() && found.links.is_empty());
    }
}
