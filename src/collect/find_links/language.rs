//! Which language a file is in, by its name.

use globset::GlobSet;

use crate::collect::error::CollectError;
use crate::collect::globs::glob_set;
use crate::config::CollectConfig;

/// Which language a file is in, as far as links go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::collect) enum Language {
    /// `.css`
    Css,
    /// `.js` and `.mjs`
    JavaScript,
    /// `.svg`
    Svg,
    /// A page, by the patterns of the configuration.
    Html,
    /// A web app manifest, by the patterns of the configuration.
    WebManifest,
}

/// The language of each name.
#[derive(Debug)]
pub(in crate::collect) struct Languages {
    html: GlobSet,
    web_manifests: GlobSet,
}

impl Languages {
    /// Those of the configuration.
    pub(in crate::collect) fn new(config: &CollectConfig) -> Result<Self, CollectError> {
        Ok(Self {
            html: glob_set("html", &config.html)?,
            web_manifests: glob_set("web_manifests", &config.web_manifests)?,
        })
    }

    /// The language of a file name. Unlike Django we also look into `.mjs`, `.cjs`, `.svg` and `.CSS`.
    ///
    /// No browser runs `.jsx` or `.ts`, and a source map tells of other people's files, so these
    /// are in no language, whatever the patterns say.
    pub(in crate::collect) fn of(&self, name: &str) -> Option<Language> {
        let base_name = name.rsplit('/').next().unwrap_or(name);
        let extension = base_name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        match extension.as_deref() {
            Some("css") => Some(Language::Css),
            Some("js" | "mjs" | "cjs") => Some(Language::JavaScript),
            Some("svg") => Some(Language::Svg),
            Some("map" | "jsx" | "ts" | "tsx") => None,
            _ => {
                let fits = |globs: &GlobSet| globs.is_match(name) || globs.is_match(base_name);
                let manifest = fits(&self.web_manifests).then_some(Language::WebManifest);
                manifest.or_else(|| fits(&self.html).then_some(Language::Html))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_language() {
        let config = CollectConfig { html: vec!["*.html".into(), "app/*".into()], ..CollectConfig::default() };
        let languages = Languages::new(&config).expect("patterns");
        for (name, expected) in [
            ("a.css", Some(Language::Css)),
            ("A.CSS", Some(Language::Css)),
            ("a.min.js", Some(Language::JavaScript)),
            ("a.mjs", Some(Language::JavaScript)),
            ("img/a.svg", Some(Language::Svg)),
            ("site.webmanifest", Some(Language::WebManifest)),
            ("deep/site.webmanifest", Some(Language::WebManifest)),
            ("deep/a.html", Some(Language::Html)),
            ("app/template", Some(Language::Html)),
            ("app/a.js.map", None),
            ("app/a.jsx", None),
            ("a.cjs", Some(Language::JavaScript)),
            ("a.htm", None),
            ("manifest.json", None),
            ("a.scss", None),
            ("css", None),
            ("a.css/b", None),
        ] {
            assert_eq!(languages.of(name), expected, "for {name}");
        }
    }

    #[test]
    fn a_broken_pattern_is_named_with_its_option() {
        let config = CollectConfig { web_manifests: vec!["[a".into()], ..CollectConfig::default() };
        let error = Languages::new(&config).expect_err("a refusal");
        assert!(matches!(error, CollectError::BadPattern { key: "web_manifests", .. }), "{error}");
    }
}
