//! The command line: subcommands and the few flags, with no default and no I/O.
//!
//! A flag is a way to write one option of the configuration, so it is handed on as text and read by
//! the same code as the file and the environment.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const ABOUT: &str = "The front door of a Django site: static files, TLS, and a proxy to gunicorn or uWSGI";

// The screens below are not wrapped anew: no line is longer than 80 columns.

const EXAMPLES: &str = "\
A Django site, from its source to the browser:

  vestibule collect --django --output public  # asks manage.py's project once
  gunicorn mysite.wsgi --bind unix:/run/mysite.sock
  vestibule serve --listen 0.0.0.0:80 --listen-tls 0.0.0.0:443 \\
      --cert fullchain.pem --key privkey.pem \\
      --static public --upstream unix:/run/mysite.sock

Every flag but those that say what to do and how to print is also an option of
the configuration file (--config FILE) and an environment variable: [static]
prefix is VESTIBULE_STATIC_PREFIX.

Exit codes: 0 done, 1 failed, 2 a mistake in the flags, the file or the
environment.";

const COLLECT_EXAMPLES: &str = "\
Examples:

  vestibule collect --source static --source vendor=node_modules/htmx.org/dist \\
      --output public
  vestibule collect --app django.contrib.admin --app rest_framework \\
      --source static --output public
  vestibule collect --config vestibule.toml
  vestibule collect --config vestibule.toml --format github --report r.html
  vestibule collect --check          reads that output again and proves it
  vestibule collect --django         asks the project here, by its own Python
  vestibule collect --django --save  writes the answers to vestibule.toml; then
  vestibule collect                  needs no Python, SECRET_KEY or database

Django then finds the new names with its stock ManifestStaticFilesStorage and
STATIC_ROOT set to the output folder. The first source that has a path wins, as
with Django's finders; apps come behind the sources.

With --django, Django's finders say which folders; the [collect] sources and
apps of the configuration are not used. What else the configuration says stays,
and STATIC_URL, STATIC_ROOT and the rest are asked for what it does not say. The
Python is --python, or that of [collect] virtual_env, $VIRTUAL_ENV, or .venv or
venv beside manage.py, or python3.

With --format json, standard output is one document: the numbers, every finding
with its file, line and column, and the error, if there is one. With --format
github it is annotations for a workflow.";

const SERVE_EXAMPLES: &str = "\
Examples:

  vestibule serve --listen 127.0.0.1:8080 --static public \\
      --upstream unix:/run/mysite.sock
  vestibule serve --listen 0.0.0.0:80 --listen-tls 0.0.0.0:443 \\
      --cert fullchain.pem --key privkey.pem \\
      --static public --upstream uwsgi+unix:/run/mysite.sock
  vestibule serve --listen-tls 127.0.0.1:8443 --self-signed \\
      --upstream http://127.0.0.1:8000

Signals: SIGHUP reads configuration, certificate and static files again and
changes over if all are sound; where it listens, [limits] connections and
threads, and [log] change at a restart only. SIGTERM and SIGINT stop accepting,
let running requests finish, and exit.";

const CHECK_EXAMPLES: &str = "\
Example:

  vestibule check --config /etc/vestibule/vestibule.toml \\
      && systemctl reload vestibule

Reads the configuration, the manifest, the certificate and the application's
socket, and tells everything that is wrong at once. Exit code 0: all sound;
2: something is not.";

const AUDIT_EXAMPLES: &str = "\
Examples:

  vestibule audit-templates . --output public
  vestibule audit-templates shop/templates venv/lib/python3.13/site-packages/cms

Judged are constants: {% static \"…\" %}, static(\"…\") in Jinja and Python,
staticfiles_storage.url(\"…\"), and the css and js of forms' Media. Django raises
an error for a name that the manifest lacks, on the page that has it, in
production only. Exit code 0: none; 1: some.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "vestibule", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hash, rewrite and compress static files, at build time
    #[command(after_help = COLLECT_EXAMPLES)]
    Collect(CollectFlags),
    /// Answer static files, terminate TLS and proxy to the application
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeFlags),
    /// Tell what is wrong with the configuration, the static files, the certificate and the socket
    #[command(after_help = CHECK_EXAMPLES)]
    Check(ServeFlags),
    /// Find the static files that templates and Python name and the manifest lacks
    #[command(after_help = AUDIT_EXAMPLES)]
    AuditTemplates(AuditFlags),
}

impl Command {
    /// The configuration file that was named.
    pub fn config_file(&self) -> Option<&PathBuf> {
        match self {
            Self::Collect(flags) => flags.config.as_ref(),
            Self::Serve(flags) | Self::Check(flags) => flags.config.as_ref(),
            Self::AuditTemplates(flags) => flags.config.as_ref(),
        }
    }

    /// How to tell how it ended.
    pub fn format(&self) -> Format {
        match self {
            Self::Collect(flags) => flags.format.unwrap_or_default(),
            Self::AuditTemplates(flags) => flags.format.unwrap_or_default(),
            Self::Serve(_) | Self::Check(_) => Format::Text,
        }
    }

    /// The options that flags have set.
    pub fn options(&self) -> Vec<FlagOption> {
        match self {
            Self::Collect(flags) => flags.options(),
            Self::Serve(flags) | Self::Check(flags) => flags.options(),
            Self::AuditTemplates(flags) => flags.options(),
        }
    }
}

/// Flags of `collect`.
#[derive(Debug, Args)]
pub struct CollectFlags {
    /// The configuration file [default: vestibule.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A source tree, with an optional folder to put it under; may be repeated
    #[arg(long, value_name = "[PREFIX=]DIR")]
    pub source: Vec<String>,
    /// A Django app whose static folder is a source, as in INSTALLED_APPS; may be repeated
    #[arg(long, value_name = "NAME")]
    pub app: Vec<String>,
    /// Ask Django for the sources, through manage.py
    #[arg(long, value_name = "MANAGE_PY", num_args = 0..=1, conflicts_with_all = ["source", "app", "check"])]
    pub django: Option<Option<PathBuf>>,
    /// The settings module to ask [default: $DJANGO_SETTINGS_MODULE, or that of manage.py]
    #[arg(long, value_name = "MODULE", requires = "django")]
    pub settings: Option<String>,
    /// The Python to ask with [default: that of the virtual environment, or python3]
    #[arg(long, value_name = "PATH", requires = "django")]
    pub python: Option<PathBuf>,
    /// Write the answers to a configuration file, vestibule.toml or another, and collect nothing
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "vestibule.toml", requires = "django")]
    pub save: Option<PathBuf>,
    /// The folder to write: Django's STATIC_ROOT [default: static.directory of the configuration]
    #[arg(long, value_name = "DIR")]
    pub output: Option<String>,
    /// The output of the release before, to carry its files over [default: the output folder itself]
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    pub previous: Option<String>,
    /// Write nothing; read the output again and prove every file, copy, name and reference in it
    #[arg(long)]
    pub check: bool,
    /// The path of Django's STATIC_URL, for references such as url(/static/a.png) [default: /static/]
    #[arg(long, value_name = "PATH")]
    pub static_prefix: Option<String>,
    /// A page to write about the release: sizes, savings, and what has changed since the last one
    #[arg(long, value_name = "FILE.html", conflicts_with = "check")]
    pub report: Option<String>,
    /// How to tell what was found and done [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Option<Format>,
}

impl CollectFlags {
    fn options(&self) -> Vec<FlagOption> {
        let mut options = Vec::new();
        many(&mut options, "--source", ("collect", "sources"), &self.source);
        many(&mut options, "--app", ("collect", "apps"), &self.app);
        one(&mut options, "--output", ("collect", "output"), self.output.as_ref());
        one(&mut options, "--previous", ("collect", "previous"), self.previous.as_ref());
        one(&mut options, "--static-prefix", ("static", "prefix"), self.static_prefix.as_ref());
        one(&mut options, "--report", ("collect", "report"), self.report.as_ref());
        options
    }
}

/// How to tell how a command ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines on standard error
    #[default]
    Text,
    /// One JSON document on standard output
    Json,
    /// Annotations for GitHub's workflows on standard output
    Github,
}

/// Flags of `audit-templates`.
#[derive(Debug, Args)]
pub struct AuditFlags {
    /// Where the templates and Python files are: folders, or single files
    #[arg(value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// The configuration file [default: vestibule.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder that `vestibule collect` wrote [default: as for collect]
    #[arg(long, alias = "static", value_name = "DIR")]
    pub output: Option<String>,
    /// Also list the names that are only known at run time
    #[arg(long)]
    pub dynamic: bool,
    /// How to tell what was found: for people, as one document, or as annotations for a workflow [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Option<Format>,
}

impl AuditFlags {
    fn options(&self) -> Vec<FlagOption> {
        let mut options = Vec::new();
        one(&mut options, "--output", ("collect", "output"), self.output.as_ref());
        options
    }
}

/// Flags of `serve` and `check`.
#[derive(Debug, Args)]
pub struct ServeFlags {
    /// The configuration file [default: vestibule.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// An address for plain HTTP, or unix:PATH; may be repeated [default: 127.0.0.1:8080, if there is no --listen-tls]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Vec<String>,
    /// An address for HTTPS; may be repeated. Plain HTTP is then redirected to it
    #[arg(long, value_name = "HOST:PORT")]
    pub listen_tls: Vec<String>,
    /// The certificate and its chain
    #[arg(long, value_name = "PEM")]
    pub cert: Option<String>,
    /// The certificate's private key
    #[arg(long, value_name = "PEM")]
    pub key: Option<String>,
    /// Make a certificate in memory, for development
    #[arg(long)]
    pub self_signed: bool,
    /// The folder that `vestibule collect` wrote
    #[arg(long = "static", value_name = "DIR")]
    pub static_directory: Option<String>,
    /// The path of Django's STATIC_URL [default: /static/]
    #[arg(long, value_name = "PATH")]
    pub static_prefix: Option<String>,
    /// For development: show files that have come, gone or changed with the next request
    #[arg(long)]
    pub watch: bool,
    /// The application: unix:PATH, http://HOST:PORT, uwsgi+unix:PATH or uwsgi://HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    pub upstream: Option<String>,
    /// A name this site answers to, as in ALLOWED_HOSTS; may be repeated [default: any]
    #[arg(long, value_name = "NAME")]
    pub allowed_host: Vec<String>,
}

impl ServeFlags {
    fn options(&self) -> Vec<FlagOption> {
        let mut options = Vec::new();
        many(&mut options, "--listen", ("listen", "http"), &self.listen);
        many(&mut options, "--listen-tls", ("listen", "https"), &self.listen_tls);
        one(&mut options, "--cert", ("tls", "certificate"), self.cert.as_ref());
        one(&mut options, "--key", ("tls", "key"), self.key.as_ref());
        if self.self_signed {
            options.push(FlagOption { flag: "--self-signed", key: ("tls", "self_signed"), value: FlagValue::On });
        }
        one(&mut options, "--static", ("static", "directory"), self.static_directory.as_ref());
        one(&mut options, "--static-prefix", ("static", "prefix"), self.static_prefix.as_ref());
        if self.watch {
            options.push(FlagOption { flag: "--watch", key: ("static", "watch"), value: FlagValue::On });
        }
        one(&mut options, "--upstream", ("upstream", "address"), self.upstream.as_ref());
        many(&mut options, "--allowed-host", ("hosts", "allowed"), &self.allowed_host);
        options
    }
}

/// One option of the configuration that a flag has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagOption {
    /// The flag, for messages.
    pub flag: &'static str,
    /// The option's table and key.
    pub key: (&'static str, &'static str),
    /// What the operator wrote.
    pub value: FlagValue,
}

/// What the operator wrote behind a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagValue {
    /// Nothing: the flag itself says it.
    On,
    /// One value.
    Text(String),
    /// The values of a flag that may be repeated.
    List(Vec<String>),
}

fn one(options: &mut Vec<FlagOption>, flag: &'static str, key: (&'static str, &'static str), value: Option<&String>) {
    options.extend(value.map(|text| FlagOption { flag, key, value: FlagValue::Text(text.clone()) }));
}

fn many(options: &mut Vec<FlagOption>, flag: &'static str, key: (&'static str, &'static str), values: &[String]) {
    if !values.is_empty() {
        options.push(FlagOption { flag, key, value: FlagValue::List(values.to_vec()) });
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_examples_fit_a_terminal() {
        for text in [EXAMPLES, COLLECT_EXAMPLES, SERVE_EXAMPLES, CHECK_EXAMPLES, AUDIT_EXAMPLES] {
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }

    #[test]
    fn a_repeated_flag_becomes_one_option() {
        let line = CommandLine::parse_from(["vestibule", "collect", "--source", "a", "--source", "b=c"]);
        let list = FlagValue::List(vec!["a".into(), "b=c".into()]);
        assert_eq!(line.command.options(), [FlagOption { flag: "--source", key: ("collect", "sources"), value: list }]);
    }
}
