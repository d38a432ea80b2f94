//! A moment as the Node library writes it: ext 0x42 around a double in little endian (PROTOCOL §12.7). The moments of the
//! usual libraries are converted in modules of their names, each a feature.

#[cfg(feature = "chrono")]
pub mod chrono;
#[cfg(feature = "time")]
pub mod time;

use crate::value::EXT;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::{Duration, SystemTime};

/// The type of the ext.
pub(super) const DATE: u8 = 0x42;

/// A JavaScript `Date`: milliseconds since 1970-01-01T00:00Z, earlier ones negative, an invalid one NaN. Stands anywhere
/// a value may, in calls of either dialect. Other exts do not decode as one.
///
/// ```
/// use picom_codec::classic::ClassicDate;
/// use std::time::{Duration, UNIX_EPOCH};
///
/// let date = ClassicDate::from(UNIX_EPOCH + Duration::from_millis(1_441_929_600_123));
/// assert_eq!(date.millis(), 1_441_929_600_123.0);
/// assert_eq!(date.to_system_time(), Some(UNIX_EPOCH + Duration::from_millis(1_441_929_600_123)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct ClassicDate(f64);

impl ClassicDate {
    /// The moment so many milliseconds after the beginning of 1970.
    pub const fn from_millis(millis: f64) -> Self {
        ClassicDate(millis)
    }

    /// Milliseconds since the beginning of 1970.
    pub const fn millis(self) -> f64 {
        self.0
    }

    /// Whether it is a moment at all.
    pub fn is_valid(self) -> bool {
        self.0.is_finite()
    }

    /// The moment so many microseconds after the beginning of 1970. Exact for the next two centuries; JavaScript's own
    /// dates drop what is less than a millisecond.
    pub fn from_micros(micros: i64) -> Self {
        ClassicDate(micros as f64 / 1000.0)
    }

    /// The nearest microsecond; `None` if it is no moment, or further away than a `Date` can be.
    pub fn micros(self) -> Option<i64> {
        // ECMAScript's bound: 100,000,000 days. So many microseconds fit.
        const MOST: f64 = 8.64e15;
        (self.0.abs() <= MOST).then(|| (self.0 * 1000.0).round() as i64)
    }

    /// The moment, to the microsecond; `None` if it is invalid or the platform has no such time.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let micros = self.micros()?;
        let span = Duration::from_micros(micros.unsigned_abs());
        if micros < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(span)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(span)
        }
    }
}

/// A date that is no moment: invalid in JavaScript, or outside what the library it is converted for can hold.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a date is no moment here: {0:?} ms since 1970")]
pub struct NoMoment(
    /// What it says.
    pub f64,
);

impl From<SystemTime> for ClassicDate {
    /// To the microsecond, which is as much as today's dates have room for in a double.
    fn from(time: SystemTime) -> Self {
        let millis = |span: Duration| span.as_micros() as f64 / 1000.0;
        ClassicDate(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => millis(after),
            Err(before) => -millis(before.duration()),
        })
    }
}

impl Serialize for ClassicDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let data = self.0.to_le_bytes();
        serializer.serialize_newtype_struct(EXT, &(DATE as i8, Data(&data)))
    }
}

struct Data<'a>(&'a [u8]);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for ClassicDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(EXT, DateVisitor)
    }
}

struct DateVisitor;

impl<'de> Visitor<'de> for DateVisitor {
    type Value = ClassicDate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a date: ext 0x42 of 8 bytes")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<ClassicDate, D::Error> {
        deserializer.deserialize_any(DateVisitor)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut parts: A) -> Result<ClassicDate, A::Error> {
        let kind: Option<i8> = parts.next_element()?;
        let data: Option<Eight> = parts.next_element()?;
        match (kind, data) {
            (Some(kind), Some(Eight(data))) if kind == DATE as i8 => {
                Ok(ClassicDate(f64::from_le_bytes(data)))
            }
            _ => Err(de::Error::custom("an ext that is not a date (ext 0x42)")),
        }
    }
}

struct Eight([u8; 8]);

impl<'de> Deserialize<'de> for Eight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EightVisitor;
        impl Visitor<'_> for EightVisitor {
            type Value = Eight;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("8 bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Eight, E> {
                let eight = bytes.try_into();
                eight
                    .map(Eight)
                    .map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(EightVisitor)
    }
}
