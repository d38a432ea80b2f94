//! Why bytes do not decode as a value.

use crate::ScanError;
use serde::de::{self, Expected, Unexpected};
use std::fmt::{self, Display, Write};

/// How much of a text that a type or a peer put into an error is kept, in bytes: a line to read, whatever was sent.
const MOST_TEXT: usize = 200;

const BYTES_IN_COPY: &str =
    " (within tagged, untagged and flattened types bytes must be a `Blob`, or in `serde_bytes`)";

/// Why a message does not decode as the type asked for: [what](Self::fault) and [where](Self::offset).
///
/// Texts and bytes that were received are not repeated in it, save unknown names of fields and variants, cut short.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    offset: Option<usize>,
    fault: DecodeFault,
}

/// What is wrong with a message, for the type asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeFault {
    /// It is not one well-formed value within the limits.
    #[error("{0}")]
    Malformed(ScanError),
    /// The type nests deeper than the recursion budget: arrays, maps, enums, newtypes and `Some`s count.
    #[error("the type nests deeper here than the limit of {limit}")]
    TooDeep {
        /// The budget.
        limit: u8,
    },
    /// A value of another type stands there.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What the type takes.
        expected: String,
        /// What is there, without its content.
        found: String,
    },
    /// A value of the right type that the type does not take.
    #[error("expected {expected}, found the value {found}")]
    WrongValue {
        /// What the type takes.
        expected: String,
        /// What is there; texts and bytes without their content.
        found: String,
    },
    /// An array, map or text of the wrong length.
    #[error("expected {expected}, found {found} elements")]
    WrongLength {
        /// What the type takes.
        expected: String,
        /// How many there are.
        found: usize,
    },
    /// A text that is not UTF-8 where the type takes text.
    #[error("expected a string, found bytes that are not UTF-8")]
    NotUtf8,
    /// An array or map that the type did not read to its end.
    #[error("elements more than expected: {left}")]
    LeftOver {
        /// How many were left.
        left: u32,
    },
    /// No such variant.
    #[error("unknown variant `{found}`, expected {expected}")]
    UnknownVariant {
        /// Its name, cut short.
        found: String,
        /// The variants there are.
        expected: String,
    },
    /// No such field, and the type denies unknown ones.
    #[error("unknown field `{found}`, expected {expected}")]
    UnknownField {
        /// Its name, cut short.
        found: String,
        /// The fields there are.
        expected: String,
    },
    /// A field is missing.
    #[error("missing field `{field}`")]
    MissingField {
        /// Its name.
        field: &'static str,
    },
    /// A field stands there twice.
    #[error("duplicate field `{field}`")]
    DuplicateField {
        /// Its name.
        field: &'static str,
    },
    /// What the type itself said, cut short.
    #[error("{0}")]
    Other(String),
}

impl DecodeError {
    #[cold]
    pub(super) fn new(offset: usize, fault: DecodeFault) -> Self {
        DecodeError(Box::new(Inner {
            offset: Some(offset),
            fault,
        }))
    }

    /// What is wrong.
    pub fn fault(&self) -> &DecodeFault {
        &self.0.fault
    }

    /// Where the value in question begins, in bytes from the first of the message.
    pub fn offset(&self) -> usize {
        self.0.offset.unwrap_or_default()
    }

    /// Whether the message is at fault whatever the type: not well-formed, or over the limits.
    pub fn is_malformed(&self) -> bool {
        matches!(self.0.fault, DecodeFault::Malformed(_))
    }

    /// The same error, at `offset` unless a more exact place is known.
    #[cold]
    pub(super) fn at(mut self, offset: usize) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }
}

impl From<ScanError> for DecodeError {
    #[cold]
    fn from(error: ScanError) -> Self {
        DecodeError::new(error.offset(), DecodeFault::Malformed(error))
    }
}

impl From<DecodeFault> for DecodeError {
    #[cold]
    fn from(fault: DecodeFault) -> Self {
        DecodeError(Box::new(Inner { offset: None, fault }))
    }
}

impl Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.fault {
            // Says its offset itself.
            DecodeFault::Malformed(error) => error.fmt(f),
            fault => write!(f, "byte {}: {fault}", self.offset()),
        }
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeError")
            .field("offset", &self.offset())
            .field("fault", &self.0.fault)
            .finish()
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: Display>(text: T) -> Self {
        DecodeFault::Other(short(text)).into()
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = short(expected);
        let mut found_text = described(found);
        // Our deserializer reads a sequence from bytes. serde's own, over its copy of the data, does not.
        if expected == "a sequence" && matches!(found, Unexpected::Bytes(_)) {
            found_text.push_str(BYTES_IN_COPY);
        }
        DecodeFault::WrongType {
            expected,
            found: found_text,
        }
        .into()
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        DecodeFault::WrongValue {
            expected: short(expected),
            found: described(found),
        }
        .into()
    }

    fn invalid_length(found: usize, expected: &dyn Expected) -> Self {
        DecodeFault::WrongLength {
            expected: short(expected),
            found,
        }
        .into()
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        DecodeFault::UnknownVariant {
            found: short(found),
            expected: one_of(expected),
        }
        .into()
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        DecodeFault::UnknownField {
            found: short(found),
            expected: one_of(expected),
        }
        .into()
    }

    fn missing_field(field: &'static str) -> Self {
        DecodeFault::MissingField { field }.into()
    }

    fn duplicate_field(field: &'static str) -> Self {
        DecodeFault::DuplicateField { field }.into()
    }
}

/// What was found, without the content of texts and bytes.
fn described(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) => format!("a string of {} bytes", text.len()),
        Unexpected::Bytes(bytes) => format!("binary of {} bytes", bytes.len()),
        Unexpected::Bool(value) => format!("the boolean {value}"),
        Unexpected::Unsigned(value) => format!("the integer {value}"),
        Unexpected::Signed(value) => format!("the integer {value}"),
        Unexpected::Float(value) => format!("the float {value}"),
        Unexpected::Unit => "nil".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        Unexpected::NewtypeStruct => "an ext".to_owned(),
        other => short(other),
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => short(format_args!("one of {}", names.join(", "))),
    }
}

/// `text` up to [`MOST_TEXT`] bytes, written no further than that.
fn short(text: impl Display) -> String {
    let mut cut = Cut(String::new());
    // An error of the writer means that the text is full, or that the type's own `Display` failed.
    let _ = write!(cut, "{text}");
    cut.0
}

struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MOST_TEXT.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        self.0.push_str(text.get(..end).unwrap_or_default());
        self.0.push('…');
        Err(fmt::Error)
    }
}
