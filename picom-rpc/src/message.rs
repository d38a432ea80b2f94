//! What may travel as a message: names for what the compiler should say when a type may not. The bytes are made in
//! `picom_codec::value`.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type that arguments, input and replies can be taken as: `Deserialize` without borrowing, `Send` and `'static`.
/// `rmpv::Value` takes whatever comes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be received in a call",
    label = "does not implement `serde::Deserialize`, borrows, or is not `Send`",
    note = "derive `serde::Deserialize` for it, own its fields, or take an `rmpv::Value`"
)]
pub trait Receive: DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Send + 'static> Receive for T {}

/// A type that replies, items and input can be sent as: `Serialize`, `Send` and `'static`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent in a call",
    label = "does not implement `serde::Serialize`, or is not `Send`",
    note = "derive `serde::Serialize` for it"
)]
pub trait Transmit: Serialize + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + Send + 'static> Transmit for T {}
