//! Where Python would look for a module, found without running it: the project's folder, the virtual
//! environment, and the folders that `.pth` files add.
//!
//! What depends on the machine comes in as [`Surroundings`], since only `run` reads the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Virtual environments that a project usually has, in its own folder.
const USUAL_ENVIRONMENTS: [&str; 2] = [".venv", "venv"];

/// A larger `.pth` file holds no list of folders.
const PTH_LIMIT: u64 = 1 << 20;

/// What the environment says that matters for finding Python and its modules.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `VIRTUAL_ENV`: the virtual environment that is active.
    pub virtual_env: Option<PathBuf>,
    /// `PATH`, where programs are looked for.
    pub path: Option<OsString>,
    /// `DJANGO_SETTINGS_MODULE`.
    pub settings_module: Option<String>,
    /// The configuration file: its folder counts as one of the project's.
    pub config_file: Option<PathBuf>,
}

/// The folders in which a module is looked for, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct SearchPath {
    pub(super) folders: Vec<PathBuf>,
    /// The environment whose modules are among them, for messages.
    pub(super) environment: Option<PathBuf>,
}

impl Surroundings {
    /// The project's own folders first, as Python has the folder of `manage.py` first, then the
    /// environment's. An environment that the operator named must have a folder of modules.
    pub(super) fn search_path(&self, virtual_env: Option<&Path>) -> Result<SearchPath, String> {
        let mut folders = self.project_folders();
        let environment = self.environment(virtual_env);
        let modules = environment.as_deref().map(site_packages).unwrap_or_default();
        if let (Some(named), true) = (virtual_env, modules.is_empty()) {
            return Err(format!("there is no lib/python3*/site-packages in {}", named.display()));
        }
        for folder in modules {
            let added = added_by_pth(&folder);
            folders.push(folder);
            folders.extend(added);
        }
        Ok(SearchPath { folders, environment })
    }

    /// The Python to ask: that of the virtual environment, or else `python3`.
    pub(super) fn interpreter(&self, virtual_env: Option<&Path>, project: &Path) -> PathBuf {
        let active = virtual_env.or(self.virtual_env.as_deref()).map(|environment| environment.join("bin/python"));
        let beside = || {
            let places = [project, Path::new("")].into_iter();
            let mut usual = places.flat_map(|place| USUAL_ENVIRONMENTS.map(|name| place.join(name).join("bin/python")));
            usual.find(|python| python.exists())
        };
        active.or_else(beside).unwrap_or_else(|| "python3".into())
    }

    /// Here, beside the configuration file, and folders right below with a `manage.py`.
    fn project_folders(&self) -> Vec<PathBuf> {
        let beside = self.config_file.as_deref().and_then(Path::parent).filter(|folder| *folder != Path::new(""));
        let mut folders = vec![PathBuf::from(".")];
        folders.extend(beside.map(Path::to_owned));
        for folder in folders.clone() {
            folders.extend(entries(&folder).into_iter().filter(|below| below.join("manage.py").is_file()));
        }
        folders
    }

    /// The environment whose modules are searched: a virtual one, or where `python3` lives.
    fn environment(&self, virtual_env: Option<&Path>) -> Option<PathBuf> {
        let usual = || {
            let places = self.project_folders().into_iter();
            let mut environments = places.flat_map(|folder| USUAL_ENVIRONMENTS.map(|name| folder.join(name)));
            environments.find(|environment| !site_packages(environment).is_empty())
        };
        let named = virtual_env.or(self.virtual_env.as_deref()).map(Path::to_owned);
        named.or_else(usual).or_else(|| self.systems_prefix())
    }

    /// The prefix of the `python3` in `PATH`: `/usr/local` in Python's own container images, or a virtual
    /// environment that is active by its place in `PATH` alone. There `python3` is a link to another Python.
    fn systems_prefix(&self) -> Option<PathBuf> {
        let folders = std::env::split_paths(self.path.as_ref()?);
        let python = folders.map(|folder| folder.join("python3")).find(|python| python.is_file())?;
        let prefix = |python: &Path| Some(python.parent()?.parent()?.to_owned());
        let virtual_one = prefix(&python).filter(|prefix| prefix.join("pyvenv.cfg").is_file());
        virtual_one.or_else(|| prefix(&fs_err::canonicalize(python).ok()?))
    }
}

/// The folders of installed modules, those of the newest Python first.
fn site_packages(environment: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for library in ["lib", "lib64", "local/lib"] {
        let mut versions: Vec<_> = entries(&environment.join(library))
            .into_iter()
            .filter_map(|folder| Some((version_of(folder.file_name()?.to_str()?)?, folder)))
            .collect();
        versions.sort_by(|a, b| b.cmp(a));
        let kinds = |(_, folder): (u32, PathBuf)| ["site-packages", "dist-packages"].map(|kind| folder.join(kind));
        for folder in versions.into_iter().flat_map(kinds) {
            let Ok(real) = fs_err::canonicalize(&folder) else { continue };
            if real.is_dir() && !seen.contains(&real) {
                seen.push(real);
                found.push(folder);
            }
        }
    }
    found
}

/// The minor version in `python3.13`; Debian also has a plain `python3`.
fn version_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("python3")?;
    if rest.is_empty() { Some(0) } else { rest.strip_prefix('.')?.trim_end_matches('t').parse().ok() }
}

/// The folders that `.pth` files name; installers put them there for projects that are worked on. Lines
/// that are code are not run.
fn added_by_pth(modules: &Path) -> Vec<PathBuf> {
    let files = entries(modules).into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "pth"));
    let small = files.filter(|file| fs_err::metadata(file).is_ok_and(|data| data.is_file() && data.len() < PTH_LIMIT));
    let texts = small.filter_map(|file| fs_err::read_to_string(file).ok());
    texts.flat_map(|text| folders_in_pth(&text, modules)).filter(|folder| folder.is_dir()).collect()
}

fn folders_in_pth(text: &str, modules: &Path) -> Vec<PathBuf> {
    let lines = text.lines().map(str::trim_end).filter(|line| {
        !line.is_empty() && !line.starts_with('#') && !line.starts_with("import ") && !line.starts_with("import\t")
    });
    lines.map(|line| modules.join(line)).collect()
}

/// What a folder holds, sorted; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pth_file_adds_folders_and_runs_nothing() {
        let text = "# a comment\nimport os; os.system('x')\n/srv/mysite/src\n../../src \n\nimportant\n";
        let folders = folders_in_pth(text, Path::new("/v/site-packages"));
        let expected = ["/srv/mysite/src", "/v/site-packages/../../src", "/v/site-packages/important"];
        assert_eq!(folders, expected.map(PathBuf::from));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (name, expected) in [
            ("python3.9", Some(9)),
            ("python3.13", Some(13)),
            ("python3.13t", Some(13)),
            ("python3", Some(0)),
            ("python2.7", None),
            ("python3x", None),
        ] {
            assert_eq!(version_of(name), expected, "for {name}");
        }
    }

    #[test]
    fn the_modules_of_the_newest_python_come_first_and_pth_folders_behind_them() {
        let folder = tempfile::tempdir().unwrap();
        let environment = folder.path().join("env");
        for path in ["env/lib/python3.9/site-packages", "env/lib/python3.13/site-packages", "src"] {
            fs_err::create_dir_all(folder.path().join(path)).unwrap();
        }
        let newest = environment.join("lib/python3.13/site-packages");
        let pth = format!("{}\n", folder.path().join("src").display());
        fs_err::write(newest.join("__editable__.mysite.pth"), pth).unwrap();
        let found = Surroundings::default().search_path(Some(&environment)).unwrap().folders;
        let expected = [newest, folder.path().join("src"), environment.join("lib/python3.9/site-packages")];
        assert!(found.ends_with(&expected), "{found:?}");
    }

    #[test]
    fn without_a_virtual_environment_the_modules_of_python3_count() {
        // As in Python's own container images, where packages are installed for the system.
        let folder = tempfile::tempdir().unwrap();
        for path in ["usr/bin", "other/bin", "usr/lib/python3.13/site-packages"] {
            fs_err::create_dir_all(folder.path().join(path)).unwrap();
        }
        fs_err::write(folder.path().join("usr/bin/python3.13"), "").unwrap();
        std::os::unix::fs::symlink("python3.13", folder.path().join("usr/bin/python3")).unwrap();
        let path = std::env::join_paths(["other/bin", "usr/bin"].map(|bin| folder.path().join(bin))).unwrap();
        let surroundings = Surroundings { path: Some(path), ..Surroundings::default() };
        let found = surroundings.search_path(None).unwrap().folders;
        let expected = fs_err::canonicalize(folder.path().join("usr/lib/python3.13/site-packages")).unwrap();
        assert!(found.contains(&expected), "{found:?}");
    }

    #[test]
    fn a_virtual_environment_in_path_counts_and_not_the_python_that_it_links_to() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["usr/bin", "usr/lib/python3.13/site-packages", "venv/bin", "venv/lib/python3.13/site-packages"] {
            fs_err::create_dir_all(folder.path().join(path)).unwrap();
        }
        fs_err::write(folder.path().join("usr/bin/python3"), "").unwrap();
        fs_err::write(folder.path().join("venv/pyvenv.cfg"), "home = /usr/bin\n").unwrap();
        let links = [("usr/bin/python3", "venv/bin/python"), ("venv/bin/python", "venv/bin/python3")];
        for (from, to) in links.map(|(from, to)| (folder.path().join(from), folder.path().join(to))) {
            std::os::unix::fs::symlink(from, to).unwrap();
        }
        let path = std::env::join_paths(["venv/bin", "usr/bin"].map(|bin| folder.path().join(bin))).unwrap();
        let surroundings = Surroundings { path: Some(path), ..Surroundings::default() };
        let found = surroundings.search_path(None).unwrap();
        assert_eq!(found.environment, Some(folder.path().join("venv")));
        assert!(found.folders.ends_with(&[folder.path().join("venv/lib/python3.13/site-packages")]), "{found:?}");
    }

    #[test]
    fn an_environment_that_was_named_must_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = Surroundings::default().search_path(Some(folder.path())).unwrap_err();
        assert!(refusal.starts_with("there is no lib/python3*/site-packages in "), "{refusal}");
    }
}
