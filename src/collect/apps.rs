//! Finds the `static` folders of Django apps by their module names, as Python's import would find the
//! packages, without importing anything.
//!
//! Within each folder of the search path a package comes before a module, and a folder without
//! `__init__.py` counts only where nothing else has the name: then all such folders are one package.

use std::path::{Path, PathBuf};

use super::python::SearchPath;
use crate::finding::{Finding, Rule};

/// An app that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct App {
    /// Its `static` folders: none, one, or for a package in several places more.
    pub(super) folders: Vec<PathBuf>,
}

/// Looks an app up by its entry in `INSTALLED_APPS`: a package, or the path of an `AppConfig`.
pub(super) fn find(app: &str, path: &SearchPath) -> Result<App, Finding> {
    let refuse = |message: String| Err(Finding::error(Rule::UnknownApp, app, message));
    if !app.split('.').all(is_identifier) {
        return refuse(
            "it is not the name of a module; write it as in INSTALLED_APPS, as \"django.contrib.admin\"".into(),
        );
    }
    let mut places = path.folders.clone();
    let mut found: Vec<&str> = Vec::new();
    let parts: Vec<&str> = app.split('.').collect();
    for (at, part) in parts.iter().enumerate() {
        match look_for(part, &places) {
            Sought::Package(folders) => places = folders,
            Sought::Module(file) => return configured(app, &parts[at + 1..], &file, &found, &places, path),
            Sought::Nothing => return refuse(not_found(&found, part, &places, path)),
        }
        found.push(part);
    }
    Ok(App::of(&places))
}

impl App {
    fn of(places: &[PathBuf]) -> Self {
        let folders = places.iter().map(|place| place.join("static")).filter(|folder| folder.is_dir());
        Self { folders: folders.map(|folder| folder.strip_prefix(".").map(Path::to_owned).unwrap_or(folder)).collect() }
    }
}

/// What a name stands for.
enum Sought {
    /// The folders of a package.
    Package(Vec<PathBuf>),
    /// A file with code.
    Module(PathBuf),
    Nothing,
}

fn look_for(name: &str, places: &[PathBuf]) -> Sought {
    let mut without_init = Vec::new();
    for place in places {
        let folder = place.join(name);
        if folder.join("__init__.py").is_file() {
            return Sought::Package(vec![folder]);
        }
        let module = place.join(format!("{name}.py"));
        if module.is_file() {
            return Sought::Module(module);
        }
        if folder.is_dir() {
            without_init.push(folder);
        }
    }
    if without_init.is_empty() { Sought::Nothing } else { Sought::Package(without_init) }
}

/// The app of a class in a module. The class says which one in its `name`.
fn configured(
    app: &str,
    rest: &[&str],
    file: &Path,
    package: &[&str],
    places: &[PathBuf],
    path: &SearchPath,
) -> Result<App, Finding> {
    let module = file.display();
    let [class] = rest else {
        let message = if rest.is_empty() {
            format!("it is a module, {module}, and not a package; an app has a folder")
        } else {
            format!("it leads into {module}, which is a module and not a package")
        };
        return Err(Finding::error(Rule::UnknownApp, app, message));
    };
    let text = fs_err::read_to_string(file)
        .map_err(|error| Finding::error(Rule::UnknownApp, app, format!("its module cannot be read ({error})")))?;
    match name_in_class(&text, class) {
        Some(name) if name == package.join(".") => Ok(App::of(places)),
        // One step only: a name is a package, and a second class behind it would be a mistake.
        Some(name) if name.split('.').all(is_identifier) && name != app => find(&name, path),
        _ => {
            let message = format!("{module} has no `name` in a class {class}; write the app's package instead");
            Err(Finding::error(Rule::UnknownApp, app, message))
        }
    }
}

/// The text in `name = "…"` directly inside of a class.
fn name_in_class(text: &str, class: &str) -> Option<String> {
    let is_class = |line: &&str| {
        let rest = line.strip_prefix("class ").and_then(|rest| rest.trim_start().strip_prefix(class));
        rest.is_some_and(|rest| rest.trim_start().starts_with(['(', ':']))
    };
    let mut lines = text.lines().skip_while(|line| !is_class(line)).skip(1);
    let body = lines.by_ref().take_while(|line| line.is_empty() || line.starts_with([' ', '\t', '#', ')']));
    body.filter_map(|line| {
        let value = line.trim().strip_prefix("name")?.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        value[1..].split_once(quote).map(|(name, _)| name.to_owned())
    })
    .next()
}

fn is_identifier(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with(|c: char| c.is_ascii_digit())
        && part.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// What is missing where, with the name that was perhaps meant.
fn not_found(found: &[&str], part: &str, places: &[PathBuf], path: &SearchPath) -> String {
    const ALIKE: f64 = 0.85;
    let whole = |name: &str| found.iter().copied().chain([name]).collect::<Vec<_>>().join(".");
    let known = places.iter().flat_map(|place| packages_in(place));
    let scored = known.map(|name| (strsim::jaro_winkler(&name, part), name)).filter(|(score, _)| *score > ALIKE);
    let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
    let advice = match (nearest, &path.environment) {
        (Some((_, name)), _) => format!("; did you mean {:?}?", whole(&name)),
        (None, Some(environment)) if found.is_empty() => format!("; is it installed in {}?", environment.display()),
        (None, None) if found.is_empty() => "; neither a virtual environment nor a python3 was found".to_owned(),
        (None, _) => String::new(),
    };
    let shown =
        |place: &PathBuf| if place == Path::new(".") { "this folder".into() } else { place.display().to_string() };
    let places: Vec<_> = places.iter().map(shown).collect();
    format!("there is no package {part} in {}{advice}", places.join(", "))
}

/// The names in a folder that could be packages.
fn packages_in(place: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(place).into_iter().flatten().filter_map(Result::ok);
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_identifier(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, SearchPath) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            let text = "from django.apps import AppConfig\n\n\nclass BlogConfig(AppConfig):\n    # name = 'x'\n    \
                        verbose_name = \"Blog\"\n    name = 'blog'\n\n\nclass Other(AppConfig):\n    name = \"shop.cart\"\n\n\n\
                        class Bare(AppConfig):\n    pass\n\nname = 'module'\n";
            fs_err::write(path, if file.ends_with(".py") { text } else { "" }).unwrap();
        }
        let folders = ["project", "packages"].map(|name| folder.path().join(name)).into();
        let path = SearchPath { folders, environment: Some("/srv/env".into()) };
        (folder, path)
    }

    const TREE: [&str; 11] = [
        "project/blog/__init__.py",
        "project/blog/apps.py",
        "project/blog/static/blog/a.css",
        "project/quiet/__init__.py",
        "project/spread/one/static/a.css",
        "packages/spread/two/__init__.py",
        "packages/spread/two/static/a.css",
        "packages/shop/__init__.py",
        "packages/shop/cart/__init__.py",
        "packages/shop/cart/static/b.css",
        "packages/blog/static/never.css", // the project's package comes first
    ];

    #[test]
    fn an_app_is_found_as_python_would_find_it() {
        let (folder, path) = tree(&TREE);
        for (app, expected) in [
            ("blog", vec!["project/blog/static"]),
            ("blog.apps.BlogConfig", vec!["project/blog/static"]),
            ("blog.apps.Other", vec!["packages/shop/cart/static"]), // the class names another package
            ("quiet", vec![]),
            ("spread.one", vec!["project/spread/one/static"]), // no __init__.py anywhere
            ("spread.two", vec!["packages/spread/two/static"]),
            ("shop.cart", vec!["packages/shop/cart/static"]),
        ] {
            let folders: Vec<_> = expected.iter().map(|name| folder.path().join(name)).collect();
            assert_eq!(find(app, &path), Ok(App { folders }), "for {app}");
        }
    }

    #[test]
    fn what_is_not_found_is_refused_with_the_nearest_name() {
        let (_folder, path) = tree(&TREE);
        for (app, expected) in [
            ("blgo", "did you mean \"blog\"?"),
            ("shop.crat", "did you mean \"shop.cart\"?"),
            ("shop.cart.more", "there is no package more in "),
            ("rest_framework", "; is it installed in /srv/env?"),
            ("blog.apps", "is a module, "),
            ("blog.apps.A.B", "which is a module and not a package"),
            ("blog.apps.Missing", "has no `name` in a class Missing"),
            ("blog.apps.Bare", "has no `name` in a class Bare"),
            ("../blog", "it is not the name of a module"),
            ("", "it is not the name of a module"),
            ("django-blog", "it is not the name of a module"),
        ] {
            let refusal = find(app, &path).expect_err(app);
            assert!(refusal.message.contains(expected), "for {app}: {refusal}");
        }
        let path = SearchPath { environment: None, ..path };
        let refusal = find("rest_framework", &path).expect_err("no such package");
        assert!(refusal.message.ends_with("; neither a virtual environment nor a python3 was found"), "{refusal}");
    }
}
