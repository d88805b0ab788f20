//! Memory of which the system has the same bytes as a file, so that it can send them by itself.
//!
//! One file holds all large bodies of a folder. It has no name, and once they are written nobody can change it: not
//! this program, nor another one that opens it through `/proc`. That is why it may be mapped.

use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use super::contents::Content;
use crate::http::body::Place;
use crate::http::memory_file;

/// What `/proc` calls the file.
const NAME: &str = "vestibule-static";

/// A file that is still written.
#[derive(Debug)]
pub(super) struct Unsealed(std::fs::File);

/// A file that does not change any more.
#[derive(Debug)]
pub(super) struct Sealed {
    bytes: Bytes,
    /// `None` where the bytes are in memory only.
    file: Option<Arc<OwnedFd>>,
}

impl Unsealed {
    /// A file of that size.
    ///
    /// # Errors
    /// Where the system has no such files, or does not give this one.
    pub(super) fn new(size: u64) -> io::Result<Self> {
        memory_file::create(NAME, size).map(Self)
    }

    /// Writes a body to its place.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    /// What has been written, for good.
    pub(super) fn seal(mut self) -> io::Result<Sealed> {
        if let Ok(map) = system::seal(&self.0) {
            return Ok(Sealed { bytes: Bytes::from_owner(map), file: Some(Arc::new(self.0.into())) });
        }
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(Sealed { bytes: bytes.into(), file: None })
    }
}

impl Sealed {
    /// The body there.
    pub(super) fn content(&self, part: Range<usize>) -> Content {
        let (offset, bytes) = (part.start as u64, self.bytes.slice(part));
        match &self.file {
            Some(file) => Content::Placed(Box::new((bytes, Place { file: Arc::clone(file), offset }))),
            None => Content::Memory(bytes),
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::io;

    use memmap2::{Mmap, MmapOptions};
    use rustix::fs::{SealFlags, fcntl_add_seals};

    /// Forbids everybody to change the file, and maps it.
    #[expect(unsafe_code, reason = "that what is mapped does not change only the system can promise")]
    pub(super) fn seal(file: &File) -> io::Result<Mmap> {
        fcntl_add_seals(file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // Not shared: before Linux 6.7 what is sealed like this cannot be mapped so, not even to be read.
        // SAFETY: from here on nobody can write to the file, cut it or punch holes into it, whichever descriptor he has
        // (fcntl(2), F_SEAL_WRITE and F_SEAL_SHRINK), and the map is as long as the file.
        unsafe { MmapOptions::new().map_copy_read_only(file) }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;
    use std::io;

    pub(super) fn seal(_file: &File) -> io::Result<memmap2::Mmap> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::fs::{SealFlags, fcntl_add_seals};

    use super::*;

    fn unsealed() -> Unsealed {
        let unsealed = Unsealed::new(10).expect("a file");
        unsealed.write(b"one", 0).expect("room");
        unsealed.write(b"two", 7).expect("room");
        unsealed
    }

    #[test]
    fn what_is_sealed_is_the_same_in_memory_and_in_the_file_and_nobody_can_change_it() {
        let sealed = unsealed().seal().expect("a sealed file");
        let Content::Placed(placed) = sealed.content(6..10) else { panic!("it is in a file") };
        let (bytes, place) = *placed;
        drop(sealed);
        let mut there = [0; 4];
        rustix::io::pread(&place.file, &mut there, place.offset).expect("the file");
        assert_eq!((&bytes[..], &there), (&b"\0two"[..], b"\0two"));
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*place.file));
        let again = std::fs::File::options().write(true).open(again).expect("the file");
        assert!(again.write_all_at(b"x", 6).is_err() && again.set_len(0).is_err() && again.set_len(20).is_err());
        assert_eq!(&bytes[..], b"\0two");
    }

    #[test]
    fn what_cannot_be_sealed_is_in_memory() {
        let unsealed = unsealed();
        fcntl_add_seals(&unsealed.0, SealFlags::SEAL).expect("a seal");
        let sealed = unsealed.seal().expect("what was written");
        assert!(matches!(sealed.content(7..10), Content::Memory(bytes) if bytes == "two"));
    }
}
