//! Compressed copies that are not on the disk, made in memory while somebody develops.
//!
//! So a page under development comes with the headers that it is going to have, and without a run of `collect`. The
//! levels are low, since what is made lives until the next change. Nothing is written anywhere.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::AssetsError;
use super::inventory::{Listed, Sha256Digest};
use crate::http::encoding::Coding;

/// Copies by the hash of their file; `None` where one would not be worth it.
pub(super) type Made = BTreeMap<(Sha256Digest, Coding), Option<Bytes>>;

/// A copy is kept if it is at most this much of its file, as `[collect] keep_ratio` has it.
const WORTH: f64 = 0.95;

/// Makes a copy in each coding for every text that has none, as long as they fit into `budget` bytes, and lists
/// them. What was made before is taken from there.
pub(super) fn make(folder: &Path, files: &mut [Listed], before: &Made, budget: &mut u64) -> Result<Made, AssetsError> {
    let mut made = Made::new();
    let texts = files.iter_mut().filter(|file| file.variants.is_empty() && is_text(file));
    for file in texts.filter(|file| file.size > 0) {
        let mut read = None;
        for coding in Coding::ALL {
            let key = (file.sha256, coding);
            let known = made.get(&key).or(before.get(&key)).cloned();
            let is_new = !made.contains_key(&key);
            let copy = match (known, &read) {
                (Some(copy), _) => copy,
                // It could not be held anyway.
                (None, _) if file.size > *budget => continue,
                (None, None) => {
                    let bytes = match fs_err::read(folder.join(&*file.location)) {
                        // That has not been looked at yet, and will be told with all that is missing.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                        bytes => bytes.map_err(AssetsError::Unreadable)?,
                    };
                    worth_it(read.insert(bytes), coding).map_err(AssetsError::Unreadable)?
                }
                (None, Some(bytes)) => worth_it(bytes, coding).map_err(AssetsError::Unreadable)?,
            };
            let length = copy.as_ref().map_or(0, |copy| copy.len() as u64);
            if is_new {
                let Some(rest) = budget.checked_sub(length) else { continue };
                *budget = rest;
            }
            if copy.is_some() {
                file.variants.push((coding, length));
            }
            made.insert(key, copy);
        }
    }
    Ok(made)
}

fn is_text(file: &Listed) -> bool {
    let media_type = file.media_type.as_bytes();
    let ends = |end: &str| media_type.ends_with(end.as_bytes());
    media_type.starts_with(b"text/") || ends("charset=utf-8") || ends("+xml") || ends("/json") || ends("/wasm")
}

fn worth_it(bytes: &[u8], coding: Coding) -> io::Result<Option<Bytes>> {
    let copy = compress(bytes, coding)?;
    Ok((copy.len() as f64 <= bytes.len() as f64 * WORTH).then(|| copy.into()))
}

fn compress(bytes: &[u8], coding: Coding) -> io::Result<Vec<u8>> {
    const WINDOW: u32 = 22;
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Coding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 1, WINDOW);
            encoder.write_all(bytes)?;
            Ok(encoder.into_inner())
        }
        Coding::Zstd => zstd::bulk::compress(bytes, 1),
    }
}
