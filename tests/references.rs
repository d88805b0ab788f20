//! References in odd files: very large ones, broken ones, and names that are hard to write.

use vestibule::collect::verify;
use vestibule::config::values::{Severity, UrlPrefix};

use crate::support::site::Site;

/// A site without compressed copies, that follows modules and looks into pages.
fn site() -> Site {
    Site::new().set(|config| {
        config.encodings.clear();
        config.javascript_modules = true;
        config.html = vec!["*.html".into()];
    })
}

/// What is around a reference in each language.
const LANGUAGES: [(&str, &str, &str); 7] = [
    ("a.css", "a{b:url('", "')}"),
    ("a.js", "import('./", "')"),
    ("a.mjs", "export * from \"./", "\";"),
    ("a.svg", "<svg><image href=\"", "\"/></svg>"),
    ("a.html", "<p><img src=\"", "\">"),
    ("a.webmanifest", "{\"icons\":[{\"src\":\"", "\"}]}"),
    ("map.html", "<script type=importmap>{\"imports\":{\"a\":\"./", "\"}}</script>"),
];

// ---- size

#[test]
fn large_files_in_one_line_are_read_in_reasonable_time() {
    let rule = "a{b:url(x.png);content:'url(y.png)'}/* url(z.png) */";
    let function = "function a(b,c){return /[\"']/.test(b)?{d:`${c}`}:[b,c,import('./m.js')]}";
    let site = site().file("x.png", "x").file("m.js", "export{}");
    let site = site.file("a.css", rule.repeat(20_000)).file("a.js", function.repeat(5_000));
    assert_eq!(site.collected().references, 25_000);
    assert_eq!(site.published("a.css"), rule.replace("x.png", &site.hashed("x.png")).repeat(20_000));
    assert_eq!(site.published("a.js"), function.replace("m.js", &site.hashed("m.js")).repeat(5_000));
}

/// Each place counted from the beginning of the file would be many minutes here.
#[test]
fn many_missing_references_in_one_line_have_their_columns_at_once() {
    let rule = format!("a{{b:url(x.png)}}/*{}*/", "é".repeat(80));
    let site = site().file("a.css", rule.repeat(20_000)).set(|config| config.missing_reference = Severity::Warn.into());
    let warnings = site.collected().warnings;
    let columns: Vec<_> = warnings.iter().map(|warning| warning.position.expect("a place").column).collect();
    let expected: Vec<_> = (0..20_000).map(|n| n * rule.chars().count() + "a{b:url(".len() + 1).collect();
    assert_eq!(columns, expected);
}

#[test]
fn files_that_are_nested_without_end_are_read_or_told() {
    let deep =
        |open: &str, middle: &str, close: &str| [open.repeat(50_000), middle.into(), close.repeat(50_000)].concat();
    let site = site()
        .file("x.png", "x")
        .file("m.js", "export{}")
        .file("a.css", deep("a{", "b:url(x.png)", "}"))
        .file("a.svg", deep("<g>", "<image href='x.png'/>", "</g>"))
        .file("a.html", deep("<p>", "<img src=x.png>", "</p>"))
        .file("a.webmanifest", format!("{{\"icons\":[{{\"src\":\"x.png\"}}],\"a\":{}}}", deep("[", "", "]")))
        .file("a.js", format!("import './m.js';{}", "[".repeat(500_000)));
    let summary = site.collected();
    assert_eq!(summary.references, 4);
    let told: Vec<_> = summary.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("a.js: it may have too many brackets"), "{told:?}");
}

// ---- odd bytes

#[test]
fn a_byte_order_mark_and_zero_bytes_stay_where_they_are() {
    for (name, before, after) in LANGUAGES {
        let text = format!("\u{feff}{before}x.js{after}");
        let site = site().file("x.js", "export{}").file(name, &text);
        assert_eq!(site.collected().references, 1, "for {name}");
        assert_eq!(site.published(name), text.replace("x.js", &site.hashed("x.js")), "for {name}");
    }
    for (name, text) in [
        ("a.css", "\0a{b:url(x.png)}/*\0*/"),
        ("a.js", "import './x.png';/*\0*/\"\0\""),
        ("a.svg", "<svg><image href='x.png'/>\0</svg>"),
        ("a.html", "\0<img src=x.png>\0"),
    ] {
        let site = site().file("x.png", "x").file(name, text);
        site.collected();
        assert_eq!(site.published(name), text.replace("x.png", &site.hashed("x.png")), "for {name}");
    }
}

#[test]
fn files_that_are_no_text_are_kept_and_told() {
    for (name, before, after) in LANGUAGES {
        let bytes = [before.as_bytes(), b"x.js", after.as_bytes(), b" caf\xe9"].concat();
        let site = site().file("x.js", "export{}").file(name, &bytes);
        let summary = site.collected();
        let column = bytes.len();
        let expected = format!("{name}:1:{column}: it is not UTF-8");
        assert!(summary.warnings[0].to_string().starts_with(&expected), "{:?}", summary.warnings);
        assert_eq!(fs_err::read(site.output().join(site.hashed(name))).unwrap(), bytes, "for {name}");
    }
}

#[test]
fn files_that_break_their_grammar_are_kept_and_told() {
    for (place, text, told) in [
        ("a.js:1:20", "import './x.js'; ((", "it is not JavaScript"),
        ("a.svg:1:25", "<svg><image href='x.js'></svg>", "it is not well-formed XML"),
        ("a.webmanifest:1:27", "{\"icons\":[{\"src\":\"x.js\"}],}", "it is not JSON"),
        ("a.html:1:12", "<base href=/other/><img src=x.js>", "it has a <base>"),
    ] {
        let name = place.split(':').next().unwrap();
        let site = site().file("x.js", "export{}").file(name, text);
        let warnings = site.collected().warnings;
        assert!(warnings[0].to_string().starts_with(&format!("{place}: {told}")), "{warnings:?}");
        assert_eq!(site.published(name), text);
    }
}

// ---- names

#[test]
fn names_that_are_hard_to_write_are_found_in_every_language() {
    for (encoded, plain) in [
        ("a%20b", "a b"),
        ("100%25", "100%"),
        ("what%3Fnot", "what?not"),
        ("%23", "#"),
        ("%C3%BC.x", "ü.x"),
        ("%27%22%28%29", "'\"()"),
        ("ü", "ü"),
        ("%e6%97%a5%E6%9C%AC", "日本"),
    ] {
        for (name, before, after) in LANGUAGES {
            let text = format!("{before}{encoded}.js?v=1#f{after}");
            let site = site().file(&format!("{plain}.js"), "export{}").file(name, &text);
            assert_eq!(site.collected().references, 1, "for {encoded} in {name}");
            let hash = site.hashed(&format!("{plain}.js")).replace(&format!("{plain}."), "").replace(".js", "");
            let expected = format!("{before}{encoded}.{hash}.js?v=1#f{after}");
            assert_eq!(site.published(name), expected, "for {encoded} in {name}");
        }
    }
}

#[test]
fn the_longest_names_are_found() {
    // A file system takes 255 bytes, and the hash with its dot is 13 of them.
    let name = format!("{}.js", "日".repeat(79));
    let long = format!("{}xx.js", "日".repeat(79));
    assert_eq!((name.len(), long.len()), (240, 242));
    for name in [name, long] {
        let site = site().file(&name, "export{}").file("a.css", format!("a{{b:url({name})}}"));
        site.collected();
        assert_eq!(site.published("a.css"), format!("a{{b:url({})}}", site.hashed(&name)));
    }
    // The second one has no room for the ending of its copies. Both are told at once, with all else.
    let too_long = [format!("{}.js", "x".repeat(252)), format!("{}.js", "y".repeat(237))];
    let text = format!("a{{b:url({})}} c{{d:url(nowhere.png)}}", too_long[0]);
    let site =
        site().file(&too_long[0], "export{}").file(&too_long[1], "let compressed;".repeat(9)).file("a.css", text);
    let site = site.set(|config| config.encodings = vestibule::config::CollectConfig::default().encodings);
    let refusal = site.refusal();
    for expected in
        ["x.js: its name gets 268 bytes with a hash", "y.js: its name gets 257 bytes", "there is no \"nowhere.png\""]
    {
        assert!(refusal.contains(expected), "{refusal}");
    }
    assert!(!site.output().join("staticfiles.json").exists());
}

// ---- new languages

#[test]
fn a_missing_file_is_reported_in_every_language_with_its_place() {
    for (name, before, after) in LANGUAGES {
        let site = site().file(name, format!("\n{before}nowhere.js{after}"));
        let refusal = site.refusal();
        assert!(refusal.contains(&format!("\n  {name}:2:")), "{refusal}");
        assert!(refusal.contains("but there is no \"nowhere.js\""), "{refusal}");
    }
}

#[test]
fn pages_and_other_manifests_are_looked_into_only_when_named() {
    let files = |site: Site| {
        let site = site.file("x.png", "x").file("a.html", "<img src=x.png>");
        site.file("manifest.json", "{\"icons\":[{\"src\":\"x.png\"}]}")
    };
    let untouched = files(Site::new());
    assert_eq!(untouched.collected().references, 0);
    let named = files(Site::new().set(|config| {
        config.html = vec!["a.html".into()];
        config.web_manifests = vec!["manifest.*".into()];
    }));
    assert_eq!(named.collected().references, 2);
}

#[test]
fn a_pattern_that_is_none_is_the_operators_mistake() {
    let site = Site::new().file("a.css", "").set(|config| config.html = vec!["[a".into()]);
    let error = site.collect().expect_err("a refusal");
    assert!(error.is_operators_mistake() && error.to_string().contains("[collect] html"), "{error}");
}

#[test]
fn a_source_map_is_never_rewritten() {
    let map = "{\"file\":\"a.js\",\"sources\":[\"b.js\"],\"icons\":[{\"src\":\"b.js\"}]}";
    let site = site().file("a.js.map", map).file("b.js", "").set(|config| {
        config.web_manifests = vec!["*".into()];
        config.html = vec!["*".into()];
    });
    site.collected();
    assert_eq!(site.published("a.js.map"), map);
}

#[test]
fn references_go_across_languages_and_rings_of_them_are_named() {
    let site = site()
        .file("a.svg", "<?xml-stylesheet href='a.css'?><svg/>")
        .file("a.css", "a{b:url(a.svg#c)}")
        .file("a.html", "<link rel=manifest href=a.webmanifest><img src=a.svg>")
        .file("a.webmanifest", "{\"icons\":[{\"src\":\"a.svg\"}]}");
    assert_eq!(site.collected().references, 5);
    let [svg, css, manifest] = ["a.svg", "a.css", "a.webmanifest"].map(|name| site.hashed(name));
    assert_eq!(site.published("a.svg"), format!("<?xml-stylesheet href='{css}'?><svg/>"));
    assert_eq!(site.published("a.css"), format!("a{{b:url({svg}#c)}}"));
    assert_eq!(site.published("a.html"), format!("<link rel=manifest href={manifest}><img src={svg}>"));
}

/// With the originals and without them: then the names of rings are proved from what was written.
#[test]
fn what_is_rewritten_in_any_language_is_proved() {
    for keep_originals in [true, false] {
        let mut site = site().set(|config| config.keep_originals = keep_originals);
        for (number, (_, before, after)) in LANGUAGES.into_iter().enumerate() {
            let extension = LANGUAGES[number].0.rsplit('.').next().expect("an extension");
            let names = [format!("{number}a.{extension}"), format!("{number} b.{extension}")];
            site = site.file(&names[0], format!("{before}{number}%20b.{extension}{after}"));
            site = site.file(&names[1], format!("{before}{}{after}", names[0]));
        }
        let summary = site.collected();
        assert_eq!(summary.references, 2 * LANGUAGES.len());
        let proof = verify(&site.config, &UrlPrefix::default()).expect("there is something to prove");
        assert!(proof.is_sound(), "{:?}", proof.errors);
        assert_eq!(proof.warnings, []);
    }
}
