//! Who is alive where: the discovery layer of picom. It knows services, instances and registries, and nothing of
//! connections or calls.
//!
//! [`Discovery`] is the one seam: [`Consul`](consul::Consul) implements it over Consul's HTTP API, [`Fixed`] over a list,
//! `Mock` (feature `mock`) over what a test says. A [`Watch`] holds the newest [`Snapshot`] of a service; a [`Lease`]
//! keeps a [`Registration`] announced.

mod backoff;
pub mod consul;
mod discovery;
mod error;
mod excerpt;
mod fixed;
mod instance;
mod lane;
mod lease;
#[cfg(feature = "mock")]
mod mock;
mod name;
mod random;
mod registration;
mod snapshot;
mod watch;

#[cfg(feature = "dev-agent")]
pub mod dev_agent;

pub use discovery::{Discovery, OnUnavailable};
pub use error::{Cause, DiscoveryError, EndError, Phase, ProtocolFault, RegisterError};
pub use excerpt::Excerpt;
pub use fixed::{Fixed, FixedError};
pub use instance::{Health, Instance, InstanceKey, META_NATIVE, META_UUID};
pub use lane::Lane;
pub use lease::{EndRequest, Keeper, Lease, LeaseState};
#[cfg(feature = "mock")]
pub use mock::Mock;
pub use name::{MAX_NAME_BYTES, NameError, ServiceName};
pub use registration::{
    AliveProbe, DEFAULT_TTL, MAX_DEREGISTER_AFTER, MAX_TTL, MIN_DEREGISTER_AFTER, MIN_TTL, Registration,
    RegistrationError,
};
pub use snapshot::{Diff, Freshness, Snapshot};
pub use watch::{Publisher, Watch};
