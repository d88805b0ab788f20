//! How serious a missing file is, by the patterns that the operator wrote.
//!
//! A pattern fits the file that refers or the name that is missing: by path, or by the last part of
//! it, as under `[collect] ignore`. All patterns of an option are one automaton, made once.

use globset::GlobSet;

use super::error::CollectError;
use super::find_links::Purpose;
use super::globs::glob_set;
use crate::config::CollectConfig;
use crate::config::values::{self, Severity};

/// The options, ready to be asked.
#[derive(Debug)]
pub(super) struct Severities {
    references: Patterns,
    source_maps: Patterns,
}

impl Severities {
    /// Reads the patterns; one that is none is refused with its option.
    pub(super) fn read(config: &CollectConfig) -> Result<Self, CollectError> {
        Ok(Self {
            references: Patterns::read("missing_reference", &config.missing_reference)?,
            source_maps: Patterns::read("missing_source_map", &config.missing_source_map)?,
        })
    }

    /// What it means that the file `referrer` names `missing`, which is not there. A reference out of
    /// the tree has no name.
    pub(super) fn of(&self, purpose: Purpose, referrer: &str, missing: Option<&str>) -> Severity {
        match purpose {
            Purpose::Content => self.references.of(referrer, missing),
            Purpose::SourceMap => self.source_maps.of(referrer, missing),
        }
    }
}

/// One option.
#[derive(Debug)]
pub(super) struct Patterns {
    set: GlobSet,
    severities: Vec<Severity>,
    otherwise: Severity,
}

impl Patterns {
    pub(super) fn read(key: &'static str, option: &values::Severities) -> Result<Self, CollectError> {
        let set = glob_set(key, option.rules.iter().map(|(glob, _)| glob))?;
        let severities = option.rules.iter().map(|(_, severity)| *severity).collect();
        Ok(Self { set, severities, otherwise: option.otherwise })
    }

    /// The first pattern that fits decides.
    pub(super) fn of(&self, referrer: &str, missing: Option<&str>) -> Severity {
        let names = [Some(referrer), missing].into_iter().flatten();
        let forms = names.flat_map(|name| [name, name.rsplit('/').next().unwrap_or(name)]);
        let first = forms.flat_map(|name| self.set.matches(name)).min();
        first.map_or(self.otherwise, |first| self.severities[first])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_fits_the_referrer_or_the_missing_name_decides() {
        use Severity::{Error, Ignore, Warn};
        let rules =
            [("vendor/strict/*", Error), ("vendor/*", Warn), ("*.map", Ignore), ("old.png", Ignore), ("a{b}", Warn)];
        let rules = rules.map(|(glob, severity)| (glob.to_owned(), severity)).into();
        let option = values::Severities { rules, otherwise: Error };
        let config = CollectConfig { missing_reference: option, ..CollectConfig::default() };
        let severities = Severities::read(&config).expect("patterns");
        for (referrer, missing, expected) in [
            ("css/a.css", Some("css/b.png"), Error),
            ("vendor/deep/a.css", Some("css/b.png"), Warn), // `*` crosses slashes
            ("css/a.css", Some("vendor/b.png"), Warn),
            ("vendor/strict/a.css", Some("b.png"), Error), // the first one
            ("vendor/a.css", Some("vendor/a.css.map"), Warn), // in the order of the option, not of the names
            ("css/a.css", Some("css/deep/x.map"), Ignore),
            ("css/a.css", Some("img/old.png"), Ignore), // by its last part
            ("css/a.css", Some("img/very-old.png"), Error),
            ("a{b}", None, Warn), // no alternatives
            ("vendor/a.css", None, Warn),
            ("Vendor/a.css", None, Error),
        ] {
            assert_eq!(severities.of(Purpose::Content, referrer, missing), expected, "for {referrer} and {missing:?}");
            assert_eq!(severities.of(Purpose::SourceMap, referrer, missing), Warn, "the other option has its own");
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_with_its_option() {
        let option = values::Severities { rules: vec![("[a".into(), Severity::Warn)], otherwise: Severity::Warn };
        let config = CollectConfig { missing_source_map: option, ..CollectConfig::default() };
        let error = Severities::read(&config).expect_err("a refusal");
        assert_eq!(error.to_string(), "\"[a\" under [collect] missing_source_map is not a pattern");
        assert!(error.is_operators_mistake());
    }
}
