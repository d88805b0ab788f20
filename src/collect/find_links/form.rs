//! How a URL is written at its place. Pure.
//!
//! Where the author wrote a URL without any escapes, and that is nearly everywhere, a new name is put in
//! between and all else stays. Where there are escapes, the whole URL is written anew by the rules of
//! its place.

/// How a URL must be written at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::collect) enum Form {
    /// Without any escapes: the author had none, and no new name needs one.
    AsItIs,
    /// As in one of the languages.
    Plain(Place),
    /// The same, inside of the text or of an attribute of XML or HTML.
    InMarkup(Place),
}

/// What is around the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::collect) enum Place {
    /// Nothing that has escapes of its own: a comment up to the next white space, an attribute.
    Bare,
    /// Between `url(` and `)`.
    CssBare,
    /// Between `url(` and `)`, with something in it that should have been escaped.
    CssBroken,
    /// A CSS string with this quote.
    CssString(char),
    /// A JavaScript string or template with this quote.
    JavaScriptString(char),
    /// A JSON string.
    JsonString,
}

impl Form {
    /// Whether what the author wrote can stay, if it has no escapes.
    pub(super) fn may_stay(self) -> bool {
        !matches!(self, Self::Plain(Place::CssBroken) | Self::InMarkup(Place::CssBroken))
    }

    /// The same in markup.
    pub(super) fn in_markup(self) -> Self {
        match self {
            Self::Plain(place) => Self::InMarkup(place),
            other => other,
        }
    }

    /// Writes a URL so that it reads back as itself.
    pub(in crate::collect) fn write(self, url: &str) -> String {
        match self {
            Self::AsItIs => url.to_owned(),
            Self::Plain(place) => place.write(url),
            Self::InMarkup(place) => escape_markup(&place.write(url)),
        }
    }
}

impl Place {
    fn write(self, url: &str) -> String {
        match self {
            Self::Bare => url.to_owned(),
            Self::CssBare => escape_css(url, |c| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | ')')),
            Self::CssBroken => format!("\"{}\"", escape_css(url, |c| c == '"')),
            Self::CssString(quote) => escape_css(url, |c| c == quote),
            Self::JavaScriptString(quote) => escape_javascript(url, quote),
            Self::JsonString => escape_json(url),
        }
    }
}

// `<` and `>` are escaped everywhere: whatever is written inside of a page must not end it.

fn escape_css(url: &str, special: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(url.len());
    for c in url.chars() {
        if c.is_control() || matches!(c, '<' | '>') {
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
            c if c.is_control() || matches!(c, '<' | '>') => text.push_str(&format!("\\x{:02x}", u32::from(c))),
            '$' if quote == '`' => text.push_str("\\$"),
            c if c == '\\' || c == quote => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text
}

fn escape_json(url: &str) -> String {
    let mut text = String::with_capacity(url.len());
    for c in url.chars() {
        match c {
            c if c.is_control() || matches!(c, '<' | '>') => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            '\\' | '"' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text
}

/// For an attribute in any quotes or none, and for text.
fn escape_markup(written: &str) -> String {
    let mut text = String::with_capacity(written.len());
    for c in written.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            // Other control characters cannot be written as references, and stand for themselves.
            '<' | '>' | '"' | '\'' | '`' | '=' | ' ' | '\t' | '\n' | '\x0C' | '\r' => {
                text.push_str(&format!("&#{};", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}
