//! A client that sends exactly the bytes it is told, and reads answers one by one.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A test that waits for longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// An HTTP/1.1 connection.
pub(crate) struct Connection<S = TcpStream> {
    stream: BufReader<S>,
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In the order in which they came; names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header that came once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} came more than once");
        first
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends one request over a connection of its own, and closes it.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut connection = Connection::open(address).await;
    connection.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await;
    connection.answer().await.expect("an answer")
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Speaks over a stream that is connected already.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have closed already; then the answer tells.
        let _ = self.stream.get_mut().write_all(bytes.as_ref()).await;
        let _ = self.stream.get_mut().flush().await;
    }

    /// Says that nothing more comes.
    pub(crate) async fn hang_up(&mut self) {
        let _ = self.stream.get_mut().shutdown().await;
    }

    /// The next answer; `None` when the server closed without one.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        timeout(PATIENCE, self.read_answer(false)).await.expect("no answer in time")
    }

    /// The answer to a HEAD request, which announces a body that does not come.
    pub(crate) async fn answer_to_head(&mut self) -> Option<Answer> {
        timeout(PATIENCE, self.read_answer(true)).await.expect("no answer in time")
    }

    /// Whether the server closed, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let read = timeout(PATIENCE, self.stream.read(&mut byte)).await.expect("neither closed nor answered in time");
        matches!(read, Ok(0) | Err(_))
    }

    /// One line, without its end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_until(b'\n', &mut line)).await.expect("no line in time");
        match read {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    /// Status and headers of the next answer.
    pub(crate) async fn head(&mut self) -> Option<Answer> {
        let status = self.line().await?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Answer { status, headers, body: Vec::new() })
    }

    /// So many bytes; `None` when the server closed before.
    pub(crate) async fn rest(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await.expect("not all came in time").ok()?;
        Some(bytes)
    }

    /// One chunk of a chunked body; empty at its end. `None` when the body was cut.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line().await?, 16).ok()?;
        let mut chunk = vec![0; length];
        timeout(PATIENCE, self.stream.read_exact(&mut chunk)).await.expect("no chunk in time").ok()?;
        self.line().await?;
        Some(chunk)
    }

    async fn read_answer(&mut self, without_body: bool) -> Option<Answer> {
        let mut answer = self.head().await?;
        if without_body || answer.status == 304 || answer.status == 204 || answer.status < 200 {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk().await?;
                if chunk.is_empty() {
                    return Some(answer);
                }
                answer.body.extend(chunk);
            }
        }
        match answer.header("content-length").map(|length| length.parse::<usize>().unwrap()) {
            Some(length) => {
                answer.body = vec![0; length];
                self.stream.read_exact(&mut answer.body).await.ok()?;
            }
            None => {
                self.stream.read_to_end(&mut answer.body).await.ok()?;
            }
        }
        Some(answer)
    }
}
