//! One file as clients see it: its representations, with what the headers of each have that is not shared (`kinds`).

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use ::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, X_CONTENT_TYPE_OPTIONS};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use httpdate::HttpDate;

use super::contents::{Content, Contents};
use super::inventory::{Form, Listed};
use super::kinds::{Kind, Kinds, Own, Traits};
use crate::config::AssetsConfig;
use crate::http::Response;
use crate::http::accept::{self, Said};
use crate::http::conditional::Validators;
use crate::http::dictionary::{self, Digest};
use crate::http::encoding::{Accepted, Coding, ContentCoding};
use crate::http::header_rules::{Edits, HeaderRules};
use crate::http::lines::Lines;
use crate::manifest::digits::hex;

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
        if self.rules.is_empty() {
            Edits::default()
        } else {
            self.rules.for_path(&format!("{}{}", self.prefix, file.name))
        }
    }

    /// The headers of every answer, whether something was found or not.
    pub(super) fn always(&self) -> &HeaderMap {
        &self.always
    }

    /// How long a name may be kept that means something else one day.
    pub(super) fn plain(&self) -> &HeaderValue {
        &self.plain
    }

    /// How long a name may be kept that changes with its content.
    pub(super) fn fingerprinted(&self) -> &HeaderValue {
        &self.fingerprinted
    }
}

/// One file, its compressed copies, and its deltas.
#[derive(Debug)]
pub(super) struct Asset {
    bodies: Arc<Bodies>,
    kind: Arc<Kind>,
    use_as_dictionary: Option<Box<HeaderValue>>,
    most_ranges: usize,
    twins: Option<Box<Twins>>,
}

/// Every representation of a file, which may have several names.
#[derive(Debug)]
pub(super) struct Bodies {
    /// The file and its copies, the smallest first.
    variants: Box<[Variant]>,
    /// The deltas, the smallest first, and each smaller than any variant.
    deltas: Box<[Variant]>,
    modified: Option<(SystemTime, HeaderValue)>,
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
    tag: HeaderValue,
    length: HeaderValue,
}

impl Asset {
    /// The answers for a file, or for one of those that may be sent in its place.
    pub(super) fn new(file: &Listed, twins: &[&Listed], contents: &Contents, kinds: &Kinds<'_>) -> Self {
        // Another format is worth nothing but its fewer bytes.
        let mut twins: Vec<&Listed> = twins.iter().copied().filter(|twin| twin.size < file.size).collect();
        twins.sort_by_key(|twin| (twin.size, &twin.name));
        let policy = kinds.policy();
        let traits = Traits {
            media_type: file.media_type.clone(),
            is_fingerprinted: file.is_fingerprinted,
            vary: vary(file, &twins),
            is_dated: file.modified.is_some(),
            is_dictionary: false,
            edits: policy.edits(file),
            type_in_place: None,
        };
        let mut asset = Self::of_kind(file, contents, kinds, traits.clone());
        if !twins.is_empty() {
            let other = |twin: &&Listed| {
                let type_in_place = Some(twin.media_type.clone());
                let traits = Traits { is_dated: twin.modified.is_some(), type_in_place, ..traits.clone() };
                (twin.media_type.clone(), Self::of_kind(&twin.in_place_of(file), contents, kinds, traits))
            };
            let others = twins.iter().map(other).collect();
            asset.twins = Some(Box::new(Twins { media_type: file.media_type.clone(), others }));
        }
        asset
    }

    fn of_kind(file: &Listed, contents: &Contents, kinds: &Kinds<'_>, traits: Traits) -> Self {
        let use_as_dictionary = kinds.policy().use_as_dictionary(file);
        Self {
            bodies: kinds.bodies(file, || Bodies::new(file, contents)),
            kind: kinds.of(Traits { is_dictionary: use_as_dictionary.is_some(), ..traits }),
            use_as_dictionary: use_as_dictionary.map(Box::new),
            most_ranges: kinds.policy().most_ranges,
            twins: None,
        }
    }

    /// The file, or the twin that suits a client better.
    ///
    /// A twin is for those that name its type: old browsers say `image/*` and cannot show it, and who says `*/*` wants
    /// what the name promises. The image itself is the answer where nothing suits, as it would be if there were no
    /// choice (RFC 9110, section 12.5.1). No `Content-Location` tells which one was sent: a cache has its tag and `Vary`.
    pub(super) fn suited(&self, headers: &HeaderMap) -> &Self {
        let Some(twins) = &self.twins else { return self };
        // A twin has no copies.
        if !Accepted::read(headers).allows(ContentCoding::Identity) {
            return self;
        }
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
        self.kind.always()
    }

    /// All headers of a 200.
    pub(super) fn headers(&self, variant: &Variant) -> HeaderMap {
        self.kind.whole(variant.form.coding(), &self.own(variant))
    }

    /// All headers of a 304.
    pub(super) fn not_modified(&self, variant: &Variant) -> HeaderMap {
        self.kind.not_modified(&self.own(variant))
    }

    /// Writes the head of a 200 or a 304; `false` if there is none that is ready.
    pub(super) fn write_head(&self, status: StatusCode, variant: &Variant, lines: &mut Lines) -> bool {
        self.kind.write(status, variant.form.coding(), &self.own(variant), lines)
    }

    fn own<'a>(&'a self, variant: &'a Variant) -> Own<'a> {
        Own {
            tag: &variant.tag,
            length: &variant.length,
            modified: self.bodies.modified.as_ref().map(|(_, date)| date),
            use_as_dictionary: self.use_as_dictionary.as_deref(),
        }
    }

    /// The variant that suits a client best, or the delta from the dictionary that it has; `None` when it
    /// refuses all.
    pub(super) fn best(&self, accepted: &Accepted, dictionary: Option<&Digest>) -> Option<&Variant> {
        let coding = |variant: &Variant| variant.form.coding();
        let Some(dictionary) = dictionary else {
            return self.variants().get(accepted.best(self.variants().iter().map(coding))?);
        };
        // The deltas are smaller than all others, so this goes from the smallest on.
        let candidates = || self.deltas(dictionary).chain(self.variants());
        accepted.best(candidates().map(coding)).and_then(|place| candidates().nth(place))
    }

    /// The deltas from a dictionary, the smallest first.
    pub(super) fn deltas(&self, dictionary: &Digest) -> impl Iterator<Item = &Variant> {
        let is_from = move |variant: &&Variant| matches!(&variant.form, Form::Delta(_, from) if from == dictionary);
        self.bodies.deltas.iter().filter(is_from)
    }

    /// Whether it has deltas at all.
    pub(super) fn has_deltas(&self) -> bool {
        !self.bodies.deltas.is_empty()
    }

    /// The file itself and its copies, the smallest first.
    pub(super) fn variants(&self) -> &[Variant] {
        &self.bodies.variants
    }

    /// How many ranges one request may ask for.
    pub(super) fn most_ranges(&self) -> usize {
        self.most_ranges
    }

    /// What a variant is known by.
    pub(super) fn validators<'a>(&self, variant: &'a Variant) -> Validators<'a> {
        Validators { tag: &variant.tag, modified: self.bodies.modified.as_ref().map(|(modified, _)| *modified) }
    }
}

impl Bodies {
    /// All texts are parts of one: for files in their tens of thousands that is most of what they take besides the
    /// contents.
    fn new(file: &Listed, contents: &Contents) -> Self {
        let mut all: Vec<_> = file.bodies().enumerate().collect();
        all.sort_unstable_by_key(|(_, (form, size))| (*size, *form));
        let mut texts = Texts::with_room_for(all.len());
        let digest = hex(&file.sha256[..16]);
        let date =
            file.modified.map(|modified| (modified, texts.add(|text| write!(text, "{}", HttpDate::from(modified)))));
        let places: Vec<_> = all
            .iter()
            .map(|(_, (form, size))| {
                let (mut digits, form) = (itoa::Buffer::new(), *form);
                let length = digits.format(*size);
                (texts.add(|text| tag(&digest, form, length, text)), texts.add(|text| text.write_str(length)))
            })
            .collect();
        let texts = texts.finish();
        let value = |place: Range<usize>| {
            HeaderValue::from_maybe_shared(texts.slice(place)).expect("tags, dates and numbers are header values")
        };
        let mut variants = Vec::with_capacity(1 + file.variants.len());
        let mut deltas = Vec::with_capacity(file.deltas.len());
        for ((number, (form, size)), (tag, length)) in all.into_iter().zip(places) {
            let (tag, length) = (value(tag), value(length));
            let like = if matches!(form, Form::Delta(..)) { &mut deltas } else { &mut variants };
            like.push(Variant { form, size, content: contents.of(file, number), tag, length });
        }
        let modified = date.map(|(modified, date)| (modified, value(date)));
        Self { variants: variants.into(), deltas: deltas.into(), modified }
    }

    /// Whether a file has these.
    pub(super) fn are_of(&self, file: &Listed) -> bool {
        let all = || self.variants.iter().chain(&self.deltas);
        let has = |(form, size)| all().any(|variant| variant.form == form && variant.size == size);
        let modified = self.modified.as_ref().map(|(modified, _)| *modified);
        modified == file.modified && all().count() == file.bodies().count() && file.bodies().all(has)
    }
}

/// Texts one behind the other.
struct Texts(String);

impl Texts {
    /// What a date takes, and a body's tag and length.
    fn with_room_for(bodies: usize) -> Self {
        Self(String::with_capacity(29 + 72 * bodies))
    }

    /// The place of what is written.
    fn add(&mut self, write: impl FnOnce(&mut String) -> fmt::Result) -> Range<usize> {
        let start = self.0.len();
        write(&mut self.0).expect("a string takes everything");
        start..self.0.len()
    }

    fn finish(mut self) -> Bytes {
        self.0.shrink_to_fit();
        self.0.into()
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
/// range of one must not be glued to a range of the other. Nor to one of a copy that another version of the compressor
/// made, or another level: of that the length tells nearly always.
fn tag(digest: &str, form: Form, length: &str, text: &mut String) -> fmt::Result {
    let end = match form {
        Form::Whole => return ["\"", digest, "\""].into_iter().try_for_each(|part| text.write_str(part)),
        Form::Copy(Coding::Brotli) => "-br",
        Form::Copy(Coding::Zstd) => "-zst",
        Form::Copy(Coding::Gzip) => "-gz",
        Form::Delta(coding, dictionary) => {
            return write!(text, "\"{digest}-{}-{}-{length}\"", coding.token(), hex(&dictionary[..8]));
        }
    };
    ["\"", digest, end, "-", length, "\""].into_iter().try_for_each(|part| text.write_str(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_little_besides_its_bytes() {
        assert!(size_of::<Asset>() <= 48, "{} for each name", size_of::<Asset>());
        assert!(size_of::<Variant>() <= 168, "{} for each representation", size_of::<Variant>());
    }
}
