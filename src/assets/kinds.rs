//! What the answers about many files have in common, made ready once for each kind of file.
//!
//! Only a few headers are a file's own: its tag, its length, its date and its pattern as a dictionary. All others are
//! the same for every file of its kind, and there are few kinds: a set of whole headers for each representation would
//! be most of the memory that a large site takes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG,
    LAST_MODIFIED, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::asset::{Bodies, Policy};
use super::inventory::{Listed, Sha256Digest};
use crate::http::dictionary::USE_AS_DICTIONARY;
use crate::http::encoding::{Coding, ContentCoding, DictionaryCoding};
use crate::http::header_rules::Edits;
use crate::http::lines::{self, Lines};

/// Stands where a file's own value goes.
const OPEN: HeaderValue = HeaderValue::from_static("");

/// All that the headers of a file depend on, but for what is its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Traits {
    pub(super) media_type: HeaderValue,
    pub(super) is_fingerprinted: bool,
    /// On what the answers depend. It stands on every one of them: a cache that has a plain one must not give it to all.
    pub(super) vary: Option<&'static str>,
    pub(super) is_dated: bool,
    pub(super) is_dictionary: bool,
    /// What the operator's rules come to.
    pub(super) edits: Edits,
    /// The type of an image that is sent in place of another: a rule for the other's type says nothing of it.
    pub(super) type_in_place: Option<HeaderValue>,
}

/// The headers of all files with the same traits.
#[derive(Debug)]
pub(super) struct Kind {
    /// On every answer about such a file, errors included.
    always: HeaderMap,
    /// Of a 200, by coding.
    whole: [Head; CODINGS],
    /// Of a 304: those of the 200 that a cache must learn again (RFC 9110, section 15.4.5). Not `Last-Modified`, since
    /// there is a tag.
    not_modified: Head,
}

/// The head of an answer, but for what is a file's own.
#[derive(Debug)]
struct Head {
    fields: HeaderMap,
    /// The same as lines of HTTP/1.1. To write it field by field would be a tenth of what a small file costs.
    block: Option<Block>,
}

/// A head as lines of HTTP/1.1: texts, and what of a file's own follows each.
#[derive(Debug)]
struct Block(Vec<(Vec<u8>, Option<OwnField>)>);

/// A field that each file has of its own.
#[derive(Debug, Clone, Copy)]
enum OwnField {
    Tag,
    Length,
    Modified,
    UseAsDictionary,
}

/// What is a file's own.
#[derive(Debug)]
pub(super) struct Own<'v> {
    pub(super) tag: &'v HeaderValue,
    pub(super) length: &'v HeaderValue,
    pub(super) modified: Option<&'v HeaderValue>,
    pub(super) use_as_dictionary: Option<&'v HeaderValue>,
}

/// Every kind so far, and the representations of every file.
#[derive(Debug)]
pub(super) struct Kinds<'p> {
    policy: &'p Policy,
    known: Mutex<FxHashMap<Traits, Arc<Kind>>>,
    /// By the hash of the file.
    bodies: Mutex<FxHashMap<Sha256Digest, Arc<Bodies>>>,
}

impl<'p> Kinds<'p> {
    pub(super) fn new(policy: &'p Policy) -> Self {
        Self { policy, known: Mutex::default(), bodies: Mutex::default() }
    }

    pub(super) fn policy(&self) -> &'p Policy {
        self.policy
    }

    pub(super) fn of(&self, traits: Traits) -> Arc<Kind> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = known.get(&traits) {
            return Arc::clone(kind);
        }
        let kind = Arc::new(Kind::new(&traits, self.policy));
        known.insert(traits, Arc::clone(&kind));
        kind
    }

    /// The representations of a file; made, unless another name has the same ones.
    pub(super) fn bodies(&self, file: &Listed, make: impl FnOnce() -> Bodies) -> Arc<Bodies> {
        let lock = || self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bodies) = lock().get(&file.sha256).filter(|bodies| bodies.are_of(file)) {
            return Arc::clone(bodies);
        }
        let bodies = Arc::new(make());
        lock().insert(file.sha256, Arc::clone(&bodies));
        bodies
    }
}

/// A value that counts no references. Those of a [`Kind`] are copied by nearly every request, and all cores would count
/// on the same line of the cache. There are as many as there are media types, and they are kept for good.
fn uncounted(value: &HeaderValue) -> HeaderValue {
    static VALUES: Mutex<BTreeSet<&'static [u8]>> = Mutex::new(BTreeSet::new());
    let mut values = VALUES.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = values.get(value.as_bytes()).copied().unwrap_or_else(|| {
        let kept: &'static [u8] = Vec::leak(value.as_bytes().to_vec());
        values.insert(kept);
        kept
    });
    HeaderValue::from_maybe_shared(Bytes::from_static(kept)).expect("it was one before")
}

const CODINGS: usize = 1 + Coding::ALL.len() + DictionaryCoding::ALL.len();

/// Every coding of a body.
fn codings() -> [ContentCoding; CODINGS] {
    let [br, zstd, gzip] = Coding::ALL.map(ContentCoding::Alone);
    let [dcb, dcz] = DictionaryCoding::ALL.map(ContentCoding::Delta);
    [ContentCoding::Identity, br, zstd, gzip, dcb, dcz]
}

/// Its number among [`codings`].
fn number_of(coding: ContentCoding) -> usize {
    match coding {
        ContentCoding::Identity => 0,
        ContentCoding::Alone(Coding::Brotli) => 1,
        ContentCoding::Alone(Coding::Zstd) => 2,
        ContentCoding::Alone(Coding::Gzip) => 3,
        ContentCoding::Delta(DictionaryCoding::Brotli) => 4,
        ContentCoding::Delta(DictionaryCoding::Zstd) => 5,
    }
}

impl Kind {
    fn new(traits: &Traits, policy: &Policy) -> Self {
        let mut always = policy.always().clone();
        if let Some(vary) = traits.vary {
            always.insert(VARY, HeaderValue::from_static(vary));
        }
        traits.edits.apply(StatusCode::BAD_REQUEST, &mut always);
        let cache_control = uncounted(if traits.is_fingerprinted { policy.fingerprinted() } else { policy.plain() });
        let whole = codings().map(|coding| Head::new(StatusCode::OK, whole(traits, coding, &cache_control, &always)));

        let mut not_modified = always.clone();
        not_modified.remove(X_CONTENT_TYPE_OPTIONS);
        not_modified.insert(CACHE_CONTROL, cache_control);
        not_modified.insert(ETAG, OPEN);
        if traits.is_dictionary {
            // A copy that a browser has from before it could be a dictionary becomes one with the next 304.
            not_modified.insert(USE_AS_DICTIONARY, OPEN);
        }
        traits.edits.apply(StatusCode::NOT_MODIFIED, &mut not_modified);
        Self { always, whole, not_modified: Head::new(StatusCode::NOT_MODIFIED, not_modified) }
    }

    /// The headers of every answer, errors included.
    pub(super) fn always(&self) -> &HeaderMap {
        &self.always
    }

    /// The headers of a 200, with a file's own.
    pub(super) fn whole(&self, coding: ContentCoding, own: &Own<'_>) -> HeaderMap {
        own.put_into(self.whole[number_of(coding)].fields.clone())
    }

    /// Writes the head of a 200 or a 304, with a file's own; `false` if that has to be done field by field.
    pub(super) fn write(&self, status: StatusCode, coding: ContentCoding, own: &Own<'_>, lines: &mut Lines) -> bool {
        let (head, told) = match status {
            StatusCode::NOT_MODIFIED => (&self.not_modified, None),
            _ => (&self.whole[number_of(coding)], coding.token()),
        };
        let Some(block) = &head.block else { return false };
        block.write(own, &mut lines.text);
        lines.coding = told;
        true
    }

    /// The headers of a 304, with a file's own.
    pub(super) fn not_modified(&self, own: &Own<'_>) -> HeaderMap {
        own.put_into(self.not_modified.fields.clone())
    }
}

impl Own<'_> {
    /// Puts what is a file's own into its places. To copy a finished map is two allocations, and neither that nor this
    /// walk hashes anything. No rule can take one of these away, or set it.
    fn put_into(&self, mut headers: HeaderMap) -> HeaderMap {
        for (name, value) in headers.iter_mut().filter(|(_, value)| value.is_empty()) {
            if let Some(own) = OwnField::of(name).and_then(|field| self.value_of(field)) {
                value.clone_from(own);
            }
        }
        headers
    }

    fn value_of(&self, field: OwnField) -> Option<&HeaderValue> {
        match field {
            OwnField::Tag => Some(self.tag),
            OwnField::Length => Some(self.length),
            OwnField::Modified => self.modified,
            OwnField::UseAsDictionary => self.use_as_dictionary,
        }
    }
}

impl OwnField {
    fn of(name: &HeaderName) -> Option<Self> {
        Some(match *name {
            ETAG => Self::Tag,
            CONTENT_LENGTH => Self::Length,
            LAST_MODIFIED => Self::Modified,
            _ if *name == USE_AS_DICTIONARY => Self::UseAsDictionary,
            _ => return None,
        })
    }
}

impl Head {
    fn new(status: StatusCode, fields: HeaderMap) -> Self {
        // What the connection or the site adds to an answer must not stand there twice.
        let is_whole = ![CONNECTION, DATE, STRICT_TRANSPORT_SECURITY].iter().any(|name| fields.contains_key(name));
        let block = is_whole.then(|| Block::new(status, &fields));
        Self { fields, block }
    }
}

impl Block {
    fn new(status: StatusCode, fields: &HeaderMap) -> Self {
        let (mut text, mut parts) = (Vec::new(), Vec::new());
        lines::status(status, &mut text);
        for (name, value) in fields {
            match OwnField::of(name).filter(|_| value.is_empty()) {
                None => lines::field(name.as_str(), value.as_bytes(), &mut text),
                Some(place) => {
                    text.extend_from_slice(name.as_str().as_bytes());
                    text.extend_from_slice(b": ");
                    parts.push((std::mem::replace(&mut text, b"\r\n".to_vec()), Some(place)));
                }
            }
        }
        parts.push((text, None));
        Self(parts)
    }

    fn write(&self, own: &Own<'_>, out: &mut Vec<u8>) {
        // Room for all of it most often, so that it need not be moved while it grows.
        out.reserve(512);
        for (text, place) in &self.0 {
            out.extend_from_slice(text);
            if let Some(value) = place.and_then(|place| own.value_of(place)) {
                out.extend_from_slice(value.as_bytes());
            }
        }
    }
}

fn whole(traits: &Traits, coding: ContentCoding, cache_control: &HeaderValue, always: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, uncounted(&traits.media_type));
    headers.insert(CONTENT_LENGTH, OPEN);
    if let Some(token) = coding.token() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(token));
    }
    headers.insert(CACHE_CONTROL, cache_control.clone());
    headers.insert(ETAG, OPEN);
    if traits.is_dated {
        headers.insert(LAST_MODIFIED, OPEN);
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.extend(always.clone());
    if traits.is_dictionary {
        headers.insert(USE_AS_DICTIONARY, OPEN);
    }
    traits.edits.apply(StatusCode::OK, &mut headers);
    if let Some(media_type) = &traits.type_in_place {
        headers.insert(CONTENT_TYPE, uncounted(media_type));
    }
    headers
}
