//! From path to asset, built once.

use std::borrow::Cow;
use std::collections::HashMap;

use percent_encoding::percent_decode_str;

use super::asset::{Asset, Policy};
use super::contents::Contents;
use super::inventory::Listed;

/// Every asset under its exact name.
///
/// Attacks on paths end here: `..`, a second slash or a backslash is in no name, and what is in no name
/// is not found. Nothing is made canonical, so nothing can be made canonical wrongly.
#[derive(Debug)]
pub(super) struct Catalog {
    assets: HashMap<String, Asset>,
}

impl Catalog {
    pub(super) fn build(files: &[Listed], contents: &Contents, policy: &Policy) -> Self {
        let entry = |file: &Listed| (file.name.clone(), Asset::new(file, contents, policy));
        Self { assets: files.iter().map(entry).collect() }
    }

    /// The asset of a decoded URL path below the prefix.
    pub(super) fn find(&self, path: &str) -> Option<&Asset> {
        self.assets.get(path)
    }

    /// Every name, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.assets.keys().map(String::as_str)
    }

    pub(super) fn len(&self) -> usize {
        self.assets.len()
    }

    /// How many assets have deltas.
    pub(super) fn with_deltas(&self) -> usize {
        self.assets.values().filter(|asset| asset.has_deltas()).count()
    }
}

/// Decodes once; without a percent sign there is nothing to do and nothing to allocate. What is not
/// UTF-8 then is no name of ours.
pub(super) fn decode(path: &str) -> Option<Cow<'_, str>> {
    if path.contains('%') { percent_decode_str(path).decode_utf8().ok() } else { Some(Cow::Borrowed(path)) }
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
