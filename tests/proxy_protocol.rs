//! A balancer before the door that hands connections through and says whose they are.

use std::net::Ipv4Addr;
use std::process::Command;

use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::support::app::App;
use crate::support::client::Connection;
use crate::support::curl::Answer;
use crate::support::process::Process;
use crate::support::server::TestServer;

const LISTEN: &str = "[listen]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"localhost:0\"]\n\
                      proxy_protocol = [\"127.0.0.1:0\", \"localhost:0\"]\ntrusted_proxies = [\"127.0.0.1\"]\n";
const TLS: &str = "[tls]\nself_signed = true\n[https]\nredirect = false\n";

/// Answers with the address and the scheme of the client.
async fn app() -> App {
    App::new(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let field = |name: &str| request.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("nobody");
            let said = format!("{} {}", field("x-forwarded-for: "), field("x-forwarded-proto: "));
            connection.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len())).await;
        }
    })
    .await
}

async fn server(app: &App, rest: &str) -> TestServer {
    TestServer::start(&format!("{LISTEN}{TLS}[upstream]\naddress = \"{}\"\n{rest}", app.address())).await
}

/// What version 2 begins with, and a length.
fn version_2(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, kind], &length, rest].concat()
}

#[tokio::test]
async fn the_client_is_the_one_of_whom_the_balancer_speaks() {
    let app = app().await;
    let server = server(&app, "").await;
    let ipv4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
    let with_more = [&ipv4[..], &[0x02, 0, 11], b"example.com", &[0xff, 0xff, 0xff]].concat();
    let mut ipv6 = [0; 36];
    ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    ipv6[15] = 1;
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), "192.0.2.1 http"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n".to_vec(), "2001:db8::1 http"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1 http"),
        (version_2(0x21, 0x11, &ipv4), "192.0.2.1 http"),
        (version_2(0x21, 0x11, &with_more), "192.0.2.1 http"),
        (version_2(0x21, 0x21, &ipv6), "2001:db8::1 http"),
        (version_2(0x20, 0x00, &[]), "127.0.0.1 http"), // the balancer itself
        (version_2(0x21, 0x00, &[]), "127.0.0.1 http"),
    ] {
        // What a client says of itself is not believed: it is not a trusted proxy, whoever connects for it.
        let claims = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n";
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{claims}\r\n");
        for pieces in [vec![[&header, request.as_bytes()].concat()], vec![header.clone(), request.clone().into_bytes()]]
        {
            let mut connection = Connection::open(server.address()).await;
            for piece in pieces {
                connection.send(piece).await;
            }
            assert_eq!(connection.answer().await.unwrap().text(), expected, "for {header:?}");
            // And so it stays, for as long as the connection lives.
            connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            assert_eq!(connection.answer().await.unwrap().text(), expected, "for {header:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_client_is_understood_before_tls_and_without() {
    let app = app().await;
    let server = server(&app, "").await;
    for version in ["--http1.1", "--http2"] {
        for (scheme, address) in [("http", server.address()), ("https", server.tls_address())] {
            let mut curl = Command::new("curl");
            curl.args([version, "--insecure", "--haproxy-protocol", &format!("{scheme}://{address}/")]);
            let answer = tokio::task::spawn_blocking(move || Answer::of(&mut curl)).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, &*format!("127.0.0.1 {scheme}")), "with {version}");
        }
    }
}

#[tokio::test]
async fn what_has_no_sound_header_is_closed_without_an_answer() {
    let app = app().await;
    let server = server(&app, "").await;
    let request = "GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for header in [
        b"".to_vec(),
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n".to_vec(),
        b"PROXY TCP4 localhost localhost 1 2\r\n".to_vec(),
        version_2(0x22, 0x11, &[0; 12]),
        version_2(0x21, 0x11, &[0; 11]),
        version_2(0x21, 0x11, &vec![0; 65_535]),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0], // a TLS handshake
    ] {
        let mut connection = Connection::open(server.address()).await;
        connection.send([&header, request.as_bytes()].concat()).await;
        assert!(connection.is_closed().await, "for {:?}", &header[..header.len().min(40)]);
    }
    let mut connection = Connection::open(server.address()).await;
    connection.send("PROXY TCP4 192.0.2.1").await;
    connection.hang_up().await;
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn nobody_else_can_say_who_the_client_is() {
    let app = app().await;
    let server = server(&app, "").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let mut connection: Connection<TcpStream> = Connection::over(socket.connect(server.address()).await.unwrap());
    connection.send("PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\nGET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_stranger_who_comes_again_and_again_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vestibule.toml");
    let config = "[listen]\nhttp = [\"127.0.0.1:0\"]\nproxy_protocol = [\"127.0.0.1:0\"]\n\
                  trusted_proxies = [\"192.0.2.1\"]\n[log]\nlevel = \"debug\"\nformat = \"text\"\n";
    fs_err::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    let server = Process::start(command.arg("serve").arg("--config").arg(&file).env_clear());
    let port: u16 = server.wait_for_line("its port", |line| {
        line.split("127.0.0.1:").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    });
    for level in ["WARN", "DEBUG", "DEBUG"] {
        let mut connection = Connection::open(([127, 0, 0, 1], port).into()).await;
        assert!(connection.is_closed().await);
        let told = |line: &str| line.contains("closed a connection to an address of").then(|| line.to_owned());
        let line = server.wait_for_line("the stranger", told);
        assert!(line.contains(level) && line.contains("is not in [listen] trusted_proxies"), "{line}");
    }
}

#[tokio::test]
async fn a_header_that_does_not_come_in_time_is_not_waited_for() {
    let app = app().await;
    let server = server(&app, "[timeouts]\nhandshake = \"50ms\"\n").await;
    for begun in ["", "PROXY TCP4 192.0.2.1", "\r\n\r\n\0\r\nQUIT\n"] {
        let mut connection = Connection::open(server.address()).await;
        connection.send(begun).await;
        assert!(connection.is_closed().await, "for {begun:?}");
    }
}

#[tokio::test]
async fn a_balancer_on_a_unix_socket_says_it_too() {
    let app = app().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("door.sock");
    let (at, to) = (path.display(), app.address());
    for (trusted, expected) in [("unix", Some("192.0.2.1 http")), ("10.0.0.1", None)] {
        let config = format!(
            "[listen]\nhttp = [\"unix:{at}\"]\nproxy_protocol = [\"unix:{at}\"]\ntrusted_proxies = [\"{trusted}\"]\n\
             [upstream]\naddress = \"{to}\"\n"
        );
        let server = TestServer::start(&config).await;
        let mut connection = Connection::over(UnixStream::connect(&path).await.unwrap());
        connection.send("PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let answer = connection.answer().await;
        assert_eq!(answer.as_ref().map(|answer| answer.text()), expected, "for {trusted}");
        server.order(vestibule::serve::Order::Stop).await;
        server.ended().await;
    }
}
