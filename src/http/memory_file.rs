//! Files in memory that have no name.

use std::fs::File;
use std::io;

/// A file of that size, empty so far, whose seals can be set (memfd_create(2)). `name` is what `/proc` calls it.
///
/// # Errors
/// Where the system has no such files, or does not give this one.
#[cfg(target_os = "linux")]
pub fn create(name: &str, size: u64) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::process::{Resource, getrlimit};

    // Who tries it all the same is killed.
    if getrlimit(Resource::Fsize).current.is_some_and(|most| most < size) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 and later may insist that it is no program; before that nobody knows the flag.
    let file = memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create(name, flags))?;
    ftruncate(&file, size)?;
    Ok(file.into())
}

#[cfg(not(target_os = "linux"))]
pub fn create(_name: &str, _size: u64) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
