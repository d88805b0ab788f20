//! Gives every file its final bytes and its final name, group by group.
//!
//! Since a named file comes before the file that names it, each file is rewritten once, with names
//! that are final, and hashed over the rewritten bytes. Those are made ready in the staging folder at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::contents::Contents;
use super::error::CollectError;
use super::fingerprint::{Fingerprint, fingerprint, hashed_name, ring_fingerprints};
use super::link::{Linked, LinkedFile, ResolvedLink};
use super::order::{Group, order};
use super::rewrite::rewrite;
use super::staging::Staging;
use super::twins::{Twins, fingerprint_with_twins};
use crate::manifest::ORIGINALS;
use crate::manifest::digits::hex;
use crate::manifest::packed::Name;

/// Everything that will be in the output, before compression.
#[derive(Debug)]
pub(super) struct Named {
    /// What to write.
    pub(super) outputs: Vec<Output>,
    /// Plain name to the name that pages use.
    pub(super) paths: BTreeMap<Name, Name>,
    /// How many references have a new name in them.
    pub(super) references: usize,
    /// Plain names of files each of which leads to every other: they get new names together.
    pub(super) rings: Vec<Vec<Name>>,
    /// Plain names that something asks for which is not rewritten.
    needed: BTreeSet<Name>,
}

/// One content under one or two names.
///
/// It is written once, under a name that never means anything else ([`Output::stored`]).
#[derive(Debug)]
pub(super) struct Output {
    /// The hashed name, if these bytes have one.
    pub(super) hashed: Option<Name>,
    /// The plain name, if these bytes have it: the author's bytes always do.
    pub(super) plain: Option<Name>,
    /// The bytes.
    pub(super) contents: Contents,
    /// The time of the source file.
    pub(super) modified: SystemTime,
}

impl Output {
    /// The name under which the bytes are kept, in which their hash is. A plain name is not one: in the next
    /// release it may have other bytes, and a reader in between must not take them for these.
    pub(super) fn stored(&self) -> Name {
        let original = || format!("{ORIGINALS}/{}", hex(&self.contents.fingerprint[..16])).into();
        self.hashed.clone().unwrap_or_else(original)
    }

    /// What people know it as.
    pub(super) fn name(&self) -> &str {
        self.plain.as_deref().or(self.hashed.as_deref()).unwrap_or_default()
    }
}

/// Names that stay as they are.
pub(super) fn keep_names(linked: Linked) -> Named {
    let plain = |file: LinkedFile| {
        let name = Some(file.source.name);
        let (hashed, plain) = if file.source.is_prehashed { (name, None) } else { (None, name) };
        Output { hashed, plain, contents: file.contents, modified: file.source.modified }
    };
    let paths = linked.files.iter().map(|file| (file.source.name.clone(), file.source.name.clone())).collect();
    let outputs = linked.files.into_iter().map(plain).collect();
    Named { outputs, paths, references: 0, rings: Vec::new(), needed: BTreeSet::new() }
}

/// Names with a content hash. What is rewritten is made ready in `staging`.
pub(super) fn hash_names(linked: Linked, twins: &Twins, staging: &Staging) -> Result<Named, CollectError> {
    let named: Vec<Vec<usize>> = linked.files.iter().map(rewritten_targets).collect();
    let references = named.iter().map(Vec::len).sum();
    let mut names = Names { files: &linked.files, twins, staging, hashed: vec![None; linked.files.len()] };
    let mut rewritten: BTreeMap<usize, Contents> = BTreeMap::new();
    let mut rings = Vec::new();
    for group in order(&named) {
        match group {
            Group::One(file) => rewritten.extend(names.one(file)?.map(|contents| (file, contents))),
            Group::Ring(members) => {
                rewritten.extend(names.ring(&members)?);
                // One that names itself is no group to anybody but us.
                if members.len() > 1 {
                    rings.push(members.iter().map(|&member| linked.files[member].source.name.clone()).collect());
                }
            }
        }
    }
    rings.sort_unstable();
    let hashed = names.hashed;
    let needed = needed(&linked);
    let mut result = Named { outputs: Vec::new(), paths: BTreeMap::new(), references, rings, needed };
    for (index, (file, hashed)) in linked.files.into_iter().zip(hashed).enumerate() {
        result.add(file, hashed.unwrap_or_default(), rewritten.remove(&index));
    }
    result.check_collisions()?;
    Ok(result)
}

/// The files whose new names are written into this one.
fn rewritten_targets(file: &LinkedFile) -> Vec<usize> {
    file.rewritten_links().map(|link| link.target).collect()
}

/// The plain names that must be there: those that stay in some file as the author wrote them, and those in the
/// author's bytes of a file that is there under such a name.
fn needed(linked: &Linked) -> BTreeSet<Name> {
    let files = &linked.files;
    let mut is_needed = vec![false; files.len()];
    let kept = files.iter().flat_map(|file| &file.links).filter(|link| link.is_kept);
    let mut next: Vec<usize> = kept.map(|link| link.target).collect();
    while let Some(file) = next.pop() {
        if !std::mem::replace(&mut is_needed[file], true) {
            next.extend(files[file].links.iter().map(|link| link.target));
        }
    }
    files.iter().zip(is_needed).filter(|(_, is_needed)| *is_needed).map(|(file, _)| file.source.name.clone()).collect()
}

struct Names<'a> {
    files: &'a [LinkedFile],
    twins: &'a Twins,
    staging: &'a Staging,
    hashed: Vec<Option<Name>>,
}

impl Names<'_> {
    /// Names a file that all of its references precede, and answers with its new bytes if it has any.
    fn one(&mut self, index: usize) -> Result<Option<Contents>, CollectError> {
        let file = &self.files[index];
        if file.source.is_prehashed {
            self.hashed[index] = Some(file.source.name.clone());
            return Ok(None);
        }
        if file.rewritten_links().next().is_none() {
            self.give(index, &self.with_twins(file));
            return Ok(None);
        }
        let bytes = self.rewritten(index)?;
        self.give(index, &fingerprint(&bytes));
        self.stage(index, &bytes).map(Some)
    }

    /// The fingerprint of a file and its twins. Those name no files, so that theirs are final.
    fn with_twins(&self, file: &LinkedFile) -> Fingerprint {
        let own = file.contents.fingerprint;
        let found = |twin: &Name| {
            let at = self.files.binary_search_by(|file| file.source.name.cmp(twin)).ok()?;
            Some(self.files[at].contents.fingerprint)
        };
        match self.twins.of(&file.source.name) {
            [] => own,
            twins => fingerprint_with_twins(&own, twins.iter().filter_map(found).collect()),
        }
    }

    fn ring(&mut self, members: &[usize]) -> Result<Vec<(usize, Contents)>, CollectError> {
        let files = self.files;
        let named_text = |&member: &usize| Ok((&*files[member].source.name, self.rewritten(member)?));
        let texts = members.iter().map(named_text).collect::<Result<Vec<_>, CollectError>>()?;
        for (&member, fingerprint) in members.iter().zip(ring_fingerprints(&texts)) {
            self.give(member, &fingerprint);
        }
        members.iter().map(|&member| Ok((member, self.stage(member, &self.rewritten(member)?)?))).collect()
    }

    /// Makes the bytes ready under the file's new name.
    fn stage(&self, index: usize, bytes: &[u8]) -> Result<Contents, CollectError> {
        let name = self.hashed[index].as_deref().unwrap_or_default();
        self.staging.write(name, bytes, self.files[index].source.modified)?;
        Ok(Contents::of(bytes, self.staging.path(name)))
    }

    fn give(&mut self, index: usize, fingerprint: &Fingerprint) {
        self.hashed[index] = Some(hashed_name(&self.files[index].source.name, fingerprint).into());
    }

    /// The file's bytes with every name that is known by now.
    fn rewritten(&self, index: usize) -> Result<Vec<u8>, CollectError> {
        let file = &self.files[index];
        let edit = |link: &ResolvedLink| {
            let name = self.hashed[link.target].as_ref()?;
            Some((link.span.clone(), link.text_for(name)?))
        };
        let edits: Vec<_> = file.rewritten_links().filter_map(edit).collect();
        Ok(rewrite(&file.contents.read()?, &edits))
    }
}

impl Named {
    /// Leaves the plain names out wherever there is a hashed one, and nothing that stays asks for the plain one.
    pub(super) fn drop_originals(&mut self) {
        let Self { outputs, paths, needed, .. } = self;
        for output in outputs.iter_mut() {
            let is_spare = |plain: &Name| paths.get(plain).is_some_and(|name| name != plain) && !needed.contains(plain);
            output.plain.take_if(|plain| is_spare(plain));
        }
        outputs.retain(|output| output.hashed.is_some() || output.plain.is_some());
    }

    fn add(&mut self, file: LinkedFile, hashed: Name, rewritten: Option<Contents>) {
        let LinkedFile { source, contents, .. } = file;
        let modified = source.modified;
        self.paths.insert(source.name.clone(), hashed.clone());
        let (hashed, plain) = (Some(hashed), Some(source.name).filter(|_| !source.is_prehashed));
        match rewritten.filter(|rewritten| rewritten.fingerprint != contents.fingerprint) {
            None => self.outputs.push(Output { hashed, plain, contents, modified }),
            Some(rewritten) => {
                self.outputs.push(Output { hashed, plain: None, contents: rewritten, modified });
                self.outputs.push(Output { hashed: None, plain, contents, modified });
            }
        }
    }

    /// A source file may already have the hashed name of another one, if the source is an older
    /// output. That is well as long as both have the same bytes: then the name is written once.
    fn check_collisions(&mut self) -> Result<(), CollectError> {
        let plain: BTreeMap<Name, Fingerprint> = self
            .outputs
            .iter()
            .filter_map(|output| Some((output.plain.clone()?, output.contents.fingerprint)))
            .collect();
        for output in &mut self.outputs {
            let Some(name) = &output.hashed else { continue };
            match plain.get(name) {
                None => {}
                Some(fingerprint) if *fingerprint == output.contents.fingerprint => output.hashed = None,
                Some(_) => return Err(CollectError::Collision { name: name.as_ref().to_owned() }),
            }
        }
        self.outputs.retain(|output| output.hashed.is_some() || output.plain.is_some());
        Ok(())
    }
}
