//! Why Django could not be asked, or its answer not be used.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use super::answer::Trouble;
use crate::collect::error::listed;
use crate::finding::{Finding, counted};

/// Why Django could not be asked, or its answer not be used.
#[derive(Debug, Error)]
pub enum DjangoError {
    /// No such file.
    #[error("there is no {}", .0.display())]
    NoManagePy(PathBuf),
    /// There is no such program, or it may not be run.
    #[error("cannot run {}", .python.display())]
    CannotStart {
        /// The Python.
        python: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The answer has no place to go.
    #[error("cannot make a temporary file for Django's answer")]
    NoPlace(#[source] io::Error),
    /// Something in the project waits for what does not come.
    #[error("{} did not tell of the project within {} s, and was stopped{}", .python.display(), .waited.as_secs(), quoted(.said))]
    TooSlow {
        /// The Python.
        python: PathBuf,
        /// How long it had.
        waited: Duration,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// It ended without saying why.
    #[error("{} ended without an answer ({status}){}", .python.display(), quoted(.said))]
    NoAnswer {
        /// The Python.
        python: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// More than any project could have to say.
    #[error("Django's answer is longer than {limit} bytes")]
    TooLong {
        /// The most that is read.
        limit: u64,
    },
    /// No JSON document of ours.
    #[error("Django's answer cannot be read")]
    Garbled(#[source] serde_json::Error),
    /// The project or its Python is not fit to answer.
    #[error("{}", .trouble.tell(.python))]
    Trouble {
        /// The Python.
        python: PathBuf,
        /// What is wrong.
        trouble: Box<Trouble>,
    },
    /// The answer holds what `collect` cannot work with.
    #[error("{}", listed(.0, |found| format!("cannot use {} of Django", counted(found.len(), "answer"))))]
    Unusable(Vec<Finding>),
    /// What Django does cannot be said in a configuration file.
    #[error("{}", listed(.0, |found| format!("cannot save {}", counted(found.len(), "folder"))))]
    CannotSave(Vec<Finding>),
    /// The file to save to is not sound.
    #[error("cannot save to {}: {why}", .file.display())]
    BadFile {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The file to save to has no folder to be in.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// The file could not be read or written.
    #[error("cannot save to {}; it is as it was", .file.display())]
    Save {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl DjangoError {
    /// Whether the command line, the environment or the configuration must be changed.
    pub(in crate::collect) fn is_operators_mistake(&self) -> bool {
        match self {
            Self::NoManagePy(_)
            | Self::CannotStart { .. }
            | Self::Unusable(_)
            | Self::CannotSave(_)
            | Self::NoFolder(_)
            | Self::BadFile { .. } => true,
            Self::Trouble { trouble, .. } => trouble.is_operators_mistake(),
            Self::NoPlace(_)
            | Self::TooSlow { .. }
            | Self::NoAnswer { .. }
            | Self::TooLong { .. }
            | Self::Garbled(_)
            | Self::Save { .. } => false,
        }
    }

    /// What to do about it.
    pub(in crate::collect) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoManagePy(_) => "name the project's, as in --django path/to/manage.py",
            Self::CannotStart { .. } => "name the project's Python with --python, or activate its virtual environment",
            Self::TooSlow { .. } => {
                "does a setting or an AppConfig.ready() wait for a network, a database or a terminal? \
                 Where it does not, save the answers with --django --save"
            }
            Self::NoAnswer { .. } => "run `manage.py check` with the same Python; it should end well",
            Self::Trouble { trouble, .. } => return Some(trouble.hint()),
            Self::Unusable(_) => "name the folders yourself with --source and --app, and run without --django",
            Self::CannotSave(_) => {
                "keep asking Django with --django, or name folders that hold nothing else with [collect] sources"
            }
            Self::BadFile { .. } => "mend the file, or name another with --save",
            Self::NoFolder(_) => "make it, or name another file with --save",
            Self::NoPlace(_) => "check TMPDIR, and who may write there",
            Self::Save { .. } => "check who owns the file and its folder",
            Self::TooLong { .. } | Self::Garbled(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// What a program said, if it said something.
fn quoted(said: &str) -> String {
    match said.trim() {
        "" => String::new(),
        said => format!("; it said last:\n  {}", said.replace('\n', "\n  ")),
    }
}
