//! Serializers that take one kind of value and refuse all others: a lone `u8`, to find out whether a sequence is bytes,
//! and the pair that stands for an ext.

use super::EncodeError;
use serde::ser::{self, Impossible, Serialize, SerializeTuple, Serializer};
use std::fmt;

/// What a narrow serializer takes. Everything not overridden is refused.
pub(super) trait Accept: Sized {
    type Ok;
    type Error: ser::Error;
    type Tuple: SerializeTuple<Ok = Self::Ok, Error = Self::Error>;

    fn refusal() -> Self::Error;

    fn u8(self, _: u8) -> Result<Self::Ok, Self::Error> {
        Err(Self::refusal())
    }

    fn i8(self, _: i8) -> Result<Self::Ok, Self::Error> {
        Err(Self::refusal())
    }

    fn bytes(self, _: &[u8]) -> Result<Self::Ok, Self::Error> {
        Err(Self::refusal())
    }

    fn tuple(self, _len: usize) -> Result<Self::Tuple, Self::Error> {
        Err(Self::refusal())
    }
}

/// The serializer that takes what `A` does.
pub(super) struct Narrow<A>(pub(super) A);

/// Takes a `u8` and gives it back.
pub(super) struct OnlyByte;

/// It was something else than a `u8`. Carries nothing, so that a refusal costs nothing.
#[derive(Debug)]
pub(super) struct NotAByte;

impl Accept for OnlyByte {
    type Ok = u8;
    type Error = NotAByte;
    type Tuple = Impossible<u8, NotAByte>;

    #[inline]
    fn refusal() -> NotAByte {
        NotAByte
    }

    #[inline]
    fn u8(self, byte: u8) -> Result<u8, NotAByte> {
        Ok(byte)
    }
}

impl ser::Error for NotAByte {
    fn custom<T: fmt::Display>(_: T) -> Self {
        NotAByte
    }
}

impl std::error::Error for NotAByte {}

impl fmt::Display for NotAByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a u8")
    }
}

/// Takes the pair of an ext's type and data and appends the ext.
pub(super) struct OnlyExt<'o>(pub(super) &'o mut Vec<u8>);

/// The pair, half way.
pub(super) struct ExtPair<'o> {
    out: &'o mut Vec<u8>,
    kind: Option<i8>,
    data: Option<Vec<u8>>,
}

struct OnlyKind;
struct OnlyData;

fn not_an_ext() -> EncodeError {
    EncodeError::Custom("an ext is a pair of i8 and bytes".to_owned())
}

impl<'o> Accept for OnlyExt<'o> {
    type Ok = ();
    type Error = EncodeError;
    type Tuple = ExtPair<'o>;

    fn refusal() -> EncodeError {
        not_an_ext()
    }

    fn tuple(self, _len: usize) -> Result<ExtPair<'o>, EncodeError> {
        Ok(ExtPair {
            out: self.0,
            kind: None,
            data: None,
        })
    }
}

impl Accept for OnlyKind {
    type Ok = i8;
    type Error = EncodeError;
    type Tuple = Impossible<i8, EncodeError>;

    fn refusal() -> EncodeError {
        not_an_ext()
    }

    fn i8(self, kind: i8) -> Result<i8, EncodeError> {
        Ok(kind)
    }
}

impl Accept for OnlyData {
    type Ok = Vec<u8>;
    type Error = EncodeError;
    type Tuple = Impossible<Vec<u8>, EncodeError>;

    fn refusal() -> EncodeError {
        not_an_ext()
    }

    fn bytes(self, data: &[u8]) -> Result<Vec<u8>, EncodeError> {
        Ok(data.to_vec())
    }
}

impl SerializeTuple for ExtPair<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), EncodeError> {
        if self.kind.is_none() {
            self.kind = Some(value.serialize(Narrow(OnlyKind))?);
        } else if self.data.is_none() {
            self.data = Some(value.serialize(Narrow(OnlyData))?);
        } else {
            return Err(not_an_ext());
        }
        Ok(())
    }

    fn end(self) -> Result<(), EncodeError> {
        let (Some(kind), Some(data)) = (self.kind, self.data) else {
            return Err(not_an_ext());
        };
        let len = u32::try_from(data.len()).map_err(|_| EncodeError::TooLong { len: data.len() })?;
        match len {
            1 | 2 | 4 | 8 | 16 => self.out.push(0xd4 + len.trailing_zeros() as u8),
            0..=0xff => self.out.extend_from_slice(&[0xc7, len as u8]),
            0x100..=0xffff => {
                self.out.push(0xc8);
                self.out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                self.out.push(0xc9);
                self.out.extend_from_slice(&len.to_be_bytes());
            }
        }
        self.out.push(kind as u8);
        self.out.extend_from_slice(&data);
        Ok(())
    }
}

macro_rules! refused {
    ($($method:ident($($kind:ty),*);)*) => {$(
        #[inline]
        fn $method(self, $(_: $kind),*) -> Result<A::Ok, A::Error> {
            Err(A::refusal())
        }
    )*};
}

macro_rules! compound_refused {
    ($($method:ident($($kind:ty),*) -> $compound:ident;)*) => {$(
        #[inline]
        fn $method(self, $(_: $kind),*) -> Result<Self::$compound, A::Error> {
            Err(A::refusal())
        }
    )*};
}

impl<A: Accept> Serializer for Narrow<A> {
    type Ok = A::Ok;
    type Error = A::Error;
    type SerializeSeq = Impossible<A::Ok, A::Error>;
    type SerializeTuple = A::Tuple;
    type SerializeTupleStruct = Impossible<A::Ok, A::Error>;
    type SerializeTupleVariant = Impossible<A::Ok, A::Error>;
    type SerializeMap = Impossible<A::Ok, A::Error>;
    type SerializeStruct = Impossible<A::Ok, A::Error>;
    type SerializeStructVariant = Impossible<A::Ok, A::Error>;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<A::Ok, A::Error> {
        self.0.u8(value)
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> Result<A::Ok, A::Error> {
        self.0.i8(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<A::Ok, A::Error> {
        self.0.bytes(value)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<A::Tuple, A::Error> {
        self.0.tuple(len)
    }

    refused! {
        serialize_bool(bool);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    #[inline]
    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<A::Ok, A::Error> {
        Err(A::refusal())
    }

    #[inline]
    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<A::Ok, A::Error> {
        Err(A::refusal())
    }

    #[inline]
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<A::Ok, A::Error> {
        Err(A::refusal())
    }

    compound_refused! {
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }

    /// Without this the default would write to a `String` first.
    #[inline]
    fn collect_str<T: ?Sized + fmt::Display>(self, _: &T) -> Result<A::Ok, A::Error> {
        Err(A::refusal())
    }
}
