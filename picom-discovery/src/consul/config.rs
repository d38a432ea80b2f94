//! What a Consul client is told: where the agent is, and the limits with their reasons. Reading the environment is in
//! `environment.rs`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::address::AgentAddress;
use super::token::{Secret, Token};
use crate::instance::authority;
use crate::lane::Lane;
use crate::registration::host_fault;

/// How a client of Consul behaves. Start from [`ConsulConfig::default`], [`new`](Self::new) or
/// [`from_env`](Self::from_env) and change what should differ; [`Consul::new`](super::Consul::new) checks it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConsulConfig {
    /// The agent. 127.0.0.1:8500 unless set: Consul's model is an agent on every machine.
    pub address: AgentAddress,
    /// TLS to the agent.
    pub tls: TlsSettings,
    /// The ACL token.
    pub token: Token,
    /// `user:password` for a proxy before the agent that asks for basic authentication; Consul itself does not.
    pub basic_auth: Option<Secret>,
    /// Which servers may answer a watch.
    pub consistency: Consistency,
    /// Watch instances of this datacenter instead of the agent's own.
    pub datacenter: Option<String>,
    /// Watch only instances that have all of these tags.
    pub tags: Vec<String>,
    /// Watch only instances on nodes with all of these pairs in their meta.
    pub node_meta: Vec<(String, String)>,
    /// Which of an instance's addresses is dialled.
    pub reach: Reach,
    /// Whether calls may go to instances with a warning: they are then seen as passing, with the weight they announced
    /// for warnings; one of weight 0 stays out. Off: Consul's own `passing` leaves them out as well.
    pub use_warnings: bool,
    /// Enterprise only: the namespace of services. Other agents refuse a request that names one.
    pub namespace: Option<String>,
    /// Enterprise only: the admin partition.
    pub partition: Option<String>,
    /// How long a watch waits for a change before it asks again. 60 s: dead connections are noticed in that time, and
    /// a small request a minute and name costs nothing. 1 s to 10 min (Consul's cap).
    pub wait: Duration,
    /// For opening a connection. 2 s: the agent is on this machine or in its network.
    pub connect_timeout: Duration,
    /// For a registration or deregistration. 15 s: while a cluster elects a leader agents were seen to hold such
    /// calls for 14 s and then carry them out. Heartbeats have a third of the time to live.
    pub call_timeout: Duration,
    /// How long after a registration heartbeats come every half second. 30 s: longer than elections take. An agent that
    /// could not tell the servers of an instance, because they were without a leader, tries again with the next thing
    /// it is told; so an instance that came meanwhile is seen within a second of a leader's return. Zero to a minute.
    pub settling: Duration,
    /// The largest answer taken. 32 MiB: about 20,000 instances.
    pub max_body: usize,
    /// Connections for watches, one a name, of all clients in this process that have the same agent; the client that
    /// comes first decides for those that come while it lives. 128: Consul refuses the 201st connection of one
    /// address, and on loopback all processes of the machine share those. Names beyond it take turns of two seconds; one
    /// that waits for its own longer than ten is stale meanwhile.
    pub max_watches: usize,
    /// Where heartbeats run.
    pub lane: Lane,
    /// Makes jitter repeatable, for simulations.
    pub seed: Option<u64>,
}

/// TLS to the agent. Files are PEM; they are looked at before every new connection, and read again when they have
/// changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsSettings {
    /// Whether TLS is spoken at all; needs the feature `tls` of this crate.
    pub enabled: bool,
    /// Certificates of authorities, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// A directory of such files, in place of the system's; with `ca_file`, both count.
    pub ca_path: Option<PathBuf>,
    /// The certificate to show the agent, with those between it and its authority.
    pub client_cert: Option<PathBuf>,
    /// Its key. One without the other is an error.
    pub client_key: Option<PathBuf>,
    /// The name the agent's certificate must be for, if it is not the host of the address.
    pub server_name: Option<String>,
    /// Whether the agent's certificate is verified. `false` leaves the token to anyone who can get in between.
    pub verify: bool,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            ca_file: None,
            ca_path: None,
            client_cert: None,
            client_key: None,
            server_name: None,
            verify: true,
        }
    }
}

/// Which of the addresses an instance announces is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// The service's own, or its node's if it has none.
    #[default]
    Lan,
    /// The one tagged `wan`, of the service or else of its node, for callers in other datacenters; the former if there
    /// is none.
    Wan,
}

/// Which servers may answer a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Any server, also one that lags behind or has lost its leader. The default: reads spread over the servers
    /// instead of loading the leader, and are answered again about a second into an election while the leader's come
    /// back only after it (16 s with Consul's default timing). What is lost is little: an answer older than what we
    /// have is not published (its index fell, so it is asked again), one from a server out of touch with its leader
    /// for 10 s is marked stale, and callers trust connections more than any registry.
    #[default]
    Stale,
    /// The leader's word, without asking its followers whether it still is one.
    Leader,
    /// The leader's word, confirmed by a quorum: slow, and unavailable during elections.
    Consistent,
    /// The agent's own cache, shared by all processes that use that agent: the most robust when servers fail, a little
    /// later than the others.
    Cached,
}

/// Why a configuration cannot be used. Every message names the value.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The address cannot be read.
    #[error("{address:?} is no address of a Consul agent: {reason}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It is a valid setting that picom does not support.
    #[error("{setting} is set to {value:?}, which is not supported: {reason}")]
    Unsupported {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What to do.
        reason: &'static str,
    },
    /// A setting is malformed.
    #[error("{setting} is not usable: {reason}")]
    Malformed {
        /// The setting; its value may be a secret.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A number is out of range.
    #[error("{setting} is {value}, it must be between {least} and {most}")]
    Range {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The least possible.
        least: String,
        /// The most possible.
        most: String,
    },
    /// A file of the TLS settings cannot be used.
    #[error("{setting} is {path:?}, which cannot be used: {reason}")]
    TlsFile {
        /// The setting.
        setting: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The token file cannot be read.
    #[error("token file {path:?} cannot be read")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Arc<io::Error>,
    },
}

impl ConfigError {
    /// Of an address, without what may be a password in it.
    pub(super) fn address(text: &str, reason: &'static str) -> Self {
        let address = match text.rsplit_once('@') {
            None => text.to_owned(),
            Some((before, host)) => {
                let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
                let slashes = if scheme.is_empty() { "" } else { "://" };
                format!("{scheme}{slashes}<hidden>@{host}")
            }
        };
        Self::Address { address, reason }
    }
}

impl Default for ConsulConfig {
    fn default() -> Self {
        Self::new("127.0.0.1", 8500)
    }
}

impl ConsulConfig {
    /// The defaults with an agent at `host` and `port`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            address: AgentAddress::Tcp {
                host: host.into(),
                port,
                prefix: String::new(),
            },
            tls: TlsSettings::default(),
            token: Token::None,
            basic_auth: None,
            consistency: Consistency::default(),
            datacenter: None,
            tags: Vec::new(),
            node_meta: Vec::new(),
            reach: Reach::default(),
            use_warnings: false,
            namespace: None,
            partition: None,
            wait: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(15),
            settling: Duration::from_secs(30),
            max_body: 32 << 20,
            max_watches: 128,
            lane: Lane::default(),
            seed: None,
        }
    }

    /// The defaults with the agent at an address as `CONSUL_HTTP_ADDR` may hold it: what [`AgentAddress`] reads, and
    /// `https://host[:port][/prefix]`, which enables TLS.
    ///
    /// # Errors
    /// The address cannot be read.
    pub fn at(address: &str) -> Result<Self, ConfigError> {
        Self::at_with(address, false)
    }

    /// The same, with TLS also where the scheme does not say so: that changes the port of an address without one.
    pub(crate) fn at_with(address: &str, tls: bool) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        (config.address, config.tls.enabled) = match address.strip_prefix("https://") {
            Some(rest) => (AgentAddress::over_tcp(address, rest, 443)?, true),
            None => (AgentAddress::read(address, if tls { 443 } else { 80 })?, tls),
        };
        Ok(config)
    }

    /// Whether every value is in its range.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let (second, millisecond) = (Duration::from_secs(1), Duration::from_millis(1));
        in_range("wait", self.wait, second, second * 600)?;
        in_range(
            "connect_timeout",
            self.connect_timeout,
            millisecond * 10,
            second * 60,
        )?;
        in_range("call_timeout", self.call_timeout, millisecond * 100, second * 120)?;
        in_range("settling", self.settling, Duration::ZERO, second * 60)?;
        in_range("max_body", self.max_body, 4 << 10, 1 << 30)?;
        in_range("max_watches", self.max_watches, 1, 10_000)?;
        if self.tls.client_cert.is_some() != self.tls.client_key.is_some() {
            return Err(ConfigError::Malformed {
                setting: "the client certificate",
                reason: "certificate and key are needed both, or neither".to_owned(),
            });
        }
        if let AgentAddress::Tcp { host, port, .. } = &self.address {
            let reason = match port {
                0 => Some("nobody can dial port 0"),
                _ => host_fault(host),
            };
            if let Some(reason) = reason {
                // A host that is none may hold a scheme or a port: with another behind it nobody would recognise it.
                let address = match port {
                    0 => authority(host, *port),
                    _ => host.clone(),
                };
                return Err(ConfigError::address(&address, reason));
            }
        }
        Ok(())
    }
}

fn in_range<T: PartialOrd + fmt::Debug>(
    setting: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ConfigError> {
    if value >= least && value <= most {
        return Ok(());
    }
    let text = |value: T| format!("{value:?}");
    Err(ConfigError::Range {
        setting,
        value: text(value),
        least: text(least),
        most: text(most),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, prefix: &str) -> AgentAddress {
        AgentAddress::Tcp {
            host: host.into(),
            port,
            prefix: prefix.into(),
        }
    }

    #[test]
    fn an_address_with_tls_enables_it() {
        let config = ConsulConfig::at("https://[::1]/c").unwrap();
        assert_eq!(
            (config.address, config.tls.enabled),
            (tcp("::1", 443, "/c"), true)
        );
        assert!(!ConsulConfig::at("a:1").unwrap().tls.enabled);
        assert!(
            ConsulConfig::at("https://a:x")
                .unwrap_err()
                .to_string()
                .contains("https://a:x")
        );
        assert!("https://a:1".parse::<AgentAddress>().is_err());
    }

    #[test]
    fn a_client_certificate_needs_its_key() {
        let mut config = ConsulConfig::default();
        config.tls.client_key = Some("/k".into());
        assert!(matches!(config.check(), Err(ConfigError::Malformed { .. })));
        config.tls.client_cert = Some("/c".into());
        assert!(config.check().is_ok());
    }

    #[test]
    fn values_out_of_range_are_named_with_the_range() {
        let mut config = ConsulConfig::default();
        assert!(config.check().is_ok());
        config.wait = Duration::from_secs(601);
        let error = config.check().unwrap_err().to_string();
        assert!(
            error.contains("wait") && error.contains("601s") && error.contains("600s"),
            "{error}"
        );
        let config = ConsulConfig::new("0.0.0.0", 8500);
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("\"0.0.0.0\" is no address")
        );
        assert!(ConsulConfig::new("a", 0).check().is_err());
    }
}
