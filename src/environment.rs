//! What the environment says, beside the options of the configuration. Nothing else reads it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::collect::{Clock, Now, Surroundings};
use crate::config::load::Loaded;

/// The environment, without what is not text: no option of ours can be that.
pub(crate) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The time by which a release is dated: that of a reproducible build, if there is one. A text that is no time is
/// given back.
pub(crate) fn now() -> Result<Now, String> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(SystemTime::now().into()) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let time = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    let now = time.map(|time| Now { time, clock: Clock::SourceDate });
    now.ok_or_else(|| text.to_string_lossy().into_owned())
}

/// Where compressed copies are kept: the configured folder, none if that is "", or else the user's own folder for
/// such things, if there is one (XDG Base Directory Specification).
pub(crate) fn cache_folder(configured: Option<PathBuf>) -> Option<PathBuf> {
    cache_folder_by(configured, |name| std::env::var_os(name))
}

fn cache_folder_by(configured: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // A relative path in these variables is to be ignored.
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_the_user =
        || Some(folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?.join("vestibule"));
    configured.or_else(of_the_user).filter(|path| !path.as_os_str().is_empty())
}

/// What `collect` must know of the machine to find Python and its modules.
pub(crate) fn surroundings(loaded: &Loaded) -> Surroundings {
    let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Surroundings {
        virtual_env: std::env::var_os("VIRTUAL_ENV").filter(|path| !path.is_empty()).map(PathBuf::from),
        path: std::env::var_os("PATH"),
        settings_module: text("DJANGO_SETTINGS_MODULE"),
        config_file: loaded.file.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_operator_says_or_the_user_keeps_such_things() {
        for (configured, xdg, home, expected) in [
            (Some("/srv/cache"), "/xdg", "/home/anna", Some("/srv/cache")),
            (Some("cache"), "/xdg", "/home/anna", Some("cache")),
            (Some(""), "/xdg", "/home/anna", None),
            (None, "/xdg", "/home/anna", Some("/xdg/vestibule")),
            (None, "", "/home/anna", Some("/home/anna/.cache/vestibule")),
            (None, "relative", "/home/anna", Some("/home/anna/.cache/vestibule")),
            (None, "", "", None), // a system user without a home
        ] {
            let variable = |name: &str| Some(if name == "HOME" { home } else { xdg }.into());
            let folder = cache_folder_by(configured.map(PathBuf::from), variable);
            assert_eq!(folder, expected.map(PathBuf::from), "{configured:?} {xdg:?} {home:?}");
        }
        assert_eq!(cache_folder_by(None, |_| None), None);
    }
}
