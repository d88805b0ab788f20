//! A set of names that only answers whether it has one: 16 bytes for each, however long it is.
//!
//! A name stands there as the first half of its SHA-256, as in the names of originals. Two names of one tree that
//! share it would be found no sooner than two files with one hash.

use sha2::{Digest as _, Sha256};

/// The names.
#[derive(Debug, Default)]
pub(super) struct NameSet(Vec<u128>);

impl NameSet {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.binary_search(&key(name)).is_ok()
    }
}

impl<N: AsRef<str>> FromIterator<N> for NameSet {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        let mut keys: Vec<u128> = names.into_iter().map(|name| key(name.as_ref())).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.shrink_to_fit();
        Self(keys)
    }
}

/// What stands for a name.
pub(super) fn key(name: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(name).into();
    digest[..16].iter().fold(0, |key, byte| key << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_put_in_and_nothing_else() {
        let set: NameSet = ["b.css", "a.css", "b.css"].into_iter().collect();
        for (name, expected) in [("a.css", true), ("b.css", true), ("c.css", false), ("", false)] {
            assert_eq!(set.contains(name), expected, "for {name:?}");
        }
        assert!(!NameSet::default().contains("a.css"));
    }
}
