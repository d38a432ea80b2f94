//! The name of a service. What is registered under a name lives in `instance.rs`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Bytes a service name may have. Consul's own documentation recommends names that fit a DNS label (63); twice that
/// leaves room for prefixes, and keeps a name small enough for a log line and a HELLO frame.
pub const MAX_NAME_BYTES: usize = 128;

/// The name of a service: what callers say and what is registered.
///
/// Not empty, at most [`MAX_NAME_BYTES`] bytes, no control characters, no blanks at its ends, and no path segment that
/// is empty, `.` or `..`: Consul's HTTP server tidies such paths up and would look up another name.
/// Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// Why a text is no service name. Every variant names the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("a service name may not be empty")]
    Empty,
    /// The name is longer than [`MAX_NAME_BYTES`].
    #[error("service name {name:?}… has {bytes} bytes, at most {MAX_NAME_BYTES} are allowed")]
    TooLong {
        /// Its first characters.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// The name holds a control character.
    #[error("service name {name:?} holds the control character {character:?}")]
    Control {
        /// The name.
        name: String,
        /// The first control character in it.
        character: char,
    },
    /// The name begins or ends with white space.
    #[error("service name {name:?} begins or ends with white space")]
    Blank {
        /// The name.
        name: String,
    },
    /// Between slashes, or between a slash and an end, stands nothing, `.` or `..`.
    #[error("service name {name:?} has an empty, \".\" or \"..\" part; such paths cannot be asked for")]
    Segment {
        /// The name.
        name: String,
    },
}

impl ServiceName {
    /// Takes `name` if it keeps the rules above.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME_BYTES {
            let shown = name.chars().take(32).collect();
            return Err(NameError::TooLong {
                name: shown,
                bytes: name.len(),
            });
        }
        if let Some(character) = name.chars().find(|c| c.is_control()) {
            return Err(NameError::Control {
                name: name.to_owned(),
                character,
            });
        }
        if name.trim() != name {
            return Err(NameError::Blank {
                name: name.to_owned(),
            });
        }
        if has_untidy_segment(name) {
            return Err(NameError::Segment {
                name: name.to_owned(),
            });
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a path with `text` in it would be rewritten by a server that tidies paths up.
pub(crate) fn has_untidy_segment(text: &str) -> bool {
    text.split('/').any(|part| matches!(part, "" | "." | ".."))
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for ServiceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken_as_they_are() {
        for name in [
            "service1",
            "a",
            "orders/v2",
            "bad_name!.x",
            "größe",
            "a b",
            ".hidden",
            "...",
        ] {
            assert_eq!(ServiceName::new(name).unwrap().as_str(), name);
        }
        assert!(ServiceName::new("x".repeat(MAX_NAME_BYTES)).is_ok());
    }

    #[test]
    fn every_refusal_names_the_value() {
        assert_eq!(ServiceName::new(""), Err(NameError::Empty));
        let long = ServiceName::new("y".repeat(MAX_NAME_BYTES + 1))
            .unwrap_err()
            .to_string();
        assert!(
            long.contains("yyyy") && long.contains("129") && long.contains("128"),
            "{long}"
        );
        for bad in [
            "a\nb", "a\u{7f}", " a", "a\u{a0}", "/", "//", "a//b", "/a", "a/", ".", "..", "a/../b", "a/.",
        ] {
            let error = ServiceName::new(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let error = ServiceName::new("ö".repeat(100)).unwrap_err();
        assert!(matches!(error, NameError::TooLong { bytes: 200, .. }));
    }
}
