//! The number of a stream within its connection. Parity and order are rules of the protocol (PROTOCOL §5.1); the
//! multiplexer enforces them.

use std::fmt;

/// The id of a stream: odd for streams the client opened, even (reserved) for the server's, never 0 and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// The first stream a client opens.
    pub const FIRST: StreamId = StreamId(1);

    /// The id with this number. Which numbers may be used is for the multiplexer to say.
    pub const fn new(id: u64) -> Self {
        StreamId(id)
    }

    /// The number on the wire.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether a client opens streams with ids like this one.
    pub const fn is_client_opened(self) -> bool {
        self.0 % 2 == 1
    }

    /// The id that the same opener uses next, or `None` when the numbers are used up.
    pub const fn next(self) -> Option<StreamId> {
        match self.0.checked_add(2) {
            Some(id) => Some(StreamId(id)),
            None => None,
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_of_an_opener_is_its_last_plus_two() {
        assert_eq!(StreamId::FIRST.next(), Some(StreamId::new(3)));
        assert!(StreamId::FIRST.is_client_opened());
        assert!(!StreamId::new(2).is_client_opened());
    }

    #[test]
    fn ids_end_instead_of_wrapping() {
        assert_eq!(StreamId::new(u64::MAX).next(), None);
        assert_eq!(StreamId::new(u64::MAX - 1).next(), None);
        assert_eq!(StreamId::new(u64::MAX - 2).next(), Some(StreamId::new(u64::MAX)));
    }
}
