//! A service's settings once builder, environment and defaults have been weighed. Who wins is `builder.rs`.

use picom_discovery::consul::AgentAddress;
use picom_discovery::{Registration, RegistrationError, ServiceName};
use picom_rpc::ServerConfig;
use picom_transport::Acceptor;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The version of the protocol that a registration announces (PROTOCOL §2.2).
const PROTOCOL: u16 = 1;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: ServiceName,
    pub(crate) registration: Announcement,
    pub(crate) port: u16,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) advertise: Option<Advertised>,
    pub(crate) listening: Listening,
    pub(crate) keep_trying: bool,
    pub(crate) server: ServerConfig,
    /// Where the registry is, to find out which of our addresses faces it. `None`: it is not Consul.
    pub(crate) registry: Option<AgentAddress>,
}

/// Where calls come from.
#[derive(Clone, Debug)]
pub(crate) enum Listening {
    Tcp,
    Given(Arc<dyn Acceptor>),
    #[cfg(feature = "testing")]
    Memory(picom_rpc::testing::InMemory),
}

/// The address others are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advertised {
    pub(crate) host: String,
    /// `None`: the one that is listened on.
    pub(crate) port: Option<u16>,
}

/// What a registration says besides the address.
#[derive(Clone, Debug)]
pub(crate) struct Announcement {
    pub(crate) ttl: Duration,
    pub(crate) deregister_after: Option<Duration>,
    pub(crate) tags: Vec<String>,
    pub(crate) meta: Vec<(String, String)>,
    pub(crate) weight: u32,
}

impl Announcement {
    /// The registration at an address. Its id, and the instance's identity in it, are new each time.
    pub(crate) fn at(
        &self,
        name: ServiceName,
        host: &str,
        port: u16,
    ) -> Result<Registration, RegistrationError> {
        let mut registration = Registration::new(name, host, port)?.with_native_version(PROTOCOL)?;
        registration = registration.with_ttl(self.ttl)?.with_weight(self.weight)?;
        if let Some(span) = self.deregister_after {
            registration = registration.with_deregister_after(span)?;
        }
        for tag in &self.tags {
            registration = registration.with_tag(tag)?;
        }
        for (key, value) in &self.meta {
            registration = registration.with_meta(key, value)?;
        }
        Ok(registration)
    }
}
