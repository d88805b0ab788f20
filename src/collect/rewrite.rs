//! Puts new text into found places. Pure, bytes to bytes: what is between the places stays as it is.

use std::ops::Range;

/// The bytes with each range replaced. The ranges are in ascending order and do not overlap.
pub(super) fn rewrite(bytes: &[u8], edits: &[(Range<usize>, String)]) -> Vec<u8> {
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut result = Vec::with_capacity(bytes.len() + added);
    let mut done = 0;
    for (range, text) in edits {
        result.extend_from_slice(&bytes[done..range.start]);
        result.extend_from_slice(text.as_bytes());
        done = range.end;
    }
    result.extend_from_slice(&bytes[done..]);
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_given_ranges_change() {
        let edits = [(0..1, "X".into()), (2..2, "+".into()), (4..6, String::new())];
        assert_eq!(rewrite(b"abcdef", &edits), b"Xb+cd");
    }

    proptest! {
        #[test]
        fn without_edits_nothing_changes(bytes: Vec<u8>) {
            prop_assert_eq!(rewrite(&bytes, &[]), bytes);
        }
    }
}
