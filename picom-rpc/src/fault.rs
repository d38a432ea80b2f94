//! What a handler says when it cannot answer, and what the caller reads of it: one concrete error type, and the trait by
//! which a service's own errors travel with their type. Failures that no peer stated are `error.rs`.

use crate::error::CallError;
use crate::failure::{CallFailure, escaped};
use bytes::Bytes;
use picom_codec::{Code, DecodeError, EncodeError, Limits, value};
use picom_transport::FaultReply;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

/// The longest name of a typed error, in bytes (PROTOCOL §3.5).
const LONGEST_NAME: usize = 128;

/// An error of a service's own that callers can take apart again: a handler returns it with `?`, the caller asks
/// [`CallError::remote`].
///
/// ```
/// use picom_rpc::{Fault, RemoteError};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, PartialEq)]
/// struct OutOfStock { left: u32 }
///
/// impl std::fmt::Display for OutOfStock {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(f, "only {} left", self.left)
///     }
/// }
///
/// impl RemoteError for OutOfStock {
///     const NAME: &'static str = "orders.OutOfStock";
/// }
///
/// let fault = Fault::from(OutOfStock { left: 2 });
/// assert_eq!(fault.remote::<OutOfStock>(), Some(OutOfStock { left: 2 }));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it travels to the caller",
    label = "not a `RemoteError`, and no `From<{Self}>` for `Fault` either",
    note = "implement `RemoteError` for errors callers should tell apart, or say `.map_err(Fault::internal)?`"
)]
pub trait RemoteError: Serialize + fmt::Display {
    /// The name it has between services: compared before anything is decoded, because errors of the same structure
    /// decode as each other. 1 to 128 bytes, checked when the program is compiled; a prefix keeps services apart.
    const NAME: &'static str;
}

/// An error that a handler states and its caller receives.
///
/// Made by `?` from any [`RemoteError`], from the errors of this library and from [`io::Error`]; from others by
/// [`Fault::internal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Fault(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    code: Code,
    started: bool,
    do_not_retry: bool,
    delay: Option<Duration>,
    text: String,
    name: Option<Cow<'static, str>>,
    details: Bytes,
}

impl Fault {
    /// A fault with one of the codes of PROTOCOL §10, or one of your own above 999. The text is for people; what is over
    /// 4 KiB of it is cut on the wire.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Fault(Box::new(Inner {
            code,
            started: true,
            do_not_retry: false,
            delay: None,
            text: text.into(),
            name: None,
            details: value::nil(),
        }))
    }

    /// The handler failed, and the caller can do nothing about it: any error, or a text. The caller sees what the error
    /// and its sources say, and nothing else of them.
    pub fn internal(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Fault::new(Code::INTERNAL, chain(&*error.into()))
    }

    /// The same, asking the caller and those who called it not to try again.
    pub fn do_not_retry(mut self) -> Self {
        self.0.do_not_retry = true;
        self
    }

    /// The same, suggesting a wait before another attempt. Counted in milliseconds on the wire.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.delay = Some(delay);
        self
    }

    /// What kind of error it is.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What it says, for people. It comes from a peer: print it through `Display` of the fault, which escapes control
    /// characters.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The [`RemoteError::NAME`] of the error it carries.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The error it carries, encoded: one MessagePack value, nil if there is none.
    pub fn details(&self) -> &Bytes {
        &self.0.details
    }

    /// Whether the handler was started. Faults that handlers return always say so.
    pub fn started(&self) -> bool {
        self.0.started
    }

    /// Whether the peer asks for no further attempt.
    pub fn says_do_not_retry(&self) -> bool {
        self.0.do_not_retry
    }

    /// The wait the peer suggests before another attempt.
    pub fn suggested_delay(&self) -> Option<Duration> {
        self.0.delay
    }

    /// The error it carries, if that is an `E`: the name is compared first. `None` also if the details do not decode.
    pub fn remote<E: RemoteError + DeserializeOwned>(&self) -> Option<E> {
        if self.name() != Some(E::NAME) {
            return None;
        }
        // Details travel in a frame of their own: as bounded as any message.
        value::decode(&self.0.details, &Limits::untrusted()).ok()
    }

    /// A fault that says the handler was never started.
    pub(crate) fn unstarted(code: Code, text: impl Into<String>) -> Self {
        let mut fault = Fault::new(code, text);
        fault.0.started = false;
        fault
    }

    pub(crate) fn from_reply(reply: &FaultReply) -> Self {
        Fault(Box::new(Inner {
            code: reply.code,
            started: reply.started,
            do_not_retry: reply.do_not_retry,
            delay: reply.delay,
            text: reply.text.clone(),
            name: reply.name.clone().map(Cow::Owned),
            details: reply.details.clone(),
        }))
    }

    pub(crate) fn into_reply(self) -> FaultReply {
        let Inner {
            code,
            started,
            do_not_retry,
            delay,
            text,
            name,
            details,
        } = *self.0;
        FaultReply {
            code,
            started,
            do_not_retry,
            delay,
            text,
            name: name.map(Cow::into_owned),
            details,
        }
    }
}

impl<E: RemoteError> From<E> for Fault {
    fn from(error: E) -> Self {
        const {
            assert!(
                !E::NAME.is_empty() && E::NAME.len() <= LONGEST_NAME,
                "NAME has 1 to 128 bytes"
            )
        };
        let mut fault = Fault::new(Code::APPLICATION, error.to_string());
        match value::encode(&error) {
            Ok(details) => {
                fault.0.name = Some(Cow::Borrowed(E::NAME));
                fault.0.details = details;
                fault
            }
            // The caller learns what happened, if not in a form it can take apart.
            Err(reason) => Fault::internal(format!("{error} ({} could not be encoded: {reason})", E::NAME)),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::internal(error)
    }
}

impl From<EncodeError> for Fault {
    fn from(error: EncodeError) -> Self {
        Fault::internal(error)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Fault::internal(error)
    }
}

impl From<CallError> for Fault {
    /// What went wrong with the handler's own input is stated as that. A call of another service that failed is an
    /// internal error of this one: its types mean nothing to our callers. "Do not retry" travels on, because somebody
    /// below has no strength left; and so does the deadline, which was the caller's.
    fn from(error: CallError) -> Self {
        let code = match error.failure() {
            CallFailure::Decode(_) if error.is_of_handler() => Code::BAD_ARGUMENT,
            _ if error.is_timeout() => Code::DEADLINE,
            _ => Code::INTERNAL,
        };
        let fault = Fault::new(code, chain(&error));
        if error.says_do_not_retry() {
            fault.do_not_retry()
        } else {
            fault
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.name {
            Some(name) => write!(f, "{}: {}", escaped(name), escaped(&self.0.text)),
            None => write!(f, "{}: {}", self.0.code, escaped(&self.0.text)),
        }
    }
}

impl fmt::Debug for Fault {
    /// Without the details: they are the application's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("code", &self.0.code)
            .field("text", &self.0.text)
            .field("name", &self.0.name)
            .field("started", &self.0.started)
            .field("do_not_retry", &self.0.do_not_retry)
            .finish_non_exhaustive()
    }
}

impl StdError for Fault {}

/// What an error and its sources say, in one line.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct NotFound {
        id: u64,
    }

    impl fmt::Display for NotFound {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "no order {}", self.id)
        }
    }

    impl RemoteError for NotFound {
        const NAME: &'static str = "orders.NotFound";
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Twin {
        id: u64,
    }

    impl fmt::Display for Twin {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("twin")
        }
    }

    impl RemoteError for Twin {
        const NAME: &'static str = "other.Twin";
    }

    fn fails() -> Result<(), Fault> {
        Err(NotFound { id: 4 })?;
        Ok(())
    }

    #[test]
    fn a_typed_error_comes_back_as_itself_and_as_no_other() {
        let sent = fails().unwrap_err();
        let received = Fault::from_reply(&sent.clone().into_reply());
        assert_eq!(received, sent);
        assert_eq!(received.code(), Code::APPLICATION);
        assert_eq!(received.remote::<NotFound>(), Some(NotFound { id: 4 }));
        assert_eq!(
            received.remote::<Twin>(),
            None,
            "the structure is the same, the name is not"
        );
        assert_eq!(received.to_string(), "orders.NotFound: no order 4");
    }

    #[test]
    fn any_other_error_becomes_internal_with_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("the disk is gone")]
        struct Disk(#[source] io::Error);
        let fault = Fault::internal(Disk(io::Error::other("unplugged")));
        assert_eq!(
            (fault.code(), fault.text()),
            (Code::INTERNAL, "the disk is gone: unplugged")
        );
        assert_eq!(Fault::internal("words").text(), "words");
        let io: Fault = io::Error::other("broken").into();
        assert_eq!(io.code(), Code::INTERNAL);
    }

    #[test]
    fn what_a_peer_says_cannot_write_to_the_terminal() {
        let fault = Fault::new(Code::INTERNAL, "a\u{1b}[2Jb\nc");
        assert_eq!(fault.to_string(), "internal: a\\u{1b}[2Jb\\nc");
    }

    #[test]
    fn details_that_do_not_decode_are_no_error_of_that_type() {
        let mut reply = Fault::from(NotFound { id: 1 }).into_reply();
        reply.details = Bytes::from_static(&[0xc1]);
        assert_eq!(Fault::from_reply(&reply).remote::<NotFound>(), None);
    }

    #[test]
    fn an_error_that_cannot_be_encoded_still_tells_what_happened() {
        struct Broken;
        impl Serialize for Broken {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no form"))
            }
        }
        impl fmt::Display for Broken {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("it broke")
            }
        }
        impl RemoteError for Broken {
            const NAME: &'static str = "x.Broken";
        }
        let fault = Fault::from(Broken);
        assert_eq!(fault.code(), Code::INTERNAL);
        assert_eq!(fault.text(), "it broke (x.Broken could not be encoded: no form)");
    }
}
