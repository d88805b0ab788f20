//! `vestibule check`: reads all that `serve` would read, and tells everything that is wrong at once.

use std::fmt;

use tokio::runtime::Runtime;

use crate::assets::Assets;
use crate::config::load::Loaded;
use crate::serve::{certificate_trouble, chain};
use crate::tls::{self, Tickets};
use crate::upstream::Upstream;
use crate::upstream::tunnel::Tunnels;

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Something is sound.
    Sound(String),
    /// Something works, and is probably not meant so.
    Notice(String),
    /// Something is wrong.
    Wrong(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound(text) => write!(f, "ok      {text}"),
            Self::Notice(text) => write!(f, "notice  {text}"),
            Self::Wrong(text) => write!(f, "wrong   {text}"),
        }
    }
}

/// Looks at every part of a configuration that was read.
pub fn check(loaded: &Loaded, runtime: &Runtime) -> Vec<Finding> {
    let mut findings = vec![configuration(loaded)];
    findings.extend(assets(loaded));
    findings.extend(certificate(loaded));
    findings.extend(application(loaded, runtime));
    findings.extend(hosts(loaded));
    findings
}

/// Where an option is written, in front of what is wrong with it.
fn at(loaded: &Loaded, table: &str, key: &str) -> String {
    loaded.origin(table, key).map(|origin| format!("{origin}: ")).unwrap_or_default()
}

fn configuration(loaded: &Loaded) -> Finding {
    match &loaded.file {
        Some(file) => Finding::Sound(format!("configuration: {}", file.display())),
        None => Finding::Sound("configuration: flags and environment only".into()),
    }
}

fn assets(loaded: &Loaded) -> Option<Finding> {
    let config = &loaded.config.assets;
    if config.directory.is_none() {
        return Some(Finding::Notice(
            "static files: none; name their folder with --static ([static] directory)".into(),
        ));
    }
    Some(match Assets::open(config) {
        Ok(assets) => Finding::Sound(format!("static files: {assets}")),
        Err(error) => Finding::Wrong(format!("{}{}", at(loaded, "static", "directory"), chain(&error))),
    })
}

fn certificate(loaded: &Loaded) -> Option<Finding> {
    let config = &loaded.config;
    if config.listen.https.is_empty() {
        return None;
    }
    let made = Tickets::new().and_then(|tickets| tls::server_config(&config.tls, &tickets));
    let place = at(loaded, "tls", "certificate");
    Some(match (made, &config.tls.certificate) {
        (Err(error), _) => Finding::Wrong(format!("{place}{}", chain(&error))),
        (Ok(_), None) => Finding::Notice("certificate: self-signed, for development only".into()),
        (Ok(_), Some(path)) => match (certificate_trouble(path), tls::certificates::describe(path)) {
            (Some(trouble), _) => Finding::Wrong(format!("{place}{trouble}")),
            (None, Ok(described)) => Finding::Sound(format!(
                "certificate: {} until {}",
                described.names.join(", "),
                httpdate::fmt_http_date(described.not_after)
            )),
            (None, Err(error)) => Finding::Wrong(format!("{place}{}", chain(&error))),
        },
    })
}

fn application(loaded: &Loaded, runtime: &Runtime) -> Option<Finding> {
    let config = &loaded.config.upstream;
    let Some(address) = &config.address else {
        return Some(Finding::Notice("application: none; name it with --upstream ([upstream] address)".into()));
    };
    let upstream = Upstream::new(address, config, &Tunnels::default());
    Some(match runtime.block_on(upstream.probe()) {
        Ok(()) => Finding::Sound(format!("application: {address} accepts connections")),
        Err(failure) => Finding::Wrong(format!(
            "{}the application at {address} cannot be reached: {}; is it running, and may this user open the socket?",
            at(loaded, "upstream", "address"),
            chain(&failure)
        )),
    })
}

fn hosts(loaded: &Loaded) -> Option<Finding> {
    let (hosts, upstream) = (&loaded.config.hosts, &loaded.config.upstream);
    (hosts.allowed.is_empty() && upstream.address.is_some()).then(|| {
        Finding::Notice(
            "hosts: any name is passed on; list those of ALLOWED_HOSTS in [hosts] allowed to spare the application"
                .into(),
        )
    })
}
