//! What of a value has parts: structs, maps, sequences. Lengths that serde does not know are put in at the end.

use super::EncodeError;
use super::narrow::{Narrow, OnlyByte};
use super::serializer::{Encoder, length};
use serde::ser::{self, Serialize, SerializeSeq};

/// Room reserved at once for a sequence of bytes, in bytes. Its announced length is not believed further than this.
const RESERVE: usize = 64 * 1024;

/// A struct or tuple struct, whose length serde knows.
pub(super) struct Fields<'a, 'o> {
    encoder: &'a mut Encoder<'o>,
    named: bool,
    announced: usize,
    given: usize,
    levels: u8,
}

impl<'a, 'o> Fields<'a, 'o> {
    /// `levels`: a variant's map is one more.
    #[inline]
    pub(super) fn new(
        encoder: &'a mut Encoder<'o>,
        len: usize,
        named: bool,
        levels: u8,
    ) -> Result<Self, EncodeError> {
        for _ in 0..levels {
            encoder.descend()?;
        }
        let count = length(len)?;
        if named {
            encoder.map(count)
        } else {
            encoder.array(count)
        }
        Ok(Fields {
            encoder,
            named,
            announced: len,
            given: 0,
            levels,
        })
    }

    /// A field of a struct. Its name is written unless structs are arrays.
    #[inline]
    fn named_field<T: ?Sized + Serialize>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        if self.named {
            self.encoder.name(name)?;
        }
        self.field(value)
    }

    #[inline]
    fn field<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.given += 1;
        value.serialize(&mut *self.encoder)
    }

    #[inline]
    fn finish(self) -> Result<(), EncodeError> {
        self.encoder.budget += self.levels;
        same(self.announced, self.given)
    }
}

#[inline]
fn same(announced: usize, given: usize) -> Result<(), EncodeError> {
    if announced != given {
        return Err(EncodeError::WrongLength {
            announced: announced as u64,
            given: given as u64,
        });
    }
    Ok(())
}

/// The four traits differ in nothing but whether fields have names.
macro_rules! fields {
    ($($kind:ident by $method:ident($($name:ident)?);)*) => {$(
        impl ser::$kind for Fields<'_, '_> {
            type Ok = ();
            type Error = EncodeError;

            #[inline]
            fn serialize_field<T: ?Sized + Serialize>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), EncodeError> {
                self.$method($($name,)? value)
            }

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                self.finish()
            }
        }
    )*};
}

fields! {
    SerializeStruct by named_field(name);
    SerializeStructVariant by named_field(name);
    SerializeTupleStruct by field();
    SerializeTupleVariant by field();
}

/// A map, whose length may not be known before its end.
pub(super) struct Entries<'a, 'o> {
    encoder: &'a mut Encoder<'o>,
    start: usize,
    announced: Option<usize>,
    given: usize,
}

impl<'a, 'o> Entries<'a, 'o> {
    pub(super) fn new(encoder: &'a mut Encoder<'o>, len: Option<usize>) -> Result<Self, EncodeError> {
        encoder.descend()?;
        let start = encoder.out.len();
        if let Some(len) = len {
            encoder.map(length(len)?);
        }
        Ok(Entries {
            encoder,
            start,
            announced: len,
            given: 0,
        })
    }
}

impl ser::SerializeMap for Entries<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.given += 1;
        key.serialize(&mut *self.encoder)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(&mut *self.encoder)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.encoder.budget += 1;
        match self.announced {
            Some(announced) => same(announced, self.given),
            None => {
                let count = length(self.given)?;
                self.encoder.insert(self.start, |encoder| encoder.map(count));
                Ok(())
            }
        }
    }
}

/// A sequence or tuple: bytes as long as every element is a `u8`, values from the first other one on.
pub(super) struct Sequence<'a, 'o> {
    encoder: &'a mut Encoder<'o>,
    /// Where it begins, header included if that is written.
    start: usize,
    announced: Option<usize>,
    given: usize,
    /// While all elements are bytes: where the first stands. The header before them is `bin`'s.
    bytes_from: Option<usize>,
}

impl<'a, 'o> Sequence<'a, 'o> {
    pub(super) fn new(
        encoder: &'a mut Encoder<'o>,
        len: Option<usize>,
        maybe_bytes: bool,
    ) -> Result<Self, EncodeError> {
        encoder.descend()?;
        let start = encoder.out.len();
        if let Some(len) = len {
            let count = length(len)?;
            if maybe_bytes {
                encoder.bin(count)
            } else {
                encoder.array(count)
            }
        }
        let bytes_from = maybe_bytes.then_some(encoder.out.len());
        Ok(Sequence {
            encoder,
            start,
            announced: len,
            given: 0,
            bytes_from,
        })
    }

    /// Writes what stands there as bytes once more, as values.
    #[cold]
    fn turn_to_values(&mut self, bytes_from: usize) -> Result<(), EncodeError> {
        let bytes = self.encoder.out.get(bytes_from..).unwrap_or_default().to_vec();
        self.encoder.out.truncate(self.start);
        if let Some(len) = self.announced {
            self.encoder.array(length(len)?);
        }
        for byte in bytes {
            self.encoder.uint(byte.into());
        }
        self.bytes_from = None;
        Ok(())
    }
}

impl SerializeSeq for Sequence<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), EncodeError> {
        if let Some(bytes_from) = self.bytes_from {
            match value.serialize(Narrow(OnlyByte)) {
                Ok(byte) => {
                    if self.given == 0 {
                        self.encoder.out.reserve(self.announced.unwrap_or(0).min(RESERVE));
                    }
                    self.encoder.out.push(byte);
                    self.given += 1;
                    return Ok(());
                }
                Err(_) => self.turn_to_values(bytes_from)?,
            }
        }
        self.given += 1;
        value.serialize(&mut *self.encoder)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        self.encoder.budget += 1;
        if let Some(announced) = self.announced {
            return same(announced, self.given);
        }
        let count = length(self.given)?;
        match self.bytes_from {
            Some(_) if count > 0 => self.encoder.insert(self.start, |encoder| encoder.bin(count)),
            _ => self.encoder.insert(self.start, |encoder| encoder.array(count)),
        }
        Ok(())
    }
}

impl ser::SerializeTuple for Sequence<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), EncodeError> {
        SerializeSeq::serialize_element(self, value)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        SerializeSeq::end(self)
    }
}
