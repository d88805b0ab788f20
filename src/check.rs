//! `vestibule check`: reads all that `serve` would read, and tells everything that is wrong at once.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use tokio::runtime::Runtime;

use crate::assets::{Assets, Mounts};
use crate::config::Config;
use crate::config::load::{Origin, Reading};
use crate::files::media::Media;
use crate::files::send_file::SendFile;
use crate::gate::Gate;
use crate::layers::error_pages::ErrorPages;
use crate::serve::chain;
use crate::serve::site;
use crate::tls::certificates::{self, Description, Trouble};
use crate::tls::{self, Tickets};
use crate::upstream::background::Background;
use crate::upstream::checks::Ailment;
use crate::upstream::routes::Applications;
use crate::upstream::{Upstream, try_buffer_directory};

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

/// Looks at every part of a configuration, as far as it could be read.
pub fn check(reading: &Reading, runtime: &Runtime) -> Vec<Finding> {
    let mut findings = configuration(reading);
    findings.extend(assets(reading));
    findings.extend(files(reading));
    findings.extend(certificate(reading));
    findings.extend(applications(reading, runtime));
    findings.extend(buffers(reading));
    findings.extend(hosts(reading));
    findings.extend(gate(reading));
    findings
}

/// Where an option is written, in front of what is wrong with it.
fn at(reading: &Reading, table: &str, key: &str) -> String {
    reading.loaded.origin(table, key).map(|origin| format!("{origin}: ")).unwrap_or_default()
}

fn configuration(reading: &Reading) -> Vec<Finding> {
    if !reading.problems.is_empty() {
        return reading.problems.iter().map(|problem| Finding::Wrong(problem.to_string())).collect();
    }
    vec![Finding::Sound(match &reading.loaded.file {
        Some(file) => format!("configuration: {}", file.display()),
        None => "configuration: flags and environment only".into(),
    })]
}

fn assets(reading: &Reading) -> Vec<Finding> {
    let config = &reading.loaded.config;
    let notice = "static files: none; name their folder with --static ([static] directory)";
    let is_absent = config.assets.directory.is_none();
    let mut findings: Vec<_> =
        absent(reading, ("static", "directory"), notice).filter(|_| is_absent).into_iter().collect();
    // What has no folder because it is wrong was told.
    let mut config = config.clone();
    config.mounts.retain(|mount| mount.directory.is_some());
    let rules = site::header_rules(&config.headers);
    let Ok(mounts) = Mounts::open(&config, &rules) else {
        findings.extend(wrong_folders(reading));
        return findings;
    };
    let is_plain =
        |assets: &Assets| mounts.assets().is_some_and(|other| std::ptr::eq(assets, other)) && !assets.has_manifest();
    findings.extend(mounts.folders().map(|assets| match is_plain(assets) {
        true => Finding::Notice(format!(
            "static files: {assets}, but no staticfiles.json: no file is cached for long; run `vestibule collect`"
        )),
        false => Finding::Sound(format!("static files: {assets}")),
    }));
    findings.extend(deltas(reading, mounts.folders().map(Assets::files_with_deltas).sum()));
    findings
}

/// Everything that is wrong with the folders, each looked at alone.
fn wrong_folders(reading: &Reading) -> Vec<Finding> {
    let config = &reading.loaded.config;
    let wrong = |config: Config, origin: Option<Origin>| {
        let error = Mounts::open(&config, &site::header_rules(&config.headers)).err()?;
        let origin = error.unknown_name().map_or(origin, |name| rule_with(reading, name));
        let place = origin.map(|origin| format!("{origin}: ")).unwrap_or_default();
        Some(Finding::Wrong(format!("{place}{}", chain(&error))))
    };
    let alone = Config { mounts: Vec::new(), ..config.clone() };
    let mut findings: Vec<_> = wrong(alone, reading.loaded.origin("static", "directory")).into_iter().collect();
    for (n, mount) in config.mounts.iter().enumerate().filter(|(_, mount)| mount.directory.is_some()) {
        let mut one = Config { mounts: vec![mount.clone()], ..config.clone() };
        one.assets.directory = None;
        findings.extend(wrong(one, reading.loaded.origin_in_list("mounts", n, "directory")));
    }
    findings
}

/// Where the first rule for headers stands that names a file.
fn rule_with(reading: &Reading, name: &str) -> Option<Origin> {
    let rules = &reading.loaded.config.headers;
    let number = rules.iter().position(|rule| rule.names_file(name))?;
    reading.loaded.origin_in_list("headers", number, "set")
}

/// The uploads, and the files that the application may hand over.
fn files(reading: &Reading) -> Vec<Finding> {
    let config = &reading.loaded.config;
    let media = match Media::open(&config.media, config.assets.max_ranges) {
        Ok(media) => media.map(|media| Finding::Sound(format!("uploads: {media}"))),
        Err(error) => Some(Finding::Wrong(format!("{}{}", at(reading, "media", "directory"), chain(&error)))),
    };
    let folders = config.send_file.iter().enumerate().map(|(number, folder)| {
        match SendFile::open(std::slice::from_ref(folder), config.assets.max_ranges) {
            Ok(folder) => Finding::Sound(format!("files to hand over: {folder}")),
            Err(error) => {
                let origin = reading.loaded.origin_in_list("send_file", number, "directory");
                let place = origin.map(|origin| format!("{origin}: ")).unwrap_or_default();
                Finding::Wrong(format!("{place}{}", chain(&error)))
            }
        }
    });
    media.into_iter().chain(folders).collect()
}

/// Tells why browsers are not going to ask for the deltas that there are: they themselves never do.
fn deltas(reading: &Reading, files: usize) -> Option<Finding> {
    let config = &reading.loaded.config;
    let certificate = config.tls.certificate.as_deref().and_then(|path| certificates::describe(path).ok());
    let is_self_signed = config.tls.self_signed || certificate.is_some_and(|certificate| certificate.is_self_signed);
    let why = if config.listen.https.is_empty() && config.listen.trusted_proxies.is_empty() {
        "browsers take them over https only; listen for TLS, or name the proxy that does in [listen] trusted_proxies"
    } else if !config.listen.https.is_empty() && is_self_signed {
        "Chromium takes them only where it knows the certificate's authority as a public one"
    } else {
        return None;
    };
    let have = if files == 1 { "file has" } else { "files have" };
    (files > 0).then(|| Finding::Notice(format!("deltas: {files} {have} some, but except on localhost {why}")))
}

/// Tells that an option is not given, unless it was given and told as wrong.
fn absent(reading: &Reading, (table, key): (&str, &str), notice: &str) -> Option<Finding> {
    (!reading.doubts.covers(table, key)).then(|| Finding::Notice(notice.to_owned()))
}

/// Sound passwords and pages are nothing to tell of.
fn gate(reading: &Reading) -> Vec<Finding> {
    let config = &reading.loaded.config;
    let wrong = |config: Config, origin: Option<Origin>| {
        let error = Gate::new(&config, None).err()?;
        let place = origin.map(|origin| format!("{origin}: ")).unwrap_or_default();
        Some(Finding::Wrong(format!("{place}{}", chain(&error))))
    };
    let staging = Config { staging: config.staging.clone(), ..Config::default() };
    let staging = wrong(staging, reading.loaded.origin("staging", "password_file"));
    let access = config.access.iter().enumerate().filter_map(|(number, rule)| {
        let alone = Config { access: vec![rule.clone()], ..Config::default() };
        wrong(alone, reading.loaded.origin_in_list("access", number, "password_file"))
    });
    let pages = config.pages.errors.as_deref().map(ErrorPages::read).transpose();
    let pages = pages.err().map(|error| Finding::Wrong(format!("{}{error}", at(reading, "pages", "errors"))));
    staging.into_iter().chain(access).chain(pages).collect()
}

fn certificate(reading: &Reading) -> Option<Finding> {
    let config = &reading.loaded.config.tls;
    // Half a pair, and none at all, was told as a mistake in the configuration.
    let is_given = config.self_signed || (config.certificate.is_some() && config.key.is_some());
    if reading.loaded.config.listen.https.is_empty() || !is_given {
        return None;
    }
    let made = tls::server_config(config, &Tickets::default());
    let place = at(reading, "tls", "certificate");
    Some(match (made, &config.certificate) {
        (Err(error), _) => Finding::Wrong(format!("{place}{}", chain(&error))),
        (Ok(_), None) => Finding::Notice("certificate: self-signed, for development only".into()),
        (Ok(_), Some(path)) => match certificates::describe(path) {
            Ok(described) => dates(&place, path, &described),
            Err(error) => Finding::Wrong(format!("{place}{}", chain(&error))),
        },
    })
}

fn dates(place: &str, path: &Path, described: &Description) -> Finding {
    match described.trouble(SystemTime::now()) {
        Some(trouble @ Trouble::EndsSoon(_)) => Finding::Notice(format!("{place}{}: {trouble}", path.display())),
        Some(trouble) => Finding::Wrong(format!("{place}{}: {trouble}", path.display())),
        None => Finding::Sound(format!(
            "certificate: {} until {}",
            described.names.join(", "),
            httpdate::fmt_http_date(described.not_after)
        )),
    }
}

fn applications(reading: &Reading, runtime: &Runtime) -> Vec<Finding> {
    let config = &reading.loaded.config;
    if !config.has_application() {
        let notice = "application: none; name it with --upstream ([upstream] address)";
        return absent(reading, ("upstream", "address"), notice).into_iter().collect();
    }
    let applications = Applications::new(config, None, &Background::default());
    let key = if config.upstream.servers.is_empty() { "address" } else { "servers" };
    let place = at(reading, "upstream", key);
    let mut findings = Vec::new();
    if let Some(main) = applications.main() {
        findings.extend(servers(main, "application", &place, runtime));
    }
    for (route, application) in applications.routes() {
        findings.extend(servers(application, &format!("application for {route}"), "", runtime));
    }
    findings
}

fn servers(application: &Upstream, name: &str, place: &str, runtime: &Runtime) -> Vec<Finding> {
    let found = runtime.block_on(application.probe_each()).into_iter();
    let told = found.map(|(address, result)| match result {
        Ok(()) => Finding::Sound(format!("{name}: {address} accepts connections")),
        Err(Ailment::Away(failure)) => Finding::Wrong(format!(
            "{place}the {name} at {address} cannot be reached: {}; is it running, and may this user open the socket?",
            chain(&failure)
        )),
        Err(Ailment::Ill(reason)) => {
            Finding::Wrong(format!("{place}the {name} at {address} fails its health check: {reason}"))
        }
    });
    told.collect()
}

fn buffers(reading: &Reading) -> Option<Finding> {
    let config = &reading.loaded.config.upstream;
    let error = reading.loaded.config.has_application().then(|| try_buffer_directory(config).err()).flatten()?;
    let (place, error) = (at(reading, "upstream", "buffer_directory"), chain(&error));
    Some(match &config.buffer_directory {
        Some(directory) => Finding::Wrong(format!("{place}cannot make a file in {}: {error}", directory.display())),
        None => Finding::Notice(format!("buffers: the temporary folder takes no files: {error}; long uploads get 503")),
    })
}

fn hosts(reading: &Reading) -> Option<Finding> {
    let config = &reading.loaded.config;
    if !config.hosts.allowed.is_empty() || !config.has_application() {
        return None;
    }
    let notice =
        "hosts: any name is passed on; list those of ALLOWED_HOSTS in [hosts] allowed to spare the application";
    absent(reading, ("hosts", "allowed"), notice)
}
