//! Lists and parameters as header fields have them (RFC 9110, sections 5.6.1 and 5.6.6). Pure.

/// The parts of a field between separators, without the blanks around each. What stands in quotes is no separator
/// (RFC 9110, section 5.6.4). A quote that is never closed takes the rest.
pub fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = end_of_part(text, separator);
        rest = text.get(end + 1..);
        Some(text[..end].trim_ascii())
    })
}

/// Where the first part ends.
pub(super) fn end_of_part(text: &[u8], separator: u8) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_end = |byte: &u8| {
        let is_plain = !std::mem::take(&mut is_escaped);
        match byte {
            b'\\' if is_quoted && is_plain => is_escaped = true,
            b'"' if is_plain => is_quoted = !is_quoted,
            _ => {}
        }
        *byte == separator && !is_quoted
    };
    text.iter().position(is_end).unwrap_or(text.len())
}

/// The name of a parameter and its value, without its quotes. A value with escapes in it stays as it is written.
pub fn parameter(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (text[..equals].trim_ascii_end(), text[equals + 1..].trim_ascii_start());
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some((name, inner.unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_in_quotes_is_none() {
        for (text, expected) in [
            ("", &[""][..]),
            ("a", &["a"]),
            (" a , b,,c ", &["a", "b", "", "c"]),
            (r#"a;b="x,y", c"#, &[r#"a;b="x,y""#, "c"]),
            (r#"a="\",", b"#, &[r#"a="\",""#, "b"]),
            (r#"a="\\", b"#, &[r#"a="\\""#, "b"]),
            (r#"a="x, b"#, &[r#"a="x, b"#]),
            (r"a\, b", &[r"a\", "b"]),
        ] {
            let parts: Vec<_> = split(text.as_bytes(), b',').map(|part| str::from_utf8(part).expect("text")).collect();
            assert_eq!(parts, expected, "for {text:?}");
        }
    }

    #[test]
    fn a_parameter_may_be_in_quotes() {
        for (text, expected) in [
            ("rel=preload", Some(("rel", "preload"))),
            ("rel = \"preload next\"", Some(("rel", "preload next"))),
            ("rel=\"", Some(("rel", "\""))),
            ("crossorigin", None),
        ] {
            let expected: Option<(&str, &str)> = expected;
            let expected = expected.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            assert_eq!(parameter(text.as_bytes()), expected, "for {text:?}");
        }
    }
}
