//! Writes what was learned into a configuration file, so that a build needs neither Python nor secrets.
//!
//! An existing file keeps its comments, its order and all that it says of other things; `sources` and `apps`
//! are replaced, and what else it says stays. The file is replaced whole or not at all.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use super::error::DjangoError;
use super::learned::{Frozen, Learned, relative};
use crate::collect::python::Surroundings;
use crate::config::CollectConfig;
use crate::config::load::{DEFAULT_FILE, Loaded, Origin};
use crate::config::values::Source;
use crate::finding::{Finding, Rule, counted};

/// The longest list that is written on one line.
const LINE: usize = 100;

/// What was saved. It prints for people, warnings first.
#[derive(Debug)]
pub struct Saved {
    file: PathBuf,
    /// How many folders are named by their paths.
    pub sources: usize,
    /// How many are found by the names of their apps.
    pub apps: usize,
    /// Whether `collect` reads the file without being told.
    is_default: bool,
    /// What is odd, but did not keep it from being saved.
    pub warnings: Vec<Finding>,
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let file = self.file.display();
        let (sources, apps) = (counted(self.sources, "source"), counted(self.apps, "app"));
        let option = if self.is_default { String::new() } else { format!(" --config {file}") };
        write!(f, "Saved {sources} and {apps} to {file}\n  `vestibule collect{option}` needs no Django")
    }
}

/// A source that would be read as another one: the first equals sign ends the prefix.
fn unsayable(source: &Source) -> Option<Finding> {
    // With an equals sign in its name, a folder is written with a dot before it.
    let place = |source: &Source| source.directory.strip_prefix(".").unwrap_or(&source.directory).to_owned();
    let is_same = |read: &Source| read.prefix == source.prefix && place(read) == place(source);
    let is_read_back = source.to_string().parse().is_ok_and(|read: Source| is_same(&read));
    let message = format!(
        "its prefix {:?} cannot be written before the \"=\" of a source; name it otherwise in STATICFILES_DIRS",
        source.prefix
    );
    let folder = source.directory.display().to_string();
    (!is_read_back).then(|| Finding::error(Rule::Settings, folder, message))
}

impl Learned {
    /// Writes the answers to a configuration file.
    ///
    /// # Errors
    /// What Django does cannot be said in the file, or the file cannot be read or written.
    pub fn save(&self, file: &Path, loaded: &Loaded, surroundings: &Surroundings) -> Result<Saved, DjangoError> {
        let partial = self.partial();
        if !partial.is_empty() {
            return Err(DjangoError::CannotSave(partial));
        }
        if let Some(folder) = file.parent().filter(|folder| *folder != Path::new("") && !folder.exists()) {
            return Err(DjangoError::NoFolder(folder.to_owned()));
        }
        let failed = |cause: io::Error| DjangoError::Save { file: file.to_owned(), cause };
        // What is written to is the file itself, and not a link to it.
        let real = fs_err::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let text = match fs_err::read_to_string(&real) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        // The next run reads this file, and the environment as it is now.
        let variable = matches!(loaded.origin("collect", "virtual_env"), Some(Origin::Variable(_)));
        let virtual_env = match variable {
            true => loaded.config.collect.virtual_env.clone(),
            false => text.as_deref().and_then(virtual_env_in),
        };
        let next = Surroundings { config_file: Some(file.to_owned()), ..surroundings.clone() };
        let mut frozen = self.freeze(&next, virtual_env.as_deref());
        let unsayable: Vec<_> = frozen.sources.iter().filter_map(unsayable).collect();
        if !unsayable.is_empty() {
            return Err(DjangoError::CannotSave(unsayable));
        }
        let (text, kept) = self
            .written(text.as_deref(), &frozen)
            .map_err(|why| DjangoError::BadFile { file: file.to_owned(), why })?;
        replace(&real, &text).map_err(failed)?;
        let mut warnings = self.warnings.clone();
        warnings.append(&mut frozen.warnings);
        warnings.extend(kept);
        let is_default = file == Path::new(DEFAULT_FILE) && loaded.file.as_deref().is_none_or(|read| read == file);
        Ok(Saved {
            file: file.to_owned(),
            sources: frozen.sources.len(),
            apps: frozen.apps.len(),
            is_default,
            warnings,
        })
    }

    /// The new text of the file, and what in it stays although Django says otherwise.
    fn written(&self, text: Option<&str>, frozen: &Frozen) -> Result<(String, Vec<Finding>), String> {
        let text = text.unwrap_or_default();
        let document = text.parse::<DocumentMut>();
        let mut document = document.map_err(|error| error.to_string().trim().to_owned())?;
        let mut kept = Vec::new();
        let header = match (document.as_table().is_empty(), text.trim().is_empty()) {
            (false, _) => String::new(),
            // Comments alone belong to no key, and would end up behind the keys.
            (true, false) => format!("{}\n\n", std::mem::take(&mut document).to_string().trim_end()),
            (true, true) => format!(
                "# Written by `vestibule collect --django --save` ({}).\n# Run it again when folders or apps have changed.\n\n",
                self.origin
            ),
        };

        let collect = table(&mut document, "collect")?;
        set_list(collect, "sources", frozen.sources.iter().map(Source::to_string));
        set_list(collect, "apps", frozen.apps.iter().cloned());
        if let Some(environment) = &frozen.virtual_env {
            collect.insert("virtual_env", value(environment.display().to_string()));
        }
        let defaults = CollectConfig::default();
        let has_output = collect.contains_key("output");
        if !collect.contains_key("ignore") && self.ignore != defaults.ignore {
            set_list(collect, "ignore", self.ignore.iter().cloned());
        }
        if !collect.contains_key("javascript_modules") && self.javascript_modules != defaults.javascript_modules {
            collect.insert("javascript_modules", value(self.javascript_modules));
        }
        let prefix = self.prefix.as_ref().map(|prefix| ("prefix", "STATIC_URL", prefix.as_str().to_owned()));
        let output = self.output.as_deref().filter(|_| !has_output);
        let output = output.map(|path| relative(path).unwrap_or_else(|| path.to_owned()));
        let output = output.map(|path| ("directory", "STATIC_ROOT", path.display().to_string()));
        for (key, name, told) in prefix.into_iter().chain(output) {
            let assets = table(&mut document, "static")?;
            match assets.get(key).map(|item| item.as_str()) {
                None => drop(assets.insert(key, value(told))),
                Some(Some(written)) if written == told => {}
                Some(written) => {
                    let message =
                        format!("it is {:?} and stays, though {name} is {told:?}", written.unwrap_or_default());
                    kept.push(Finding::warning(Rule::Settings, format!("[static] {key}"), message));
                }
            }
        }
        if self.output.is_none() && !has_output && table_has_no(&document, "static", "directory") {
            let message = "it is not set, and the file names no output either; name one with --output, or under [static] \
                           directory";
            kept.push(Finding::warning(Rule::Settings, "STATIC_ROOT", message));
        }
        Ok((format!("{header}{document}"), kept))
    }
}

/// `[collect] virtual_env` in a text that need not be sound.
fn virtual_env_in(text: &str) -> Option<PathBuf> {
    let document = text.parse::<DocumentMut>().ok()?;
    document.get("collect")?.get("virtual_env")?.as_str().map(PathBuf::from)
}

fn table_has_no(document: &DocumentMut, table: &str, key: &str) -> bool {
    document.get(table).and_then(|table| table.get(key)).is_none()
}

/// The table of that name, which is made if need be.
fn table<'d>(document: &'d mut DocumentMut, name: &str) -> Result<&'d mut dyn TableLike, String> {
    let item = document.entry(name).or_insert_with(|| Item::Table(Table::new()));
    item.as_table_like_mut().ok_or_else(|| format!("{name} is not a table in it"))
}

/// Sets a list, unless it is set already. An empty one is left out where there was none.
fn set_list(table: &mut dyn TableLike, key: &str, values: impl Iterator<Item = String>) {
    let values: Vec<String> = values.collect();
    let present = table.get(key).and_then(Item::as_array);
    let is_same =
        present.is_some_and(|array| array.iter().map(Value::as_str).eq(values.iter().map(|text| Some(text.as_str()))));
    if is_same || (values.is_empty() && !table.contains_key(key)) {
        return;
    }
    let length: usize = values.iter().map(|text| text.len() + 4).sum();
    let mut array: Array = values.into_iter().collect();
    if length > LINE {
        array.iter_mut().for_each(|item| item.decor_mut().set_prefix("\n    "));
        array.set_trailing("\n");
        array.set_trailing_comma(true);
    }
    match table.get_mut(key) {
        // The comment behind the value stays.
        Some(Item::Value(old)) => {
            let decor = old.decor().clone();
            *old = Value::Array(array);
            *old.decor_mut() = decor;
        }
        _ => drop(table.insert(key, value(array))),
    }
}

/// Puts a text into the place of a file, whole, with the rights that the file had.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let permissions = match fs_err::metadata(file) {
        Ok(data) => data.permissions(),
        Err(_) => std::fs::Permissions::from_mode(0o644),
    };
    let mut beside = tempfile::NamedTempFile::new_in(folder)?;
    beside.write_all(text.as_bytes())?;
    beside.as_file().set_permissions(permissions)?;
    beside.as_file().sync_all()?;
    beside.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_would_be_read_as_another_one_is_not_saved() {
        for (prefix, directory, is_sayable) in [
            ("", "static", true),
            ("", "a=b", true),
            ("", "/srv/a=b", true),
            ("vendor/x", "a=b", true),
            ("a=b", "static", false),
            (".x/y", "static", false), // like a folder with an equals sign in its name
        ] {
            let source = Source { prefix: prefix.into(), directory: directory.into() };
            assert_eq!(unsayable(&source).is_none(), is_sayable, "for {source}");
        }
    }
    use crate::config::Config;

    fn learned() -> Learned {
        Learned {
            origin: "Django 6.0, mysite.settings".into(),
            environment: "/nowhere".into(),
            places: Vec::new(),
            prefix: Some("/assets/".parse().expect("a prefix")),
            output: Some("/srv/public".into()),
            ignore: CollectConfig::default().ignore,
            javascript_modules: false,
            warnings: Vec::new(),
        }
    }

    fn frozen(sources: &[&str], apps: &[&str]) -> Frozen {
        Frozen {
            sources: sources.iter().map(|text| text.parse().expect("a source")).collect(),
            apps: apps.iter().map(|&app| app.to_owned()).collect(),
            ..Frozen::default()
        }
    }

    #[test]
    fn a_new_file_is_a_sound_configuration() {
        let frozen = frozen(&["static", "vendor=a/b", "./a=b"], &["django.contrib.admin"]);
        let learned = Learned { javascript_modules: true, ignore: vec!["*.scss".into()], ..learned() };
        let (text, kept) = learned.written(None, &frozen).expect("a new file");
        let config: Config = toml::from_str(&text).expect(&text);
        assert_eq!((&config.collect.sources, &config.collect.apps), (&frozen.sources, &frozen.apps));
        assert_eq!((config.collect.javascript_modules, config.collect.ignore), (true, vec!["*.scss".to_owned()]));
        assert_eq!(config.assets.directory.as_deref(), Some(Path::new("/srv/public")));
        assert_eq!(config.assets.prefix.as_str(), "/assets/");
        assert!(
            text.starts_with("# Written by `vestibule collect --django --save` (Django 6.0, mysite.settings)"),
            "{text}"
        );
        assert_eq!(kept, []);
    }

    #[test]
    fn an_existing_file_keeps_its_comments_and_what_it_says() {
        let before = "# mine\n[static]\nprefix = \"/s/\" # old\n\n[collect]\n# where\nsources = [\"old\"] # behind\nignore = []\n\n\
                      [log]\nlevel = \"warn\"\n";
        let (text, kept) = learned().written(Some(before), &frozen(&["static"], &["blog"])).expect("a sound file");
        let expected = "# mine\n[static]\nprefix = \"/s/\" # old\ndirectory = \"/srv/public\"\n\n[collect]\n# where\n\
                        sources = [\"static\"] # behind\nignore = []\napps = [\"blog\"]\n\n[log]\nlevel = \"warn\"\n";
        assert_eq!(text, expected);
        assert_eq!(
            kept,
            [Finding::warning(
                Rule::Settings,
                "[static] prefix",
                "it is \"/s/\" and stays, though STATIC_URL is \"/assets/\""
            )]
        );
        // A second time there is nothing to change.
        let again = learned().written(Some(&text), &frozen(&["static"], &["blog"])).expect("a sound file");
        assert_eq!(again.0, text);
        // What is gone is gone.
        let (text, _) = learned().written(Some(&text), &frozen(&["static"], &[])).expect("a sound file");
        assert!(text.contains("apps = []\n"), "{text}");
    }

    #[test]
    fn the_environment_is_written_and_a_missing_output_is_told() {
        let frozen = Frozen { virtual_env: Some("env".into()), ..frozen(&["static"], &["blog"]) };
        let learned = Learned { output: None, ..learned() };
        let (text, kept) = learned.written(None, &frozen).expect("a new file");
        let config: Config = toml::from_str(&text).expect(&text);
        assert_eq!(config.collect.virtual_env, Some("env".into()));
        assert_eq!(virtual_env_in(&text), Some("env".into()));
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert!(kept[0].message.contains("name one with --output"), "{kept:?}");
    }

    #[test]
    fn one_source_is_no_plural_and_the_default_file_needs_no_option() {
        let saved = |file: &str, is_default| {
            Saved { file: file.into(), sources: 1, apps: 2, is_default, warnings: Vec::new() }.to_string()
        };
        assert_eq!(
            saved("vestibule.toml", true),
            "Saved 1 source and 2 apps to vestibule.toml\n  `vestibule collect` needs no Django"
        );
        assert!(saved("other.toml", false).ends_with("\n  `vestibule collect --config other.toml` needs no Django"));
    }

    #[test]
    fn comments_alone_stay_on_top() {
        let (text, _) = learned().written(Some("# ours\n"), &frozen(&["static"], &[])).expect("a sound file");
        assert!(text.starts_with("# ours\n\n[collect]\nsources = [\"static\"]\n"), "{text}");
    }

    #[test]
    fn a_long_list_has_a_line_for_each() {
        let apps: Vec<String> = (0..20).map(|n| format!("company.project.app_{n}")).collect();
        let frozen = Frozen { apps: apps.clone(), ..Frozen::default() };
        let (text, _) = learned().written(None, &frozen).expect("a new file");
        assert!(text.contains("apps = [\n    \"company.project.app_0\",\n"), "{text}");
        assert_eq!(toml::from_str::<Config>(&text).expect(&text).collect.apps, apps);
    }

    #[test]
    fn a_file_that_is_not_sound_is_refused() {
        for (text, expected) in [("[collect", "line 1"), ("collect = 1", "collect is not a table")] {
            let refusal = learned().written(Some(text), &Frozen::default()).expect_err(text);
            assert!(refusal.contains(expected), "{refusal}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_rights() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("vestibule.toml");
        replace(&file, "a").expect("a new file");
        assert_eq!(fs_err::metadata(&file).expect("there").permissions().mode() & 0o777, 0o644);
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
        replace(&file, "b").expect("a new text");
        assert_eq!(fs_err::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs_err::read_to_string(&file).expect("there"), "b");
        assert_eq!(fs_err::read_dir(folder.path()).expect("there").count(), 1, "nothing is left beside it");
    }
}
