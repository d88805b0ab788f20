//! Static requests per second through the whole server, over loopback sockets with keep-alive: in the
//! clear, over TLS, and over HTTP/2 with many requests at once.
//!
//! Compare with: `benches/choose.rs`, which is the same answer without frame and socket; with other
//! servers by `benches/versus`; and with itself before a change. The client shares the machine with the server, so the figures say nothing about
//! another machine.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use vestibule::config::load::load;
use vestibule::config::values::ListenAddress;
use vestibule::serve::{Order, Server};

const CONNECTIONS: u64 = 32;

/// Connections over HTTP/2, and the requests at once on each.
const MULTIPLEXED: (u64, u64) = (4, 32);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A server with one thread, which serves `folder`: its plain and its TLS address.
fn start(folder: &Path) -> ([SocketAddr; 2], Runtime, mpsc::Sender<Order>) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs_err::write(folder.join("certificate.pem"), key.cert.pem()).expect("a file");
    fs_err::write(folder.join("key.pem"), key.signing_key.serialize_pem()).expect("a file");
    let file = folder.join("vestibule.toml");
    let text = format!(
        "[listen]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\n[https]\nredirect = false\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\n[static]\ndirectory = {:?}\nmemory = \"4 MiB\"\n\
         [limits]\nthreads = 1\n[log]\naccess = \"off\"\n",
        folder.join("certificate.pem"),
        folder.join("key.pem"),
        folder.join("static")
    );
    fs_err::write(&file, text).expect("a file");
    let read = move || load(Some(&file), [], &[]);
    let loaded = read().expect("a sound configuration");
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime.block_on(Server::bind(loaded, Box::new(read))).expect("a server");
    let addresses: Vec<_> = server
        .addresses()
        .into_iter()
        .map(|(address, _)| match address {
            ListenAddress::Tcp { port, .. } => SocketAddr::from(([127, 0, 0, 1], port)),
            ListenAddress::Unix(_) => panic!("a TCP address"),
        })
        .collect();
    let (orders, receiver) = mpsc::channel(1);
    runtime.spawn(server.run(receiver));
    (addresses.try_into().expect("two addresses"), runtime, orders)
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip, br\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// The length of a whole answer, which is the same every time.
async fn answer_length(address: SocketAddr, request: &[u8]) -> usize {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let closing = String::from_utf8_lossy(request).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(closing.as_bytes()).await.expect("a request sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..answer.len().min(200)]));
    answer.len() - "connection: close\r\n".len()
}

/// A client's side of TLS that trusts the certificate in `folder`.
fn connector(folder: &Path, protocol: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let file = folder.join("certificate.pem");
    roots.add(CertificateDer::from_pem_file(file).expect("a certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = versions.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn connect(address: SocketAddr, tls: Option<&TlsConnector>) -> Box<dyn Stream> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("an option of TCP");
    match tls {
        None => Box::new(stream),
        Some(tls) => {
            let name = ServerName::try_from("localhost").expect("a name");
            Box::new(tls.connect(name, stream).await.expect("a handshake"))
        }
    }
}

/// Sends `count` requests over a few HTTP/2 connections, many at a time on each.
async fn run_multiplexed(address: SocketAddr, tls: &TlsConnector, path: &str, count: u64) -> Duration {
    let (connections, at_once) = MULTIPLEXED;
    let mut senders: Vec<SendRequest<Empty<bytes::Bytes>>> = Vec::new();
    for _ in 0..connections {
        let stream = TokioIo::new(connect(address, Some(tls)).await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.expect("a connection");
        tokio::spawn(connection);
        senders.push(sender);
    }
    let request = http::Request::get(format!("https://localhost{path}")).body(Empty::new()).expect("a request");
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for sender in senders {
        for _ in 0..at_once {
            let (mut sender, request) = (sender.clone(), request.clone());
            tasks.spawn(async move {
                for _ in 0..count.div_ceil(connections * at_once) {
                    let answer = sender.send_request(request.clone()).await.expect("an answer");
                    assert_eq!(answer.status(), 200);
                    answer.into_body().collect().await.expect("a whole answer");
                }
            });
        }
    }
    tasks.join_all().await;
    began.elapsed()
}

/// Sends `count` requests over [`CONNECTIONS`] connections, one at a time on each.
async fn run(address: SocketAddr, tls: Option<&TlsConnector>, request: &[u8], length: usize, count: u64) -> Duration {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(connect(address, tls).await);
    }
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for mut stream in streams {
        let request = request.to_vec();
        tasks.spawn(async move {
            let mut piece = vec![0; 256 * 1024];
            for _ in 0..count.div_ceil(CONNECTIONS) {
                stream.write_all(&request).await.expect("a request sent");
                let mut left = length;
                while left > 0 {
                    let read = stream.read(&mut piece).await.expect("an answer");
                    assert!(read > 0 && read <= left, "an answer of another length");
                    left -= read;
                }
            }
        });
    }
    tasks.join_all().await;
    began.elapsed()
}

fn requests(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs_err::create_dir(folder.path().join("static")).expect("a folder");
    for (name, length) in [("small.css", 16_000), ("small.css.br", 4096), ("large.bin", 1 << 20), ("disk.bin", 8 << 20)]
    {
        fs_err::write(folder.path().join("static").join(name), vec![b'x'; length]).expect("a file");
    }
    let ([plain, secure], server, _orders) = start(folder.path());
    let client = Builder::new_current_thread().enable_all().build().expect("a runtime");

    let mut group = criterion.benchmark_group("static_request");
    let http1 = connector(folder.path(), "http/1.1");
    for (name, path, tls) in [
        ("4 KB brotli", "small.css", None),
        ("1 MB in memory", "large.bin", None),
        ("8 MB from disk", "disk.bin", None),
        ("4 KB brotli, TLS", "small.css", Some(&http1)),
        ("1 MB in memory, TLS", "large.bin", Some(&http1)),
    ] {
        let address = if tls.is_some() { secure } else { plain };
        let request = request(&format!("/static/{path}"));
        let length = client.block_on(answer_length(plain, &request));
        group.throughput(if length < 10_000 { Throughput::Elements(1) } else { Throughput::Bytes(length as u64) });
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let rounded = count.div_ceil(CONNECTIONS) * CONNECTIONS;
                let took = client.block_on(run(address, tls, &request, length, rounded));
                took.mul_f64(count as f64 / rounded as f64)
            });
        });
    }
    let http2 = connector(folder.path(), "h2");
    group.throughput(Throughput::Elements(1));
    group.bench_function("16 KB, HTTP/2, 32 at once", |bencher| {
        bencher.iter_custom(|count| {
            let at_once = MULTIPLEXED.0 * MULTIPLEXED.1;
            let rounded = count.div_ceil(at_once) * at_once;
            let took = client.block_on(run_multiplexed(secure, &http2, "/static/small.css", rounded));
            took.mul_f64(count as f64 / rounded as f64)
        });
    });
    group.finish();
    server.shutdown_background();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = requests
}
criterion_main!(benches);
