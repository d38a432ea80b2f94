//! The values of a message one by one, arrays and maps as their headers. What they become is for the deserializer.

use super::DecodeError;
use crate::ScanError;
use serde::de::Unexpected;

/// One value as it stands on the wire, arrays and maps as their headers.
#[derive(Clone, Copy)]
pub(super) enum Token<'de> {
    Nil,
    Bool(bool),
    Uint(u64),
    /// Below zero.
    Negative(i64),
    F32(f32),
    F64(f64),
    Str(&'de [u8]),
    Bin(&'de [u8]),
    Array(u32),
    Map(u32),
    Ext(i8, &'de [u8]),
}

impl Token<'_> {
    /// The integer that a float stands for, if it stands for one exactly: languages that know one kind of number write
    /// large ones, and whole results of divisions, as floats. For types that ask for an integer.
    #[cold]
    pub(super) fn whole(self) -> Self {
        let value = match self {
            Token::F32(value) => f64::from(value),
            Token::F64(value) => value,
            other => return other,
        };
        // Powers of two, so these bounds are exact, and so is every cast of a whole number between them.
        const LEAST: f64 = -9_223_372_036_854_775_808.0;
        const OVER: f64 = 18_446_744_073_709_551_616.0;
        match value {
            _ if value.fract() != 0.0 => self,
            0.0..OVER => Token::Uint(value as u64),
            LEAST..0.0 => Token::Negative(value as i64),
            _ => self,
        }
    }
}

/// The bytes of a message that are still to be read.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'de> {
    rest: &'de [u8],
    /// The length of the whole message.
    len: usize,
}

impl<'de> Tokens<'de> {
    pub(super) fn new(message: &'de [u8]) -> Self {
        Tokens {
            rest: message,
            len: message.len(),
        }
    }

    /// What has not been read.
    #[inline]
    pub(super) fn rest(&self) -> &'de [u8] {
        self.rest
    }

    /// Where the next value begins, in bytes from the first of the message.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    /// Where the value begins that was next when so many bytes were left.
    pub(super) fn at_left(&self, left: usize) -> usize {
        self.len - left
    }

    #[cold]
    fn truncated(&self) -> DecodeError {
        let left = self.rest.len();
        ScanError::Truncated {
            offset: self.at(),
            needed: left as u64 + 1,
            left,
        }
        .into()
    }

    /// Passes over `len` bytes, which are there.
    #[inline]
    pub(super) fn pass(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
    }

    /// Whether the next value is nil; if so it is read.
    #[inline]
    pub(super) fn nil(&mut self) -> bool {
        match self.rest {
            [0xc0, rest @ ..] => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    // The next five are the values that messages are made of for the most part, each tried before `token`, which takes
    // all. They are small enough to be inlined into the types that are decoded.

    /// The next value if it is an integer from 0 on.
    #[inline]
    pub(super) fn uint(&mut self) -> Option<u64> {
        match self.rest {
            [small @ 0..=0x7f, rest @ ..] => {
                self.rest = rest;
                Some((*small).into())
            }
            _ => self.wide_uint(),
        }
    }

    #[inline(never)]
    fn wide_uint(&mut self) -> Option<u64> {
        let (value, rest) = match self.rest {
            [0xcc, a, rest @ ..] => (u64::from(*a), rest),
            [0xcd, a, b, rest @ ..] => (u16::from_be_bytes([*a, *b]).into(), rest),
            [0xce, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]).into(), rest),
            [0xcf, a, b, c, d, e, f, g, h, rest @ ..] => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
            }
            _ => return None,
        };
        self.rest = rest;
        Some(value)
    }

    /// The next value if it is a boolean.
    #[inline]
    pub(super) fn bool(&mut self) -> Option<bool> {
        let [marker @ 0xc2..=0xc3, rest @ ..] = self.rest else {
            return None;
        };
        self.rest = rest;
        Some(*marker == 0xc3)
    }

    /// The next value if it is a double.
    #[inline]
    pub(super) fn double(&mut self) -> Option<f64> {
        let [0xcb, a, b, c, d, e, f, g, h, rest @ ..] = self.rest else {
            return None;
        };
        self.rest = rest;
        Some(f64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
    }

    /// The next value if it is a text of up to 255 bytes.
    #[inline]
    pub(super) fn text(&mut self) -> Option<&'de [u8]> {
        let (len, rest) = match self.rest {
            [marker @ 0xa0..=0xbf, rest @ ..] => (marker & 0x1f, rest),
            [0xd9, len, rest @ ..] => (*len, rest),
            _ => return None,
        };
        let (text, rest) = rest.split_at_checked(len.into())?;
        self.rest = rest;
        Some(text)
    }

    /// Whether the next value is this text, of up to 31 bytes; if so it is read.
    #[inline]
    pub(super) fn is_name(&mut self, name: &str) -> bool {
        let Some((marker, rest)) = self.rest.split_first() else {
            return false;
        };
        if name.len() > 31 || usize::from(marker ^ 0xa0) != name.len() {
            return false;
        }
        let Some((text, rest)) = rest.split_at_checked(name.len()) else {
            return false;
        };
        if !is_same(text, name.as_bytes()) {
            return false;
        }
        self.rest = rest;
        true
    }

    /// The length of the next value if it is an array or map of up to 15 elements, as `empty` says: its marker without any.
    #[inline]
    pub(super) fn small_container(&mut self, empty: u8) -> Option<u32> {
        let (marker, rest) = self.rest.split_first()?;
        let len = marker ^ empty;
        if len > 15 {
            return None;
        }
        self.rest = rest;
        Some(len.into())
    }

    /// Reads the next value, whatever it is.
    #[inline(never)]
    pub(super) fn token(&mut self) -> Result<Token<'de>, DecodeError> {
        let Some((&marker, rest)) = self.rest.split_first() else {
            return Err(self.truncated());
        };
        let (token, rest) = match marker {
            0x00..=0x7f => (Token::Uint(marker.into()), rest),
            0xe0..=0xff => (Token::Negative((marker as i8).into()), rest),
            0x80..=0x8f => (Token::Map((marker & 0x0f).into()), rest),
            0x90..=0x9f => (Token::Array((marker & 0x0f).into()), rest),
            0xa0..=0xbf => {
                let (text, rest) = self.data(rest, (marker & 0x1f).into())?;
                (Token::Str(text), rest)
            }
            0xc0 => (Token::Nil, rest),
            0xc1 => return Err(ScanError::Reserved { offset: self.at() }.into()),
            0xc2 => (Token::Bool(false), rest),
            0xc3 => (Token::Bool(true), rest),
            0xca => self.number(rest, |digits| Token::F32(f32::from_be_bytes(digits)))?,
            0xcb => self.number(rest, |digits| Token::F64(f64::from_be_bytes(digits)))?,
            0xcc => self.number(rest, |digits| Token::Uint(u8::from_be_bytes(digits).into()))?,
            0xcd => self.number(rest, |digits| Token::Uint(u16::from_be_bytes(digits).into()))?,
            0xce => self.number(rest, |digits| Token::Uint(u32::from_be_bytes(digits).into()))?,
            0xcf => self.number(rest, |digits| Token::Uint(u64::from_be_bytes(digits)))?,
            0xd0 => self.number(rest, |digits| signed(i8::from_be_bytes(digits).into()))?,
            0xd1 => self.number(rest, |digits| signed(i16::from_be_bytes(digits).into()))?,
            0xd2 => self.number(rest, |digits| signed(i32::from_be_bytes(digits).into()))?,
            0xd3 => self.number(rest, |digits| signed(i64::from_be_bytes(digits)))?,
            0xd4..=0xd8 => self.ext(rest, 1 << (marker - 0xd4))?,
            0xc4..=0xc9 | 0xd9..=0xdf => self.long(marker, rest)?,
        };
        self.rest = rest;
        Ok(token)
    }

    /// The values with a length behind the marker.
    fn long(&self, marker: u8, rest: &'de [u8]) -> Result<(Token<'de>, &'de [u8]), DecodeError> {
        let (len, rest) = match marker {
            0xc4 | 0xc7 | 0xd9 => self.number(rest, |digits| u8::from_be_bytes(digits).into())?,
            0xc5 | 0xc8 | 0xda | 0xdc | 0xde => {
                self.number(rest, |digits| u16::from_be_bytes(digits).into())?
            }
            _ => self.number(rest, u32::from_be_bytes)?,
        };
        match marker {
            0xdc | 0xdd => Ok((Token::Array(len), rest)),
            0xde | 0xdf => Ok((Token::Map(len), rest)),
            0xc7..=0xc9 => self.ext(rest, len as usize),
            0xc4..=0xc6 => self
                .data(rest, len as usize)
                .map(|(data, rest)| (Token::Bin(data), rest)),
            _ => self
                .data(rest, len as usize)
                .map(|(data, rest)| (Token::Str(data), rest)),
        }
    }

    #[inline]
    fn number<const N: usize, T>(
        &self,
        rest: &'de [u8],
        read: impl FnOnce([u8; N]) -> T,
    ) -> Result<(T, &'de [u8]), DecodeError> {
        match rest.split_first_chunk() {
            Some((digits, rest)) => Ok((read(*digits), rest)),
            None => Err(self.truncated()),
        }
    }

    #[inline]
    fn data(&self, rest: &'de [u8], len: usize) -> Result<(&'de [u8], &'de [u8]), DecodeError> {
        rest.split_at_checked(len).ok_or_else(|| self.truncated())
    }

    /// `len` bytes behind the type.
    fn ext(&self, rest: &'de [u8], len: usize) -> Result<(Token<'de>, &'de [u8]), DecodeError> {
        let ([kind], rest) = self.number(rest, |kind: [u8; 1]| kind)?;
        let (data, rest) = self.data(rest, len)?;
        Ok((Token::Ext(kind as i8, data), rest))
    }
}

/// Whether two short texts of the same length are the same: by words that may overlap, since most names are too short for a
/// call to pay.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    fn ends<const N: usize>(text: &[u8]) -> Option<([u8; N], [u8; N])> {
        Some((*text.first_chunk()?, *text.last_chunk()?))
    }
    match one.len() {
        2..4 => ends::<2>(one) == ends::<2>(other),
        4..=8 => ends::<4>(one) == ends::<4>(other),
        9..=16 => ends::<8>(one) == ends::<8>(other),
        _ => one == other,
    }
}

#[inline]
fn signed<'de>(value: i64) -> Token<'de> {
    match u64::try_from(value) {
        Ok(value) => Token::Uint(value),
        Err(_) => Token::Negative(value),
    }
}

/// A token as serde's errors name it.
pub(super) fn unexpected<'a>(token: &Token<'a>) -> Unexpected<'a> {
    match *token {
        Token::Nil => Unexpected::Unit,
        Token::Bool(value) => Unexpected::Bool(value),
        Token::Uint(value) => Unexpected::Unsigned(value),
        Token::Negative(value) => Unexpected::Signed(value),
        Token::F32(value) => Unexpected::Float(value.into()),
        Token::F64(value) => Unexpected::Float(value),
        Token::Str(bytes) | Token::Bin(bytes) => Unexpected::Bytes(bytes),
        Token::Array(_) => Unexpected::Seq,
        Token::Map(_) => Unexpected::Map,
        Token::Ext(..) => Unexpected::NewtypeStruct,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_wherever_a_byte_does() {
        for len in 0..40 {
            let name: Vec<u8> = (0..len).collect();
            assert!(is_same(&name, &name.clone()));
            for at in 0..name.len() {
                let mut other = name.clone();
                other[at] ^= 0x80;
                assert!(!is_same(&name, &other), "byte {at} of {len}");
            }
        }
    }
}
