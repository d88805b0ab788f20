//! Why a run failed, and what it found on the way.
//!
//! All findings of one step are reported together, so that one run shows everything there is to mend.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::django::DjangoError;
pub use crate::finding::{Finding, Position};

/// Why a run failed. The output folder is then as it was before.
#[derive(Debug, Error)]
pub enum CollectError {
    /// Nothing to collect from.
    #[error("no source folder is given")]
    NoSources,
    /// Nowhere to write to.
    #[error("no output folder is given")]
    NoOutput,
    /// Source folders that are missing, unreadable or no folders.
    #[error("{}", listed("cannot use", .0, ["source folder", "source folders"]))]
    BadSources(Vec<Finding>),
    /// Apps that are not there.
    #[error("{}", listed("cannot find", .0, ["app", "apps"]))]
    BadApps(Vec<Finding>),
    /// Django could not be asked.
    #[error(transparent)]
    Django(#[from] DjangoError),
    /// Manifests of bundlers that are not sound, or that name files which are not there.
    #[error("{}", listed("cannot use what bundlers say: found", .0, ["mistake", "mistakes"]))]
    BadBundlerManifests(Vec<Finding>),
    /// An ignore pattern that is none.
    #[error("{glob:?} under collect.ignore is not a pattern")]
    BadPattern {
        /// The pattern.
        glob: String,
        /// Why.
        #[source]
        cause: globset::Error,
    },
    /// Output would be collected again, or sources overwritten.
    #[error("the source folder {} and the output folder {} lie one inside the other", .source_folder.display(), .output.display())]
    Overlap {
        /// The source.
        source_folder: PathBuf,
        /// The output.
        output: PathBuf,
    },
    /// The output is something else than a folder.
    #[error("the output {} is not a folder", .0.display())]
    OutputIsNoFolder(PathBuf),
    /// The sources are empty, or all that they have is ignored.
    #[error("no files found in {}", folders(.0))]
    NoFiles(Vec<PathBuf>),
    /// Files that cannot be published.
    #[error("{}", listed("cannot publish", .0, ["file", "files"]))]
    BadFiles(Vec<Finding>),
    /// References to files that are not there.
    #[error("{}", listed("found", .0, ["reference that leads nowhere", "references that lead nowhere"]))]
    MissingReferences(Vec<Finding>),
    /// Two different files that would have one name.
    #[error(
        "{name} would be two different files: one is the file of that name in the sources, the other gets that name for its contents"
    )]
    Collision {
        /// The name in the output.
        name: String,
    },
    /// Another run has the output folder.
    #[error("another vestibule collect is writing to {}", .0.display())]
    Busy(PathBuf),
    /// Something in the output folder stands where a file must go.
    #[error("cannot put {wanted} into place, because {} is in the way", .path.display())]
    InTheWay {
        /// What stands there.
        path: PathBuf,
        /// What must go there.
        wanted: String,
    },
    /// The release before cannot be read, so nobody knows which of its files are still asked for.
    #[error("cannot carry over the files of the release before")]
    Previous(#[source] crate::manifest::json::ManifestError),
    /// A source could not be read.
    #[error("cannot read a source file")]
    Unreadable(#[source] io::Error),
    /// A source was written to during the run.
    #[error("{} changed while it was being collected", .0.display())]
    Changed(PathBuf),
    /// A file could not be written.
    #[error("cannot write {name} to {}; the last manifest and the files that it names are still in place", .output.display())]
    Write {
        /// The name in the output.
        name: String,
        /// The output folder.
        output: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A compressed copy of an earlier run could not be removed.
    #[error("the files are published in {}, but an outdated compressed copy beside them could not be removed", .output.display())]
    Stale {
        /// The output folder.
        output: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file could not be compressed.
    #[error("cannot compress {name}")]
    Compress {
        /// The file.
        name: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The threads could not be started.
    #[error("cannot start the threads for reading and compression")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

impl CollectError {
    /// Whether the command line or the configuration must be changed, as opposed to files.
    pub fn is_operators_mistake(&self) -> bool {
        match self {
            Self::NoSources
            | Self::NoOutput
            | Self::BadSources(_)
            | Self::BadApps(_)
            | Self::BadPattern { .. }
            | Self::Overlap { .. }
            | Self::OutputIsNoFolder(_)
            | Self::NoFiles(_) => true,
            Self::Django(error) => error.is_operators_mistake(),
            Self::BadFiles(_)
            | Self::BadBundlerManifests(_)
            | Self::MissingReferences(_)
            | Self::Collision { .. }
            | Self::Busy(_)
            | Self::InTheWay { .. }
            | Self::Previous(_)
            | Self::Unreadable(_)
            | Self::Changed(_)
            | Self::Write { .. }
            | Self::Stale { .. }
            | Self::Compress { .. }
            | Self::Threads(_) => false,
        }
    }

    /// What to do about it, where there is one answer.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSources => "name one with --source DIR, or under [collect] sources",
            Self::NoOutput => {
                "name one with --output DIR, or under [collect] output or [static] directory; with --django, set STATIC_ROOT"
            }
            Self::BadApps(_) => {
                "write them as in INSTALLED_APPS; [collect] virtual_env names the environment with them, and a folder \
                 can be named by itself with --source"
            }
            Self::Django(error) => return error.hint(),
            Self::BadBundlerManifests(_) => {
                "build the bundle again, and name its manifest under [collect] bundler_manifests"
            }
            Self::BadSources(_) => "fix the path, or drop it from --source or [collect] sources",
            Self::BadPattern { .. } => "write it as a shell pattern, as in \"*.scss\" or \"node_modules\"",
            Self::Overlap { .. } => "choose an output folder outside of every source folder",
            Self::OutputIsNoFolder(_) => "choose another path, or remove what is there",
            Self::NoFiles(_) => {
                "publishing nothing is never meant; check the folders, and the patterns under [collect] ignore"
            }
            Self::BadFiles(_) => "rename or remove them, or leave them out with a pattern under [collect] ignore",
            Self::MissingReferences(_) => {
                "fix the references, or set [collect] missing_reference (missing_source_map for source maps) \
                 to \"warn\" or \"ignore\""
            }
            Self::Collision { .. } => {
                "is a source folder the output of an earlier run? collect from the original files"
            }
            Self::Busy(_) => "wait for it to end; runs into one output folder go one after the other",
            Self::InTheWay { .. } => "remove it from the output folder and run again",
            Self::Previous(_) => {
                "put the right manifest back, or remove it to start anew; the files that it named are then not carried over"
            }
            Self::Changed(_) => "run again when nothing else writes to the source folders",
            Self::Write { cause, .. } if is_full(cause) => {
                "free some space; while it writes, a run needs room for the old and the new files"
            }
            Self::Write { .. } | Self::Stale { .. } => "check who owns the output folder and who may write to it",
            Self::Unreadable(_) => {
                "let the user that runs this read it, or leave it out with a pattern under [collect] ignore"
            }
            Self::Compress { .. } | Self::Threads(_) => return None,
        };
        Some(hint.to_owned())
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// One line that says how many, and a line for each.
pub(super) fn listed(verb: &str, findings: &[Finding], [one, many]: [&str; 2]) -> String {
    let things = if findings.len() == 1 { one } else { many };
    let lines: String = findings.iter().map(|finding| format!("\n  {finding}")).collect();
    format!("{verb} {} {things}:{lines}", findings.len())
}

fn folders(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_its_line_in_the_error() {
        let position = Some(Position { line: 3, column: 5 });
        let missing = Finding { file: "a.css".into(), position, message: "refers to \"b.png\"".into() };
        let error = CollectError::MissingReferences(vec![missing.clone(), missing]);
        let line = "\n  a.css:3:5: refers to \"b.png\"";
        assert_eq!(error.to_string(), format!("found 2 references that lead nowhere:{line}{line}"));
    }
}
