//! The name of a method as frames carry it. What a method does is for the layers above.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Names up to this length are stored in place: with it a `Method` is 32 bytes, and most names are shorter.
const INLINE: usize = 30;

/// The name of a method: 1 to 128 bytes of UTF-8 (PROTOCOL §3.5). Cheap to clone.
///
/// Compares, hashes and borrows as its `str`, so a map keyed by `Method` is searched by `&str`.
#[derive(Clone)]
pub struct Method(Name);

#[derive(Clone)]
enum Name {
    Inline { len: u8, bytes: [u8; INLINE] },
    Shared(Arc<str>),
}

/// Why a text is not the name of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// It is empty.
    #[error("the name of a method is empty")]
    Empty,
    /// It is over [`Method::MAX_LEN`].
    #[error("the name of a method is {len} bytes long, the limit is {}", Method::MAX_LEN)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

impl Method {
    /// The longest name, in bytes (PROTOCOL §3.5): room for `service.group.method`, small enough to hold many.
    pub const MAX_LEN: usize = 128;

    /// The method with this name.
    pub fn new(name: &str) -> Result<Method, MethodError> {
        let len = name.len();
        if len == 0 {
            return Err(MethodError::Empty);
        }
        if len > Self::MAX_LEN {
            return Err(MethodError::TooLong { len });
        }
        let mut bytes = [0; INLINE];
        match bytes.get_mut(..len) {
            Some(room) => {
                room.copy_from_slice(name.as_bytes());
                Ok(Method(Name::Inline {
                    len: len as u8,
                    bytes,
                }))
            }
            None => Ok(Method(Name::Shared(name.into()))),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // `new` put a whole `str` there, so the empty one cannot come out; without `unsafe` it has to be named.
            Name::Inline { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Name::Shared(name) => name,
        }
    }

    /// The bytes of the name, without the check that [`as_str`](Self::as_str) pays for.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Name::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Name::Shared(name) => name.as_bytes(),
        }
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Method {}

impl PartialEq<str> for Method {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Method {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialOrd for Method {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Method {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Method {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Method {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Method {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl TryFrom<&str> for Method {
    type Error = MethodError;

    fn try_from(name: &str) -> Result<Method, MethodError> {
        Method::new(name)
    }
}

impl std::str::FromStr for Method {
    type Err = MethodError;

    fn from_str(name: &str) -> Result<Method, MethodError> {
        Method::new(name)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashMap};

    #[test]
    fn names_keep_their_text_around_the_inline_length() {
        for len in [1, 2, 29, 30, 31, 32, 127, 128] {
            let text = "ä".repeat(len / 2) + &"m".repeat(len % 2);
            let method = Method::new(&text).unwrap();
            assert_eq!(method.as_str(), text);
            assert_eq!(method.to_string(), text);
            assert_eq!(format!("{method:?}"), format!("{text:?}"));
            assert_eq!(method, method.clone());
            assert_eq!(matches!(method.0, Name::Inline { .. }), len <= INLINE);
        }
    }

    #[test]
    fn empty_and_overlong_names_are_refused() {
        assert_eq!(Method::new(""), Err(MethodError::Empty));
        let error = Method::new(&"m".repeat(129)).unwrap_err();
        assert_eq!(error, MethodError::TooLong { len: 129 });
        assert_eq!(
            error.to_string(),
            "the name of a method is 129 bytes long, the limit is 128"
        );
    }

    #[test]
    fn maps_keyed_by_method_are_searched_by_str() {
        let long = "long".repeat(20);
        let names = ["add", "größer", long.as_str()];
        let hashed: HashMap<Method, usize> = names
            .iter()
            .enumerate()
            .map(|(i, name)| (Method::new(name).unwrap(), i))
            .collect();
        let sorted: BTreeMap<Method, usize> = hashed.iter().map(|(method, i)| (method.clone(), *i)).collect();
        for (i, name) in names.iter().enumerate() {
            assert_eq!(hashed.get(*name), Some(&i));
            assert_eq!(sorted.get(*name), Some(&i));
        }
        assert_eq!(hashed.get("sub"), None);
    }

    #[test]
    fn a_method_is_32_bytes() {
        assert_eq!(size_of::<Method>(), 32);
    }
}
