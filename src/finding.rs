//! Something odd about one file, at one place perhaps; told, or fatal.
//!
//! `collect`, its proof and the audit all answer with these. Each goes on as far as it can, so that one run
//! shows everything there is to mend. A finding is a line for people by its `Display`, and has the same in
//! parts for machines.

pub mod positions;

use std::fmt;
use std::path::PathBuf;

/// Something odd about one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, as people know it: its path, or its name in the output.
    pub file: String,
    /// Where in the file, if it is about one place.
    pub position: Option<Position>,
    /// What it is, for people; it has the reference and the suggestion in it.
    pub message: String,
    /// Whether it stops the run.
    pub level: Level,
    /// What kind of thing it is.
    pub rule: Rule,
    /// The file on disk, where there is one.
    pub source: Option<PathBuf>,
    /// The reference as the author wrote it, if it is about one.
    pub reference: Option<String>,
    /// The name that was perhaps meant.
    pub suggestion: Option<String>,
}

/// Whether a finding stops the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is published.
    Error,
    /// It is told.
    Warning,
}

impl Level {
    /// The word for it, in every format.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// What kind of thing a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A reference to a file that is not there.
    MissingReference,
    /// A source map that is not there.
    MissingSourceMap,
    /// A file, or part of it, in which no references could be looked for.
    NotUnderstood,
    /// A file or a folder that cannot be read.
    Unreadable,
    /// A source folder that is missing or none.
    UnusableSource,
    /// A name that no URL or no manifest can carry.
    UnpublishableName,
    /// A symbolic link out of the source folders.
    LinkOutside,
    /// A symbolic link that leads nowhere or in a circle.
    BrokenLink,
    /// A FIFO, a socket or a device.
    NotAFile,
    /// A file where another source has a folder of that name.
    FileForFolder,
    /// Two names that differ in case only.
    NamesDifferInCase,
    /// An image without the same picture in another format, or with one that is of no use.
    ImageTwin,
    /// What Django's settings and the configuration say of each other.
    Settings,
    /// An app that is not there, or has no folder of its own.
    UnknownApp,
    /// A bundler's manifest that is not sound, or does not fit what is there.
    BundlerManifest,
    /// The cache of compressed copies and deltas cannot be written.
    CacheNotWritten,
    /// The cache has entries that no run has left there as they are.
    CacheDamaged,
    /// What a look at finished files, or at templates, found.
    Discrepancy,
}

impl Rule {
    /// Its name for machines, which stays the same from release to release.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingReference => "missing-reference",
            Self::MissingSourceMap => "missing-source-map",
            Self::NotUnderstood => "not-understood",
            Self::Unreadable => "unreadable",
            Self::UnusableSource => "unusable-source",
            Self::UnpublishableName => "unpublishable-name",
            Self::LinkOutside => "link-outside",
            Self::BrokenLink => "broken-link",
            Self::NotAFile => "not-a-file",
            Self::FileForFolder => "file-for-folder",
            Self::NamesDifferInCase => "names-differ-in-case",
            Self::ImageTwin => "image-twin",
            Self::Settings => "settings",
            Self::UnknownApp => "unknown-app",
            Self::BundlerManifest => "bundler-manifest",
            Self::CacheNotWritten => "cache-not-written",
            Self::CacheDamaged => "cache-damaged",
            Self::Discrepancy => "discrepancy",
        }
    }

    /// Whether it is about a reference, as opposed to a whole file.
    pub const fn is_about_a_reference(self) -> bool {
        matches!(self, Self::MissingReference | Self::MissingSourceMap)
    }

    /// What to do about those that stop the run.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::MissingReference | Self::MissingSourceMap => {
                "fix the references, or set [collect] missing_reference (missing_source_map for source maps) \
                 to \"warn\" or \"ignore\"; for some files only: missing_reference = [\"vendor/*=warn\", \"error\"]"
            }
            Self::Unreadable => {
                "let the user that runs this read the files, or leave them out with a pattern under [collect] ignore"
            }
            Self::ImageTwin => {
                "put an AVIF or WebP file beside each image, or set [collect] missing_image_twin to \"warn\" or \"ignore\", \
                 for all images or some: missing_image_twin = [\"img/icons/*=ignore\", \"error\"]"
            }
            Self::Settings => "correct the setting, or the option of the configuration",
            Self::UnknownApp => "write it as in INSTALLED_APPS",
            Self::BundlerManifest => "build the bundle again, and name its manifest under [collect] bundler_manifests",
            Self::UnusableSource => "fix the path, or drop it from --source or [collect] sources",
            Self::CacheNotWritten => {
                "let the user that runs this write to the folder, or set [collect] cache to another one"
            }
            Self::CacheDamaged => "find out what else writes to the folder, or remove it",
            Self::Discrepancy => "run `vestibule collect` again",
            Self::NotUnderstood
            | Self::UnpublishableName
            | Self::LinkOutside
            | Self::BrokenLink
            | Self::NotAFile
            | Self::FileForFolder
            | Self::NamesDifferInCase => {
                "rename or remove the files, or leave them out with a pattern under [collect] ignore"
            }
        }
    }
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
    /// Something that stops the run, about a whole file.
    pub fn error(rule: Rule, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            position: None,
            message: message.into(),
            level: Level::Error,
            rule,
            source: None,
            reference: None,
            suggestion: None,
        }
    }

    /// What a look at finished files, or at templates, found about a whole file.
    pub fn about(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self::error(Rule::Discrepancy, file, message)
    }

    /// Something that is only told, about a whole file.
    pub fn warning(rule: Rule, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(rule, file, message) }
    }

    /// The same, with the file on disk.
    pub fn on_disk(self, path: impl Into<PathBuf>) -> Self {
        Self { source: Some(path.into()), ..self }
    }
}

/// Whether one of them stops the run.
pub fn are_fatal(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Error)
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
