//! A fake application: a script that answers raw bytes, and a record of exactly what arrived.

use std::future::Future;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use vestibule::config::values::UpstreamAddress;
use vestibule::upstream::uwsgi::read_packet;

/// A short answer after which the connection stays open.
pub(crate) const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A running fake application. It ends with the value.
pub(crate) struct App {
    address: UpstreamAddress,
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
    directory: TempDir,
}

/// What arrived.
#[derive(Default)]
struct Record {
    connections: usize,
    requests: Vec<Vec<u8>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One connection to the fake application, as its script sees it.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
    record: Arc<Mutex<Record>>,
    /// The number of this connection, from 0.
    pub(crate) number: usize,
}

impl App {
    /// Speaks HTTP on a unix socket, and runs the script for each connection.
    pub(crate) async fn new<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Connection) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::over_unix("unix", script)
    }

    /// Speaks uwsgi on a unix socket.
    pub(crate) async fn uwsgi<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Connection) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::over_unix("uwsgi+unix", script)
    }

    /// Speaks HTTP on a TCP port.
    pub(crate) async fn tcp<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Connection) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let record = Arc::new(Mutex::new(Record::default()));
        let task = tokio::spawn({
            let record = record.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(script(Connection::new(stream, &record)));
                }
            }
        });
        Self { address, record, task, directory: TempDir::new().unwrap() }
    }

    /// Answers every request with the same bytes, and keeps the connection open.
    pub(crate) async fn answering(raw: impl Into<String>) -> Self {
        let raw = raw.into();
        Self::new(move |mut connection| {
            let raw = raw.clone();
            async move {
                while connection.request().await.is_some() {
                    connection.send(&raw).await;
                }
            }
        })
        .await
    }

    /// Sends these bytes on the first request of each connection, whatever it is, and closes.
    pub(crate) async fn closing_after(raw: impl Into<String>) -> Self {
        let raw = raw.into();
        Self::new(move |mut connection| {
            let raw = raw.clone();
            async move {
                connection.request().await;
                connection.send(&raw).await;
            }
        })
        .await
    }

    fn over_unix<F: Future<Output = ()> + Send + 'static>(
        scheme: &str,
        script: impl Fn(Connection) -> F + Send + Sync + 'static,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let address = format!("{scheme}:{}", path.display()).parse().unwrap();
        let record = Arc::new(Mutex::new(Record::default()));
        let task = tokio::spawn({
            let record = record.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(script(Connection::new(stream, &record)));
                }
            }
        });
        Self { address, record, task, directory }
    }

    /// Where it listens, as `upstream.address` has it.
    pub(crate) fn address(&self) -> &UpstreamAddress {
        &self.address
    }

    /// Takes its socket away: no further connection succeeds.
    pub(crate) fn stop(&self) {
        self.task.abort();
        let _ = fs_err::remove_file(self.directory.path().join("app.sock"));
    }

    /// The whole requests that arrived, byte for byte.
    pub(crate) fn requests(&self) -> Vec<String> {
        let record = self.record.lock().unwrap();
        record.requests.iter().map(|request| String::from_utf8_lossy(request).into_owned()).collect()
    }

    /// The only request that arrived.
    pub(crate) fn request(&self) -> String {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "not one request but {requests:?}");
        requests.into_iter().next().unwrap()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.record.lock().unwrap().connections
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    fn new(stream: impl Stream + 'static, record: &Arc<Mutex<Record>>) -> Self {
        let mut counted = record.lock().unwrap();
        counted.connections += 1;
        let number = counted.connections - 1;
        Self { stream: Box::new(stream), read: Vec::new(), record: record.clone(), number }
    }

    /// Reads and records one whole HTTP request; `None` when there is none.
    pub(crate) async fn request(&mut self) -> Option<String> {
        let head = self.head().await?;
        let lower = head.to_ascii_lowercase();
        let start = head.len();
        if let Some(length) = field(&lower, "content-length") {
            let end = start + length.parse::<usize>().unwrap();
            while self.read.len() < end {
                self.more().await?;
            }
            return Some(self.take(end));
        }
        if field(&lower, "transfer-encoding").is_some() {
            loop {
                if let Some(at) = find(&self.read[start..], b"0\r\n\r\n") {
                    return Some(self.take(start + at + 5));
                }
                self.more().await?;
            }
        }
        Some(self.take(start))
    }

    /// Waits for the head of a request, and records nothing.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                return Some(String::from_utf8_lossy(&self.read[..at + 4]).into_owned());
            }
            self.more().await?;
        }
    }

    /// Reads one uwsgi packet and its body, and records them.
    pub(crate) async fn packet(&mut self) -> Option<(Vec<(String, String)>, String)> {
        let (variables, length) = loop {
            match read_packet(&self.read) {
                Some(packet) => break packet,
                None => self.more().await?,
            }
        };
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let variables: Vec<_> = variables.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        let body = variables.iter().find(|(name, _)| name == "CONTENT_LENGTH").map_or("", |(_, value)| value);
        let end = length + body.parse::<usize>().unwrap_or(0);
        while self.read.len() < end {
            self.more().await?;
        }
        let whole = self.take(end);
        Some((variables, whole[whole.len() - (end - length)..].to_owned()))
    }

    /// Waits until some bytes arrive, and takes what is there; empty at the end.
    pub(crate) async fn bytes(&mut self) -> String {
        if self.read.is_empty() {
            self.more().await;
        }
        let all = std::mem::take(&mut self.read);
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Sends bytes. Whoever has hung up does not get them.
    pub(crate) async fn send(&mut self, raw: &str) {
        let _ = self.stream.write_all(raw.as_bytes()).await;
    }

    /// Waits until the other side hangs up.
    pub(crate) async fn hung_up(&mut self) {
        while self.more().await.is_some() {}
    }

    fn take(&mut self, end: usize) -> String {
        let taken: Vec<u8> = self.read.drain(..end).collect();
        let text = String::from_utf8_lossy(&taken).into_owned();
        self.record.lock().unwrap().requests.push(taken);
        text
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(read) if read > 0 => Some(()),
            _ => None,
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
