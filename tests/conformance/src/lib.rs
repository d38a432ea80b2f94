//! What every source of discovery must do: behaviours written once against a [`Subject`], and the three subjects they run
//! on: a real Consul, the dev agent, the mock. README.md is the table of all fifty; tests/table.rs compares it with
//! the lists here, so that none is left out in silence.

pub mod behaviours;
mod consul;
mod dev;
mod http;
mod lists;
mod meter;
mod mock;
mod named;
pub mod recording;
mod sight;
mod subject;
mod written;

pub use consul::RealConsul;
pub use dev::Dev;
pub use http::{Answer, Api};
pub use lists::{ON_CONSUL, ON_DEV_AGENT, ON_LISTS, ON_MOCK, ONLY_ON_CONSUL, SLOW_ON_CONSUL};
pub use meter::Meter;
pub use mock::Double;
pub use named::Named;
pub use subject::{Entry, Kind, Subject, Word, service};
pub use written::Written;
