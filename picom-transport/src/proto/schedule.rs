//! Whose turn it is: streams with something to send take turns, a frame each, so that one that sends much does not hold up
//! the others; answers go before messages.

use super::streams::Key;
use std::collections::VecDeque;

/// See the module. Keys may be stale: whoever pops one looks its stream up. A stream stands in each queue at most once
/// (its own flags see to that), so the queues are bounded by the number of streams.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    control: VecDeque<Key>,
    output: VecDeque<Key>,
}

impl Schedule {
    pub(super) fn push_control(&mut self, key: Key) {
        self.control.push_back(key);
    }

    pub(super) fn pop_control(&mut self) -> Option<Key> {
        self.control.pop_front()
    }

    pub(super) fn push_output(&mut self, key: Key) {
        self.output.push_back(key);
    }

    pub(super) fn pop_output(&mut self) -> Option<Key> {
        self.output.pop_front()
    }

    /// Gives back the room that is not needed.
    pub(super) fn shrink(&mut self) {
        self.control.shrink_to_fit();
        self.output.shrink_to_fit();
    }

    /// How many turns are due.
    pub(super) fn len(&self) -> usize {
        self.control.len() + self.output.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.output.is_empty()
    }
}
