//! Which URLs of a stylesheet a browser loads as soon as it has read it, whatever is on the page.
//!
//! Those are the stylesheets that it imports under no condition, and the fonts that are for every character. Which of
//! the fonts a page uses nobody knows here; one that has a `unicode-range` may well be for another script, and one with
//! a `local()` before it may be installed. Of a list of sources browsers take the first that they know: it counts if
//! that is WOFF2, which all know that know of preloading, and none of those knows Embedded OpenType.

use std::ops::Range;

use cssparser::Token;

use super::css::each_token;

/// Where the URLs stand. Each range has one URL in it, and perhaps its quotes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::collect) struct CssNeeds {
    /// Of stylesheets.
    pub(in crate::collect) imports: Vec<Range<usize>>,
    /// Of fonts.
    pub(in crate::collect) fonts: Vec<Range<usize>>,
}

/// Finds them.
pub(in crate::collect) fn find(text: &str) -> CssNeeds {
    let mut walk = Walk::default();
    each_token(text, |token, start, end| walk.token(token, start..end));
    walk.end()
}

#[derive(Debug, Default)]
struct Walk {
    found: CssNeeds,
    /// The open blocks, with what closes each.
    blocks: Vec<(char, Block)>,
    statement: Statement,
    /// Whether something stood before that no import may follow.
    are_imports_over: bool,
}

#[derive(Debug)]
enum Block {
    /// Of a cascade layer: what is in it counts as if it stood outside.
    Layer,
    FontFace(Face),
    /// `url()`, `src()`
    Url,
    /// `format()`
    Format,
    Other,
}

/// What goes on between blocks.
#[derive(Debug, Default)]
enum Statement {
    #[default]
    None,
    Import(Import),
    Layer,
    FontFace,
    Other,
}

#[derive(Debug, Default)]
struct Import {
    url: Option<Range<usize>>,
    is_conditional: bool,
}

#[derive(Debug, Default)]
struct Face {
    declaration: Declaration,
    sources: Vec<Source>,
    /// Whether it is for some characters only.
    is_partial: bool,
}

#[derive(Debug, Default)]
enum Declaration {
    #[default]
    Start,
    Named(String),
    Sources,
    Other,
}

#[derive(Debug, Default)]
struct Source {
    url: Option<(String, Range<usize>)>,
    format: String,
}

impl Walk {
    /// Takes the next token, and answers whether it opens a block.
    fn token(&mut self, token: &Token<'_>, range: Range<usize>) -> bool {
        match token {
            Token::WhiteSpace(_) | Token::Comment(_) => return false,
            Token::CloseParenthesis => self.close(')'),
            Token::CloseSquareBracket => self.close(']'),
            Token::CloseCurlyBracket => self.close('}'),
            _ => return self.inside(token, range),
        }
        false
    }

    fn inside(&mut self, token: &Token<'_>, range: Range<usize>) -> bool {
        let closer = match token {
            Token::Function(_) | Token::ParenthesisBlock => Some(')'),
            Token::SquareBracketBlock => Some(']'),
            Token::CurlyBracketBlock => Some('}'),
            _ => None,
        };
        let block = match self.blocks.last_mut() {
            None => self.between_rules(token, range),
            Some((_, Block::Layer)) => self.between_rules(token, range),
            Some((_, Block::FontFace(face))) => face.token(token, range),
            Some((_, Block::Url)) => self.in_url(token, range),
            Some((_, Block::Format)) => self.in_format(token),
            Some((_, Block::Other)) => Block::Other,
        };
        self.blocks.extend(closer.map(|closer| (closer, block)));
        closer.is_some()
    }

    /// What the token opens, if it opens something.
    fn between_rules(&mut self, token: &Token<'_>, range: Range<usize>) -> Block {
        if matches!(token, Token::CDO | Token::CDC) {
            return Block::Other;
        }
        if let Token::CurlyBracketBlock = token {
            self.are_imports_over = true;
            return match std::mem::take(&mut self.statement) {
                Statement::Layer => Block::Layer,
                Statement::FontFace => Block::FontFace(Face::default()),
                _ => Block::Other,
            };
        }
        if let Token::Semicolon = token {
            self.end_statement();
            return Block::Other;
        }
        match &mut self.statement {
            Statement::None => self.statement = self.begun(token),
            Statement::Import(import) => return import.token(token, range),
            Statement::Layer | Statement::FontFace | Statement::Other => {}
        }
        Block::Other
    }

    fn begun(&mut self, token: &Token<'_>) -> Statement {
        let name = if let Token::AtKeyword(name) = token { name.to_ascii_lowercase() } else { String::new() };
        match name.as_str() {
            "import" if !self.are_imports_over && self.blocks.is_empty() => Statement::Import(Import::default()),
            "layer" => Statement::Layer,
            "charset" => Statement::Other,
            _ => {
                self.are_imports_over = true;
                if name == "font-face" { Statement::FontFace } else { Statement::Other }
            }
        }
    }

    fn end_statement(&mut self) {
        if let Statement::Import(Import { url: Some(url), is_conditional: false }) = std::mem::take(&mut self.statement)
        {
            self.found.imports.push(url);
        }
    }

    fn in_url(&mut self, token: &Token<'_>, range: Range<usize>) -> Block {
        if let Token::QuotedString(url) = token {
            let around = self.blocks.len().checked_sub(2).and_then(|at| self.blocks.get_mut(at));
            match (around, &mut self.statement) {
                (Some((_, Block::FontFace(face))), _) => face.add_url(url, range),
                (_, Statement::Import(import)) => import.url = Some(range),
                _ => {}
            }
        }
        Block::Other
    }

    fn in_format(&mut self, token: &Token<'_>) -> Block {
        let around = self.blocks.len().checked_sub(2).and_then(|at| self.blocks.get_mut(at));
        if let (Token::QuotedString(format) | Token::Ident(format), Some((_, Block::FontFace(face)))) = (token, around)
            && let Some(source) = face.sources.last_mut()
        {
            source.format = format.to_ascii_lowercase();
        }
        Block::Other
    }

    fn close(&mut self, closer: char) {
        if self.blocks.last().is_none_or(|(expected, _)| *expected != closer) {
            return;
        }
        if let Some((_, Block::FontFace(face))) = self.blocks.pop() {
            self.found.fonts.extend(face.font());
        }
    }

    /// The end of the file ends everything.
    fn end(mut self) -> CssNeeds {
        while let Some((closer, _)) = self.blocks.last() {
            self.close(*closer);
        }
        self.end_statement();
        self.found
    }
}

impl Import {
    fn token(&mut self, token: &Token<'_>, range: Range<usize>) -> Block {
        match token {
            Token::QuotedString(_) | Token::UnquotedUrl(_) if self.url.is_none() => self.url = Some(range),
            Token::Function(name) if self.url.is_none() && is_url(name) => return Block::Url,
            Token::Function(name) | Token::Ident(name) if name.eq_ignore_ascii_case("layer") => {}
            Token::Ident(name) if name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case("screen") => {}
            _ => self.is_conditional = true,
        }
        Block::Other
    }
}

impl Face {
    fn token(&mut self, token: &Token<'_>, range: Range<usize>) -> Block {
        if let Token::Semicolon = token {
            self.declaration = Declaration::Start;
            return Block::Other;
        }
        match (&self.declaration, token) {
            (Declaration::Start, Token::Ident(name)) => {
                self.declaration = Declaration::Named(name.to_ascii_lowercase());
            }
            // The last one counts.
            (Declaration::Named(name), Token::Colon) if name == "src" => {
                self.sources = vec![Source::default()];
                self.declaration = Declaration::Sources;
            }
            (Declaration::Named(name), Token::Colon) => {
                self.is_partial |= name == "unicode-range";
                self.declaration = Declaration::Other;
            }
            (Declaration::Sources, Token::Comma) => self.sources.push(Source::default()),
            (Declaration::Sources, Token::UnquotedUrl(url)) => self.add_url(url, range),
            (Declaration::Sources, Token::Function(name)) if is_url(name) => return Block::Url,
            (Declaration::Sources, Token::Function(name)) if name.eq_ignore_ascii_case("format") => {
                return Block::Format;
            }
            (Declaration::Sources, _) => {}
            _ => self.declaration = Declaration::Other,
        }
        Block::Other
    }

    fn add_url(&mut self, url: &str, range: Range<usize>) {
        if let Some(source) = self.sources.last_mut() {
            source.url = Some((url.to_owned(), range));
        }
    }

    fn font(self) -> Option<Range<usize>> {
        let first = self.sources.into_iter().find(|source| !source.is_of_the_past())?;
        let is_certain = !self.is_partial && first.is_woff2();
        first.url.filter(|_| is_certain).map(|(_, range)| range)
    }
}

impl Source {
    fn has_extension(&self, extension: &str) -> bool {
        let url = self.url.as_ref().map_or("", |(url, _)| url.split(['?', '#']).next().unwrap_or_default());
        url.rsplit_once('.').is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
    }

    fn is_woff2(&self) -> bool {
        if self.format.is_empty() { self.has_extension("woff2") } else { self.format.starts_with("woff2") }
    }

    fn is_of_the_past(&self) -> bool {
        self.format == "embedded-opentype" || self.has_extension("eot")
    }
}

fn is_url(name: &str) -> bool {
    name.eq_ignore_ascii_case("url") || name.eq_ignore_ascii_case("src")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(of: impl Fn(CssNeeds) -> Vec<Range<usize>>, table: &[(&str, &[&str])]) {
        for (text, expected) in table {
            let found: Vec<_> = of(find(text)).into_iter().map(|range| &text[range]).collect();
            assert_eq!(&found, expected, "for {text}");
        }
    }

    #[test]
    fn imports_without_a_condition_are_loaded_at_once() {
        check(
            |needs| needs.imports,
            &[
                ("@import 'a.css'; @import url(b.css);", &["'a.css'", "url(b.css)"]),
                ("@IMPORT URL( \"a.css\" )", &["\"a.css\""]),
                (
                    "@charset 'utf-8'; @layer a, b; @import 'a.css' layer(a); @import 'b.css' layer;",
                    &["'a.css'", "'b.css'"],
                ),
                ("@import 'a.css' screen; @import 'b.css' all;", &["'a.css'", "'b.css'"]),
                ("@import 'a.css' print; @import 'b.css' (min-width: 1px);", &[]),
                ("@import 'a.css' supports(gap: 1px); @import 'b.css' screen, print;", &[]),
                ("/* @import 'a.css'; */ a { b: '@import' } @import 'c.css';", &[]), // too late
                ("@layer a { @import 'a.css'; } @import 'b.css';", &[]),
                ("@namespace x 'y'; @import 'a.css';", &[]),
                ("<!-- @import 'a.css'; -->", &["'a.css'"]),
                ("@import;@import 7;@import 'a.css'", &["'a.css'"]),
            ],
        );
    }

    #[test]
    fn fonts_for_every_character_count_if_woff2_is_what_browsers_take() {
        check(
            |needs| needs.fonts,
            &[
                ("@font-face { font-family: x; src: url(a.woff2) }", &["url(a.woff2)"]),
                ("@font-face{src:url('a.woff2?v=1')format('woff2'),url(a.woff)format('woff')}", &["'a.woff2?v=1'"]),
                (
                    "@font-face{src:url('a.eot');src:url('a.eot?#iefix') format('embedded-opentype'),url('a.woff2') \
                     format('woff2'),url('a.ttf')}",
                    &["'a.woff2'"],
                ),
                ("@font-face{src:url(a) format(woff2-variations)}", &["url(a)"]),
                ("@font-face{src:url(a.woff2) format('woff2') tech(variations)}", &["url(a.woff2)"]),
                ("@font-face{src:url(a.ttf),url(a.woff2)}", &[]), // browsers take the first
                ("@font-face{src:local('A'),url(a.woff2)}", &[]),
                ("@font-face{src:url(a.woff2);unicode-range:U+0370-03FF}", &[]),
                ("@media print{@font-face{src:url(a.woff2)}}", &[]),
                (
                    "@layer x{@font-face{src:url(a.woff2)}} @font-face{src:url(b.woff2)",
                    &["url(a.woff2)", "url(b.woff2)"],
                ),
                ("a{src:url(a.woff2)} @font-face{font-family:x;background:url(b.woff2)}", &[]),
                ("@font-face{src:}@font-face{}@font-face", &[]),
            ],
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_there_the_ranges_lie_in_it(text in "(@import|@font-face|@layer|src:|url\\(|format\\(|'a.woff2'|[{}();,' a]){0,30}") {
            let CssNeeds { imports, fonts } = find(&text);
            for range in imports.into_iter().chain(fonts) {
                proptest::prop_assert!(text.get(range).is_some());
            }
        }
    }
}
