//! A look into JSON that knows where each string stands.
//!
//! `serde_json` lends raw values out of the text, so a value's place is where its slice begins. Objects and
//! lists that are something else than expected have no members: nobody complains about a web app manifest
//! that has a number for its icons, and browsers do not either.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;

use super::form::Place;
use super::markup::offset_in;
use super::{Form, Link, Purpose, Refusal};

/// A value in its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'t> {
    text: &'t str,
    raw: &'t RawValue,
}

impl<'t> Value<'t> {
    /// The value that a text is.
    pub(super) fn read(text: &'t str) -> Result<Self, Refusal> {
        let document = text.trim_start_matches('\u{feff}');
        let raw = serde_json::from_str(document).map_err(|error| {
            let skipped: usize = document.split_inclusive('\n').take(error.line().max(1) - 1).map(str::len).sum();
            let at = (skipped + error.column().max(1) - 1).min(document.len()) + text.len() - document.len();
            // What is wrong stands before where.
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            Refusal { why: format!("it is not JSON ({why}); its references are published as they are"), at: Some(at) }
        })?;
        Ok(Self { text, raw })
    }

    fn within(self, raw: &'t RawValue) -> Self {
        Self { raw, ..self }
    }

    /// The members of an object, of which the last one of a name counts.
    pub(super) fn members(self) -> BTreeMap<String, Self> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(self.raw.get()).unwrap_or_default();
        members.into_iter().map(|(name, raw)| (name, self.within(raw))).collect()
    }

    /// The entries of a list.
    pub(super) fn entries(self) -> Vec<Self> {
        let entries: Vec<&RawValue> = serde_json::from_str(self.raw.get()).unwrap_or_default();
        entries.into_iter().map(|raw| self.within(raw)).collect()
    }

    /// The link that a string is.
    pub(super) fn link(self) -> Option<Link> {
        let url: String = serde_json::from_str(self.raw.get()).ok()?;
        let span = self.span()?;
        let span = span.start + 1..span.end - 1; // between the quotes
        Some(Link { span, url, form: Form::Plain(Place::JsonString), purpose: Purpose::Content })
    }

    fn span(self) -> Option<Range<usize>> {
        let start = offset_in(self.text, self.raw.get())?;
        Some(start..start + self.raw.get().len())
    }
}
