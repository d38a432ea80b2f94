//! Who is alive where: the discovery layer of picom. It knows services, instances and registries, and nothing of
//! connections or calls.
//!
//! [`Discovery`] is the one seam: [`Consul`](consul::Consul) implements it over Consul's HTTP API, [`Fixed`] over a list,
//! [`FileSource`] over a file, `Dns` (feature `dns`) over names, `Mock` (feature `mock`) over what a test says. A [`Watch`] holds the newest [`Snapshot`] of
//! a service; a [`Lease`] keeps a [`Registration`] announced. CONSUL.md in this package says what is asked of an agent,
//! request by request.
//!
//! Twenty lines that register a service in Consul, watch it and take it back:
//!
//! ```
//! use std::time::Duration;
//!
//! use picom_discovery::consul::{Consul, ConsulConfig};
//! use picom_discovery::{Discovery, OnUnavailable, Registration, ServiceName};
//!
//! async fn come_and_go(config: ConsulConfig) -> Result<(), Box<dyn std::error::Error>> {
//!     let consul = Consul::new(config)?;
//!     let name = ServiceName::new("math")?;
//!     let registration = Registration::new(name.clone(), "127.0.0.1", 9000)?;
//!     let lease = consul.register(registration, OnUnavailable::Fail).await?;
//!     let mut watch = consul.watch(&name);
//!     let mut now = watch.ready().await;
//!     while now.usable().next().is_none() {
//!         now = watch.changed().await;
//!     }
//!     now.usable().for_each(|instance| println!("{}", instance.authority()));
//!     lease.end(Duration::from_secs(5)).await?;
//!     Ok(())
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     use picom_discovery::dev_agent::{DevAgent, DevAgentConfig};
//! #     let agent = DevAgent::start(DevAgentConfig::default()).await?;
//! #     let config = ConsulConfig::at(&agent.addr().to_string())?;
//! #     let name = ServiceName::new("math")?;
//! #     come_and_go(config.clone()).await?;
//! #     let mut watch = Consul::new(config)?.watch(&name);
//! #     assert!(watch.ready().await.instances.is_empty());
//! #     Ok(())
//! # }
//! ```

mod backoff;
pub mod consul;
mod discovery;
#[cfg(feature = "dns")]
mod dns;
mod error;
mod excerpt;
mod file;
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
#[cfg(feature = "dns")]
pub use dns::{Dns, DnsError, NetErrorSource};
pub use error::{Cause, DiscoveryError, EndError, Phase, ProtocolFault, RegisterError, TlsFault};
pub use excerpt::Excerpt;
pub use file::{FileError, FileSource};
pub use fixed::{Fixed, FixedError};
pub use instance::{Health, Instance, InstanceKey, META_NATIVE, META_UUID};
pub use lane::Lane;
pub use lease::{EndRequest, Keeper, Lease, LeaseState, Wish};
#[cfg(feature = "mock")]
pub use mock::Mock;
pub use name::{MAX_NAME_BYTES, NameError, ServiceName};
pub use registration::{
    AliveProbe, DEFAULT_TTL, MAX_DEREGISTER_AFTER, MAX_TTL, MIN_DEREGISTER_AFTER, MIN_TTL, Registration,
    RegistrationError,
};
pub use snapshot::{Diff, Freshness, Snapshot};
pub use watch::{Publisher, Watch};

/// The program in README.md, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
