//! Which deltas to make, and making them on all threads: for each hashed file, from the versions of it that
//! earlier releases used and this one carries.
//!
//! A delta is written into the staging folder as soon as it is made, so that memory holds one old and one new
//! file for each thread. One that the release before has already is taken over. This is the last step before
//! publishing, since it needs to know what is carried.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;

use super::Workshop;
use super::cache::{Answer, Cache, Key};
use super::carry::Carriage;
use super::codecs;
use super::compress::{Compressed, Totals};
use super::contents::Contents;
use super::delta::{self, Dictionary};
use super::error::CollectError;
use super::fingerprint::fingerprint;
use super::name::Output;
use super::name_set::NameSet;
use super::plan::Plan;
use crate::config::CollectConfig;
use crate::config::values::Encoding;
use crate::http::encoding::DictionaryCoding;
use crate::manifest::Entry;
use crate::manifest::digits::hex;
use crate::manifest::packed::Packed;

/// Makes them, and enters them into the plan.
pub(super) fn add(
    plan: &mut Plan<'_>,
    compressed: &Compressed,
    carriage: &Carriage,
    output: &Path,
    workshop: &Workshop<'_>,
) -> Result<Totals, CollectError> {
    let Workshop { config, cache, staging, progress, .. } = workshop;
    if !config.deltas {
        return Ok(Totals::default());
    }
    name_dictionaries(&mut plan.manifest);
    let wanted = wanted(&plan.manifest, carriage, config);
    let taken = if wanted.is_empty() { NameSet::default() } else { plan.names() };
    let (present, mut tasks): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        // The name belongs to a file of the sources.
        .filter(|delta| !taken.contains(&delta.name()))
        .partition(|delta| delta.size_before(carriage).is_some());
    tasks.sort_by_key(|delta| (Reverse(delta.work()), delta.name()));
    progress.go_on("making deltas", tasks.iter().map(Delta::work).sum());
    let files: BTreeSet<&str> = tasks.iter().map(|task| task.file.as_str()).collect();
    let outputs = compressed.outputs.iter().filter_map(|(output, _)| Some((output.hashed.as_deref()?, output)));
    let outputs: BTreeMap<String, &Output> =
        outputs.filter(|(name, _)| files.contains(name)).map(|(name, output)| (name.to_owned(), output)).collect();
    let made: Vec<(Delta, u64)> = tasks
        .into_iter()
        .par_bridge()
        .map(|task| {
            let output = outputs[&task.file];
            let delta = task.make(&output.contents, carriage, config, cache)?;
            progress.advance(task.work());
            let Some(delta) = delta else { return Ok(None) };
            staging.write(&task.name(), &delta, output.modified)?;
            Ok(Some((task, delta.len() as u64)))
        })
        .filter_map(Result::transpose)
        .collect::<Result<_, CollectError>>()?;
    let present = present.into_iter().filter_map(|delta| Some((delta.size_before(carriage)?, delta)));
    plan.add_deltas(made, present.map(|(size, delta)| (delta, size)).collect(), carriage, output);
    Ok(totals(&plan.manifest))
}

/// One to make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Delta {
    /// The hashed name of the new file.
    pub(super) file: String,
    pub(super) coding: DictionaryCoding,
    /// The SHA-256 of the old one.
    pub(super) dictionary: String,
    /// The hashed name of the old one.
    old: String,
    sizes: (u64, u64),
    /// Larger than this it is not worth keeping.
    limit: u64,
}

impl Delta {
    /// The name under which it goes out.
    pub(super) fn name(&self) -> String {
        Entry::delta_name(&self.file, &self.dictionary, self.coding)
    }

    /// Both versions are read.
    fn work(&self) -> u64 {
        self.sizes.0 + self.sizes.1
    }

    /// Its size in the release before, if that has it and it is worth keeping by now.
    fn size_before(&self, carriage: &Carriage) -> Option<u64> {
        let size = *carriage.deltas.get(&self.file)?.get(&self.dictionary)?.get(&self.coding)?;
        (size <= self.limit).then_some(size)
    }

    fn make(
        &self,
        new: &Contents,
        carriage: &Carriage,
        config: &CollectConfig,
        cache: &Cache,
    ) -> Result<Option<Vec<u8>>, CollectError> {
        let old = fs_err::read(carriage.folder.join(&self.old)).map_err(CollectError::Unreadable)?;
        let fingerprint = fingerprint(&old);
        // Somebody has changed the file. What browsers have of it is something else.
        if hex(&fingerprint) != self.dictionary {
            return Ok(None);
        }
        let level = match self.coding {
            DictionaryCoding::Brotli => config.brotli_level,
            DictionaryCoding::Zstd => config.zstd_level,
        };
        let dictionary = Dictionary { bytes: &old, fingerprint: &fingerprint };
        let bytes = new.read()?;
        let recipe = format!("{} level {level} by {}", self.coding.token(), codecs::releases());
        let key = Key::new("delta", &[&fingerprint, &new.fingerprint, recipe.as_bytes()]);
        let is_sound = |delta: &[u8]| delta::is_sound(self.coding, delta, dictionary, &bytes);
        match cache.find(&key, self.limit, is_sound) {
            Some(Answer::Copy(delta)) => return Ok(Some(delta)),
            Some(Answer::NotWorthKeeping(size)) if size > self.limit => return Ok(None),
            Some(Answer::NotWorthKeeping(_)) | None => {}
        }
        let delta = delta::make(self.coding, dictionary, &bytes, level);
        let delta = delta.map_err(|cause| CollectError::Compress { name: self.file.clone(), cause })?;
        // One that cannot be made is as good as too large.
        let size = delta.as_ref().map_or(u64::MAX, |delta| delta.len() as u64);
        let delta = delta.filter(|_| size <= self.limit);
        cache.keep(&key, &delta.as_deref().map_or(Answer::NotWorthKeeping(size), Answer::Copy));
        Ok(delta)
    }
}

/// Lets every file that takes part be a dictionary for its later versions.
fn name_dictionaries(manifest: &mut Packed) {
    let Some(files) = &mut manifest.files else { return };
    for (plain, hashed) in manifest.paths.iter().filter(|(plain, hashed)| plain != hashed) {
        if files.get(hashed).is_some_and(|entry| delta::takes_part(hashed, &entry)) {
            files.update(hashed, |entry| entry.dictionary_for = Some(delta::pattern(plain)));
        }
    }
}

/// Every delta that may be worth making.
fn wanted(manifest: &Packed, carriage: &Carriage, config: &CollectConfig) -> Vec<Delta> {
    let codings: BTreeSet<DictionaryCoding> =
        config.encodings.iter().filter_map(|encoding| coding_of(*encoding)).collect();
    let mut wanted = Vec::new();
    let versions = versions(carriage, config.delta_versions);
    for (plain, file) in &manifest.paths {
        let Some(versions) = versions.get(&**plain) else { continue };
        let Some(entry) = manifest.entry(file).filter(|entry| entry.dictionary_for.is_some()) else { continue };
        let Some(limit) = limit(&entry, config.delta_ratio) else { continue };
        for (old, old_entry) in versions {
            wanted.extend(codings.iter().map(|&coding| Delta {
                file: file.as_ref().to_owned(),
                coding,
                dictionary: old_entry.sha256.clone(),
                old: (*old).to_owned(),
                sizes: (old_entry.size, entry.size),
                limit,
            }));
        }
    }
    // Two dictionaries whose hashes begin alike would share a name.
    let mut names = BTreeSet::new();
    wanted.retain(|delta| fits(&delta.name()) && names.insert(delta.name()));
    wanted
}

/// Whether file systems take the name, which is longer than that of its file.
fn fits(name: &str) -> bool {
    const LONGEST: usize = 255;
    name.rsplit('/').next().is_some_and(|base_name| base_name.len() <= LONGEST)
}

/// The earlier versions of each file that browsers keep as dictionaries, the newest first.
fn versions(carriage: &Carriage, count: u32) -> BTreeMap<&str, Vec<(&str, &Entry)>> {
    let mut versions: BTreeMap<&str, Vec<(&str, &Entry)>> = BTreeMap::new();
    for (name, entry) in &carriage.kept {
        let Some(carried) = &entry.carried else { continue };
        // A browser that was not told so has the file, but not as a dictionary.
        if entry.dictionary_for.is_some() && delta::takes_part(name, entry) {
            versions.entry(&carried.plain).or_default().push((name, entry));
        }
    }
    let age = |entry: &Entry| entry.carried.as_ref().map(|carried| (carried.releases, Reverse(carried.since)));
    for versions in versions.values_mut() {
        versions.sort_by_key(|(name, entry)| (age(entry), *name));
        versions.truncate(count as usize);
    }
    versions
}

/// The largest size at which a delta is worth keeping: smaller than the smallest copy, by the ratio at least.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a file has less than 2^52 bytes, and the ratio lies between 0 and 1"
)]
fn limit(entry: &Entry, ratio: f64) -> Option<u64> {
    let smallest = *entry.variants.values().min()?;
    Some(((smallest as f64 * ratio) as u64).min(smallest.saturating_sub(1)))
}

fn coding_of(encoding: Encoding) -> Option<DictionaryCoding> {
    match encoding {
        Encoding::Brotli => Some(DictionaryCoding::Brotli),
        Encoding::Zstd => Some(DictionaryCoding::Zstd),
        Encoding::Gzip => None,
    }
}

/// What the smallest deltas save over the smallest copies.
fn totals(manifest: &Packed) -> Totals {
    let mut totals = Totals::default();
    for (_, entry) in manifest.entries().filter(|(_, entry)| entry.carried.is_none()) {
        let Some(copy) = entry.variants.values().min() else { continue };
        for delta in entry.deltas.values().filter_map(|sizes| sizes.values().min()) {
            totals.copies += 1;
            totals.before += copy;
            totals.after += delta;
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::encoding::Coding;
    use crate::manifest::{Carried, Clock, Manifest};

    fn entry(digit: u8, carried: Option<Carried>) -> Entry {
        Entry {
            size: 10_000,
            sha256: hex(&[digit; 32]),
            is_immutable: true,
            variants: [(Coding::Gzip, 3000), (Coding::Brotli, 2000)].into(),
            dictionary_for: carried.as_ref().map(|_| "app.*.js".into()),
            carried,
            ..Entry::default()
        }
    }

    fn carried(plain: &str, releases: u32, since: u64) -> Option<Carried> {
        Some(Carried { plain: plain.into(), release: String::new(), releases, since, clock: Clock::Machine })
    }

    fn carriage() -> Carriage {
        let kept = [
            ("app.1.js", entry(1, carried("app.js", 3, 100))),
            ("app.2.js", entry(2, carried("app.js", 2, 200))),
            ("app.3.js", entry(3, carried("app.js", 1, 300))),
            ("app.4.js", entry(4, carried("app.js", 1, 250))), // two runs of the same release
            ("other.1.js", entry(5, carried("other.js", 1, 300))),
            ("app.5.js", Entry { variants: [].into(), ..entry(6, carried("app.js", 1, 400)) }),
            ("app.6.js", Entry { dictionary_for: None, ..entry(7, carried("app.js", 1, 500)) }),
        ];
        Carriage { kept: kept.map(|(name, entry)| (name.to_owned(), entry)).into(), ..Carriage::default() }
    }

    fn next() -> Packed {
        let files = [("app.9.js", entry(9, None)), ("app.js", Entry { is_immutable: false, ..entry(9, None) })];
        Manifest {
            paths: [("app.js".to_owned(), "app.9.js".to_owned()), ("x.png".to_owned(), "x.png".to_owned())].into(),
            files: Some(files.map(|(name, entry)| (name.to_owned(), entry)).into()),
            ..Manifest::default()
        }
        .into()
    }

    #[test]
    fn a_hashed_file_is_a_dictionary_for_its_later_versions() {
        let mut manifest = next();
        name_dictionaries(&mut manifest);
        let dictionary_for = |name| manifest.entry(name).expect("an entry").dictionary_for;
        assert_eq!(dictionary_for("app.9.js").as_deref(), Some("app.*.js"));
        assert_eq!(dictionary_for("app.js"), None);
    }

    #[test]
    fn the_newest_versions_come_first_and_others_have_none_in_common() {
        let carriage = carriage();
        let names = |count| versions(&carriage, count)["app.js"].iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(16), ["app.3.js", "app.4.js", "app.2.js", "app.1.js"]);
        assert_eq!(names(2), ["app.3.js", "app.4.js"]);
    }

    #[test]
    fn there_is_one_for_each_version_and_each_coding_that_is_made_anyway() {
        let mut manifest = next();
        name_dictionaries(&mut manifest);
        let names =
            |config: &CollectConfig| wanted(&manifest, &carriage(), config).iter().map(Delta::name).collect::<Vec<_>>();
        let mut config = CollectConfig { delta_versions: 2, ..CollectConfig::default() };
        let expected = ["030303030303.dcb", "030303030303.dcz", "040404040404.dcb", "040404040404.dcz"];
        assert_eq!(names(&config), expected.map(|end| format!("app.9.js.{end}")));
        config.encodings = vec![Encoding::Gzip, Encoding::Zstd];
        assert_eq!(names(&config), ["app.9.js.030303030303.dcz", "app.9.js.040404040404.dcz"]);
        config.encodings = vec![Encoding::Gzip];
        assert_eq!(names(&config), [""; 0]);
    }

    #[test]
    fn a_delta_must_save_something_over_the_smallest_copy() {
        for (ratio, expected) in [(0.8, 1600), (1.0, 1999), (0.0001, 0)] {
            assert_eq!(limit(&entry(1, None), ratio), Some(expected), "for {ratio}");
        }
        assert_eq!(limit(&Entry::default(), 0.8), None);
    }
}
