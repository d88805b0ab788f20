//! What the system's signals order the server to do.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tracing::info;

use super::Order;

/// SIGHUP reloads; SIGTERM and SIGINT stop.
///
/// # Errors
/// When the system lets no handler be set.
pub fn orders() -> io::Result<Receiver<Order>> {
    let (sender, receiver) = channel(8);
    for (kind, name, order) in [
        (SignalKind::hangup(), "SIGHUP", Order::Reload),
        (SignalKind::terminate(), "SIGTERM", Order::Stop),
        (SignalKind::interrupt(), "SIGINT", Order::Stop),
    ] {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                info!("{name} received");
                if sender.send(order).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}
