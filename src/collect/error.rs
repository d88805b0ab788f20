//! Why a run failed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::django::DjangoError;
use crate::finding::{Finding, Level, counted};

/// Why a run failed. What was published before is then still there; after `Stale` and `Report` the new
/// release is published.
#[derive(Debug, Error)]
pub enum CollectError {
    /// Nothing to collect from.
    #[error("no source folder is given")]
    NoSources,
    /// Nowhere to write to.
    #[error("no output folder is given")]
    NoOutput,
    /// Source folders that are missing, unreadable or no folders.
    #[error("{}", listed(.0, cannot_use))]
    BadSources(Vec<Finding>),
    /// Apps that are not there.
    #[error("{}", listed(.0, cannot_find))]
    BadApps(Vec<Finding>),
    /// Django could not be asked.
    #[error(transparent)]
    Django(#[from] DjangoError),
    /// Manifests of bundlers that are not sound, or that name files which are not there.
    #[error("{}", listed(.0, mistakes_of_bundlers))]
    BadBundlerManifests(Vec<Finding>),
    /// A pattern that is none.
    #[error("{glob:?} under [collect] {key} is not a pattern")]
    BadPattern {
        /// The option that has it.
        key: &'static str,
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
    /// The page about the release cannot be where it is wanted.
    #[error("the report {} {why}", .path.display())]
    BadReport {
        /// Where it is wanted.
        path: PathBuf,
        /// Why it cannot be there.
        why: String,
    },
    /// The cache would be published.
    #[error("the cache {} lies inside of {}, and would be published", .cache.display(), .folder.display())]
    BadCache {
        /// The cache.
        cache: PathBuf,
        /// A source, or the output.
        folder: PathBuf,
    },
    /// The output is something else than a folder.
    #[error("the output {} is not a folder", .0.display())]
    OutputIsNoFolder(PathBuf),
    /// The sources are empty, or all that they have is ignored.
    #[error("no files found in {}", folders(.0))]
    NoFiles(Vec<PathBuf>),
    /// Files that cannot be published, and references that lead nowhere. The list has the warnings too.
    #[error("{}", listed(.0, found))]
    Unsound(Vec<Finding>),
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
    /// The folder that was named for the release before has none.
    #[error("there is no release in {}, which is named as the one before: no {}", .0.display(), crate::manifest::FILE_NAME)]
    NoPrevious(PathBuf),
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
    /// A file that no release needs any more could not be removed.
    #[error("the files are published in {}, but a file there that no release needs any more could not be removed", .output.display())]
    Stale {
        /// The output folder.
        output: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The page about the release could not be written.
    #[error("the files are published, but the report {} could not be written", .path.display())]
    Report {
        /// The page.
        path: PathBuf,
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
            | Self::BadReport { .. }
            | Self::BadCache { .. }
            | Self::OutputIsNoFolder(_)
            | Self::NoPrevious(_)
            | Self::NoFiles(_) => true,
            Self::Django(error) => error.is_operators_mistake(),
            Self::Unsound(_)
            | Self::BadBundlerManifests(_)
            | Self::Collision { .. }
            | Self::Busy(_)
            | Self::InTheWay { .. }
            | Self::Previous(_)
            | Self::Unreadable(_)
            | Self::Changed(_)
            | Self::Write { .. }
            | Self::Stale { .. }
            | Self::Report { .. }
            | Self::Compress { .. }
            | Self::Threads(_) => false,
        }
    }

    /// What was found in the files, if that is why it failed: errors and warnings.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::BadSources(findings)
            | Self::BadApps(findings)
            | Self::BadBundlerManifests(findings)
            | Self::Unsound(findings)
            | Self::Django(DjangoError::Unusable(findings) | DjangoError::CannotSave(findings)) => findings,
            _ => &[],
        }
    }

    /// The message without a line for each finding.
    pub fn headline(&self) -> String {
        match self {
            Self::BadSources(findings) => cannot_use(&fatal(findings)),
            Self::BadApps(findings) => cannot_find(&fatal(findings)),
            Self::BadBundlerManifests(findings) => mistakes_of_bundlers(&fatal(findings)),
            Self::Unsound(findings) => found(&fatal(findings)),
            // Only the texts that list findings have more than one line.
            Self::Django(error @ (DjangoError::Unusable(_) | DjangoError::CannotSave(_))) => {
                error.to_string().lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
            }
            other => other.to_string(),
        }
    }

    /// What to do about it, where there is one answer.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSources => "name one with --source DIR, or under [collect] sources",
            Self::NoOutput => {
                "name one with --output DIR, or under [collect] output or [static] directory; with --django, set STATIC_ROOT"
            }
            Self::BadSources(findings) | Self::BadBundlerManifests(findings) | Self::Unsound(findings) => {
                return Some(remedies(findings));
            }
            Self::BadApps(_) => {
                "write them as in INSTALLED_APPS; set VIRTUAL_ENV or [collect] virtual_env to the environment that has \
                 them; a folder can be named by itself with --source"
            }
            Self::Django(error) => return error.hint(),
            Self::BadPattern { .. } => "write it as a shell pattern, as in \"*.scss\" or \"node_modules\"",
            Self::Overlap { .. } => "choose an output folder outside of every source folder",
            Self::BadReport { .. } => "choose a file in a folder that is there, outside of the output and every source",
            Self::Report { .. } => "check who owns the folder of the report and who may write to it",
            Self::BadCache { .. } => "choose a folder outside of the output and every source for [collect] cache",
            Self::OutputIsNoFolder(_) => "choose another path, or remove what is there",
            Self::NoFiles(_) => {
                "publishing nothing is never meant; check the folders, and the patterns under [collect] ignore"
            }
            Self::Collision { .. } => {
                "is a source folder the output of an earlier run? collect from the original files"
            }
            Self::Busy(_) => "wait for it to end; runs into one output folder go one after the other",
            Self::InTheWay { .. } => "remove it from the output folder and run again",
            Self::Previous(crate::manifest::json::ManifestError::OtherVersion { .. }) => {
                "collect with the release of vestibule that wrote it or a later one, or remove it to start anew; the \
                 files that it named are then not carried over"
            }
            Self::Previous(_) => {
                "put the right manifest back, or remove it to start anew; the files that it named are then not carried over"
            }
            Self::NoPrevious(_) => "name the output of an earlier run, or leave out --previous and [collect] previous",
            Self::Changed(_) => "run again when nothing else writes to the source folders",
            Self::Write { cause, .. } if is_full(cause) => {
                "free some space; while it writes, a run needs room for the old and the new files"
            }
            Self::Write { cause, .. } if cause.kind() == io::ErrorKind::InvalidFilename => {
                "shorten the name: with what is added to it, a hash or the ending of a copy, it has more than 255 bytes"
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

fn fatal(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.level == Level::Error).collect()
}

/// One line that says how many, and a line for each that stops the run.
pub(super) fn listed(findings: &[Finding], headline: impl Fn(&[&Finding]) -> String) -> String {
    let fatal = fatal(findings);
    let lines: String = fatal.iter().map(|finding| format!("\n  {finding}")).collect();
    format!("{}:{lines}", headline(&fatal))
}

fn cannot_use(findings: &[&Finding]) -> String {
    format!("cannot use {}", counted(findings.len(), "source folder"))
}

fn cannot_find(findings: &[&Finding]) -> String {
    format!("cannot find {}", counted(findings.len(), "app"))
}

fn mistakes_of_bundlers(findings: &[&Finding]) -> String {
    format!("cannot use what bundlers say: found {}", counted(findings.len(), "mistake"))
}

fn found(findings: &[&Finding]) -> String {
    let references = findings.iter().filter(|finding| finding.rule.is_about_a_reference()).count();
    let files = findings.len() - references;
    let lead = if references == 1 { "leads" } else { "lead" };
    let nowhere = format!("{} that {lead} nowhere", counted(references, "reference"));
    match (references, files) {
        (0, _) => format!("cannot publish {}", counted(files, "file")),
        (_, 0) => format!("found {nowhere}"),
        _ => format!("found {} that cannot be published and {nowhere}", counted(files, "file")),
    }
}

/// What to do about all of them, each said once.
fn remedies(findings: &[Finding]) -> String {
    let mut remedies: Vec<_> = fatal(findings).iter().map(|finding| finding.rule.remedy()).collect();
    remedies.sort_unstable();
    remedies.dedup();
    remedies.join("; ")
}

fn folders(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Position, Rule};

    #[test]
    fn the_advice_fits_what_the_system_says() {
        for (number, advice) in [(28, "free some space"), (13, "who owns"), (36, "shorten the name")] {
            let cause = io::Error::from_raw_os_error(number);
            let hint = CollectError::Write { output: "o".into(), name: "a.js".into(), cause }.hint();
            assert!(hint.is_some_and(|hint| hint.contains(advice)), "for {number}");
        }
    }

    #[test]
    fn every_finding_that_stops_the_run_has_its_line_in_the_error() {
        let position = Some(Position { line: 3, column: 5 });
        let missing = Finding { position, ..Finding::error(Rule::MissingReference, "a.css", "refers to \"b.png\"") };
        let told = Finding::warning(Rule::MissingSourceMap, "a.js", "odd");
        let bad = Finding::error(Rule::UnpublishableName, "src/a\\b", "its name has a backslash");
        let (missing_line, bad_line) = ("\n  a.css:3:5: refers to \"b.png\"", "\n  src/a\\b: its name has a backslash");
        for (findings, expected) in [
            (vec![missing.clone()], format!("found 1 reference that leads nowhere:{missing_line}")),
            (vec![bad.clone(), bad.clone(), told.clone()], format!("cannot publish 2 files:{bad_line}{bad_line}")),
            (
                vec![bad, told, missing.clone(), missing],
                format!(
                    "found 1 file that cannot be published and 2 references that lead nowhere:\
                     {bad_line}{missing_line}{missing_line}"
                ),
            ),
        ] {
            let error = CollectError::Unsound(findings);
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.headline(), expected.split(":\n").next().unwrap());
        }
    }

    #[test]
    fn findings_of_every_kind_are_told_in_parts() {
        let one = || vec![Finding::error(Rule::UnknownApp, "shop", "odd")];
        for (error, headline) in [
            (CollectError::BadSources(one()), "cannot use 1 source folder"),
            (CollectError::BadApps(one()), "cannot find 1 app"),
            (CollectError::BadBundlerManifests(one()), "cannot use what bundlers say: found 1 mistake"),
            (CollectError::Unsound(one()), "cannot publish 1 file"),
            (DjangoError::Unusable(one()).into(), "cannot use 1 answer of Django"),
            (DjangoError::CannotSave(one()).into(), "cannot save 1 folder"),
        ] {
            assert_eq!((error.findings(), error.headline().as_str()), (&one()[..], headline));
            assert_eq!(error.to_string(), format!("{headline}:\n  shop: odd"));
        }
    }

    #[test]
    fn the_hint_has_each_remedy_once() {
        let rules = [Rule::LinkOutside, Rule::MissingReference, Rule::UnpublishableName];
        let error = CollectError::Unsound(rules.map(|rule| Finding::error(rule, "a", "odd")).into());
        let hint = error.hint().expect("a hint");
        assert_eq!(
            (hint.matches("rename or remove").count(), hint.matches("fix the references").count()),
            (1, 1),
            "{hint}"
        );
    }
}
