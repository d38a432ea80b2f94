//! The values of a message one by one, arrays and maps as their headers. What they become is for the deserializer.

use super::DecodeError;
use crate::ScanError;
use serde::de::Unexpected;

/// One value as it stands on the wire, arrays and maps as their headers.
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

/// The bytes of a message and how far they are read.
pub(super) struct Tokens<'de> {
    bytes: &'de [u8],
    /// Where the next value begins.
    pub(super) at: usize,
}

impl<'de> Tokens<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Tokens { bytes, at: 0 }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'de [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[cold]
    fn truncated(&self) -> DecodeError {
        let left = self.bytes.len().saturating_sub(self.at);
        ScanError::Truncated {
            offset: self.at,
            needed: left as u64 + 1,
            left,
        }
        .into()
    }

    /// The first byte of the next value.
    #[inline]
    pub(super) fn peek(&self) -> Result<u8, DecodeError> {
        self.bytes.get(self.at).copied().ok_or_else(|| self.truncated())
    }

    /// `N` bytes behind the marker.
    #[inline]
    fn fixed<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        rest.first_chunk().copied().ok_or_else(|| self.truncated())
    }

    /// `len` bytes from `skip` behind the marker on, and the place behind them.
    #[inline]
    fn data(&self, skip: usize, len: usize) -> Result<(&'de [u8], usize), DecodeError> {
        let start = self.at + skip;
        let end = start.saturating_add(len);
        let data = self.bytes.get(start..end).ok_or_else(|| self.truncated())?;
        Ok((data, end))
    }

    /// The next value if it is an integer of one byte from 0 on, the most frequent of all.
    #[inline]
    pub(super) fn small_uint(&mut self) -> Option<u8> {
        let marker = self
            .bytes
            .get(self.at)
            .copied()
            .filter(|marker| *marker <= 0x7f)?;
        self.at += 1;
        Some(marker)
    }

    /// The next value if it is a text of up to 31 bytes.
    #[inline]
    pub(super) fn small_str(&mut self) -> Option<&'de [u8]> {
        let (marker, rest) = self.rest().split_first()?;
        let len = usize::from(marker ^ 0xa0);
        if len > 31 {
            return None;
        }
        let text = rest.get(..len)?;
        self.at += 1 + len;
        Some(text)
    }

    /// The length of the next value if it is an array or map of up to 15 elements, as `base` says: its marker when empty.
    #[inline]
    pub(super) fn small_container(&mut self, base: u8) -> Option<u32> {
        let len = self.bytes.get(self.at)? ^ base;
        if len > 15 {
            return None;
        }
        self.at += 1;
        Some(len.into())
    }

    /// Reads the next value. Not inlined: those that matter have shorter ways above.
    #[inline(never)]
    pub(super) fn token(&mut self) -> Result<Token<'de>, DecodeError> {
        let marker = self.peek()?;
        let (token, end) = match marker {
            0x00..=0x7f => (Token::Uint(u64::from(marker)), self.at + 1),
            0xa0..=0xbf => {
                let (data, end) = self.data(1, usize::from(marker & 0x1f))?;
                (Token::Str(data), end)
            }
            0x80..=0x8f => (Token::Map(u32::from(marker & 0x0f)), self.at + 1),
            0x90..=0x9f => (Token::Array(u32::from(marker & 0x0f)), self.at + 1),
            0xe0..=0xff => (Token::Negative(i64::from(marker as i8)), self.at + 1),
            0xc0 => (Token::Nil, self.at + 1),
            0xc2 => (Token::Bool(false), self.at + 1),
            0xc3 => (Token::Bool(true), self.at + 1),
            0xcc => (Token::Uint(u64::from(self.fixed::<1>()?[0])), self.at + 2),
            0xcd => (Token::Uint(u16::from_be_bytes(self.fixed()?).into()), self.at + 3),
            0xce => (Token::Uint(u32::from_be_bytes(self.fixed()?).into()), self.at + 5),
            0xcf => (Token::Uint(u64::from_be_bytes(self.fixed()?)), self.at + 9),
            0xd0 => (signed(i8::from_be_bytes(self.fixed()?).into()), self.at + 2),
            0xd1 => (signed(i16::from_be_bytes(self.fixed()?).into()), self.at + 3),
            0xd2 => (signed(i32::from_be_bytes(self.fixed()?).into()), self.at + 5),
            0xd3 => (signed(i64::from_be_bytes(self.fixed()?)), self.at + 9),
            0xca => (Token::F32(f32::from_be_bytes(self.fixed()?)), self.at + 5),
            0xcb => (Token::F64(f64::from_be_bytes(self.fixed()?)), self.at + 9),
            _ => return self.long_token(marker),
        };
        self.at = end;
        Ok(token)
    }

    /// The tokens with a length behind the marker, and ext.
    fn long_token(&mut self, marker: u8) -> Result<Token<'de>, DecodeError> {
        let (len, width) = match marker {
            0xc4 | 0xc7 | 0xd9 => (usize::from(self.fixed::<1>()?[0]), 2),
            0xc5 | 0xc8 | 0xda | 0xdc | 0xde => (usize::from(u16::from_be_bytes(self.fixed()?)), 3),
            0xc6 | 0xc9 | 0xdb | 0xdd | 0xdf => (u32::from_be_bytes(self.fixed()?) as usize, 5),
            0xd4..=0xd8 => (1 << (marker - 0xd4), 1),
            _ => return Err(ScanError::Reserved { offset: self.at }.into()),
        };
        let (token, end) = match marker {
            0xdc | 0xdd => (Token::Array(len as u32), self.at + width),
            0xde | 0xdf => (Token::Map(len as u32), self.at + width),
            0xc4..=0xc6 => {
                let (data, end) = self.data(width, len)?;
                (Token::Bin(data), end)
            }
            0xd9..=0xdb => {
                let (data, end) = self.data(width, len)?;
                (Token::Str(data), end)
            }
            _ => match self.data(width, len.saturating_add(1))? {
                ([kind, data @ ..], end) => (Token::Ext(*kind as i8, data), end),
                _ => return Err(self.truncated()),
            },
        };
        self.at = end;
        Ok(token)
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
