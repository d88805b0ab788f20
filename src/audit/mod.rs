//! `vestibule audit-templates`: finds the static files that templates and Python name, and tells those that
//! the manifest lacks, which Django would answer with an error page when somebody comes by.
//!
//! Only constants are judged, and as Django judges them at run time (`lookup`), with DEBUG off and
//! `manifest_strict` on, which are its defaults for a site in production. Names that are put together at run
//! time are counted and can be listed. Nothing is imported and no template is rendered.
//!
//! Looked at are Python files and templates: files with an extension that templates have, and every file
//! below a folder `templates` or `jinja2`. Left out are hidden folders, virtual environments, installed
//! packages, `node_modules`, tests, the output folder, binary files, and very large ones. What is
//! named on the command line is always looked into.

mod lookup;
mod python;
mod templates;

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use thiserror::Error;
use walkdir::{DirEntry, WalkDir};

use self::lookup::Answer;
use self::templates::Engine;
use crate::finding::positions::Positions;
use crate::finding::{Finding, Rule, counted, grouped};
use crate::manifest::Manifest;
use crate::manifest::json::ManifestError;
use crate::manifest::nearest::nearest;

/// Files beyond this are data: no template and no module is so long.
const LARGEST: u64 = 2 << 20;

/// The extensions of templates, wherever they are.
const TEMPLATES: [&str; 13] =
    ["html", "htm", "xhtml", "djhtml", "jinja", "jinja2", "j2", "txt", "xml", "svg", "md", "mjml", "eml"];

/// Why there is nothing to audit.
#[derive(Debug, Error)]
pub enum AuditError {
    /// No folder with a manifest is named.
    #[error("no folder with a manifest is given")]
    NoManifest,
    /// The manifest is missing or cannot be understood.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What is to be audited is not there.
    #[error("there is no {}", .0.display())]
    NoFolder(PathBuf),
}

impl AuditError {
    /// Whether the command line or the configuration must be changed, as opposed to files.
    pub fn is_operators_mistake(&self) -> bool {
        match self {
            Self::NoManifest | Self::NoFolder(_) | Self::Manifest(ManifestError::Missing(_)) => true,
            Self::Manifest(_) => false,
        }
    }

    /// What to do about it, where there is one answer.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoManifest => "name it with --output DIR, or under [collect] output or [static] directory",
            Self::NoFolder(_) => "name the folders that hold your templates and Python files",
            Self::Manifest(ManifestError::Missing(_)) => "run `vestibule collect` first, and name its output",
            Self::Manifest(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// What came of an audit. It prints as the list of findings and a closing line.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// How many files were read.
    pub files: usize,
    /// How many names in them are in the manifest.
    pub found: usize,
    /// The names that are not.
    pub missing: Vec<Finding>,
    /// The names that are only known at run time.
    pub dynamic: Vec<Finding>,
    /// What could not be read, or not as text.
    pub unreadable: Vec<Finding>,
    /// How many files were too large to be templates.
    pub too_large: usize,
    /// Whether to print the names that are only known at run time.
    pub lists_dynamic: bool,
    /// How long it took.
    pub elapsed: Duration,
}

impl Audit {
    /// Whether every name is in the manifest.
    pub fn is_sound(&self) -> bool {
        self.missing.is_empty()
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.dynamic.iter().filter(|_| self.lists_dynamic) {
            writeln!(f, "note: {finding}")?;
        }
        for finding in &self.unreadable {
            writeln!(f, "warning: {finding}")?;
        }
        for finding in &self.missing {
            writeln!(f, "error: {finding}")?;
        }
        let seconds = self.elapsed.as_secs_f64();
        let [files, found, missing] = [(self.files, "file"), (self.found, "name"), (self.missing.len(), "name")]
            .map(|(number, thing)| counted(number, thing));
        match self.is_sound() {
            true => write!(f, "audited {files}: {found} in the manifest")?,
            false => write!(f, "found {missing} that the manifest lacks, in {files}; {found} in the manifest")?,
        }
        if !self.dynamic.is_empty() {
            let how = if self.lists_dynamic { "see above" } else { "--dynamic lists them" };
            write!(f, ", {} only known at run time ({how})", grouped(self.dynamic.len()))?;
        }
        if self.too_large > 0 {
            write!(f, ", {} larger than 2 MiB left out", counted(self.too_large, "file"))?;
        }
        write!(f, " in {seconds:.1} s")
    }
}

/// A place where a static file is named.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Use {
    /// Where it begins, in bytes.
    offset: usize,
    /// Which one.
    name: Name,
}

/// Which static file is named.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// This one.
    Constant(String),
    /// One that is known at run time only; the text says how it is asked for.
    Dynamic(String),
}

/// Audits files and folders against the manifest of an output folder.
///
/// # Errors
/// When there is nothing to audit, or no manifest. Names that it lacks are in the [`Audit`].
pub fn audit(roots: &[PathBuf], output: Option<&Path>) -> Result<Audit, AuditError> {
    let started = Instant::now();
    let output = output.ok_or(AuditError::NoManifest)?;
    let manifest = Manifest::load(output)?;
    if let Some(root) = roots.iter().find(|root| !root.exists()) {
        return Err(AuditError::NoFolder(root.clone()));
    }
    let mut audit = Audit::default();
    let mut files = Vec::new();
    let real_output = fs_err::canonicalize(output).unwrap_or_else(|_| output.to_owned());
    for root in roots {
        let entries = WalkDir::new(root).sort_by_file_name().into_iter();
        for entry in entries.filter_entry(|entry| entry.depth() == 0 || is_looked_into(entry, &real_output)) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => {
                    files.extend(kind_of(entry.path()).map(|kind| (entry.path().to_owned(), kind)));
                }
                Ok(_) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(root).display().to_string();
                    audit.unreadable.push(Finding::warning(
                        Rule::Unreadable,
                        path,
                        format!("it cannot be read ({error})"),
                    ));
                }
            }
        }
    }
    files.sort();
    files.dedup();
    let audits: Vec<Audit> = files.par_iter().map(|(path, kind)| look_at(path, *kind, &manifest)).collect();
    for one in audits {
        audit.take(one);
    }
    audit.elapsed = started.elapsed();
    Ok(audit)
}

impl Audit {
    fn take(&mut self, other: Self) {
        self.files += other.files;
        self.found += other.found;
        self.too_large += other.too_large;
        self.missing.extend(other.missing);
        self.dynamic.extend(other.dynamic);
        self.unreadable.extend(other.unreadable);
    }
}

fn is_looked_into(entry: &DirEntry, output: &Path) -> bool {
    let name = entry.file_name().to_string_lossy();
    if !entry.file_type().is_dir() {
        // Names in tests are often made up, and nobody visits them.
        let is_test = matches!(&*name, "tests.py" | "conftest.py")
            || (name.starts_with("test_") && name.ends_with(".py"))
            || name.ends_with("_test.py");
        return !is_test;
    }
    let is_left_out = name.starts_with('.')
        || matches!(&*name, "node_modules" | "__pycache__" | "site-packages" | "dist-packages" | "test" | "tests")
        || ["pyvenv.cfg", "conda-meta"].iter().any(|mark| entry.path().join(mark).exists());
    // Only a folder of that name can be the output, so not every folder is asked for its real path.
    let is_output = entry.path().file_name() == output.file_name()
        && fs_err::canonicalize(entry.path()).is_ok_and(|real| real == output);
    !is_left_out && !is_output
}

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Python,
    Template(Engine),
}

fn kind_of(path: &Path) -> Option<Kind> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_ascii_lowercase();
    let is_below = |folder: &str| path.parent().is_some_and(|parent| parent.iter().any(|part| part == folder));
    match extension.as_str() {
        "py" => Some(Kind::Python),
        "jinja" | "jinja2" | "j2" => Some(Kind::Template(Engine::Jinja)),
        _ if is_below("jinja2") => Some(Kind::Template(Engine::Jinja)),
        known if TEMPLATES.contains(&known) || is_below("templates") => Some(Kind::Template(Engine::Django)),
        _ => None,
    }
}

fn look_at(path: &Path, kind: Kind, manifest: &Manifest) -> Audit {
    let mut audit = Audit::default();
    let file = path.display().to_string();
    let text = match text_of(path) {
        Ok(Text::Whole(text)) => text,
        Ok(Text::Binary) => return audit,
        Ok(Text::OfAnotherEncoding) => {
            let message = "it is not UTF-8, and was not looked into";
            audit.unreadable.push(Finding::warning(Rule::NotUnderstood, file, message).on_disk(path));
            return audit;
        }
        Ok(Text::TooLarge) => {
            audit.too_large = 1;
            return audit;
        }
        Err(error) => {
            audit.unreadable.push(Finding::warning(Rule::Unreadable, file, format!("it cannot be read ({error})")));
            return audit;
        }
    };
    audit.files = 1;
    let uses = match kind {
        Kind::Python => python::uses(&text),
        Kind::Template(engine) => templates::uses(&text, engine),
    };
    let mut positions = Positions::new(&text);
    for Use { offset, name } in uses {
        let position = Some(positions.of(offset));
        let finding = |message| Finding {
            position,
            source: Some(path.to_owned()),
            ..Finding::error(Rule::MissingReference, &file, message)
        };
        match name {
            Name::Dynamic(what) => {
                audit.dynamic.push(finding(format!("{what} is only known at run time")));
            }
            Name::Constant(name) => match lookup::answer(&name, &manifest.paths) {
                Answer::InManifest | Answer::Folder => audit.found += 1,
                Answer::Missing { path } => {
                    let near = nearest(manifest.paths.keys().map(String::as_str), path.trim_start_matches('/'));
                    let message = message(&name, near);
                    let suggestion = near.map(str::to_owned);
                    audit.missing.push(Finding { reference: Some(name), suggestion, ..finding(message) });
                }
            },
        }
    }
    audit
}

fn message(name: &str, near: Option<&str>) -> String {
    let near = near.map_or_else(String::new, |near| format!(" (is {near:?} meant?)"));
    format!("{name:?} is not in the manifest{near}")
}

enum Text {
    Whole(String),
    Binary,
    OfAnotherEncoding,
    TooLarge,
}

fn text_of(path: &Path) -> io::Result<Text> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Ok(Text::TooLarge);
    }
    if bytes.contains(&0) {
        return Ok(Text::Binary);
    }
    Ok(String::from_utf8(bytes).map_or(Text::OfAnotherEncoding, Text::Whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_extension_or_its_folder() {
        let (django, jinja) = (Some(Kind::Template(Engine::Django)), Some(Kind::Template(Engine::Jinja)));
        for (path, expected) in [
            ("app/models.py", Some(Kind::Python)),
            ("app/templates/app/page.html", django),
            ("app/templates/app/page.js", django),
            ("app/templates/mail", django),
            ("emails/hello.TXT", django),
            ("app/jinja2/app/page.html", jinja),
            ("app/templates/page.j2", jinja),
            ("app/static/app.js", None),
            ("templates", None), // a file, not a folder
        ] {
            assert_eq!(kind_of(Path::new(path)), expected, "for {path}");
        }
    }

    #[test]
    fn an_audit_ends_with_its_numbers() {
        let sound = Audit { files: 12, found: 1, ..Audit::default() };
        assert_eq!(sound.to_string(), "audited 12 files: 1 name in the manifest in 0.0 s");
        let finding = |message: &str| Finding::about("a.html", message);
        let dynamic = vec![finding("x is only known at run time")];
        let unsound = Audit { missing: vec![finding("no")], dynamic, too_large: 2, ..sound };
        let line =
            "found 1 name that the manifest lacks, in 12 files; 1 name in the manifest, 1 only known at run time";
        let expected =
            format!("error: a.html: no\n{line} (--dynamic lists them), 2 files larger than 2 MiB left out in 0.0 s");
        assert_eq!(unsound.to_string(), expected);
        let listed = Audit { lists_dynamic: true, ..unsound }.to_string();
        assert!(listed.starts_with("note: a.html: x is only known at run time\nerror: "), "{listed}");
    }
}
