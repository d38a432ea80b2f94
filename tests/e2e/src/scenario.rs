//! What is proved, scene by scene. Each function is a test's whole body; its name says what holds when it returns.

pub mod calls;
pub mod cancelling;
pub mod ending;
pub mod failing;
pub mod looking;
pub mod losing_consul;
pub mod losing_servers;
pub mod registering;
pub mod replacing;
pub mod sharing;
pub mod storm;
pub mod strangers;
pub mod streams;
