//! A real browser before the real site: what the pages load, what the console says, what the cache keeps.
//!
//! The visits themselves are in `tests/browser/`, because Selenium speaks Python.

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use vestibule::manifest::{Entry, Manifest};

use crate::support::django_site::{Django, Server, Site, https_port_in, repository, succeed, vestibule};
use crate::support::process::Process;

#[test]
fn chromium_loads_every_asset_and_keeps_them_for_the_second_visit() {
    let site = Site::start(Django::Six, Server::GunicornThreads);
    let screenshots = repository().join("target/screenshots");
    fs_err::create_dir_all(&screenshots).unwrap();
    let mut visit = Command::new(site.django.program("python"));
    visit.arg(repository().join("tests/browser/visit.py"));
    visit.arg(site.origin()).arg(site.file("key.sha256")).arg(site.file("profile")).arg(&screenshots);
    let output = succeed(&mut visit);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.ends_with("all is well\n"), "{told}");
}

/// A script of some fifty kilobytes, of which each version differs from the others in two lines.
fn script(version: u32) -> String {
    let line = |n: u32| {
        let mixed = n.wrapping_mul(2_654_435_761);
        format!("function part{n}(a, b) {{ return a.x{mixed:x} + b[{}]; }}\n", mixed >> 20)
    };
    let lines: String = (0..800).map(line).collect();
    format!("// Version {version}\n{lines}window.version = part0({{x0: {version}}}, [0]);\n")
}

/// A page that loads the script which its address names, while it is read, as any page does.
const PAGE: &str = r#"<!DOCTYPE html><meta charset="utf-8"><title>A page</title><link rel="icon" href="data:,">
<script>document.write('<script src="' + location.search.slice(1) + '"></scr' + 'ipt>')</script>
"#;

/// The home of somebody whose browser knows an authority, which has signed `certificate.pem`.
fn make_home(home: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "The authority of a test");
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let own_key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&own_key, &Issuer::new(authority, key)).unwrap();
    fs_err::write(home.join("root.pem"), root.pem()).unwrap();
    fs_err::write(home.join("certificate.pem"), certificate.pem()).unwrap();
    fs_err::write(home.join("key.pem"), own_key.serialize_pem()).unwrap();
    let database = home.join(".pki/nssdb");
    fs_err::create_dir_all(&database).unwrap();
    let certutil = |arguments: &[&str]| {
        let mut command = Command::new("certutil");
        succeed(command.arg("-d").arg(format!("sql:{}", database.display())).args(arguments));
    };
    certutil(&["-N", "--empty-password"]);
    certutil(&["-A", "-t", "C,,", "-n", "test", "-i", home.join("root.pem").to_str().unwrap()]);
}

#[test]
fn chromium_loads_a_changed_script_as_a_delta_in_every_release_after_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    make_home(home);
    let config = home.join("vestibule.toml");
    let text = format!(
        "[listen]\nhttps = [\"localhost:0\"]\n[log]\naccess = \"json\"\n\
         [tls]\ncertificate = \"{0}/certificate.pem\"\nkey = \"{0}/key.pem\"\n\
         [static]\ndirectory = \"{0}/static\"\n[collect]\nsources = [\"{0}/plain\"]\ncache = \"\"\n",
        home.display()
    );
    fs_err::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let release = |version| {
        fs_err::create_dir_all(home.join("plain")).unwrap();
        fs_err::write(home.join("plain/page.html"), PAGE).unwrap();
        fs_err::write(home.join("plain/app.js"), script(version)).unwrap();
        vestibule(&["collect", "--config", config]);
        Manifest::load(&home.join("static")).unwrap()
    };

    let first = release(1);
    let server = Process::start(Command::new(env!("CARGO_BIN_EXE_vestibule")).args(["serve", "--config", config]));
    let origin = format!("https://localhost:{}", server.wait_for_line("its address", https_port_in));
    let visit = |manifest: &Manifest| {
        let name = manifest.paths["app.js"].clone();
        let mut visit = Command::new(Django::Six.program("python"));
        visit.arg(repository().join("tests/browser/deltas.py")).env("HOME", home);
        visit.arg(format!("{origin}/static/page.html?{name}")).arg(home.join("profile"));
        let told: Value = serde_json::from_slice(&succeed(&mut visit).stdout).unwrap();
        let logged = server.wait_for_line("a request for the script", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["target"] == format!("/static/{name}")).then_some(line)
        });
        let script = told["responses"][format!("{origin}/static/{name}")].clone();
        (told["version"].as_u64().unwrap(), script, manifest.files.as_ref().unwrap()[&name].clone(), logged)
    };

    let (version, script, entry, _) = visit(&first);
    assert_eq!((version, &script["headers"]["content-encoding"]), (1, &"br".into()));
    let mut dictionary = entry.sha256;
    // The browser is another process each time, with the same profile. From the second release on, what came
    // as a delta is the dictionary for the next one.
    for number in 2..=3 {
        if number == 3 {
            // zstd's delta is a little larger than brotli's, and shall be seen as well.
            let text = fs_err::read_to_string(config).unwrap() + "encodings = [\"gzip\", \"zstd\"]\n";
            fs_err::write(config, text).unwrap();
        }
        let manifest = release(number);
        server.signal("HUP");
        server.wait_for_line("the reload", |line| line.contains("reloaded").then_some(()));
        let (version, script, entry, logged) = visit(&manifest);
        let Entry { deltas, variants, sha256, .. } = entry;
        let (coding, size) = deltas[&dictionary].iter().min_by_key(|(_, size)| **size).unwrap();
        let (coding, size) = (Value::from(coding.token()), *size);
        assert_eq!(coding, if number == 2 { "dcb" } else { "dcz" });
        assert_eq!((version, &script["headers"]["content-encoding"]), (number.into(), &coding), "{script}");
        assert_eq!((&logged["bytes"], &logged["encoding"]), (&size.into(), &coding), "{logged}");
        // Headers and the frames of HTTP/2 are counted too.
        let received = script["bytes"].as_u64().unwrap();
        let whole = variants.values().min().copied().unwrap();
        assert!(
            (size..size + 600).contains(&received) && received * 4 < whole,
            "{received} bytes for {size} of {whole}"
        );
        dictionary = sha256;
    }
}
