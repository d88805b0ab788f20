//! Which file of the tree a URL means, as a browser would find it, and the same URL with another name.
//!
//! Pure: it gets the names of the tree and reads no disk. Left alone is whatever is not a file of
//! ours: other sites, `data:`, a fragment, a folder, an absolute path outside of the static prefix.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::manifest::nearest::nearest;

/// What means itself in a URL (RFC 3986, section 2.3), and in every language that a URL stands in.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The names of the tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, usize>,
    folders: BTreeSet<String>,
}

impl Tree {
    /// A tree of these names, each of which stands for its position.
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut tree = Self::default();
        for (index, name) in names.enumerate() {
            let folders = name.match_indices('/').map(|(slash, _)| name[..slash].to_owned());
            tree.folders.extend(folders);
            tree.files.insert(name.to_owned(), index);
        }
        tree
    }

    /// The name that was perhaps meant: with the extension that only bundlers do without, or one like it.
    pub(super) fn nearest(&self, wanted: &str) -> Option<&str> {
        let completed = [".js", ".mjs", "/index.js"].map(|ending| format!("{wanted}{ending}"));
        if let Some((name, _)) = completed.iter().find_map(|name| self.files.get_key_value(name)) {
            return Some(name);
        }
        nearest(self.files.keys().map(String::as_str), wanted)
    }
}

/// What a URL means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// No file of ours.
    Elsewhere,
    /// A file of ours.
    File(usize, Reference),
    /// It should be a file of ours, and there is none.
    Missing {
        /// The name that it would have.
        name: String,
    },
    /// It leads out of the tree at the top.
    AboveRoot,
}

/// A URL of which the last component can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    url: String,
    /// Where the last component is.
    last: Range<usize>,
    /// The file's base name, which the last component means.
    base_name: String,
}

impl Reference {
    /// The URL with another file name. All else stays as it was: the author's folders, query, fragment
    /// and `?#iefix`.
    ///
    /// A name with a hash in it has the old one around the hash. Then the hash is put in between, and the
    /// author's spelling stays. Any other name is written anew, with all encoded that could be in need of
    /// it in any language. Either way what is new is of characters that need no escape anywhere.
    pub(super) fn with_name(&self, name: &str) -> String {
        if self.has_name(name) {
            return self.url.clone();
        }
        let base_name = name.rsplit('/').next().unwrap_or(name);
        let (range, new) = match self.insertion(base_name).or_else(|| self.deletion(base_name)) {
            Some((range, added)) => (range, Cow::Borrowed(added)),
            None => (self.last.clone(), utf8_percent_encode(base_name, SEGMENT).into()),
        };
        format!("{}{new}{}", &self.url[..range.start], &self.url[range.end..])
    }

    /// Whether the file has this name already.
    pub(super) fn has_name(&self, name: &str) -> bool {
        name.rsplit('/').next() == Some(&self.base_name)
    }

    /// What must be put in, and where in the URL, to make the old name the new one.
    fn insertion<'n>(&self, base_name: &'n str) -> Option<(Range<usize>, &'n str)> {
        let (stem, extension) = parts(&self.base_name);
        let added = hash_between(stem, base_name, extension)?;
        let at = self.extension_at(extension)?;
        Some((at..at, added))
    }

    /// Where in the URL that is which makes the new name the old one.
    fn deletion(&self, base_name: &str) -> Option<(Range<usize>, &'static str)> {
        let (stem, extension) = parts(base_name);
        let removed = hash_between(stem, &self.base_name, extension)?;
        let end = self.extension_at(extension)?;
        let start = end.checked_sub(removed.len())?;
        (self.url.get(start..end)? == removed).then_some((start..end, ""))
    }

    /// Where in the URL the extension of the file begins.
    fn extension_at(&self, extension: &str) -> Option<usize> {
        let spelled = &self.url[self.last.clone()];
        let at = match extension {
            "" => spelled.len(),
            // Nothing is encoded in what means itself.
            _ if *spelled == self.base_name => spelled.rfind('.')?,
            _ => spelled.rfind('.').max(spelled.to_ascii_lowercase().rfind("%2e"))?,
        };
        Some(self.last.start + at)
    }
}

/// A base name before its last extension, and the extension; as in `fingerprint::hashed_name`.
fn parts(base_name: &str) -> (&str, &str) {
    let dots = base_name.len() - base_name.trim_start_matches('.').len();
    base_name.split_at(base_name[dots..].rfind('.').map_or(base_name.len(), |dot| dots + dot))
}

/// What stands between the two in a name, if it is like a hash: a dot, and characters that mean themselves.
fn hash_between<'n>(stem: &str, base_name: &'n str, extension: &str) -> Option<&'n str> {
    let hash = base_name.strip_prefix(stem)?.strip_suffix(extension)?;
    let is_plain = hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    (hash.starts_with('.') && is_plain).then_some(hash)
}

/// Looks a URL up that stands in the file `referrer`.
pub(super) fn resolve(url: &str, referrer: &str, prefix: &str, tree: &Tree) -> Resolution {
    // Browsers strip these from both ends, and line breaks and tabs everywhere (WHATWG URL, section 4.4).
    let is_stripped = |c: char| c <= ' ';
    let start = url.len() - url.trim_start_matches(is_stripped).len();
    let trimmed = url.trim_matches(is_stripped);
    let written = &trimmed[..trimmed.find(['?', '#']).unwrap_or(trimmed.len())];
    let path = written.replace(['\t', '\n', '\r'], "");
    if path.is_empty() || path.starts_with("//") || has_scheme(&path) {
        return Resolution::Elsewhere;
    }
    let (folder, relative) = match (path.starts_with('/'), path.strip_prefix(prefix)) {
        (true, Some(rest)) => ("", rest),
        (true, None) => return Resolution::Elsewhere,
        (false, _) => (referrer.rsplit_once('/').map_or("", |(folder, _)| folder), path.as_str()),
    };
    if matches!(relative.rsplit('/').next().unwrap_or_default(), "" | "." | "..") {
        return Resolution::Elsewhere;
    }
    let Some(name) = join(folder, relative) else { return Resolution::AboveRoot };
    if let Some(&index) = tree.files.get(&name) {
        let end = start + written.len();
        let last = end - written.rsplit('/').next().unwrap_or_default().len()..end;
        let base_name = name.rsplit('/').next().unwrap_or(&name).to_owned();
        return Resolution::File(index, Reference { url: url.to_owned(), last, base_name });
    }
    if name.is_empty() || tree.folders.contains(&name) {
        return Resolution::Elsewhere;
    }
    Resolution::Missing { name }
}

/// RFC 3986, section 3.1.
fn has_scheme(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// The name that a relative path means from a folder; nothing if it leads above the root.
///
/// Each component is decoded by itself, so that `%2F` never becomes a separator. One that is not
/// UTF-8 when decoded stays encoded, and is then simply not found.
fn join(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<Cow<'_, str>> = folder.split('/').filter(|part| !part.is_empty()).map(Cow::from).collect();
    for raw in relative.split('/') {
        let part = percent_decode_str(raw).decode_utf8().unwrap_or(Cow::Borrowed(raw));
        match part.as_ref() {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(if part.contains('/') { Cow::Borrowed(raw) } else { part }),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::fingerprint::hashed_name;

    fn tree() -> Tree {
        let names = ["css/a.css", "css/sub/b.css", "img/logo.png", "my file.png", "é.png", "what?.png", "100%.png"];
        Tree::new(names.into_iter().chain(["noext", ".hidden", "a..png", "js/one.js", "js/two/index.js"]))
    }

    #[test]
    fn a_hash_can_be_taken_out_again() {
        let hashed = |name: &str| hashed_name(name, &[0; 32]);
        let names = ["my file.png", "é.png", "noext", ".hidden", "a..png", "100%.png"];
        let before = Tree::new(names.into_iter());
        let hashed_names: Vec<_> = names.iter().map(|name| hashed(name)).collect();
        let after = Tree::new(hashed_names.iter().map(String::as_str));
        for url in
            ["my file.png?v", "my%20file%2epng", "é.png#x", "%c3%a9.png", "noext", ".hidden", "./a..png", "100%.png"]
        {
            let Resolution::File(index, reference) = resolve(url, "a.css", "/static/", &before) else {
                panic!("{url}")
            };
            let rewritten = reference.with_name(&hashed_names[index]);
            assert_ne!(rewritten, url);
            let found = resolve(&rewritten, "a.css", "/static/", &after);
            let Resolution::File(index, reference) = found else { panic!("{rewritten}") };
            assert_eq!(reference.with_name(names[index]), url, "for {rewritten}");
        }
    }

    fn rewritten(url: &str) -> String {
        match resolve(url, "css/a.css", "/static/", &tree()) {
            Resolution::File(index, reference) => {
                let tree = tree();
                let name = tree.files.iter().find(|(_, at)| **at == index).expect("a file").0;
                reference.with_name(&hashed_name(name, &[0; 32]).replace("000000000000", "H"))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_url_keeps_everything_but_its_file_name() {
        for (url, expected) in [
            ("a.css", "a.H.css"),
            ("./a.css", "./a.H.css"),
            ("../img/logo.png", "../img/logo.H.png"),
            ("sub/../../img/./logo.png", "sub/../../img/./logo.H.png"),
            ("/static/img/logo.png", "/static/img/logo.H.png"),
            ("../img/logo.png?v=1", "../img/logo.H.png?v=1"),
            ("../img/logo.png#f", "../img/logo.H.png#f"),
            ("../img/logo.png?#iefix", "../img/logo.H.png?#iefix"),
            ("../img/logo.png?v=1#f", "../img/logo.H.png?v=1#f"),
            ("../img/logo.png?a/b", "../img/logo.H.png?a/b"),
            (" ../img/logo.png ", " ../img/logo.H.png "),
            ("../my%20file.png", "../my%20file.H.png"),
            ("../my file.png", "../my file.H.png"), // as the author has it
            ("../%C3%A9.png", "../%C3%A9.H.png"),
            ("../é.png", "../é.H.png"),
            ("../what%3F.png", "../what%3F.H.png"),
            ("../100%25.png", "../100%25.H.png"),
            ("%2e%2e/img/logo.png", "%2e%2e/img/logo.H.png"),
            ("../img/logo%2Epng", "../img/logo.H%2Epng"),
            ("../%c3%a9.png", "../%c3%a9.H.png"),
            ("../noext#a.b", "../noext.H#a.b"),
            ("../.hidden", "../.hidden.H"),
            ("../a.%2epng", "../a..H%2epng"),
            ("../img/\nlo\tgo.png", "../img/\nlo\tgo.H.png"), // browsers do not see the breaks
        ] {
            assert_eq!(rewritten(url), expected, "for {url:?}");
        }
    }

    #[test]
    fn a_name_of_another_shape_replaces_the_old_one_encoded() {
        let Resolution::File(_, reference) = resolve("../img/logo.png?v=1", "css/a.css", "/static/", &tree()) else {
            panic!("it is there");
        };
        for (name, expected) in [
            ("img/logo.png", "../img/logo.png?v=1"),
            ("img/other.png", "../img/other.png?v=1"),
            ("img/é\"'() &<.png", "../img/%C3%A9%22%27%28%29%20%26%3C.png?v=1"),
            ("img/logo.a b.png", "../img/logo.a%20b.png?v=1"),
        ] {
            assert_eq!(reference.with_name(name), expected, "for {name}");
        }
    }

    #[test]
    fn what_is_no_file_of_ours_is_left_alone() {
        for url in [
            "",
            "#frag",
            "?x=1",
            "data:image/png;base64,AA==",
            "http://example.com/a.css",
            "HTTPS://example.com/a.css",
            "about:blank",
            "//cdn.example.com/a.css",
            "/media/a.css",
            "/static/",
            "sub",
            "sub/",
            ".",
            "..",
            "../img",
            "%2e%2e",
            "ht\ntp://example.com/a.css",
        ] {
            assert_eq!(resolve(url, "css/a.css", "/static/", &tree()), Resolution::Elsewhere, "for {url:?}");
        }
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_missing() {
        for (url, name) in [
            ("x.png", "css/x.png"),
            ("/static/x.png", "x.png"),
            ("../img%2Flogo.png", "img%2Flogo.png"), // no separator
            ("%FF.png", "css/%FF.png"),
            ("A.css", "css/A.css"),
            ("a.css/", "Elsewhere"),
            ("..\\img\\logo.png", "css/..\\img\\logo.png"),
        ] {
            let expected = match name {
                "Elsewhere" => Resolution::Elsewhere,
                name => Resolution::Missing { name: name.into() },
            };
            assert_eq!(resolve(url, "css/a.css", "/static/", &tree()), expected, "for {url:?}");
        }
        for url in ["../../x.png", "../../css/a.css", "/static/../a.css", "%2e%2e/../a.css"] {
            assert_eq!(resolve(url, "css/a.css", "/static/", &tree()), Resolution::AboveRoot, "for {url:?}");
        }
    }

    #[test]
    fn the_nearest_name_is_one_with_a_typing_error_or_in_another_folder() {
        for (wanted, expected) in [
            ("img/lgoo.png", Some("img/logo.png")),
            ("css/logo.png", Some("img/logo.png")),
            ("css/sub/c.css", Some("css/sub/b.css")),
            ("js/one", Some("js/one.js")),
            ("js/two", Some("js/two/index.js")),
            ("fonts/completely-different.woff2", None),
        ] {
            assert_eq!(tree().nearest(wanted), expected, "for {wanted}");
        }
    }
}
