//! Where the sources come from: Django's answers, saved answers, and apps by name. With the real program and
//! real Django projects, each written for what it is about.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use vestibule::manifest::Manifest;

use crate::support::django_site::{Django, collect_static, repository};
use crate::support::site::files_below;

const BOTH: [Django; 2] = [Django::Five2, Django::Six];

/// What `startproject` writes, for settings beside it.
const MANAGE_PY: &str = "import os, sys\n\n\ndef main():\n    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'settings')\n    \
                         from django.core.management import execute_from_command_line\n    \
                         execute_from_command_line(sys.argv)\n\n\nif __name__ == '__main__':\n    main()\n";

const SETTINGS: &str = "import os\nfrom pathlib import Path\nBASE_DIR = Path(__file__).resolve().parent\nSECRET_KEY = 'x'\n\
                        INSTALLED_APPS = ['django.contrib.staticfiles', 'blog', 'quiet']\nSTATIC_URL = 'static/'\n\
                        STATIC_ROOT = BASE_DIR / 'public'\nSTATICFILES_DIRS = [BASE_DIR / 'own']\n\
                        STORAGES = {'staticfiles': {'BACKEND': 'django.contrib.staticfiles.storage.ManifestStaticFilesStorage'}}\n";

/// A Django project in a temporary folder, with the apps `blog` and `quiet`.
struct Project(tempfile::TempDir);

impl Project {
    fn new(more_settings: &str) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        for (path, text) in [
            ("manage.py", MANAGE_PY),
            ("settings.py", &format!("{SETTINGS}{more_settings}")),
            ("blog/__init__.py", ""),
            ("blog/static/blog/blog.css", "a { background: url(../own.svg) }"),
            ("blog/static/both.css", "/* blog */"),
            ("quiet/__init__.py", ""),
            ("own/own.svg", "<svg/>"),
            ("own/both.css", "/* own */"),
            ("own/.hidden", ""),
        ] {
            project.write(path, text);
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs_err::read_to_string(self.path(path)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.arg("collect").args(arguments).current_dir(self.0.path()).env_clear();
        command.env("VESTIBULE_COLLECT_ENCODINGS", "").env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// Runs `collect` with Django's virtual environment.
    fn collect(&self, django: Django, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.env("VIRTUAL_ENV", environment(django)).env("PYTHONDONTWRITEBYTECODE", "1");
        command.output().unwrap()
    }

    /// The same, and it must succeed. The answer is what it told.
    fn collected(&self, django: Django, arguments: &[&str]) -> String {
        let output = self.collect(django, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    /// The same, and it must fail with this exit code.
    fn refused(&self, django: Django, arguments: &[&str], code: i32) -> String {
        let output = self.collect(django, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    fn names(&self) -> BTreeSet<String> {
        names(&self.path("public"))
    }
}

fn environment(django: Django) -> PathBuf {
    django.program("python").parent().unwrap().parent().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    Manifest::load(folder).unwrap().paths.into_keys().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

// ---- asking

#[test]
fn what_django_is_asked_for_is_what_collectstatic_collects() {
    for django in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let project = Project(folder);
        collect_static(django, project.0.path());
        let expected: BTreeSet<_> = files_below(&project.path("plain")).into_keys().collect();
        assert!(expected.len() > 100, "the admin is among them");
        let manage_py = repository().join("fixtures/django/manage.py");
        let mut command = project.command(&["--django", manage_py.to_str().unwrap()]);
        command.env("VIRTUAL_ENV", environment(django)).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.env("STATE_DIR", project.0.path()).env("STATIC_ROOT", "public").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(project.names(), expected, "{django:?}");
        // And so does the other way, of which the README tells.
        let output = project.command(&["--source", "plain", "--output", "again"]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let manifest = |folder| fs_err::read(project.path(folder).join("staticfiles.json")).unwrap();
        assert_eq!(
            Manifest::load(&project.path("again")).unwrap().paths,
            Manifest::load(&project.path("public")).unwrap().paths
        );
        assert_eq!(manifest("again"), manifest("public"));
    }
}

#[test]
fn the_finders_order_and_settings_hold_whatever_the_settings_print() {
    let more = "print('noise')\nimport sys, threading, time\nprint('more noise', file=sys.stderr)\n\
                threading.Thread(target=time.sleep, args=(300,)).start()\n\
                STATICFILES_DIRS += [('vendor', str(BASE_DIR / 'lib')), BASE_DIR / 'not-there']\n\
                STATIC_URL = '/assets/'\n";
    let project = Project::new(more);
    project.write("lib/a.js", "let a;");
    let said = project.collected(Django::Six, &["--django"]);
    assert_eq!(project.names(), set(&["both.css", "own.svg", "blog/blog.css", "vendor/a.js"]));
    let manifest = Manifest::load(&project.path("public")).unwrap();
    let hashed = |name: &str| manifest.paths[name].clone();
    assert_eq!(project.read(&format!("public/{}", hashed("both.css"))), "/* own */");
    assert!(said.contains("not-there: it is not there, and is left out"), "{said}");
    assert!(said.contains("Collected 4 files from 3 folders"), "{said}");
}

#[test]
fn the_settings_may_be_named_with_or_without_manage_py() {
    let project = Project::new("");
    project.write("blog/static/blog/blog.css", "a { color: red }");
    project.write("other.py", "from settings import *\nSTATICFILES_DIRS = []\n");
    project.collected(Django::Five2, &["--django", "--settings", "other"]);
    assert_eq!(project.names(), set(&["both.css", "blog/blog.css"]));
    fs_err::remove_file(project.path("manage.py")).unwrap();
    project.collected(Django::Five2, &["--django", "--settings", "settings"]);
    assert_eq!(project.names(), set(&["both.css", "blog/blog.css", "own.svg"]));
    let mut command = project.command(&["--django", "--output", "elsewhere"]);
    command.env("VIRTUAL_ENV", environment(Django::Five2)).env("DJANGO_SETTINGS_MODULE", "other");
    assert!(command.output().unwrap().status.success());
    assert_eq!(names(&project.path("elsewhere")), set(&["both.css", "blog/blog.css"]));
    let refusal = project.refused(Django::Five2, &["--django"], 2);
    assert!(refusal.contains("there is no manage.py"), "{refusal}");
}

#[test]
fn a_virtual_environment_beside_manage_py_is_found() {
    let project = Project::new("");
    std::os::unix::fs::symlink(environment(Django::Six), project.path(".venv")).unwrap();
    let output = project.command(&["--django"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(project.names().len(), 3);
}

#[test]
fn what_the_configuration_says_stays_and_the_difference_is_told() {
    let project = Project::new("");
    let text =
        "[static]\nprefix = \"/s/\"\ndirectory = \"here\"\n[collect]\nsources = [\"own\"]\nignore = [\"*.svg\"]\n";
    project.write("vestibule.toml", text);
    project.write("blog/static/blog/blog.css", "a { color: red }");
    let said = project.collected(Django::Six, &["--django"]);
    assert_eq!(names(&project.path("here")), set(&["both.css", "blog/blog.css", ".hidden"]));
    for expected in [
        "[static] prefix: it is \"/s/\" and stays, though STATIC_URL is \"/static/\"",
        "[static] directory: it is here and stays, though STATIC_ROOT is ",
        "[collect] ignore: it is [\"*.svg\"] and stays, though ",
        "[collect]: its sources and apps are not used",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn only_what_a_finder_lists_is_published() {
    let finder = "from django.contrib.staticfiles.finders import FileSystemFinder\n\n\n\
                  class Some(FileSystemFinder):\n    def list(self, ignore_patterns):\n        \
                  return [item for item in super().list(ignore_patterns) if item[0].endswith('.svg')]\n";
    let project = Project::new("STATICFILES_FINDERS = ['finders.Some']\n");
    project.write("finders.py", finder);
    project.collected(Django::Six, &["--django"]);
    assert_eq!(project.names(), set(&["own.svg"]));
    let refusal = project.refused(Django::Six, &["--django", "--save"], 2);
    assert!(refusal.contains("finders.Some takes 1 of its files, and not all"), "{refusal}");
    assert!(!project.path("vestibule.toml").exists());
}

// ---- what goes wrong

#[test]
fn a_project_that_does_not_load_is_told_with_its_place_and_a_hint() {
    for (settings, code, expected) in [
        (
            "SECRET_KEY = os.environ['SECRET_KEY']\n",
            2,
            &[
                "KeyError: 'SECRET_KEY'\n",
                "settings.py:10: SECRET_KEY = os.environ['SECRET_KEY']",
                "environment variable SECRET_KEY",
            ][..],
        ),
        (
            "from django.core.exceptions import ImproperlyConfigured\nraise ImproperlyConfigured('Set the DATABASE_URL environment variable')\n",
            2,
            &["settings.py:11: raise", "want the environment variable DATABASE_URL"],
        ),
        (
            "import no_such_package\n",
            1,
            &["ModuleNotFoundError", "settings.py:10: import", "is no_such_package installed"],
        ),
        ("x = = 1\n", 1, &["SyntaxError", "settings.py:10: x = = 1"]),
        (
            "INSTALLED_APPS += ['settings.nope']\n",
            1,
            &["No module named 'settings.nope'", "is settings.nope installed"],
        ),
        ("import sys\nsys.exit('not today')\n", 1, &["SystemExit: not today", "settings.py:11: sys.exit"]),
        ("INSTALLED_APPS += ['no_such_app']\n", 1, &["No module named 'no_such_app'", "is no_such_app installed"]),
        ("INSTALLED_APPS = []\n", 2, &["django.contrib.staticfiles is not in INSTALLED_APPS"]),
        (
            "class Odd(Exception):\n    def __str__(self):\n        raise ValueError\nraise Odd\n",
            1,
            &["Odd: (its message cannot be told: __str__ raised ValueError)", "settings.py:13: raise Odd"],
        ),
        (
            "raise Exception('half \\udc41 \\x1b]0;title\\x07')\n",
            1,
            &["Exception: half \\udc41 \\u{1b}]0;title\\u{7}\n"],
        ),
        (
            "STATICFILES_DIRS = ['/srv/st\\udce9tic']\n",
            2,
            &["Django answers with /srv/st\\udce9tic, which is not UTF-8 text", "rename the file or folder"],
        ),
        ("os._exit(3)\n", 1, &["ended without an answer (exit status: 3)"]),
        ("STATIC_URL = None\n", 2, &["STATIC_URL: it is not set"]),
        ("STATIC_URL = '/'\n", 2, &["STATIC_URL: \"/\" is not a URL prefix"]),
        ("STATIC_ROOT = None\n", 2, &["no output folder is given", "set STATIC_ROOT"]),
        (
            "STATICFILES_FINDERS = ['django.contrib.staticfiles.finders.DefaultStorageFinder']\n\
             STORAGES['default'] = {'BACKEND': 'bucket.Bucket'}\n",
            2,
            &["DefaultStorageFinder: it takes files from", "which is not a folder on this machine"],
        ),
    ] {
        let project = Project::new(settings);
        project.write(
            "bucket.py",
            "from django.core.files.storage import Storage\n\n\nclass Bucket(Storage):\n    base_location = 'bucket'\n\n    \
             def listdir(self, path):\n        return [], ['a.css']\n",
        );
        let refusal = project.refused(Django::Six, &["--django"], code);
        for expected in expected {
            assert!(refusal.contains(expected), "{settings}: {expected}: {refusal}");
        }
        assert!(!project.path("public").exists());
    }
}

#[test]
fn a_settings_module_that_is_not_there_is_a_mistake() {
    let project = Project::new("");
    for module in ["nope.settings", "nope", "blog.settings"] {
        let refusal = project.refused(Django::Six, &["--django", "--settings", module], 2);
        let expected = format!("error: there is no settings module {module}\n");
        assert!(refusal.starts_with(&expected) && refusal.contains("see --settings"), "{refusal}");
    }
}

#[test]
fn what_a_flag_says_is_not_doubted() {
    let project = Project::new("");
    let said = project.collected(Django::Six, &["--django", "--output", "elsewhere"]);
    assert!(!said.contains("warning"), "{said}");
    let said = project.collected(Django::Six, &["--django", "--output", "elsewhere", "--previous", "elsewhere"]);
    assert!(!said.contains("warning"), "{said}");
    let refusal = project.refused(Django::Six, &["--django", "--previous", "nowhere"], 2);
    assert!(refusal.contains("there is no release in nowhere"), "{refusal}");
    assert!(refusal.contains("name the output of an earlier run"), "{refusal}");
}

#[test]
fn doubtful_settings_are_told() {
    for (settings, expected) in [
        (
            "STATIC_URL = 'https://cdn.example.com/static/'\n",
            "STATIC_URL: \"https://cdn.example.com/static/\" is an address",
        ),
        (
            "STORAGES['staticfiles'] = {'BACKEND': 'django.contrib.staticfiles.storage.StaticFilesStorage'}\n",
            "reads no manifest",
        ),
    ] {
        let project = Project::new(settings);
        let said = project.collected(Django::Five2, &["--django"]);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_python_without_django_is_told_before_the_settings_are_blamed() {
    let project = Project::new("import no_such_package\n");
    let refusal = project.refused(Django::Six, &["--django", "--python", "/usr/bin/python3"], 2);
    assert!(refusal.contains("/usr/bin/python3 (Python 3.") && refusal.contains(" has no Django"), "{refusal}");
    let refusal = project.refused(Django::Six, &["--django", "--python", "nowhere/python"], 2);
    assert!(refusal.contains("cannot run nowhere/python"), "{refusal}");
}

// ---- saving

#[test]
fn saved_answers_need_no_python_and_no_secret() {
    for django in BOTH {
        let project = Project::new(
            "SECRET_KEY = os.environ['SECRET_KEY']\nINSTALLED_APPS.insert(0, 'django.contrib.admin')\n\
                                    INSTALLED_APPS += ['django.contrib.auth', 'django.contrib.contenttypes', 'django.contrib.messages']\n",
        );
        let mut command = project.command(&["--django", "--save"]);
        command.env("VIRTUAL_ENV", environment(django)).env("SECRET_KEY", "x").env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(!project.path("public").exists(), "nothing is collected");
        let text = project.read("vestibule.toml");
        for line in [
            "sources = [\"own\"]",
            "apps = [\"django.contrib.admin\", \"blog\"]",
            "directory = \"public\"",
            "prefix = \"/static/\"",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        // The packages as they lie in an image, and no program to run.
        let packages = environment(django).join("lib");
        fs_err::create_dir(project.path("image")).unwrap();
        std::os::unix::fs::symlink(packages, project.path("image/lib")).unwrap();
        let output = project.command(&[]).env("PATH", "/nowhere").env("VIRTUAL_ENV", "image").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let saved = Manifest::load(&project.path("public")).unwrap().paths;

        let mut command = project.command(&["--django", "--output", "asked"]);
        command.env("VIRTUAL_ENV", environment(django)).env("SECRET_KEY", "x").env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(saved, Manifest::load(&project.path("asked")).unwrap().paths, "{django:?}");
        assert!(!said(&output).contains("not used"), "the saved answers are Django's: {}", said(&output));
    }
}

#[test]
fn what_was_saved_is_told_in_the_format_asked_for() {
    let project = Project::new("STATICFILES_DIRS = [BASE_DIR / 'own', ('vendor', BASE_DIR / 'none')]\n");
    let output = project.collect(Django::Six, &["--django", "--save", "--format", "json"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let sound =
        serde_json::json!({ "version": 1, "outcome": "done", "numbers": { "sources": 2, "apps": 1 }, "error": null });
    for key in ["version", "outcome", "numbers", "error"] {
        assert_eq!(document[key], sound[key], "{document}");
    }
    assert!(document["findings"][0]["file"].as_str().unwrap().ends_with("none"), "{document}");
}

#[test]
fn a_prefix_that_no_configuration_can_say_is_not_saved() {
    let project = Project::new("STATICFILES_DIRS = [('a=b', BASE_DIR / 'own')]\n");
    let refusal = project.refused(Django::Six, &["--django", "--save"], 2);
    assert!(refusal.contains("cannot save 1 folder:\n") && refusal.contains("its prefix \"a=b\""), "{refusal}");
    assert!(!project.path("vestibule.toml").exists());
}

#[test]
fn saving_keeps_what_else_the_file_says() {
    let project = Project::new("");
    project.write("vestibule.toml", "# ours\n[collect]\nsources = [] # none yet\n\n[log]\nlevel = \"warn\"\n");
    project.collected(Django::Six, &["--django", "--save"]);
    let text = project.read("vestibule.toml");
    assert!(
        text.starts_with("# ours\n[collect]\nsources = [\"own\"] # none yet\napps = [\"blog\"]\n\n[log]\n"),
        "{text}"
    );
    // The file is not touched by what fails.
    project.write("broken.toml", "[collect\n");
    let refusal = project.refused(Django::Six, &["--django", "--save", "broken.toml"], 2);
    assert!(refusal.contains("cannot save to broken.toml: "), "{refusal}");
    assert_eq!(project.read("broken.toml"), "[collect\n");
}

#[test]
fn apps_are_saved_by_name_whichever_python_is_asked() {
    let project = Project::new(
        "INSTALLED_APPS.insert(0, 'django.contrib.admin')\n\
        INSTALLED_APPS += ['django.contrib.auth', 'django.contrib.contenttypes', 'django.contrib.messages']\n",
    );
    let python = Django::Six.program("python");
    let output = project.command(&["--django", "--save", "--python", python.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = project.read("vestibule.toml");
    assert!(text.contains("apps = [\"django.contrib.admin\", \"blog\"]"), "{text}");
    // Nothing else says where that Python is, so the file does, and the next run finds them.
    assert!(said(&output).contains("[collect] virtual_env: it is set to "), "{}", said(&output));
    assert!(
        said(&output).contains("Saved 1 source and 2 apps to vestibule.toml\n  `vestibule collect` needs no Django")
    );
    let output = project.command(&[]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(project.names().contains("admin/css/base.css"));
}

#[test]
fn what_was_saved_holds_where_a_virtual_environment_is_in_path_only() {
    // As with ENV PATH=/venv/bin:$PATH in a Dockerfile.
    let project = Project::new(
        "INSTALLED_APPS.insert(0, 'django.contrib.admin')\n\
        INSTALLED_APPS += ['django.contrib.auth', 'django.contrib.contenttypes', 'django.contrib.messages']\n",
    );
    let path = environment(Django::Six).join("bin");
    for arguments in [&["--django", "--save"][..], &[]] {
        let mut command = project.command(arguments);
        let output = command.env("PATH", &path).env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    assert!(project.names().contains("admin/css/base.css"));
    assert!(!project.read("vestibule.toml").contains("virtual_env"), "it is found without");
}

#[test]
fn a_file_cannot_be_saved_in_a_folder_that_is_not_there() {
    let project = Project::new("");
    let refusal = project.refused(Django::Six, &["--django", "--save=conf/vestibule.toml"], 2);
    assert!(refusal.contains("there is no folder conf\n"), "{refusal}");
}

// ---- apps by name

#[test]
fn apps_are_found_without_running_anything() {
    for django in BOTH {
        let project = Project::new("raise SystemExit('settings are not loaded')\n");
        project.write("blog/__init__.py", "raise SystemExit('nothing is imported')\n");
        let arguments = [
            "--app",
            "django.contrib.admin",
            "--app",
            "blog",
            "--app",
            "quiet",
            "--source",
            "own",
            "--output",
            "public",
        ];
        let said = project.collected(django, &arguments);
        assert!(said.contains("note: no static folder in quiet\n"), "{said}");
        let names = project.names();
        assert!(names.contains("admin/css/base.css") && names.contains("blog/blog.css"), "{names:?}");
        let both = Manifest::load(&project.path("public")).unwrap().paths["both.css"].clone();
        assert_eq!(project.read(&format!("public/{both}")), "/* own */", "sources come before apps");
    }
}

#[test]
fn an_app_that_is_not_there_is_a_mistake_with_the_nearest_name() {
    let project = Project::new("");
    let arguments = ["--app", "django.contrib.admni", "--app", "blgo", "--output", "public"];
    let refusal = project.refused(Django::Six, &arguments, 2);
    assert!(refusal.contains("cannot find 2 apps:\n  django.contrib.admni: "), "{refusal}");
    assert!(refusal.contains("did you mean \"django.contrib.admin\"?"), "{refusal}");
    assert!(refusal.contains("blgo: ") && refusal.contains("did you mean \"blog\"?"), "{refusal}");
}
