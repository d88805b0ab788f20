//! From contents to a name with a content hash. Pure.
//!
//! The shape is that of Django's `ManifestStaticFilesStorage`, the digest SHA-256 instead of MD5.

use sha2::{Digest as _, Sha256};

use crate::manifest::digits::hex;

/// A SHA-256.
pub(super) type Fingerprint = [u8; 32];

/// The digest of some bytes.
pub(super) fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// The name with the first twelve digits of the fingerprint before its last extension.
pub(super) fn hashed_name(name: &str, fingerprint: &Fingerprint) -> String {
    let (stem, extension) = halves(name);
    format!("{stem}.{}{extension}", hex(&fingerprint[..6]))
}

/// What stands before the digits and their dot, and what after.
///
/// A leading dot begins an extension here as it does in Django: `.hidden` becomes `.hidden.<hash>`,
/// because there is nothing before the dot.
pub(super) fn halves(name: &str) -> (&str, &str) {
    let base_name = name.rfind('/').map_or(0, |slash| slash + 1);
    let dots = name[base_name..].len() - name[base_name..].trim_start_matches('.').len();
    match name[base_name + dots..].rfind('.') {
        Some(dot) => name.split_at(base_name + dots + dot),
        None => (name, ""),
    }
}

/// The fingerprints of files that name each other, given as plain names and texts.
///
/// A hash over the final bytes cannot exist here: they hold the hashes. So each file counts as its
/// author's text, in which only references that leave the ring have their final names. All of these
/// texts together, each with its plain name, make the ring's hash, and a file's fingerprint is the
/// hash of the ring's, its name and its text.
///
/// What a reference within the ring leads to follows from names and texts alone, and so do the final
/// bytes: one hashed name never stands for two contents. A change in any member, or in what any
/// member refers to, renames every member, as it must, since each one leads to every other.
pub(super) fn ring_fingerprints(members: &[(&str, Vec<u8>)]) -> Vec<Fingerprint> {
    // Digests have one length, so that no two lists of members run together to the same bytes.
    let digest = |(name, text): &(&str, Vec<u8>)| [fingerprint(name.as_bytes()), fingerprint(text)].concat();
    let ring = fingerprint(&members.iter().flat_map(digest).collect::<Vec<u8>>());
    members.iter().map(|member| fingerprint(&[&ring[..], &digest(member)].concat())).collect()
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

    fn ring(members: [(&str, &str); 2]) -> Vec<Fingerprint> {
        ring_fingerprints(&members.map(|(name, text)| (name, text.into())))
    }

    #[test]
    fn a_change_in_one_member_renames_the_whole_ring() {
        let before = ring([("a", "1"), ("b", "2")]);
        assert_eq!(before, ring([("a", "1"), ("b", "2")]));
        for after in [ring([("a", "1"), ("b", "3")]), ring([("a", "1"), ("c", "2")]), ring([("a", "2"), ("b", "1")])] {
            assert!(before[0] != after[0] && before[1] != after[1]);
        }
    }

    #[test]
    fn equal_members_of_a_ring_differ() {
        let ring = ring([("a", "1"), ("b", "1")]);
        assert_ne!(ring[0], ring[1]);
    }
}
