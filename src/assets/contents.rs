//! Which bodies are held in memory, and where the others are read.
//!
//! A plain and a hashed name with the same content share one body. The smallest come first: they are
//! most of the requests.

use std::fs::Metadata;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fs_err::File;
use rayon::prelude::*;
use rustc_hash::{FxBuildHasher, FxHashMap};
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use tracing::debug;

use super::inventory::{Form, Listed, Sha256Digest, digest};
use super::marks::Mark;
use super::sealed::{Sealed, Unsealed};
use super::{AssetsError, Folder, Problems};
use crate::http::body::{FileSlice, Place, WORTH_A_PLACE};

/// One body, wherever it is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Here.
    Memory(Bytes),
    /// Here, and where the system has it too. In a box, because it is rare and must not make the many small ones larger.
    Placed(Box<(Bytes, Place)>),
    /// In this file.
    Disk(Arc<OnDisk>),
}

/// A body that is read when it is asked for.
#[derive(Debug)]
pub(super) struct OnDisk {
    path: PathBuf,
    /// How the file was at start.
    mark: Mark,
    /// The hash of its bytes, where its name has one: a deploy may well write the same bytes again under such a name.
    /// Of a copy no hash is known.
    sha256: Option<Sha256Digest>,
    /// How the file was when it was written anew, with the same bytes.
    again: Mutex<Option<Mark>>,
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

    fn open_unchanged(&self, size: u64) -> io::Result<File> {
        let file = match open(CWD, &self.path) {
            Ok(descriptor) => File::from_parts(descriptor.into(), &self.path),
            // The caller can tell that no descriptor was left from everything else.
            Err(cause @ (Errno::MFILE | Errno::NFILE)) => return Err(cause.into()),
            Err(cause) => {
                let cause = io::Error::from(cause);
                return Err(io::Error::other(format!("cannot open {}: {cause}", self.path.display())));
            }
        };
        let now = file.metadata()?;
        if !now.is_file() || now.len() != size {
            let message = format!("{} has {} bytes instead of {size}", self.path.display(), now.len());
            return Err(io::Error::other(message));
        }
        let mark = Mark::of(&now);
        if mark != self.mark && !self.has_same_bytes(&file, mark)? {
            return Err(io::Error::other(format!("{} was written since", self.path.display())));
        }
        Ok(file)
    }

    /// Whether a file that was written anew has the bytes of which its name has the hash. The first who wants it reads it
    /// through, and whoever comes meanwhile waits.
    fn has_same_bytes(&self, file: &File, mark: Mark) -> io::Result<bool> {
        let Some(sha256) = self.sha256 else { return Ok(false) };
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        if *again != Some(mark) && digest(file)? == sha256 && Mark::of(&file.metadata()?) == mark {
            *again = Some(mark);
        }
        Ok(*again == Some(mark))
    }
}

/// Opens a file for reading. What is, or has become, something else than a file must not keep the thread waiting.
fn open(folder: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat(folder, path, flags, Mode::empty())
}

/// How many files are looked at together. What is read of the small ones lies in one piece of memory, which is a tenth of
/// the work: for each by itself the system would be asked for room again and again.
const TOGETHER: usize = 64;

/// Every body of a folder.
#[derive(Debug, Default)]
pub(super) struct Contents {
    bodies: Vec<Content>,
    /// Those of each file, one behind the other.
    of: Vec<usize>,
    pub(super) bytes_in_memory: u64,
    /// Whether a file of the folder was found to be no longer what it was.
    pub(super) has_changed: Arc<AtomicBool>,
}

impl Contents {
    /// Bodies without a byte for files with up to so many: enough to decide with.
    #[cfg(test)]
    pub(super) fn empty(number: usize) -> Self {
        Self { bodies: vec![Content::Memory(Bytes::new())], of: vec![0; number], ..Self::default() }
    }

    /// A body of a listed file, by its number among those of the file.
    pub(super) fn of(&self, file: &Listed, number: usize) -> Content {
        self.bodies[self.of[file.first_body + number]].clone()
    }
}

/// Looks at every file that the lists of some folders name, and reads bodies, the smallest first, until `budget` bytes
/// are held: those of all folders together. The order of what comes back is that of the folders.
pub(super) fn load(folders: &mut [Folder], budget: u64) -> Result<Vec<Contents>, AssetsError> {
    let mut plans: Vec<_> = folders.iter().map(Plan::new).collect();
    share(&mut plans, budget);
    let found = plans.iter().map(Plan::carry_out).collect::<Result<Vec<_>, AssetsError>>()?;
    let mut all = Vec::with_capacity(folders.len());
    for (folder, Outcome { contents, files, problems }) in folders.iter_mut().zip(found) {
        folder.problems.0.extend(problems.0);
        std::mem::take(&mut folder.problems).stop(&folder.path)?;
        for (file, (first_body, modified)) in folder.files.iter_mut().zip(files) {
            (file.first_body, file.modified) = (first_body, modified);
        }
        all.push(contents);
    }
    Ok(all)
}

/// What is to be looked at in a folder, each file once.
struct Plan<'f> {
    folder: &'f Folder,
    looks: Vec<Look<'f>>,
    /// The bodies, each once.
    bodies: Vec<Planned>,
    /// The bodies of each file, one behind the other.
    of: Vec<usize>,
    /// By file of the folder, where its bodies begin in `of`, and the look that sees the file itself.
    files: Vec<(usize, usize)>,
    /// How long the file is in which bodies have their places.
    placed: u64,
}

/// One body.
struct Planned {
    form: Form,
    size: u64,
    source: Source,
    /// Another one of the same file.
    next: Option<usize>,
}

/// Where a body comes from.
enum Source {
    /// The file that this look sees.
    Look(usize),
    /// It is nowhere else.
    Made(Bytes),
}

/// One file on the disk that must be there.
struct Look<'f> {
    file: &'f Listed,
    form: Form,
    size: u64,
    wanted: Wanted,
    /// Another one beside the same file.
    next: Option<usize>,
}

/// What is wanted of a file on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Only that it is there.
    Presence,
    /// To be read when it is asked for.
    Mark,
    /// Its bytes.
    Bytes,
    /// The same, from here on in a file that the system can send from.
    Placed(u64),
}

/// What was seen of a file.
struct Sight<C> {
    modified: Option<SystemTime>,
    content: Option<C>,
}

/// A body, of which the bytes may lie among others.
enum Seen {
    Memory(Range<usize>),
    Own(Bytes),
    Placed(Range<usize>),
    Disk(Arc<OnDisk>),
}

/// What came of a plan.
struct Outcome {
    contents: Contents,
    /// By file of the folder: where its bodies begin, and its date.
    files: Vec<(usize, Option<SystemTime>)>,
    problems: Problems,
}

impl<'f> Plan<'f> {
    fn new(folder: &'f Folder) -> Self {
        let number = folder.files.len();
        let bodies = folder.files.iter().map(|file| file.bodies().count()).sum();
        let mut plan = Self {
            folder,
            looks: Vec::with_capacity(bodies),
            bodies: Vec::with_capacity(bodies),
            of: Vec::with_capacity(bodies),
            files: Vec::with_capacity(number),
            placed: 0,
        };
        // Names often share a file, and files their bytes. Of what belongs together, here is the last one.
        let mut by_place: FxHashMap<&str, usize> = FxHashMap::with_capacity_and_hasher(number, FxBuildHasher);
        let mut by_bytes: FxHashMap<&Sha256Digest, usize> = FxHashMap::with_capacity_and_hasher(number, FxBuildHasher);
        for file in &folder.files {
            let looks = &mut plan.looks;
            let mut look = |form: Form, size: u64| {
                let last = by_place.get(&*file.location).copied();
                let mut known = std::iter::successors(last, |at| looks[*at].next);
                known.find(|at| (looks[*at].form, looks[*at].size) == (form, size)).unwrap_or_else(|| {
                    looks.push(Look { file, form, size, wanted: Wanted::Presence, next: last });
                    by_place.insert(&file.location, looks.len() - 1);
                    looks.len() - 1
                })
            };
            plan.files.push((plan.of.len(), look(Form::Whole, file.size)));
            for (form, size) in &file.spare {
                look(*form, *size);
            }
            for (form, size) in file.bodies() {
                let made = match form {
                    Form::Copy(coding) => folder.made.get(&(file.sha256, coding)).and_then(Option::as_ref),
                    _ => None,
                };
                let source = made.map_or_else(|| Source::Look(look(form, size)), |bytes| Source::Made(bytes.clone()));
                let bodies = &mut plan.bodies;
                let last = by_bytes.get(&file.sha256).copied();
                let mut known = std::iter::successors(last, |at| bodies[*at].next);
                let known = known.find(|at| (bodies[*at].form, bodies[*at].size) == (form, size));
                plan.of.push(match known {
                    Some(number) => {
                        // Nobody writes other bytes under a fingerprinted name, so of several names that is the one.
                        if file.is_fingerprinted {
                            bodies[number].source = source;
                        }
                        number
                    }
                    None => {
                        bodies.push(Planned { form, size, source, next: last });
                        by_bytes.insert(&file.sha256, bodies.len() - 1);
                        bodies.len() - 1
                    }
                });
            }
        }
        plan
    }

    /// A place for a body in the file that the system can send from. It begins with a page, so that the body lies in as
    /// few as may be.
    fn place(&mut self, size: u64) -> u64 {
        let place = self.placed.next_multiple_of(4096);
        self.placed = place + size;
        place
    }

    /// Looks at the files. What is wrong with one of them is said, and the others are looked at all the same.
    fn carry_out(&self) -> Result<Outcome, AssetsError> {
        let mut contents = Contents::default();
        // Opening so many files takes longer than all the rest, so every core does a part of it.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let opened = rustix::fs::open(&self.folder.path, flags, Mode::empty());
        let opened = opened.map_err(|cause| AssetsError::Unreadable(cause.into()))?;
        // Without it the bodies are in memory all the same.
        let unsealed = (self.placed > 0).then(|| Unsealed::new(self.placed)).and_then(|unsealed| {
            unsealed
                .inspect_err(|error| debug!(%error, "the system has no files in memory: large files are copied"))
                .ok()
        });
        let ground = Ground {
            folder: self.folder,
            opened: opened.as_fd(),
            unsealed: unsealed.as_ref(),
            began: SystemTime::now(),
            has_changed: &contents.has_changed,
        };
        let seen = self.looks.par_chunks(TOGETHER).map(|looks| {
            let read = looks.iter().filter(|look| look.wanted == Wanted::Bytes);
            let mut room = Vec::with_capacity(read.map(|look| in_memory(look.size)).sum());
            let seen: Vec<_> = looks.iter().map(|look| look.look(&ground, &mut room)).collect();
            (seen, Bytes::from(room))
        });
        let seen = seen.collect::<Vec<_>>();
        let sealed = unsealed.map(Unsealed::seal).transpose().map_err(AssetsError::Unreadable)?;
        let mut problems = Problems::default();
        let mut sights = Vec::with_capacity(self.looks.len());
        for (seen, room) in seen {
            for seen in seen {
                sights.push(seen?.map_or_else(
                    |problem| {
                        problems.0.push(problem);
                        Sight { modified: None, content: None }
                    },
                    |sight| sight.with(&room, sealed.as_ref()),
                ));
            }
        }
        let files = self.files.iter().map(|(first_body, look)| (*first_body, sights[*look].modified)).collect();
        let content = |body: &Planned| match &body.source {
            Source::Look(look) => sights[*look].content.clone(),
            Source::Made(bytes) => Some(Content::Memory(bytes.clone())),
        };
        // One of which something is wrong has none, and then nothing is served.
        contents.bodies = self.bodies.iter().map(content).collect::<Option<_>>().unwrap_or_default();
        contents.of.clone_from(&self.of);
        let in_memory = contents.bodies.iter().zip(&self.bodies);
        let in_memory = in_memory.filter(|(content, _)| !matches!(content, Content::Disk(_)));
        contents.bytes_in_memory = in_memory.map(|(_, body)| body.size).sum();
        Ok(Outcome { contents, files, problems })
    }
}

/// Decides which bodies are held, the smallest first.
fn share(plans: &mut [Plan<'_>], budget: u64) {
    let mut left = budget;
    let mut on_disk = Vec::new();
    for (n, plan) in plans.iter().enumerate() {
        for Planned { size, source, .. } in &plan.bodies {
            match source {
                Source::Look(look) => on_disk.push((*size, n, *look)),
                Source::Made(_) => left = left.saturating_sub(*size),
            }
        }
    }
    on_disk.par_sort_unstable();
    for (size, n, look) in on_disk {
        let rest = left.checked_sub(size);
        plans[n].looks[look].wanted = match rest {
            None => Wanted::Mark,
            Some(_) if in_memory(size) < WORTH_A_PLACE => Wanted::Bytes,
            Some(_) => Wanted::Placed(plans[n].place(size)),
        };
        left = rest.unwrap_or(0);
    }
}

impl Sight<Seen> {
    /// With its bytes, which are a part of these.
    fn with(self, room: &Bytes, sealed: Option<&Sealed>) -> Sight<Content> {
        let content = self.content.and_then(|content| match content {
            Seen::Memory(part) => Some(Content::Memory(room.slice(part))),
            Seen::Own(bytes) => Some(Content::Memory(bytes)),
            Seen::Placed(part) => sealed.map(|sealed| sealed.content(part)),
            Seen::Disk(place) => Some(Content::Disk(place)),
        });
        Sight { modified: self.modified, content }
    }
}

/// What all looks into a folder have in common.
#[derive(Clone, Copy)]
struct Ground<'g> {
    folder: &'g Folder,
    opened: BorrowedFd<'g>,
    unsealed: Option<&'g Unsealed>,
    began: SystemTime,
    has_changed: &'g Arc<AtomicBool>,
}

impl Look<'_> {
    /// What there is, or what is wrong with it. What is read comes behind what is in `room`, unless
    /// it has a place.
    fn look(&self, ground: &Ground<'_>, room: &mut Vec<u8>) -> Result<Result<Sight<Seen>, String>, AssetsError> {
        let Ground { folder, opened, unsealed, began, has_changed } = *ground;
        let name = &*self.form.name(&self.file.location);
        let path = || folder.path.join(name);
        let mut own = Vec::new();
        let room = match self.wanted {
            Wanted::Placed(_) => {
                own.reserve_exact(in_memory(self.size));
                &mut own
            }
            _ => room,
        };
        let start = room.len();
        let seen = if matches!(self.wanted, Wanted::Bytes | Wanted::Placed(_)) {
            read(opened, Path::new(name), self.size, room)
                .map_err(|cause| io::Error::new(cause.kind(), format!("cannot open {}: {cause}", path().display())))
        } else {
            fs_err::metadata(path())
        };
        let is_as_expected = room.len() - start == in_memory(self.size);
        if !is_as_expected || !seen.as_ref().is_ok_and(|found| found.len() == self.size) {
            // It has taken the room of others.
            room.truncate(start);
        }
        let found = match seen {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Err(format!("{name} is gone")));
            }
            Err(_) if fs_err::metadata(path()).is_ok_and(|found| !found.is_file()) => {
                return Ok(Err(format!("{name} is not a regular file")));
            }
            Err(error) => return Err(AssetsError::Unreadable(error)),
        };
        if !found.is_file() {
            return Ok(Err(format!("{name} is not a regular file")));
        }
        if found.len() != self.size {
            return Ok(Err(format!("{name} has {} bytes instead of {}", found.len(), self.size)));
        }
        let (mark, modified) = (Mark::of(&found), found.modified().ok());
        let was_written = modified.is_some_and(|modified| began <= modified && modified <= SystemTime::now());
        let is_other = folder.hashed.get(name).is_some_and(|before| *before != mark);
        let content = match self.wanted {
            Wanted::Presence => None,
            Wanted::Mark => Some(Seen::Disk(Arc::new(OnDisk {
                path: path(),
                mark,
                sha256: self.sha256(),
                again: Mutex::default(),
                has_changed: Arc::clone(has_changed),
            }))),
            Wanted::Bytes if is_as_expected && !was_written => Some(Seen::Memory(start..room.len())),
            Wanted::Placed(offset) if is_as_expected && !was_written => {
                let start = in_memory(offset);
                match unsealed.map(|unsealed| unsealed.write(&own, offset)) {
                    Some(Ok(())) => Some(Seen::Placed(start..start + own.len())),
                    _ => Some(Seen::Own(own.into())),
                }
            }
            Wanted::Bytes | Wanted::Placed(_) => return Ok(Err(format!("{name} changed while it was read"))),
        };
        if is_other {
            return Ok(Err(format!("{name} changed while it was read")));
        }
        Ok(Ok(Sight { modified: modified.and_then(|modified| believable(modified, began)), content }))
    }

    /// The hash of its bytes, where its name has it.
    fn sha256(&self) -> Option<Sha256Digest> {
        let has_hash = self.file.is_fingerprinted || self.file.location != self.file.name;
        (has_hash && self.form == Form::Whole).then_some(self.file.sha256)
    }
}

/// Reads a file that should be so long into what is left of `room`, and says how it is then. Whether it is longer its
/// length tells, without another read.
fn read(folder: BorrowedFd<'_>, path: &Path, expected: u64, room: &mut Vec<u8>) -> io::Result<Metadata> {
    let file = std::fs::File::from(open(folder, path)?);
    let (start, expected) = (room.len(), in_memory(expected));
    while room.len() - start < expected {
        match rustix::io::read(&file, spare_capacity(room)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    file.metadata()
}

fn in_memory(size: u64) -> usize {
    usize::try_from(size).unwrap_or_default()
}

/// A date in whole seconds, as `Last-Modified` has it. Archives and reproducible builds set it to zero,
/// and a date in the future must not be sent (RFC 9110, section 8.8.2.1).
fn believable(modified: SystemTime, now: SystemTime) -> Option<SystemTime> {
    let seconds = modified.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let modified = UNIX_EPOCH + Duration::from_secs(seconds);
    (seconds > 0 && modified <= now).then_some(modified)
}
