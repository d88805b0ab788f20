//! Lays the file, the environment and the flags over the defaults, once, and checks the whole.
//!
//! Every option is first read alone. So all that is wrong is told at once, each with the place where
//! it is written, and one set of types reads all three sources. What is wrong is left out of the rest,
//! which `check` still looks at; nobody runs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use super::values::ListenAddress;
use super::{Config, ListenConfig, rules};
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
    /// Where a key in a table of a list is written, or that table itself if it does not have the key. `number` counts
    /// from 0.
    pub fn origin_in_list(&self, table: &str, number: usize, key: &str) -> Option<Origin> {
        self.origin(table, &list_key(number, key)).or_else(|| self.origin(table, &list_key(number, "")))
    }

    /// Where an option is written; `None` when it has its default.
    pub fn origin(&self, table: &str, key: &str) -> Option<Origin> {
        self.origins.get(&(table.to_owned(), key.to_owned())).cloned()
    }
}

/// What was read, sound or not.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The configuration, without the options that are wrong.
    pub loaded: Loaded,
    /// Everything that is wrong, in the order of its places.
    pub problems: Vec<Problem>,
    /// The options that the operator may have meant otherwise than they stand in `loaded`.
    pub doubts: Doubts,
}

impl Reading {
    /// The configuration, if nothing is wrong with it.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn sound(self) -> Result<Loaded, ConfigError> {
        if self.problems.is_empty() { Ok(self.loaded) } else { Err(ConfigError { problems: self.problems }) }
    }
}

/// Options that were left out, or may have been, since something about them is wrong.
#[derive(Debug, Clone, Default)]
pub struct Doubts {
    /// The file could not be read to its end, or has a table that nobody knows.
    all: bool,
    /// A key that nobody knows may have been meant as any key of its table.
    tables: BTreeSet<String>,
    keys: BTreeSet<(String, String)>,
}

impl Doubts {
    /// Whether the option may have been meant otherwise.
    pub fn covers(&self, table: &str, key: &str) -> bool {
        self.all || self.tables.contains(table) || self.keys.contains(&(table.to_owned(), key.to_owned()))
    }
}

/// Reads the configuration, as far as it can be read.
///
/// `file` is the file that a flag has named; otherwise the variable `VESTIBULE_CONFIG`, otherwise
/// [`DEFAULT_FILE`] if it is there. `variables` is the environment.
pub fn read(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    flags: &[FlagOption],
) -> Reading {
    let variables: BTreeMap<_, _> = variables.into_iter().collect();
    let named = file.map(Path::to_owned).or_else(|| variables.get(FILE_VARIABLE).map(PathBuf::from));
    let file = named.or_else(|| Path::new(DEFAULT_FILE).exists().then(|| DEFAULT_FILE.into()));
    let mut gathered = Gathered::default();
    if let Some(path) = &file {
        match fs_err::read_to_string(path) {
            Ok(text) => gathered.add_file(path, &text),
            Err(error) => gathered.miss_file(&error),
        }
    }
    gathered.add_variables(&variables);
    gathered.add_flags(flags);
    gathered.finish(file, variables.get("PORT"))
}

/// Reads a configuration that must be sound.
///
/// # Errors
/// All that is wrong, at once.
pub fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    flags: &[FlagOption],
) -> Result<Loaded, ConfigError> {
    read(file, variables, flags).sound()
}

/// The options found so far, the later source over the earlier.
#[derive(Default)]
struct Gathered {
    root: toml::Table,
    origins: BTreeMap<(String, String), Origin>,
    problems: Vec<Problem>,
    doubts: Doubts,
}

impl Gathered {
    fn miss_file(&mut self, error: &io::Error) {
        self.doubts.all = true;
        let message = format!("the configuration file cannot be read: {error}{}", advice(error.kind()));
        self.problems.push(Problem { origin: None, message });
    }

    fn add_file(&mut self, path: &Path, text: &str) {
        let place = |offset: usize| {
            let before = &text[..offset.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            Origin::File(path.to_owned(), line, column)
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            self.doubts.all = true;
            self.problem(place(error.span().map_or(0, |span| span.start)), error.message().trim().to_owned());
        }
        for (table, content) in root.into_inner() {
            let origin = place(table.span().start);
            let table = table.into_inner();
            match content.into_inner() {
                _ if !known_keys(None).contains(&table.as_ref().into()) => {
                    self.doubts.all = true;
                    let message = format!("unknown table [{table}]{}", nearest(&table, &known_keys(None)));
                    self.problem(origin, message);
                }
                DeValue::Array(items) if is_list(&table) => {
                    for item in items {
                        self.add_item(&table, item, &place);
                    }
                }
                _ if is_list(&table) => {
                    self.doubts.tables.insert(table.to_string());
                    self.problem(origin, format!("{table} is a list of tables; write [[{table}]] before each"));
                }
                DeValue::Table(content) => {
                    for (key, value) in content {
                        let origin = place(key.span().start);
                        match Value::deserialize(ValueDeserializer::from(value)) {
                            Ok(value) => self.add((&table, &key.into_inner()), [value], origin),
                            Err(error) => {
                                let key = key.into_inner();
                                self.doubt(&table, &key);
                                self.problem(origin, format!("[{table}] {key}: {}", error.message()));
                            }
                        }
                    }
                }
                _ => {
                    let message = format!("{table} is a table; write [{table}] on a line of its own");
                    self.doubts.tables.insert(table.into_owned());
                    self.problem(origin, message);
                }
            }
        }
    }

    /// Takes one table of a list, whole or not at all: its keys may need each other.
    fn add_item(&mut self, table: &str, item: Spanned<DeValue<'_>>, place: &impl Fn(usize) -> Origin) {
        let span = item.span();
        let keys: Vec<_> = item.get_ref().as_table().into_iter().flatten().collect();
        let origins: Vec<_> = keys.iter().map(|(key, _)| (key.to_string(), place(key.span().start))).collect();
        let items = DeValue::Array(DeArray::from_iter([item.clone()]));
        let mut whole = DeTable::new();
        whole.insert(Spanned::new(span.clone(), table.into()), Spanned::new(span.clone(), items));
        let alone = ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(whole)));
        let read = Config::deserialize(alone).and_then(|_| Value::deserialize(ValueDeserializer::from(item)));
        match read {
            Ok(value) => {
                let list = self.root.entry(table).or_insert_with(|| Value::Array(Vec::new()));
                let list = list.as_array_mut().expect("only lists are put here");
                let number = list.len();
                list.push(value);
                self.origins.insert((table.to_owned(), list_key(number, "")), place(span.start));
                for (key, origin) in origins {
                    self.origins.insert((table.to_owned(), list_key(number, &key)), origin);
                }
            }
            Err(error) => {
                self.doubts.tables.insert(table.to_owned());
                let at = place(error.span().unwrap_or(span).start);
                self.problem(at, format!("[[{table}]]: {}", error.message().trim()));
            }
        }
    }

    fn add_variables(&mut self, variables: &BTreeMap<String, String>) {
        for (name, text) in variables.iter().filter(|(name, _)| *name != FILE_VARIABLE && !is_link(name)) {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
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
        if is_list(table) {
            return self.problem(origin, format!("[[{table}]] is a list of tables, and stands in the file only"));
        }
        if !known_keys(Some(table)).iter().any(|known| known == key) {
            self.doubts.tables.insert(table.to_owned());
            let message = format!("unknown key {key} in [{table}]{}", nearest(key, &known_keys(Some(table))));
            return self.problem(origin, message);
        }
        let mut errors: Vec<String> = Vec::new();
        for value in readings {
            match Config::deserialize(single(table, key, value.clone())) {
                Ok(_) => {
                    let content = self.root.entry(table).or_insert_with(|| Value::Table(toml::Table::new()));
                    content.as_table_mut().expect("only tables are put here").insert(key.to_owned(), value);
                    self.origins.insert((table.to_owned(), key.to_owned()), origin);
                    return;
                }
                Err(error) => errors.push(error.message().trim().to_owned()),
            }
        }
        self.doubt(table, key);
        // A reading of the right type says more than that another is none.
        let telling = errors.iter().find(|error| !error.starts_with("invalid type")).or(errors.first());
        let message = telling.cloned().unwrap_or_else(|| "it has no value".to_owned());
        self.problem(origin, format!("[{table}] {key}: {message}"));
    }

    fn problem(&mut self, origin: Origin, message: String) {
        self.problems.push(Problem { origin: Some(origin), message });
    }

    fn doubt(&mut self, table: &str, key: &str) {
        self.doubts.keys.insert((table.to_owned(), key.to_owned()));
    }

    fn finish(mut self, file: Option<PathBuf>, port: Option<&String>) -> Reading {
        let config = Config::deserialize(std::mem::take(&mut self.root))
            .expect("each option was read alone, and none knows of another");
        let mut loaded = Loaded { config, file, origins: std::mem::take(&mut self.origins) };
        self.choose_default_listener(&mut loaded.config.listen, port);
        for rules::Broken { table, key, number, problem } in rules::broken(&loaded.config, &self.doubts) {
            let origin = match number {
                Some(number) => loaded.origin_in_list(table, number, key),
                None => loaded.origin(table, key),
            };
            self.problems.push(Problem { origin, ..problem });
        }
        self.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        Reading { loaded, problems: self.problems, doubts: self.doubts }
    }

    /// With no address to listen on, the one that a platform gives in `PORT`, or 127.0.0.1:8080.
    fn choose_default_listener(&mut self, listen: &mut ListenConfig, port: Option<&String>) {
        if !listen.http.is_empty() || !listen.https.is_empty() {
            return;
        }
        let (host, port) = match port.map(|text| text.parse::<u16>()) {
            Some(Ok(port)) => ("0.0.0.0", port),
            Some(Err(_)) if !self.doubts.covers("listen", "http") && !self.doubts.covers("listen", "https") => {
                let message = "it is not a port number; correct it, or name an address with --listen".to_owned();
                return self.problem(Origin::Variable("PORT".into()), message);
            }
            _ => ("127.0.0.1", 8080),
        };
        listen.http.push(ListenAddress::Tcp { host: host.into(), port });
    }
}

/// Kubernetes and Docker tell every container about a service called "vestibule" in variables that
/// look like ours.
fn is_link(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "; correct --config (or VESTIBULE_CONFIG)",
        io::ErrorKind::PermissionDenied => "; let the user that vestibule runs as read it",
        _ => "",
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

/// Under which key the place of a key is kept that stands in the table `number` of a list.
fn list_key(number: usize, key: &str) -> String {
    format!("{number}.{key}")
}

/// Whether a table of this name may stand in the file more than once, as `[[name]]`.
pub fn is_list(table: &str) -> bool {
    // serde reads a struct from a list as well, and a list from nothing else.
    let reads = |content| Config::deserialize(toml::Table::from_iter([(table.to_owned(), content)])).is_ok();
    reads(Value::Array(Vec::new())) && !reads(Value::Table(toml::Table::new()))
}

/// The names of all tables, or of all keys in one table.
///
/// serde knows them, and tells them when it meets a key that cannot be.
pub fn known_keys(table: Option<&str>) -> Vec<String> {
    let impossible = match table {
        None => toml::Table::from_iter([(String::new(), Value::Boolean(true))]),
        Some(table) if is_list(table) => {
            let item = Value::Table(toml::Table::from_iter([(String::new(), Value::Boolean(true))]));
            toml::Table::from_iter([(table.to_owned(), Value::Array(vec![item]))])
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(text: &str, variables: &[(&str, &str)], flags: &[FlagOption]) -> Result<Loaded, Vec<String>> {
        let mut gathered = Gathered::default();
        gathered.add_file(Path::new("v.toml"), text);
        let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        gathered.add_variables(&pairs.collect());
        gathered.add_flags(flags);
        gathered.finish(None, None).sound().map_err(|error| error.problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn nothing_at_all_gives_the_defaults() {
        let mut expected = Config::default();
        expected.listen.http.push("127.0.0.1:8080".parse().unwrap());
        assert_eq!(gather("", &[], &[]).unwrap().config, expected);
    }

    #[test]
    fn a_list_in_a_variable_is_refused_for_what_is_wrong_in_it() {
        let refusal = gather("", &[("VESTIBULE_COLLECT_ENCODINGS", "brottli")], &[]).unwrap_err();
        assert_eq!(refusal.len(), 1, "{refusal:?}");
        assert!(refusal[0].contains("unknown variant `brottli`") && refusal[0].contains("gzip"), "{refusal:?}");
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
            (
                "[listen]\nhttp = [\"a:1\"]\nproxy_protocol = [\"a:2\"]\ntrusted_proxies = [\"unix\"]",
                "[listen] proxy_protocol: names an address",
            ),
            (
                "[listen]\nhttp = [\"a:1\"]\nproxy_protocol = [\"a:1\"]",
                "[listen] proxy_protocol: needs trusted_proxies",
            ),
            ("[listen]\ntrusted_headers = [\"forwarded\"]", "[listen] trusted_headers: has no effect"),
            (
                "[listen]\ntrusted_proxies = [\"unix\"]\ntrusted_headers = [\"x-real-ip\"]",
                "[listen] trusted_headers: \"x-real-ip\" is not read",
            ),
            ("[upstream]\nrequest_buffer_share = 0", "[upstream] request_buffer_share"),
            ("[upstream]\nrequest_buffer_share = 1.1", "[upstream] request_buffer_share"),
            ("[tls]\ncertificate = \"a\"", "[tls] certificate"),
            ("[tls]\nkey = \"a\"", "[tls] key"),
            ("[tls]\nkey = \"a\"\ncertificate = \"b\"\nself_signed = true", "[tls] self_signed"),
            ("[https]\nhsts_preload = true", "[https] hsts_preload"),
            ("[https]\nhsts_include_subdomains = true", "[https] hsts_include_subdomains"),
            ("[tls]\nself_signed = true\n[https]\nhsts_max_age = \"1d\"", "[https] hsts_max_age"),
            ("[health]\nlive = \"/x\"\nready = \"/x\"", "[health] ready"),
            ("[static]\ndirectory = \"a\"\n[media]\ndirectory = \"b\"\nprefix = \"/static/\"", "[media] prefix"),
            ("[static]\ndirectory = \"a\"\n[media]\ndirectory = \"b\"\nprefix = \"/static/up/\"", "[media] prefix"),
            ("[media]\ninline = [\".svg\"]", "[media] inline"),
            (
                "[[send_file]]\ndirectory = \"a\"\npath = \"/a/\"\n[[send_file]]\npath = \"/a/\"\ndirectory = \"b\"",
                "[[send_file]] path",
            ),
            ("[timeouts]\nidle = 0", "[timeouts] idle"),
            ("[[redirects]]\nfrom = \"/old*\"\nto = \"https://new.example.com*\"", "[[redirects]] to: needs a slash"),
            (
                "[hosts]\nunknown_status = 404",
                "[hosts] unknown_status: 404 is no status for an unknown host; write 400 or 421",
            ),
            ("[limits]\nbody_size = \"2 GiB\"", "[limits] body_size"),
            ("[upstream]\nstream_requests = [\"upload\"]", "\"upload\" fits no URL path"),
            ("[upstream]\nstream_requests = [\"/upload/[\"]", "\"/upload/[\" is not a pattern"),
            ("[upstream]\naddress = \"unix:a\"\nservers = [\"unix:b\"]", "[upstream] address: contradicts `servers`"),
            ("[upstream]\nservers = [\"unix:a\", \"uwsgi+unix:b\"]", "speak different protocols"),
            ("[upstream]\nservers = [\"unix:a\", \"unix:a\"]", "[upstream] servers: unix:a stands there twice"),
            ("[upstream]\nservers = [{ address = \"unix:a\", weight = 0 }]", "weight of unix:a must lie between 1 and"),
            ("[upstream]\nservers = [{ address = \"unix:a\", state = \"drain\" }]", "all servers drain"),
            ("[upstream]\ncheck_path = \"/\"", "[upstream] check_path: needs check_host"),
            ("[upstream]\ncheck_path = \"/\"\n[hosts]\nallowed = [\"*\"]", "[upstream] check_path: needs check_host"),
            ("[upstream]\ncheck_status = [20]", "[upstream] check_status: must be a list of statuses"),
            ("[[routes]]\nupstream = \"chat\"", "[[routes]] upstream: \"chat\" is none of [[applications]]"),
            (
                "[upstream]\naddress = \"unix:a\"\n[[routes]]\nupstream = \"unix:b\"",
                "[[routes]] upstream: covers every",
            ),
            ("[[applications]]\nname = \"chat\"", "[[applications]] name: needs address or servers"),
            (
                "[[applications]]\nname = \"a\"\naddress = \"unix:a\"\n[[applications]]\nname = \"a\"\naddress = \"unix:b\"",
                "[[applications]] name: another",
            ),
            (
                "[[routes]]\npath = \"/a/\"\nupstream = \"unix:a\"\n[[routes]]\npath = \"/a/\"\nupstream = \"unix:b\"",
                "[[routes]] path: another route",
            ),
            ("[collect]\nzstd_level = 23", "[collect] zstd_level"),
            ("[collect]\nkeep_ratio = 1.5", "[collect] keep_ratio"),
        ] {
            let problems = gather(file, &[], &[]).expect_err(file);
            assert!(problems[0].contains(key), "{problems:?}");
            assert!(problems[0].starts_with("v.toml:"), "{problems:?}");
        }
    }

    #[test]
    fn servers_are_read_from_all_forms_and_an_application_adds_to_upstream() {
        let table = "[upstream]\nresponse_timeout = 7\nidle_timeout = 8\n[[upstream.servers]]\naddress = \"unix:a\"\nweight = 2\n\
                     [[applications]]\nname = \"chat\"\nservers = [\"unix:c\"]\nidle_timeout = 9\n\
                     [hosts]\nallowed = [\"*\", \".example.com\"]\n[[routes]]\npath = \"/ws/\"\nupstream = \"chat\"\n";
        let config = gather(table, &[], &[]).unwrap().config;
        assert_eq!((config.upstream.servers[0].weight, config.check_host().unwrap().0.as_str()), (2, "example.com"));
        let chat = config.applications[0].over(&config.upstream);
        assert_eq!((chat.response_timeout.0.as_secs(), chat.idle_timeout.0.as_secs()), (7, 9));
        assert_eq!(chat.all_servers().iter().map(ToString::to_string).collect::<Vec<_>>(), ["unix:c"]);
        for (text, weight) in [("unix:a, unix:b", 1), ("[{ address = \"unix:a\", weight = 3 }, \"unix:b\"]", 3)] {
            let servers = gather("", &[("VESTIBULE_UPSTREAM_SERVERS", text)], &[]).unwrap().config.upstream.servers;
            assert_eq!((servers.len(), servers[0].weight), (2, weight), "for {text}");
        }
    }

    #[test]
    fn mounts_that_contradict_each_other_are_refused() {
        let sound = "[[mounts]]\ndirectory = \"root\"\n[[mounts]]\npath = \"/docs/\"\ndirectory = \"docs\"\nmissing = \"404\"\n";
        let mounts = gather(sound, &[], &[]).unwrap().config.mounts;
        let paths: Vec<_> = mounts.iter().map(|mount| mount.path.0.as_str()).collect();
        assert_eq!((paths, mounts[1].missing), (vec!["/", "/docs/"], super::super::values::Missing::NotFound));
        for (file, expected) in [
            ("[[mounts]]\npath = \"docs\"\ndirectory = \"x\"", "v.toml:2:8: [[mounts]]: \"docs\" is not a URL prefix"),
            ("[[mounts]]\npath = \"/a/\"", "v.toml:1:1: [[mounts]] directory: "),
            (
                "[[mounts]]\ndirectory = \"x\"\n[[mounts]]\ndirectory = \"y\"\npath = \"/\"",
                "v.toml:5:1: [[mounts]] path: another mount has \"/\"",
            ),
            (
                "[static]\ndirectory = \"x\"\n[[mounts]]\ndirectory = \"y\"\npath = \"/static/a/\"",
                "v.toml:5:1: [[mounts]] path: ",
            ),
            (
                "[[mounts]]\ndirectory = \"x\"\npath = \"/a/\"\nexcept = [\"/b/\"]",
                "v.toml:4:1: [[mounts]] except: \"/b/\" is not below",
            ),
        ] {
            let problems = gather(file, &[], &[]).expect_err(file);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{problems:?}");
        }
    }

    #[test]
    fn values_out_of_bounds_are_refused_and_the_bounds_themselves_are_not() {
        for (table, key, good, bad) in [
            ("limits", "connections", "1000000", "1000001"),
            ("limits", "header_size", "\"8 KiB\"", "\"7 KiB\""),
            ("limits", "header_size", "\"16 MiB\"", "\"17 MiB\""),
            ("limits", "header_count", "10000", "10001"),
            ("limits", "http2_streams", "1", "0"),
            ("limits", "threads", "1024", "1025"),
            ("upstream", "connections", "1000000", "1000001"),
            ("upstream", "response_header_size", "\"8 KiB\"", "0"),
            ("upstream", "fail_timeout", "\"1ms\"", "0"),
            ("upstream", "check_interval", "\"1ms\"", "0"),
            ("static", "max_ranges", "1000", "1001"),
            ("static", "max_ranges", "1", "0"),
            ("static", "missing_names", "0", "100001"),
            ("static", "max_preloads", "100", "101"),
            ("static", "max_preload_size", "\"64 KiB\"", "\"65 KiB\""),
            ("static", "preload", "[\"fonts\"]", "[\"images\"]"),
            ("static", "image_twins", "[\"*.jpg\"]", "[\"img/*\"]"),
            ("compression", "gzip_level", "9", "10"),
            ("compression", "gzip_level", "1", "0"),
            ("compression", "brotli_level", "11", "12"),
            ("compression", "zstd_level", "22", "23"),
            ("compression", "zstd_level", "1", "0"),
            ("compression", "padding", "255", "256"),
            ("limits", "body_size", "\"1 GiB\"", "\"1025 MiB\""),
            ("collect", "threads", "1024", "1025"),
            ("https", "port", "1", "0"),
            ("timeouts", "idle", "\"3650d\"", "\"3651d\""),
            ("static", "reload", "0", "\"99ms\""),
            ("timeouts", "shutdown", "315360000", "315360001"),
            ("upstream", "queue_timeout", "0", "9223372036854775807"),
            ("upstream", "queue", "0", "18446744073709551615"),
        ] {
            let written = |value| gather(&format!("[{table}]\n{key} = {value}\n"), &[], &[]);
            assert!(written(good).is_ok(), "[{table}] {key} = {good}: {:?}", written(good));
            let problems = written(bad).expect_err(bad);
            assert!(problems[0].starts_with(&format!("v.toml:2:1: [{table}] {key}: ")), "{problems:?}");
        }
    }

    #[test]
    fn mistakes_and_contradictions_are_told_together() {
        let file = "[health]\nlive = \"/x\"\nready = \"/x\"\n[static]\nmax_age = \"soon\"\n";
        let problems = gather(file, &[], &[]).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("[health] ready") && problems[1].contains("[static] max_age"), "{problems:?}");
    }

    #[test]
    fn what_only_follows_from_a_mistake_is_not_told() {
        for file in [
            "[listen]\nhttps = [\"a:1\"]\n[tls]\ncertificate = 1\nkey = 1",
            "[tls]\ncertificate = \"a\"\nkey = 1",
            "[tls]\ncertificate = \"a\"\nkye = \"b\"",
            "[https]\nhsts_preload = true\nhsts_include_subdomains = true\nhsts_max_age = \"soon\"",
            "[listen]\nhttps = [\"a:1\"]\n[tsl]\nself_signed = true",
        ] {
            let written =
                file.lines().filter(|line| ["= 1", "kye", "soon", "tsl"].iter().any(|bad| line.contains(bad)));
            let problems = gather(file, &[], &[]).expect_err(file);
            assert_eq!(problems.len(), written.count(), "{file}: {problems:#?}");
        }
    }

    #[test]
    fn the_best_of_a_mistaken_configuration_leaves_out_what_is_wrong() {
        let mut gathered = Gathered::default();
        gathered.add_file(Path::new("v.toml"), "[static]\nprefix = \"/a/\"\nmax_age = \"soon\"\n");
        let reading = gathered.finish(None, None);
        assert_eq!(reading.problems.len(), 1);
        assert_eq!(reading.loaded.config.assets.prefix.as_str(), "/a/");
        assert_eq!(reading.loaded.config.assets.max_age, Config::default().assets.max_age);
        assert!(reading.doubts.covers("static", "max_age") && !reading.doubts.covers("static", "prefix"));
    }

    #[test]
    fn variables_that_tell_of_a_service_called_vestibule_are_passed_over() {
        for (name, is_ours) in [
            ("VESTIBULE_SERVICE_HOST", false),
            ("VESTIBULE_SERVICE_PORT", false),
            ("VESTIBULE_SERVICE_PORT_HTTPS", false),
            ("VESTIBULE_PORT", false),
            ("VESTIBULE_PORT_443_TCP", false),
            ("VESTIBULE_PORT_443_TCP_ADDR", false),
            ("VESTIBULE_PORTS", true),
            ("VESTIBULE_SERVICES", true),
        ] {
            assert_eq!(gather("", &[(name, "tcp://10.0.0.1:443")], &[]).is_err(), is_ours, "for {name}");
        }
    }

    #[test]
    fn every_table_has_keys_that_are_known() {
        let tables = known_keys(None);
        let expected = "listen tls https hosts static mounts media send_file upstream routes applications compression limits timeouts health \
                        log access rate_limits staging maintenance pages redirects headers collect";
        assert_eq!(tables.join(" "), expected);
        for table in tables {
            let keys = known_keys(Some(&table));
            assert!(!keys.is_empty(), "[{table}] has no known keys");
            for key in keys {
                // A value that fits nothing: the key is known, its value is refused.
                let nothing = Value::Datetime(toml::value::Datetime { date: None, time: None, offset: None });
                let mut alone = single(&table, &key, nothing);
                if is_list(&table) {
                    alone[&table] = Value::Array(vec![alone[&table].clone()]);
                }
                let error = Config::deserialize(alone);
                assert!(!error.is_err_and(|error| error.message().contains("unknown field")), "[{table}] {key}");
            }
        }
    }

    #[test]
    fn a_list_of_tables_keeps_its_order_and_its_places() {
        let text = "[[redirects]]\nfrom = \"/a\"\nto = \"/b\"\n\n[[redirects]]\nfrom = \"/c/*\"\nto = \"/d/*\"\nstatus = 302\n";
        let loaded = gather(text, &[], &[]).unwrap();
        let statuses: Vec<_> = loaded.config.redirects.iter().map(|redirect| redirect.status.0).collect();
        assert_eq!(statuses, [308, 302]);
        let place = |number, key| loaded.origin_in_list("redirects", number, key).unwrap().to_string();
        assert_eq!(place(1, "to"), "v.toml:7:1");
        assert_eq!(place(0, "status"), "v.toml:1:1"); // the table's own, since the key is not there
    }

    #[test]
    fn a_table_of_a_list_that_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("[[redirects]]\nfrom = \"/a\"", "v.toml:1:1: [[redirects]]: missing field `to`"),
            (
                "[[redirects]]\nfrm = \"/a\"",
                "v.toml:2:1: [[redirects]]: unknown field `frm`, expected one of `from`, `to`, `status`",
            ),
            (
                "[[redirects]]\nfrom = \"/a\"\nto = \"/b\"\nstatus = 200",
                "v.toml:4:10: [[redirects]]: 200 is no redirect; write 301, 302, 303, 307 or 308",
            ),
            ("[[headers]]\nset = { a = \"1\" }", "v.toml:1:1: [[headers]]: missing field `path`"),
            (
                "[[headers]]\npath = \"static/*\"",
                "v.toml:2:8: [[headers]]: \"static/*\" fits no URL path, since those begin with a slash; write one as in \"/static/fonts/*\", \"*.woff2\" or \"*\"",
            ),
            (
                "[[headers]]\npath = \"*\"\n[headers.set]\nA = \"1\"\nETag = \"x\"",
                "v.toml:5:1: [[headers]]: ETag cannot be set or removed here: browsers would keep old bytes for new ones; leave it out",
            ),
            (
                "[[headers]]\npath = \"*\"\nset = { a = \"1\" }\nremove = [\"A\"]",
                "v.toml:4:1: [[headers]] remove: names a a second time; a header is set once or removed",
            ),
            (
                "[[headers]]\npath = \"*\"",
                "v.toml:2:1: [[headers]] path: the rule has no effect; give it `set` or `remove`",
            ),
            (
                "[redirects]\nfrom = \"/a\"",
                "v.toml:1:2: redirects is a list of tables; write [[redirects]] before each",
            ),
        ] {
            assert_eq!(gather(text, &[], &[]).unwrap_err(), [expected], "for {text}");
        }
        let refusal = gather("", &[("VESTIBULE_REDIRECTS_FROM", "/a")], &[]).unwrap_err();
        assert!(refusal[0].contains("stands in the file only"), "{refusal:?}");
    }

    #[test]
    fn the_platform_may_give_the_port() {
        let read = |file: &str, port: &str| {
            let mut gathered = Gathered::default();
            gathered.add_file(Path::new("v.toml"), file);
            gathered.finish(None, Some(&port.to_owned()))
        };
        assert_eq!(read("", "5000").loaded.config.listen.http[0].to_string(), "0.0.0.0:5000");
        let problems = read("[static]\nmax_age = \"soon\"", "tcp://x").problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].to_string().starts_with("environment variable PORT: "), "{problems:?}");
        assert!(read("[listen]\nhttp = [\"a:1\"]", "tcp://x").problems.is_empty());
    }
}
