//! Several servers behind one application: who is asked, and what clients notice when one of them fails. Nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::UnixListener;
use tokio::sync::Notify;
use vestibule::config::UpstreamConfig;
use vestibule::config::values::{Balance, HumanDuration, ServerConfig};
use vestibule::serve::Order;

use crate::proxy::{Upstream, get as request_for, request, text};
use crate::restarts::Load;
use crate::support::app::{App, HELLO};
use crate::support::client::{Connection, get};
use crate::support::gunicorn::Gunicorn;
use crate::support::server::TestServer;
use crate::support::{soon, until};

fn answering(name: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())
}

/// An application with a server for each, that waits for nobody.
fn servers(apps: &[&App]) -> UpstreamConfig {
    let servers = apps.iter().map(|app| ServerConfig::from(app.address().clone())).collect();
    let keepalive_timeout = HumanDuration::seconds(60);
    UpstreamConfig { servers, keepalive_timeout, hold: HumanDuration::seconds(0), ..UpstreamConfig::default() }
}

/// The same as text, with more options.
fn table(apps: &[&App], options: &str) -> String {
    let addresses: Vec<_> = apps.iter().map(|app| format!("\"{}\"", app.address())).collect();
    format!("[upstream]\nservers = [{}]\n{options}\n", addresses.join(", "))
}

/// What `count` requests of one client are answered with.
async fn names(server: &TestServer, client: &str, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        let answer = get(server.address(), "/", &format!("X-Forwarded-For: {client}\r\n")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        names.push(answer.text().to_owned());
    }
    names
}

#[tokio::test]
async fn servers_take_turns_by_weight_and_each_keeps_its_connections() {
    let (one, other) = (App::answering(answering("one")).await, App::answering(answering("other")).await);
    let mut config = servers(&[&one, &other]);
    config.servers[1].weight = 2;
    let upstream = Upstream::of(&config);
    for _ in 0..9 {
        assert_eq!(upstream.forward(request_for("/")).await.status(), 200);
    }
    assert_eq!((one.requests().len(), other.requests().len()), (3, 6));
    assert_eq!((one.connections(), other.connections()), (1, 1));
}

#[tokio::test]
async fn idle_connections_to_one_server_leave_room_for_those_to_another() {
    let (one, other) = (App::answering(answering("one")).await, App::answering(answering("other")).await);
    let upstream = Upstream::of(&UpstreamConfig { connections: 1.try_into().unwrap(), ..servers(&[&one, &other]) });
    for _ in 0..4 {
        assert_eq!(upstream.forward(request_for("/")).await.status(), 200);
    }
    assert_eq!((one.connections(), other.connections()), (2, 2), "one connection at a time");
}

#[tokio::test]
async fn whoever_refuses_is_left_out_and_its_requests_go_to_another() {
    let (one, other) = (App::answering(answering("one")).await, App::answering(answering("other")).await);
    one.stop();
    let upstream = Upstream::of(&servers(&[&one, &other]));
    for method in ["GET", "POST", "POST"] {
        let response = upstream.forward(request(method, "/", &[], vestibule::http::body::Body::Empty)).await;
        assert_eq!(text(response).await, (200, "other".into()));
    }
}

#[tokio::test]
async fn what_somebody_may_have_read_goes_to_another_only_if_that_does_no_harm() {
    for (method, expected) in [("GET", 200), ("POST", 502)] {
        let dying = App::closing_after("").await;
        let well = App::answering(HELLO).await;
        let upstream = Upstream::of(&servers(&[&dying, &well]));
        let response = upstream.forward(request(method, "/", &[], vestibule::http::body::Body::Empty)).await;
        assert_eq!(response.status(), expected, "for {method}");
        // It has failed, so the next request does not meet it.
        let response = upstream.forward(request(method, "/", &[], vestibule::http::body::Body::Empty)).await;
        assert_eq!(response.status(), 200, "for {method}");
        assert_eq!(dying.connections(), 1);
    }
}

#[tokio::test]
async fn what_failed_at_the_server_of_its_client_goes_to_another() {
    let (dying, well) = (App::closing_after("").await, App::answering(HELLO).await);
    let config = UpstreamConfig { balance: Balance::ClientAddress, max_fails: 0, ..servers(&[&dying, &well]) };
    let upstream = Upstream::of(&config);
    for client in 1..=20 {
        let mut request = request_for("/");
        request.client.address = Some([192, 0, 2, client].into());
        assert_eq!(upstream.forward(request).await.status(), 200, "for client {client}");
    }
    assert!(dying.connections() > 0, "it is left out for nothing");
}

#[tokio::test]
async fn a_request_that_ends_workers_does_not_go_through_all_of_them() {
    let apps = [App::closing_after("").await, App::closing_after("").await, App::closing_after("").await];
    let upstream = Upstream::of(&servers(&[&apps[0], &apps[1], &apps[2]]));
    assert_eq!(upstream.forward(request_for("/")).await.status(), 502);
    assert_eq!(apps.iter().map(App::connections).sum::<usize>(), 2);
}

#[tokio::test]
async fn what_nobody_read_goes_to_each_server_though_nothing_is_waited_for() {
    // Each closes its connections before it reads a byte of them.
    let closing = || App::new(|_connection| async {});
    let (one, two, three) = (closing().await, closing().await, App::answering(HELLO).await);
    let upstream = Upstream::of(&servers(&[&one, &two, &three]));
    let response = upstream.forward(request("POST", "/", &[], vestibule::http::body::Body::Empty)).await;
    assert_eq!(response.status(), 200);
    assert_eq!([&one, &two, &three].map(App::connections), [1, 1, 1]);
}

/// Answers with its name until it is `dead`: from then on it hangs up on whatever it has read.
async fn mortal(name: &'static str, is_dead: &Arc<AtomicBool>) -> App {
    let is_dead = is_dead.clone();
    App::new(move |mut connection| {
        let is_dead = is_dead.clone();
        async move {
            while connection.request().await.is_some() && !is_dead.load(Ordering::Relaxed) {
                connection.send(&answering(name)).await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_servers_dies_in_the_middle_and_no_reader_sees_an_error() {
    let (is_dead, never) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let (dying, well) = (mortal("dying", &is_dead).await, mortal("well", &never).await);
    let server = TestServer::start(&table(&[&dying, &well], "hold = 0")).await;
    let (address, answered) = (server.address(), Arc::<AtomicUsize>::default());
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let answered = answered.clone();
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                for _ in 0..200 {
                    connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                    assert_eq!(connection.answer().await.unwrap().status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until(|| async { answered.load(Ordering::Relaxed) > 300 }).await;
    is_dead.store(true, Ordering::Relaxed);
    dying.stop();
    for client in clients {
        client.await.unwrap();
    }
    assert!(!dying.requests().is_empty() && well.requests().len() > 600);
}

#[tokio::test]
async fn several_servers_over_uwsgi() {
    let serving = || {
        App::uwsgi(|mut connection| async move {
            connection.packet().await;
            connection.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
        })
    };
    let (one, other, gone) = (serving().await, serving().await, serving().await);
    gone.stop();
    let upstream = Upstream::of(&servers(&[&one, &gone, &other]));
    for _ in 0..6 {
        assert_eq!(text(upstream.forward(request_for("/")).await).await, (200, "hello".into()));
    }
    assert_eq!((one.connections(), other.connections()), (3, 3));
}

#[tokio::test]
async fn a_name_is_resolved_and_its_addresses_are_tried_in_turn() {
    // On most systems it has ::1 as well, where nobody listens.
    let app = App::tcp(|mut connection| async move {
        connection.request().await;
        connection.send(HELLO).await;
    })
    .await;
    let address = app.address().to_string().replace("127.0.0.1", "localhost").parse().unwrap();
    let upstream =
        Upstream::new(&address, &UpstreamConfig { hold: HumanDuration::seconds(0), ..UpstreamConfig::default() });
    for _ in 0..3 {
        assert_eq!(upstream.forward(request_for("/")).await.status(), 200);
    }
}

#[tokio::test]
async fn with_both_servers_down_requests_wait_until_one_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let address = |name: &str| format!("unix:{}", path(name).display());
    let config = |hold: &str| {
        format!("[upstream]\nservers = [{:?}, {:?}]\nhold = \"{hold}\"\n", address("one.sock"), address("other.sock"))
    };
    let impatient = TestServer::start(&config("10ms")).await;
    let answer = get(impatient.address(), "/", "").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(get(impatient.address(), "/-/ready", "").await.status, 503);

    let server = TestServer::start(&config("60s")).await;
    let mut waiting = Connection::open(server.address()).await;
    waiting.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    // The first that comes back has it; the other one stays away.
    until(|| async { get(server.address(), "/-/ready", "").await.status == 503 }).await;
    let listener = UnixListener::bind(path("other.sock")).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                if stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    stream.write_all(HELLO.as_bytes()).await.unwrap();
                }
            });
        }
    });
    assert_eq!(waiting.answer().await.unwrap().status, 200);
    until(|| async { get(server.address(), "/-/ready", "").await.status == 200 }).await;
}

const TRUSTED: &str = "[listen]\nhttp = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"127.0.0.1\"]\n";

#[tokio::test]
async fn a_client_stays_with_its_server_and_moves_only_when_it_drains() {
    let apps = [
        App::answering(answering("a")).await,
        App::answering(answering("b")).await,
        App::answering(answering("c")).await,
    ];
    let [a, b, c] = &apps;
    let text = format!("{TRUSTED}{}", table(&[a, b, c], "balance = \"client_address\""));
    let server = TestServer::start(&text).await;
    let clients: Vec<_> = (1..=60).map(|n| format!("192.0.2.{n}")).collect();
    let mut homes = Vec::new();
    for client in &clients {
        let found = names(&server, client, 3).await;
        assert_eq!(found, [&*found[0]; 3], "for {client}");
        homes.push(found[0].clone());
    }
    assert_eq!(homes.iter().collect::<BTreeSet<_>>().len(), 3, "{homes:?}");
    let drained = format!("{{ address = \"{}\", state = \"drain\" }}", b.address());
    server.set_config(&text.replace(&format!("\"{}\"", b.address()), &drained));
    server.order(Order::Reload).await;
    let of_b = clients.iter().zip(&homes).find(|(_, home)| *home == "b").unwrap().0;
    until(|| async { names(&server, of_b, 1).await[0] != "b" }).await;
    for (client, home) in clients.iter().zip(&homes) {
        let now = &names(&server, client, 1).await[0];
        assert!(if home == "b" { now != "b" } else { now == home }, "{client} was with {home} and is with {now}");
    }
}

#[tokio::test]
async fn what_a_server_has_when_it_drains_goes_on() {
    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = App::new({
        let (arrived, go_on) = (arrived.clone(), go_on.clone());
        move |mut connection| {
            let (arrived, go_on) = (arrived.clone(), go_on.clone());
            async move {
                connection.request().await;
                arrived.notify_one();
                go_on.notified().await;
                connection.send(&answering("slow")).await;
            }
        }
    })
    .await;
    let other = App::answering(answering("other")).await;
    let server = TestServer::start(&table(&[&slow], "[health]\nlive = \"/-/before\"")).await;
    let mut running = Connection::open(server.address()).await;
    running.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    soon(arrived.notified()).await;
    let drained = format!("{{ address = \"{}\", state = \"drain\" }}", slow.address());
    let text = table(&[&slow, &other], "").replace(&format!("\"{}\"", slow.address()), &drained);
    server.set_config(&format!("[listen]\nhttp = [\"127.0.0.1:0\"]\n{text}"));
    server.order(Order::Reload).await;
    // What was answered here before is for the application now.
    until(|| async { get(server.address(), "/-/before", "").await.text() == "other" }).await;
    go_on.notify_one();
    assert_eq!(running.answer().await.unwrap().text(), "slow");
    assert_eq!(slow.connections(), 1);
}

/// Answers health checks as `is_well` says, and everything else with its name.
async fn checked(name: &'static str, is_well: &Arc<AtomicBool>, checks: &Arc<AtomicUsize>) -> App {
    let (is_well, checks) = (is_well.clone(), checks.clone());
    App::new(move |mut connection| {
        let (is_well, checks) = (is_well.clone(), checks.clone());
        async move {
            while let Some(request) = connection.request().await {
                let lower = request.to_ascii_lowercase();
                if !lower.starts_with("get /health/?full=1 ") {
                    connection.send(&answering(name)).await;
                    continue;
                }
                checks.fetch_add(1, Ordering::Relaxed);
                let is_believed = lower.contains("\r\nhost: example.com\r\n")
                    && lower.contains("\r\nx-forwarded-proto: https\r\n")
                    && is_well.load(Ordering::Relaxed);
                let status = if is_believed { "204 No Content" } else { "500 Oops" };
                connection.send(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_server_that_fails_its_check_gets_nothing_until_it_is_well() {
    let wells = [Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false))];
    let checks = Arc::new(AtomicUsize::new(0));
    let (one, other) = (checked("one", &wells[0], &checks).await, checked("other", &wells[1], &checks).await);
    let options = "check_path = \"/health/?full=1\"\ncheck_status = [200, 204]\ncheck_interval = \"10ms\"\n\
                   [hosts]\nallowed = [\"*\", \"example.com\"]";
    let server = TestServer::start(&table(&[&one, &other], options)).await;
    until(|| async { get(server.address(), "/-/ready", "").await.status == 200 }).await;
    let is_all = |name: &'static str| {
        let server = &server;
        async move { names(server, "", 4).await.iter().all(|found| found == name) }
    };
    until(|| is_all("one")).await;
    for (one, other, expected) in [(true, true, None), (false, true, Some("other"))] {
        wells[0].store(one, Ordering::Relaxed);
        wells[1].store(other, Ordering::Relaxed);
        match expected {
            Some(name) => until(|| is_all(name)).await,
            None => until(|| async { names(&server, "", 2).await.iter().collect::<BTreeSet<_>>().len() == 2 }).await,
        }
        assert_eq!(get(server.address(), "/-/ready", "").await.status, 200);
    }
    wells[1].store(false, Ordering::Relaxed);
    until(|| async { get(server.address(), "/-/ready", "").await.status == 503 }).await;
    // With nobody left, all are asked: an answer is better than none.
    assert_eq!(names(&server, "", 4).await.iter().collect::<BTreeSet<_>>().len(), 2);
}

#[tokio::test]
async fn checks_go_on_through_a_reload_and_end_with_their_server() {
    let is_well = Arc::new(AtomicBool::new(true));
    let counts = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let (stays, goes) = (checked("stays", &is_well, &counts[0]).await, checked("goes", &is_well, &counts[1]).await);
    let options = "check_path = \"/health/?full=1\"\ncheck_host = \"example.com\"\ncheck_status = [204]\ncheck_interval = \"10ms\"";
    let server = TestServer::start(&table(&[&stays, &goes], options)).await;
    let count = |which: usize| counts[which].load(Ordering::Relaxed);
    until(|| async { count(0) > 2 && count(1) > 2 }).await;
    let text = table(&[&stays], options).replace("[upstream]", "[listen]\nhttp = [\"127.0.0.1:0\"]\n[upstream]");
    server.set_config(&text);
    server.order(Order::Reload).await;
    until(|| async { names(&server, "", 2).await == ["stays", "stays"] }).await;
    until(|| async {
        let (before, its) = (count(1), count(0));
        until(|| async { count(0) > its + 3 }).await;
        count(1) == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_real_servers_stops_under_load_and_no_client_sees_an_error() {
    for flags in [
        &["--workers", "1", "--worker-class", "sync"][..],
        &["--workers", "1", "--worker-class", "gthread", "--threads", "4", "--keep-alive", "5"],
    ] {
        let mut gunicorns = vec![Gunicorn::start(flags), Gunicorn::start(flags)];
        let addresses: Vec<_> = gunicorns.iter().map(Gunicorn::address).collect();
        // Nothing waits, so it is the other server that has the requests. One that is back is soon tried again.
        let text = format!("[upstream]\nservers = {addresses:?}\nhold = 0\nfail_timeout = \"1s\"\n");
        let server = TestServer::start(&text).await;
        let pids = || async {
            let answers = [get(server.address(), "/", "").await, get(server.address(), "/", "").await];
            answers
                .iter()
                .filter(|answer| answer.status == 200)
                .map(|answer| answer.text().to_owned())
                .collect::<BTreeSet<_>>()
        };
        let both_answer = || async { until(|| async { pids().await.len() == 2 }).await };
        both_answer().await;
        let load = Load::on(server.address());
        for _ in 0..4 {
            load.answers(100).await;
            let mut gunicorn = gunicorns.remove(0);
            gunicorn = tokio::task::spawn_blocking(move || {
                gunicorn.stop();
                gunicorn
            })
            .await
            .unwrap();
            load.answers(100).await;
            gunicorn.start_again();
            gunicorns.push(gunicorn);
            both_answer().await;
        }
        let results = load.end().await;
        let failed: Vec<_> = results.iter().filter(|(_, status)| *status != 200).collect();
        assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), results.len());
        let notes: Vec<_> =
            gunicorns.iter().flat_map(Gunicorn::notes).filter(|note| note.starts_with("POST")).collect();
        assert_eq!(notes.len(), notes.iter().collect::<BTreeSet<_>>().len(), "a POST was done twice");
        assert_eq!(notes.len(), results.iter().filter(|(note, _)| note.starts_with("POST")).count());
    }
}
