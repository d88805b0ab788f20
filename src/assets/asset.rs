//! One file as clients see it, with every header of its answers ready.

use std::time::SystemTime;

use ::http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    LAST_MODIFIED, VARY, X_CONTENT_TYPE_OPTIONS,
};
use ::http::{HeaderMap, HeaderValue};

use super::contents::{Content, Contents};
use super::inventory::Listed;
use crate::config::AssetsConfig;
use crate::http::conditional::Validators;
use crate::http::encoding::{Accepted, Coding};

/// What the operator wants of every answer.
#[derive(Debug)]
pub(super) struct Policy {
    plain: HeaderValue,
    fingerprinted: HeaderValue,
    /// What stands on every answer, found or not.
    always: HeaderMap,
}

impl Policy {
    pub(super) fn new(config: &AssetsConfig) -> Self {
        let plain = format!("max-age={}, public", config.max_age.0.as_secs());
        let mut always = HeaderMap::new();
        always.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if config.allow_all_origins {
            always.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        Self {
            plain: HeaderValue::try_from(plain).expect("digits and letters are a header value"),
            fingerprinted: HeaderValue::from_static("max-age=315360000, public, immutable"),
            always,
        }
    }

    /// The headers of every answer, whether something was found or not.
    pub(super) fn always(&self) -> &HeaderMap {
        &self.always
    }
}

/// One file and its compressed copies.
#[derive(Debug)]
pub(super) struct Asset {
    /// The file and its copies, the smallest first.
    variants: Vec<Variant>,
    modified: Option<SystemTime>,
    /// The headers of every answer about this file, errors included.
    always: HeaderMap,
}

/// One representation of a file.
#[derive(Debug)]
pub(super) struct Variant {
    /// `None` for the file itself.
    pub(super) coding: Option<Coding>,
    pub(super) size: u64,
    pub(super) content: Content,
    pub(super) tag: HeaderValue,
    /// All headers of a 200. An answer gets a clone: copying a finished map is two allocations and no
    /// hashing, while inserting ten headers one by one hashes ten names.
    pub(super) headers: HeaderMap,
    /// All headers of a 304: those of the 200 that a cache must learn again (RFC 9110, section 15.4.5).
    /// Not `Last-Modified`, since there is a tag.
    pub(super) not_modified: HeaderMap,
}

impl Asset {
    pub(super) fn new(file: &Listed, contents: &Contents, policy: &Policy) -> Self {
        let mut always = policy.always.clone();
        if !file.variants.is_empty() {
            always.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        let copies = file.variants.iter().map(|(coding, size)| (Some(*coding), *size));
        let mut variants: Vec<_> = std::iter::once((None, file.size))
            .chain(copies)
            .map(|(coding, size)| Variant::new(file, coding, size, contents.of(file, coding, size), policy, &always))
            .collect();
        variants.sort_by_key(|variant| (variant.size, variant.coding));
        Self { variants, modified: file.modified, always }
    }

    /// The headers of every answer about this file, errors included.
    pub(super) fn always(&self) -> &HeaderMap {
        &self.always
    }

    /// The variant that suits a client best; `None` when it refuses all.
    pub(super) fn best(&self, accepted: &Accepted) -> Option<&Variant> {
        accepted.best(self.variants.iter().map(|variant| variant.coding)).map(|place| &self.variants[place])
    }

    /// The file itself and its copies, the smallest first.
    pub(super) fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// What a variant is known by.
    pub(super) fn validators<'a>(&self, variant: &'a Variant) -> Validators<'a> {
        Validators { tag: &variant.tag, modified: self.modified }
    }

    /// Whether there is anything but the file itself.
    pub(super) fn has_copies(&self) -> bool {
        self.variants.len() > 1
    }
}

impl Variant {
    fn new(
        file: &Listed,
        coding: Option<Coding>,
        size: u64,
        content: Content,
        policy: &Policy,
        always: &HeaderMap,
    ) -> Self {
        let tag = tag(&file.sha256, coding);
        let cache_control = if file.is_fingerprinted { &policy.fingerprinted } else { &policy.plain };
        let mut not_modified = always.clone();
        not_modified.remove(X_CONTENT_TYPE_OPTIONS);
        not_modified.insert(CACHE_CONTROL, cache_control.clone());
        not_modified.insert(ETAG, tag.clone());

        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, file.media_type.clone());
        headers.insert(CONTENT_LENGTH, size.into());
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
        }
        headers.insert(CACHE_CONTROL, cache_control.clone());
        headers.insert(ETAG, tag.clone());
        if let Some(modified) = file.modified {
            let date = httpdate::fmt_http_date(modified);
            headers.insert(LAST_MODIFIED, HeaderValue::try_from(date).expect("a date is a header value"));
        }
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.extend(always.clone());
        Self { coding, size, content, tag, headers, not_modified }
    }
}

/// A strong tag from the content, so that it is the same on every host and after every deploy that did
/// not change the file. Each coding has its own: they are different bytes, and a range of one must not
/// be glued to a range of the other.
fn tag(sha256: &str, coding: Option<Coding>) -> HeaderValue {
    let suffix = match coding {
        None => "",
        Some(Coding::Brotli) => "-br",
        Some(Coding::Zstd) => "-zst",
        Some(Coding::Gzip) => "-gz",
    };
    let digest = sha256.get(..32).expect("the inventory lets only whole hashes pass");
    HeaderValue::try_from(format!("\"{digest}{suffix}\"")).expect("hexadecimal digits are a header value")
}
