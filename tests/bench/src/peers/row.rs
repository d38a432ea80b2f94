//! The item of the small-item streams, once with names and once without.

use serde::{Deserialize, Serialize};

use crate::service::{NAME, value};

/// What a stream of items needs to know of them.
pub trait Item: Serialize + for<'de> Deserialize<'de> + Send + 'static {
    /// The item with this number.
    fn numbered(id: u64) -> Self;

    /// Its number.
    fn id(&self) -> u64;
}

/// An item that travels as a map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number.
    pub id: u64,
    /// 16 bytes of text.
    pub name: String,
    /// A number with a point.
    pub value: f64,
}

impl Item for Row {
    fn numbered(id: u64) -> Self {
        Row {
            id,
            name: NAME.to_owned(),
            value: value(id),
        }
    }

    fn id(&self) -> u64 {
        self.id
    }
}

/// The same as an array.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BareRow(u64, String, f64);

impl Item for BareRow {
    fn numbered(id: u64) -> Self {
        BareRow(id, NAME.to_owned(), value(id))
    }

    fn id(&self) -> u64 {
        self.0
    }
}
