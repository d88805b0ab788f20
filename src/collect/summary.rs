//! What one run did: the closing lines for people, and the numbers for machines.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::compress::Totals;
use crate::finding::{Finding, counted};
use crate::http::encoding::Coding;

/// What one run did. It prints as the closing lines, and is serialized as its numbers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Where it was published.
    #[serde(skip)]
    pub output: PathBuf,
    /// How many files the sources have.
    pub files: usize,
    /// How many source folders there are.
    pub sources: usize,
    /// How many files have a content-hash name.
    pub hashed: usize,
    /// How many files have a name into which a bundler has put a hash.
    pub bundled: usize,
    /// How many references were given a new name.
    pub references: usize,
    /// Files each of which leads to every other, by plain name: a change to one of them gives all of them new names.
    pub rings: Vec<Vec<String>>,
    /// How many hashed files of earlier releases are kept.
    pub carried: usize,
    /// How many of them were given up for their age.
    pub dropped: usize,
    /// How many files stood behind one of the same name in an earlier source.
    pub shadowed: usize,
    /// What compression brought, for each coding that was asked for.
    #[serde(serialize_with = "by_name")]
    pub compression: BTreeMap<Coding, Totals>,
    /// How many of those copies an earlier run had made.
    pub remembered: usize,
    /// What deltas save over the smallest copies, for browsers that have an earlier version.
    pub deltas: Totals,
    /// How many deltas an earlier run had made for another output. Those that the release before has are not counted.
    pub remembered_deltas: usize,
    /// What is odd, but did not stop the run.
    #[serde(skip)]
    pub warnings: Vec<Finding>,
    /// What is as it should be, and may yet surprise.
    pub notes: Vec<String>,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    pub elapsed: Duration,
}

fn by_name<S: Serializer>(compression: &BTreeMap<Coding, Totals>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(compression.iter().map(|(coding, totals)| (name(*coding), totals)))
}

fn in_seconds<S: Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((elapsed.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// A coding as people call it, and as `[collect] encodings` has it.
pub(super) const fn name(coding: Coding) -> &'static str {
    match coding {
        Coding::Brotli => "brotli",
        Coding::Zstd => "zstd",
        Coding::Gzip => "gzip",
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "Collected {} from {} into {} in {seconds:.1} s",
            counted(self.files, "file"),
            counted(self.sources, "folder"),
            self.output.display(),
        )?;
        line(f, "hashed", self.hashed, "names with a content hash")?;
        if self.bundled > 0 {
            line(f, "bundled", self.bundled, "names with the hash of a bundler")?;
        }
        line(f, "rewritten", self.references, "references to them")?;
        if !self.rings.is_empty() {
            line(f, "rings", self.rings.len(), "groups of files that lead to each other, named together:")?;
            for ring in self.rings.iter().take(RINGS_TOLD) {
                write!(f, "\n{:19}{}", "", some(ring, MEMBERS_TOLD))?;
            }
            if let Some(more @ 1..) = self.rings.len().checked_sub(RINGS_TOLD) {
                write!(f, "\n{:19}and {more} more", "")?;
            }
        }
        // Told where there are any.
        for (what, number, explanation) in [
            ("carried", self.carried, "of earlier releases, for pages that still ask for them"),
            ("dropped", self.dropped, "of earlier releases, out of use for long enough"),
            ("shadowed", self.shadowed, "left out, as an earlier source has the same path"),
        ] {
            if number > 0 {
                line(f, what, number, explanation)?;
            }
        }
        for (coding, totals) in &self.compression {
            compression_line(f, name(*coding), totals)?;
        }
        if self.remembered > 0 {
            line(f, "cached", self.remembered, "of these copies, made by an earlier run")?;
        }
        if self.deltas.copies > 0 {
            compression_line(f, "deltas", &self.deltas)?;
        }
        if self.remembered_deltas > 0 {
            line(f, "cached", self.remembered_deltas, "deltas, made by an earlier run")?;
        }
        if !self.warnings.is_empty() {
            line(f, "warnings", self.warnings.len(), "see above")?;
        }
        Ok(())
    }
}

/// How many rings are told, and how many files of each. The report has more of them.
const RINGS_TOLD: usize = 3;
const MEMBERS_TOLD: usize = 3;

/// The first few names, and how many more.
pub(super) fn some(names: &[impl AsRef<str>], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(most) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, number: usize, explanation: &str) -> fmt::Result {
    write!(f, "\n  {what:<10}{number:>7}  {explanation}")
}

#[allow(clippy::cast_precision_loss, reason = "a percentage needs no more than 52 bits")]
fn compression_line(f: &mut fmt::Formatter<'_>, name: &str, totals: &Totals) -> fmt::Result {
    let Totals { copies, before, after } = *totals;
    write!(f, "\n  {name:<10}{copies:>7}  {:>10} -> {:>10}", bytes(before), bytes(after))?;
    if before > 0 {
        write!(f, "  {:>3.0} %", after as f64 / before as f64 * 100.0)?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(super) fn bytes(number: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_aligned_and_counts_the_warnings() {
        let summary = Summary {
            output: "public".into(),
            files: 132,
            sources: 1,
            hashed: 132,
            bundled: 3,
            references: 45,
            rings: vec![
                vec!["css/a.css".into(), "css/b.css".into()],
                (0..5).map(|n| format!("js/{n}.js")).collect(),
                vec!["x.js".into(), "y.js".into()],
                vec!["x.mjs".into(), "y.mjs".into()],
            ],
            carried: 12,
            dropped: 3,
            shadowed: 2,
            compression: [(Coding::Gzip, Totals { copies: 88, before: 1_258_291, after: 314_573 })].into(),
            remembered: 80,
            deltas: Totals { copies: 12, before: 314_573, after: 31_457 },
            remembered_deltas: 7,
            warnings: vec![Finding::about("a.css", "odd")],
            notes: vec!["no static folder in django.contrib.auth".into()],
            elapsed: Duration::from_millis(2440),
        };
        let expected = "\
note: no static folder in django.contrib.auth
Collected 132 files from 1 folder into public in 2.4 s
  hashed        132  names with a content hash
  bundled         3  names with the hash of a bundler
  rewritten      45  references to them
  rings           4  groups of files that lead to each other, named together:
                   css/a.css, css/b.css
                   js/0.js, js/1.js, js/2.js and 2 more
                   x.js, y.js
                   and 1 more
  carried        12  of earlier releases, for pages that still ask for them
  dropped         3  of earlier releases, out of use for long enough
  shadowed        2  left out, as an earlier source has the same path
  gzip           88     1.2 MiB ->  307.2 KiB   25 %
  cached         80  of these copies, made by an earlier run
  deltas         12   307.2 KiB ->   30.7 KiB   10 %
  cached          7  deltas, made by an earlier run
  warnings        1  see above";
        assert_eq!(summary.to_string(), expected);
    }
}
