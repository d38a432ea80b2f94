//! Errors as they are reported: whole sentences, and the answers to every question a caller may ask.

use std::error::Error;
use std::fmt;

use picom::{CallError, Outcome, RemoteError};
use picom_e2e::protocol::{Failure, Ran};
use serde::{Deserialize, Serialize};

/// The error of the method `fail`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OutOfStock {
    pub(crate) left: u32,
}

impl fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "only {} left", self.left)
    }
}

impl RemoteError for OutOfStock {
    const NAME: &'static str = "e2e.OutOfStock";
}

/// Any error of picom.
pub(crate) fn of(error: picom::Error) -> Failure {
    match error.as_call() {
        Some(call) => of_call(call),
        None => plain(&error),
    }
}

/// The error of a call.
pub(crate) fn of_call(error: &CallError) -> Failure {
    Failure {
        text: chain(error),
        outcome: Some(ran(error.outcome())),
        timeout: error.is_timeout(),
        unavailable: error.is_unavailable(),
        code: error.fault().map(|fault| fault.code().0),
        left: error.remote::<OutOfStock>().map(|stock| stock.left),
        attempts: error.attempts().len(),
        host: error.host().map(str::to_owned),
    }
}

/// An error that is not picom's.
pub(crate) fn plain(error: &(dyn Error + 'static)) -> Failure {
    Failure {
        text: chain(error),
        ..Failure::default()
    }
}

/// An error that this program made itself.
pub(crate) fn said(text: impl Into<String>) -> Failure {
    Failure {
        text: text.into(),
        ..Failure::default()
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

fn ran(outcome: Outcome) -> Ran {
    match outcome {
        Outcome::NeverSent => Ran::NeverSent,
        Outcome::Refused => Ran::Refused,
        Outcome::MaybeExecuted => Ran::Maybe,
        Outcome::Executed => Ran::Yes,
    }
}
