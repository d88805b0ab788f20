//! The servers of an application: which one is asked, and what follows from how it went.
//!
//! Who is left out for its failures, and who fails its health checks, comes after all others, and is not given up:
//! while there is no better one it is asked, for a server that is not well may still answer. With one server there is
//! nothing to decide, and nothing is counted but what it has in use.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::{info, warn};

use super::balance::{self, Reluctance, Set, Turns};
use super::connect::{self, Socket};
use super::failure::{Failure, innermost};
use super::standing::{Checked, Patience, Standing};
use crate::config::UpstreamConfig;
use crate::config::values::{Balance, ServerConfig, ServerState, UpstreamAddress, UpstreamProtocol};

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    /// Its place among the servers of the application.
    pub(super) number: usize,
    pub(super) address: Arc<UpstreamAddress>,
    pub(super) standing: Arc<Standing>,
    weight: u32,
    state: ServerState,
    /// The hash of its address.
    hash: u64,
    /// What the access log calls it.
    pub(super) name: Arc<str>,
    /// Which of the addresses of its name is next.
    turn: AtomicUsize,
}

/// All of them; there is at least one that does not drain.
#[derive(Debug)]
pub(super) struct Servers {
    list: Vec<Arc<Server>>,
    balance: Balance,
    turns: Mutex<Turns>,
    patience: Patience,
    /// Whether health checks are made.
    are_checked: bool,
    connect_timeout: Duration,
}

/// A request's hold on a server, for as long as it takes.
#[derive(Debug)]
pub(super) struct InUse {
    pub(super) server: Arc<Server>,
}

impl InUse {
    fn of(server: &Arc<Server>) -> Self {
        server.standing.in_use.fetch_add(1, Ordering::Relaxed);
        Self { server: Arc::clone(server) }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.server.standing.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    fn new(number: usize, config: &ServerConfig, known: &[&Self]) -> Self {
        let standing = known.iter().find(|server| *server.address == config.address);
        let name = config.address.to_string();
        let digest = Sha256::digest(&name);
        Self {
            number,
            address: Arc::new(config.address.clone()),
            standing: standing.map(|server| Arc::clone(&server.standing)).unwrap_or_default(),
            weight: config.weight,
            state: config.state,
            hash: digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte)),
            name: name.into(),
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn drains(&self) -> bool {
        self.state == ServerState::Drain
    }

    /// Opens a connection, or says why that cannot be done within `limit`.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Socket, Failure> {
        connect::connect(&self.address.endpoint, limit, self.turn.fetch_add(1, Ordering::Relaxed)).await
    }
}

impl Servers {
    /// What is known of servers that are among `known` stays known.
    pub(super) fn new(config: &UpstreamConfig, known: &[&Server]) -> Self {
        let list: Vec<_> = config.all_servers().iter().enumerate().map(|(n, one)| Server::new(n, one, known)).collect();
        Self {
            turns: Mutex::new(Turns::of(list.len())),
            list: list.into_iter().map(Arc::new).collect(),
            balance: config.balance,
            patience: Patience::of(config),
            are_checked: config.check_path.is_some(),
            connect_timeout: config.connect_timeout.0,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.list.iter()
    }

    /// The only one, if there is one only.
    pub(super) fn only(&self) -> Option<&Server> {
        match &self.list[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// What all of them speak.
    pub(super) fn protocol(&self) -> UpstreamProtocol {
        self.list[0].address.protocol
    }

    /// Whether there is one that may be asked and is not among these.
    pub(super) fn has_another(&self, asked: Set) -> bool {
        self.iter().any(|server| !server.drains() && !asked.has(server.number))
    }

    /// The server whose turn it is, of those that have not `refused` a connection; one that was `asked` already has
    /// failed this request, and comes after others.
    pub(super) fn choose(&self, client: Option<IpAddr>, asked: Set, refused: Set) -> Option<InUse> {
        if let [only] = &self.list[..] {
            return (!refused.has(0)).then(|| InUse::of(only));
        }
        let now = Instant::now();
        let possible = self.iter().filter(|server| !server.drains() && !refused.has(server.number));
        let among = balance::foremost(possible.map(|server| {
            let is_ill = self.are_checked && server.standing.checked() == Checked::Ill;
            let is_out = is_ill || server.standing.is_out(now, self.patience);
            let (was_asked, is_backup) = (asked.has(server.number), server.state == ServerState::Backup);
            (server.number, Reluctance { is_out, was_asked, is_backup })
        }));
        let server = &self.list[self.pick(among, client)?];
        server.standing.ask(now, self.patience);
        Some(InUse::of(server))
    }

    fn pick(&self, among: Set, client: Option<IpAddr>) -> Option<usize> {
        let weight = |number: usize| self.list[number].weight;
        let among = match (self.balance, client) {
            // A client without an address, on a unix socket, is bound to nobody.
            (Balance::ClientAddress, Some(client)) => {
                let server = |number: usize| (self.list[number].hash, weight(number));
                return balance::bound(among, balance::client_key(client), server);
            }
            (Balance::LeastConnections, _) => balance::fewest(among, |number| {
                (self.list[number].standing.in_use.load(Ordering::Relaxed), weight(number))
            }),
            _ => among,
        };
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).next(among, weight)
    }

    /// Connects to this server, or to the next that takes the connection. If none does, the failure is one that waiting
    /// may not mend, if there is one.
    pub(super) async fn connect(
        &self,
        first: Option<InUse>,
        client: Option<IpAddr>,
        asked: Set,
    ) -> Result<(InUse, Socket), Failure> {
        // Where two say nothing, no more are asked: the request has waited long enough.
        let enough = Instant::now() + self.connect_timeout * 2;
        let (mut refused, mut outcome) = (Set::default(), None);
        let mut next = first.or_else(|| self.choose(client, asked, refused));
        while let Some(chosen) = next {
            match chosen.server.connect(self.connect_timeout).await {
                Ok(socket) => return Ok((chosen, socket)),
                Err(failure) => {
                    self.failed(&chosen.server, &failure);
                    refused.add(chosen.server.number);
                    outcome = outcome.filter(|before: &Failure| !before.is_absence()).or(Some(failure));
                }
            }
            next = if Instant::now() < enough { self.choose(client, asked, refused) } else { None };
        }
        Err(outcome.expect("there is a server that does not drain"))
    }

    /// Whether one of them accepts a connection, those first that have not failed lately. It is no request: nobody's turn
    /// is over, and it does not try a server for others.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let now = Instant::now();
        let mut list: Vec<_> = self.iter().filter(|server| !server.drains()).collect();
        list.sort_by_key(|server| server.standing.is_out(now, self.patience));
        let (mut outcome, enough) = (None, now + self.connect_timeout * 2);
        for server in list {
            if Instant::now() >= enough {
                break;
            }
            match server.connect(self.connect_timeout).await {
                Ok(_) => return Ok(()),
                Err(failure) => outcome = Some(failure),
            }
        }
        Err(outcome.expect("there is a server that does not drain"))
    }

    /// Counts a failure, if it is the server's.
    pub(super) fn failed(&self, server: &Server, failure: &Failure) {
        if self.only().is_some() || !failure.is_servers_fault() {
            return;
        }
        if server.standing.fail(Instant::now(), self.patience) {
            let (socket, cause) = (&server.address, std::error::Error::source(failure).map(innermost));
            warn!(%socket, cause, "a server is left out for [upstream] fail_timeout: {failure}");
        }
    }

    /// Notes that a server has answered.
    pub(super) fn answered(&self, server: &Server) {
        if self.only().is_none() && server.standing.succeed(self.patience) {
            info!(socket = %server.address, "a server that was left out answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Servers {
        Servers::new(&toml::from_str(text).unwrap(), &[])
    }

    /// The servers that so many requests are given to, each ended before the next begins.
    fn given(servers: &Servers, client: &str, count: usize) -> Vec<usize> {
        let client = client.parse().ok();
        let choose = || servers.choose(client, Set::default(), Set::default()).map(|chosen| chosen.server.number);
        (0..count).map_while(|_| choose()).collect()
    }

    const REFUSED: Failure = Failure::BacklogFull { waited: Duration::ZERO };

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_is_left_out_and_one_request_tries_it_again() {
        let servers = servers("servers = [\"unix:a\", \"unix:b\"]");
        assert_eq!(given(&servers, "", 4), [0, 1, 0, 1]);
        servers.failed(&servers.list[0], &REFUSED);
        assert_eq!(given(&servers, "", 3), [1, 1, 1]);
        tokio::time::advance(Duration::from_secs(11)).await;
        let mut tried = given(&servers, "", 4);
        tried.sort_unstable();
        assert_eq!(tried, [0, 1, 1, 1]);
        servers.answered(&servers.list[0]);
        assert!(given(&servers, "", 2).contains(&0));
    }

    #[tokio::test(start_paused = true)]
    async fn to_look_whether_one_is_there_takes_nobodys_turn() {
        let servers = servers("servers = [\"unix:/no/such/a\", \"unix:/no/such/b\"]");
        servers.failed(&servers.list[0], &REFUSED);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(servers.probe().await.is_err());
        let mut tried = given(&servers, "", 2);
        tried.sort_unstable();
        assert_eq!(tried, [0, 1], "the one whose time is over is still to be tried");
    }

    #[test]
    fn a_backup_steps_in_and_with_nobody_left_all_are_asked() {
        let servers = servers("servers = [\"unix:a\", { address = \"unix:b\", state = \"backup\" }]");
        assert_eq!(given(&servers, "", 3), [0, 0, 0]);
        servers.failed(&servers.list[0], &REFUSED);
        assert_eq!(given(&servers, "", 3), [1, 1, 1]);
        servers.failed(&servers.list[1], &REFUSED);
        assert_eq!(given(&servers, "", 3), [0, 0, 0]);
    }

    #[test]
    fn a_server_that_drains_or_is_ill_gets_nothing_new() {
        let text =
            "check_path = \"/\"\nservers = [\"unix:a\", \"unix:b\", { address = \"unix:c\", state = \"drain\" }]";
        let servers = servers(text);
        assert_eq!(given(&servers, "", 4), [0, 1, 0, 1]);
        servers.list[1].standing.note(Checked::Ill);
        assert_eq!(given(&servers, "", 2), [0, 0]);
        let refused: Set = [0, 1].into_iter().collect();
        assert!(servers.choose(None, Set::default(), refused).is_none(), "the third drains");
    }

    #[test]
    fn the_fewest_requests_win_while_they_last() {
        let servers = servers("balance = \"least_connections\"\nservers = [\"unix:a\", \"unix:b\"]");
        let choose = || servers.choose(None, Set::default(), Set::default()).unwrap();
        let (first, second, third) = (choose(), choose(), choose());
        assert_ne!(first.server.number, second.server.number);
        let (free, busy) = (1 - third.server.number, third.server.number);
        drop(if first.server.number == busy { second } else { first });
        let (fourth, fifth) = (choose(), choose());
        assert_eq!((fourth.server.number, fifth.server.number), (free, free), "until both have two");
    }

    #[test]
    fn a_client_is_bound_whatever_the_order_of_the_servers() {
        let text = "balance = \"client_address\"\nservers = [\"unix:a\", \"unix:b\", \"unix:c\"]";
        let (one, other) = (servers(text), servers(&text.replace("\"unix:a\", \"unix:b\"", "\"unix:b\", \"unix:a\"")));
        for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"] {
            let home = given(&one, client, 3);
            assert_eq!(home, [home[0]; 3]);
            let address = |servers: &Servers, number: usize| servers.list[number].address.to_string();
            assert_eq!(address(&one, home[0]), address(&other, given(&other, client, 1)[0]));
        }
        assert_eq!(given(&one, "", 3), [0, 1, 2], "without an address in turn");
    }

    #[test]
    fn what_is_known_of_a_server_stays_known_when_others_change() {
        let before = servers("servers = [\"unix:a\", \"unix:b\"]");
        before.failed(&before.list[1], &REFUSED);
        let known: Vec<_> = before.iter().map(|server| &**server).collect();
        let config = toml::from_str("servers = [\"unix:b\", \"unix:c\"]").unwrap();
        let after = Servers::new(&config, &known);
        assert_eq!(given(&after, "", 2), [1, 1]);
    }

    #[test]
    fn the_only_server_is_asked_whatever_it_did() {
        let servers = servers("address = \"unix:a\"");
        servers.failed(&servers.list[0], &REFUSED);
        assert_eq!(given(&servers, "", 2), [0, 0]);
        let all: Set = [0].into_iter().collect();
        assert!(servers.choose(None, all, Set::default()).is_some());
        assert!(servers.choose(None, Set::default(), all).is_none());
    }
}
