//! Requests with the whole of what comes of them, as files that read like the exchange itself.
//!
//! `fixtures/README.md` tells the format. Whoever runs the requests is elsewhere; this reads the files,
//! compares, and writes them anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::django_site::repository;

/// One request, or a few on one connection, and what is expected of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exchange {
    /// What it shows, in one line.
    pub(crate) title: String,
    /// The lines that are sent.
    pub(crate) sent: Vec<String>,
    /// What comes of it.
    pub(crate) outcome: Outcome,
}

/// What came of an exchange, as lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What the client got.
    pub(crate) got: Vec<String>,
    /// What the application saw, if there is one.
    pub(crate) seen: Vec<String>,
}

/// One file.
#[derive(Debug)]
pub(crate) struct Group {
    /// The name of the file, without its ending.
    pub(crate) name: String,
    path: PathBuf,
    preface: String,
    /// Its exchanges, in order.
    pub(crate) exchanges: Vec<Exchange>,
}

impl Group {
    /// All files of a folder of `fixtures/exchanges`, by name.
    pub(crate) fn all(kind: &str) -> Vec<Self> {
        let folder = repository().join("fixtures/exchanges").join(kind);
        let mut paths: Vec<_> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
            .map(Self::read)
            .collect()
    }

    fn read(path: PathBuf) -> Self {
        let text = fs_err::read_to_string(&path).unwrap();
        let (mut preface, mut exchanges) = (String::new(), Vec::<Exchange>::new());
        for line in text.lines() {
            let rest =
                |mark: &str| line.strip_prefix(mark).map(|rest| rest.strip_prefix(' ').unwrap_or(rest).to_owned());
            match exchanges.last_mut() {
                _ if line.starts_with("== ") => {
                    exchanges.push(Exchange { title: line[3..].to_owned(), ..Exchange::default() });
                }
                None => preface.extend([line, "\n"]),
                Some(exchange) => match (rest(">"), rest("<"), rest("|")) {
                    (Some(sent), ..) => exchange.sent.push(sent),
                    (_, Some(got), _) => exchange.outcome.got.push(got),
                    (.., Some(seen)) => exchange.outcome.seen.push(seen),
                    _ => assert_eq!(line, "", "{}: a line that is none of the format's", path.display()),
                },
            }
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut titles: Vec<_> = exchanges.iter().map(|exchange| &exchange.title).collect();
        titles.sort();
        let twice = titles.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "{name}: one title for two exchanges");
        Self { name, path, preface, exchanges }
    }

    /// Compares what came of the exchanges with what the file says. `BLESS_FIXTURES=1` writes it anew.
    pub(crate) fn settle(mut self, outcomes: Vec<Outcome>) {
        assert_eq!(outcomes.len(), self.exchanges.len());
        if std::env::var_os("BLESS_FIXTURES").is_some() {
            for (exchange, outcome) in self.exchanges.iter_mut().zip(outcomes) {
                exchange.outcome = outcome;
            }
            fs_err::write(&self.path, self.text()).unwrap();
            return;
        }
        let mut news = String::new();
        for (exchange, outcome) in self.exchanges.iter().zip(outcomes) {
            if exchange.outcome != outcome {
                let Exchange { title, sent, outcome: expected } = exchange;
                writeln!(news, "== {title}\n{sent:#?}\nexpected {expected:#?}\nand not {outcome:#?}\n").unwrap();
            }
        }
        assert!(
            news.is_empty(),
            "{}: {news}\nif that is right, write it anew with BLESS_FIXTURES=1, and read the difference line by line",
            self.path.display()
        );
    }

    fn text(&self) -> String {
        let mut text = self.preface.trim_end().to_owned();
        for exchange in &self.exchanges {
            write!(text, "\n\n== {}", exchange.title).unwrap();
            for (mark, lines) in [(">", &exchange.sent), ("<", &exchange.outcome.got), ("|", &exchange.outcome.seen)] {
                for line in lines {
                    let space = if line.is_empty() { "" } else { " " };
                    write!(text, "\n{mark}{space}{line}").unwrap();
                }
            }
        }
        text + "\n"
    }
}

/// The bytes that lines stand for: each ends in CR LF, or in nothing after a backslash.
pub(crate) fn bytes_of(lines: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        match line.strip_suffix('\\') {
            Some(open) if !line.ends_with("\\\\") => unescape(open, &mut bytes),
            _ => {
                unescape(line, &mut bytes);
                bytes.extend(b"\r\n");
            }
        }
    }
    bytes
}

/// Resolves `\r`, `\n`, `\t`, `\0`, `\\`, `\x1f`, and `\{text*1000}` for a thousand times `text`.
pub(crate) fn unescape(text: &str, bytes: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let kind = escape.chars().next().expect("a backslash escapes something");
        rest = &escape[1..];
        match kind {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            '0' => bytes.push(0),
            '\\' => bytes.push(b'\\'),
            'x' => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
                rest = &rest[2..];
            }
            '{' => {
                let (inner, after) = rest.split_once('}').expect("a repetition ends");
                let (text, times) = inner.rsplit_once('*').expect("a repetition has a number");
                let mut once = Vec::new();
                unescape(text, &mut once);
                bytes.extend(once.repeat(times.parse().expect("a number of times")));
                rest = after;
            }
            other => panic!("no escape: \\{other}"),
        }
    }
    bytes.extend(rest.as_bytes());
}

/// The lines that stand for bytes; what is long is told by its length and hash.
pub(crate) fn lines_of(bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(escape(&rest[..end]));
        rest = &rest[end + 2..];
    }
    if !rest.is_empty() {
        lines.push(escape(rest) + "\\");
    }
    lines
}

/// Text as it is, all else with escapes, and what is long by its length and hash.
pub(crate) fn escape(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    const LONG: usize = 400;
    if bytes.len() > LONG {
        let digest = Sha256::digest(bytes);
        let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        return format!("({} bytes, SHA-256 {digits})", bytes.len());
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\r' => text += "\\r",
                '\n' => text += "\\n",
                '\t' => text += "\\t",
                '\0' => text += "\\0",
                '\\' => text += "\\\\",
                c if c.is_control() => write!(text, "\\x{:02x}", u32::from(c)).unwrap(),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").unwrap();
        }
    }
    text
}
