//! What came of a proof, for people.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::contents::Counts;
use crate::finding::{Finding, Level, counted, grouped};

/// What is wrong, and what is only odd.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Findings {
    pub(super) fn error(&mut self, finding: Finding) {
        self.errors.push(finding);
    }

    pub(super) fn warn(&mut self, finding: Finding) {
        self.warnings.push(Finding { level: Level::Warning, ..finding });
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.errors.append(&mut other.errors);
        self.warnings.append(&mut other.warnings);
    }
}

/// What came of a proof. It prints as the list of findings and a closing line.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The folder.
    pub output: PathBuf,
    /// How many files the manifest lists.
    pub files: usize,
    /// How many references in them lead to listed files.
    pub references: usize,
    /// How many compressed copies decode to their files.
    pub variants: usize,
    /// How many deltas decode to their files.
    pub deltas: usize,
    /// How many deltas could not be decoded, because no listed file is their dictionary.
    pub deltas_without_dictionary: usize,
    /// What is wrong. The folder is proved if this is empty.
    pub errors: Vec<Finding>,
    /// What is odd and does no harm.
    pub warnings: Vec<Finding>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Proof {
    pub(super) fn new(
        output: &Path,
        files: usize,
        references: usize,
        counts: Counts,
        findings: Findings,
        elapsed: Duration,
    ) -> Self {
        let Findings { mut errors, mut warnings } = findings;
        errors.sort();
        errors.dedup();
        warnings.sort();
        warnings.dedup();
        Self {
            output: output.to_owned(),
            files,
            references,
            variants: counts.variants,
            deltas: counts.deltas,
            deltas_without_dictionary: counts.deltas_without_dictionary,
            errors,
            warnings,
            elapsed,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for error in &self.errors {
            writeln!(f, "error: {error}")?;
        }
        let seconds = self.elapsed.as_secs_f64();
        if !self.is_sound() {
            let what = counted(self.errors.len(), "error");
            return write!(f, "found {what} in {} in {seconds:.1} s", self.output.display());
        }
        let [files, references, variants] =
            [(self.files, "file"), (self.references, "reference"), (self.variants, "variant")]
                .map(|(number, thing)| counted(number, thing));
        write!(f, "proved {files}, {references}, {variants}")?;
        if self.deltas + self.deltas_without_dictionary > 0 {
            write!(f, ", {}", counted(self.deltas, "delta"))?;
        }
        if self.deltas_without_dictionary > 0 {
            write!(f, " ({} more without their dictionary)", grouped(self.deltas_without_dictionary))?;
        }
        write!(f, " in {seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(errors: usize) -> Proof {
        let mut findings = Findings::default();
        findings.warn(Finding::about("old.css", "odd"));
        for _ in 0..errors {
            findings.error(Finding::about("a.css", "wrong"));
        }
        let counts = Counts { variants: 5230, deltas: 0, deltas_without_dictionary: 0 };
        Proof::new(Path::new("public"), 2412, 1, counts, findings, Duration::from_millis(1200))
    }

    #[test]
    fn a_proof_ends_with_its_numbers() {
        let expected = "warning: old.css: odd\nproved 2,412 files, 1 reference, 5,230 variants in 1.2 s";
        assert_eq!(proof(0).to_string(), expected);
        let with_deltas = Proof { deltas: 3, deltas_without_dictionary: 2, warnings: Vec::new(), ..proof(0) };
        let expected =
            "proved 2,412 files, 1 reference, 5,230 variants, 3 deltas (2 more without their dictionary) in 1.2 s";
        assert_eq!(with_deltas.to_string(), expected);
    }

    #[test]
    fn the_same_finding_is_told_once() {
        let expected = "warning: old.css: odd\nerror: a.css: wrong\nfound 1 error in public in 1.2 s";
        assert_eq!(proof(2).to_string(), expected);
    }
}
