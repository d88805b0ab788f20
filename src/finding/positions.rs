//! Lines and columns for many places of one text, in one go through it.

use crate::finding::Position;

/// Reads a text up to where it is asked for, and goes on from there.
#[derive(Debug)]
pub struct Positions<'t> {
    text: &'t str,
    at: usize,
    here: Position,
}

impl<'t> Positions<'t> {
    /// At the beginning of a text.
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0, here: Position { line: 1, column: 1 } }
    }

    /// The place of a byte offset. Fast if it is not before the last one that was asked for.
    pub fn of(&mut self, offset: usize) -> Position {
        if offset < self.at {
            *self = Self::new(self.text);
        }
        let between = self.text.get(self.at..offset).unwrap_or_default();
        if !between.is_empty() {
            self.at = offset;
        }
        match between.rfind('\n') {
            Some(newline) => {
                self.here.line += between.matches('\n').count();
                self.here.column = between[newline + 1..].chars().count() + 1;
            }
            None => self.here.column += between.chars().count(),
        }
        self.here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_in_any_order() {
        let text = "a\nüb c\n";
        let mut positions = Positions::new(text);
        for (offset, line, column) in [(0, 1, 1), (2, 2, 1), (4, 2, 2), (4, 2, 2), (6, 2, 4), (1, 1, 2), (8, 3, 1)] {
            assert_eq!(positions.of(offset), Position { line, column }, "for {offset}");
        }
    }

    #[test]
    fn a_hundred_thousand_places_in_one_long_line_take_no_time() {
        let text = "x".repeat(10_000_000);
        let mut positions = Positions::new(&text);
        // Each from the beginning would be half a million million characters.
        for offset in (0..text.len()).step_by(100) {
            assert_eq!(positions.of(offset).column, offset + 1);
        }
    }
}
