//! Which bodies are held in memory, and where the others are read.
//!
//! A plain and a hashed name with the same content share one body. The smallest come first: they are
//! most of the requests, and for a large file the read is small beside the sending.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::inventory::Listed;
use super::{AssetsError, Problems};
use crate::http::encoding::Coding;

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
    bodies: BTreeMap<(String, Option<Coding>, u64), Content>,
    pub(super) bytes_in_memory: u64,
}

impl Contents {
    /// Every body of a file, all zeros: enough to decide with.
    #[cfg(test)]
    pub(super) fn zeros(file: &Listed) -> Self {
        let sizes = file.variants.iter().map(|(coding, size)| (Some(*coding), *size)).chain([(None, file.size)]);
        let body =
            |(coding, size)| ((file.sha256.clone(), coding, size), Content::Memory(vec![0; size as usize].into()));
        Self { bodies: sizes.map(body).collect(), bytes_in_memory: 0 }
    }

    /// The body of a listed file in a coding.
    pub(super) fn of(&self, file: &Listed, coding: Option<Coding>, size: u64) -> Content {
        self.bodies.get(&(file.sha256.clone(), coding, size)).cloned().expect("every listed body was placed by `load`")
    }
}

/// Reads bodies, the smallest first, until `budget` bytes are held.
pub(super) fn load(folder: &Path, files: &[Listed], budget: u64) -> Result<Contents, AssetsError> {
    let mut places = BTreeMap::new();
    // Fingerprinted names are entered last and so win: nobody writes other bytes under such a name.
    let (fingerprinted, plain): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_fingerprinted);
    for file in plain.into_iter().chain(fingerprinted) {
        places.insert((file.sha256.clone(), None, file.size), folder.join(&file.location));
        for (coding, size) in &file.variants {
            let name = format!("{}{}", file.location, coding.suffix());
            places.insert((file.sha256.clone(), Some(*coding), *size), folder.join(name));
        }
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by_key(|((_, _, size), _)| *size);

    let mut contents = Contents { bodies: BTreeMap::new(), bytes_in_memory: 0 };
    let mut problems = Problems::default();
    for (key, path) in places {
        let fits = contents.bytes_in_memory.saturating_add(key.2) <= budget;
        let content = if fits { read(&path, key.2, &mut problems)? } else { Content::Disk(path.into()) };
        contents.bytes_in_memory += if fits { key.2 } else { 0 };
        contents.bodies.insert(key, content);
    }
    problems.stop(folder)?;
    Ok(contents)
}

fn read(path: &PathBuf, expected: u64, problems: &mut Problems) -> Result<Content, AssetsError> {
    let bytes = fs_err::read(path).map_err(AssetsError::Unreadable)?;
    if bytes.len() as u64 != expected {
        problems.0.push(format!("{} changed while it was read", path.display()));
    }
    Ok(Content::Memory(bytes.into()))
}
