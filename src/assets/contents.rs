//! Which bodies are held in memory, and where the others are read.
//!
//! A plain and a hashed name with the same content share one body. The smallest come first: they are
//! most of the requests, and for a large file the read is small beside the sending.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use fs_err::File;
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::inventory::{Form, Listed};
use super::marks::Mark;
use super::{AssetsError, Folder, Problems};
use crate::http::body::FileSlice;

/// One body, wherever it is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Here.
    Memory(Bytes),
    /// In this file.
    Disk(Arc<OnDisk>),
}

/// A body that is read when it is asked for.
#[derive(Debug)]
pub(super) struct OnDisk {
    path: PathBuf,
    /// How the file was when its hash was taken. `None` where the name itself has the hash: nobody writes other
    /// bytes under such a name, but a deploy may well write the same ones again.
    mark: Option<Mark>,
    /// Set when some file of the folder is no longer what it was.
    has_changed: Arc<AtomicBool>,
}

impl OnDisk {
    /// Opens a part of the file, which must still be what it was at start: its headers, and the tag above all,
    /// speak of that content. The look is at the opened file, so what is put in its place now changes nothing.
    pub(super) fn open(&self, size: u64, part: Range<u64>) -> io::Result<FileSlice> {
        let opened = self.open_unchanged(size);
        // Without a descriptor nothing was learned of the file.
        if opened.as_ref().is_err_and(|error| error.raw_os_error().is_none()) {
            self.has_changed.store(true, Ordering::Relaxed);
        }
        let file = opened?;
        // Where the system knows no dates, the length must do.
        let modified = file.metadata()?.modified();
        let slice = FileSlice::new(file, part);
        Ok(match modified {
            Ok(modified) => slice.unchanged_since(modified),
            Err(_) => slice,
        })
    }

    /// Opens it for reading. What has become something else than a file must not keep the thread waiting.
    fn open_now(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(descriptor) => Ok(File::from_parts(descriptor.into(), &self.path)),
            // The caller can tell that no descriptor was left from everything else.
            Err(cause @ (Errno::MFILE | Errno::NFILE)) => Err(cause.into()),
            Err(cause) => {
                let cause = io::Error::from(cause);
                Err(io::Error::other(format!("cannot open {}: {cause}", self.path.display())))
            }
        }
    }

    fn open_unchanged(&self, size: u64) -> io::Result<File> {
        let file = self.open_now()?;
        let now = file.metadata()?;
        if !now.is_file() || now.len() != size {
            let message = format!("{} has {} bytes instead of {size}", self.path.display(), now.len());
            return Err(io::Error::other(message));
        }
        if self.mark.is_some_and(|mark| mark != Mark::of(&now)) {
            return Err(io::Error::other(format!("{} was written since", self.path.display())));
        }
        Ok(file)
    }
}

/// Every body of a folder.
#[derive(Debug)]
pub(super) struct Contents {
    bodies: BTreeMap<Key, Content>,
    pub(super) bytes_in_memory: u64,
    /// Whether a file of the folder was found to be no longer what it was.
    pub(super) has_changed: Arc<AtomicBool>,
}

/// A body by the hash of its file, its form and its length.
pub(super) type Key = (String, Form, u64);

impl Contents {
    /// Every body of some files, all zeros: enough to decide with.
    #[cfg(test)]
    pub(super) fn zeros(files: &[&Listed]) -> Self {
        let all = files.iter().flat_map(|file| file.bodies().map(|(form, size)| (file.sha256.clone(), form, size)));
        let body = |key: Key| (key.clone(), Content::Memory(vec![0; key.2 as usize].into()));
        Self { bodies: all.map(body).collect(), bytes_in_memory: 0, has_changed: Arc::default() }
    }

    /// The body of a listed file in one of its forms.
    pub(super) fn of(&self, file: &Listed, form: Form, size: u64) -> Content {
        self.bodies.get(&(file.sha256.clone(), form, size)).cloned().expect("every listed body was placed by `load`")
    }
}

/// Reads bodies, the smallest first, until `budget` bytes are held: those of all folders together. The order of
/// what comes back is that of the folders.
pub(super) fn load(folders: &[Folder], budget: u64) -> Result<Vec<Contents>, AssetsError> {
    let mut places = Vec::new();
    for (n, folder) in folders.iter().enumerate() {
        places.extend(bodies(folder).into_iter().map(|(key, place)| (n, key, place)));
    }
    places.sort_by_key(|(_, (_, _, size), _)| *size);

    let empty = || Contents { bodies: BTreeMap::new(), bytes_in_memory: 0, has_changed: Arc::default() };
    let mut contents: Vec<_> = folders.iter().map(|_| empty()).collect();
    let mut left = budget;
    for (n, (_, _, size), place) in &mut places {
        match (&place, left.checked_sub(*size)) {
            (Place::File(path, mark), None) => {
                let has_changed = contents[*n].has_changed.clone();
                let on_disk = OnDisk { path: path.clone(), mark: *mark, has_changed };
                *place = Place::Disk(Arc::new(on_disk));
            }
            (_, rest) => {
                left = rest.unwrap_or(0);
                contents[*n].bytes_in_memory += *size;
            }
        }
    }
    // Opening so many files takes longer than all the rest, so every core does a part of it.
    let read = places.into_par_iter().map(|(n, key, place)| {
        let mut problems = Problems::default();
        let content = match place {
            Place::Memory(bytes) => Content::Memory(bytes),
            Place::File(path, mark) => read(&path, key.2, mark, &mut problems)?,
            Place::Disk(on_disk) => Content::Disk(on_disk),
        };
        Ok((n, key, content, problems))
    });
    let mut problems: Vec<_> = folders.iter().map(|_| Problems::default()).collect();
    for (n, key, content, found) in read.collect::<Result<Vec<_>, AssetsError>>()? {
        contents[n].bodies.insert(key, content);
        problems[n].0.extend(found.0);
    }
    for (problems, folder) in problems.into_iter().zip(folders) {
        problems.stop(&folder.path)?;
    }
    Ok(contents)
}

/// Where a body lies before it is loaded.
enum Place {
    /// In a file, which must be so.
    File(PathBuf, Option<Mark>),
    /// Nowhere else.
    Memory(Bytes),
    /// In a file that is read when it is asked for.
    Disk(Arc<OnDisk>),
}

/// Where each body of a folder lies.
fn bodies(folder: &Folder) -> BTreeMap<Key, Place> {
    let mut places = BTreeMap::new();
    // Fingerprinted names are entered last and so win: nobody writes other bytes under such a name.
    let (fingerprinted, plain): (Vec<_>, Vec<_>) = folder.files.iter().partition(|file| file.is_fingerprinted);
    for file in plain.into_iter().chain(fingerprinted) {
        let is_named_by_hash = file.is_fingerprinted || file.location != file.name;
        for (form, size) in file.bodies() {
            if let Form::Copy(coding) = form
                && let Some(Some(bytes)) = folder.made.get(&(file.sha256.clone(), coding))
            {
                places.insert((file.sha256.clone(), form, size), Place::Memory(bytes.clone()));
                continue;
            }
            let name = form.name(&file.location);
            let mark = folder.marks.get(&name).copied().filter(|_| !is_named_by_hash);
            places.insert((file.sha256.clone(), form, size), Place::File(folder.path.join(name), mark));
        }
    }
    places
}

fn read(path: &PathBuf, expected: u64, mark: Option<Mark>, problems: &mut Problems) -> Result<Content, AssetsError> {
    let read = || {
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((bytes, Mark::of(&file.metadata()?)))
    };
    let (bytes, now) = read().map_err(AssetsError::Unreadable)?;
    if bytes.len() as u64 != expected || mark.is_some_and(|mark| mark != now) {
        problems.0.push(format!("{} changed while it was read", path.display()));
    }
    Ok(Content::Memory(bytes.into()))
}
