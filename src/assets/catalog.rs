//! From path to asset, built once.

use std::borrow::Cow;
use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::asset::{Asset, Policy};
use super::contents::Contents;
use super::inventory::Listed;
use super::kinds::Kinds;
use crate::manifest::packed::Name;

/// Every asset under its exact name.
///
/// Attacks on paths end here: `..`, a second slash or a backslash is in no name, and what is in no name
/// is not found. Nothing is made canonical, so nothing can be made canonical wrongly.
#[derive(Debug)]
pub(super) struct Catalog {
    /// A quick hash is enough: only the operator puts names in, and who asks for others finds none.
    assets: FxHashMap<Name, Asset>,
    /// The folders that have an index, without their last slash, each with the index's name.
    indexes: FxHashMap<String, Name>,
}

/// What a path stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry<'a> {
    /// A file; that of a folder's index, where the path is a folder's.
    File(&'a Asset),
    /// A folder that has an index, without its last slash.
    Folder,
}

impl Catalog {
    pub(super) fn build(files: &[Listed], contents: &Contents, policy: &Policy, index: Option<&str>) -> Self {
        let has_twins = files.iter().any(|file| !file.twins.is_empty());
        let by_name: HashMap<&str, &Listed> =
            files.iter().filter(|_| has_twins).map(|file| (&*file.name, file)).collect();
        let kinds = Kinds::new(policy);
        let entry = |file: &Listed| {
            let twins: Vec<_> = file.twins.iter().filter_map(|twin| by_name.get(twin.as_str()).copied()).collect();
            (file.name.clone(), Asset::new(file, &twins, contents, &kinds))
        };
        let assets: Vec<_> = files.par_iter().map(entry).collect();
        let index = |file: &Listed| Some((folder_of(&file.name, index?)?.to_owned(), file.name.clone()));
        Self { assets: assets.into_iter().collect(), indexes: files.iter().filter_map(index).collect() }
    }

    /// What a decoded URL path below the prefix stands for.
    pub(super) fn find(&self, path: &str) -> Option<Entry<'_>> {
        if let Some(asset) = self.assets.get(path) {
            return Some(Entry::File(asset));
        }
        let folder = match path.strip_suffix('/') {
            Some("") => return None, // two slashes, and the first is the prefix's
            Some(folder) => folder,
            None if path.is_empty() => path,
            None => return self.indexes.contains_key(path).then_some(Entry::Folder),
        };
        self.assets.get(self.indexes.get(folder)?).map(Entry::File)
    }

    /// Every name, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.assets.keys().map(AsRef::as_ref)
    }

    pub(super) fn len(&self) -> usize {
        self.assets.len()
    }

    /// How many assets have deltas.
    pub(super) fn with_deltas(&self) -> usize {
        self.assets.values().filter(|asset| asset.has_deltas()).count()
    }
}

/// The folder of which a file is the index, without its last slash.
fn folder_of<'n>(name: &'n str, index: &str) -> Option<&'n str> {
    match name.rsplit_once('/') {
        Some((folder, base_name)) => (base_name == index).then_some(folder),
        None => (name == index).then_some(""),
    }
}

/// Decodes once; without a percent sign there is nothing to do and nothing to allocate. What is not
/// UTF-8 then is no name of ours.
pub(super) fn decode(path: &str) -> Option<Cow<'_, str>> {
    if path.contains('%') { percent_decode_str(path).decode_utf8().ok() } else { Some(Cow::Borrowed(path)) }
}

/// The same to tell folders apart: what is not UTF-8 becomes a sign that stands in no path of ours.
pub(super) fn decode_lossy(path: &str) -> Cow<'_, str> {
    if path.contains('%') { percent_decode_str(path).decode_utf8_lossy() } else { Cow::Borrowed(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        for (path, expected) in [
            ("css/app.css", Some("css/app.css")),
            ("css%2Fapp.css", Some("css/app.css")),
            ("caf%C3%A9.css", Some("café.css")),
            ("a%20b+c.css", Some("a b+c.css")),
            ("%2561", Some("%61")),
            ("100%", Some("100%")),
            ("%zz", Some("%zz")),
            ("%00", Some("\0")),
            ("%ff", None),
        ] {
            assert_eq!(decode(path).as_deref(), expected, "for {path:?}");
        }
        assert!(matches!(decode("css/app.css"), Some(Cow::Borrowed(_))));
    }
}
