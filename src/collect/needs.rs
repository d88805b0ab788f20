//! What each stylesheet needs by itself, for pages that announce it: `[static] preload`.
//!
//! It stands in the manifest for a stylesheet under the name that pages use, and names the files as they are named
//! there. Only what the stylesheet itself names is written down; `serve` follows it further.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use super::error::CollectError;
use super::find_links::css_needs::{self, CssNeeds};
use super::link::{Linked, LinkedFile};
use crate::manifest;
use crate::manifest::packed::{Name, Packed};

/// By the plain name of the stylesheet.
#[derive(Debug, Default)]
pub(super) struct Needs(BTreeMap<Name, Named>);

/// Plain names, each with whether it is the one that the stylesheet uses.
#[derive(Debug, Default)]
struct Named {
    styles: Vec<(Name, bool)>,
    fonts: Vec<(Name, bool)>,
}

impl Needs {
    /// Reads every stylesheet that names files.
    pub(super) fn find(linked: &Linked) -> Result<Self, CollectError> {
        let files = linked.files.par_iter().filter(|file| is_style(&file.source.name) && !file.links.is_empty());
        let found = files.map(|file| Ok((file.source.name.clone(), named(file, linked)?)));
        Ok(Self(found.collect::<Result<_, CollectError>>()?))
    }

    /// Writes them down.
    pub(super) fn enter(self, manifest: &mut Packed) {
        let Packed { paths, files: Some(files), .. } = manifest else { return };
        for (style, Named { styles, fonts }) in self.0 {
            let names = |all: Vec<(Name, bool)>| {
                let mut names: Vec<String> = Vec::new();
                for (plain, is_plain) in &all {
                    let name = paths.get(plain).filter(|_| !is_plain).unwrap_or(plain);
                    if files.contains(name) && !names.iter().any(|other| **other == **name) {
                        names.push(name.as_ref().to_owned());
                    }
                }
                names
            };
            let needs = manifest::Needs { styles: names(styles), fonts: names(fonts) };
            if !needs.is_empty() {
                files.update(paths.get(&style).unwrap_or(&style), |entry| entry.needs = needs);
            }
        }
    }
}

fn named(file: &LinkedFile, linked: &Linked) -> Result<Named, CollectError> {
    let bytes = file.contents.read()?;
    // Otherwise it has no links.
    let Ok(text) = str::from_utf8(&bytes) else { return Ok(Named::default()) };
    let CssNeeds { imports, fonts } = css_needs::find(text);
    let target = |place: Range<usize>| {
        let link = file.links.iter().find(|link| place.start <= link.span.start && link.span.end <= place.end)?;
        Some((linked.files[link.target].source.name.clone(), link.is_kept))
    };
    Ok(Named {
        styles: imports.into_iter().filter_map(target).collect(),
        fonts: fonts.into_iter().filter_map(target).collect(),
    })
}

/// Whether a file with this name is a stylesheet.
pub(super) fn is_style(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| extension.eq_ignore_ascii_case("css"))
}
