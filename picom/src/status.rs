//! How a service stands: one look at everything it knows of itself.

use crate::service::Inner;
use picom_rpc::{ServerStatus, ServiceStatus};
use std::fmt;

/// How a service stands, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Its name.
    pub service: String,
    /// Where it looks for others: "Consul at 127.0.0.1:8500".
    pub discovery: String,
    /// The address others are told; `None` if nothing is exposed.
    pub advertised: Option<String>,
    /// The id of its registration; `None` if nothing is exposed.
    pub registration: Option<String>,
    /// What it answers; `None` if nothing is exposed.
    pub server: Option<ServerStatus>,
    /// The services it called lately, by name.
    pub calls: Vec<ServiceStatus>,
}

impl Status {
    pub(crate) fn of(inner: &Inner) -> Status {
        let exposed = inner.exposure.exposed();
        Status {
            service: inner.settings.name.to_string(),
            discovery: inner.discovery.describe(),
            advertised: exposed.as_ref().map(|exposed| exposed.advertised.clone()),
            registration: exposed.as_ref().map(|exposed| exposed.registration.clone()),
            server: exposed.as_ref().map(|exposed| exposed.server.status()),
            calls: inner.client.status(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.service, self.discovery)?;
        if let (Some(address), Some(server)) = (&self.advertised, &self.server) {
            write!(
                f,
                ", exposed at {address}: {} handlers at work",
                server.handlers_running
            )?;
        }
        for called in &self.calls {
            write!(
                f,
                "; calls {} on {} endpoints",
                called.name,
                called.endpoints.len()
            )?;
        }
        Ok(())
    }
}
