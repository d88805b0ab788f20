//! Asks a Django project once where its static files are, through its own Python.
//!
//! This is the only code that `collect` runs, and only with `--django`: one child process, with a deadline.
//! `probe.py` does what manage.py would do before a command, asks the finders, and writes its answer to a
//! file, since settings may print. Django's finders are not rebuilt here.
//!
//! [`Question::ask`] gives what was [`Learned`]; `collect` may go on with it, or it is saved, so that the
//! next run needs neither Python nor the project's secrets.

mod answer;
mod error;
mod learned;
mod save;

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub use self::answer::Trouble;
pub use self::error::DjangoError;
pub use self::learned::Learned;
pub use self::save::Saved;

use self::answer::{Reply, printable};
use super::python::Surroundings;

/// What the project's Python is given to run.
const PROBE: &str = include_str!("probe.py");

/// How long a project may take to load and to list its files. Large ones take some seconds.
const DEADLINE: Duration = Duration::from_secs(120);

/// The most that is read of an answer: a million names of files.
const ANSWER_LIMIT: u64 = 64 << 20;

/// How much of the end of standard error is kept for a message.
const SAID_LIMIT: usize = 2 << 10;

/// How long to wait for the end of standard error, which a grandchild may hold open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Whom to ask.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The project's manage.py; `None` is the one here, if there is one.
    pub manage_py: Option<PathBuf>,
    /// The settings module; `None` is that of the environment, or else of manage.py.
    pub settings: Option<String>,
    /// The Python; `None` is that of the virtual environment, or else `python3`.
    pub python: Option<PathBuf>,
    /// The virtual environment that the configuration names.
    pub virtual_env: Option<PathBuf>,
}

impl Question {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// See [`DjangoError`].
    pub fn ask(&self, surroundings: &Surroundings) -> Result<Learned, DjangoError> {
        self.ask_within(DEADLINE, surroundings)
    }

    fn ask_within(&self, deadline: Duration, surroundings: &Surroundings) -> Result<Learned, DjangoError> {
        let manage_py = self.manage_py(surroundings)?;
        let project = manage_py.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let python = self.python.clone();
        let python = python.unwrap_or_else(|| surroundings.interpreter(self.virtual_env.as_deref(), project));
        let answer = tempfile::NamedTempFile::new().map_err(DjangoError::NoPlace)?;

        let mut command = Command::new(&python);
        command.args(["-c", PROBE]).arg(answer.path());
        command.arg(manage_py.unwrap_or_default()).arg(self.settings.as_deref().unwrap_or_default());
        let (status, said) = run(&mut command, &python, deadline)?;

        let mut text = Vec::new();
        let file = answer.as_file();
        file.take(ANSWER_LIMIT + 1).read_to_end(&mut text).map_err(DjangoError::NoPlace)?;
        if text.len() as u64 > ANSWER_LIMIT {
            return Err(DjangoError::TooLong { limit: ANSWER_LIMIT });
        }
        if text.is_empty() {
            return Err(DjangoError::NoAnswer { python, status, said });
        }
        match serde_json::from_slice(&text).map_err(DjangoError::Garbled)? {
            Reply::Trouble { error } => Err(DjangoError::Trouble { python, trouble: error }),
            Reply::Answer(answer) => learned::learn(*answer),
        }
    }

    /// The manage.py to run. Without one, a settings module must be known.
    fn manage_py(&self, surroundings: &Surroundings) -> Result<Option<PathBuf>, DjangoError> {
        let named = self.manage_py.clone().map(|path| if path.is_dir() { path.join("manage.py") } else { path });
        let path = named.clone().unwrap_or_else(|| "manage.py".into());
        let settings_are_known = self.settings.is_some() || surroundings.settings_module.is_some();
        match path.is_file() {
            true => Ok(Some(path)),
            false if named.is_none() && settings_are_known => Ok(None),
            false => Err(DjangoError::NoManagePy(path)),
        }
    }
}

/// Runs it to its end, which the deadline may bring. Standard output is nobody's: the answer goes elsewhere.
fn run(command: &mut Command, python: &Path, deadline: Duration) -> Result<(ExitStatus, String), DjangoError> {
    let cannot_start = |cause| DjangoError::CannotStart { python: python.to_owned(), cause };
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(cannot_start)?;
    let said = child.stderr.take().map(listen);
    let ended = wait(&mut child, deadline).map_err(cannot_start)?;
    let said =
        said.and_then(|said| said.recv_timeout(LAST_WORDS).ok()).map(|said| printable(&said)).unwrap_or_default();
    match ended {
        Some(status) => Ok((status, said)),
        None => Err(DjangoError::TooSlow { python: python.to_owned(), waited: deadline, said }),
    }
}

fn wait(child: &mut Child, deadline: Duration) -> std::io::Result<Option<ExitStatus>> {
    const PAUSE: Duration = Duration::from_millis(10);
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reads on for as long as something is written, and keeps the end of it.
fn listen(mut output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut end = VecDeque::new();
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut piece) {
            end.extend(&piece[..length]);
            end.drain(..end.len().saturating_sub(SAID_LIMIT));
        }
        // Nobody waits any more when the child was too slow.
        let _ = sender.send(String::from_utf8_lossy(end.make_contiguous()).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(script: &str) -> (tempfile::TempDir, Question) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("python");
        fs_err::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs_err::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        let question =
            Question { python: Some(python), settings: Some("mysite.settings".into()), ..Question::default() };
        (folder, question)
    }

    #[test]
    fn a_project_that_hangs_is_stopped_at_the_deadline() {
        let (_folder, question) = python("echo waiting for the database >&2; exec sleep 60");
        let started = Instant::now();
        let error = question.ask_within(Duration::from_millis(300), &Surroundings::default()).unwrap_err();
        assert!(matches!(&error, DjangoError::TooSlow { said, .. } if said.contains("waiting")), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_python_that_dies_is_quoted() {
        let (_folder, question) =
            python("echo answer on stdout; yes noise | head -n 5000 >&2; echo killed >&2; exit 9");
        let error = question.ask(&Surroundings::default()).unwrap_err().to_string();
        assert!(error.contains("ended without an answer (exit status: 9); it said last:"), "{error}");
        assert!(error.ends_with("killed") && error.len() < 2 * SAID_LIMIT + 500, "{error}");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        // The first argument behind the probe is the file for the answer.
        let (_folder, question) = python("echo '{\"django\": 6}' > \"$3\"");
        let error = question.ask(&Surroundings::default()).unwrap_err();
        assert!(matches!(error, DjangoError::Garbled(_)), "{error}");
    }

    #[test]
    fn an_answer_without_end_is_not_read() {
        let (_folder, question) = python(&format!("head -c {} /dev/zero > \"$3\"", ANSWER_LIMIT + 1));
        let error = question.ask(&Surroundings::default()).unwrap_err();
        assert!(matches!(error, DjangoError::TooLong { .. }), "{error}");
    }

    #[test]
    fn without_manage_py_the_settings_must_be_known() {
        let (folder, question) = python("exit 1");
        let manage_py = folder.path().join("manage.py");
        let question = Question { manage_py: Some(manage_py.clone()), ..question };
        let error = question.ask(&Surroundings::default()).unwrap_err();
        assert!(matches!(&error, DjangoError::NoManagePy(path) if *path == manage_py), "{error}");
    }
}
