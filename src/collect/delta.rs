//! Deltas (RFC 9842): what makes the new bytes of a file out of old ones that a browser has.
//!
//! Pure makers, and the sizes for which they are worth it. A delta is a stream of brotli or zstd that
//! may point back into the dictionary as if it stood before the content. The same bytes and levels
//! give the same delta, byte for byte.
//!
//! Every delta is unpacked again and compared before it is handed on: what a browser cannot unpack is a
//! page without its script, and nobody at the build would see it.

use std::io::{self, Write};

use brotli::enc::{BrotliEncoderParams, StandardAlloc};
use brotli::{IoReaderWrapper, IoWriterWrapper, SliceWrapperMut as _};
use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use super::fingerprint::{Fingerprint, halves};
use crate::http::dictionary;
use crate::http::encoding::DictionaryCoding;
use crate::manifest::Entry;

/// Below this a whole answer fits into the first packets anyway, and the headers would eat the rest.
const SMALLEST: u64 = 2 << 10;
/// So much of an old file and of a new one is held in memory for each thread that makes deltas.
const LARGEST: u64 = 32 << 20;
/// Dictionary and content together must lie within brotli's largest window (RFC 9842, section 4).
const BROTLI_WINDOW: usize = 16 << 20;
/// The window that every client with `dcz` has, even for a small dictionary (RFC 9842, section 5).
const ZSTD_WINDOW: usize = 8 << 20;
/// From here on zstd also looks for matches that are far away.
const FAR: usize = 1 << 20;

/// What stands before the stream of `dcb`, the dictionary's hash after it (RFC 9842, section 4).
const DCB_MAGIC: [u8; 4] = [0xff, 0x44, 0x43, 0x42];
/// The same of `dcz`: to zstd it is a frame of 32 bytes to skip (RFC 9842, section 5).
const DCZ_MAGIC: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0x00, 0x00, 0x00];

/// Old bytes, and their hash as the browser tells it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dictionary<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) fingerprint: &'a Fingerprint,
}

/// Whether a file takes part, as the old version and as the new one. What no coding could make smaller
/// is an image or the like, of which two versions have nothing in common. Source maps are for
/// developers, who do not come back for them.
pub(super) fn takes_part(name: &str, entry: &Entry) -> bool {
    let is_source_map = name.ends_with(".map");
    entry.is_immutable && !entry.variants.is_empty() && !is_source_map && (SMALLEST..=LARGEST).contains(&entry.size)
}

/// The names of all versions of a file, as a URL pattern below the prefix.
///
/// The pattern is as narrow as the names allow, since a browser offers one dictionary only, the one with
/// the longest pattern. It may still fit another file's name, as `app.*.js` fits `app.vendor.<hash>.js`;
/// that file then has no delta from it, and comes whole.
pub(super) fn pattern(plain: &str) -> String {
    let (stem, extension) = halves(plain);
    dictionary::pattern(&format!("{stem}."), extension)
}

/// Makes a delta. `None` where this coding cannot, or where the delta does not unpack to the same bytes.
pub(super) fn make(
    coding: DictionaryCoding,
    dictionary: Dictionary<'_>,
    bytes: &[u8],
    level: u32,
) -> io::Result<Option<Vec<u8>>> {
    // Nothing points into an empty dictionary, and an empty file needs none.
    if dictionary.bytes.is_empty() || bytes.is_empty() {
        return Ok(None);
    }
    match coding {
        DictionaryCoding::Brotli if dictionary.bytes.len() + bytes.len() + 16 > BROTLI_WINDOW => Ok(None),
        DictionaryCoding::Brotli => dcb(dictionary, bytes, level),
        DictionaryCoding::Zstd => dcz(dictionary, bytes, level),
    }
}

fn dcb(dictionary: Dictionary<'_>, bytes: &[u8], level: u32) -> io::Result<Option<Vec<u8>>> {
    let parameters = BrotliEncoderParams {
        quality: i32::try_from(level).unwrap_or(i32::MAX),
        size_hint: bytes.len(),
        // The encoder sees no more of the dictionary than fits in its window beside the content.
        lgwin: window_log(dictionary.bytes.len() + bytes.len() + 16),
        ..BrotliEncoderParams::default()
    };
    let mut delta = framed(&DCB_MAGIC, dictionary.fingerprint);
    brotli::enc::BrotliCompressCustomIoCustomDict(
        &mut IoReaderWrapper(&mut &bytes[..]),
        &mut IoWriterWrapper(&mut delta),
        &mut [0; 4096],
        &mut [0; 4096],
        &parameters,
        StandardAlloc::default(),
        &mut |_, _, _, _| (),
        dictionary.bytes,
        io::ErrorKind::UnexpectedEof.into(),
    )?;
    let makes_it = unpacks_brotli(&delta[DCB_MAGIC.len() + 32..], dictionary.bytes, bytes);
    Ok(makes_it.then_some(delta))
}

fn dcz(dictionary: Dictionary<'_>, bytes: &[u8], level: u32) -> io::Result<Option<Vec<u8>>> {
    let failed = |code| io::Error::other(get_error_name(code));
    let (old, new) = (dictionary.bytes.len(), bytes.len());
    // What a client must be able to hold; as a power of two, it may not be more.
    let limit = ZSTD_WINDOW.max(old + old / 4).ilog2();
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(i32::try_from(level).unwrap_or(i32::MAX)),
        CParameter::WindowLog((window_log(old + new) as u32).min(limit)),
        CParameter::EnableLongDistanceMatching(old + new > FAR),
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ] {
        context.set_parameter(parameter).map_err(failed)?;
    }
    context.ref_prefix(dictionary.bytes).map_err(failed)?;
    let mut stream = Vec::with_capacity(compress_bound(new));
    context.compress2(&mut stream, bytes).map_err(failed)?;
    if !unpacks_zstd(&stream, dictionary.bytes, bytes) {
        return Ok(None);
    }
    let mut delta = framed(&DCZ_MAGIC, dictionary.fingerprint);
    delta.append(&mut stream);
    Ok(Some(delta))
}

/// Whether a delta is framed for its dictionary, and unpacks to these bytes.
pub(super) fn is_sound(coding: DictionaryCoding, delta: &[u8], dictionary: Dictionary<'_>, bytes: &[u8]) -> bool {
    let magic: &[u8] = match coding {
        DictionaryCoding::Brotli => &DCB_MAGIC,
        DictionaryCoding::Zstd => &DCZ_MAGIC,
    };
    let Some(stream) = delta.strip_prefix(&framed(magic, dictionary.fingerprint)[..]) else { return false };
    match coding {
        DictionaryCoding::Brotli => unpacks_brotli(stream, dictionary.bytes, bytes),
        DictionaryCoding::Zstd => unpacks_zstd(stream, dictionary.bytes, bytes),
    }
}

fn framed(magic: &[u8], fingerprint: &Fingerprint) -> Vec<u8> {
    [magic, fingerprint].concat()
}

/// The smallest power of two that is not less, as its exponent, and never below what both codings have
/// as their least.
fn window_log(length: usize) -> i32 {
    i32::try_from(length.next_power_of_two().ilog2().max(10)).unwrap_or(i32::MAX)
}

fn unpacks_brotli(stream: &[u8], dictionary: &[u8], expected: &[u8]) -> bool {
    use brotli::enc::Allocator;
    let mut own: <StandardAlloc as Allocator<u8>>::AllocatedMemory =
        Allocator::<u8>::alloc_cell(&mut StandardAlloc::default(), dictionary.len());
    own.slice_mut().copy_from_slice(dictionary);
    let mut comparison = Comparison { rest: expected };
    let unpacked = brotli::BrotliDecompressCustomIoCustomDict(
        &mut IoReaderWrapper(&mut &stream[..]),
        &mut IoWriterWrapper(&mut comparison),
        &mut [0; 4096],
        &mut [0; 4096],
        StandardAlloc::default(),
        StandardAlloc::default(),
        StandardAlloc::default(),
        own,
        io::ErrorKind::UnexpectedEof.into(),
    );
    unpacked.is_ok() && comparison.rest.is_empty()
}

fn unpacks_zstd(stream: &[u8], dictionary: &[u8], expected: &[u8]) -> bool {
    let unpack = || -> io::Result<bool> {
        let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(stream, dictionary)?;
        // What this file itself asks for has its limit in `dcz`.
        decoder.window_log_max(31)?;
        let mut comparison = Comparison { rest: expected };
        io::copy(&mut decoder, &mut comparison)?;
        Ok(comparison.rest.is_empty())
    };
    unpack().unwrap_or(false)
}

/// Takes only what is expected, so that nothing has to be kept to be compared.
struct Comparison<'a> {
    rest: &'a [u8],
}

impl Write for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, Strategy, any, prop};
    use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

    use crate::collect::fingerprint::fingerprint;
    use crate::http::encoding::Coding;

    /// Each takes some ten milliseconds, for two encoders and two decoders.
    const CASES: u32 = 64;

    /// Lines of a script that differ from each other, but do repeat words.
    fn script(lines: usize, seed: usize) -> Vec<u8> {
        let line = |n: usize| {
            let mixed = (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("export function part{n}(a, b) {{ return a.{mixed:x} + b[{}]; }}\n", mixed >> 50)
        };
        (0..lines).map(line).collect::<String>().into_bytes()
    }

    /// One line in a hundred is another one.
    fn edited(old: &[u8]) -> Vec<u8> {
        let mut new = Vec::new();
        for (n, line) in old.split_inclusive(|byte| *byte == b'\n').enumerate() {
            new.extend_from_slice(if n % 100 == 50 { b"export const changed = true;\n" } else { line });
        }
        new
    }

    fn delta(coding: DictionaryCoding, old: &[u8], new: &[u8], level: u32) -> Option<Vec<u8>> {
        make(coding, Dictionary { bytes: old, fingerprint: &fingerprint(old) }, new, level).expect("made")
    }

    #[test]
    fn a_delta_is_framed_as_the_rfc_has_it() {
        let old = script(200, 0);
        let hash = fingerprint(&old);
        let dcb = delta(DictionaryCoding::Brotli, &old, &edited(&old), 11).expect("a delta");
        assert_eq!(dcb[..4], *b"\xffDCB");
        assert_eq!(dcb[4..36], hash);
        let dcz = delta(DictionaryCoding::Zstd, &old, &edited(&old), 19).expect("a delta");
        assert_eq!(dcz[..8], [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0]);
        assert_eq!(dcz[8..40], hash);
        // The frame's descriptor (RFC 8878, section 3.1.1.1.1): no dictionary id, no checksum.
        assert_eq!(dcz[40..44], [0x28, 0xb5, 0x2f, 0xfd]);
        assert_eq!(dcz[44] & 0b0000_0111, 0);
    }

    #[test]
    fn a_delta_is_a_small_part_of_what_a_whole_copy_would_be() {
        let old = script(2000, 0);
        let new = edited(&old);
        let whole = zstd::bulk::compress(&new, 19).expect("compressed").len();
        for (coding, level) in [(DictionaryCoding::Brotli, 11), (DictionaryCoding::Zstd, 19)] {
            let delta = delta(coding, &old, &new, level).expect("a delta").len();
            assert!(delta * 20 < whole, "{coding:?}: {delta} of {whole}");
        }
    }

    /// What lies at the far end of a dictionary of some megabytes is still found.
    #[test]
    fn the_window_reaches_over_dictionary_and_content() {
        let old = script(45_000, 0);
        assert!(old.len() > 3 << 20);
        let new = old[..60_000].to_vec();
        for (coding, level) in [(DictionaryCoding::Brotli, 5), (DictionaryCoding::Zstd, 3)] {
            let delta = delta(coding, &old, &new, level).expect("a delta").len();
            assert!(delta < 1000, "{coding:?}: {delta}");
        }
    }

    #[test]
    fn every_pair_of_sizes_unpacks() {
        let large = script(30, 1);
        for old in [&b"x"[..], b"ab", b"function", &large] {
            for new in [&b"y"[..], b"functional", &large, &edited(&large), &script(40, 7)] {
                for level in [0, 1, 2, 5, 9, 11] {
                    for coding in DictionaryCoding::ALL {
                        let made = delta(coding, old, new, level);
                        assert!(made.is_some(), "{coding:?} {level}: {} to {}", old.len(), new.len());
                    }
                }
            }
        }
        for coding in DictionaryCoding::ALL {
            assert_eq!(delta(coding, b"", b"x", 5), None);
            assert_eq!(delta(coding, b"x", b"", 5), None);
        }
    }

    #[test]
    fn a_delta_that_makes_something_else_is_found() {
        let (old, new) = (script(100, 0), script(110, 0));
        let dcb = delta(DictionaryCoding::Brotli, &old, &new, 5).expect("a delta");
        let dcz = delta(DictionaryCoding::Zstd, &old, &new, 3).expect("a delta");
        for (unpacks, stream) in
            [(unpacks_brotli as fn(&[u8], &[u8], &[u8]) -> bool, &dcb[36..]), (unpacks_zstd, &dcz[8 + 32..])]
        {
            assert!(unpacks(stream, &old, &new));
            assert!(!unpacks(stream, &old, &new[1..]));
            assert!(!unpacks(stream, &old, &[&new[..], b"x"].concat()));
            assert!(!unpacks(stream, &script(100, 3), &new));
            assert!(!unpacks(&stream[..stream.len() - 3], &old, &new));
            assert!(!unpacks(b"", &old, &new));
        }
    }

    #[test]
    fn beyond_the_window_of_brotli_there_is_zstd() {
        let old = script(130_000, 0);
        let new = edited(&old);
        assert!(old.len() * 2 > BROTLI_WINDOW);
        assert_eq!(delta(DictionaryCoding::Brotli, &old, &new, 0), None);
        let dcz = delta(DictionaryCoding::Zstd, &old, &new, 1).expect("a delta");
        assert!(dcz.len() < new.len() / 20, "{}", dcz.len());
        // Its window (RFC 8878, section 3.1.1.1.2) is what clients have at least.
        let (descriptor, window) = (dcz[44], u32::from(dcz[45]));
        assert_eq!(descriptor & 0b0010_0000, 0, "not a single segment");
        assert!(window >> 3 <= 23 - 10, "2^{}", (window >> 3) + 10);
    }

    #[test]
    fn the_same_bytes_give_the_same_delta() {
        let old = script(500, 0);
        for coding in DictionaryCoding::ALL {
            assert_eq!(delta(coding, &old, &edited(&old), 9), delta(coding, &old, &edited(&old), 9));
        }
    }

    #[test]
    fn a_pattern_has_an_asterisk_for_the_hash() {
        for (plain, expected) in [
            ("js/app.js", "js/app.*.js"),
            ("app.min.js", "app.min.*.js"),
            ("LICENSE", "LICENSE.*"),
            (".hidden", ".hidden.*"),
            ("a.b/c", "a.b/c.*"),
            ("a(1).css", "a\\(1\\).*.css"),
            ("a+b.css", "a%2Bb.*.css"),
        ] {
            assert_eq!(pattern(plain), expected);
        }
    }

    #[test]
    fn what_takes_part_has_copies_and_a_hashed_name_and_is_neither_tiny_nor_huge() {
        let script = || Entry {
            size: 100_000,
            is_immutable: true,
            variants: [(Coding::Gzip, 20_000)].into(),
            ..Entry::default()
        };
        assert!(takes_part("app.1.js", &script()));
        for (name, entry) in [
            ("app.js", Entry { is_immutable: false, ..script() }),
            ("app.1.png", Entry { variants: [].into(), ..script() }),
            ("app.1.js.map", script()),
            ("app.1.js", Entry { size: SMALLEST - 1, ..script() }),
            ("app.1.js", Entry { size: LARGEST + 1, ..script() }),
        ] {
            assert!(!takes_part(name, &entry), "{name}: {entry:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

        /// Few use what the encoder of brotli does with a dictionary, and its asserts would end the run. From a
        /// dictionary that is nothing but one byte again and again it makes what does not unpack.
        #[test]
        fn whatever_was_edited_the_delta_is_made_and_unpacks(
            is_script in any::<bool>(),
            old in text(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..200usize, text()), 0..6),
            level in 0..12u32,
        ) {
            let old = if is_script { [script(40, 5), old].concat() } else { old };
            let mut new = old.clone();
            for (place, length, text) in edits {
                let start = place.index(new.len() + 1);
                let end = (start + length).min(new.len());
                new.splice(start..end, text.into_iter().take(300));
            }
            let is_empty = old.is_empty() || new.is_empty();
            prop_assert_eq!(delta(DictionaryCoding::Zstd, &old, &new, level).is_some(), !is_empty);
            let brotli = delta(DictionaryCoding::Brotli, &old, &new, level);
            prop_assert!(!is_script || brotli.is_some() != is_empty);
        }
    }

    /// Bytes of all kinds: lines that repeat words, runs of one byte, and noise.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            (0..60usize, any::<u16>()).prop_map(|(lines, seed)| script(lines, seed.into())),
            (any::<u8>(), 0..3000usize).prop_map(|(byte, length)| vec![byte; length]),
            prop::collection::vec(any::<u8>(), 0..200),
            "[ -~é\\n]{0,60}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }
}
