//! Reads every file, finds its links, and looks up which files they mean.
//!
//! All references that lead nowhere are reported together, and with what was found before: a run that
//! cannot end well still comes as far as the end of this step. Files are read on all threads; the
//! result does not depend on their number.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use rayon::prelude::*;

use super::compress;
use super::contents::Contents;
use super::error::CollectError;
use super::find_links::{self, Form, Language, Languages, Link, Modules, Purpose, Refusal};
use super::resolve::{Reference, Resolution, Tree, resolve};
use super::scan::{self, Scanned, SourceFile};
use super::severity::Severities;
use crate::config::CollectConfig;
use crate::config::values::{Severity, UrlPrefix};
use crate::finding::positions::Positions;
use crate::finding::{self, Finding, Level, Rule};
use crate::http::encoding::Coding;

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

impl LinkedFile {
    /// The links into which new names are written.
    pub(super) fn rewritten_links(&self) -> impl Iterator<Item = &ResolvedLink> {
        self.links.iter().filter(|link| !link.is_kept)
    }
}

/// A link to a file of the tree.
#[derive(Debug, Clone)]
pub(super) struct ResolvedLink {
    pub(super) span: Range<usize>,
    pub(super) target: usize,
    /// Whether it stays as the author wrote it, so that the target must be there under its plain name.
    pub(super) is_kept: bool,
    form: Form,
    reference: Reference,
}

impl ResolvedLink {
    /// What to write at its place for the target's new name. Nothing if it has that name already: then
    /// what the author wrote stays, to the byte.
    pub(super) fn text_for(&self, name: &str) -> Option<String> {
        (!self.reference.has_name(name)).then(|| self.form.write(&self.reference.with_name(name)))
    }
}

/// Reads and links all files. Fails with all that was found, here and before, if some of it is fatal.
pub(super) fn link(
    scanned: Scanned,
    config: &CollectConfig,
    prefix: &UrlPrefix,
    severities: &Severities,
    findings: &mut Vec<Finding>,
) -> Result<Linked, CollectError> {
    let tree = Tree::new(scanned.files.iter().map(|file| file.name.as_ref()));
    let languages = Languages::new(config)?;
    let refused = &scanned.refused;
    let linker = Linker { config, languages: &languages, prefix: prefix.as_str(), severities, tree: &tree, refused };
    let files: Vec<_> = scanned.files.into_par_iter().map(|file| linker.link(file)).collect();
    let mut linked = Vec::with_capacity(files.len());
    for file in files {
        let (file, mut found) = file?;
        linked.extend(file);
        findings.append(&mut found);
    }
    if finding::are_fatal(findings) {
        return Err(CollectError::Unsound(std::mem::take(findings)));
    }
    Ok(Linked { files: linked })
}

/// In bytes; Linux's `NAME_MAX`.
const LONGEST_NAME: usize = 255;

struct Linker<'a> {
    config: &'a CollectConfig,
    languages: &'a Languages,
    prefix: &'a str,
    severities: &'a Severities,
    tree: &'a Tree,
    refused: &'a BTreeSet<String>,
}

impl Linker<'_> {
    /// The file with its links, and what is odd about it. A file that cannot be read is no more than that.
    fn link(&self, source: SourceFile) -> Result<(Option<LinkedFile>, Vec<Finding>), CollectError> {
        let (linked, mut findings) = self.look_into(source)?;
        findings.extend(linked.as_ref().and_then(|linked| self.too_long(linked)));
        Ok((linked, findings))
    }

    fn look_into(&self, source: SourceFile) -> Result<(Option<LinkedFile>, Vec<Finding>), CollectError> {
        let Some(language) = self.languages.of(&source.name).filter(|_| self.config.hash) else {
            return match Contents::on_disk(source.path.clone()) {
                Ok(contents) => Ok((Some(LinkedFile { source, contents, links: Vec::new() }), Vec::new())),
                Err(CollectError::Unreadable(error)) => Ok((None, vec![unreadable(&source, &error)])),
                Err(other) => Err(other),
            };
        };
        let bytes = match fs_err::read(&*source.path) {
            Ok(bytes) => bytes,
            Err(error) => return Ok((None, vec![unreadable(&source, &error)])),
        };
        // What a bundler has hashed is not rewritten, but its imports tell which plain names must be there.
        let follows = self.config.javascript_modules || source.is_prehashed;
        let modules = if follows { Modules::Follow } else { Modules::Leave };
        let mut found = find_links::find(language, &bytes, modules);
        let kept = if follows || self.config.keep_originals {
            Vec::new()
        } else {
            // So do imports that are not rewritten, where files have no plain names otherwise.
            let all = find_links::find(language, &bytes, Modules::Follow);
            found.refusal = found.refusal.or(all.refusal);
            all.links.into_iter().filter(|link| found.links.iter().all(|other| other.span != link.span)).collect()
        };
        let mut findings = Vec::new();
        let text = std::str::from_utf8(&bytes).unwrap_or_else(|error| {
            // There are no links then, and the finding is about the first byte that is none of a text.
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        });
        let mut positions = Positions::new(text);
        if let Some(Refusal { mut why, at }) = found.refusal {
            if !self.config.keep_originals {
                why += "; what it refers to by plain names may be missing, with [collect] keep_originals = false";
            }
            let finding = Finding::warning(Rule::NotUnderstood, source.name.as_ref(), why).on_disk(&*source.path);
            findings.push(Finding { position: at.map(|at| positions.of(at)), ..finding });
        }
        let mut links = Vec::new();
        let is_told = |link: &Link| {
            self.config.javascript_modules || language != Language::JavaScript || link.purpose == Purpose::SourceMap
        };
        for link in found.links {
            match resolve(&link.url, &source.name, self.prefix, self.tree) {
                Resolution::Elsewhere => {}
                Resolution::File(target, reference) => {
                    let is_kept = source.is_prehashed;
                    links.push(ResolvedLink { span: link.span, target, is_kept, form: link.form, reference });
                }
                Resolution::Missing { .. } | Resolution::AboveRoot if !is_told(&link) => {}
                Resolution::Missing { name } if self.is_refused(&name) => {}
                Resolution::Missing { name } => {
                    findings.extend(self.missing(&source, &mut positions, &link, Some(&name)));
                }
                Resolution::AboveRoot => findings.extend(self.missing(&source, &mut positions, &link, None)),
            }
        }
        for link in kept {
            if let Resolution::File(target, reference) = resolve(&link.url, &source.name, self.prefix, self.tree) {
                links.push(ResolvedLink { span: link.span, target, is_kept: true, form: link.form, reference });
            }
        }
        let contents = Contents::of(&bytes, source.path.clone());
        Ok((Some(LinkedFile { source, contents, links }), findings))
    }

    /// What there is to say of a name that no file system takes once it has grown. Deltas are left out where they
    /// have no room.
    fn too_long(&self, LinkedFile { source, contents, .. }: &LinkedFile) -> Option<Finding> {
        const HASH: usize = ".0123456789ab".len();
        let own = source.name.rsplit('/').next().unwrap_or_default().len();
        let hash = if self.config.hash && !source.is_prehashed { HASH } else { 0 };
        let is_compressed = !self.config.encodings.is_empty()
            && compress::may_have_copies(&source.name, contents.size, &self.config.skip_compression);
        let ending = Coding::ALL.map(|coding| coding.suffix().len()).into_iter().max().filter(|_| is_compressed);
        let length = own + hash + ending.unwrap_or_default();
        if length <= LONGEST_NAME {
            return None;
        }
        let with = match (hash > 0, is_compressed) {
            (true, true) => "gets {} bytes with a hash and the ending of a compressed copy",
            (true, false) => "gets {} bytes with a hash",
            (false, true) => "gets {} bytes with the ending of a compressed copy",
            (false, false) => "has {} bytes",
        };
        let message =
            format!("its name {}, and file systems take {LONGEST_NAME}", with.replace("{}", &length.to_string()));
        Some(Finding::error(Rule::UnpublishableName, source.name.as_ref(), message).on_disk(&*source.path))
    }

    /// Whether the file is there, or would be in a folder that is there, and has its own finding.
    fn is_refused(&self, name: &str) -> bool {
        let folders = name.match_indices('/').map(|(slash, _)| &name[..slash]);
        !self.refused.is_empty() && folders.chain([name]).any(|name| self.refused.contains(name))
    }

    fn missing(
        &self,
        source: &SourceFile,
        positions: &mut Positions<'_>,
        link: &Link,
        name: Option<&str>,
    ) -> Option<Finding> {
        let level = match self.severities.of(link.purpose, &source.name, name) {
            Severity::Error => Level::Error,
            Severity::Warn => Level::Warning,
            Severity::Ignore => return None,
        };
        let (rule, what) = match link.purpose {
            Purpose::Content => (Rule::MissingReference, "refers to"),
            Purpose::SourceMap => (Rule::MissingSourceMap, "names the source map"),
        };
        let nearest = name.and_then(|name| self.tree.nearest(name));
        let message = match name {
            None => format!("{what} {:?}, which leads above the root of the static files", link.url),
            Some(name) => {
                let nearest = nearest.map_or_else(String::new, |near| format!(" (is {near:?} meant?)"));
                format!("{what} {:?}, but there is no {name:?}{nearest}", link.url)
            }
        };
        Some(Finding {
            file: source.name.as_ref().to_owned(),
            position: Some(positions.of(link.span.start)),
            message,
            level,
            rule,
            source: Some(source.path.to_path_buf()),
            reference: Some(link.url.clone()),
            suggestion: nearest.map(str::to_owned),
        })
    }
}

fn unreadable(source: &SourceFile, error: &io::Error) -> Finding {
    Finding::error(Rule::Unreadable, source.name.as_ref(), scan::unreadable(error)).on_disk(&*source.path)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_found_beside_all_others() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs_err::write(folder.path().join("b.css"), "a{b:url(nowhere.png)}").expect("a file");
        let file = |name: &str| SourceFile {
            name: name.into(),
            path: folder.path().join(name).into(),
            modified: SystemTime::UNIX_EPOCH,
            is_prehashed: false,
        };
        // Whoever runs the tests may be allowed to read everything, so these files have gone since they were seen.
        let files = vec![file("a.css"), file("b.css"), file("c.png")];
        let scanned = Scanned { files, shadowed: 0, refused: BTreeSet::new() };
        let config = CollectConfig::default();
        let severities = Severities::read(&config).expect("patterns");
        let error = link(scanned, &config, &UrlPrefix::default(), &severities, &mut Vec::new()).expect_err("a refusal");
        let found: Vec<_> = error.findings().iter().map(|finding| (finding.file.as_str(), finding.rule)).collect();
        let expected = [("a.css", Rule::Unreadable), ("b.css", Rule::MissingReference), ("c.png", Rule::Unreadable)];
        assert_eq!(found, expected);
    }
}
