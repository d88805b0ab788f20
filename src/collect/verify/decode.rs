//! Reads a file, a compressed copy or a delta as a stream, to its hashes. Nothing is held but a buffer,
//! a decoder's window and, for a delta, its dictionary.
//!
//! A stream that goes on beyond the length that the manifest lists is not read further, so a copy that
//! decodes to a terabyte costs no more than a good one. Whatever follows the end of a compressed stream
//! is refused: some clients would.

use std::io::{self, BufReader, Read};
use std::path::Path;

use fs_err::File;
use sha2::{Digest as _, Sha256, Sha384};

use crate::http::encoding::{Coding, DictionaryCoding};

const BUFFER: usize = 128 << 10;
/// The largest window that a decoder of the `zstd` coding must accept: 8 MiB (RFC 9659, section 3).
const ZSTD_WINDOW_LOG: u32 = 23;
/// The same for `dcz` at most: 128 MiB (RFC 9842, section 5).
const DCZ_WINDOW_LOG: u32 = 27;
/// What a `dcb` stream begins with, before the SHA-256 of its dictionary (RFC 9842, section 4).
const DCB_MAGIC: &[u8] = &[0xff, 0x44, 0x43, 0x42];
/// The same for `dcz` (section 5): the head of a skippable frame.
const DCZ_MAGIC: &[u8] = &[0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0];

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digests {
    /// How long it is; more than the limit means that it went on.
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
    /// Only where it was asked for.
    pub(super) sha384: Option<[u8; 48]>,
}

/// Whether to take the hash for an `integrity` attribute too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integrity {
    Wanted,
    NotWanted,
}

/// Reads a file as it is.
pub(super) fn whole(path: &Path, limit: u64, integrity: Integrity) -> io::Result<Digests> {
    digests(&mut File::open(path)?, limit, integrity)
}

/// Reads what a compressed copy decodes to.
pub(super) fn copy(path: &Path, coding: Coding, limit: u64) -> io::Result<Digests> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let read = match coding {
        Coding::Gzip => digests(&mut flate2::bufread::GzDecoder::new(&mut file), limit, Integrity::NotWanted)?,
        Coding::Brotli => return brotli(&mut file, Vec::new(), limit),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&mut file)?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            digests(&mut decoder, limit, Integrity::NotWanted)?
        }
    };
    nothing_follows(&mut file, &read, limit)?;
    Ok(read)
}

/// Reads what a delta decodes to, together with its dictionary, which is asked for when the delta turns
/// out to want the one that the manifest names.
pub(super) fn delta(
    path: &Path,
    coding: DictionaryCoding,
    wanted: &[u8; 32],
    dictionary: impl FnOnce() -> io::Result<Vec<u8>>,
    limit: u64,
) -> io::Result<Digests> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let magic = match coding {
        DictionaryCoding::Brotli => DCB_MAGIC,
        DictionaryCoding::Zstd => DCZ_MAGIC,
    };
    let mut head = vec![0; magic.len() + wanted.len()];
    file.read_exact(&mut head)?;
    if head != [magic, &wanted[..]].concat() {
        return Err(invalid("it does not begin with its dictionary's hash"));
    }
    let dictionary = dictionary()?;
    match coding {
        DictionaryCoding::Brotli => brotli(&mut file, dictionary, limit),
        DictionaryCoding::Zstd => {
            let read = {
                let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(&mut file, &dictionary)?.single_frame();
                decoder.window_log_max(DCZ_WINDOW_LOG)?;
                digests(&mut decoder, limit, Integrity::NotWanted)?
            };
            nothing_follows(&mut file, &read, limit)?;
            Ok(read)
        }
    }
}

fn brotli(file: &mut impl Read, dictionary: Vec<u8>, limit: u64) -> io::Result<Digests> {
    let mut decoder = brotli::Decompressor::new_with_custom_dict(&mut *file, BUFFER, dictionary.into());
    let read = digests(&mut decoder, limit, Integrity::NotWanted)?;
    if read.size <= limit {
        // Beyond its end this decoder answers with an error if it holds bytes that it did not need.
        decoder.read(&mut [0]).map_err(|_| invalid(FOLLOWED))?;
        drop(decoder);
        nothing_follows(file, &read, limit)?;
    }
    Ok(read)
}

const FOLLOWED: &str = "bytes follow after its end";

fn nothing_follows(file: &mut impl Read, read: &Digests, limit: u64) -> io::Result<()> {
    if read.size <= limit && file.read(&mut [0])? > 0 {
        return Err(invalid(FOLLOWED));
    }
    Ok(())
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn digests(reader: &mut impl Read, limit: u64, integrity: Integrity) -> io::Result<Digests> {
    let mut sha256 = Sha256::new();
    let mut sha384 = (integrity == Integrity::Wanted).then(Sha384::new);
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    while size <= limit {
        let n = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        sha256.update(&buffer[..n]);
        if let Some(sha384) = &mut sha384 {
            sha384.update(&buffer[..n]);
        }
        size += n as u64;
    }
    Ok(Digests { size, sha256: sha256.finalize().into(), sha384: sha384.map(|sha384| sha384.finalize().into()) })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const TEXT: &[u8] = b"body { color: red } body { color: red } body { color: blue }";

    fn encoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(bytes).expect("gzip");
                encoder.finish().expect("gzip")
            }
            Coding::Zstd => zstd::encode_all(bytes, 19).expect("zstd"),
            Coding::Brotli => {
                let mut copy = Vec::new();
                let quick = brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
                brotli::BrotliCompress(&mut &bytes[..], &mut copy, &quick).expect("brotli");
                copy
            }
        }
    }

    fn read(coding: Coding, bytes: &[u8], limit: u64) -> io::Result<Digests> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("copy");
        fs_err::write(&path, bytes).expect("written");
        copy(&path, coding, limit)
    }

    #[test]
    fn a_copy_is_read_to_the_hash_of_its_file() {
        let expected = digests(&mut &TEXT[..], 1000, Integrity::NotWanted).expect("readable");
        for coding in Coding::ALL {
            assert_eq!(read(coding, &encoded(coding, TEXT), TEXT.len() as u64).expect("a copy"), expected, "{coding}");
        }
    }

    #[test]
    fn what_is_cut_short_garbled_or_followed_is_refused() {
        for coding in Coding::ALL {
            let good = encoded(coding, TEXT);
            let cut = &good[..good.len() - 3];
            let followed = [&good[..], b"x"].concat();
            let twice = [&good[..], &good[..]].concat();
            for bad in [cut, &followed, &twice, b"", TEXT] {
                let found = read(coding, bad, TEXT.len() as u64);
                assert!(found.is_err(), "{coding}: {} bytes gave {found:?}", bad.len());
            }
        }
    }

    #[test]
    fn a_copy_of_a_huge_file_is_not_read_to_its_end() {
        let huge = vec![0; 4 << 20];
        for coding in Coding::ALL {
            let read = read(coding, &encoded(coding, &huge), 10).expect("it begins well");
            assert!(read.size > 10 && read.size <= 10 + BUFFER as u64, "{coding}: {}", read.size);
        }
    }

    #[test]
    fn a_zstd_window_that_browsers_refuse_is_refused() {
        // The window of a short text would be cut to it, so this one streams without a length.
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).expect("zstd");
        encoder.window_log(24).expect("zstd");
        encoder.write_all(TEXT).expect("zstd");
        let copy = encoder.finish().expect("zstd");
        assert!(read(Coding::Zstd, &copy, 1000).is_err());
    }

    /// A brotli stream of one uncompressed block and an end, which needs no dictionary (RFC 7932, section 9.2).
    fn uncompressed_brotli(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len() - 1).expect("short");
        // WBITS 16 in one bit, not the last block, MNIBBLES 4 in two bits, the length, ISUNCOMPRESSED.
        let head = (length << 4) | (1 << 20);
        let mut stream = head.to_le_bytes()[..3].to_vec();
        stream.extend_from_slice(bytes);
        stream.push(3); // the last block, and empty
        stream
    }

    #[test]
    fn a_delta_is_read_with_its_dictionary_and_no_other() {
        let dictionary = b"body { color: red } body { color: green }".repeat(9);
        let wanted: [u8; 32] = Sha256::digest(&dictionary).into();
        let expected = digests(&mut &TEXT[..], 1000, Integrity::NotWanted).expect("readable");
        let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 19, &dictionary).expect("zstd");
        encoder.write_all(TEXT).expect("zstd");
        let streams = [
            (DictionaryCoding::Brotli, [DCB_MAGIC, &wanted, &uncompressed_brotli(TEXT)].concat()),
            (DictionaryCoding::Zstd, [DCZ_MAGIC, &wanted, &encoder.finish().expect("zstd")].concat()),
        ];
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("delta");
        for (coding, good) in streams {
            let ask = |bytes: &[u8], wanted: &[u8; 32]| {
                fs_err::write(&path, bytes).expect("written");
                delta(&path, coding, wanted, || Ok(dictionary.clone()), TEXT.len() as u64)
            };
            assert_eq!(ask(&good, &wanted).expect("a delta"), expected, "{coding:?}");
            for (bad, wanted) in [
                (&good[..20], wanted),
                (&good[..good.len() - 2], wanted),
                (&[&good[..], b"x"].concat()[..], wanted),
                (&good[..], [0; 32]),
            ] {
                assert!(ask(bad, &wanted).is_err(), "{coding:?}: {} bytes", bad.len());
            }
        }
    }

    #[test]
    fn a_delta_against_another_dictionary_gives_other_bytes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("delta");
        let wanted = [7; 32];
        let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 19, TEXT).expect("zstd");
        encoder.write_all(TEXT).expect("zstd");
        fs_err::write(&path, [DCZ_MAGIC, &wanted, &encoder.finish().expect("zstd")].concat()).expect("written");
        let right = delta(&path, DictionaryCoding::Zstd, &wanted, || Ok(TEXT.to_vec()), 1000).expect("a delta");
        let wrong = delta(&path, DictionaryCoding::Zstd, &wanted, || Ok(TEXT.to_ascii_uppercase()), 1000);
        assert!(wrong.is_err() || wrong.is_ok_and(|wrong| wrong.sha256 != right.sha256));
    }
}
