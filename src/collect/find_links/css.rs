//! Finds the URLs of a stylesheet by its tokens (CSS Syntax, level 3), so that comments, strings and
//! escapes are what a browser takes them for.
//!
//! A URL is: `url(…)` quoted or bare, the string of `@import`, a string that is an image of
//! `image-set(…)`, the string of `src(…)`, and the URL of a source-map comment. Custom properties and
//! at-rules that nobody knows are tokens like any others. The name in `@namespace` and the pages of
//! `@document` are URLs, and yet nothing is loaded from them: they stay as they are.
//!
//! The tokenizer never fails. It is asked for a flat run of tokens, and the open brackets are kept here,
//! so that blocks may be nested to any depth.

use cssparser::{Parser, Token};

use super::form::Place;
use super::{Form, Found, Link, Purpose, source_map};

/// Finds every URL of a stylesheet, or of the declarations of a `style` attribute.
pub(super) fn find(text: &str) -> Found {
    let mut walk = Walk { text, blocks: Vec::new(), level: Level::default(), found: Found::default() };
    each_token(text, |token, start, end| walk.token(token, start, end));
    walk.found
}

/// Hands out every token with where it begins and ends. The answer is whether it opens a block.
pub(super) fn each_token(text: &str, mut take: impl FnMut(&Token<'_>, usize, usize) -> bool) {
    let (mut parser, mut base) = (Parser::new(text), 0);
    loop {
        let start = base + parser.position().byte_index();
        let Ok(token) = parser.next_including_whitespace_and_comments() else { return };
        let token = token.clone();
        let end = base + parser.position().byte_index();
        if take(&token, start, end) {
            // The parser would skip the block that begins here. A new one does not know of it.
            (parser, base) = (Parser::new(&text[end..]), end);
        }
    }
}

/// What the strings directly inside a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Strings {
    /// Not URLs.
    #[default]
    Other,
    /// The first token may be a URL: `url("x")`, `src("x")`.
    FirstIsUrl,
    /// Each is a URL: `image-set("x" 1x, "y" 2x)`.
    AreUrls,
}

/// What an at-rule makes of the tokens between its name and its block or semicolon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Prelude {
    /// Nothing.
    #[default]
    None,
    /// `@import`: if the next one is a string, it is a URL.
    Import,
    /// `@namespace`, `@document`, `@charset`: what looks like a URL is none to load.
    NoResources,
}

#[derive(Debug, Clone, Copy, Default)]
struct Level {
    strings: Strings,
    prelude: Prelude,
}

struct Walk<'t> {
    text: &'t str,
    /// The open blocks: what closes each, and what was going on outside of it.
    blocks: Vec<(Token<'static>, Level)>,
    level: Level,
    found: Found,
}

impl Walk<'_> {
    /// Takes the next token, and answers whether it opens a block.
    fn token(&mut self, token: &Token<'_>, start: usize, end: usize) -> bool {
        let raw = &self.text[start..end];
        let Level { strings, prelude } = self.level;
        let links = &mut self.found.links;
        match token {
            Token::WhiteSpace(_) => return false,
            Token::Comment(comment) => {
                links.extend(source_map_link(comment, start + 2));
                return false;
            }
            Token::QuotedString(url) if prelude == Prelude::Import || strings != Strings::Other => {
                links.push(quoted(url, raw, start));
            }
            Token::UnquotedUrl(url) if prelude != Prelude::NoResources => links.push(bare(url, raw, start)),
            Token::BadUrl(_) if prelude != Prelude::NoResources => links.extend(broken(raw, start)),
            Token::BadString(_) if prelude == Prelude::Import || strings != Strings::Other => {
                let why = "a URL in quotes ends with its line, so browsers leave it out; it is published as it is";
                self.found.refuse(start, why);
            }
            _ => {}
        }
        if strings == Strings::FirstIsUrl {
            self.level.strings = Strings::Other;
        }
        self.level.prelude = match token {
            Token::AtKeyword(name) => prelude_of(name),
            Token::Semicolon | Token::CurlyBracketBlock => Prelude::None,
            _ if prelude == Prelude::Import => Prelude::None,
            _ => prelude,
        };
        if self.blocks.last().is_some_and(|(closing, _)| closing == token) {
            self.level = self.blocks.pop().map(|(_, outside)| outside).unwrap_or_default();
        }
        let closing = match token {
            Token::Function(_) | Token::ParenthesisBlock => Token::CloseParenthesis,
            Token::SquareBracketBlock => Token::CloseSquareBracket,
            Token::CurlyBracketBlock => Token::CloseCurlyBracket,
            _ => return false,
        };
        self.blocks.push((closing, self.level));
        self.level = match (self.level.prelude, token) {
            (Prelude::NoResources, _) => Level { strings: Strings::Other, prelude: Prelude::NoResources },
            (_, Token::Function(name)) => Level { strings: strings_of_function(name), prelude: Prelude::None },
            _ => Level::default(),
        };
        true
    }
}

fn prelude_of(name: &str) -> Prelude {
    match name.to_ascii_lowercase().as_str() {
        "import" => Prelude::Import,
        "namespace" | "charset" | "document" | "-moz-document" => Prelude::NoResources,
        _ => Prelude::None,
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
        form: Form::Plain(Place::Bare),
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
    Link { span, url: url.to_owned(), form: Form::Plain(Place::CssString(quote)), purpose: Purpose::Content }
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
    Link { span, url: url.to_owned(), form: Form::Plain(Place::CssBare), purpose: Purpose::Content }
}

/// What a browser drops because of a space in it, and Django finds all the same: `url(my file.png)`. It is
/// put in quotes, as Django does. With quotes, brackets or escapes in it, it is no name of a file.
fn broken(raw: &str, start: usize) -> Option<Link> {
    let open = raw.find('(')? + 1;
    let inner = raw[open..].strip_suffix(')')?;
    let url = inner.trim_matches(' ');
    if url.contains(|c: char| c.is_control() || matches!(c, '"' | '\'' | '(' | ')' | '\\')) {
        return None;
    }
    let begin = start + open + inner.len() - inner.trim_start_matches(' ').len();
    let span = begin..begin + url.len();
    Some(Link { span, url: url.to_owned(), form: Form::Plain(Place::CssBroken), purpose: Purpose::Content })
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
            ("@IMPORT\n'x.css' layer(base) supports(display: grid) screen;", "x.css", "x.css"),
            ("@import 'x.css' layer('y') supports(a: 'z');", "x.css", "x.css"),
            ("@media print{@import 'x.css';}", "x.css", "x.css"),
            ("@unknown url(x.png) {a{b:c}}", "x.png", "x.png"),
            ("@supports (a: url(x.png)) {}", "x.png", "x.png"),
            ("@font-face{src:url('x.eot?#iefix') format('embedded-opentype')}", "x.eot?#iefix", "x.eot?#iefix"),
            ("a{--i: url( 'x.png' ) }", "x.png", "x.png"),
            ("@property --i{syntax:'<url>';initial-value:url(x.png)}", "x.png", "x.png"),
            ("a{b:-webkit-image-set('x.png' 1x)}", "x.png", "x.png"),
            ("a{b:u\\72l(x.png)}", "x.png", "x.png"),
            ("a{b:url('x\\2e png')}", "x\\2e png", "x.png"),
            ("a{b:url('x\\\n.png')}", "x\\\n.png", "x.png"),
            ("a{b:url(x.png", "x.png", "x.png"),
            ("a{}/*# sourceMappingURL=x.map */", "x.map", "x.map"), // on the same line
            ("a{}\r\n/*# sourceMappingURL=x.map */\r\n", "x.map", "x.map"),
            ("a{}\n/*@ sourceMappingURL=x.map */\nb{}", "x.map", "x.map"),
            ("a{ /*# sourceMappingURL=x.map */ }", "x.map", "x.map"),
            ("a{b:url(my file.png)}", "my file.png", "my file.png"), // as Django has it
            ("a{b:URL(  my file.png )}", "my file.png", "my file.png"),
            ("@namespace url(a);b{c:url(x.png)}", "x.png", "x.png"),
            ("@document url(a){b{c:url(x.png)}}", "x.png", "x.png"),
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
            "@namespace svg url(http://www.w3.org/2000/svg);",
            "@namespace url(x.png);",
            "@namespace a url('x.png');",
            "@namespace 'x.png';",
            "@-moz-document url(x.png), url('y.png'), url-prefix('z') {}",
            "a{b:url(data:image/svg+xml,<svg a='b'/>)}", // broken, and no file
            "a{b:url(my 'file.png)}",
            "a{b:url(my\nfile.png)}",
            "a{b:url(x y",
            "a{b:attr(data-b 'x.png')}",
            "a{b:format(\"woff2\") local('x')}",
            "a{b:my-url(x.png)}",
            "@import;'x.css'",
            "a::before{content:'/*# sourceMappingURL=x.map */'}",
            "a{b:url()}b{c:url",
        ] {
            assert!(urls(text).iter().all(|(raw, _)| raw.is_empty()), "for {text}: {:?}", urls(text));
        }
    }

    #[test]
    fn a_url_whose_quotes_end_with_the_line_is_told() {
        for (text, at) in
            [("a{b:url('x\n.png')}", Some(8)), ("@import 'x\n.css';", Some(8)), ("a{content:'x\n'}", None)]
        {
            let found = find(text);
            // A browser drops all of it.
            assert_eq!(found.links.len(), 0, "for {text}");
            assert_eq!(found.refusal.and_then(|refusal| refusal.at), at, "for {text}");
        }
    }

    #[test]
    fn several_references_are_all_found() {
        let text = "a{b:image-set(url(a.png) 1x, 'b.png' 2x), url('c.png')}";
        assert_eq!(urls(text).iter().map(|(raw, _)| *raw).collect::<Vec<_>>(), ["a.png", "b.png", "c.png"]);
    }

    #[test]
    fn blocks_may_be_nested_to_any_depth() {
        for (open, close) in [("a{", "}"), ("(", ")"), ("[", "]"), ("calc(", ")"), ("@media{", "}")] {
            for close in [close, ""] {
                let text = format!("{}url(x.png){}url(y.png)", open.repeat(200_000), close.repeat(200_000));
                assert_eq!(urls(&text).len(), 2, "for {open} {close}");
            }
        }
    }

    #[test]
    fn a_bracket_closes_its_own_block_only() {
        for text in [
            "a{b:image-set((} url(x.png) ) 'y.png' 2x)} c{d:'z.png'}",
            "a{b:image-set(url(x.png) } ] 'y.png')} 'z.png'",
            "} ) ] @import 'x.png'; a{b:src('y.png' 'z.png')}",
        ] {
            assert_eq!(urls(text).iter().map(|(raw, _)| *raw).collect::<Vec<_>>(), ["x.png", "y.png"], "for {text}");
        }
    }
}
