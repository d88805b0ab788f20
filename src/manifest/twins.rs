//! Which files beside an image are the same picture in another format, by their names. Pure.
//!
//! Two ways of naming them are usual: `photo.jpg.avif` and `photo.avif`, both beside `photo.jpg`. By the second one
//! cannot tell of which file `photo.avif` is the twin where `photo.png` lies there too.

use std::collections::{BTreeMap, BTreeSet};

/// The formats of twins, as extensions.
pub const FORMATS: [&str; 2] = ["avif", "webp"];

/// The extensions of files that can have twins.
const IMAGES: [&str; 5] = ["jpg", "jpeg", "png", "gif", "webp"];

/// What was found among some names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Twins<'n> {
    /// By image; at most one in each format.
    pub of: BTreeMap<&'n str, Vec<&'n str>>,
    /// Every wanted image without any.
    pub without: Vec<&'n str>,
    /// What could be the twin of several images, with two of them: it is nobody's.
    pub unclear: Vec<(&'n str, [&'n str; 2])>,
}

/// Finds the twins of every image that is wanted.
pub fn find<'n>(names: &BTreeSet<&'n str>, is_wanted: impl Fn(&str) -> bool) -> Twins<'n> {
    let images = || names.iter().copied().filter(|name| stem(name).is_some() && is_wanted(name));
    // By the name without its extension, the images that may have twins under it.
    let mut siblings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in images() {
        if let Some((stem, extension)) = stem(name)
            && !is_format(extension)
        {
            siblings.entry(stem).or_default().push(name);
        }
    }
    let mut twins = Twins::default();
    for name in images() {
        let Some((stem, extension)) = stem(name) else { continue };
        let mut found = Vec::new();
        for format in FORMATS.into_iter().filter(|format| !extension.eq_ignore_ascii_case(format)) {
            let by_its_name = names.get(format!("{name}.{format}").as_str());
            let by_its_stem = || names.get(format!("{stem}.{format}").as_str());
            match (by_its_name, siblings.get(stem).map(Vec::as_slice)) {
                (Some(twin), _) => found.push(*twin),
                // `photo.webp` is no original for `photo.avif`: both are twins of something else.
                (None, Some([only])) if *only == name => found.extend(by_its_stem()),
                (None, Some([one, other, ..])) if *one == name => {
                    twins.unclear.extend(by_its_stem().map(|twin| (*twin, [*one, *other])));
                }
                _ => {}
            }
        }
        // A twin needs none of its own.
        let is_twin = is_format(extension);
        match found.is_empty() {
            true if !is_twin => twins.without.push(name),
            true => {}
            false => drop(twins.of.insert(name, found)),
        }
    }
    twins
}

fn is_format(extension: &str) -> bool {
    FORMATS.iter().any(|format| extension.eq_ignore_ascii_case(format))
}

/// An image's name without its extension, and that.
fn stem(name: &str) -> Option<(&str, &str)> {
    let (stem, extension) = name.rsplit_once('.')?;
    let is_image = IMAGES.iter().any(|image| extension.eq_ignore_ascii_case(image));
    (is_image && !stem.is_empty() && !stem.ends_with('/')).then_some((stem, extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_naming_twins_are_known() {
        for (names, expected) in [
            (&["a.jpg"][..], ""),
            (&["a.jpg", "a.avif"], "a.jpg: a.avif"),
            (&["a.jpg", "a.webp", "a.avif"], "a.jpg: a.avif a.webp"),
            (&["a.jpg", "a.jpg.webp"], "a.jpg: a.jpg.webp"),
            (&["a.jpg", "a.webp", "a.jpg.webp"], "a.jpg: a.jpg.webp"), // the longer name says more
            (&["A.JPG", "A.avif"], "A.JPG: A.avif"),
            (&["d/a.png", "d/a.avif", "a.webp"], "d/a.png: d/a.avif"),
            (&["a.webp", "a.avif"], ""),
            (&["a.webp", "a.webp.avif"], "a.webp: a.webp.avif"),
            (&["a.svg", "a.avif"], ""),
            (&["a.jpg", "a.avif.jpg"], ""),
            (&[".jpg", ".avif", "d/.jpg", "d/.avif", "jpg", "avif"], ""),
            // Which of the two is it?
            (&["a.jpg", "a.png", "a.avif", "a.png.webp"], "a.png: a.png.webp"),
            (&["a.jpg", "skipped/a.png", "a.avif"], "a.jpg: a.avif"),
        ] {
            let names: BTreeSet<&str> = names.iter().copied().collect();
            let found = find(&names, |name| !name.starts_with("skipped/"));
            let line = |(image, twins): (&&str, &Vec<&str>)| format!("{image}: {}", twins.join(" "));
            assert_eq!(found.of.iter().map(line).collect::<Vec<_>>().join(", "), expected, "for {names:?}");
        }
    }

    #[test]
    fn what_is_missing_or_unclear_is_told() {
        let names = BTreeSet::from(["a.avif", "a.jpg", "a.png", "b.jpg", "b.png.avif", "c.png", "d.webp"]);
        let found = find(&names, |name| name != "c.png");
        assert_eq!(found.of, BTreeMap::new());
        assert_eq!(found.without, ["a.jpg", "a.png", "b.jpg"]);
        assert_eq!(found.unclear, [("a.avif", ["a.jpg", "a.png"])]);
    }
}
