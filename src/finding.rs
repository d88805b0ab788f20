//! Something odd about one file, at one place perhaps.
//!
//! `collect`, its proof and the audit all answer with these. Whether a finding is only told or stops the
//! run is decided where it is found; all findings of one step are reported together, so that one run
//! shows everything there is to mend.

use std::fmt;

/// Something odd about one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, as people know it: its path, or its name in the output.
    pub file: String,
    /// Where in the file, if it is about one place.
    pub position: Option<Position>,
    /// What it is.
    pub message: String,
}

/// A place in a text. Both numbers begin at one; a column is a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

impl Position {
    /// The place of a byte offset.
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

impl Finding {
    /// A finding about a whole file.
    pub fn about(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), position: None, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(Position { line, column }) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// How many of a thing, for the line that closes a list of findings.
pub fn counted(number: usize, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// 1234567 as 1,234,567.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let text = "a\nüb c\n";
        for (offset, line, column) in [(0, 1, 1), (2, 2, 1), (4, 2, 2), (6, 2, 4), (99, 3, 1)] {
            assert_eq!(Position::of(text, offset), Position { line, column }, "for {offset}");
        }
    }

    #[test]
    fn long_numbers_have_commas() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
    }
}
