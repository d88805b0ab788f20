//! Which name was perhaps meant. Pure.

use std::path::Path;

/// The name that was perhaps meant: the same base name elsewhere, in other letters perhaps, or one with a typing error.
pub fn nearest<'n>(names: impl Iterator<Item = &'n str>, wanted: &str) -> Option<&'n str> {
    const ALIKE: f64 = 0.8;
    let wanted_path = Path::new(wanted);
    let score = |name: &str| {
        let path = Path::new(name);
        let has_same_base_name =
            path.file_name().zip(wanted_path.file_name()).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other));
        let has_same_kind =
            path.extension() == wanted_path.extension() || path.with_extension("") == wanted_path.with_extension("");
        let is_near = has_same_kind && name.len().abs_diff(wanted.len()) <= 4;
        // Most names end here, which matters where a thousand references are wrong.
        if !has_same_base_name && !is_near {
            return 0.0;
        }
        let alike = strsim::normalized_damerau_levenshtein(name, wanted);
        if has_same_base_name { 1.0 + alike } else { alike }
    };
    let scored = names.map(|name| (score(name), name));
    let best = scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)));
    best.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_told_and_nothing_that_was_not() {
        let names = ["css/site.css", "img/logo.png", "img/deep/photo.jpg", "js/app.js"];
        for (wanted, expected) in [
            ("img/LOGO.png", Some("img/logo.png")),
            ("img/logo.PNG", Some("img/logo.png")),
            ("img/photo.jpg", Some("img/deep/photo.jpg")),
            ("css/stie.css", Some("css/site.css")),
            ("css/other.css", None),
            ("", None),
        ] {
            assert_eq!(nearest(names.into_iter(), wanted), expected, "for {wanted:?}");
        }
    }
}
