//! What SVG and HTML have in common: values with character references in them, and URLs in such values.
//!
//! A value is read with its references decoded, and what is found there is moved back to the author's
//! bytes. Only the references that people use are known here; a value with others is left alone.

use std::ops::Range;

use super::form::Place;
use super::{Form, Found, Link, Purpose, Refusal, css};

/// Where a part of a text begins in it. Nothing if it is no part.
pub(super) fn offset_in(text: &str, part: &str) -> Option<usize> {
    let offset = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    (text.get(offset..offset.checked_add(part.len())?)? == part).then_some(offset)
}

/// A value with its references decoded, which knows where each byte comes from.
#[derive(Debug, Default)]
pub(super) struct Value {
    text: String,
    pieces: Vec<Piece>,
}

/// A run of bytes that are as they were, or one reference.
#[derive(Debug)]
struct Piece {
    decoded: Range<usize>,
    raw: Range<usize>,
}

/// What an ampersand is that begins no reference that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ampersand {
    IsReference,
    MayBeItself,
}

impl Value {
    /// Decodes a value of XML that begins at an offset of its file. Nothing if it has a reference that is
    /// not known here.
    pub(super) fn of_xml(raw: &str, offset: usize) -> Option<Self> {
        Self::decode(raw, offset, Ampersand::IsReference)
    }

    /// The same for HTML, where an ampersand may stand for itself. `expected` is what the tokenizer, which
    /// knows all references, made of it. Nothing if it is something else than what is made of it here.
    pub(super) fn of_html(raw: &str, offset: usize, expected: &str) -> Option<Self> {
        let newlines = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
        Self::decode(raw, offset, Ampersand::MayBeItself).filter(|value| newlines(&value.text) == newlines(expected))
    }

    fn decode(raw: &str, offset: usize, ampersand: Ampersand) -> Option<Self> {
        let mut value = Self::default();
        let mut at = 0;
        while let Some(found) = raw[at..].find('&') {
            let start = at + found;
            value.push(&raw[at..start], offset + at..offset + start);
            match reference(&raw[start..]) {
                Some((decoded, length)) => {
                    at = start + length;
                    value.push(decoded.encode_utf8(&mut [0; 4]), offset + start..offset + at);
                }
                None if ampersand == Ampersand::MayBeItself => {
                    at = start + 1;
                    value.push("&", offset + start..offset + at);
                }
                None => return None,
            }
        }
        value.push(&raw[at..], offset + at..offset + raw.len());
        Some(value)
    }

    fn push(&mut self, text: &str, raw: Range<usize>) {
        if !text.is_empty() {
            self.pieces.push(Piece { decoded: self.text.len()..self.text.len() + text.len(), raw });
            self.text.push_str(text);
        }
    }

    /// Where a part of the text comes from. A part that begins or ends inside of a reference has all of it.
    fn raw(&self, part: &Range<usize>) -> Option<Range<usize>> {
        let first = &self.pieces[self.pieces.partition_point(|piece| piece.decoded.end <= part.start)..].first()?;
        let last = &self.pieces[..self.pieces.partition_point(|piece| piece.decoded.start < part.end)].last()?;
        let is_verbatim = |piece: &Piece| piece.decoded.len() == piece.raw.len();
        let start = if is_verbatim(first) { part.start - first.decoded.start } else { 0 };
        let end = if is_verbatim(last) { last.decoded.end - part.end } else { 0 };
        Some(first.raw.start + start..last.raw.end - end)
    }

    /// The link that all of the value is.
    pub(super) fn link(&self) -> Option<Link> {
        self.moved(self.part(0..self.text.len()))
    }

    /// The URLs of a list of images for different densities and widths (HTML, section 4.8.4.2.1).
    pub(super) fn source_set(&self) -> Vec<Link> {
        let ranges = source_set(&self.text);
        ranges.into_iter().filter_map(|range| self.moved(self.part(range))).collect()
    }

    /// The URLs of a stylesheet or of declarations.
    pub(super) fn styles(&self) -> Vec<Link> {
        css::find(&self.text).links.into_iter().filter_map(|link| self.moved(link)).collect()
    }

    fn part(&self, span: Range<usize>) -> Link {
        let url = self.text[span.clone()].to_owned();
        Link { span, url, form: Form::Plain(Place::Bare), purpose: Purpose::Content }
    }

    /// A link of the decoded text at its place in the file.
    fn moved(&self, link: Link) -> Option<Link> {
        if link.span.is_empty() {
            return None;
        }
        Some(Link { span: self.raw(&link.span)?, form: link.form.in_markup(), ..link })
    }
}

/// What a finder found in a part of a file that begins at an offset and has no references to decode.
pub(super) fn moved(found: Found, offset: usize) -> Found {
    let moved = |link: Link| Link { span: link.span.start + offset..link.span.end + offset, ..link };
    let refusal = found.refusal.map(|refusal| Refusal { at: refusal.at.map(|at| at + offset), ..refusal });
    Found { links: found.links.into_iter().map(moved).collect(), refusal }
}

/// The character that a text begins with a reference to, and the length of the reference.
fn reference(text: &str) -> Option<(char, usize)> {
    const LONGEST: usize = "&#x10FFFF;".len();
    let end = text.bytes().take(LONGEST).position(|byte| byte == b';')?;
    Some((character(&text[1..end])?, end + 1))
}

fn character(reference: &str) -> Option<char> {
    let number = |digits: &str, radix| {
        let has_digits_only = digits.chars().all(|c| c.is_digit(radix)); // no sign
        let number = has_digits_only.then(|| u32::from_str_radix(digits, radix).ok())??;
        // HTML takes 128 to 159 for another character set, and 0 for an error.
        char::from_u32(number).filter(|c| !c.is_control() || c.is_ascii_whitespace())
    };
    match reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => match reference.strip_prefix('#')? {
            digits if digits.starts_with(['x', 'X']) => number(&digits[1..], 16),
            digits => number(digits, 10),
        },
    }
}

fn source_set(text: &str) -> Vec<Range<usize>> {
    let is_space = |c: char| c.is_ascii_whitespace();
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        let rest = text[at..].trim_start_matches(|c| is_space(c) || c == ',');
        if rest.is_empty() {
            return ranges;
        }
        let start = text.len() - rest.len();
        let word = &rest[..rest.find(is_space).unwrap_or(rest.len())];
        let url = word.trim_end_matches(',');
        ranges.push(start..start + url.len());
        at = start + word.len();
        if url.len() == word.len() {
            at += end_of_descriptors(&text[at..]);
        }
    }
}

/// Where the comma is that ends a candidate; commas in parentheses do not.
fn end_of_descriptors(text: &str) -> usize {
    let mut is_inside = false;
    let end = text.find(|c| {
        is_inside = (is_inside || c == '(') && c != ')';
        c == ',' && !is_inside
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_decoded_and_places_are_the_authors() {
        let raw = "a&amp;b&#x2F;&#99;é";
        let value = Value::of_xml(raw, 100).expect("known references");
        assert_eq!(value.text, "a&b/cé");
        for (part, expected) in [
            (0..1, "a"),
            (1..2, "&amp;"),
            (0..3, "a&amp;b"),
            (2..5, "b&#x2F;&#99;"),
            (3..4, "&#x2F;"),
            (5..7, "é"),
            (0..7, raw),
        ] {
            let place = value.raw(&part).expect("a place");
            assert_eq!(&raw[place.start - 100..place.end - 100], expected, "for {part:?}");
        }
        assert_eq!(value.raw(&(7..7)), None);
    }

    #[test]
    fn what_is_not_decoded_alike_everywhere_is_not_decoded() {
        for raw in
            ["&nbsp;", "&amp", "a&b", "&#0;", "&#128;", "&#xD800;", "&#+65;", "&#;", "&;", "&#x;", "&#99999999999;"]
        {
            assert!(Value::of_xml(raw, 0).is_none(), "for {raw}");
        }
        for (raw, meaning) in [("&nbsp;", "\u{a0}"), ("&copy=", "©="), ("&#128;", "€")] {
            assert!(Value::of_html(raw, 0, meaning).is_none(), "for {raw}");
        }
        assert_eq!(Value::of_html("a?b=&c=&amp;&", 0, "a?b=&c=&&").expect("known").text, "a?b=&c=&&");
    }

    #[test]
    fn a_source_set_is_split_as_browsers_split_it() {
        for (text, expected) in [
            ("a.png", vec!["a.png"]),
            ("a.png, b.png 2x", vec!["a.png", "b.png"]),
            ("a.png 1x,b.png 2x", vec!["a.png", "b.png"]),
            (" ,a,b.png 1.5x , c.png\t200w 100h", vec!["a,b.png", "c.png"]),
            ("a.png,", vec!["a.png"]),
            ("a.png,, b.png", vec!["a.png", "b.png"]),
            ("a.png (1, 2) 1x, b.png", vec!["a.png", "b.png"]),
            ("data:,a 1x, b.png", vec!["data:,a", "b.png"]),
            (" , ", vec![]),
            ("", vec![]),
        ] {
            let found: Vec<_> = source_set(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "for {text:?}");
        }
    }
}
