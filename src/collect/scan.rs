//! Walks the source trees: which files there are, and under which name each is published.
//!
//! The rules are those of Django's finders. Sources come in order and the first one that has a name
//! wins. A file is ignored by its base name or by its path within its source, a folder by its base
//! name; patterns are case-sensitive and `*` crosses slashes.
//!
//! It reads no contents, and opens nothing but folders: a FIFO would hang the run. Symbolic links are
//! followed, as Django does, but only to where some source tree reaches; anything further would
//! publish files that nobody named. A loop or a broken link holds nothing to publish and is told.
//!
//! The output's own files are never collected, see [`is_reserved`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use globset::GlobSet;
use walkdir::{DirEntry, WalkDir};

use super::error::CollectError;
use super::folders::{Folder, Folders};
use super::globs::glob_set;
use crate::config::CollectConfig;
use crate::config::values::Source;
use crate::finding::{self, Finding, Rule};
use crate::manifest;
use crate::manifest::packed::Name;

/// One file to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// The plain name in the output, with forward slashes.
    pub(super) name: Name,
    /// Where it is now.
    pub(super) path: Arc<Path>,
    /// When it was last changed.
    pub(super) modified: SystemTime,
    /// Whether a bundler has put a hash into its name, see [`super::bundler`]: it keeps its name and its bytes.
    pub(super) is_prehashed: bool,
}

/// What the source trees hold.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Sorted by name; no name twice.
    pub(super) files: Vec<SourceFile>,
    /// How many further files had a name that an earlier source has.
    pub(super) shadowed: usize,
    /// Names of files and folders that are there, and cannot be published.
    pub(super) refused: BTreeSet<String>,
}

/// Walks every source. What cannot be published is among the findings.
pub(super) fn scan(
    folders: &Folders,
    config: &CollectConfig,
    output: &Path,
    findings: &mut Vec<Finding>,
) -> Result<Scanned, CollectError> {
    let roots = roots(&folders.list, output)?;
    let mut scan = Scan { ignore: glob_set("ignore", &config.ignore)?, roots, ..Scan::default() };
    for folder in &folders.list {
        scan.walk(folder);
    }
    scan.check_names();
    if scan.files.is_empty() && !finding::are_fatal(&scan.findings) {
        return Err(CollectError::NoFiles(folders.list.iter().map(|folder| folder.source.directory.clone()).collect()));
    }
    scan.findings.sort();
    findings.append(&mut scan.findings);
    Ok(Scanned { files: scan.files.into_values().collect(), shadowed: scan.shadowed, refused: scan.refused })
}

/// The real paths of the sources. All that are unusable are reported together.
fn roots(folders: &[Folder], output: &Path) -> Result<Vec<PathBuf>, CollectError> {
    if folders.is_empty() {
        return Err(CollectError::NoSources);
    }
    let mut roots = Vec::new();
    let mut bad = Vec::new();
    for Folder { source: Source { directory, .. }, .. } in folders {
        match root(directory) {
            Ok(root) => roots.push(root),
            Err(why) => bad.push(Finding::error(Rule::UnusableSource, shown(directory), why).on_disk(directory)),
        }
    }
    if !bad.is_empty() {
        return Err(CollectError::BadSources(bad));
    }
    let real_output = real_path(output);
    match roots.iter().position(|root| root.starts_with(&real_output) || real_output.starts_with(root)) {
        Some(at) => Err(CollectError::Overlap {
            source_folder: folders[at].source.directory.clone(),
            output: output.to_owned(),
        }),
        None => Ok(roots),
    }
}

fn root(directory: &Path) -> Result<PathBuf, String> {
    use std::io::ErrorKind::NotFound;
    let real = fs_err::canonicalize(directory).map_err(|error| match error.kind() {
        NotFound => "there is no such folder".to_owned(),
        _ => unreadable(&error),
    })?;
    if !real.is_dir() {
        return Err("it is not a folder".to_owned());
    }
    fs_err::read_dir(&real).map_err(|error| unreadable(&error))?;
    Ok(real)
}

/// In words that stay on one line; the path is told beside them.
pub(super) fn unreadable(error: &io::Error) -> String {
    format!("it cannot be read ({})", error.kind())
}

/// The path without symbolic links, also where its end does not exist yet.
pub(super) fn real_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs_err::canonicalize(ancestor), path.strip_prefix(ancestor)) {
            // Joining nothing would add a slash, and a file with a slash behind it is none.
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path
}

/// Whether a name belongs to the output folder itself: the manifest, which an earlier `collectstatic`
/// also leaves in a folder that is now a source, our originals, and our lock and staging folder.
fn is_reserved(name: &str) -> bool {
    name == manifest::FILE_NAME
        || name.starts_with(".vestibule")
        || name.strip_prefix(manifest::ORIGINALS).is_some_and(|rest| rest.starts_with('/'))
}

#[derive(Default)]
struct Scan {
    ignore: GlobSet,
    roots: Vec<PathBuf>,
    files: BTreeMap<Name, SourceFile>,
    shadowed: usize,
    refused: BTreeSet<String>,
    findings: Vec<Finding>,
}

impl Scan {
    fn walk(&mut self, folder: &Folder) {
        let source = &folder.source;
        let mut entries = WalkDir::new(&source.directory).follow_links(true).min_depth(1).into_iter();
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => {
                    let descend = self.visit(folder, &entry);
                    if entry.file_type().is_dir() && !descend {
                        entries.skip_current_dir();
                    }
                }
                Err(error) => self.visit_error(source, &error),
            }
        }
    }

    /// Takes one entry in. The answer is whether to go on into it.
    fn visit(&mut self, folder: &Folder, entry: &DirEntry) -> bool {
        let source = &folder.source;
        let path = entry.path();
        let relative = path.strip_prefix(&source.directory).unwrap_or(path);
        if self.is_ignored(relative, entry.file_type().is_dir()) {
            return false;
        }
        if !entry.file_type().is_dir() && !folder.has(relative) {
            return false;
        }
        if entry.path_is_symlink() && !self.stays_inside(path) {
            self.refused.extend(published_name(source, relative));
            self.problem(
                Rule::LinkOutside,
                path,
                "it is a symbolic link out of the source folders; copy the file, or make its folder a source",
            );
            return false;
        }
        if entry.file_type().is_dir() {
            return true;
        }
        match published_name(source, relative) {
            Err(why) => self.problem(Rule::UnpublishableName, path, why),
            Ok(name) if is_reserved(&name) => {}
            Ok(_) if !entry.file_type().is_file() => {
                self.warn(Rule::NotAFile, path, "it is neither a file nor a folder, and is left out");
            }
            Ok(name) => self.take(name, entry),
        }
        false
    }

    fn take(&mut self, name: String, entry: &DirEntry) {
        if self.files.contains_key(name.as_str()) {
            self.shadowed += 1;
            return;
        }
        let modified = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
        let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
        let name = Name::from(name);
        let file = SourceFile { name: name.clone(), path: entry.path().into(), modified, is_prehashed: false };
        self.files.insert(name, file);
    }

    fn visit_error(&mut self, source: &Source, error: &walkdir::Error) {
        let path = error.path().unwrap_or(&source.directory);
        let relative = path.strip_prefix(&source.directory).unwrap_or(path);
        if self.is_ignored(relative, false) {
            return;
        }
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if error.loop_ancestor().is_some() {
            self.warn(Rule::BrokenLink, path, "it is a symbolic link to a folder above it, and is left out");
        } else if is_link {
            self.warn(Rule::BrokenLink, path, "it is a symbolic link that leads nowhere, and is left out");
        } else {
            self.refused.extend(published_name(source, relative));
            self.problem(
                Rule::Unreadable,
                path,
                error.io_error().map_or_else(|| "it cannot be read".to_owned(), unreadable),
            );
        }
    }

    fn is_ignored(&self, relative: &Path, is_folder: bool) -> bool {
        let base_name = relative.file_name().unwrap_or_else(|| OsStr::new(""));
        self.ignore.is_match(base_name) || (!is_folder && self.ignore.is_match(relative))
    }

    fn stays_inside(&self, path: &Path) -> bool {
        fs_err::canonicalize(path).is_ok_and(|real| self.roots.iter().any(|root| real.starts_with(root)))
    }

    /// Looks at all names together: a file where another source has a folder cannot be published,
    /// and names that differ in case only meet on other file systems.
    fn check_names(&mut self) {
        let mut findings = Vec::new();
        let mut folded = BTreeMap::new();
        for (name, file) in &self.files {
            let folders = name.match_indices('/').map(|(slash, _)| &name[..slash]);
            for as_file in folders.filter_map(|folder| self.files.get(folder)) {
                let message = format!("it is a file where {} needs a folder", shown(&file.path));
                let finding = Finding::error(Rule::FileForFolder, shown(&as_file.path), message);
                findings.push(finding.on_disk(&*as_file.path));
            }
            if let Some(other) = folded.insert(name.to_lowercase(), name) {
                let message = format!("its name differs from {other} in case only");
                findings.push(Finding::warning(Rule::NamesDifferInCase, name.as_ref(), message).on_disk(&*file.path));
            }
        }
        self.findings.append(&mut findings);
    }

    fn problem(&mut self, rule: Rule, path: &Path, message: impl Into<String>) {
        self.findings.push(Finding::error(rule, shown(path), message).on_disk(path));
    }

    fn warn(&mut self, rule: Rule, path: &Path, message: impl Into<String>) {
        self.findings.push(Finding::warning(rule, shown(path), message).on_disk(path));
    }
}

/// A path on one line, whatever is in it.
fn shown(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => format!("{path:?}"),
    }
}

/// The name in the output. A name that no URL and no manifest can carry is refused.
fn published_name(source: &Source, relative: &Path) -> Result<String, &'static str> {
    let relative = relative.to_str().ok_or("its name is not UTF-8")?;
    if relative.contains('\\') {
        return Err("its name has a backslash, which browsers turn into a slash");
    }
    if relative.contains(char::is_control) {
        return Err("its name has a control character");
    }
    Ok(if source.prefix.is_empty() { relative.to_owned() } else { format!("{}/{relative}", source.prefix) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_django_reads_them() {
        let set = |globs: &[&str]| {
            let globs: Vec<_> = globs.iter().map(|&glob| glob.to_owned()).collect();
            Scan { ignore: glob_set("ignore", &globs).expect("patterns"), ..Scan::default() }
        };
        let django = set(&["CVS", ".*", "*~"]);
        for (path, is_folder, expected) in [
            ("CVS", true, true),
            ("cvs", true, false),
            ("a/.hidden", false, true),
            ("a/.well-known", true, true),
            ("a/b.css~", false, true),
            ("a/b.css", false, false),
        ] {
            assert_eq!(django.is_ignored(Path::new(path), is_folder), expected, "for {path}");
        }
        let by_path = set(&["docs/*.md", "{a}", "[!a].txt"]);
        for (path, is_folder, expected) in [
            ("docs/deep/x.md", false, true), // `*` crosses slashes
            ("docs/x.md", true, false),      // a folder is known by its base name only
            ("x.md", false, false),
            ("{a}", false, true), // no alternatives
            ("b.txt", false, true),
            ("a.txt", false, false),
        ] {
            assert_eq!(by_path.is_ignored(Path::new(path), is_folder), expected, "for {path}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_published_is_refused() {
        let source = Source { prefix: "vendor".into(), directory: "x".into() };
        for (name, expected) in [
            ("a b%20?.css", Ok("vendor/a b%20?.css".to_owned())),
            ("a\\b", Err("its name has a backslash, which browsers turn into a slash")),
            ("a\nb", Err("its name has a control character")),
        ] {
            assert_eq!(published_name(&source, Path::new(name)), expected, "for {name:?}");
        }
    }

    #[test]
    fn the_outputs_own_files_are_reserved_at_the_top_only() {
        assert!(is_reserved("staticfiles.json") && is_reserved(".vestibule.lock"));
        assert!(!is_reserved("app/staticfiles.json"));
    }
}
