//! Whole systems of services in one thread, on virtual time: the real client and server of `picom-rpc` over a network and
//! a registry in memory, while a seed breaks things. What happened is held against a history.
//!
//! | what | where |
//! |---|---|
//! | what each call may have done, and whether it did | [`History`] |
//! | random numbers from a seed | [`Dice`] |
//! | services, callers and the one who breaks things | [`run`], [`Plan`] |

mod chaos;
mod dice;
mod history;
mod world;

pub use chaos::Fault;
pub use dice::Dice;
pub use history::{Ending, History};
pub use world::{Plan, Tally, run};
