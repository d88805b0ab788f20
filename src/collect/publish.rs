//! Puts everything into the output folder, which nothing else changes.
//!
//! All is first made ready in the staging folder, and synced to the disk. Then each file is renamed into
//! place: those with a hash in their names first, since nothing names them yet, then the plain ones, the
//! manifest last. A reader goes by the manifest, and that names only files of which the bytes never change.
//! So whenever it looks, it sees one whole release; and whenever a run stops, one whole release is left. (By plain names
//! it may be some of the new files already: a folder cannot be exchanged where it is a volume of its own.) After the
//! manifest's rename, what no release needs any more is removed.
//!
//! Another server may go by plain names, one by one, and look for compressed copies beside them. It never finds the
//! copy of another file there: a file that changes loses its copies first, and gets its new ones last.
//!
//! One run at a time has the output folder, by a lock that the kernel lifts when the process ends.

use std::collections::BTreeSet;
use std::fs::{Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fs_err::File;
use rayon::prelude::*;

use super::carry::Release;
use super::error::CollectError;
use super::plan::{Origin, Piece, Plan, names_of};
use super::staging::{Staging, failure};
use crate::http::encoding::Coding;
use crate::manifest::json::stays_inside;
use crate::manifest::packed::Packed;
use crate::manifest::{self, Entry};

pub(super) const LOCK: &str = ".vestibule.lock";
const FOLDER_MODE: u32 = 0o755;
/// How many files are synced to the disk at the same time.
const SYNCS_AT_ONCE: usize = 64;

/// The output folder, held by this run.
#[derive(Debug)]
pub(super) struct Target {
    folder: PathBuf,
    _lock: File,
}

impl Target {
    /// Makes the folder if need be, and takes it.
    pub(super) fn lock(folder: &Path) -> Result<Self, CollectError> {
        let failed = |cause| failure(folder, LOCK, cause);
        if folder.exists() && !folder.is_dir() {
            return Err(CollectError::OutputIsNoFolder(folder.to_owned()));
        }
        make_folders(folder).map_err(|cause| failure(folder, "anything", cause))?;
        let lock = File::options().create(true).append(true).open(folder.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(CollectError::Busy(folder.to_owned())),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    /// Publishes everything, in place of the release `before`.
    pub(super) fn publish(
        &self,
        plan: &Plan<'_>,
        staging: &Staging,
        before: Option<&Release>,
    ) -> Result<(), CollectError> {
        self.publish_in_steps(plan, staging, before, &mut |_| Ok(()))
    }

    /// Asks before each change to what is published. This is where a test stands in for a power cut.
    fn publish_in_steps(
        &self,
        plan: &Plan<'_>,
        staging: &Staging,
        before: Option<&Release>,
        ask: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Result<(), CollectError> {
        self.check_nothing_is_in_the_way(plan)?;
        self.make_ready(plan, staging)?;
        self.remove_outdated_copies(plan, staging, ask)?;
        for Piece { name, .. } in plan.pieces().filter(|piece| !staging.is_in_place(&piece.name)) {
            let put = ask(&name).and_then(|()| self.put_in_place(staging, &name));
            put.map_err(|cause| failure(&self.folder, &name, cause))?;
        }
        self.sync_folders(plan)?;
        let put = ask(manifest::FILE_NAME).and_then(|()| self.put_manifest_in_place(staging));
        put.map_err(|cause| failure(&self.folder, manifest::FILE_NAME, cause))?;
        let old = Old { before: before.map(|release| &release.manifest), left_behind: &staging.left_behind };
        let removed = self.remove_what_is_over(plan, &old, ask);
        removed.map_err(|cause| CollectError::Stale { output: self.folder.clone(), cause })?;
        staging.has_cleaned_up();
        Ok(())
    }

    /// Fills the staging folder with all that is not there yet, the manifest included.
    fn make_ready(&self, plan: &Plan<'_>, staging: &Staging) -> Result<(), CollectError> {
        plan.pieces_in_parallel().try_for_each(|Piece { name, origin }| match origin {
            Origin::Staged | Origin::SameAs(_) => Ok(()),
            Origin::Whole(contents, modified) => staging.copy(&name, contents, modified),
            Origin::Elsewhere(path) => staging.copy_from(&name, &path),
        })?;
        for Piece { name, origin } in plan.pieces() {
            if let Origin::SameAs(existing) = origin {
                staging.duplicate(&existing, &name)?;
            }
        }
        staging.write_manifest(&plan.manifest)?;
        let pieces = || plan.pieces().filter(|piece| !staging.is_in_place(&piece.name));
        staging.note(pieces().map(|piece| piece.name))?;
        let own = pieces().filter(|piece| !matches!(piece.origin, Origin::SameAs(_)));
        self.sync(staging, own.map(|piece| piece.name).chain([manifest::FILE_NAME.to_owned()]))
    }

    /// Waits until the files are on the disk. It is nothing but waiting, and a journal takes many files
    /// in one go, so many threads wait together.
    fn sync(&self, staging: &Staging, names: impl Iterator<Item = String> + Send) -> Result<(), CollectError> {
        let sync = |name: String| {
            let synced = File::open(staging.path(&name)).and_then(|file| file.sync_all());
            synced.map_err(|cause| failure(&self.folder, &name, cause))
        };
        let names = Mutex::new(names);
        let next = || names.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            let sync_all = || std::iter::from_fn(next).try_for_each(sync);
            let threads: Vec<_> = (0..SYNCS_AT_ONCE).map(|_| scope.spawn(sync_all)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("syncing does not panic"))
        })
    }

    /// Removes the copies beside plain files that are about to get other bytes.
    fn remove_outdated_copies(
        &self,
        plan: &Plan<'_>,
        staging: &Staging,
        ask: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Result<(), CollectError> {
        let paths = &plan.manifest.paths;
        let changing = paths.keys().filter(|name| !staging.is_in_place(name));
        let copies = changing.flat_map(|name| Coding::ALL.map(|coding| Entry::copy_name(name, coding)));
        // One that has a name of its own in the sources is no copy.
        let copies = copies.filter(|copy| !paths.contains_key(copy.as_str()));
        let real = fs_err::canonicalize(&self.folder).map_err(|cause| failure(&self.folder, LOCK, cause))?;
        for copy in copies {
            remove(&real, &copy, ask).map_err(|cause| failure(&self.folder, &copy, cause))?;
        }
        Ok(())
    }

    fn put_in_place(&self, staging: &Staging, name: &str) -> io::Result<()> {
        let to = self.folder.join(name);
        if let Some(parent) = to.parent() {
            make_folders(parent)?;
        }
        fs_err::rename(staging.path(name), to)
    }

    fn put_manifest_in_place(&self, staging: &Staging) -> io::Result<()> {
        fs_err::rename(staging.path(manifest::FILE_NAME), self.folder.join(manifest::FILE_NAME))?;
        File::open(&self.folder)?.sync_all()
    }

    /// The new names must be on the disk before the manifest that speaks of them.
    fn sync_folders(&self, plan: &Plan<'_>) -> Result<(), CollectError> {
        let mut folders = BTreeSet::new();
        for Piece { name, .. } in plan.pieces() {
            let parents = Path::new(&name).ancestors().skip(1);
            // Where one is known, so are those above it.
            parents.map_while(|parent| folders.insert(parent.to_owned()).then_some(())).for_each(drop);
        }
        for folder in folders {
            let synced = File::open(self.folder.join(&folder)).and_then(|open| open.sync_all());
            synced.map_err(|cause| failure(&self.folder, &folder.to_string_lossy(), cause))?;
        }
        Ok(())
    }

    /// A folder where a file must go, or the other way round, is left by other tools or by an earlier
    /// tree. To clear it would take away what the last manifest names, so people decide.
    fn check_nothing_is_in_the_way(&self, plan: &Plan<'_>) -> Result<(), CollectError> {
        let mut folders = BTreeSet::new();
        for Piece { name, .. } in plan.pieces() {
            let path = Path::new(&name);
            if self.folder.join(path).symlink_metadata().is_ok_and(|found| found.is_dir()) {
                return Err(CollectError::InTheWay { path: self.folder.join(path), wanted: name });
            }
            let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            for parent in parents.filter(|parent| folders.insert(parent.to_path_buf())) {
                let found = self.folder.join(parent).symlink_metadata();
                if found.is_ok_and(|found| !found.is_dir()) {
                    return Err(CollectError::InTheWay { path: self.folder.join(parent), wanted: name.clone() });
                }
            }
        }
        Ok(())
    }

    fn remove_what_is_over(
        &self,
        plan: &Plan<'_>,
        old: &Old<'_>,
        ask: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> io::Result<()> {
        let over = old.names().chain(self.originals()?).chain(copies_beside_plain_names(plan));
        let wanted = plan.names();
        let real = fs_err::canonicalize(&self.folder)?;
        for name in over.filter(|name| !wanted.contains(name)) {
            if remove(&real, &name, ask)? {
                self.remove_empty_folders(Path::new(&name));
            }
        }
        Ok(())
    }

    fn remove_empty_folders(&self, name: &Path) {
        for folder in name.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            // One that is not empty stays, and so do those above it.
            if fs_err::remove_dir(self.folder.join(folder)).is_err() {
                break;
            }
        }
    }

    /// What is in the folder of originals now.
    fn originals(&self) -> io::Result<BTreeSet<String>> {
        let entries = match fs_err::read_dir(self.folder.join(manifest::ORIGINALS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries?,
        };
        let name = |name: std::ffi::OsString| Some(format!("{}/{}", manifest::ORIGINALS, name.to_str()?));
        Ok(entries.flatten().filter_map(|entry| name(entry.file_name())).collect())
    }
}

/// What was in the output before.
struct Old<'a> {
    before: Option<&'a Packed>,
    left_behind: &'a BTreeSet<String>,
}

impl Old<'_> {
    /// Everything that the release before and a run that died have put there. What Django or other tools put
    /// there is not ours to remove.
    fn names(&self) -> impl Iterator<Item = String> {
        let files = self.before.into_iter().flat_map(Packed::entries);
        let names = files.flat_map(|(name, entry)| names_of(name, &entry));
        let left = self.before.iter().flat_map(|manifest| &manifest.leaving);
        names.chain(left.chain(self.left_behind).cloned())
    }
}

/// Removes a file of ours, if there is one of that name.
fn remove(real_folder: &Path, name: &str, ask: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<bool> {
    let path = real_folder.join(name);
    let is_there = path.symlink_metadata().is_ok_and(|found| !found.is_dir()) && may_be_removed(real_folder, name);
    if is_there {
        ask(name)?;
        fs_err::remove_file(path)?;
    }
    Ok(is_there)
}

/// Whether a name that a list speaks of is a file of ours below the folder. Whoever may write to the folder may
/// have written the list.
fn may_be_removed(real_folder: &Path, name: &str) -> bool {
    let is_ours = stays_inside(name) && name != manifest::FILE_NAME && !name.starts_with(".vestibule");
    let parent = Path::new(name).parent().map(|parent| real_folder.join(parent));
    is_ours && parent.is_some_and(|parent| fs_err::canonicalize(&parent).is_ok_and(|real| real == parent))
}

/// Compressed copies beside plain files that this run did not make hold older contents, and another server
/// that looks for them by name would send them.
fn copies_beside_plain_names(plan: &Plan<'_>) -> impl Iterator<Item = String> {
    plan.manifest.paths.keys().flat_map(|name| Coding::ALL.map(|coding| Entry::copy_name(name, coding)))
}

/// Makes a folder and those above it, readable for all. What is there already keeps its access rights:
/// people may have chosen them.
fn make_folders(folder: &Path) -> io::Result<()> {
    // The parent of a relative path can be nothing at all, which is where we are.
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(parent)?;
    }
    match fs_err::create_dir(folder) {
        Ok(()) => fs_err::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)),
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;
    use crate::collect::compress::{Compressed, Copies};
    use crate::collect::contents::Contents;
    use crate::collect::name::Output;
    use crate::collect::plan::plan;
    use crate::manifest::Manifest;

    /// A folder for the output and one for the sources.
    struct Bench {
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().expect("a temporary folder") }
        }

        fn output(&self) -> PathBuf {
            self.folder.path().join("out")
        }

        fn target(&self) -> Target {
            Target::lock(&self.output()).expect("a free folder")
        }

        fn content(&self, text: &str) -> Contents {
            let path = self.folder.path().join(text);
            fs_err::write(&path, text).expect("written");
            Contents::on_disk(path).expect("readable")
        }

        /// A file under one or two names, with a copy.
        fn file(&self, hashed: Option<&str>, plain: Option<&str>, text: &str) -> (Output, Copies) {
            let modified = SystemTime::UNIX_EPOCH;
            let names = [hashed, plain].map(|name| name.map(Into::into));
            let [hashed, plain] = names;
            let output = Output { hashed, plain, contents: self.content(text), modified };
            (output, [(Coding::Gzip, 1)].into_iter().collect())
        }

        /// A rewritten stylesheet beside its original, and one without references.
        fn first(&self) -> Compressed {
            release(vec![
                self.file(Some("a.1.css"), None, "first, rewritten"),
                self.file(None, Some("a.css"), "first"),
                self.file(Some("css/b.1.css"), Some("css/b.css"), "b of the first"),
            ])
        }

        /// The second file has lost its copy, and there is a third one.
        fn second(&self) -> Compressed {
            let mut smaller = self.file(Some("css/b.2.css"), Some("css/b.css"), "b of the second");
            smaller.1 = Copies::default();
            release(vec![
                self.file(Some("a.2.css"), None, "second, rewritten"),
                self.file(None, Some("a.css"), "second"),
                smaller,
                self.file(Some("c.2.css"), Some("c.css"), "c"),
            ])
        }

        /// Publishes, but fails at the given change, counted from zero: a power cut, but for the cleaning up.
        fn publish(&self, release: &Compressed, cut_at: Option<usize>) -> (Vec<String>, Result<(), CollectError>) {
            let target = self.target();
            let before = Release::in_output(&target.folder).expect("a sound manifest");
            let staging = Staging::create(&target.folder).expect("a staging folder");
            for (output, copies) in &release.outputs {
                for (coding, _) in copies.iter() {
                    let name = Entry::copy_name(&output.stored(), coding);
                    staging.write(&name, &copy_of(output.contents.size), None).expect("written");
                }
            }
            let mut changes = Vec::new();
            let mut plan = plan(release);
            if let Some(before) = &before {
                plan.let_go(&before.manifest);
            }
            let result = target.publish_in_steps(&plan, &staging, before.as_ref(), &mut |name| {
                if cut_at == Some(changes.len()) {
                    return Err(io::Error::other("cut"));
                }
                changes.push(name.to_owned());
                Ok(())
            });
            if result.is_err() {
                std::mem::forget(staging); // a process that dies cleans nothing up
            }
            (changes, result)
        }

        fn manifest(&self) -> Manifest {
            Manifest::load(&self.output()).expect("a manifest")
        }

        /// Every file but the lock.
        fn files(&self) -> BTreeSet<String> {
            let entries = walkdir::WalkDir::new(self.output()).into_iter().flatten();
            let files = entries.filter(|entry| entry.file_type().is_file());
            let name =
                |path: &Path| path.strip_prefix(self.output()).expect("below").to_str().expect("text").to_owned();
            files.map(|entry| name(entry.path())).filter(|name| name != LOCK).collect()
        }
    }

    fn release(outputs: Vec<(Output, Copies)>) -> Compressed {
        let of = |wanted: &str| {
            let hashed = outputs.iter().filter_map(|(output, _)| output.hashed.as_deref());
            let stem = wanted.trim_end_matches(".css");
            hashed.into_iter().find(|name| name.starts_with(&format!("{stem}."))).unwrap_or(wanted).to_owned()
        };
        let plain = outputs.iter().filter_map(|(output, _)| output.plain.clone());
        let paths = plain.map(|name| (name.clone(), of(&name).into())).collect();
        Compressed { outputs, paths, totals: BTreeMap::new() }
    }

    /// What stands for a compressed copy of a file of that size.
    fn copy_of(size: u64) -> Vec<u8> {
        format!("copy of {size} bytes").into_bytes()
    }

    /// Whether everything that the manifest speaks of is there, with the bytes that it speaks of; and whether no
    /// plain file has the copy of another one beside it.
    fn check_whole(bench: &Bench, at: usize) {
        for name in bench.files().iter().filter(|name| name.ends_with(".gz")) {
            let file = bench.output().join(name.trim_end_matches(".gz"));
            // What is left over has lost its file before.
            let Ok(file) = fs_err::metadata(file) else { continue };
            let copy = fs_err::read(bench.output().join(name)).expect("readable");
            assert_eq!(copy, copy_of(file.len()), "{name} at change {at}");
        }
        for (name, entry) in bench.manifest().files.iter().flatten() {
            let place = entry.location(name);
            let contents = Contents::on_disk(bench.output().join(place));
            let contents = contents.unwrap_or_else(|error| panic!("{name} at change {at}: {error}"));
            assert_eq!(manifest::digits::hex(&contents.fingerprint), entry.sha256, "{name} at change {at}");
            for coding in entry.variants.keys() {
                let copy = bench.output().join(Entry::copy_name(place, *coding));
                assert!(copy.exists(), "{name} at change {at} has lost its {coding}");
            }
        }
    }

    #[test]
    fn whenever_it_stops_one_whole_release_is_there_and_the_next_run_leaves_nothing_over() {
        let clean = Bench::new();
        clean.publish(&clean.first(), None).1.expect("the first release");
        clean.publish(&clean.second(), None).1.expect("the second release");
        let mut change = 0;
        loop {
            let bench = Bench::new();
            bench.publish(&bench.first(), None).1.expect("the first release");
            let before = bench.manifest();
            let (changes, result) = bench.publish(&bench.second(), Some(change));
            let is_published = changes.iter().any(|name| name == manifest::FILE_NAME);
            assert_eq!(bench.manifest() == before, !is_published, "at change {change}");
            check_whole(&bench, change);
            if result.is_ok() {
                assert!(change >= 10, "every file and the manifest are changes, but there were {change}");
                break;
            }
            bench.publish(&bench.first(), None).1.expect("the first release again");
            bench.publish(&bench.first(), None).1.expect("and without the originals of the second");
            bench.publish(&bench.second(), None).1.expect("the second release");
            assert_eq!(bench.files(), clean.files(), "after a cut at change {change}");
            change += 1;
        }
    }

    #[test]
    fn plain_files_come_after_hashed_ones_and_the_manifest_is_last() {
        let bench = Bench::new();
        let (order, result) = bench.publish(&bench.first(), None);
        result.expect("published");
        let home = bench.manifest().files.expect("files")["a.css"].stored.clone().expect("a home");
        let expected = [
            "a.1.css.gz",
            "a.1.css",
            &format!("{home}.gz"),
            &home,
            "css/b.1.css.gz",
            "css/b.1.css",
            "a.css",
            "a.css.gz",
            "css/b.css",
            "css/b.css.gz",
            "staticfiles.json",
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn what_the_next_release_does_not_have_is_removed_and_what_others_put_there_stays() {
        let bench = Bench::new();
        bench.publish(&bench.first(), None).1.expect("the first release");
        fs_err::write(bench.output().join("theirs.txt"), "x").expect("written");
        // What readers of the first release may still ask for goes one release later.
        for _ in 0..2 {
            let second = release(vec![bench.file(Some("c.2.css"), Some("c.css"), "c")]);
            bench.publish(&second, None).1.expect("the second release");
        }
        let files: Vec<_> = bench.files().into_iter().filter(|name| !name.starts_with("vestibule-")).collect();
        assert_eq!(files, ["c.2.css", "c.2.css.gz", "c.css", "c.css.gz", "staticfiles.json", "theirs.txt"]);
        assert!(!bench.output().join("css").exists(), "an empty folder goes too");
    }

    #[test]
    fn the_originals_of_the_last_release_stay_for_one_release_more() {
        let bench = Bench::new();
        let originals = || bench.files().into_iter().filter(|name| name.starts_with("vestibule-")).count();
        bench.publish(&bench.first(), None).1.expect("the first release");
        assert_eq!(originals(), 2);
        bench.publish(&bench.second(), None).1.expect("the second release");
        assert_eq!(originals(), 4);
        bench.publish(&bench.second(), None).1.expect("the second release again");
        assert_eq!(originals(), 2);
    }
}
