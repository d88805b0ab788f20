//! Which name of the output gets which bytes, and what the manifest says of it. Pure: `publish` acts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::carry::Carriage;
use super::compress::{Compressed, Copies};
use super::contents::Contents;
use super::deltas::Delta;
use crate::http::encoding::{Coding, DictionaryCoding};
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
    pub(super) origin: Origin<'a>,
}

/// Where the bytes of a piece come from.
#[derive(Debug)]
pub(super) enum Origin<'a> {
    /// It is ready in the staging folder, or else a copy of this.
    Whole(&'a Contents, SystemTime),
    /// It is ready in the staging folder.
    Staged,
    /// An earlier piece with the same bytes.
    SameAs(String),
    /// This file of an earlier release, in another folder.
    Elsewhere(PathBuf),
}

/// Plans it: first what has a hash in its name, which nothing names yet, then the plain names, which the
/// last manifest may name. A file comes right after its copies.
pub(super) fn plan(compressed: &Compressed) -> Plan<'_> {
    let Compressed { outputs, paths, .. } = compressed;
    let hashed: BTreeSet<&str> = paths.iter().filter(|(plain, name)| plain != name).map(|(_, name)| &**name).collect();
    let mut pieces = Vec::new();
    let mut plain_pieces = Vec::new();
    let mut files = BTreeMap::new();
    for (output, copies) in outputs {
        let home = output.stored();
        let names = copies.keys().map(|coding| (with_suffix(&home, *coding), Origin::Staged));
        pieces.extend(names.map(|(name, origin)| Piece { name, origin }));
        pieces.push(Piece { name: home.clone(), origin: Origin::Whole(&output.contents, output.modified) });
        let entry = entry(output.name(), &output.contents, copies.clone());
        if let Some(name) = &output.plain {
            plain_pieces.extend(pieces_of_plain(name, &home, copies, paths));
            let is_immutable = hashed.contains(&**name);
            files.insert(name.clone(), Entry { is_immutable, stored: Some(home), ..entry.clone() });
        }
        if let Some(name) = &output.hashed {
            files.insert(name.clone(), Entry { is_immutable: true, ..entry });
        }
    }
    // Equal originals have one home.
    let mut seen = BTreeSet::new();
    pieces.retain(|piece| seen.insert(piece.name.clone()));
    pieces.append(&mut plain_pieces);
    Plan {
        pieces,
        manifest: Manifest { paths: paths.clone(), files: Some(files), leaving: BTreeSet::new(), rewriting: None },
    }
}

/// What the manifest says of a file of which nothing else is known.
pub(super) fn entry(name: &str, contents: &Contents, variants: BTreeMap<Coding, u64>) -> Entry {
    Entry {
        size: contents.size,
        media_type: media_type::content_type(name).into_owned(),
        sha256: hex(&contents.fingerprint),
        integrity: contents.integrity(),
        variants,
        ..Entry::default()
    }
}

impl Plan<'_> {
    /// Takes in what stays of the release before, if need be from its own folder.
    pub(super) fn carry(&mut self, carriage: &Carriage, output: &Path) {
        self.manifest.files.get_or_insert_default().extend(carriage.kept.clone());
        if carriage.folder != output {
            let names = carriage.kept.iter().flat_map(|(name, entry)| names_of(name, entry));
            let piece = |name: String| Piece { origin: Origin::Elsewhere(carriage.folder.join(&name)), name };
            self.pieces.splice(0..0, names.map(piece));
        }
    }

    /// Takes in deltas that are ready in the staging folder, and those that the release before has.
    pub(super) fn add_deltas(
        &mut self,
        made: Vec<(Delta, u64)>,
        present: Vec<(Delta, u64)>,
        carriage: &Carriage,
        output: &Path,
    ) {
        let staged = made.iter().map(|(delta, _)| Piece { name: delta.name(), origin: Origin::Staged });
        let elsewhere = present.iter().filter(|_| carriage.folder != output).map(|(delta, _)| {
            let name = delta.name();
            Piece { origin: Origin::Elsewhere(carriage.folder.join(&name)), name }
        });
        self.pieces.splice(0..0, staged.chain(elsewhere).collect::<Vec<_>>());
        let files = self.manifest.files.get_or_insert_default();
        for (delta, size) in made.into_iter().chain(present) {
            let entry = files.get_mut(&delta.file).expect("a delta is made for a file of the plan");
            entry.deltas.entry(delta.dictionary).or_default().insert(delta.coding, size);
        }
    }

    /// Lets what readers of the release before may still ask for stay in the output for this release.
    pub(super) fn let_go(&mut self, before: &Manifest) {
        let entries = before.files.iter().flatten();
        let read = entries.flat_map(|(name, entry)| names_of(entry.location(name), entry));
        let wanted = self.names();
        self.manifest.leaving = read.filter(|name| !wanted.contains(name)).collect();
    }

    /// Every name that is in the output afterwards, but for the manifest's own.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let already_there = self.manifest.files.iter().flatten().flat_map(|(name, entry)| match entry.carried {
            Some(_) => names_of(name, entry),
            None => deltas_of(name, entry).collect(),
        });
        let leaving = self.manifest.leaving.iter().cloned();
        self.pieces.iter().map(|piece| piece.name.clone()).chain(already_there).chain(leaving).collect()
    }
}

/// The names of a file, of its copies and of its deltas.
pub(super) fn names_of(name: &str, entry: &Entry) -> Vec<String> {
    let copies = entry.variants.keys().map(|coding| with_suffix(name, *coding));
    copies.chain(deltas_of(name, entry)).chain([name.to_owned()]).collect()
}

fn deltas_of(name: &str, entry: &Entry) -> impl Iterator<Item = String> {
    let names = move |(dictionary, sizes): (&String, &BTreeMap<DictionaryCoding, u64>)| {
        sizes.keys().map(|coding| Entry::delta_name(name, dictionary, *coding)).collect::<Vec<_>>()
    };
    entry.deltas.iter().flat_map(names)
}

/// For other servers, which look for files by their plain names, and for the copies beside them. A copy gives
/// way to a file of the sources with its name, as `a.js.gz` beside `a.js`.
fn pieces_of_plain<'a>(
    name: &str,
    home: &str,
    copies: &Copies,
    paths: &BTreeMap<String, String>,
) -> impl Iterator<Item = Piece<'a>> {
    let is_free = |coding: &&Coding| !paths.contains_key(&with_suffix(name, **coding));
    let copies = copies.keys().filter(is_free).map(|coding| (with_suffix(name, *coding), with_suffix(home, *coding)));
    let names = copies.chain([(name.to_owned(), home.to_owned())]);
    names.map(|(name, home)| Piece { name, origin: Origin::SameAs(home) })
}

fn with_suffix(name: &str, coding: Coding) -> String {
    format!("{name}{}", coding.suffix())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::name::Output;

    fn output(hashed: Option<&str>, plain: &str, copies: &[Coding]) -> (Output, Copies) {
        let output = Output {
            hashed: hashed.map(str::to_owned),
            plain: Some(plain.to_owned()),
            contents: Contents::of(plain.as_bytes(), Path::new(plain)),
            modified: SystemTime::UNIX_EPOCH,
        };
        (output, copies.iter().map(|coding| (*coding, 4)).collect())
    }

    fn compressed(outputs: Vec<(Output, Copies)>, paths: &[(&str, &str)]) -> Compressed {
        let paths = paths.iter().map(|(plain, name)| ((*plain).to_owned(), (*name).to_owned())).collect();
        Compressed { outputs, paths, totals: BTreeMap::new() }
    }

    /// Each name, and the earlier one with the same bytes.
    fn pieces(compressed: &Compressed) -> Vec<(String, Option<String>)> {
        let pieces = plan(compressed).pieces.into_iter();
        let same_as = |origin| if let Origin::SameAs(name) = origin { Some(name) } else { None };
        pieces.map(|piece| (piece.name, same_as(piece.origin))).collect()
    }

    #[test]
    fn hashed_names_come_first_and_plain_ones_share_their_bytes() {
        let outputs = vec![output(Some("a.1.css"), "a.css", &[Coding::Gzip]), output(Some("b.1.css"), "b.css", &[])];
        let compressed = compressed(outputs, &[("a.css", "a.1.css"), ("b.css", "b.1.css")]);
        let expected = [
            ("a.1.css.gz", None),
            ("a.1.css", None),
            ("b.1.css", None),
            ("a.css.gz", Some("a.1.css.gz")),
            ("a.css", Some("a.1.css")),
            ("b.css", Some("b.1.css")),
        ];
        assert_eq!(pieces(&compressed), expected.map(|(name, same)| (name.to_owned(), same.map(str::to_owned))));
    }

    #[test]
    fn bytes_with_a_plain_name_only_are_kept_under_their_hash() {
        let compressed = compressed(vec![output(None, "a.css", &[Coding::Gzip])], &[("a.css", "a.1.css")]);
        let plan = plan(&compressed);
        let entry = &plan.manifest.files.as_ref().expect("files")["a.css"];
        let home = entry.stored.clone().expect("a home");
        assert!(home.starts_with("vestibule-originals/") && home.len() == 52, "{home}");
        assert!(!entry.is_immutable);
        let names: Vec<_> = plan.pieces.into_iter().map(|piece| piece.name).collect();
        assert_eq!(names, [format!("{home}.gz"), home, "a.css.gz".into(), "a.css".into()]);
    }

    #[test]
    fn a_copy_beside_a_plain_file_gives_way_to_a_file_of_the_sources() {
        let outputs =
            vec![output(Some("a.css.1.gz"), "a.css.gz", &[]), output(Some("a.1.css"), "a.css", &[Coding::Gzip])];
        let compressed = compressed(outputs, &[("a.css.gz", "a.css.1.gz"), ("a.css", "a.1.css")]);
        let pieces = pieces(&compressed);
        let of =
            |wanted: &str| pieces.iter().filter(|(name, _)| name == wanted).map(|(_, same)| same.clone()).collect();
        let copies: Vec<Option<String>> = of("a.css.gz");
        assert_eq!(copies, [Some("a.css.1.gz".to_owned())]);
    }

    #[test]
    fn equal_originals_have_one_home() {
        let mut twin = output(None, "a.css", &[]);
        twin.0.plain = Some("b.css".into());
        let compressed = compressed(vec![output(None, "a.css", &[]), twin], &[]);
        assert_eq!(pieces(&compressed).len(), 3);
    }
}
