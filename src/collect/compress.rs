//! Makes gzip, brotli and zstd copies on all threads, and keeps those that are worth it.
//!
//! The same bytes and levels give the same copy, byte for byte, on any number of threads and at any
//! time: no clock, no file name and no machine goes in, and one copy is always made by one thread.
//! Each copy goes into the staging folder as soon as it is made, so that only those in the making are in
//! memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};

use rayon::prelude::*;

use super::error::CollectError;
use super::name::{Named, Output};
use super::progress::Progress;
use super::staging::Staging;
use crate::config::CollectConfig;
use crate::config::values::Encoding;
use crate::http::encoding::Coding;

/// The compressed copies of one content, with their sizes in bytes. They are ready in the staging folder, under
/// the name under which the content is stored.
pub(super) type Copies = BTreeMap<Coding, u64>;

/// Everything that will be in the output.
#[derive(Debug)]
pub(super) struct Compressed {
    /// What to write, each with its copies.
    pub(super) outputs: Vec<(Output, Copies)>,
    /// Plain name to the name that pages use.
    pub(super) paths: BTreeMap<String, String>,
    /// What to tell at the end.
    pub(super) totals: BTreeMap<Coding, Totals>,
}

/// What one coding brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// How many copies were kept. Bytes that have two names count once.
    pub copies: usize,
    /// The bytes of the files that have a copy.
    pub before: u64,
    /// The bytes of the copies.
    pub after: u64,
}

/// Compresses all contents. Copies that are not worth it are dropped, and the next coding is still tried.
pub(super) fn compress(
    named: Named,
    config: &CollectConfig,
    staging: &Staging,
    progress: &Progress,
) -> Result<Compressed, CollectError> {
    let codings: BTreeSet<Coding> = config.encodings.iter().map(|encoding| coding_of(*encoding)).collect();
    let mut tasks: Vec<(usize, Coding)> = (0..named.outputs.len())
        .filter(|&index| is_worth_trying(&named.outputs[index], &config.skip_compression))
        .flat_map(|index| codings.iter().map(move |&coding| (index, coding)))
        .filter(|&(index, coding)| is_free(&named, index, coding))
        .collect();
    // The largest goes first, so that no thread begins with it when all others are done.
    tasks.sort_by_key(|&(index, coding)| (std::cmp::Reverse(named.outputs[index].contents.size), coding));
    progress.begin(tasks.iter().map(|&(index, _)| named.outputs[index].contents.size).sum());
    // `par_bridge` hands the tasks out in this order; an indexed iterator would cut them in halves.
    let copies: Vec<(usize, Coding, Option<u64>)> = tasks
        .into_iter()
        .par_bridge()
        .map(|(index, coding)| {
            let output = &named.outputs[index];
            let copy = compressed(output, coding, config)?;
            if let Some(copy) = &copy {
                staging.write(&format!("{}{}", output.stored(), coding.suffix()), copy, output.modified)?;
            }
            progress.advance(output.contents.size);
            Ok((index, coding, copy.map(|copy| copy.len() as u64)))
        })
        .collect::<Result<_, CollectError>>()?;
    Ok(gather(named, copies))
}

/// A name that belongs to a file of the sources, as `a.js.gz` beside `a.js`, is the author's.
fn is_free(named: &Named, index: usize, coding: Coding) -> bool {
    let output = &named.outputs[index];
    !named.paths.contains_key(&format!("{}{}", output.stored(), coding.suffix()))
}

fn gather(named: Named, copies: Vec<(usize, Coding, Option<u64>)>) -> Compressed {
    let mut outputs: Vec<_> = named.outputs.into_iter().map(|output| (output, Copies::new())).collect();
    let mut totals: BTreeMap<Coding, Totals> = BTreeMap::new();
    for (index, coding, copy) in copies {
        let totals = totals.entry(coding).or_default();
        let Some(copy) = copy else { continue };
        totals.copies += 1;
        totals.before += outputs[index].0.contents.size;
        totals.after += copy;
        outputs[index].1.insert(coding, copy);
    }
    Compressed { outputs, paths: named.paths, totals }
}

fn coding_of(encoding: Encoding) -> Coding {
    match encoding {
        Encoding::Gzip => Coding::Gzip,
        Encoding::Brotli => Coding::Brotli,
        Encoding::Zstd => Coding::Zstd,
    }
}

fn is_worth_trying(output: &Output, skipped: &[String]) -> bool {
    let base_name = output.name().rsplit('/').next().unwrap_or_default();
    let extension = base_name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_skipped = skipped.iter().any(|skipped| skipped.trim_start_matches('.').eq_ignore_ascii_case(extension));
    output.contents.size > 0 && !is_skipped
}

fn compressed(output: &Output, coding: Coding, config: &CollectConfig) -> Result<Option<Vec<u8>>, CollectError> {
    let bytes = output.contents.read()?;
    let copy = match coding {
        Coding::Gzip => gzip(&bytes, config.gzip_level),
        Coding::Brotli => brotli(&bytes, config.brotli_level),
        Coding::Zstd => zstd(&bytes, config.zstd_level),
    };
    let copy = copy.map_err(|cause| CollectError::Compress { name: output.name().to_owned(), cause })?;
    Ok(is_worth_keeping(copy.len(), bytes.len(), config.keep_ratio).then_some(copy))
}

/// A copy that is not smaller is never kept, whatever the ratio.
#[allow(clippy::cast_precision_loss, reason = "a file has less than 2^52 bytes")]
fn is_worth_keeping(copy: usize, original: usize, keep_ratio: f64) -> bool {
    copy < original && copy as f64 <= original as f64 * keep_ratio
}

fn gzip(bytes: &[u8], level: u32) -> io::Result<Vec<u8>> {
    // 255 is "unknown" for the operating system (RFC 1952, section 2.3.1).
    let builder = flate2::GzBuilder::new().mtime(0).operating_system(255);
    let mut encoder = builder.write(Vec::new(), flate2::Compression::new(level.min(9)));
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn brotli(bytes: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let mut parameters = brotli::enc::BrotliEncoderParams {
        quality: i32::try_from(level.min(11)).unwrap_or(11),
        size_hint: bytes.len(),
        ..brotli::enc::BrotliEncoderParams::default()
    };
    // 24 is the largest window of RFC 7932; a decoder reserves it, so small files ask for less.
    parameters.lgwin = if bytes.len() > 1 << 22 { 24 } else { 22 };
    let mut copy = Vec::new();
    brotli::BrotliCompress(&mut &bytes[..], &mut copy, &parameters)?;
    Ok(copy)
}

/// The largest window that decoders of the `zstd` coding must accept: 8 MiB (RFC 9659, section 3).
const ZSTD_WINDOW_LOG: u32 = 23;

fn zstd(bytes: &[u8], level: u32) -> io::Result<Vec<u8>> {
    use zstd::zstd_safe::CParameter;
    let mut compressor = zstd::bulk::Compressor::new(i32::try_from(level.min(22)).unwrap_or(22))?;
    compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
    compressor.set_parameter(CParameter::ChecksumFlag(false))?;
    if bytes.len() > 1 << ZSTD_WINDOW_LOG {
        compressor.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
    }
    compressor.compress(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;

    use super::*;
    use crate::collect::contents::Contents;

    #[test]
    fn every_copy_decodes_to_the_original() {
        let original: Vec<u8> = (0..50_000_u32).flat_map(|n| (n / 7 % 251).to_le_bytes()).collect();
        let mut decoded = Vec::new();
        flate2::read::GzDecoder::new(&gzip(&original, 9).expect("gzip")[..]).read_to_end(&mut decoded).expect("gzip");
        assert_eq!(decoded, original);
        decoded.clear();
        let copy = brotli(&original, 5).expect("brotli");
        brotli::BrotliDecompress(&mut &copy[..], &mut decoded).expect("brotli");
        assert_eq!(decoded, original);
        let copy = zstd(&original, 19).expect("zstd");
        assert_eq!(zstd::decode_all(&copy[..]).expect("zstd"), original);
    }

    #[test]
    fn gzip_names_no_time_no_file_and_no_system() {
        let copy = gzip(b"aaaaaaaaaaaaaaaaaaaa", 9).expect("gzip");
        assert_eq!(copy[3], 0, "flags: no file name");
        assert_eq!(copy[4..8], [0; 4], "no time");
        assert_eq!(copy[9], 255, "no operating system");
    }

    #[test]
    fn the_zstd_window_stays_within_what_browsers_accept() {
        // More than the window, with little to compress, at the level with the largest window.
        let original: Vec<u8> = std::iter::repeat_n(b'a', (8 << 20) + 4096).collect();
        let copy = zstd(&original, 22).expect("zstd");
        // Frame header (RFC 8878, section 3.1.1.1): descriptor, then the window's exponent.
        let (descriptor, window) = (copy[4], copy[5]);
        assert_eq!(descriptor & 0b0010_0000, 0, "not a single segment");
        assert_eq!(descriptor & 0b0000_0100, 0, "no checksum");
        assert!(descriptor >> 6 != 0, "the content size is there");
        assert!(u32::from(window >> 3) + 10 <= ZSTD_WINDOW_LOG);
    }

    #[test]
    fn a_copy_is_kept_only_where_it_is_smaller_by_the_ratio() {
        for (copy, original, ratio, expected) in [
            (95, 100, 0.95, true),
            (96, 100, 0.95, false),
            (100, 100, 1.0, false), // not smaller
            (120, 100, 2.0, false),
            (0, 0, 0.95, false),
        ] {
            assert_eq!(is_worth_keeping(copy, original, ratio), expected, "for {copy} of {original}");
        }
    }

    #[test]
    fn compressed_types_and_empty_files_are_skipped() {
        let output = |name: &str, bytes: &[u8]| Output {
            hashed: None,
            plain: Some(name.to_owned()),
            contents: Contents::of(bytes, Path::new("a")),
            modified: std::time::SystemTime::UNIX_EPOCH,
        };
        let skipped = ["png".to_owned(), "WOFF2".to_owned()];
        for (name, bytes, expected) in [
            ("a.css", &b"x"[..], true),
            ("a.css", b"", false),
            ("a.PNG", b"x", false),
            ("a.woff2", b"x", false),
            ("png", b"x", true), // a name, not an extension
            ("a.png/b", b"x", true),
        ] {
            assert_eq!(is_worth_trying(&output(name, bytes), &skipped), expected, "for {name}");
        }
    }
}
