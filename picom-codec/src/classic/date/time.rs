//! The `time` library's moments as dates: conversions both ways, and for fields `#[serde(with = "picom::date::time")]`.

use super::{ClassicDate, NoMoment};
use ::time::OffsetDateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

impl From<OffsetDateTime> for ClassicDate {
    /// To the microsecond. The offset does not travel.
    fn from(moment: OffsetDateTime) -> Self {
        let micros = moment.unix_timestamp_nanos().div_euclid(1000);
        // Years of this library have six digits at most, so it fits.
        ClassicDate::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

impl TryFrom<ClassicDate> for OffsetDateTime {
    type Error = NoMoment;

    fn try_from(date: ClassicDate) -> Result<Self, NoMoment> {
        date.micros()
            .and_then(|micros| OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).ok())
            .ok_or(NoMoment(date.millis()))
    }
}

/// For `#[serde(with)]`: writes the moment as a [`ClassicDate`].
///
/// # Errors
///
/// The serializer's.
pub fn serialize<S: Serializer>(moment: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    ClassicDate::from(*moment).serialize(serializer)
}

/// For `#[serde(with)]`: reads a [`ClassicDate`].
///
/// # Errors
///
/// The deserializer's, and when the date is no moment.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
    let date = ClassicDate::deserialize(deserializer)?;
    date.try_into().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, value};

    fn at(text: &str) -> OffsetDateTime {
        let (seconds, micros) = text.split_once('.').unwrap();
        let (seconds, micros): (i128, i128) = (seconds.parse().unwrap(), micros.parse().unwrap());
        OffsetDateTime::from_unix_timestamp_nanos((seconds * 1_000_000 + micros) * 1000).unwrap()
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Visit {
        #[serde(with = "super")]
        when: OffsetDateTime,
    }

    #[test]
    fn moments_come_back_to_the_microsecond() {
        for text in [
            "0.0",
            "1441929600.123000",
            "-86400.000001",
            "4102444800.999999",
            "1.000001",
        ] {
            let when = at(text);
            assert_eq!(ClassicDate::from(when).try_into(), Ok(when), "{text}");
            let bytes = value::encode(&Visit { when }).unwrap();
            assert_eq!(
                value::decode::<Visit>(&bytes, &Limits::default()).unwrap(),
                Visit { when },
                "{text}"
            );
        }
    }

    #[test]
    fn the_bytes_are_those_of_a_javascript_date() {
        let bytes = value::encode(&Visit {
            when: at("1441929600.123000"),
        });
        let date = b"\x81\xa4when\xd7\x42\x00\xb0\xc7\x39\x9b\xfb\x74\x42";
        assert_eq!(&bytes.unwrap()[..], date);
    }

    #[test]
    fn what_is_no_moment_is_an_error() {
        for millis in [f64::NAN, f64::INFINITY, f64::MIN, 8.65e15] {
            let date = ClassicDate::from_millis(millis);
            assert!(OffsetDateTime::try_from(date).is_err(), "{millis}");
            let bytes = value::encode(&std::collections::BTreeMap::from([("when", date)])).unwrap();
            let error = value::decode::<Visit>(&bytes, &Limits::default()).unwrap_err();
            assert!(format!("{error:?}").contains("no moment"), "{error:?}");
        }
        // JavaScript's years go further than theirs.
        assert!(OffsetDateTime::try_from(ClassicDate::from_millis(8.64e15)).is_err());
    }
}
