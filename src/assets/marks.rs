//! What tells, without reading it, that a file or a folder is still the one that was read.
//!
//! A file that is put in the place of another has another number, and one that is written over another date.
//! Nothing here looks at contents.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::manifest::FILE_NAME;

/// A file at a moment: its number in the file system, its date and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl Mark {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { inode: metadata.ino(), modified, size: metadata.len() }
    }
}

/// A release in a folder at a moment: where the folder's path leads to, which folder that is, and its manifest.
///
/// It differs once a link leads to the next release, another folder has this name, or `collect` has put a new
/// manifest into place. A look costs three questions to the file system, however many files there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sign {
    path: Option<PathBuf>,
    folder: Option<(u64, u64)>,
    manifest: Option<Mark>,
}

impl Sign {
    pub(super) fn look(folder: &Path) -> Self {
        let path = fs_err::canonicalize(folder).ok();
        let metadata = |path: &Path| fs_err::metadata(path).ok();
        Self {
            folder: path.as_deref().and_then(metadata).map(|folder| (folder.dev(), folder.ino())),
            manifest: path.as_ref().and_then(|path| metadata(&path.join(FILE_NAME))).as_ref().map(Mark::of),
            path,
        }
    }
}

/// Every file below a folder, whose path is free of links, at a moment; hidden ones left out. What cannot be read is left out too: reading
/// the folder for good tells of it.
pub(super) fn all_below(folder: &Path) -> BTreeMap<PathBuf, Mark> {
    let is_hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".") && name != ".well-known";
    let entries = WalkDir::new(folder).min_depth(1).follow_links(true).into_iter();
    let entries = entries.filter_entry(|entry| !is_hidden(entry.file_name()) && stays_inside(folder, entry));
    let entries = entries.filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.filter_map(|entry| Some((entry.path().to_owned(), Mark::of(&entry.metadata().ok()?)))).collect()
}

/// Whether an entry is no link, or one that does not lead out of the folder.
pub(super) fn stays_inside(folder: &Path, entry: &DirEntry) -> bool {
    let is_inside = |path: &Path| fs_err::canonicalize(path).is_ok_and(|target| target.starts_with(folder));
    !entry.path_is_symlink() || is_inside(entry.path())
}
