//! The bytes of a file: held, where they are rewritten, or on disk, where they are only passed on.
//!
//! A folder of videos must not end in memory. What stays on disk is read again by later steps, and
//! each reader checks that it is still what was fingerprinted.

use std::borrow::Cow;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::CollectError;
use super::fingerprint::{Fingerprint, fingerprint};

/// The bytes of one file, with their fingerprint and length.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub(super) fingerprint: Fingerprint,
    pub(super) size: u64,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Held(Vec<u8>),
    OnDisk(PathBuf),
}

impl Contents {
    /// These bytes.
    pub(super) fn held(bytes: Vec<u8>) -> Self {
        Self { fingerprint: fingerprint(&bytes), size: bytes.len() as u64, place: Place::Held(bytes) }
    }

    /// Reads a file once for its fingerprint and leaves it where it is.
    pub(super) fn on_disk(path: &Path) -> Result<Self, CollectError> {
        let (fingerprint, size) = copy(path, &mut io::sink()).map_err(CollectError::Unreadable)?;
        Ok(Self { fingerprint, size, place: Place::OnDisk(path.to_owned()) })
    }

    /// The bytes, read again if need be.
    pub(super) fn read(&self) -> Result<Cow<'_, [u8]>, CollectError> {
        match &self.place {
            Place::Held(bytes) => Ok(Cow::Borrowed(bytes)),
            Place::OnDisk(path) => {
                let bytes = fs_err::read(path).map_err(CollectError::Unreadable)?;
                self.check(path, &fingerprint(&bytes))?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// Writes the bytes out. An error of reading is the outer one, an error of writing the inner one.
    pub(super) fn write_to(&self, writer: &mut impl Write) -> Result<io::Result<()>, CollectError> {
        match &self.place {
            Place::Held(bytes) => Ok(writer.write_all(bytes)),
            Place::OnDisk(path) => {
                let mut tracked = Tracked { writer, failure: None };
                match (copy(path, &mut tracked), tracked.failure) {
                    (_, Some(failure)) => Ok(Err(failure)),
                    (Err(error), None) => Err(CollectError::Unreadable(error)),
                    (Ok((found, _)), None) => self.check(path, &found).map(Ok),
                }
            }
        }
    }

    fn check(&self, path: &Path, found: &Fingerprint) -> Result<(), CollectError> {
        if *found == self.fingerprint { Ok(()) } else { Err(CollectError::Changed(path.to_owned())) }
    }
}

/// Remembers the error of the writing side, to tell it from one of the reading side.
struct Tracked<'w, W> {
    writer: &'w mut W,
    failure: Option<io::Error>,
}

impl<W: Write> Write for Tracked<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure = Some(error);
            }
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn copy(path: &Path, writer: &mut impl Write) -> io::Result<(Fingerprint, u64)> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finalize().into(), size)),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..n]);
        writer.write_all(&buffer[..n])?;
        size += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_after_its_fingerprint_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.bin");
        fs_err::write(&path, "before").expect("written");
        let contents = Contents::on_disk(&path).expect("readable");
        assert_eq!(contents.read().expect("unchanged").as_ref(), b"before");
        fs_err::write(&path, "after!").expect("written");
        assert!(matches!(contents.read(), Err(CollectError::Changed(_))));
        assert!(matches!(contents.write_to(&mut Vec::new()), Err(CollectError::Changed(_))));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Contents::on_disk(Path::new("no/such/file.png")).expect_err("a refusal");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(matches!(error, CollectError::Unreadable(_)) && cause.contains("no/such/file.png"), "{cause}");
    }

    #[test]
    fn a_failure_to_write_is_told_from_a_failure_to_read() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.bin");
        fs_err::write(&path, "x").expect("written");
        let written = Contents::on_disk(&path).expect("readable").write_to(&mut Full).expect("readable still");
        assert_eq!(written.expect_err("full").kind(), io::ErrorKind::StorageFull);
    }
}
