//! MessagePack's ext, as `rmpv` passes it through serde: a marked newtype around a pair of type and data.

use super::DecodeError;
use serde::de::value::BorrowedBytesDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// The pair of an ext's type and data.
pub(super) struct ExtDeserializer<'de> {
    kind: Option<i8>,
    data: Option<&'de [u8]>,
}

impl<'de> ExtDeserializer<'de> {
    pub(super) fn new(kind: i8, data: &'de [u8]) -> Self {
        ExtDeserializer {
            kind: Some(kind),
            data: Some(data),
        }
    }
}

impl<'de> Deserializer<'de> for ExtDeserializer<'de> {
    type Error = DecodeError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for ExtDeserializer<'de> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        if let Some(kind) = self.kind.take() {
            return seed.deserialize(kind.into_deserializer()).map(Some);
        }
        match self.data.take() {
            Some(data) => seed.deserialize(BorrowedBytesDeserializer::new(data)).map(Some),
            None => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(usize::from(self.kind.is_some()) + usize::from(self.data.is_some()))
    }
}
