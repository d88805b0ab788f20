//! Which hashed files of the release before stay, because pages of that release still ask for them.
//!
//! Each deploy overlaps with the one before it: in browsers' tabs, in caches, on the other servers. So a
//! file that goes out of use is stamped with the last release that used it and carried over, until more
//! releases or more time have gone by than the operator wants.
//!
//! This is the only step that reads an earlier output. A release is known by the hash of its names, and
//! time goes in from outside: the same sources after the same release give the same output.
//!
//! A release may be dated by `SOURCE_DATE_EPOCH`, and the next one by the machine's clock. Between two clocks no time
//! goes by that would mean anything, so that a stamp by the other one is set anew: a file may then stay for
//! longer, and never for less, and the number of releases still ends it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::codecs;
use super::contents::Contents;
use super::error::CollectError;
use super::plan::{entry, names_of};
use crate::config::CollectConfig;
use crate::finding::{Finding, Rule};
use crate::http::encoding::{Coding, DictionaryCoding};
use crate::manifest::digits::{hex, sha256_of};
use crate::manifest::json::ManifestError;
use crate::manifest::packed::{Copies, Packed};
use crate::manifest::{Carried, Clock, Entry};

/// An earlier output.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) folder: PathBuf,
    pub(super) manifest: Packed,
}

/// As in [`Entry::deltas`].
pub(super) type Deltas = BTreeMap<String, BTreeMap<DictionaryCoding, u64>>;

/// What stays of it.
#[derive(Debug, Default)]
pub(super) struct Carriage {
    /// Where the files are now.
    pub(super) folder: PathBuf,
    /// By hashed name.
    pub(super) kept: BTreeMap<String, Entry>,
    /// The deltas of files that are still in use, by hashed name.
    pub(super) deltas: BTreeMap<String, Deltas>,
    /// How many files were given up for their age.
    pub(super) dropped: usize,
    /// What is wrong with files that would have stayed.
    pub(super) findings: Vec<Finding>,
}

/// For how long files are kept once they are out of use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) releases: u32,
    pub(super) span: Duration,
    pub(super) now: Now,
}

/// When a release is made.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The time.
    pub time: SystemTime,
    /// Who says so.
    pub clock: Clock,
}

impl From<SystemTime> for Now {
    fn from(time: SystemTime) -> Self {
        Self { time, clock: Clock::Machine }
    }
}

impl Limits {
    pub(super) fn new(config: &CollectConfig, now: Now) -> Self {
        Self { releases: config.keep_releases, span: config.keep_for.0, now }
    }

    fn seconds_now(&self) -> u64 {
        self.now.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    fn has_passed(&self, carried: &Carried) -> bool {
        let age = Duration::from_secs(self.seconds_now().saturating_sub(carried.since));
        carried.releases > self.releases || age > self.span
    }
}

impl Release {
    /// The release in an output folder, if there is one.
    pub(super) fn in_output(folder: &Path) -> Result<Option<Self>, CollectError> {
        match Packed::load(folder) {
            Ok(manifest) => Ok(Some(Self { folder: folder.to_owned(), manifest })),
            Err(ManifestError::Missing(_)) => Ok(None),
            Err(error) => Err(CollectError::Previous(error)),
        }
    }

    /// The release in a folder that was named for it, so that there must be one.
    pub(super) fn named(folder: &Path) -> Result<Self, CollectError> {
        let manifest = Packed::load(folder).map_err(|error| match error {
            ManifestError::Missing(folder) => CollectError::NoPrevious(folder),
            error => CollectError::Previous(error),
        })?;
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// Django's manifest, or WhiteNoise's, has names only.
    fn entries_of_django(&self) -> Result<BTreeMap<String, Entry>, CollectError> {
        let mut entries = BTreeMap::new();
        for name in self.manifest.paths.iter().filter(|(plain, name)| plain != name).map(|(_, name)| name) {
            let path = self.folder.join(&**name);
            if path.is_file() {
                let copy = |coding: Coding| {
                    let copy = fs_err::metadata(self.folder.join(Entry::copy_name(name, coding))).ok()?;
                    copy.is_file().then_some((coding, copy.len()))
                };
                let copies: Copies = Coding::ALL.into_iter().filter_map(copy).collect();
                let entry = entry(name, &Contents::on_disk(path)?, copies);
                entries.insert(name.as_ref().to_owned(), Entry { is_immutable: true, ..entry });
            }
        }
        Ok(entries)
    }

    /// What was changed in place must not go on under a name that stands for other bytes.
    fn is_whole(&self, name: &str, entry: &Entry) -> bool {
        Contents::on_disk(self.folder.join(name)).is_ok_and(|found| hex(&found.fingerprint) == entry.sha256)
    }

    /// Whether a copy decodes to its file.
    fn has_copy(&self, name: &str, coding: Coding, sha256: &str, size: u64) -> bool {
        let copy = fs_err::read(self.folder.join(Entry::copy_name(name, coding)));
        let fingerprint = sha256_of(sha256);
        copy.ok().zip(fingerprint).is_some_and(|(copy, of)| codecs::decodes_to(&copy, coding, size, &of))
    }

    /// The files that stay in `next`.
    pub(super) fn carry_into(&self, next: &Packed, limits: Limits) -> Result<Carriage, CollectError> {
        let mut carriage = Carriage { folder: self.folder.clone(), ..Carriage::default() };
        if limits.releases == 0 {
            return Ok(carriage);
        }
        let loading = Loading {
            release: self,
            next,
            limits,
            plain_names: self.manifest.paths.iter().map(|(plain, hashed)| (&**hashed, &**plain)).collect(),
            name: self.manifest.release(),
            is_new_release: self.manifest.release() != next.release(),
        };
        match &self.manifest.files {
            Some(files) => files
                .iter()
                .filter(|(_, entry)| entry.is_immutable)
                .for_each(|(name, entry)| loading.load(name, entry, &mut carriage)),
            None => self
                .entries_of_django()?
                .into_iter()
                .for_each(|(name, entry)| loading.load(&name, entry, &mut carriage)),
        }
        Ok(carriage)
    }
}

/// What decides for each file of a release whether it stays.
struct Loading<'a> {
    release: &'a Release,
    next: &'a Packed,
    limits: Limits,
    /// By hashed name.
    plain_names: BTreeMap<&'a str, &'a str>,
    /// Of the release.
    name: String,
    is_new_release: bool,
}

impl Loading<'_> {
    /// Looks at a file with a hash in its name that the release used or carried itself.
    fn load(&self, name: &str, entry: Entry, carriage: &mut Carriage) {
        let is_the_same = is_the_same(self.next, name, &entry);
        // Most files are the same in the next release, and of these no more than the deltas is asked for.
        if is_the_same && entry.deltas.is_empty() {
            return;
        }
        let path = || self.release.folder.join(name);
        let listed = entry.variants.len();
        let Some(mut entry) = still_there(&self.release.folder, name, entry) else {
            if !is_the_same {
                carriage.findings.push(damaged(&path(), name));
            }
            return;
        };
        if is_the_same {
            carriage.deltas.insert(name.to_owned(), entry.deltas);
            return;
        }
        if is_used(self.next, name, &entry) {
            return;
        }
        let plain = self.plain_names.get(name).copied();
        let carried = stamp(entry.carried.take(), plain, &self.name, self.is_new_release, self.limits);
        match carried.filter(|carried| !self.limits.has_passed(carried)) {
            Some(_) if !self.release.is_whole(name, &entry) => carriage.findings.push(damaged(&path(), name)),
            Some(carried) => {
                entry.variants.retain(|coding, _| self.release.has_copy(name, *coding, &entry.sha256, entry.size));
                if entry.variants.len() < listed {
                    let message = "a compressed copy of it is gone or damaged, and is not kept";
                    carriage.findings.push(Finding::warning(Rule::Discrepancy, name, message).on_disk(path()));
                }
                carriage.kept.insert(name.to_owned(), Entry { carried: Some(carried), ..entry });
            }
            None => carriage.dropped += 1,
        }
    }
}

/// Pages of the release before will not find it.
fn damaged(path: &Path, name: &str) -> Finding {
    let message =
        "it is gone, or has other bytes than the release before says, so it is not kept for pages of that release";
    Finding::warning(Rule::Discrepancy, name, message).on_disk(path)
}

/// Whether the new release has something under one of the file's names.
fn is_used(next: &Packed, name: &str, entry: &Entry) -> bool {
    names_of(name, entry).iter().any(|name| next.files.as_ref().is_some_and(|files| files.contains(name)))
}

/// Whether the new release has the very file.
fn is_the_same(next: &Packed, name: &str, entry: &Entry) -> bool {
    next.entry(name).is_some_and(|same| same.sha256 == entry.sha256)
}

/// The stamp of a file that the next release does not use. A run that changes no name is no new release.
fn stamp(
    carried: Option<Carried>,
    plain: Option<&str>,
    release: &str,
    is_new_release: bool,
    limits: Limits,
) -> Option<Carried> {
    match carried {
        Some(carried) => {
            let is_of_this_clock = carried.clock == limits.now.clock;
            let since = if is_of_this_clock { carried.since } else { limits.seconds_now() };
            let releases = carried.releases + u32::from(is_new_release);
            Some(Carried { releases, since, clock: limits.now.clock, ..carried })
        }
        None => Some(Carried {
            plain: plain?.to_owned(),
            release: release.to_owned(),
            releases: 1,
            since: limits.seconds_now(),
            clock: limits.now.clock,
        }),
    }
}

/// The entry without the copies and deltas that are gone; nothing if the file itself is.
fn still_there(folder: &Path, name: &str, mut entry: Entry) -> Option<Entry> {
    let has = |name: &str, size: u64| {
        fs_err::metadata(folder.join(name)).is_ok_and(|found| found.is_file() && found.len() == size)
    };
    if !has(name, entry.size) {
        return None;
    }
    entry.variants.retain(|coding, size| has(&Entry::copy_name(name, *coding), *size));
    for (dictionary, sizes) in &mut entry.deltas {
        sizes.retain(|coding: &DictionaryCoding, size| has(&Entry::delta_name(name, dictionary, *coding), *size));
    }
    entry.deltas.retain(|_, sizes| !sizes.is_empty());
    Some(entry)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write as _;

    use super::*;
    use crate::collect::fingerprint::fingerprint;
    use crate::manifest::Manifest;

    const DAY: u64 = 86400;

    fn limits(releases: u32, days: u64, now: u64) -> Limits {
        let now = (UNIX_EPOCH + Duration::from_secs(now)).into();
        Limits { releases, span: Duration::from_secs(days * DAY), now }
    }

    /// An output folder with one file for each pair of a plain and a hashed name.
    fn release(names: &[(&str, &str)]) -> (tempfile::TempDir, Release) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let manifest = manifest(names);
        for name in manifest.files.iter().flatten().map(|(name, _)| name) {
            fs_err::write(folder.path().join(name), "x").expect("written");
        }
        let release = Release { folder: folder.path().to_owned(), manifest: manifest.into() };
        (folder, release)
    }

    fn packed(names: &[(&str, &str)]) -> Packed {
        manifest(names).into()
    }

    fn manifest(names: &[(&str, &str)]) -> Manifest {
        let file = |(_, name): &(&str, &str)| {
            (
                (*name).to_owned(),
                Entry { size: 1, sha256: hex(&fingerprint(b"x")), is_immutable: true, ..Entry::default() },
            )
        };
        Manifest {
            paths: names.iter().map(|(plain, name)| ((*plain).to_owned(), (*name).to_owned())).collect(),
            files: Some(names.iter().map(file).collect()),
            leaving: BTreeSet::new(),
            rewriting: None,
        }
    }

    /// What the next release is, once the files that stay are in it.
    fn with_carried(next: &Packed, carriage: &Carriage) -> Packed {
        let mut next = next.clone();
        let kept = carriage.kept.iter().map(|(name, entry)| (name.as_str().into(), entry.clone()));
        next.files.as_mut().expect("files").extend(kept);
        next
    }

    #[test]
    fn a_file_out_of_use_is_stamped_once_and_grows_older_with_each_release() {
        let (_folder, mut release) = release(&[("a.css", "a.1.css"), ("b.css", "b.1.css")]);
        let first = release.manifest.release();
        for (n, (hashed, now)) in [("a.2.css", 100), ("a.3.css", 200), ("a.4.css", 300)].into_iter().enumerate() {
            let next = packed(&[("a.css", hashed), ("b.css", "b.1.css")]);
            fs_err::write(release.folder.join(hashed), "x").expect("written");
            let carriage = release.carry_into(&next, limits(10, 30, now)).expect("carried");
            let carried = carriage.kept["a.1.css"].carried.clone().expect("a stamp");
            let releases = u32::try_from(n).expect("small") + 1;
            assert_eq!(
                carried,
                Carried { plain: "a.css".into(), release: first.clone(), releases, since: 100, clock: Clock::Machine }
            );
            assert!(!carriage.kept.contains_key("b.1.css"), "it is in use");
            release.manifest = with_carried(&next, &carriage);
        }
        assert_eq!(release.manifest.files.map_or(0, |files| files.len()), 5);
    }

    #[test]
    fn a_run_without_any_change_ages_nothing() {
        let (_folder, mut release) = release(&[("a.css", "a.1.css")]);
        let next = packed(&[("a.css", "a.2.css")]);
        fs_err::write(release.folder.join("a.2.css"), "x").expect("written");
        let carriage = release.carry_into(&next, limits(10, 30, 100)).expect("carried");
        release.manifest = with_carried(&next, &carriage);
        let again = release.carry_into(&next, limits(10, 30, 500)).expect("carried");
        assert_eq!(again.kept, carriage.kept);
    }

    #[test]
    fn a_file_goes_after_so_many_releases_or_so_much_time() {
        let carried = |releases, since| Carried {
            plain: "a".into(),
            release: "r".into(),
            releases,
            since,
            clock: Clock::Machine,
        };
        for (carried, limits, expected) in [
            (carried(1, 0), limits(1, 1, 0), false),
            (carried(2, 0), limits(1, 1, 0), true),
            (carried(1, 0), limits(1, 1, DAY), false),
            (carried(1, 0), limits(1, 1, DAY + 1), true),
            (carried(1, 500), limits(1, 1, 0), false), // the clock went back
        ] {
            assert_eq!(limits.has_passed(&carried), expected, "for {carried:?} at {limits:?}");
        }
    }

    #[test]
    fn between_two_clocks_no_file_grows_too_old() {
        let years = 365 * DAY;
        let source_date = |seconds: u64| {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            Limits { now: Now { time, clock: Clock::SourceDate }, ..limits(10, 30, 0) }
        };
        // A commit of years ago, today, a commit of years to come, and again, each a day after the one before.
        let dates = [
            source_date(20 * years),
            limits(10, 30, 50 * years),
            source_date(70 * years),
            limits(10, 30, 50 * years + DAY),
            source_date(20 * years),
            limits(10, 30, 50 * years + 2 * DAY),
        ];
        let (_folder, mut release) = release(&[("a.css", "a.1.css")]);
        for (n, limits) in dates.into_iter().enumerate() {
            let hashed = format!("a.{}.css", n + 2);
            let next = packed(&[("a.css", &hashed)]);
            fs_err::write(release.folder.join(&hashed), "x").expect("written");
            let carriage = release.carry_into(&next, limits).expect("carried");
            assert_eq!((carriage.kept.len(), carriage.dropped), (n + 1, 0), "release {}", n + 2);
            let carried = carriage.kept["a.1.css"].carried.as_ref().expect("a stamp");
            assert_eq!((carried.since, carried.clock), (limits.seconds_now(), limits.now.clock));
            release.manifest = with_carried(&next, &carriage);
        }
        // By one clock, time goes by as always.
        let next = packed(&[("a.css", "a.7.css")]);
        let carriage = release.carry_into(&next, limits(10, 30, 50 * years + 40 * DAY)).expect("carried");
        assert_eq!((carriage.kept.len(), carriage.dropped), (0, 6));
    }

    #[test]
    fn zero_releases_carry_nothing() {
        let (_folder, release) = release(&[("a.css", "a.1.css")]);
        let carriage = release.carry_into(&packed(&[]), limits(0, 30, 0)).expect("carried");
        assert!(carriage.kept.is_empty() && carriage.dropped == 0);
    }

    #[test]
    fn what_comes_into_use_again_loses_its_stamp() {
        let (_folder, mut release) = release(&[("a.css", "a.1.css")]);
        let second = packed(&[("a.css", "a.2.css")]);
        let carriage = release.carry_into(&second, limits(10, 30, 0)).expect("carried");
        release.manifest = with_carried(&second, &carriage);
        let third = packed(&[("a.css", "a.1.css")]);
        assert!(!release.carry_into(&third, limits(10, 30, 0)).expect("carried").kept.contains_key("a.1.css"));
    }

    #[test]
    fn a_file_that_is_gone_or_cut_is_not_carried_and_a_lost_copy_is_forgotten() {
        let (folder, mut release) = release(&[("a.css", "a.1.css"), ("b.css", "b.1.css"), ("c.css", "c.1.css")]);
        fs_err::remove_file(folder.path().join("a.1.css")).expect("removed");
        fs_err::write(folder.path().join("b.1.css"), "longer").expect("written");
        let files = release.manifest.files.as_mut().expect("files");
        files.update("c.1.css", |entry| {
            entry.variants.insert(Coding::Gzip, 9);
        });
        let carriage = release.carry_into(&packed(&[]), limits(1, 1, 0)).expect("carried");
        assert_eq!(carriage.kept.keys().collect::<Vec<_>>(), ["c.1.css"]);
        assert!(carriage.kept["c.1.css"].variants.is_empty());
        let told: Vec<_> = carriage.findings.iter().map(|finding| finding.file.as_str()).collect();
        assert_eq!(told, ["a.1.css", "b.1.css", "c.1.css"]);
    }

    #[test]
    fn the_hashed_files_of_a_manifest_by_django_are_carried_with_their_copies() {
        let (folder, mut release) = release(&[("a.css", "a.1.css"), ("b.css", "b.css")]);
        let mut copy = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        copy.write_all(b"x").expect("a vector takes everything");
        let copy = copy.finish().expect("a copy");
        fs_err::write(folder.path().join("a.1.css.gz"), &copy).expect("written");
        fs_err::write(folder.path().join("a.1.css.br"), "damaged").expect("written");
        release.manifest.files = None;
        let carriage = release.carry_into(&packed(&[]), limits(1, 1, 0)).expect("carried");
        assert_eq!(carriage.kept.keys().collect::<Vec<_>>(), ["a.1.css"]);
        let entry = &carriage.kept["a.1.css"];
        assert_eq!(
            (entry.size, entry.sha256.len(), &entry.variants),
            (1, 64, &[(Coding::Gzip, copy.len() as u64)].into())
        );
    }
}
