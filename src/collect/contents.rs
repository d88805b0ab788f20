//! The bytes of a file, which stay on disk: a source, or what a run has made ready.
//!
//! A tree of any size must not end in memory, so each step reads what it needs and forgets it. Each reader
//! checks that it is still what was fingerprinted.

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256, Sha384};

use super::error::CollectError;
use super::fingerprint::Fingerprint;

/// A file whose bytes were read once, with their digests and length.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    /// The SHA-256: for the name, the `ETag` and the check that nothing has changed.
    pub(super) fingerprint: Fingerprint,
    /// The SHA-384, which Subresource Integrity asks for.
    sha384: [u8; 48],
    pub(super) size: u64,
    path: Arc<Path>,
}

impl Contents {
    /// Reads a file once and leaves it where it is.
    pub(super) fn on_disk(path: impl Into<Arc<Path>>) -> Result<Self, CollectError> {
        let path = path.into();
        let (digests, size) = copy(&path, &mut io::sink()).map_err(CollectError::Unreadable)?;
        Ok(Self::new(digests, size, path))
    }

    /// These bytes, which are, or will be, in this file.
    pub(super) fn of(bytes: &[u8], path: impl Into<Arc<Path>>) -> Self {
        let mut digests = Digests::default();
        digests.update(bytes);
        Self::new(digests, bytes.len() as u64, path.into())
    }

    fn new(digests: Digests, size: u64, path: Arc<Path>) -> Self {
        let (fingerprint, sha384) = digests.finalize();
        Self { fingerprint, sha384, size, path }
    }

    /// The value of an `integrity` attribute (Subresource Integrity, section 3.1).
    pub(super) fn integrity(&self) -> String {
        format!("sha384-{}", BASE64.encode(self.sha384))
    }

    /// The bytes, read again.
    pub(super) fn read(&self) -> Result<Vec<u8>, CollectError> {
        let bytes = fs_err::read(&*self.path).map_err(CollectError::Unreadable)?;
        self.check(&Sha256::digest(&bytes).into())?;
        Ok(bytes)
    }

    /// Writes the bytes out. An error of reading is the outer one, an error of writing the inner one.
    pub(super) fn write_to(&self, writer: &mut impl Write) -> Result<io::Result<()>, CollectError> {
        let mut tracked = Tracked { writer, failure: None };
        match (copy(&self.path, &mut tracked), tracked.failure) {
            (_, Some(failure)) => Ok(Err(failure)),
            (Err(error), None) => Err(CollectError::Unreadable(error)),
            (Ok((found, _)), None) => self.check(&found.finalize().0).map(Ok),
        }
    }

    fn check(&self, found: &Fingerprint) -> Result<(), CollectError> {
        if *found == self.fingerprint { Ok(()) } else { Err(CollectError::Changed(self.path.to_path_buf())) }
    }
}

/// Both digests in one go over the bytes.
#[derive(Debug, Default)]
struct Digests {
    sha256: Sha256,
    sha384: Sha384,
}

impl Digests {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.sha384.update(bytes);
    }

    fn finalize(self) -> (Fingerprint, [u8; 48]) {
        (self.sha256.finalize().into(), self.sha384.finalize().into())
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

fn copy(path: &Path, writer: &mut impl Write) -> io::Result<(Digests, u64)> {
    let mut file = fs_err::File::open(path)?;
    let mut digests = Digests::default();
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok((digests, size)),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digests.update(&buffer[..n]);
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
        let contents = Contents::on_disk(path.as_path()).expect("readable");
        assert_eq!(contents.read().expect("unchanged"), b"before");
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
        let written = Contents::on_disk(path.as_path()).expect("readable").write_to(&mut Full).expect("readable still");
        assert_eq!(written.expect_err("full").kind(), io::ErrorKind::StorageFull);
    }
}
