//! `vestibule collect --check`: what was collected is proved, and each way to spoil it is found.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};
use vestibule::collect::{Proof, ProofError, verify};
use vestibule::config::CollectConfig;
use vestibule::config::values::UrlPrefix;
use vestibule::http::encoding::{Coding, DictionaryCoding};
use vestibule::manifest::digits::hex;
use vestibule::manifest::{Entry, FILE_NAME, Manifest};

use crate::support::site::{Site, files_below};

/// A tree with each kind of reference, with a ring of two stylesheets and a script that names itself.
fn site() -> Site {
    let filler = "/* enough to be worth compressing */\n".repeat(20);
    Site::new()
        .file("css/site.css", format!("@import 'base.css';\na {{ background: url(../img/a%20b.png?v=1#x) }}\n{filler}"))
        .file("css/base.css", format!(".b {{ background: url(\"/static/img/a b.png\") }}\n{filler}"))
        .file("css/one.css", format!("@import 'two.css';\n@import 'base.css';\n{filler}"))
        .file("css/two.css", format!("@import url( 'o\\6e e.css' );\n{filler}"))
        .file("js/app.js", format!("import './app.js';\nimport './lib.mjs';\n{filler}"))
        .file("js/lib.mjs", format!("export const x = 1;\n{filler}"))
        .file("img/a b.png", [0, 159, 146, 150])
        .file("robots.txt", "")
        .set(|config| {
            config.javascript_modules = true;
            config.keep_releases = 0;
        })
}

fn collected() -> Site {
    let site = site();
    site.collected();
    site
}

fn prove(site: &Site) -> Proof {
    verify(&site.config, &UrlPrefix::default()).expect("there is something to prove")
}

fn told(findings: &[vestibule::finding::Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

/// Changes the manifest; its own hash is put right.
fn edit(site: &Site, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = site.manifest();
    change(&mut manifest);
    fs_err::write(site.output().join(FILE_NAME), manifest.to_json()).unwrap();
}

fn entry<'m>(manifest: &'m mut Manifest, name: &str) -> &'m mut Entry {
    manifest.files.as_mut().unwrap().get_mut(name).unwrap_or_else(|| panic!("{name} is listed"))
}

/// Replaces a file, and makes the manifest agree; copies of the old bytes are given up.
fn replace(site: &Site, name: &str, bytes: &[u8]) {
    // The plain name may be another name of the same file on the disk, and keeps its bytes.
    fs_err::remove_file(site.output().join(name)).unwrap();
    fs_err::write(site.output().join(name), bytes).unwrap();
    edit(site, |manifest| {
        let entry = entry(manifest, name);
        for coding in std::mem::take(&mut entry.variants).keys() {
            fs_err::remove_file(site.output().join(format!("{name}{}", coding.suffix()))).unwrap();
        }
        entry.deltas.clear();
        entry.integrity.clear();
        (entry.size, entry.sha256) = (bytes.len() as u64, hex(&Sha256::digest(bytes)));
    });
}

#[test]
fn what_was_collected_is_proved() {
    let site = collected();
    let proof = prove(&site);
    assert_eq!(told(&proof.errors), [""; 0]);
    assert_eq!(told(&proof.warnings), [""; 0]);
    let manifest = site.manifest();
    let files = manifest.files.unwrap();
    assert_eq!(proof.files, files.len());
    // The same bytes under a plain and a hashed name have one copy in each coding.
    let copies = files
        .iter()
        .flat_map(|(name, entry)| entry.variants.keys().map(|coding| (entry.location(name).to_owned(), *coding)));
    assert_eq!(proof.variants, copies.collect::<std::collections::BTreeSet<_>>().len());
    assert!(proof.variants > 20, "{proof}");
    // Once in the originals and once in what became of them.
    assert_eq!(proof.references, 2 * 8, "{proof}");
}

#[test]
fn every_way_to_spoil_the_folder_is_found() {
    type Spoil = fn(&Site);
    let table: [(&str, Spoil, &str); 20] = [
        (
            "a link out of the folder",
            |site| {
                let (name, outside) = (site.output().join("robots.txt"), site.output().with_file_name("outside.txt"));
                fs_err::rename(&name, &outside).unwrap();
                fs_err::os::unix::fs::symlink(outside, name).unwrap();
            },
            "robots.txt: it is a link that leads out of the folder",
        ),
        (
            "a folder that is a link out of the folder",
            |site| {
                let (name, outside) = (site.output().join("img"), site.output().with_file_name("img-outside"));
                fs_err::rename(&name, &outside).unwrap();
                fs_err::os::unix::fs::symlink(outside, name).unwrap();
            },
            "img: it is a link that leads out of the folder",
        ),
        (
            "a file that is not listed",
            |site| fs_err::write(site.output().join("css/more.css"), "x").unwrap(),
            "css/more.css: the manifest does not list it",
        ),
        (
            "an original that is not listed",
            |site| fs_err::write(site.output().join("vestibule-originals/0123"), "x").unwrap(),
            "vestibule-originals/0123: the manifest does not list it",
        ),
        (
            "another type",
            |site| edit(site, |manifest| entry(manifest, "robots.txt").media_type = "text/html".into()),
            "robots.txt: its type is \"text/html\", but a file of this name is \"text/plain; charset=utf-8\"",
        ),
        ("a byte of a hashed file", |site| flip(site, &site.hashed("css/base.css")), "css/base.*: its SHA-256 is"),
        (
            "a longer file",
            |site| fs_err::write(site.output().join("robots.txt"), "x").unwrap(),
            "robots.txt: it has 1 bytes, but the manifest says 0",
        ),
        (
            "no file",
            |site| fs_err::remove_file(site.output().join(site.hashed("js/lib.mjs"))).unwrap(),
            "js/lib.*.mjs: the manifest lists it, but it is not there",
        ),
        (
            "no copy",
            |site| fs_err::remove_file(site.output().join("css/site.css.br")).unwrap(),
            "css/site.css.br: the manifest lists it, but it is not there",
        ),
        (
            "a garbled gzip copy",
            |site| flip(site, "css/site.css.gz"),
            "css/site.css.gz: it does not decode to css/site.css",
        ),
        (
            "a garbled brotli copy",
            |site| flip(site, "css/site.css.br"),
            "css/site.css.br: it does not decode to css/site.css",
        ),
        (
            "a garbled zstd copy",
            |site| flip(site, "css/site.css.zst"),
            "css/site.css.zst: it does not decode to css/site.css",
        ),
        (
            "the copy of another file",
            |site| {
                let copy = fs_err::read(site.output().join("css/one.css.gz")).unwrap();
                fs_err::write(site.output().join("css/site.css.gz"), &copy).unwrap();
                edit(site, |manifest| {
                    entry(manifest, "css/site.css").variants.insert(Coding::Gzip, copy.len() as u64);
                });
            },
            "css/site.css.gz: it does",
        ),
        (
            "a wrong integrity",
            |site| edit(site, |manifest| entry(manifest, "css/site.css").integrity = "sha384-AAAA".into()),
            "css/site.css: its integrity is sha384-",
        ),
        (
            "other bytes under the name",
            |site| replace(site, &site.hashed("js/lib.mjs"), b"export const x = 2;"),
            "js/lib.*.mjs: the hash in its name is not that of its bytes",
        ),
        (
            "a reference that leads nowhere",
            |site| {
                let text = site.published("css/base.css").replace("/a", "/b");
                replace(site, &site.hashed("css/base.css"), text.as_bytes());
            },
            "css/base.*:1:23: it refers to \"/static/img/b b.*.png\", but the manifest does not list \"img/b b.*.png\"",
        ),
        (
            "a reference that was not rewritten",
            |site| {
                let plain = fs_err::read(site.output().join("css/base.css")).unwrap();
                replace(site, &site.hashed("css/base.css"), &plain);
            },
            "css/base.*:1:23: it refers to \"/static/img/a b.png\", which is a plain name: the reference was not rewritten",
        ),
        (
            "a reference to another file",
            |site| {
                let text = site.published("css/site.css");
                let text =
                    text.replace(&base_name(&site.hashed("css/base.css")), &base_name(&site.hashed("css/one.css")));
                replace(site, &site.hashed("css/site.css"), text.as_bytes());
            },
            "css/site.*.css: it is not what css/site.css becomes with the names of this release",
        ),
        (
            "a delta that is none",
            |site| {
                let manifest = site.manifest();
                let (name, dictionary) =
                    (site.hashed("css/site.css"), manifest.files.unwrap()["css/one.css"].sha256.clone());
                let delta = Entry::delta_name(&name, &dictionary, DictionaryCoding::Zstd);
                fs_err::write(site.output().join(delta), "none").unwrap();
                let sizes = BTreeMap::from([(DictionaryCoding::Zstd, 4)]);
                edit(site, |manifest| drop(entry(manifest, &name).deltas.insert(dictionary, sizes)));
            },
            "css/site.*.css.*.dcz: it does not decode to css/site.*.css (",
        ),
        (
            "another hash of the release",
            |site| {
                let path = site.output().join(FILE_NAME);
                let text = fs_err::read_to_string(&path).unwrap();
                fs_err::write(path, text.replace(&site.manifest().release(), "0123456789ab")).unwrap();
            },
            "staticfiles.json: its hash is \"0123456789ab\"",
        ),
    ];
    for (what, spoil, expected) in table {
        let site = collected();
        spoil(&site);
        let errors = told(&prove(&site).errors);
        assert!(errors.iter().any(|error| fits(error, expected)), "{what}: {errors:?}");
    }
}

#[test]
fn a_link_that_stays_in_the_folder_is_no_error() {
    let site = collected();
    let (name, inside) = (site.output().join("css"), site.output().join(".vestibule-css"));
    fs_err::rename(&name, &inside).unwrap();
    fs_err::os::unix::fs::symlink(".vestibule-css", name).unwrap();
    assert_eq!(told(&prove(&site).errors), [""; 0]);
}

/// Changes a byte in the middle.
fn flip(site: &Site, name: &str) {
    let path = site.output().join(name);
    let mut bytes = fs_err::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs_err::write(path, bytes).unwrap();
}

fn base_name(name: &str) -> String {
    name.rsplit('/').next().unwrap().to_owned()
}

/// Whether a text begins like a pattern in which `*` is a hash.
fn fits(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    for (at, part) in pattern.split('*').enumerate() {
        match rest.find(part) {
            Some(found) if at > 0 || found == 0 => rest = &rest[found + part.len()..],
            _ => return false,
        }
    }
    true
}

/// Imports are not rewritten unless the operator says so, and then name files by their plain names.
#[test]
fn what_imports_name_keeps_its_plain_name_though_originals_go() {
    let site = Site::new()
        .file("app.js", "import './lib.js';\nnew URL('w.css', import.meta.url);\nimport './nowhere.js';")
        .file("lib.js", "import './deep.js';")
        .file("deep.js", "let deep = 1;")
        .file("w.css", "a { background: url(i.png) }")
        .file("i.png", [0, 159])
        .file("page.html", "<script type=module>import './inline.js'</script><link rel=stylesheet href=other.css>")
        .file("inline.js", "let inline = 1;")
        .file("broken.js", "import './gone.js'; let = = 1;")
        .file("gone.js", "let gone = 1;")
        .file("other.css", "b {}")
        .set(|config| {
            config.keep_originals = false;
            config.html = vec!["*.html".into()];
        });
    let warnings = told(&site.collected().warnings);
    assert!(warnings.len() == 1 && warnings[0].starts_with("broken.js"), "{warnings:?}");
    assert!(warnings[0].contains("may be missing, with [collect] keep_originals = false"), "{warnings:?}");
    let is_there = |name: &str| site.output().join(name).exists();
    let plain = ["app.js", "lib.js", "deep.js", "w.css", "i.png", "inline.js", "gone.js", "other.css"];
    let there: Vec<_> = plain.into_iter().filter(|name| is_there(name)).collect();
    // What the plain w.css names, it names by a plain name too.
    assert_eq!(there, ["lib.js", "deep.js", "w.css", "i.png", "inline.js"]);
    assert!(site.published("w.css").contains(&site.hashed("i.png")), "the hashed one is rewritten as always");
    assert_eq!(told(&prove(&site).errors), [""; 0]);

    fs_err::remove_file(site.output().join("lib.js")).unwrap();
    edit(&site, |manifest| drop(manifest.files.as_mut().unwrap().remove("lib.js")));
    let errors = told(&prove(&site).errors);
    let expected =
        format!("{}:1:9: it refers to \"./lib.js\", which is published under another name only", site.hashed("app.js"));
    assert_eq!(errors, [expected]);

    // Where imports are rewritten, nothing needs them.
    let site = site.set(|config| config.javascript_modules = true).file("app.js", "import './lib.js';");
    site.collected();
    assert!(!site.output().join("deep.js").exists());
}

#[test]
fn names_of_a_ring_are_proved_with_and_without_the_originals() {
    let ring = ["css/one.css", "css/two.css"];
    for with_originals in [true, false] {
        let site = site().set(|config| config.keep_originals = with_originals);
        site.collected();
        let proof = prove(&site);
        assert_eq!(told(&proof.errors), [""; 0]);
        // The author had written "one" with an escape, which cannot be known without the original.
        assert_eq!(proof.warnings.len(), if with_originals { 0 } else { 2 }, "{proof}");

        // A ring in which all agree on names that its texts do not have.
        let renames = ring.map(|plain| (site.hashed(plain), plain.replace(".css", ".0123456789ab.css")));
        for plain in ring {
            let mut text = site.published(plain);
            for (old, new) in &renames {
                text = text.replace(&base_name(old), &base_name(new));
            }
            replace(&site, &site.hashed(plain), text.as_bytes());
        }
        for (plain, (old, new)) in ring.iter().zip(&renames) {
            fs_err::rename(site.output().join(old), site.output().join(new)).unwrap();
            edit(&site, |manifest| {
                let files = manifest.files.as_mut().unwrap();
                let entry = files.remove(old).unwrap();
                files.insert(new.clone(), entry);
                manifest.paths.insert((*plain).to_owned(), new.clone());
            });
        }
        let proof = prove(&site);
        let (expected, found) = match with_originals {
            true => ("the hash in its name is not that of the files that name each other with it", &proof.errors),
            false => ("its name cannot be proved without the originals", &proof.warnings),
        };
        assert_eq!(told(found).iter().filter(|error| error.contains(expected)).count(), 2, "{proof}");
    }
}

#[test]
fn files_of_an_earlier_release_are_proved_among_what_is_there() {
    let site = site().set(|config| config.keep_releases = 10);
    site.collected();
    let before = site.manifest();
    let site = site.file("css/base.css", "b{}").file("css/two.css", "@import 'one.css';");
    site.collected();
    let proof = prove(&site);
    let carried = |manifest: &Manifest| manifest.files.iter().flatten().filter(|(_, e)| e.carried.is_some()).count();
    assert!(carried(&site.manifest()) >= 4, "{:?}", site.manifest());
    // The ring of the release before has lost its originals.
    let warnings = told(&proof.warnings);
    assert!(warnings.iter().all(|warning| warning.contains("cannot be proved without the originals")), "{proof}");
    assert_eq!((proof.errors.len(), warnings.len()), (0, 2), "{proof}");

    let gone = before.paths["css/base.css"].clone();
    for suffix in ["", ".gz", ".br", ".zst"] {
        fs_err::remove_file(site.output().join(format!("{gone}{suffix}"))).unwrap();
    }
    edit(&site, |manifest| drop(manifest.files.as_mut().unwrap().remove(&gone)));
    let proof = prove(&site);
    assert!(proof.is_sound(), "{proof}");
    let expected =
        "css/site.*.css:1:10: it refers to \"base.*.css\", but the manifest does not list \"css/base.*.css\"";
    assert!(told(&proof.warnings).iter().any(|warning| fits(warning, expected)), "{proof}");

    let text = fs_err::read(site.output().join(&before.paths["css/site.css"])).unwrap();
    replace(&site, &before.paths["css/site.css"], &[&text[..], b"x"].concat());
    // Its references are not whole, so that it could have been one of a ring.
    assert!(prove(&site).is_sound());
    flip(&site, &before.paths["css/site.css"]);
    assert!(!prove(&site).is_sound());
}

#[test]
fn deltas_that_collect_made_are_proved_with_their_dictionaries() {
    let rule = |n: u32| format!(".rule-{n} {{ color: #{:06x}; margin: {n}px }}\n", n.wrapping_mul(2_654_435_761) >> 8);
    let before: String = (0..300).map(rule).collect();
    let site = Site::new().file("a.css", &before);
    site.collected();
    let site = site.file("a.css", before.replace("margin: 7px", "margin: 8px"));
    site.collected();
    let (name, manifest) = (site.hashed("a.css"), site.manifest());
    let deltas = manifest.files.unwrap()[&name].deltas.clone();
    assert_eq!(deltas.values().map(BTreeMap::len).sum::<usize>(), 2, "{deltas:?}");
    let proof = prove(&site);
    assert!(proof.is_sound() && proof.warnings.is_empty(), "{proof}");
    assert_eq!((proof.deltas, proof.deltas_without_dictionary), (2, 0), "{proof}");

    let (dictionary, _) = deltas.first_key_value().unwrap();
    for coding in DictionaryCoding::ALL {
        let delta = site.output().join(Entry::delta_name(&name, dictionary, coding));
        let good = fs_err::read(&delta).unwrap();
        for at in [5, good.len() - 2] {
            let mut bytes = good.clone();
            bytes[at] ^= 0x55;
            fs_err::write(&delta, bytes).unwrap();
            let errors = told(&prove(&site).errors);
            assert!(errors.len() == 1 && errors[0].contains("it does not decode to a."), "{coding:?} {at}: {errors:?}");
        }
        fs_err::write(&delta, good).unwrap();
    }

    edit(&site, |manifest| manifest.files.as_mut().unwrap().retain(|_, entry| entry.carried.is_none()));
    let unlisted = told(&prove(&site).errors);
    assert!(unlisted.len() >= 4, "the old file and its copies: {unlisted:?}");
    for name in unlisted.iter().filter_map(|error| error.split(": ").next()) {
        fs_err::remove_file(site.output().join(name)).unwrap();
    }
    let proof = prove(&site);
    assert!(proof.is_sound(), "{proof}");
    assert_eq!((proof.deltas, proof.deltas_without_dictionary), (0, 2), "{proof}");
}

#[test]
fn files_of_a_release_of_django_are_proved_by_their_own_hash() {
    let site = Site::new().file("a.css", "a{}");
    fs_err::create_dir(site.output()).unwrap();
    let django = r#"{"paths": {"b.css": "b.900150983cd2.css"}, "version": "1.1", "hash": ""}"#;
    fs_err::write(site.output().join("b.900150983cd2.css"), "abc").unwrap();
    fs_err::write(site.output().join(FILE_NAME), django).unwrap();
    site.collected();
    assert!(site.manifest().files.unwrap()["b.900150983cd2.css"].carried.is_some());
    let proof = prove(&site);
    assert!(proof.is_sound() && proof.warnings.is_empty(), "{proof}");
    replace(&site, "b.900150983cd2.css", b"abd");
    assert_eq!(told(&prove(&site).errors), ["b.900150983cd2.css: the hash in its name is not that of its bytes"]);
}

#[test]
fn after_a_run_that_died_the_advice_is_to_run_it_again() {
    let site = collected();
    fs_err::write(site.output().join("half.js"), "1").unwrap();
    assert!(told(&prove(&site).errors).iter().any(|text| text.contains("remove it, or collect into")));
    fs_err::create_dir(site.output().join(".vestibule-staging")).unwrap();
    let proof = prove(&site);
    assert!(told(&proof.warnings).iter().any(|text| text.contains("ended before its time")), "{:?}", proof.warnings);
    assert!(told(&proof.errors).iter().all(|text| text.contains("run `vestibule collect` again")));
}

#[test]
fn many_files_that_are_not_listed_are_counted() {
    let site = collected();
    for number in 0..30 {
        fs_err::write(site.output().join(format!("stray{number:02}.txt")), "").unwrap();
    }
    fs_err::write(site.output().join("css/.hidden"), "").unwrap();
    let proof = prove(&site);
    let errors = told(&proof.errors);
    assert_eq!((errors.len(), proof.warnings.len()), (21, 0), "{proof}");
    assert!(errors.contains(
        &"stray00.txt: the manifest does not list it; remove it, or collect into a folder of its own".into()
    ));
    assert!(errors.contains(&"staticfiles.json: 11 more files in the folder are not listed in it".into()));
}

#[test]
fn references_that_lead_nowhere_are_worth_what_the_configuration_says() {
    use vestibule::config::values::Severity;
    let site = site().file("css/x.css", "a{b:url(none.png)}\n/*# sourceMappingURL=none.map */");
    let mut site = site.set(|config| config.missing_reference = Severity::Warn.into());
    site.collected();
    let proof = prove(&site);
    assert!(proof.is_sound() && proof.warnings.len() == 2, "{proof}");
    site.config.missing_reference = Severity::Error.into();
    site.config.missing_source_map = Severity::Ignore.into();
    let proof = prove(&site);
    let expected = "css/x.*.css:1:9: it refers to \"none.png\", but the manifest does not list \"css/none.png\"";
    assert!(proof.errors.len() == 1 && fits(&told(&proof.errors)[0], expected), "{proof}");
    assert!(proof.warnings.is_empty(), "{proof}");
}

#[test]
fn a_folder_without_hashes_is_proved_too() {
    let site = site().set(|config| config.hash = false);
    site.collected();
    let proof = prove(&site);
    assert!(proof.is_sound() && proof.warnings.is_empty() && proof.references == 0, "{proof}");
    flip(&site, "css/site.css");
    assert!(!prove(&site).is_sound());
}

#[test]
fn what_cannot_be_proved_is_refused() {
    let site = collected();
    let refusal = |site: &Site| verify(&site.config, &UrlPrefix::default()).expect_err("a refusal");
    let lock = fs_err::File::open(site.output().join(".vestibule.lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(refusal(&site), ProofError::Busy(_)));
    lock.unlock().unwrap();
    edit(&site, |manifest| manifest.files = None);
    assert!(matches!(refusal(&site), ProofError::NotOurs(_)));
    fs_err::remove_file(site.output().join(FILE_NAME)).unwrap();
    assert!(refusal(&site).is_operators_mistake());
}

fn check(site: &Site) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.env_clear().current_dir(site.path(""));
    command.args(["collect", "--check", "--config", "v.toml", "--output"]).arg(site.output()).output().unwrap()
}

#[test]
fn the_command_ends_with_its_numbers_or_with_what_is_wrong() {
    let site = collected();
    fs_err::write(site.path("v.toml"), "[collect]\njavascript_modules = true\n").unwrap();
    let before = files_below(Path::new(&site.path("")));
    let output = check(&site);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.lines().count() == 1 && told.starts_with("proved 16 files, 16 references, "), "{told}");
    assert_eq!(files_below(Path::new(&site.path(""))), before, "nothing is written");

    flip(&site, "css/site.css.gz");
    let output = check(&site);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.starts_with("error: css/site.css.gz: it does not decode") && told.contains("\nfound 1 error in "),
        "{told}"
    );

    fs_err::write(site.output().join(FILE_NAME), "{").unwrap();
    assert_eq!(check(&site).status.code(), Some(1));
    fs_err::remove_file(site.output().join(FILE_NAME)).unwrap();
    assert_eq!(check(&site).status.code(), Some(2));
}

#[test]
fn an_output_is_proved_as_it_was_collected_whatever_the_configuration_says_by_then() {
    let site = Site::new()
        .file("a.css", "a { background: url(/assets/b.png) }")
        .file("b.png", "b")
        .file("c.js", "import './d.js';")
        .file("d.js", "export const d = 1;")
        .file("page.html", "<img src=\"b.png\">")
        .set(|config| {
            config.javascript_modules = true;
            config.html = vec!["*.html".to_owned()];
        });
    let assets = "/assets/".parse().expect("a prefix");
    vestibule::collect::collect(&site.config, &assets, std::time::SystemTime::now()).expect("collected");
    let later = CollectConfig { output: site.config.output, ..CollectConfig::default() };
    let proof = verify(&later, &UrlPrefix::default()).expect("a proof");
    assert!(proof.is_sound(), "{proof}");
    assert_eq!(proof.references, 6, "three in the hashed files, three in the originals");
}
