//! A call that went wrong: to whom, after how many attempts, and whether it ran. What can happen is `failure.rs`, what a
//! handler states `fault.rs`; whether a failed attempt is repeated is `client/retry.rs`.

use crate::failure::CallFailure;
use crate::fault::{Fault, RemoteError};
use picom_codec::Code;
use picom_transport::{OpenError, Outcome, SendError, StreamError};
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// A call that failed. Cheap to clone.
///
/// It says what happened ([`failure`](Self::failure)), to which service, method and host, whether the call ran
/// ([`outcome`](Self::outcome)), and which attempts were made before ([`attempts`](Self::attempts)). `Display` prints
/// that in one line; `source()` has what lies below.
#[derive(Clone)]
pub struct CallError(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    subject: Subject,
    failure: CallFailure,
    host: Option<Arc<str>>,
    outcome: Outcome,
    do_not_retry: bool,
    attempts: Vec<Attempt>,
}

/// What an error is about.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A call of ours.
    Call { service: Arc<str>, method: Arc<str> },
    /// The halves of a call that a handler of ours answers.
    Handler { method: Arc<str> },
}

/// One attempt of a call that failed.
#[derive(Clone, Debug)]
pub struct Attempt {
    host: Arc<str>,
    outcome: Outcome,
    failure: Arc<CallFailure>,
}

impl CallError {
    pub(crate) fn new(subject: Subject, failure: CallFailure) -> Self {
        let outcome = failure.outcome();
        let do_not_retry = matches!(&failure, CallFailure::Fault(fault) if fault.says_do_not_retry());
        CallError(Arc::new(Inner {
            subject,
            failure,
            host: None,
            outcome,
            do_not_retry,
            attempts: Vec::new(),
        }))
    }

    pub(crate) fn at(mut self, host: Arc<str>) -> Self {
        self.inner().host = Some(host);
        self
    }

    pub(crate) fn after(mut self, attempts: Vec<Attempt>) -> Self {
        self.inner().attempts = attempts;
        self
    }

    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.inner().outcome = outcome;
        self
    }

    pub(crate) fn with_do_not_retry(mut self, do_not_retry: bool) -> Self {
        self.inner().do_not_retry |= do_not_retry;
        self
    }

    /// What happened.
    pub fn failure(&self) -> &CallFailure {
        &self.0.failure
    }

    /// Whether the call ran. [`Outcome::MaybeExecuted`] is the only one that leaves it open.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The service that was called; `None` for an error of a handler's own streams.
    pub fn service(&self) -> Option<&str> {
        match &self.0.subject {
            Subject::Call { service, .. } => Some(service),
            Subject::Handler { .. } => None,
        }
    }

    /// The method.
    pub fn method(&self) -> &str {
        match &self.0.subject {
            Subject::Call { method, .. } | Subject::Handler { method } => method,
        }
    }

    /// The host and port of the last attempt; for a handler's own streams, its caller's.
    pub fn host(&self) -> Option<&str> {
        self.0.host.as_deref()
    }

    /// Every attempt that failed, the first one first; the last is the one this error is about. Empty if no instance was
    /// asked.
    pub fn attempts(&self) -> &[Attempt] {
        &self.0.attempts
    }

    /// Whether another attempt would only add load: the peer says so, or the budget of retries is spent.
    pub fn says_do_not_retry(&self) -> bool {
        self.0.do_not_retry
    }

    /// The error the peer stated, if it stated one.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.0.failure {
            CallFailure::Fault(fault) => Some(fault),
            _ => None,
        }
    }

    /// The application's error that the handler returned, if it is an `E`: its name is compared before it is decoded.
    pub fn remote<E: RemoteError + DeserializeOwned>(&self) -> Option<E> {
        self.fault()?.remote()
    }

    /// Whether the time of the call was over, here or at the peer.
    pub fn is_timeout(&self) -> bool {
        match &self.0.failure {
            CallFailure::Overdue | CallFailure::Discovery(_) => true,
            CallFailure::Stream(error) => is_deadline(error),
            CallFailure::Send(SendError::Ended(error)) => is_deadline(error),
            CallFailure::Send(SendError::Stopped { code }) => *code == Code::DEADLINE,
            CallFailure::Fault(fault) => fault.code() == Code::DEADLINE,
            _ => false,
        }
    }

    /// Whether there is nobody to answer at present: the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match &self.0.failure {
            CallFailure::UnknownService
            | CallFailure::ServiceDown { .. }
            | CallFailure::Discovery(_)
            | CallFailure::AllDraining
            | CallFailure::Unreachable(_) => true,
            CallFailure::NotOpened(error) => {
                matches!(
                    error,
                    OpenError::Full { .. } | OpenError::Draining | OpenError::Closed(_)
                )
            }
            CallFailure::Stream(error) => matches!(
                error,
                StreamError::ConnectionLost { .. }
                    | StreamError::NotTaken
                    | StreamError::Reset {
                        code: Code::REFUSED | Code::DRAINING | Code::TOO_BUSY
                    }
            ),
            CallFailure::Fault(fault) => {
                matches!(fault.code(), Code::REFUSED | Code::DRAINING | Code::TOO_BUSY)
            }
            _ => false,
        }
    }

    /// Whether the service has no such method.
    pub fn is_unknown_method(&self) -> bool {
        self.fault()
            .is_some_and(|fault| fault.code() == Code::UNKNOWN_METHOD)
    }

    /// Whether no instance of that name is registered.
    pub fn is_unknown_service(&self) -> bool {
        matches!(self.0.failure, CallFailure::UnknownService)
    }

    pub(crate) fn is_of_handler(&self) -> bool {
        matches!(self.0.subject, Subject::Handler { .. })
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
}

impl Attempt {
    pub(crate) fn new(host: Arc<str>, outcome: Outcome, failure: CallFailure) -> Self {
        Attempt {
            host,
            outcome,
            failure: Arc::new(failure),
        }
    }

    /// The host and port that was tried.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether this attempt ran.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What happened to it.
    pub fn failure(&self) -> &CallFailure {
        &self.failure
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.failure)?;
        if let Some(source) = self.failure.source() {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            subject,
            failure,
            host,
            outcome,
            attempts,
            do_not_retry,
        } = &*self.0;
        match subject {
            Subject::Call { service, method } => {
                write!(f, "calling {:?} of service {:?}", method, service)?;
                if let Some(host) = host {
                    write!(f, " at {host}")?;
                }
            }
            Subject::Handler { method } => {
                write!(f, "a stream of the call of {method:?}")?;
                if let Some(host) = host {
                    write!(f, " from {host}")?;
                }
            }
        }
        write!(f, ": {failure}")?;
        if matches!(subject, Subject::Call { .. }) {
            f.write_str(match outcome {
                Outcome::NeverSent => "; it was not sent",
                Outcome::Refused => "; it has not run",
                Outcome::MaybeExecuted => "; it may have run",
                Outcome::Executed => "; it has run",
            })?;
        }
        if attempts.len() > 1 {
            write!(f, "; attempt {}", attempts.len())?;
        }
        if *do_not_retry {
            f.write_str("; do not retry")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            subject,
            failure,
            host,
            outcome,
            do_not_retry,
            attempts,
        } = &*self.0;
        f.debug_struct("CallError")
            .field("subject", subject)
            .field("failure", failure)
            .field("host", host)
            .field("outcome", outcome)
            .field("do_not_retry", do_not_retry)
            .field("attempts", attempts)
            .finish()
    }
}

impl StdError for CallError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // What the failure prints is printed above; what lies below it is not.
        match &self.0.failure {
            CallFailure::Stream(error) => error.source(),
            CallFailure::Send(error) => error.source(),
            failure => failure.source(),
        }
    }
}

fn is_deadline(error: &StreamError) -> bool {
    matches!(
        error,
        StreamError::Deadline { .. } | StreamError::Reset { code: Code::DEADLINE }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use picom_transport::ConnectionError;
    use std::time::Duration;

    fn subject() -> Subject {
        Subject::Call {
            service: "orders".into(),
            method: "get".into(),
        }
    }

    #[test]
    fn the_text_names_service_method_host_outcome_and_attempts() {
        let lost = || {
            CallFailure::Stream(StreamError::ConnectionLost {
                error: Arc::new(ConnectionError::PingTimeout(Duration::from_secs(1))),
                sent: true,
            })
        };
        let attempts = ["10.0.0.1:80", "10.0.0.2:80"]
            .map(|host| Attempt::new(host.into(), Outcome::MaybeExecuted, lost()));
        let error = CallError::new(subject(), lost())
            .at("10.0.0.2:80".into())
            .after(attempts.to_vec());
        assert_eq!(
            error.to_string(),
            "calling \"get\" of service \"orders\" at 10.0.0.2:80: the connection was lost; it may have run; attempt 2"
        );
        assert_eq!(
            error.source().unwrap().to_string(),
            "the peer did not answer a ping within 1s"
        );
        assert_eq!(
            error.attempts()[0].to_string(),
            "10.0.0.1:80: the connection was lost"
        );
        assert_eq!(error.attempts()[1].outcome(), Outcome::MaybeExecuted);
    }

    #[test]
    fn each_failure_answers_the_questions() {
        let fault = |code| CallFailure::Fault(Fault::unstarted(code, "t"));
        let reset = |code| CallFailure::Stream(StreamError::Reset { code });
        // failure, timeout, unavailable, unknown method, unknown service, outcome
        let table = [
            (
                CallFailure::UnknownService,
                false,
                true,
                false,
                true,
                Outcome::NeverSent,
            ),
            (
                CallFailure::ServiceDown {
                    failing: 2,
                    foreign: 0,
                },
                false,
                true,
                false,
                false,
                Outcome::NeverSent,
            ),
            (
                CallFailure::Discovery(None),
                true,
                true,
                false,
                false,
                Outcome::NeverSent,
            ),
            (
                CallFailure::AllDraining,
                false,
                true,
                false,
                false,
                Outcome::NeverSent,
            ),
            (
                CallFailure::Overdue,
                true,
                false,
                false,
                false,
                Outcome::NeverSent,
            ),
            (
                CallFailure::Stream(StreamError::Deadline { sent: true }),
                true,
                false,
                false,
                false,
                Outcome::MaybeExecuted,
            ),
            (
                CallFailure::Stream(StreamError::Deadline { sent: false }),
                true,
                false,
                false,
                false,
                Outcome::NeverSent,
            ),
            (
                reset(Code::DEADLINE),
                true,
                false,
                false,
                false,
                Outcome::MaybeExecuted,
            ),
            (reset(Code::REFUSED), false, true, false, false, Outcome::Refused),
            (
                fault(Code::UNKNOWN_METHOD),
                false,
                false,
                true,
                false,
                Outcome::Refused,
            ),
            (fault(Code::DEADLINE), true, false, false, false, Outcome::Refused),
            (
                CallFailure::Fault(Fault::new(Code::INTERNAL, "t")),
                false,
                false,
                false,
                false,
                Outcome::Executed,
            ),
            (
                CallFailure::NotOpened(OpenError::Draining),
                false,
                true,
                false,
                false,
                Outcome::NeverSent,
            ),
            (
                CallFailure::NotOpened(OpenError::TooLarge { size: 9, limit: 8 }),
                false,
                false,
                false,
                false,
                Outcome::NeverSent,
            ),
            (
                CallFailure::NoValue,
                false,
                false,
                false,
                false,
                Outcome::Executed,
            ),
            (CallFailure::Ended, false, false, false, false, Outcome::NeverSent),
        ];
        for (failure, timeout, unavailable, method, service, outcome) in table {
            let error = CallError::new(subject(), failure);
            let got = (
                error.is_timeout(),
                error.is_unavailable(),
                error.is_unknown_method(),
                error.is_unknown_service(),
            );
            assert_eq!(got, (timeout, unavailable, method, service), "{error}");
            assert_eq!(error.outcome(), outcome, "{error}");
        }
    }

    #[test]
    fn a_spent_budget_is_part_of_the_error_and_of_the_fault_it_becomes() {
        let error = CallError::new(subject(), CallFailure::Overdue).with_do_not_retry(true);
        assert!(error.says_do_not_retry() && error.to_string().ends_with("; do not retry"));
        let fault = Fault::from(error);
        assert!(fault.says_do_not_retry());
        assert_eq!(fault.code(), Code::DEADLINE);
    }

    #[test]
    fn a_bad_input_message_of_a_handler_is_the_callers_fault() {
        let decode =
            picom_codec::value::decode::<u8>(&bytes::Bytes::from_static(b"\xa1x"), &Default::default());
        let failure = CallFailure::Decode(decode.unwrap_err());
        let own = CallError::new(Subject::Handler { method: "m".into() }, failure.clone());
        assert_eq!(Fault::from(own).code(), Code::BAD_ARGUMENT);
        let nested = CallError::new(subject(), failure);
        assert_eq!(Fault::from(nested).code(), Code::INTERNAL);
    }
}
