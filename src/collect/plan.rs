//! Which name of the output gets which bytes, and what the manifest says of it. Pure: `publish` acts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::compress::{Compressed, Copies};
use super::contents::Contents;
use super::name::Output;
use crate::http::encoding::Coding;
use crate::http::media_type;
use crate::manifest::json::hex;
use crate::manifest::{Entry, Manifest};

/// Everything to put into the output folder.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The files, but for the manifest, in the order in which they go into place.
    pub(super) pieces: Vec<Piece<'a>>,
    /// The manifest, which goes last.
    pub(super) manifest: Manifest,
}

/// One file of the output.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) name: String,
    pub(super) bytes: Bytes<'a>,
    pub(super) modified: SystemTime,
    /// An earlier piece with the same bytes.
    pub(super) same_as: Option<String>,
}

/// The bytes of a piece.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bytes<'a> {
    /// A file itself.
    Whole(&'a Contents),
    /// A compressed copy.
    Copy(&'a [u8]),
}

/// Plans it: all hashed names first, which nothing names yet, then the plain ones, which the last
/// manifest may name. A file comes right after its copies.
pub(super) fn plan(compressed: &Compressed) -> Plan<'_> {
    let taken: BTreeSet<&str> = compressed.outputs.iter().flat_map(|(output, _)| output.names()).collect();
    let mut hashed = Vec::new();
    let mut plain = Vec::new();
    let mut files = BTreeMap::new();
    for (output, copies) in &compressed.outputs {
        let mut names_of_bytes = BTreeMap::new();
        for name in output.names() {
            let copies = free_copies(name, copies, &taken);
            files.insert(name.to_owned(), entry(name, output, &copies));
            let pieces = if output.hashed.as_deref() == Some(name) { &mut hashed } else { &mut plain };
            let copies = copies.into_iter().map(|(coding, copy)| (Some(coding), Bytes::Copy(copy)));
            for (coding, bytes) in copies.chain([(None, Bytes::Whole(&output.contents))]) {
                let name = format!("{name}{}", coding.map_or("", Coding::suffix));
                let same_as = names_of_bytes.get(&coding).cloned();
                names_of_bytes.entry(coding).or_insert_with(|| name.clone());
                pieces.push(Piece { name, bytes, modified: output.modified, same_as });
            }
        }
    }
    hashed.append(&mut plain);
    Plan { pieces: hashed, manifest: Manifest { paths: compressed.paths.clone(), files: Some(files) } }
}

/// The copies that a name may have beside it. A name that belongs to a file of the sources, as
/// `a.js.gz` beside `a.js`, is the author's.
fn free_copies<'a>(name: &str, copies: &'a Copies, taken: &BTreeSet<&str>) -> BTreeMap<Coding, &'a [u8]> {
    let is_free = |coding: Coding| !taken.contains(format!("{name}{}", coding.suffix()).as_str());
    let copies = copies.iter().filter(|(coding, _)| is_free(**coding));
    copies.map(|(coding, copy)| (*coding, copy.as_slice())).collect()
}

fn entry(name: &str, output: &Output, copies: &BTreeMap<Coding, &[u8]>) -> Entry {
    Entry {
        size: output.contents.size,
        media_type: media_type::content_type(name).into_owned(),
        sha256: hex(&output.contents.fingerprint),
        is_immutable: output.hashed.as_deref() == Some(name),
        variants: copies.iter().map(|(coding, copy)| (*coding, copy.len() as u64)).collect(),
        ..Entry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(hashed: Option<&str>, plain: &str, copies: &[Coding]) -> (Output, Copies) {
        let output = Output {
            hashed: hashed.map(str::to_owned),
            plain: Some(plain.to_owned()),
            contents: Contents::held(plain.into()),
            modified: SystemTime::UNIX_EPOCH,
        };
        (output, copies.iter().map(|coding| (*coding, b"copy".to_vec())).collect())
    }

    fn planned(outputs: Vec<(Output, Copies)>) -> Vec<(String, Option<String>)> {
        let compressed = Compressed { outputs, paths: BTreeMap::new(), totals: BTreeMap::new() };
        plan(&compressed).pieces.into_iter().map(|piece| (piece.name, piece.same_as)).collect()
    }

    #[test]
    fn hashed_names_come_first_and_plain_ones_share_their_bytes() {
        let pieces =
            planned(vec![output(Some("a.1.css"), "a.css", &[Coding::Gzip]), output(Some("b.1.css"), "b.css", &[])]);
        let expected = [
            ("a.1.css.gz", None),
            ("a.1.css", None),
            ("b.1.css", None),
            ("a.css.gz", Some("a.1.css.gz")),
            ("a.css", Some("a.1.css")),
            ("b.css", Some("b.1.css")),
        ];
        assert_eq!(pieces, expected.map(|(name, same_as)| (name.to_owned(), same_as.map(str::to_owned))));
    }

    #[test]
    fn a_copy_gives_way_to_a_file_of_the_sources_and_never_shares_its_bytes() {
        // The sources hold an older output, with a copy that we did not make.
        let pieces = planned(vec![output(None, "a.1.css.gz", &[]), output(Some("a.1.css"), "a.css", &[Coding::Gzip])]);
        let expected = [("a.1.css", None), ("a.1.css.gz", None), ("a.css.gz", None), ("a.css", Some("a.1.css"))];
        assert_eq!(pieces, expected.map(|(name, same_as)| (name.to_owned(), same_as.map(str::to_owned))));
    }
}
