//! Reads every file, finds its links, and looks up which files they mean.
//!
//! This is where it is decided what a reference that leads nowhere is worth. All of them are reported
//! together. Files are read on all threads; the result does not depend on their number.

use std::ops::Range;

use rayon::prelude::*;

use super::contents::Contents;
use super::error::{CollectError, Finding, Position};
use super::find_links::{self, Form, Language, Link, Modules, Purpose};
use super::resolve::{Reference, Resolution, Tree, resolve};
use super::scan::{Scanned, SourceFile};
use crate::config::CollectConfig;
use crate::config::values::{Severity, UrlPrefix};

/// Every file with its links.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) files: Vec<LinkedFile>,
}

/// One file, and which files it names where.
#[derive(Debug)]
pub(super) struct LinkedFile {
    pub(super) source: SourceFile,
    pub(super) contents: Contents,
    pub(super) links: Vec<ResolvedLink>,
}

/// A link to a file of the tree.
#[derive(Debug, Clone)]
pub(super) struct ResolvedLink {
    pub(super) span: Range<usize>,
    pub(super) target: usize,
    form: Form,
    reference: Reference,
}

impl ResolvedLink {
    /// What to write at its place for the target's new name.
    pub(super) fn text_for(&self, name: &str) -> String {
        self.form.write(&self.reference.with_name(name))
    }
}

/// Reads and links all files.
pub(super) fn link(
    scanned: Scanned,
    config: &CollectConfig,
    prefix: &UrlPrefix,
    warnings: &mut Vec<Finding>,
) -> Result<Linked, CollectError> {
    let tree = Tree::new(scanned.files.iter().map(|file| file.name.as_str()));
    let linker = Linker { config, prefix: prefix.as_str(), tree: &tree };
    let files: Vec<_> = scanned.files.into_par_iter().map(|file| linker.link(file)).collect();
    let mut linked = Vec::with_capacity(files.len());
    let mut missing = Vec::new();
    for file in files {
        let (file, findings) = file?;
        linked.push(file);
        for (severity, finding) in findings {
            match severity {
                Severity::Error => missing.push(finding),
                Severity::Warn => warnings.push(finding),
                Severity::Ignore => {}
            }
        }
    }
    if missing.is_empty() { Ok(Linked { files: linked }) } else { Err(CollectError::MissingReferences(missing)) }
}

type Findings = Vec<(Severity, Finding)>;

struct Linker<'a> {
    config: &'a CollectConfig,
    prefix: &'a str,
    tree: &'a Tree,
}

impl Linker<'_> {
    fn link(&self, source: SourceFile) -> Result<(LinkedFile, Findings), CollectError> {
        let Some(language) = Language::of(&source.name).filter(|_| self.config.hash) else {
            let contents = Contents::on_disk(&source.path)?;
            return Ok((LinkedFile { source, contents, links: Vec::new() }, Vec::new()));
        };
        let path = source.path.clone();
        let bytes = fs_err::read(&path).map_err(CollectError::Unreadable)?;
        // What a bundler has hashed is not rewritten, but its imports tell which plain names must be there.
        let follows = self.config.javascript_modules || source.is_prehashed;
        let modules = if follows { Modules::Follow } else { Modules::Leave };
        let found = find_links::find(language, &bytes, modules);
        let mut findings: Findings = Vec::new();
        if let Some(why) = found.refusal {
            findings.push((Severity::Warn, Finding::about(&source.name, why)));
        }
        let mut links = Vec::new();
        let is_told = |link: &Link| {
            self.config.javascript_modules || language != Language::JavaScript || link.purpose == Purpose::SourceMap
        };
        for link in found.links {
            match resolve(&link.url, &source.name, self.prefix, self.tree) {
                Resolution::Elsewhere => {}
                Resolution::File(target, reference) => {
                    links.push(ResolvedLink { span: link.span, target, form: link.form, reference });
                }
                Resolution::Missing { .. } | Resolution::AboveRoot if !is_told(&link) => {}
                Resolution::Missing { name } => findings.push(self.missing(&source, &bytes, &link, Some(&name))),
                Resolution::AboveRoot => findings.push(self.missing(&source, &bytes, &link, None)),
            }
        }
        Ok((LinkedFile { source, contents: Contents::of(&bytes, &path), links }, findings))
    }

    fn missing(&self, source: &SourceFile, bytes: &[u8], link: &Link, name: Option<&str>) -> (Severity, Finding) {
        let (severity, what) = match link.purpose {
            Purpose::Content => (self.config.missing_reference.otherwise, "refers to"),
            Purpose::SourceMap => (self.config.missing_source_map.otherwise, "names the source map"),
        };
        let message = match name {
            None => format!("{what} {:?}, which leads above the root of the static files", link.url),
            Some(name) => {
                let nearest = if severity == Severity::Ignore { None } else { self.tree.nearest(name) };
                let nearest = nearest.map_or_else(String::new, |near| format!(" (is {near:?} meant?)"));
                format!("{what} {:?}, but there is no {name:?}{nearest}", link.url)
            }
        };
        let position = std::str::from_utf8(bytes).ok().map(|text| Position::of(text, link.span.start));
        (severity, Finding { file: source.name.clone(), position, message })
    }
}
