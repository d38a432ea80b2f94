//! A request that is answered with an error: its status and its one line of text, as Consul words it.

use super::go_json::DecodeError;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Refusal {
    /// Consul's own words.
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Refusal {
        Refusal {
            status,
            text: text.into(),
        }
    }

    /// What Consul would do and this agent does not; the text says whose refusal it is.
    pub(crate) fn dev_agent(status: u16, what: std::fmt::Arguments<'_>) -> Refusal {
        Refusal {
            status,
            text: format!("picom's dev agent: {what}"),
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Refusal {
        Refusal::new(400, error.to_string())
    }
}
