//! Patterns of file names, as they stand under `[collect]`.
//!
//! They are read as Python's `fnmatch` reads them: `*` crosses slashes, and there are no alternatives in
//! braces and no escapes.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::error::CollectError;

/// All patterns of the option `key` in one set, in their order.
pub(super) fn glob_set(
    key: &'static str,
    globs: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<GlobSet, CollectError> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let glob = glob.as_ref();
        let text = if glob.contains('[') { glob.to_owned() } else { glob.replace('{', "[{]").replace('}', "[}]") };
        let pattern = GlobBuilder::new(&text).backslash_escape(false).build();
        set.add(pattern.map_err(|cause| CollectError::BadPattern { key, glob: glob.to_owned(), cause })?);
    }
    set.build().map_err(|cause| CollectError::BadPattern { key, glob: "all together".to_owned(), cause })
}
