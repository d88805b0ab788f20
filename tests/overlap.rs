//! Deploys that overlap: files of earlier releases stay, and at any moment there is one whole release.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use vestibule::collect::{CollectError, Summary, collect};
use vestibule::config::values::{HumanDuration, UrlPrefix};
use vestibule::http::encoding::Coding;
use vestibule::manifest::Manifest;
use vestibule::manifest::digits::hex;
use vestibule::serve::Order;

use crate::support::client::get;
use crate::support::server::TestServer;
use crate::support::site::{Site, files_below};
use crate::support::until;

const DAY: u64 = 86400;
const TEXT: &str = "body { color: black; background: white; margin: 0; padding: 0 } ";

/// Publishes at this time, in seconds since 1970.
fn collected_at(site: &Site, seconds: u64) -> Summary {
    let now = UNIX_EPOCH + Duration::from_secs(seconds);
    collect(&site.config, &UrlPrefix::default(), now).unwrap_or_else(|error| panic!("{error}"))
}

/// One release after another, each with another content of `a.css`; gives the hashed names.
fn releases(site: Site, contents: &[&str], seconds: u64) -> (Site, Vec<String>) {
    let mut site = site;
    let mut names = Vec::new();
    for content in contents {
        site = site.file("a.css", content.repeat(20));
        collected_at(&site, seconds);
        names.push(site.hashed("a.css"));
    }
    (site, names)
}

fn is_there(site: &Site, names: &[String]) -> Vec<bool> {
    names.iter().map(|name| site.output().join(name).exists()).collect()
}

// ---- carried files

#[tokio::test]
async fn files_of_an_earlier_release_are_served_as_immutable_until_they_are_dropped() {
    let (site, mut names) = releases(Site::new().set(|config| config.keep_releases = 1), &["a{}"], 0);
    let config = format!("[listen]\nhttp = [\"127.0.0.1:0\"]\n[static]\ndirectory = {:?}\n", site.output());
    let server = TestServer::start(&config).await;
    for (contents, expected) in [("b{}", vec![200, 200]), ("c{}", vec![404, 200, 200])] {
        let (_, newest) = releases(site_of(&site), &[contents], 0);
        names.extend(newest);
        server.order(Order::Reload).await;
        let last = format!("/static/{}", names.last().unwrap());
        until(|| async { get(server.address(), &last, "").await.status == 200 }).await;
        for (name, status) in names.iter().zip(expected) {
            let answer = get(server.address(), &format!("/static/{name}"), "Accept-Encoding: br\r\n").await;
            assert_eq!(answer.status, status, "for {name}");
            if status == 200 {
                assert_eq!(answer.header("cache-control"), Some("max-age=315360000, public, immutable"), "for {name}");
                assert_eq!(answer.header("content-encoding"), Some("br"), "copies are carried too");
            }
        }
    }
}

/// The same sources and output once more; the folder belongs to the first.
fn site_of(site: &Site) -> Site {
    let folder = site.config.clone();
    Site::at(site.path("."), folder)
}

#[test]
fn a_file_is_kept_for_so_many_releases() {
    let site = Site::new().set(|config| config.keep_releases = 2);
    let (site, names) = releases(site, &["a{}", "b{}", "c{}", "d{}"], 0);
    // What goes stays for one run more, for servers that have not been reloaded.
    assert!(is_there(&site, &names)[0] && site.manifest().leaving.contains(&names[0]));
    collected_at(&site, 0);
    assert_eq!(is_there(&site, &names), [false, true, true, true]);
    assert!(!site.output().join(format!("{}.gz", names[0])).exists(), "its copies go with it");
    let files = site.manifest().files.unwrap();
    let carried = files[&names[1]].carried.clone().unwrap();
    assert_eq!((carried.plain.as_str(), carried.releases, carried.since), ("a.css", 2, 0));
}

#[test]
fn a_file_is_kept_for_so_much_time() {
    let site = Site::new().set(|config| config.keep_for = HumanDuration::seconds(10 * DAY));
    let (site, names) = releases(site, &["a{}", "b{}"], 0);
    assert_eq!(collected_at(&site, 10 * DAY).carried, 1);
    let summary = collected_at(&site, 10 * DAY + 1);
    assert_eq!((summary.carried, summary.dropped), (0, 1));
    collected_at(&site, 10 * DAY + 1);
    assert_eq!(is_there(&site, &names), [false, true]);
}

#[test]
fn a_published_copy_keeps_its_bytes_whatever_the_levels_are_by_now() {
    let site = Site::new().file("a.css", TEXT.repeat(100)).file("b.css", "@import 'a.css';");
    site.collected();
    let before = files_below(site.output());
    let site = site.set(|config| {
        config.brotli_level = 1;
        config.gzip_level = 1;
    });
    site.collected();
    assert!(before == files_below(site.output()), "a server that has not been reloaded reads other bytes");
    let site = site.set(|config| config.encodings.clear());
    site.collected();
    let copy = format!("{}.br", site.hashed("a.css"));
    assert!(site.manifest().files.unwrap()[&site.hashed("a.css")].variants.is_empty());
    assert!(site.output().join(&copy).exists(), "it stays for one run more");
    site.collected();
    assert!(!site.output().join(&copy).exists());
}

#[test]
fn lists_that_somebody_else_has_written_remove_nothing_of_theirs() {
    let site = Site::new().file("a.css", "a{}");
    site.collected();
    let list = "../victim\nstaticfiles.json\n.vestibule.lock\nlink/victim\nsub/../../victim\n";
    let site = site.file_at("victim", "x").file_at("elsewhere/victim", "x");
    std::os::unix::fs::symlink("../elsewhere", site.output().join("link")).unwrap();
    let site = site.file_at("out/.vestibule-staging/.vestibule-pieces", list);
    site.collected();
    for kept in ["victim", "elsewhere/victim", "out/staticfiles.json", "out/.vestibule.lock"] {
        assert!(site.path(kept).exists(), "{kept}");
    }
}

#[test]
fn what_was_changed_in_place_is_not_carried_over() {
    let (site, names) = releases(Site::new(), &["a{}"], 0);
    fs_err::write(site.output().join(&names[0]), "X".repeat(60)).unwrap();
    let (site, _) = releases(site_of(&site), &["b{}"], 0);
    assert!(!site.manifest().files.unwrap().contains_key(&names[0]));
}

#[test]
fn a_long_name_has_no_deltas_and_is_published() {
    let name = format!("{}.js", "n".repeat(227));
    let body = |n: usize| (0..400).map(|line| format!("var v{line} = {};\n", line * n)).collect::<String>();
    let site = Site::new().file(&name, body(1));
    site.collected();
    let site = site.file(&name, body(2));
    assert_eq!(site.collected().carried, 1);
}

#[test]
fn a_file_that_comes_back_is_in_use_again() {
    let (site, names) = releases(Site::new(), &["a{}", "b{}", "a{}"], 0);
    assert_eq!(names[0], names[2]);
    let files = site.manifest().files.unwrap();
    assert!(files[&names[0]].carried.is_none() && files[&names[1]].carried.is_some());
}

#[test]
fn the_release_before_may_be_in_another_folder() {
    let (first, names) = releases(Site::new(), &["a{}"], 0);
    let previous = first.output().to_owned();
    let second = Site::new().file("a.css", "b{}").set(|config| config.previous = Some(previous));
    assert_eq!(collected_at(&second, 0).carried, 1);
    for name in [names[0].clone(), format!("{}.br", names[0])] {
        let carried = fs_err::read(second.output().join(&name)).unwrap();
        assert_eq!(carried, fs_err::read(first.output().join(&name)).unwrap());
    }
    check_whole(second.output());
}

#[test]
fn the_release_in_the_output_is_carried_over_beside_the_one_that_is_named() {
    let (first, old) = releases(Site::new(), &["a{}"], 0);
    let previous = first.output().to_owned();
    let (second, live) = releases(Site::new(), &["b{}"], 0);
    let second = second.file("a.css", "c{}".repeat(20)).set(|config| config.previous = Some(previous));
    assert_eq!(collected_at(&second, 0).carried, 2);
    assert_eq!(is_there(&second, &[old, live].concat()), [true, true]);
    check_whole(second.output());
}

#[test]
fn a_release_before_that_was_named_must_be_there() {
    let site = Site::new().file("a.css", "a{}").set(|config| config.previous = Some("no/such/folder".into()));
    let error = site.collect().expect_err("a refusal");
    assert!(matches!(error, CollectError::NoPrevious(_)) && error.is_operators_mistake(), "{error}");
    assert!(error.hint().unwrap().contains("name the output of an earlier run"), "{:?}", error.hint());
}

#[test]
fn what_djangos_storage_has_hashed_is_carried_over() {
    let mut copy = Vec::new();
    flate2::read::GzEncoder::new(&b"old"[..], flate2::Compression::fast()).read_to_end(&mut copy).unwrap();
    let site = Site::new()
        .file("a.css", "a{}")
        .file_at("out/a.0123456789ab.css", "old")
        .file_at("out/a.0123456789ab.css.gz", &copy)
        .file_at("out/a.0123456789ab.css.br", "damaged")
        .file_at("out/strange.txt", "not in the manifest")
        .file_at("out/staticfiles.json", r#"{"paths": {"a.css": "a.0123456789ab.css"}, "version": "1.1", "hash": ""}"#);
    assert_eq!(collected_at(&site, 0).carried, 1);
    let files = site.manifest().files.unwrap();
    assert_eq!(files["a.0123456789ab.css"].variants, [(Coding::Gzip, copy.len() as u64)].into());
    assert!(site.output().join("strange.txt").exists());
}

#[test]
fn a_manifest_that_cannot_be_read_stops_the_run_and_loses_nothing() {
    let newer = r#"{"paths": {}, "version": "1.1", "vestibule": {"version": 99, "files": {}}}"#;
    for (text, what) in [("{\"paths\": {", "is not a manifest"), ("", "is not a manifest"), (newer, "99")] {
        let (site, names) = releases(Site::new(), &["a{}"], 0);
        let site = site.file_at("out/staticfiles.json", text).file("a.css", "b{}");
        let before = files_below(site.output());
        let error = site.collect().expect_err("a refusal");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(what), "{cause}");
        assert!(error.hint().unwrap().contains("remove it to start anew"));
        assert!(before == files_below(site.output()), "the folders differ");
        fs_err::remove_file(site.output().join("staticfiles.json")).unwrap();
        site.collected();
        assert!(is_there(&site, &names)[0], "what no manifest names is not ours to remove");
    }
}

#[test]
fn without_originals_there_are_hashed_names_only() {
    let site = Site::new().file("a.css", "@import 'b.css';").file("b.css", TEXT.repeat(50));
    let site = site.set(|config| config.keep_originals = false);
    site.collected();
    let manifest = site.manifest();
    let listed: Vec<_> = manifest.files.as_ref().unwrap().keys().cloned().collect();
    let mut hashed: Vec<_> = manifest.paths.values().cloned().collect();
    hashed.sort();
    assert_eq!(listed, hashed);
    assert!(!site.output().join("b.css").exists() && !site.output().join("vestibule-originals").exists());
    // And they go from an output that has them.
    let site = site.set(|config| config.keep_originals = true);
    site.collected();
    assert!(site.output().join("b.css.br").exists());
    let site = site.set(|config| config.keep_originals = false);
    site.collected();
    assert!(!site.output().join("b.css.br").exists());
}

// ---- one whole release at any moment

/// Reads everything that the manifest speaks of, as `serve` would.
fn check_whole(output: &Path) {
    let manifest = Manifest::load(output).unwrap();
    for (name, entry) in manifest.files.iter().flatten() {
        let place = entry.location(name);
        let bytes = fs_err::read(output.join(place)).unwrap();
        assert_eq!(hex(&Sha256::digest(&bytes)), entry.sha256, "{name}");
        for (coding, size) in &entry.variants {
            let copy = fs_err::metadata(output.join(format!("{place}{}", coding.suffix()))).unwrap();
            assert_eq!(copy.len(), *size, "{name} as {coding}");
        }
    }
}

/// Two releases of the same names: rewritten and not, with copies and without.
fn release(folder: &Path, n: usize) {
    fs_err::create_dir_all(folder.join("css")).unwrap();
    for file in 0..20 {
        let import = if file == 0 { String::new() } else { format!("@import \"{}.css\";", file - 1) };
        fs_err::write(folder.join(format!("css/{file}.css")), format!("{import} .r{n} {{}} {}", TEXT.repeat(n * 5)))
            .unwrap();
    }
}

#[test]
fn a_reader_sees_one_whole_release_while_the_next_one_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let sites = [1, 2].map(|n| {
        release(&folder.path().join(n.to_string()), n);
        let source = folder.path().join(n.to_string());
        let mut site = Site::at(folder.path().to_owned(), Site::new().config);
        site.config.sources[0].directory = source;
        site.config.output = Some(folder.path().join("out"));
        site
    });
    sites[0].collected();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !is_over.load(Ordering::Relaxed) {
                check_whole(&folder.path().join("out"));
                looks += 1;
            }
            looks
        });
        for n in 0..6 {
            sites[(n + 1) % 2].collected();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("it never saw anything but a whole release") > 0);
    });
}

#[test]
fn a_run_that_is_killed_at_any_moment_leaves_a_whole_release() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let run = |n: usize| {
        release(&folder.path().join(n.to_string()), n);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.env_clear().env("VESTIBULE_COLLECT_BROTLI_LEVEL", "4").env("VESTIBULE_COLLECT_ZSTD_LEVEL", "1");
        command.env("VESTIBULE_COLLECT_CACHE", "").stderr(std::process::Stdio::null());
        command.arg("collect").arg("--source").arg(folder.path().join(n.to_string())).arg("--output").arg(&output);
        command.spawn().unwrap()
    };
    assert!(run(1).wait().unwrap().success());
    // From a run that has hardly begun to one that is over; whichever moment it hits, the same must hold.
    for n in 0..40 {
        let mut child = run(1 + (n + 1) % 2);
        std::thread::sleep(Duration::from_millis(4 * n as u64));
        let _ = child.kill();
        child.wait().unwrap();
        check_whole(&output);
    }
    for n in [1, 2, 1] {
        assert!(run(n).wait().unwrap().success());
    }
    check_whole(&output);
    let clean = tempfile::tempdir().unwrap();
    let mut site = Site::at(clean.path().to_owned(), Site::new().config);
    site.config.output = Some(clean.path().join("out"));
    for n in [1, 2, 1] {
        site.config.sources[0].directory = folder.path().join(n.to_string());
        site.collected();
    }
    let names = |folder: &Path| files_below(folder).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&output), names(site.output()), "nothing is left over");
}

#[test]
fn the_same_sources_after_the_same_release_give_the_same_output() {
    let outputs = [1, 2].map(|threads| {
        let site = Site::new().set(|config| config.threads = threads);
        let (site, _) = releases(site, &["a{}", "b{}"], 1_000_000);
        files_below(site.output())
    });
    assert!(outputs[0] == outputs[1], "the folders differ");
}
