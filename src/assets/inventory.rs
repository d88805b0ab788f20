//! What there is to serve: the manifest's list, or the folder itself where a manifest has none.
//!
//! This runs once, before the first request. It reads whole contents only where the manifest does not
//! give their hashes, and it opens nothing but regular files.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::HeaderValue;
use fs_err::File;
use fs_err::os::unix::fs::FileExt as _;
use globset::GlobSet;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use sha2::{Digest as _, Sha256};
use tracing::warn;
use walkdir::WalkDir;

use super::marks::{Mark, stays_inside};
use super::{AssetsError, Problems, Role};
use crate::http::dictionary::Digest as Dictionary;
use crate::http::encoding::{Coding, ContentCoding, DictionaryCoding};
use crate::http::media_type::content_type;
use crate::manifest::digits::{hex, sha256_of};
use crate::manifest::json::{self, EntryOnDisk, Listing, ManifestError, Text};
use crate::manifest::packed::Name;
use crate::manifest::{Entry, FILE_NAME, Needs, twins};

/// From how many dictionaries a file may have deltas: `[collect] delta_versions` allows no more. Each
/// takes a few hundred bytes of headers.
const DICTIONARIES: usize = 16;

/// What a body is to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Form {
    /// The file itself.
    Whole,
    /// A compressed copy.
    Copy(Coding),
    /// What makes it from a dictionary.
    Delta(DictionaryCoding, Dictionary),
}

impl Form {
    /// What is done to the file's bytes.
    pub(super) fn coding(self) -> ContentCoding {
        match self {
            Self::Whole => ContentCoding::Identity,
            Self::Copy(coding) => ContentCoding::Alone(coding),
            Self::Delta(coding, _) => ContentCoding::Delta(coding),
        }
    }

    /// The name beside the file's own under which the body lies.
    pub(super) fn name(self, file: &str) -> Cow<'_, str> {
        match self {
            Self::Whole => file.into(),
            Self::Copy(coding) => Entry::copy_name(file, coding).into(),
            Self::Delta(coding, dictionary) => Entry::delta_name(file, &hex(&dictionary), coding).into(),
        }
    }
}

/// One file that may be asked for.
#[derive(Debug)]
pub(super) struct Listed {
    /// Its path below the folder, with forward slashes: what follows the prefix in a URL.
    pub(super) name: Name,
    /// The file below the folder that holds its bytes.
    pub(super) location: Name,
    /// Of its bytes.
    pub(super) sha256: Sha256Digest,
    pub(super) media_type: HeaderValue,
    pub(super) size: u64,
    /// In whole seconds; `None` where the file's date says nothing, and until it is looked at.
    pub(super) modified: Option<SystemTime>,
    /// The compressed copies beside it that are smaller than it.
    pub(super) variants: Vec<(Coding, u64)>,
    /// The deltas beside it that are smaller than it and all of its copies.
    pub(super) deltas: Vec<(DictionaryCoding, Dictionary, u64)>,
    /// Copies and deltas that are no smaller: a client would have nothing of them but the work to unpack them.
    pub(super) spare: Vec<(Form, u64)>,
    /// The later versions for which it may be a dictionary, as a URL pattern below the prefix.
    pub(super) dictionary_for: Option<String>,
    /// Whether its name changes with its content.
    pub(super) is_fingerprinted: bool,
    /// The files that may be sent in its place, by name.
    pub(super) twins: Vec<String>,
    /// What it loads by itself, if it is a stylesheet.
    pub(super) needs: Needs,
    /// The number of its first body, once they are loaded; the others follow.
    pub(super) first_body: usize,
}

/// SHA-256 of a file.
pub(super) type Sha256Digest = [u8; 32];

impl Listed {
    /// Every body, with its size.
    pub(super) fn bodies(&self) -> impl Iterator<Item = (Form, u64)> {
        let copies = self.variants.iter().map(|(coding, size)| (Form::Copy(*coding), *size));
        let deltas = self.deltas.iter().map(|(coding, dictionary, size)| (Form::Delta(*coding, *dictionary), *size));
        std::iter::once((Form::Whole, self.size)).chain(copies).chain(deltas)
    }

    /// The same bytes under the name of another file, and for as long.
    pub(super) fn in_place_of(&self, other: &Self) -> Self {
        Self {
            name: other.name.clone(),
            location: self.location.clone(),
            sha256: self.sha256,
            media_type: self.media_type.clone(),
            size: self.size,
            modified: self.modified,
            // Nothing is gained by compressing what is compressed.
            variants: Vec::new(),
            deltas: Vec::new(),
            spare: Vec::new(),
            dictionary_for: None,
            is_fingerprinted: other.is_fingerprinted,
            twins: Vec::new(),
            needs: Needs::default(),
            first_body: self.first_body,
        }
    }
}

/// Every file that may be asked for, as the list has it.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) files: Vec<Listed>,
    pub(super) hashed: Hashed,
    /// What is wrong with the list itself.
    pub(super) problems: Problems,
    /// Plain name to the name that pages use.
    pub(super) paths: Vec<(Box<str>, Box<str>)>,
    pub(super) has_manifest: bool,
}

/// Which images of a folder without a list may have twins.
#[derive(Debug, Default)]
pub(super) struct TwinsWanted {
    /// URL paths.
    pub(super) paths: GlobSet,
    pub(super) prefix: String,
}

/// How the files of a folder without a list were when their hashes were taken, by path below the folder.
pub(super) type Hashed = BTreeMap<String, Mark>;

/// Lists every file of the folder that may be served. The folder's path must be free of links.
pub(super) fn take(folder: &Path, role: Role, wanted: &TwinsWanted) -> Result<Inventory, AssetsError> {
    let text = match json::read(folder) {
        Err(ManifestError::Missing(_)) => None,
        text => Some(text?),
    };
    let listing = text.as_ref().map(|(path, text)| Listing::parse(path, text)).transpose()?.unwrap_or_default();
    let (mut walked, hashed) = match listing.files {
        Some(_) => Default::default(),
        None => walk(folder, role)?,
    };
    find_twins(&mut walked, wanted);
    let walked = || walked.iter().map(|(name, entry)| (name.as_str().into(), entry.into())).collect();
    let entries = listing.files.unwrap_or_else(walked);
    let mut problems = Problems::default();
    let paths = later(listing.paths);
    let is_fingerprinted = fingerprinted(&paths, &entries, &mut problems);
    let mut files = Vec::with_capacity(entries.len());
    let mut media_types = FxHashMap::default();
    for ((name, entry), is_fingerprinted) in entries.into_iter().zip(is_fingerprinted) {
        if let Some(is_fingerprinted) = is_fingerprinted.filter(|_| is_public(&name, role)) {
            files.extend(listed(&name, entry, is_fingerprinted, &mut media_types, &mut problems));
        }
    }
    check_twins(&files, &mut problems);
    let paths = paths.iter().map(|(plain, target)| ((**plain).into(), (**target).into())).collect();
    Ok(Inventory { files, paths, hashed, problems, has_manifest: text.is_some() })
}

/// Enters the twins of images where nobody has said which there are.
fn find_twins(entries: &mut BTreeMap<String, Entry>, wanted: &TwinsWanted) {
    if wanted.paths.is_empty() {
        return;
    }
    let names: BTreeSet<&str> = entries.keys().map(String::as_str).collect();
    let found = twins::find(&names, |name| wanted.paths.is_match(format!("{}{name}", wanted.prefix)));
    for (twin, [one, other]) in found.unclear {
        warn!("{twin} could be the twin of {one} and of {other}, and is not sent for either; call it {one}.EXTENSION");
    }
    let own = |(image, twins): (&str, Vec<&str>)| (image.to_owned(), twins.into_iter().map(str::to_owned).collect());
    for (image, twins) in found.of.into_iter().map(own).collect::<Vec<(String, Vec<String>)>>() {
        if let Some(entry) = entries.get_mut(&image) {
            entry.twins = twins;
        }
    }
}

/// A twin must be a file that may be asked for by itself.
fn check_twins(files: &[Listed], problems: &mut Problems) {
    if files.iter().all(|file| file.twins.is_empty()) {
        return;
    }
    let names: BTreeSet<&str> = files.iter().map(|file| &*file.name).collect();
    for file in files {
        for twin in file.twins.iter().filter(|twin| !names.contains(twin.as_str())) {
            problems.0.push(format!("{twin}, a twin of {}, is not there", file.name));
        }
    }
}

/// Of each plain name the later word. In a list that `collect` wrote the names are in order, and each is there once.
fn later<'t>(paths: Vec<(Text<'t>, Text<'t>)>) -> Vec<(Text<'t>, Text<'t>)> {
    if paths.windows(2).all(|pair| *pair[0].0 < *pair[1].0) {
        return paths;
    }
    let places: FxHashMap<&str, usize> =
        paths.iter().enumerate().map(|(place, (plain, _))| (&**plain, place)).collect();
    let counts: Vec<bool> = paths.iter().enumerate().map(|(place, (plain, _))| places[&**plain] == place).collect();
    paths.into_iter().zip(counts).filter_map(|(pair, counts)| counts.then_some(pair)).collect()
}

/// Whether a page asks for an entry because of its content: it is the target of one of `paths` that differs from
/// what it stands for. Looking like a hash is not enough, or `with.123456789012.js` would be cached
/// for ten years. Nothing is said of an entry of which there is a later one with the same name.
fn fingerprinted(
    paths: &[(Text<'_>, Text<'_>)],
    entries: &[(Text<'_>, EntryOnDisk<'_>)],
    problems: &mut Problems,
) -> Vec<Option<bool>> {
    let places: FxHashMap<&str, usize> =
        entries.iter().enumerate().map(|(place, (name, _))| (&**name, place)).collect();
    let is_last = |(place, (name, entry)): (usize, &(Text<'_>, EntryOnDisk<'_>))| {
        (places[&**name] == place).then_some(entry.is_immutable)
    };
    let mut fingerprinted: Vec<_> = entries.iter().enumerate().map(is_last).collect();
    for (plain, target) in paths {
        match places.get(&**target) {
            Some(place) if plain != target => fingerprinted[*place] = Some(true),
            Some(_) => {}
            None => problems.0.push(format!("{}, which stands for {}, is not there", &**target, &**plain)),
        }
    }
    fingerprinted
}

/// The manifest itself and hidden files are in the folder, but not for the public.
fn is_public(name: &str, role: Role) -> bool {
    let is_hidden = |(depth, part): (usize, &str)| part.starts_with('.') && !(depth == 0 && is_well_known(part, role));
    name != FILE_NAME && !name.split('/').enumerate().any(is_hidden)
}

/// What is meant for the public though it begins with a dot (RFC 8615), right in the folder of a mount.
fn is_well_known(part: &str, role: Role) -> bool {
    role == Role::Mount && part == ".well-known"
}

/// Makes an entry ready to be looked at. What it gives is whole when no problem was found. `media_types` are those of
/// the entries before, by their texts: there are few.
fn listed(
    name: &str,
    entry: EntryOnDisk<'_>,
    is_fingerprinted: bool,
    media_types: &mut FxHashMap<String, HeaderValue>,
    problems: &mut Problems,
) -> Option<Listed> {
    let location = entry.location(name);
    let sha256 = sha256_of(&entry.sha256);
    let media_type = media_types.get(&*entry.media_type).cloned().or_else(|| {
        let media_type = HeaderValue::from_str(&entry.media_type).ok()?;
        media_types.insert(entry.media_type.to_string(), media_type.clone());
        Some(media_type)
    });
    if sha256.is_none() {
        problems.0.push(format!("{name} has no SHA-256"));
    }
    if media_type.is_none() {
        problems.0.push(format!("{name} has a media type that cannot be sent"));
    }
    if entry.deltas().count() > DICTIONARIES {
        problems.0.push(format!("{location} has deltas from more than {DICTIONARIES} dictionaries"));
    }
    let (mut variants, mut deltas, mut spare) = (Vec::new(), Vec::new(), Vec::new());
    for (coding, size) in entry.variants.iter() {
        if size < entry.size {
            variants.push((coding, size));
        } else {
            spare.push((Form::Copy(coding), size));
        }
    }
    let smallest = variants.iter().map(|(_, size)| *size).fold(entry.size, u64::min);
    for (digits, sizes) in entry.deltas().take(DICTIONARIES) {
        match sha256_of(digits) {
            None => problems.0.push(format!("{location} has a delta from {digits:?}, which is no SHA-256")),
            Some(dictionary) => {
                let (small, large): (Vec<_>, Vec<_>) = sizes.partition(|(_, size)| *size < smallest);
                deltas.extend(small.into_iter().map(|(coding, size)| (coding, dictionary, size)));
                spare.extend(large.into_iter().map(|(coding, size)| (Form::Delta(coding, dictionary), size)));
            }
        }
    }
    let name: Name = name.into();
    Some(Listed {
        location: entry.stored.as_deref().map_or_else(|| Arc::clone(&name), Into::into),
        name,
        sha256: sha256?,
        media_type: media_type?,
        size: entry.size,
        modified: None,
        variants,
        deltas,
        spare,
        dictionary_for: entry.dictionary_for.as_deref().map(str::to_owned),
        is_fingerprinted,
        twins: entry.twins,
        needs: entry.needs,
        first_body: 0,
    })
}

/// Makes entries from the folder itself, for a manifest without any.
fn walk(folder: &Path, role: Role) -> Result<(BTreeMap<String, Entry>, Hashed), AssetsError> {
    let found = walk_files(folder, role)?;
    let is_other_form = |name: &str| {
        let is_copy =
            |coding: Coding| name.strip_suffix(coding.suffix()).is_some_and(|plain| found.contains_key(plain));
        Coding::ALL.into_iter().any(is_copy) || delta_of(name).is_some_and(|file| found.contains_key(file))
    };
    let own: Vec<_> = found.iter().filter(|(name, _)| !is_other_form(name)).collect();
    // Hashing them is nearly all of the work, so every core does a part of it.
    let entry = |(name, (size, modified)): (&String, &(u64, SystemTime))| {
        let copy = |coding: Coding| {
            let copy = format!("{name}{}", coding.suffix());
            let (size, made) = found.get(&copy)?;
            let is_stale = is_older(*made, *modified);
            if is_stale {
                warn!(folder = %folder.display(), "{copy} is older than {name} and is left out; compress the file again");
            }
            (!is_stale).then_some((coding, *size))
        };
        let (sha256, mark) = hashed(&folder.join(name)).map_err(AssetsError::Unreadable)?;
        let entry = Entry {
            size: *size,
            media_type: content_type(name).into(),
            sha256: hex(&sha256),
            variants: Coding::ALL.into_iter().filter_map(copy).collect(),
            ..Entry::default()
        };
        Ok((name.clone(), entry, mark))
    };
    let (mut entries, mut marks) = (BTreeMap::new(), Hashed::new());
    for (name, entry, mark) in own.into_par_iter().map(entry).collect::<Result<Vec<_>, AssetsError>>()? {
        marks.insert(name.clone(), mark);
        entries.insert(name, entry);
    }
    Ok((entries, marks))
}

/// Whether a compressed copy was made before its file was last written. Tools give it the file's own date, or a later
/// one; what is lost of a date when it is copied are fractions of a millisecond.
fn is_older(copy: SystemTime, file: SystemTime) -> bool {
    file.duration_since(copy).is_ok_and(|difference| difference > Duration::from_millis(10))
}

/// The file beside which a name of [`Entry::delta_name`]'s form would lie.
fn delta_of(name: &str) -> Option<&str> {
    let rest = DictionaryCoding::ALL.into_iter().find_map(|coding| name.strip_suffix(coding.suffix()))?;
    let (file, digits) = rest.rsplit_once('.')?;
    (digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(file)
}

/// Every regular file below the folder with its size and date. Links are followed as long as they stay inside.
fn walk_files(folder: &Path, role: Role) -> Result<BTreeMap<String, (u64, SystemTime)>, AssetsError> {
    let unreadable = |error: walkdir::Error| AssetsError::Unreadable(error.into());
    let mut files = BTreeMap::new();
    let entries = WalkDir::new(folder).min_depth(1).follow_links(true).into_iter().filter_entry(|entry| {
        let stays = stays_inside(folder, entry);
        if !stays {
            warn!(path = %entry.path().display(), "a link leads out of its folder and is left out");
        }
        let name = entry.file_name();
        let is_well_known = entry.depth() == 1 && name.to_str().is_some_and(|name| is_well_known(name, role));
        stays && (is_well_known || !name.as_encoded_bytes().starts_with(b"."))
    });
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if is_dangling(&error) => {
                warn!(%error, "a link leads nowhere and is left out");
                continue;
            }
            Err(error) => return Err(unreadable(error)),
        };
        let name = entry.path().strip_prefix(folder).ok().and_then(Path::to_str);
        // A name that is not UTF-8 cannot be asked for.
        if let Some(name) = name.filter(|_| entry.file_type().is_file()) {
            let metadata = entry.metadata().map_err(unreadable)?;
            files.insert(name.to_owned(), (metadata.len(), metadata.modified().unwrap_or(UNIX_EPOCH)));
        }
    }
    Ok(files)
}

fn is_dangling(error: &walkdir::Error) -> bool {
    error.loop_ancestor().is_some() || error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A file's SHA-256, and how the file was before it was read.
fn hashed(path: &Path) -> io::Result<(Sha256Digest, Mark)> {
    let file = File::open(path)?;
    let mark = Mark::of(&file.metadata()?);
    Ok((digest(&file)?, mark))
}

/// The SHA-256 of an open file, whatever of it was read before.
pub(super) fn digest(file: &File) -> io::Result<Sha256Digest> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    let mut offset = 0;
    loop {
        match file.read_at(&mut piece, offset)? {
            0 => return Ok(hash.finalize().into()),
            length => {
                hash.update(&piece[..length]);
                offset += length as u64;
            }
        }
    }
}
