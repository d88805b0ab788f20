//! Takes a new release over when there is one: a new manifest in a folder of files, or a link that leads elsewhere.
//!
//! Looking costs a few questions to the file system every `[static] reload`, and requests nothing. The new release is
//! read beside the old one, and replaces it whole or not at all. A request keeps the release that it began with.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::site::{Live, Site};
use super::{announce_files, chain};
use crate::assets::{AssetsError, Mounts, Signs};
use crate::config::AssetsConfig;

/// How long it takes at most until a release that was refused is tried again. It may be one that is still on its way:
/// not everybody puts the manifest into place last.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to ask whether a reload of the configuration has switched this on.
const WHILE_OFF: Duration = Duration::from_secs(2);

/// A release that was not taken over.
struct Refused {
    signs: Signs,
    why: String,
    again: Instant,
    wait: Duration,
}

/// Looks for new releases until the server stops.
pub async fn follow(live: Arc<Live>, stop: CancellationToken) {
    let looking = async {
        let mut refused = None;
        loop {
            let every = every(&live.glance().config.assets);
            sleep(if every.is_zero() { WHILE_OFF } else { every }).await;
            if !every.is_zero() {
                refused = look(&live, refused, every).await;
            }
        }
    };
    // A disk that does not answer must not keep the server from stopping.
    tokio::select! {
        () = stop.cancelled() => {}
        () = looking => {}
    }
}

/// How often to look; nothing for not at all. Where requests look by themselves there is no need.
fn every(config: &AssetsConfig) -> Duration {
    if config.watch { Duration::ZERO } else { config.reload.0 }
}

/// Looks once; what comes back is the release that was refused, if the last one was.
async fn look(live: &Arc<Live>, refused: Option<Refused>, every: Duration) -> Option<Refused> {
    let site = live.site();
    let looked = {
        let site = site.clone();
        spawn_blocking(move || {
            let signs = Signs::look(&site.config);
            (site.assets.are_current(&signs), signs)
        })
    };
    let (is_current, signs) = looked.await.ok()?;
    if is_current {
        return None;
    }
    let before = refused.filter(|refused| refused.signs == signs);
    if before.as_ref().is_some_and(|refused| Instant::now() < refused.again) {
        return before;
    }
    let why = match take_over(live, &site).await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => chain(&error),
        Err(panic) => panic.to_string(),
    };
    // Once is enough, as long as it is the same.
    if before.as_ref().is_none_or(|refused| refused.why != why) {
        error!("the new release is not taken over, all stays as it was: {why}");
    }
    let wait = before.map_or(every, |refused| (2 * refused.wait).min(PATIENCE.max(every)));
    Some(Refused { signs, why, again: Instant::now() + wait, wait })
}

/// Reads what is in the folders now and puts it in force, unless a reload has done so in the meantime.
async fn take_over(live: &Arc<Live>, site: &Arc<Site>) -> Result<Result<(), AssetsError>, JoinError> {
    let began = Instant::now();
    let opened = {
        let site = site.clone();
        spawn_blocking(move || Mounts::open_in_place_of(&site.assets, &site.config, &site.header_rules))
    };
    Ok(opened.await?.map(|assets| {
        let new = site.with_assets(assets);
        if live.replace_if_still(site, new) {
            info!("a new release is taken over, read in {} ms", began.elapsed().as_millis());
            announce_files(&live.glance());
        }
    }))
}
