//! Whether a name could hold a hash at all.
//!
//! This never makes a file immutable: a manifest has said so before. It is the check that the bundler was not
//! told to leave the hash out, since a browser that keeps `main.js` for ten years cannot be helped.

/// Bundlers cut their hashes to eight characters, or more; some people to six.
const SHORTEST: usize = 6;
/// What Vite, Rollup, esbuild and Parcel write. It is base64url for some, so a hyphen may be part of it.
const USUAL: usize = 8;
/// A name that is nothing but a hash is a long one.
const WHOLE_NAME: usize = 16;

/// Decides it for all names of a manifest together, each with its logical name where that is known.
///
/// Among eight letters there may happen to be no digit and no capital. Such a name counts if its last part is as
/// long as the hashes of the others.
pub(super) fn could_hold_hashes(names: &[(&str, Option<&str>)]) -> Vec<bool> {
    let certain: Vec<Option<usize>> = names.iter().map(|(name, logical)| length_of_hash(name, *logical)).collect();
    let lengths: Vec<usize> = certain.iter().flatten().copied().collect();
    let is_as_long = |name: &str, logical: Option<&str>| {
        !is_unchanged(name, logical) && parts(stem(name)).any(|part| lengths.contains(&part.len()))
    };
    names.iter().zip(&certain).map(|((name, logical), length)| length.is_some() || is_as_long(name, *logical)).collect()
}

/// The length of the part that looks like a hash.
fn length_of_hash(name: &str, logical: Option<&str>) -> Option<usize> {
    let stem = stem(name);
    let looks_random = |part: &&str| {
        let has_digit = part.contains(|c: char| c.is_ascii_digit());
        let has_letter = part.contains(|c: char| c.is_ascii_alphabetic());
        // `Regular` and `Bold` are words.
        let has_inner_capital = part.chars().skip(1).any(|c| c.is_ascii_uppercase());
        match is_unchanged(name, logical) {
            true => part.len() >= USUAL && has_digit && has_letter,
            false => has_digit || has_inner_capital,
        }
    };
    let whole = (stem.len() >= WHOLE_NAME && stem.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(stem);
    parts(stem).chain(whole).find(looks_random).map(str::len)
}

/// The bundler has given the name that it was given.
fn is_unchanged(name: &str, logical: Option<&str>) -> bool {
    logical.is_some_and(|logical| base_name(logical) == base_name(name))
}

/// What could be a hash: the parts behind the first, and the last eight characters.
fn parts(stem: &str) -> impl Iterator<Item = &str> {
    let is_separator = |c: char| matches!(c, '.' | '-' | '~');
    let is_word = |part: &&str| part.len() >= SHORTEST && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let end = stem.len().checked_sub(USUAL).and_then(|at| {
        let (before, end) = (stem.get(..at)?, stem.get(at..)?);
        let fits = end.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        (before.ends_with(is_separator) && fits).then_some(end)
    });
    stem.split(is_separator).skip(1).filter(is_word).chain(end)
}

/// The base name without its extension, and without that of the file that a source map is for.
fn stem(name: &str) -> &str {
    let base = base_name(name);
    let base = base.strip_suffix(".map").or_else(|| base.strip_suffix(".LICENSE.txt")).unwrap_or(base);
    base.rsplit_once('.').map_or(base, |(stem, _)| stem)
}

fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn could(name: &str, logical: Option<&str>) -> bool {
        could_hold_hashes(&[(name, logical)])[0]
    }

    #[test]
    fn names_with_a_hash_are_told_from_names_without() {
        for (name, expected) in [
            ("assets/main-BbttCdzD.js", true),      // Vite
            ("assets/main-B_x-3Kd9.js", true),      // with a hyphen inside
            ("main.c078bd8717238eb8c392.js", true), // webpack
            ("dist/chunk-UF274WIA.js.map", true),   // esbuild
            ("parcel.29ef4b1b.js", true),           // Parcel
            ("d3bbf83ea49fd455a295.svg", true),     // webpack, without a name
            ("main.c078bd8717238eb8c392.js.LICENSE.txt", true),
            ("main.1f2e3d.chunk.js", true),
            ("assets/main.js", false),
            ("bootstrap5.js", false),
            ("jquery-3.7.1.min.js", false),
            ("site-stylings.css", false),
            ("KaTeX_Main-Regular.woff2", false),
            ("robots.txt", false),
            ("noextension", false),
            ("", false),
            ("é-é", false),
            ("ééééééééé", false),
        ] {
            assert_eq!(could(name, None), expected, "for {name}");
        }
    }

    #[test]
    fn a_name_that_the_bundler_left_alone_needs_a_clear_hash() {
        for (name, logical, expected) in [
            ("assets/Inter-SemiBold.woff2", "fonts/Inter-SemiBold.woff2", false),
            ("polyfills.es2015.js", "polyfills.es2015.js", false),
            ("/static/14.7cf31e20fae1653a83ea.js", "14.7cf31e20fae1653a83ea.js", true),
            ("assets/Inter-SemiBold-B1xx3Kd9.woff2", "fonts/Inter-SemiBold.woff2", true),
        ] {
            assert_eq!(could(name, Some(logical)), expected, "for {name}");
        }
    }

    #[test]
    fn a_hash_of_letters_is_known_by_its_length_among_others() {
        let with = |length: &str| could_hold_hashes(&[("later-grzusedx.js", None), (length, None)])[0];
        assert!(with("main-BbttCdzD.js"));
        assert!(!with("main.c078bd8717238eb8c392.js"));
    }
}
