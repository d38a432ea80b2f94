//! The embedded dev agent, held against what Consul 1.8.7 was seen to do. The client is made by hand, so that the agent
//! and the real client cannot share a mistake.

#[path = "dev_agent/answers.rs"]
mod answers;
#[path = "dev_agent/blocking.rs"]
mod blocking;
#[path = "dev_agent/caller.rs"]
mod caller;
#[path = "dev_agent/errors.rs"]
mod errors;
#[path = "dev_agent/faults.rs"]
mod faults;
#[path = "dev_agent/hostile.rs"]
mod hostile;
#[path = "dev_agent/shared.rs"]
mod shared;
#[path = "dev_agent/sockets.rs"]
mod sockets;
#[path = "dev_agent/time.rs"]
mod time;
