//! What a command tells when it has ended: lines for people, one JSON document, or annotations for a
//! workflow of GitHub's.
//!
//! It only writes texts; `main` prints them. People's text has colours in it, which are taken out where
//! nobody sees them. A document has every finding in parts, and errors of any kind too, so that a script
//! needs nothing but it and the exit code.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::cli::Format;
use crate::collect::Summary;
use crate::finding::{Finding, Level, Position};

/// Changes when a reader of the document would have to.
const DOCUMENT_VERSION: u32 = 1;

/// What there is to tell.
#[derive(Debug, Default)]
pub struct Told<'a> {
    /// What was done.
    pub summary: Option<&'a Summary>,
    /// How much was looked at, where nothing was done.
    pub numbers: Option<serde_json::Value>,
    /// What was found, errors and warnings.
    pub findings: &'a [Finding],
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// Why a command failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure with its chain of causes. The headline says it without a line for each finding.
    pub fn new(error: &dyn Error, headline: String, hint: Option<String>) -> Self {
        let causes = std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string);
        Self { message: headline, causes: causes.collect(), hint }
    }
}

/// What goes where.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// For standard output, whole.
    pub output: String,
    /// For standard error, whole, with colours.
    pub errors: String,
}

/// Writes it in a format. Paths are given as seen from `folder`.
pub fn tell(told: &Told<'_>, format: Format, folder: &Path) -> Texts {
    match format {
        Format::Text => Texts { output: String::new(), errors: text(told, told.findings) },
        Format::Json => Texts { output: document(told, folder), errors: String::new() },
        Format::Github => Texts { output: annotations(told, folder), errors: text(told, &[]) },
    }
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const GREEN: &str = "\x1b[1;32m";
const PLAIN: &str = "\x1b[0m";

/// Warnings first, so that what matters most is next to the prompt.
fn text(told: &Told<'_>, findings: &[Finding]) -> String {
    let (fatal, warnings): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.level == Level::Error);
    let mut lines = shown(&warnings, |warning| format!("{YELLOW}warning:{PLAIN} {warning}"));
    match &told.failure {
        None => lines.extend(shown(&fatal, |finding| format!("{RED}error:{PLAIN} {finding}"))),
        Some(Failure { message, causes, hint }) => {
            let colon = if fatal.is_empty() { "" } else { ":" };
            lines.push(format!("{RED}error:{PLAIN} {message}{colon}"));
            lines.extend(shown(&fatal, |finding| format!("  {finding}")));
            lines.extend(causes.iter().map(|cause| format!("  because: {cause}")));
            lines.extend(hint.iter().map(|hint| format!("{GREEN}hint:{PLAIN} {hint}")));
        }
    }
    lines.extend(told.summary.map(ToString::to_string));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// How many findings of one level people are shown. More than that are one mistake made many times, and would
/// push the first ones off the screen.
const SHOWN: usize = 100;

fn shown(findings: &[&Finding], line: impl Fn(&Finding) -> String) -> Vec<String> {
    let more = findings.len().saturating_sub(SHOWN);
    let rest = (more > 0).then(|| format!("  … and {more} more, which --format json tells"));
    findings.iter().take(SHOWN).map(|finding| line(finding)).chain(rest).collect()
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    outcome: &'static str,
    numbers: Option<serde_json::Value>,
    findings: Vec<DocumentFinding<'a>>,
    error: Option<&'a Failure>,
}

#[derive(Serialize)]
struct DocumentFinding<'a> {
    level: &'static str,
    rule: &'static str,
    file: &'a str,
    source: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    message: &'a str,
    reference: Option<&'a str>,
    suggestion: Option<&'a str>,
}

fn document(told: &Told<'_>, folder: &Path) -> String {
    let is_failed = told.failure.is_some() || told.findings.iter().any(|finding| finding.level == Level::Error);
    let document = Document {
        version: DOCUMENT_VERSION,
        outcome: if is_failed { "failed" } else { "done" },
        numbers: told.summary.and_then(|summary| serde_json::to_value(summary).ok()).or_else(|| told.numbers.clone()),
        findings: told.findings.iter().map(|finding| in_parts(finding, folder)).collect(),
        error: told.failure.as_ref(),
    };
    serde_json::to_string_pretty(&document).expect("texts and numbers are always JSON") + "\n"
}

fn in_parts<'a>(finding: &'a Finding, folder: &Path) -> DocumentFinding<'a> {
    DocumentFinding {
        level: finding.level.word(),
        rule: finding.rule.name(),
        file: &finding.file,
        source: finding.source.as_deref().map(|path| seen_from(folder, path)),
        line: finding.position.map(|position| position.line),
        column: finding.position.map(|position| position.column),
        message: &finding.message,
        reference: finding.reference.as_deref(),
        suggestion: finding.suggestion.as_deref(),
    }
}

/// Workflow commands. The message names the file too, since the log of a job shows nothing else of it.
fn annotations(told: &Told<'_>, folder: &Path) -> String {
    let mut text = String::new();
    for finding in told.findings {
        let mut properties = Vec::new();
        properties.extend(finding.source.as_deref().map(|path| ("file", seen_from(folder, path))));
        if let Some(Position { line, column }) = finding.position {
            properties.extend([("line", line.to_string()), ("col", column.to_string())]);
        }
        properties.push(("title", finding.rule.name().to_owned()));
        annotate(&mut text, finding.level, &properties, &finding.to_string());
    }
    let is_explained = told.findings.iter().any(|finding| finding.level == Level::Error);
    if let Some(failure) = told.failure.as_ref().filter(|_| !is_explained) {
        let causes = failure.causes.iter().map(|cause| format!("because: {cause}"));
        let hint = failure.hint.iter().map(|hint| format!("hint: {hint}"));
        let lines: Vec<_> = [failure.message.clone()].into_iter().chain(causes).chain(hint).collect();
        annotate(&mut text, Level::Error, &[], &lines.join("\n"));
    }
    text
}

fn annotate(text: &mut String, level: Level, properties: &[(&str, String)], message: &str) {
    let properties: Vec<_> = properties.iter().map(|(key, value)| format!("{key}={}", property(value))).collect();
    let space = if properties.is_empty() { "" } else { " " };
    let (level, properties) = (level.word(), properties.join(","));
    writeln!(text, "::{level}{space}{properties}::{}", data(message)).expect("writing to a string never fails");
}

/// What would end a workflow command, written so that it does not. There is no such way to write any other control
/// character, and the log of a job is shown on terminals.
fn data(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '%' => written.push_str("%25"),
            '\r' => written.push_str("%0D"),
            '\n' => written.push_str("%0A"),
            '\t' => written.push('\t'),
            letter if letter.is_control() => written.extend(letter.escape_unicode()),
            letter => written.push(letter),
        }
    }
    written
}

/// The same within its properties.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn seen_from(folder: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(folder).or_else(|_| path.strip_prefix(".")).unwrap_or(path);
    inside.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::finding::Rule;

    fn missing(level: Level) -> Finding {
        Finding {
            file: "css/a.css".into(),
            position: Some(Position { line: 2, column: 14 }),
            message: "refers to \"x.png\", but there is no \"css/x.png\"".into(),
            level,
            rule: Rule::MissingReference,
            source: Some("/home/me/site/static/css/a.css".into()),
            reference: Some("x.png".into()),
            suggestion: None,
        }
    }

    fn failure() -> Failure {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write")]
        struct Cannot(#[source] io::Error);
        Failure::new(
            &Cannot(io::Error::other("100% full")),
            "cannot write a.css".into(),
            Some("free some space".into()),
        )
    }

    fn told(told: &Told<'_>, format: Format) -> Texts {
        tell(told, format, Path::new("/home/me/site"))
    }

    #[test]
    fn people_are_shown_so_many_and_told_of_the_rest() {
        let findings = vec![missing(Level::Error); SHOWN + 2];
        let failed = Told { findings: &findings, failure: Some(failure()), summary: None, numbers: None };
        let text = told(&failed, Format::Text).errors;
        assert_eq!(text.lines().filter(|line| line.contains("x.png")).count(), SHOWN);
        assert!(text.contains("\n  … and 2 more, which --format json tells\n"), "{text}");
    }

    #[test]
    fn people_get_the_warnings_first_and_everything_that_is_fatal_below_the_error() {
        let findings = [missing(Level::Error), missing(Level::Warning)];
        let failed = Told { findings: &findings, failure: Some(failure()), summary: None, numbers: None };
        let line = "css/a.css:2:14: refers to \"x.png\", but there is no \"css/x.png\"";
        let expected = format!(
            "{YELLOW}warning:{PLAIN} {line}\n{RED}error:{PLAIN} cannot write a.css:\n  {line}\n  because: 100% full\n\
             {GREEN}hint:{PLAIN} free some space\n"
        );
        assert_eq!(told(&failed, Format::Text), Texts { output: String::new(), errors: expected });
        // Something may be found by a command that did not fail.
        let found = Told { findings: &findings[..1], ..Told::default() };
        assert_eq!(told(&found, Format::Text).errors, format!("{RED}error:{PLAIN} {line}\n"));
    }

    #[test]
    fn an_annotation_is_one_line_whatever_is_in_it() {
        let hostile = Finding {
            message: "50%\r\n::warning::x\u{1b}[31m\0\u{9b}".into(),
            source: Some("./a,b:c%\n\r\u{7}\u{1b}]0;x.css".into()),
            position: None,
            ..missing(Level::Warning)
        };
        let findings = [missing(Level::Error), hostile];
        let failed = Told { findings: &findings, failure: Some(failure()), summary: None, numbers: None };
        let expected = "\
::error file=static/css/a.css,line=2,col=14,title=missing-reference::css/a.css:2:14: refers to \"x.png\", but there is no \"css/x.png\"
::warning file=a%2Cb%3Ac%25%0A%0D\\u{7}\\u{1b}]0;x.css,title=missing-reference::css/a.css: 50%25%0D%0A::warning::x\\u{1b}[31m\\u{0}\\u{9b}
";
        let texts = told(&failed, Format::Github);
        assert_eq!(texts.output, expected);
        assert!(texts.errors.starts_with(&format!("{RED}error:{PLAIN} cannot write a.css\n")), "{}", texts.errors);
    }

    #[test]
    fn an_error_without_findings_is_an_annotation_of_its_own() {
        let failed = Told { failure: Some(failure()), ..Told::default() };
        let expected = "::error::cannot write a.css%0Abecause: 100%25 full%0Ahint: free some space\n";
        assert_eq!(told(&failed, Format::Github).output, expected);
    }

    #[test]
    fn a_document_has_the_error_in_parts() {
        let failed = Told { failure: Some(failure()), ..Told::default() };
        let texts = told(&failed, Format::Json);
        let document: serde_json::Value = serde_json::from_str(&texts.output).expect("a document");
        let error = serde_json::json!({
            "message": "cannot write a.css", "causes": ["100% full"], "hint": "free some space",
        });
        let expected =
            serde_json::json!({"version": 1, "outcome": "failed", "numbers": null, "findings": [], "error": error});
        assert_eq!((document, texts.errors.as_str()), (expected, ""));
    }

    #[test]
    fn a_path_is_seen_from_the_folder_where_it_lies_within() {
        for (path, expected) in [
            ("/home/me/site/static/a.css", "static/a.css"),
            ("/home/me/sitemap/a.css", "/home/me/sitemap/a.css"),
            ("./static/a.css", "static/a.css"),
            ("static/a.css", "static/a.css"),
            ("../a.css", "../a.css"),
        ] {
            assert_eq!(seen_from(Path::new("/home/me/site"), Path::new(path)), expected, "for {path}");
        }
    }
}
