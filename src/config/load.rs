//! Lays the file, the environment and the flags over the defaults, once, and checks the whole.
//!
//! Every option is first read alone. So all that is wrong is told at once, each with the place where
//! it is written, and one set of types reads all three sources.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Value;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::Config;
use super::values::ListenAddress;
use crate::cli::{FlagOption, FlagValue};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "vestibule.toml";

/// What begins the name of every environment variable of ours.
const PREFIX: &str = "VESTIBULE_";

/// The environment variable that names the file. Not an option itself.
const FILE_VARIABLE: &str = "VESTIBULE_CONFIG";

/// Everything that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the operator wrote it; `None` when it is written nowhere.
    pub origin: Option<Origin>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Where an option is written. The order is the order in which problems are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In a file, at a line and a column that count from 1.
    File(PathBuf, usize, usize),
    /// In the environment.
    Variable(String),
    /// On the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line, column) => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A configuration with the places where its options are written.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The finished configuration.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    origins: BTreeMap<(String, String), Origin>,
}

impl Loaded {
    /// Where an option is written; `None` when it has its default.
    pub fn origin(&self, table: &str, key: &str) -> Option<Origin> {
        self.origins.get(&(table.to_owned(), key.to_owned())).cloned()
    }
}

/// Reads the configuration.
///
/// `file` is the file that a flag has named; otherwise the variable `VESTIBULE_CONFIG`, otherwise
/// [`DEFAULT_FILE`] if it is there. `variables` is the environment.
///
/// # Errors
/// All that is wrong, at once.
pub fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    flags: &[FlagOption],
) -> Result<Loaded, ConfigError> {
    let variables: BTreeMap<_, _> = variables.into_iter().collect();
    let named = file.map(Path::to_owned).or_else(|| variables.get(FILE_VARIABLE).map(PathBuf::from));
    let (file, text) = read_file(named)?;
    let mut gathered = Gathered::default();
    if let Some(path) = &file {
        gathered.add_file(path, &text);
    }
    gathered.add_variables(&variables);
    gathered.add_flags(flags);
    let mut loaded = gathered.finish(file)?;
    choose_default_listener(&mut loaded, variables.get("PORT"))?;
    let problems = contradictions(&loaded);
    if problems.is_empty() { Ok(loaded) } else { Err(ConfigError { problems }) }
}

fn read_file(named: Option<PathBuf>) -> Result<(Option<PathBuf>, String), ConfigError> {
    let path = match named {
        Some(path) => path,
        None if Path::new(DEFAULT_FILE).exists() => DEFAULT_FILE.into(),
        None => return Ok((None, String::new())),
    };
    match fs_err::read_to_string(&path) {
        Ok(text) => Ok((Some(path), text)),
        Err(error) => {
            let message = format!("the configuration file cannot be read: {error}");
            Err(ConfigError { problems: vec![Problem { origin: None, message }] })
        }
    }
}

/// The options found so far, the later source over the earlier.
#[derive(Default)]
struct Gathered {
    root: toml::Table,
    origins: BTreeMap<(String, String), Origin>,
    problems: Vec<Problem>,
}

impl Gathered {
    fn add_file(&mut self, path: &Path, text: &str) {
        let place = |offset: usize| {
            let before = &text[..offset.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            Origin::File(path.to_owned(), line, column)
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            self.problem(place(error.span().map_or(0, |span| span.start)), error.message().trim().to_owned());
        }
        for (table, content) in root.into_inner() {
            let origin = place(table.span().start);
            let table = table.into_inner();
            match content.into_inner() {
                _ if !known_keys(None).contains(&table.as_ref().into()) => {
                    let message = format!("unknown table [{table}]{}", nearest(&table, &known_keys(None)));
                    self.problem(origin, message);
                }
                DeValue::Table(content) => {
                    for (key, value) in content {
                        let origin = place(key.span().start);
                        match Value::deserialize(ValueDeserializer::from(value)) {
                            Ok(value) => self.add((&table, &key.into_inner()), [value], origin),
                            Err(error) => self.problem(origin, error.message().to_owned()),
                        }
                    }
                }
                _ => self.problem(origin, format!("{table} is a table; write [{table}] on a line of its own")),
            }
        }
    }

    fn add_variables(&mut self, variables: &BTreeMap<String, String>) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(PREFIX).filter(|_| name != FILE_VARIABLE) else { continue };
            let rest = rest.to_ascii_lowercase();
            let origin = Origin::Variable(name.clone());
            match rest.split_once('_').filter(|(table, _)| known_keys(None).iter().any(|known| known == table)) {
                Some((table, key)) => self.add((table, key), readings(text), origin),
                None => self.problem(
                    origin,
                    "no option is called that; write VESTIBULE_TABLE_KEY, as in VESTIBULE_STATIC_PREFIX for [static] prefix"
                        .to_owned(),
                ),
            }
        }
    }

    fn add_flags(&mut self, flags: &[FlagOption]) {
        for option in flags {
            let value = match &option.value {
                FlagValue::On => Value::Boolean(true),
                FlagValue::Text(text) => Value::String(text.clone()),
                FlagValue::List(list) => Value::Array(list.iter().cloned().map(Value::String).collect()),
            };
            self.add(option.key, [value], Origin::Flag(option.flag));
        }
    }

    /// Takes the first of the possible readings that fits the option.
    fn add(&mut self, (table, key): (&str, &str), readings: impl IntoIterator<Item = Value>, origin: Origin) {
        if !known_keys(Some(table)).iter().any(|known| known == key) {
            let message = format!("unknown key {key} in [{table}]{}", nearest(key, &known_keys(Some(table))));
            return self.problem(origin, message);
        }
        let mut first_error = None;
        for value in readings {
            match Config::deserialize(single(table, key, value.clone())) {
                Ok(_) => {
                    let content = self.root.entry(table).or_insert_with(|| Value::Table(toml::Table::new()));
                    content.as_table_mut().expect("only tables are put here").insert(key.to_owned(), value);
                    self.origins.insert((table.to_owned(), key.to_owned()), origin);
                    return;
                }
                Err(error) => first_error = first_error.or(Some(error.message().trim().to_owned())),
            }
        }
        let message = first_error.unwrap_or_else(|| "it has no value".to_owned());
        self.problem(origin, format!("[{table}] {key}: {message}"));
    }

    fn problem(&mut self, origin: Origin, message: String) {
        self.problems.push(Problem { origin: Some(origin), message });
    }

    fn finish(mut self, file: Option<PathBuf>) -> Result<Loaded, ConfigError> {
        if !self.problems.is_empty() {
            self.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
            return Err(ConfigError { problems: self.problems });
        }
        let config = Config::deserialize(self.root).expect("each option was read alone, and none knows of another");
        Ok(Loaded { config, file, origins: self.origins })
    }
}

/// A configuration that has one option and nothing else.
fn single(table: &str, key: &str, value: Value) -> toml::Table {
    let content = toml::Table::from_iter([(key.to_owned(), value)]);
    toml::Table::from_iter([(table.to_owned(), Value::Table(content))])
}

/// What an environment variable can mean: a text, a TOML value, or a list parted by commas.
fn readings(text: &str) -> Vec<Value> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let list = items.map(|item| Value::String(item.to_owned())).collect();
    let parsed = text.parse::<Value>().ok();
    [Value::String(text.to_owned())].into_iter().chain(parsed).chain([Value::Array(list)]).collect()
}

/// The names of all tables, or of all keys in one table.
///
/// serde knows them, and tells them when it meets a key that cannot be.
pub fn known_keys(table: Option<&str>) -> Vec<String> {
    let impossible = match table {
        None => toml::Table::from_iter([(String::new(), Value::Boolean(true))]),
        Some(table) => single(table, "", Value::Boolean(true)),
    };
    let Err(error) = Config::deserialize(impossible) else { return Vec::new() };
    let names = error.message().split('`').skip(1).step_by(2).map(str::to_owned);
    names.filter(|name| !name.is_empty()).collect()
}

/// The known name that was probably meant.
fn nearest(name: &str, known: &[String]) -> String {
    let scored = known.iter().map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, candidate)) if score > 0.75 => format!("; did you mean {candidate}?"),
        _ => format!("; known are: {}", known.join(", ")),
    }
}

/// With no address to listen on, the one that a platform gives in `PORT`, or 127.0.0.1:8080.
fn choose_default_listener(loaded: &mut Loaded, port: Option<&String>) -> Result<(), ConfigError> {
    let listen = &mut loaded.config.listen;
    if !listen.http.is_empty() || !listen.https.is_empty() {
        return Ok(());
    }
    let (host, port) = match port.map(|text| text.parse::<u16>()) {
        None => ("127.0.0.1", 8080),
        Some(Ok(port)) => ("0.0.0.0", port),
        Some(Err(_)) => {
            let origin = Some(Origin::Variable("PORT".into()));
            let message = "it is not a port number; correct it, or name an address with --listen".to_owned();
            return Err(ConfigError { problems: vec![Problem { origin, message }] });
        }
    };
    listen.http.push(ListenAddress::Tcp { host: host.into(), port });
    Ok(())
}

/// What no option can know alone.
fn contradictions(loaded: &Loaded) -> Vec<Problem> {
    let Config { listen, tls, https, health, timeouts, upstream, collect, .. } = &loaded.config;
    let mut problems = Vec::new();
    let mut refuse = |wrong: bool, (table, key): (&str, &str), message: &str| {
        if wrong {
            let origin = loaded.origin(table, key);
            problems.push(Problem { origin, message: format!("[{table}] {key}: {message}") });
        }
    };
    let has_pair = tls.certificate.is_some() && tls.key.is_some();
    refuse(
        !listen.https.is_empty() && tls.certificate.is_none() && tls.key.is_none() && !tls.self_signed,
        ("listen", "https"),
        "needs a certificate; give --cert and --key ([tls] certificate and key), or --self-signed for development",
    );
    refuse(
        tls.certificate.is_some() && !has_pair,
        ("tls", "certificate"),
        "needs its private key; give --key ([tls] key)",
    );
    refuse(tls.key.is_some() && !has_pair, ("tls", "key"), "needs its certificate; give --cert ([tls] certificate)");
    refuse(
        tls.self_signed && (tls.certificate.is_some() || tls.key.is_some()),
        ("tls", "self_signed"),
        "contradicts certificate and key; leave one of the two out",
    );
    refuse(
        tls.self_signed && !https.hsts_max_age.0.is_zero(),
        ("https", "hsts_max_age"),
        "would make browsers refuse a self-signed certificate for good; leave it out in development",
    );
    refuse(
        https.hsts_preload && (https.hsts_max_age.0.as_secs() < 31_536_000 || !https.hsts_include_subdomains),
        ("https", "hsts_preload"),
        "browsers take a name only with hsts_max_age = \"365d\" or more and hsts_include_subdomains = true",
    );
    refuse(
        https.hsts_include_subdomains && https.hsts_max_age.0.is_zero(),
        ("https", "hsts_include_subdomains"),
        "has no effect without hsts_max_age",
    );
    refuse(health.live == health.ready, ("health", "ready"), "must differ from live");
    for (table, key, value) in [
        ("timeouts", "handshake", timeouts.handshake),
        ("timeouts", "header", timeouts.header),
        ("timeouts", "idle", timeouts.idle),
        ("timeouts", "body", timeouts.body),
        ("timeouts", "send", timeouts.send),
        ("upstream", "connect_timeout", upstream.connect_timeout),
        ("upstream", "response_timeout", upstream.response_timeout),
        ("upstream", "idle_timeout", upstream.idle_timeout),
        ("upstream", "tunnel_idle_timeout", upstream.tunnel_idle_timeout),
    ] {
        refuse(value.0.is_zero(), (table, key), "must be longer than nothing, or no request could ever pass");
    }
    for (key, value, range) in [
        ("gzip_level", collect.gzip_level, 1..=9),
        ("brotli_level", collect.brotli_level, 0..=11),
        ("zstd_level", collect.zstd_level, 1..=22),
    ] {
        let message = format!("must lie between {} and {}", range.start(), range.end());
        refuse(!range.contains(&value), ("collect", key), &message);
    }
    refuse(
        !(collect.keep_ratio > 0.0 && collect.keep_ratio <= 1.0),
        ("collect", "keep_ratio"),
        "must lie between 0 and 1",
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(text: &str, variables: &[(&str, &str)], flags: &[FlagOption]) -> Result<Loaded, Vec<String>> {
        let mut gathered = Gathered::default();
        gathered.add_file(Path::new("v.toml"), text);
        let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        gathered.add_variables(&pairs.collect());
        gathered.add_flags(flags);
        let told = |error: ConfigError| error.problems.iter().map(Problem::to_string).collect::<Vec<_>>();
        let loaded = gathered.finish(None).map_err(told)?;
        let problems = contradictions(&loaded);
        if problems.is_empty() { Ok(loaded) } else { Err(told(ConfigError { problems })) }
    }

    #[test]
    fn nothing_at_all_gives_the_defaults() {
        assert_eq!(gather("", &[], &[]).unwrap().config, Config::default());
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let file = "[static]\nprefix = \"/a/\"\nmax_age = \"5m\"\nmemory = 1\n";
        let flag =
            FlagOption { flag: "--static-prefix", key: ("static", "prefix"), value: FlagValue::Text("/c/".into()) };
        let variables = [("VESTIBULE_STATIC_PREFIX", "/b/"), ("VESTIBULE_STATIC_MAX_AGE", "10m"), ("PATH", "/bin")];
        let assets = gather(file, &variables, &[flag]).unwrap().config.assets;
        assert_eq!((assets.prefix.as_str(), assets.max_age.0.as_secs(), assets.memory.0), ("/c/", 600, 1));
    }

    #[test]
    fn a_variable_is_read_as_text_as_a_value_or_as_a_list() {
        let variables = [
            ("VESTIBULE_TLS_MINIMUM_VERSION", "1.3"),
            ("VESTIBULE_TLS_SELF_SIGNED", "true"),
            ("VESTIBULE_HOSTS_ALLOWED", "example.com, .example.org"),
            ("VESTIBULE_LIMITS_HTTP2_STREAMS", "7"),
        ];
        let config = gather("", &variables, &[]).unwrap().config;
        assert_eq!(config.tls.minimum_version, super::super::values::TlsVersion::Tls13);
        assert!(config.tls.self_signed);
        assert_eq!(config.hosts.allowed.len(), 2);
        assert_eq!(config.limits.http2_streams, 7);
    }

    #[test]
    fn all_mistakes_are_told_at_once_each_with_its_place() {
        let file = "[static]\nprefx = \"/a/\"\nmax_age = \"5 parsecs\"\n\n[upstrem]\naddress = 1\n";
        let problems = gather(file, &[("VESTIBULE_LOG_LEVEL", "loud"), ("VESTIBULE_X", "1")], &[]).unwrap_err();
        let expected = [
            ("v.toml:2:1: unknown key prefx in [static]", "did you mean prefix?"),
            ("v.toml:3:1: [static] max_age: \"5 parsecs\" is not", "\"250ms\""),
            ("v.toml:5:2: unknown table [upstrem]", "did you mean upstream?"),
            ("environment variable VESTIBULE_LOG_LEVEL: [log] level: unknown variant `loud`", "`warn`"),
            ("environment variable VESTIBULE_X: ", "VESTIBULE_TABLE_KEY"),
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, (start, part)) in problems.iter().zip(expected) {
            assert!(problem.starts_with(start) && problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn what_is_not_toml_is_refused_with_its_line() {
        let problems = gather("[static]\nprefix = \n", &[], &[]).unwrap_err();
        assert!(problems[0].starts_with("v.toml:2:"), "{problems:?}");
    }

    #[test]
    fn contradictions_are_refused() {
        for (file, key) in [
            ("[listen]\nhttps = [\"a:1\"]", "[listen] https"),
            ("[tls]\ncertificate = \"a\"", "[tls] certificate"),
            ("[tls]\nkey = \"a\"", "[tls] key"),
            ("[tls]\nkey = \"a\"\ncertificate = \"b\"\nself_signed = true", "[tls] self_signed"),
            ("[https]\nhsts_preload = true", "[https] hsts_preload"),
            ("[https]\nhsts_include_subdomains = true", "[https] hsts_include_subdomains"),
            ("[tls]\nself_signed = true\n[https]\nhsts_max_age = \"1d\"", "[https] hsts_max_age"),
            ("[health]\nlive = \"/x\"\nready = \"/x\"", "[health] ready"),
            ("[timeouts]\nidle = 0", "[timeouts] idle"),
            ("[collect]\nzstd_level = 23", "[collect] zstd_level"),
            ("[collect]\nkeep_ratio = 1.5", "[collect] keep_ratio"),
        ] {
            let problems = gather(file, &[], &[]).expect_err(file);
            assert!(problems[0].contains(key), "{problems:?}");
            assert!(problems[0].starts_with("v.toml:"), "{problems:?}");
        }
    }

    #[test]
    fn the_platform_may_give_the_port() {
        let mut loaded = gather("", &[], &[]).unwrap();
        choose_default_listener(&mut loaded, Some(&"5000".to_owned())).unwrap();
        assert_eq!(loaded.config.listen.http[0].to_string(), "0.0.0.0:5000");
        let mut loaded = gather("", &[], &[]).unwrap();
        assert!(choose_default_listener(&mut loaded, Some(&"tcp://x".to_owned())).is_err());
    }
}
