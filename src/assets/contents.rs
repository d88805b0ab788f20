//! Which bodies are held in memory, and where the others are read.
//!
//! A plain and a hashed name with the same content share one body. The smallest come first: they are
//! most of the requests, and for a large file the read is small beside the sending.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rayon::prelude::*;

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

/// Reads bodies, the smallest first, until `budget` bytes are held.
pub(super) fn load(folder: &Path, files: &[Listed], budget: u64) -> Result<Contents, AssetsError> {
    let mut places = BTreeMap::new();
    // Fingerprinted names are entered last and so win: nobody writes other bytes under such a name.
    let (fingerprinted, plain): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_fingerprinted);
    for file in plain.into_iter().chain(fingerprinted) {
        for (form, size) in file.bodies() {
            places.insert((file.sha256.clone(), form, size), folder.join(form.name(&file.location)));
        }
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by_key(|((_, _, size), _)| *size);

    let mut bytes_in_memory: u64 = 0;
    let placed = places.into_iter().map(|(key, path)| {
        let fits = bytes_in_memory.saturating_add(key.2) <= budget;
        bytes_in_memory += if fits { key.2 } else { 0 };
        (key, path, fits)
    });
    let placed: Vec<_> = placed.collect();
    let read = placed.into_par_iter().map(|(key, path, fits)| {
        let mut problems = Problems::default();
        let content = if fits { read(&path, key.2, &mut problems)? } else { Content::Disk(path.into()) };
        Ok((key, content, problems))
    });
    let (mut bodies, mut problems) = (BTreeMap::new(), Problems::default());
    for (key, content, found) in read.collect::<Result<Vec<_>, AssetsError>>()? {
        bodies.insert(key, content);
        problems.0.extend(found.0);
    }
    problems.stop(folder)?;
    Ok(Contents { bodies, bytes_in_memory })
}

fn read(path: &PathBuf, expected: u64, problems: &mut Problems) -> Result<Content, AssetsError> {
    let bytes = fs_err::read(path).map_err(AssetsError::Unreadable)?;
    if bytes.len() as u64 != expected {
        problems.0.push(format!("{} changed while it was read", path.display()));
    }
    Ok(Content::Memory(bytes.into()))
}
