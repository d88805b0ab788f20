//! Opens a file below a folder, and nothing else.
//!
//! A name has been checked before it comes here ([`Name`]), and then the kernel itself sees to it that no
//! symbolic link leads out of the folder: there is no moment between a check and the opening. Links that
//! stay inside are followed. Where the kernel cannot do that (before Linux 5.6, and in containers that
//! forbid the call), each part of the path is opened by itself and no link is followed at all.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ::http::StatusCode;
use fs_err::File;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::stamp::Stamp;

/// The name of a file below a folder: a relative path whose parts are neither hidden nor `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(PathBuf);

impl Name {
    /// Reads a decoded path. Slashes in a row count as one; one at the end would mean a folder. Names are
    /// bytes, as the disk has them.
    pub(super) fn parse(path: &[u8]) -> Option<Self> {
        let is_sound = |part: &[u8]| !part.starts_with(b".") && !part.contains(&0);
        if path.is_empty() || path.ends_with(b"/") || !path.split(|byte| *byte == b'/').all(is_sound) {
            return None;
        }
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        Some(Self(parts.map(OsStr::from_bytes).collect()))
    }

    /// The last part, as text for the table of media types and for browsers.
    pub(super) fn file_name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// A regular file, open for reading.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) stamp: Stamp,
}

/// How a file is opened: nothing here waits, not even for the other end of a pipe.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// How a folder on the way is opened.
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a file. It waits for the disk.
pub(super) fn open(folder: &Path, name: &Name) -> io::Result<Opened> {
    let root = openat(CWD, folder, PASS, Mode::empty())?;
    let file = match open_by_kernel(&root, &name.0) {
        Err(Errno::NOSYS | Errno::PERM) => open_by_steps(root, &name.0),
        other => other,
    };
    look_at(file?, folder.join(&name.0))
}

/// Takes regular files only: reading a device or a pipe could wait for ever, or do something.
fn look_at(file: OwnedFd, path: PathBuf) -> io::Result<Opened> {
    let file = File::from_parts(file.into(), path);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it is not a regular file"));
    }
    Ok(Opened { stamp: Stamp::of(&found, SystemTime::now()), file })
}

#[cfg(target_os = "linux")]
fn open_by_kernel(root: &OwnedFd, name: &Path) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // The kernel asks to try again when something on the way was renamed meanwhile.
    const TRIES: usize = 8;
    let mut tries = (0..TRIES).map(|_| openat2(root, name, READ, Mode::empty(), resolve));
    tries.find(|tried| !matches!(tried, Err(Errno::AGAIN))).unwrap_or(Err(Errno::AGAIN))
}

#[cfg(not(target_os = "linux"))]
fn open_by_kernel(_root: &OwnedFd, _name: &Path) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// Goes from folder to folder and follows no link.
fn open_by_steps(root: OwnedFd, name: &Path) -> Result<OwnedFd, Errno> {
    let (mut folder, mut parts) = (root, name.components().peekable());
    while let Some(part) = parts.next() {
        let how = if parts.peek().is_some() { PASS } else { READ };
        folder = openat(folder.as_fd(), part.as_os_str(), how | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(folder)
}

/// What to do when no descriptor is left.
pub(super) const TOO_MANY_FILES: &str = "too many files and connections are open at once; raise the limit on open \
                                         files (LimitNOFILE=), or lower [limits] connections";

/// What a failed opening means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// There is no such file.
    Gone,
    /// A symbolic link leads out of the folder, or may not be followed.
    Link,
    /// The file is there, and this user may not read it.
    Forbidden,
    /// No descriptor is left to open it with; it may be had in a moment.
    Busy,
    /// The system has a fault of its own.
    Fault,
}

impl Missing {
    /// What the client is told.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Gone | Self::Link | Self::Forbidden => StatusCode::NOT_FOUND,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether it is a trouble of this machine's, as opposed to one of the file's.
    pub(super) fn is_the_machines(self) -> bool {
        matches!(self, Self::Busy | Self::Fault)
    }

    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::XDEV | Errno::LOOP) => Self::Link,
            Some(Errno::ACCESS | Errno::PERM) => Self::Forbidden,
            Some(Errno::MFILE | Errno::NFILE) => Self::Busy,
            // NXIO: a socket. ISDIR cannot be, since a folder can be opened for reading.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::NXIO | Errno::INVAL) => Self::Gone,
            None if error.kind() == io::ErrorKind::NotFound => Self::Gone,
            _ => Self::Fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text:?} is a name"))
    }

    #[test]
    fn a_name_has_no_part_that_leads_up_or_is_hidden() {
        for (path, expected) in [
            ("a.jpg", Some("a.jpg")),
            ("2026/11/a b.jpg", Some("2026/11/a b.jpg")),
            ("a//b.jpg", Some("a/b.jpg")),
            ("/a.jpg", Some("a.jpg")), // a slash too many stays below the folder
            ("", None),
            ("a/", None),
            ("..", None),
            ("a/../b", None),
            (".env", None),
            ("a/.git/config", None),
            ("./a", None),
            ("a\0.jpg", None),
            ("a..jpg", Some("a..jpg")),
        ] {
            let expected = expected.map(|name| Name(name.into()));
            assert_eq!(Name::parse(path.as_bytes()), expected, "for {path:?}");
        }
        assert!(Name::parse(b"caf\xe9.jpg").is_some(), "a name need not be UTF-8");
    }

    #[test]
    fn only_regular_files_below_the_folder_are_opened() {
        let outside = tempfile::tempdir().expect("a folder");
        fs_err::write(outside.path().join("secret"), "secret").expect("a file");
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs_err::create_dir_all(at("a/b")).expect("a folder");
        fs_err::write(at("a/b/file"), "whole").expect("a file");
        for (target, link) in [
            (outside.path().join("secret"), "to-a-secret"),
            (outside.path().to_owned(), "to-outside"),
            ("a/b/file".into(), "to-inside"),
            ("a".into(), "to-a-folder"),
            ("../../../../etc/passwd".into(), "up"),
            (at("a/b/file"), "absolute"),
            ("round".into(), "round"),
            ("nowhere".into(), "dangling"),
            ("/proc/self/root".into(), "magic"),
        ] {
            symlink(target, at(link)).expect("a link");
        }
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo").success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");

        let root = || openat(CWD, folder.path(), PASS, Mode::empty()).expect("the folder");
        // What the kernel does in one call, and what is done step by step where it cannot.
        for (path, by_kernel, by_steps) in [
            ("a/b/file", None, None),
            ("to-inside", None, Some(Missing::Link)),
            ("to-a-folder/b/file", None, Some(Missing::Gone)), // a link where a folder must be
            ("to-a-secret", Some(Missing::Link), Some(Missing::Link)),
            ("to-outside/secret", Some(Missing::Link), Some(Missing::Gone)),
            ("up", Some(Missing::Link), Some(Missing::Link)),
            ("absolute", Some(Missing::Link), Some(Missing::Link)),
            ("round", Some(Missing::Link), Some(Missing::Link)),
            ("dangling", Some(Missing::Gone), Some(Missing::Link)),
            ("magic/etc/passwd", Some(Missing::Link), Some(Missing::Gone)),
            ("a/b", Some(Missing::Gone), Some(Missing::Gone)),
            ("a/b/file/c", Some(Missing::Gone), Some(Missing::Gone)),
            ("pipe", Some(Missing::Gone), Some(Missing::Gone)),
            ("socket", Some(Missing::Gone), Some(Missing::Gone)),
            ("none", Some(Missing::Gone), Some(Missing::Gone)),
        ] {
            let steps = open_by_steps(root(), &name(path).0).map_err(io::Error::from);
            let steps = steps.and_then(|file| look_at(file, at(path)));
            for (way, opened, expected) in
                [("the kernel", open(folder.path(), &name(path)), by_kernel), ("steps", steps, by_steps)]
            {
                let missing = opened.as_ref().err().map(Missing::of);
                assert_eq!(missing, expected, "for {path} by {way}: {opened:?}");
            }
        }
        let long = "x".repeat(5000);
        let error = open(folder.path(), &name(&long)).expect_err("no such name");
        assert_eq!(Missing::of(&error), Missing::Gone);
    }
}
