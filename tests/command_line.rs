//! The command line as a contract: flags, exit codes, standard output and standard error.

use std::path::Path;
use std::process::{Command, Output};

fn vestibule(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.args(arguments).current_dir(folder).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_teaches_with_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["collect", "--help"], &["serve", "--help"], &["check", "--help"]] {
        let output = vestibule(arguments, folder.path());
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("\n  vestibule "), "{arguments:?} shows no example");
    }
}

#[test]
fn the_operators_mistakes_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("bad.toml"), "[static]\nprefx = \"/a/\"\nmax_age = \"soon\"\n").unwrap();
    fs_err::write(folder.path().join("broken.toml"), "[static\n").unwrap();
    for (arguments, expected) in [
        (&["serv"][..], "serve"),
        (&["serve", "--nonsense"], "--nonsense"),
        (&["serve", "--config", "absent.toml"], "absent.toml"),
        (&["serve", "--config", "bad.toml"], "bad.toml:2:1: unknown key prefx in [static]; did you mean prefix?"),
        (&["check", "--config", "bad.toml"], "bad.toml:3:1: [static] max_age"),
        (&["serve", "--config", "broken.toml"], "broken.toml:1:"),
        (&["serve", "--listen", "nowhere"], "--listen: [listen] http: \"nowhere\" is not an address"),
        (&["serve", "--listen-tls", "127.0.0.1:0"], "--listen-tls: [listen] https: needs a certificate"),
        (&["serve", "--listen", "127.0.0.1:0", "--static", "absent"], "absent"),
        (&["serve", "--upstream", "/run/app.sock"], "\"unix:PATH\""),
        (&["collect", "--source", "absent", "--output", "out"], "absent"),
    ] {
        let output = vestibule(arguments, folder.path());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = vestibule(&["serve", "--listen", &address], folder.path());
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(told.contains(&format!("--listen: cannot listen on {address}")) && told.contains("hint:"), "{told}");
}

#[test]
fn check_tells_everything_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[listen]\nhttps = [\"127.0.0.1:0\"]\n[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n\
                  [static]\ndirectory = \"absent\"\n[upstream]\naddress = \"unix:absent.sock\"\n";
    fs_err::write(folder.path().join("v.toml"), config).unwrap();
    let output = vestibule(&["check", "--config", "v.toml"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    let report = text(&output.stdout);
    for place in ["v.toml:4:1: ", "v.toml:7:1: ", "v.toml:9:1: "] {
        assert!(report.lines().any(|line| line.starts_with("wrong") && line.contains(place)), "{report}");
    }
}

#[test]
fn check_is_content_with_what_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let _application = std::os::unix::net::UnixListener::bind(folder.path().join("app.sock")).unwrap();
    fs_err::create_dir(folder.path().join("source")).unwrap();
    fs_err::write(folder.path().join("source/a.css"), "a{color:red}").unwrap();
    let collected = vestibule(&["collect", "--source", "source", "--output", "public"], folder.path());
    assert_eq!(collected.status.code(), Some(0), "{}", text(&collected.stderr));
    let arguments = ["check", "--static", "public", "--upstream", "unix:app.sock", "--listen", "127.0.0.1:0"];
    let output = vestibule(&arguments, folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}
