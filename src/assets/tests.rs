//! Whole answers from real folders: what is decided from values alone is tested beside `choose`.

use std::collections::BTreeMap;
use std::path::Path;

use ::http::HeaderName;
use ::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, LAST_MODIFIED, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::config::header_rule::{self, HeaderRule};
use crate::config::values::ByteSize;
use crate::http::Scheme;
use crate::http::body::Body;
use crate::http::dictionary::USE_AS_DICTIONARY;
use crate::http::encoding::{Coding, DictionaryCoding};
use crate::http::lines::{self, Lines};
use crate::manifest::digits::hex;
use crate::manifest::{Entry, FILE_NAME, Manifest};

const HASHED: &str = "css/app.0123456789ab.css";

/// A folder as `collect` leaves it.
struct Folder {
    folder: TempDir,
    manifest: Manifest,
}

impl Folder {
    fn new() -> Self {
        let manifest = Manifest { paths: BTreeMap::new(), files: Some(BTreeMap::new()), ..Manifest::default() };
        Self { folder: tempfile::tempdir().expect("a temporary folder"), manifest }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts something on the disk and nowhere else.
    fn on_disk(self, name: &str, bytes: &[u8]) -> Self {
        let path = self.path().join(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs_err::write(path, bytes).expect("a file");
        self
    }

    fn file(self, name: &str, bytes: &[u8]) -> Self {
        let mut this = self.on_disk(name, bytes);
        let entry = Entry {
            size: bytes.len() as u64,
            media_type: "text/css; charset=utf-8".into(),
            sha256: hex(&Sha256::digest(bytes)),
            ..Entry::default()
        };
        this.manifest.files.as_mut().expect("files").insert(name.into(), entry);
        this
    }

    fn copy(self, name: &str, coding: Coding, bytes: &[u8]) -> Self {
        let mut this = self.on_disk(&format!("{name}{}", coding.suffix()), bytes);
        let entry = this.manifest.files.as_mut().expect("files").get_mut(name).expect("a file");
        entry.variants.insert(coding, bytes.len() as u64);
        this
    }

    /// A delta from a dictionary of 32 bytes of this value.
    fn delta(self, name: &str, dictionary: u8, coding: DictionaryCoding, bytes: &[u8]) -> Self {
        let digits = hex(&[dictionary; 32]);
        let mut this = self.on_disk(&Entry::delta_name(name, &digits, coding), bytes);
        let entry = this.manifest.files.as_mut().expect("files").get_mut(name).expect("a file");
        entry.deltas.entry(digits).or_default().insert(coding, bytes.len() as u64);
        this
    }

    /// Lets a file be a dictionary.
    fn dictionary_for(mut self, name: &str, pattern: &str) -> Self {
        let entry = self.manifest.files.as_mut().expect("files").get_mut(name).expect("a file");
        entry.dictionary_for = Some(pattern.into());
        self
    }

    /// Has the manifest map one name to another.
    fn path_entry(mut self, plain: &str, target: &str) -> Self {
        self.manifest.paths.insert(plain.into(), target.into());
        self
    }

    /// Leaves the manifest as Django itself would write it.
    fn by_django(mut self) -> Self {
        self.manifest.files = None;
        self
    }

    /// Writes the manifest.
    fn published(self) -> Self {
        let text = self.manifest.to_json();
        self.on_disk(FILE_NAME, text.as_bytes())
    }

    fn open_with(&self, change: impl FnOnce(&mut AssetsConfig)) -> Result<Assets, AssetsError> {
        let mut config = AssetsConfig { directory: Some(self.path().to_owned()), ..AssetsConfig::default() };
        change(&mut config);
        Assets::open(&config, &Arc::default())
    }

    /// With rules for headers, as the operator writes them.
    fn open_with_rules(&self, rules: &str, change: impl FnOnce(&mut AssetsConfig)) -> Assets {
        let config: crate::config::Config = toml::from_str(rules).expect("rules");
        let paths = header_rule::glob_set(&config.headers).expect("globs");
        let rules = Arc::new(HeaderRules::new(paths, config.headers.iter().map(HeaderRule::edits).collect()));
        let mut config = AssetsConfig { directory: Some(self.path().to_owned()), ..AssetsConfig::default() };
        change(&mut config);
        Assets::open(&config, &rules).expect("a folder that can be served")
    }

    fn open(&self) -> Assets {
        self.open_with(|_| {}).expect("a folder that can be served")
    }

    fn problem(&self) -> String {
        self.open_with(|_| {}).expect_err("a folder that cannot be served").to_string()
    }
}

/// A plain and a hashed stylesheet with copies, and an image without.
fn site() -> Folder {
    let style = b"body { color: #123456; background: #654321 }";
    let mut folder = Folder::new();
    for name in ["css/app.css", HASHED] {
        folder =
            folder.file(name, style).copy(name, Coding::Gzip, b"gzip's copy").copy(name, Coding::Brotli, b"brotli's");
    }
    folder
        .file("img/logo.png", b"a logo")
        .path_entry("css/app.css", HASHED)
        .path_entry("img/logo.png", "img/logo.png")
        .published()
}

/// The same, whose hashed stylesheet has deltas from two dictionaries and is one itself.
fn site_with_deltas() -> Folder {
    let (dcb, dcz) = (DictionaryCoding::Brotli, DictionaryCoding::Zstd);
    let folder = site().delta(HASHED, 1, dcb, b"dcb 1").delta(HASHED, 1, dcz, b"dcz from 1");
    folder.delta(HASHED, 2, dcz, b"dcz 2").dictionary_for(HASHED, "css/app.*.css").published()
}

/// What Chromium sends when it has the first dictionary.
const WITH_DICTIONARY: [(&str, &str); 2] = [
    ("accept-encoding", "gzip, deflate, br, zstd, dcb, dcz"),
    ("available-dictionary", ":AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=:"),
];

/// A response that has been read to its end.
struct Answer {
    status: u16,
    headers: ::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a readable value"))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

fn client() -> Client {
    Client { address: None, port: 0, scheme: Scheme::Https, local_port: 443 }
}

async fn ask(assets: &Assets, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut request = ::http::Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).expect("a request").into_parts();
    let request = head;
    let (head, body) = assets.respond(&request, &client()).await.into_parts();
    if let Some((lines, coding)) = in_lines(assets, &request) {
        let mut expected = Vec::new();
        lines::status(head.status, &mut expected);
        head.headers.iter().for_each(|(name, value)| lines::field(name.as_str(), value.as_bytes(), &mut expected));
        assert_eq!(lines, String::from_utf8(expected).expect("ASCII"));
        assert_eq!(coding, head.headers.get(CONTENT_ENCODING).map(|coding| coding.to_str().expect("ASCII")));
    }
    let body = body.collect().await.expect("a whole body").to_bytes().to_vec();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

/// The head of the answer to a request as lines, and its coding, if they are ready.
fn in_lines(assets: &Assets, head: &Parts) -> Option<(String, Option<&'static str>)> {
    let asset = assets.file(&assets.below_prefix(head.uri.path())?)?.suited(&head.headers);
    let mut lines = Lines::default();
    let response = respond::respond(choose::choose(asset, head, &client()), asset, head, Some(&mut lines)).ok()?;
    assert_ne!(response.headers().is_empty(), lines.text.is_empty(), "a head is in its fields or in lines");
    (!lines.text.is_empty()).then(|| (String::from_utf8(lines.text).expect("ASCII"), lines.coding))
}

async fn get(assets: &Assets, path: &str) -> Answer {
    ask(assets, "GET", path, &[]).await
}

#[tokio::test]
async fn a_hashed_file_is_kept_for_ever_and_a_plain_one_for_a_minute() {
    let assets = site().open();
    for (path, expected) in [
        ("/static/css/app.0123456789ab.css", "max-age=315360000, public, immutable"),
        ("/static/css/app.css", "max-age=60, public"),
        ("/static/img/logo.png", "max-age=60, public"), // stands for itself in the manifest
    ] {
        assert_eq!(get(&assets, path).await.header(CACHE_CONTROL), Some(expected), "for {path}");
    }
}

#[tokio::test]
async fn a_name_that_only_looks_hashed_is_not_kept_for_ever() {
    let folder = site().file("js/with.123456789012.js", b"x").published();
    let answer = get(&folder.open(), "/static/js/with.123456789012.js").await;
    assert_eq!(answer.header(CACHE_CONTROL), Some("max-age=60, public"));
}

#[tokio::test]
async fn an_encoded_answer_says_all_that_a_cache_must_know() {
    let assets = site().open();
    let answer = ask(&assets, "GET", "/static/css/app.css", &[("accept-encoding", "gzip, br")]).await;
    assert_eq!((answer.status, answer.text()), (200, "brotli's"));
    assert_eq!(answer.header(CONTENT_ENCODING), Some("br"));
    assert_eq!(answer.header(CONTENT_TYPE), Some("text/css; charset=utf-8"));
    assert_eq!(answer.header(CONTENT_LENGTH), Some("8"));
    assert_eq!(answer.header(VARY), Some("Accept-Encoding"));
    assert_eq!(answer.header(X_CONTENT_TYPE_OPTIONS), Some("nosniff"));
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), Some("*"));
    assert_eq!(answer.header(::http::header::ACCEPT_RANGES), Some("bytes"));
    assert!(answer.header(LAST_MODIFIED).is_some());
}

#[tokio::test]
async fn every_coding_has_its_own_tag_made_from_the_content() {
    let assets = site().open();
    let digest = hex(&Sha256::digest(b"body { color: #123456; background: #654321 }"));
    for (accepted, suffix) in [("", ""), ("br", "-br-8"), ("gzip", "-gz-11")] {
        let answer = ask(&assets, "GET", "/static/css/app.css", &[("accept-encoding", accepted)]).await;
        let expected = format!("\"{}{suffix}\"", &digest[..32]);
        assert_eq!(answer.header(ETAG), Some(expected.as_str()), "for {accepted:?}");
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let assets = site().open();
    for path in ["/static/css/app.css", "/static/img/logo.png", "/static/missing"] {
        for fields in [&[][..], &[("accept-encoding", "br")], &[("if-match", "\"x\"")], &[("accept-encoding", "*;q=0")]]
        {
            let (get, head) = (ask(&assets, "GET", path, fields).await, ask(&assets, "HEAD", path, fields).await);
            assert_eq!((head.status, &head.headers), (get.status, &get.headers), "for {path} with {fields:?}");
            assert_eq!(head.header(CONTENT_LENGTH), Some(get.body.len().to_string().as_str()), "for {path}");
            assert!(head.body.is_empty(), "for {path}");
        }
    }
}

#[tokio::test]
async fn not_modified_repeats_what_a_cache_must_learn_again() {
    let assets = site().open();
    let fields = [("accept-encoding", "br")];
    let first = ask(&assets, "GET", "/static/css/app.0123456789ab.css", &fields).await;
    let tag = first.header(ETAG).expect("a tag");
    let again = ask(&assets, "GET", "/static/css/app.0123456789ab.css", &[fields[0], ("if-none-match", tag)]).await;
    assert_eq!((again.status, again.text()), (304, ""));
    for name in [ETAG, CACHE_CONTROL, VARY, ACCESS_CONTROL_ALLOW_ORIGIN] {
        assert_eq!(again.header(name.clone()), first.header(name.clone()), "for {name}");
    }
    for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, LAST_MODIFIED] {
        assert_eq!(again.header(name.clone()), None, "for {name}");
    }
}

#[tokio::test]
async fn vary_stands_on_every_answer_that_could_have_been_another() {
    let assets = site().open();
    for (status, fields) in [
        (200, &[][..]),
        (206, &[("range", "bytes=0-1")]),
        (304, &[("if-none-match", "*")]),
        (406, &[("accept-encoding", "*;q=0")]),
        (412, &[("if-match", "\"x\"")]),
        (416, &[("range", "bytes=1000-")]),
    ] {
        let answer = ask(&assets, "GET", "/static/css/app.css", fields).await;
        assert_eq!((answer.status, answer.header(VARY)), (status, Some("Accept-Encoding")), "for {fields:?}");
        let answer = ask(&assets, "GET", "/static/img/logo.png", fields).await;
        // Without copies, only a refusal depends on what the client takes.
        let expected = (status == 406).then_some("Accept-Encoding");
        assert_eq!((answer.status, answer.header(VARY)), (status, expected), "for {fields:?}");
    }
}

#[tokio::test]
async fn errors_are_cached_by_nobody_and_may_be_read_from_everywhere() {
    let assets = site().open();
    for (status, method, path, fields) in [
        (404, "GET", "/static/missing.css", &[][..]),
        (405, "POST", "/static/css/app.css", &[]),
        (405, "DELETE", "/static/css/app.css", &[]),
        (406, "GET", "/static/css/app.css", &[("accept-encoding", "identity;q=0, *;q=0")]),
        (412, "GET", "/static/css/app.css", &[("if-match", "\"x\"")]),
        (416, "GET", "/static/css/app.css", &[("range", "bytes=1000-")]),
    ] {
        let answer = ask(&assets, method, path, fields).await;
        assert_eq!(answer.status, status, "for {method} {path}");
        assert_eq!(answer.header(CACHE_CONTROL), Some("no-store"), "for {status}");
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), Some("*"), "for {status}");
        assert_eq!(answer.header(X_CONTENT_TYPE_OPTIONS), Some("nosniff"), "for {status}");
        assert_eq!(answer.header(ALLOW), (status == 405).then_some("GET, HEAD, OPTIONS"), "for {status}");
        assert_eq!(answer.header(CONTENT_RANGE), (status == 416).then_some("bytes */44"), "for {status}");
        assert_eq!(answer.header(ETAG), None, "for {status}");
    }
}

#[tokio::test]
async fn a_page_elsewhere_may_ask_before_it_reads_a_file() {
    let preflight = [
        ("origin", "https://elsewhere.test"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "range, x-requested-with"),
    ];
    let told = |answer: &Answer| {
        let names = ["access-control-allow-methods", "access-control-allow-headers", "access-control-max-age"];
        names.map(|name| answer.header(HeaderName::from_static(name)).map(str::to_owned))
    };
    let folder = site();
    let assets = folder.open();
    let answer = ask(&assets, "OPTIONS", "/static/css/app.css", &preflight).await;
    assert_eq!((answer.status, answer.text(), answer.header(ALLOW)), (204, "", Some("GET, HEAD, OPTIONS")));
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), Some("*"));
    assert_eq!(answer.header(CONTENT_LENGTH), None);
    let expected = ["GET, HEAD", "range, x-requested-with", "86400"].map(|value| Some(value.to_owned()));
    assert_eq!(told(&answer), expected);
    // Not a preflight: any client may ask what there is to do.
    let answer = ask(&assets, "OPTIONS", "/static/css/app.css", &preflight[..1]).await;
    assert_eq!(
        (answer.status, answer.header(ALLOW), told(&answer)),
        (204, Some("GET, HEAD, OPTIONS"), [None, None, None])
    );
    assert_eq!(ask(&assets, "OPTIONS", "/static/missing.css", &preflight).await.status, 404);

    let closed = folder.open_with(|config| config.allow_all_origins = false).expect("a folder");
    let answer = ask(&closed, "OPTIONS", "/static/css/app.css", &preflight).await;
    assert_eq!(
        (answer.status, answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), told(&answer)),
        (204, None, [None, None, None])
    );
}

#[tokio::test]
async fn the_origin_header_and_the_age_are_the_operators_choice() {
    let assets = site().open_with(|config| {
        config.allow_all_origins = false;
        config.max_age = crate::config::values::HumanDuration::seconds(5);
        config.prefix = "/assets/".parse().expect("a prefix");
    });
    let answer = get(&assets.expect("a folder"), "/assets/css/app.css").await;
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), None);
    assert_eq!(answer.header(CACHE_CONTROL), Some("max-age=5, public"));
}

#[tokio::test]
async fn rules_for_headers_hold_for_every_answer_about_a_file() {
    let rules = r#"
        [[headers]]
        path = "/static/css/*"
        set = { "Cache-Control" = "max-age=9", "Timing-Allow-Origin" = "*", "X-A" = "1", "Vary" = "X-Country" }
        [[headers]]
        path = "*.0123456789ab.css"
        set = { "X-A" = "2", "Content-Type" = "text/x" }
        remove = ["X-Content-Type-Options"]
    "#;
    let folder = site();
    let assets = folder.open_with_rules(rules, |_| {});
    let named = |answer: &Answer, name: &'static str| answer.header(HeaderName::from_static(name)).map(str::to_owned);
    for (status, method, fields) in [
        (200, "GET", &[][..]),
        (200, "GET", &[("accept-encoding", "br")]),
        (200, "HEAD", &[]),
        (204, "OPTIONS", &[]),
        (206, "GET", &[("range", "bytes=0-1")]),
        (206, "GET", &[("range", "bytes=0-1,4-5")]),
        (304, "GET", &[("if-none-match", "*")]),
        (405, "POST", &[]),
        (406, "GET", &[("accept-encoding", "*;q=0")]),
        (412, "GET", &[("if-match", "\"x\"")]),
        (416, "GET", &[("range", "bytes=1000-")]),
    ] {
        let answer = ask(&assets, method, &format!("/static/{HASHED}"), fields).await;
        assert_eq!(answer.status, status, "for {method} {fields:?}");
        assert_eq!(named(&answer, "timing-allow-origin").as_deref(), Some("*"), "for {status}");
        assert_eq!(named(&answer, "x-a").as_deref(), Some("2"), "for {status}");
        assert_eq!(answer.header(VARY), Some("Accept-Encoding, X-Country"), "for {status}");
        assert_eq!(answer.header(X_CONTENT_TYPE_OPTIONS), None, "for {status}");
        let cache_control = match status {
            200 | 206 | 304 => Some("max-age=9"), // even of a file with a content hash
            204 => None,
            _ => Some("no-store"),
        };
        assert_eq!(answer.header(CACHE_CONTROL), cache_control, "for {status}");
        if status == 200 {
            assert_eq!(answer.header(CONTENT_TYPE), Some("text/x"));
        }
    }
    let parts_of = ask(&assets, "GET", &format!("/static/{HASHED}"), &[("range", "bytes=0-1,4-5")]).await;
    assert!(parts(&parts_of).iter().all(|(head, _)| head.starts_with("Content-Type: text/x\r\n")));
    for (path, a) in [("css/app.css", Some("1")), ("img/logo.png", None), ("css/missing.css", Some("1"))] {
        assert_eq!(named(&get(&assets, &format!("/static/{path}")).await, "x-a").as_deref(), a, "for {path}");
    }
}

#[tokio::test]
async fn a_rule_says_who_may_read_a_file_also_to_preflights_and_deltas() {
    let one = r#"[[headers]]
        path = "*"
        set = { "Access-Control-Allow-Origin" = "https://a.test" }"#;
    let nobody = "[[headers]]\npath = \"*\"\nremove = [\"Access-Control-Allow-Origin\"]";
    let folder = site_with_deltas();
    for (rules, all_origins, origin, allowed, may_read) in [
        ("", true, "https://a.test", Some("*"), true),
        ("", false, "https://a.test", None, false),
        (one, true, "https://a.test", Some("https://a.test"), true),
        (one, true, "https://b.test", Some("https://a.test"), false),
        (one, false, "https://a.test", Some("https://a.test"), true),
        (nobody, true, "https://a.test", None, false),
    ] {
        let assets = folder.open_with_rules(rules, |config| config.allow_all_origins = all_origins);
        let page = [("origin", origin), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")];
        let fields = [&WITH_DICTIONARY[..], &page].concat();
        let answer = ask(&assets, "GET", &format!("/static/{HASHED}"), &fields).await;
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), allowed);
        let expected = if may_read { "dcb 1" } else { "brotli's" };
        assert_eq!(answer.text(), expected, "for {origin} under {rules:?}, {all_origins}");
        let preflight = [page[0], ("access-control-request-method", "GET")];
        let answer = ask(&assets, "OPTIONS", &format!("/static/{HASHED}"), &preflight).await;
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), allowed);
        let methods = answer.header(::http::header::ACCESS_CONTROL_ALLOW_METHODS);
        assert_eq!(methods, allowed.map(|_| "GET, HEAD"));
    }
}

#[tokio::test]
async fn a_range_is_exactly_the_slice() {
    let body = b"body { color: #123456; background: #654321 }";
    for memory in [0, 1 << 20] {
        let folder = site();
        let assets = folder.open_with(|config| config.memory = ByteSize(memory)).expect("a folder");
        for (range, first, last) in
            [("0-3", 0, 3), ("0-0", 0, 0), ("43-", 43, 43), ("-1", 43, 43), ("5-1000", 5, 43), ("-1000", 0, 43)]
        {
            let answer = ask(&assets, "GET", "/static/css/app.css", &[("range", &format!("bytes={range}"))]).await;
            assert_eq!(answer.status, 206, "for {range}");
            assert_eq!(answer.body, &body[first..=last], "for {range}");
            assert_eq!(answer.header(CONTENT_RANGE), Some(format!("bytes {first}-{last}/44").as_str()));
            assert_eq!(answer.header(CONTENT_LENGTH), Some((last - first + 1).to_string().as_str()));
        }
    }
}

/// The parts of a multipart answer, read as RFC 2046 has it: what each says of itself, and its bytes.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let media_type = answer.header(CONTENT_TYPE).expect("a type");
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").expect("several parts");
    let find = |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|window| window == text.as_bytes());
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = &answer.body[..];
    let mut parts = Vec::new();
    assert_eq!(find(rest, &delimiter), Some(0), "nothing comes before the first part");
    loop {
        rest = &rest[delimiter.len()..];
        if rest == b"--\r\n" {
            return parts;
        }
        rest = rest.strip_prefix(b"\r\n").expect("the end of a delimiter line");
        let head = find(rest, "\r\n\r\n").expect("an empty line after the head of a part");
        let end = find(rest, &delimiter).expect("an end of the part");
        parts.push((String::from_utf8_lossy(&rest[..head]).into_owned(), rest[head + 4..end].to_vec()));
        rest = &rest[end..];
    }
}

#[tokio::test]
async fn several_ranges_are_several_parts_in_the_order_in_which_they_were_asked_for() {
    let body = b"body { color: #123456; background: #654321 }";
    for memory in [0, 1 << 20] {
        let folder = site();
        let assets = folder.open_with(|config| config.memory = ByteSize(memory)).expect("a folder");
        let fields = [("range", "bytes=40-, 0-3, 1-4, 100-200"), ("accept-encoding", "br")];
        let answer = ask(&assets, "GET", "/static/css/app.css", &fields).await;
        let told = |place: &str| format!("Content-Type: text/css; charset=utf-8\r\nContent-Range: bytes {place}/44");
        assert_eq!(answer.status, 206);
        assert_eq!(parts(&answer), [(told("40-43"), body[40..].to_vec()), (told("0-4"), body[..5].to_vec())]);
        assert_eq!(answer.header(CONTENT_LENGTH), Some(answer.body.len().to_string().as_str()));
        assert_eq!(answer.header(VARY), Some("Accept-Encoding"));
        assert!(answer.header(ETAG).is_some() && answer.header(LAST_MODIFIED).is_some());
        // Each part says it of itself.
        assert_eq!((answer.header(CONTENT_RANGE), answer.header(CONTENT_ENCODING)), (None, None));
    }
}

#[tokio::test]
async fn one_range_that_is_left_of_several_is_sent_alone() {
    let assets = site().open();
    for range in ["bytes=0-3,100-", "bytes=0-1,2-3", "bytes=2-3,0-2,3-3"] {
        let answer = ask(&assets, "GET", "/static/css/app.css", &[("range", range)]).await;
        assert_eq!((answer.status, answer.text()), (206, "body"), "for {range}");
        assert_eq!(answer.header(CONTENT_RANGE), Some("bytes 0-3/44"), "for {range}");
    }
}

#[tokio::test]
async fn who_asks_for_too_many_ranges_gets_the_whole() {
    let folder = site();
    let ranges = |count: usize| {
        let ranges: Vec<_> = (0..count).map(|n| format!("{}-{}", 2 * n, 2 * n)).collect();
        format!("bytes={}", ranges.join(","))
    };
    for (most, asked, status) in [(3, 3, 206), (3, 4, 200), (32, 1000, 200)] {
        let max_ranges = most.try_into().expect("not zero");
        let assets = folder.open_with(|config| config.max_ranges = max_ranges).expect("a folder");
        let answer = ask(&assets, "GET", "/static/css/app.css", &[("range", &ranges(asked))]).await;
        assert_eq!(answer.status, status, "for {asked} of {most}");
        match status {
            206 => assert_eq!(parts(&answer).len(), asked),
            _ => assert_eq!(answer.body.len(), 44),
        }
    }
}

#[tokio::test]
async fn a_brotli_download_continues_in_brotli() {
    let assets = site().open();
    let whole = ask(&assets, "GET", "/static/css/app.css", &[("accept-encoding", "br")]).await;
    let fields = [("accept-encoding", "br"), ("range", "bytes=3-"), ("if-range", whole.header(ETAG).expect("a tag"))];
    let rest = ask(&assets, "GET", "/static/css/app.css", &fields).await;
    assert_eq!((rest.status, rest.header(CONTENT_ENCODING), rest.header(ETAG)), (206, Some("br"), whole.header(ETAG)));
    assert_eq!(rest.text(), "tli's");
}

#[tokio::test]
async fn nothing_but_the_files_themselves_can_be_asked_for() {
    let folder = site().on_disk("css/.hidden", b"x").on_disk(".git/config", b"x").on_disk("unlisted.css", b"x");
    let folder = folder.file(".well-known/x", b"x").published();
    let assets = folder.open();
    for path in [
        "/static/",
        "/static/css",
        "/static/css/",
        "/static/staticfiles.json",
        "/static/unlisted.css",
        "/static/css/app.css.gz",
        "/static/css/app.css.br",
        "/static/css/.hidden",
        "/static/.git/config",
        "/static/.well-known/x",
        "/static/../static/css/app.css",
        "/static/css/../css/app.css",
        "/static/css/./app.css",
        "/static/css//app.css",
        "/static//css/app.css",
        "/static/%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%5c..%5cetc%5cpasswd",
        "/static/css%5capp.css",
        "/static/%252e%252e%252fcss/app.css",
        "/static/css%252fapp.css",
        "/static/css/app.css%00",
        "/static/css/app.css%00.png",
        "/static/css/app.css/",
        "/static/css/app.css%20",
        "/static/CSS/app.css",
        "/static/c%c3%28.css",
        "/static/%ff",
        "/static/C:/windows/win.ini",
        "/static/%c0%ae%c0%ae/css/app.css", // an overlong spelling of two dots
        "/static/css%c0%afapp.css",
        "/static/%u002e%u002e/css/app.css",
        "/static/css/app.css%0d%0aX:y",
        "/static/%EF%BC%8E%EF%BC%8E/css/app.css", // full-width dots
        "/static/css/app.css;x",
        "/static/css/app.css::$DATA",
        "/static/%2Fetc%2Fpasswd",
    ] {
        assert!(assets.owns(path), "for {path}");
        assert_eq!(get(&assets, path).await.status, 404, "for {path}");
    }
    for unit in ["a", "a/", "%61", "%ff", "../", "%2e%2e/"] {
        let long = format!("/static/{}", unit.repeat(60_000 / unit.len()));
        assert_eq!(get(&assets, &long).await.status, 404, "for many {unit:?}");
    }
    // One spelling more of the same name, as the RFC has it.
    assert_eq!(get(&assets, "/static/css%2Fapp%2Ecss?v=1").await.status, 200);
}

#[test]
fn paths_outside_of_the_prefix_belong_to_the_application() {
    let assets = site().open();
    for path in ["/", "/static", "/staticfiles/x", "/Static/css/app.css", "//static/css/app.css", "/st%2561tic/a"] {
        assert!(!assets.owns(path), "for {path}");
    }
    assert!(assets.owns("/st%61tic/css/app.css"), "the application would decode it");
}

#[tokio::test]
async fn a_name_may_have_any_letters() {
    let assets = site().file("café/a b+c&d.css", b"x").published().open();
    for path in ["/static/caf%C3%A9/a%20b+c&d.css", "/static/caf%c3%a9/a%20b%2bc%26d%2ecss"] {
        assert_eq!(get(&assets, path).await.status, 200, "for {path}");
    }
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let assets = site().file("empty.css", b"").published().open();
    let answer = get(&assets, "/static/empty.css").await;
    assert_eq!((answer.status, answer.header(CONTENT_LENGTH), answer.text()), (200, Some("0"), ""));
}

#[tokio::test]
async fn a_manifest_of_django_has_the_folder_say_what_there_is() {
    let folder = site()
        .on_disk("plain.css", b"plain plain plain")
        .on_disk("plain.css.gz", b"gzipped")
        .on_disk("plain.css.zst", b"longer than the file itself")
        .on_disk("only.gz", b"an archive")
        .on_disk("sub/.env", b"secret")
        .by_django()
        .published();
    let assets = folder.open();
    let gzip = [("accept-encoding", "gzip, zstd")];
    for (path, status, body, cache) in [
        ("css/app.css", 200, "gzip's copy", "max-age=60, public"),
        (HASHED, 200, "gzip's copy", "max-age=315360000, public, immutable"),
        ("plain.css", 200, "gzipped", "max-age=60, public"),
        ("only.gz", 200, "an archive", "max-age=60, public"), // a copy of nothing is a file of its own
        ("plain.css.gz", 404, "404 Not Found\n", "no-store"),
        ("plain.css.zst", 404, "404 Not Found\n", "no-store"),
        ("sub/.env", 404, "404 Not Found\n", "no-store"),
        ("staticfiles.json", 404, "404 Not Found\n", "no-store"),
    ] {
        let answer = ask(&assets, "GET", &format!("/static/{path}"), &gzip).await;
        assert_eq!(
            (answer.status, answer.text(), answer.header(CACHE_CONTROL)),
            (status, body, Some(cache)),
            "for {path}"
        );
    }
}

#[tokio::test]
async fn a_copy_that_is_older_than_its_file_is_not_sent() {
    use std::time::{Duration, SystemTime};

    let folder = Folder::new()
        .on_disk("a.css", b"what is new in here")
        .on_disk("a.css.gz", b"what was")
        .on_disk("b.css", b"what is as it was")
        .on_disk("b.css.gz", b"so is it");
    let copy = fs_err::OpenOptions::new().write(true).open(folder.path().join("a.css.gz")).expect("the copy");
    copy.file().set_modified(SystemTime::now() - Duration::from_secs(60)).expect("a date");
    let assets = folder.open();
    let gzip = [("accept-encoding", "gzip")];
    for (path, expected) in [("a.css", (200, "what is new in here")), ("b.css", (200, "so is it"))] {
        let answer = ask(&assets, "GET", &format!("/static/{path}"), &gzip).await;
        assert_eq!((answer.status, answer.text()), expected, "for {path}");
    }
    assert_eq!(get(&assets, "/static/a.css.gz").await.status, 404, "it is no file of its own either");
}

#[tokio::test]
async fn a_hashed_name_may_be_written_again_and_a_plain_one_may_not() {
    let folder = site();
    let assets = folder.open_with(|config| config.memory = ByteSize(0)).expect("a folder");
    for (name, status) in [(HASHED, 200), ("img/logo.png", 500)] {
        let (path, next) = (folder.path().join(name), folder.path().join("next"));
        fs_err::copy(&path, &next).expect("a copy");
        fs_err::rename(&next, &path).expect("the same bytes in another file");
        assert_eq!(get(&assets, &format!("/static/{name}")).await.status, status, "for {name}");
    }
}

#[tokio::test]
async fn a_folder_without_a_manifest_is_served_without_long_caching() {
    let folder = Folder::new().on_disk("app.0123456789ab.css", b"x");
    let answer = get(&folder.open(), "/static/app.0123456789ab.css").await;
    assert_eq!((answer.status, answer.header(CACHE_CONTROL)), (200, Some("max-age=60, public")));
    assert_eq!(answer.header(CONTENT_TYPE), Some("text/css; charset=utf-8"));
}

#[cfg(unix)]
#[tokio::test]
async fn links_out_of_the_folder_and_what_is_no_file_are_left_out() {
    use std::os::unix::fs::symlink;

    let outside = tempfile::tempdir().expect("a temporary folder");
    fs_err::write(outside.path().join("secret.css"), "x").expect("a file");
    let folder = Folder::new().on_disk("real/a.css", b"x");
    for (target, name) in [
        (outside.path().join("secret.css"), "secret.css"),
        (outside.path().to_owned(), "outside"),
        (folder.path().join("real/a.css"), "inside.css"),
        (folder.path().join("real"), "again"),
        (folder.path().to_owned(), "real/loop"),
        (folder.path().join("nowhere"), "dangling.css"),
    ] {
        symlink(target, folder.path().join(name)).expect("a link");
    }
    // A FIFO would keep whoever opens it waiting for ever.
    let fifo = folder.path().join("fifo.css");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());

    let assets = folder.open();
    for (path, status) in [
        ("real/a.css", 200),
        ("inside.css", 200),
        ("again/a.css", 200),
        ("secret.css", 404),
        ("outside/secret.css", 404),
        ("real/loop/real/a.css", 404),
        ("dangling.css", 404),
        ("fifo.css", 404),
    ] {
        assert_eq!(get(&assets, &format!("/static/{path}")).await.status, status, "for {path}");
    }
}

#[test]
fn a_folder_that_its_manifest_does_not_describe_is_refused_with_all_that_is_wrong() {
    let folder = site().file("gone.css", b"x").file("short.css", b"long").path_entry("a.css", "a.1.css");
    let folder = folder.file("copied.css", b"0123456789").copy("copied.css", Coding::Gzip, b"012345").published();
    let folder = folder.on_disk("short.css", b"l").on_disk("copied.css.gz", b"01");
    fs_err::remove_file(folder.path().join("gone.css")).expect("the file was there");
    let problem = folder.problem();
    for part in [
        "gone.css is gone",
        "short.css has 1 bytes instead of 4",
        "copied.css.gz has 2 bytes instead of 6",
        "a.1.css, which stands for a.css, is not there",
        "run `vestibule collect` again",
    ] {
        assert!(problem.contains(part), "{part:?} is not in {problem:?}");
    }
}

#[test]
fn a_long_list_of_what_is_wrong_is_cut() {
    let mut folder = Folder::new();
    for number in 0..25 {
        folder = folder.path_entry(&format!("{number}.css"), &format!("{number}.1.css"));
    }
    let problem = folder.by_django().published().problem();
    assert!(problem.contains("and 15 more"), "{problem}");
}

#[test]
fn a_manifest_that_cannot_be_used_stops_the_start() {
    let folder = site();
    let whole = folder.manifest.to_json();
    for text in [
        &whole[..whole.len() / 2],
        "",
        r#"{"paths": {}, "version": "9"}"#,
        r#"{"paths": {"a": "../b"}, "version": "1.1"}"#,
    ] {
        fs_err::write(folder.path().join(FILE_NAME), text).expect("a file");
        assert!(matches!(folder.open_with(|_| {}), Err(AssetsError::Manifest(_))), "for {text:?}");
    }
    let bad_type = whole.replace("text/css", "text\\ncss");
    fs_err::write(folder.path().join(FILE_NAME), bad_type).expect("a file");
    assert!(folder.problem().contains("css/app.css has a media type that cannot be sent"));
}

#[tokio::test]
async fn of_two_entries_with_one_name_the_later_one_counts_however_its_letters_are_written() {
    let entry = |name: &str, size: u64| {
        format!(r#""{name}": {{"size": {size}, "type": "text/css", "sha256": "{}"}}"#, "ab".repeat(32))
    };
    let files = [entry("a.css", 7), entry(r"\u0061.css", 3), entry("b.css", 1), entry("z.css", 1)].join(", ");
    let manifest = |plain: &str| {
        // What an overridden word names need not be there, and is no hash's name because of it.
        let paths = format!(r#"{{"{plain}": "gone.css", "z.css": "b.css", "{plain}": "a.css", "z.css": "z.css"}}"#);
        format!(
            r#"{{"paths": {paths}, "version": "1.1", "hash": "", "vestibule": {{"version": 1, "files": {{{files}}}}}}}"#
        )
    };
    let folder = Folder::new().on_disk("a.css", b"abc").on_disk("b.css", b"b").on_disk("z.css", b"z");
    for (plain, cache_control) in [
        (r"\u0061.css", "max-age=60, public"),
        ("plain.css", "max-age=315360000, public, immutable"), // its name says what is in it
    ] {
        fs_err::write(folder.path().join(FILE_NAME), manifest(plain)).expect("a manifest");
        let assets = folder.open();
        assert_eq!(assets.file_count(), 3);
        let other = get(&assets, "/static/b.css").await;
        assert_eq!(other.header(CACHE_CONTROL), Some("max-age=60, public"));
        let answer = get(&assets, "/static/a.css").await;
        assert_eq!(answer.header(CACHE_CONTROL), Some(cache_control), "for {plain}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let config = AssetsConfig { directory: Some("/nonexistent/static".into()), ..AssetsConfig::default() };
    let error = Assets::open(&config, &Arc::default()).expect_err("no folder").to_string();
    assert!(error.contains("/nonexistent/static"), "{error}");
}

#[tokio::test]
async fn equal_contents_are_held_once_and_the_smallest_come_first() {
    let folder = site();
    let all = folder.open();
    assert!(all.to_string().starts_with("3 files of /"), "{all}");
    assert!(all.to_string().ends_with(" under /static/, 0.0 MiB in memory"), "{all}");
    assert_eq!((all.file_count(), all.bytes_in_memory()), (3, 44 + 11 + 8 + 6));
    // Room for the logo (6), brotli's copy (8) and no more.
    let some = folder.open_with(|config| config.memory = ByteSize(20)).expect("a folder");
    assert_eq!(some.bytes_in_memory(), 14);
    let none = folder.open_with(|config| config.memory = ByteSize(0)).expect("a folder");
    assert_eq!(none.bytes_in_memory(), 0);
    for assets in [all, some, none] {
        for (accepted, body) in
            [("br", "brotli's"), ("gzip", "gzip's copy"), ("", "body { color: #123456; background: #654321 }")]
        {
            let answer = ask(&assets, "GET", "/static/css/app.css", &[("accept-encoding", accepted)]).await;
            assert_eq!((answer.status, answer.text()), (200, body), "for {accepted:?}");
        }
    }
}

#[tokio::test]
async fn what_is_in_memory_outlives_the_folder() {
    let assets = site().open();
    assert_eq!(get(&assets, "/static/css/app.css").await.status, 200);
}

#[tokio::test]
async fn a_large_file_streams_byte_for_byte() {
    let bytes: Vec<u8> = (0..1_500_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let folder = Folder::new().file("big.bin", &bytes).published();
    let assets = folder.open_with(|config| config.memory = ByteSize(1000)).expect("a folder");
    let whole = get(&assets, "/static/big.bin").await;
    assert_eq!(whole.header(CONTENT_LENGTH), Some("1500001"));
    assert!(whole.body == bytes, "the whole differs");
    let part = ask(&assets, "GET", "/static/big.bin", &[("range", "bytes=262143-1300000")]).await;
    assert!(part.body == bytes[262_143..=1_300_000], "the part differs");
}

#[tokio::test]
async fn a_plain_name_is_read_through_its_hashed_one() {
    let folder = site();
    let assets = folder.open_with(|config| config.memory = ByteSize(0)).expect("a folder");
    // The next release is being copied over this one.
    let folder = folder.on_disk("css/app.css", b"something else that is as long as the one...");
    let answer = get(&assets, "/static/css/app.css").await;
    assert_eq!((answer.status, answer.text()), (200, "body { color: #123456; background: #654321 }"));
    drop(folder);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_switched_to_the_next_release_does_not_mix_the_two() {
    let (before, after) = (site(), Folder::new().published());
    let releases = tempfile::tempdir().expect("a temporary folder");
    let current = releases.path().join("current");
    std::os::unix::fs::symlink(before.path(), &current).expect("a link");
    let change = |config: &mut AssetsConfig| (config.directory, config.memory) = (Some(current.clone()), ByteSize(0));
    let assets = before.open_with(change).expect("a folder");
    fs_err::remove_file(&current).expect("the link");
    std::os::unix::fs::symlink(after.path(), &current).expect("a link");
    assert_eq!(get(&assets, "/static/css/app.css").await.status, 200);
}

#[tokio::test]
async fn a_file_that_changes_under_a_running_server_is_not_sent() {
    let folder = site();
    let assets = folder.open_with(|config| config.memory = ByteSize(0)).expect("a folder");
    let logo = folder.path().join("img/logo.png");
    let expect_500 = async || {
        let answer = get(&assets, "/static/img/logo.png").await;
        assert_eq!((answer.status, answer.text()), (500, "500 Internal Server Error\n"));
        assert_eq!(answer.header(CACHE_CONTROL), Some("no-store"));
        assert_eq!(answer.header(ETAG), None);
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), Some("*"));
    };
    let bytes = fs_err::read(&logo).expect("a file");
    let other = bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
    fs_err::write(folder.path().join("img/next"), other).expect("a file");
    fs_err::rename(folder.path().join("img/next"), &logo).expect("a file of the same length in its place");
    assert!(!assets.has_changed());
    expect_500().await;
    assert!(assets.has_changed());
    fs_err::write(&logo, "short").expect("a file");
    expect_500().await;
    fs_err::remove_file(&logo).expect("the file was there");
    expect_500().await;
    // Opening it for reading waits for somebody who writes.
    assert!(std::process::Command::new("mkfifo").arg(&logo).status().expect("mkfifo").success());
    expect_500().await;
    // A copy in the browser is still good: that needs no file.
    let fields = [("if-none-match", "*")];
    assert_eq!(ask(&assets, "GET", "/static/img/logo.png", &fields).await.status, 304);
}

#[tokio::test]
async fn a_hashed_file_that_is_not_in_memory_is_sent_under_its_tag_only_while_it_has_those_bytes() {
    let folder = site();
    let assets = folder.open_with(|config| config.memory = ByteSize(0)).expect("a folder");
    let (hashed, copy) = (folder.path().join(HASHED), folder.path().join(format!("{HASHED}.br")));
    let path = format!("/static/{HASHED}");
    let status = async |accepted| ask(&assets, "GET", &path, &[("accept-encoding", accepted)]).await.status;
    let bytes = fs_err::read(&hashed).expect("the file");
    let date = |path: &Path| fs_err::metadata(path).expect("the file").modified().expect("a date");
    let age = |path: &Path, seconds| {
        let file = fs_err::OpenOptions::new().write(true).open(path).expect("the file");
        file.set_modified(date(path) + std::time::Duration::from_secs(seconds)).expect("a date");
    };
    // A deploy writes the same bytes again: over the file, and as another one in its place.
    fs_err::write(&hashed, &bytes).expect("the same bytes");
    age(&hashed, 5);
    assert_eq!(status("").await, 200);
    fs_err::write(folder.path().join("next"), &bytes).expect("a file");
    fs_err::rename(folder.path().join("next"), &hashed).expect("the same bytes in its place");
    for _ in 0..2 {
        assert_eq!(status("").await, 200);
    }
    assert!(!assets.has_changed());
    // Somebody writes other bytes, as long as the old ones.
    let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    fs_err::write(&hashed, other).expect("other bytes");
    age(&hashed, 10);
    let answer = get(&assets, &path).await;
    assert_eq!((answer.status, answer.header(ETAG)), (500, None));
    assert!(assets.has_changed());
    // Once they are the old ones again, all is well.
    fs_err::write(&hashed, &bytes).expect("the old bytes");
    assert_eq!(status("").await, 200);
    // Of a copy nobody knows what its bytes were.
    assert_eq!(status("br").await, 200);
    age(&copy, 5);
    assert_eq!(status("br").await, 500);
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_sent_cuts_the_answer() {
    let folder = Folder::new().file("big.bin", &vec![1; 1_000_000]).published();
    let assets = folder.open_with(|config| config.memory = ByteSize(0)).expect("a folder");
    let (head, ()) = ::http::Request::get("/static/big.bin").body(()).expect("a request").into_parts();
    let mut body: Body = assets.respond(&head, &client()).await.into_body();
    assert!(body.frame().await.expect("a first piece").is_ok());
    let file = fs_err::OpenOptions::new().write(true).open(folder.path().join("big.bin")).expect("the file");
    file.set_len(300_000).expect("a shorter file");
    assert!(body.collect().await.is_err(), "half a file must not look whole");
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was() {
    let folder = Folder::new().file("big.bin", &vec![1; 1_000_000]).published();
    let assets = folder.open_with(|config| config.memory = ByteSize(0)).expect("a folder");
    let (head, ()) = ::http::Request::get("/static/big.bin").body(()).expect("a request").into_parts();
    let mut body: Body = assets.respond(&head, &client()).await.into_body();
    let first = body.frame().await.expect("a first piece").expect("a piece").into_data().expect("data");
    let folder = folder.on_disk("next", &vec![2; 1_000_000]);
    fs_err::rename(folder.path().join("next"), folder.path().join("big.bin")).expect("a new file");
    let rest = body.collect().await.expect("the rest of the old file").to_bytes();
    assert_eq!(first.len() + rest.len(), 1_000_000);
    assert!(rest.iter().all(|byte| *byte == 1));
}

#[tokio::test]
async fn a_file_that_is_written_to_while_it_is_sent_cuts_the_answer() {
    for fields in [&[][..], &[("range", "bytes=1-,0-0")], &[("range", "bytes=0-0,2-")]] {
        let folder = Folder::new().file("big.bin", &vec![1; 1_000_000]).published();
        let file = fs_err::OpenOptions::new().write(true).open(folder.path().join("big.bin")).expect("the file");
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        file.set_modified(date).expect("a date");
        let assets = folder.open_with(|config| config.memory = ByteSize(0)).expect("a folder");
        let mut request = ::http::Request::get("/static/big.bin");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let mut body: Body = assets.respond(&head, &client()).await.into_body();
        assert!(body.frame().await.expect("a first piece").is_ok());
        // Of the same length, so only the date tells.
        fs_err::write(folder.path().join("big.bin"), vec![2; 1_000_000]).expect("other bytes");
        assert!(body.collect().await.is_err(), "two files must not look like one, for {fields:?}");
    }
}

#[tokio::test]
async fn a_date_that_says_nothing_is_not_sent() {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    let century = Duration::from_secs(100 * 365 * 86_400);
    for (modified, expected) in [
        (UNIX_EPOCH, None),
        (SystemTime::now() + century, None),
        (UNIX_EPOCH + Duration::from_millis(784_111_777_900), Some("Sun, 06 Nov 1994 08:49:37 GMT")),
    ] {
        let folder = site();
        let file = fs_err::OpenOptions::new().write(true).open(folder.path().join("img/logo.png")).expect("the file");
        file.set_modified(modified).expect("a date");
        let answer = get(&folder.open(), "/static/img/logo.png").await;
        assert_eq!((answer.status, answer.header(LAST_MODIFIED)), (200, expected));
        assert!(answer.header(ETAG).is_some());
    }
}

#[tokio::test]
async fn the_same_content_has_the_same_tag_after_every_deploy() {
    let tag = async || get(&site().open(), "/static/img/logo.png").await.header(ETAG).map(str::to_owned);
    let first = tag().await;
    assert!(first.is_some() && first == tag().await);
}

#[tokio::test]
async fn a_delta_says_all_that_a_cache_must_know() {
    let folder = site_with_deltas();
    for memory in [0, 1 << 20] {
        let assets = folder.open_with(|config| config.memory = ByteSize(memory)).expect("a folder");
        let answer = ask(&assets, "GET", &format!("/static/{HASHED}"), &WITH_DICTIONARY).await;
        let digest = hex(&Sha256::digest(b"body { color: #123456; background: #654321 }"));
        let tag = format!("\"{}-dcb-0101010101010101-5\"", &digest[..32]);
        assert_eq!((answer.status, answer.text()), (200, "dcb 1"));
        let expected = [
            (CONTENT_TYPE, "text/css; charset=utf-8"),
            (CONTENT_LENGTH, "5"),
            (CONTENT_ENCODING, "dcb"),
            (CACHE_CONTROL, "max-age=315360000, public, immutable"),
            (ETAG, &tag),
            (::http::header::ACCEPT_RANGES, "bytes"),
            (VARY, "Accept-Encoding, Available-Dictionary"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (USE_AS_DICTIONARY, "match=\"/static/css/app.*.css\""),
        ];
        for (name, value) in &expected {
            assert_eq!(answer.header(name.clone()), Some(*value), "for {name}");
        }
        assert!(answer.header(LAST_MODIFIED).is_some());
        assert_eq!(answer.headers.len(), expected.len() + 1);
    }
}

#[tokio::test]
async fn vary_names_the_dictionary_on_every_answer_about_a_file_with_deltas() {
    let assets = site_with_deltas().open();
    let path = format!("/static/{HASHED}");
    for (status, fields) in [
        (200, &[][..]),
        (200, &[("accept-encoding", "br")]),
        (200, &WITH_DICTIONARY),
        (206, &[("range", "bytes=0-1")]),
        (304, &[("if-none-match", "*")]),
        (406, &[("accept-encoding", "*;q=0")]),
        (412, &[("if-match", "\"x\"")]),
        (416, &[("range", "bytes=1000-")]),
    ] {
        let answer = ask(&assets, "GET", &path, fields).await;
        let vary = Some("Accept-Encoding, Available-Dictionary");
        assert_eq!((answer.status, answer.header(VARY)), (status, vary), "for {fields:?}");
        // A part is no version of the file, and an error neither.
        let dictionary = matches!(status, 200 | 304).then_some("match=\"/static/css/app.*.css\"");
        assert_eq!(answer.header(USE_AS_DICTIONARY), dictionary, "for {fields:?}");
        // The plain name has copies only.
        let answer = ask(&assets, "GET", "/static/css/app.css", fields).await;
        assert_eq!((answer.status, answer.header(VARY)), (status, Some("Accept-Encoding")), "for {fields:?}");
        assert_eq!(answer.header(USE_AS_DICTIONARY), None, "for {fields:?}");
    }
}

#[tokio::test]
async fn head_announces_the_delta_that_get_would_send() {
    let assets = site_with_deltas().open();
    let path = format!("/static/{HASHED}");
    let (get, head) =
        (ask(&assets, "GET", &path, &WITH_DICTIONARY).await, ask(&assets, "HEAD", &path, &WITH_DICTIONARY).await);
    assert_eq!((head.status, &head.headers, head.text()), (200, &get.headers, ""));
}

#[tokio::test]
async fn deltas_can_be_switched_off() {
    let assets = site_with_deltas().open_with(|config| config.deltas = false).expect("a folder");
    let answer = ask(&assets, "GET", &format!("/static/{HASHED}"), &WITH_DICTIONARY).await;
    assert_eq!((answer.text(), answer.header(VARY)), ("brotli's", Some("Accept-Encoding")));
    assert_eq!(answer.header(USE_AS_DICTIONARY), None);
}

#[tokio::test]
async fn the_prefix_is_part_of_the_pattern_and_means_itself() {
    let assets = site_with_deltas().open_with(|config| config.prefix = "/a(1)/b+c:d*/".parse().expect("a prefix"));
    let answer = get(&assets.expect("a folder"), &format!("/a(1)/b+c:d*/{HASHED}")).await;
    let expected = r#"match="/a\\(1\\)/b\\+c{\\:}d\\*/css/app.*.css""#;
    assert_eq!(answer.header(USE_AS_DICTIONARY), Some(expected));
}

#[tokio::test]
async fn a_delta_itself_cannot_be_asked_for() {
    let names = ["css/app.0123456789ab.css.010101010101.dcb", "css/app.0123456789ab.css.020202020202.dcz"];
    for folder in [site_with_deltas(), site_with_deltas().by_django().published()] {
        let assets = folder.open();
        for name in names {
            assert!(folder.path().join(name).is_file());
            assert_eq!(get(&assets, &format!("/static/{name}")).await.status, 404, "for {name}");
        }
    }
}

#[tokio::test]
async fn deltas_count_as_memory_and_one_that_saves_nothing_is_left() {
    let folder = site_with_deltas();
    assert_eq!(folder.open().bytes_in_memory(), 44 + 11 + 8 + 6 + 5 + 5, "not the ten bytes beside a copy of eight");
    let none = folder.open_with(|config| config.deltas = false).expect("a folder");
    assert_eq!(none.bytes_in_memory(), 44 + 11 + 8 + 6);
}

#[test]
fn a_delta_that_is_not_as_the_manifest_says_stops_the_start() {
    let folder = site_with_deltas().on_disk("css/app.0123456789ab.css.010101010101.dcb", b"cut");
    fs_err::remove_file(folder.path().join("css/app.0123456789ab.css.020202020202.dcz")).expect("the delta");
    let problem = folder.problem();
    for part in [
        "css/app.0123456789ab.css.010101010101.dcb has 3 bytes instead of 5",
        "css/app.0123456789ab.css.020202020202.dcz is gone",
    ] {
        assert!(problem.contains(part), "{part:?} is not in {problem:?}");
    }
    let many = (3..=17).fold(site_with_deltas(), |folder, n| folder.delta(HASHED, n, DictionaryCoding::Zstd, b"x"));
    let problem = many.published().problem();
    assert!(problem.contains("has deltas from more than 16 dictionaries"), "{problem}");
}

#[tokio::test]
async fn the_heads_that_clients_get_most_often_are_ready() {
    let assets = site().open();
    let path = "/static/css/app.0123456789ab.css";
    let tag = get(&assets, path).await.header(ETAG).expect("it has one").to_owned();
    for (method, fields, expected) in [
        ("GET", [("accept-encoding", "br")], true),
        ("HEAD", [("accept-encoding", "identity")], true),
        ("GET", [("if-none-match", &*tag)], true),
        ("GET", [("range", "bytes=0-1")], false),
        ("POST", [("accept", "*/*")], false),
    ] {
        // That they are what the fields say, `ask` finds out for every request of these tests.
        ask(&assets, method, path, &fields).await;
        let mut request = ::http::Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        assert_eq!(in_lines(&assets, &head).is_some(), expected, "{method} with {fields:?}");
    }
}
