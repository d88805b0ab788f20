//! Whether every file, every compressed copy and every delta has the bytes that the manifest lists.
//!
//! All are read as streams, on all threads. Two names of one file on the disk, as `collect` makes them
//! for a plain and a hashed name, are read once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rayon::prelude::*;

use super::decode::{self, Digests, Integrity};
use super::{Findings, Present};
use crate::finding::Finding;
use crate::http::encoding::{Coding, DictionaryCoding};
use crate::manifest::Entry;
use crate::manifest::digits::{hex, sha256_of};

/// What was proved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Compressed copies that decode to their files. One with two names counts once.
    pub(super) variants: usize,
    /// Deltas that decode to their files.
    pub(super) deltas: usize,
    /// Deltas of which the dictionary is not in the folder.
    pub(super) deltas_without_dictionary: usize,
}

/// What a file in the folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind<'a> {
    Whole,
    Copy(Coding),
    Delta(DictionaryCoding, &'a str),
}

/// One file to read, for one or more names.
#[derive(Debug)]
struct Task<'a> {
    /// The file's own name, which differs from the entry's for copies and deltas.
    file: String,
    kind: Kind<'a>,
    /// The names and entries that this file is to agree with. There is always one.
    names: Vec<(&'a str, &'a Entry)>,
}

/// Reads everything that is listed.
pub(super) fn prove(
    folder: &Path,
    listed: &BTreeMap<String, Entry>,
    present: &BTreeMap<String, Present>,
    findings: &mut Findings,
) -> Counts {
    let tasks = tasks(listed, present, findings);
    let dictionaries: BTreeMap<&str, &str> =
        listed.iter().map(|(name, entry)| (entry.sha256.as_str(), name.as_str())).collect();
    let proved: Vec<(Findings, Counts)> =
        tasks.into_par_iter().map(|task| task.prove(folder, listed, &dictionaries)).collect();
    let mut counts = Counts::default();
    for (found, proved) in proved {
        findings.append(found);
        counts.variants += proved.variants;
        counts.deltas += proved.deltas;
        counts.deltas_without_dictionary += proved.deltas_without_dictionary;
    }
    counts
}

/// What to read, the largest first. Files that are missing or have another length are told here.
fn tasks<'a>(
    listed: &'a BTreeMap<String, Entry>,
    present: &BTreeMap<String, Present>,
    findings: &mut Findings,
) -> Vec<Task<'a>> {
    let mut tasks: BTreeMap<_, Task<'a>> = BTreeMap::new();
    for (name, entry) in listed {
        for (file, kind, size) in files_of(name, entry, listed) {
            match present.get(&file) {
                None => findings.error(Finding::about(file, "the manifest lists it, but it is not there")),
                Some(found) if found.size != size => {
                    let message = format!("it has {} bytes, but the manifest says {size}", found.size);
                    findings.error(Finding::about(file, message));
                }
                Some(found) => {
                    // The length goes first, and the largest of them: no thread shall begin with it at the end.
                    let key = (std::cmp::Reverse(size.max(entry.size)), found.identity, kind, entry.sha256.as_str());
                    let task = tasks.entry(key).or_insert_with(|| Task { file, kind, names: Vec::new() });
                    task.names.push((name, entry));
                }
            }
        }
    }
    tasks.into_values().collect()
}

/// The files of an entry: where its bytes are, with copies and deltas, and its own name, with the copies for
/// servers that look for them there.
fn files_of<'a>(name: &str, entry: &'a Entry, listed: &BTreeMap<String, Entry>) -> Vec<(String, Kind<'a>, u64)> {
    let home = entry.location(name);
    let deltas = entry.deltas.iter().flat_map(|(dictionary, sizes)| {
        sizes.iter().map(move |(coding, size)| {
            (Entry::delta_name(home, dictionary, *coding), Kind::Delta(*coding, dictionary), *size)
        })
    });
    let mut files: Vec<_> = deltas.collect();
    for place in BTreeSet::from([home, name]) {
        files.push((place.to_owned(), Kind::Whole, entry.size));
        let copies =
            entry.variants.iter().map(|(coding, size)| (Entry::copy_name(place, *coding), Kind::Copy(*coding), *size));
        // Beside a plain name, a copy gives way to a file of the sources.
        files.extend(copies.filter(|(copy, ..)| place == home || !listed.contains_key(copy)));
    }
    files
}

/// Every file that belongs to the listed ones, by its own name.
pub(super) fn names(listed: &BTreeMap<String, Entry>) -> BTreeSet<String> {
    listed.iter().flat_map(|(name, entry)| files_of(name, entry, listed)).map(|(file, ..)| file).collect()
}

impl Task<'_> {
    fn prove(
        &self,
        folder: &Path,
        listed: &BTreeMap<String, Entry>,
        dictionaries: &BTreeMap<&str, &str>,
    ) -> (Findings, Counts) {
        let (mut findings, mut counts) = (Findings::default(), Counts::default());
        let Some((_, entry)) = self.names.first() else { return (findings, counts) };
        let path = folder.join(&self.file);
        match self.kind {
            Kind::Whole => {
                let has_integrity = self.names.iter().any(|(_, entry)| !entry.integrity.is_empty());
                let integrity = if has_integrity { Integrity::Wanted } else { Integrity::NotWanted };
                match decode::whole(&path, entry.size, integrity) {
                    Ok(read) => self.compare_whole(&read, &mut findings),
                    Err(error) => findings.error(Finding::about(&self.file, format!("it cannot be read ({error})"))),
                }
            }
            Kind::Copy(coding) => {
                let read = decode::copy(&path, coding, entry.size);
                if self.is_the_file(&read, &mut findings) {
                    counts.variants += 1;
                }
            }
            Kind::Delta(coding, wanted) => {
                let (Some(name), Some(digest)) = (dictionaries.get(wanted), sha256_of(wanted)) else {
                    counts.deltas_without_dictionary += 1;
                    return (findings, counts);
                };
                let (place, size) = listed.get(*name).map_or((*name, 0), |entry| (entry.location(name), entry.size));
                let dictionary = || read_dictionary(&folder.join(place), size);
                let read = decode::delta(&path, coding, &digest, dictionary, entry.size);
                if self.is_the_file(&read, &mut findings) {
                    counts.deltas += 1;
                }
            }
        }
        (findings, counts)
    }

    fn compare_whole(&self, read: &Digests, findings: &mut Findings) {
        let sha256 = hex(&read.sha256);
        for (name, entry) in &self.names {
            if sha256 != entry.sha256 {
                let message = format!("its SHA-256 is {sha256}, but the manifest says {}", entry.sha256);
                findings.error(Finding::about(&self.file, message));
            } else if let (false, Some(sha384)) = (entry.integrity.is_empty(), &read.sha384) {
                let integrity = format!("sha384-{}", STANDARD.encode(sha384));
                if integrity != entry.integrity {
                    let message = format!("its integrity is {integrity}, but the manifest says {}", entry.integrity);
                    findings.error(Finding::about(*name, message));
                }
            }
        }
    }

    /// Whether a copy or delta was read to the bytes of its file.
    fn is_the_file(&self, read: &io::Result<Digests>, findings: &mut Findings) -> bool {
        let Some((name, entry)) = self.names.first() else { return false };
        let message = match read {
            Ok(read) if read.size > entry.size => format!("it decodes to more than the {} bytes of {name}", entry.size),
            Ok(read) if hex(&read.sha256) != entry.sha256 => format!("it does not decode to {name}"),
            Ok(_) => return true,
            Err(error) => format!("it does not decode to {name} ({error})"),
        };
        findings.error(Finding::about(&self.file, message));
        false
    }
}

/// The dictionary, with a bound: its length was compared with the manifest's before.
fn read_dictionary(path: &Path, size: u64) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}
