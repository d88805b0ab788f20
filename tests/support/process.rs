//! A program that runs beside a test: started, listened to, and stopped with the test.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long anything may take that ought to happen soon. Generous, for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A running program. What it prints is shown as the test's output when the test fails.
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts it, with both outputs read line by line.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().rsplit('/').next().expect("never empty").to_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}; run `make test`"));
        let (sender, lines) = channel();
        hand_on(&name, child.stdout.take().expect("was piped"), sender.clone());
        hand_on(&name, child.stderr.take().expect("was piped"), sender);
        Self { name, child, lines }
    }

    /// The next printed line for which `find` has an answer.
    pub(crate) fn wait_for_line<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("{} never told {what}: {error}", self.name));
            if let Some(found) = find(&line) {
                return found;
            }
        }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        wait_until("a program has stopped", || self.child.try_wait().expect("it is our child"))
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill is part of every system").success(), "{} was gone already", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // gunicorn's and uWSGI's workers go only with a first process that was asked to go.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

fn hand_on(name: &str, output: impl Read + Send + 'static, lines: Sender<String>) {
    let name = name.to_owned();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            // The test harness shows this for a failed test only.
            println!("{name}: {line}");
            // Nobody waits for lines any more: they are read on, so that the program can go on.
            let _ = lines.send(line);
        }
    });
}

/// Asks again and again until there is an answer.
pub(crate) fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "still waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
