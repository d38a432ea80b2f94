//! Why a stream or a connection ended, as a number on the wire (PROTOCOL §10). Codes of newer peers survive the trip.

use std::fmt;

/// A code of PROTOCOL §10. Unknown numbers are legal and are passed on as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $number:literal, $name:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $constant: Code = Code($number);)*

            /// The name PROTOCOL §10 gives the code, or `None` for one this version does not know.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// An orderly end.
    OK = 0, "ok";
    /// The receiver of the answer no longer wants it.
    CANCELLED = 1, "cancelled";
    /// The time of the call has passed.
    DEADLINE = 2, "deadline";
    /// Not begun: no room. The call may run elsewhere.
    REFUSED = 3, "refused";
    /// Not begun: the peer is ending. The call may run elsewhere.
    DRAINING = 4, "draining";
    /// The service has no such method.
    UNKNOWN_METHOD = 5, "unknown-method";
    /// The peer is another service or instance than the one meant.
    WRONG_PEER = 6, "wrong-peer";
    /// The args, or an input message, do not decode as what the method takes.
    BAD_ARGUMENT = 7, "bad-argument";
    /// An error the handler stated.
    APPLICATION = 8, "application";
    /// The handler failed without saying more.
    INTERNAL = 9, "internal";
    /// The handler panicked.
    PANIC = 10, "panic";
    /// A message over the receiver's limit.
    MESSAGE_TOO_LARGE = 11, "message-too-large";
    /// A message is not well-formed MessagePack within the limits.
    BAD_MESSAGE = 12, "bad-message";
    /// A rule of the protocol was broken.
    PROTOCOL = 13, "protocol";
    /// Credit was overrun or overflowed.
    FLOW = 14, "flow";
    /// Abuse, or more work than the peer will take.
    TOO_BUSY = 15, "too-busy";
    /// A time-out of the connection.
    TIMEOUT = 16, "timeout";
    /// No common version.
    VERSION = 17, "version";
    /// The sender gave up before its half was complete.
    INCOMPLETE = 18, "incomplete";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_survive_and_say_their_number() {
        assert_eq!(Code(900).name(), None);
        assert_eq!(Code(900).to_string(), "code 900");
        assert_eq!(Code::WRONG_PEER.to_string(), "wrong-peer");
    }
}
