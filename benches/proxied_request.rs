//! What does a trip through `Upstream` cost, beside asking the application directly?
//!
//! A fake application on a unix socket answers 1 KB. Each group has three rows: `direct`, a bare
//! socket that writes a ready request and reads the answer; `bare hyper`, hyper's client connection
//! with a task of its own, which is what a pooled client is made of; and `upstream`, this program's way,
//! with the fields for the application, the pool, the deadlines and the cleaned answer.
//! `keep-alive` uses one connection for all; in `close each` the application closes after each
//! answer, as gunicorn's sync worker does.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use http::HeaderValue;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use vestibule::config::UpstreamConfig;
use vestibule::http::body::Body;
use vestibule::http::{Client, Request, RequestId, Scheme};
use vestibule::upstream::Upstream;
use vestibule::upstream::background::Background;

const REQUEST: &[u8] = b"GET /page HTTP/1.1\r\nhost: example.com\r\naccept: text/html\r\nuser-agent: bench\r\n\r\n";

#[derive(Clone, Copy, PartialEq)]
enum Afterwards {
    KeepAlive,
    Close,
}

/// An application that answers 1 KB to whatever ends in an empty line, on a thread of its own.
fn start_application(path: &Path, afterwards: Afterwards) {
    let connection = if afterwards == Afterwards::Close { "Connection: close\r\n" } else { "" };
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n{connection}\r\n{}", "x".repeat(1024));
    let path = path.to_owned();
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = UnixListener::bind(path).expect("a free path");
            ready.send(()).expect("the bench waits");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), afterwards));
            }
        });
    });
    is_ready.recv().expect("the application starts");
}

async fn serve(mut stream: UnixStream, answer: String, afterwards: Afterwards) {
    let mut buffer = Vec::with_capacity(4096);
    while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        if !buffer.ends_with(b"\r\n\r\n") {
            continue;
        }
        buffer.clear();
        if stream.write_all(answer.as_bytes()).await.is_err() || afterwards == Afterwards::Close {
            return;
        }
    }
}

async fn ask_directly(stream: &mut UnixStream) -> usize {
    let mut buffer = Vec::with_capacity(4096);
    stream.write_all(REQUEST).await.expect("the application reads");
    while buffer.len() < 1024 || !buffer.ends_with(b"xx") {
        if stream.read_buf(&mut buffer).await.expect("the application answers") == 0 {
            break;
        }
    }
    buffer.len()
}

async fn connect_hyper(path: &Path) -> SendRequest<Empty<Bytes>> {
    let stream = UnixStream::connect(path).await.expect("the application listens");
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake without a byte");
    tokio::spawn(connection);
    sender
}

async fn ask_hyper(sender: &mut SendRequest<Empty<Bytes>>) -> usize {
    let request = http::Request::get("/page")
        .header("host", "example.com")
        .header("accept", "text/html")
        .header("user-agent", "bench")
        .body(Empty::new())
        .expect("a sound request");
    sender.ready().await.expect("an open connection");
    let answer = sender.send_request(request).await.expect("an answer");
    answer.into_body().collect().await.expect("a whole answer").to_bytes().len()
}

fn request() -> Request {
    let mut head = http::Request::get("/page").body(()).expect("a sound request").into_parts().0;
    for (name, value) in [("host", "example.com"), ("accept", "text/html"), ("user-agent", "bench")] {
        head.headers.insert(name, HeaderValue::from_static(value));
    }
    let address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let client = Client { address, port: 1, scheme: Scheme::Https, local_port: 443 };
    Request { head, body: Body::Empty, client, id: RequestId(1), early_hints: None, lines: None }
}

async fn ask_upstream(upstream: &Upstream) -> usize {
    let response = upstream.forward(request()).await;
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.expect("a whole answer").to_bytes().len()
}

fn measure_upstream(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, path: &Path) {
    let address = format!("unix:{}", path.display()).parse().expect("a unix socket");
    let config = UpstreamConfig { address: Some(address), ..UpstreamConfig::default() };
    let upstream = Upstream::new(&config, &Background::default());
    group.bench_function("upstream", |bencher| {
        bencher.iter(|| runtime.block_on(async { black_box(ask_upstream(&upstream).await) }));
    });
}

fn keep_alive(criterion: &mut Criterion, runtime: &Runtime, path: &Path) {
    let mut group = criterion.benchmark_group("proxied 1 KB, keep-alive");
    let mut stream = runtime.block_on(UnixStream::connect(path)).expect("the application listens");
    group.bench_function("direct", |bencher| {
        bencher.iter(|| runtime.block_on(async { black_box(ask_directly(&mut stream).await) }));
    });
    let mut sender = runtime.block_on(connect_hyper(path));
    group.bench_function("bare hyper", |bencher| {
        bencher.iter(|| runtime.block_on(async { black_box(ask_hyper(&mut sender).await) }));
    });
    measure_upstream(&mut group, runtime, path);
}

fn close_each(criterion: &mut Criterion, runtime: &Runtime, path: &Path) {
    let mut group = criterion.benchmark_group("proxied 1 KB, close each");
    group.bench_function("direct", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let mut stream = UnixStream::connect(path).await.expect("the application listens");
                black_box(ask_directly(&mut stream).await)
            })
        });
    });
    group.bench_function("bare hyper", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let mut sender = connect_hyper(path).await;
                black_box(ask_hyper(&mut sender).await)
            })
        });
    });
    measure_upstream(&mut group, runtime, path);
}

fn proxied_request(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let socket = |name: &str| -> PathBuf { folder.path().join(name) };
    start_application(&socket("keep"), Afterwards::KeepAlive);
    start_application(&socket("close"), Afterwards::Close);
    keep_alive(criterion, &runtime, &socket("keep"));
    close_each(criterion, &runtime, &socket("close"));
}

criterion_group!(benches, proxied_request);
criterion_main!(benches);
