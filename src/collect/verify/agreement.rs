//! Whether the manifest agrees with itself. Pure: no file but the manifest is looked at.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Findings;
use crate::finding::Finding;
use crate::http::media_type;
use crate::manifest::{Entry, FILE_NAME, Manifest, ORIGINALS};

#[derive(Deserialize)]
struct Stated {
    #[serde(default)]
    hash: String,
}

/// `paths` and `files` must tell the same story, and the release must be the hash of `paths`.
pub(super) fn agrees_with_itself(
    manifest: &Manifest,
    listed: &BTreeMap<String, Entry>,
    text: &[u8],
    findings: &mut Findings,
) {
    let stated = serde_json::from_slice(text).map_or_else(|_| String::new(), |Stated { hash }| hash);
    let release = manifest.release();
    if stated != release {
        let message = format!("its hash is {stated:?}, but that of its paths is {release:?}");
        findings.error(Finding::about(FILE_NAME, message));
    }
    for (plain, used) in &manifest.paths {
        if !listed.contains_key(used) {
            let message = format!("paths has {plain:?} under {used:?}, which files does not list");
            findings.error(Finding::about(FILE_NAME, message));
        }
    }
    let used: BTreeMap<&str, &str> = manifest.paths.iter().map(|(plain, used)| (&**used, &**plain)).collect();
    for (name, entry) in listed {
        if entry.stored.as_ref().is_some_and(|home| !is_home(home, entry, listed)) {
            findings.error(Finding::about(name, "its bytes are kept under a name that is not theirs"));
        }
        for problem in problems_beside(entry, listed) {
            findings.error(Finding::about(name, problem));
        }
        let is_used = used.contains_key(name.as_str());
        let plain = entry.carried.as_ref().map(|carried| &*carried.plain).or(used.get(name.as_str()).copied());
        let media_type = media_type::content_type(plain.unwrap_or(name));
        if entry.media_type != media_type {
            let message = format!("its type is {:?}, but a file of this name is {media_type:?}", entry.media_type);
            let finding = Finding::about(name, message);
            // What an earlier version of vestibule knew a type by may have been another table.
            if entry.carried.is_some() { findings.warn(finding) } else { findings.error(finding) }
        }
        let message = match &entry.carried {
            Some(_) if is_used => "it is listed as of an earlier release, but paths leads to it",
            None if !is_used && !manifest.paths.contains_key(name) => "it is listed, but paths has it on neither side",
            None if !entry.is_immutable && !manifest.paths.contains_key(name) => {
                "its name has its hash, but browsers are not told to keep it"
            }
            None if entry.is_immutable && !is_used => "browsers keep it for ever, but its name has no hash",
            _ => continue,
        };
        findings.error(Finding::about(name, message));
    }
}

/// What an entry says of other files: its twins, and what it needs. Those have entries of their own, so that their bytes
/// are proved as any others.
fn problems_beside(entry: &Entry, listed: &BTreeMap<String, Entry>) -> Vec<String> {
    let is_image = |entry: &Entry| entry.media_type.starts_with("image/");
    let mut problems = Vec::new();
    for name in entry.twins.iter().chain(entry.needs.names()) {
        match listed.get(name) {
            // A page of that release announces one file less, and that reference has its own finding.
            None if entry.carried.is_some() && entry.needs.names().any(|needed| needed == name) => {}
            None => problems.push(format!("it goes with {name:?}, which files does not list")),
            Some(other) if other.carried.is_some() && entry.carried.is_none() => {
                problems.push(format!("it goes with {name:?}, which only an earlier release uses"));
            }
            Some(_) => {}
        }
    }
    for (name, twin) in entry.twins.iter().filter_map(|name| Some((name, listed.get(name)?))) {
        if !is_image(entry) || !is_image(twin) || twin.media_type == entry.media_type {
            problems.push(format!("its twin {name:?} is no image in another format"));
        }
    }
    problems
}

/// Bytes are kept under the name of their hash, or under a listed name of the same bytes.
fn is_home(home: &str, entry: &Entry, listed: &BTreeMap<String, Entry>) -> bool {
    match home.strip_prefix(ORIGINALS).and_then(|rest| rest.strip_prefix('/')) {
        Some(digits) => entry.sha256.get(..32) == Some(digits),
        None => listed.get(home).is_some_and(|other| other.stored.is_none() && other.sha256 == entry.sha256),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::collect::verify::Proof;
    use crate::manifest::{Carried, Clock};

    fn findings(change: impl FnOnce(&mut Manifest), hash: Option<&str>) -> Vec<String> {
        let css = || Entry { media_type: "text/css; charset=utf-8".into(), ..Entry::default() };
        let hashed = Entry { is_immutable: true, ..css() };
        let files = [("a.css", css()), ("a.1.css", hashed)].map(|(name, entry)| (name.to_owned(), entry));
        let mut manifest = Manifest {
            paths: [("a.css".to_owned(), "a.1.css".to_owned())].into(),
            files: Some(files.into()),
            leaving: BTreeSet::new(),
            rewriting: None,
        };
        change(&mut manifest);
        let text = match hash {
            Some(hash) => format!("{{\"hash\": {hash:?}}}"),
            None => manifest.to_json(),
        };
        let mut findings = Findings::default();
        let listed = manifest.files.clone().unwrap_or_default();
        agrees_with_itself(&manifest, &listed, text.as_bytes(), &mut findings);
        let proof = Proof::new("out".as_ref(), 0, 0, Default::default(), findings, std::time::Duration::ZERO);
        proof.errors.iter().map(ToString::to_string).collect()
    }

    fn files(manifest: &mut Manifest) -> &mut BTreeMap<String, Entry> {
        manifest.files.as_mut().expect("it lists files")
    }

    #[test]
    fn a_manifest_of_ours_agrees_with_itself() {
        assert!(findings(|_| {}, None).is_empty());
    }

    #[test]
    fn each_disagreement_is_found() {
        let carried =
            Carried { plain: "a.css".into(), release: "r".into(), releases: 1, since: 1, clock: Clock::Machine };
        let one = |change: &dyn Fn(&mut Manifest), expected: &str| {
            let found = findings(change, None);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        };
        one(&|m| drop(files(m).remove("a.1.css")), "staticfiles.json: paths has \"a.css\" under \"a.1.css\"");
        one(
            &|m| {
                let entry = files(m)["a.css"].clone();
                files(m).insert("b.css".into(), entry);
            },
            "b.css: it is listed, but paths",
        );
        one(&|m| files(m).get_mut("a.css").expect("there").media_type = "text/html".into(), "a.css: its type is");
        one(&|m| files(m).get_mut("a.css").expect("there").is_immutable = true, "a.css: browsers keep it");
        one(
            &|m| files(m).get_mut("a.1.css").expect("there").carried = Some(carried.clone()),
            "a.1.css: it is listed as",
        );
        one(&|m| files(m).get_mut("a.css").expect("there").stored = Some("b.css".into()), "a.css: its bytes are kept");
        let beside = |m: &mut Manifest, twin: &str| files(m).get_mut("a.css").expect("there").twins.push(twin.into());
        one(&|m| beside(m, "b.css"), "a.css: it goes with \"b.css\", which files");
        one(&|m| beside(m, "a.1.css"), "a.css: its twin \"a.1.css\" is no image");
        let found = findings(|_| {}, Some("0123"));
        assert!(found.len() == 1 && found[0].starts_with("staticfiles.json: its hash is \"0123\""), "{found:?}");
    }
}
