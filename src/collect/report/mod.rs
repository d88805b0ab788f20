//! A page about one release, for people: how large it is, what compression saves, what has changed.
//!
//! This file gathers, from the manifests of two releases and the summary of the run; `draw` makes HTML of
//! it, and `place` knows where the page may go. Nothing of it is published.

mod draw;
pub(super) mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::summary::Summary;
use crate::http::encoding::{Coding, DictionaryCoding};
use crate::manifest::{Entry, Manifest};

/// What there is to show.
#[derive(Debug)]
pub(super) struct Report<'a> {
    summary: &'a Summary,
    /// When the run was.
    time: SystemTime,
    /// The name of the release.
    release: String,
    /// The name of the release before, and how large all of it was, as far as its manifest knows.
    before: Option<(String, Option<u64>)>,
    /// Every file that pages may use, the largest first.
    assets: Vec<Asset<'a>>,
    /// What is not as in the release before, what has most to fetch first. Empty where there is none before.
    changes: Vec<Change<'a>>,
    /// Images in another format, those that save most first.
    twins: Vec<Twin<'a>>,
    /// Deltas, those that save most first.
    deltas: Vec<Delta<'a>>,
    /// Files of earlier releases, by plain name and age.
    carried: Vec<(&'a str, &'a Entry)>,
}

/// One file under its plain name.
#[derive(Debug, Clone, Copy)]
struct Asset<'a> {
    plain: &'a str,
    published: &'a str,
    entry: &'a Entry,
}

/// What has become of a file since the release before. Sizes are those of the file itself, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change<'a> {
    plain: &'a str,
    what: What,
    before: Option<u64>,
    after: Option<u64>,
    /// What a browser fetches that has the release before, or nothing if the file is gone.
    to_fetch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Added,
    Changed,
    Removed,
}

/// An image in another format, which is sent in its place. Neither of them has a smaller form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Twin<'a> {
    /// The plain name of the image.
    of: &'a str,
    /// That of the twin.
    plain: &'a str,
    media_type: &'a str,
    before: u64,
    after: u64,
}

impl Twin<'_> {
    fn saved(&self) -> u64 {
        self.before.saturating_sub(self.after)
    }
}

/// One file in the form of its difference from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delta<'a> {
    plain: &'a str,
    /// The name of the earlier file, or its digest if it is not there any more.
    from: &'a str,
    coding: DictionaryCoding,
    size: u64,
    /// The smallest form of the whole file.
    whole: u64,
}

impl Delta<'_> {
    fn saved(&self) -> u64 {
        self.whole.saturating_sub(self.size)
    }
}

/// What a kind of copies or deltas saves, all files together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Saving {
    number: usize,
    before: u64,
    after: u64,
}

impl Saving {
    fn add(&mut self, before: u64, after: u64) {
        *self = Self { number: self.number + 1, before: self.before + before, after: self.after + after };
    }
}

/// All files of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Volume {
    files: usize,
    size: u64,
    smallest: u64,
}

impl<'a> Report<'a> {
    /// Gathers it.
    pub(super) fn new(
        before: Option<&'a Manifest>,
        manifest: &'a Manifest,
        summary: &'a Summary,
        time: SystemTime,
    ) -> Self {
        let mut assets: Vec<_> = assets(manifest).into_values().collect();
        assets.sort_by_key(|asset| (std::cmp::Reverse(asset.entry.size), asset.plain));
        let (twins, deltas) = (twins(&assets), deltas(manifest, &assets));
        let files = manifest.files.iter().flatten();
        let mut carried: Vec<_> =
            files.filter(|(_, entry)| entry.carried.is_some()).map(|(name, entry)| (name.as_str(), entry)).collect();
        carried
            .sort_by_key(|(name, entry)| entry.carried.as_ref().map(|carried| (&carried.plain, carried.since, *name)));
        Self {
            summary,
            time,
            release: manifest.release(),
            before: before.map(|before| (before.release(), size_of(before))),
            changes: before.map(|before| changes(before, manifest)).unwrap_or_default(),
            assets,
            twins,
            deltas,
            carried,
        }
    }

    fn total(&self) -> Volume {
        volume(self.assets.iter())
    }

    /// By the first word of the media type, as far as people tell files apart.
    fn volumes(&self) -> Vec<(&'static str, Volume)> {
        let mut kinds: BTreeMap<&str, Vec<&Asset<'_>>> = BTreeMap::new();
        for asset in &self.assets {
            kinds.entry(kind(asset)).or_default().push(asset);
        }
        let mut kinds: Vec<_> = kinds.into_iter().map(|(kind, assets)| (kind, volume(assets.into_iter()))).collect();
        kinds.sort_by_key(|(kind, volume)| (std::cmp::Reverse(volume.smallest), *kind));
        kinds
    }

    /// What each coding saves for the files that have a copy in it.
    fn savings_by_coding(&self) -> BTreeMap<Coding, Saving> {
        let mut savings: BTreeMap<_, Saving> = BTreeMap::new();
        for Asset { entry, .. } in &self.assets {
            for (coding, size) in &entry.variants {
                savings.entry(*coding).or_default().add(entry.size, *size);
            }
        }
        savings
    }

    /// What the deltas of each coding save against the smallest form of the whole file.
    fn delta_savings(&self) -> BTreeMap<DictionaryCoding, Saving> {
        let mut savings: BTreeMap<_, Saving> = BTreeMap::new();
        for delta in &self.deltas {
            savings.entry(delta.coding).or_default().add(delta.whole, delta.size);
        }
        savings
    }

    /// Over the wire, by a browser that has the release before. Source maps are for developer tools only.
    fn to_fetch(&self) -> u64 {
        match self.before {
            Some(_) => {
                let fetched = self.changes.iter().filter(|change| !is_source_map(change.plain));
                fetched.map(|change| change.to_fetch).sum()
            }
            None => volume(self.assets.iter().filter(|asset| !is_source_map(asset.plain))).smallest,
        }
    }

    fn has_source_maps(&self) -> bool {
        self.assets.iter().any(|asset| is_source_map(asset.plain))
    }
}

/// The files that pages use, by plain name.
fn assets(manifest: &Manifest) -> BTreeMap<&str, Asset<'_>> {
    let Some(files) = &manifest.files else { return BTreeMap::new() };
    let mut assets = BTreeMap::new();
    for (plain, published) in &manifest.paths {
        if let Some(entry) = files.get(published) {
            assets.insert(plain.as_str(), Asset { plain, published, entry });
        }
    }
    assets
}

/// How large all files that pages use are, if the manifest says so.
fn size_of(manifest: &Manifest) -> Option<u64> {
    let sizes = assets(manifest).into_values().map(|asset| asset.entry.size);
    manifest.files.as_ref().map(|_| sizes.fold(0, u64::saturating_add))
}

fn volume<'a>(assets: impl Iterator<Item = &'a Asset<'a>>) -> Volume {
    assets.fold(Volume::default(), |sum, Asset { entry, .. }| Volume {
        files: sum.files + 1,
        size: sum.size + entry.size,
        smallest: sum.smallest + smallest(entry),
    })
}

/// The size of the smallest form of a whole file.
fn smallest(entry: &Entry) -> u64 {
    entry.variants.values().copied().fold(entry.size, u64::min)
}

fn is_source_map(name: &str) -> bool {
    name.ends_with(".map")
}

fn kind(asset: &Asset<'_>) -> &'static str {
    if is_source_map(asset.plain) {
        return "Source maps";
    }
    let media_type = asset.entry.media_type.split(';').next().unwrap_or_default();
    match media_type.split_once('/').unwrap_or_default() {
        ("text", "css") => "Stylesheets",
        (_, "javascript" | "x-javascript" | "ecmascript") => "Scripts",
        ("image", _) => "Images",
        ("font", _) | (_, "vnd.ms-fontobject" | "font-woff" | "x-font-ttf") => "Fonts",
        ("audio" | "video", _) => "Audio and video",
        ("text", _) | (_, "json" | "manifest+json" | "xml") => "Texts and data",
        _ => "Others",
    }
}

/// By plain name, which a file keeps whatever its hash is.
fn changes<'a>(before: &'a Manifest, after: &'a Manifest) -> Vec<Change<'a>> {
    let (sizes_before, sizes_after) = (assets(before), assets(after));
    let size = |assets: &BTreeMap<&str, Asset<'_>>, plain: &str| Some(assets.get(plain)?.entry.size);
    let names: BTreeSet<&str> = before.paths.keys().chain(after.paths.keys()).map(String::as_str).collect();
    let mut changes = Vec::new();
    for plain in names {
        let what = match (before.paths.get(plain), after.paths.get(plain)) {
            (None, _) => What::Added,
            (_, None) => What::Removed,
            (Some(old), Some(new)) if old != new || digest(&sizes_before, plain) != digest(&sizes_after, plain) => {
                What::Changed
            }
            (Some(_), Some(_)) => continue,
        };
        let old = sizes_before.get(plain).map(|asset| asset.entry.sha256.as_str());
        changes.push(Change {
            plain,
            what,
            before: size(&sizes_before, plain),
            after: size(&sizes_after, plain),
            to_fetch: sizes_after.get(plain).map_or(0, |asset| to_fetch(asset.entry, old)),
        });
    }
    changes.sort_by_key(|change| (change.what == What::Removed, std::cmp::Reverse(change.to_fetch), change.plain));
    changes
}

/// A manifest of Django's has no digests, and then the names decide.
fn digest<'a>(assets: &BTreeMap<&str, Asset<'a>>, plain: &str) -> Option<&'a str> {
    assets.get(plain).map(|asset| asset.entry.sha256.as_str())
}

/// What comes over the wire for a browser that has the file with the digest `old`.
fn to_fetch(entry: &Entry, old: Option<&str>) -> u64 {
    let deltas = old.and_then(|old| entry.deltas.get(old));
    deltas.into_iter().flat_map(BTreeMap::values).copied().fold(smallest(entry), u64::min)
}

fn twins<'a>(assets: &[Asset<'a>]) -> Vec<Twin<'a>> {
    let by_name: BTreeMap<&str, &Asset<'a>> = assets.iter().map(|asset| (asset.published, asset)).collect();
    let mut twins = Vec::new();
    for image in assets {
        for twin in image.entry.twins.iter().filter_map(|twin| by_name.get(twin.as_str())) {
            twins.push(Twin {
                of: image.plain,
                plain: twin.plain,
                media_type: &twin.entry.media_type,
                before: image.entry.size,
                after: twin.entry.size,
            });
        }
    }
    twins.sort_by_key(|twin| (std::cmp::Reverse(twin.saved()), twin.of, twin.plain));
    twins
}

fn deltas<'a>(manifest: &'a Manifest, assets: &[Asset<'a>]) -> Vec<Delta<'a>> {
    let files = manifest.files.iter().flatten();
    let names: BTreeMap<&str, &str> = files.map(|(name, entry)| (entry.sha256.as_str(), name.as_str())).collect();
    let mut deltas = Vec::new();
    for &Asset { plain, entry, .. } in assets {
        for (dictionary, sizes) in &entry.deltas {
            let from = names.get(dictionary.as_str()).copied().unwrap_or(dictionary);
            let whole = smallest(entry);
            deltas.extend(sizes.iter().map(|(&coding, &size)| Delta { plain, from, coding, size, whole }));
        }
    }
    deltas.sort_by_key(|delta| (std::cmp::Reverse(delta.saved()), delta.plain, delta.from, delta.coding));
    deltas
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::draw::SEEN_OF_RING;
    use super::*;
    use crate::manifest::{Carried, Clock};

    fn entry(size: u64, sha256: &str, copy: u64) -> Entry {
        Entry {
            size,
            sha256: sha256.into(),
            media_type: "text/css; charset=utf-8".into(),
            variants: [(Coding::Brotli, copy), (Coding::Gzip, copy + 10)].into(),
            ..Entry::default()
        }
    }

    /// Each plain name with its entry under the name that has its digest.
    fn manifest(files: &[(&str, Entry)]) -> Manifest {
        let hashed = |plain: &str, entry: &Entry| format!("{plain}.{}", entry.sha256);
        Manifest {
            paths: files.iter().map(|(plain, entry)| ((*plain).to_owned(), hashed(plain, entry))).collect(),
            files: Some(files.iter().map(|(plain, entry)| (hashed(plain, entry), entry.clone())).collect()),
            leaving: BTreeSet::new(),
            rewriting: None,
        }
    }

    fn before() -> Manifest {
        manifest(&[("a.css", entry(100, "a1", 40)), ("b.css", entry(80, "b1", 30)), ("gone.css", entry(10, "g1", 5))])
    }

    /// `a.css` has a delta from its version in `before`, which is carried, and `new.css.map` is new.
    fn after() -> Manifest {
        let delta = [("a1".to_owned(), [(DictionaryCoding::Zstd, 7)].into())].into();
        let changed = Entry { deltas: delta, ..entry(120, "a2", 50) };
        let mut manifest =
            manifest(&[("a.css", changed), ("b.css", entry(80, "b1", 30)), ("new.css.map", entry(300, "n1", 60))]);
        let carried = Carried {
            plain: "a.css".into(),
            release: before().release(),
            releases: 1,
            since: u64::MAX,
            clock: Clock::Machine,
        };
        let old = Entry { carried: Some(carried), ..entry(100, "a1", 40) };
        manifest.files.as_mut().expect("files").insert("a.css.a1".into(), old);
        manifest
    }

    #[test]
    fn what_has_changed_goes_by_plain_name() {
        let (before, after) = (before(), after());
        let change = |plain, what, before, after, to_fetch| Change { plain, what, before, after, to_fetch };
        let expected = [
            change("new.css.map", What::Added, None, Some(300), 60),
            change("a.css", What::Changed, Some(100), Some(120), 7), // by its delta
            change("gone.css", What::Removed, Some(10), None, 0),
        ];
        assert_eq!(changes(&before, &after), expected);
        // Django's manifest knows no sizes.
        let names_only = Manifest { files: None, ..before };
        let known: Vec<_> = changes(&names_only, &after).iter().map(|change| (change.plain, change.before)).collect();
        assert_eq!(known, [("new.css.map", None), ("a.css", None), ("b.css", None), ("gone.css", None)]);
    }

    #[test]
    fn totals_take_the_smallest_copy_and_leave_out_what_is_carried() {
        let (before, after, summary) = (before(), after(), Summary::default());
        let report = Report::new(Some(&before), &after, &summary, UNIX_EPOCH);
        assert_eq!(report.total(), Volume { files: 3, size: 500, smallest: 140 });
        assert_eq!(report.to_fetch(), 7, "the source map is for developer tools");
        assert_eq!(report.before, Some((before.release(), Some(190))));
        assert_eq!(report.savings_by_coding()[&Coding::Gzip], Saving { number: 3, before: 500, after: 170 });
        assert_eq!(report.delta_savings()[&DictionaryCoding::Zstd], Saving { number: 1, before: 50, after: 7 });
        let from: Vec<_> = report.deltas.iter().map(|delta| (delta.plain, delta.from)).collect();
        assert_eq!(from, [("a.css", "a.css.a1")]);
        let kinds: Vec<_> = report.volumes().into_iter().map(|(kind, volume)| (kind, volume.files)).collect();
        assert_eq!(kinds, [("Stylesheets", 2), ("Source maps", 1)]);
        assert_eq!(Report::new(None, &after, &summary, UNIX_EPOCH).to_fetch(), 80, "everything but the source map");
    }

    #[test]
    fn the_page_shows_every_part_and_needs_nothing_else() {
        let (before, after, summary) = (before(), after(), Summary::default());
        let page = Report::new(Some(&before), &after, &summary, UNIX_EPOCH).draw();
        for part in ["What has changed", "What compression saves", "All files, by size", "Deltas", "Kept from earlier"]
        {
            assert!(page.contains(part), "{part} is missing");
        }
        assert!(page.contains("1 added, 1 changed, 1 removed since release"));
        for outside in ["<script", "<link", "<img", "src=", "url(", "@import", "http://", "https://"] {
            assert!(!page.contains(outside), "{outside} is in it");
        }
    }

    #[test]
    fn the_page_names_images_in_other_formats_and_files_that_lead_to_each_other() {
        let image = |media_type: &str, size, sha256: &str, twins: &[&str]| Entry {
            media_type: media_type.into(),
            variants: BTreeMap::new(),
            twins: twins.iter().map(|twin| (*twin).to_owned()).collect(),
            ..entry(size, sha256, 0)
        };
        let manifest = manifest(&[
            ("i/a.jpg", image("image/jpeg", 5000, "j", &["i/a.avif.v", "i/a.webp.w", "i/gone.webp"])),
            ("i/a.avif", image("image/avif", 2000, "v", &[])),
            ("i/a.webp", image("image/webp", 3000, "w", &[])),
        ]);
        let rings = vec![(0..SEEN_OF_RING + 2).map(|n| format!("js/{n}.js")).collect(), vec!["one.css".into()]];
        let summary = Summary { rings, ..Summary::default() };
        let report = Report::new(None, &manifest, &summary, UNIX_EPOCH);
        let twins: Vec<_> = report.twins.iter().map(|twin| (twin.of, twin.plain, twin.saved())).collect();
        assert_eq!(twins, [("i/a.jpg", "i/a.avif", 3000), ("i/a.jpg", "i/a.webp", 2000)]);
        let page = report.draw();
        for part in ["Images in other formats", "image/avif", "Files that lead to each other", "one.css", "And 2 more"]
        {
            assert!(page.contains(part), "{part} is missing");
        }
        let (without, nothing) = (Manifest::default(), Summary::default());
        let page = Report::new(None, &without, &nothing, UNIX_EPOCH).draw();
        assert!(!page.contains("other formats") && !page.contains("each other"), "{page}");
    }

    #[test]
    fn a_hostile_name_is_a_text_and_nothing_more() {
        let hostile = "</title><script>alert(1)</script>\"'&<b>.css";
        let after = manifest(&[(hostile, entry(100, "x1", 40))]);
        let summary = Summary {
            output: hostile.into(),
            warnings: vec![crate::finding::Finding::warning(crate::finding::Rule::NotUnderstood, hostile, hostile)],
            ..Summary::default()
        };
        let page = Report::new(Some(&before()), &after, &summary, UNIX_EPOCH).draw();
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/"), "{page}");
        assert_eq!(page.matches("</title>").count(), 1);
    }

    #[test]
    fn an_empty_release_and_a_time_out_of_bounds_are_drawn_too() {
        let (empty, summary) = (Manifest::default(), Summary::default());
        let late = UNIX_EPOCH.checked_add(std::time::Duration::from_secs(1 << 40)).expect("a time");
        let page = Report::new(Some(&empty), &empty, &summary, late).draw();
        assert!(page.contains("There are no compressed copies.") && page.contains("No file, since release"), "{page}");
    }
}
