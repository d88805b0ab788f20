//! Deltas from one release to the next (RFC 9842): made by `collect`, and sent over real sockets.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::Command;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use vestibule::http::encoding::{Coding, DictionaryCoding};
use vestibule::manifest::Entry;

use crate::support::client::{Answer, Connection, get};
use crate::support::server::TestServer;
use crate::support::site::{Site, files_below};

/// A script of some fifty kilobytes, of which each version differs from the others in two lines.
fn script(version: u32) -> String {
    let line = |n: u32| {
        let mixed = n.wrapping_mul(2_654_435_761);
        format!("export function part{n}(a, b) {{ return a.{mixed:x} + b[{}]; }}\n", mixed >> 20)
    };
    let lines: String = (0..800).map(line).collect();
    format!("document.title = 'version {version}';\n{lines}export const version = {version};\n")
}

/// After release 1, release 2, and so on to this one.
fn released(releases: u32) -> Site {
    let mut site = Site::new().file("css/same.css", "a { color: red }\n".repeat(300));
    for release in 1..=releases {
        site = site.file("js/app.js", script(release));
        site.collected();
    }
    site
}

/// The manifest's entries for the versions of the script, by version.
fn versions(site: &Site) -> BTreeMap<u32, (String, Entry)> {
    let files = site.manifest().files.unwrap();
    let scripts = files.into_iter().filter(|(name, entry)| name.starts_with("js/app.") && entry.is_immutable);
    let version = |name: &str| {
        let text = fs_err::read_to_string(site.output().join(name)).unwrap();
        text.trim_end_matches(";\n").rsplit(' ').next().unwrap().parse().unwrap()
    };
    scripts.map(|(name, entry)| (version(&name), (name, entry))).collect()
}

fn delta_files(site: &Site) -> Vec<String> {
    files_below(site.output()).into_keys().filter(|name| name.ends_with(".dcb") || name.ends_with(".dcz")).collect()
}

#[test]
fn a_changed_file_has_deltas_from_the_versions_before() {
    let site = released(3);
    let versions = versions(&site);
    let (name, entry) = &versions[&3];
    let smallest = entry.variants.values().min().unwrap();
    assert_eq!(entry.dictionary_for.as_deref(), Some("js/app.*.js"));
    assert_eq!(entry.deltas.len(), 2, "from each of the two versions before");
    for old in [1, 2] {
        let sizes = &entry.deltas[&versions[&old].1.sha256];
        assert_eq!(sizes.keys().copied().collect::<Vec<_>>(), DictionaryCoding::ALL);
        for (coding, size) in sizes {
            let delta = Entry::delta_name(name, &versions[&old].1.sha256, *coding);
            assert_eq!(fs_err::metadata(site.output().join(delta)).unwrap().len(), *size);
            assert!(size * 20 < *smallest, "{coding:?} from {old}: {size}, while the smallest copy has {smallest}");
        }
    }
    // Nothing to say of what did not change.
    let same = site.manifest().files.unwrap().remove(&site.hashed("css/same.css")).unwrap();
    assert!(same.deltas.is_empty() && same.dictionary_for.is_some(), "{same:?}");
}

#[test]
fn a_delta_makes_the_new_bytes_out_of_the_old_ones() {
    let site = released(2);
    let versions = versions(&site);
    let dictionary = Sha256::digest(script(1));
    let read = |coding| {
        fs_err::read(site.output().join(Entry::delta_name(&versions[&2].0, &versions[&1].1.sha256, coding))).unwrap()
    };
    let dcz = read(DictionaryCoding::Zstd);
    assert_eq!(dcz[..8], [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0]);
    assert_eq!(dcz[8..40], dictionary[..]);
    // To zstd the frame with the hash is one of its own, and a prefix holds for one frame.
    let old = script(1);
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(&dcz[40..], old.as_bytes()).unwrap();
    let mut new = String::new();
    decoder.read_to_string(&mut new).unwrap();
    assert_eq!(new, script(2));
    let dcb = read(DictionaryCoding::Brotli);
    assert_eq!((&dcb[..4], &dcb[4..36]), (&b"\xffDCB"[..], &dictionary[..]));
}

#[test]
fn deltas_stay_as_long_as_they_are_of_use() {
    let site = released(2);
    let before = files_below(site.output());
    assert_eq!(delta_files(&site).len(), 2);
    // A run that changes nothing.
    site.collected();
    assert!(files_below(site.output()) == before, "something is different");
    // Another file changes.
    let site = site.file("css/other.css", "b { color: blue }\n".repeat(300));
    site.collected();
    assert_eq!(versions(&site)[&2].1.deltas.len(), 1);
    assert_eq!(delta_files(&site).len(), 2);
    // The script changes: who has the first version may come for the second or the third.
    let site = site.file("js/app.js", script(3));
    site.collected();
    assert_eq!(delta_files(&site).len(), 2 + 4);
    // All that is old goes.
    let site = site.set(|config| config.keep_releases = 0);
    site.collected();
    site.collected(); // for one run more they stay for servers that have not been reloaded
    assert_eq!(delta_files(&site), [""; 0]);
    assert_eq!(versions(&site).keys().copied().collect::<Vec<_>>(), [3]);
}

#[test]
fn the_same_releases_have_the_same_deltas_on_any_number_of_threads() {
    let deltas = |threads| {
        let site = Site::new().set(|config| config.threads = threads).file("js/app.js", script(1));
        site.collected();
        let site = site.file("js/app.js", script(2));
        site.collected();
        let mut files = files_below(site.output());
        files.retain(|name, _| name.ends_with(".dcb") || name.ends_with(".dcz"));
        files
    };
    assert_eq!(deltas(1).len(), 2);
    assert!(deltas(1) == deltas(4), "the deltas differ");
}

#[test]
fn only_so_many_versions_are_dictionaries() {
    let site = released(3).set(|config| config.delta_versions = 1).file("js/app.js", script(4));
    site.collected();
    let versions = versions(&site);
    let dictionaries: Vec<_> = versions[&4].1.deltas.keys().collect();
    assert_eq!(dictionaries, [&versions[&3].1.sha256]);
}

#[test]
fn deltas_come_from_a_previous_release_in_another_folder_too() {
    let previous = released(2);
    let site = Site::new().file("js/app.js", script(2)).set(|config| config.previous = Some(previous.output().into()));
    // Taken over for the version that is still in use ...
    site.collected();
    assert_eq!(versions(&site)[&2].1.deltas, versions(&previous)[&2].1.deltas);
    assert_eq!(delta_files(&site), delta_files(&previous));
    // ... and made for the next one.
    let site = site.file("js/app.js", script(3));
    site.collected();
    assert_eq!(versions(&site)[&3].1.deltas.len(), 2);
}

#[test]
fn without_deltas_there_is_no_trace_of_them() {
    let site = Site::new().set(|config| config.deltas = false).file("js/app.js", script(1));
    site.collected();
    let site = site.file("js/app.js", script(2));
    site.collected();
    assert_eq!(delta_files(&site), [""; 0]);
    let text = fs_err::read_to_string(site.output().join("staticfiles.json")).unwrap();
    assert!(!text.contains("dictionary_for") && !text.contains("deltas"), "{text}");
}

#[test]
fn what_browsers_were_not_told_to_keep_is_no_dictionary() {
    let site = Site::new().set(|config| config.deltas = false).file("js/app.js", script(1));
    site.collected();
    let site = site.set(|config| config.deltas = true).file("js/app.js", script(2));
    site.collected();
    assert_eq!(delta_files(&site), [""; 0]);
    let site = site.file("js/app.js", script(3));
    site.collected();
    assert_eq!(versions(&site)[&3].1.deltas.len(), 1, "from the second");
}

#[test]
fn a_carried_file_that_somebody_changed_is_no_dictionary() {
    let site = released(1);
    let name = site.output().join(site.hashed("js/app.js"));
    let changed = fs_err::read_to_string(&name).unwrap().replace("part1", "trap1");
    fs_err::write(&name, changed).unwrap();
    let site = site.file("js/app.js", script(2));
    site.collected();
    assert_eq!(delta_files(&site), [""; 0]);
}

#[test]
fn the_summary_tells_what_deltas_save() {
    let site = released(1).file("js/app.js", script(2));
    let summary = site.collected();
    assert_eq!(summary.deltas.copies, 1);
    assert!(summary.to_string().contains("\n  deltas          1 "), "{summary}");
}

#[test]
fn check_tells_why_no_browser_is_going_to_ask_for_deltas() {
    let site = released(2);
    let made = rcgen::generate_simple_self_signed(vec!["site.test".to_owned()]).unwrap();
    fs_err::write(site.path("c.pem"), made.cert.pem()).unwrap();
    fs_err::write(site.path("k.pem"), made.signing_key.serialize_pem()).unwrap();
    let check = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.args(["check", "--static", "out"]).args(arguments).current_dir(site.path("")).env_clear();
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let own = ["--listen-tls", "127.0.0.1:0", "--cert", "c.pem", "--key", "k.pem"];
    for (arguments, expected) in [
        (&["--listen", "127.0.0.1:0"][..], "browsers take them over https only"),
        (&own, "Chromium takes them only where it knows the certificate's authority as a public one"),
    ] {
        let report = check(arguments);
        let expected = format!("notice  deltas: 1 file has some, but except on localhost {expected}");
        assert!(report.lines().any(|line| line.starts_with(&expected)), "{report}");
    }
    fs_err::write(site.path("v.toml"), "[listen]\nhttp = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"192.0.2.1\"]\n")
        .unwrap();
    assert!(!check(&["--config", "v.toml"]).contains("deltas"));
}

/// `Available-Dictionary` for a version of the script.
fn available(version: u32) -> String {
    use base64::Engine as _;
    format!(":{}:", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(script(version))))
}

const BROWSER: &str = "Accept-Encoding: gzip, deflate, br, zstd, dcb, dcz\r\n";

async fn serve(site: &Site) -> TestServer {
    TestServer::start(&format!("[static]\ndirectory = {:?}\n", site.output())).await
}

/// The headers of an answer but for those of the day.
fn headers(answer: &Answer) -> BTreeMap<&str, &str> {
    let fields = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    fields.filter(|(name, _)| !matches!(*name, "date" | "last-modified" | "x-request-id")).collect()
}

#[tokio::test]
async fn a_visitor_with_the_last_release_gets_the_delta_and_nothing_else_changes() {
    let site = released(2);
    let versions = versions(&site);
    let server = serve(&site).await;
    let path = format!("/static/{}", versions[&2].0);
    let entry = &versions[&2].1;
    let tag = |suffix: &str| format!("\"{}{suffix}\"", &entry.sha256[..32]);
    let whole_size = entry.size.to_string();
    let always = |tag: &str, length: &str| -> BTreeMap<String, String> {
        [
            ("access-control-allow-origin", "*"),
            ("cache-control", "max-age=315360000, public, immutable"),
            ("content-length", length),
            ("content-type", "text/javascript; charset=utf-8"),
            ("etag", tag),
            ("accept-ranges", "bytes"),
            ("use-as-dictionary", "match=\"/static/js/app.*.js\""),
            ("vary", "Accept-Encoding, Available-Dictionary"),
            ("x-content-type-options", "nosniff"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    };

    let sizes = &entry.deltas[&versions[&1].1.sha256];
    for (accepted, coding) in [("dcb", DictionaryCoding::Brotli), ("br, dcz", DictionaryCoding::Zstd)] {
        let fields = format!("Accept-Encoding: {accepted}\r\nAvailable-Dictionary: {}\r\n", available(1));
        let answer = get(server.address(), &path, &fields).await;
        let tag = tag(&format!("-{}-{}-{}", coding.token(), &versions[&1].1.sha256[..16], sizes[&coding]));
        let mut expected = always(&tag, &sizes[&coding].to_string());
        expected.insert("content-encoding".into(), coding.token().into());
        let expected: BTreeMap<&str, &str> = expected.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!((answer.status, headers(&answer)), (200, expected));
        let file = Entry::delta_name(&versions[&2].0, &versions[&1].1.sha256, coding);
        assert!(answer.body == fs_err::read(site.output().join(file)).unwrap(), "another body");
        // The same again: it is still good.
        let again = get(server.address(), &path, &format!("{fields}If-None-Match: {tag}\r\n")).await;
        let expected = [
            ("access-control-allow-origin", "*"),
            ("cache-control", "max-age=315360000, public, immutable"),
            ("etag", &tag),
            ("use-as-dictionary", "match=\"/static/js/app.*.js\""),
            ("vary", "Accept-Encoding, Available-Dictionary"),
        ];
        assert_eq!((again.status, headers(&again)), (304, expected.into()));
    }

    // Without the dictionary, and with another one.
    for fields in ["", "Available-Dictionary: :AAAA:\r\n", &format!("Available-Dictionary: {}\r\n", available(9))] {
        let answer = get(server.address(), &path, fields).await;
        let expected = always(&tag(""), &whole_size);
        let expected: BTreeMap<&str, &str> = expected.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!((answer.status, headers(&answer)), (200, expected), "for {fields:?}");
        assert_eq!(answer.text(), script(2));
    }
}

#[tokio::test]
async fn one_connection_carries_deltas_and_all_else() {
    let site = released(2);
    let versions = versions(&site);
    let server = serve(&site).await;
    let path = format!("/static/{}", versions[&2].0);
    let (sizes, copies) = (&versions[&2].1.deltas[&versions[&1].1.sha256], &versions[&2].1.variants);
    let (delta, brotli) = (sizes.values().min().unwrap(), copies[&Coding::Brotli]);
    let has = format!("{BROWSER}Available-Dictionary: {}\r\n", available(1));
    let mut connection = Connection::open(server.address()).await;
    for (fields, status, length) in [
        (has.clone(), 200, Some(*delta)),
        (format!("{has}Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\n"), 200, Some(*delta)),
        (format!("{has}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n"), 200, Some(brotli)),
        (
            format!("{has}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\nOrigin: https://a.test\r\n"),
            200,
            Some(*delta),
        ),
        (format!("{has}Available-Dictionary: {}\r\n", available(1)), 200, Some(brotli)), // twice
        (BROWSER.to_owned(), 200, Some(brotli)),
        (format!("{has}Range: bytes=0-9\r\n"), 206, Some(10)),
        (format!("{has}Range: bytes=1000000-\r\n"), 416, Some(26)),
        (format!("{has}If-None-Match: *\r\n"), 304, None),
        (format!("{has}If-Match: \"x\"\r\n"), 412, Some(24)),
        (format!("Available-Dictionary: {}\r\nAccept-Encoding: *;q=0\r\n", available(1)), 406, Some(19)),
    ] {
        connection.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).await;
        let answer = connection.answer().await.expect("an answer");
        let announced = answer.header("content-length").map(|length| length.parse::<u64>().unwrap());
        assert_eq!((answer.status, announced), (status, length), "for {fields}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding, Available-Dictionary"), "for {fields}");
    }
    connection.send(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n{has}\r\n")).await;
    let answer = connection.answer_to_head().await.expect("an answer");
    assert_eq!(answer.header("content-length"), Some(delta.to_string().as_str()));
    // Had a body come, this answer would not be found where it should begin.
    let plain = "GET /static/js/app.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    connection.send(plain).await;
    let answer = connection.answer().await.expect("an answer");
    assert_eq!((answer.text(), answer.header("vary")), (&*script(2), Some("Accept-Encoding")));
    for name in delta_files(&site) {
        connection.send(&format!("GET /static/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(connection.answer().await.expect("an answer").status, 404, "for {name}");
    }
}

#[tokio::test]
async fn http2_gets_the_same_deltas() {
    let site = released(2);
    let versions = versions(&site);
    let server = serve(&site).await;
    let stream = TokioIo::new(TcpStream::connect(server.address()).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |fields: &[(&str, &str)]| {
        let mut request = http::Request::get(format!("http://localhost/static/{}", versions[&2].0));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = client.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let told = ["content-encoding", "content-length", "vary", "use-as-dictionary"].map(header);
        (head.status.as_u16(), told, body.collect().await.unwrap().to_bytes())
    };
    let available = available(1);
    let (browser, has) =
        (("accept-encoding", "gzip, deflate, br, zstd, dcb, dcz"), ("available-dictionary", &*available));
    let (coding, size) = versions[&2].1.deltas[&versions[&1].1.sha256].iter().min_by_key(|(_, size)| **size).unwrap();
    let file = Entry::delta_name(&versions[&2].0, &versions[&1].1.sha256, *coding);
    let told = |coding: &str, size: u64| {
        let (vary, dictionary) = ("Accept-Encoding, Available-Dictionary", "match=\"/static/js/app.*.js\"");
        [coding, &size.to_string(), vary, dictionary].map(|value| Some(value.to_owned()))
    };
    let (status, headers, body) = ask(&[browser, has]).await;
    assert_eq!((status, headers), (200, told(coding.token(), *size)));
    assert!(body == fs_err::read(site.output().join(file)).unwrap(), "another body");
    let (status, headers, _) = ask(&[browser]).await;
    assert_eq!((status, headers), (200, told("br", versions[&2].1.variants[&Coding::Brotli])));
}

#[tokio::test]
async fn a_visitor_whose_connection_anybody_can_change_gets_no_delta() {
    let site = released(2);
    let path = format!("/static/{}", versions(&site)[&2].0);
    let listen = "[listen]\nhttp = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"127.0.0.1\"]\n[log]\naccess = \"off\"\n";
    let server = TestServer::start(&format!("{listen}[static]\ndirectory = {:?}\n", site.output())).await;
    for (scheme, expected) in [("https", "dcb"), ("http", "br")] {
        let from = format!("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: {scheme}\r\n");
        let fields = format!("Accept-Encoding: br, dcb\r\nAvailable-Dictionary: {}\r\n{from}", available(1));
        let answer = get(server.address(), &path, &fields).await;
        assert_eq!(answer.header("content-encoding"), Some(expected), "over {scheme}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding, Available-Dictionary"), "over {scheme}");
    }
}
