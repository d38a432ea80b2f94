//! What has come on a stream and waits to be received, with what each of it holds of the window and of the budget.

use bytes::Bytes;
use picom_codec::Items;
use std::collections::VecDeque;

/// One or several messages, in order.
#[derive(Debug)]
pub enum Delivery {
    /// One message.
    One(Bytes),
    /// The messages of one items frame, taken apart one by one by the receiver.
    Many(Items),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) delivery: Delivery,
    /// What it cost, to be granted again when it is received. 0 for a message in parts: its credit has flowed back already.
    pub(super) charge: u32,
    /// What it holds of the receive budget.
    pub(super) reserved: u64,
}

/// See the module. The first entry stands apart: most streams never have a second, and an empty queue allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    first: Option<Entry>,
    rest: VecDeque<Entry>,
}

impl Inbox {
    pub(super) fn push(&mut self, entry: Entry) {
        if self.first.is_none() && self.rest.is_empty() {
            self.first = Some(entry);
        } else {
            self.rest.push_back(entry);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }
}
