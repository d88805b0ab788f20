//! TLS: versions, protocols, certificates, the redirect and strict transport security.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::app::App;
use crate::support::client::{Connection, get};
use crate::support::server::TestServer;

/// A certificate for localhost and its key, as files.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn make(folder: &Path, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let pair = Self { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        fs_err::write(&pair.certificate, made.cert.pem()).unwrap();
        fs_err::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
        pair
    }

    fn table(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
    }

    fn trusting(&self, versions: &[&'static rustls::SupportedProtocolVersion], protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.certificate).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

const LISTEN: &str = "[listen]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\n";

async fn connect(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn both_versions_and_both_protocols_are_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::make(folder.path(), "a");
    let server = TestServer::start(&format!("{LISTEN}{}", pair.table())).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (offered, expected) in [(vec!["h2", "http/1.1"], "h2"), (vec!["http/1.1"], "http/1.1")] {
            let stream = connect(server.tls_address(), pair.trusting(&[version], &offered)).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.alpn_protocol(), Some(expected.as_bytes()));
            assert_eq!(session.protocol_version(), Some(version.version));
        }
        let stream = connect(server.tls_address(), pair.trusting(&[version], &[])).await.unwrap();
        let mut connection = Connection::over(stream);
        connection.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(connection.answer().await.unwrap().text(), "alive\n");
    }
}

#[tokio::test]
async fn of_an_upload_that_is_cut_the_application_gets_what_came_and_then_the_end() {
    const CAME: usize = 300_000;
    let (sender, mut pieces) = tokio::sync::mpsc::unbounded_channel();
    let app = App::new(move |mut connection| {
        let sender = sender.clone();
        async move {
            loop {
                let piece = connection.bytes().await;
                if sender.send(piece.clone()).is_err() || piece.is_empty() {
                    break;
                }
            }
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::make(folder.path(), "a");
    let upstream = format!("[upstream]\naddress = \"{}\"\nstream_requests = [\"/*\"]\n", app.address());
    let server = TestServer::start(&format!("{LISTEN}{}{upstream}", pair.table())).await;
    let stream = connect(server.tls_address(), pair.trusting(&[&rustls::version::TLS13], &[])).await.unwrap();
    let mut connection = Connection::over(stream);
    connection.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n").await;
    let body: String = (0..CAME).map(|n| char::from(b'a' + (n / 7 % 26) as u8)).collect();
    connection.send(&body).await;
    let mut next = async || timeout(Duration::from_secs(10), pieces.recv()).await.unwrap().unwrap();
    let mut all = String::new();
    while !all.ends_with(&format!("\r\n\r\n{body}")) {
        all.push_str(&next().await);
    }
    drop(connection);
    assert_eq!(next().await, "", "the end");
}

#[tokio::test]
async fn an_old_version_is_refused_when_the_operator_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::make(folder.path(), "a");
    let server = TestServer::start(&format!("{LISTEN}{}minimum_version = \"1.3\"\n", pair.table())).await;
    assert!(connect(server.tls_address(), pair.trusting(&[&rustls::version::TLS12], &[])).await.is_err());
    assert!(connect(server.tls_address(), pair.trusting(&[&rustls::version::TLS13], &[])).await.is_ok());
}

#[tokio::test]
async fn a_certificate_that_does_not_match_its_key_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Pair::make(folder.path(), "a"), Pair::make(folder.path(), "b"));
    let mixed = Pair { certificate: a.certificate, key: b.key };
    let error = TestServer::try_start(&format!("{LISTEN}{}", mixed.table())).await.err().expect("a refusal");
    assert!(error.to_string().contains("does not belong to the key"), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn plain_http_is_redirected_with_method_and_query() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::make(folder.path(), "a");
    let server = TestServer::start(&format!("{LISTEN}{}[https]\nport = 443\n", pair.table())).await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("POST /form?a=b%20c HTTP/1.1\r\nHost: Example.com:80\r\nContent-Length: 0\r\n\r\n").await;
    let answer = connection.answer().await.unwrap();
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), Some("https://example.com/form?a=b%20c"));
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[tokio::test]
async fn strict_transport_security_is_sent_over_tls_only() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::make(folder.path(), "a");
    let https = "[https]\nredirect = false\nhsts_max_age = \"365d\"\nhsts_include_subdomains = true\n";
    let server = TestServer::start(&format!("{LISTEN}{}{https}", pair.table())).await;
    let stream = connect(server.tls_address(), pair.trusting(&[&rustls::version::TLS13], &[])).await.unwrap();
    let mut connection = Connection::over(stream);
    connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let answer = connection.answer().await.unwrap();
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000; includeSubDomains"));
    assert_eq!(get(server.address(), "/", "").await.header("strict-transport-security"), None);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_handshake_is_cut_off() {
    let config = format!("{LISTEN}[tls]\nself_signed = true\n[timeouts]\nhandshake = \"50ms\"\n");
    let server = TestServer::start(&config).await;
    let mut connection = Connection::open(server.tls_address()).await;
    assert!(connection.is_closed().await);
}

/// Whoever meets the end of the stream without a word before it cannot know whether something is missing (RFC 8446,
/// section 6.1).
#[tokio::test]
async fn an_idle_connection_ends_with_a_word_of_farewell() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::make(folder.path(), "a");
    let config = format!("{LISTEN}{}[timeouts]\nidle = \"1500ms\"\n", pair.table());
    let server = TestServer::start(&config).await;
    for is_ended_by_client in [false, true] {
        let config = pair.trusting(&[&rustls::version::TLS13], &["http/1.1"]);
        let mut stream = connect(server.tls_address(), config).await.unwrap();
        stream.write_all(b"GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"alive\n") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        if is_ended_by_client {
            stream.shutdown().await.unwrap();
        }
        let end = timeout(Duration::from_secs(20), stream.read(&mut [0])).await.expect("it stays open");
        assert_eq!(end.expect("the farewell"), 0, "ended by the client: {is_ended_by_client}");
    }
}

#[tokio::test]
async fn a_reload_changes_the_certificate_for_new_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Pair::make(folder.path(), "old"), Pair::make(folder.path(), "new"));
    let server = TestServer::start(&format!("{LISTEN}{}", old.table())).await;
    let versions = [&rustls::version::TLS13];
    connect(server.tls_address(), old.trusting(&versions, &[])).await.unwrap();
    server.set_config(&format!("{LISTEN}{}", new.table()));
    server.order(vestibule::serve::Order::Reload).await;
    crate::support::until(|| async { connect(server.tls_address(), new.trusting(&versions, &[])).await.is_ok() }).await;
    assert!(connect(server.tls_address(), old.trusting(&versions, &[])).await.is_err());
}
