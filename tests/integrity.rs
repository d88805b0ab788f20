//! Subresource Integrity from the manifest to the browser: `config/integrity.py` with the real Django, and a
//! Chromium that runs the script with the right hash and blocks the other one.

use std::collections::BTreeMap;
use std::process::Command;

use base64::Engine as _;
use sha2::{Digest as _, Sha384};

use crate::support::django_site::{Django, repository, succeed};
use crate::support::process::Process;
use crate::support::site::Site;

const RIGHT: &str = "document.body.dataset.right = 'ran';";
const STYLE: &str = "a { color: red }";

fn attribute(contents: &str) -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha384::digest(contents));
    format!("integrity=\"sha384-{hash}\"")
}

fn site() -> Site {
    let site = Site::new().file("right.js", RIGHT).file("wrong.js", "document.body.dataset.wrong = 'ran';");
    site.file("a b.css", STYLE)
}

/// Collects, lets Django render, and puts its page among the sources.
fn rendered(site: &Site, django: Django) -> BTreeMap<String, String> {
    site.collected();
    let script = repository().join("tests/django/integrity.py");
    let mut python = Command::new(django.program("python"));
    python.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(site.output()).arg(site.path("src"));
    serde_json::from_slice(&succeed(&mut python).stdout).unwrap()
}

#[test]
fn the_tag_prints_the_hash_of_what_was_collected() {
    for django in [Django::Five2, Django::Six] {
        let cases = rendered(&site(), django);
        let (script, style) = (attribute(RIGHT), attribute(STYLE));
        for (case, expected) in [
            ("plain", script.clone()),
            ("query", script.clone()),
            ("encoded", style.clone()),
            ("variable", style),
            ("missing", "ValueError: Missing staticfiles manifest entry for 'none.js'".to_owned()),
            ("other host", format!("{script} crossorigin=\"anonymous\"")),
            ("debug", String::new()),
            ("debug, missing", String::new()),
            ("no manifest", String::new()),
            ("again", script),
            ("django's manifest", String::new()),
        ] {
            assert_eq!(cases[case], expected, "{case} with {django:?}");
        }
    }
}

#[test]
fn chromium_loads_the_script_that_was_collected_and_no_other() {
    let site = site();
    rendered(&site, Django::Six);
    fs_err::remove_file(site.output().join("staticfiles.json")).unwrap();
    site.collected();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    let serve = serve.args(["serve", "--listen", "127.0.0.1:0", "--static"]).arg(site.output());
    let vestibule = Process::start(serve.env_clear());
    let address = vestibule.wait_for_line("its address", |line| {
        Some(line.split_once("listening on ")?.1.split_once(" (http)")?.0.to_owned())
    });
    let program = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let program = program.iter().find(|program| std::path::Path::new(program).exists()).expect("run `make test`");
    let mut chromium = Command::new(program);
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    chromium.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    chromium.arg(format!("--user-data-dir={}", site.path("profile").display()));
    chromium.args(["--dump-dom", &format!("http://{address}/static/page.html")]);
    let page = String::from_utf8(succeed(&mut chromium).stdout).unwrap();
    assert_eq!(page.matches("integrity=\"sha384-").count(), 2, "{page}");
    assert!(page.contains("<body data-right=\"ran\">"), "{page}");
}
