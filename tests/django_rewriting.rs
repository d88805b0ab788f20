//! Real Django 6.1 and `collect` over the same small trees: wherever Django succeeds, each reference must
//! lead to the same file, with the same folders before it and the same query and fragment behind it.
//!
//! The spelling may differ, since Django writes every reference anew and we put a hash into the author's.
//! What Django cannot do, or does to text that no browser takes for a reference, is in the table too.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

use crate::support::django_site::{Django, repository};
use crate::support::site::Site;

/// What every tree has besides the file that is looked at. No base name is there twice.
const COMMON: [(&str, &str); 14] = [
    ("img/a.png", "1"),
    ("img/b.svg", "<svg/>"),
    ("img/my photo.png", "2"),
    ("img/50%.png", "3"),
    ("img/é.png", "4"),
    ("img/noext", "5"),
    ("img/x.tar.gz", "6"),
    ("fonts/f.eot", "7"),
    ("css/other.css", "a{}"),
    ("css/here.png", "8"),
    ("css/s.css.map", "{}"),
    ("js/m.js", "export default 1;"),
    ("js/n.js", "import './m.js';"),
    ("js/s.js.map", "{ }"),
];

/// What nobody writes as it is in a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.');

const STYLESHEET: &str = "css/s.css";
const SCRIPT: &str = "js/s.js";

/// How the two compare.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// The same references; this many, so that a table of nothing at all would be noticed.
    Same(usize),
    /// Django fails; we find these.
    OnlyOurs(&'static [&'static str]),
    /// We fail; Django finds these, and a browser would not.
    OnlyDjango(&'static [&'static str]),
    /// Both fail.
    BothFail,
    /// Not the same, and meant to be so: what Django finds, and what we find.
    Differ(&'static [&'static str], &'static [&'static str]),
}

use Verdict::{BothFail, Differ, OnlyDjango, OnlyOurs, Same};

const STYLESHEETS: [(&str, Verdict); 76] = [
    // ---- url()
    ("a{b:url(../img/a.png)}", Same(1)),
    ("a{b:url('../img/a.png')}", Same(1)),
    ("a{b:url(\"../img/a.png\")}", Same(1)),
    ("a{b:URL(../img/a.png)}", Same(1)),
    ("a{b:url(here.png)}", Same(1)),
    ("a{b:url(./here.png),url(../css/./here.png)}", Same(2)),
    ("a{b:url(..//img///a.png)}", Same(1)),
    ("a{b:url(/static/img/a.png)}", Same(1)),
    ("a{b:url(/static/img/../img/a.png)}", Same(1)),
    ("a{b:url(../img/b.svg#part)}", Same(1)),
    ("a{b:url(../fonts/f.eot?#iefix)}", Same(1)),
    ("a{b:url(../img/a.png?v=1)}", Same(1)),
    ("a{b:url(../img/a.png?v=1#f)}", Same(1)),
    ("a{b:url(../img/my%20photo.png)}", Same(1)),
    ("a{b:url('../img/my photo.png')}", Same(1)),
    ("a{b:url(../img/my photo.png)}", Same(1)), // no browser takes it unquoted, and Django mends it
    ("a{b:url(../img/%C3%A9.png),url(../img/é.png)}", Same(2)),
    ("a{b:url(../img/noext),url(../img/x.tar.gz)}", Same(2)),
    ("a{b:url(../img/a.png)}b{c:url(\"../img/a.png\")}", Same(2)),
    ("a{b:url()}c{d:url(\"\")}e{f:url(#g)}", Same(0)),
    ("a{b:url(data:image/png;base64,AA==)}", Same(0)),
    ("a{b:url(http://x/a.png),url(//x/a.png),url(about:blank)}", Same(0)),
    ("a{b:url(/media/a.png)}", Same(0)),
    ("a{b:url(../img/)}", Same(0)),
    ("a{b:url(../img)}", Same(0)),
    ("a{b:url( ../img/a.png)}", Same(1)),
    ("a{b:url(../img/a.png )}", Same(1)),
    ("a{b:url( '../img/a.png' )}", OnlyOurs(&["img/a.png"])),
    ("a{b:url('../img/a.png' )}", OnlyOurs(&["img/a.png"])),
    ("a{b:url(' ../img/a.png ')}", Same(1)),
    ("a{b:url(HTTPS://x/a.png)}", OnlyOurs(&[])),
    ("a{b:url(../img/a\\.png)}", OnlyOurs(&["img/a.png"])),
    ("a{b:url(../img/50%25.png)}", Same(1)),
    ("a{b:url(../img/50%2525.png)}", OnlyDjango(&["img/50%.png"])), // decoded twice; a browser would not
    ("a{b:url(../img/a.png?v=/../x)}", OnlyOurs(&["img/a.png"])),   // a query, and no folders
    ("a{b:url(../img/nowhere.png)}", BothFail),
    ("a{b:url(../../above.png)}", BothFail),
    ("a{b:url(/static/nowhere.png)}", BothFail),
    // ---- where it stands
    ("/* url(nowhere.png) */a{b:url(../img/a.png)}", Same(1)),
    ("a{content:'url(nowhere.png)';b:url(../img/a.png)}", Same(1)),
    ("a{content:\"\\\"url(nowhere.png)\";b:url(../img/a.png)}", Same(1)),
    ("a{b:url(\"data:image/svg+xml,<svg fill='url(#a)'/>\");c:url(../img/a.png)}", Same(1)),
    ("@media print{@supports (a:b){c{d:url(../img/a.png)}}}", Same(1)),
    ("a{&:hover{b:url(../img/a.png)}}", Same(1)),
    ("a{--i:url(../img/a.png)}", Same(1)),
    ("@font-face{src:url('../fonts/f.eot?#iefix') format('x'),local('y'),url(../fonts/f.eot)}", Same(2)),
    ("@unknown url(../img/a.png);", Same(1)),
    ("a{b:image-set(url(../img/a.png) 1x, url('here.png') 2x)}", Same(2)),
    ("a{b:image-set('../img/a.png' 1x)}", Differ(&[], &["img/a.png"])),
    ("a{b:src('../img/a.png')}", Differ(&[], &["img/a.png"])),
    ("a{b:my-url(../img/a.png)}", Differ(&["img/a.png"], &[])), // no function of CSS
    ("@namespace a url(../img/a.png);", Differ(&["img/a.png"], &[])), // a name, not a file
    ("/* url(../img/a.png)", Differ(&["img/a.png"], &[])),      // the comment goes on to the end
    ("\u{feff}a{b:url(../img/a.png)}", Same(1)),
    ("a{\r\nb:url(../img/a.png)}\r\n", Same(1)),
    // ---- @import
    ("@import 'other.css';", Same(1)),
    ("@import \"other.css\" screen and (a:b);", Same(1)),
    ("@import'other.css'layer(a)supports(b:c);", Same(1)),
    ("@import url(other.css);@import url('other.css') print;", Same(2)),
    ("@IMPORT\n'other.css';", Same(1)),
    ("@import '/static/css/other.css';", Same(1)),
    ("@import 'http://x/other.css';@import '//x/other.css';", Same(0)),
    ("@import 'other.css?v=1';", Same(1)),
    ("@media print{@import 'other.css';}", Same(1)),
    ("/*@import 'nowhere.css';*/a{content:\"@import 'nowhere.css'\"}", Same(0)),
    ("@import/**/'other.css';", Differ(&[], &["css/other.css"])),
    ("@import 's.css';", OnlyOurs(&["css/s.css"])), // a ring
    ("@charset \"utf-8\";@import 'other.css';", Same(1)),
    // ---- source maps
    ("a{}\n/*# sourceMappingURL=s.css.map */", Same(1)),
    ("a{}\n/*# sourceMappingURL=s.css.map */\n", Same(1)),
    ("a{}\n/*#\tsourceMappingURL=s.css.map*/\n", Same(1)),
    ("a{} /*# sourceMappingURL=s.css.map */", Differ(&[], &["css/s.css.map"])),
    ("a{}\r\n/*# sourceMappingURL=s.css.map */\r\n", Differ(&[], &["css/s.css.map"])),
    ("a{}\n/*@ sourceMappingURL=s.css.map */", Differ(&[], &["css/s.css.map"])),
    ("a{content:\"\\\n/*# sourceMappingURL=s.css.map */\\\n\"}", Same(0)),
    ("a{}\n/*# sourceMappingURL=nowhere.map */", OnlyOurs(&[])),
];

/// With `javascript_modules`, and without: then only source maps count.
const SCRIPTS: [(&str, Verdict, Verdict); 41] = [
    ("import a from './m.js';", Same(1), Same(0)),
    ("import a from \"./m.js\"", Same(1), Same(0)),
    ("import{a}from'./m.js'", Same(1), Same(0)),
    ("import * as a from './m.js';", Same(1), Same(0)),
    ("import {\n  a,\n  b as c,\n} from './m.js';", Same(1), Same(0)),
    ("import a, { b } from './m.js'\nimport c from './n.js'", Same(2), Same(0)),
    ("import './m.js'; import\"./n.js\"", Same(2), Same(0)),
    ("import '../js/m.js'; import '/static/js/n.js'", Same(2), Same(0)),
    ("import './m.js?v=1'", Same(1), Same(0)),
    ("export * from './m.js';", Same(1), Same(0)),
    ("export { a as b } from './m.js';", Same(1), Same(0)),
    ("export * as a from './m.js';", Same(1), Same(0)),
    ("const a = import('./m.js');", Same(1), Same(0)),
    ("const a = () => import(\"./m.js\").then(b)", Same(1), Same(0)),
    ("import a from './m.js' with { type: 'json' };", Same(1), Same(0)),
    ("import a from 'bare'; import 'also/bare'; import('bare')", Same(0), Same(0)),
    ("import a from 'https://x/m.js'", Same(0), Same(0)),
    ("import a from './nowhere.js'", BothFail, Same(0)),
    ("// import './nowhere.js'\n/* import './nowhere.js' */import './m.js'", Same(1), Same(0)),
    ("var a = \"import './nowhere.js'\"; import './m.js'", Same(1), Same(0)),
    ("var a = `import './nowhere.js'`; import './m.js'", Same(1), Same(0)),
    ("import './n.js'; import './m.js'", Same(2), Same(0)),
    ("import a from './m.js'; const b = <p>c</p>;", Same(1), Same(0)), // JSX
    ("const a = import( './m.js' );", Differ(&[], &["js/m.js"]), Same(0)),
    ("const a = import(`./m.js`);", Differ(&[], &["js/m.js"]), Same(0)),
    ("var r = /\"/; import d from './m.js'; var s = '\"';", Differ(&[], &["js/m.js"]), Same(0)),
    ("new URL('./m.js', import.meta.url)", Differ(&[], &["js/m.js"]), Same(0)),
    ("new Worker(new URL('m.js', import.meta.url))", Differ(&[], &["js/m.js"]), Same(0)),
    ("import.meta.resolve('./m.js')", Differ(&[], &["js/m.js"]), Same(0)),
    ("import './s.js'", OnlyOurs(&["js/s.js"]), Same(0)), // a ring
    ("import a from './m.js'; ((", Differ(&["js/m.js"], &[]), Same(0)), // no script at all; it is told
    ("a()\n//# sourceMappingURL=s.js.map", Same(1), Same(1)),
    ("a()\n//# sourceMappingURL=s.js.map\n", Same(1), Same(1)),
    ("a()\r\n//# sourceMappingURL=s.js.map\r\n", Same(1), Same(1)),
    ("//# sourceMappingURL=s.js.map\na()", Same(1), Same(1)),
    ("a = `\n//# sourceMappingURL=s.js.map\n`", Same(0), Same(0)),
    ("/*\n//# sourceMappingURL=s.js.map\n*/", Same(0), Same(0)),
    ("a() //# sourceMappingURL=s.js.map", Differ(&[], &["js/s.js.map"]), Differ(&[], &["js/s.js.map"])),
    ("//@ sourceMappingURL=s.js.map", Differ(&[], &["js/s.js.map"]), Differ(&[], &["js/s.js.map"])),
    ("/*# sourceMappingURL=s.js.map */", Differ(&[], &["js/s.js.map"]), Differ(&[], &["js/s.js.map"])),
    ("//# sourceMappingURL=nowhere.map", OnlyOurs(&[]), OnlyOurs(&[])),
];

/// One file in its tree, to be collected by both.
#[derive(Debug)]
struct Case {
    name: &'static str,
    text: &'static str,
    modules: bool,
    verdict: Verdict,
}

impl Case {
    /// The file with those that it can mean; more of them would only take time.
    fn files(&self) -> BTreeMap<&'static str, &'static str> {
        let is_mentioned = |name: &str| {
            let base_name = name.rsplit('/').next().unwrap();
            let beginning = base_name.split(['.', ' ', '%']).next().unwrap();
            !beginning.is_ascii() || self.text.contains(beginning)
        };
        COMMON.into_iter().filter(|(name, _)| is_mentioned(name)).chain([(self.name, self.text)]).collect()
    }
}

#[test]
fn every_reference_that_django_rewrites_in_a_stylesheet_leads_to_the_same_file() {
    let case = |(text, verdict)| Case { name: STYLESHEET, text, modules: false, verdict };
    compare(&STYLESHEETS.map(case));
}

#[test]
fn every_reference_that_django_rewrites_in_a_module_leads_to_the_same_file() {
    let case = |(text, verdict, _)| Case { name: SCRIPT, text, modules: true, verdict };
    compare(&SCRIPTS.map(case));
}

#[test]
fn every_source_map_that_django_rewrites_in_a_script_is_the_same_file() {
    let case = |(text, _, verdict)| Case { name: SCRIPT, text, modules: false, verdict };
    compare(&SCRIPTS.map(case));
}

fn compare(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (case, django) in cases.iter().zip(collected_by_django(cases)) {
        let django = django.references_in(case.name);
        let ours = collected_by_us(case).references_in(case.name);
        let is_as_said = match case.verdict {
            Same(number) => django == ours && django.as_ref().is_some_and(|found| found.len() == number),
            OnlyOurs(expected) => django.is_none() && targets(ours.as_deref()) == Some(expected.to_vec()),
            OnlyDjango(expected) => ours.is_none() && targets(django.as_deref()) == Some(expected.to_vec()),
            BothFail => django.is_none() && ours.is_none(),
            Differ(expected, other) => {
                targets(django.as_deref()) == Some(expected.to_vec())
                    && targets(ours.as_deref()) == Some(other.to_vec())
            }
        };
        if !is_as_said {
            wrong.push(format!("{case:?}\n  Django: {django:?}\n  ours: {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// A reference that has a hash in it.
#[derive(Debug, PartialEq, Eq)]
struct Reference {
    folders: String,
    target: String,
    rest: String,
}

fn targets(references: Option<&[Reference]>) -> Option<Vec<&str>> {
    Some(references?.iter().map(|reference| reference.target.as_str()).collect())
}

/// What came of a tree: plain and hashed names, and texts; or why it failed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Collected {
    error: Option<String>,
    paths: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

impl Collected {
    /// The hashed names in a file, looked up in the manifest. Nothing if the tree was not collected.
    fn references_in(&self, name: &str) -> Option<Vec<Reference>> {
        if self.error.is_some() {
            return None;
        }
        let text = &self.files[name];
        let mut found = BTreeMap::new();
        for (plain, hashed) in &self.paths {
            let base_name = hashed.rsplit('/').next().unwrap();
            let encoded = utf8_percent_encode(base_name, ENCODED).to_string();
            for spelled in [base_name, &encoded] {
                found.extend(text.match_indices(spelled).map(|(at, _)| (at, (at + spelled.len(), plain))));
            }
        }
        let is_end = |c: char| c.is_whitespace() || "\"'`()=*".contains(c);
        let reference = |(start, (end, plain)): (usize, (usize, &String))| {
            let folders = &text[text[..start].rfind(is_end).map_or(0, |at| at + 1)..start];
            let rest = &text[end..];
            let rest = &rest[..rest.find(|c: char| c != '=' && is_end(c)).unwrap_or(rest.len())];
            Reference { folders: decoded(folders), target: plain.clone(), rest: decoded(rest) }
        };
        Some(found.into_iter().map(reference).collect())
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

fn collected_by_django(cases: &[Case]) -> Vec<Collected> {
    let trees: Vec<_> =
        cases.iter().map(|case| serde_json::json!({"modules": case.modules, "files": case.files()})).collect();
    let mut command = Command::new(Django::Six.program("python"));
    command.arg(repository().join("tests/django/rewriting.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut python = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(&serde_json::to_vec(&trees).unwrap()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "Python ended with {}", output.status);
    let collected: Vec<Collected> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(collected.len(), cases.len());
    collected
}

fn collected_by_us(case: &Case) -> Collected {
    let site = Site::new().set(|config| {
        config.encodings.clear();
        config.javascript_modules = case.modules;
    });
    let site = case.files().into_iter().fold(site, |site, (name, text)| site.file(name, text));
    match site.collect() {
        Err(error) => Collected { error: Some(error.to_string()), ..Collected::default() },
        Ok(_) => {
            let paths = site.manifest().paths;
            let files = BTreeMap::from([(case.name.to_owned(), site.published(case.name))]);
            Collected { error: None, paths, files }
        }
    }
}
