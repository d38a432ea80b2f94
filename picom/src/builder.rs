//! How a service is described: what the builder says wins over the environment, and that over the defaults.

use crate::advertise;
use crate::defaults;
use crate::environment::Environment;
use crate::error::{ConfigError, Error};
use crate::service::Picom;
use crate::settings::{Announcement, Listening, Settings};
use picom_codec::Limits;
use picom_discovery::consul::{AgentAddress, Consul, ConsulConfig, Secret, Token};
use picom_discovery::{Discovery, ServiceName};
use picom_rpc::{Balance, Client, ClientConfig, ServerConfig};
use picom_transport::{Acceptor, ConnectionConfig, Connector, TcpConnector};
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Describes a service: begin with [`Picom::builder`], end with [`build`](Self::build).
///
/// What is not said is taken from the environment (`CONSUL_HTTP_ADDR`, `CONSUL_HTTP_TOKEN`, `CONSUL_HTTP_TOKEN_FILE`, …;
/// `PICOM_PORT`, `PICOM_TTL`, `PICOM_RETRIES`, `PICOM_ADVERTISE`, `PICOM_DRAIN_TIMEOUT`), and then from
/// [`defaults`]. Zero means zero.
#[must_use = "nothing happens before `build`"]
pub struct Builder {
    name: String,
    environment: bool,
    consul: Option<ConsulConfig>,
    consul_host: Option<String>,
    consul_port: Option<u16>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    ttl: Option<Duration>,
    retries: Option<u32>,
    port: Option<u16>,
    bind: Option<IpAddr>,
    advertise: Option<String>,
    drain_timeout: Option<Duration>,
    keep_accepting: Duration,
    keep_trying: bool,
    tags: Vec<String>,
    meta: Vec<(String, String)>,
    weight: u32,
    deregister_after: Option<Duration>,
    discovery: Option<Arc<dyn Discovery>>,
    connector: Option<Arc<dyn Connector>>,
    listening: Listening,
    balance: Balance,
    strict: bool,
    classic: bool,
    fetch_timeout: Option<Duration>,
    stream_timeout: Option<Duration>,
    connections: Option<ConnectionConfig>,
    untrusted: bool,
    handlers: Option<usize>,
    unready: Option<usize>,
    #[cfg(feature = "dev-agent")]
    dev: Option<u16>,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Builder {
            name: name.to_owned(),
            environment: true,
            consul: None,
            consul_host: None,
            consul_port: None,
            token: None,
            token_file: None,
            ttl: None,
            retries: None,
            port: None,
            bind: None,
            advertise: None,
            drain_timeout: None,
            keep_accepting: defaults::KEEP_ACCEPTING,
            keep_trying: false,
            tags: Vec::new(),
            meta: Vec::new(),
            weight: defaults::WEIGHT,
            deregister_after: None,
            discovery: None,
            connector: None,
            listening: Listening::Tcp,
            balance: Balance::default(),
            strict: false,
            classic: true,
            fetch_timeout: Some(defaults::FETCH_TIMEOUT),
            stream_timeout: defaults::STREAM_TIMEOUT,
            connections: None,
            untrusted: false,
            handlers: None,
            unready: None,
            #[cfg(feature = "dev-agent")]
            dev: None,
        }
    }

    /// The host of Consul's agent; 127.0.0.1 by default. Also an address as `CONSUL_HTTP_ADDR` may hold it, with a port, a
    /// scheme, a path before `/v1`, or of a unix socket.
    pub fn consul_host(mut self, host: impl Into<String>) -> Self {
        self.consul_host = Some(host.into());
        self
    }

    /// The port of Consul's agent; 8500 by default.
    pub fn consul_port(mut self, port: u16) -> Self {
        self.consul_port = Some(port);
        self
    }

    /// The token for Consul. It is never printed.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// A file that holds the token for Consul; it is read again when it changes.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token_file = Some(path.into());
        self
    }

    /// All of Consul's settings, in place of what the environment says; host, port and token of this builder still win.
    pub fn consul(mut self, config: ConsulConfig) -> Self {
        self.consul = Some(config);
        self
    }

    /// The time to live of the check in Consul, a second at least; 30 s by default. Heartbeats come every third of it.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Attempts of a call behind the first; 3 by default, 0 is none.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// The port to listen on; by default, and with 0, any that is free.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The address to listen on; by default all, or loopback alone if that is what is advertised.
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// The host, or host and port, that others are told. By default it is found out: the address of this machine that faces
    /// Consul, with the port that is listened on.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// How long calls under way may take to finish at the end; 30 s by default, 0 cuts them at once.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = Some(timeout);
        self
    }

    /// How long calls are still taken at the end, after the registration was taken back; 1 s by default.
    pub fn keep_accepting(mut self, span: Duration) -> Self {
        self.keep_accepting = span;
        self
    }

    /// `expose` does not fail when Consul is away: it serves, and registers as soon as it can.
    pub fn keep_trying(mut self) -> Self {
        self.keep_trying = true;
        self
    }

    /// A tag of the registration.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// A pair of the registration's metadata.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.push((key.into(), value.into()));
        self
    }

    /// The share of calls relative to other instances; 1 by default.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Consul removes the registration of a service that died after so long; by default three times the time to live, a
    /// minute at least.
    pub fn deregister_after(mut self, span: Duration) -> Self {
        self.deregister_after = Some(span);
        self
    }

    /// Another source of discovery than Consul: a [`Fixed`](crate::Fixed) list, or one of your own.
    pub fn discovery(mut self, discovery: Arc<dyn Discovery>) -> Self {
        self.discovery = Some(discovery);
        self
    }

    /// Another way to open connections than TCP.
    pub fn connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Another way to accept connections than TCP. What it listens on is advertised, unless told otherwise.
    pub fn acceptor(mut self, acceptor: Arc<dyn Acceptor>) -> Self {
        self.listening = Listening::Given(acceptor);
        self
    }

    /// How calls are spread over instances; by default the better of two that are drawn.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Instances that vanish from the registry all at once are not called any more. By default open connections serve for
    /// ten seconds, in case the registry lost its state.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Whether services of the Node library 0.3.x are talked to, in both directions; by default they are. Off, its callers
    /// are turned away, and instances without our mark in the registry are not called. Switch it off where connections
    /// must be encrypted or callers known: the dialect has neither, and as long as this library has no TLS between
    /// services nothing switches it off by itself.
    pub fn classic(mut self, classic: bool) -> Self {
        self.classic = classic;
        self
    }

    /// How long a `fetch` takes at most unless it says otherwise; 30 s by default, `None` is for ever.
    pub fn fetch_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.fetch_timeout = timeout.into();
        self
    }

    /// How long a `stream` takes at most unless it says otherwise; for ever by default.
    pub fn stream_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.stream_timeout = timeout.into();
        self
    }

    /// Limits and times of all connections. Connections that are accepted are closed when idle half a minute later than it
    /// says, so that the callers close them.
    pub fn connections(mut self, config: ConnectionConfig) -> Self {
        self.connections = Some(config);
        self
    }

    /// Tighter limits for what callers send, for callers that are not trusted: messages of 1 MiB, 256 streams and 8 MiB a
    /// connection, 65,536 values a message.
    pub fn untrusted(mut self) -> Self {
        self.untrusted = true;
        self
    }

    /// Handlers that may run at a time, in all; 65,536 by default. More calls are refused, and run elsewhere.
    pub fn handlers(mut self, handlers: usize) -> Self {
        self.handlers = Some(handlers);
        self
    }

    /// Connections that have not said what they are: at most so many; 16,384 by default. More wait unaccepted, and what has been
    /// silent for over a second is closed for them.
    pub fn unready(mut self, connections: usize) -> Self {
        self.unready = Some(connections);
        self
    }

    /// Takes nothing from the environment.
    pub fn without_environment(mut self) -> Self {
        self.environment = false;
        self
    }

    /// Uses the dev agent of this machine in place of Consul, or becomes it: for development, with nothing installed. All
    /// processes that say so see each other.
    #[cfg(feature = "dev-agent")]
    pub fn dev(self) -> Self {
        self.dev_on(picom_discovery::dev_agent::DEFAULT_SHARED_PORT)
    }

    /// The same on another loopback port than the usual one.
    #[cfg(feature = "dev-agent")]
    pub fn dev_on(mut self, port: u16) -> Self {
        self.dev = Some(port);
        self
    }

    /// Lives in memory with all others of this world: no network, no Consul.
    #[cfg(feature = "testing")]
    pub fn in_memory(mut self, world: &picom_rpc::testing::InMemory) -> Self {
        self.discovery = Some(Arc::new(world.registry().clone()));
        self.connector = Some(world.network().connector());
        self.listening = Listening::Memory(world.clone());
        self
    }

    /// Builds the service. Nothing is opened or registered yet; that is done by `expose` and by the first call.
    ///
    /// # Errors
    ///
    /// A value that cannot be used; the error names it.
    pub fn build(self) -> Result<Picom, Error> {
        self.build_in(|name| std::env::var_os(name))
    }

    pub(crate) fn build_in(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Picom, Error> {
        let variable = |name: &str| variable(name).filter(|_| self.environment);
        let environment = Environment::read(variable).map_err(ConfigError::Environment)?;
        let name = ServiceName::new(&self.name).map_err(|error| ConfigError::Name {
            name: self.name.chars().take(64).collect(),
            error,
        })?;
        let registration = Announcement {
            ttl: self.ttl.or(environment.ttl).unwrap_or(defaults::TTL),
            deregister_after: self.deregister_after,
            tags: self.tags.clone(),
            meta: self.meta.clone(),
            weight: self.weight,
        };
        // All but the address is known: better said now than at `expose`.
        registration
            .at(name.clone(), "localhost", 1)
            .map_err(ConfigError::Registration)?;
        let advertise = self.advertise.clone().or(environment.advertise);
        let advertise = advertise
            .map(|address| {
                advertise::parse(&address).map_err(|reason| ConfigError::Advertise { address, reason })
            })
            .transpose()?;

        let mut client = ClientConfig::default();
        client.retries = self.retries.or(environment.retries).unwrap_or(defaults::RETRIES);
        client.fetch_timeout = self.fetch_timeout;
        client.stream_timeout = self.stream_timeout;
        client.balance = self.balance;
        client.strict = self.strict;
        client.classic = self.classic;
        let mut server = ServerConfig::default();
        server.drain_timeout = self
            .drain_timeout
            .or(environment.drain_timeout)
            .unwrap_or(defaults::DRAIN_TIMEOUT);
        server.keep_accepting = self.keep_accepting;
        server.listener.classic = self.classic;
        server.leave_timeout = defaults::LEAVE_TIMEOUT;
        if let Some(handlers) = self.handlers {
            server.handlers = handlers;
        }
        if let Some(unready) = self.unready {
            server.listener.unready_limit = unready;
        }
        if let Some(connections) = &self.connections {
            client.collect_bytes = connections.message_limit;
            client.connection = connections.clone();
            let idle_close = connections
                .idle_close
                .map(|span| span.saturating_add(Duration::from_secs(30)));
            server.listener.connection = ConnectionConfig {
                idle_close,
                ..connections.clone()
            };
        }
        if self.untrusted {
            server.listener.connection = ConnectionConfig::untrusted();
            server.limits = Limits::untrusted();
        }
        // All callers that have not said what they call, together: as much as one that has.
        server.listener.unready_bytes = server.listener.connection.receive_budget;
        server
            .listener
            .connection
            .check()
            .map_err(ConfigError::Connections)?;

        let (discovery, registry) = self.discover(variable)?;
        let connector = self.connector.clone().unwrap_or_else(|| Arc::new(TcpConnector));
        let client = Client::new(discovery.clone(), connector, client).map_err(ConfigError::Connections)?;
        let settings = Settings {
            name,
            registration,
            port: self.port.or(environment.port).unwrap_or(defaults::PORT),
            bind: self.bind,
            advertise,
            listening: self.listening,
            keep_trying: self.keep_trying,
            server,
            registry,
        };
        tracing::debug!(?settings, discovery = %discovery.describe(), "built");
        Ok(Picom::from_parts(settings, discovery, client))
    }

    /// Who is asked for instances, and where that is.
    fn discover(
        &self,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(Arc<dyn Discovery>, Option<AgentAddress>), ConfigError> {
        if let Some(discovery) = &self.discovery {
            return Ok((discovery.clone(), None));
        }
        #[cfg(feature = "dev-agent")]
        if let Some(port) = self.dev {
            let config = ConsulConfig::new(defaults::CONSUL_HOST, port);
            let address = config.address.clone();
            let consul = Consul::new(config).map_err(ConfigError::Consul)?;
            return Ok((
                Arc::new(crate::dev::DevDiscovery::new(consul, port)),
                Some(address),
            ));
        }
        let mut config = match &self.consul {
            Some(config) => config.clone(),
            None => ConsulConfig::from_variables(variable).map_err(ConfigError::Consul)?,
        };
        if let Some(address) = self.consul_host.as_deref().filter(|host| is_address(host)) {
            let at = ConsulConfig::at(address).map_err(ConfigError::Consul)?;
            (config.address, config.tls.enabled) = (at.address, at.tls.enabled);
            if let (Some(wanted), AgentAddress::Tcp { port, .. }) = (self.consul_port, &mut config.address) {
                *port = wanted;
            }
        } else if self.consul_host.is_some() || self.consul_port.is_some() {
            let (host, port, prefix) = match config.address {
                AgentAddress::Tcp { host, port, prefix } => (host, port, prefix),
                AgentAddress::Unix { .. } => {
                    (defaults::CONSUL_HOST.into(), defaults::CONSUL_PORT, String::new())
                }
            };
            config.address = AgentAddress::Tcp {
                host: self.consul_host.clone().unwrap_or(host),
                port: self.consul_port.unwrap_or(port),
                prefix,
            };
        }
        let secret = |token: &String| Secret::new(token).map_err(ConfigError::Token);
        let fallback = self.token.as_ref().map(secret).transpose()?;
        match (&self.token_file, fallback) {
            (Some(path), fallback) => {
                config.token = Token::File {
                    path: path.clone(),
                    fallback,
                }
            }
            (None, Some(token)) => config.token = Token::Value(token),
            (None, None) => {}
        }
        let address = config.address.clone();
        let consul = Consul::new(config).map_err(ConfigError::Consul)?;
        Ok((Arc::new(consul), Some(address)))
    }
}

/// Whether it says more than a host: bare IPv6 addresses have colons too, and more than one.
fn is_address(host: &str) -> bool {
    host.contains(['/', '[']) || host.matches(':').count() == 1
}

impl fmt::Debug for Builder {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(builder: Builder, variables: &[(&str, &str)]) -> Result<Picom, Error> {
        builder.build_in(|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.into())
        })
    }

    const VARIABLES: &[(&str, &str)] = &[
        ("CONSUL_HTTP_ADDR", "10.1.1.1:9500"),
        ("PICOM_PORT", "4000"),
        ("PICOM_TTL", "45"),
        ("PICOM_RETRIES", "7"),
        ("PICOM_ADVERTISE", "10.2.2.2"),
        ("PICOM_DRAIN_TIMEOUT", "5"),
    ];

    fn shown(picom: &Picom) -> (u16, u64, u32, Option<String>, u64, String) {
        let settings = picom.settings();
        (
            settings.port,
            settings.registration.ttl.as_secs(),
            picom.client().config().retries,
            settings
                .advertise
                .as_ref()
                .map(|advertised| advertised.host.clone()),
            settings.server.drain_timeout.as_secs(),
            settings
                .registry
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        )
    }

    #[test]
    fn the_builder_wins_over_the_environment_and_that_over_the_defaults() {
        let plain = build(Builder::new("s"), &[]).unwrap();
        assert_eq!(shown(&plain), (0, 30, 3, None, 30, "127.0.0.1:8500".into()));
        let environment = build(Builder::new("s"), VARIABLES).unwrap();
        assert_eq!(
            shown(&environment),
            (4000, 45, 7, Some("10.2.2.2".into()), 5, "10.1.1.1:9500".into())
        );
        let builder = || {
            Builder::new("s")
                .consul_host("consul.internal")
                .port(0)
                .ttl(Duration::from_secs(10))
                .retries(0)
                .advertise("10.3.3.3:80")
                .drain_timeout(Duration::ZERO)
        };
        let both = build(builder(), VARIABLES).unwrap();
        assert_eq!(
            shown(&both),
            (
                0,
                10,
                0,
                Some("10.3.3.3".into()),
                0,
                "consul.internal:9500".into()
            )
        );
        let alone = build(Builder::new("s").without_environment(), VARIABLES).unwrap();
        assert_eq!(shown(&alone), shown(&plain));
    }

    #[test]
    fn consuls_host_may_be_a_whole_address() {
        for (host, port, expected) in [
            ("10.0.0.7", None, "10.0.0.7:8500"),
            ("10.0.0.7:9000", None, "10.0.0.7:9000"),
            ("http://10.0.0.7:8500", None, "10.0.0.7:8500"),
            ("http://10.0.0.7/consul", Some(81), "10.0.0.7:81/consul"),
            ("::1", None, "[::1]:8500"),
            ("[::1]:9000", None, "[::1]:9000"),
            ("unix:///run/consul.sock", None, "unix:///run/consul.sock"),
        ] {
            let mut builder = Builder::new("s").consul_host(host);
            if let Some(port) = port {
                builder = builder.consul_port(port);
            }
            assert_eq!(shown(&build(builder, &[]).unwrap()).5, expected, "{host}");
        }
    }

    #[test]
    fn values_that_cannot_be_used_are_named() {
        let text = |builder: Builder, variables: &[(&str, &str)]| {
            let error = build(builder, variables).unwrap_err();
            assert!(error.as_config().is_some());
            format!("{error:?}")
        };
        assert!(text(Builder::new(""), &[]).contains("\"\""));
        assert!(text(Builder::new("s").ttl(Duration::from_millis(999)), &[]).contains("999ms"));
        assert!(text(Builder::new("s"), &[("PICOM_TTL", "0")]).contains("0ns"));
        assert!(text(Builder::new("s"), &[("PICOM_PORT", "many")]).contains("PICOM_PORT is \"many\""));
        assert!(text(Builder::new("s").advertise("0.0.0.0"), &[]).contains("0.0.0.0"));
        assert!(text(Builder::new("s").consul_port(0), &[]).contains("port 0"));
        assert!(text(Builder::new("s").weight(0), &[]).contains("weight 0"));
        assert!(text(Builder::new("s"), &[("CONSUL_HTTP_ADDR", "ftp://x")]).contains("ftp://x"));
        let secret = text(Builder::new("s").token("two words"), &[]);
        assert!(!secret.contains("two words"), "{secret}");
    }
}
