//! What `collect` remembers of earlier runs, and that it changes nothing but the time a run takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use vestibule::collect::Summary;
use vestibule::config::values::{ByteSize, Encoding};
use vestibule::http::encoding::Coding;

use crate::support::site::{Site, files_below};

const TEXT: &str = "body { color: black; background: white; margin: 0; padding: 0 } ";

/// A site with texts, with one of them twice, with noise that no codec makes smaller, and with a cache.
fn site(cache: &Path) -> Site {
    let mut state = 1_u32;
    let mut byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..2000).map(&mut byte).collect();
    Site::new()
        .file("a.css", TEXT.repeat(50))
        .file("b.css", format!("@import 'a.css';{}", TEXT.repeat(70)))
        .file("twice/b.css", TEXT.repeat(50))
        .file("noise.bin", noise)
        .file("tiny.css", "a{}")
        .set(|config| config.cache = Some(cache.to_owned()))
}

/// How many copies were made or found: bytes that have several names count once.
fn copies(summary: &Summary) -> usize {
    summary.compression.values().map(|totals| totals.copies).sum()
}

fn published(site: &Site) -> BTreeMap<String, Vec<u8>> {
    files_below(site.output())
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    let names = files_below(&cache.join("copies")).into_keys();
    names.map(|name| cache.join("copies").join(name)).collect()
}

#[test]
fn an_unchanged_tree_is_not_compressed_again_in_any_project() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let (first, second) = (site(&cache), site(&cache));
    let cold = first.collected();
    // a.css and both forms of b.css, in three codings; the tiny file is not even tried.
    assert_eq!((copies(&cold), cold.remembered), (9, 0));
    let kept = entries(&cache);
    assert_eq!(kept.len(), 12, "and that the noise is not worth it");
    for entry in &kept {
        // Were one made anew, it would get another time.
        let file = fs_err::File::options().append(true).open(entry).expect("an entry");
        file.set_modified(SystemTime::now() - Duration::from_hours(1)).expect("a time");
    }
    let times = || kept.iter().map(|entry| fs_err::metadata(entry).unwrap().modified().unwrap()).collect::<Vec<_>>();
    let before = times();
    let warm = second.collected();
    assert_eq!((copies(&warm), warm.remembered), (9, 9));
    assert_eq!((warm.compression, warm.warnings), (cold.compression, Vec::new()));
    assert_eq!(times(), before);
    assert!(published(&first) == published(&second), "the folders differ");
}

#[test]
fn the_output_is_the_same_with_any_cache_and_on_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let without = site(Path::new(""));
    without.collected();
    let expected = published(&without);
    for threads in [1, 4, 1, 3] {
        let site = site(&cache).set(|config| config.threads = threads);
        site.collected();
        assert!(published(&site) == expected, "the folders differ on {threads} threads");
    }
}

#[test]
fn damaged_entries_are_made_anew() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let first = site(&cache);
    first.collected();
    let sound = files_below(&cache.join("copies"));
    for (n, (name, bytes)) in sound.iter().enumerate() {
        let mut damaged = bytes.clone();
        let at = (n * 37) % damaged.len();
        damaged[at] ^= 1 << (n % 8);
        fs_err::write(cache.join("copies").join(name), damaged).expect("written");
    }
    let second = site(&cache);
    let summary = second.collected();
    assert_eq!(summary.remembered, 0);
    let warnings: Vec<&str> = summary.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(warnings, [format!("damaged in the cache, and made anew: {} files", sound.len())]);
    assert!(published(&first) == published(&second), "the folders differ");
    assert!(files_below(&cache.join("copies")) == sound, "not all entries were replaced");
}

#[test]
fn another_level_makes_other_copies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    site(&cache).collected();
    let summary = site(&cache).set(|config| config.gzip_level = 1).collected();
    assert_eq!((copies(&summary), summary.remembered), (9, 6));
}

#[test]
fn another_ratio_decides_anew_about_what_was_not_worth_keeping() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let strict = site(&cache).set(|config| config.keep_ratio = 0.001);
    assert_eq!(copies(&strict.collected()), 0);
    let (late, fresh) = (site(&cache), site(Path::new("")));
    assert_eq!((copies(&late.collected()), copies(&fresh.collected())), (9, 9));
    assert!(published(&late) == published(&fresh), "the folders differ");
    let strict = site(&cache).set(|config| config.keep_ratio = 0.001);
    assert_eq!(copies(&strict.collected()), 0);
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning_and_no_more() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    fs_err::write(&file, "in the way").expect("written");
    let site = site(&file.join("cache"));
    let summary = site.collected();
    assert_eq!(copies(&summary), 9);
    let warnings: Vec<String> = summary.warnings.iter().map(|warning| warning.message.clone()).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("cannot keep compressed copies and deltas for the next run"), "{warnings:?}");
}

#[test]
fn the_cache_stays_within_its_size() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let run = |limit| site(&cache).set(|config| config.cache_size = ByteSize::kibibytes(limit)).collected();
    assert_eq!(run(24).remembered, 0);
    let left = entries(&cache).len();
    assert!((1..=6).contains(&left), "{left} entries of 4 KiB in 24 KiB");
    let again = run(24);
    assert_eq!(copies(&again), 9);
    assert!(entries(&cache).len() <= 6);
}

#[test]
fn three_thousand_small_files_take_no_more_than_their_share() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new().set(|config| {
        config.cache = Some(folder.path().join("cache"));
        config.encodings = vec![Encoding::Gzip];
    });
    for n in 0..3000 {
        site = site.file(&format!("{}/{n}.txt", n % 70), format!("{n} {}", "x".repeat(n % 90)));
    }
    // A step that looks at all files for each file would take longer than a test may.
    assert_eq!(site.collected().files, 3000);
    site.config.output = Some(folder.path().join("second"));
    let warm = site.collected();
    assert_eq!(warm.remembered, copies(&warm));
    assert!(warm.compression[&Coding::Gzip].copies > 1000);
}
