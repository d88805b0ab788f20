//! Before: source trees become a folder that can be published.

use crate::config::CollectConfig;
use crate::config::values::UrlPrefix;

/// What one run did.
#[derive(Debug, Clone)]
pub struct Summary {}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {}

/// Runs every step.
///
/// # Errors
/// See [`CollectError`].
pub fn collect(_config: &CollectConfig, _prefix: &UrlPrefix) -> Result<Summary, CollectError> {
    Ok(Summary {})
}
