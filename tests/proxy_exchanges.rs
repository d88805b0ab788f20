//! The exchanges of `fixtures/exchanges/proxy`: raw requests, what the client gets for each, and the exact
//! bytes that reach the application. And, whatever the fixtures say: that no request becomes another one,
//! or two.

use loona_hpack::{Decoder, Encoder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::app::App;
use crate::support::client::Connection;
use crate::support::exchange::{Exchange, Group, Outcome, bytes_of, escape, lines_of, unescape};
use crate::support::server::TestServer;
use crate::support::soon;

/// What the next user of a connection sends. It must arrive like this or not at all.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n";

/// Answers with the method and the target that it saw.
async fn echo() -> App {
    App::new(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let said = said(&request);
            let body = if said.starts_with("HEAD ") { "" } else { &said };
            connection.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", said.len())).await;
        }
    })
    .await
}

/// The method and the target of a request.
fn said(request: &str) -> String {
    request.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Sends an exchange over HTTP/1.1 with the next request right behind it, and reads until the end.
/// The last line may be a remark that the client hangs up instead.
async fn over_http1(server: &TestServer, exchange: &Exchange) -> Vec<String> {
    let mut connection = Connection::open(server.address()).await;
    match exchange.sent.split_last() {
        Some((last, sent)) if last == HANGS_UP => {
            connection.send(bytes_of(sent)).await;
            connection.hang_up().await;
        }
        _ => connection.send([&bytes_of(&exchange.sent), NEXT.as_bytes()].concat()).await,
    }
    let mut got = Vec::new();
    let is_head = exchange.sent[0].starts_with("HEAD ");
    loop {
        let answer =
            if is_head && got.is_empty() { connection.answer_to_head().await } else { connection.answer().await };
        let Some(answer) = answer else { break };
        let close = if answer.header("connection") == Some("close") { ", and closes" } else { "" };
        let body = escape(answer.text().trim_end().as_bytes());
        got.push(format!("{} {body}{close}", answer.status).replace(" ,", ","));
    }
    if got.is_empty() {
        got.push("closes without an answer".to_owned());
    }
    got
}

const HANGS_UP: &str = "(and hangs up)";

/// The frames that lines stand for: a line at the margin begins one, and the lines below it are what is in it.
fn frames_of(lines: &[String]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    const TYPES: [&str; 10] = [
        "DATA",
        "HEADERS",
        "PRIORITY",
        "RST_STREAM",
        "SETTINGS",
        "PUSH_PROMISE",
        "PING",
        "GOAWAY",
        "WINDOW_UPDATE",
        "CONTINUATION",
    ];
    let mut frames: Vec<(u8, u8, u32, Vec<u8>)> = Vec::new();
    for line in lines {
        let Some(content) = line.strip_prefix("  ") else {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let kind = TYPES.iter().position(|known| *known == name).unwrap_or_else(|| panic!("no frame: {name}"));
            let stream = words.next().unwrap().parse().unwrap();
            let flag = |word| match word {
                "END_STREAM" => 0x1,
                "END_HEADERS" => 0x4,
                other => panic!("no flag: {other}"),
            };
            frames.push((kind as u8, words.map(flag).sum(), stream, Vec::new()));
            continue;
        };
        let (kind, .., payload) = frames.last_mut().unwrap();
        if matches!(TYPES[usize::from(*kind)], "HEADERS" | "CONTINUATION" | "PUSH_PROMISE") {
            let colon = 1 + content[1..].find(':').unwrap();
            let (mut name, mut value) = (Vec::new(), Vec::new());
            unescape(&content[..colon], &mut name);
            unescape(content[colon + 1..].strip_prefix(' ').unwrap_or_default(), &mut value);
            // Its encoder puts names and values down as they are.
            Encoder::new().encode_into([(&*name, &*value)], payload).unwrap();
        } else {
            unescape(content, payload);
        }
    }
    frames
}

/// A client of HTTP/2 that sends whatever frames it is told.
struct Frames {
    stream: TcpStream,
    decoder: Decoder<'static>,
    /// What came on each stream: the status, the body, and whether it has ended.
    streams: std::collections::BTreeMap<u32, (String, bool)>,
    ending: Option<String>,
}

impl Frames {
    async fn open(server: &TestServer) -> Self {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        Self { stream, decoder: Decoder::new(), streams: Default::default(), ending: None }
    }

    async fn send(&mut self, frames: Vec<(u8, u8, u32, Vec<u8>)>) {
        let mut bytes = Vec::new();
        for (kind, flags, stream, payload) in frames {
            bytes.extend(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
            bytes.extend([kind, flags]);
            bytes.extend(stream.to_be_bytes());
            bytes.extend(payload);
            match kind {
                1 => _ = self.streams.entry(stream).or_default(),
                3 => _ = self.streams.insert(stream, (String::new(), true)),
                _ => {}
            }
        }
        let _ = self.stream.write_all(&bytes).await;
    }

    /// Reads until every stream has ended, or the connection has.
    async fn read(&mut self) {
        while self.ending.is_none() && self.streams.values().any(|(_, has_ended)| !has_ended) {
            if let Err(error) = soon(self.read_frame()).await {
                self.ending = Some(format!("closes: {:?}", error.kind()));
            }
        }
    }

    async fn read_frame(&mut self) -> std::io::Result<()> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).await?;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let code = |at: usize| CODES[u32::from_be_bytes(payload[at..at + 4].try_into().unwrap()) as usize];
        if kind == 7 {
            self.ending = Some(format!("GOAWAY {}", code(4)));
        }
        let Some((text, has_ended)) = self.streams.get_mut(&stream).filter(|(_, has_ended)| !has_ended) else {
            return Ok(());
        };
        match kind {
            0 => *text += &format!(" {}", escape(payload.trim_ascii_end())),
            1 => *text += &String::from_utf8(self.decoder.decode(&payload).unwrap().swap_remove(0).1).unwrap(),
            3 => (*text, *has_ended) = (format!("{text} RST_STREAM {}", code(0)).trim().to_owned(), true),
            _ => return Ok(()),
        }
        *has_ended |= kind <= 1 && flags & 1 == 1;
        Ok(())
    }
}

/// The error codes of RFC 9113, section 7.
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Sends the frames of an exchange, and when all is answered one further request on a stream of its own.
async fn over_http2(server: &TestServer, exchange: &Exchange) -> Vec<String> {
    let mut client = Frames::open(server).await;
    client.send(frames_of(&exchange.sent)).await;
    client.read().await;
    let next = [
        "HEADERS 4001 END_STREAM END_HEADERS",
        "  :method: GET",
        "  :scheme: http",
        "  :authority: example.com",
        "  :path: /next",
    ];
    client.send(frames_of(&next.map(str::to_owned))).await;
    client.read().await;
    let answers = client.streams.into_values().filter(|(text, _)| !text.is_empty()).map(|(text, _)| text);
    answers.chain(client.ending).collect()
}

const KNOWN: &str = "(the client, as it is known to vestibule)\r\n";
const NEXT_SEEN: &str = "GET /next HTTP/1.1\r\nhost: example.com\r\n(the client, as it is known to vestibule)\r\n\r\n";

/// A request that the application saw, with one line for the seven fields by which the client is made known,
/// if they are as they must be.
fn shortened(request: &str) -> String {
    let field = |name: &str| request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let (Some(host), Some(id), Some(start)) = (field("host"), field("x-request-id"), field("x-request-start")) else {
        return request.to_owned();
    };
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(80u16);
    let known = format!(
        "x-real-ip: 127.0.0.1\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\
         x-forwarded-port: {port}\r\nx-forwarded-host: {host}\r\nx-request-id: {id}\r\n\
         x-request-start: {start}\r\n"
    );
    let is_now = start.strip_prefix("t=").is_some_and(|start| start.len() == 13 && start.parse::<u64>().is_ok());
    let is_sound = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && is_now;
    if is_sound { request.replacen(&known, KNOWN, 1) } else { request.to_owned() }
}

/// What the application saw, as lines.
fn lines_seen(requests: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for request in requests.iter().map(|request| shortened(request)) {
        if request == NEXT_SEEN {
            lines.push("(the next request)".to_owned());
            continue;
        }
        if !lines.is_empty() {
            lines.push("(and another)".to_owned());
        }
        lines.extend(lines_of(request.as_bytes()));
    }
    if lines.is_empty() {
        lines.push("(nothing)".to_owned());
    }
    lines
}

/// That no request was smuggled, split or changed in its meaning, whatever the fixture says. What only a
/// confused reader takes for a request of its own asks for `/evil`; what a client makes up has `mallory` in it.
fn check_nothing_slipped_through(title: &str, got: &[String], requests: &[String]) {
    for request in requests {
        check_soundness(title, request);
        let target = said(request);
        assert!(!target.contains("/evil"), "{title}: smuggled: {request:?}");
        let head = request.split("\r\n\r\n").next().unwrap();
        assert!(!head.contains("mallory"), "{title}: the application believes what a client made up: {request:?}");
        assert!(target != "GET /next" || shortened(request) == NEXT_SEEN, "{title}: the next one pays: {request:?}");
    }
    // Each good answer is to a request that the application saw, in the same order: nobody gets another's.
    let answered = got.iter().filter_map(|answer| answer.strip_prefix("200 "));
    let answered = answered.map(|answer| answer.trim_end_matches(", and closes"));
    let answered = answered.filter(|answer| !answer.is_empty() && *answer != "alive");
    let asked =
        requests.iter().map(|request| escape(said(request).as_bytes())).filter(|said| !said.starts_with("HEAD "));
    assert!(answered.eq(asked), "{title}: {got:?} for {requests:?}");
}

/// One request as RFC 9112 has it, with one end, and nothing in it that belongs to another hop.
fn check_soundness(title: &str, request: &str) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let first: Vec<_> = lines.next().unwrap().split(' ').collect();
    let [method, target, "HTTP/1.1"] = first[..] else { panic!("{title}: no request line in {request:?}") };
    assert!(!method.contains(|c: char| c.is_ascii_lowercase() || !c.is_ascii_graphic()), "{title}: {method}");
    assert!(target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()), "{title}: {target}");
    let fields: Vec<_> = lines.map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""))).collect();
    let values = |name| fields.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value).collect::<Vec<_>>();
    for (name, value) in &fields {
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-!#$%&'*+^`|~".contains(&byte));
        assert!(is_name && !name.is_empty(), "{title}: a field called {name:?}");
        assert!(!value.contains(|c: char| c.is_ascii_control() && c != '\t'), "{title}: {name}: {value:?}");
        let ends_here =
            matches!(*name, "te" | "trailer" | "keep-alive" | "proxy-connection" | "expect" | "proxy-authorization");
        assert!(!ends_here, "{title}: {name} does not end here");
    }
    assert_eq!(values("host").len(), 1, "{title}: {request:?}");
    let upgrades = values("upgrade");
    assert!(values("connection") == if upgrades.is_empty() { vec![] } else { vec!["upgrade"] }, "{title}: {request:?}");
    match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([length], []) => assert_eq!(length.parse(), Ok(body.len()), "{title}: {request:?}"),
        ([], ["chunked"]) => {}
        ([], []) => assert_eq!(body, "", "{title}"),
        _ => panic!("{title}: two ends, or a strange one: {request:?}"),
    }
}

#[tokio::test]
async fn every_proxied_exchange_is_as_written_and_nothing_slips_through() {
    for group in Group::all("proxy") {
        // One application for all of the file: what one exchange left on its connections, the next would find.
        let app = echo().await;
        // Nobody shall wait for the rest of a body that does not come.
        let config = format!("[timeouts]\nlinger = \"1ms\"\n[upstream]\naddress = \"{}\"\n", app.address());
        let server = TestServer::start(&config).await;
        let (mut outcomes, mut before) = (Vec::new(), 0);
        for exchange in &group.exchanges {
            let got = match group.name.starts_with("http2") {
                true => over_http2(&server, exchange).await,
                false => over_http1(&server, exchange).await,
            };
            let requests = app.requests().split_off(before);
            before += requests.len();
            check_nothing_slipped_through(&exchange.title, &got, &requests);
            outcomes.push(Outcome { got, seen: lines_seen(&requests) });
        }
        group.settle(outcomes);
    }
}
