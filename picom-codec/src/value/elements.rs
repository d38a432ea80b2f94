//! What an array, a map, a struct or bytes give to a type one by one.

use super::deserializer::Decoder;
use super::{DecodeError, DecodeFault};
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess};
use std::slice;

/// The elements of an array, or the entries of a map.
pub(super) struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: u32,
}

impl<'a, 'de> Elements<'a, 'de> {
    #[inline]
    pub(super) fn new(decoder: &'a mut Decoder<'de>, len: u32) -> Self {
        Elements { decoder, left: len }
    }

    /// What the type made of them, if it has read all that is there.
    #[inline]
    pub(super) fn all_read<T>(self, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
        if self.left > 0 && result.is_ok() {
            return Err(self.left_over());
        }
        result
    }

    #[cold]
    fn left_over(self) -> DecodeError {
        let left = self.left;
        DecodeError::new(self.decoder.tokens.at(), DecodeFault::LeftOver { left })
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.decoder.element(seed).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        // All that is announced was checked to be no more than the message has bytes.
        Some(self.left as usize)
    }
}

impl<'de> MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.decoder.element(seed).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        self.decoder.element(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left as usize)
    }
}

/// The bytes of a `bin`, one by one.
pub(super) struct ByteElements<'de>(slice::Iter<'de, u8>);

impl<'de> ByteElements<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        ByteElements(bytes.iter())
    }

    /// What the type made of them, if it has read all that is there.
    pub(super) fn all_read<T>(self, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
        match self.0.len() {
            0 => result,
            left => result.and(Err(DecodeFault::LeftOver { left: left as u32 }.into())),
        }
    }
}

impl<'de> SeqAccess<'de> for &mut ByteElements<'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        match self.0.next() {
            Some(byte) => seed.deserialize(byte.into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}
