//! The real output of bundlers through `collect`: what has a hash already is not hashed again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use vestibule::config::values::{Source, UrlPrefix};

use crate::support::client::get;
use crate::support::django_site::{Django, succeed};
use crate::support::server::TestServer;
use crate::support::site::{Site, files_below};

/// A bundler, its manifest, the names that it lists, and names that it does not.
struct Bundle {
    folder: &'static str,
    manifest: &'static str,
    listed: &'static [&'static str],
    other: &'static [&'static str],
}

const WEBPACK: [&str; 4] = [
    "main.c078bd8717238eb8c392.js",
    "main.9c31fef7e5ffb02ef14e.css",
    "14.7cf31e20fae1653a83ea.js",
    "door.d3bbf83ea49fd455a295.svg",
];

const BUNDLES: [Bundle; 8] = [
    Bundle {
        folder: "vite",
        manifest: "dist/.vite/manifest.json",
        listed: &[
            "assets/main-BbttCdzD.js",
            "assets/main-C5Dl8irD.css",
            "assets/later-grzuSED3.js",
            "assets/door-DOD9h7Cl.svg",
        ],
        other: &[],
    },
    Bundle { folder: "webpack", manifest: "dist/manifest.json", listed: &WEBPACK, other: &["assets-manifest.json"] },
    Bundle { folder: "webpack", manifest: "dist/assets-manifest.json", listed: &WEBPACK, other: &["manifest.json"] },
    Bundle { folder: "webpack", manifest: "webpack-stats.json", listed: &WEBPACK, other: &["manifest.json"] },
    Bundle { folder: "webpack", manifest: "stats.json", listed: &WEBPACK, other: &["manifest.json"] },
    Bundle {
        folder: "esbuild",
        manifest: "meta.json",
        listed: &[
            "main-KIQ5RIAL.js",
            "main-KIQ5RIAL.js.map",
            "main-25QOOTCB.css",
            "later-VOYGKE6Z.js",
            "chunk-UF274WIA.js",
            "door-7D2NXF7Z.svg",
        ],
        other: &[],
    },
    Bundle {
        folder: "parcel",
        manifest: "dist/parcel-manifest.json",
        listed: &["parcel.29ef4b1b.js", "later.9aabcc8c.js", "door.1bda25f5.svg"],
        // This plugin does not list the stylesheet and the source maps.
        other: &["index.html", "parcel.392dd677.css", "parcel.29ef4b1b.js.map"],
    },
    Bundle {
        folder: "rollup",
        manifest: "dist/manifest.json",
        listed: &["main-Dn3E-KMK.js", "assets/site-fvJ3FoGV.css"],
        // This plugin lists entries only.
        other: &["later-Ctz7aRgu.js"],
    },
];

impl Bundle {
    fn site(&self) -> Site {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bundlers").join(self.folder);
        let mut site = Site::new();
        for (name, bytes) in files_below(&fixture) {
            site = site.file_at(&format!("bundle/{name}"), bytes);
        }
        let (dist, manifest) = (site.path("bundle/dist"), site.path("bundle").join(self.manifest));
        site.set(|config| {
            config.sources = vec![Source { prefix: String::new(), directory: dist }];
            config.bundler_manifests = vec![manifest];
        })
    }
}

/// One of the bundles, by its folder.
fn bundle(folder: &str) -> &'static Bundle {
    BUNDLES.iter().find(|bundle| bundle.folder == folder).expect("a fixture")
}

#[test]
fn what_a_bundler_has_hashed_keeps_its_name_and_its_bytes() {
    for bundle in &BUNDLES {
        let site = bundle.site();
        site.collected();
        let manifest = site.manifest();
        let files = manifest.files.as_ref().expect("files");
        for name in bundle.listed {
            let what = format!("{name} of {}", bundle.manifest);
            assert_eq!(manifest.paths[*name], *name, "{what}");
            assert!(files[*name].is_immutable, "{what}");
            let published = fs_err::read(site.output().join(files[*name].location(name))).expect(name);
            assert_eq!(published, fs_err::read(site.path("bundle/dist").join(name)).expect(name), "{what}");
        }
        for name in bundle.other {
            assert_ne!(manifest.paths[*name], *name, "{name} of {}", bundle.manifest);
            assert!(!files[*name].is_immutable, "{name} of {}", bundle.manifest);
        }
    }
}

#[test]
fn without_their_manifest_the_same_files_are_hashed_as_any_others() {
    let site = bundle("vite").site().set(|config| config.bundler_manifests.clear());
    site.collected();
    assert_ne!(site.hashed("assets/main-BbttCdzD.js"), "assets/main-BbttCdzD.js");
}

#[test]
fn a_listed_file_is_found_under_a_prefix_and_through_a_link() {
    let bundle = bundle("esbuild");
    let site = bundle.site();
    std::os::unix::fs::symlink(site.path("bundle"), site.path("linked")).unwrap();
    let dist = site.path("linked/dist");
    let site = site.set(|config| config.sources = vec![Source { prefix: "app".into(), directory: dist }]);
    site.collected();
    for name in bundle.listed {
        assert_eq!(site.hashed(&format!("app/{name}")), format!("app/{name}"));
    }
}

#[test]
fn a_listed_file_is_found_by_its_published_name() {
    // The bundle was published by collectstatic; the manifest stayed where the bundler had put it.
    let bundle = bundle("webpack");
    let site = bundle.site();
    fs_err::rename(site.path("bundle/dist"), site.path("static")).unwrap();
    let (folder, manifest) = (site.path("static"), site.path("bundle/webpack-stats.json"));
    let site = site.set(|config| {
        config.sources = vec![Source { prefix: String::new(), directory: folder }];
        config.bundler_manifests = vec![manifest];
    });
    site.collected();
    for name in bundle.listed {
        assert_eq!(site.hashed(name), *name);
    }
}

#[test]
fn references_to_a_hashed_bundle_stay_and_the_namers_own_hash_covers_them() {
    let site = bundle("vite").site().file_at("bundle/dist/site.css", "a { background: url(assets/door-DOD9h7Cl.svg) }");
    site.collected();
    assert_eq!(site.published("site.css"), "a { background: url(assets/door-DOD9h7Cl.svg) }");
    assert_ne!(site.hashed("site.css"), "site.css");
}

#[test]
fn a_plain_name_that_a_bundle_asks_for_stays_though_originals_go() {
    // Rollup's plugin does not list the chunk that main imports.
    let site = bundle("rollup").site().file_at("bundle/dist/other.js", "let a = 1;");
    let site = site.set(|config| config.keep_originals = false);
    site.collected();
    let files = site.manifest().files.expect("files");
    assert!(files.contains_key("later-Ctz7aRgu.js") && files.contains_key(&site.hashed("later-Ctz7aRgu.js")));
    assert!(!files.contains_key("other.js") && files.contains_key(&site.hashed("other.js")));
    assert!(files.contains_key("main-Dn3E-KMK.js"));
}

#[test]
fn the_files_of_an_earlier_bundle_are_carried_over() {
    let site = bundle("rollup").site();
    site.collected();
    let (old, new) = ("main-Dn3E-KMK.js", "main-Ab3E-Kx9.js");
    fs_err::rename(site.path("bundle/dist").join(old), site.path("bundle/dist").join(new)).unwrap();
    let manifest = site.path("bundle/dist/manifest.json");
    let text = fs_err::read_to_string(&manifest).unwrap().replace(old, new);
    fs_err::write(manifest, text).unwrap();
    site.collected();
    let files = site.manifest().files.expect("files");
    assert!(files[old].carried.is_some() && files[new].carried.is_none());
    assert!(site.output().join(old).exists());
}

#[test]
fn a_listed_name_without_a_hash_is_treated_as_any_other_and_told() {
    let manifest =
        r#"{"src/main.js": {"file": "assets/main.js", "src": "src/main.js", "css": ["assets/main-C5Dl8irD.css"]}}"#;
    let site = bundle("vite").site().file_at("bundle/dist/assets/main.js", "let a = 1;");
    let site = site.file_at("bundle/dist/.vite/manifest.json", manifest);
    let summary = site.collected();
    assert_ne!(site.hashed("assets/main.js"), "assets/main.js");
    assert!(!site.manifest().files.expect("files")["assets/main.js"].is_immutable);
    assert_eq!(site.hashed("assets/main-C5Dl8irD.css"), "assets/main-C5Dl8irD.css");
    let warning = summary.warnings.iter().find(|warning| warning.file.ends_with("manifest.json")).expect("a warning");
    assert_eq!(warning.message, "it lists assets/main.js, with no hash in the name: treated as any other file");
}

#[test]
fn a_manifest_that_is_not_sound_stops_the_run_and_is_named() {
    for (text, expected) in [
        (Some("{ \"a\": "), "manifest.json:1:"),
        (Some("[1]"), "manifest.json: it is no manifest that is known"),
        (
            Some(r#"{"a.js": {"file": "assets/gone-C5Dl8irD.js"}, "b.js": {"file": "assets/main-BbttCdzD.js"}}"#),
            "manifest.json:1:20: it lists assets/gone-C5Dl8irD.js, which no source folder has",
        ),
        (
            Some("{\"main.js\": \"/static/assets/main-BbttCdzD.js\",\n  \"a\": \"/static/a-C5Dl8irD.js?x\"}"),
            "manifest.json:2:9: it lists /static/a-C5Dl8irD.js, which no source folder has",
        ),
        (None, "manifest.json: it cannot be read (entity not found)"),
    ] {
        let site = bundle("vite").site();
        let path = site.path("bundle/dist/.vite/manifest.json");
        match text {
            Some(text) => fs_err::write(path, text).unwrap(),
            None => fs_err::remove_file(path).unwrap(),
        }
        let refusal = site.refusal();
        assert!(refusal.contains(expected), "{text:?}: {refusal}");
        assert!(!site.output().join("staticfiles.json").exists(), "nothing is published");
    }
}

#[test]
fn a_listed_file_that_a_pattern_leaves_out_is_not_missed() {
    let site = bundle("vite").site().set(|config| config.ignore.push("*.svg".into()));
    let site = site.set(|config| config.missing_reference = vestibule::config::values::Severity::Warn.into());
    site.collected();
    assert!(!site.manifest().paths.contains_key("assets/door-DOD9h7Cl.svg"));
}

/// Django's own storage is asked for each name, as `{% static %}` and django-vite's tags ask it.
#[test]
fn djangos_storage_gives_the_names_unchanged() {
    let bundle = bundle("vite");
    let site = bundle.site();
    site.collected();
    let script = "import json, sys\n\
        from django.conf import settings\n\
        settings.configure(STATIC_ROOT=sys.argv[1], STATIC_URL='/static/')\n\
        import django; django.setup()\n\
        from django.contrib.staticfiles.storage import ManifestStaticFilesStorage\n\
        storage = ManifestStaticFilesStorage()\n\
        print(json.dumps({name: storage.url(name) for name in sys.argv[2:]}))";
    for django in [Django::Five2, Django::Six] {
        let mut python = Command::new(django.program("python"));
        python.args(["-c", script]).arg(site.output()).args(bundle.listed);
        let urls: BTreeMap<String, String> = serde_json::from_slice(&succeed(&mut python).stdout).unwrap();
        for name in bundle.listed {
            assert_eq!(urls[*name], format!("{}{name}", UrlPrefix::default().as_str()));
        }
    }
}

#[tokio::test]
async fn a_bundle_is_served_as_immutable_and_the_rest_is_not() {
    let bundle = bundle("rollup");
    let site = bundle.site();
    site.collected();
    let server = TestServer::start(&format!("[static]\ndirectory = {:?}\n", site.output())).await;
    for name in bundle.listed {
        let answer = get(server.address(), &format!("/static/{name}"), "").await;
        assert_eq!(answer.status, 200, "{name}");
        assert!(answer.header("cache-control").unwrap().contains("immutable"), "{name}");
    }
    let answer = get(server.address(), "/static/later-Ctz7aRgu.js", "").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("max-age=60, public")));
}
