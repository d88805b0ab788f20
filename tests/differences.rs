//! What nginx and WhiteNoise answer otherwise to the requests of `fixtures/exchanges/static`, and who is right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::exchanges::{Sent, answer_to, serve, site};
use crate::support::client::{Answer, Connection};
use crate::support::django_site::{Django, repository};
use crate::support::exchange::Group;
use crate::support::process::{Process, wait_until};

/// What WhiteNoise's users write, for nginx: copies beside the files, lifetimes, and reading for all.
const NGINX: &str = r#"
load_module /usr/lib/nginx/modules/ngx_http_brotli_static_module.so;
daemon off; master_process off; pid FOLDER/nginx.pid; error_log FOLDER/error.log;
events {}
http {
    include /etc/nginx/mime.types; default_type application/octet-stream; access_log off;
    client_body_temp_path FOLDER/1; proxy_temp_path FOLDER/2; fastcgi_temp_path FOLDER/3;
    uwsgi_temp_path FOLDER/4; scgi_temp_path FOLDER/5;
    gzip_static on; brotli_static on; gzip_vary on; gzip_proxied any;
    map $uri $lifetime { "~\.[0-9a-f]{12}\." "max-age=315360000, public, immutable"; default "max-age=60, public"; }
    server {
        listen unix:FOLDER/nginx.sock;
        location /static/ {
            alias SITE/;
            add_header Cache-Control $lifetime;
            add_header Access-Control-Allow-Origin *;
            add_header X-Content-Type-Options nosniff;
        }
        location / { return 404; }
    }
}
"#;

/// A server that others wrote, over the same site.
struct Other {
    name: &'static str,
    socket: PathBuf,
    _process: Process,
    /// What it calls what we call by a tag.
    tags: Vec<(String, String)>,
}

impl Other {
    fn nginx(site: &Path, folder: &Path) -> Self {
        let config = folder.join("nginx.conf");
        let text = NGINX.replace("FOLDER", folder.to_str().unwrap()).replace("SITE", site.to_str().unwrap());
        fs_err::write(&config, text).unwrap();
        let process = Process::start(
            Command::new("/usr/sbin/nginx").arg("-c").arg(config).arg("-e").arg(folder.join("error.log")),
        );
        Self::waited_for("nginx", folder.join("nginx.sock"), process)
    }

    fn whitenoise(site: &Path, folder: &Path) -> Self {
        let socket = folder.join("whitenoise.sock");
        let mut gunicorn = Command::new(Django::Six.program("python"));
        gunicorn.args(["-B", "-m", "gunicorn", "--bind"]).arg(format!("unix:{}", socket.display()));
        gunicorn.arg("whitenoise_site").current_dir(repository().join("tests/django"));
        gunicorn.env("SITE", site).env("TZ", "UTC").env_remove("GUNICORN_CMD_ARGS");
        Self::waited_for("WhiteNoise", socket, Process::start(&mut gunicorn))
    }

    fn waited_for(name: &'static str, socket: PathBuf, process: Process) -> Self {
        wait_until("it listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
        Self { name, socket, _process: process, tags: Vec::new() }
    }

    /// Its answer, with its own tags in the place of ours.
    async fn answer(&self, sent: &Sent) -> Option<Answer> {
        let mut sent = sent.clone();
        for field in &mut sent.fields {
            for (ours, theirs) in &self.tags {
                *field = field.replace(ours, theirs);
            }
        }
        answer_to(Connection::over(UnixStream::connect(&self.socket).await.unwrap()), &sent).await
    }

    /// Finds out how it calls each copy of each file.
    async fn learn_tags(&mut self, address: std::net::SocketAddr, targets: &BTreeSet<String>) {
        let tag = |answer: &Answer| answer.header("etag").map(|tag| tag.trim_matches('"').to_owned());
        for target in targets {
            for coding in ["identity", "br", "gzip", "zstd"] {
                let sent = Sent::get(target, &format!("Accept-Encoding: {coding}"));
                let ours =
                    crate::support::client::get(address, target, &format!("Accept-Encoding: {coding}\r\n")).await;
                let theirs = self.answer(&sent).await.unwrap();
                let is_same = ours.header("content-encoding") == theirs.header("content-encoding");
                if let (Some(ours), Some(theirs), true) = (tag(&ours), tag(&theirs), is_same) {
                    self.tags.push((ours, theirs));
                }
            }
        }
        // The tag of a copy has that of the file in it.
        self.tags.sort_by_key(|(ours, _)| std::cmp::Reverse(ours.len()));
    }
}

/// An answer in few words: the status, the coding, the range, and whose bytes.
fn summary(answer: Option<&Answer>, whole: Option<&Answer>) -> String {
    let Some(answer) = answer else { return "closes".to_owned() };
    let field = |name: &str| answer.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
    let mut words =
        vec![answer.status.to_string(), field("content-encoding").to_owned(), field("content-range").to_owned()];
    if field("content-type").starts_with("multipart/byteranges") {
        words.push("in several parts".to_owned());
    } else if answer.status < 300
        && whole.is_some_and(|whole| whole.status == answer.status && whole.body != answer.body)
    {
        words.push("other bytes".to_owned());
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// The fields in which answers that are otherwise alike can differ.
fn fields(answer: &Answer) -> BTreeMap<&'static str, String> {
    let of_errors = ["allow", "cache-control", "access-control-allow-origin"];
    let of_files = [
        "accept-ranges",
        "access-control-allow-origin",
        "cache-control",
        "content-length",
        "content-type",
        "etag",
        "last-modified",
        "vary",
        "x-content-type-options",
    ];
    let names = if answer.status < 400 { &of_files[..] } else { &of_errors[..] };
    let value = |name: &str| {
        answer
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| &**value)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let shown = |name: &str| match (name, value(name)) {
        ("etag", tag) if tag.starts_with("W/") => "weak".to_owned(),
        ("etag", tag) if !tag.is_empty() => "strong".to_owned(),
        // What stands between the parts is made anew each time.
        ("content-type", value) if value.starts_with("multipart/byteranges") => "multipart/byteranges".to_owned(),
        (_, value) if value.is_empty() => "none".to_owned(),
        (_, value) => value,
    };
    names.iter().map(|name| (*name, shown(name))).collect()
}

/// Why another server answers otherwise: whose, what it is about, and the reason. What it is about is a part of
/// a line `group: title: ours: theirs`, or of `field: ours: theirs: status`. The first that fits counts.
type Reason = (&'static str, &'static [&'static str], &'static str);

const ANSWERS: &[Reason] = &[
    (
        "nginx",
        &["images: "],
        "both: 12.5.1; nginx sends what the name says, unless a `map` of $http_accept tells it otherwise",
    ),
    ("WhiteNoise", &["images: "], "both: 12.5.1; WhiteNoise knows no formats of images"),
    (
        "nginx",
        &["where there is one form only", "the date in the form of RFC 850 (5.6.7): 200"],
        "both: a date is right to the second only, and a range may be passed over (14.2)",
    ),
    ("nginx", &["Zstandard alone"], "Debian has no module for Zstandard"),
    ("nginx", &[": The star "], "vestibule: 12.5.3; nginx passes the star over"),
    (
        "nginx",
        &["star refuses the file", "Identity refused", "A 406 is"],
        "vestibule: 12.5.3 and 15.5.7; nginx does not know refusals of the file itself",
    ),
    ("nginx", &["Identity can be refused"], "vestibule: 12.5.3; nginx does not know refusals of the file itself"),
    (
        "nginx",
        &["A higher weight", "preferred by its weight", "Spaces around a weight"],
        "vestibule: 12.4.2; nginx asks its modules in turn, whatever the weights",
    ),
    ("nginx", &["x-gzip"], "vestibule: 8.4.1.3"),
    (
        "nginx",
        &["choice: A member with", "A negative weight"],
        "both: what is malformed may be passed over or taken for the weight that is the default",
    ),
    ("nginx", &["A copy that is longer", "Not even to a client"], "both: nginx does not compare sizes"),
    (
        "nginx",
        &["OPTIONS of a file", "A preflight of a script"],
        "vestibule: 9.3.7; nginx does not know OPTIONS of a file",
    ),
    (
        "WhiteNoise",
        &["OPTIONS of a file", "A preflight of a script"],
        "vestibule: 9.3.7; WhiteNoise does not know OPTIONS",
    ),
    ("WhiteNoise", &["Several ranges"], "both: 14.2 leaves it open; WhiteNoise has no parts in one answer"),
    ("nginx", &["OPTIONS of what", "A preflight for what"], "both: nginx looks at the method first"),
    ("nginx", &["The prefix alone", ": A folder"], "both: nginx knows folders"),
    ("nginx", &["Two slashes"], "both: nginx takes several slashes for one"),
    (
        "nginx",
        &["The manifest is", "copy is no file", ": A hidden"],
        "vestibule: not for the public; nginx serves what is in the folder",
    ),
    (
        "nginx",
        &["and come back", ": One dot:"],
        "both: nginx resolves dots as clients do (RFC 3986, 5.2.4); who does not has something in mind",
    ),
    ("nginx", &["Dots encoded in part", "ackslash"], "both: no such file"),
    (
        "nginx",
        &["of another host"],
        "nginx, by the letter of RFC 9112, 3.2.2; no client sends this, and who does wants two programs to differ",
    ),
    ("nginx", &["Since that is no date"], "vestibule: 13.1.4"),
    ("nginx", &["Step 1 before step 2"], "vestibule: 13.2.2"),
    ("nginx", &["64 bits"], "vestibule: 14.1.2"),
    (
        "nginx",
        &["inverted", "without numbers", "without a hyphen", "A sign is", "hexadecimal", "within a range"],
        "both: what is malformed may be passed over or refused (14.2)",
    ),
    ("nginx", &["An empty member"], "vestibule: 5.6.1.2"),
    ("nginx", &["Two Range fields"], "both: Range is no list of fields; nginx reads the first"),
    ("nginx", &["Several ranges"], "both: 14.2 leaves it open"),
    ("nginx", &["A part of an empty file"], "vestibule: 14.1.2"),
    ("nginx", &["for GET only", "HEAD with a range"], "vestibule: 14.2"),
    (
        "nginx",
        &["copies are welcome", "goes on in that copy"],
        "both: nginx has no parts of copies, and a range may be passed over (14.2)",
    ),
    ("nginx", &["copies share it"], "vestibule: the date is that of every copy too (8.8.2.2)"),
    ("nginx", &["second of two lines"], "vestibule: 5.3"),
    ("nginx", &["A quote that never ends"], "both: malformed"),
    (
        "nginx",
        &["Modified before", "in the future"],
        "vestibule: 13.1.3; nginx wants the very date, unless told otherwise",
    ),
    ("nginx", &["this tag (13.1.3)"], "vestibule: 13.1.3; nginx wants both to fit"),
    ("nginx", &["another zone", "old browsers"], "vestibule: 13.1.3; nginx reads as much of a date as it understands"),
    ("WhiteNoise", &["choice: Zstandard", "A Zstandard copy"], "WhiteNoise does not know Zstandard"),
    (
        "WhiteNoise",
        &["choice: The star", "choice: A refused star", "choice: Identity"],
        "vestibule: 12.5.3; WhiteNoise looks for names of codings in the text",
    ),
    ("WhiteNoise", &["A 406 is"], "vestibule: 12.5.3 and 15.5.7"),
    (
        "WhiteNoise",
        &["weight", "A refused copy", "q=0.000", "in two lines", "twice the first", "too many digits"],
        "vestibule: 12.4.2; WhiteNoise looks for names of codings in the text",
    ),
    ("WhiteNoise", &["without regard to case (8.4.1)"], "vestibule: 8.4.1"),
    ("WhiteNoise", &["Not even to a client"], "vestibule: 12.4.2"),
    ("WhiteNoise", &["An empty Expect"], "both: the application server's answer (10.1.1)"),
    (
        "WhiteNoise",
        &["The manifest is", ": A hidden"],
        "vestibule: not for the public; WhiteNoise serves what is in the folder",
    ),
    ("WhiteNoise", &["400: 404"], "both: for WhiteNoise it is no file, and the application's matter"),
    ("WhiteNoise", &["percent sign without digits"], "vestibule: RFC 3986, 2.1"),
    (
        "WhiteNoise",
        &["of another host"],
        "WhiteNoise, by the letter of RFC 9112, 3.2.2; no client sends this, and who does wants two programs to differ",
    ),
    ("WhiteNoise", &["412: "], "vestibule: 13.1.1 and 13.1.4; WhiteNoise does not know these preconditions"),
    ("WhiteNoise", &["ranges: One byte", "The last byte"], "vestibule: 14.1.2"),
    ("WhiteNoise", &["no bytes can have"], "vestibule: 14.1.2"),
    (
        "WhiteNoise",
        &["inverted", "A sign is", "within a range"],
        "both: what is malformed may be passed over or refused (14.2)",
    ),
    ("WhiteNoise", &["Units are named"], "vestibule: 14.1"),
    ("WhiteNoise", &["An empty member"], "vestibule: 5.6.1.2"),
    ("WhiteNoise", &["for GET only", "HEAD with a range"], "vestibule: 14.2"),
    (
        "WhiteNoise",
        &["of the file while copies", "whatever copies", "the file itself is refused"],
        "vestibule: WhiteNoise sends parts of copies whose tag is the file's, which a client cannot tell apart (8.8.3.3)",
    ),
    ("WhiteNoise", &["If-Range"], "vestibule: 13.1.5; WhiteNoise does not know If-Range"),
    (
        "WhiteNoise",
        &["A weak form", "tag in a list", "two lines", "any tag", "asks with all"],
        "vestibule: 13.1.2; WhiteNoise compares the whole field",
    ),
    ("WhiteNoise", &["is not the tag of"], "vestibule: 8.8.3.3; WhiteNoise has one strong tag for all copies"),
    (
        "WhiteNoise",
        &["another zone", "old browsers", "A day that"],
        "vestibule: 13.1.3; Python's parser for mails reads them",
    ),
    ("nginx", &["day of the week"], WRONG_DAY),
    ("WhiteNoise", &["day of the week"], WRONG_DAY),
];

const WRONG_DAY: &str = "both: 5.6.7 asks to be lenient with dates, 13.1.3 to pass over what is none";

const FIELDS: &[Reason] = &[
    (
        "nginx",
        &["vary: Accept: none", "image/avif: image/jpeg", "length: 14: 41: 200"],
        "both: 12.5.5; nginx has one format only, unless told otherwise",
    ),
    (
        "WhiteNoise",
        &["vary: Accept: none", "image/avif: image/jpeg", "length: 14: 41: 200"],
        "both: 12.5.5; WhiteNoise has one format only",
    ),
    ("nginx", &["content-length: "], "both: what parts the parts is as long as one likes"),
    ("WhiteNoise", &["allow: "], "both: what is allowed is what is there; WhiteNoise does not know OPTIONS"),
    ("nginx", &["content-type: text/javascript"], "vestibule: RFC 9239; and nginx does not know .mjs"),
    ("nginx", &["manifest+json"], "vestibule: nginx does not know .webmanifest"),
    ("nginx", &["content-type: "], "vestibule: nginx names no charset, unless told to"),
    ("nginx", &["cache-control: max-age=60"], "vestibule: a name can look as if it had a hash"),
    ("nginx", &["cache-control: no-store: max-age"], "vestibule: a cache would keep a refusal for ten years"),
    (
        "nginx",
        &["cache-control: no-store: none"],
        "vestibule: caches may keep an error that says nothing (RFC 9111, 4.2.2), and a deploy may be under way",
    ),
    (
        "nginx",
        &["access-control"],
        "vestibule: a script could not tell an error from a network that fails; with `always` nginx says so too",
    ),
    ("nginx", &["accept-ranges: bytes: none: 200"], "both: nginx has no parts of copies"),
    ("nginx", &["accept-ranges: bytes: none: 206"], "both: the answer itself shows it"),
    ("nginx", &[": 304"], "both: 15.4.5; a cache has it"),
    ("nginx", &["allow: "], "vestibule: 15.5.6"),
    ("WhiteNoise", &["x-content-type-options"], "vestibule: WhiteNoise leaves it to Django's middleware"),
    ("WhiteNoise", &["accept-ranges"], "both: 14.3 leaves it open"),
    ("WhiteNoise", &["manifest+json"], "vestibule: WhiteNoise does not know .webmanifest"),
    ("WhiteNoise", &["content-type: "], "both: quotes do not matter; WhiteNoise names a charset for text/* only"),
    (
        "WhiteNoise",
        &["cache-control: max-age=60"],
        "vestibule: a name can look as if it had a hash; with Django, WhiteNoise asks its manifest",
    ),
    (
        "WhiteNoise",
        &["cache-control: "],
        "vestibule: caches may keep an error that says nothing (RFC 9111, 4.2.2), and a deploy may be under way",
    ),
    (
        "WhiteNoise",
        &["access-control"],
        "vestibule: a script could not tell an error from a network that fails, and a 304 is checked like a 200",
    ),
];

/// The reasons, and which of them were needed.
struct Reasons {
    all: &'static [Reason],
    needed: BTreeSet<usize>,
    missing: Vec<String>,
}

impl Reasons {
    fn new(all: &'static [Reason]) -> Self {
        Self { all, needed: BTreeSet::new(), missing: Vec::new() }
    }

    fn of(&mut self, server: &str, difference: &str) -> &'static str {
        let fits = |(whose, what, _): &Reason| *whose == server && what.iter().any(|part| difference.contains(part));
        let Some(place) = self.all.iter().position(fits) else {
            self.missing.push(format!("{server}: {difference}"));
            return "";
        };
        self.needed.insert(place);
        self.all[place].2
    }

    fn check(self) {
        assert!(self.missing.is_empty(), "without a reason: {:#?}", self.missing);
        let idle: Vec<_> =
            (0..self.all.len()).filter(|place| !self.needed.contains(place)).map(|place| self.all[place]).collect();
        assert!(idle.is_empty(), "reasons without a difference: {idle:#?}");
    }
}

/// `BLESS_FIXTURES=1 cargo nextest run nginx_and_whitenoise` writes the page anew; look at what is different.
#[tokio::test]
async fn what_nginx_and_whitenoise_answer_otherwise_has_its_reason() {
    let (site, folder) = (site(), TempDir::new().unwrap());
    let server = serve(site.path()).await;
    let mut others = [Other::nginx(site.path(), folder.path()), Other::whitenoise(site.path(), folder.path())];
    let groups = Group::all("static");
    let all: Vec<_> =
        groups.iter().flat_map(|group| group.exchanges.iter().map(move |exchange| (&group.name, exchange))).collect();
    let is_there = |target: &String| site.path().join(target.trim_start_matches("/static/")).is_file();
    let targets = all.iter().map(|(_, exchange)| Sent::of(exchange).target).filter(is_there).collect();
    for other in &mut others {
        other.learn_tags(server.address(), &targets).await;
    }
    let (mut answers, mut fields_apart) = (String::new(), BTreeMap::<_, usize>::new());
    let (mut reasons, mut field_reasons) = (Reasons::new(ANSWERS), Reasons::new(FIELDS));
    for (group, exchange) in &all {
        let sent = Sent::of(exchange);
        let ours = answer_to(Connection::open(server.address()).await, &sent).await.expect("an answer");
        let expected = summary(Some(&ours), None);
        for other in &others {
            let theirs = other.answer(&sent).await;
            let got = summary(theirs.as_ref(), Some(&ours));
            if got != expected {
                let reason = reasons.of(other.name, &format!("{group}: {}: {expected}: {got}", exchange.title));
                let title = exchange.title.replace('|', "\\|");
                answers += &format!("| {group} | {title} | {} | {expected} | {got} | {reason} |\n", other.name);
                continue;
            }
            let theirs = fields(&theirs.expect("ours is one"));
            for (name, value) in fields(&ours).into_iter().filter(|(name, value)| theirs[name] != *value) {
                let line = format!("{name}: {value}: {}: {}", theirs[name], ours.status);
                let reason = field_reasons.of(other.name, &line);
                let cells =
                    format!("| {} | {} | {name} | {value} | {} | {reason}", other.name, ours.status, theirs[name]);
                *fields_apart.entry(cells).or_default() += 1;
            }
        }
    }
    reasons.check();
    field_reasons.check();
    let fields: String = fields_apart.iter().map(|(cells, times)| format!("{cells} | {times} |\n")).collect();
    settle(&PAGE.replace("ANSWERS\n", &answers).replace("FIELDS\n", &fields));
}

const PAGE: &str = "# Where nginx and WhiteNoise answer otherwise

Written by `tests/differences.rs`, which sends every request of `static/` to all three over the same files, and
holds a reason for each difference: who is right, and by which section (of RFC 9110 where no other is named).
nginx is Debian's, with its modules for gzip and brotli copies, and configured for the same lifetimes and origins;
WhiteNoise runs in gunicorn without Django. A tag in a request is replaced by the one that the server itself gave.

## Other answers

| group | exchange | server | vestibule | there | right |
|---|---|---|---|---|---|
ANSWERS

## The same answer with other fields

The last column counts the exchanges.

| server | status | field | vestibule | there | right | times |
|---|---|---|---|---|---|---|
FIELDS
";

fn settle(page: &str) {
    let path = repository().join("fixtures/exchanges/differences.md");
    let page = format!("{}\n", page.trim_end());
    if std::env::var_os("BLESS_FIXTURES").is_some() {
        return fs_err::write(path, page).unwrap();
    }
    let published = fs_err::read_to_string(path).unwrap();
    let news: Vec<_> = page.lines().filter(|line| !published.contains(line)).collect();
    assert!(page == published, "the page is out of date; look, and write it anew with BLESS_FIXTURES=1: {news:#?}");
}
