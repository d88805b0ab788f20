//! The folder of uploads, Django's `MEDIA_ROOT`: files that visitors brought, shown to other visitors.
//!
//! Whoever uploads a page or a script must not get it run as a part of the site. So each answer says that
//! its type is not to be guessed, and only types that can do nothing are shown in the browser: pictures,
//! sound, video, plain text, PDF. All others are for saving. Scripts and stylesheets are sent as plain text,
//! since a page could load them even then. What is shown may run no script, and mostly has no part in the site
//! at all: it is in a sandbox.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use ::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use ::http::request::Parts;
use ::http::{HeaderMap, Method, StatusCode};
use percent_encoding::percent_decode_str;
use tracing::{debug, error, warn};

use super::beneath::{self, Missing, Name};
use super::respond::{self, Asked};
use super::{FilesError, folder};
use crate::config::MediaConfig;
use crate::http::media_type::content_type;
use crate::http::{RequestId, Response};
use crate::logging::seldom::Seldom;

/// What a shown file may do: nothing but be shown. The page that a browser makes around a picture, a sound or a
/// video loads the file itself and has a style of its own.
const POLICY: &str = "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'";
/// Moreover, it has no part in the site: no origin, and so no cookies.
const SANDBOX: &str = "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; sandbox";

/// The uploads.
#[derive(Debug)]
pub struct Media {
    folder: PathBuf,
    prefix: String,
    cache_control: HeaderValue,
    inline: Vec<String>,
    most_ranges: usize,
}

impl Media {
    /// Looks for the folder. One request may ask for `most_ranges` of a file.
    ///
    /// # Errors
    /// When it is not there, or may not be used.
    pub fn open(config: &MediaConfig, most_ranges: NonZeroUsize) -> Result<Option<Self>, FilesError> {
        let Some(directory) = &config.directory else { return Ok(None) };
        let seconds = config.max_age.0.as_secs();
        let cache_control = HeaderValue::try_from(format!("max-age={seconds}, public"));
        Ok(Some(Self {
            folder: folder(directory, "[media]")?,
            prefix: config.prefix.as_str().to_owned(),
            cache_control: cache_control.expect("digits and letters are a header value"),
            inline: config.inline.iter().map(|extension| extension.to_ascii_lowercase()).collect(),
            most_ranges: most_ranges.get(),
        }))
    }

    /// Whether a request's raw path is answered here and nowhere else.
    pub fn owns(&self, raw_path: &str) -> bool {
        raw_path.starts_with(&self.prefix) || self.below_prefix(raw_path).is_some()
    }

    /// The decoded rest of a path under the prefix, which may be encoded as well.
    fn below_prefix<'p>(&self, raw_path: &'p str) -> Option<Cow<'p, [u8]>> {
        match percent_decode_str(raw_path).into() {
            Cow::Borrowed(path) => path.strip_prefix(self.prefix.as_bytes()).map(Cow::Borrowed),
            Cow::Owned(path) => path.strip_prefix(self.prefix.as_bytes()).map(|rest| Cow::Owned(rest.to_owned())),
        }
    }

    /// Answers a request whose path [`Media::owns`].
    pub async fn respond(&self, head: &Parts, id: RequestId) -> Response {
        let mut response = self.answer(head, id).await;
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn answer(&self, head: &Parts, id: RequestId) -> Response {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            let mut response = respond::refuse(StatusCode::METHOD_NOT_ALLOWED, &head.method);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let Some(name) = self.below_prefix(head.uri.path()).and_then(|path| Name::parse(&path)) else {
            return respond::refuse(StatusCode::NOT_FOUND, &head.method);
        };
        let asked = Asked { method: &head.method, headers: &head.headers, most_ranges: self.most_ranges };
        match respond::open(&self.folder, &name).await {
            Ok(opened) => respond::with_file(opened, self.headers(&name.file_name()), asked),
            Err(cause) => {
                let missing = Missing::of(&cause);
                tell(missing, &cause, id);
                respond::refuse(missing.status(), &head.method)
            }
        }
    }

    /// The headers of a whole file, but for those that the file itself decides.
    fn headers(&self, file_name: &str) -> HeaderMap {
        let known = content_type(file_name);
        let extension = file_name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        let is_wanted = extension.is_some_and(|extension| self.inline.contains(&extension));
        let nature = if is_wanted { Nature::Harmless } else { Nature::of(&known) };
        let sent = if nature == Nature::Loadable { "text/plain; charset=utf-8".into() } else { known };

        let mut headers = HeaderMap::new();
        let policy = match sent.split_once('/') {
            // A viewer may refuse to start in a sandbox; what is in the file it keeps apart from the site by itself.
            Some(("application", "pdf")) => None,
            // From a sandbox Chromium's player may not load the file: it has another origin.
            Some(("audio" | "video", _)) => Some(POLICY),
            _ => Some(SANDBOX),
        };
        let media_type = HeaderValue::try_from(sent.as_ref()).expect("media types are header values");
        headers.insert(CONTENT_TYPE, media_type);
        headers.insert(CACHE_CONTROL, self.cache_control.clone());
        if nature != Nature::Harmless {
            headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
        }
        if let Some(policy) = policy {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        }
        headers
    }
}

/// Tells why an upload is not sent, though it is there. Anybody may ask for it again and again, so each reason is told
/// now and then.
fn tell(missing: Missing, cause: &io::Error, id: RequestId) {
    static REASONS: [Seldom; 4] = [const { Seldom::new() }; 4];
    let (reason, what) = match missing {
        Missing::Gone => return,
        Missing::Link => (0, "a link in [media] directory leads out of it and is not followed"),
        Missing::Forbidden => (1, "an upload may not be read; let vestibule's user read it"),
        Missing::Busy => (2, "an upload cannot be opened"),
        Missing::Fault => (3, "an upload cannot be read"),
    };
    let hint = (missing == Missing::Busy).then_some(beneath::TOO_MANY_FILES);
    match REASONS[reason].note(Instant::now()) {
        None => debug!(%id, %cause, hint, "{what}"),
        Some(untold) if missing.is_the_machines() => error!(%id, %cause, hint, untold, "{what}"),
        Some(untold) => warn!(%id, %cause, untold, "{what}"),
    }
}

/// What a type can do in a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// It is shown, and does nothing.
    Harmless,
    /// It could run or look like a page of the site, or nothing is known about it.
    Active,
    /// Moreover, a page could load it although it is for saving.
    Loadable,
}

impl Nature {
    /// Decided by what is known to be harmless, and not by what is known to be dangerous: what no browser
    /// shows is saved anyway, so a type too few costs nothing.
    fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.split_once('/') {
            _ if essence.ends_with("+xml") => Self::Active,
            Some(("image" | "audio" | "video" | "font", _)) => Self::Harmless,
            Some(("text", "plain" | "csv" | "markdown" | "vtt")) => Self::Harmless,
            Some(("application", "pdf" | "json" | "geo+json" | "octet-stream")) => Self::Harmless,
            Some((_, "css" | "x-component")) => Self::Loadable,
            Some((_, subtype)) if subtype.contains("javascript") || subtype.contains("ecmascript") => Self::Loadable,
            _ => Self::Active,
        }
    }
}

/// For the start-up line and for `check`.
impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} under {}", self.folder.display(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_do_nothing_is_shown() {
        for (name, expected) in [
            ("a.jpg", Nature::Harmless),
            ("a.webp", Nature::Harmless),
            ("a.mp4", Nature::Harmless),
            ("a.mp3", Nature::Harmless),
            ("a.ogg", Nature::Harmless),
            ("a.pdf", Nature::Harmless),
            ("a.txt", Nature::Harmless),
            ("a.csv", Nature::Harmless),
            ("a.json", Nature::Harmless),
            ("a.woff2", Nature::Harmless),
            ("a", Nature::Harmless), // unknown, which no browser shows
            ("a.html", Nature::Active),
            ("a.HTM", Nature::Active),
            ("a.xhtml", Nature::Active),
            ("a.shtml", Nature::Active),
            ("a.svg", Nature::Active),
            ("a.svgz", Nature::Active),
            ("a.xml", Nature::Active),
            ("a.xsl", Nature::Active),
            ("a.rss", Nature::Active),
            ("a.mht", Nature::Active),
            ("a.swf", Nature::Active),
            ("a.zip", Nature::Active), // saved either way
            ("a.docx", Nature::Active),
            ("a.js", Nature::Loadable),
            ("a.mjs", Nature::Loadable),
            ("a.css", Nature::Loadable),
            ("a.htc", Nature::Loadable),
            ("a.jpg.html", Nature::Active),
        ] {
            assert_eq!(Nature::of(&content_type(name)), expected, "for {name}: {}", content_type(name));
        }
    }
}
