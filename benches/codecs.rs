//! What the codecs alone need for an output of `collect`: the least that any run could need that makes the same copies.
//!
//!     cargo bench --bench codecs -- OUTPUT gzip=9 brotli=11
//!
//! It reads the manifest of the output and compresses each content once that `collect` would try to compress, on all
//! cores, the largest first, with the encoders and parameters of `src/collect/codecs.rs`. Nothing is hashed,
//! rewritten, compared or written. Its own time is for whoever starts it to measure: `benches/versus_whitenoise` does.

#![allow(clippy::print_stdout, reason = "it is a program for people and scripts")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vestibule::config::CollectConfig;
use vestibule::manifest::Manifest;

/// As in `src/collect`.
const SMALLEST: u64 = 32;
const BROTLI_WINDOW_LOG: i32 = 22;
const ZSTD_WINDOW_LOG: u32 = 23;

fn main() {
    // Cargo adds a word of its own.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let Some(folder) = words.next() else {
        println!("usage: cargo bench --bench codecs -- OUTPUT gzip=9 brotli=11 zstd=19");
        return;
    };
    let levels: Vec<(String, i32)> = words.map(|word| level(&word)).collect();
    let files = files(Path::new(&folder));
    let tasks: Vec<_> = files.iter().flat_map(|file| levels.iter().map(move |level| (file, level))).collect();
    let bytes: usize = tasks
        .into_iter()
        .par_bridge()
        .map(|(file, (codec, level))| copy(codec, *level, &fs_err::read(file).expect("a listed file")).len())
        .sum();
    println!("{} contents, {bytes} bytes of copies", files.len());
}

fn level(word: &str) -> (String, i32) {
    let (codec, level) = word.split_once('=').expect("CODEC=LEVEL");
    (codec.to_owned(), level.parse().expect("a level"))
}

/// One file for each content, the largest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let manifest = Manifest::load(folder).expect("an output of `vestibule collect`");
    let skipped = CollectConfig::default().skip_compression;
    let is_skipped = |name: &str| {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        skipped.iter().any(|skipped| skipped.eq_ignore_ascii_case(extension))
    };
    let mut contents = BTreeMap::new();
    for (name, entry) in manifest.files.iter().flatten() {
        if entry.size >= SMALLEST && !is_skipped(name) {
            contents.insert((entry.size, &entry.sha256), folder.join(entry.location(name)));
        }
    }
    contents.into_values().rev().collect()
}

fn copy(codec: &str, level: i32, bytes: &[u8]) -> Vec<u8> {
    match codec {
        "gzip" => {
            let level = libdeflater::CompressionLvl::new(level).expect("a level of gzip");
            let mut compressor = libdeflater::Compressor::new(level);
            let mut copy = vec![0; compressor.gzip_compress_bound(bytes.len())];
            let length = compressor.gzip_compress(bytes, &mut copy).expect("room for it");
            copy.truncate(length);
            copy
        }
        "brotli" => {
            let parameters = brotli::enc::BrotliEncoderParams {
                quality: level,
                lgwin: BROTLI_WINDOW_LOG,
                size_hint: bytes.len(),
                ..brotli::enc::BrotliEncoderParams::default()
            };
            let mut copy = Vec::new();
            brotli::BrotliCompress(&mut &bytes[..], &mut copy, &parameters).expect("a vector takes everything");
            copy
        }
        "zstd" => {
            let mut compressor = zstd::bulk::Compressor::new(level).expect("a level of zstd");
            if bytes.len() > 1 << ZSTD_WINDOW_LOG {
                let window = zstd::zstd_safe::CParameter::WindowLog(ZSTD_WINDOW_LOG);
                compressor.set_parameter(window).expect("a window");
            }
            compressor.compress(bytes).expect("a copy")
        }
        other => panic!("there is no codec {other:?}"),
    }
}
