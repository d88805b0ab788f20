//! The entry of a file as it stands in the text.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::packed::Copies;
use super::super::{Carried, Clock, Entry, Needs};
use super::parts::Text;
use crate::http::encoding::DictionaryCoding;

/// An entry as it stands in the text; see [`Entry`].
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "they are those of an entry")]
pub struct EntryOnDisk<'t> {
    pub size: u64,
    #[serde(rename = "type", borrow)]
    pub media_type: Text<'t>,
    #[serde(borrow)]
    pub sha256: Text<'t>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Text<'t>>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub integrity: Text<'t>,
    #[serde(default, rename = "immutable", skip_serializing_if = "std::ops::Not::not")]
    pub is_immutable: bool,
    #[serde(default, skip_serializing_if = "Copies::is_empty")]
    pub variants: Copies,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub dictionary_for: Option<Text<'t>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) deltas: BTreeMap<String, BTreeMap<String, u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carried: Option<Box<CarriedOnDisk>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub twins: Vec<String>,
    #[serde(default, skip_serializing_if = "Needs::is_empty")]
    pub needs: Needs,
}

impl EntryOnDisk<'_> {
    /// The file that holds the bytes, as [`Entry::location`] has it.
    pub fn location<'a>(&'a self, name: &'a str) -> &'a str {
        self.stored.as_deref().unwrap_or(name)
    }

    /// As [`Entry::deltas`].
    pub fn deltas(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = (DictionaryCoding, u64)>)> {
        let known = |(token, size): (&String, &u64)| Some((DictionaryCoding::from_token(token)?, *size));
        self.deltas.iter().map(move |(dictionary, sizes)| (dictionary.as_str(), sizes.iter().filter_map(known)))
    }
}

#[derive(Debug, Deserialize, Serialize)]
struct CarriedOnDisk {
    plain: String,
    release: String,
    releases: u32,
    since: u64,
    /// Whether `since` is a `SOURCE_DATE_EPOCH`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dated: bool,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        EntryOnDisk::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EntryOnDisk::from(self).serialize(serializer)
    }
}

impl From<EntryOnDisk<'_>> for Entry {
    fn from(entry: EntryOnDisk<'_>) -> Self {
        let deltas = entry.deltas().map(|(dictionary, sizes)| (dictionary.to_owned(), sizes.collect())).collect();
        let carried = entry.carried.map(|carried| {
            let CarriedOnDisk { plain, release, releases, since, dated } = *carried;
            let clock = if dated { Clock::SourceDate } else { Clock::Machine };
            Carried { plain, release, releases, since, clock }
        });
        Self {
            size: entry.size,
            media_type: entry.media_type.into_owned(),
            sha256: entry.sha256.into_owned(),
            stored: entry.stored.map(Text::into_owned),
            integrity: entry.integrity.into_owned(),
            is_immutable: entry.is_immutable,
            variants: entry.variants.iter().collect(),
            dictionary_for: entry.dictionary_for.map(Text::into_owned),
            deltas,
            carried,
            twins: entry.twins,
            needs: entry.needs,
        }
    }
}

impl<'m> From<&'m Entry> for EntryOnDisk<'m> {
    fn from(entry: &'m Entry) -> Self {
        let tokens = |sizes: &BTreeMap<DictionaryCoding, u64>| {
            sizes.iter().map(|(coding, size)| (coding.token().to_owned(), *size)).collect()
        };
        let deltas = entry.deltas.iter().map(|(dictionary, sizes)| (dictionary.clone(), tokens(sizes))).collect();
        let carried = entry.carried.clone().map(|Carried { plain, release, releases, since, clock }| CarriedOnDisk {
            plain,
            release,
            releases,
            since,
            dated: clock == Clock::SourceDate,
        });
        Self {
            size: entry.size,
            media_type: entry.media_type.as_str().into(),
            sha256: entry.sha256.as_str().into(),
            stored: entry.stored.as_deref().map(Into::into),
            integrity: entry.integrity.as_str().into(),
            is_immutable: entry.is_immutable,
            variants: entry.variants.iter().map(|(coding, size)| (*coding, *size)).collect(),
            dictionary_for: entry.dictionary_for.as_deref().map(Into::into),
            deltas,
            carried: carried.map(Box::new),
            twins: entry.twins.clone(),
            needs: entry.needs.clone(),
        }
    }
}
