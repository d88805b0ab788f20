//! From contents to a name with a content hash. Pure.
//!
//! The shape is that of Django's `ManifestStaticFilesStorage`, the digest SHA-256 instead of MD5.

use sha2::{Digest as _, Sha256};

use crate::manifest::json::hex;

/// A SHA-256.
pub(super) type Fingerprint = [u8; 32];

/// The digest of some bytes.
pub(super) fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// The name with the first twelve digits of the fingerprint before its last extension.
///
/// A leading dot begins an extension here as it does in Django: `.hidden` becomes `.hidden.<hash>`,
/// because there is nothing before the dot.
pub(super) fn hashed_name(name: &str, fingerprint: &Fingerprint) -> String {
    let digits = hex(&fingerprint[..6]);
    let base_name = name.rfind('/').map_or(0, |slash| slash + 1);
    let dots = name[base_name..].len() - name[base_name..].trim_start_matches('.').len();
    match name[base_name + dots..].rfind('.') {
        Some(dot) => {
            let (stem, extension) = name.split_at(base_name + dots + dot);
            format!("{stem}.{digits}{extension}")
        }
        None => format!("{name}.{digits}"),
    }
}

/// The fingerprints of files that name each other.
///
/// A hash over the final bytes cannot exist here: they hold the hashes. So each file counts as its
/// author's text, in which only references that leave the ring have their final names. All of these
/// texts together make the ring's hash, and a file's fingerprint is the hash of the ring's and its
/// own. The final bytes of a file follow from these texts alone, so one name never stands for two
/// contents; a change in any member, or in what any member refers to, renames every member, as it
/// must, since each one leads to every other. Names take no part: a ring keeps its hashes when its
/// folder moves. Two members with the same text differ by their position.
pub(super) fn ring_fingerprints(texts: &[Vec<u8>]) -> Vec<Fingerprint> {
    let ring: Vec<u8> = texts.iter().flat_map(|text| fingerprint(text)).collect();
    let ring = fingerprint(&ring);
    let member = |(position, text): (usize, &Vec<u8>)| {
        let position = u64::try_from(position).unwrap_or(u64::MAX).to_be_bytes();
        fingerprint(&[&ring[..], &position, &fingerprint(text)].concat())
    };
    texts.iter().enumerate().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hashed_name_has_the_shape_that_django_gives_it() {
        let hash = [0xab; 32];
        for (name, expected) in [
            ("css/site.css", "css/site.abababababab.css"),
            ("x.min.js", "x.min.abababababab.js"),
            ("a.tar.gz", "a.tar.abababababab.gz"),
            ("noext", "noext.abababababab"),
            (".hidden", ".hidden.abababababab"),
            ("a.b/noext", "a.b/noext.abababababab"),
            ("a.b/.hidden.css", "a.b/.hidden.abababababab.css"),
            ("UPPER.CSS", "UPPER.abababababab.CSS"),
            ("a b.txt", "a b.abababababab.txt"),
            ("ends.", "ends.abababababab."),
        ] {
            assert_eq!(hashed_name(name, &hash), expected, "for {name}");
        }
    }

    #[test]
    fn a_change_in_one_member_renames_the_whole_ring() {
        let before = ring_fingerprints(&[b"a".to_vec(), b"b".to_vec()]);
        let after = ring_fingerprints(&[b"a".to_vec(), b"B".to_vec()]);
        assert!(before[0] != after[0] && before[1] != after[1]);
        assert_eq!(before, ring_fingerprints(&[b"a".to_vec(), b"b".to_vec()]));
    }

    #[test]
    fn equal_members_of_a_ring_differ() {
        let ring = ring_fingerprints(&[b"a".to_vec(), b"a".to_vec()]);
        assert_ne!(ring[0], ring[1]);
    }
}
