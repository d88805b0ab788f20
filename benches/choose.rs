//! What one static answer costs without a socket: lookup, negotiation, preconditions and the clone of
//! the ready headers, down to a `Response` that hyper could send.
//!
//! Compare with: `clone`, which is the floor for any answer that owns its header map.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::request::Parts;
use vestibule::assets::Assets;
use vestibule::config::AssetsConfig;
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
    let assets = Assets::open(&config).expect("a folder that can be served");

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
        ("304", 304, head(path, &[("if-none-match", &tag)])),
        ("404", 404, head("/static/app.css.map", &[])),
    ] {
        assert_eq!(respond(&head).status(), status, "for {name}");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(respond(black_box(&head)))));
    }
    group.finish();
}

criterion_group!(benches, answers);
criterion_main!(benches);
