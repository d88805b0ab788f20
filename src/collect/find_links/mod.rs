//! Which bytes of a file name another file.
//!
//! This module picks the finder by the file's extension; each finder knows one language. They answer
//! with byte ranges and decoded URLs, and know nothing of which files there are. They change nothing.

mod css;
mod javascript;
mod source_map;

use std::ops::Range;

/// A place where a URL stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// The URL's bytes, without quotes.
    pub(super) span: Range<usize>,
    /// The URL that these bytes mean, escapes of the language taken out.
    pub(super) url: String,
    /// How a URL must be written there.
    pub(super) form: Form,
    /// What it is for.
    pub(super) purpose: Purpose,
}

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The page needs the file.
    Content,
    /// Only developer tools need it.
    SourceMap,
}

/// How a URL is written at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Between `url(` and `)`.
    CssBare,
    /// In a CSS string with this quote.
    CssString(char),
    /// In a JavaScript string or template with this quote.
    JavaScriptString(char),
    /// In a comment, up to the next white space.
    Comment,
}

impl Form {
    /// Writes a URL so that it reads back as itself.
    pub(super) fn write(self, url: &str) -> String {
        match self {
            Self::CssBare => escape_css(url, |c| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | ')')),
            Self::CssString(quote) => escape_css(url, |c| c == quote),
            Self::JavaScriptString(quote) => escape_javascript(url, quote),
            Self::Comment => url.to_owned(),
        }
    }
}

fn escape_css(url: &str, special: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(url.len());
    for c in url.chars() {
        if c.is_control() {
            text.push_str(&format!("\\{:x} ", u32::from(c)));
        } else {
            if c == '\\' || special(c) {
                text.push('\\');
            }
            text.push(c);
        }
    }
    text
}

fn escape_javascript(url: &str, quote: char) -> String {
    let mut text = String::with_capacity(url.len());
    for c in url.chars() {
        match c {
            c if c.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
            '$' if quote == '`' => text.push_str("\\$"),
            c if c == '\\' || c == quote => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text
}

/// Which language a file is in, as far as links go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// `.css`
    Css,
    /// `.js` and `.mjs`
    JavaScript,
}

impl Language {
    /// The language of a file name. Unlike Django we also look into `.mjs` and `.CSS`.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "css" => Some(Self::Css),
            "js" | "mjs" => Some(Self::JavaScript),
            _ => None,
        }
    }
}

/// Whether `import` and `export … from` are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Modules {
    /// They are.
    Follow,
    /// They are left alone.
    Leave,
}

/// What a finder found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The links, in the order of the file.
    pub(super) links: Vec<Link>,
    /// Why the file, or part of it, could not be looked at.
    pub(super) refusal: Option<String>,
}

/// Finds the links of one file.
pub(super) fn find(language: Language, contents: &[u8], modules: Modules) -> Found {
    let Ok(text) = std::str::from_utf8(contents) else {
        return Found {
            refusal: Some("it is not UTF-8; it is published as it is, without looking for references".into()),
            ..Found::default()
        };
    };
    let mut found = match language {
        Language::Css => css::find(text),
        Language::JavaScript => javascript::find(text, modules),
    };
    found.links.sort_by_key(|link| link.span.start);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_finder_panics_on_any_bytes(bytes: Vec<u8>) {
            find(Language::Css, &bytes, Modules::Follow);
            find(Language::JavaScript, &bytes, Modules::Follow);
        }

        #[test]
        fn spans_lie_inside_the_text_at_characters_and_in_order(
            text in r#"([a-zé/.\\ \n"'(){};@#*]|url\(|@import |/\*# sourceMappingURL=|import\(|//# sourceMappingURL=|`){0,60}"#,
        ) {
            for language in [Language::Css, Language::JavaScript] {
                let mut end = 0;
                for link in find(language, text.as_bytes(), Modules::Follow).links {
                    prop_assert!(text.get(link.span.clone()).is_some(), "{link:?}");
                    prop_assert!(link.span.start >= end, "{link:?}");
                    end = link.span.end;
                }
            }
        }

        #[test]
        fn what_is_written_reads_back_as_itself(url in r#"[a-z/.\\"'() é$`{]{1,20}"#) {
            for (before, after) in [("a{b:url(", ")}"), ("a{b:url(\"", "\")}"), ("a{b:url('", "')}")] {
                let form = match before.chars().last() {
                    Some(quote @ ('"' | '\'')) => Form::CssString(quote),
                    _ => Form::CssBare,
                };
                let text = format!("{before}{}{after}", form.write(&url));
                let found = find(Language::Css, text.as_bytes(), Modules::Leave);
                prop_assert_eq!(found.links.first().map(|link| link.url.as_str()), Some(url.as_str()), "{}", text);
            }
            for quote in ['"', '\'', '`'] {
                let url = format!("./{url}");
                let text = format!("import({quote}{}{quote})", Form::JavaScriptString(quote).write(&url));
                let found = find(Language::JavaScript, text.as_bytes(), Modules::Follow);
                prop_assert_eq!(found.links.first().map(|link| link.url.as_str()), Some(url.as_str()), "{}", text);
            }
        }
    }

    #[test]
    fn the_extension_tells_the_language() {
        for (name, expected) in [
            ("a.css", Some(Language::Css)),
            ("A.CSS", Some(Language::Css)),
            ("a.min.js", Some(Language::JavaScript)),
            ("a.mjs", Some(Language::JavaScript)),
            ("a.scss", None),
            ("css", None),
        ] {
            assert_eq!(Language::of(name), expected, "for {name}");
        }
    }
}
