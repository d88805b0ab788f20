//! One request over a pair of sockets, whose other end does what applications do, and what they should not.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::sending::UNTAKEN;
use super::*;
use crate::http::RequestId;
use crate::http::body::{Body, BodyError};
use crate::upstream::failure::Failure;
use crate::upstream::gather::{Front, Gathered};
use crate::upstream::sent::{Outgoing, READ_AT_ONCE};
use crate::upstream::shared_room::{self, SharedRoom};
use crate::upstream::storage::Storage;

/// How a request fails of which the application takes all, if this comes for an answer, and then the end.
async fn failure_after(answer: &str) -> Failure {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let exchange = exchange(ours);
    let sending = exchange.send((), Bytes::from_static(b"<head>"), Outgoing::nothing(false), A_PAGE, MINUTE);
    let answering = async move {
        theirs.read_exact(&mut [0; 6]).await.unwrap();
        theirs.write_all(answer.as_bytes()).await.unwrap();
    };
    tokio::join!(sending, answering).0.unwrap_err().failure
}

/// A body in memory.
fn gathered(pieces: &[usize]) -> Outgoing {
    let pieces: Vec<_> = pieces.iter().map(|length| Bytes::from(vec![b'x'; *length])).collect();
    let length = pieces.iter().map(|piece| piece.len() as u64).sum();
    let front = Front { pieces, memory: None };
    Outgoing::gathered(Gathered { front, rest: None, length: Some(length) }, None)
}

fn exchange(socket: UnixStream) -> Box<Exchange> {
    speaking(UpstreamProtocol::Http, socket)
}

fn speaking(protocol: UpstreamProtocol, socket: UnixStream) -> Box<Exchange> {
    over(Socket::Left(socket), protocol)
}

fn over(socket: Socket, protocol: UpstreamProtocol) -> Box<Exchange> {
    Exchange::new(socket, protocol, &UpstreamConfig::default(), &Background::default())
}

const A_WHILE: Duration = Duration::from_millis(20);
const MINUTE: Deadlines = Deadlines { response: Duration::from_secs(60), idle: Duration::from_secs(60) };
const A_PAGE: Asked<'_> = Asked { is_head: false, early_hints: None, id: RequestId(1) };

#[tokio::test]
async fn the_first_request_is_written_without_a_turn_of_the_runtime() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let exchange = exchange(UnixStream::from_std(ours).unwrap());
    let sending = exchange.send((), Bytes::from_static(b"<head>"), Outgoing::nothing(false), A_PAGE, MINUTE);
    assert!(sending.now_or_never().is_none());
    theirs.set_nonblocking(true).unwrap();
    let mut arrived = [0; 9];
    let length = io::Read::read(&mut &theirs, &mut arrived).unwrap();
    assert_eq!(&arrived[..length], b"<head>");
}

#[tokio::test]
async fn whatever_comes_on_an_idle_connection_makes_it_useless_at_once() {
    for comes in ["", "X"] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let exchange = exchange(ours);
        assert!(exchange.is_silent());
        theirs.write_all(comes.as_bytes()).await.unwrap();
        drop(theirs);
        assert!(!exchange.is_silent(), "for {comes:?}");
    }
}

#[tokio::test]
async fn what_an_idle_connection_says_as_it_closes_is_no_answer() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let exchange = exchange(ours);
    theirs.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let head = Bytes::from_static(b"<head>");
    let sent = exchange.send((), head.clone(), Outgoing::nothing(false), A_PAGE, MINUTE).await;
    let (exchange, (), _) = sent.unwrap();
    theirs.read_exact(&mut [0; 6]).await.unwrap();
    theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    drop(theirs);
    let unanswered = exchange.send((), head, Outgoing::nothing(false), A_PAGE, MINUTE).await.unwrap_err();
    assert!(unanswered.failure.is_unread(), "{unanswered:?}");
}

/// A body in a file.
fn in_file(length: usize) -> Outgoing {
    let body = Body::stream(Body::from(Bytes::from(vec![b'x'; length])));
    let length = Some(length as u64);
    Outgoing::gathered(Gathered { front: Front::default(), rest: Some(body), length }, None)
}

/// A body that its client sends as we speak.
fn streamed(length: usize) -> Outgoing {
    Outgoing::streamed(Body::stream(Body::from(Bytes::from(vec![b'x'; length]))), Some(length as u64))
}

/// What becomes of a request with a body of 5,000 bytes that is held back, wherever that is, to an application that does
/// this with the connection: the answer's status, or whether nobody read it.
async fn post(application: impl AsyncFn(UnixStream)) -> Result<StatusCode, bool> {
    let mut results = Vec::new();
    for body in [gathered(&[5000]), in_file(5000), streamed(5000)] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sending = exchange(ours).send((), Bytes::from_static(b"<head>"), body, A_PAGE, MINUTE);
        let (result, ()) = tokio::join!(timeout(Duration::from_secs(10), sending), application(theirs));
        results.push(match result.expect("it is answered, or fails") {
            Ok((_, (), head)) => Ok(head.parts.status),
            Err(Unanswered { failure, again }) => {
                let is_there = again.is_some_and(|again| again.body.is_some());
                assert!(is_there || !failure.is_unread(), "it cannot be sent again");
                Err(failure.is_unread())
            }
        });
    }
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    results.remove(0)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_body_that_is_held_back_follows_when_the_head_was_read() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let read = async |socket: &mut UnixStream, length: usize| {
        socket.read_exact(&mut vec![0; length]).await.unwrap();
    };
    let well = async |mut socket: UnixStream| {
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(socket.try_read(&mut [0; 20]).unwrap(), 6, "the head alone");
        read(&mut socket, 5000).await;
        socket.write_all(ANSWER).await.unwrap();
    };
    assert_eq!(post(well).await, Ok(StatusCode::OK));
    let says_go_on = async |mut socket: UnixStream| {
        socket.write_all(INTERIM).await.unwrap();
        tokio::time::sleep(A_WHILE).await;
        read(&mut socket, 5006).await;
        socket.write_all(ANSWER).await.unwrap();
    };
    assert_eq!(post(says_go_on).await, Ok(StatusCode::OK));
    let stopped = async |socket| drop::<UnixStream>(socket);
    assert_eq!(post(stopped).await, Err(true));
    let stopped_late = async |socket| {
        tokio::time::sleep(A_WHILE).await;
        drop::<UnixStream>(socket);
    };
    assert_eq!(post(stopped_late).await, Err(true));
    let killed_in_the_head = async |mut socket: UnixStream| read(&mut socket, 5).await;
    assert_eq!(post(killed_in_the_head).await, Err(true));
    let killed_at_once = async |mut socket: UnixStream| read(&mut socket, 6).await;
    assert_eq!(post(killed_at_once).await, Err(false));
    let killed_before_the_body = async |mut socket: UnixStream| {
        read(&mut socket, 6).await;
        tokio::time::sleep(A_WHILE).await;
    };
    assert_eq!(post(killed_before_the_body).await, Err(false));
    let killed_in_the_body = async |mut socket: UnixStream| read(&mut socket, 7).await;
    assert_eq!(post(killed_in_the_body).await, Err(false));
    let answers_unread = async |mut socket: UnixStream| socket.write_all(ANSWER).await.unwrap();
    assert_eq!(post(answers_unread).await, Ok(StatusCode::OK));
    for answer in [ANSWER, b""] {
        let hangs_up_and_stays = async |mut socket: UnixStream| {
            socket.write_all(answer).await.unwrap();
            let socket = socket.into_std().unwrap();
            socket.shutdown(std::net::Shutdown::Both).unwrap();
            tokio::time::sleep(A_WHILE).await;
        };
        let expected = if answer.is_empty() { Err(false) } else { Ok(StatusCode::OK) };
        assert_eq!(post(hangs_up_and_stays).await, expected);
    }
}

#[tokio::test]
async fn what_may_still_be_read_has_its_body_although_nobody_waits_for_the_answer() {
    const MUCH: usize = 3 << 20;
    let chunked = || Outgoing::streamed(Body::stream(Body::from(Bytes::from(vec![b'x'; 5000]))), None);
    let bodies: [(&dyn Fn() -> Outgoing, usize); 5] = [
        (&chunked, "1388\r\n".len() + 5000 + "\r\n0\r\n\r\n".len()),
        (&|| gathered(&[100_000]), 100_000),
        (&|| gathered(&[MUCH]), MUCH),
        (&|| in_file(MUCH), MUCH),
        (&|| streamed(50_000), 50_000), // of which all has come
    ];
    for (body, length) in bodies {
        for reads_first in [0, 6, 7, 5000] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (exchange, context) = (exchange(ours), format!("{reads_first} of {length}"));
            let background = exchange.background.clone();
            let sending = exchange.send((), Bytes::from_static(b"<head>"), body(), A_PAGE, MINUTE);
            leave_after(sending, async {
                tokio::task::yield_now().await;
                theirs.read_exact(&mut vec![0; reads_first]).await.unwrap();
            })
            .await;
            assert_eq!(background.count(), usize::from(length == MUCH), "{context}");
            let mut came = Vec::new();
            theirs.read_to_end(&mut came).await.unwrap();
            assert_eq!(reads_first + came.len(), 6 + length, "{context}");
            timeout(Duration::from_secs(10), background.closed()).await.unwrap();
        }
    }
}

/// Waits for this, and no longer for the answer.
async fn leave_after<T: std::fmt::Debug>(sending: impl Future<Output = T>, until: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        answer = sending => panic!("there is no answer, and it was {answer:?}"),
        () = until => {}
    }
}

#[tokio::test]
async fn over_tcp_too_a_body_is_sent_whole_although_nobody_waits_for_the_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut theirs, _) = listener.accept().await.unwrap();
    const MUCH: usize = 30 << 20;
    let exchange = over(Socket::Right(ours), UpstreamProtocol::Http);
    let sending = exchange.send((), Bytes::from_static(b"<head>"), in_file(MUCH), A_PAGE, MINUTE);
    leave_after(sending, theirs.read_exact(&mut [0; 8]).map(drop)).await;
    theirs.read_exact(&mut vec![0; MUCH / 2]).await.unwrap();
    // Were the connection closed by now, this would reset it, and what is on its way be lost.
    theirs.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    theirs.read_exact(&mut vec![0; MUCH / 2 - 2]).await.unwrap();
    assert_eq!(theirs.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_reads_no_more_has_a_last_deadline_when_the_client_has_left() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let exchange = exchange(ours);
    let background = exchange.background.clone();
    let deadlines = Deadlines { idle: Duration::from_secs(5), ..MINUTE };
    let sending = exchange.send((), Bytes::from_static(b"<head>"), in_file(3 << 20), A_PAGE, deadlines);
    leave_after(sending, tokio::time::sleep(Duration::from_secs(2))).await;
    assert_eq!(background.count(), 1);
    let left = tokio::time::Instant::now();
    background.closed().await;
    assert_eq!(left.elapsed().as_secs(), 60, "the time of an answer");
}

#[tokio::test(start_paused = true)]
async fn what_was_too_slow_gets_its_body_and_who_stopped_reading_no_more() {
    for (reads_first, idle, whole) in [(0, 60, true), (7, 2, false)] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let exchange = exchange(ours);
        let deadlines = Deadlines { response: Duration::from_secs(5), idle: Duration::from_secs(idle) };
        let sending = exchange.send((), Bytes::from_static(b"<head>"), in_file(3 << 20), A_PAGE, deadlines);
        let (result, ()) = tokio::join!(sending, async {
            theirs.read_exact(&mut vec![0; reads_first]).await.unwrap();
        });
        let failure = result.unwrap_err().failure;
        assert_eq!(matches!(failure, Failure::TooSlow { .. }), whole, "{failure}");
        let mut came = Vec::new();
        theirs.read_to_end(&mut came).await.unwrap();
        assert_eq!(reads_first + came.len() == 6 + (3 << 20), whole, "{} came", came.len());
    }
}

#[tokio::test]
async fn who_answers_before_it_reads_gets_the_whole_body_too_when_the_client_has_left() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let sending = exchange(ours).send((), Bytes::from_static(b"<head>"), in_file(3 << 20), A_PAGE, MINUTE);
    leave_after(sending, tokio::task::yield_now()).await;
    for answer in ["HTTP/1.1 200 OK\r\n\r\nbegin", "more"] {
        theirs.write_all(answer.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut came = Vec::new();
    theirs.read_to_end(&mut came).await.unwrap();
    assert_eq!(came.len(), 6 + (3 << 20));
}

#[tokio::test]
async fn what_a_connection_needs_is_kept_until_the_body_is_sent() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let keep = Arc::new(());
    let sending = exchange(ours).send(keep.clone(), Bytes::from_static(b"<head>"), in_file(3 << 20), A_PAGE, MINUTE);
    leave_after(sending, tokio::task::yield_now()).await;
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&keep), 2);
    theirs.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(Arc::strong_count(&keep), 1);
}

#[tokio::test]
async fn a_body_that_streams_is_read_ahead_while_it_is_held_back() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (sender, mut pieces) = mpsc::channel::<Result<Frame<Bytes>, BodyError>>(1);
    let pieces = StreamBody::new(stream::poll_fn(move |cx| pieces.poll_recv(cx)));
    let body = Outgoing::streamed(Body::stream(pieces), None);
    let send = |length| sender.try_send(Ok(Frame::data(Bytes::from(vec![b'x'; length])))).unwrap();
    let mut sending = Box::pin(exchange(ours).send((), Bytes::from_static(b"<head>"), body, A_PAGE, MINUTE));
    for length in [10, 20_000, 30_000, 20_000, 1] {
        send(length);
        assert!((&mut sending).now_or_never().is_none());
    }
    assert_eq!(sender.capacity(), 0, "the last is beyond what is read ahead");
    theirs.read_exact(&mut [0; 6]).await.unwrap();
    let leaving = async { sender.send(Err("the client has left".into())).await.unwrap() };
    let (result, ()) = tokio::join!(sending, leaving);
    assert!(matches!(result.unwrap_err().failure, Failure::Client(_)));
    let mut came = String::new();
    theirs.read_to_string(&mut came).await.unwrap();
    let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "x".repeat(length));
    assert_eq!(came, [10, 20_000, 30_000, 20_000, 1].map(chunk).concat());
}

#[tokio::test]
async fn a_client_that_leaves_while_its_streamed_body_is_held_back_is_noticed_and_its_body_never_ends() {
    for length in [None, Some(9)] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let pieces = stream::iter([Ok(Frame::data(Bytes::from_static(b"some"))), Err(BodyError::from("it has left"))]);
        let body = Outgoing::streamed(Body::stream(StreamBody::new(pieces)), length);
        let sending = exchange(ours).send((), Bytes::from_static(b"<head>"), body, A_PAGE, MINUTE);
        let failure = timeout(Duration::from_secs(10), sending).await.expect("it is noticed").unwrap_err().failure;
        assert!(matches!(failure, Failure::Client(_)), "{failure}");
        let mut came = String::new();
        theirs.read_to_string(&mut came).await.unwrap();
        assert_eq!(came, "<head>");
    }
}

#[tokio::test]
async fn a_body_that_streams_ends_with_its_client() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let first = stream::once(async { Ok::<_, BodyError>(Frame::data(Bytes::from(vec![b'x'; 1000]))) });
    let body = Outgoing::streamed(Body::stream(StreamBody::new(first.chain(stream::pending()))), Some(9000));
    let sending = exchange(ours).send((), Bytes::from_static(b"<head>"), body, A_PAGE, MINUTE);
    leave_after(sending, theirs.read_exact(&mut [0; 8]).map(drop)).await;
    let mut rest = Vec::new();
    timeout(Duration::from_secs(10), theirs.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest.len(), 998);
}

#[tokio::test]
async fn only_what_is_read_at_once_is_sent_at_once() {
    for (protocol, body, is_whole) in [
        (UpstreamProtocol::Http, gathered(&[READ_AT_ONCE - 6]), true),
        (UpstreamProtocol::Http, gathered(&[READ_AT_ONCE - 5]), false),
        (UpstreamProtocol::Uwsgi, gathered(&[1]), false),
        (UpstreamProtocol::Http, streamed(9), false),
        (UpstreamProtocol::Uwsgi, in_file(9), false),
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let exchange = speaking(protocol, ours);
        let context = format!("{body:?} over {protocol:?}");
        let sending = exchange.send((), Bytes::from_static(b"<head>"), body, A_PAGE, MINUTE);
        let reading = async {
            theirs.read_exact(&mut [0; 6]).await.unwrap();
            theirs.try_read(&mut [0; READ_AT_ONCE]).is_ok()
        };
        let came = tokio::select! {
            biased;
            _ = sending => panic!("there is no answer"),
            came = reading => came,
        };
        assert_eq!(came, is_whole || cfg!(not(target_os = "linux")), "{context}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_nobody_reads_has_the_time_of_an_answer() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let exchange = exchange(ours);
    let deadlines = Deadlines { response: Duration::from_secs(5), ..MINUTE };
    let head = Bytes::from_static(b"<head>");
    let Unanswered { failure, .. } = exchange.send((), head, gathered(&[5000]), A_PAGE, deadlines).await.unwrap_err();
    assert!(matches!(failure, Failure::TooSlow { waited } if waited.as_secs() == 5), "{failure}");
}

#[tokio::test]
async fn more_may_lie_in_a_unix_socket_of_a_long_upload_and_of_no_other() {
    for (announced, is_wide) in [(0, false), (UNTAKEN as u64 / 2, false), (UNTAKEN as u64 / 2 + 1, true)] {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let narrow = sockopt::socket_send_buffer_size(&ours).unwrap();
        let mut exchange = exchange(ours);
        exchange.sent.begin(Bytes::from_static(b"<head>"));
        exchange.follow(Outgoing::streamed(Body::Empty, Some(announced)));
        let wide = sockopt::socket_send_buffer_size(descriptor(&exchange.socket)).unwrap();
        let has_much = narrow >= 2 * UNTAKEN;
        assert_eq!(wide > narrow, is_wide && !has_much, "{announced}: {narrow} became {wide}");
        assert_eq!(exchange.is_wide, is_wide, "{announced}");
    }
}

/// A body in so many shared rooms, and where the first begins.
#[cfg(target_os = "linux")]
fn in_shared_rooms(rooms: usize) -> (Outgoing, *const u8) {
    shared_room::prepare();
    let pieces: Vec<_> = (0..rooms)
        .map(|_| {
            let mut room = SharedRoom::take().unwrap();
            room.spare().fill(b'a');
            room.advance(room.left());
            room.split()
        })
        .collect();
    let (place, length) = (pieces[0].as_ptr(), pieces.iter().map(|piece| piece.len() as u64).sum());
    let front = Front { pieces, memory: Some(Storage::both(&UpstreamConfig::default()).0.memory.share().into()) };
    (Outgoing::gathered(Gathered { front, rest: None, length: Some(length) }, None), place)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_sent_in_place_is_held_until_the_exchange_is_over_and_stays_as_it_is_for_who_reads_late() {
    let _alone = shared_room::ALONE.lock().await;
    for (answer, reads_first) in
        [("Content-Length: 0\r\n\r\n", true), ("Content-Length: 0\r\n\r\n", false), ("\r\n", true)]
    {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let exchange = exchange(ours);
        let (body, place) = in_shared_rooms(1);
        let sending = exchange.send((), Bytes::from_static(b"<head>"), body, A_PAGE, MINUTE);
        let mut body = vec![0; shared_room::SIZE];
        let first = if reads_first { body.len() } else { 1 };
        let answering = async {
            theirs.read_exact(&mut [0; 6]).await.unwrap();
            theirs.read_exact(&mut body[..first]).await.unwrap();
            theirs.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
        };
        let (mut exchange, (), _) = tokio::join!(sending, answering).0.unwrap();
        assert!(exchange.sent.is_done() && exchange.sent.has_outstanding() && exchange.sent.holds_memory());
        exchange.let_go();
        assert!(!exchange.sent.has_outstanding() && !exchange.sent.holds_memory());
        shared_room::fill_again(place, b'b');
        theirs.read_exact(&mut body[first..]).await.unwrap();
        assert!(body.iter().all(|byte| *byte == b'a'), "reads first: {reads_first}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_long_body_in_shared_rooms_arrives_whole_after_its_head() {
    let _alone = shared_room::ALONE.lock().await;
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let exchange = exchange(ours);
    let mut request = vec![0; 6 + 9 * shared_room::SIZE];
    let (body, _) = in_shared_rooms(9);
    let mut sending = Box::pin(exchange.send((), Bytes::from_static(b"<head>"), body, A_PAGE, MINUTE));
    let reading = theirs.read_exact(&mut request);
    tokio::select! {
        biased;
        _ = &mut sending => panic!("there is no answer yet"),
        read = reading => read.unwrap(),
    };
    theirs.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let (exchange, (), _) = sending.await.unwrap();
    assert!(request.starts_with(b"<head>a") && request[6..].iter().all(|byte| *byte == b'a'));
    assert!(exchange.is_reusable() && exchange.sent.has_outstanding());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_body_that_follows_as_its_client_leaves_arrives_as_it_was() {
    let _alone = shared_room::ALONE.lock().await;
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let exchange = exchange(ours);
    let (body, place) = in_shared_rooms(1);
    assert!(exchange.send((), Bytes::from_static(b"<head>"), body, A_PAGE, MINUTE).now_or_never().is_none());
    shared_room::fill_again(place, b'b');
    let mut request = Vec::new();
    theirs.read_to_end(&mut request).await.unwrap();
    assert_eq!(request.len(), 6 + shared_room::SIZE);
    assert!(request[6..].iter().all(|byte| *byte == b'a'));
}

#[tokio::test]
async fn a_body_is_whole_when_all_of_it_has_come() {
    for (answer, whole, left) in [
        ("Content-Length: 4\r\n\r\nbody", Some("body"), ""),
        ("Content-Length: 4\r\n\r\nbody and more", Some("body"), " and more"),
        ("Content-Length: 5\r\n\r\nbody", None, "body"),
        ("\r\nbody", None, "body"), // who knows
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None, "0\r\n\r\n"),
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let exchange = exchange(ours);
        theirs.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
        let head = Bytes::from_static(b"<head>");
        let (mut exchange, (), _) = exchange.send((), head, Outgoing::nothing(false), A_PAGE, MINUTE).await.unwrap();
        let found = exchange.whole().map(|length| exchange.take_whole(length));
        let context = format!("for {answer:?}");
        assert_eq!(found.as_deref(), whole.map(str::as_bytes), "{context}");
        assert_eq!((&*exchange.buffer, exchange.has_ended()), (left.as_bytes(), whole.is_some()), "{context}");
    }
}

#[tokio::test]
async fn the_room_is_held_by_what_fills_it_and_not_by_little() {
    for (length, is_held) in [(1, false), (FILLS_THE_ROOM - 1, false), (FILLS_THE_ROOM, true)] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let exchange = exchange(ours);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        theirs.write_all(head.as_bytes()).await.unwrap();
        let head = Bytes::from_static(b"<head>");
        let (mut exchange, (), _) = exchange.send((), head, Outgoing::nothing(false), A_PAGE, MINUTE).await.unwrap();
        let body = vec![b'x'; length];
        // All of it is there before it is read, as far as the system lets it.
        let written = theirs.try_write(&body).unwrap();
        assert_eq!(written, length, "the system lets less lie in a socket than it does as it comes");
        let place = ROOM.with_borrow(|room| room.as_ptr());
        let piece = poll_fn(|cx| exchange.poll_body(cx)).await.unwrap().unwrap();
        assert_eq!((piece.len(), piece.as_ptr() == place), (length, is_held), "{length}");
    }
}

#[tokio::test]
async fn how_much_of_an_answer_there_was_is_told() {
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    for (answer, told, may_retry) in [
        ("", "without an answer", true),
        ("HTTP/1.1 200 OK\r\nContent-Le", "in the middle of its answer's head", false),
        (HINTS, "after an interim answer (1xx), without the answer itself", false),
        (&HINTS[..30], "in the middle of its answer's head", false),
        (&format!("{HINTS}HTTP/1.1 2"), "in the middle of its answer's head", false),
    ] {
        let failure = failure_after(answer).await;
        assert_eq!(failure.to_string(), format!("the application closed the connection {told}"), "for {answer:?}");
        assert_eq!(failure.may_retry(), may_retry, "for {answer:?}");
    }
}
