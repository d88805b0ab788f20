//! Images that are there in another format too, which `serve` sends to browsers that know it: `[collect] image_twins`.
//!
//! Browsers and caches keep under an image's hashed name whatever they got, so the name has the hash of its twins in it
//! as well: what is under it never changes. A bundler's hash cannot be changed, and so its images have no twins.

use std::collections::{BTreeMap, BTreeSet};

use super::error::CollectError;
use super::fingerprint::{Fingerprint, fingerprint};
use super::globs::glob_set;
use super::scan::{Scanned, SourceFile};
use super::severity::Patterns;
use crate::config::CollectConfig;
use crate::config::values::Severity;
use crate::finding::{Finding, Level, Rule};
use crate::manifest::packed::{Name, Packed};
use crate::manifest::twins;

/// By the plain name of the image, those of its twins.
#[derive(Debug, Default)]
pub(super) struct Twins(BTreeMap<Name, Vec<Name>>);

impl Twins {
    /// Looks for them by their names and lengths.
    pub(super) fn find(
        scanned: &Scanned,
        config: &CollectConfig,
        findings: &mut Vec<Finding>,
    ) -> Result<Self, CollectError> {
        let wanted = glob_set("image_twins", &config.image_twins)?;
        let severities = Patterns::read("missing_image_twin", &config.missing_image_twin)?;
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let files: BTreeMap<&str, &SourceFile> = scanned.files.iter().map(|file| (&*file.name, file)).collect();
        let fits = |name: &str| wanted.is_match(name) || wanted.is_match(name.rsplit('/').next().unwrap_or(name));
        let is_wanted = |name: &str| fits(name) && files.get(name).is_some_and(|file| !file.is_prehashed);
        let found = twins::find(&files.keys().copied().collect::<BTreeSet<_>>(), is_wanted);
        let told = |name: &str, level: Level, message: String| {
            let finding = Finding { level, ..Finding::warning(Rule::ImageTwin, name, message) };
            files.get(name).map(|file| finding.clone().on_disk(&*file.path)).unwrap_or(finding)
        };
        for (twin, [one, other]) in found.unclear {
            let extension = twin.rsplit('.').next().unwrap_or_default();
            let message = format!(
                "it could be the twin of {one} and of {other}, and is not sent for either; call it {one}.{extension}"
            );
            findings.push(told(twin, Level::Warning, message));
        }
        for image in found.without {
            let level = match severities.of(image, None) {
                Severity::Error => Level::Error,
                Severity::Warn => Level::Warning,
                Severity::Ignore => continue,
            };
            let stem = image.rsplit_once('.').map_or(image, |(stem, _)| stem);
            let message =
                format!("it has no twin: neither {stem}.avif nor {stem}.webp, nor {image}.avif or {image}.webp");
            findings.push(told(image, level, message));
        }
        // What cannot be read is told when it is read.
        let size = |name: &str| fs_err::metadata(&*files.get(name)?.path).ok().map(|found| found.len());
        let mut all = BTreeMap::new();
        for (image, twins) in found.of {
            let mut kept = Vec::new();
            for twin in twins {
                if size(twin) >= size(image) {
                    let message = format!("it is not smaller than {image}, and so is not sent in its place");
                    findings.push(told(twin, Level::Warning, message));
                } else {
                    kept.push(files[twin].name.clone());
                }
            }
            if !kept.is_empty() {
                all.insert(files[image].name.clone(), kept);
            }
        }
        Ok(Self(all))
    }

    /// The twins of an image, by their plain names.
    pub(super) fn of(&self, image: &str) -> &[Name] {
        self.0.get(image).map(Vec::as_slice).unwrap_or_default()
    }

    /// Writes them down, with the names that pages would use.
    pub(super) fn enter(self, manifest: &mut Packed) {
        let Packed { paths, files: Some(files), .. } = manifest else { return };
        for (image, twins) in self.0 {
            let name =
                |twin: &Name| paths.get(twin).filter(|name| files.contains(name)).map(|name| (**name).to_owned());
            let twins: Vec<String> = twins.iter().filter_map(name).collect();
            let used = paths.get(&image).unwrap_or(&image);
            for name in BTreeSet::from([used, &image]) {
                files.update(name, |entry| entry.twins.clone_from(&twins));
            }
        }
    }
}

/// The fingerprint of an image that has twins, whatever their order.
pub(super) fn fingerprint_with_twins(image: &Fingerprint, mut twins: Vec<Fingerprint>) -> Fingerprint {
    twins.sort_unstable();
    fingerprint(&[&image[..], &twins.concat()].concat())
}

/// Takes out of the entries what they say of files that are not there any more, as happens to those of earlier
/// releases.
pub(super) fn settle(manifest: &mut Packed) {
    let Some(files) = &mut manifest.files else { return };
    for name in files.that_speak_of_others() {
        let Some(mut entry) = files.get(&name) else { continue };
        if entry.twins.iter().chain(entry.needs.names()).all(|other| files.contains(other)) {
            continue;
        }
        entry.twins.retain(|other| files.contains(other));
        entry.needs.styles.retain(|other| files.contains(other));
        entry.needs.fonts.retain(|other| files.contains(other));
        files.update(&name, |old| *old = entry);
    }
}
