//! How many files a second `collect` takes, on a generated tree with references.
//!
//! Compared with it, a plain copy of the same tree, file by file: what the disk alone costs. Brotli is
//! at level 5 and zstd at level 9 here; at their defaults a run is nearly all brotli and zstd, and the
//! number would say nothing about us.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use vestibule::collect::collect;
use vestibule::config::CollectConfig;
use vestibule::config::values::{Encoding, Source, UrlPrefix};

const STYLES: usize = 100;
const SCRIPTS: usize = 100;
const IMAGES: usize = 200;

/// 400 files, 2.5 MB: stylesheets that import each other in a chain and name images, modules, images.
fn generate(folder: &Path) {
    for kind in ["css", "js", "img"] {
        fs_err::create_dir_all(folder.join(kind)).expect("a folder");
    }
    for n in 0..STYLES {
        let mut text = String::new();
        if n > 0 {
            writeln!(text, "@import \"{}.css\";", n - 1).expect("a string");
        }
        for rule in 0..80 {
            let image = (n * 7 + rule) % IMAGES;
            writeln!(text, ".c{n}-{rule} {{ color: #{rule:03}; background: url(../img/{image}.png) }}")
                .expect("a string");
        }
        fs_err::write(folder.join(format!("css/{n}.css")), text).expect("a file");
    }
    for n in 0..SCRIPTS {
        let mut text = format!("import {{ f0 as next }} from './{}.js';\n", (n + 1).min(SCRIPTS));
        for function in 0..80 {
            writeln!(text, "export function f{function}(x) {{ return x ? next(x - {function}) : {n}; }}")
                .expect("a string");
        }
        fs_err::write(folder.join(format!("js/{n}.js")), text).expect("a file");
    }
    fs_err::write(folder.join(format!("js/{SCRIPTS}.js")), "export const f0 = (x) => x;\n").expect("a file");
    for n in 0..IMAGES {
        let noise: Vec<u8> = (0..8192_usize).map(|at| (at.wrapping_mul(2_654_435_761 + n) >> 13) as u8).collect();
        fs_err::write(folder.join(format!("img/{n}.png")), noise).expect("a file");
    }
}

fn config(source: &Path, output: PathBuf, encodings: &[Encoding]) -> CollectConfig {
    CollectConfig {
        sources: vec![Source { prefix: String::new(), directory: source.to_owned() }],
        output: Some(output),
        javascript_modules: true,
        encodings: encodings.to_vec(),
        brotli_level: 5,
        zstd_level: 9,
        ..CollectConfig::default()
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.expect("readable");
        let target = to.join(entry.path().strip_prefix(from).expect("below"));
        if entry.file_type().is_dir() {
            fs_err::create_dir_all(target).expect("a folder");
        } else {
            fs_err::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn bench(c: &mut Criterion) {
    let source = tempfile::tempdir().expect("a temporary folder");
    generate(source.path());
    let fresh = || tempfile::tempdir().expect("a temporary folder");
    let mut group = c.benchmark_group("collect");
    group.sample_size(10).throughput(Throughput::Elements((STYLES + SCRIPTS + 1 + IMAGES) as u64));
    group.bench_function("copy of the tree, for comparison", |b| {
        b.iter_batched(fresh, |out| copy(source.path(), out.path()), BatchSize::PerIteration);
    });
    let codings = [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd];
    let cache = fresh();
    let runs = [
        ("hash and rewrite", &codings[..0], None),
        ("hash, rewrite and compress", &codings[..], None),
        ("the same with a warm cache", &codings[..], Some(cache.path())),
    ];
    for (name, encodings, cache) in runs {
        group.bench_function(name, |b| {
            let run = |out: tempfile::TempDir| {
                let mut config = config(source.path(), out.path().join("out"), encodings);
                // The first warm-up run fills it.
                config.cache = cache.map(Path::to_owned);
                collect(&config, &UrlPrefix::default(), SystemTime::now()).expect("collected");
                out // removed outside of the measurement
            };
            b.iter_batched(fresh, run, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
