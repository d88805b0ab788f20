//! A real Django site behind the real vestibule, on every application server it is made for.
//!
//! Each combination is started once and taken on the whole tour; what differs between the servers is
//! said where it is. Nothing here is skipped: a missing part fails the test and names `make test`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::curl::{Answer, streaming};
use crate::support::django_site::{Django, Server, Site, collect_static, repository, succeed, vestibule};
use crate::support::process::wait_until;

macro_rules! tours {
    ($($name:ident: $django:ident on $server:ident;)*) => {
        $(#[test]
        fn $name() {
            tour(&mut Site::start(Django::$django, Server::$server));
        })*
    };
}

tours! {
    django_52_works_on_gunicorn_with_sync_workers: Five2 on GunicornSync;
    django_52_works_on_gunicorn_with_threads: Five2 on GunicornThreads;
    django_52_works_on_gunicorn_over_uwsgi: Five2 on GunicornUwsgi;
    django_52_works_on_uwsgi_over_http: Five2 on UwsgiHttp;
    django_52_works_on_uwsgi_over_its_own_protocol: Five2 on UwsgiOwn;
    django_6_works_on_gunicorn_with_sync_workers: Six on GunicornSync;
    django_6_works_on_gunicorn_with_threads: Six on GunicornThreads;
    django_6_works_on_gunicorn_over_uwsgi: Six on GunicornUwsgi;
    django_6_works_on_uwsgi_over_http: Six on UwsgiHttp;
    django_6_works_on_uwsgi_over_its_own_protocol: Six on UwsgiOwn;
}

fn tour(site: &mut Site) {
    every_page_answers(site);
    the_static_tag_prints_our_names(site);
    django_sees_the_visitors_address(site);
    nothing_forged_arrives(site);
    a_form_is_accepted_and_a_foreign_one_refused(site);
    the_admin_lets_its_user_in(site);
    uploads_arrive_intact(site);
    the_first_part_of_an_answer_does_not_wait_for_the_last(site);
    the_site_comes_back_with_the_application(site);
}

fn every_page_answers(site: &Site) {
    for (path, status) in [
        ("/", 200),
        ("/echo/", 200),
        ("/slow/?seconds=0", 200),
        ("/stream/?seconds=0", 200),
        ("/broken/", 500),
        ("/no/such/page/", 404),
        ("/echo", 301), // Django appends the slash, and knows where it is.
        ("/admin/", 302),
        ("/admin/login/?next=/admin/", 200),
        ("/favicon.ico", 302),
        ("/static/no-such-file.css", 404),
        ("/-/live", 200),
        ("/-/ready", 200),
    ] {
        let answer = site.get(path);
        assert_eq!(answer.status, status, "for {path}: {answer:?}");
        assert_eq!(answer.version, "HTTP/2", "for {path}");
    }
    let head = Answer::of(site.curl("/").arg("--head"));
    assert_eq!((head.status, head.body.len()), (200, 0));
}

fn the_static_tag_prints_our_names(site: &Site) {
    let paths = site.manifest()["paths"].clone();
    for (page, files) in [
        ("/", ["pages/site.css", "pages/lobby.js", "pages/images/door.svg"]),
        ("/admin/login/", ["admin/css/base.css", "admin/js/theme.js", "admin/css/login.css"]),
    ] {
        let html = site.get(page);
        for file in files {
            let hashed = paths[file].as_str().unwrap_or_else(|| panic!("{file} was collected"));
            assert_ne!(hashed, file, "the name carries a hash");
            assert!(html.text().contains(&format!("\"/static/{hashed}\"")), "{page} does not name {hashed}");
            let asset = site.get(&format!("/static/{hashed}"));
            assert_eq!(asset.status, 200, "for {hashed}");
            assert!(asset.header("cache-control").contains("immutable"), "for {hashed}: {asset:?}");
        }
    }
}

fn django_sees_the_visitors_address(site: &Site) {
    for version in ["--http1.1", "--http2"] {
        let answer = Answer::of(site.curl("/echo/a%20b%25?q=%2F&r=1").arg(version));
        let seen = answer.json();
        let host = site.origin().replace("https://", "");
        assert_eq!(seen["is_secure"], true, "{seen}");
        assert_eq!(seen["scheme"], "https", "{seen}");
        assert_eq!(seen["host"], host.as_str(), "{seen}");
        assert_eq!(seen["rest"], "a b%", "{seen}");
        assert_eq!(seen["address"], format!("{}/echo/a%20b%25?q=%2F&r=1", site.origin()), "{seen}");
        let loopback = ["127.0.0.1", "::1"].map(Value::from);
        assert!(loopback.contains(&seen["meta"]["HTTP_X_FORWARDED_FOR"]), "{seen}");
        // Only uWSGI's own protocol carries the visitor's address to REMOTE_ADDR.
        if site.server == Server::UwsgiOwn {
            assert!(loopback.contains(&seen["meta"]["REMOTE_ADDR"]), "{seen}");
        }
    }
}

/// What a visitor could claim, in each spelling that some server or Django can be told to believe.
const FORGED: [&str; 24] = [
    "SCRIPT_NAME: /forged",
    "Script-Name: /forged",
    "PATH_INFO: /forged",
    "Path-Info: /forged",
    "Remote-User: forged",
    "REMOTE_USER: forged",
    "Remote-Addr: forged",
    "X-Forwarded-For: forged",
    "X_Forwarded_For: forged",
    "X-Forwarded_For: forged",
    "X-Forwarded-Host: forged",
    "X-Forwarded-Port: forged",
    "X-Forwarded-Server: forged",
    "X-Forwarded-Prefix: /forged",
    "X-Forwarded-Proto: forged",
    "X_Forwarded_Proto: forged",
    "X-Forwarded-Protocol: forged",
    "X-Forwarded-SSL: forged",
    "X-Real-IP: forged",
    "Forwarded: for=forged;proto=http",
    "X-Request-ID: forged",
    "X-Request-Start: forged",
    "X-Queue-Start: forged",
    "Proxy: http://forged",
];

fn nothing_forged_arrives(site: &Site) {
    for version in ["--http1.1", "--http2"] {
        let answer = Answer::of(
            site.curl("/echo/")
                .arg(version)
                .args(FORGED.iter().flat_map(|line| ["-H", line]))
                .args(["-H", "X-Ordinary: kept"]),
        );
        assert_eq!(answer.status, 200, "{answer:?}");
        // Headers do arrive where they mean no harm.
        assert_eq!(answer.json()["meta"]["HTTP_X_ORDINARY"], "kept", "{}", answer.text());
        assert!(!answer.text().contains("forged"), "{}", answer.text());
        let meta = &answer.json()["meta"];
        for (name, expected) in [("HTTP_X_FORWARDED_PROTO", "https"), ("SCRIPT_NAME", ""), ("PATH_INFO", "/echo/")] {
            // uWSGI leaves an empty SCRIPT_NAME out.
            assert_eq!(meta[name].as_str().unwrap_or_default(), expected, "{name} in {meta}");
        }
        for name in ["HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_REQUEST_ID", "HTTP_X_REQUEST_START"] {
            let value = meta[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {meta}"));
            assert!(!value.is_empty() && !value.contains(','), "{name} came more than once: {value}");
        }
    }
}

fn a_form_is_accepted_and_a_foreign_one_refused(site: &Site) {
    let origin = site.origin();
    let post = |origin: &str| post_form(site, "/", "/book/", origin, &["name=Ada", "text=Was here & <liked> it"]);
    let answer = post(&origin);
    assert_eq!((answer.status, answer.header("location")), (302, "/#book"), "{answer:?}");
    assert!(site.get("/").text().contains("Ada: Was here &amp; &lt;liked&gt; it"));
    // The check is on: without it the first half would prove nothing.
    assert_eq!(post("https://elsewhere.example").status, 403);
    assert_eq!(post(&origin.replace("https", "http")).status, 403);
}

fn the_admin_lets_its_user_in(site: &Site) {
    let fields = ["username=admin", "password=admin", "next=/admin/"];
    let answer = post_form(site, "/admin/login/", "/admin/login/", &site.origin(), &fields);
    assert_eq!((answer.status, answer.header("location")), (302, "/admin/"), "{answer:?}");
    let inside = Answer::of(site.curl("/admin/pages/note/").arg("--cookie").arg(site.file("cookies")));
    assert_eq!(inside.status, 200);
    assert!(inside.text().contains("Ada"), "the note from the form is listed");
}

/// Gets a page, and posts a form of it with its token as a browser would.
fn post_form(site: &Site, page: &str, action: &str, origin: &str, fields: &[&str]) -> Answer {
    let cookies = site.file("cookies");
    let html = Answer::of(site.curl(page).arg("--cookie-jar").arg(&cookies));
    let token = html.text().split("name=\"csrfmiddlewaretoken\" value=\"").nth(1).expect("the form has a token");
    let token = token.split('"').next().expect("split has a first part");
    let mut curl = site.curl(action);
    curl.arg("--cookie").arg(&cookies).arg("--cookie-jar").arg(&cookies);
    curl.args(["-H", &format!("Origin: {origin}"), "-e", &format!("{origin}{page}")]);
    curl.args(["--data-urlencode", &format!("csrfmiddlewaretoken={token}")]);
    Answer::of(curl.args(fields.iter().flat_map(|field| ["--data-urlencode", field])))
}

fn uploads_arrive_intact(site: &Site) {
    let large = written(site, "large.bin", 5_000_003);
    let small = written(site, "small.bin", 300_007);
    for version in ["--http1.1", "--http2"] {
        for (form, name, sum) in [
            (["--form", "file=@large.bin"], "large.bin", &large),
            (["--data-binary", "@large.bin"], "large.bin", &large),
            // Without a length: Django reads no such body under WSGI, so vestibule finds the length.
            (["--upload-file", "-"], "small.bin", &small),
        ] {
            let mut curl = site.curl("/upload/");
            curl.arg(version).args(form).current_dir(site.file(""));
            curl.stdin(fs_err::File::open(site.file(name)).unwrap().into_parts().0);
            let answer = Answer::of(&mut curl);
            assert_eq!(answer.status, 200, "{form:?} {version}: {answer:?}");
            assert_eq!(answer.json()["sha256"], sum.as_str(), "{form:?} {version}: {answer:?}");
        }
    }
}

/// Writes a file of bytes that do not repeat, and returns their SHA-256.
fn written(site: &Site, name: &str, size: u32) -> String {
    let bytes: Vec<u8> = (0..size).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs_err::write(site.file(name), &bytes).unwrap();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn the_first_part_of_an_answer_does_not_wait_for_the_last(site: &Site) {
    for (gate, version, path, first, last) in [
        ("one", "--http1.1", "/stream/?lines=2", "line 1 of 2", "line 2 of 2\n"),
        ("two", "--http2", "/stream/?lines=2", "line 1 of 2", "line 2 of 2\n"),
        ("three", "--http1.1", "/events/?count=1", "id: 1", "\nevent: done\ndata: that was all\n\n"),
        ("four", "--http2", "/events/?count=1", "id: 1", "\nevent: done\ndata: that was all\n\n"),
    ] {
        let mut curl = streaming(site.curl(&format!("{path}&gate={gate}")).arg(version));
        let mut output = BufReader::new(curl.stdout.take().expect("was piped"));
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), first, "{path} {version}");
        // The view waits for this file, so the rest cannot have been written yet.
        fs_err::write(site.file(&format!("{gate}.gate")), "").unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with(last), "{path} {version}: {rest:?}");
        assert!(curl.wait().unwrap().success());
    }
    let events = site.get("/events/?count=0");
    assert_eq!(events.header("content-type"), "text/event-stream");
}

fn the_site_comes_back_with_the_application(site: &mut Site) {
    let is_over = AtomicBool::new(false);
    let arguments: Vec<_> = site.curl("/echo/").get_args().map(ToOwned::to_owned).collect();
    let ask = || {
        let mut answers = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            answers.push(Answer::of(Command::new("curl").args(&arguments)).status);
        }
        answers
    };
    // Whoever asks while the application is being restarted waits a little, and sees no error.
    let answers = thread::scope(|scope| {
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        site.stop_application();
        wait_until("it is noticed", || (site.get("/-/ready").status == 503).then_some(()));
        assert_eq!(site.get("/-/live").status, 200);
        assert_eq!(site.get("/static/pages/site.css").status, 200);
        site.start_application();
        is_over.store(true, Ordering::Relaxed);
        asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(!answers.is_empty() && answers.iter().all(|status| *status == 200), "{answers:?}");
    let posted = Answer::of(site.curl("/upload/").args(["--data-binary", "after"]));
    assert_eq!(posted.json()["size"], 5);
}

/// Forms of reference that Django understands too. Where it does not (a ring of imports, a space
/// before a quote), `fixtures/site` says what `collect` does.
const FORMS: [(&str, &str); 13] = [
    ("forms/a.png", "a"),
    ("forms/deep/b.svg", "<svg/>"),
    ("forms/deep/f.eot", "f"),
    ("forms/my photo.png", "photo"),
    ("forms/deep/print.css", ".b { background: url(../a.png) }"),
    ("forms/deep/er/screen.css", "@import '../print.css';\n.a { background: url('/static/forms/a.png') }"),
    (
        "forms/site.css",
        "@import url(\"deep/print.css\") print;\n@import \"deep/er/screen.css\" screen;\n\
         @font-face { src: url('deep/f.eot?#iefix'), url(deep/f.eot?v=1#f) }\n\
         .a { background: URL(deep/../deep/b.svg#part), url(data:image/png;base64,AA==), url(#local) }\n\
         .b { background: url(https://example.com/a.png), url(//example.com/a.png), url(\"my%20photo.png\") }\n\
         /* url(not-there.png) */ .c { content: \"url(not-there.png)\"; background: url(./a.png) }\n\
         /*# sourceMappingURL=site.css.map */\n",
    ),
    ("forms/site.css.map", "{}"),
    ("forms/plain.js", "console.log('./lib/one.js');\n//# sourceMappingURL=plain.js.map\n"),
    ("forms/plain.js.map", "{}"),
    ("forms/lib/one.js", "export const one = 1;\n"),
    ("forms/lib/two.js", "import { one } from \"./one.js\";\nexport * from '../lib/one.js';\n"),
    (
        "forms/main.js",
        "import one, { two as three } from './lib/two.js';\nimport \"./lib/one.js\";\nimport * as all from \"/static/forms/lib/two.js\";\n\
         // import './not-there.js';\nconst later = () => import('./lib/one.js');\nimport bare from 'bare';\n",
    ),
];

#[test]
fn references_lead_to_the_same_files_as_with_django() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    collect_static(Django::Six, folder.path());
    for (name, contents) in FORMS {
        let file = folder.path().join("plain").join(name);
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(file, contents).unwrap();
    }
    let python = |arguments: &[&str]| {
        let mut command = Command::new(Django::Six.program("python"));
        succeed(command.arg(repository().join("tests/django/references.py")).args(arguments)).stdout
    };
    python(&["collect", &path("plain"), &path("django")]);

    let config = "[collect]\njavascript_modules = true\ngzip_level = 1\nbrotli_level = 1\nzstd_level = 1\n";
    fs_err::write(path("vestibule.toml"), config).unwrap();
    let (plain, ours) = (path("plain"), path("ours"));
    vestibule(&["collect", "--config", &path("vestibule.toml"), "--source", &plain, "--output", &ours]);

    let references = |output: &str| -> BTreeMap<String, Vec<String>> {
        serde_json::from_slice(&python(&["list", &path(output)])).unwrap()
    };
    let (django, ours) = (references("django"), references("ours"));
    // The list is no empty one: these are found in Django's output.
    assert!(django["forms/site.css"].iter().any(|name| name == "forms/my photo.png"), "{:?}", django["forms/site.css"]);
    assert_eq!(django["forms/main.js"].len(), 4, "{:?}", django["forms/main.js"]);
    assert!(django.values().map(Vec::len).sum::<usize>() > 60, "there is something to compare: {django:?}");
    assert_eq!(django.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (file, expected) in &django {
        assert_eq!(&ours[file], expected, "in {file}");
    }
}
