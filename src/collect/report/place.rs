//! Where the page may go, and putting it there in one piece.
//!
//! What lies in the output is public, and what lies in a source will be. The page is for neither.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::collect::error::CollectError;
use crate::collect::folders::Folders;
use crate::collect::scan::real_path;
use crate::config::CollectConfig;

/// The file to write, without symbolic links.
#[derive(Debug)]
pub(in crate::collect) struct Place(PathBuf);

impl Place {
    /// Looks at the place before anything is done, so that a mistake costs no time.
    pub(in crate::collect) fn of(
        folders: &Folders,
        config: &CollectConfig,
        output: &Path,
    ) -> Result<Option<Self>, CollectError> {
        let Some(path) = &config.report else { return Ok(None) };
        let refuse = |why: String| CollectError::BadReport { path: path.clone(), why };
        let real = real_path(path);
        let near = folders.list.iter().map(|folder| folder.source.directory.as_path()).chain([output]);
        for folder in near.chain(config.previous.as_deref()) {
            if real.starts_with(real_path(folder)) {
                return Err(refuse(format!("lies inside of {}, and would be published", folder.display())));
            }
        }
        // A device, or a pipe that somebody reads from, would be replaced by a file.
        if real.exists() && !real.is_file() {
            return Err(refuse("is not a file".to_owned()));
        }
        if !real.parent().is_some_and(Path::is_dir) {
            return Err(refuse("is in a folder that is not there".to_owned()));
        }
        Ok(Some(Self(real)))
    }

    /// Writes the page beside its place and puts it there with one rename, so that nobody sees half of it.
    pub(in crate::collect) fn write(&self, page: &str) -> Result<(), CollectError> {
        self.replace(page).map_err(|cause| CollectError::Report { path: self.0.clone(), cause })
    }

    fn replace(&self, page: &str) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        // The mode is what the umask leaves of it.
        let mode = Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().prefix(".vestibule-report").permissions(mode).tempfile_in(folder)?;
        file.write_all(page.as_bytes())?;
        file.persist(&self.0).map_err(|error| error.error)?;
        Ok(())
    }
}
