//! Which name of the output gets which bytes, and what the manifest says of it. Pure: `publish` acts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rayon::prelude::*;

use super::carry::Carriage;
use super::compress::{Compressed, Copies};
use super::contents::Contents;
use super::deltas::Delta;
use super::name_set::NameSet;
use crate::http::encoding::{Coding, DictionaryCoding};
use crate::http::media_type;
use crate::manifest::Entry;
use crate::manifest::digits::hex;
use crate::manifest::packed::{Name, Packed};

/// Everything to put into the output folder.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The files, but for the manifest, in the order in which they go into place.
    groups: Vec<Group<'a>>,
    /// The manifest, which goes last.
    pub(super) manifest: Packed,
}

/// A file of the output with the copies beside it. A large tree has many of them, so that the names of its
/// [pieces](Piece) are made when they are asked for.
#[derive(Debug)]
struct Group<'a> {
    name: Name,
    copies: [bool; Coding::ALL.len()],
    source: Source<'a>,
}

/// Where its bytes come from, and those of its copies, as far as there can be some.
#[derive(Debug)]
enum Source<'a> {
    /// It is ready in the staging folder, or else a copy of this. The copies are ready.
    Whole(&'a Contents, SystemTime),
    /// It is ready in the staging folder.
    Staged,
    /// An earlier group, copies and all.
    SameAs(Name),
    /// An earlier release in another folder.
    Elsewhere(Arc<Path>),
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

impl<'a> Group<'a> {
    fn alone(name: impl Into<Name>, source: Source<'a>) -> Self {
        Self { name: name.into(), copies: Default::default(), source }
    }

    /// The file and its copies. Under a name that has a hash, the copies come first: whoever sees the file sees
    /// them. Under a plain name there may be an earlier file, and a copy must not come to lie beside that.
    fn pieces(&self) -> impl Iterator<Item = Piece<'a>> + '_ {
        let own = || std::iter::once_with(|| Piece { name: self.name.as_ref().to_owned(), origin: self.origin(None) });
        let codings = Coding::ALL.into_iter().filter(|coding| self.copies[*coding as usize]);
        let copy = |coding| Piece { name: Entry::copy_name(&self.name, coding), origin: self.origin(Some(coding)) };
        let is_plain = matches!(self.source, Source::SameAs(_));
        own().filter(move |_| is_plain).chain(codings.map(copy)).chain(own().filter(move |_| !is_plain))
    }

    fn origin(&self, coding: Option<Coding>) -> Origin<'a> {
        let name = |name: &str| coding.map_or_else(|| name.to_owned(), |coding| Entry::copy_name(name, coding));
        match &self.source {
            Source::Whole(contents, modified) if coding.is_none() => Origin::Whole(contents, *modified),
            Source::Whole(..) | Source::Staged => Origin::Staged,
            Source::SameAs(home) => Origin::SameAs(name(home)),
            Source::Elsewhere(folder) => Origin::Elsewhere(folder.join(name(&self.name))),
        }
    }
}

/// Plans it: first what has a hash in its name, which nothing names yet, then the plain names, which the
/// last manifest may name.
pub(super) fn plan(compressed: &Compressed) -> Plan<'_> {
    let Compressed { outputs, paths, .. } = compressed;
    let hashed: BTreeSet<&str> = paths.iter().filter(|(plain, name)| plain != name).map(|(_, name)| &**name).collect();
    let mut groups = Vec::with_capacity(outputs.len());
    let mut plain_groups = Vec::with_capacity(outputs.len());
    // Equal originals have one home.
    let mut seen = BTreeSet::new();
    for (output, copies) in outputs {
        let home = output.stored();
        if let Some(name) = &output.plain {
            // Beside a plain name are copies for other servers, which look for them there. One gives way to a file
            // of the sources with its name, as `a.js.gz` beside `a.js`.
            let is_free = |coding: Coding| !paths.contains_key(&*Entry::copy_name(name, coding));
            let copies = flags(copies.iter().map(|(coding, _)| coding).filter(|coding| is_free(*coding)));
            plain_groups.push(Group { name: name.clone(), copies, source: Source::SameAs(home.clone()) });
        }
        if seen.insert(home.clone()) {
            let source = Source::Whole(&output.contents, output.modified);
            groups.push(Group { name: home, copies: flags(copies.iter().map(|(coding, _)| coding)), source });
        }
    }
    groups.append(&mut plain_groups);
    let entries = outputs.iter().flat_map(|(output, copies)| {
        let entry = entry(output.name(), &output.contents, *copies);
        let plain = output.plain.as_ref().map(|name| {
            let (is_immutable, stored) = (hashed.contains(&**name), Some(output.stored().as_ref().to_owned()));
            (name.clone(), Entry { is_immutable, stored, ..entry.clone() })
        });
        let hashed = output.hashed.as_ref().map(|name| (name.clone(), Entry { is_immutable: true, ..entry }));
        [plain, hashed].into_iter().flatten()
    });
    let files = Some(entries.collect());
    Plan { groups, manifest: Packed { paths: paths.clone(), files, ..Packed::default() } }
}

fn flags(codings: impl Iterator<Item = Coding>) -> [bool; Coding::ALL.len()] {
    codings.fold(Default::default(), |mut flags, coding| {
        flags[coding as usize] = true;
        flags
    })
}

/// What the manifest says of a file of which nothing else is known.
pub(super) fn entry(name: &str, contents: &Contents, copies: Copies) -> Entry {
    Entry {
        size: contents.size,
        media_type: media_type::content_type(name).into_owned(),
        sha256: hex(&contents.fingerprint),
        integrity: contents.integrity(),
        variants: copies.iter().collect(),
        ..Entry::default()
    }
}

impl<'a> Plan<'a> {
    /// The files, but for the manifest, in the order in which they go into place.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece<'a>> + '_ {
        self.groups.iter().flat_map(Group::pieces)
    }

    /// The same on all threads, in any order.
    pub(super) fn pieces_in_parallel(&self) -> impl ParallelIterator<Item = Piece<'a>> + '_ {
        self.groups.par_iter().flat_map_iter(Group::pieces)
    }

    /// Takes in what stays of the release before, if need be from its own folder.
    pub(super) fn carry(&mut self, carriage: &Carriage, output: &Path) {
        let kept = carriage.kept.iter().map(|(name, entry)| (name.as_str().into(), entry.clone()));
        self.manifest.files.get_or_insert_default().extend(kept);
        if carriage.folder != output {
            let folder: Arc<Path> = carriage.folder.as_path().into();
            let names = carriage.kept.iter().flat_map(|(name, entry)| names_of(name, entry));
            self.groups.splice(0..0, names.map(|name| Group::alone(name, Source::Elsewhere(folder.clone()))));
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
        let folder: Arc<Path> = carriage.folder.as_path().into();
        let staged = made.iter().map(|(delta, _)| Group::alone(delta.name(), Source::Staged));
        let elsewhere = present.iter().filter(|_| carriage.folder != output);
        let elsewhere = elsewhere.map(|(delta, _)| Group::alone(delta.name(), Source::Elsewhere(folder.clone())));
        self.groups.splice(0..0, staged.chain(elsewhere).collect::<Vec<_>>());
        let files = self.manifest.files.get_or_insert_default();
        for (delta, size) in made.into_iter().chain(present) {
            files.update(&delta.file, |entry| {
                entry.deltas.entry(delta.dictionary).or_default().insert(delta.coding, size);
            });
        }
    }

    /// Lets what readers of the release before may still ask for stay in the output for this release.
    pub(super) fn let_go(&mut self, before: &Packed) {
        let read = before.entries().flat_map(|(name, entry)| names_of(entry.location(name), &entry));
        let wanted = self.names();
        self.manifest.leaving = read.filter(|name| !wanted.contains(name)).collect();
    }

    /// Every name that is in the output afterwards, but for the manifest's own.
    pub(super) fn names(&self) -> NameSet {
        let already_there = self.manifest.entries().flat_map(|(name, entry)| match entry.carried {
            Some(_) => names_of(name, &entry),
            None => deltas_of(name, &entry).collect(),
        });
        let leaving = self.manifest.leaving.iter().cloned();
        self.pieces().map(|piece| piece.name).chain(already_there).chain(leaving).collect()
    }
}

/// The names of a file, of its copies and of its deltas.
pub(super) fn names_of(name: &str, entry: &Entry) -> Vec<String> {
    let copies = entry.variants.keys().map(|coding| Entry::copy_name(name, *coding));
    copies.chain(deltas_of(name, entry)).chain([name.to_owned()]).collect()
}

fn deltas_of(name: &str, entry: &Entry) -> impl Iterator<Item = String> {
    let names = move |(dictionary, sizes): (&String, &BTreeMap<DictionaryCoding, u64>)| {
        sizes.keys().map(|coding| Entry::delta_name(name, dictionary, *coding)).collect::<Vec<_>>()
    };
    entry.deltas.iter().flat_map(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::name::Output;

    fn output(hashed: Option<&str>, plain: &str, copies: &[Coding]) -> (Output, Copies) {
        let output = Output {
            hashed: hashed.map(Into::into),
            plain: Some(plain.into()),
            contents: Contents::of(plain.as_bytes(), Path::new(plain)),
            modified: SystemTime::UNIX_EPOCH,
        };
        (output, copies.iter().map(|coding| (*coding, 4)).collect())
    }

    fn compressed(outputs: Vec<(Output, Copies)>, paths: &[(&str, &str)]) -> Compressed {
        let paths = paths.iter().map(|(plain, name)| ((*plain).into(), (*name).into())).collect();
        Compressed { outputs, paths, totals: BTreeMap::new() }
    }

    /// Each name, and the earlier one with the same bytes.
    fn pieces(compressed: &Compressed) -> Vec<(String, Option<String>)> {
        let plan = plan(compressed);
        let same_as = |origin| if let Origin::SameAs(name) = origin { Some(name) } else { None };
        plan.pieces().map(|piece| (piece.name, same_as(piece.origin))).collect()
    }

    #[test]
    fn hashed_names_come_first_and_plain_ones_share_their_bytes() {
        let outputs = vec![output(Some("a.1.css"), "a.css", &[Coding::Gzip]), output(Some("b.1.css"), "b.css", &[])];
        let compressed = compressed(outputs, &[("a.css", "a.1.css"), ("b.css", "b.1.css")]);
        let expected = [
            ("a.1.css.gz", None),
            ("a.1.css", None),
            ("b.1.css", None),
            ("a.css", Some("a.1.css")),
            ("a.css.gz", Some("a.1.css.gz")),
            ("b.css", Some("b.1.css")),
        ];
        assert_eq!(pieces(&compressed), expected.map(|(name, same)| (name.to_owned(), same.map(str::to_owned))));
    }

    #[test]
    fn bytes_with_a_plain_name_only_are_kept_under_their_hash() {
        let compressed = compressed(vec![output(None, "a.css", &[Coding::Gzip])], &[("a.css", "a.1.css")]);
        let plan = plan(&compressed);
        let entry = plan.manifest.entry("a.css").expect("an entry");
        let home = entry.stored.clone().expect("a home");
        assert!(home.starts_with("vestibule-originals/") && home.len() == 52, "{home}");
        assert!(!entry.is_immutable);
        let names: Vec<_> = plan.pieces().map(|piece| piece.name).collect();
        assert_eq!(names, [format!("{home}.gz"), home, "a.css".into(), "a.css.gz".into()]);
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
