//! Before: source trees become a folder that can be published.
//!
//! Each file is a step, and each step hands a value of its own type on, so that they cannot be called
//! in another order: scan, link (which finds and resolves), name (which orders, rewrites and
//! fingerprints), compress, plan (with what `carry` keeps of the release before, and the `deltas` from
//! that), publish. What is rewritten or compressed goes into the `staging` folder; only `publish` changes
//! what readers see. No socket is opened, no code is run, and Django is not asked.
//!
//! The same sources give the same output, byte for byte, on any machine and any number of threads.
#![doc = ""]
#![doc = include_str!("compatibility.md")]

mod carry;
mod compress;
mod contents;
mod delta;
mod deltas;
mod error;
mod find_links;
mod fingerprint;
mod link;
mod name;
mod order;
mod plan;
mod progress;
mod publish;
mod resolve;
mod rewrite;
mod scan;
mod staging;
mod summary;
mod verify;

use std::time::{Instant, SystemTime};

pub use self::compress::Totals;
pub use self::error::{CollectError, Finding, Position};
pub use self::summary::Summary;
pub use self::verify::{Proof, ProofError, verify};

use self::carry::{Carriage, Limits, Release};
use self::staging::Staging;
use crate::config::CollectConfig;
use crate::config::values::UrlPrefix;
use crate::manifest::Manifest;

/// The parser of scripts calls itself for each nested bracket. This is address space, not memory.
const STACK_SIZE: usize = 64 << 20;

/// Runs every step. `config.output` must be set; `prefix` is the path of Django's `STATIC_URL`; `now` is when
/// files go out of use that this run does not have any more.
///
/// # Errors
/// See [`CollectError`]. What was published before is then still there.
pub fn collect(config: &CollectConfig, prefix: &UrlPrefix, now: SystemTime) -> Result<Summary, CollectError> {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(config.threads).stack_size(STACK_SIZE);
    threads.build().map_err(CollectError::Threads)?.install(|| run(config, prefix, now))
}

fn run(config: &CollectConfig, prefix: &UrlPrefix, now: SystemTime) -> Result<Summary, CollectError> {
    let started = Instant::now();
    let output = config.output.as_deref().ok_or(CollectError::NoOutput)?;
    let mut warnings = Vec::new();
    let scanned = scan::scan(config, output, &mut warnings)?;
    let (files, shadowed) = (scanned.files.len(), scanned.shadowed);
    let target = publish::Target::lock(output)?;
    let staging = Staging::create(output)?;
    let before = Release::in_output(output)?;
    let linked = link::link(scanned, config, prefix, &mut warnings)?;
    let mut named = if config.hash { name::hash_names(linked, &staging)? } else { name::keep_names(linked) };
    if !config.keep_originals {
        named.drop_originals();
    }
    let references = named.references;
    let progress = progress::Progress::on_terminal();
    let compressed = compress::compress(named, config, &staging, &progress)?;
    let mut plan = plan::plan(&compressed);
    let carriage = carriage(config, before.as_ref(), &plan.manifest, Limits::new(config, now))?;
    plan.carry(&carriage, output);
    let deltas = deltas::add(&mut plan, &compressed, &carriage, output, config, &staging, &progress)?;
    target.publish(&plan, &staging, before.as_ref())?;
    Ok(Summary {
        output: output.to_owned(),
        files,
        sources: config.sources.len(),
        hashed: compressed.paths.iter().filter(|(plain, hashed)| plain != hashed).count(),
        references,
        carried: carriage.kept.len(),
        dropped: carriage.dropped,
        shadowed,
        compression: compressed.totals,
        deltas,
        warnings,
        elapsed: started.elapsed(),
    })
}

/// What stays of the release before: of the one in the output, unless another one is named.
fn carriage(
    config: &CollectConfig,
    in_output: Option<&Release>,
    next: &Manifest,
    limits: Limits,
) -> Result<Carriage, CollectError> {
    match (&config.previous, in_output) {
        (Some(folder), _) => Release::named(folder)?.carry_into(next, limits),
        (None, Some(release)) => release.carry_into(next, limits),
        (None, None) => Ok(Carriage::default()),
    }
}
