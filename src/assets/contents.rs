//! Which bodies are held in memory, and where the others are read.
//!
//! A plain and a hashed name with the same content share one body. The smallest come first: they are
//! most of the requests, and for a large file the read is small beside the sending.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::inventory::{Form, Listed};
use super::{AssetsError, Problems};

/// One body, wherever it is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Here.
    Memory(Bytes),
    /// In this file.
    Disk(Arc<Path>),
}

/// Every body of a folder.
#[derive(Debug)]
pub(super) struct Contents {
    bodies: BTreeMap<(String, Form, u64), Content>,
    pub(super) bytes_in_memory: u64,
}

impl Contents {
    /// Every body of a file, all zeros: enough to decide with.
    #[cfg(test)]
    pub(super) fn zeros(file: &Listed) -> Self {
        let body = |(form, size)| ((file.sha256.clone(), form, size), Content::Memory(vec![0; size as usize].into()));
        Self { bodies: file.bodies().map(body).collect(), bytes_in_memory: 0 }
    }

    /// The body of a listed file in one of its forms.
    pub(super) fn of(&self, file: &Listed, form: Form, size: u64) -> Content {
        self.bodies.get(&(file.sha256.clone(), form, size)).cloned().expect("every listed body was placed by `load`")
    }
}

/// Reads bodies, the smallest first, until `budget` bytes are held: those of all folders together. The order of
/// what comes back is that of the folders.
pub(super) fn load(folders: &[(&Path, &[Listed])], budget: u64) -> Result<Vec<Contents>, AssetsError> {
    let mut places = Vec::new();
    for (n, (folder, files)) in folders.iter().enumerate() {
        places.extend(bodies(folder, files).into_iter().map(|(key, path)| (n, key, path)));
    }
    places.sort_by_key(|(_, (_, _, size), _)| *size);

    let empty = || Contents { bodies: BTreeMap::new(), bytes_in_memory: 0 };
    let mut contents: Vec<_> = folders.iter().map(|_| empty()).collect();
    let mut problems: Vec<_> = folders.iter().map(|_| Problems::default()).collect();
    let mut left = budget;
    for (n, key, path) in places {
        let size = key.2;
        let content = match left.checked_sub(size) {
            Some(rest) => {
                left = rest;
                contents[n].bytes_in_memory += size;
                read(&path, size, &mut problems[n])?
            }
            None => Content::Disk(path.into()),
        };
        contents[n].bodies.insert(key, content);
    }
    for (problems, (folder, _)) in problems.into_iter().zip(folders) {
        problems.stop(folder)?;
    }
    Ok(contents)
}

/// Where each body of a folder lies.
fn bodies(folder: &Path, files: &[Listed]) -> BTreeMap<(String, Form, u64), PathBuf> {
    let mut places = BTreeMap::new();
    // Fingerprinted names are entered last and so win: nobody writes other bytes under such a name.
    let (fingerprinted, plain): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_fingerprinted);
    for file in plain.into_iter().chain(fingerprinted) {
        for (form, size) in file.bodies() {
            places.insert((file.sha256.clone(), form, size), folder.join(form.name(&file.location)));
        }
    }
    places
}

fn read(path: &PathBuf, expected: u64, problems: &mut Problems) -> Result<Content, AssetsError> {
    let bytes = fs_err::read(path).map_err(AssetsError::Unreadable)?;
    if bytes.len() as u64 != expected {
        problems.0.push(format!("{} changed while it was read", path.display()));
    }
    Ok(Content::Memory(bytes.into()))
}
