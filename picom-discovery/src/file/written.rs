//! What stands in the file: names, lists, and instances in two forms. What becomes of it is in `file.rs`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// What the file lists, name by name. A name that stands twice is an error: whoever wrote it meant both.
pub(super) struct Lists(pub(super) BTreeMap<String, Vec<Written>>);

/// One instance as it stands there.
pub(super) enum Written {
    Address(String),
    /// Keys and values in their order, also one that stands twice.
    Map(Vec<(String, Value)>),
    /// Something else, and what.
    Other(String),
}

impl<'de> Deserialize<'de> for Lists {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Lists;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names of services to lists of addresses")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lists, A::Error> {
                let mut lists = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    match lists.entry(name) {
                        Entry::Occupied(twice) => {
                            return Err(A::Error::custom(format!("{:?} stands twice", twice.key())));
                        }
                        Entry::Vacant(place) => {
                            place.insert(map.next_value()?);
                        }
                    }
                }
                Ok(Lists(lists))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a map with one")
            }

            fn visit_str<E>(self, address: &str) -> Result<Written, E> {
                Ok(Written::Address(address.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Written::Map(fields))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Written, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Written::Other("a list".to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Written, E> {
                Ok(Written::Other(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Written, E> {
                Ok(Written::Other(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Written, E> {
                Ok(Written::Other(number.to_string()))
            }

            fn visit_bool<E>(self, word: bool) -> Result<Written, E> {
                Ok(Written::Other(word.to_string()))
            }

            fn visit_unit<E>(self) -> Result<Written, E> {
                Ok(Written::Other("null".to_owned()))
            }
        }
        deserializer.deserialize_any(One)
    }
}

/// One instance of a list.
#[derive(Default)]
pub(super) struct Line {
    pub(super) address: String,
    pub(super) weight: Option<NonZeroU16>,
    pub(super) classic: bool,
    pub(super) tags: Vec<Arc<str>>,
}

impl Line {
    /// An address alone, or a map with more. What cannot be read is named by its key.
    pub(super) fn read(line: Written) -> Result<Self, String> {
        fn field<T: DeserializeOwned>(key: &str, value: Value) -> Result<T, String> {
            serde_json::from_value(value).map_err(|error| format!("its {key:?}: {error}"))
        }
        let fields = match line {
            Written::Address(address) => {
                return Ok(Line {
                    address,
                    ..Line::default()
                });
            }
            Written::Map(fields) => fields,
            Written::Other(what) => return Err(format!("it is {what}, not an address or a map with one")),
        };
        let mut line = Line::default();
        let mut seen = BTreeSet::new();
        for (key, value) in fields {
            if !seen.insert(key.clone()) {
                return Err(format!("its {key:?} stands twice"));
            }
            match key.as_str() {
                "address" => line.address = field(&key, value)?,
                "weight" => line.weight = field(&key, value)?,
                "classic" => line.classic = field(&key, value)?,
                "tags" => line.tags = field(&key, value)?,
                _ => {
                    return Err(format!(
                        "{key:?} is none of \"address\", \"weight\", \"classic\", \"tags\""
                    ));
                }
            }
        }
        Ok(line)
    }
}
