//! How long it takes to make 20,000 files ready to be served, and whether a request costs more when there
//! are many files.
//!
//! Compare with: itself before a change. The first is most of the time until a server answers; the files
//! are in the page cache. The second should be flat but for the processor's caches.
//!
//! 22 November 2026, on a busy machine: an answer out of 100,000 files beside one out of 100 1.0.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::request::Parts;
use vestibule::assets::Assets;
use vestibule::config::AssetsConfig;
use vestibule::config::values::ByteSize;
use vestibule::http::{Client, Scheme};

/// A folder with this many files of 1 KB and a manifest; gives their names.
fn make(folder: &Path, count: usize) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|number| format!("{}/file-{number}.{number:012x}.css", number % 100)).collect();
    let mut entries = String::new();
    for (place, name) in names.iter().enumerate() {
        let file = folder.join(name);
        fs_err::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs_err::write(file, vec![b'x'; 1024]).expect("a file");
        let comma = if place == 0 { "" } else { "," };
        write!(
            entries,
            "{comma}\"{name}\":{{\"size\":1024,\"type\":\"text/css\",\"sha256\":\"{place:064x}\",\"immutable\":true}}"
        )
        .expect("memory");
    }
    let manifest = format!(
        "{{\"paths\":{{}},\"version\":\"1.1\",\"hash\":\"\",\"vestibule\":{{\"version\":1,\"files\":{{{entries}}}}}}}"
    );
    fs_err::write(folder.join("staticfiles.json"), manifest).expect("a file");
    names
}

fn open(folder: &Path) -> Assets {
    // None is read from the disk.
    let memory = ByteSize(1 << 30);
    let config = AssetsConfig { directory: Some(folder.to_owned()), memory, ..AssetsConfig::default() };
    Assets::open(&config, &Default::default()).expect("a folder that can be served")
}

fn head(name: &str) -> Parts {
    let request = http::Request::get(format!("/static/{name}")).header("host", "localhost");
    request.header("accept-encoding", "gzip, deflate, br, zstd").body(()).expect("a request").into_parts().0
}

fn catalog(criterion: &mut Criterion) {
    let client = Client { address: None, port: 0, scheme: Scheme::Https, local_port: 443 };
    let mut group = criterion.benchmark_group("catalog");
    for count in [100, 20_000, 100_000] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let names = make(folder.path(), count);
        if count == 20_000 {
            group.sample_size(10);
            group.bench_function("open 20,000 files", |bencher| bencher.iter(|| open(folder.path())));
            continue;
        }
        let assets = open(folder.path());
        // Not in order, since neighbours would be in the processor's caches.
        let heads: Vec<_> = (0..1000).map(|turn| head(&names[turn * 7919 % count])).collect();
        group.sample_size(50);
        group.bench_function(format!("1,000 answers out of {count} files"), |bencher| {
            bencher.iter(|| {
                for head in &heads {
                    black_box(assets.respond(head, &client).now_or_never().expect("it is in memory"));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, catalog);
criterion_main!(benches);
