//! The work of earlier runs: compressed copies and deltas that need not be made again.
//!
//! Nearly all that a run costs is compression, and from one release to the next most files stay as
//! they are. So what came of a compression is kept in a folder beside all projects, under a key made
//! of everything that decides it: the contents, the codec, its version and its parameters. An entry
//! is therefore never out of date; it can only be out of use.
//!
//! Nobody has to trust the folder. An entry carries a checksum and is ignored, made anew and replaced
//! when that is wrong; it is opened without following links; and whoever takes a copy out checks that
//! it decodes to the file, for a folder that CI systems pass around is a folder that others may write to. The worst
//! that they can do is to say that a copy is not worth keeping.
//! What could not be written is one warning at the end of the run, and what was damaged is another.
//!
//! Runs share it without a lock: an entry is written beside and renamed, whole or not at all, and not
//! synced, since the checksum finds what a power cut has torn. What was not used for longest is
//! removed at the end of a run; the time of last use is the file's modification time.

use std::fs::{DirBuilder, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{File, OpenOptions};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::finding::{Finding, Rule, counted};
use crate::manifest::digits::{hex, sha256_of};

/// The first bytes of an entry. Another layout gets another number.
const MAGIC: &[u8; 8] = b"vstbcp1\n";
const CHECKSUM: usize = 32;
/// Magic, checksum, and the byte that says which answer follows.
const HEADER: usize = MAGIC.len() + CHECKSUM + 1;
const COPY: u8 = b'c';
const NOT_WORTH_KEEPING: u8 = b'n';

/// The folder of the entries inside the cache folder, in which each first byte of the keys has one.
const ENTRIES: &str = "copies";
const TEMPORARY: &str = "tmp-";
/// Backup programs and people know by this file that the folder may be lost (bford.info/cachedir).
const TAG: (&str, &str) = (
    "CACHEDIR.TAG",
    "Signature: 8a477f597d28d172789f06886806bc55\n# Compressed copies and deltas of static files, kept by vestibule. Safe to remove.\n",
);
const FOLDER_MODE: u32 = 0o700;

/// An entry's time of use is written down once in this time; more would be a write for each read.
const USE_IS_NOTED_AFTER: Duration = Duration::from_hours(24);
/// A temporary file this old is of a run that died.
const TEMPORARY_IS_DEAD_AFTER: Duration = Duration::from_hours(24);
/// The folder is looked through after a run that added to it, and otherwise after this time.
const LOOKED_THROUGH_AFTER: Duration = Duration::from_hours(24);
/// What a file takes on disk is a multiple of this, as good as everywhere.
const BLOCK: u64 = 4096;

/// What an answer is kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of everything that decides an answer. `kind` keeps apart what different steps keep.
    pub(super) fn new(kind: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in [MAGIC.as_slice(), kind.as_bytes()].iter().chain(parts) {
            // With the length before it, no part can be mistaken for two others.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    fn parse(shard: &str, name: &str) -> Option<Self> {
        sha256_of(name).filter(|_| name.starts_with(shard)).map(Self)
    }

    fn path(&self, folder: &Path) -> PathBuf {
        let digits = hex(&self.0);
        folder.join(ENTRIES).join(&digits[..2]).join(&digits)
    }
}

/// What came of a compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<Bytes = Vec<u8>> {
    /// This copy.
    Copy(Bytes),
    /// A copy of this length, which was not kept because it saves too little.
    NotWorthKeeping(u64),
}

/// The folder, or none.
#[derive(Debug)]
pub(super) struct Cache {
    folder: Option<PathBuf>,
    limit: u64,
    has_grown: AtomicBool,
    taken: AtomicUsize,
    damaged: AtomicUsize,
    failure: Mutex<Option<io::Error>>,
}

impl Cache {
    /// The cache in this folder, which may grow to `limit` bytes. Touches nothing yet.
    pub(super) fn new(folder: Option<&Path>, limit: u64) -> Self {
        let is_of_use = |folder: &&Path| limit > 0 && !folder.as_os_str().is_empty();
        Self {
            folder: folder.filter(is_of_use).map(Path::to_owned),
            limit,
            has_grown: AtomicBool::new(false),
            taken: AtomicUsize::new(0),
            damaged: AtomicUsize::new(0),
            failure: Mutex::new(None),
        }
    }

    /// The answer of an earlier run, if there is one and it fits: a copy has at most `at_most` bytes,
    /// and passes the test.
    ///
    /// The test is for the caller to say what must be true of a copy that anybody may have put there.
    pub(super) fn find(&self, key: &Key, at_most: u64, test: impl FnOnce(&[u8]) -> bool) -> Option<Answer> {
        let test = |answer: &Answer| if let Answer::Copy(copy) = answer { test(copy) } else { true };
        match read(&key.path(self.folder.as_deref()?), key, at_most) {
            Entry::Sound(answer) if test(&answer) => {
                let is_copy = matches!(answer, Answer::Copy(_));
                self.taken.fetch_add(is_copy.into(), Ordering::Relaxed);
                Some(answer)
            }
            Entry::Sound(_) | Entry::Damaged => {
                self.damaged.fetch_add(1, Ordering::Relaxed);
                None
            }
            Entry::None => None,
        }
    }

    /// Keeps an answer for the next run.
    pub(super) fn keep(&self, key: &Key, answer: &Answer<&[u8]>) {
        let Some(folder) = self.folder.as_deref() else { return };
        // A full disk stays full, and the output needs what is left of it.
        if self.failure().is_some() {
            return;
        }
        let size = if let Answer::Copy(copy) = answer { copy.len() } else { 8 };
        if on_disk((HEADER + size) as u64) > self.limit {
            return;
        }
        match write(folder, key, answer) {
            Ok(()) => self.has_grown.store(true, Ordering::Relaxed),
            Err(cause) => *self.failure() = Some(cause),
        }
    }

    /// How many copies and deltas came out of it.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Removes what is too much, and tells what went wrong in the whole run.
    pub(super) fn finish(&self) -> Vec<Finding> {
        let Some(folder) = self.folder.as_deref() else { return Vec::new() };
        let is_due = self.has_grown.load(Ordering::Relaxed) || is_old(&folder.join(TAG.0), LOOKED_THROUGH_AFTER);
        let pruned = if is_due { prune(folder, self.limit) } else { Ok(()) };
        let damaged = Some(self.damaged.load(Ordering::Relaxed)).filter(|damaged| *damaged > 0).map(|damaged| {
            let message = format!("damaged in the cache, and made anew: {}", counted(damaged, "file"));
            Finding::warning(Rule::CacheDamaged, folder.display().to_string(), message)
        });
        let failed = self.failure().take().or(pruned.err()).map(|cause| {
            let message = format!("cannot keep compressed copies and deltas for the next run: {cause}");
            Finding::warning(Rule::CacheNotWritten, folder.display().to_string(), message)
        });
        damaged.into_iter().chain(failed).collect()
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What stands where an answer would be kept.
enum Entry {
    /// Nothing, or more than is wanted.
    None,
    Sound(Answer),
    /// Something that no run has left there as it is.
    Damaged,
}

/// Reads an entry.
fn read(path: &Path, key: &Key, at_most: u64) -> Entry {
    // A link could lead anywhere, and a pipe would keep us waiting.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // Without a folder there is no entry either, and where there is none to write that is told anyway.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Entry::None;
        }
        Err(_) => return Entry::Damaged,
    };
    match file.metadata() {
        // The answer of a run that had more room for it.
        Ok(found) if found.is_file() && found.len() > (HEADER as u64).saturating_add(at_most.max(8)) => Entry::None,
        Ok(found) if found.is_file() => read_open(&file, &found, key).map_or(Entry::Damaged, Entry::Sound),
        _ => Entry::Damaged,
    }
}

fn read_open(file: &File, found: &Metadata, key: &Key) -> Option<Answer> {
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).ok()?);
    // Whoever makes it longer meanwhile breaks its checksum, and no more.
    { file }.take(found.len()).read_to_end(&mut bytes).ok()?;
    let answer = parse(bytes, key)?;
    let now = SystemTime::now();
    let used = found.modified().ok()?;
    if now.duration_since(used).is_ok_and(|age| age > USE_IS_NOTED_AFTER) {
        // In a folder that is not ours to write it cannot be noted, and whose it is sees to its size.
        let _ = file.set_modified(now);
    }
    Some(answer)
}

fn parse(mut bytes: Vec<u8>, key: &Key) -> Option<Answer> {
    let (magic, rest) = bytes.split_at_checked(MAGIC.len())?;
    let (checksum, signed) = rest.split_at_checked(CHECKSUM)?;
    let (&kind, body) = signed.split_first()?;
    if magic != MAGIC || checksum != self::checksum(key, kind, body) {
        return None;
    }
    match kind {
        COPY => Some(Answer::Copy(bytes.split_off(HEADER))),
        NOT_WORTH_KEEPING => Some(Answer::NotWorthKeeping(u64::from_le_bytes(body.try_into().ok()?))),
        _ => None,
    }
}

/// With the key in it, an entry under another's name is not sound either.
fn checksum(key: &Key, kind: u8, body: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = Sha256::new();
    hasher.update(key.0);
    hasher.update([kind]);
    hasher.update(body);
    hasher.finalize().into()
}

fn write(folder: &Path, key: &Key, answer: &Answer<&[u8]>) -> io::Result<()> {
    let size;
    let (kind, body) = match answer {
        Answer::Copy(copy) => (COPY, *copy),
        Answer::NotWorthKeeping(n) => {
            size = n.to_le_bytes();
            (NOT_WORTH_KEEPING, size.as_slice())
        }
    };
    let path = key.path(folder);
    let (temporary, mut file) = create_temporary(folder, &path)?;
    let written = file
        .write_all(MAGIC)
        .and_then(|()| file.write_all(&checksum(key, kind, body)))
        .and_then(|()| file.write_all(&[kind]))
        .and_then(|()| file.write_all(body))
        .and_then(|()| put_in_place(&temporary, &path));
    if written.is_err() {
        // The error that is told is the first one.
        let _ = fs_err::remove_file(&temporary);
    }
    written
}

/// A new file, on the same file system as the entry will be, and the folders that they need.
fn create_temporary(folder: &Path, path: &Path) -> io::Result<(PathBuf, File)> {
    let shard = path.parent().unwrap_or(folder);
    if !shard.is_dir() {
        // Who may not look into the sources may not look into the copies of them either.
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(shard)?;
        tag(folder)?;
    }
    let temporary = folder.join(ENTRIES).join(format!("{TEMPORARY}{:016x}", fastrand::u64(..)));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    Ok((temporary, file))
}

fn tag(folder: &Path) -> io::Result<()> {
    match File::create_new(folder.join(TAG.0)) {
        Ok(mut file) => file.write_all(TAG.1.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A link or a broken entry gives way by itself. A folder under an entry's name is nobody's.
fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs_err::rename(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            fs_err::remove_dir_all(path)?;
            fs_err::rename(temporary, path)
        }
        done => done,
    }
}

/// Removes what was not used for longest until a tenth of the limit is free, and what dead runs left.
///
/// What is not of our making is neither counted nor touched.
fn prune(folder: &Path, limit: u64) -> io::Result<()> {
    let mut entries = Vec::new();
    let shards = match fs_err::read_dir(folder.join(ENTRIES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        shards => shards?,
    };
    for shard in shards {
        let shard = shard?;
        let Ok(name) = shard.file_name().into_string() else { continue };
        if name.starts_with(TEMPORARY) {
            if is_old(&shard.path(), TEMPORARY_IS_DEAD_AFTER) {
                remove(&shard.path())?;
            }
        } else if name.len() == 2 && shard.file_type()?.is_dir() {
            list(&shard.path(), &name, &mut entries)?;
        }
    }
    let mut total: u64 = entries.iter().map(|(_, size, _)| on_disk(*size)).sum();
    if total > limit {
        entries.sort_unstable();
        for (_, size, key) in entries {
            if total <= limit - limit / 10 {
                break;
            }
            remove(&key.path(folder))?;
            total -= on_disk(size);
        }
    }
    // Where the tag is not ours, the folder is looked through each time.
    let _ = File::options().append(true).open(folder.join(TAG.0)).and_then(|tag| tag.set_modified(SystemTime::now()));
    Ok(())
}

fn list(folder: &Path, shard: &str, entries: &mut Vec<(SystemTime, u64, Key)>) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let key = entry.file_name().to_str().and_then(|name| Key::parse(shard, name));
        // Another run may have removed it by now.
        let (Some(key), Ok(found)) = (key, entry.metadata()) else { continue };
        if found.is_file() {
            entries.push((found.modified()?, found.len(), key));
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn is_old(path: &Path, age: Duration) -> bool {
    let modified = fs_err::symlink_metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|found| found > age))
}

fn on_disk(size: u64) -> u64 {
    size.next_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    /// Puts something where an entry would be.
    type Obstacle<'a> = &'a dyn Fn(&Path);

    fn fresh() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn cache(folder: &tempfile::TempDir) -> Cache {
        Cache::new(Some(&folder.path().join("cache")), 1 << 20)
    }

    fn path(folder: &tempfile::TempDir, key: &Key) -> PathBuf {
        key.path(&folder.path().join("cache"))
    }

    fn key(text: &str) -> Key {
        Key::new("test", &[text.as_bytes()])
    }

    fn find(cache: &Cache, key: &Key) -> Option<Answer> {
        cache.find(key, 1000, |_| true)
    }

    fn keep(cache: &Cache, text: &str) -> Key {
        let key = key(text);
        cache.keep(&key, &Answer::Copy(text.as_bytes()));
        key
    }

    fn copy(text: &str) -> Option<Answer> {
        Some(Answer::Copy(text.into()))
    }

    fn age(path: &Path, age: Duration) {
        let file = File::options().append(true).open(path).expect("an entry");
        file.set_modified(SystemTime::now() - age).expect("a time");
    }

    #[test]
    fn what_was_kept_is_found_and_nothing_else() {
        let folder = fresh();
        let cache = cache(&folder);
        assert_eq!(find(&cache, &key("a")), None);
        let a = keep(&cache, "a");
        cache.keep(&key("b"), &Answer::NotWorthKeeping(77));
        assert_eq!(find(&cache, &a), copy("a"));
        assert_eq!(find(&cache, &key("b")), Some(Answer::NotWorthKeeping(77)));
        assert_eq!(find(&cache, &key("c")), None);
        assert_eq!(cache.taken(), 1, "only copies are counted");
        assert_eq!(cache.finish(), []);
    }

    #[test]
    fn keys_differ_in_kind_and_in_where_their_parts_end() {
        let keys = [
            Key::new("a", &[b"bc"]),
            Key::new("ab", &[b"c"]),
            Key::new("a", &[b"b", b"c"]),
            Key::new("a", &[b"bc", b""]),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[..n].contains(key), "key {n}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_makes_an_entry_none_and_it_is_replaced() {
        let folder = fresh();
        let cache = cache(&folder);
        let key = keep(&cache, "some copy");
        let path = path(&folder, &key);
        let sound = fs_err::read(&path).expect("an entry");
        for at in 0..sound.len() {
            let mut broken = sound.clone();
            broken[at] ^= 1;
            fs_err::write(&path, broken).expect("written");
            assert_eq!(find(&cache, &key), None, "at byte {at}");
        }
        for length in 0..sound.len() {
            fs_err::write(&path, &sound[..length]).expect("written");
            assert_eq!(find(&cache, &key), None, "cut to {length}");
        }
        keep(&cache, "some copy");
        assert_eq!(fs_err::read(&path).expect("an entry"), sound);
    }

    #[test]
    fn damaged_entries_are_told_once_with_their_number() {
        let folder = fresh();
        let cache = cache(&folder);
        let (broken, wrong, sound) =
            (keep(&cache, "broken"), keep(&cache, "wrong"), keep(&cache, "sound, and longer than that"));
        fs_err::write(path(&folder, &broken), "vstbcp1").expect("written");
        assert_eq!(find(&cache, &broken), None);
        assert_eq!(find(&cache, &key("never kept")), None);
        assert_eq!(cache.find(&sound, 1, |_| true), None, "it is too long, and as it was kept");
        assert_eq!(find(&cache, &sound), copy("sound, and longer than that"));
        let told = |cache: &Cache| cache.finish().into_iter().map(|finding| finding.message).collect::<Vec<_>>();
        assert_eq!(told(&cache), ["damaged in the cache, and made anew: 1 file"]);
        assert_eq!(cache.find(&wrong, 1000, |_| false), None);
        assert_eq!(told(&cache), ["damaged in the cache, and made anew: 2 files"]);
    }

    #[test]
    fn an_entry_under_another_name_is_none() {
        let folder = fresh();
        let cache = cache(&folder);
        let (a, b) = (keep(&cache, "a"), keep(&cache, "b"));
        fs_err::copy(path(&folder, &a), path(&folder, &b)).expect("copied");
        assert_eq!(find(&cache, &b), None);
    }

    #[test]
    fn a_copy_that_is_too_long_or_fails_the_test_is_none() {
        let folder = fresh();
        let cache = cache(&folder);
        let key = keep(&cache, "0123456789");
        assert_eq!(cache.find(&key, 9, |_| true), None);
        assert_eq!(cache.find(&key, 10, |_| false), None);
        assert_eq!(cache.find(&key, 10, |copy| copy == b"0123456789"), copy("0123456789"));
    }

    #[test]
    fn what_stands_in_the_way_is_no_entry_and_gives_way() {
        let folder = fresh();
        let cache = cache(&folder);
        let secret = folder.path().join("secret");
        fs_err::write(&secret, "secret").expect("written");
        let obstacles: [(&str, Obstacle<'_>); 4] = [
            ("a link", &|path| symlink(&secret, path).expect("a link")),
            ("a broken link", &|path| symlink("nowhere", path).expect("a link")),
            ("a folder", &|path| fs_err::create_dir_all(path.join("deeper/still")).expect("a folder")),
            ("a pipe", &|path| {
                let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo");
                assert!(made.success());
            }),
        ];
        for (what, put) in obstacles {
            let key = keep(&cache, "copy");
            fs_err::remove_file(path(&folder, &key)).expect("removed");
            put(&path(&folder, &key));
            assert_eq!(find(&cache, &key), None, "{what}");
            keep(&cache, "copy");
            assert_eq!(find(&cache, &key), copy("copy"), "{what}");
        }
        assert_eq!(fs_err::read_to_string(&secret).expect("still there"), "secret");
        let told: Vec<_> = cache.finish().iter().map(|finding| finding.message.clone()).collect();
        assert_eq!(told, ["damaged in the cache, and made anew: 4 files"]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_one_warning() {
        let folder = fresh();
        fs_err::write(folder.path().join("cache"), "a file").expect("written");
        let cache = cache(&folder);
        for text in ["a", "b", "c"] {
            let key = keep(&cache, text);
            assert_eq!(find(&cache, &key), None);
        }
        let findings = cache.finish();
        let [finding] = &findings[..] else { panic!("one warning: {findings:?}") };
        let finding = format!("{}: {}", finding.file, finding.message);
        assert!(finding.contains("cannot keep compressed copies and deltas for the next run: "), "{finding}");
        assert!(finding.contains(folder.path().to_str().expect("UTF-8")), "{finding}");
        assert_eq!(fs_err::read_to_string(folder.path().join("cache")).expect("still there"), "a file");
    }

    #[test]
    fn the_folder_is_the_users_own_and_marked_as_a_cache() {
        let folder = fresh();
        keep(&cache(&folder), "a");
        let path = folder.path().join("cache");
        let mode = fs_err::metadata(&path).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let tag = fs_err::read_to_string(path.join("CACHEDIR.TAG")).expect("a tag");
        assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
    }

    #[test]
    fn what_was_not_used_for_longest_is_removed_and_nothing_of_others() {
        let folder = fresh();
        let limit = 10 * BLOCK;
        let cache = Cache::new(Some(&folder.path().join("cache")), limit);
        let keys: Vec<Key> = (0..20).map(|n| keep(&cache, &n.to_string())).collect();
        for (n, key) in (0..).zip(&keys) {
            age(&path(&folder, key), DAY * (40 - n));
        }
        assert_eq!(find(&cache, &keys[0]), copy("0"), "the oldest is used");
        let entries = folder.path().join("cache/copies");
        let (dead, alive) = (entries.join("tmp-dead"), entries.join("tmp-alive"));
        let foreign = entries.join("ab/notes.txt");
        fs_err::create_dir_all(entries.join("ab")).expect("a folder");
        for path in [&dead, &alive, &foreign] {
            fs_err::write(path, vec![b'x'; 100_000]).expect("written");
        }
        age(&dead, DAY * 2);
        age(&foreign, DAY * 100);
        assert_eq!(cache.finish(), []);
        let left: Vec<bool> = keys.iter().map(|key| find(&cache, key).is_some()).collect();
        let expected: Vec<bool> = (0..20).map(|n| n == 0 || n >= 12).collect();
        assert_eq!(left, expected, "nine blocks of ten are in use");
        assert_eq!((dead.exists(), alive.exists(), foreign.exists()), (false, true, true));
    }

    #[test]
    fn a_smaller_limit_is_seen_without_new_entries_within_a_day() {
        let folder = fresh();
        let keys: Vec<Key> = (0..4).map(|n| keep(&cache(&folder), &n.to_string())).collect();
        let left = || keys.iter().filter(|key| path(&folder, key).exists()).count();
        let smaller = Cache::new(Some(&folder.path().join("cache")), 2 * BLOCK);
        assert_eq!((smaller.finish(), left()), (Vec::new(), 4));
        age(&folder.path().join("cache/CACHEDIR.TAG"), DAY * 2);
        assert_eq!((smaller.finish(), left()), (Vec::new(), 1));
    }

    #[test]
    fn a_use_is_noted_once_a_day() {
        let folder = fresh();
        let cache = cache(&folder);
        let key = keep(&cache, "a");
        let path = path(&folder, &key);
        let modified = || fs_err::metadata(&path).and_then(|found| found.modified()).expect("a time");
        for (before, is_noted) in [(DAY / 2, false), (DAY * 2, true)] {
            age(&path, before);
            let old = modified();
            assert_eq!(find(&cache, &key), copy("a"));
            assert_eq!(modified() > old, is_noted, "{before:?}");
        }
    }

    #[test]
    fn without_a_folder_or_room_nothing_is_kept_and_nothing_is_wrong() {
        let folder = fresh();
        let caches =
            [Cache::new(None, 1 << 20), Cache::new(Some(Path::new("")), 1 << 20), Cache::new(Some(folder.path()), 0)];
        for cache in caches {
            let key = keep(&cache, "a");
            assert_eq!(find(&cache, &key), None);
            assert_eq!(cache.finish(), []);
        }
        let small = Cache::new(Some(folder.path()), BLOCK);
        let large = "x".repeat(5000);
        keep(&small, &large);
        assert_eq!(small.finish(), []);
        assert_eq!(fs_err::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn runs_at_the_same_time_do_not_disturb_each_other() {
        let folder = fresh();
        let text = |n: usize| format!("{n} {}", "x".repeat(n * 50));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // Each has room for a part only, so that they remove what others read.
                    let cache = Cache::new(Some(&folder.path().join("cache")), 10 * BLOCK);
                    for n in 0..60 {
                        let n = n % 15;
                        let key = keep(&cache, &text(n));
                        let found = find(&cache, &key);
                        assert!(found.is_none() || found == copy(&text(n)), "{n}");
                        if n % 5 == 0 {
                            assert_eq!(cache.finish(), []);
                        }
                    }
                });
            }
        });
    }
}
