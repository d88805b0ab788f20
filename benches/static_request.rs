//! Static requests per second through the whole server, over loopback sockets with keep-alive.
//!
//! Compare with: `benches/choose.rs`, which is the same answer without frame and socket; and with itself
//! before a change. The client shares the machine with the server, so the figures say nothing about
//! another machine.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use vestibule::config::load::load;
use vestibule::config::values::ListenAddress;
use vestibule::serve::{Order, Server};

const CONNECTIONS: u64 = 32;

/// A server on a thread of its own, which serves `folder`.
fn start(folder: &Path) -> (SocketAddr, Runtime, mpsc::Sender<Order>) {
    let file = folder.join("vestibule.toml");
    let text = format!(
        "[listen]\nhttp = [\"127.0.0.1:0\"]\n[static]\ndirectory = {:?}\nmemory = \"4 MiB\"\n[log]\naccess = \"off\"\n",
        folder.join("static")
    );
    fs_err::write(&file, text).expect("a file");
    let read = move || load(Some(&file), [], &[]);
    let loaded = read().expect("a sound configuration");
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime.block_on(Server::bind(loaded, Box::new(read))).expect("a server");
    let (ListenAddress::Tcp { port, .. }, _) = server.addresses().remove(0) else { panic!("a TCP address") };
    let (orders, receiver) = mpsc::channel(1);
    runtime.spawn(server.run(receiver));
    (SocketAddr::from(([127, 0, 0, 1], port)), runtime, orders)
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

/// Sends `count` requests over [`CONNECTIONS`] connections, one at a time on each.
async fn run(address: SocketAddr, request: &[u8], length: usize, count: u64) -> Duration {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(TcpStream::connect(address).await.expect("a connection"));
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
    let (address, server, _orders) = start(folder.path());
    let client = Builder::new_current_thread().enable_all().build().expect("a runtime");

    let mut group = criterion.benchmark_group("static_request");
    for (name, path) in [("4 KB brotli", "small.css"), ("1 MB in memory", "large.bin"), ("8 MB from disk", "disk.bin")]
    {
        let request = request(&format!("/static/{path}"));
        let length = client.block_on(answer_length(address, &request));
        group.throughput(if length < 10_000 { Throughput::Elements(1) } else { Throughput::Bytes(length as u64) });
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let rounded = count.div_ceil(CONNECTIONS) * CONNECTIONS;
                let took = client.block_on(run(address, &request, length, rounded));
                took.mul_f64(count as f64 / rounded as f64)
            });
        });
    }
    group.finish();
    server.shutdown_background();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = requests
}
criterion_main!(benches);
