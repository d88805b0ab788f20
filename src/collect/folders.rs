//! Which folders a run collects from: those that the operator named, and those of Django apps.
//!
//! They come in the order in which Django's finders would come to them: the named ones, then the apps,
//! each in the order of its list. The folders that Django itself has named, see [`super::django`], are
//! put together there.

use std::collections::BTreeSet;
use std::path::Path;

use super::apps;
use super::error::CollectError;
use super::python::Surroundings;
use crate::config::CollectConfig;
use crate::config::values::Source;
use crate::finding::{Finding, Rule};

/// The folders of a run, and what there is to say of them.
#[derive(Debug, Clone, Default)]
pub struct Folders {
    /// In the order in which they win.
    pub(super) list: Vec<Folder>,
    /// What is odd about them.
    pub(super) warnings: Vec<Finding>,
    /// What is as it should be, and may yet surprise.
    pub(super) notes: Vec<String>,
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// Where it is, and under which name its files appear.
    pub(super) source: Source,
    /// The only files of it that count, by their paths in it; `None` is all.
    pub(super) only: Option<BTreeSet<String>>,
}

impl Folder {
    /// Whether the file counts, by its path in the folder.
    pub(super) fn has(&self, relative: &Path) -> bool {
        let Some(only) = &self.only else { return true };
        relative.to_str().is_some_and(|relative| only.contains(relative))
    }
}

impl Folders {
    /// The folders that the configuration names.
    ///
    /// # Errors
    /// An app that is not there, or a virtual environment that is none.
    pub fn named(config: &CollectConfig, surroundings: &Surroundings) -> Result<Self, CollectError> {
        let mut folders = Self::default();
        config.sources.iter().for_each(|source| folders.add(source.clone(), None));
        if config.apps.is_empty() {
            return Ok(folders);
        }
        let path = surroundings.search_path(config.virtual_env.as_deref());
        let path =
            path.map_err(|why| CollectError::BadApps(vec![Finding::error(Rule::UnknownApp, "virtual_env", why)]))?;
        let (mut bad, mut without) = (Vec::new(), Vec::new());
        for app in &config.apps {
            match apps::find(app, &path) {
                Ok(found) if found.folders.is_empty() => without.push(app.as_str()),
                Ok(found) => {
                    let sources =
                        found.folders.into_iter().map(|directory| Source { prefix: String::new(), directory });
                    sources.for_each(|source| folders.add(source, None));
                }
                Err(finding) => bad.push(finding),
            }
        }
        if !bad.is_empty() {
            return Err(CollectError::BadApps(bad));
        }
        if !without.is_empty() {
            folders.notes.push(format!("no static folder in {}", without.join(", ")));
        }
        Ok(folders)
    }

    /// Adds a folder behind the others, unless it is among them.
    pub(super) fn add(&mut self, source: Source, only: Option<BTreeSet<String>>) {
        let folder = Folder { source, only };
        if !self.list.contains(&folder) {
            self.list.push(folder);
        }
    }
}
