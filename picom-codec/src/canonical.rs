//! The shortest forms of MessagePack that heads are made of (PROTOCOL §3.2): a reader that refuses every other form, and
//! a writer. Which elements a frame has is known to `head/layout.rs`.

use crate::{HeadError, HeadFault, ScanError};
use bytes::{BufMut, BytesMut};
use std::ops::Range;

const NIL: u8 = 0xc0;

/// What reading an element gives. The error is boxed, as it never happens twice on a connection and its size would slow
/// down every element.
pub(crate) type Read<T> = Result<T, Box<HeadError>>;

/// Reads the elements of a head one after the other. `at` is where the next one begins.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Where the next element begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Where the body stands, which begins here and takes all that is left. A body is one value, so there is a byte at
    /// least.
    #[inline]
    pub(crate) fn body(&self, element: &'static str) -> Read<Range<usize>> {
        if self.at < self.bytes.len() {
            Ok(self.at..self.bytes.len())
        } else {
            Err(self.truncated(element))
        }
    }

    /// Nothing may be left.
    #[inline]
    pub(crate) fn end(&self) -> Read<()> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(Self::error(self.at, HeadFault::Trailing { left })),
        }
    }

    /// An error at `offset`.
    #[cold]
    pub(crate) fn error(offset: usize, fault: HeadFault) -> Box<HeadError> {
        Box::new(HeadError { offset, fault })
    }

    fn truncated(&self, element: &'static str) -> Box<HeadError> {
        Self::error(self.bytes.len(), HeadFault::Truncated { element })
    }

    fn not_shortest(&self, element: &'static str) -> Box<HeadError> {
        Self::error(self.at, HeadFault::NotShortest { element })
    }

    #[inline]
    fn marker(&self, element: &'static str) -> Read<u8> {
        self.bytes
            .get(self.at)
            .copied()
            .ok_or_else(|| self.truncated(element))
    }

    #[cold]
    fn wrong_type(&self, element: &'static str, expected: &'static str) -> Box<HeadError> {
        let found = self.bytes.get(self.at).copied().unwrap_or_default();
        Self::error(
            self.at,
            HeadFault::WrongType {
                element,
                expected,
                found,
            },
        )
    }

    /// The big-endian number of `N` bytes behind the marker, refused if it is below `least`.
    #[inline]
    fn number<const N: usize>(&self, least: u64, element: &'static str) -> Read<u64> {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let Some(digits) = rest.first_chunk::<N>() else {
            return Err(self.truncated(element));
        };
        let value = digits
            .iter()
            .fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        if value < least {
            Err(self.not_shortest(element))
        } else {
            Ok(value)
        }
    }

    /// An unsigned integer.
    #[inline]
    pub(crate) fn uint(&mut self, element: &'static str) -> Read<u64> {
        match self.bytes.get(self.at) {
            Some(&small @ 0x00..=0x7f) => {
                self.at += 1;
                Ok(small.into())
            }
            _ => self.wide_uint(element),
        }
    }

    #[inline(never)]
    fn wide_uint(&mut self, element: &'static str) -> Read<u64> {
        let (value, width) = match self.marker(element)? {
            0xcc => (self.number::<1>(0x80, element)?, 2),
            0xcd => (self.number::<2>(0x100, element)?, 3),
            0xce => (self.number::<4>(0x1_0000, element)?, 5),
            0xcf => (self.number::<8>(0x1_0000_0000, element)?, 9),
            _ => return Err(self.wrong_type(element, "an unsigned integer")),
        };
        self.at += width;
        Ok(value)
    }

    /// An unsigned integer from `lowest` to `highest`.
    #[inline]
    pub(crate) fn uint_in(&mut self, lowest: u64, highest: u64, element: &'static str) -> Read<u64> {
        let offset = self.at;
        let found = self.uint(element)?;
        if found < lowest || found > highest {
            return Err(Self::error(
                offset,
                HeadFault::OutOfRange {
                    element,
                    found,
                    lowest,
                    highest,
                },
            ));
        }
        Ok(found)
    }

    /// Whether a nil stands here; if so it is read.
    #[inline]
    pub(crate) fn nil(&mut self) -> bool {
        let nil = self.bytes.get(self.at) == Some(&NIL);
        self.at += usize::from(nil);
        nil
    }

    /// An unsigned integer or nil.
    #[inline]
    pub(crate) fn optional_uint(&mut self, element: &'static str) -> Read<Option<u64>> {
        if self.nil() {
            Ok(None)
        } else {
            self.uint(element).map(Some)
        }
    }

    /// A boolean.
    #[inline]
    pub(crate) fn bool(&mut self, element: &'static str) -> Read<bool> {
        let value = match self.marker(element)? {
            0xc2 => false,
            0xc3 => true,
            _ => return Err(self.wrong_type(element, "a boolean")),
        };
        self.at += 1;
        Ok(value)
    }

    /// A text of `shortest` to `longest` bytes.
    #[inline]
    pub(crate) fn text(&mut self, shortest: usize, longest: usize, element: &'static str) -> Read<&'a str> {
        let (len, width) = match self.marker(element)? {
            marker @ 0xa0..=0xbf => (u64::from(marker & 0x1f), 1),
            0xd9 => (self.number::<1>(32, element)?, 2),
            0xda => (self.number::<2>(0x100, element)?, 3),
            0xdb => (self.number::<4>(0x1_0000, element)?, 5),
            _ => return Err(self.wrong_type(element, "a string")),
        };
        let (shortest, longest) = (shortest as u64, longest as u64);
        if len < shortest || len > longest {
            let fault = HeadFault::WrongLength {
                element,
                found: len,
                shortest,
                longest,
            };
            return Err(Self::error(self.at, fault));
        }
        let start = self.at + width;
        // `len` is at most `longest` here, so the cast loses nothing.
        let end = start + len as usize;
        let Some(bytes) = self.bytes.get(start..end) else {
            return Err(self.truncated(element));
        };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(Self::error(start, HeadFault::NotUtf8 { element }));
        };
        self.at = end;
        Ok(text)
    }

    /// The header of an array: how many elements follow.
    #[inline]
    pub(crate) fn array(&mut self, element: &'static str) -> Read<u32> {
        let (count, width) = match self.marker(element)? {
            marker @ 0x90..=0x9f => (u64::from(marker & 0x0f), 1),
            0xdc => (self.number::<2>(16, element)?, 3),
            0xdd => (self.number::<4>(0x1_0000, element)?, 5),
            _ => return Err(self.wrong_type(element, "an array")),
        };
        self.at += width;
        Ok(count as u32)
    }

    /// The header of an array of `lowest` to `highest` elements.
    #[inline]
    pub(crate) fn array_in(&mut self, lowest: u32, highest: u32, element: &'static str) -> Read<u32> {
        let offset = self.at;
        let count = self.array(element)?;
        if count < lowest || count > highest {
            let (found, lowest, highest) = (count.into(), lowest.into(), highest.into());
            return Err(Self::error(
                offset,
                HeadFault::OutOfRange {
                    element,
                    found,
                    lowest,
                    highest,
                },
            ));
        }
        Ok(count)
    }

    /// The header of a `bin`: how many bytes it says follow.
    pub(crate) fn bin(&mut self, element: &'static str) -> Read<u64> {
        let (len, width) = match self.marker(element)? {
            0xc4 => (self.number::<1>(0, element)?, 2),
            0xc5 => (self.number::<2>(0x100, element)?, 3),
            0xc6 => (self.number::<4>(0x1_0000, element)?, 5),
            _ => return Err(self.wrong_type(element, "binary")),
        };
        self.at += width;
        Ok(len)
    }

    /// A map of at most `longest` bytes that `check` finds well-formed: its bytes.
    pub(crate) fn map(
        &mut self,
        longest: usize,
        element: &'static str,
        check: impl FnOnce(&[u8]) -> Result<usize, ScanError>,
    ) -> Read<&'a [u8]> {
        if !matches!(self.marker(element)?, 0x80..=0x8f | 0xde | 0xdf) {
            return Err(self.wrong_type(element, "a map"));
        }
        let rest = self.rest();
        let len = check(rest)
            .map_err(|error| Self::error(self.at + error.offset(), HeadFault::Map { element, error }))?;
        if len > longest {
            let (found, longest) = (len as u64, longest as u64);
            let fault = HeadFault::WrongLength {
                element,
                found,
                shortest: 1,
                longest,
            };
            return Err(Self::error(self.at, fault));
        }
        self.at += len;
        Ok(rest.get(..len).unwrap_or_default())
    }
}

/// Where a head is written to: bytes, or just their number.
pub(crate) trait Sink {
    fn byte(&mut self, byte: u8);
    fn slice(&mut self, bytes: &[u8]);

    #[inline]
    fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.byte(value as u8),
            0x80..=0xff => self.slice(&[0xcc, value as u8]),
            0x100..=0xffff => {
                self.byte(0xcd);
                self.slice(&(value as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.byte(0xce);
                self.slice(&(value as u32).to_be_bytes());
            }
            _ => {
                self.byte(0xcf);
                self.slice(&value.to_be_bytes());
            }
        }
    }

    #[inline]
    fn optional_uint(&mut self, value: Option<u64>) {
        match value {
            Some(value) => self.uint(value),
            None => self.byte(NIL),
        }
    }

    #[inline]
    fn bool(&mut self, value: bool) {
        self.byte(if value { 0xc3 } else { 0xc2 });
    }

    /// A text of at most 65,535 bytes: no head has a longer one.
    #[inline]
    fn text(&mut self, text: &[u8]) {
        match text.len() {
            len @ 0..=31 => self.byte(0xa0 | len as u8),
            len @ 32..=0xff => self.slice(&[0xd9, len as u8]),
            len => {
                self.byte(0xda);
                self.slice(&(len as u16).to_be_bytes());
            }
        }
        self.slice(text);
    }

    #[inline]
    fn optional_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text.as_bytes()),
            None => self.byte(NIL),
        }
    }

    /// The header of an array of at most 65,535 elements.
    #[inline]
    fn array(&mut self, count: u32) {
        match count {
            0..=15 => self.byte(0x90 | count as u8),
            _ => {
                self.byte(0xdc);
                self.slice(&(count as u16).to_be_bytes());
            }
        }
    }

    /// The header of a `bin` of `len` bytes.
    #[inline]
    fn bin(&mut self, len: u32) {
        match len {
            0..=0xff => self.slice(&[0xc4, len as u8]),
            0x100..=0xffff => {
                self.byte(0xc5);
                self.slice(&(len as u16).to_be_bytes());
            }
            _ => {
                self.byte(0xc6);
                self.slice(&len.to_be_bytes());
            }
        }
    }
}

impl Sink for BytesMut {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.put_u8(byte);
    }

    #[inline]
    fn slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts what would be written.
#[derive(Default)]
pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    #[inline]
    fn byte(&mut self, _: u8) {
        self.0 += 1;
    }

    #[inline]
    fn slice(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}
