//! A manifest in a small part of the memory that [`Manifest`] takes: `collect` has two of them at once, and a
//! tree may have any number of files.
//!
//! Names that are equal share one text, a plain and a hashed name of the same bytes share what is known of these,
//! and digests are bytes. An [`Entry`] is made when somebody asks for it. Whatever an entry says comes out as it
//! went in: a digest that is none is kept as the text that it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Carried, Entry, Manifest, Needs, Rewriting};
use crate::http::encoding::{Coding, DictionaryCoding};
use crate::http::media_type;
use crate::manifest::digits::{hex, sha256_of};

/// A name that many places know.
pub type Name = Arc<str>;

/// What [`Manifest`] has, packed.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    /// As [`Manifest::paths`].
    pub paths: BTreeMap<Name, Name>,
    /// As [`Manifest::files`].
    pub files: Option<Files>,
    /// As [`Manifest::leaving`].
    pub leaving: BTreeSet<String>,
    /// As [`Manifest::rewriting`].
    pub rewriting: Option<Rewriting>,
}

/// Entries by name.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Sorted by name.
    items: Vec<Item>,
    contents: Vec<Content>,
    /// Those that do not follow from a file's name.
    media_types: Vec<String>,
}

#[derive(Debug, Clone)]
struct Item {
    name: Name,
    stored: Option<Name>,
    content: u32,
    media_type: MediaType,
    is_immutable: bool,
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Clone, Copy)]
enum MediaType {
    OfName,
    Other(u32),
}

/// What follows from the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    size: u64,
    sha256: [u8; 32],
    sha384: Option<[u8; 48]>,
    copies: Copies,
}

/// What few entries have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rest {
    /// Where it is no digest.
    sha256: Option<Box<str>>,
    integrity: Option<Box<str>>,
    dictionary_for: Option<Box<str>>,
    deltas: BTreeMap<String, BTreeMap<DictionaryCoding, u64>>,
    carried: Option<Box<Carried>>,
    twins: Vec<String>,
    needs: Option<Box<Needs>>,
}

/// The compressed copies of a file, with their sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies([u64; Coding::ALL.len()]);

/// No copy is as large as that.
const NONE: u64 = u64::MAX;

impl Default for Copies {
    fn default() -> Self {
        Self([NONE; Coding::ALL.len()])
    }
}

impl Copies {
    /// Enters one.
    pub fn insert(&mut self, coding: Coding, size: u64) {
        self.0[coding as usize] = size;
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = (Coding, u64)> {
        Coding::ALL.into_iter().map(move |coding| (coding, self.0[coding as usize])).filter(|(_, size)| *size != NONE)
    }
}

impl FromIterator<(Coding, u64)> for Copies {
    fn from_iter<I: IntoIterator<Item = (Coding, u64)>>(copies: I) -> Self {
        let mut all = Self::default();
        copies.into_iter().for_each(|(coding, size)| all.insert(coding, size));
        all
    }
}

impl Packed {
    /// The names of the release, with one text for each.
    pub(super) fn new(
        paths: BTreeMap<String, String>,
        files: Option<Files>,
        leaving: BTreeSet<String>,
        rewriting: Option<Rewriting>,
    ) -> Self {
        let shared = |name: String| files.as_ref().and_then(|files| files.shared(&name)).unwrap_or_else(|| name.into());
        let paths = paths.into_iter().map(|(plain, name)| (shared(plain), shared(name))).collect();
        Self { paths, files, leaving, rewriting }
    }

    /// The entry of a name.
    pub fn entry(&self, name: &str) -> Option<Entry> {
        self.files.as_ref()?.get(name)
    }

    /// Every name with its entry, sorted.
    pub fn entries(&self) -> impl Iterator<Item = (&Name, Entry)> {
        self.files.iter().flat_map(Files::iter)
    }

    /// The whole of it.
    pub fn expanded(&self) -> Manifest {
        let text = |name: &Name| name.as_ref().to_owned();
        Manifest {
            paths: self.paths.iter().map(|(plain, name)| (text(plain), text(name))).collect(),
            files: self.files.as_ref().map(|files| files.iter().map(|(name, entry)| (text(name), entry)).collect()),
            leaving: self.leaving.clone(),
            rewriting: self.rewriting.clone(),
        }
    }
}

impl From<Manifest> for Packed {
    fn from(manifest: Manifest) -> Self {
        let named =
            |files: BTreeMap<String, Entry>| files.into_iter().map(|(name, entry)| (name.into(), entry)).collect();
        Self::new(manifest.paths, manifest.files.map(named), manifest.leaving, manifest.rewriting)
    }
}

impl Files {
    /// The entry of a name.
    pub fn get(&self, name: &str) -> Option<Entry> {
        Some(self.unpacked(&self.items[self.position(name)?]))
    }

    /// Whether there is one.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Every name with its entry, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Entry)> {
        self.items.iter().map(|item| (&item.name, self.unpacked(item)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Every name, every file that holds bytes under another one, and every file that an entry speaks of.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let rests = self.items.iter().filter_map(|item| item.rest.as_deref());
        let beside = rests.flat_map(|rest| {
            let needed = rest.needs.iter().flat_map(|needs| needs.names());
            rest.twins.iter().chain(needed).map(String::as_str)
        });
        self.items.iter().flat_map(|item| [Some(&*item.name), item.stored.as_deref()]).flatten().chain(beside)
    }

    /// The SHA-256 of each dictionary, as part of the names of deltas.
    pub(super) fn dictionaries(&self) -> impl Iterator<Item = &str> {
        self.items.iter().filter_map(|item| item.rest.as_ref()).flat_map(|rest| rest.deltas.keys()).map(String::as_str)
    }

    /// The names of the entries that speak of other files beside their own.
    pub fn that_speak_of_others(&self) -> Vec<Name> {
        let speaks = |rest: &Rest| !rest.twins.is_empty() || rest.needs.is_some();
        let items = self.items.iter().filter(|item| item.rest.as_deref().is_some_and(speaks));
        items.map(|item| item.name.clone()).collect()
    }

    /// Changes an entry, if there is one of that name.
    pub fn update(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        let Some(at) = self.position(name) else { return };
        let mut entry = self.unpacked(&self.items[at]);
        change(&mut entry);
        let (name, content) = (self.items[at].name.clone(), self.items[at].content);
        let known = |files: &Self, packed: &Content| (files.contents[content as usize] == *packed).then_some(content);
        self.items[at] = self.packed(name, entry, known);
    }

    /// Takes entries in, in the place of those that have the same names.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = (Name, Entry)>) {
        for (name, entry) in entries {
            let item = self.packed(name, entry, |_, _| None);
            self.items.push(item);
        }
        self.sort();
    }

    /// Of items with one name, the last one stays.
    fn sort(&mut self) {
        // It is stable, so that the last of equals can be told.
        self.items.sort_by(|a, b| a.name.cmp(&b.name));
        self.items.reverse();
        self.items.dedup_by(|a, b| a.name == b.name);
        self.items.reverse();
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.items.binary_search_by(|item| item.name.as_ref().cmp(name)).ok()
    }

    fn shared(&self, name: &str) -> Option<Name> {
        Some(self.items[self.position(name)?].name.clone())
    }

    fn packed(&mut self, name: Name, entry: Entry, known: impl FnOnce(&Self, &Content) -> Option<u32>) -> Item {
        let (sha256, sha384) = (sha256_of(&entry.sha256), sha384_of(&entry.integrity));
        let is_odd = sha384.is_none() && !entry.integrity.is_empty();
        let rest = Rest {
            sha256: sha256.is_none().then(|| entry.sha256.into()),
            integrity: is_odd.then(|| entry.integrity.into()),
            dictionary_for: entry.dictionary_for.map(Into::into),
            deltas: entry.deltas,
            carried: entry.carried.map(Box::new),
            twins: entry.twins,
            needs: Some(entry.needs).filter(|needs| !needs.is_empty()).map(Box::new),
        };
        let content = Content {
            size: entry.size,
            sha256: sha256.unwrap_or_default(),
            sha384,
            copies: entry.variants.into_iter().collect(),
        };
        let content = known(self, &content).unwrap_or_else(|| added(&mut self.contents, content));
        let media_type = if media_type::content_type(&name) == entry.media_type {
            MediaType::OfName
        } else {
            let same = self.media_types.iter().position(|known| *known == entry.media_type);
            let same = same.and_then(|at| u32::try_from(at).ok());
            MediaType::Other(same.unwrap_or_else(|| added(&mut self.media_types, entry.media_type)))
        };
        Item {
            name,
            stored: entry.stored.map(Into::into),
            content,
            media_type,
            is_immutable: entry.is_immutable,
            rest: (rest != Rest::default()).then(|| Box::new(rest)),
        }
    }

    fn unpacked(&self, item: &Item) -> Entry {
        let content = &self.contents[item.content as usize];
        let rest = item.rest.as_deref();
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        let integrity = |digest: &[u8; 48]| format!("{SHA384}{}", BASE64.encode(digest));
        Entry {
            size: content.size,
            media_type: match item.media_type {
                MediaType::OfName => media_type::content_type(&item.name).into_owned(),
                MediaType::Other(at) => self.media_types[at as usize].clone(),
            },
            sha256: rest.and_then(|rest| text(&rest.sha256)).unwrap_or_else(|| hex(&content.sha256)),
            stored: item.stored.as_deref().map(str::to_owned),
            integrity: rest
                .and_then(|rest| text(&rest.integrity))
                .or_else(|| content.sha384.as_ref().map(integrity))
                .unwrap_or_default(),
            is_immutable: item.is_immutable,
            variants: content.copies.iter().collect(),
            dictionary_for: rest.and_then(|rest| text(&rest.dictionary_for)),
            deltas: rest.map(|rest| rest.deltas.clone()).unwrap_or_default(),
            carried: rest.and_then(|rest| rest.carried.as_deref().cloned()),
            twins: rest.map(|rest| rest.twins.clone()).unwrap_or_default(),
            needs: rest.and_then(|rest| rest.needs.as_deref().cloned()).unwrap_or_default(),
        }
    }
}

impl FromIterator<(Name, Entry)> for Files {
    /// Of two entries with one name, the later one counts.
    fn from_iter<I: IntoIterator<Item = (Name, Entry)>>(entries: I) -> Self {
        let mut packing = Packing::default();
        entries.into_iter().for_each(|(name, entry)| packing.add(name, entry));
        packing.finish()
    }
}

/// Entries that come one after the other, in any order.
#[derive(Debug, Default)]
pub(super) struct Packing {
    files: Files,
    /// Which contents there are, to know equal ones.
    known: HashMap<[u8; 32], u32>,
}

impl Packing {
    pub(super) fn add(&mut self, name: Name, entry: Entry) {
        let Self { files, known } = self;
        let find = |files: &Files, content: &Content| {
            let at = *known.get(&content.sha256)?;
            (files.contents[at as usize] == *content).then_some(at)
        };
        let item = files.packed(name, entry, find);
        known.insert(files.contents[item.content as usize].sha256, item.content);
        files.items.push(item);
    }

    pub(super) fn finish(self) -> Files {
        let mut files = self.files;
        files.sort();
        for at in 0..files.items.len() {
            if let Some(shared) = files.items[at].stored.as_deref().and_then(|stored| files.shared(stored)) {
                files.items[at].stored = Some(shared);
            }
        }
        files.items.shrink_to_fit();
        files.contents.shrink_to_fit();
        files
    }
}

fn added<T>(list: &mut Vec<T>, thing: T) -> u32 {
    list.push(thing);
    u32::try_from(list.len() - 1).expect("no tree has four thousand million files")
}

const SHA384: &str = "sha384-";

fn sha384_of(integrity: &str) -> Option<[u8; 48]> {
    // 48 bytes are 64 characters, without padding: no other text stands for the same ones.
    BASE64.decode(integrity.strip_prefix(SHA384)?).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Clock;

    fn entry(digit: &str) -> Entry {
        Entry {
            size: 3,
            media_type: "text/css; charset=utf-8".into(),
            sha256: digit.repeat(64),
            integrity: format!("sha384-{}", "A".repeat(64)),
            variants: [(Coding::Gzip, 2), (Coding::Brotli, 0)].into(),
            ..Entry::default()
        }
    }

    fn manifest() -> Manifest {
        let carried = Carried {
            plain: "b.css".into(),
            release: "0123456789ab".into(),
            releases: 2,
            since: 1,
            clock: Clock::SourceDate,
        };
        let files = [
            ("a.css", Entry { stored: Some("a.1.css".into()), ..entry("a") }),
            ("a.1.css", Entry { is_immutable: true, dictionary_for: Some("a.*.css".into()), ..entry("a") }),
            ("b.1.css", Entry { carried: Some(carried), ..entry("b") }),
            ("c.css", Entry { deltas: [("cd".repeat(32), [(DictionaryCoding::Zstd, 1)].into())].into(), ..entry("c") }),
            // What this program never writes comes out as it went in, too.
            ("d.css", Entry { sha256: "AB".into(), integrity: "sha384-AAAA".into(), ..entry("d") }),
            ("e.css", Entry { media_type: "x/y".into(), variants: BTreeMap::new(), ..entry("a") }),
            (
                "f.css",
                Entry { media_type: "x/y".into(), sha256: String::new(), integrity: String::new(), ..entry("f") },
            ),
            ("g.css", Entry { sha256: "AB".repeat(32), integrity: "sha512-x".into(), ..entry("g") }),
            ("h.png", Entry { twins: vec!["h.avif".into()], ..entry("h") }),
            ("i.css", Entry { needs: Needs { styles: vec!["a.css".into()], ..Needs::default() }, ..entry("i") }),
        ];
        Manifest {
            paths: [("a.css".to_owned(), "a.1.css".to_owned())].into(),
            files: Some(files.map(|(name, entry)| (name.to_owned(), entry)).into()),
            leaving: ["x".to_owned()].into(),
            rewriting: Some(Rewriting::default()),
        }
    }

    #[test]
    fn every_entry_comes_out_as_it_went_in() {
        let packed = Packed::from(manifest());
        assert_eq!(packed.expanded(), manifest());
        for (name, entry) in manifest().files.expect("files") {
            assert_eq!(packed.entry(&name), Some(entry), "for {name}");
        }
        assert_eq!(packed.entry("none.css"), None);
    }

    #[test]
    fn equal_names_and_equal_bytes_are_there_once() {
        let packed = Packed::from(manifest());
        let files = packed.files.as_ref().expect("files");
        let of = |name: &str| &files.items[files.position(name).expect("an entry")];
        assert_eq!(of("a.css").content, of("a.1.css").content);
        assert_ne!(of("a.css").content, of("e.css").content, "the same bytes, but without copies");
        let (plain, hashed) = packed.paths.first_key_value().expect("a path");
        assert!(Arc::ptr_eq(plain, &of("a.css").name) && Arc::ptr_eq(hashed, &of("a.1.css").name));
        assert!(of("a.css").stored.as_ref().is_some_and(|stored| Arc::ptr_eq(stored, hashed)));
        // A third of what a map of entries takes without any of its texts.
        assert!(size_of::<Item>() <= 64 && size_of::<Content>() <= 120 && size_of::<Entry>() > 200);
    }

    #[test]
    fn entries_are_changed_added_and_replaced() {
        let mut files = Packed::from(manifest()).files.expect("files");
        files.update("a.css", |entry| entry.size = 7);
        files.update("none.css", |entry| entry.size = 7);
        files.extend([("0.css".into(), entry("0")), ("c.css".into(), entry("1"))]);
        assert_eq!(files.get("a.css").map(|entry| entry.size), Some(7));
        assert_eq!(files.get("a.1.css").map(|entry| entry.size), Some(3), "it shared its bytes until then");
        assert_eq!((files.get("0.css"), files.get("c.css")), (Some(entry("0")), Some(entry("1"))));
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_ref()).collect();
        assert!(names.is_sorted() && names.len() == files.len() && files.len() == 11, "{names:?}");
    }

    #[test]
    fn of_two_entries_with_one_name_the_later_one_counts() {
        let files: Files =
            [("a".into(), entry("1")), ("b".into(), entry("2")), ("a".into(), entry("3"))].into_iter().collect();
        assert_eq!((files.len(), files.get("a")), (2, Some(entry("3"))));
    }
}
