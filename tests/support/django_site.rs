//! The Django project of `fixtures/django` as it would be deployed: collected by the real vestibule,
//! run by a real application server, with the real vestibule before it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::curl::Answer;
use super::process::{Process, wait_until};

/// A line of Django's releases, with an environment that `tests/setup` made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Django {
    /// The one with long-term support.
    Five2,
    /// The newest.
    Six,
}

impl Django {
    /// A program of the virtual environment.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        let environment = match self {
            Self::Five2 => "venv-django52",
            Self::Six => "venv-django6",
        };
        let program = repository().join("target").join(environment).join("bin").join(name);
        assert!(program.exists(), "{} is not there; run `make test`", program.display());
        program
    }
}

/// An application server and the way it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// gunicorn with one request per process.
    GunicornSync,
    /// gunicorn with threads, which keeps connections open.
    GunicornThreads,
    /// gunicorn, over the uwsgi protocol.
    GunicornUwsgi,
    /// uWSGI, over HTTP.
    UwsgiHttp,
    /// uWSGI, over its own protocol.
    UwsgiOwn,
}

impl Server {
    fn command(self, django: Django, folder: &Path) -> Command {
        let socket = format!("unix:{}", folder.join("app.sock").display());
        let gunicorn = |flags: &[&str]| {
            let mut command = Command::new(django.program("gunicorn"));
            command.arg("-c").arg(repository().join("config/gunicorn.conf.py"));
            command.args(["--bind", &socket]).args(flags).arg("lobby.wsgi");
            command
        };
        match self {
            Self::GunicornSync => gunicorn(&["--worker-class", "sync", "--threads", "1"]),
            Self::GunicornThreads => gunicorn(&[]),
            Self::GunicornUwsgi => gunicorn(&["--protocol", "uwsgi"]),
            Self::UwsgiHttp => uwsgi(django, folder, "http-socket"),
            Self::UwsgiOwn => uwsgi(django, folder, "uwsgi-socket"),
        }
    }

    fn upstream(self, folder: &Path) -> String {
        let (scheme, path) = match self {
            Self::GunicornSync | Self::GunicornThreads | Self::UwsgiHttp => ("unix", "decoded"),
            Self::GunicornUwsgi => ("uwsgi+unix", "encoded"),
            Self::UwsgiOwn => ("uwsgi+unix", "decoded"),
        };
        format!(
            "[upstream]\nhold = \"60s\"\naddress = \"{scheme}:{}/app.sock\"\nuwsgi_path = \"{path}\"\n",
            folder.display()
        )
    }
}

/// uWSGI with `config/uwsgi.ini`, whose first three lines are the site's.
fn uwsgi(django: Django, folder: &Path, socket_option: &str) -> Command {
    let published = fs_err::read_to_string(repository().join("config/uwsgi.ini")).unwrap();
    let (ini, adapted) = (
        folder.join("uwsgi.ini"),
        published.lines().map(|line| match line.split(" = ").next() {
            Some("chdir") => format!("chdir = {}\n", project().display()),
            Some("module") => "module = lobby.wsgi:application\n".to_owned(),
            Some("uwsgi-socket") => format!("{socket_option} = {}/app.sock\n", folder.display()),
            _ => format!("{line}\n"),
        }),
    );
    fs_err::write(&ini, adapted.collect::<String>()).unwrap();
    let mut command = Command::new(django.program("uwsgi"));
    command.arg("--ini").arg(ini);
    command
}

/// The demo site, running.
pub(crate) struct Site {
    /// Which Django.
    pub(crate) django: Django,
    /// Which application server.
    pub(crate) server: Server,
    https_port: u16,
    // Dropped in this order: nobody shall miss the application, and both use the folder.
    _vestibule: Process,
    application: Option<Process>,
    folder: TempDir,
}

impl Site {
    /// Collects, prepares the database, starts both servers, and waits until a page can be had.
    pub(crate) fn start(django: Django, server: Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_certificate(folder.path());
        let config = folder.path().join("vestibule.toml");
        fs_err::write(&config, config_text(folder.path(), server)).unwrap();
        collect_static(django, folder.path());
        vestibule(&["collect", "--config", config.to_str().unwrap()]);
        manage(django, folder.path(), &["prepare"]);

        let mut serve = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        let vestibule = Process::start(serve.args(["serve", "--config", config.to_str().unwrap()]));
        let https_port = vestibule.wait_for_line("its address", https_port_in);
        let mut site = Self { django, server, https_port, _vestibule: vestibule, application: None, folder };
        site.start_application();
        site
    }

    /// Starts the application server and waits until vestibule can reach it.
    pub(crate) fn start_application(&mut self) {
        let mut command = self.server.command(self.django, self.folder.path());
        self.application = Some(Process::start(in_project(&mut command, self.folder.path())));
        wait_until("the application can be reached", || (self.get("/-/ready").status == 200).then_some(()));
    }

    /// Stops the application server; vestibule goes on.
    pub(crate) fn stop_application(&mut self) {
        self.application = None;
    }

    /// The site's origin.
    pub(crate) fn origin(&self) -> String {
        format!("https://localhost:{}", self.https_port)
    }

    /// A curl that trusts the site's certificate, for one path.
    pub(crate) fn curl(&self, path: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.arg("--cacert").arg(self.folder.path().join("certificate.pem")).args(["--noproxy", "*"]);
        curl.arg(self.origin() + path);
        curl
    }

    /// An ordinary GET.
    pub(crate) fn get(&self, path: &str) -> Answer {
        Answer::of(&mut self.curl(path))
    }

    /// A file in the site's folder, which goes with the site.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `{% static %}` has of the names.
    pub(crate) fn manifest(&self) -> serde_json::Value {
        serde_json::from_slice(&fs_err::read(self.file("static/staticfiles.json")).unwrap()).unwrap()
    }
}

fn config_text(folder: &Path, server: Server) -> String {
    let upstream = server.upstream(folder);
    let folder = folder.display();
    // The best compression takes its time, and its result is looked at elsewhere.
    format!(
        "[listen]\nhttps = [\"localhost:0\"]\n\
         [tls]\ncertificate = \"{folder}/certificate.pem\"\nkey = \"{folder}/key.pem\"\n\
         [static]\ndirectory = \"{folder}/static\"\n\
         [collect]\nsources = [\"{folder}/plain\"]\njavascript_modules = true\n\
         gzip_level = 1\nbrotli_level = 1\nzstd_level = 1\n{upstream}"
    )
}

/// A certificate for localhost, its key, and the hash of its public key by which a browser knows it.
fn make_certificate(folder: &Path) {
    use rcgen::PublicKeyData as _;
    use sha2::Digest as _;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs_err::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
    fs_err::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs_err::write(folder.join("key.sha256"), sha2::Sha256::digest(made.signing_key.subject_public_key_info())).unwrap();
}

/// Django's own collecting, without any work on the files.
pub(crate) fn collect_static(django: Django, folder: &Path) {
    let mut command = Command::new(django.program("python"));
    command.args(["manage.py", "collectstatic", "--no-post-process", "--noinput", "-v0"]);
    succeed(in_project(&mut command, folder).env("STATIC_ROOT", folder.join("plain")));
}

fn manage(django: Django, folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(django.program("python"));
    succeed(in_project(command.arg("manage.py").args(arguments), folder));
}

/// Runs the real vestibule to its end.
pub(crate) fn vestibule(arguments: &[&str]) -> Output {
    succeed(Command::new(env!("CARGO_BIN_EXE_vestibule")).args(arguments))
}

/// Runs a program to its end, which must be a good one.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{complaint}", output.status);
    output
}

fn in_project<'a>(command: &'a mut Command, state: &Path) -> &'a mut Command {
    // No .pyc files among the fixtures, and nothing from the environment of whoever runs the tests.
    command.current_dir(project()).env("STATE_DIR", state).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env_remove("STATIC_ROOT").env_remove("DJANGO_SETTINGS_MODULE").env_remove("GUNICORN_CMD_ARGS")
}

/// The port in the line with which `serve` tells its address for TLS.
pub(crate) fn https_port_in(line: &str) -> Option<u16> {
    let (address, _) = line.split_once("listening on ")?.1.split_once(" (https)")?;
    address.rsplit(':').next()?.parse().ok()
}

/// The repository's folder.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn project() -> PathBuf {
    repository().join("fixtures/django")
}
