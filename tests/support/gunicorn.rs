//! A real gunicorn with a small application of its own, without Django, in a folder that goes with it.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::django_site::Django;
use super::process::Process;

/// What it answers: `/large` is a megabyte, `/upload` says how much came, everything else says which process answers,
/// `/hinted` after an early hint, and `/end` ends it without asking for the body. What comes with `?note=` is written down, one line each.
const APPLICATION: &str = r#"
import os

def application(environ, start_response):
    body = environ["wsgi.input"].read() if environ["PATH_INFO"] != "/end" else b""
    query = environ["QUERY_STRING"]
    if query.startswith("note="):
        with open("notes", "a") as notes:
            notes.write(query[5:] + "\n")
    if environ["PATH_INFO"] == "/end":
        os._exit(1)
    if environ["PATH_INFO"] == "/hinted":
        environ["wsgi.early_hints"]([("Link", "</static/a.css>; rel=preload; as=style")])
    if environ["PATH_INFO"] == "/large":
        answer = b"0123456789abcdef" * 62500
    elif environ["PATH_INFO"] == "/upload":
        answer = str(len(body)).encode()
    else:
        answer = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
"#;

/// An ASGI application: it says "chat" over HTTP, and on a WebSocket repeats what it hears, louder.
const CHAT: &str = r#"
async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"].upper()})
    elif scope["type"] == "http":
        if scope["path"] == "/hinted":
            hint = [(b"link", b"</static/a.css>; rel=preload; as=style")]
            await send({"type": "http.response.informational", "status": 103, "headers": hint})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"chat"})
"#;

/// A running gunicorn.
pub(crate) struct Gunicorn {
    process: Option<Process>,
    module: &'static str,
    flags: Vec<&'static str>,
    folder: TempDir,
}

impl Gunicorn {
    /// Starts it. The socket may come a moment later.
    pub(crate) fn start(flags: &[&'static str]) -> Self {
        Self::with("small", flags)
    }

    /// Starts one that speaks WebSocket.
    pub(crate) fn chat() -> Self {
        Self::with("chat", &["--workers", "1", "--worker-class", "asgi"])
    }

    fn with(module: &'static str, flags: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("small.py"), APPLICATION).unwrap();
        fs_err::write(folder.path().join("chat.py"), CHAT).unwrap();
        let mut gunicorn = Self { process: None, module, flags: flags.to_vec(), folder };
        gunicorn.start_again();
        gunicorn
    }

    /// The value of `upstream.address`.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.file("app.sock").display())
    }

    /// Stops it, with its socket.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it anew, with a new socket.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(Django::Six.program("gunicorn"));
        command.args(["--bind", &self.address(), "--no-control-socket", "--worker-tmp-dir", "/dev/shm"]);
        command.args(&self.flags).arg(self.module).current_dir(self.folder.path()).env_remove("GUNICORN_CMD_ARGS");
        self.process = Some(Process::start(command.env("PYTHONDONTWRITEBYTECODE", "1")));
    }

    /// Tells it to renew its workers.
    pub(crate) fn hang_up(&self) {
        self.process.as_ref().expect("it runs").signal("HUP");
    }

    /// What was written down.
    pub(crate) fn notes(&self) -> Vec<String> {
        fs_err::read_to_string(self.file("notes")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
