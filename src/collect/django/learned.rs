//! What Django's answer means for a run of `collect`, and how a configuration file would say it.
//!
//! What the operator has written stands: where Django says otherwise, a warning tells so. Only `sources`
//! and `apps` give way, since the folders are what Django was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::answer::{Answer, FinderFolder, Storage};
use super::error::DjangoError;
use crate::collect::apps;
use crate::collect::folders::{Folder, Folders};
use crate::collect::python::{SearchPath, Surroundings};
use crate::config::Config;
use crate::config::load::{Loaded, Origin};
use crate::config::values::{Source, UrlPrefix};
use crate::finding::{Finding, Rule};

/// What Django has told, checked.
#[derive(Debug, Clone)]
pub struct Learned {
    /// Its version and its settings module, for people.
    pub(super) origin: String,
    /// Where its Python keeps its modules.
    pub(super) environment: PathBuf,
    pub(super) places: Vec<Place>,
    /// The path of `STATIC_URL`.
    pub(super) prefix: Option<UrlPrefix>,
    /// `STATIC_ROOT`.
    pub(super) output: Option<PathBuf>,
    pub(super) ignore: Vec<String>,
    pub(super) javascript_modules: bool,
    pub(super) warnings: Vec<Finding>,
}

/// A folder that Django takes files from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) folder: Folder,
    /// The app whose `static` folder it is.
    app: Option<String>,
    exists: bool,
    finder: String,
}

/// The folders in the words of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Frozen {
    pub(super) sources: Vec<Source>,
    pub(super) apps: Vec<String>,
    /// The environment that has the apps, if `collect` would not look there by itself.
    pub(super) virtual_env: Option<PathBuf>,
    pub(super) warnings: Vec<Finding>,
}

/// Checks an answer. Everything in it that cannot be used is told together.
pub(super) fn learn(answer: Answer) -> Result<Learned, DjangoError> {
    let (mut bad, mut warnings) = (Vec::new(), Vec::new());
    let mut places = Vec::new();
    for folder in answer.folders {
        match place(folder) {
            Ok(place) => places.push(place),
            Err(finding) => bad.push(finding),
        }
    }
    let prefix = match answer.static_url.as_deref().map(|url| (url, path_of(url))) {
        None => None,
        Some((url, path)) => {
            if path != url && !path.is_empty() {
                let message = format!(
                    "{url:?} is an address on another host; its path {path:?} is taken for [static] prefix, under which \
                     that host must find the files here"
                );
                warnings.push(Finding::warning(Rule::Settings, "STATIC_URL", message));
            }
            path.parse().map_err(|why: String| bad.push(Finding::error(Rule::Settings, "STATIC_URL", why))).ok()
        }
    };
    if !bad.is_empty() {
        return Err(DjangoError::Unusable(bad));
    }
    warnings.extend(doubt(&answer.storage));
    Ok(Learned {
        origin: format!("Django {}, {}", answer.django, answer.settings),
        environment: answer.environment.into(),
        places,
        prefix,
        output: answer.static_root.filter(|root| !root.is_empty()).map(PathBuf::from),
        ignore: answer.ignore,
        javascript_modules: answer.storage.javascript_modules,
        warnings,
    })
}

fn place(folder: FinderFolder) -> Result<Place, Finding> {
    let FinderFolder { finder, storage, prefix, path, app, exists, only, elsewhere } = folder;
    let Some(path) = path else {
        let message = format!("it takes files from {storage}, which is not a folder on this machine");
        return Err(Finding::error(Rule::Settings, finder, message));
    };
    if let Some(name) = elsewhere {
        let message = format!("it lists {name:?}, which is not the file of that name in {path}");
        return Err(Finding::error(Rule::Settings, finder, message));
    }
    let prefix = prefix.trim_end_matches('/').to_owned();
    if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let message = format!("its prefix {prefix:?} for {path} is not a plain relative path");
        return Err(Finding::error(Rule::Settings, finder, message));
    }
    let source = Source { prefix, directory: path.into() };
    let only = only.map(|names| names.into_iter().collect::<BTreeSet<_>>());
    Ok(Place { folder: Folder { source, only }, app, exists, finder })
}

/// The path of a URL that may name a host.
fn path_of(url: &str) -> &str {
    let behind_scheme = url.split_once("://").map(|(_, rest)| rest).or_else(|| url.strip_prefix("//"));
    match behind_scheme {
        None => url,
        Some(rest) => rest.find('/').map_or("", |slash| &rest[slash..]),
    }
}

/// Whether pages will find the names that `collect` gives.
fn doubt(storage: &Storage) -> Option<Finding> {
    let why = if !storage.is_local {
        "keeps its files elsewhere, and pages will look for the manifest there"
    } else if !storage.reads_manifest {
        "reads no manifest, so that {% static %} prints plain names, which browsers may keep only for a short time"
    } else {
        return None;
    };
    let message = format!("{} {why}; use django.contrib.staticfiles.storage.ManifestStaticFilesStorage", storage.name);
    Some(Finding::warning(Rule::Settings, "STORAGES[\"staticfiles\"]", message))
}

impl Learned {
    /// Lays the answers under the configuration, and gives the folders.
    ///
    /// # Errors
    /// `STATIC_URL` is set neither here nor there.
    pub fn apply(self, loaded: &mut Loaded, surroundings: &Surroundings) -> Result<Folders, DjangoError> {
        let mut folders = Folders { warnings: self.warnings.clone(), ..Folders::default() };
        let frozen = self.freeze(surroundings, loaded.config.collect.virtual_env.as_deref());
        let config = &loaded.config.collect;
        let says_folders = !config.sources.is_empty() || !config.apps.is_empty();
        if says_folders && (&config.sources, &config.apps) != (&frozen.sources, &frozen.apps) {
            let message = "its sources and apps are not used: with --django, Django names the folders";
            folders.warnings.push(Finding::warning(Rule::Settings, "[collect]", message));
        }
        let is_written = |table: &str, key: &str| loaded.origin(table, key).is_some();
        // Who names something for this one run knows what he does.
        let is_lasting =
            |table: &str, key: &str| loaded.origin(table, key).is_some_and(|origin| !matches!(origin, Origin::Flag(_)));
        folders.warnings.extend(self.differences(&loaded.config, is_lasting));
        let (ignore, modules) = (is_written("collect", "ignore"), is_written("collect", "javascript_modules"));
        let prefix = is_written("static", "prefix");

        let config = &mut loaded.config;
        match self.prefix {
            Some(found) if !prefix => config.assets.prefix = found,
            None if !prefix => {
                let message = "it is not set; set it, or [static] prefix in the configuration";
                return Err(DjangoError::Unusable(vec![Finding::error(Rule::Settings, "STATIC_URL", message)]));
            }
            _ => {}
        }
        if !ignore {
            config.collect.ignore = self.ignore;
        }
        if !modules {
            config.collect.javascript_modules = self.javascript_modules;
        }
        let written = config.collect.output.take().or_else(|| config.assets.directory.clone());
        config.collect.output = written.or(self.output);
        config.collect.sources.clear();
        config.collect.apps.clear();
        for place in self.places {
            if place.exists {
                folders.add(place.folder.source, place.folder.only);
            } else {
                let message = "it is not there, and is left out";
                folders.warnings.push(Finding::warning(
                    Rule::Settings,
                    place.folder.source.directory.display().to_string(),
                    message,
                ));
            }
        }
        Ok(folders)
    }

    /// What the configuration says, and Django says otherwise, of the options that are written for good.
    fn differences(&self, config: &Config, is_written: impl Fn(&str, &str) -> bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut differ = |key: &str, written: String, name: &str, told: String| {
            let message = format!("it is {written} and stays, though {name} is {told}");
            findings.push(Finding::warning(Rule::Settings, key, message));
        };
        let prefix = &config.assets.prefix;
        if let Some(told) = self.prefix.as_ref().filter(|told| is_written("static", "prefix") && *told != prefix) {
            differ("[static] prefix", format!("{:?}", prefix.as_str()), "STATIC_URL", format!("{:?}", told.as_str()));
        }
        let (table, key, written) = match &config.collect.output {
            Some(output) => ("collect", "output", Some(output)),
            None => ("static", "directory", config.assets.directory.as_ref()),
        };
        if let (Some(written), Some(told)) = (written, &self.output)
            && is_written(table, key)
            && absolute(written) != absolute(told)
        {
            let option = format!("[{table}] {key}");
            differ(&option, format!("{}", written.display()), "STATIC_ROOT", format!("{}", told.display()));
        }
        let modules = config.collect.javascript_modules;
        if is_written("collect", "javascript_modules") && modules != self.javascript_modules {
            let name = "support_js_module_import_aggregation";
            differ("[collect] javascript_modules", modules.to_string(), name, self.javascript_modules.to_string());
        }
        let ignore = &config.collect.ignore;
        if is_written("collect", "ignore") && *ignore != self.ignore {
            let name = "ignore_patterns of the staticfiles app";
            differ("[collect] ignore", format!("{ignore:?}"), name, format!("{:?}", self.ignore));
        }
        findings
    }

    /// Says the folders as `sources` and `apps`.
    ///
    /// Apps are named where `collect` would find the same folder by the name, so that it may be
    /// elsewhere when an image is built. `sources` win over `apps`: where Django has another order, and
    /// that matters, what comes before the last such folder becomes a source too.
    ///
    /// `virtual_env` is what the configuration will say. If it says nothing, and the apps are not where
    /// `collect` would look, Django's own environment is named.
    pub(super) fn freeze(&self, surroundings: &Surroundings, virtual_env: Option<&Path>) -> Frozen {
        // An environment without a folder of modules gives no names, and then the folders are sources.
        let names_in =
            |environment: Option<&Path>| self.found_by_name(&surroundings.search_path(environment).unwrap_or_default());
        let mut frozen = Frozen::default();
        let mut apps = names_in(virtual_env);
        if virtual_env.is_none() {
            let asked = names_in(Some(&self.environment));
            if asked.iter().flatten().count() > apps.iter().flatten().count() {
                apps = asked;
                frozen.name_environment(&self.environment);
            }
        }
        let mut sources_end = 0;
        for (at, place) in self.places.iter().enumerate().filter(|(at, _)| apps[*at].is_none()) {
            let before = self.places[..at].iter().zip(&apps).filter(|(_, app)| app.is_some());
            if before.into_iter().any(|(app, _)| overlap(&app.folder.source, &place.folder.source)) {
                sources_end = at;
            }
        }
        for (at, (place, app)) in self.places.iter().zip(apps).enumerate() {
            match app {
                Some(app) if at >= sources_end => frozen.apps.push(app),
                _ => frozen.add_source(place),
            }
        }
        frozen
    }

    /// For each folder the app by whose name `collect` finds that very folder.
    fn found_by_name(&self, path: &SearchPath) -> Vec<Option<String>> {
        let real = |path: &Path| fs_err::canonicalize(path).ok();
        let by_name = |place: &Place| {
            let app = place.app.as_deref()?;
            let found = apps::find(app, path).ok()?;
            let [folder] = found.folders.as_slice() else { return None };
            let is_same = place.folder.only.is_none() && real(folder)? == real(&place.folder.source.directory)?;
            is_same.then(|| app.to_owned())
        };
        self.places.iter().map(by_name).collect()
    }

    /// Folders of which Django takes only a part, which no configuration can say.
    pub(super) fn partial(&self) -> Vec<Finding> {
        let partial = self.places.iter().filter_map(|place| Some((place, place.folder.only.as_ref()?)));
        let finding = |(place, only): (&Place, &BTreeSet<String>)| {
            let folder = place.folder.source.directory.display().to_string();
            let message = format!("{} takes {} of its files, and not all", place.finder, only.len());
            Finding::error(Rule::Settings, folder, message)
        };
        partial.map(finding).collect()
    }
}

impl Frozen {
    fn name_environment(&mut self, environment: &Path) {
        let environment = relative(environment).unwrap_or_else(|| environment.to_owned());
        let message = format!(
            "it is set to {}, where `collect` would not have looked for the apps; where they are elsewhere, in an image, \
             say, drop it, or set VESTIBULE_COLLECT_VIRTUAL_ENV there",
            environment.display()
        );
        self.warnings.push(Finding::warning(Rule::Settings, "[collect] virtual_env", message));
        self.virtual_env = Some(environment);
    }

    fn add_source(&mut self, place: &Place) {
        let Source { prefix, directory } = &place.folder.source;
        let name = directory.display().to_string();
        let directory = match relative(directory) {
            Some(relative) => relative,
            None => {
                let message = "it is not below this folder; whoever collects must have it at this very path";
                self.warnings.push(Finding::warning(Rule::Settings, &name, message));
                directory.clone()
            }
        };
        if !place.exists {
            let message = "it is not there now, and must be when `collect` runs";
            self.warnings.push(Finding::warning(Rule::Settings, &name, message));
        }
        self.sources.push(Source { prefix: prefix.clone(), directory });
    }
}

/// A path as it is written in the configuration, if it lies below the current folder.
pub(super) fn relative(path: &Path) -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let real_here = fs_err::canonicalize(&here).ok()?;
    let relative = path.strip_prefix(&here).or_else(|_| path.strip_prefix(&real_here)).ok()?;
    Some(if relative == Path::new("") { PathBuf::from(".") } else { relative.to_owned() })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether two folders have a file of the same published name.
fn overlap(one: &Source, other: &Source) -> bool {
    let names = |source: &Source| -> BTreeMap<PathBuf, ()> {
        let files = WalkDir::new(&source.directory).follow_links(true).into_iter().filter_map(Result::ok);
        let files = files.filter(|entry| entry.file_type().is_file());
        let relative = files.filter_map(|entry| entry.path().strip_prefix(&source.directory).ok().map(Path::to_owned));
        relative.map(|path| (Path::new(&source.prefix).join(path), ())).collect()
    };
    let (one, other) = (names(one), names(other));
    one.keys().any(|name| other.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        serde_json::from_value(serde_json::json!({
            "django": "6.0", "environment": "/nowhere", "settings": "mysite.settings", "static_url": "/static/", "static_root": "/srv/public",
            "storage": { "name": "x.Manifest", "reads_manifest": true, "is_local": true, "javascript_modules": false },
            "ignore": ["CVS", ".*", "*~"], "folders": [],
        }))
        .expect("an answer")
    }

    fn folder(path: Option<&Path>, app: Option<&str>) -> FinderFolder {
        FinderFolder {
            finder: "x.Finder".into(),
            storage: "x.Storage".into(),
            prefix: String::new(),
            path: path.map(|path| path.to_str().expect("UTF-8").into()),
            app: app.map(str::to_owned),
            exists: true,
            only: None,
            elsewhere: None,
        }
    }

    #[test]
    fn static_url_gives_the_prefix_or_is_refused() {
        for (url, expected, warned) in [
            ("/static/", Ok("/static/"), false),
            ("/app/static/", Ok("/app/static/"), false),
            ("https://cdn.example.com/assets/", Ok("/assets/"), true),
            ("//cdn.example.com/assets/", Ok("/assets/"), true),
            ("https://cdn.example.com", Err("STATIC_URL: "), false),
            ("/", Err("STATIC_URL: \"/\" is not a URL prefix"), false),
            ("static/", Err("STATIC_URL: \"static/\" is not a URL prefix"), false),
        ] {
            let learned = learn(Answer { static_url: Some(url.into()), ..answer() });
            match expected {
                Ok(prefix) => {
                    let learned = learned.expect(url);
                    assert_eq!(learned.prefix.as_ref().map(UrlPrefix::as_str), Some(prefix), "for {url}");
                    assert_eq!(!learned.warnings.is_empty(), warned, "for {url}");
                }
                Err(expected) => {
                    let error = learned.expect_err(url).to_string();
                    assert!(error.contains(expected), "for {url}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_storage_that_pages_cannot_use_is_told() {
        for (reads_manifest, is_local, expected) in [
            (true, true, None),
            (false, true, Some("reads no manifest")),
            (true, false, Some("keeps its files elsewhere")),
        ] {
            let storage = Storage { reads_manifest, is_local, ..answer().storage };
            let told = doubt(&storage).map(|finding| finding.message);
            assert_eq!(told.is_some(), expected.is_some());
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn a_finder_without_folders_of_its_own_is_refused() {
        let root = Path::new("/srv/x");
        let bad = vec![
            folder(None, None),
            FinderFolder { elsewhere: Some("a.css".into()), ..folder(Some(root), None) },
            FinderFolder { prefix: "../up".into(), ..folder(Some(root), None) },
        ];
        let error = learn(Answer { folders: bad, ..answer() }).expect_err("three refusals").to_string();
        let expected = "cannot use 3 answers of Django:\n  \
                        x.Finder: it takes files from x.Storage, which is not a folder on this machine\n  \
                        x.Finder: it lists \"a.css\", which is not the file of that name in /srv/x\n  \
                        x.Finder: its prefix \"../up\" for /srv/x is not a plain relative path";
        assert_eq!(error, expected);
    }

    /// A virtual environment with two apps, and a folder that is none.
    struct Project(tempfile::TempDir);

    impl Project {
        fn new() -> Self {
            let project = Self(tempfile::tempdir().expect("a temporary folder"));
            for file in ["one/__init__.py", "one/static/one/a.css", "two/__init__.py", "two/static/two/a.css"] {
                project.write(&format!("env/lib/python3.13/site-packages/{file}"));
            }
            project.write("extra/extra.css");
            project
        }

        fn write(&self, path: &str) {
            let path = self.0.path().join(path);
            fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs_err::write(path, "").expect("a file");
        }

        /// Sources by their last component, and apps.
        fn freeze(&self, order: &[&str]) -> (Vec<String>, Vec<String>) {
            let packages = self.0.path().join("env/lib/python3.13/site-packages");
            let folders = order.iter().map(|name| match *name {
                "extra" => folder(Some(&self.0.path().join("extra")), None),
                app => folder(Some(&packages.join(app).join("static")), Some(app)),
            });
            let environment = self.0.path().join("env").to_str().expect("UTF-8").to_owned();
            let learned = learn(Answer { folders: folders.collect(), environment, ..answer() }).expect("an answer");
            let frozen = learned.freeze(&Surroundings::default(), None);
            let last_two = |source: &Source| {
                let parts: Vec<_> = source.directory.iter().rev().take(2).collect();
                if parts[0] == "static" { parts[1].to_string_lossy().into() } else { parts[0].to_string_lossy().into() }
            };
            (frozen.sources.iter().map(last_two).collect(), frozen.apps)
        }
    }

    #[test]
    fn apps_are_saved_by_name_and_the_rest_by_path() {
        let project = Project::new();
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        for (order, sources, apps) in [
            (&["extra", "two", "one"][..], &["extra"][..], &["two", "one"][..]),
            // Nothing in the one is in the other: the order of the two does not matter.
            (&["one", "extra", "two"], &["extra"], &["one", "two"]),
        ] {
            assert_eq!(project.freeze(order), (words(sources), words(apps)), "for {order:?}");
        }
        // Now it does: what won before must win again.
        project.write("extra/one/a.css");
        assert_eq!(project.freeze(&["one", "extra", "two"]), (words(&["one", "extra"]), words(&["two"])));
        assert_eq!(project.freeze(&["extra", "one", "two"]), (words(&["extra"]), words(&["one", "two"])));
    }
}
