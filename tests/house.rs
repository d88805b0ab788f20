//! The map of who may import whom. A new arrow is a new word in this table, so that it is seen.

use std::collections::BTreeSet;
use std::path::Path;

/// A part of the program, and the parts that it may name.
const MAP: [(&str, &str); 19] = [
    ("main", "audit check cli collect lib serve telling"),
    ("lib", "audit check cli collect config environment finding logging serve"),
    ("environment", "collect config"),
    ("cli", ""),
    ("config", "cli"),
    ("logging", "config"),
    ("http", ""),
    ("finding", ""),
    ("manifest", "http"),
    ("audit", "finding manifest"),
    ("collect", "config finding http manifest"),
    ("assets", "config http manifest"),
    ("files", "config http logging"),
    ("upstream", "config http logging"),
    ("layers", "config http"),
    ("gate", "config http"),
    ("tls", "config"),
    ("telling", "cli collect finding"),
    ("serve", "assets config files gate http layers logging tls upstream"),
];

/// The look at all of it may name whatever it looks at.
const CHECK: &str = "assets config files gate layers serve tls upstream";

#[test]
fn every_part_names_only_those_that_it_may() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = BTreeSet::new();
    for file in walkdir::WalkDir::new(&source).sort_by_file_name() {
        let file = file.unwrap();
        if file.path().extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let part = part_of(file.path().strip_prefix(&source).unwrap());
        let allowed = MAP.iter().find(|(name, _)| *name == part).map(|(_, allowed)| *allowed);
        let allowed =
            allowed.or((part == "check").then_some(CHECK)).unwrap_or_else(|| panic!("{part} is not on the map"));
        let text = fs_err::read_to_string(file.path()).unwrap();
        // At the root `self` is the whole crate.
        let text = if part == "lib" { text.replace("self::", "crate::") } else { text };
        for named in named_in(&text) {
            let is_allowed = named == part || allowed.split(' ').any(|name| name == named);
            assert!(is_allowed, "{} names {named}, which {part} may not", file.path().display());
        }
        seen.insert(part);
    }
    assert_eq!(seen.len(), MAP.len() + 1, "the map names a part that is not there: {seen:?}");
}

#[test]
fn three_files_alone_have_what_the_compiler_cannot_vouch_for() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in walkdir::WalkDir::new(&source) {
        let file = file.unwrap();
        let is_code = file.path().extension().is_some_and(|extension| extension == "rs");
        if is_code && fs_err::read_to_string(file.path()).unwrap().contains("unsafe {") {
            found.push(file.path().strip_prefix(&source).unwrap().to_owned());
        }
    }
    found.sort();
    assert_eq!(found, ["assets/sealed.rs", "upstream/consumed.rs", "upstream/shared_room.rs"].map(Path::new));
}

fn part_of(path: &Path) -> String {
    path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The parts behind `crate::` and `vestibule::`, alone or in braces.
fn named_in(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    let mut named = BTreeSet::new();
    for root in ["crate::", "vestibule::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => top_level(group),
                None => vec![rest],
            };
            let words = names
                .iter()
                .map(|name| name.trim().split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap());
            // Capitals are types of `lib` itself.
            named.extend(words.filter(|word| word.starts_with(|c: char| c.is_lowercase())).map(str::to_owned));
        }
    }
    named.remove("run");
    named
}

/// The entries of a group of imports, without those of groups inside it.
fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut entries) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                entries.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                entries.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    entries
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::http::body::Body;\nuse crate::{config::Config, tls::{self, Tickets}};\n// use crate::serve;\ncrate::assets::x();";
    let expected = ["assets", "config", "http", "tls"].map(str::to_owned);
    assert_eq!(named_in(text), BTreeSet::from(expected));
}
