//! What it costs to tell who answers a path, and that this does not grow with what is configured: with the number of
//! mounts, of files, of `[[headers]]` and of `[[redirects]]`; neither for a file, nor for a request that goes on to the
//! application.
//!
//! Compare with: itself, line by line. Only the lookups are measured; `benches/choose.rs` has the answer.
//!
//! 22 November 2026, on a busy machine: 200 mounts beside one 0.7 to 0.9; 100,000 files beside 100 1.0 to 1.2; 200
//! `[[headers]]` beside one 1.1 to 1.5, and exact `[[redirects]]` 0.7 to 1.5. Redirects with all below are found by
//! halves: 200 beside one 2.3 to 4.4, which is 0.2 to 0.4 microseconds.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::request::Parts;
use vestibule::assets::Mounts;
use vestibule::config::header_rule::{self, HeaderRule};
use vestibule::config::{Config, MountConfig};
use vestibule::http::header_rules::HeaderRules;
use vestibule::layers::redirects::Redirects;

fn head(path: &str) -> Parts {
    http::Request::get(path).body(()).expect("a request").into_parts().0
}

fn mount(path: &str, folder: &Path) -> MountConfig {
    let path = path.parse().expect("a path");
    MountConfig { path, directory: Some(folder.to_owned()), ..MountConfig::default() }
}

fn folder(files: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for n in 0..files {
        fs_err::write(folder.path().join(format!("file-{n}.txt")), "").expect("a file");
    }
    folder
}

fn open(mounts: Vec<MountConfig>) -> Mounts {
    Mounts::open(&Config { mounts, ..Config::default() }, &Arc::default()).expect("folders that can be served")
}

fn lookups(criterion: &mut Criterion) {
    let (few, many) = (folder(100), folder(100_000));
    let mut group = criterion.benchmark_group("mounts");
    let mut measure = |name: &str, mounts: &Mounts, path: &str, is_found: bool| {
        let head = head(path);
        assert_eq!(mounts.find(&head).is_some(), is_found, "{name}: {path}");
        let kind = if is_found { "a file" } else { "the application's" };
        group.bench_function(BenchmarkId::new(kind, name), |bencher| {
            bencher.iter(|| black_box(mounts.find(black_box(&head))).is_some());
        });
    };
    for count in [1, 20, 200] {
        let paths = (0..count).map(|n| format!("/part-{n}/"));
        let mounts = open(paths.map(|path| mount(&path, few.path())).collect());
        let name = format!("{count} mounts");
        measure(&name, &mounts, &format!("/part-{}/file-7.txt", count - 1), true);
        measure(&name, &mounts, "/accounts/profile/7/", false);
    }
    for (count, folder) in [(100, &few), (100_000, &many)] {
        let mounts = open(vec![mount("/", folder.path())]);
        let name = format!("{count} files");
        measure(&name, &mounts, "/file-7.txt", true);
        measure(&name, &mounts, "/accounts/profile/7/", false);
    }
    group.finish();
}

/// So many tables, each with its number in place of `{}`.
fn config(count: usize, table: &str) -> Config {
    let text: String = (0..count).map(|number| table.replace("{}", &number.to_string())).collect();
    toml::from_str(&text).expect("a configuration")
}

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    let (file, page) = ("/static/css/app.0123456789ab.css", "/accounts/profile/7/");
    for count in [1, 20, 200] {
        let table = "[[headers]]\npath = \"/part-{}/*\"\nset = { \"X-{}\" = \"1\" }\n";
        let config = config(count, table);
        let paths = header_rule::glob_set(&config.headers).expect("patterns");
        let rules = HeaderRules::new(paths, config.headers.iter().map(HeaderRule::edits).collect());
        group.bench_function(BenchmarkId::new("the application's", format!("{count} for headers")), |bencher| {
            bencher.iter(|| rules.for_raw_path(black_box(page)));
        });
    }
    for (kind, end) in [("exact", ""), ("with all below", "*")] {
        for count in [1, 20, 200] {
            let table = format!("[[redirects]]\nfrom = \"/accounts/old-{{}}/{end}\"\nto = \"/\"\n");
            let redirects = Redirects::new(&config(count, &table).redirects);
            let (file, page) = (head(file), head(page));
            assert!(redirects.redirect(&page.uri).is_none());
            let name = format!("{count} redirects, {kind}");
            group.bench_function(BenchmarkId::new("a file", &name), |bencher| {
                bencher.iter(|| redirects.redirect(black_box(&file.uri)));
            });
            group.bench_function(BenchmarkId::new("the application's", &name), |bencher| {
                bencher.iter(|| redirects.redirect(black_box(&page.uri)));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = lookups, rules
}
criterion_main!(benches);
