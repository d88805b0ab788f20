//! Before: source trees become a folder that can be published.
//!
//! Each file is a step, and each step hands a value of its own type on, so that they cannot be called
//! in another order: scan, link (which finds and resolves), name (which orders, rewrites and
//! fingerprints), compress, publish. Only `publish` writes. No socket is opened, no code is run, and
//! Django is not asked.
//!
//! The same sources give the same output, byte for byte, on any machine and any number of threads.

mod compress;
mod contents;
mod error;
mod find_links;
mod fingerprint;
mod link;
mod name;
mod order;
mod progress;
mod publish;
mod resolve;
mod rewrite;
mod scan;
mod summary;

use std::time::Instant;

pub use self::compress::Totals;
pub use self::error::{CollectError, Finding, Position};
pub use self::summary::Summary;

use crate::config::CollectConfig;
use crate::config::values::UrlPrefix;

/// The parser of scripts calls itself for each nested bracket. This is address space, not memory.
const STACK_SIZE: usize = 64 << 20;

/// Runs every step. `config.output` must be set; `prefix` is the path of Django's `STATIC_URL`.
///
/// # Errors
/// See [`CollectError`]. What was published before is then still there.
pub fn collect(config: &CollectConfig, prefix: &UrlPrefix) -> Result<Summary, CollectError> {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(config.threads).stack_size(STACK_SIZE);
    threads.build().map_err(CollectError::Threads)?.install(|| run(config, prefix))
}

fn run(config: &CollectConfig, prefix: &UrlPrefix) -> Result<Summary, CollectError> {
    let started = Instant::now();
    let output = config.output.as_deref().ok_or(CollectError::NoOutput)?;
    let mut warnings = Vec::new();
    let scanned = scan::scan(config, output, &mut warnings)?;
    let (files, shadowed) = (scanned.files.len(), scanned.shadowed);
    let target = publish::Target::lock(output)?;
    let linked = link::link(scanned, config, prefix, &mut warnings)?;
    let named = if config.hash { name::hash_names(linked)? } else { name::keep_names(linked) };
    let references = named.references;
    let progress = progress::Progress::on_terminal();
    let compressed = compress::compress(named, config, &progress)?;
    target.publish(&compressed)?;
    Ok(Summary {
        output: output.to_owned(),
        files,
        sources: config.sources.len(),
        hashed: compressed.paths.iter().filter(|(plain, hashed)| plain != hashed).count(),
        references,
        shadowed,
        compression: compressed.totals,
        warnings,
        elapsed: started.elapsed(),
    })
}
