//! Files that the application hands over: it answers with a name instead of the file's bytes, and is free
//! for the next request while the file is sent.
//!
//! `X-Accel-Redirect` names a path below one that is declared in `[[send_file]]`, as for nginx's `internal`
//! locations; `X-Sendfile` names a file by its absolute path. Nothing outside of the declared folders is
//! ever sent, and no client can ask for a declared path by itself: there is no such address.
//!
//! What the application says of the file holds: its type, its name, how long it may be kept, its tag. Of nginx's further
//! words `X-Accel-Charset` is heeded. `X-Accel-Expires` is about a cache, and there is none; `X-Accel-Limit-Rate` is not
//! done.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TRANSFER_ENCODING,
};
use ::http::request::Parts;
use ::http::{HeaderMap, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;
use tracing::{debug, warn};

use super::beneath::{Missing, Name, Opened};
use super::respond::{self, Asked};
use super::{FilesError, folder};
use crate::config::SendFileConfig;
use crate::http::media_type::{content_type, with_charset};
use crate::http::{FileHeader, HandedOver, RequestId, Response};
use crate::logging::seldom::Seldom;

/// The folders from which the application may have files sent.
#[derive(Debug, Default)]
pub struct SendFile {
    /// The longest path first, since it is the one that is meant.
    folders: Vec<Folder>,
    most_ranges: usize,
}

#[derive(Debug)]
struct Folder {
    /// What `X-Accel-Redirect` begins with; none for `X-Sendfile` alone.
    path: Option<String>,
    directory: PathBuf,
    /// The same with links resolved, since the application may have resolved them.
    resolved: PathBuf,
}

/// What of a request must be kept for the case that its answer becomes a file.
#[derive(Debug)]
pub struct Kept {
    method: Method,
    headers: HeaderMap,
}

impl Kept {
    /// Mostly nothing but the method.
    pub fn of(head: &Parts) -> Self {
        let is_kept = |name: &HeaderName| {
            matches!(*name, RANGE | IF_RANGE | IF_NONE_MATCH | IF_MODIFIED_SINCE | IF_MATCH | IF_UNMODIFIED_SINCE)
        };
        let kept = head.headers.iter().filter(|(name, _)| is_kept(name));
        let headers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { method: head.method.clone(), headers }
    }
}

/// Why a file is not sent. The client gets the status, the log all the rest.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("nothing is declared for files that the application hands over; write {hint}")]
    NothingDeclared { hint: String },
    #[error("the path is not below any `path` under [[send_file]]; write {hint}")]
    OtherPath { hint: String },
    #[error("the file is not below any `directory` under [[send_file]]; write {hint}")]
    OtherFolder { hint: String },
    #[error("it is no name of a file below a folder: no part may begin with a dot, nor the whole end with a slash")]
    NoName,
    #[error("{} cannot be sent{}", .file.display(), hint(*.missing))]
    Missing { file: PathBuf, missing: Missing, source: std::io::Error },
}

fn hint(missing: Missing) -> &'static str {
    match missing {
        Missing::Gone | Missing::Fault => "",
        Missing::Busy => ": too many files and connections are open at once",
        Missing::Link => ": a link in its path leads out of the folder",
        Missing::Forbidden => ": let the user that vestibule runs as read it",
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Missing { missing, .. } => missing.status(),
            // Application and configuration do not agree.
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Tells the log. Anybody may ask for the same page again and again, so each kind is told now and then.
    fn tell(&self, handed_over: &HandedOver, id: RequestId) {
        let header = handed_over.header;
        let value = String::from_utf8_lossy(handed_over.value.as_bytes());
        let cause = std::error::Error::source(self).map(ToString::to_string);
        match self.kind().note(Instant::now()) {
            None => debug!(%id, %header, %value, cause, "{self}"),
            Some(untold) => warn!(%id, %header, %value, cause, untold, "{self}"),
        }
    }

    fn kind(&self) -> &'static Seldom {
        static KINDS: [Seldom; 9] = [const { Seldom::new() }; 9];
        let kind = match self {
            Self::NothingDeclared { .. } => 0,
            Self::OtherPath { .. } => 1,
            Self::OtherFolder { .. } => 2,
            Self::NoName => 3,
            Self::Missing { missing: Missing::Gone, .. } => 4,
            Self::Missing { missing: Missing::Link, .. } => 5,
            Self::Missing { missing: Missing::Forbidden, .. } => 6,
            Self::Missing { missing: Missing::Busy, .. } => 7,
            Self::Missing { missing: Missing::Fault, .. } => 8,
        };
        &KINDS[kind]
    }
}

impl SendFile {
    /// Looks for the folders. One request may ask for `most_ranges` of a file.
    ///
    /// # Errors
    /// When one is not there, or may not be used.
    pub fn open(config: &[SendFileConfig], most_ranges: NonZeroUsize) -> Result<Self, FilesError> {
        const TABLE: &str = "[[send_file]]";
        let mut folders = Vec::new();
        for SendFileConfig { path, directory } in config {
            let directory = folder(directory, TABLE)?;
            let resolved = fs_err::canonicalize(&directory).map_err(|cause| FilesError::Unreadable {
                folder: directory.clone(),
                table: TABLE,
                cause,
            })?;
            folders.push(Folder { path: path.as_ref().map(|path| path.as_str().to_owned()), directory, resolved });
        }
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.path.as_ref().map_or(0, String::len)));
        Ok(Self { folders, most_ranges: most_ranges.get() })
    }

    /// Sends the file that an answer of the application hands over, if it does; else the answer as it is.
    pub async fn settle(&self, mut response: Response, kept: &Kept, id: RequestId) -> Response {
        let Some(handed_over) = response.extensions_mut().remove::<HandedOver>() else { return response };
        match self.find(&handed_over).await {
            Ok((opened, name)) => {
                describe(response.headers_mut(), &name, handed_over.charset.as_ref());
                send(response, opened, kept, self.most_ranges)
            }
            Err(refusal) => {
                refusal.tell(&handed_over, id);
                if matches!(refusal, Refusal::NothingDeclared { .. }) {
                    return response;
                }
                // Nothing of the application's answer goes out: what it says is about the file.
                let extensions = std::mem::take(response.extensions_mut());
                let mut refused = respond::refuse(refusal.status(), &kept.method);
                refused.extensions_mut().extend(extensions);
                refused
            }
        }
    }

    async fn find(&self, handed_over: &HandedOver) -> Result<(Opened, Name), Refusal> {
        let bytes = unfold(handed_over.value.as_bytes());
        if self.folders.is_empty() {
            return Err(Refusal::NothingDeclared { hint: suggestion(handed_over.header, &bytes) });
        }
        match handed_over.header {
            FileHeader::XAccelRedirect => {
                // What follows a question mark is for a location that is a program, and these are files.
                let path = bytes.split(|byte| *byte == b'?').next().unwrap_or_default();
                let path: Cow<'_, [u8]> = percent_decode(path).into();
                let path = &*utf8(&path);
                let mut declared = self.folders.iter();
                let found = declared.find_map(|Folder { path: prefix, directory, .. }| {
                    Some((directory, path.strip_prefix(prefix.as_deref()?.as_bytes())?))
                });
                let (folder, rest) =
                    found.ok_or_else(|| Refusal::OtherPath { hint: suggestion(handed_over.header, path) })?;
                open(folder, rest).await
            }
            FileHeader::XSendfile => {
                // A name may have a percent sign in it, and may have been encoded: the disk knows.
                let as_written = self.find_absolute(&utf8(&bytes)).await;
                if !matches!(as_written, Err(Refusal::Missing { missing: Missing::Gone, .. })) || !bytes.contains(&b'%')
                {
                    return as_written;
                }
                let decoded: Cow<'_, [u8]> = percent_decode(&bytes).into();
                self.find_absolute(&utf8(&decoded)).await.or(as_written)
            }
        }
    }

    async fn find_absolute(&self, name: &[u8]) -> Result<(Opened, Name), Refusal> {
        let path = Path::new(std::ffi::OsStr::from_bytes(name));
        let declared = self.folders.iter().filter_map(|Folder { directory, resolved, .. }| {
            let rest = path.strip_prefix(directory).or_else(|_| path.strip_prefix(resolved));
            Some((directory, rest.ok()?))
        });
        // The innermost folder, where one lies in another.
        let found = declared.min_by_key(|(_, rest)| rest.as_os_str().len());
        let (folder, rest) =
            found.ok_or_else(|| Refusal::OtherFolder { hint: suggestion(FileHeader::XSendfile, name) })?;
        open(folder, rest.as_os_str().as_bytes()).await
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }
}

async fn open(folder: &Path, rest: &[u8]) -> Result<(Opened, Name), Refusal> {
    let name = Name::parse(rest).ok_or(Refusal::NoName)?;
    match respond::open(folder, &name).await {
        Ok(opened) => Ok((opened, name)),
        Err(source) => {
            let file = folder.join(std::ffi::OsStr::from_bytes(rest));
            Err(Refusal::Missing { file, missing: Missing::of(&source), source })
        }
    }
}

/// Makes the headers of the application's answer those of the file.
fn describe(headers: &mut HeaderMap, name: &Name, charset: Option<&HeaderValue>) {
    // Those speak of the body that the file replaces.
    for header in [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, TRANSFER_ENCODING] {
        headers.remove(header);
    }
    let said = headers.get(CONTENT_TYPE).filter(|value| !value.is_empty()).cloned();
    let media_type = said.unwrap_or_else(|| {
        HeaderValue::try_from(content_type(&name.file_name()).as_ref()).expect("media types are header values")
    });
    let in_charset = charset.and_then(|charset| with_charset(&media_type, charset));
    headers.insert(CONTENT_TYPE, in_charset.unwrap_or(media_type));
}

/// Puts a file in the place of the answer's body. The application's connection goes with the body: what is
/// left of it, if anything, is not waited for. Some applications announce the length of the file and send
/// nothing.
fn send(response: Response, opened: Opened, kept: &Kept, most_ranges: usize) -> Response {
    let (head, body) = response.into_parts();
    drop(body);
    let headers = head.headers;
    let is_read = matches!(kept.method, Method::GET | Method::HEAD);
    // A status of its own is kept, as that of an error page. Those with which no whole file can go are as if the
    // application had said nothing.
    let status = match head.status {
        status if status.is_redirection() || status.is_success() => StatusCode::OK,
        status => status,
    };
    let mut response = if is_read && status == StatusCode::OK {
        respond::with_file(opened, headers, Asked { method: &kept.method, headers: &kept.headers, most_ranges })
    } else {
        // Preconditions and ranges are about reading what is there (RFC 9110, sections 13.2.1 and 14.2).
        respond::with_all(status, opened, headers, &kept.method)
    };
    response.extensions_mut().extend(head.extensions);
    response
}

/// Django writes a header value that is not Latin-1 as an encoded word (RFC 2047): `=?utf-8?b?…?=`.
fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let decoded = || {
        let (charset, rest) =
            std::str::from_utf8(value).ok()?.strip_prefix("=?")?.strip_suffix("?=")?.split_once('?')?;
        let (form, text) = rest.split_once('?')?;
        match (charset.to_ascii_lowercase().as_str(), form) {
            ("utf-8", "b" | "B") => STANDARD.decode(text).ok(),
            ("utf-8", "q" | "Q") => {
                Some(percent_decode(text.replace('%', "=25").replace('_', " ").replace('=', "%").as_bytes()).collect())
            }
            _ => None,
        }
    };
    decoded().map_or(Cow::Borrowed(value), Cow::Owned)
}

/// The name in UTF-8, which is what disks have nowadays. Django writes Latin-1 where that can be done.
fn utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Cow::Borrowed(bytes),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes().into(),
    }
}

/// What to write so that the file would have been found.
fn suggestion(header: FileHeader, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match header {
        FileHeader::XAccelRedirect => {
            let first = text.trim_start_matches('/').split('/').next().unwrap_or_default();
            format!("[[send_file]] with path = \"/{first}/\" and directory = the folder of these files")
        }
        FileHeader::XSendfile => {
            let folder = Path::new(text.as_ref()).parent().unwrap_or(Path::new("/srv/mysite/private"));
            format!("[[send_file]] with directory = {:?}", folder.display().to_string())
        }
    }
}

/// For the start-up line and for `check`.
impl fmt::Display for SendFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, folder) in self.folders.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{}", folder.directory.display())?;
            if let Some(path) = &folder.path {
                write!(f, " as {path}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_for_a_file_that_is_not_sent_is_told_now_and_then() {
        let hint = String::new;
        let missing =
            |missing| Refusal::Missing { file: PathBuf::new(), missing, source: std::io::ErrorKind::NotFound.into() };
        let kinds = [
            Refusal::NothingDeclared { hint: hint() },
            Refusal::OtherPath { hint: hint() },
            Refusal::OtherFolder { hint: hint() },
            Refusal::NoName,
            missing(Missing::Gone),
            missing(Missing::Link),
            missing(Missing::Forbidden),
            missing(Missing::Busy),
            missing(Missing::Fault),
        ];
        let now = Instant::now();
        for kind in &kinds {
            let told = [kind.kind().note(now), kind.kind().note(now)];
            assert_eq!(told, [Some(0), None], "for {kind:?}");
        }
    }

    #[test]
    fn a_name_is_read_however_django_writes_it() {
        for (written, read) in [
            (&b"/protected/a.pdf"[..], "/protected/a.pdf"),
            ("/protected/łódź.pdf".as_bytes(), "/protected/łódź.pdf"),
            (b"/protected/caf\xe9.pdf", "/protected/café.pdf"),
            (b"=?utf-8?b?L3Byb3RlY3RlZC/FgsOzZMW6LnBkZg==?=", "/protected/łódź.pdf"),
            (b"=?utf-8?q?/protected/a_=E2=82=AC=5F100%=2Epdf?=", "/protected/a €_100%.pdf"),
            (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
            (b"=?", "=?"),
        ] {
            assert_eq!(String::from_utf8_lossy(&utf8(&unfold(written))), read);
        }
    }
}
