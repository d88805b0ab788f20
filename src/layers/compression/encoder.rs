//! The three codecs behind one face: bytes in, bytes out, and a flush between.
//!
//! The padding is put where each format has room for what nobody reads: the file name in gzip's head, a
//! block of metadata in brotli, a skippable frame in zstd.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use crate::config::CompressionConfig;
use crate::http::encoding::Coding;

/// How far back brotli and zstd look, as a power of two: 256 KiB. It bounds what an answer holds in memory; few
/// pages are longer.
const WINDOW: u32 = 18;

/// A codec at work.
pub(super) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// It could not be made, or has ended.
    None,
}

impl Encoder {
    /// Begins, with a padding of random length.
    pub(super) fn new(coding: Coding, config: &CompressionConfig) -> Self {
        let padding = fastrand::usize(0..=config.padding.into());
        Self::with_padding(coding, config, padding).unwrap_or(Self::None)
    }

    fn with_padding(coding: Coding, config: &CompressionConfig, padding: usize) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => {
                let head = if padding == 0 { GzBuilder::new() } else { GzBuilder::new().filename(vec![b'x'; padding]) };
                Self::Gzip(head.write(Vec::new(), Compression::new(config.gzip_level)))
            }
            Coding::Brotli => {
                const BUFFER: usize = 4096;
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), BUFFER, config.brotli_level, WINDOW);
                // A flush ends at a whole byte, where a block of metadata can stand.
                encoder.flush()?;
                encoder.get_mut().extend(brotli_metadata(padding));
                Self::Brotli(Box::new(encoder))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(zstd_frame(padding), config.zstd_level)?;
                encoder.window_log(WINDOW)?;
                Self::Zstd(encoder)
            }
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Brotli(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::None => Err(io::Error::other("this answer cannot be compressed")),
        }
    }

    /// Makes all that was written readable for whoever has what comes out.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
            Self::None => Ok(()),
        }
    }

    /// Ends, and gives what is left.
    pub(super) fn finish(&mut self) -> io::Result<Bytes> {
        let last = match std::mem::replace(self, Self::None) {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
            Self::None => return Err(io::Error::other("this answer cannot be compressed")),
        };
        Ok(last.into())
    }

    /// What has come out since it was asked last.
    pub(super) fn take(&mut self) -> Bytes {
        match self {
            Self::Gzip(encoder) => std::mem::take(encoder.get_mut()),
            Self::Brotli(encoder) => std::mem::take(encoder.get_mut()),
            Self::Zstd(encoder) => std::mem::take(encoder.get_mut()),
            Self::None => Vec::new(),
        }
        .into()
    }
}

/// A block of metadata with so many bytes (RFC 7932, section 9.2), up to 256.
fn brotli_metadata(length: usize) -> Vec<u8> {
    let Some(last) = length.checked_sub(1).and_then(|last| u8::try_from(last).ok()) else { return Vec::new() };
    // From the lowest bit on: not the last block; the number of nibbles that stands for metadata; a zero; one byte of
    // length; the length less one.
    let head: u16 = (0b11 << 1) | (0b01 << 4) | (u16::from(last) << 6);
    let mut block = head.to_le_bytes().to_vec();
    block.resize(block.len() + length, 0);
    block
}

/// A skippable frame with so many bytes (RFC 8878, section 3.1.2).
fn zstd_frame(length: usize) -> Vec<u8> {
    let Some(size) = u32::try_from(length).ok().filter(|size| *size > 0) else { return Vec::new() };
    let mut frame = [0x184D_2A50_u32.to_le_bytes(), size.to_le_bytes()].concat();
    frame.resize(frame.len() + length, 0);
    frame
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        let read = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).expect("a decoder").read_to_end(&mut decoded),
        };
        read.expect("it can be decoded");
        decoded
    }

    #[test]
    fn whatever_the_padding_all_comes_out_again_and_each_flush_gives_all_so_far() {
        let config = CompressionConfig::default();
        for coding in Coding::ALL {
            let mut lengths = Vec::new();
            for padding in [0, 1, 2, 63, 100, 255] {
                let mut encoder = Encoder::with_padding(coding, &config, padding).expect("an encoder");
                let mut sent = Vec::new();
                for part in ["first ", "second ", ""] {
                    encoder.write(part.as_bytes()).expect("it takes all");
                    encoder.flush().expect("it flushes");
                    sent.extend(encoder.take());
                    // What a client can read by now: it has no end yet.
                    let mut soon = vec![0; 64];
                    let read = match coding {
                        Coding::Gzip => flate2::read::GzDecoder::new(&sent[..]).read(&mut soon),
                        Coding::Brotli => brotli::Decompressor::new(&sent[..], 4096).read(&mut soon),
                        Coding::Zstd => zstd::stream::read::Decoder::new(&sent[..]).expect("a decoder").read(&mut soon),
                    };
                    assert!(soon[..read.expect("readable")].starts_with(b"first "), "{coding} {padding}");
                }
                encoder.write(&[b'z'; 100_000]).expect("it takes all");
                sent.extend(encoder.take());
                sent.extend(encoder.finish().expect("it ends"));
                let decoded = decode(coding, &sent);
                assert!(decoded.starts_with(b"first second zzz") && decoded.len() == 100_013, "{coding} {padding}");
                lengths.push(sent.len());
            }
            // The longer the padding, the longer the answer.
            assert!(lengths.is_sorted() && lengths[5] - lengths[1] == 254, "{coding}: {lengths:?}");
        }
    }

    #[test]
    fn the_same_answer_comes_in_many_lengths() {
        for coding in Coding::ALL {
            let length = || {
                let mut encoder = Encoder::new(coding, &CompressionConfig::default());
                encoder.write(b"the same").expect("it takes all");
                encoder.finish().expect("it ends").len()
            };
            let lengths: std::collections::BTreeSet<_> = (0..200).map(|_| length()).collect();
            assert!(lengths.len() > 10, "{coding}: {lengths:?}");
            let none = CompressionConfig { padding: 0, ..CompressionConfig::default() };
            let mut encoder = Encoder::new(coding, &none);
            encoder.write(b"the same").expect("it takes all");
            assert!(encoder.finish().expect("it ends").len() <= *lengths.first().expect("some"));
        }
    }
}
