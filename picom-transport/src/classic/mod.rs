//! Calls of the Node library's dialect (PROTOCOL §12): one connection each, no handshake, no credit. The rules are a pure
//! machine; the shell around it gives the halves that native streams have, so that nobody above needs to know.

mod driver;
mod half;
mod machine;
mod outgoing;
mod room;
mod shared;

pub(crate) use driver::Served;
pub(crate) use half::{ClassicRecv, ClassicSend};
pub use outgoing::ClassicConnection;
pub(crate) use outgoing::Unused;
pub(crate) use room::HeaderBudget;
pub(crate) use shared::{ClassicHandle, Shared as ClassicShared};
