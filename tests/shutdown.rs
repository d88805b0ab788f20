//! SIGTERM: what runs is finished, within a deadline.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;
use vestibule::serve::{Ending, Order};

use crate::support::client::Connection;
use crate::support::server::TestServer;
use crate::support::until;

/// A server before an application that answers only when it is told to.
async fn slow(shutdown: &str) -> (TestServer, UnixListener, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let config =
        format!("[upstream]\naddress = \"unix:{}\"\n[timeouts]\nshutdown = \"{shutdown}\"\n", socket.display());
    (TestServer::start(&config).await, listener, folder)
}

async fn accept(application: &UnixListener) -> UnixStream {
    let accepted = timeout(Duration::from_secs(20), application.accept()).await;
    accepted.expect("the request never came to the application").unwrap().0
}

#[tokio::test]
async fn a_running_request_is_finished_and_no_new_connection_taken() {
    let (server, application, _folder) = slow("20s").await;
    let address = server.address();
    let mut client = Connection::open(address).await;
    client.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut request = accept(&application).await;
    let mut head = [0; 16];
    request.read_exact(&mut head).await.unwrap();
    server.order(Order::Stop).await;
    until(|| async { TcpStream::connect(address).await.is_err() }).await;
    request.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "done"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(server.ended().await, Ending::Drained);
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut_at_the_deadline() {
    let (server, application, _folder) = slow("100ms").await;
    let mut client = Connection::open(server.address()).await;
    client.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let _request = accept(&application).await;
    server.order(Order::Stop).await;
    assert_eq!(server.ended().await, Ending::DeadlinePassed);
}

#[tokio::test]
async fn an_upload_whose_client_has_left_reaches_the_application_whole() {
    let (server, mut request) = left_upload(3 << 20, "20s").await;
    let (ending, came) = tokio::join!(server.ended(), arrived(&mut request));
    assert_eq!((ending, came), (Ending::Drained, 3 << 20));
}

#[tokio::test]
async fn an_upload_whose_client_has_left_is_cut_at_the_deadline() {
    let (server, mut request) = left_upload(3 << 20, "100ms").await;
    assert_eq!(server.ended().await, Ending::DeadlinePassed);
    assert!(arrived(&mut request).await < 3 << 20);
}

/// A server that has been told to stop while a body of this length waits for its application, and the client has gone.
async fn left_upload(length: usize, shutdown: &str) -> (TestServer, UnixStream) {
    let (server, application, _folder) = slow(shutdown).await;
    let mut client = TcpStream::connect(server.address()).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat()).await.unwrap();
    let request = accept(&application).await;
    drop(client);
    // It is noticed within a second. Who has not noticed it would send the rest as well.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.order(Order::Stop).await;
    until(|| async { TcpStream::connect(server.address()).await.is_err() }).await;
    (server, request)
}

/// How much of its body the application gets.
async fn arrived(request: &mut UnixStream) -> usize {
    let mut came = Vec::new();
    request.read_to_end(&mut came).await.unwrap();
    came.len() - 4 - came.windows(4).position(|end| end == b"\r\n\r\n").unwrap()
}

#[tokio::test]
async fn a_second_signal_ends_the_wait() {
    let (server, application, _folder) = slow("1h").await;
    let mut client = Connection::open(server.address()).await;
    client.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let _request = accept(&application).await;
    server.order(Order::Stop).await;
    server.order(Order::Stop).await;
    assert_eq!(server.ended().await, Ending::DeadlinePassed);
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let server = TestServer::start("[timeouts]\nshutdown = \"1h\"\n").await;
    let mut used = Connection::open(server.address()).await;
    used.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(used.answer().await.unwrap().status, 200);
    let mut fresh = Connection::open(server.address()).await;
    server.order(Order::Stop).await;
    assert_eq!(server.ended().await, Ending::Drained);
    assert!(used.is_closed().await);
    assert!(fresh.is_closed().await);
}

#[tokio::test]
async fn a_request_that_is_on_its_way_when_the_server_stops_is_answered() {
    let server = TestServer::start("").await;
    let mut client = Connection::open(server.address()).await;
    client.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().header("connection"), None);
    let address = server.address();
    server.order(Order::Stop).await;
    until(|| async { TcpStream::connect(address).await.is_err() }).await;
    client.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let answer = client.answer().await.expect("the idle connection was closed too soon");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(server.ended().await, Ending::Drained);
}

#[tokio::test]
async fn a_connection_that_never_said_anything_does_not_delay_the_end() {
    let config = "[listen]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\n[tls]\nself_signed = true\n\
                  [timeouts]\nheader = \"1h\"\nhandshake = \"1h\"\nshutdown = \"1h\"\n";
    let server = TestServer::start(config).await;
    let _plain = TcpStream::connect(server.address()).await.unwrap();
    let _tls = TcpStream::connect(server.tls_address()).await.unwrap();
    server.order(Order::Stop).await;
    let ending = timeout(Duration::from_secs(20), server.ended()).await;
    assert_eq!(ending.expect("it waits for a client that says nothing"), Ending::Drained);
}

/// Longer than a connection without a request is kept after the signal.
const PAUSE: Duration = Duration::from_secs(3);

/// A server with one large file, all of it in memory.
async fn with_a_large_file() -> (TestServer, Vec<u8>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs_err::write(folder.path().join("large.bin"), &content).unwrap();
    let server = TestServer::start(&format!("[static]\ndirectory = \"{}\"\n", folder.path().display())).await;
    (server, content, folder)
}

#[tokio::test]
async fn a_slow_download_is_finished_over_http1() {
    let (server, content, _folder) = with_a_large_file().await;
    let mut client = Connection::open(server.address()).await;
    client.send("GET /static/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = client.head().await.unwrap();
    assert_eq!(head.status, 200);
    server.order(Order::Stop).await;
    tokio::time::sleep(PAUSE).await; // the pause is what is tested
    assert!(client.rest(content.len()).await.expect("the download was cut") == content);
    assert_eq!(server.ended().await, Ending::Drained);
}

#[tokio::test]
async fn a_slow_download_is_finished_over_http2() {
    let (server, content, _folder) = with_a_large_file().await;
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://localhost/static/large.bin");
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    server.order(Order::Stop).await;
    tokio::time::sleep(PAUSE).await; // the pause is what is tested
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("the download was cut").to_bytes();
    assert!(body == content);
    drop(sender);
    assert_eq!(server.ended().await, Ending::Drained);
}

/// One frame of HTTP/2: its type, its flags and what it has.
async fn frame(stream: &mut TcpStream) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("a frame");
    let mut content = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut content).await.expect("all of the frame");
    (head[3], head[4], content)
}

/// It says so in frames of its own, and a socket that is closed answers those with a reset.
#[tokio::test]
async fn an_http2_client_may_take_what_is_on_its_way_after_the_end() {
    const LENGTH: usize = 200_000;
    const ALL: u32 = 1 << 20;
    let window_update = |stream: u8| [&[0, 0, 4, 8, 0, 0, 0, 0, stream][..], &ALL.to_be_bytes()].concat();
    let (server, _content, _folder) = with_a_large_file().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut client = socket.connect(server.address()).await.unwrap();
    let range = format!("bytes=0-{}", LENGTH - 1);
    // GET, http, and the names of path, authority and range, of the table of RFC 7541, appendix A.
    let mut fields = vec![0x82, 0x86];
    for (name, value) in [(&[0x04][..], "/static/large.bin"), (&[0x01], "localhost"), (&[0x0f, 0x23], &range)] {
        fields.extend([name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat());
    }
    let head = [&[0, 0, u8::try_from(fields.len()).unwrap(), 1, 0x05, 0, 0, 0, 1][..], &fields].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    client.write_all(&[preface, head].concat()).await.unwrap();
    let mut came = 0;
    while came < 65_535 {
        if let (0, _, content) = frame(&mut client).await {
            came += content.len();
        }
    }
    server.order(Order::Stop).await;
    let ping = loop {
        if let (6, 0, content) = frame(&mut client).await {
            break content;
        }
    };
    client.write_all(&[&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &ping].concat()).await.unwrap();
    client.write_all(&[window_update(0), window_update(1)].concat()).await.unwrap();
    // Now the server sends the rest, more than the client's socket takes, and has nothing more to say.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..3 {
        client.write_all(&window_update(0)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while came < LENGTH {
        if let (0, _, content) = frame(&mut client).await {
            came += content.len();
        }
    }
    let mut farewell = Vec::new();
    client.read_to_end(&mut farewell).await.expect("an end that is no reset");
    drop(client);
    assert_eq!(server.ended().await, Ending::Drained);
}
