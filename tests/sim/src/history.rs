//! What each call may have done. The model of a remote call is small: it runs at most once unless it may run again; it ran
//! if its caller saw a reply; it did not if its caller was told so; and the reply is its own.

use picom_rpc::Outcome;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How a call ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a reply.
    Replied,
    /// With an error that says this of it.
    Failed(Outcome),
    /// The caller dropped it.
    Dropped,
}

#[derive(Debug, Default)]
struct Call {
    idempotent: bool,
    executions: u32,
    ending: Option<Ending>,
}

/// What happened. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct History {
    calls: Arc<Mutex<BTreeMap<u64, Call>>>,
}

impl History {
    /// A caller begins a call. Gives its number.
    pub fn begin(&self, idempotent: bool) -> u64 {
        self.with(|calls| {
            let number = calls.len() as u64;
            calls.insert(
                number,
                Call {
                    idempotent,
                    ..Call::default()
                },
            );
            number
        })
    }

    /// A handler runs it.
    pub fn executed(&self, number: u64) {
        self.with(|calls| calls.entry(number).or_default().executions += 1);
    }

    /// The caller knows how it ended.
    pub fn ended(&self, number: u64, ending: Ending) {
        self.with(|calls| {
            let call = calls.entry(number).or_default();
            assert_eq!(call.ending, None, "call {number} ended twice");
            call.ending = Some(ending);
        });
    }

    /// Every sentence of the model that does not hold.
    pub fn violations(&self) -> Vec<String> {
        self.with(|calls| {
            calls
                .iter()
                .filter_map(|(number, call)| violation(*number, call))
                .collect()
        })
    }

    /// How many calls ended with each kind of ending: replied, not run, perhaps run, dropped.
    pub fn counts(&self) -> [usize; 4] {
        self.with(|calls| {
            let mut counts = [0; 4];
            for call in calls.values() {
                let kind = match call.ending {
                    Some(Ending::Replied) => 0,
                    Some(Ending::Failed(outcome)) if outcome.has_not_run() => 1,
                    Some(Ending::Failed(_)) => 2,
                    Some(Ending::Dropped) | None => 3,
                };
                counts[kind] += 1;
            }
            counts
        })
    }

    fn with<R>(&self, action: impl FnOnce(&mut BTreeMap<u64, Call>) -> R) -> R {
        action(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn violation(number: u64, call: &Call) -> Option<String> {
    let Call {
        idempotent,
        executions,
        ending,
    } = call;
    let Some(ending) = ending else {
        return Some(format!("call {number} never ended"));
    };
    let broken = match ending {
        _ if *executions > 1 && !idempotent => "ran more than once",
        Ending::Replied if *executions == 0 => "was answered and did not run",
        Ending::Failed(outcome) if outcome.has_not_run() && *executions > 0 => {
            "ran, and its caller was told that it did not"
        }
        Ending::Failed(Outcome::Executed) if *executions == 0 => {
            "did not run, and its caller was told that it did"
        }
        _ => return None,
    };
    Some(format!(
        "call {number} {broken} ({executions} executions, {ending:?}, idempotent: {idempotent})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_lie_is_noticed() {
        let lies = [
            (false, 2, Ending::Replied),
            (false, 2, Ending::Dropped),
            (true, 0, Ending::Replied),
            (true, 1, Ending::Failed(Outcome::NeverSent)),
            (false, 1, Ending::Failed(Outcome::Refused)),
            (false, 0, Ending::Failed(Outcome::Executed)),
        ];
        for (idempotent, executions, ending) in lies {
            let history = History::default();
            let number = history.begin(idempotent);
            (0..executions).for_each(|_| history.executed(number));
            history.ended(number, ending);
            assert_eq!(
                history.violations().len(),
                1,
                "{idempotent} {executions} {ending:?}"
            );
        }
        let history = History::default();
        history.begin(false);
        assert!(history.violations()[0].contains("never ended"));
    }

    #[test]
    fn the_truth_is_left_alone() {
        let truths = [
            (false, 1, Ending::Replied),
            (true, 3, Ending::Replied),
            (false, 0, Ending::Failed(Outcome::NeverSent)),
            (false, 1, Ending::Failed(Outcome::MaybeExecuted)),
            (false, 0, Ending::Failed(Outcome::MaybeExecuted)),
            (false, 1, Ending::Failed(Outcome::Executed)),
            (false, 0, Ending::Dropped),
        ];
        let history = History::default();
        for (idempotent, executions, ending) in truths {
            let number = history.begin(idempotent);
            (0..executions).for_each(|_| history.executed(number));
            history.ended(number, ending);
        }
        assert_eq!(history.violations(), Vec::<String>::new());
        assert_eq!(history.counts(), [2, 1, 3, 1]);
    }
}
