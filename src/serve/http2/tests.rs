//! A connection without a socket, and a client of the same library.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::Mutex;

use ::http::{HeaderMap, HeaderValue, Response, StatusCode};
use h2::client::{ResponseFuture, SendRequest};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tower::service_fn;

use super::super::watch::Watched;
use super::*;
use crate::config::values::AccessLog as Form;
use crate::config::{LimitsConfig, TimeoutsConfig};
use crate::http::body::{Body, BodyError, FileSlice};
use crate::http::lines::Lines;
use crate::http::{Client, Scheme};
use crate::layers::access_log::AccessLog;

type Asked = crate::http::Request;

/// The server's end of a connection, whose requests are answered by `answer`.
async fn serve<F>(
    stream: DuplexStream,
    answer: impl Fn(Asked) -> F + Clone + Send + Sync + 'static,
) -> JoinHandle<Result<(), h2::Error>>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (log, _writer) = AccessLog::start(Form::Off).expect("it needs no thread");
    let stack = service_fn(move |request| {
        let (logging, answer) = (log.begin(&request), answer(request));
        Box::pin(async move { Ok::<_, Infallible>(logging.answered(answer.await, Lines::default())) })
            as Pin<Box<dyn Future<Output = _> + Send>>
    });
    let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("a permit");
    let activity = Activity::begin(permit);
    let client = Client { address: None, port: 0, scheme: Scheme::Https, local_port: 443 };
    let requests = Requests { client, is_opaque: false, activity: activity.clone(), linger: Duration::from_secs(10) };
    let bounds = Bounds { limits: LimitsConfig::default(), timeouts: TimeoutsConfig::default() };
    let stream = Watched::new(stream, Bytes::new(), activity.clone());
    let mut connection = Connection::new(stream, stack, requests, &bounds, activity);
    tokio::spawn(async move { poll_fn(|cx| connection.poll_on(cx)).await })
}

/// A client whose streams have windows of this size, and its end of the connection.
async fn connect<F>(
    window: u32,
    answer: impl Fn(Asked) -> F + Clone + Send + Sync + 'static,
) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>)
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (client, server) = tokio::io::duplex(1 << 16);
    serve(server, answer).await;
    let mut builder = h2::client::Builder::new();
    let (sender, connection) =
        builder.initial_window_size(window).handshake(client).await.expect("a connection of HTTP/2");
    (sender, tokio::spawn(connection))
}

const LARGE: u32 = 1 << 20;

async fn get(sender: &mut SendRequest<Bytes>, path: &str) -> ResponseFuture {
    poll_fn(|cx| sender.poll_ready(cx)).await.expect("the connection is open");
    let request = Request::get(format!("https://example.com{path}")).body(()).expect("a sound request");
    sender.send_request(request, true).expect("it goes out").0
}

fn links(hint: &HeaderMap) -> Vec<&str> {
    hint.get_all("link").iter().map(|value| value.to_str().expect("ASCII")).collect()
}

fn hint(link: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("link".parse().expect("a name"), HeaderValue::from_static(link))])
}

/// What came before an answer.
async fn hints(answer: &mut ResponseFuture) -> Vec<Response<()>> {
    let mut hints = Vec::new();
    while let Some(hint) = poll_fn(|cx| answer.poll_informational(cx)).await {
        hints.push(hint.expect("a hint"));
    }
    hints
}

fn said(text: &'static str) -> Response<Body> {
    Response::new(Body::from(text))
}

#[tokio::test]
async fn early_hints_come_before_the_answer_in_their_order() {
    let (mut sender, _client) = connect(LARGE, |mut request: Asked| async move {
        let hints = request.early_hints.take().expect("it can have some");
        let mut fields = hint("</a.css>");
        fields.insert("set-cookie", HeaderValue::from_static("a=1"));
        hints.send(fields);
        tokio::task::yield_now().await;
        hints.send(hint("</b.css>"));
        hints.send(hint("</c.css>"));
        said("answer")
    })
    .await;
    let mut answer = get(&mut sender, "/").await;
    let came = hints(&mut answer).await;
    let statuses: Vec<_> = came.iter().map(|hint| hint.status().as_u16()).collect();
    assert_eq!(statuses, [103; 3]);
    assert_eq!(
        came.iter().flat_map(|hint| links(hint.headers())).collect::<Vec<_>>(),
        ["</a.css>", "</b.css>", "</c.css>"]
    );
    assert!(came.iter().all(|hint| hint.headers().len() == 1), "{came:?}");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-length"], "6");
}

#[tokio::test]
async fn a_hint_comes_while_the_answer_is_still_being_made() {
    let (go_on, told) = oneshot::channel::<()>();
    let told = Arc::new(Mutex::new(Some(told)));
    let (mut sender, _client) = connect(LARGE, move |request: Asked| {
        let told = told.lock().expect("sound").take().expect("one request");
        async move {
            // As from another task than the one that waits for the answer.
            let hints = request.early_hints.expect("it can have some");
            tokio::spawn(async move { hints.send(hint("</a.css>")) });
            told.await.expect("the hint came");
            said("answer")
        }
    })
    .await;
    let mut answer = get(&mut sender, "/").await;
    let hint = poll_fn(|cx| answer.poll_informational(cx)).await.expect("one").expect("a hint");
    assert_eq!(links(hint.headers()), ["</a.css>"]);
    go_on.send(()).expect("it waits");
    assert_eq!(answer.await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_hint_after_the_answer_began_goes_nowhere_and_no_other_request_gets_it() {
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let (mut sender, _client) = connect(LARGE, move |request: Asked| {
        let keep = keep.clone();
        async move {
            if request.head.uri.path() == "/first" {
                *keep.lock().expect("sound") = request.early_hints;
            } else if let Some(hints) = &*keep.lock().expect("sound") {
                EarlyHints::send(hints, hint("</late.css>"));
            }
            said("answer")
        }
    })
    .await;
    for path in ["/first", "/second", "/third"] {
        let mut answer = get(&mut sender, path).await;
        assert!(hints(&mut answer).await.is_empty(), "for {path}");
        let mut body = answer.await.expect("an answer").into_body();
        assert_eq!(body.data().await.expect("a body").expect("all of it"), "answer");
        assert!(body.trailers().await.expect("its end").is_none());
    }
    assert!(kept.lock().expect("sound").is_some());
}

#[tokio::test]
async fn an_answer_without_a_body_is_a_head_only_and_a_small_one_is_one_frame_more() {
    let (mut sender, _client) = connect(LARGE, |request: Asked| async move {
        if request.head.uri.path() == "/empty" { Response::new(Body::Empty) } else { said("small") }
    })
    .await;
    let answer = get(&mut sender, "/empty").await.await.expect("an answer");
    assert!(answer.body().is_end_stream() && !answer.headers().contains_key("content-length"), "{answer:?}");
    assert!(answer.headers().contains_key("date"));
    let mut body = get(&mut sender, "/small").await.await.expect("an answer").into_body();
    assert_eq!(body.data().await.expect("a frame").expect("data"), "small");
    assert!(body.is_end_stream(), "an empty frame follows");
}

#[tokio::test]
async fn a_panic_costs_its_own_stream_only() {
    let (mut sender, _client) = connect(LARGE, |request: Asked| {
        assert_ne!(request.head.uri.path(), "/before");
        async move {
            match request.head.uri.path() {
                "/now" => panic!("on purpose"),
                "/later" => {
                    tokio::task::yield_now().await;
                    panic!("on purpose")
                }
                "/body" => {
                    let never = futures_util::stream::poll_fn(|_| -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
                        panic!("on purpose")
                    });
                    Response::new(Body::stream(StreamBody::new(never)))
                }
                _ => said("answer"),
            }
        }
    })
    .await;
    let waiting = get(&mut sender, "/").await;
    for path in ["/before", "/now", "/later", "/body"] {
        let error = get(&mut sender, path).await.await.expect_err("it is reset");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "for {path}");
    }
    assert_eq!(waiting.await.expect("an answer").status(), 200);
}

/// A body of which the test sends the pieces.
fn channel() -> (mpsc::UnboundedSender<Result<Bytes, BodyError>>, Body) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Result<Bytes, BodyError>>();
    let next = move |cx: &mut Context<'_>| receiver.poll_recv(cx).map(|next| next.map(|one| one.map(Frame::data)));
    (sender, Body::stream(StreamBody::new(futures_util::stream::poll_fn(next))))
}

#[tokio::test]
async fn a_body_that_breaks_off_resets_its_stream() {
    let (pieces, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let (mut sender, _client) = connect(LARGE, move |_| {
        let body = body.lock().expect("sound").take().expect("one request");
        async { Response::new(body) }
    })
    .await;
    pieces.send(Ok(Bytes::from_static(b"half"))).expect("it is read");
    let mut body = get(&mut sender, "/").await.await.expect("a head").into_body();
    assert_eq!(body.data().await.expect("a piece").expect("data"), "half");
    pieces.send(Err("the application is gone".into())).expect("it is read");
    let error = body.data().await.expect("not the end").expect_err("it broke off");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn a_request_whose_client_gives_it_up_or_goes_away_ends_at_once() {
    for goes_away in [false, true] {
        let (begun, mut begins) = mpsc::unbounded_channel();
        let (mut sender, client) = connect(LARGE, move |_| {
            let begun = begun.clone();
            async move {
                let (held, gone) = oneshot::channel::<()>();
                begun.send(gone).expect("the test waits");
                pending::<()>().await;
                drop(held);
                said("never")
            }
        })
        .await;
        let answer = get(&mut sender, "/").await;
        let gone = begins.recv().await.expect("a request");
        let kept = if goes_away {
            client.abort();
            Some(answer)
        } else {
            drop(answer);
            None
        };
        gone.await.expect_err("it was dropped, and nothing said");
        drop(kept);
    }
}

/// What came of a body, how long it took, and why it ended.
async fn take(mut body: RecvStream, pause: Duration) -> (usize, Duration, Option<Reason>) {
    let (mut came, began) = (0, Instant::now());
    loop {
        match body.data().await {
            None => return (came, began.elapsed(), None),
            Some(Err(error)) => return (came, began.elapsed(), error.reason()),
            Some(Ok(piece)) => {
                came += piece.len();
                sleep(pause).await;
                let _ = body.flow_control().release_capacity(piece.len());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_of_a_stream_is_cut_off_and_who_takes_slowly_is_not() {
    let allowed = TimeoutsConfig::default().send.0;
    for (pause, is_cut) in [(allowed - Duration::from_secs(1), false), (allowed * 3, true)] {
        let (mut sender, _server) =
            connect(1000, |_| async { Response::new(Body::from(Bytes::from(vec![b'x'; 19_000]))) }).await;
        let body = get(&mut sender, "/").await.await.expect("a head").into_body();
        let (came, took, reason) = take(body, pause).await;
        match is_cut {
            true => assert_eq!((came, reason), (1000, Some(Reason::CANCEL))),
            false => assert_eq!((came, reason), (19_000, None)),
        }
        assert!(took >= pause, "{took:?}");
    }
}

#[tokio::test]
async fn of_a_file_no_more_than_a_frame_is_read_before_its_client_takes_it() {
    const LENGTH: usize = 40_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file");
    fs_err::write(&path, [b'a'; LENGTH]).expect("a file");
    let opened = path.clone();
    let (mut sender, _client) = connect(1000, move |_| {
        let file = fs_err::File::open(&opened).expect("the file");
        async { Response::new(Body::File(FileSlice::new(file, 0..LENGTH as u64))) }
    })
    .await;
    let mut body = get(&mut sender, "/").await.await.expect("a head").into_body();
    let mut piece = body.data().await.expect("a piece").expect("data");
    // What is read from now on is another file.
    let mut file = fs_err::OpenOptions::new().write(true).open(&path).expect("the file");
    std::io::Write::write_all(&mut file, &[b'b'; LENGTH]).expect("it is written over");
    let mut came = Vec::new();
    loop {
        let _ = body.flow_control().release_capacity(piece.len());
        came.extend_from_slice(&piece);
        match body.data().await {
            Some(next) => piece = next.expect("data"),
            None => break,
        }
    }
    let early = came.iter().filter(|byte| **byte == b'a').count();
    assert!(came.len() == LENGTH && (1000..=16 * 1024).contains(&early), "{early} of {}", came.len());
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_slow_is_no_fault_of_the_client() {
    let (mut sender, _client) = connect(LARGE, |_| async {
        let (pieces, body) = channel();
        tokio::spawn(async move {
            for _ in 0..3 {
                sleep(TimeoutsConfig::default().send.0 * 2).await;
                pieces.send(Ok(Bytes::from_static(b"piece"))).expect("it is read");
            }
        });
        Response::new(body)
    })
    .await;
    let body = get(&mut sender, "/").await.await.expect("a head").into_body();
    let (came, _, reason) = take(body, Duration::ZERO).await;
    assert_eq!((came, reason), (15, None));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_there_any_more_is_noticed() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let server = serve(server, |_| async { pending::<Response<Body>>().await }).await;
    let (mut sender, mut connection) =
        h2::client::handshake::<DuplexStream>(client).await.expect("a connection of HTTP/2");
    let request = Request::get("https://example.com/").body(()).expect("a sound request");
    let _answer = sender.send_request(request, true).expect("it goes out");
    // As long as the client is there, nothing happens.
    assert!(timeout(SILENCE * 10, &mut connection).await.is_err());
    assert!(!server.is_finished());
    let began = Instant::now();
    server.await.expect("no panic").expect("it was closed in peace");
    assert!(began.elapsed() <= SILENCE * 4, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_is_read_as_it_comes_with_its_trailers() {
    let (mut sender, _client) = connect(LARGE, |request: Asked| async move {
        let body = request.body.collect().await.expect("a whole body");
        let trailer = body.trailers().and_then(|trailers| trailers.get("x-sum").cloned());
        let mut response = Response::new(Body::from(Bytes::from(body.to_bytes().len().to_string())));
        response.headers_mut().insert("x-sum", trailer.expect("a trailer"));
        response
    })
    .await;
    let request = Request::post("https://example.com/").body(()).expect("a sound request");
    let (answer, mut body) = sender.send_request(request, false).expect("it goes out");
    // More than the window lets through at once.
    let mut left = 3 * WINDOW as usize;
    while left > 0 {
        body.reserve_capacity(left);
        let room = poll_fn(|cx| body.poll_capacity(cx)).await.expect("it is open").expect("room");
        body.send_data(Bytes::from(vec![b'x'; room.min(left)]), false).expect("it goes out");
        left -= room.min(left);
    }
    let sum = HeaderMap::from_iter([("x-sum".parse().expect("a name"), HeaderValue::from_static("7"))]);
    body.send_trailers(sum).expect("they go out");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.headers()["x-sum"], "7");
    let mut body = answer.into_body();
    assert_eq!(body.data().await.expect("a body").expect("all of it"), (3 * WINDOW).to_string());
}

/// The kinds of frames that are looked for or made here (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("it is short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Reads until a frame of this kind has come, and tells what is in it.
async fn read_to(client: &mut DuplexStream, wanted: u8) -> Vec<u8> {
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).await.expect("a frame");
        let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
        client.read_exact(&mut payload).await.expect("a whole frame");
        assert!(head[3] != GO_AWAY, "{:?}", String::from_utf8_lossy(&payload));
        if head[3] == wanted {
            return payload;
        }
    }
}

#[tokio::test]
async fn an_upload_in_very_small_pieces_may_wait_for_its_reader() {
    const PIECES: usize = 20_000;
    let (go_on, told) = oneshot::channel::<()>();
    let told = Arc::new(Mutex::new(Some(told)));
    let (mut client, server) = tokio::io::duplex(1 << 16);
    serve(server, move |request: Asked| {
        let told = told.lock().expect("sound").take().expect("one request");
        async move {
            told.await.expect("all was sent");
            let body = request.body.collect().await.expect("a whole body").to_bytes();
            Response::new(Body::from(Bytes::from(format!("{} {}", body.len(), body.iter().all(|byte| *byte == b'x')))))
        }
    })
    .await;
    let head = [&[0x83, 0x87, 0x84, 0x41, 11][..], b"example.com"].concat();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("a preface");
    client.write_all(&[frame(SETTINGS, 0, 0, &[]), frame(HEADERS, 4, 1, &head)].concat()).await.expect("a request");
    client.write_all(&frame(DATA, 0, 1, b"x").repeat(PIECES)).await.expect("most of its body");
    // What comes before this has been read when it is answered.
    client.write_all(&frame(PING, 0, 0, &[0; 8])).await.expect("a ping");
    read_to(&mut client, PING).await;
    go_on.send(()).expect("it waits");
    client.write_all(&frame(DATA, 1, 1, b"x")).await.expect("the end");
    read_to(&mut client, HEADERS).await;
    assert_eq!(String::from_utf8_lossy(&read_to(&mut client, DATA).await), format!("{} true", PIECES + 1));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_reads_gets_its_answer_and_ends_without_an_error() {
    let (mut sender, _client) = connect(LARGE, |_| async { said("no, thank you") }).await;
    let request = Request::post("https://example.com/").body(()).expect("a sound request");
    let (answer, mut upload) = sender.send_request(request, false).expect("it goes out");
    upload.send_data(Bytes::from_static(b"some"), false).expect("it goes out");
    let mut body = answer.await.expect("an answer").into_body();
    assert_eq!(body.data().await.expect("a body").expect("all of it"), "no, thank you");
    let reason = poll_fn(|cx| upload.poll_reset(cx)).await.expect("a reason");
    assert_eq!(reason, Reason::NO_ERROR);
}

#[tokio::test]
async fn what_would_follow_connect_is_no_body() {
    let (mut sender, _client) = connect(LARGE, |request: Asked| async move {
        let mut response = said("no");
        *response.status_mut() =
            if request.body.is_end_stream() { StatusCode::METHOD_NOT_ALLOWED } else { StatusCode::OK };
        response
    })
    .await;
    let request = Request::connect("example.com:443").body(()).expect("a sound request");
    let (answer, _upload) = sender.send_request(request, false).expect("it goes out");
    assert_eq!(answer.await.expect("an answer").status(), 405);
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_client_is_not_there_any_more_has_no_end() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (tell, told) = oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let server = serve(server, move |request| {
        let tell = tell.lock().expect("sound").take().expect("one request");
        async move {
            let body: Body = request.body;
            let _ = tell.send(body.collect().await.map(|_| ()).is_err());
            pending::<Response<Body>>().await
        }
    })
    .await;
    let (mut sender, mut connection) =
        h2::client::handshake::<DuplexStream>(client).await.expect("a connection of HTTP/2");
    let request = Request::post("https://example.com/").body(()).expect("a sound request");
    let (_answer, mut body) = sender.send_request(request, false).expect("it goes out");
    body.send_data(Bytes::from_static(b"some"), false).expect("it goes out");
    assert!(timeout(SILENCE, &mut connection).await.is_err());
    // It answers no ping from here on.
    assert!(told.await.expect("the body was read"), "half of it was taken for whole");
    drop(server);
}
