//! Static files that are held in memory and are so large that the system sends them by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use vestibule::serve::Order;

use crate::support::client::{Connection, get};
use crate::support::curl;
use crate::support::process::Process;
use crate::support::server::TestServer;
use crate::support::until;

/// More than what the systems of both ends take for a client that reads nothing.
const LENGTH: usize = 8_000_001;

/// Bytes that differ everywhere.
fn large(seed: u32) -> Vec<u8> {
    (0..LENGTH as u32).map(|n| ((n ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Two large files and one that just is, in an order that is not that of their lengths.
fn site() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("a.bin", &large(0)[..]), ("b.bin", &large(1)[..65_536]), ("c.bin", &large(2)[..300_000])] {
        fs_err::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn expected() -> [(&'static str, Vec<u8>); 3] {
    [("a.bin", large(0)), ("b.bin", large(1)[..65_536].to_vec()), ("c.bin", large(2)[..300_000].to_vec())]
}

/// The built program, its plain port and its port for TLS.
fn start(folder: &Path, other: &Path, limit: &str) -> (Process, SocketAddr, SocketAddr) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (other.join("certificate.pem"), other.join("key.pem"));
    fs_err::write(&certificate, made.cert.pem()).unwrap();
    fs_err::write(&key, made.signing_key.serialize_pem()).unwrap();
    let file = other.join("vestibule.toml");
    let text = format!(
        "[listen]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\n[https]\nredirect = false\n\
         [tls]\ncertificate = {certificate:?}\nkey = {key:?}\n\
         [log]\naccess = \"json\"\nformat = \"text\"\n[timeouts]\nsend = \"2s\"\n[static]\ndirectory = {folder:?}\n"
    );
    fs_err::write(&file, text).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit} exec \"$0\" serve --config \"$1\"")]);
    shell.arg(env!("CARGO_BIN_EXE_vestibule")).arg(&file).env_clear();
    let process = Process::start(&mut shell);
    let port = || process.wait_for_line("its port", |line| line.split("127.0.0.1:").nth(1).map(str::to_owned));
    let address = |port: String| {
        let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
        SocketAddr::from(([127, 0, 0, 1], digits.parse().unwrap()))
    };
    let (plain, tls) = (address(port()), address(port()));
    (process, plain, tls)
}

/// How many files in memory a program holds for static ones.
fn places(process: &Process) -> usize {
    let descriptors = fs_err::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
    let links = descriptors.filter_map(|entry| fs_err::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().contains("memfd:vestibule-static")).count()
}

/// A client that has the head of an answer, and whose system takes little more in advance.
async fn beginning(address: SocketAddr) -> Connection<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = Connection::over(socket.connect(address).await.unwrap());
    client.send("GET /static/a.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = client.head().await.expect("a head");
    assert_eq!((head.status, head.header("content-length")), (200, Some("8000001")));
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_arrives_wherever_it_comes_from_and_however_it_goes() {
    let (folder, other) = (site(), tempfile::tempdir().unwrap());
    // Who may write no file has none in memory either, and all of it goes as it does elsewhere.
    for (limit, held) in [("", 1), ("ulimit -f 100;", 0)] {
        let (process, plain, tls) = start(folder.path(), other.path(), limit);
        if cfg!(target_os = "linux") {
            assert_eq!(places(&process), held, "one for all of a folder, with {limit:?}");
        }
        for (name, bytes) in expected() {
            for url in [format!("http://{plain}"), format!("https://{tls}")] {
                for (version, spoken) in [("--http1.1", "HTTP/1.1"), ("--http2-prior-knowledge", "HTTP/2")] {
                    let mut curl = Command::new("curl");
                    curl.args([version, "--insecure", &format!("{url}/static/{name}")]);
                    let answer = curl::Answer::of(&mut curl);
                    assert_eq!((answer.version.as_str(), answer.status), (spoken, 200));
                    assert!(answer.body == bytes, "other bytes of {name} over {spoken} from {url}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_asked_of_a_large_file_comes_and_so_does_what_follows() {
    let folder = site();
    let server = TestServer::start(&format!("[static]\ndirectory = {:?}\n", folder.path())).await;
    let mut client = Connection::open(server.address()).await;
    // All at once, so that one answer waits for the other.
    let mut requests = String::new();
    let ranges = [(0, 65_535), (1, 70_000), (4_095, 5_000_000), (7_999_000, 8_000_000)];
    for (first, last) in ranges {
        requests += &format!("GET /static/a.bin HTTP/1.1\r\nHost: localhost\r\nRange: bytes={first}-{last}\r\n\r\n");
    }
    requests += "HEAD /static/a.bin HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for name in ["c.bin", "a.bin", "b.bin", "missing"] {
        requests += &format!("GET /static/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    client.send(requests).await;
    let [(_, a), (_, b), (_, c)] = expected();
    for (first, last) in ranges {
        let answer = client.answer().await.expect("an answer");
        let place = format!("bytes {first}-{last}/8000001");
        assert_eq!((answer.status, answer.header("content-range")), (206, Some(&*place)));
        assert!(answer.body == a[first..=last], "other bytes of {place}");
    }
    let head = client.answer_to_head().await.expect("an answer");
    assert_eq!((head.status, head.header("content-length")), (200, Some("8000001")));
    for bytes in [c, a.clone(), b] {
        assert!(client.answer().await.expect("an answer").body == bytes, "other bytes");
    }
    assert_eq!(client.answer().await.expect("an answer").status, 404);
    let several = get(server.address(), "/static/a.bin", "Range: bytes=0-99999, 4000000-4099999\r\n").await;
    let holds = |part: &[u8]| several.body.windows(part.len()).any(|bytes| bytes == part);
    assert!(several.status == 206 && holds(&a[..100_000]) && holds(&a[4_000_000..4_100_000]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_answer_that_is_not_taken_only_what_was_sent_is_logged() {
    let (folder, other) = (site(), tempfile::tempdir().unwrap());
    let (process, plain, _) = start(folder.path(), other.path(), "");
    let logged = || {
        process.wait_for_line("the request", |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some((line.get("bytes")?.as_u64()?, line["aborted"] == true))
        })
    };
    assert_eq!(get(plain, "/static/a.bin", "").await.body.len(), LENGTH);
    assert_eq!(logged(), (LENGTH as u64, false));
    // One takes nothing and is cut, the other leaves.
    let waiting = beginning(plain).await;
    let (bytes, is_aborted) = logged();
    assert!(is_aborted && 0 < bytes && bytes < LENGTH as u64, "{bytes} bytes of {LENGTH}");
    drop(waiting);
    drop(beginning(plain).await);
    let (bytes, is_aborted) = logged();
    assert!(is_aborted && 0 < bytes && bytes < LENGTH as u64, "{bytes} bytes of {LENGTH}");
    assert_eq!(get(plain, "/static/b.bin", "").await.body.len(), 65_536);
}

#[tokio::test]
async fn a_reload_changes_nothing_of_an_answer_that_is_on_its_way() {
    let (old, new) = (site(), tempfile::tempdir().unwrap());
    fs_err::write(new.path().join("a.bin"), large(7)).unwrap();
    let config = |folder: &Path| format!("[listen]\nhttp = [\"127.0.0.1:0\"]\n[static]\ndirectory = {folder:?}\n");
    let server = TestServer::start(&config(old.path())).await;
    let mut client = beginning(server.address()).await;
    server.set_config(&config(new.path()));
    server.order(Order::Reload).await;
    drop(old);
    until(|| async { get(server.address(), "/static/c.bin", "").await.status == 404 }).await;
    assert!(client.rest(LENGTH).await.expect("the rest") == large(0), "other bytes than before");
    assert!(get(server.address(), "/static/a.bin", "").await.body == large(7), "the bytes before");
}
