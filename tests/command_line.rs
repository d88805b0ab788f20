//! The command line as a contract: flags, exit codes, standard output and standard error.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

fn command(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

fn vestibule(arguments: &[&str], folder: &Path) -> Output {
    finished(command(arguments, folder).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// What the program said and how it ended; one that should have refused to start, and did not, is killed.
fn finished(command: &mut Command) -> Output {
    const TIME: Duration = Duration::from_secs(20);
    let child = command.spawn().unwrap();
    let process = child.id().to_string();
    let (sender, ended) = channel();
    let waiting = std::thread::spawn(move || {
        let output = child.wait_with_output();
        // Nobody listens any more when the time was up.
        let _ = sender.send(());
        output
    });
    let in_time = ended.recv_timeout(TIME).is_ok();
    if !in_time {
        Command::new("kill").args(["-s", "KILL", &process]).status().unwrap();
    }
    let output = waiting.join().unwrap().unwrap();
    assert!(in_time, "{command:?} did not end in {TIME:?}: {}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_teaches_with_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--help"][..],
        &["collect", "--help"],
        &["serve", "--help"],
        &["check", "--help"],
        &["audit-templates", "--help"],
    ] {
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
fn a_folder_for_what_waits_that_takes_no_files_is_refused_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[listen]\nhttp = [\"127.0.0.1:0\"]\n\
                  [upstream]\naddress = \"unix:app.sock\"\nbuffer_directory = \"absent\"\n";
    fs_err::write(folder.path().join("v.toml"), config).unwrap();
    let output = vestibule(&["serve", "--config", "v.toml"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(
        told.contains("[upstream] buffer_directory: cannot make a file in absent") && told.contains("hint:"),
        "{told}"
    );
    let report = vestibule(&["check", "--config", "v.toml"], folder.path());
    assert!(text(&report.stdout).contains("wrong   v.toml:5:1: cannot make a file in absent"), "{report:?}");
}

#[test]
fn a_limit_of_open_files_that_lets_nobody_in_is_refused_and_a_low_one_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[listen]\nhttp = [\"127.0.0.1:0\"]\n[limits]\nthreads = 1\nconnections = 1000\n";
    fs_err::write(folder.path().join("v.toml"), config).unwrap();
    let limited = |limit: &str| {
        let mut command = Command::new("sh");
        let script = "ulimit -n $1 && shift && exec \"$@\"";
        command.args(["-c", script, "sh", limit, env!("CARGO_BIN_EXE_vestibule"), "serve", "--config", "v.toml"]);
        command.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let output = finished(&mut limited("24"));
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("only 24 files and connections") && told.contains("LimitNOFILE=65536"), "{told}");
    let mut running = limited("300").spawn().unwrap();
    let mut lines = BufReader::new(running.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.by_ref().take_while(|line| !line.contains("listening on")).collect::<Vec<_>>().join("\n");
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(told.contains("only 300 files and connections may be open at once"), "{told}");
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
fn check_tells_where_a_rule_names_a_file_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("public")).unwrap();
    fs_err::write(folder.path().join("public/base.css"), "a{}").unwrap();
    let rule = |name: &str| format!("[[headers]]\npath = \"*\"\nset = {{ Link = \"<{{static:{name}}}>\" }}\n");
    for (files, rule, expected) in [
        ("[static]\ndirectory = \"public\"\n", rule("bas.css"), "v.toml:5:1: [[headers]] names {static:bas.css}"),
        ("", rule("base.css"), "v.toml:3:1: [[headers]] set: names a static file, and there are none"),
        ("", rule("base.css").replace("css}>", "css>"), "names no static file; write it as in"),
    ] {
        fs_err::write(folder.path().join("v.toml"), format!("{files}{rule}")).unwrap();
        let output = vestibule(&["check", "--config", "v.toml"], folder.path());
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && report.contains(expected), "{expected}: {report}");
    }
}

#[test]
fn check_tells_mistakes_in_the_configuration_beside_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[static]\nprefx = \"/a/\"\ndirectory = \"absent\"\n[timeouts]\nidle = 0\nbody = \"soon\"\n\
                  [health]\nlive = \"/x\"\nready = \"/x\"\n[upstream]\naddress = \"unix:absent.sock\"\n";
    fs_err::write(folder.path().join("v.toml"), config).unwrap();
    let output = finished(
        command(&["check", "--config", "v.toml"], folder.path())
            .env("PORT", "tcp://10.0.0.1:80")
            .env("VESTIBULE_SERVICE_HOST", "10.0.0.1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{report}");
    let wrong = [
        "v.toml:2:1: unknown key prefx in [static]; did you mean prefix?",
        "v.toml:5:1: [timeouts] idle",
        "v.toml:6:1: [timeouts] body",
        "v.toml:9:1: [health] ready",
        "environment variable PORT: ",
        "v.toml:3:1: there is no folder absent",
        "v.toml:11:1: the application at unix:absent.sock",
    ];
    for start in wrong {
        assert!(report.lines().any(|line| line.starts_with(&format!("wrong   {start}"))), "{start}:\n{report}");
    }
    assert_eq!(report.lines().filter(|line| line.starts_with("wrong")).count(), wrong.len(), "{report}");
    assert!(!report.contains("ok      configuration"), "{report}");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn check_tells_of_a_certificate_by_its_dates() {
    let folder = tempfile::tempdir().unwrap();
    let (now, day) = (std::time::SystemTime::now(), Duration::from_secs(86400));
    for (begins, ends, code, expected) in [
        (now - day, now + 60 * day, 0, "ok      certificate: example.com until "),
        (now - day, now + 13 * day, 0, "notice  --cert: c.pem: the certificate ends on "),
        (now - 60 * day, now - day, 2, "wrong   --cert: c.pem: the certificate ended on "),
        (now + day, now + 60 * day, 2, "wrong   --cert: c.pem: the certificate begins on "),
    ] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) = (begins.into(), ends.into());
        fs_err::write(folder.path().join("c.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
        fs_err::write(folder.path().join("k.pem"), key.serialize_pem()).unwrap();
        let arguments = ["check", "--listen-tls", "127.0.0.1:0", "--cert", "c.pem", "--key", "k.pem"];
        let output = vestibule(&arguments, folder.path());
        let report = text(&output.stdout);
        assert!(report.lines().any(|line| line.starts_with(expected)), "{expected}:\n{report}");
        assert_eq!(output.status.code(), Some(code), "{report}");
    }
}

#[test]
fn check_notices_a_folder_that_nobody_collected() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("public")).unwrap();
    fs_err::write(folder.path().join("public/a.css"), "a{}").unwrap();
    let output = vestibule(&["check", "--static", "public"], folder.path());
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report.lines().any(|line| line.starts_with("notice  static files: ")), "{report}");
    assert!(report.contains("no staticfiles.json"), "{report}");
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code) in [(&["check"][..], 0), (&["check", "--static", "absent"], 2), (&["serve", "--x"], 2)] {
        let pipe = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            Stdio::from(writer)
        };
        let output = finished(command(arguments, folder.path()).stdout(pipe()).stderr(pipe()));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn what_the_system_refuses_is_not_called_the_operators_mistake() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(folder.path().join("public/staticfiles.json")).unwrap();
    let output = vestibule(&["serve", "--listen", "127.0.0.1:0", "--static", "public"], folder.path());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
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

// ---- what `collect` tells

/// One missing reference with a name like it, and one missing source map.
fn a_site_with_mistakes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in [
        ("css/a.css", "a {\n  b: url(../img/lgoo.png)\n}\n"),
        ("js/a.js", "a()\n//# sourceMappingURL=a.js.map\n"),
        ("img/logo.png", "png"),
    ] {
        let path = folder.path().join("static").join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, contents).unwrap();
    }
    folder
}

#[test]
fn collect_tells_everything_in_one_document() {
    let folder = a_site_with_mistakes();
    let arguments = ["collect", "--source", "static", "--output", "public", "--format", "json"];
    let output = vestibule(&arguments, folder.path());
    assert_eq!(output.status.code(), Some(1));
    let expected = r#"{
  "version": 1,
  "outcome": "failed",
  "numbers": null,
  "findings": [
    {
      "level": "error",
      "rule": "missing-reference",
      "file": "css/a.css",
      "source": "static/css/a.css",
      "line": 2,
      "column": 10,
      "message": "refers to \"../img/lgoo.png\", but there is no \"img/lgoo.png\" (is \"img/logo.png\" meant?)",
      "reference": "../img/lgoo.png",
      "suggestion": "img/logo.png"
    },
    {
      "level": "warning",
      "rule": "missing-source-map",
      "file": "js/a.js",
      "source": "static/js/a.js",
      "line": 2,
      "column": 22,
      "message": "names the source map \"a.js.map\", but there is no \"js/a.js.map\"",
      "reference": "a.js.map",
      "suggestion": null
    }
  ],
  "error": {
    "message": "found 1 reference that leads nowhere",
    "causes": [],
    "hint": "fix the references, or set [collect] missing_reference (missing_source_map for source maps) to \"warn\" or \"ignore\"; for some files only: missing_reference = [\"vendor/*=warn\", \"error\"]"
  }
}
"#;
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(text(&output.stderr), "");
    fs_err::write(folder.path().join("static/css/a.css"), "a{b:url(../img/logo.png)}").unwrap();
    let output = vestibule(&arguments, folder.path());
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let mut document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let seconds = document["numbers"].as_object_mut().unwrap().remove("seconds");
    assert!(seconds.is_some_and(|seconds| seconds.as_f64().is_some()), "{document}");
    assert_eq!(document["outcome"], "done");
    assert_eq!(document["error"], serde_json::Value::Null);
    assert_eq!(document["findings"].as_array().unwrap().len(), 1);
    let nothing = serde_json::json!({"copies": 0, "before": 0, "after": 0});
    let numbers = document["numbers"].as_object().unwrap();
    for (key, expected) in [
        ("files", 3.into()),
        ("sources", 1.into()),
        ("hashed", 3.into()),
        ("references", 1.into()),
        ("carried", 0.into()),
        ("dropped", 0.into()),
        ("shadowed", 0.into()),
        ("deltas", nothing.clone()),
        ("compression", serde_json::json!({"brotli": nothing, "gzip": nothing, "zstd": nothing})),
    ] {
        assert_eq!(numbers[key], expected, "{key}");
    }
}

#[test]
fn collect_annotates_the_files_of_a_workflow() {
    let folder = a_site_with_mistakes();
    let source = folder.path().join("static");
    let arguments = ["collect", "--source", source.to_str().unwrap(), "--output", "public", "--format", "github"];
    let output = vestibule(&arguments, folder.path());
    assert_eq!(output.status.code(), Some(1));
    let expected = "\
::error file=static/css/a.css,line=2,col=10,title=missing-reference::css/a.css:2:10: refers to \"../img/lgoo.png\", but there is no \"img/lgoo.png\" (is \"img/logo.png\" meant?)
::warning file=static/js/a.js,line=2,col=22,title=missing-source-map::js/a.js:2:22: names the source map \"a.js.map\", but there is no \"js/a.js.map\"
";
    assert_eq!(text(&output.stdout), expected);
    let told = text(&output.stderr);
    assert!(told.starts_with("error: found 1 reference that leads nowhere\nhint: fix the references"), "{told}");
}

#[test]
fn errors_of_any_kind_are_told_in_the_format_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("bad.toml"), "[static]\nprefx = \"/a/\"\n").unwrap();
    for (arguments, expected) in [
        (&["--config", "bad.toml"][..], "bad.toml:2:1: unknown key prefx"),
        (&["--source", "absent", "--output", "out"], "cannot use 1 source folder"),
        (&["--output", "out"], "no source folder is given"),
    ] {
        let run = |format| vestibule(&[&["collect", "--format", format], arguments].concat(), folder.path());
        let output = run("json");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), ""), "{arguments:?}");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(document["error"]["message"].as_str().unwrap().contains(expected), "{document}");
        let output = run("github");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stdout).starts_with("::error"), "{}", text(&output.stdout));
    }
}

#[test]
fn the_words_error_and_warning_are_coloured_where_colours_are_wanted() {
    let folder = a_site_with_mistakes();
    let run = |variables: &[(&str, &str)]| {
        let arguments = ["collect", "--source", "static", "--output", "public"];
        let mut command = command(&arguments, folder.path());
        finished(command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped())).stderr
    };
    let plain = run(&[]);
    let told = text(&plain);
    assert!(told.starts_with("warning: js/a.js:2:22: ") && told.contains("\nerror: found 1"), "{told}");
    let coloured = run(&[("CLICOLOR_FORCE", "1")]);
    let told = text(&coloured);
    assert!(told.starts_with("\x1b[1;33mwarning:\x1b[0m js/") && told.contains("\n\x1b[1;31merror:\x1b[0m"), "{told}");
    assert!(!text(&run(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")])).contains('\x1b'));
}

#[test]
fn a_proof_is_told_in_the_format_asked_for() {
    let folder = a_site_with_mistakes();
    fs_err::write(folder.path().join("static/css/a.css"), "a{b:url(../img/logo.png)}").unwrap();
    let run = |more: &[&str]| {
        vestibule(&[&["collect", "--source", "static", "--output", "public"], more].concat(), folder.path())
    };
    assert_eq!(run(&[]).status.code(), Some(0));
    let document = |output: Output| -> serde_json::Value { serde_json::from_slice(&output.stdout).unwrap() };
    assert_eq!(document(run(&["--check", "--format", "json"]))["outcome"], "done");
    fs_err::write(folder.path().join("public/img/logo.png"), "other").unwrap();
    let output = run(&["--check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let document = document(output);
    assert_eq!(document["outcome"], "failed");
    assert_eq!(document["findings"][0]["level"], "error", "{document}");
}
