//! serde's deserializer over a message. It checks what the scan checks, while it reads: lengths against the bytes left, the
//! depth, and at each header the number of values, before anything is reserved for them.

use super::elements::{ByteElements, Elements};
use super::ext::ExtDeserializer;
use super::token::{Token, Tokens, unexpected};
use super::variant::{DataVariant, UnitVariant};
use super::{BLOB, DecodeError, DecodeFault, EXT, blob, text};
use crate::{Limits, ScanError, scan};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};
use std::marker::PhantomData;

/// How deep the calls of a type's `Deserialize` may nest. Every array, map, enum, newtype and `Some` counts, so that
/// types which recurse without consuming input come to an end too. The reason for the number is [`Limits::MAX_DEPTH`]'s.
const BUDGET: u8 = Limits::MAX_DEPTH;

/// The markers of an empty array and an empty map. Those of up to 15 elements are the next 15.
const EMPTY_ARRAY: u8 = 0x90;
const EMPTY_MAP: u8 = 0x80;

/// How many fields of a struct a key is compared with: it is the next one, or some were left out.
const AHEAD: usize = 4;

/// Reads a message from the front, checking as it goes.
pub(super) struct Decoder<'de> {
    pub(super) tokens: Tokens<'de>,
    /// How many levels are left of [`BUDGET`].
    budget: u8,
    /// How many arrays and maps are left of [`Limits::depth`].
    levels: u8,
    /// Something that may have been read in part did not decode. If its type goes on as if nothing were, the rest would
    /// be read from the wrong place.
    failed: bool,
    /// How many values the headers read so far announce, with the message itself.
    announced: u64,
    /// How many there may be: [`Limits::nodes`], and no more than the message has bytes, for each takes one at least.
    most: u64,
    /// The message as a whole, for [`Blob`](super::Blob)s to share.
    message: Option<&'de Bytes>,
    /// The fields of the innermost struct, from the one that is expected next. A hint and no more: a key, or the name of a
    /// variant, that is equal to one is that text, wherever it stands.
    names: &'static [&'static str],
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8], message: Option<&'de Bytes>, limits: &Limits) -> Self {
        Decoder {
            tokens: Tokens::new(bytes),
            budget: BUDGET,
            levels: limits.depth(),
            failed: false,
            announced: 1,
            most: u64::from(limits.nodes()).min(bytes.len() as u64),
            message,
            names: &[],
        }
    }

    /// Decodes the whole message.
    #[inline(always)]
    pub(super) fn finish<T: Deserialize<'de>>(mut self) -> Result<T, DecodeError> {
        let value = self.root()?;
        match self.tokens.rest().len() {
            0 => Ok(value),
            left => Err(ScanError::Trailing {
                offset: self.tokens.at(),
                left,
            }
            .into()),
        }
    }

    /// Decodes the value that the message begins with; where it ends is then [`at`](Tokens::at).
    #[inline(always)]
    pub(super) fn root<T: Deserialize<'de>>(&mut self) -> Result<T, DecodeError> {
        let result = self.element(PhantomData);
        if self.failed && result.is_ok() {
            let hidden = DecodeFault::Other("the type hid an error within it".to_owned());
            return Err(DecodeError::new(0, hidden));
        }
        result
    }

    /// Decodes the value that begins here.
    // Here and below the result that came is the one that is returned: to take it apart and put it together again moves
    // the value, and what was just written cannot be read back at once.
    #[inline]
    pub(super) fn element<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let left = self.tokens.rest().len();
        let result = seed.deserialize(&mut *self);
        if result.is_err() || self.tokens.rest().len() >= left {
            return Err(self.fail(result.err(), left));
        }
        result
    }

    /// The value that began with so many bytes left could not be decoded.
    #[cold]
    fn fail(&mut self, error: Option<DecodeError>, left: usize) -> DecodeError {
        self.failed = true;
        let unread = || DecodeFault::Other("the type did not read the value meant for it".to_owned()).into();
        error.unwrap_or_else(unread).at(self.tokens.at_left(left))
    }

    /// Runs `visit` one level deeper.
    #[inline]
    pub(super) fn nest<T>(
        &mut self,
        visit: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let Some(left) = self.budget.checked_sub(1) else {
            return Err(DecodeError::new(
                self.tokens.at(),
                DecodeFault::TooDeep { limit: BUDGET },
            ));
        };
        self.budget = left;
        let value = visit(self);
        self.budget = left + 1;
        self.failed |= value.is_err();
        value
    }

    /// Runs `visit` within an array or map that announces `values`.
    #[inline]
    fn enter<T>(
        &mut self,
        values: u64,
        visit: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.announced += values;
        if self.announced > self.most || self.levels == 0 {
            return Err(self.over());
        }
        self.levels -= 1;
        let value = self.nest(visit);
        self.levels += 1;
        value
    }

    /// What the scan would have said at the last header; [`decode`](super::decode) asks it for the exact place.
    #[cold]
    fn over(&self) -> DecodeError {
        let (offset, limit) = (self.tokens.at(), self.most as u32);
        ScanError::TooManyNodes {
            offset,
            announced: self.announced,
            limit,
        }
        .into()
    }

    #[inline]
    fn visit_array<V: Visitor<'de>>(&mut self, len: u32, visitor: V) -> Result<V::Value, DecodeError> {
        self.enter(len.into(), |decoder| {
            let mut elements = Elements::new(decoder, len);
            let result = visitor.visit_seq(&mut elements);
            elements.all_read(result)
        })
    }

    #[inline]
    fn visit_map<V: Visitor<'de>>(&mut self, len: u32, visitor: V) -> Result<V::Value, DecodeError> {
        self.enter(2 * u64::from(len), |decoder| {
            let mut entries = Elements::new(decoder, len);
            let result = visitor.visit_map(&mut entries);
            entries.all_read(result)
        })
    }

    /// A map whose keys are most likely these, in this order.
    #[inline]
    fn visit_struct<V: Visitor<'de>>(
        &mut self,
        len: u32,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        // Looked at first: the fields of most structs stand in no other, and both words of a slice that was just written
        // cannot be read back at once.
        let around = if self.names.is_empty() { &[] } else { self.names };
        self.names = names;
        let value = self.visit_map(len, visitor);
        self.names = around;
        value
    }

    /// Gives the visitor whatever `token` is.
    fn visit<V: Visitor<'de>>(&mut self, token: Token<'de>, visitor: V) -> Result<V::Value, DecodeError> {
        match token {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Uint(value) => visitor.visit_u64(value),
            Token::Negative(value) => visitor.visit_i64(value),
            Token::F32(value) => visitor.visit_f32(value),
            Token::F64(value) => visitor.visit_f64(value),
            Token::Str(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => visitor.visit_borrowed_bytes(bytes),
            },
            Token::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Array(len) => self.visit_array(len, visitor),
            Token::Map(len) => self.visit_map(len, visitor),
            Token::Ext(kind, data) => visitor.visit_newtype_struct(ExtDeserializer::new(kind, data)),
        }
    }

    /// Arrays, and bytes as arrays of `u8`; other tokens as they are.
    #[inline]
    fn sequence<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        if let Some(len) = self.tokens.small_container(EMPTY_ARRAY) {
            return self.visit_array(len, visitor);
        }
        match self.tokens.token()? {
            Token::Array(len) => self.visit_array(len, visitor),
            Token::Bin(bytes) => {
                let mut elements = ByteElements::new(bytes);
                let result = visitor.visit_seq(&mut elements);
                elements.all_read(result)
            }
            token => self.visit(token, visitor),
        }
    }

    /// The fields of a struct, or of a variant.
    #[inline]
    pub(super) fn fields<V: Visitor<'de>>(
        &mut self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if let Some(len) = self.tokens.small_container(EMPTY_MAP) {
            return self.visit_struct(len, names, visitor);
        }
        match self.tokens.token()? {
            Token::Map(len) => self.visit_struct(len, names, visitor),
            Token::Array(len) => self.visit_array(len, visitor),
            token => self.visit(token, visitor),
        }
    }

    /// The name that these bytes are, among the next few fields. What is equal to a text need not be checked to be one.
    #[inline(never)]
    fn expected(&mut self, bytes: &[u8]) -> Option<&'static str> {
        let mut names = self.names.iter().enumerate().take(AHEAD);
        let (place, name) = names.find(|(_, name)| name.as_bytes() == bytes)?;
        self.names = self.names.get(place + 1..).unwrap_or_default();
        Some(name)
    }

    /// Passes over one value.
    fn skip(&mut self) -> Result<(), DecodeError> {
        // The value itself was announced by what is around it.
        let left = self.most.saturating_sub(self.announced) + 1;
        let limits = Limits::new(self.levels, u32::try_from(left).unwrap_or(u32::MAX));
        let skipped =
            scan::walk(self.tokens.rest(), &limits).map_err(|error| error.shifted(self.tokens.at()))?;
        self.announced += skipped.values - 1;
        self.tokens.pass(skipped.len);
        Ok(())
    }
}

/// Numbers for types that ask for a signed one, whole floats among them: as `i64` where it fits, which visitors that know nothing else rely on.
macro_rules! signed_numbers {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.tokens.uint() {
                Some(value) => match i64::try_from(value) {
                    Ok(value) => visitor.visit_i64(value),
                    Err(_) => visitor.visit_u64(value),
                },
                None => match self.tokens.token()?.whole() {
                    Token::Uint(value) if i64::try_from(value).is_ok() => visitor.visit_i64(value as i64),
                    token => self.visit(token, visitor),
                },
            }
        }
    )*};
}

macro_rules! unsigned_numbers {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.tokens.uint() {
                Some(value) => visitor.visit_u64(value),
                None => {
                    let token = self.tokens.token()?.whole();
                    self.visit(token, visitor)
                }
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = DecodeError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let token = self.tokens.token()?;
        self.visit(token, visitor)
    }

    signed_numbers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 }
    unsigned_numbers! { deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.tokens.token()? {
            Token::Uint(value) => visitor.visit_i128(value.into()),
            Token::Negative(value) => visitor.visit_i128(value.into()),
            Token::Bin(bytes) => match bytes.try_into() {
                Ok(bytes) => visitor.visit_i128(i128::from_be_bytes(bytes)),
                Err(_) => Err(Error::invalid_length(
                    bytes.len(),
                    &"an i128 as binary of 16 bytes",
                )),
            },
            token => self.visit(token, visitor),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.tokens.token()? {
            Token::Uint(value) => visitor.visit_u128(value.into()),
            Token::Bin(bytes) => match bytes.try_into() {
                Ok(bytes) => visitor.visit_u128(u128::from_be_bytes(bytes)),
                Err(_) => Err(Error::invalid_length(
                    bytes.len(),
                    &"a u128 as binary of 16 bytes",
                )),
            },
            token => self.visit(token, visitor),
        }
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.tokens.bool() {
            Some(value) => visitor.visit_bool(value),
            None => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    /// Integers too: some languages write whole floats as such.
    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.tokens.double() {
            Some(value) => visitor.visit_f64(value),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.tokens.at();
        let bytes = match self.tokens.text() {
            Some(bytes) => bytes,
            None => match self.tokens.token()? {
                Token::Str(bytes) => bytes,
                token => return self.visit(token, visitor),
            },
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => Err(DecodeError::new(start, DecodeFault::NotUtf8)),
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        // What is decoded from a slice may borrow from it, even by a visitor that is announced as one of owned texts.
        if self.message.is_none() {
            return self.deserialize_str(visitor);
        }
        let start = self.tokens.at();
        let Some(bytes) = self.tokens.text() else {
            return self.deserialize_str(visitor);
        };
        match text::visit(bytes, visitor) {
            Ok(value) => value,
            Err(_) => Err(DecodeError::new(start, DecodeFault::NotUtf8)),
        }
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.tokens.token()? {
            Token::Bin(bytes) | Token::Str(bytes) => visitor.visit_borrowed_bytes(bytes),
            token => self.visit(token, visitor),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.tokens.nil() {
            return visitor.visit_none();
        }
        self.nest(|decoder| visitor.visit_some(decoder))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.tokens.token()? {
            Token::Nil | Token::Array(0) => visitor.visit_unit(),
            token => self.visit(token, visitor),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name == EXT {
            return match self.tokens.token()? {
                Token::Ext(kind, data) => visitor.visit_newtype_struct(ExtDeserializer::new(kind, data)),
                token => {
                    self.failed = true;
                    Err(Error::invalid_type(unexpected(&token), &"an ext"))
                }
            };
        }
        if name == BLOB
            && let Some(message) = self.message
        {
            let start = self.tokens;
            if let Token::Bin(bytes) | Token::Str(bytes) = self.tokens.token()? {
                return blob::hand_over(message, bytes, visitor);
            }
            self.tokens = start;
        }
        self.nest(|decoder| visitor.visit_newtype_struct(decoder))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.sequence(visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.sequence(visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.sequence(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if let Some(len) = self.tokens.small_container(EMPTY_MAP) {
            return self.visit_map(len, visitor);
        }
        match self.tokens.token()? {
            Token::Map(len) => self.visit_map(len, visitor),
            token => self.visit(token, visitor),
        }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.fields(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let start = self.tokens;
        match self.tokens.token()? {
            Token::Str(_) | Token::Bin(_) | Token::Uint(_) => {
                self.tokens = start;
                self.nest(|decoder| visitor.visit_enum(UnitVariant(decoder)))
            }
            Token::Map(1) => self.enter(2, |decoder| visitor.visit_enum(DataVariant(decoder))),
            token => {
                // An array or map has been entered, and nobody will read what is in it.
                self.failed = true;
                match token {
                    Token::Map(len) => Err(Error::invalid_length(
                        len as usize,
                        &"an enum as a map of one entry",
                    )),
                    token => Err(Error::invalid_type(
                        unexpected(&token),
                        &"an enum as a string, an index or a map of one entry",
                    )),
                }
            }
        }
    }

    /// The names of fields and variants. One that is not UTF-8 is an unknown name, not an error by itself.
    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if let Some((next, later)) = self.names.split_first()
            && self.tokens.is_name(next)
        {
            self.names = later;
            return visitor.visit_borrowed_str(next);
        }
        let Some(bytes) = self.tokens.text() else {
            return self.deserialize_any(visitor);
        };
        if let Some(name) = self.expected(bytes) {
            return visitor.visit_borrowed_str(name);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => visitor.visit_borrowed_bytes(bytes),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.skip()?;
        visitor.visit_unit()
    }
}
