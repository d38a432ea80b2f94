//! What callers saw, what handlers did, and whether the two fit together. Where executions are written down is
//! `journal.rs`.
//!
//! The rules: a call that may not run twice ran at most once; exactly once if its caller saw a reply or a fault; not at
//! all if its caller was told so; and a reply belongs to the call it came for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::protocol::{Failure, Identity, Ran};

/// One call as its caller saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The id it was made with, unique in the history.
    pub id: u64,
    /// It was allowed to run more than once.
    pub idempotent: bool,
    /// When it began, in microseconds of the caller's clock.
    pub began: u64,
    /// How long it took, in microseconds.
    pub took: u64,
    /// What came of it.
    pub result: Result<Reply, Failure>,
}

/// A reply as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The id it says it belongs to.
    pub id: u64,
    /// Who gave it.
    pub by: Identity,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The caller made two calls with one id: the history itself is wrong.
    SameId(u64),
    /// It ran more often than it may.
    Repeated {
        /// The call.
        id: u64,
        /// How often it ran.
        runs: u32,
    },
    /// Its caller saw an answer of a handler that never ran.
    Invented(u64),
    /// Its caller was told that it did not run, and it did.
    Denied {
        /// The call.
        id: u64,
        /// What the caller was told.
        told: Ran,
    },
    /// Its caller got another call's reply.
    Misrouted {
        /// The call.
        id: u64,
        /// Whose reply came.
        got: u64,
    },
    /// It ran, and nobody made it.
    Unknown(u64),
    /// It failed and nobody can say whether it ran: an error without an outcome.
    Undecided(u64),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameId(id) => write!(f, "two calls have the id {id}"),
            Self::Repeated { id, runs } => write!(f, "call {id} ran {runs} times"),
            Self::Invented(id) => write!(f, "call {id} was answered and never ran"),
            Self::Denied { id, told } => write!(f, "call {id} ran, and its caller was told {told:?}"),
            Self::Misrouted { id, got } => write!(f, "call {id} got the reply of {got}"),
            Self::Unknown(id) => write!(f, "call {id} ran, and nobody made it"),
            Self::Undecided(id) => write!(f, "call {id} failed without an outcome"),
        }
    }
}

/// Holds what callers saw against how often each id ran.
pub fn violations(records: &[Record], runs: &BTreeMap<u64, u32>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut made = BTreeSet::new();
    for record in records {
        let id = record.id;
        if !made.insert(id) {
            found.push(Violation::SameId(id));
        }
        let runs = runs.get(&id).copied().unwrap_or(0);
        if runs > 1 && !record.idempotent {
            found.push(Violation::Repeated { id, runs });
        }
        let (answered, denied) = match &record.result {
            Ok(reply) => {
                if reply.id != id {
                    found.push(Violation::Misrouted { id, got: reply.id });
                }
                (true, None)
            }
            Err(failure) => match failure.outcome {
                Some(told @ (Ran::NeverSent | Ran::Refused)) => (false, Some(told)),
                Some(Ran::Maybe) => (false, None),
                Some(Ran::Yes) => (true, None),
                None => {
                    found.push(Violation::Undecided(id));
                    (false, None)
                }
            },
        };
        if answered && runs == 0 {
            found.push(Violation::Invented(id));
        }
        if let Some(told) = denied
            && runs > 0
        {
            found.push(Violation::Denied { id, told });
        }
    }
    found.extend(
        runs.keys()
            .filter(|id| !made.contains(id))
            .map(|&id| Violation::Unknown(id)),
    );
    found
}

/// The same as a test wants it.
///
/// # Panics
///
/// If a rule was broken, with the first twenty violations; and if there is nothing to check.
pub fn check(records: &[Record], runs: &BTreeMap<u64, u32>) {
    assert!(!records.is_empty(), "a history without calls proves nothing");
    let found = violations(records, runs);
    let first: Vec<String> = found.iter().take(20).map(ToString::to_string).collect();
    assert!(
        found.is_empty(),
        "{} of {} calls broke a rule:\n{}",
        found.len(),
        records.len(),
        first.join("\n")
    );
}

/// The failed calls of a history.
pub fn failures(records: &[Record]) -> Vec<(&Record, &Failure)> {
    records
        .iter()
        .filter_map(|record| record.result.as_ref().err().map(|failure| (record, failure)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(id: u64, reply: u64) -> Record {
        let by = Identity {
            instance: "a".into(),
            pid: 1,
        };
        Record {
            id,
            idempotent: false,
            began: 0,
            took: 0,
            result: Ok(Reply { id: reply, by }),
        }
    }

    fn failed(id: u64, outcome: Option<Ran>) -> Record {
        let failure = Failure {
            outcome,
            ..Failure::default()
        };
        Record {
            id,
            idempotent: false,
            began: 0,
            took: 0,
            result: Err(failure),
        }
    }

    fn found(records: &[Record], runs: &[(u64, u32)]) -> Vec<Violation> {
        violations(records, &runs.iter().copied().collect())
    }

    #[test]
    fn a_history_in_which_all_is_well_has_no_violations() {
        let records = [
            ok(1, 1),
            failed(2, Some(Ran::NeverSent)),
            failed(3, Some(Ran::Refused)),
            failed(4, Some(Ran::Maybe)),
            failed(5, Some(Ran::Maybe)),
            failed(6, Some(Ran::Yes)),
        ];
        assert_eq!(found(&records, &[(1, 1), (4, 1), (6, 1)]), []);
    }

    #[test]
    fn every_rule_finds_its_violation() {
        assert_eq!(
            found(&[ok(1, 1)], &[(1, 2)]),
            [Violation::Repeated { id: 1, runs: 2 }]
        );
        assert_eq!(found(&[ok(1, 1)], &[]), [Violation::Invented(1)]);
        assert_eq!(found(&[failed(1, Some(Ran::Yes))], &[]), [Violation::Invented(1)]);
        for told in [Ran::NeverSent, Ran::Refused] {
            assert_eq!(
                found(&[failed(1, Some(told))], &[(1, 1)]),
                [Violation::Denied { id: 1, told }]
            );
        }
        let maybe = failed(1, Some(Ran::Maybe));
        assert_eq!(
            found(&[maybe], &[(1, 2)]),
            [Violation::Repeated { id: 1, runs: 2 }]
        );
        assert_eq!(
            found(&[ok(1, 2)], &[(1, 1)]),
            [Violation::Misrouted { id: 1, got: 2 }]
        );
        assert_eq!(found(&[ok(1, 1)], &[(1, 1), (7, 1)]), [Violation::Unknown(7)]);
        assert_eq!(found(&[ok(1, 1), ok(1, 1)], &[(1, 1)]), [Violation::SameId(1)]);
        assert_eq!(found(&[failed(1, None)], &[]), [Violation::Undecided(1)]);
    }

    #[test]
    fn an_idempotent_call_may_run_twice_but_must_have_run_when_it_was_answered() {
        let twice = Record {
            idempotent: true,
            ..ok(1, 1)
        };
        assert_eq!(found(std::slice::from_ref(&twice), &[(1, 2)]), []);
        assert_eq!(found(&[twice], &[]), [Violation::Invented(1)]);
    }

    #[test]
    #[should_panic(expected = "proves nothing")]
    fn an_empty_history_is_no_proof() {
        check(&[], &BTreeMap::new());
    }
}
