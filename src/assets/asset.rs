//! One file as clients see it, with every header of its answers ready.

use std::sync::Arc;
use std::time::SystemTime;

use ::http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    LAST_MODIFIED, VARY, X_CONTENT_TYPE_OPTIONS,
};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue, StatusCode};

use super::contents::{Content, Contents};
use super::inventory::{Form, Listed};
use crate::config::AssetsConfig;
use crate::http::Response;
use crate::http::accept::{self, Said};
use crate::http::conditional::Validators;
use crate::http::dictionary::{self, Digest, USE_AS_DICTIONARY};
use crate::http::encoding::{Accepted, Coding, ContentCoding};
use crate::http::header_rules::{Edits, HeaderRules};
use crate::manifest::json::hex;

/// What the operator wants of every answer.
#[derive(Debug)]
pub(super) struct Policy {
    plain: HeaderValue,
    fingerprinted: HeaderValue,
    /// What stands on every answer, found or not.
    always: HeaderMap,
    /// The prefix as a URL pattern, where a file may be a dictionary.
    dictionaries_below: Option<String>,
    most_ranges: usize,
    prefix: String,
    rules: Arc<HeaderRules>,
}

impl Policy {
    pub(super) fn new(config: &AssetsConfig, rules: &Arc<HeaderRules>) -> Self {
        let plain = match config.watch {
            true => "no-cache".to_owned(),
            false => format!("max-age={}, public", config.max_age.0.as_secs()),
        };
        let mut always = HeaderMap::new();
        always.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if config.allow_all_origins {
            always.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        Self {
            plain: HeaderValue::try_from(plain).expect("digits and letters are a header value"),
            fingerprinted: HeaderValue::from_static("max-age=315360000, public, immutable"),
            always,
            dictionaries_below: config.deltas.then(|| dictionary::escape(config.prefix.as_str())),
            most_ranges: config.max_ranges.get(),
            prefix: config.prefix.as_str().to_owned(),
            rules: Arc::clone(rules),
        }
    }

    /// What a file says of the later versions for which it may be a dictionary.
    fn use_as_dictionary(&self, file: &Listed) -> Option<HeaderValue> {
        let (prefix, pattern) = (self.dictionaries_below.as_ref()?, file.dictionary_for.as_ref()?);
        dictionary::use_as_dictionary(&format!("{prefix}{pattern}"))
    }

    /// Does what the operator's rules say of an answer that is no file's.
    pub(super) fn edit(&self, response: &mut Response, head: &Parts) {
        let status = response.status();
        self.rules.for_raw_path(head.uri.path()).apply(status, response.headers_mut());
    }

    /// What the operator's rules say of a file.
    fn edits(&self, file: &Listed) -> Edits {
        self.rules.for_path(&format!("{}{}", self.prefix, file.name))
    }

    /// The headers of every answer, whether something was found or not.
    pub(super) fn always(&self) -> &HeaderMap {
        &self.always
    }

    /// How long a name may be kept that means something else one day.
    pub(super) fn plain(&self) -> &HeaderValue {
        &self.plain
    }
}

/// One file, its compressed copies, and its deltas.
#[derive(Debug)]
pub(super) struct Asset {
    /// The file and its copies, the smallest first.
    variants: Vec<Variant>,
    /// The deltas, the smallest first, and each smaller than any variant.
    deltas: Vec<Variant>,
    modified: Option<SystemTime>,
    /// The headers of every answer about this file, errors included.
    always: HeaderMap,
    most_ranges: usize,
    twins: Option<Box<Twins>>,
}

/// The same picture in other formats, each as a file of its own with the URL of the one that has them.
#[derive(Debug)]
struct Twins {
    /// Of the image itself.
    media_type: HeaderValue,
    /// By media type, the smallest first, and each smaller than the image.
    others: Vec<(HeaderValue, Asset)>,
}

/// One representation of a file.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) form: Form,
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
    /// The answers for a file, or for one of those that may be sent in its place.
    pub(super) fn new(file: &Listed, twins: &[&Listed], contents: &Contents, policy: &Policy) -> Self {
        // Another format is worth nothing but its fewer bytes.
        let mut twins: Vec<&Listed> = twins.iter().copied().filter(|twin| twin.size < file.size).collect();
        twins.sort_by_key(|twin| (twin.size, &twin.name));
        let mut always = policy.always.clone();
        if let Some(vary) = vary(file, &twins) {
            always.insert(VARY, HeaderValue::from_static(vary));
        }
        let edits = policy.edits(file);
        edits.apply(StatusCode::BAD_REQUEST, &mut always);
        let mut asset = Self::with_headers(file, contents, policy, always, &edits);
        if !twins.is_empty() {
            let other = |twin: &&Listed| {
                let twin = twin.in_place_of(file);
                let mut other = Self::with_headers(&twin, contents, policy, asset.always.clone(), &edits);
                // A rule for the image's type says nothing of another format.
                for variant in &mut other.variants {
                    variant.headers.insert(CONTENT_TYPE, twin.media_type.clone());
                }
                (twin.media_type, other)
            };
            let others = twins.iter().map(other).collect();
            asset.twins = Some(Box::new(Twins { media_type: file.media_type.clone(), others }));
        }
        asset
    }

    fn with_headers(file: &Listed, contents: &Contents, policy: &Policy, always: HeaderMap, edits: &Edits) -> Self {
        let variant = |(form, size)| {
            let mut variant = Variant::new(file, form, size, contents.of(file, form, size), policy, &always);
            edits.apply(StatusCode::OK, &mut variant.headers);
            edits.apply(StatusCode::NOT_MODIFIED, &mut variant.not_modified);
            variant
        };
        let mut all: Vec<_> = file.bodies().map(variant).collect();
        all.sort_by_key(|variant| (variant.size, variant.form));
        let (deltas, variants) = all.into_iter().partition(|variant| matches!(variant.form, Form::Delta(..)));
        Self { variants, deltas, modified: file.modified, always, most_ranges: policy.most_ranges, twins: None }
    }

    /// The file, or the twin that suits a client better.
    ///
    /// A twin is for those that name its type: old browsers say `image/*` and cannot show it, and who says `*/*` wants
    /// what the name promises. The image itself is the answer where nothing suits, as it would be if there were no
    /// choice (RFC 9110, section 12.5.1). No `Content-Location` tells which one was sent: a cache has its tag and `Vary`.
    pub(super) fn suited(&self, headers: &HeaderMap) -> &Self {
        let Some(twins) = &self.twins else { return self };
        let mut best = (0, self);
        for (media_type, twin) in &twins.others {
            if let Said::ByName(quality) = accept::said_of(headers, media_type.as_bytes())
                && quality > best.0
            {
                best = (quality, twin);
            }
        }
        // It is the largest, and so the last among equals.
        let own = accept::said_of(headers, twins.media_type.as_bytes()).quality();
        if own.is_some_and(|quality| quality > best.0) { self } else { best.1 }
    }

    /// The headers of every answer about this file, errors included.
    pub(super) fn always(&self) -> &HeaderMap {
        &self.always
    }

    /// The variant that suits a client best, or the delta from the dictionary that it has; `None` when it
    /// refuses all.
    pub(super) fn best(&self, accepted: &Accepted, dictionary: Option<&Digest>) -> Option<&Variant> {
        // The deltas are smaller than all others, so this goes from the smallest on.
        let candidates = || dictionary.into_iter().flat_map(|dictionary| self.deltas(dictionary)).chain(&self.variants);
        accepted.best(candidates().map(|variant| variant.form.coding())).and_then(|place| candidates().nth(place))
    }

    /// The deltas from a dictionary, the smallest first.
    pub(super) fn deltas(&self, dictionary: &Digest) -> impl Iterator<Item = &Variant> {
        let is_from = move |variant: &&Variant| matches!(&variant.form, Form::Delta(_, from) if from == dictionary);
        self.deltas.iter().filter(is_from)
    }

    /// Whether it has deltas at all.
    pub(super) fn has_deltas(&self) -> bool {
        !self.deltas.is_empty()
    }

    /// The file itself and its copies, the smallest first.
    pub(super) fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// How many ranges one request may ask for.
    pub(super) fn most_ranges(&self) -> usize {
        self.most_ranges
    }

    /// What a variant is known by.
    pub(super) fn validators<'a>(&self, variant: &'a Variant) -> Validators<'a> {
        Validators { tag: &variant.tag, modified: self.modified }
    }
}

impl Variant {
    fn new(file: &Listed, form: Form, size: u64, content: Content, policy: &Policy, always: &HeaderMap) -> Self {
        let tag = tag(&file.sha256, form);
        let cache_control = if file.is_fingerprinted { &policy.fingerprinted } else { &policy.plain };
        let mut not_modified = always.clone();
        not_modified.remove(X_CONTENT_TYPE_OPTIONS);
        not_modified.insert(CACHE_CONTROL, cache_control.clone());
        not_modified.insert(ETAG, tag.clone());

        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, file.media_type.clone());
        headers.insert(CONTENT_LENGTH, size.into());
        let token = match form.coding() {
            ContentCoding::Identity => None,
            ContentCoding::Alone(coding) => Some(coding.token()),
            ContentCoding::Delta(coding) => Some(coding.token()),
        };
        if let Some(token) = token {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(token));
        }
        headers.insert(CACHE_CONTROL, cache_control.clone());
        headers.insert(ETAG, tag.clone());
        if let Some(modified) = file.modified {
            let date = httpdate::fmt_http_date(modified);
            headers.insert(LAST_MODIFIED, HeaderValue::try_from(date).expect("a date is a header value"));
        }
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.extend(always.clone());
        if let Some(value) = policy.use_as_dictionary(file) {
            // A copy that a browser has from before it could be a dictionary becomes one with the next 304.
            not_modified.insert(USE_AS_DICTIONARY, value.clone());
            headers.insert(USE_AS_DICTIONARY, value);
        }
        Self { form, size, content, tag, headers, not_modified }
    }
}

/// On what the answers for a file depend. It stands on every one of them: a cache that has a plain one must not give
/// it to all.
fn vary(file: &Listed, twins: &[&Listed]) -> Option<&'static str> {
    Some(match (file.deltas.is_empty(), file.variants.is_empty(), twins.is_empty()) {
        (true, true, true) => return None,
        (true, true, false) => "Accept",
        (true, false, true) => "Accept-Encoding",
        (true, false, false) => "Accept-Encoding, Accept",
        (false, _, true) => "Accept-Encoding, Available-Dictionary",
        (false, _, false) => "Accept-Encoding, Available-Dictionary, Accept",
    })
}

/// A strong tag from the content, so that it is the same on every host and after every deploy that did
/// not change the file. Each coding has its own, and each dictionary: they are different bytes, and a
/// range of one must not be glued to a range of the other.
fn tag(sha256: &str, form: Form) -> HeaderValue {
    let digest = sha256.get(..32).expect("the inventory lets only whole hashes pass");
    let text = match form {
        Form::Whole => format!("\"{digest}\""),
        Form::Copy(Coding::Brotli) => format!("\"{digest}-br\""),
        Form::Copy(Coding::Zstd) => format!("\"{digest}-zst\""),
        Form::Copy(Coding::Gzip) => format!("\"{digest}-gz\""),
        Form::Delta(coding, dictionary) => {
            format!("\"{digest}-{}-{}\"", coding.token(), hex(&dictionary[..8]))
        }
    };
    HeaderValue::try_from(text).expect("hexadecimal digits are a header value")
}
