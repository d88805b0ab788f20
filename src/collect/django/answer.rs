//! What the probe answers: the other side of `probe.py`.

use std::path::Path;

use serde::Deserialize;

/// The whole document.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Reply {
    /// It went wrong.
    Trouble {
        /// What.
        error: Box<Trouble>,
    },
    /// The answer.
    Answer(Box<Answer>),
}

/// What Django says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Answer {
    /// Its version.
    pub(super) django: String,
    /// Where its Python keeps its modules: the virtual environment, or a prefix such as `/usr/local`.
    pub(super) environment: String,
    /// The settings module.
    pub(super) settings: String,
    pub(super) static_url: Option<String>,
    pub(super) static_root: Option<String>,
    pub(super) storage: Storage,
    /// The patterns that `collectstatic` leaves out.
    pub(super) ignore: Vec<String>,
    pub(super) folders: Vec<FinderFolder>,
}

/// `STORAGES["staticfiles"]`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Storage {
    pub(super) name: String,
    /// Whether `{% static %}` looks names up in a manifest.
    pub(super) reads_manifest: bool,
    /// Whether it is a folder.
    pub(super) is_local: bool,
    pub(super) javascript_modules: bool,
}

/// A folder from which a finder takes files.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct FinderFolder {
    pub(super) finder: String,
    /// The class of its storage, for messages.
    pub(super) storage: String,
    pub(super) prefix: String,
    /// `None` for a storage that is no folder.
    pub(super) path: Option<String>,
    /// The app whose `static` folder it is.
    pub(super) app: Option<String>,
    pub(super) exists: bool,
    /// The files that the finder lists, where that is not everything in the folder.
    pub(super) only: Option<Vec<String>>,
    /// A file that the finder lists, and that the storage has somewhere else than in its folder.
    pub(super) elsewhere: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Trouble {
    kind: Kind,
    /// The class of the exception.
    #[serde(rename = "type")]
    class: String,
    message: String,
    /// The last place in the project's own code.
    file: Option<String>,
    line: Option<u32>,
    code: Option<String>,
    /// The environment variable that is missing.
    variable: Option<String>,
    /// The module that is missing.
    module: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    NoDjango,
    OldDjango,
    NoSettings,
    /// The settings module is not there; its name is the message.
    NoSettingsModule,
    NoStaticfiles,
    /// A text of the settings, or the name of a file, is not Unicode; it is the message.
    NotUnicode,
    #[default]
    Exception,
}

impl Trouble {
    /// One line that says what, and one that says where.
    pub(super) fn tell(&self, python: &Path) -> String {
        let python = python.display();
        let message = printable(&self.message);
        match self.kind {
            Kind::NoDjango => format!("{python} (Python {message}) has no Django"),
            Kind::OldDjango => format!("Django {message} is too old to be asked; 4.2 is the first"),
            Kind::NoSettings => "it is not known which settings the project has".to_owned(),
            Kind::NoSettingsModule => format!("there is no settings module {message}"),
            Kind::NotUnicode => format!("Django answers with {message}, which is not UTF-8 text"),
            Kind::NoStaticfiles => "django.contrib.staticfiles is not in INSTALLED_APPS".to_owned(),
            Kind::Exception => {
                let place = match (self.file.as_deref().map(printable), self.line) {
                    (Some(file), Some(line)) => format!("\n  {file}:{line}"),
                    (Some(file), None) => format!("\n  {file}"),
                    _ => String::new(),
                };
                let code = self.code.as_deref().filter(|code| !code.is_empty() && !place.is_empty());
                let code = code.map_or_else(String::new, |code| format!(": {}", printable(code)));
                let class = printable(&self.class);
                format!("the Django project does not load: {class}: {message}{place}{code}")
            }
        }
    }

    pub(super) fn is_operators_mistake(&self) -> bool {
        self.kind != Kind::Exception || self.variable.is_some()
    }

    pub(super) fn hint(&self) -> String {
        match (self.kind, &self.variable, &self.module) {
            (Kind::NoDjango, ..) => {
                "name the project's Python with --python, or activate its virtual environment".to_owned()
            }
            (Kind::OldDjango, ..) => "name the folders with --source and --app instead".to_owned(),
            (Kind::NoSettings, ..) => {
                "name them with --settings mysite.settings, or manage.py with --django path/to/manage.py".to_owned()
            }
            (Kind::NoSettingsModule, ..) => {
                "see --settings; without it, $DJANGO_SETTINGS_MODULE or manage.py names the module".to_owned()
            }
            (Kind::NotUnicode, ..) => {
                "rename the file or folder, or mend the setting: no URL and no manifest can carry it".to_owned()
            }
            (Kind::NoStaticfiles, ..) => "add it, or name the folders with --source and --app".to_owned(),
            (Kind::Exception, Some(variable), _) => format!(
                "the settings want the environment variable {}; set it, or run with --save where it is set: `collect` \
                 then needs no settings",
                printable(variable)
            ),
            (Kind::Exception, None, Some(module)) => {
                format!("is {} installed for this Python? --python names another", printable(module))
            }
            (Kind::Exception, None, None) => {
                "`manage.py check` should end well first; or run with --save where it does: `collect` then needs no \
                 settings"
                    .to_owned()
            }
        }
    }
}

/// A text that may go to a terminal: of what would move its cursor or colour it, only the ends of lines stay.
pub(super) fn printable(text: &str) -> String {
    let written = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(written).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_project_says_cannot_move_the_cursor() {
        let trouble = trouble(
            r#"{"error": {"kind": "exception", "type": "E\u001b[1m", "message": "two\nlines\u001b]0;x\u0007\r\u009b", "file": "/a\u001b.py",
                "line": 1, "code": "\u0008x", "variable": null, "module": "m\u001b"}}"#,
        );
        let told = trouble.tell(Path::new("python3"));
        let expected = "the Django project does not load: E\\u{1b}[1m: two\nlines\\u{1b}]0;x\\u{7}\\r\\u{9b}\n  \
                        /a\\u{1b}.py:1: \\u{8}x";
        assert_eq!(told, expected);
        assert_eq!(trouble.hint(), "is m\\u{1b} installed for this Python? --python names another");
    }

    fn trouble(json: &str) -> Trouble {
        match serde_json::from_str(json).expect(json) {
            Reply::Trouble { error } => *error,
            Reply::Answer(answer) => panic!("no trouble: {answer:?}"),
        }
    }

    #[test]
    fn a_missing_variable_is_told_with_its_place_and_what_to_do() {
        let trouble = trouble(
            r#"{"error": {"kind": "exception", "type": "KeyError", "message": "'SECRET_KEY'", "file": "/app/site/settings.py",
                "line": 12, "code": "SECRET_KEY = os.environ[\"SECRET_KEY\"]", "variable": "SECRET_KEY", "module": null}}"#,
        );
        let expected = "the Django project does not load: KeyError: 'SECRET_KEY'\n  \
                        /app/site/settings.py:12: SECRET_KEY = os.environ[\"SECRET_KEY\"]";
        assert_eq!(trouble.tell(Path::new("python3")), expected);
        assert!(trouble.hint().contains("environment variable SECRET_KEY"), "{}", trouble.hint());
        assert!(trouble.is_operators_mistake());
    }

    #[test]
    fn each_trouble_has_its_own_words() {
        let told = |kind: &str| {
            let trouble =
                trouble(&format!(r#"{{"error": {{"kind": "{kind}", "type": "Refusal", "message": "3.9"}}}}"#));
            assert!(trouble.is_operators_mistake() || kind == "exception", "{kind}");
            (trouble.tell(Path::new("/v/bin/python")), trouble.hint())
        };
        for (kind, what, hint) in [
            ("no_django", "/v/bin/python (Python 3.9) has no Django", "--python"),
            ("old_django", "Django 3.9 is too old", "--source"),
            ("no_settings", "not known which settings", "--settings"),
            ("no_settings_module", "there is no settings module 3.9", "see --settings"),
            ("no_staticfiles", "not in INSTALLED_APPS", "--app"),
            ("exception", "does not load: Refusal: 3.9", "manage.py check"),
        ] {
            let (told, advice) = told(kind);
            assert!(told.contains(what) && advice.contains(hint), "{kind}: {told}: {advice}");
        }
    }
}
