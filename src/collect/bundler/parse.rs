//! Reads what bundlers write about their output. Pure: bytes in, listed files out.
//!
//! The kind is told by the shape, since file names are the operator's choice:
//!
//! | shape | from |
//! |---|---|
//! | `{"src/main.js": {"file": …, "css": […], "assets": […]}}` | Vite |
//! | `{"inputs": {…}, "outputs": {"dist/main-X.js": {…}}}` | esbuild's metafile |
//! | `{"assets": [{"name": …, "info": {"immutable": true}}]}` | webpack's `stats.json` |
//! | `{"status": "done", "assets": {"main.X.js": {"name": …, "path": …}}}` | webpack-bundle-tracker, for django-webpack-loader |
//! | `{"main.js": "/static/main.X.js"}`, or `{"src": …}` for the text, with or without `entrypoints` | webpack-manifest-plugin, webpack-assets-manifest, Parcel's and Rollup's plugins |

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::finding::Position;

/// A file that a bundler says it has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its path in the output folder, or its URL; without query and fragment.
    pub(super) name: String,
    /// Its place on the disk of the machine that bundled, if the manifest says it.
    pub(super) path: Option<PathBuf>,
    /// The name before bundling, if the manifest says it.
    pub(super) logical: Option<String>,
    /// The manifest itself says that there is a hash in the name.
    pub(super) is_certain: bool,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) position: Option<Position>,
    pub(super) message: String,
}

/// Reads a manifest of any kind.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Listed>, Mistake> {
    let document: Value = serde_json::from_slice(bytes).map_err(|error| Mistake {
        position: Some(Position { line: error.line().max(1), column: error.column().max(1) }),
        message: format!("it is not sound JSON ({error})"),
    })?;
    let listed = match &document {
        Value::Object(document) => of_object(document)?,
        _ => None,
    };
    let mut listed = listed.ok_or_else(|| {
        mistake(
            "it is no manifest that is known; known are those of Vite, esbuild, webpack (stats.json, \
             webpack-bundle-tracker, webpack-manifest-plugin, webpack-assets-manifest), Parcel and Rollup",
        )
    })?;
    listed.sort_by(|a, b| (&a.name, !a.is_certain).cmp(&(&b.name, !b.is_certain)));
    listed.dedup_by(|later, kept| {
        let is_same = later.name == kept.name && (later.path == kept.path || later.path.is_none());
        if is_same && kept.logical.is_none() {
            kept.logical = later.logical.take();
        }
        is_same
    });
    if listed.is_empty() {
        Err(mistake("it lists no file with a hash; is the bundler told to put hashes into names?"))
    } else {
        Ok(listed)
    }
}

fn mistake(message: impl Into<String>) -> Mistake {
    Mistake { position: None, message: message.into() }
}

/// `None` for a shape that is not known.
fn of_object(document: &Map<String, Value>) -> Result<Option<Vec<Listed>>, Mistake> {
    if let (Some(Value::Object(_)), Some(Value::Object(outputs))) = (document.get("inputs"), document.get("outputs")) {
        return Ok(Some(esbuild(outputs)));
    }
    if let Some(Value::String(status)) = document.get("status")
        && (document.contains_key("assets") || document.contains_key("chunks") || status != "done")
    {
        return tracker(status, document).map(Some);
    }
    if let Some(Value::Array(assets)) = document.get("assets") {
        let mut listed = Vec::new();
        webpack(assets, document, &mut listed);
        return Ok(Some(listed));
    }
    if let Some(Value::Array(children)) = document.get("children") {
        let mut listed = Vec::new();
        children_of(children, &mut listed);
        return Ok(Some(listed));
    }
    let entries: Vec<_> = document.values().filter_map(Value::as_object).collect();
    if !entries.is_empty()
        && entries.len() == document.len()
        && entries.iter().all(|entry| text(entry, "file").is_some())
    {
        return Ok(Some(vite(document)));
    }
    Ok(flat(document))
}

fn vite(document: &Map<String, Value>) -> Vec<Listed> {
    let mut listed = Vec::new();
    for (key, entry) in document.iter().filter_map(|(key, entry)| Some((key, entry.as_object()?))) {
        let logical = text(entry, "src").unwrap_or(key);
        listed.extend(text(entry, "file").map(|file| Listed { logical: Some(logical.to_owned()), ..named(file) }));
        let more = ["css", "assets"].into_iter().filter_map(|key| entry.get(key)?.as_array()).flatten();
        listed.extend(more.filter_map(Value::as_str).map(named));
    }
    listed
}

fn esbuild(outputs: &Map<String, Value>) -> Vec<Listed> {
    let file = |(name, output): (&String, &Value)| {
        let logical = output.get("entryPoint").and_then(Value::as_str).map(str::to_owned);
        Listed { logical, ..named(name) }
    };
    outputs.iter().map(file).collect()
}

/// Only what webpack itself calls immutable is listed: it knows which names it has put a hash into.
fn webpack(assets: &[Value], document: &Map<String, Value>, listed: &mut Vec<Listed>) {
    let folder = text(document, "outputPath").map(Path::new);
    for asset in assets.iter().filter_map(Value::as_object) {
        let (Some(name), Some(info)) = (text(asset, "name"), asset.get("info").and_then(Value::as_object)) else {
            continue;
        };
        if info.get("immutable") != Some(&Value::Bool(true)) {
            continue;
        }
        let file = named(name);
        let hashes = ["contenthash", "chunkhash", "modulehash", "fullhash"].into_iter().filter_map(|key| info.get(key));
        let mut texts = hashes.flat_map(|hash| match hash {
            Value::Array(hashes) => hashes.iter().filter_map(Value::as_str).collect(),
            hash => Vec::from_iter(hash.as_str()),
        });
        // It may stand behind a question mark, and then the name is the same for every content.
        let is_certain = texts.any(|hash| !hash.is_empty() && file.name.contains(hash));
        let logical = text(info, "sourceFilename").map(str::to_owned);
        let path = folder.map(|folder| folder.join(&file.name));
        listed.push(Listed { path, logical, is_certain, ..file });
    }
    children_of(document.get("children").and_then(Value::as_array).map_or(&[], Vec::as_slice), listed);
}

/// A configuration with several parts has a child for each.
fn children_of(children: &[Value], listed: &mut Vec<Listed>) {
    for child in children.iter().filter_map(Value::as_object) {
        let assets = child.get("assets").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        webpack(assets, child, listed);
    }
}

fn tracker(status: &str, document: &Map<String, Value>) -> Result<Vec<Listed>, Mistake> {
    match status {
        "done" => {}
        "error" => {
            let message = text(document, "message").unwrap_or("it does not say why");
            let line = message.lines().next().unwrap_or_default();
            return Err(mistake(format!("it tells of a build that failed: {line}")));
        }
        _ => return Err(mistake(format!("it tells of a build that has not ended (its status is {status:?})"))),
    }
    let mut listed = Vec::new();
    for asset in document.get("assets").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        let Some((asset, name)) = asset.as_object().and_then(|asset| Some((asset, text(asset, "name")?))) else {
            continue;
        };
        let logical = text(asset, "sourceFilename").map(str::to_owned);
        let path = text(asset, "path").map(|path| PathBuf::from(named(path).name));
        listed.push(Listed { path, logical, ..named(name) });
    }
    // Older versions have the files within the chunks only.
    let chunks = document.get("chunks").and_then(Value::as_object).into_iter().flat_map(Map::values);
    for file in chunks.filter_map(Value::as_array).flatten() {
        let name = file.as_str().or_else(|| text(file.as_object()?, "name"));
        let path = file.as_object().and_then(|file| text(file, "path")).map(PathBuf::from);
        listed.extend(name.map(|name| Listed { path, ..named(name) }));
    }
    Ok(listed)
}

/// `None` if something in it is neither a file nor the entry points.
fn flat(document: &Map<String, Value>) -> Option<Vec<Listed>> {
    let mut listed = Vec::new();
    for (key, value) in document {
        let file = value.as_str().or_else(|| text(value.as_object()?, "src"));
        match file.filter(|file| !file.is_empty()) {
            Some(file) => listed.push(Listed { logical: Some(key.clone()), ..named(file) }),
            None if key == "entrypoints" => entry_points(value, &mut listed),
            None => return None,
        }
    }
    (!listed.is_empty()).then_some(listed)
}

fn entry_points(value: &Value, listed: &mut Vec<Listed>) {
    match value {
        Value::String(file) => listed.push(named(file)),
        Value::Array(values) => values.iter().for_each(|value| entry_points(value, listed)),
        Value::Object(values) => match text(values, "src") {
            Some(file) => listed.push(named(file)),
            None => values.values().for_each(|value| entry_points(value, listed)),
        },
        _ => {}
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

fn named(name: &str) -> Listed {
    let end = name.find(['?', '#']).unwrap_or(name.len());
    Listed { name: name[..end].to_owned(), ..Listed::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(json: &str) -> Vec<String> {
        parse(json.as_bytes())
            .unwrap_or_else(|mistake| panic!("{mistake:?}"))
            .into_iter()
            .map(|file| file.name)
            .collect()
    }

    #[test]
    fn each_kind_is_told_by_its_shape() {
        for (json, expected) in [
            (
                r#"{"_shared.js": {"file": "assets/shared-B1.js"},
                    "main.js": {"file": "assets/main-A1.js", "src": "main.js", "css": ["assets/main-C1.css"],
                                "assets": ["assets/a-D1.svg"], "imports": ["_shared.js"], "isEntry": true}}"#,
                &["assets/a-D1.svg", "assets/main-A1.js", "assets/main-C1.css", "assets/shared-B1.js"][..],
            ),
            (
                r#"{"inputs": {}, "outputs": {"dist/a-B.js": {"entryPoint": "src/a.js"}, "dist/a-B.js.map": {}}}"#,
                &["dist/a-B.js", "dist/a-B.js.map"],
            ),
            (
                r#"{"assets": [{"name": "a.1f.js", "info": {"immutable": true, "contenthash": "1f"}},
                               {"name": "b.js", "info": {}}, {"name": "c.js"}],
                    "children": [{"assets": [{"name": "d.2f.js", "info": {"immutable": true}}]}]}"#,
                &["a.1f.js", "d.2f.js"],
            ),
            (r#"{"children": [{"assets": [{"name": "d.2f.js", "info": {"immutable": true}}]}]}"#, &["d.2f.js"]),
            (
                r#"{"status": "done", "assets": {"a.1f.js": {"name": "a.1f.js", "path": "/x/a.1f.js"}}, "chunks": {"a": ["a.1f.js"]}}"#,
                &["a.1f.js"],
            ),
            (r#"{"status": "done", "chunks": {"a": [{"name": "a.1f.js", "path": "/x/a.1f.js"}]}}"#, &["a.1f.js"]),
            (
                r#"{"a.js": "/static/a.1f.js?x#y", "b.js": {"src": "b.2f.js", "integrity": "sha384-x"}}"#,
                &["/static/a.1f.js", "b.2f.js"],
            ),
            (
                r#"{"a.js": "a.1f.js", "entrypoints": {"a": {"assets": {"js": ["a.1f.js"], "css": [{"src": "a.3f.css"}]}}}}"#,
                &["a.1f.js", "a.3f.css"],
            ),
        ] {
            assert_eq!(names(json), expected, "for {json}");
        }
    }

    #[test]
    fn webpack_is_believed_where_the_hash_is_in_the_name() {
        for (name, info, expected) in [
            ("a.1f2e.js", r#"{"immutable": true, "contenthash": "1f2e"}"#, Some(true)),
            ("a.1f2e.js", r#"{"immutable": true, "chunkhash": ["9a", "1f2e"]}"#, Some(true)),
            ("a.js?1f2e", r#"{"immutable": true, "contenthash": "1f2e"}"#, Some(false)),
            ("a.js", r#"{"contenthash": "1f2e"}"#, None),
        ] {
            let json = format!(r#"{{"outputPath": "/x", "assets": [{{"name": "{name}", "info": {info}}}]}}"#);
            let file = parse(json.as_bytes()).ok().map(|files| files[0].clone());
            assert_eq!(file.as_ref().map(|file| file.is_certain), expected, "for {json}");
            let path = file.map(|file| file.path);
            assert!(path.is_none_or(|path| path.is_some_and(|path| path.starts_with("/x"))), "for {json}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for (text, expected) in [
            ("", "not sound JSON"),
            ("{\n \"a.js\": }", "not sound JSON"),
            ("[]", "no manifest that is known"),
            ("{}", "no manifest that is known"),
            (r#"{"a.js": 1}"#, "no manifest that is known"),
            (r#"{"src/a.js": ["a-1.js"]}"#, "no manifest that is known"), // Vite's manifest for rendering on a server
            (r#"{"status": "error", "message": "no loader\nfor x"}"#, "a build that failed: no loader"),
            (r#"{"status": "compile"}"#, "has not ended"),
            (r#"{"assets": []}"#, "lists no file"),
        ] {
            let mistake = parse(text.as_bytes()).expect_err(text);
            assert!(mistake.message.contains(expected), "for {text}: {mistake:?}");
        }
        let corrupt = parse(b"{\n \"a.js\": }").expect_err("corrupt");
        assert_eq!(corrupt.position, Some(Position { line: 2, column: 10 }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
