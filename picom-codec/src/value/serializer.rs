//! serde's serializer into a `Vec`. Shortest forms throughout.

use super::apart::Apart;
use super::compound::{Entries, Fields, Sequence};
use super::narrow::{Narrow, OnlyExt};
use super::{EXT, EncodeError, Encoding};
use crate::Limits;
use serde::ser::{Serialize, Serializer};

/// How deep a value may nest: as deep as can be decoded, counted in the same way.
const BUDGET: u8 = Limits::MAX_DEPTH;

/// From this length on a tuple of nothing but `u8` is taken for an array of bytes (a hash, a UUID), below for a tuple. The
/// type alone decides, never the numbers.
const BYTES_FROM: usize = 16;

/// Writes values one behind the other.
pub(super) struct Encoder<'o> {
    pub(super) out: &'o mut Vec<u8>,
    encoding: Encoding,
    pub(super) budget: u8,
    /// Where large blobs go, if not behind the rest.
    apart: Option<&'o mut Apart>,
}

impl<'o> Encoder<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>, encoding: Encoding) -> Self {
        Encoder {
            out,
            encoding,
            budget: BUDGET,
            apart: None,
        }
    }

    /// One that leaves large blobs out.
    pub(super) fn apart(out: &'o mut Vec<u8>, apart: &'o mut Apart) -> Self {
        Encoder {
            apart: Some(apart),
            ..Encoder::new(out, Encoding::Maps)
        }
    }

    #[inline]
    pub(super) fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.out.push(value as u8),
            0x80..=0xff => self.out.extend_from_slice(&[0xcc, value as u8]),
            0x100..=0xffff => self.two(0xcd, value as u16),
            0x1_0000..=0xffff_ffff => self.four(0xce, value as u32),
            _ => self.eight(0xcf, value),
        }
    }

    #[inline]
    fn int(&mut self, value: i64) {
        match value {
            0.. => self.uint(value as u64),
            -32..0 => self.out.push(value as u8),
            -0x80..-32 => self.out.extend_from_slice(&[0xd0, value as u8]),
            -0x8000..-0x80 => self.two(0xd1, value as u16),
            -0x8000_0000..-0x8000 => self.four(0xd2, value as u32),
            _ => self.eight(0xd3, value as u64),
        }
    }

    fn two(&mut self, marker: u8, value: u16) {
        let [a, b] = value.to_be_bytes();
        self.out.extend_from_slice(&[marker, a, b]);
    }

    fn four(&mut self, marker: u8, value: u32) {
        let [a, b, c, d] = value.to_be_bytes();
        self.out.extend_from_slice(&[marker, a, b, c, d]);
    }

    #[inline]
    fn eight(&mut self, marker: u8, value: u64) {
        let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
        self.out.extend_from_slice(&[marker, a, b, c, d, e, f, g, h]);
    }

    /// The name of a field: a constant, so that this comes down to one write of a known length where it is inlined.
    #[inline(always)]
    pub(super) fn name(&mut self, name: &'static str) -> Result<(), EncodeError> {
        if name.len() > 31 {
            return self.text(name);
        }
        self.out.push(0xa0 | name.len() as u8);
        self.out.extend_from_slice(name.as_bytes());
        Ok(())
    }

    #[inline]
    pub(super) fn text(&mut self, text: &str) -> Result<(), EncodeError> {
        match length(text.len())? {
            len @ 0..=31 => self.out.push(0xa0 | len as u8),
            len @ 32..=0xff => self.out.extend_from_slice(&[0xd9, len as u8]),
            len @ 0x100..=0xffff => self.two(0xda, len as u16),
            len => self.four(0xdb, len),
        }
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub(super) fn bin(&mut self, len: u32) {
        match len {
            0..=0xff => self.out.extend_from_slice(&[0xc4, len as u8]),
            0x100..=0xffff => self.two(0xc5, len as u16),
            _ => self.four(0xc6, len),
        }
    }

    #[inline]
    pub(super) fn array(&mut self, len: u32) {
        match len {
            0..=15 => self.out.push(0x90 | len as u8),
            16..=0xffff => self.two(0xdc, len as u16),
            _ => self.four(0xdd, len),
        }
    }

    #[inline]
    pub(super) fn map(&mut self, len: u32) {
        match len {
            0..=15 => self.out.push(0x80 | len as u8),
            16..=0xffff => self.two(0xde, len as u16),
            _ => self.four(0xdf, len),
        }
    }

    /// Takes one level off the budget. It is given back by whoever took it; after an error nobody needs it any more.
    #[inline]
    pub(super) fn descend(&mut self) -> Result<(), EncodeError> {
        match self.budget.checked_sub(1) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(EncodeError::TooDeep { limit: BUDGET }),
        }
    }

    #[inline]
    fn nested<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.descend()?;
        value.serialize(&mut *self)?;
        self.budget += 1;
        Ok(())
    }

    /// The map of one entry, and its key, of a variant with data.
    fn variant(&mut self, variant: &str) -> Result<(), EncodeError> {
        self.map(1);
        self.text(variant)
    }

    /// Puts what `header` writes before everything from `start` on.
    pub(super) fn insert(&mut self, start: usize, header: impl FnOnce(&mut Self)) {
        let before = self.out.len();
        header(self);
        let width = self.out.len() - before;
        if let Some(written) = self.out.get_mut(start..) {
            written.rotate_right(width);
        }
        if let Some(apart) = &mut self.apart {
            apart.shift(start, width);
        }
    }
}

pub(super) fn length(len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::TooLong { len })
}

macro_rules! numbers {
    ($($method:ident($kind:ty) as $wide:ident;)*) => {$(
        #[inline]
        fn $method(self, value: $kind) -> Result<(), EncodeError> {
            self.$wide(value.into());
            Ok(())
        }
    )*};
}

impl<'a, 'o> Serializer for &'a mut Encoder<'o> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Sequence<'a, 'o>;
    type SerializeTuple = Sequence<'a, 'o>;
    type SerializeTupleStruct = Fields<'a, 'o>;
    type SerializeTupleVariant = Fields<'a, 'o>;
    type SerializeMap = Entries<'a, 'o>;
    type SerializeStruct = Fields<'a, 'o>;
    type SerializeStructVariant = Fields<'a, 'o>;

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        serialize_u8(u8) as uint;
        serialize_u16(u16) as uint;
        serialize_u32(u32) as uint;
        serialize_u64(u64) as uint;
        serialize_i8(i8) as int;
        serialize_i16(i16) as int;
        serialize_i32(i32) as int;
        serialize_i64(i64) as int;
    }

    fn serialize_i128(self, value: i128) -> Result<(), EncodeError> {
        self.serialize_bytes(&value.to_be_bytes())
    }

    fn serialize_u128(self, value: u128) -> Result<(), EncodeError> {
        self.serialize_bytes(&value.to_be_bytes())
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.out.push(if value { 0xc3 } else { 0xc2 });
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), EncodeError> {
        self.four(0xca, value.to_bits());
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), EncodeError> {
        self.eight(0xcb, value.to_bits());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.text(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        self.bin(length(value.len())?);
        let place = self.out.len();
        if !self.apart.as_mut().is_some_and(|apart| apart.keep(place, value)) {
            self.out.extend_from_slice(value);
        }
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), EncodeError> {
        self.nested(value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.out.push(0xc0);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), EncodeError> {
        // Enums take a level when they are decoded.
        self.descend()?;
        self.budget += 1;
        self.text(variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        if name == EXT {
            return value.serialize(Narrow(OnlyExt(self.out)));
        }
        self.nested(value)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.variant(variant)?;
        self.nested(value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Sequence<'a, 'o>, EncodeError> {
        Sequence::new(self, len, len != Some(0))
    }

    fn serialize_tuple(self, len: usize) -> Result<Sequence<'a, 'o>, EncodeError> {
        Sequence::new(self, Some(len), len >= BYTES_FROM)
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<Fields<'a, 'o>, EncodeError> {
        Fields::new(self, len, false, 1)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Fields<'a, 'o>, EncodeError> {
        self.variant(variant)?;
        Fields::new(self, len, false, 2)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Entries<'a, 'o>, EncodeError> {
        Entries::new(self, len)
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Fields<'a, 'o>, EncodeError> {
        let named = self.encoding == Encoding::Maps;
        Fields::new(self, len, named, 1)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Fields<'a, 'o>, EncodeError> {
        self.variant(variant)?;
        let named = self.encoding == Encoding::Maps;
        Fields::new(self, len, named, 2)
    }
}
