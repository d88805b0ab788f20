//! vestibule inside the test's process, on ports that the system chose, stopped when dropped.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinHandle;
use vestibule::config::load::{ConfigError, Loaded, load};
use vestibule::config::values::ListenAddress;
use vestibule::serve::accept::Security;
use vestibule::serve::{Ending, Order, ServeError, Server};

/// A running server.
pub(crate) struct TestServer {
    plain: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    orders: Sender<Order>,
    task: JoinHandle<Ending>,
    config: Arc<Mutex<String>>,
    _folder: tempfile::TempDir,
}

impl TestServer {
    /// Starts a server with a configuration, as text. Without a `[listen]` table it listens on plain
    /// HTTP, on a free port.
    pub(crate) async fn start(config: &str) -> Self {
        Self::try_start(config).await.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
    }

    /// The same, for a server that may refuse.
    pub(crate) async fn try_start(config: &str) -> Result<Self, ServeError> {
        let listen = if config.contains("[listen]") { "" } else { "[listen]\nhttp = [\"127.0.0.1:0\"]\n" };
        let log = if config.contains("[log]") { "" } else { "[log]\naccess = \"off\"\n" };
        let text = Arc::new(Mutex::new(format!("{listen}{log}{config}")));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("vestibule.toml");
        let reread = {
            let text = text.clone();
            move || read(&file, &text.lock().unwrap())
        };
        let server = Server::bind(reread()?, Box::new(reread)).await?;
        let (mut plain, mut tls) = (None, None);
        for (address, security) in server.addresses() {
            let ListenAddress::Tcp { host, port } = address else { continue };
            let place = if security == Security::Tls { &mut tls } else { &mut plain };
            *place = Some(SocketAddr::new(host.parse().unwrap(), port));
        }
        let (orders, receiver) = channel(8);
        let task = tokio::spawn(server.run(receiver));
        Ok(Self { plain, tls, orders, task, config: text, _folder: folder })
    }

    /// The address for plain HTTP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.plain.expect("the server listens on plain HTTP")
    }

    /// The address for TLS.
    pub(crate) fn tls_address(&self) -> SocketAddr {
        self.tls.expect("the server listens on TLS")
    }

    /// What the next reload is going to read.
    pub(crate) fn set_config(&self, text: &str) {
        *self.config.lock().unwrap() = text.to_owned();
    }

    /// Gives an order, as a signal would.
    pub(crate) async fn order(&self, order: Order) {
        self.orders.send(order).await.unwrap();
    }

    /// Waits for the end that an order began.
    pub(crate) async fn ended(self) -> Ending {
        self.task.await.unwrap()
    }
}

fn read(file: &Path, text: &str) -> Result<Loaded, ConfigError> {
    fs_err::write(file, text).unwrap();
    load(Some(file), std::iter::empty(), &[])
}
