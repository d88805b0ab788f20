//! Files that are looked up while requests run: uploads, and what the application hands over.
//!
//! `assets` answers from a catalog that was made at start, because a release does not change. The files
//! here come and go at any time, so each request asks the disk: `beneath` opens a file below a folder and
//! nothing else, `choose` decides what of it is sent, `respond` sends it. Two use that: [`media`] for the
//! folder of uploads, and [`send_file`] for files that the application names in its answer.
//!
//! The disk is never waited for on a thread that runs requests, and no folder is ever listed.

mod beneath;
mod choose;
pub mod media;
mod respond;
pub mod send_file;
mod stamp;

use std::io;
use std::path::{Path, PathBuf};

/// Why a folder cannot be served from.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder is not there.
    #[error("there is no folder {}; make it, or correct `directory` under {table}", .folder.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
        /// The table that names it, in brackets.
        table: &'static str,
    },
    /// The system does not let it be used.
    #[error("cannot use the folder {} ({table}); let the user that vestibule runs as read it", .folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// The table that names it, in brackets.
        table: &'static str,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

impl FilesError {
    /// Whether something else must be written or made, as opposed to what the system refuses.
    pub fn is_operators_mistake(&self) -> bool {
        matches!(self, Self::NoFolder { .. })
    }
}

/// A folder that must be there at start, by its absolute path.
///
/// Links in the path stay as they are: where one leads is asked at each request, so that a volume can be
/// mounted anew and a link be switched over.
fn folder(directory: &Path, table: &'static str) -> Result<PathBuf, FilesError> {
    let folder = directory.to_owned();
    let unreadable = |cause| FilesError::Unreadable { folder: folder.clone(), table, cause };
    match fs_err::metadata(directory) {
        Ok(found) if found.is_dir() => std::path::absolute(directory).map_err(unreadable),
        Ok(_) => Err(FilesError::NoFolder { folder, table }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FilesError::NoFolder { folder, table }),
        Err(error) => Err(unreadable(error)),
    }
}

#[cfg(test)]
mod tests;
