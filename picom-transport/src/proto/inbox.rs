//! What has come on a stream and waits to be received, with what each of it holds of the window and of the budget.

use super::line::Line;
use picom_codec::{Body, Items};

/// One or several messages, in order.
#[derive(Debug)]
pub enum Delivery {
    /// One message.
    One(Body),
    /// The messages of one items frame, taken apart one by one by the receiver.
    Many(Box<Items>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) delivery: Delivery,
    /// What it cost, to be granted again when it is received. 0 for a message in parts: its credit has flowed back already.
    pub(super) charge: u32,
    /// What it holds of the receive budget.
    pub(super) reserved: u64,
}

/// See the module.
pub(super) type Inbox = Line<Entry>;
