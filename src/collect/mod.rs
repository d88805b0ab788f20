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

impl CollectError {
    /// x
    pub fn is_operators_mistake(&self) -> bool {
        false
    }
    /// x
    pub fn hint(&self) -> Option<String> {
        None
    }
}
impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("x")
    }
}
