//! Source trees through `collect`: what is published, and what bad input gets for an answer.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use vestibule::collect::{CollectError, collect};
use vestibule::config::values::{Encoding, Severities, Severity, Source, UrlPrefix};
use vestibule::config::{CollectConfig, Config};
use vestibule::finding::{Level, Position, Rule};
use vestibule::http::encoding::Coding;

use crate::support::process::SOON;
use crate::support::site::{Site, files_below};

const TEXT: &str = "body { color: black; background: white; margin: 0; padding: 0 } ";

// ---- the whole road

/// `BLESS_FIXTURES=1 cargo test` writes the fixture anew; look at the difference before committing it.
#[test]
fn the_fixture_site_becomes_exactly_what_is_expected() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let out = tempfile::tempdir().expect("a temporary folder");
    let config = CollectConfig {
        sources: vec![Source { prefix: String::new(), directory: fixtures.join("site") }],
        output: Some(out.path().to_owned()),
        javascript_modules: true,
        html: vec!["*.html".into()],
        encodings: Vec::new(), // their bytes depend on the release of the compressor
        ..CollectConfig::default()
    };
    let summary = collect(&config, &UrlPrefix::default(), SystemTime::now()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(summary.warnings, []);
    let mut collected = files_below(out.path());
    collected.remove(".vestibule.lock");
    let expected = fixtures.join("site.collected");
    if std::env::var_os("BLESS_FIXTURES").is_some() {
        bless(&expected, &collected);
    }
    let expected = files_below(&expected);
    assert_eq!(collected.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in &collected {
        assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(&expected[name]), "in {name}");
    }
}

fn bless(expected: &Path, collected: &BTreeMap<String, Vec<u8>>) {
    let _ = fs_err::remove_dir_all(expected);
    for (name, bytes) in collected {
        let path = expected.join(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs_err::write(path, bytes).expect("a fixture");
    }
}

#[test]
fn the_plain_name_keeps_the_authors_bytes_and_the_hashed_one_has_the_references() {
    let site = Site::new().file("css/a.css", "a{b:url(../x.png)}").file("x.png", "png");
    site.collected();
    let plain = fs_err::read_to_string(site.output().join("css/a.css")).expect("the plain file");
    assert_eq!(plain, "a{b:url(../x.png)}");
    assert_eq!(site.published("css/a.css"), format!("a{{b:url(../{})}}", site.hashed("x.png")));
}

#[test]
fn the_name_has_the_hash_of_the_published_bytes() {
    let site = Site::new().file("css/a.css", "a{b:url(../x.png)}").file("x.png", "png");
    site.collected();
    let manifest = site.manifest();
    let files = manifest.files.expect("our own manifest");
    for (plain, hashed) in &manifest.paths {
        let (stem, extension) = plain.rsplit_once('.').expect("an extension");
        assert_eq!(*hashed, format!("{stem}.{}.{extension}", &files[hashed].sha256[..12]));
    }
}

#[test]
fn every_file_of_the_manifest_is_there_with_its_size_and_copies() {
    let site = Site::new().file("a.css", TEXT.repeat(50)).file("b.css", format!("@import 'a.css';{}", TEXT.repeat(50)));
    site.collected();
    let files = site.manifest().files.expect("our own manifest");
    assert_eq!(files.len(), 4);
    for (name, entry) in &files {
        let size = |name: String| fs_err::metadata(site.output().join(name)).expect("it is there").len();
        assert_eq!(size(name.clone()), entry.size);
        assert_eq!(entry.media_type, "text/css; charset=utf-8");
        assert_eq!(entry.variants.keys().copied().collect::<Vec<_>>(), Coding::ALL);
        for (coding, expected) in &entry.variants {
            assert_eq!(size(format!("{name}{}", coding.suffix())), *expected);
        }
    }
}

#[test]
fn a_file_without_references_is_written_once_and_has_two_names() {
    let site = Site::new().file("a.css", TEXT.repeat(50));
    site.collected();
    let inode = |name: String| fs_err::metadata(site.output().join(name)).expect("it is there").ino();
    for suffix in ["", ".gz", ".br", ".zst"] {
        assert_eq!(inode(format!("a.css{suffix}")), inode(format!("{}{suffix}", site.hashed("a.css"))));
    }
}

#[test]
fn published_files_have_the_time_of_their_source() {
    let site = Site::new().file("a.css", TEXT.repeat(50));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs_err::File::options().append(true).open(site.path("src/a.css")).and_then(|f| f.set_modified(time)).expect("set");
    site.collected();
    for name in ["a.css".to_owned(), "a.css.br".into(), site.hashed("a.css")] {
        let found = fs_err::metadata(site.output().join(name)).and_then(|found| found.modified());
        assert_eq!(found.expect("a time"), time);
    }
}

#[test]
fn the_output_is_the_same_on_any_number_of_threads() {
    let output = |threads| {
        let mut site = Site::new().set(|config| config.threads = threads);
        for n in 0..20 {
            let import = if n == 0 { String::new() } else { format!("@import '{}.css';", n - 1) };
            site = site.file(&format!("{n}.css"), format!("{import}{}", TEXT.repeat(n * 7)));
        }
        site.collected();
        files_below(site.output())
    };
    assert!(output(1) == output(4), "the folders differ");
}

#[test]
fn without_hashing_names_stay_and_nothing_is_rewritten() {
    let site = Site::new().file("a.css", "a{b:url(nowhere.png)}").set(|config| config.hash = false);
    let summary = site.collected();
    assert_eq!((summary.hashed, summary.references), (0, 0));
    assert_eq!(site.manifest().paths, BTreeMap::from([("a.css".to_owned(), "a.css".to_owned())]));
    assert_eq!(site.published("a.css"), "a{b:url(nowhere.png)}");
}

#[test]
fn another_prefix_is_known_in_absolute_references() {
    let site = Site::new().file("a.css", "a{b:url(/assets/v1/x.png);c:url(/static/x.png)}").file("x.png", "png");
    collect(&site.config, &"/assets/v1/".parse().expect("a prefix"), SystemTime::now()).expect("collected");
    let hashed = site.hashed("x.png");
    assert_eq!(site.published("a.css"), format!("a{{b:url(/assets/v1/{hashed});c:url(/static/x.png)}}"));
}

#[test]
fn modules_are_followed_only_when_asked() {
    let site = Site::new().file("a.js", "import './b.js'").file("b.js", "export {}");
    site.collected();
    assert_eq!(site.published("a.js"), "import './b.js'");
    let site = site.set(|config| config.javascript_modules = true);
    site.collected();
    assert_eq!(site.published("a.js"), format!("import './{}'", site.hashed("b.js")));
}

#[test]
fn the_summary_counts_what_was_done() {
    let site = Site::new().file("a.css", format!("@import 'b.css';{}", TEXT.repeat(9))).file("b.css", TEXT.repeat(9));
    let summary = site.collected();
    assert_eq!((summary.files, summary.hashed, summary.references, summary.sources), (2, 2, 1, 1));
    let gzip = summary.compression[&Coding::Gzip];
    assert_eq!(gzip.copies, 3, "both names of b.css share one, the two contents of a.css have their own");
    assert!(gzip.after < gzip.before);
    assert!(summary.to_string().starts_with("Collected 2 files from 1 folder into "));
}

// ---- sources

#[test]
fn the_first_source_wins_a_path_and_the_others_are_counted() {
    let site = Site::with_sources(&["one", "two"])
        .file_at("one/a.txt", "first")
        .file_at("two/a.txt", "second")
        .file_at("two/b.txt", "only here");
    let summary = site.collected();
    assert_eq!((site.published("a.txt").as_str(), site.published("b.txt").as_str()), ("first", "only here"));
    assert_eq!(summary.shadowed, 1);
    assert!(summary.to_string().contains("shadowed"));
}

#[test]
fn a_source_with_a_prefix_appears_below_it() {
    let site = Site::with_sources(&["one", "vendor/x=two"]).file_at("one/a.txt", "1").file_at("two/a.txt", "2");
    site.collected();
    assert_eq!((site.published("a.txt").as_str(), site.published("vendor/x/a.txt").as_str()), ("1", "2"));
}

#[test]
fn djangos_ignore_patterns_hold() {
    let names = ["a.css", ".hidden", "b.css~", "CVS/Root", ".git/config", "cvs.txt"];
    let site = names.iter().fold(Site::new(), |site, name| site.file(name, "x"));
    site.collected();
    assert_eq!(site.manifest().paths.keys().collect::<Vec<_>>(), ["a.css", "cvs.txt"]);
}

#[test]
fn a_manifest_of_an_earlier_run_in_a_source_is_not_collected() {
    let site = Site::new().file("staticfiles.json", "{}").file("app/staticfiles.json", "{}");
    site.collected();
    assert_eq!(site.manifest().paths.keys().collect::<Vec<_>>(), ["app/staticfiles.json"]);
}

#[test]
fn an_empty_source_tree_is_refused() {
    let site = Site::new().file(".only-hidden", "x");
    let error = site.collect().expect_err("a refusal");
    assert!(matches!(error, CollectError::NoFiles(_)), "{error}");
    assert!(error.is_operators_mistake() && error.hint().is_some());
    assert!(!site.output().exists());
}

#[test]
fn no_source_and_no_output_are_the_operators_mistakes() {
    let site = Site::new().set(|config| config.sources.clear());
    assert!(site.collect().expect_err("a refusal").is_operators_mistake());
    let site = Site::new().file("a", "x").set(|config| config.output = None);
    assert!(site.collect().expect_err("a refusal").is_operators_mistake());
}

#[test]
fn missing_unreadable_and_misplaced_sources_are_reported_together() {
    let site = Site::new().file("a.css", "x");
    let too_long = "x".repeat(300);
    let directories = ["missing", "src/a.css", &too_long].map(|name| site.path(name));
    let site = site.set(|config| {
        config.sources.extend(directories.map(|directory| Source { prefix: String::new(), directory }));
    });
    let error = site.collect().expect_err("a refusal");
    let text = error.to_string();
    assert!(text.contains("missing: there is no such folder"), "{text}");
    assert!(text.contains("src/a.css: it is not a folder"), "{text}");
    assert!(text.contains("xxx: it cannot be read"), "{text}");
    assert!(error.is_operators_mistake());
}

#[test]
fn output_and_sources_must_not_lie_in_each_other() {
    for (source, output) in [("src", "src/out"), ("src/deep", "src"), ("src", "src")] {
        let site = Site::with_sources(&[source]).file_at(&format!("{source}/a.css"), "x");
        let output = site.path(output);
        let site = site.set(|config| config.output = Some(output));
        let error = site.collect().expect_err("a refusal");
        assert!(matches!(error, CollectError::Overlap { .. }) && error.is_operators_mistake(), "{error}");
    }
}

#[test]
fn a_broken_ignore_pattern_is_the_operators_mistake() {
    let site = Site::new().file("a", "x").set(|config| config.ignore.push("[a".into()));
    let error = site.collect().expect_err("a refusal");
    assert!(matches!(error, CollectError::BadPattern { .. }) && error.is_operators_mistake(), "{error}");
}

// ---- odd files

#[test]
fn a_broken_symbolic_link_is_told_and_left_out() {
    let site = Site::new().file("a.css", "x");
    symlink("nowhere", site.path("src/broken.css")).expect("a link");
    symlink("self.css", site.path("src/self.css")).expect("a link");
    let summary = site.collected();
    let told: Vec<_> = summary.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|line| line.contains("a symbolic link that leads nowhere")), "{told:?}");
}

#[test]
fn a_symbolic_link_out_of_the_tree_is_refused() {
    let site = Site::new().file("a.css", "x").file_at("secret/key.pem", "secret");
    symlink(site.path("secret/key.pem"), site.path("src/key.pem")).expect("a link");
    symlink(site.path("secret"), site.path("src/folder")).expect("a link");
    let refusal = site.refusal();
    assert!(refusal.starts_with("cannot publish 2 files:"), "{refusal}");
    assert!(refusal.contains("src/key.pem: it is a symbolic link out of the source folders"), "{refusal}");
    assert!(!site.output().exists());
}

#[test]
fn a_symbolic_link_within_the_sources_is_followed() {
    let site = Site::with_sources(&["one", "two"]).file_at("one/a.txt", "x").file_at("two/deep/b.txt", "y");
    symlink(site.path("two/deep"), site.path("one/linked")).expect("a link");
    site.collected();
    assert_eq!(site.published("linked/b.txt"), "y");
}

#[test]
fn a_loop_of_symbolic_links_is_told_and_left_out() {
    let site = Site::new().file("deep/a.css", "x");
    symlink(site.path("src"), site.path("src/deep/up")).expect("a link");
    let summary = site.collected();
    assert_eq!(summary.files, 1);
    assert!(summary.warnings[0].to_string().contains("a symbolic link to a folder above it"));
}

#[test]
fn a_fifo_a_socket_and_a_device_are_told_and_never_opened() {
    let site = Site::new().file("a.css", "x");
    let made = Command::new("mkfifo").arg(site.path("src/pipe")).status().expect("mkfifo");
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(site.path("src/socket")).expect("a socket");
    assert!(fs_err::metadata(site.path("src/pipe")).expect("it is there").file_type().is_fifo());
    let summary = site.collected(); // opening the FIFO would wait for ever
    let told: Vec<_> = summary.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|line| line.contains("neither a file nor a folder")), "{told:?}");
}

#[test]
fn names_that_cannot_be_published_are_refused_together() {
    let site = Site::new().file("back\\slash.css", "x").file("new\nline.css", "x");
    let bytes = std::ffi::OsStr::from_bytes(b"not-\xff-utf8.css");
    fs_err::write(site.path("src").join(bytes), "x").expect("a file");
    let refusal = site.refusal();
    assert!(refusal.starts_with("cannot publish 3 files:"), "{refusal}");
    assert!(refusal.contains("not-\\xFF-utf8.css") && refusal.contains("its name is not UTF-8"), "{refusal}");
    assert!(refusal.contains("new\\nline.css") && refusal.contains("a control character"), "{refusal}");
    assert!(refusal.contains("back\\slash.css") && refusal.contains("a backslash"), "{refusal}");
}

#[test]
fn percent_signs_spaces_and_question_marks_in_names_are_published_and_found() {
    let css = "a{b:url(100%25.png);c:url('a b.png');d:url(what%3F.png);e:url(%C3%BC.png)}";
    let names = ["100%.png", "a b.png", "what?.png", "ü.png"];
    let site = names.iter().fold(Site::new().file("a.css", css), |site, name| site.file(name, "x"));
    site.collected();
    let hash = site.hashed("a b.png").replace("a b.", "").replace(".png", "");
    let expected = format!(
        "a{{b:url(100%25.{hash}.png);c:url('a b.{hash}.png');d:url(what%3F.{hash}.png);e:url(%C3%BC.{hash}.png)}}"
    );
    assert_eq!(site.published("a.css"), expected);
}

#[test]
fn names_that_differ_in_case_only_are_published_and_told() {
    let site = Site::new().file("Logo.png", "a").file("logo.png", "b");
    let summary = site.collected();
    assert_eq!(summary.files, 2);
    assert!(summary.warnings[0].to_string().contains("differs from Logo.png in case only"));
}

#[test]
fn a_file_where_another_source_has_a_folder_is_refused() {
    let site = Site::with_sources(&["one", "two"]).file_at("one/a", "file").file_at("two/a/b", "in a folder");
    let refusal = site.refusal();
    assert!(refusal.contains("one/a: it is a file where") && refusal.contains("two/a/b needs a folder"), "{refusal}");
}

#[test]
fn a_stylesheet_that_is_not_utf8_is_kept_and_told() {
    let css = b"a{b:url(x.png)} /* caf\xe9 */";
    let site = Site::new().file("a.css", css).file("x.png", "x");
    let summary = site.collected();
    assert!(summary.warnings[0].to_string().starts_with("a.css:1:23: it is not UTF-8"));
    assert_eq!(fs_err::read(site.output().join(site.hashed("a.css"))).expect("published"), css);
}

#[test]
fn a_script_that_does_not_parse_is_kept_and_told() {
    let js = "import './b.js'; ((";
    let site = Site::new().file("a.js", js).file("b.js", "").set(|config| config.javascript_modules = true);
    let summary = site.collected();
    assert!(summary.warnings[0].to_string().starts_with("a.js:1:20: it is not JavaScript"));
    assert_eq!(site.published("a.js"), js);
}

#[test]
fn an_empty_file_is_published_without_copies() {
    let site = Site::new().file("a.css", "");
    site.collected();
    assert!(site.manifest().files.expect("ours")[&site.hashed("a.css")].variants.is_empty());
}

// ---- references

#[test]
fn all_missing_references_are_in_one_report_with_place_and_nearest_name() {
    let site = Site::new()
        .file("css/a.css", "@import 'b.css';\n  a { b: url(../img/lgoo.png) }\n")
        .file("css/b.css", "a{b:url(../../above.png)}")
        .file("img/logo.png", "x");
    let error = site.collect().expect_err("a refusal");
    let expected = "found 2 references that lead nowhere:
  css/a.css:2:14: refers to \"../img/lgoo.png\", but there is no \"img/lgoo.png\" (is \"img/logo.png\" meant?)
  css/b.css:1:9: refers to \"../../above.png\", which leads above the root of the static files";
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().is_some_and(|hint| hint.contains("missing_reference")));
    assert!(!error.is_operators_mistake());
}

#[test]
fn bad_files_missing_references_and_warnings_are_found_in_one_run() {
    let site = Site::new()
        .file("css/a.css", "a{b:url(../img/lgoo.png);c:url(../img/key.png);d:url(../folder/deep/x.png)}")
        .file("css/b.css", b"\xff")
        .file("js/a.js", "a()\n//# sourceMappingURL=a.js.map\n")
        .file("img/logo.png", "x")
        .file("img/back\\slash.png", "x")
        .file_at("secret/deep/key.pem", "secret");
    symlink(site.path("secret/deep/key.pem"), site.path("src/img/key.png")).expect("a link");
    symlink(site.path("secret"), site.path("src/folder")).expect("a link");
    let error = site.collect().expect_err("a refusal");
    let found: Vec<_> = error
        .findings()
        .iter()
        .map(|finding| {
            let source = finding.source.as_deref().and_then(|path| path.strip_prefix(site.path("src")).ok());
            (finding.level, finding.rule, source.expect("below the source").to_str().expect("UTF-8"))
        })
        .collect();
    // What is there and cannot be published is not also missing.
    let expected = [
        (Level::Error, Rule::LinkOutside, "folder"),
        (Level::Error, Rule::UnpublishableName, "img/back\\slash.png"),
        (Level::Error, Rule::LinkOutside, "img/key.png"),
        (Level::Error, Rule::MissingReference, "css/a.css"),
        (Level::Warning, Rule::NotUnderstood, "css/b.css"),
        (Level::Warning, Rule::MissingSourceMap, "js/a.js"),
    ];
    assert_eq!(found, expected);
    let missing = &error.findings()[3];
    assert_eq!(missing.position, Some(Position { line: 1, column: 9 }));
    assert_eq!(error.findings()[4].position, Some(Position { line: 1, column: 1 }));
    assert_eq!(missing.reference.as_deref(), Some("../img/lgoo.png"));
    assert_eq!(missing.suggestion.as_deref(), Some("img/logo.png"));
    let told = error.to_string();
    let headline = "found 3 files that cannot be published and 1 reference that leads nowhere";
    assert!(told.starts_with(&format!("{headline}:\n")) && told.lines().count() == 5, "{told}");
    assert_eq!(error.headline(), headline);
    assert!(!site.output().exists());
}

#[test]
fn severities_go_by_pattern_for_references_and_for_source_maps() {
    let site = Site::new()
        .file("css/a.css", "a{b:url(x.png);c:url(../legacy/y.png)}")
        .file("vendor/z/z.css", "a{b:url(z.png)}\n/*# sourceMappingURL=z.css.map */")
        .file("own.js", "a()\n//# sourceMappingURL=own.js.map\n");
    let severities = |text: &str| {
        let toml = format!("collect.missing_reference = {text}\ncollect.missing_source_map = {text}");
        toml::from_str::<Config>(&toml).expect("a configuration").collect
    };
    for (text, errors, warnings) in [
        (r#""error""#, &["css/a.css", "css/a.css", "own.js", "vendor/z/z.css", "vendor/z/z.css"][..], &[][..]),
        (r#"["vendor/*=ignore", "legacy/*=warn", "error"]"#, &["css/a.css", "own.js"], &["css/a.css"]),
        (
            r#"["css/*=ignore", "*.map=warn", "z.css=warn", "error"]"#,
            &[],
            &["own.js", "vendor/z/z.css", "vendor/z/z.css"],
        ),
    ] {
        let read = severities(text);
        let config = CollectConfig {
            missing_reference: read.missing_reference,
            missing_source_map: read.missing_source_map,
            ..site.config.clone()
        };
        let findings = match collect(&config, &UrlPrefix::default(), SystemTime::now()) {
            Ok(summary) => summary.warnings,
            Err(error) => error.findings().to_vec(),
        };
        let files = |level| -> Vec<_> {
            findings.iter().filter(|finding| finding.level == level).map(|finding| finding.file.as_str()).collect()
        };
        assert_eq!((&files(Level::Error)[..], &files(Level::Warning)[..]), (errors, warnings), "for {text}");
    }
}

#[test]
fn a_broken_pattern_of_a_severity_is_the_operators_mistake() {
    let bad = Severities { rules: vec![("[a".into(), Severity::Warn)], otherwise: Severity::Warn };
    let site = Site::new().file("a", "x").set(|config| config.missing_reference = bad);
    let error = site.collect().expect_err("a refusal");
    assert!(error.to_string().contains("[collect] missing_reference") && error.is_operators_mistake(), "{error}");
    assert!(!site.output().exists());
}

#[test]
fn a_missing_reference_may_be_a_warning_or_nothing() {
    let css = "a{b:url(nowhere.png)}";
    for (severity, warnings) in [(Severity::Warn, 1), (Severity::Ignore, 0)] {
        let site = Site::new().file("a.css", css).set(|config| config.missing_reference = severity.into());
        assert_eq!(site.collected().warnings.len(), warnings);
        assert_eq!(site.published("a.css"), css);
    }
}

#[test]
fn a_missing_source_map_is_a_warning_unless_said_otherwise() {
    let site = Site::new().file("a.js", "a()\n//# sourceMappingURL=a.js.map\n");
    let summary = site.collected();
    let told = "a.js:2:22: names the source map \"a.js.map\", but there is no \"a.js.map\"";
    assert_eq!(summary.warnings[0].to_string(), told);
    let site = site.set(|config| config.missing_source_map = Severity::Error.into());
    assert!(site.refusal().contains(told));
}

#[test]
fn an_import_cycle_is_collected_and_a_change_in_it_renames_all_of_it() {
    let names = |b: &str| {
        let site = Site::new().file("a.css", "@import 'b.css';").file("b.css", format!("@import 'a.css';{b}"));
        site.collected();
        assert_eq!(site.published("a.css"), format!("@import '{}';", site.hashed("b.css")));
        assert_eq!(site.published("b.css"), format!("@import '{}';{b}", site.hashed("a.css")));
        (site.hashed("a.css"), site.hashed("b.css"))
    };
    let (before, after) = (names("x{}"), names("y{}"));
    assert!(before.0 != after.0 && before.1 != after.1);
    assert_eq!(before, names("x{}"));
}

#[test]
fn a_file_that_a_cycle_refers_to_renames_the_cycle() {
    let name = |png: &str| {
        let site = Site::new()
            .file("a.css", "@import 'b.css';")
            .file("b.css", "@import 'a.css';b{c:url(x.png)}")
            .file("x.png", png);
        site.collected();
        site.hashed("a.css")
    };
    assert_ne!(name("1"), name("2"));
}

#[test]
fn a_file_may_import_itself() {
    let site = Site::new().file("a.css", "@import 'a.css';");
    site.collected();
    assert_eq!(site.published("a.css"), format!("@import '{}';", site.hashed("a.css")));
}

#[test]
fn a_change_at_the_end_of_a_chain_of_fifty_renames_its_beginning() {
    let name = |end: &str| {
        let mut site = Site::new().file("50.css", end).set(|config| config.encodings.clear());
        for n in 0..50 {
            site = site.file(&format!("{n}.css"), format!("@import '{}.css';", n + 1));
        }
        site.collected();
        site.hashed("0.css")
    };
    assert_ne!(name("a{}"), name("b{}"));
}

// ---- compression

#[test]
fn each_coding_is_judged_on_its_own_and_skipped_types_are_left() {
    let noise: Vec<u8> = (0..4000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let site = Site::new().file("a.css", TEXT.repeat(50)).file("noise.bin", noise).file("a.PNG", TEXT.repeat(50));
    let site = site.set(|config| config.encodings = vec![Encoding::Gzip, Encoding::Zstd]);
    site.collected();
    let files = site.manifest().files.expect("ours");
    assert_eq!(files["a.css"].variants.keys().copied().collect::<Vec<_>>(), [Coding::Zstd, Coding::Gzip]);
    assert!(files["a.PNG"].variants.is_empty());
    assert!(!site.output().join("a.css.br").exists() && !site.output().join("a.PNG.gz").exists());
}

#[test]
fn a_file_of_the_sources_goes_before_a_copy_of_the_same_name() {
    let site = Site::new().file("a.js", TEXT.repeat(50)).file("a.js.gz", "the author's own");
    site.collected();
    assert_eq!(fs_err::read_to_string(site.output().join("a.js.gz")).expect("published"), "the author's own");
    // What is sent for `a.js` is the copy of the hashed name, which is ours.
    let files = site.manifest().files.expect("ours");
    let entry = &files["a.js"];
    assert_eq!(entry.stored.as_deref(), Some(&*site.hashed("a.js")));
    assert!(entry.variants.contains_key(&Coding::Gzip));
}

// ---- publishing

#[test]
fn files_of_an_earlier_run_stay_and_stale_copies_of_plain_files_go() {
    let site = Site::new().file("a.css", TEXT.repeat(50));
    site.collected();
    let earlier = site.hashed("a.css");
    let site = site.file("a.css", "a{}").set(|config| config.encodings.clear());
    site.collected();
    assert!(site.output().join(&earlier).exists(), "pages of the earlier deploy still ask for it");
    assert!(site.output().join(format!("{earlier}.gz")).exists());
    assert!(!site.output().join("a.css.gz").exists(), "it holds the earlier contents");
}

#[test]
fn a_second_run_over_the_same_sources_changes_nothing() {
    let site = Site::new().file("a.css", "@import 'b.css';").file("b.css", TEXT.repeat(50));
    site.collected();
    let first = files_below(site.output());
    site.collected();
    assert!(first == files_below(site.output()), "the folders differ");
}

#[test]
fn a_second_run_at_the_same_time_is_refused() {
    let site = Site::new().file("a.css", "x");
    site.collected();
    let lock = fs_err::File::open(site.output().join(".vestibule.lock")).expect("the lock");
    lock.try_lock().expect("free after the run");
    let error = site.collect().expect_err("a refusal");
    assert!(matches!(error, CollectError::Busy(_)), "{error}");
    lock.unlock().expect("unlocked");
    site.collected();
}

#[test]
fn what_a_dead_run_left_is_removed() {
    let site = Site::new().file("a.css", "x").file_at("out/.vestibule-staging/half.css", "x");
    site.collected();
    assert!(!site.output().join(".vestibule-staging").exists());
}

#[test]
fn a_folder_in_the_output_where_a_file_must_go_is_named() {
    for (in_the_way, wanted) in
        [("out/a.css/x", "out/a.css"), ("out/css", "out/css"), ("out/a.css.gz/x", "out/a.css.gz")]
    {
        let site = Site::new().file("a.css", TEXT.repeat(50)).file("css/b.css", "y").file_at(in_the_way, "x");
        let error = site.collect().expect_err("a refusal");
        assert!(matches!(&error, CollectError::InTheWay { path, .. } if path.ends_with(wanted)), "{error}");
        assert!(!site.output().join("staticfiles.json").exists());
    }
}

#[test]
fn what_is_published_under_a_careful_umask_can_be_read_by_a_server_under_another_user() {
    let site = Site::new().file("css/deep/a.css", TEXT.repeat(50));
    let kept = site.path("kept");
    fs_err::create_dir(&kept).expect("a folder");
    let mode = |path: &Path| fs_err::metadata(path).expect("it is there").mode() & 0o777;
    fs_err::set_permissions(&kept, std::os::unix::fs::PermissionsExt::from_mode(0o750)).expect("set");
    let output = kept.join("new/public");
    let ended = Command::new("sh")
        .args(["-c", "umask 077; exec \"$0\" collect --source \"$1\" --output \"$2\""])
        .arg(env!("CARGO_BIN_EXE_vestibule"))
        .args([&site.path("src"), &output])
        .output()
        .expect("a shell");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    for folder in ["new", "new/public", "new/public/css", "new/public/css/deep"] {
        assert_eq!(mode(&kept.join(folder)), 0o755, "{folder}");
    }
    let published = files_below(&output);
    assert!(published.len() > 6, "{:?}", published.keys());
    for name in published.keys().filter(|name| *name != ".vestibule.lock") {
        assert_eq!(mode(&output.join(name)), 0o644, "{name}");
    }
    assert_eq!(mode(&kept), 0o750, "what was there keeps its access rights");
}

#[test]
fn an_output_that_is_a_file_is_the_operators_mistake() {
    let site = Site::new().file("a.css", "x").file_at("out", "a file");
    let error = site.collect().expect_err("a refusal");
    assert!(matches!(error, CollectError::OutputIsNoFolder(_)) && error.is_operators_mistake(), "{error}");
}

#[test]
fn an_output_that_cannot_be_made_is_named() {
    let site = Site::new().file("a.css", "x").file_at("file", "x");
    let output = site.path("file/out");
    let site = site.set(|config| config.output = Some(output.clone()));
    let error = site.collect().expect_err("a refusal");
    assert!(matches!(error, CollectError::Write { .. }), "{error}");
    assert!(error.to_string().contains(output.to_str().expect("UTF-8")));
}

#[test]
fn an_output_that_cannot_be_written_to_is_named() {
    let site = Site::new().file("a.css", "x");
    // Permissions do not bind the superuser, who may mount a file system that is read-only.
    let disk = Disk::mounted_at(site.output(), "ro");
    if disk.is_none() {
        let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o555);
        fs_err::set_permissions(site.output(), read_only).expect("set");
    }
    // Neither binds a superuser who may not mount. What stands where the lock must go binds everybody.
    let probe = site.output().join("probe");
    if fs_err::write(&probe, "").is_ok() {
        fs_err::remove_file(probe).expect("removed");
        fs_err::create_dir(site.output().join(".vestibule.lock")).expect("a folder");
    }
    let error = site.collect().expect_err("a refusal");
    assert!(matches!(error, CollectError::Write { .. }) && !error.is_operators_mistake(), "{error}");
    assert!(error.to_string().contains(site.output().to_str().expect("UTF-8")), "{error}");
}

#[test]
fn an_older_output_as_a_source_is_refused_where_names_would_clash() {
    let site = Site::new().file("a.css", "x");
    site.collected();
    let hashed = site.hashed("a.css");
    let same = Site::new().file("a.css", "x").file(&hashed, "x");
    assert_eq!(same.collected().files, 2);
    let other = Site::new().file("a.css", "x").file(&hashed, "y");
    assert!(matches!(other.collect(), Err(CollectError::Collision { .. })));
}

// ---- interruptions

#[test]
fn a_run_that_is_killed_leaves_the_last_output_and_the_next_run_cleans_up() {
    let mut site = Site::new().file("keep.css", "a{}");
    site.collected();
    for n in 0..500 {
        site = site.file(&format!("{n}.txt"), format!("file {n}"));
    }
    let staging = site.output().join(".vestibule-staging");
    let mut child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .env_clear()
        .arg("collect")
        .args(["--source".as_ref(), site.path("src").as_os_str()])
        .args(["--output".as_ref(), site.output().as_os_str()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program");
    let deadline = Instant::now() + SOON;
    // No pause in between: the staging folder is there for a moment only.
    while !staging.exists() {
        assert_eq!(child.try_wait().expect("a child"), None, "it ended before it could be killed");
        assert!(Instant::now() < deadline, "it has not begun to write in {SOON:?}");
        std::thread::yield_now();
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(staging.exists(), "it was killed in the middle");
    assert_eq!(site.manifest().paths.len(), 1);
    assert_eq!(site.published("keep.css"), "a{}");
    site.collected();
    assert!(!staging.exists());
    assert_eq!(site.manifest().paths.len(), 501);
}

/// A file system of its own, if we may mount one.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mounted_at(path: &Path, options: &str) -> Option<Self> {
        fs_err::create_dir_all(path).expect("a folder");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(path).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(path.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn no_space_left_names_the_file_and_keeps_the_last_output() {
    let site = Site::new().file("a.css", "a{}");
    let Some(_disk) = Disk::mounted_at(site.output(), "size=256k") else { return no_space_by_limit(&site) };
    site.collected();
    let before = files_below(site.output());
    let noise: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let site = site.file("large.bin", noise).set(|config| config.encodings.clear());
    let error = site.collect().expect_err("a refusal");
    let CollectError::Write { name, cause, .. } = &error else { panic!("{error}") };
    assert!(name.starts_with("large.") && cause.kind() == std::io::ErrorKind::StorageFull, "{error}: {cause}");
    assert!(error.hint().is_some_and(|hint| hint.contains("free some space")));
    assert!(before == files_below(site.output()), "the folders differ");
}

/// Without the right to mount, the kernel's limit on the size of a file stands in for the full disk.
fn no_space_by_limit(site: &Site) {
    site.collected();
    let before = files_below(site.output());
    fs_err::write(site.path("src/large.bin"), vec![b'x'; 1_000_000]).expect("a file");
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" collect --source \"$1\" --output \"$2\"";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_vestibule")])
        .args([&site.path("src"), site.output()])
        .output()
        .expect("a shell");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot write large.") && told.contains("free some space"), "{told}");
    assert!(before == files_below(site.output()), "the folders differ");
}

// ---- the report

#[test]
fn a_report_tells_of_the_release_and_of_what_has_changed() {
    let site = Site::new().file("a.css", TEXT.repeat(50)).file("b&<i>.js", "b()").file("old.txt", "x");
    let report = site.path("release.html");
    let site = site.set(|config| config.report = Some(report.clone()));
    site.collected();
    let first = fs_err::read_to_string(&report).expect("a report");
    assert!(first.contains("as there is no release before this one") && !first.contains("What has changed"));
    assert!(first.contains("b&amp;&lt;i&gt;.js") && !first.contains("<i>"));
    fs_err::remove_file(site.path("src/old.txt")).expect("removed");
    let before = site.manifest().release();
    let site = site.file("a.css", TEXT.repeat(60)).file("new.txt", "x");
    site.collected();
    let second = fs_err::read_to_string(&report).expect("a report");
    assert!(second.contains("1 added, 1 changed, 1 removed since release"), "{second}");
    assert!(second.contains(&before) && second.contains(&site.manifest().release()));
    assert!(second.contains("Kept from earlier releases"), "the old a.css is carried");
    let beside = fs_err::read_dir(site.path("")).expect("the folder").map(|entry| entry.expect("an entry").file_name());
    let mut beside: Vec<_> = beside.collect();
    beside.sort();
    assert_eq!(beside, ["out", "release.html", "src"], "nothing is left of the writing");
}

#[test]
fn a_report_where_it_would_be_published_or_cannot_be_is_the_operators_mistake() {
    let site = Site::new().file("a.css", "x");
    symlink(site.path("src"), site.path("link")).expect("a link");
    for (place, why) in [
        ("src/release.html", "lies inside of"),
        ("link/release.html", "lies inside of"),
        ("out/deep/release.html", "lies inside of"),
        ("absent/release.html", "is in a folder that is not there"),
        ("link/..", "is not a file"),
        ("/dev/null", "is not a file"),
    ] {
        let config = CollectConfig { report: Some(site.path(place)), ..site.config.clone() };
        let error = collect(&config, &UrlPrefix::default(), SystemTime::now()).expect_err("a refusal");
        assert!(error.to_string().contains(why) && error.is_operators_mistake(), "for {place}: {error}");
        assert!(!site.output().exists());
    }
}
