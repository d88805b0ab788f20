//! Before: source trees become a folder that can be published.
//!
//! Each file is a step, and each step hands a value of its own type on, so that they cannot be called
//! in another order: scan, link (which finds and resolves), name (which orders, rewrites and
//! fingerprints), compress, plan (with what `carry` keeps of the release before, and the `deltas` from
//! that), publish. What is rewritten or compressed goes into the `staging` folder; only `publish` changes
//! what readers see. No socket is opened. No code is run and Django is not asked, but where the operator says
//! `--django`: then [`django`] runs one child process before all else.
//!
//! The same sources give the same output, byte for byte, on any machine and any number of threads.
#![doc = ""]
#![doc = include_str!("compatibility.md")]

pub mod django;

mod apps;
mod budget;
mod bundler;
mod cache;
mod carry;
mod codecs;
mod compress;
mod contents;
mod delta;
mod deltas;
mod error;
mod find_links;
mod fingerprint;
mod folders;
mod globs;
mod link;
mod name;
mod name_set;
mod needs;
mod order;
mod plan;
mod progress;
mod publish;
mod python;
mod report;
mod resolve;
mod rewrite;
mod scan;
mod severity;
mod staging;
mod summary;
mod twins;
mod verify;

use std::path::Path;
use std::time::Instant;

pub use self::carry::Now;
pub use self::compress::Totals;
pub use self::error::CollectError;
pub use self::folders::Folders;
pub use self::python::Surroundings;
pub use self::summary::Summary;
pub use self::verify::{Proof, ProofError, verify};
pub use crate::manifest::Clock;

use self::cache::Cache;
use self::carry::{Carriage, Limits, Release};
use self::report::Report;
use self::report::place::Place;
use self::staging::Staging;
use crate::config::CollectConfig;
use crate::config::values::UrlPrefix;
use crate::finding::{self, Finding, Rule};
use crate::manifest::packed::{Name, Packed};
use crate::manifest::{Entry, Rewriting};

/// The parser of scripts calls itself for each nested bracket. This is address space, not memory.
const STACK_SIZE: usize = 64 << 20;

/// Runs every step with the folders that the configuration names. See [`collect_from`].
///
/// # Errors
/// See [`CollectError`]. What was published before is then still there.
pub fn collect(config: &CollectConfig, prefix: &UrlPrefix, now: impl Into<Now>) -> Result<Summary, CollectError> {
    collect_from(&Folders::named(config, &Surroundings::default())?, config, prefix, now)
}

/// Runs every step with these folders. `config.output` must be set; `prefix` is the path of Django's `STATIC_URL`;
/// `now` is when files go out of use that this run does not have any more.
///
/// # Errors
/// See [`CollectError`]. What was published before is then still there.
pub fn collect_from(
    folders: &Folders,
    config: &CollectConfig,
    prefix: &UrlPrefix,
    now: impl Into<Now>,
) -> Result<Summary, CollectError> {
    let now = now.into();
    let threads = rayon::ThreadPoolBuilder::new().num_threads(config.threads).stack_size(STACK_SIZE);
    threads.build().map_err(CollectError::Threads)?.install(|| run(folders, config, prefix, now))
}

/// What the steps that make copies and deltas work with.
struct Workshop<'a> {
    config: &'a CollectConfig,
    /// What the output has now.
    before: Option<&'a Packed>,
    cache: &'a Cache,
    staging: &'a Staging,
    progress: &'a progress::Progress,
}

fn run(folders: &Folders, config: &CollectConfig, prefix: &UrlPrefix, now: Now) -> Result<Summary, CollectError> {
    let started = Instant::now();
    let output = config.output.as_deref().ok_or(CollectError::NoOutput)?;
    refuse_cache_among_files(folders, config, output)?;
    let page = Place::of(folders, config, output)?;
    let severities = severity::Severities::read(config)?;
    let mut findings = folders.warnings.clone();
    let mut scanned = scan::scan(folders, config, output, &mut findings)?;
    bundler::mark(&mut scanned, folders, config, prefix, &mut findings)?;
    let (files, shadowed) = (scanned.files.len(), scanned.shadowed);
    let bundled = scanned.files.iter().filter(|file| file.is_prehashed).count();
    let twins = twins::Twins::find(&scanned, config, &mut findings)?;
    let linked = link::link(scanned, config, prefix, &severities, &mut findings)?;
    let target = publish::Target::lock(output)?;
    let staging = Staging::create(output)?;
    let before = Release::in_output(output)?;
    let elsewhere = config.previous.as_deref().map(Release::named).transpose()?;
    let last = elsewhere.as_ref().or(before.as_ref());
    let needs = needs::Needs::find(&linked)?;
    let mut named = if config.hash { name::hash_names(linked, &twins, &staging)? } else { name::keep_names(linked) };
    if !config.keep_originals {
        named.drop_originals();
    }
    let references = named.references;
    let name = |name: &Name| name.as_ref().to_owned();
    let rings = named.rings.iter().map(|ring| ring.iter().map(name).collect()).collect();
    let progress = progress::Progress::on_terminal();
    let cache = Cache::new(config.cache.as_deref(), config.cache_size.0);
    let listed = before.as_ref().map(|release| &release.manifest);
    let workshop = Workshop { config, before: listed, cache: &cache, staging: &staging, progress: &progress };
    let compressed = compress::compress(named, &workshop)?;
    let remembered = cache.taken();
    let mut plan = plan::plan(&compressed);
    twins.enter(&mut plan.manifest);
    needs.enter(&mut plan.manifest);
    plan.manifest.rewriting = Some(rewriting(config, prefix));
    let carriage = match last {
        Some(last) => last.carry_into(&plan.manifest, Limits::new(config, now))?,
        None => Carriage::default(),
    };
    plan.carry(&carriage, output);
    // With another release named, the one in the output has been in use as well.
    let own = match (&elsewhere, &before) {
        (Some(_), Some(before)) => before.carry_into(&plan.manifest, Limits::new(config, now))?,
        _ => Carriage::default(),
    };
    plan.carry(&own, output);
    if let Some(before) = &before {
        refuse_changed_bytes(&plan.manifest, &before.manifest, &mut findings)?;
    }
    findings.extend(carriage.findings.iter().chain(&own.findings).cloned());
    let deltas = deltas::add(&mut plan, &compressed, &carriage, output, &workshop)?;
    twins::settle(&mut plan.manifest);
    if let Some(before) = &before {
        plan.let_go(&before.manifest);
    }
    target.publish(&plan, &staging, before.as_ref())?;
    findings.extend(cache.finish());
    let summary = Summary {
        output: output.to_owned(),
        files,
        sources: folders.list.len(),
        hashed: compressed.paths.iter().filter(|(plain, hashed)| plain != hashed).count(),
        bundled,
        references,
        rings,
        carried: carriage.kept.len() + own.kept.len(),
        dropped: carriage.dropped + own.dropped,
        shadowed,
        compression: compressed.totals.clone(),
        remembered,
        deltas,
        remembered_deltas: cache.taken() - remembered,
        warnings: findings,
        notes: folders.notes.clone(),
        elapsed: started.elapsed(),
    };
    if let Some(page) = page {
        let (last, next) = (last.map(|last| last.manifest.expanded()), plan.manifest.expanded());
        page.write(&Report::new(last.as_ref(), &next, &summary, now.time).draw())?;
    }
    Ok(summary)
}

/// What lies in the output is public, and what lies in a source will be. The cache is for neither.
fn refuse_cache_among_files(folders: &Folders, config: &CollectConfig, output: &Path) -> Result<(), CollectError> {
    let Some(cache) = &config.cache else { return Ok(()) };
    let real = scan::real_path(cache);
    let near = folders.list.iter().map(|folder| folder.source.directory.as_path()).chain([output]);
    match near.into_iter().find(|folder| real.starts_with(scan::real_path(folder))) {
        Some(folder) => Err(CollectError::BadCache { cache: cache.clone(), folder: folder.to_owned() }),
        None => Ok(()),
    }
}

/// A name that browsers keep for ever must never get other bytes. Ours cannot; those of bundlers can.
fn refuse_changed_bytes(next: &Packed, before: &Packed, findings: &mut Vec<Finding>) -> Result<(), CollectError> {
    for (name, entry) in next.entries().filter(|(_, entry)| entry.is_immutable) {
        let is_other = |old: &Entry| old.is_immutable && old.sha256 != entry.sha256;
        if before.entry(name).filter(is_other).is_some() {
            let message = "it has other bytes than in the release before, under a name that browsers keep for ever";
            findings.push(Finding::error(Rule::BundlerManifest, name.as_ref(), message));
        }
    }
    if finding::are_fatal(findings) { Err(CollectError::Unsound(std::mem::take(findings))) } else { Ok(()) }
}

fn rewriting(config: &CollectConfig, prefix: &UrlPrefix) -> Rewriting {
    Rewriting {
        prefix: prefix.as_str().to_owned(),
        hash: config.hash,
        javascript_modules: config.javascript_modules,
        html: config.html.clone(),
        web_manifests: config.web_manifests.clone(),
    }
}
