//! Which bytes of a file name another file.
//!
//! This module hands a file to the finder of its language. They answer with byte ranges and decoded
//! URLs, and know nothing of which files there are. They change nothing.
//!
//! Languages stand inside each other: a stylesheet in an SVG, an import map in a page. The outer finder
//! calls the inner one and moves what it found to its place.

mod css;
pub(super) mod css_needs;
mod form;
mod html;
mod javascript;
mod json;
mod language;
mod markup;
mod nesting;
mod source_map;
mod svg;
mod web_manifest;

use std::ops::Range;

pub(super) use self::form::Form;
pub(super) use self::language::{Language, Languages};

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

/// Whether `import`, `export … from` and whatever has `import.meta` are looked at.
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
    pub(super) refusal: Option<Refusal>,
}

/// What a finder could not look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Why, in words that go on from the file's name.
    pub(super) why: String,
    /// Where, in bytes from the beginning of the file and at most its length, if it is about one place.
    pub(super) at: Option<usize>,
}

impl Found {
    /// No links at all, and why and where.
    fn refused(at: usize, why: impl Into<String>) -> Self {
        Self { links: Vec::new(), refusal: Some(Refusal { why: why.into(), at: Some(at) }) }
    }

    /// Keeps a reason why part of the file could not be looked at; the first one is told.
    fn refuse(&mut self, at: impl Into<Option<usize>>, why: impl Into<String>) {
        self.refusal.get_or_insert_with(|| Refusal { why: why.into(), at: at.into() });
    }
}

/// Finds the links of one file.
pub(super) fn find(language: Language, contents: &[u8], modules: Modules) -> Found {
    let text = match std::str::from_utf8(contents) {
        Ok(text) => text,
        Err(error) => {
            let why = "it is not UTF-8; it is published as it is, without looking for references";
            return Found::refused(error.valid_up_to(), why);
        }
    };
    let mut found = match language {
        Language::Css => css::find(text),
        Language::JavaScript => javascript::find(text, modules),
        Language::Svg => svg::find(text),
        Language::Html => html::find(text, modules),
        Language::WebManifest => web_manifest::find(text),
    };
    // A place without a URL names no file.
    found.links.retain(|link| !link.span.is_empty());
    found.links.sort_by_key(|link| link.span.start);
    for link in &mut found.links {
        if link.form.may_stay() && text.get(link.span.clone()) == Some(link.url.as_str()) {
            link.form = Form::AsItIs;
        }
    }
    found
}

#[cfg(test)]
mod tests;
