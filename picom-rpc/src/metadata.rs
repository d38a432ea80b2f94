//! What travels beside the arguments of a call: a small map of texts and bytes, such as a trace id. Bounded (PROTOCOL
//! §3.5), and not passed on to nested calls by itself.

use bytes::Bytes;
use picom_codec::{Limits, value};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// The most an encoded map may take, in bytes (PROTOCOL §3.5).
pub const MAX_METADATA: usize = 8 * 1024;

/// Depth and values that metadata may have (PROTOCOL §3.5).
const LIMITS: Limits = Limits::new(4, 256);

/// Texts and bytes that travel beside the arguments. At most [`MAX_METADATA`] bytes encoded, and at most 127 entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    entries: BTreeMap<String, MetadataValue>,
}

/// One entry of [`Metadata`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataValue {
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// Something else, from a peer that is not this library. It is not kept, and not sent.
    Other,
}

/// The metadata is more than a call can carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the metadata of a call would take {size} bytes and {entries} entries; at most {MAX_METADATA} bytes and 127 entries are carried"
)]
pub struct MetadataError {
    /// What it would take, in bytes.
    pub size: usize,
    /// How many entries it has.
    pub entries: usize,
}

impl Metadata {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an entry, and gives back what was there.
    pub fn insert(
        &mut self,
        key: impl Into<String>,
        value: impl Into<MetadataValue>,
    ) -> Option<MetadataValue> {
        self.entries.insert(key.into(), value.into())
    }

    /// The entry with this key.
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.entries.get(key)
    }

    /// The text with this key; `None` also if the entry is no text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(MetadataValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The entries, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetadataValue)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes that travel; nothing if there are no entries.
    pub(crate) fn encode(&self) -> Result<Option<Bytes>, MetadataError> {
        if self.is_empty() {
            return Ok(None);
        }
        let entries = self.entries.len();
        let encoded = value::encode(self).map_err(|_| MetadataError { size: 0, entries })?;
        // A map, its keys and its values count one node each.
        if encoded.len() > MAX_METADATA || 2 * entries + 1 > LIMITS.nodes() as usize {
            return Err(MetadataError {
                size: encoded.len(),
                entries,
            });
        }
        Ok(Some(encoded))
    }

    /// What a peer sent. Entries of other types are kept by name alone; what is no map with texts as keys is nothing.
    pub(crate) fn decode(encoded: &Bytes) -> Self {
        value::decode(encoded, &LIMITS)
            .map(|entries| Metadata { entries })
            .unwrap_or_default()
    }
}

impl From<String> for MetadataValue {
    fn from(text: String) -> Self {
        MetadataValue::Text(text)
    }
}

impl From<&str> for MetadataValue {
    fn from(text: &str) -> Self {
        MetadataValue::Text(text.to_owned())
    }
}

impl From<Bytes> for MetadataValue {
    fn from(bytes: Bytes) -> Self {
        MetadataValue::Bytes(bytes)
    }
}

impl From<Vec<u8>> for MetadataValue {
    fn from(bytes: Vec<u8>) -> Self {
        MetadataValue::Bytes(bytes.into())
    }
}

impl<K: Into<String>, V: Into<MetadataValue>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Metadata {
            entries: entries
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        }
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sent = || {
            self.entries
                .iter()
                .filter(|(_, value)| !matches!(value, MetadataValue::Other))
        };
        let mut map = serializer.serialize_map(Some(sent().count()))?;
        for (key, value) in sent() {
            match value {
                MetadataValue::Text(text) => map.serialize_entry(key, text)?,
                MetadataValue::Bytes(bytes) => map.serialize_entry(key, &picom_codec::Blob(bytes.clone()))?,
                MetadataValue::Other => {}
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for MetadataValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = MetadataValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Text(text.to_owned()))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Bytes(Bytes::copy_from_slice(bytes)))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Other)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Other)
    }

    fn visit_none<E: de::Error>(self) -> Result<MetadataValue, E> {
        Ok(MetadataValue::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<MetadataValue, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<MetadataValue, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| MetadataValue::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<MetadataValue, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(MetadataValue::Other)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<MetadataValue, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(MetadataValue::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_bytes_come_back() {
        let sent: Metadata = [
            ("trace", MetadataValue::from("4bf9")),
            ("key", vec![0u8, 255].into()),
        ]
        .into_iter()
        .collect();
        let encoded = sent.encode().unwrap().unwrap();
        // Written by hand: map of 2, "key" => bin 00 ff, "trace" => "4bf9".
        assert_eq!(encoded[..], *b"\x82\xa3key\xc4\x02\x00\xff\xa5trace\xa44bf9");
        let received = Metadata::decode(&encoded);
        assert_eq!(received, sent);
        assert_eq!(received.text("trace"), Some("4bf9"));
        assert_eq!(received.text("key"), None);
    }

    #[test]
    fn an_empty_map_does_not_travel() {
        assert_eq!(Metadata::new().encode(), Ok(None));
    }

    #[test]
    fn what_is_too_much_is_refused_with_its_size() {
        let mut metadata = Metadata::new();
        metadata.insert("x", "y".repeat(MAX_METADATA));
        let error = metadata.encode().unwrap_err();
        assert!(
            error.size > MAX_METADATA && error.to_string().contains("8192"),
            "{error}"
        );
        let many: Metadata = (0..128).map(|n| (n.to_string(), "")).collect();
        assert_eq!(many.encode().unwrap_err().entries, 128);
        assert!(
            (0..127)
                .map(|n| (n.to_string(), ""))
                .collect::<Metadata>()
                .encode()
                .is_ok()
        );
    }

    #[test]
    fn foreign_entries_do_not_hide_the_others() {
        // {"a": 1, "b": "text", "c": [1, {"d": nil}], "e": true, "f": 1.5}
        let encoded = Bytes::from_static(
            b"\x85\xa1a\x01\xa1b\xa4text\xa1c\x92\x01\x81\xa1d\xc0\xa1e\xc3\xa1f\xca\x3f\xc0\x00\x00",
        );
        let metadata = Metadata::decode(&encoded);
        assert_eq!(metadata.text("b"), Some("text"));
        assert_eq!(metadata.get("c"), Some(&MetadataValue::Other));
        assert_eq!(metadata.iter().count(), 5);
        assert_eq!(metadata.encode().unwrap().unwrap()[..], *b"\x81\xa1b\xa4text");
        assert!(
            Metadata::decode(&Bytes::from_static(b"\x81\x01\x02")).is_empty(),
            "keys that are no texts"
        );
        assert!(Metadata::decode(&Bytes::from_static(b"\xc1")).is_empty());
    }
}
