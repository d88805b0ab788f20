//! The codecs: a file's bytes in, a compressed copy out, and the other way round as a check.
//!
//! A copy depends on the bytes, the codec's release and its level, and on nothing else: no clock, no file name, no
//! number of threads goes in. That is what makes copies of an earlier run as good as new ones ([`Codec::recipe`]).
//!
//! Which encoders, and why. 231 files of a Django site, 5.1 MB without what is compressed already, on one core of a
//! busy x86-64 machine, November 2026; the times are of the processor and have a tenth of noise:
//!
//! | encoder | seconds | bytes |
//! |---|---|---|
//! | `brotli` 11 | 9.3 | 930,868 |
//! | Google's `brotli` 11, in C | 8.6 to 9.1 | 930,889 |
//! | `zstd` 19 | 2.4 | 1,015,175 |
//! | zlib 9, in C | 0.27 | 1,126,151 |
//! | `flate2` 9, with zlib-rs | 0.15 | 1,129,440 |
//! | libdeflate 9 | 0.15 | 1,111,799 |
//! | libdeflate 10 | 0.5 | 1,081,898 |
//! | libdeflate 12 | 1.1 | 1,078,292 |
//!
//! brotli is most of what a first run costs: two thirds of its time are the search for the shortest encoding, and
//! neither a whole-program build nor wider instructions made the first two rows faster by more than the noise. So the
//! encoder is `mbrotli`, whose copies are Google's byte for byte. Seconds on one core of a quiet machine, of another
//! sample (190 files, 4.2 MB) and of two large files (10.3 MB):
//!
//! | encoder | sample | bytes | large files | bytes |
//! |---|---|---|---|---|
//! | `brotli` 11 | 8.6 to 9.4 | 853,930 | 26.2 to 27.1 | 1,785,682 |
//! | Google's `brotli` 11, in C | 8.1 to 8.5 | 853,906 | 23.8 to 25.2 | 1,784,672 |
//! | `mbrotli` 11 | 4.8 | 853,906 | 15.8 | 1,784,672 |
//!
//! It is the youngest crate here. So its release is pinned, nothing but its encoder is compiled in, and each of its
//! copies is decoded by the `brotli` crate before it is kept; where one is not the file again, the `brotli` crate makes
//! the copy ([`Codec::encode`]). `collect --check`, which decodes the copies of every kind and does more besides, takes
//! a fiftieth of the processor time that making them takes.
//!
//! So gzip is libdeflate's: smaller than zlib at the same level, at half the time. `zopfli` took 56 times as long as
//! libdeflate 12 on a third of these files and saved another 1 %: too little for a copy that hardly any browser asks
//! for. zlib-rs is what large files are streamed through, since libdeflate takes a file only whole.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::contents::Contents;
use super::error::CollectError;
use super::fingerprint::Fingerprint;
use crate::config::CollectConfig;
use crate::http::encoding::Coding;

/// The releases of the codecs, which decide the bytes of a copy. A test holds them to `Cargo.lock`.
const RELEASES: [(&str, &str); 5] = [
    ("brotli", "9.1.1"),
    ("libdeflate-sys", "1.26.1"),
    ("mbrotli", "0.5.20"),
    ("zlib-rs", "0.6.8"),
    ("zstd-sys", "2.1.2+zstd.1.5.7"),
];
/// Stands for everything that this module decides beside the level, and must grow with each change of it.
const METHOD: u32 = 2;

/// A larger file goes through the codec in pieces. Rare, and slightly less well compressed.
const STREAMED_FROM: u64 = 32 << 20;
/// 4 MiB, like other encoders' default. More takes memory on both sides: up to 200 MB here, 16 MB in a browser.
const BROTLI_WINDOW_LOG: u8 = 22;
/// The largest window that decoders of the `zstd` coding must accept: 8 MiB (RFC 9659, section 3).
const ZSTD_WINDOW_LOG: u32 = 23;
/// How zlib's levels end; those above are libdeflate's own.
const ZLIB_BEST: u32 = 9;

/// An encoder at a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Codec {
    pub(super) coding: Coding,
    level: u32,
}

impl Codec {
    /// The codec of a coding, at the level that the operator has chosen.
    pub(super) fn new(coding: Coding, config: &CollectConfig) -> Self {
        let level = match coding {
            Coding::Gzip => config.gzip_level,
            Coding::Brotli => config.brotli_level,
            Coding::Zstd => config.zstd_level,
        };
        Self { coding, level }
    }

    /// Everything beside the contents that decides the bytes of a copy.
    pub(super) fn recipe(self) -> String {
        let name = self.coding.token();
        format!("{name} level {} method {METHOD} by {}", self.level, releases())
    }

    /// About how many bytes of memory it takes for a file of this size, with the file and the copy. Measured.
    pub(super) fn memory(self, size: u64) -> u64 {
        const MIB: u64 = 1 << 20;
        let held = if size > STREAMED_FROM { size / 2 } else { size + size / 2 };
        held + match self.coding {
            Coding::Gzip => 8 * MIB,
            Coding::Brotli => 6 * MIB + 15 * size.min(4 * MIB),
            Coding::Zstd => 3 * MIB + 12 * size.min(8 * MIB),
        }
    }

    /// Compresses a file, which is called by this name if it fails.
    pub(super) fn encode(self, contents: &Contents, name: &str) -> Result<Vec<u8>, CollectError> {
        let is_large = contents.size > STREAMED_FROM;
        let copy = if is_large { self.stream(contents)? } else { self.encode_bytes(&contents.read()?) };
        let copy = self.sound(copy, contents)?;
        copy.map_err(|cause| CollectError::Compress { name: name.to_owned(), cause })
    }

    /// The copy, unless it is the younger brotli encoder's and is not the file again: then the elder one's.
    fn sound(self, copy: io::Result<Vec<u8>>, contents: &Contents) -> Result<io::Result<Vec<u8>>, CollectError> {
        match copy {
            Ok(copy) if self.coding == Coding::Brotli => {
                let is_sound = decodes_to(&copy, self.coding, contents.size, &contents.fingerprint);
                if is_sound { Ok(Ok(copy)) } else { self.by_the_elder(contents) }
            }
            copy => Ok(copy),
        }
    }

    /// Compresses with the `brotli` crate.
    fn by_the_elder(self, contents: &Contents) -> Result<io::Result<Vec<u8>>, CollectError> {
        let parameters = brotli::enc::BrotliEncoderParams {
            quality: self.signed_level(),
            lgwin: BROTLI_WINDOW_LOG.into(),
            size_hint: usize::try_from(contents.size).unwrap_or(usize::MAX),
            ..brotli::enc::BrotliEncoderParams::default()
        };
        let mut encoder = brotli::CompressorWriter::with_params(Vec::new(), 1 << 16, &parameters);
        let written = contents.write_to(&mut encoder)?;
        Ok(written.map(|()| encoder.into_inner()))
    }

    fn encode_bytes(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self.coding {
            Coding::Gzip => self.gzip(bytes),
            Coding::Brotli => self.brotli()?.compress(bytes).map_err(io::Error::other),
            Coding::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(self.signed_level())?;
                self.zstd(bytes.len() as u64, |parameter| compressor.set_parameter(parameter))?;
                compressor.compress(bytes)
            }
        }
    }

    /// Nothing but the copy and the codec's own memory is held.
    fn stream(self, contents: &Contents) -> Result<io::Result<Vec<u8>>, CollectError> {
        match self.coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(self.level.min(ZLIB_BEST));
                // 255 is "unknown" for the operating system (RFC 1952, section 2.3.1).
                let mut encoder = flate2::GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), level);
                let written = contents.write_to(&mut encoder)?;
                Ok(written.and_then(|()| encoder.finish()))
            }
            Coding::Brotli => {
                let size = mbrotli::InputSize::Exact(contents.size).into();
                let mut compressor = match self.brotli() {
                    Ok(compressor) => compressor,
                    Err(cause) => return Ok(Err(cause)),
                };
                let mut encoder = match compressor.writer(Vec::new(), size) {
                    Ok(encoder) => encoder,
                    Err(cause) => return Ok(Err(io::Error::other(cause))),
                };
                let written = contents.write_to(&mut encoder)?;
                Ok(written.and_then(|()| encoder.finish().map_err(mbrotli::io::FinishError::into_error)))
            }
            Coding::Zstd => {
                let encoder = zstd::Encoder::new(Vec::new(), self.signed_level()).and_then(|mut encoder| {
                    self.zstd(contents.size, |parameter| encoder.set_parameter(parameter))?;
                    encoder.set_pledged_src_size(Some(contents.size))?;
                    Ok(encoder)
                });
                let Ok(mut encoder) = encoder else { return Ok(encoder.map(|_| Vec::new())) };
                let written = contents.write_to(&mut encoder)?;
                Ok(written.and_then(|()| encoder.finish()))
            }
        }
    }

    fn gzip(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let level = i32::try_from(self.level).ok().and_then(|level| libdeflater::CompressionLvl::new(level).ok());
        let mut compressor = libdeflater::Compressor::new(level.unwrap_or_default());
        let mut copy = vec![0; compressor.gzip_compress_bound(bytes.len())];
        let length = compressor.gzip_compress(bytes, &mut copy).map_err(io::Error::other)?;
        copy.truncate(length);
        Ok(copy)
    }

    fn brotli(self) -> io::Result<mbrotli::Compressor> {
        let level = u8::try_from(self.level).unwrap_or(u8::MAX);
        let quality = mbrotli::Quality::try_from(level).map_err(io::Error::other)?;
        let window = mbrotli::Window::standard(BROTLI_WINDOW_LOG).map_err(io::Error::other)?;
        let config = mbrotli::EncoderConfig::default().with_quality(quality).with_window(window);
        mbrotli::Compressor::new(config).map_err(io::Error::other)
    }

    fn zstd(self, size: u64, mut set: impl FnMut(zstd::zstd_safe::CParameter) -> io::Result<()>) -> io::Result<()> {
        use zstd::zstd_safe::CParameter;
        set(CParameter::ContentSizeFlag(true))?;
        set(CParameter::ChecksumFlag(false))?;
        if size > 1 << ZSTD_WINDOW_LOG {
            set(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
        }
        Ok(())
    }

    fn signed_level(self) -> i32 {
        i32::try_from(self.level).unwrap_or(i32::MAX)
    }
}

/// The releases of all codecs in one text: another release may make other bytes.
pub(super) fn releases() -> String {
    let releases: Vec<String> = RELEASES.iter().map(|(name, release)| format!("{name} {release}")).collect();
    releases.join(", ")
}

/// Whether a copy decodes to a file of this size and fingerprint, with nothing left over.
///
/// Decoding stops as soon as there is too much, so that a copy that swells to any length does no harm.
pub(super) fn decodes_to(copy: &[u8], coding: Coding, size: u64, fingerprint: &Fingerprint) -> bool {
    let decoded = match coding {
        Coding::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(copy);
            digest(&mut decoder, size).filter(|_| decoder.into_inner().is_empty())
        }
        Coding::Brotli => digest(&mut brotli::Decompressor::new(copy, 1 << 16), size),
        Coding::Zstd => zstd::Decoder::with_buffer(copy).ok().and_then(|decoder| {
            let mut decoder = decoder.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG).ok()?;
            digest(&mut decoder, size).filter(|_| decoder.finish().is_empty())
        }),
    };
    decoded.is_some_and(|decoded| decoded == *fingerprint)
}

fn digest(decoder: &mut impl Read, size: u64) -> Option<Fingerprint> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut left = size;
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return (left == 0).then(|| hasher.finalize().into()),
            Ok(n) => {
                left = left.checked_sub(n as u64)?;
                hasher.update(&buffer[..n]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::collect::fingerprint::fingerprint;

    const ALL: [Codec; 5] = [
        Codec { coding: Coding::Gzip, level: 9 },
        Codec { coding: Coding::Gzip, level: 12 },
        Codec { coding: Coding::Brotli, level: 5 },
        Codec { coding: Coding::Brotli, level: 11 },
        Codec { coding: Coding::Zstd, level: 19 },
    ];

    fn original() -> Vec<u8> {
        (0..20_000_u32).flat_map(|n| (n / 7 % 251).to_le_bytes()).collect()
    }

    fn is_copy_of(copy: &[u8], coding: Coding, original: &[u8]) -> bool {
        decodes_to(copy, coding, original.len() as u64, &fingerprint(original))
    }

    #[test]
    fn every_copy_decodes_to_the_original_and_to_nothing_else() {
        let original = original();
        for codec in ALL {
            let copy = codec.encode_bytes(&original).expect("a copy");
            assert!(copy.len() < original.len() / 2, "{codec:?}");
            assert!(is_copy_of(&copy, codec.coding, &original), "{codec:?}");
            let mut other = original.clone();
            other[77] ^= 1;
            assert!(!is_copy_of(&copy, codec.coding, &other), "{codec:?}: another file of that size");
            assert!(!is_copy_of(&copy, codec.coding, &original[1..]), "{codec:?}: too long");
            assert!(!is_copy_of(&copy[..copy.len() - 1], codec.coding, &original), "{codec:?}: cut short");
            assert!(!is_copy_of(&original, codec.coding, &original), "{codec:?}: not compressed at all");
        }
    }

    #[test]
    fn a_copy_with_another_one_behind_it_is_no_copy() {
        // A browser would take the second one for the rest of the file.
        let original = original();
        for codec in [ALL[0], ALL[4]] {
            let mut copy = codec.encode_bytes(&original).expect("a copy");
            copy.extend(codec.encode_bytes(b"alert(1)").expect("a copy"));
            assert!(!is_copy_of(&copy, codec.coding, &original), "{codec:?}");
        }
    }

    #[test]
    fn a_streamed_copy_decodes_to_the_original_too() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.js");
        fs_err::write(&path, original()).expect("written");
        let contents = Contents::on_disk(path.as_path()).expect("readable");
        for codec in ALL {
            let copy = codec.stream(&contents).expect("readable").expect("a copy");
            assert!(is_copy_of(&copy, codec.coding, &original()), "{codec:?}");
            assert!(copy.len() < original().len() / 2, "{codec:?}");
        }
        fs_err::write(&path, "changed").expect("written");
        for codec in ALL {
            assert!(matches!(codec.stream(&contents), Err(CollectError::Changed(_))), "{codec:?}");
        }
    }

    #[test]
    fn the_elder_encoder_makes_what_the_quicker_one_has_spoiled() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (original, path) = (original(), folder.path().join("a.js"));
        fs_err::write(&path, &original).expect("written");
        let contents = Contents::on_disk(path.as_path()).expect("readable");
        let codec = ALL[3];
        let good = codec.encode_bytes(&original).expect("a copy");
        assert_eq!(codec.sound(Ok(good.clone()), &contents).expect("unchanged").expect("a copy"), good);
        for spoiled in [codec.encode_bytes(b"another file").expect("a copy"), good[1..].to_vec(), Vec::new()] {
            let copy = codec.sound(Ok(spoiled), &contents).expect("unchanged").expect("a copy");
            assert!(is_copy_of(&copy, Coding::Brotli, &original));
        }
    }

    #[test]
    fn gzip_names_no_time_no_file_and_no_system() {
        let contents = Contents::of(b"", Path::new("/dev/null"));
        for codec in &ALL[..2] {
            let copies =
                [codec.encode_bytes(&[b'a'; 20]).expect("gzip"), codec.stream(&contents).expect("read").expect("gzip")];
            for copy in copies {
                assert_eq!(copy[3], 0, "flags: no file name");
                assert_eq!(copy[4..8], [0; 4], "no time");
                assert_eq!(copy[9], 255, "no operating system");
            }
        }
    }

    #[test]
    fn the_zstd_window_stays_within_what_browsers_accept() {
        // More than the window, with little to compress, at the level with the largest window.
        let original: Vec<u8> = std::iter::repeat_n(b'a', (8 << 20) + 4096).collect();
        let copy = Codec { coding: Coding::Zstd, level: 22 }.encode_bytes(&original).expect("zstd");
        // Frame header (RFC 8878, section 3.1.1.1): descriptor, then the window's exponent.
        let (descriptor, window) = (copy[4], copy[5]);
        assert_eq!(descriptor & 0b0010_0000, 0, "not a single segment");
        assert_eq!(descriptor & 0b0000_0100, 0, "no checksum");
        assert!(descriptor >> 6 != 0, "the content size is there");
        assert!(u32::from(window >> 3) + 10 <= ZSTD_WINDOW_LOG);
        assert!(is_copy_of(&copy, Coding::Zstd, &original));
    }

    #[test]
    fn a_recipe_differs_by_coding_and_level() {
        let recipes: std::collections::BTreeSet<String> = ALL.iter().map(|codec| codec.recipe()).collect();
        assert_eq!(recipes.len(), ALL.len(), "{recipes:?}");
    }

    #[test]
    fn the_releases_in_a_recipe_are_those_of_the_lock_file() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
        let lock = fs_err::read_to_string(path).expect("a lock file");
        for (name, release) in RELEASES {
            let line = format!("name = \"{name}\"\nversion = \"{release}\"\n");
            assert!(lock.contains(&line), "copies of the release before must not be taken from the cache: {name}");
        }
    }
}
