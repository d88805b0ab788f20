//! The site to answer a request from: the one in force; and while somebody develops (`[static] watch`), one that has
//! what is in the folders at this moment.
//!
//! It is the request that looks, and nothing in the background: so the answer is never older than the request, on
//! every file system, those of containers and networks too. Requests that come together share a look.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{error, info};

use super::chain;
use super::site::{Live, Site};

/// The last look into the folders.
#[derive(Debug, Default)]
pub struct Looked {
    began: Option<Instant>,
    /// Why what is in the folders now cannot be served.
    refused: Option<String>,
}

/// The site for a request that comes now.
pub async fn site(live: &Live) -> Arc<Site> {
    let site = live.site();
    if !site.config.assets.watch {
        return site;
    }
    // Boxed, since its future would make every request's larger, and hardly any needs it.
    Box::pin(look(live)).await
}

async fn look(live: &Live) -> Arc<Site> {
    let asked = Instant::now();
    let mut looked = live.looked.lock().await;
    if looked.began.is_some_and(|began| began > asked) {
        return live.site();
    }
    looked.began = Some(Instant::now());
    let before = live.site();
    let refreshed = {
        let before = before.clone();
        spawn_blocking(move || before.assets.refreshed(&before.config, &before.header_rules))
    };
    let refused = match refreshed.await {
        Ok(Ok(None)) => None,
        Ok(Ok(Some(assets))) => {
            let files: usize = assets.folders().map(crate::assets::Assets::file_count).sum();
            if live.replace_if_still(&before, before.with_assets(assets)) {
                info!("files have changed: {files} now");
            }
            None
        }
        Ok(Err(error)) => Some(chain(&error)),
        Err(panic) => Some(panic.to_string()),
    };
    // Once is enough, as long as it is the same.
    if let Some(why) = refused.as_ref().filter(|why| looked.refused.as_ref() != Some(why)) {
        error!("what has changed is not taken over, all stays as it was: {why}");
    }
    looked.refused = refused;
    live.site()
}
