//! What one static answer costs without a socket: lookup, negotiation, preconditions and the clone of
//! the ready headers, down to a `Response` that hyper could send; and what each step of it costs alone.
//!
//! Compare with: `clone`, which is the floor for any answer that owns its header map; and an answer under 200
//! `[[headers]]` rules with one under a single rule, which should cost the same.
//!
//! 22 November 2026, on a busy machine: an answer with a body beside `clone` 2.6; 200 rules beside one 0.8.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use vestibule::assets::Assets;
use vestibule::config::header_rule::{self, HeaderRule};
use vestibule::config::{AssetsConfig, Config};
use vestibule::http::conditional::{self, Outcome, Validators};
use vestibule::http::encoding::{Accepted, Coding};
use vestibule::http::header_rules::HeaderRules;
use vestibule::http::range::{self, Selected};
use vestibule::http::{Client, Scheme};

/// What a browser of 2026 sends for a stylesheet.
const BROWSER: [(&str, &str); 8] = [
    ("host", "www.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"),
    ("accept", "text/css,*/*;q=0.1"),
    ("accept-language", "en-GB,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://www.example.com/"),
    ("sec-fetch-dest", "style"),
    ("sec-fetch-mode", "no-cors"),
];

fn head(path: &str, extra: &[(&str, &str)]) -> Parts {
    let mut request = http::Request::get(path);
    for (name, value) in BROWSER.iter().chain(extra) {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

/// So many rules, all but the first of which are for other paths.
fn rules(count: usize) -> Arc<HeaderRules> {
    let path = |number| if number == 0 { "/*".to_owned() } else { format!("/static/{number}/*.css") };
    let rule = |number| format!("[[headers]]\npath = \"{}\"\nset = {{ \"X-{number}\" = \"1\" }}\n", path(number));
    let text: String = (0..count).map(rule).collect();
    let config: Config = toml::from_str(&text).expect("rules");
    let paths = header_rule::glob_set(&config.headers).expect("patterns");
    Arc::new(HeaderRules::new(paths, config.headers.iter().map(HeaderRule::edits).collect()))
}

fn answers(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, length) in
        [("app.0123456789ab.css", 4096), ("app.0123456789ab.css.br", 900), ("app.0123456789ab.css.gz", 1100)]
    {
        fs_err::write(folder.path().join(name), vec![b'x'; length]).expect("a file");
    }
    let manifest = r#"{"paths": {"app.css": "app.0123456789ab.css"}, "version": "1.1", "hash": ""}"#;
    fs_err::write(folder.path().join("staticfiles.json"), manifest).expect("a file");
    let config = AssetsConfig { directory: Some(folder.path().to_owned()), ..AssetsConfig::default() };
    let assets = Assets::open(&config, &Arc::default()).expect("a folder that can be served");
    let ruled = [1, 200].map(|count| (count, Assets::open(&config, &rules(count)).expect("a folder")));

    let path = "/static/app.0123456789ab.css";
    let client = Client { address: None, port: 0, scheme: Scheme::Https, local_port: 443 };
    let respond =
        |head: &Parts| assets.respond(head, &client).now_or_never().expect("what is in memory needs no waiting");
    let ready = respond(&head(path, &[]));
    let tag = ready.headers()["etag"].to_str().expect("a readable tag").to_owned();

    let mut group = criterion.benchmark_group("answer");
    group.bench_function("clone", |bencher| bencher.iter(|| black_box(black_box(ready.headers()).clone())));
    for (name, status, head) in [
        ("200 brotli", 200, head(path, &[])),
        ("200 escaped path", 200, head("/static/app%2E0123456789ab.css", &[])),
        ("206", 206, head(path, &[("range", "bytes=0-99")])),
        ("206 of 32 parts", 206, head(path, &[("range", &ranges(32))])),
        ("200 for 1000 ranges", 200, head(path, &[("range", &ranges(1000))])),
        ("304", 304, head(path, &[("if-none-match", &tag)])),
        ("404", 404, head("/static/app.css.map", &[])),
    ] {
        assert_eq!(respond(&head).status(), status, "for {name}");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(respond(black_box(&head)))));
    }
    for (count, assets) in &ruled {
        let respond = |head: &Parts| assets.respond(head, &client).now_or_never().expect("it is in memory");
        let head = head(path, &[]);
        assert_eq!(respond(&head).headers()["x-0"], "1");
        let name = format!("200 under {count} rules");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(respond(black_box(&head)))));
    }
    group.finish();
}

/// So many ranges of one byte that do not touch.
fn ranges(count: usize) -> String {
    let ranges: Vec<_> = (0..count).map(|number| format!("{0}-{0}", 2 * number)).collect();
    format!("bytes={}", ranges.join(","))
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    let browser = head("/", &[]).headers;
    let candidates = [Some(Coding::Brotli), Some(Coding::Zstd), Some(Coding::Gzip), None];
    assert_eq!(Accepted::read(&browser).best(candidates.into_iter()), Some(0));
    group.bench_function("negotiate", |bencher| {
        bencher.iter(|| Accepted::read(black_box(&browser)).best(black_box(candidates).into_iter()));
    });

    let tag = HeaderValue::from_static("\"0123456789abcdef0123456789abcdef-br\"");
    let modified = UNIX_EPOCH + Duration::from_secs(784_111_777);
    let current = Validators { tag: &tag, modified: Some(modified) };
    for (name, outcome, fields) in [
        ("conditional, none", Outcome::Stale, head("/", &[])),
        ("conditional, tag", Outcome::Fresh, head("/", &[("if-none-match", tag.to_str().expect("a readable tag"))])),
        ("conditional, date", Outcome::Fresh, head("/", &[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")])),
    ] {
        let evaluate = |headers: &HeaderMap| conditional::evaluate(&Method::GET, headers, current);
        assert_eq!(evaluate(&fields.headers), outcome, "for {name}");
        group.bench_function(name, |bencher| bencher.iter(|| evaluate(black_box(&fields.headers))));
    }

    for count in [1, 32, 1000] {
        let fields = head("/", &[("range", &ranges(count))]).headers;
        let select = |headers: &HeaderMap| range::requested(headers, 32).map(|ranges| ranges.within(1 << 20));
        let is_right = match select(&fields) {
            Some(Selected::Part(_)) => count == 1,
            Some(Selected::Parts(parts)) => count == parts.len(),
            _ => count > 32,
        };
        assert!(is_right, "for {count} ranges");
        group.bench_function(format!("range, {count} of 32"), |bencher| bencher.iter(|| select(black_box(&fields))));
    }

    for count in [1, 200] {
        let rules = rules(count);
        let name = format!("header rules of the application, {count}");
        group.bench_function(name, |bencher| bencher.iter(|| rules.for_raw_path(black_box("/articles/2026/11/"))));
    }
    group.finish();
}

criterion_group!(benches, answers, steps);
criterion_main!(benches);
