//! Whether every reference leads to a listed file, and every name to the contents that it is the hash of.
//!
//! The same finders and the same look-up as for `collect` are used, with the names of the output:
//!
//! - In a file with a hashed name, a reference leads to another name that pages use, or it was not rewritten.
//! - An original refers to other originals; put the hashed names in, and it is its rewritten file, byte for
//!   byte.
//! - A file of an earlier release refers to whatever is still there.
//!
//! Files that name each other cannot have the hash of their bytes. Their common hash is made of their
//! authors' texts (`fingerprint`), so these are taken from the originals, or else the references within
//! the ring are given their plain names back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;

use md5::{Digest as _, Md5};
use rayon::prelude::*;

use super::Findings;
use crate::collect::error::CollectError;
use crate::collect::find_links::{self, Language, Languages, Link, Modules, Purpose};
use crate::collect::fingerprint::{fingerprint, hashed_name, ring_fingerprints};
use crate::collect::order::{Group, order};
use crate::collect::resolve::{Reference, Resolution, Tree, resolve};
use crate::collect::rewrite::rewrite;
use crate::collect::severity::Severities;
use crate::collect::twins::fingerprint_with_twins;
use crate::config::CollectConfig;
use crate::config::values::{Severity, UrlPrefix};
use crate::finding::{Finding, Position};
use crate::manifest::digits::{hex, sha256_of};
use crate::manifest::{Entry, Manifest};

/// Looks at every file; answers how many references lead to listed files.
pub(super) fn prove(
    folder: &Path,
    manifest: &Manifest,
    listed: &BTreeMap<String, Entry>,
    config: &CollectConfig,
    prefix: &UrlPrefix,
    findings: &mut Findings,
) -> Result<usize, CollectError> {
    let site = Site::new(folder, manifest, listed, config, prefix)?;
    let looks: Vec<Look> = site.nodes.par_iter().map(|node| site.look_at(node)).collect();
    let mut references = 0;
    let mut leads_to = Vec::with_capacity(looks.len());
    let mut is_whole = Vec::with_capacity(looks.len());
    for look in looks {
        references += look.references;
        findings.append(look.findings);
        leads_to.push(look.leads_to);
        is_whole.push(look.is_whole);
    }
    let names: Vec<Findings> = order(&leads_to).into_par_iter().map(|group| site.name_of(&group, &is_whole)).collect();
    for found in names {
        findings.append(found);
    }
    Ok(references)
}

/// A file under the name that pages use, or used in an earlier release.
#[derive(Debug)]
struct Node<'a> {
    plain: &'a str,
    name: &'a str,
    entry: &'a Entry,
}

impl Node<'_> {
    fn is_carried(&self) -> bool {
        self.entry.carried.is_some()
    }

    /// A bundler may have put a hash into the plain name; then it is not ours to prove.
    fn has_our_hash(&self) -> bool {
        self.plain != self.name
    }
}

/// What was seen of one file.
#[derive(Debug, Default)]
struct Look {
    findings: Findings,
    references: usize,
    /// The nodes that the file names.
    leads_to: Vec<usize>,
    /// Whether the file was read, and everything that it names was there.
    is_whole: bool,
}

struct Site<'a> {
    folder: &'a Path,
    listed: &'a BTreeMap<String, Entry>,
    paths: &'a BTreeMap<String, String>,
    config: &'a CollectConfig,
    languages: Languages,
    severities: Severities,
    prefix: &'a str,
    /// Sorted by plain name, as `collect` has the members of a ring.
    nodes: Vec<Node<'a>>,
    node_of: BTreeMap<&'a str, usize>,
    listed_names: Vec<&'a str>,
    listed_tree: Tree,
    plain_names: Vec<&'a str>,
    plain_tree: Tree,
    /// Whether some files are there under their hashed names only.
    lacks_plain_names: bool,
}

impl<'a> Site<'a> {
    fn new(
        folder: &'a Path,
        manifest: &'a Manifest,
        listed: &'a BTreeMap<String, Entry>,
        config: &'a CollectConfig,
        prefix: &'a UrlPrefix,
    ) -> Result<Self, CollectError> {
        let used =
            manifest.paths.iter().filter_map(|(plain, name)| listed.get(name).map(|entry| Node { plain, name, entry }));
        let carried = listed.iter().filter_map(|(name, entry)| {
            entry.carried.as_ref().map(|carried| Node { plain: &carried.plain, name, entry })
        });
        let mut nodes: Vec<Node<'a>> = used.chain(carried).collect();
        nodes.sort_by_key(|node| (node.plain, node.name));
        let node_of = nodes.iter().enumerate().map(|(index, node)| (node.name, index)).collect();
        let listed_names: Vec<&str> = listed.keys().map(String::as_str).collect();
        let plain_names: Vec<&str> = manifest.paths.keys().map(String::as_str).collect();
        Ok(Self {
            folder,
            listed,
            paths: &manifest.paths,
            config,
            languages: Languages::new(config)?,
            severities: Severities::read(config)?,
            prefix: prefix.as_str(),
            nodes,
            node_of,
            listed_tree: Tree::new(listed_names.iter().copied()),
            listed_names,
            plain_tree: Tree::new(plain_names.iter().copied()),
            lacks_plain_names: plain_names.iter().any(|name| !listed.contains_key(*name)),
            plain_names,
        })
    }

    /// The language of a file, if `collect` looked for links in it.
    fn language(&self, plain: &str) -> Option<Language> {
        self.languages.of(plain).filter(|_| self.config.hash)
    }

    /// The links of a file.
    fn links(&self, plain: &str, bytes: &[u8]) -> Vec<Link> {
        let modules = if self.config.javascript_modules { Modules::Follow } else { Modules::Leave };
        let language = self.language(plain);
        language.map(|language| find_links::find(language, bytes, modules).links).unwrap_or_default()
    }

    /// Reads a listed file, unless it is not the one that is listed: that is told elsewhere.
    fn read(&self, name: &str, entry: &Entry) -> Option<Vec<u8>> {
        let bytes = read_at_most(&self.folder.join(entry.location(name)), entry.size).ok()?;
        (hex(&fingerprint(&bytes)) == entry.sha256).then_some(bytes)
    }

    fn look_at(&self, node: &Node<'_>) -> Look {
        let mut look = Look::default();
        if self.language(node.plain).is_none() {
            self.compare_with_original(node, None, &mut look);
            look.is_whole = true;
            return look;
        }
        let Some(bytes) = self.read(node.name, node.entry) else { return look };
        look.is_whole = true;
        let mut reached = BTreeSet::new();
        for link in self.links(node.plain, &bytes) {
            match resolve(&link.url, node.name, self.prefix, &self.listed_tree) {
                Resolution::Elsewhere => {}
                Resolution::File(target, _) => {
                    reached.insert(self.listed_names[target]);
                    self.arrive(node, &bytes, &link, self.listed_names[target], &mut look);
                }
                Resolution::Missing { name } => self.miss(node, &bytes, &link, Some(&name), &mut look),
                Resolution::AboveRoot => self.miss(node, &bytes, &link, None, &mut look),
            }
        }
        self.look_for_needs(node, &reached, &mut look);
        self.look_for_plain_names(node, &bytes, &mut look);
        self.compare_with_original(node, Some(&bytes), &mut look);
        look
    }

    /// What a page would load early with a stylesheet, that must name.
    fn look_for_needs(&self, node: &Node<'_>, reached: &BTreeSet<&str>, look: &mut Look) {
        for name in node.entry.needs.names().filter(|name| !node.is_carried() && !reached.contains(name.as_str())) {
            look.findings
                .error(Finding::about(node.name, format!("it is said to need {name:?}, and does not name it")));
        }
    }

    /// Imports that are not rewritten need the files under their plain names.
    fn look_for_plain_names(&self, node: &Node<'_>, bytes: &[u8], look: &mut Look) {
        let language = self.language(node.plain).filter(|_| self.lacks_plain_names && !node.is_carried());
        let Some(language) = language.filter(|_| !self.config.javascript_modules) else { return };
        let rewritten = self.links(node.plain, bytes);
        let is_kept = |link: &Link| rewritten.iter().all(|other| other.span != link.span);
        for link in find_links::find(language, bytes, Modules::Follow).links.iter().filter(|link| is_kept(link)) {
            if let Resolution::File(target, _) = resolve(&link.url, node.plain, self.prefix, &self.plain_tree)
                && !self.listed.contains_key(self.plain_names[target])
            {
                let message = format!("it refers to {:?}, which is published under another name only", link.url);
                look.findings.error(at(node.name, bytes, link, message));
            }
        }
    }

    /// A reference leads to a listed file. From a file of this release it must be one of this release.
    fn arrive(&self, node: &Node<'_>, bytes: &[u8], link: &Link, target: &str, look: &mut Look) {
        look.references += 1;
        let reached = self.node_of.get(target);
        look.leads_to.extend(reached);
        if node.is_carried() || !node.has_our_hash() {
            return;
        }
        let why = match reached {
            Some(&index) if self.nodes[index].is_carried() => "which only an earlier release uses",
            Some(_) => return,
            None => "which is a plain name: the reference was not rewritten",
        };
        look.findings.error(at(node.name, bytes, link, format!("it refers to {:?}, {why}", link.url)));
    }

    fn miss(&self, node: &Node<'_>, bytes: &[u8], link: &Link, name: Option<&str>, look: &mut Look) {
        look.is_whole = false;
        let message = match name {
            Some(name) => format!("it refers to {:?}, but the manifest does not list {name:?}", link.url),
            None => format!("it refers to {:?}, which leads above the root of the static files", link.url),
        };
        let finding = at(node.name, bytes, link, message);
        match (self.severities.of(link.purpose, node.plain, name), node.is_carried(), link.purpose) {
            (Severity::Ignore, ..) | (_, true, Purpose::SourceMap) => {}
            (Severity::Error, false, _) => look.findings.error(finding),
            (Severity::Error | Severity::Warn, ..) => look.findings.warn(finding),
        }
    }

    /// An original becomes its rewritten file when the hashed names are put in.
    fn compare_with_original(&self, node: &Node<'_>, rewritten: Option<&[u8]>, look: &mut Look) {
        let original = self.listed.get(node.plain).filter(|_| !node.is_carried() && node.has_our_hash());
        let Some(original) = original.filter(|original| original.sha256 != node.entry.sha256) else { return };
        let is_it = rewritten.is_some_and(|rewritten| {
            let Some(bytes) = self.read(node.plain, original) else { return true };
            let links = self.original_links(node.plain, &bytes);
            look.references += links.len();
            for (_, _, target) in &links {
                if !self.listed.contains_key(self.plain_names[*target]) {
                    let message = format!("it refers to {:?}, which is not published", self.plain_names[*target]);
                    look.findings.error(Finding::about(node.plain, message));
                }
            }
            let edit = |(link, reference, target): &(Link, Reference, usize)| {
                let name = self.paths.get(self.plain_names[*target])?;
                replacement(link, reference, name)
            };
            rewrite(&bytes, &links.iter().filter_map(edit).collect::<Vec<_>>()) == rewritten
        });
        if !is_it {
            let message = format!("it is not what {} becomes with the names of this release", node.plain);
            look.findings.error(Finding::about(node.name, message));
        }
    }

    /// The links of an original to files of the sources.
    fn original_links(&self, plain: &str, bytes: &[u8]) -> Vec<(Link, Reference, usize)> {
        let resolved = self.links(plain, bytes).into_iter().filter_map(|link| {
            match resolve(&link.url, plain, self.prefix, &self.plain_tree) {
                Resolution::File(target, reference) => Some((link, reference, target)),
                Resolution::Elsewhere | Resolution::Missing { .. } | Resolution::AboveRoot => None,
            }
        });
        resolved.collect()
    }

    /// Whether a file, or each file of a ring, has the name that its contents give it.
    fn name_of(&self, group: &Group, is_whole: &[bool]) -> Findings {
        let mut findings = Findings::default();
        let members = match group {
            Group::One(index) => std::slice::from_ref(index),
            Group::Ring(members) => &members[..],
        };
        let has_own_hash = |&index: &usize| {
            let node = &self.nodes[index];
            let digest = sha256_of(&node.entry.sha256);
            // What is no SHA-256 at all is told as no hash of the bytes.
            !node.has_our_hash()
                || digest.is_none_or(|digest| hashed_name(node.plain, &self.with_twins(node, digest)) == node.name)
                || (node.is_carried() && self.has_hash_of_django(node))
        };
        let wrong: Vec<usize> = match group {
            Group::One(_) => members.iter().copied().filter(|index| !has_own_hash(index)).collect(),
            Group::Ring(_) if !self.config.hash => Vec::new(),
            Group::Ring(_) => match self.ring_names(members) {
                Some(names) => {
                    let wrong = members.iter().zip(names).filter(|(index, name)| self.nodes[**index].name != name);
                    wrong.map(|(index, _)| *index).collect()
                }
                // A member could not be read, which is told elsewhere.
                None => Vec::new(),
            },
        };
        let has_originals = members.iter().all(|&index| self.original_of(&self.nodes[index]).is_some());
        for index in wrong {
            let node = &self.nodes[index];
            match group {
                // A ring of an earlier release that has lost a member is no ring any more.
                Group::One(_) if node.is_carried() && !is_whole[index] => findings.warn(Finding::about(
                    node.name,
                    "its name cannot be proved, as files that it names are not there any more",
                )),
                Group::One(_) => {
                    findings.error(Finding::about(node.name, "the hash in its name is not that of its bytes"))
                }
                Group::Ring(_) if has_originals => findings.error(Finding::about(
                    node.name,
                    "the hash in its name is not that of the files that name each other with it",
                )),
                Group::Ring(_) => findings.warn(Finding::about(
                    node.name,
                    "its name cannot be proved without the originals of the files that name each other with it",
                )),
            }
        }
        findings
    }

    /// The digest of a file and its twins.
    fn with_twins(&self, node: &Node<'_>, digest: [u8; 32]) -> [u8; 32] {
        let twins = node.entry.twins.iter();
        let digests: Vec<_> = twins.filter_map(|twin| sha256_of(&self.listed.get(twin)?.sha256)).collect();
        if digests.is_empty() { digest } else { fingerprint_with_twins(&digest, digests) }
    }

    /// A release of Django's own `collectstatic` may have come before.
    fn has_hash_of_django(&self, node: &Node<'_>) -> bool {
        let Some(bytes) = self.read(node.name, node.entry) else { return false };
        let mut digest = [0; 32];
        digest[..16].copy_from_slice(&Md5::digest(bytes));
        hashed_name(node.plain, &digest) == node.name
    }

    /// The entry of a file's original, if that is in the folder.
    fn original_of(&self, node: &Node<'_>) -> Option<&Entry> {
        self.listed.get(node.plain).filter(|_| !node.is_carried())
    }

    /// The names that the files of a ring must have.
    fn ring_names(&self, members: &[usize]) -> Option<Vec<String>> {
        let ring: BTreeSet<usize> = members.iter().copied().collect();
        let text = |&index: &usize| Some((self.nodes[index].plain, self.authors_text(index, &ring)?));
        let texts = members.iter().map(text).collect::<Option<Vec<_>>>()?;
        let named = members.iter().zip(ring_fingerprints(&texts));
        Some(named.map(|(&index, fingerprint)| hashed_name(self.nodes[index].plain, &fingerprint)).collect())
    }

    /// The text of which the ring's hash is made: references that leave the ring have their final names,
    /// those within are as the author wrote them.
    fn authors_text(&self, index: usize, ring: &BTreeSet<usize>) -> Option<Vec<u8>> {
        let node = &self.nodes[index];
        let is_inside = |name: &str| self.node_of.get(name).is_some_and(|index| ring.contains(index));
        let (bytes, edits): (Vec<u8>, Vec<(Range<usize>, String)>) = match self.original_of(node) {
            Some(original) => {
                let bytes = self.read(node.plain, original)?;
                let edit = |(link, reference, target): (Link, Reference, usize)| {
                    let name = self.paths.get(self.plain_names[target]).filter(|name| !is_inside(name))?;
                    replacement(&link, &reference, name)
                };
                let edits = self.original_links(node.plain, &bytes).into_iter().filter_map(edit).collect();
                (bytes, edits)
            }
            None => {
                let bytes = self.read(node.name, node.entry)?;
                let edit = |link: Link| match resolve(&link.url, node.name, self.prefix, &self.listed_tree) {
                    Resolution::File(target, reference) if is_inside(self.listed_names[target]) => {
                        let plain = self.nodes[*self.node_of.get(self.listed_names[target])?].plain;
                        replacement(&link, &reference, plain)
                    }
                    _ => None,
                };
                let edits = self.links(node.plain, &bytes).into_iter().filter_map(edit).collect();
                (bytes, edits)
            }
        };
        Some(rewrite(&bytes, &edits))
    }
}

/// What goes to a link's place for a name, as `link::ResolvedLink` writes it: nothing, where the name is there.
fn replacement(link: &Link, reference: &Reference, name: &str) -> Option<(Range<usize>, String)> {
    (!reference.has_name(name)).then(|| (link.span.clone(), link.form.write(&reference.with_name(name))))
}

fn at(name: &str, bytes: &[u8], link: &Link, message: String) -> Finding {
    let position = std::str::from_utf8(bytes).ok().map(|text| Position::of(text, link.span.start));
    Finding { position, ..Finding::about(name, message) }
}

/// A file that has grown since it was listed is not read to its end.
fn read_at_most(path: &Path, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
