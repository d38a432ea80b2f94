//! Services in memory, for tests of the layers above and of programs: the real client and the real server over a network
//! and a registry that do what a test says.

use crate::client::{Client, ClientConfig};
use crate::server::{Methods, Server, ServerConfig};
use picom_discovery::{
    Discovery, Mock, NameError, OnUnavailable, RegisterError, Registration, RegistrationError, ServiceName,
};
use picom_transport::testing::MemoryNetwork;
use picom_transport::{Acceptor, ConfigError, Identity};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The protocol version that servers here announce.
const VERSION: u16 = 1;

/// The host of every address here.
const HOST: &str = "memory";

/// A network and a registry in memory. A cheap handle.
///
/// ```
/// use picom_rpc::Methods;
/// use picom_rpc::testing::InMemory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let world = InMemory::new();
/// world.serve("math", Methods::new().unary("double", |n: i64| async move { Ok(2 * n) })).await?;
/// let seven: i64 = world.client()?.fetch("math", "double", &21).await?;
/// assert_eq!(seven, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct InMemory {
    network: MemoryNetwork,
    registry: Mock,
    last_port: Arc<AtomicU16>,
}

/// Why a service in memory did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InMemoryError {
    /// The name is none.
    #[error("that is not the name of a service")]
    Name(#[from] NameError),
    /// The address is taken.
    #[error("the address cannot be listened at")]
    Bind(#[from] io::Error),
    /// The methods or the configuration.
    #[error("the methods cannot be served")]
    Serve(#[from] crate::ServeError),
    /// The registration.
    #[error("the registration is not possible")]
    Registration(#[from] RegistrationError),
    /// The registry.
    #[error("the registry refused")]
    Register(#[from] RegisterError),
}

impl InMemory {
    /// Nobody is there yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The network: connections can be refused, silenced and cut.
    pub fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    /// The registry: instances can be set and removed, and it can fail.
    pub fn registry(&self) -> &Mock {
        &self.registry
    }

    /// A client with the defaults.
    ///
    /// # Errors
    ///
    /// None with the defaults.
    pub fn client(&self) -> Result<Client, ConfigError> {
        self.client_with(ClientConfig::default())
    }

    /// A client with settings of one's own.
    ///
    /// # Errors
    ///
    /// When the settings of its connections do not fit.
    pub fn client_with(&self, config: ClientConfig) -> Result<Client, ConfigError> {
        let registry: Arc<dyn Discovery> = Arc::new(self.registry.clone());
        Client::new(registry, self.network.connector(), config)
    }

    /// Serves methods under a name, at `memory:1`, `memory:2` and so on, and announces them: as soon
    /// as the registry can be reached, if it was told to fail. Cancel safe.
    ///
    /// # Errors
    ///
    /// A mistake in the name or the methods, or a registry that was told to fail for good.
    pub async fn serve(&self, service: &str, methods: impl Into<Methods>) -> Result<Server, InMemoryError> {
        self.serve_with(service, methods, ServerConfig::default()).await
    }

    /// The same with settings of one's own.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve), or settings that do not fit.
    pub async fn serve_with(
        &self,
        service: &str,
        methods: impl Into<Methods>,
        config: ServerConfig,
    ) -> Result<Server, InMemoryError> {
        let service = ServiceName::new(service)?;
        let (acceptor, port) = self.bind()?;
        let registration = Registration::new(service, HOST, port)?.with_native_version(VERSION)?;
        let identity = Identity {
            service: Some(registration.service().as_str().into()),
            instance: registration.uuid().map(Into::into),
        };
        let server = Server::start(acceptor, identity, methods, config)?;
        server
            .announce(&self.registry, registration, OnUnavailable::KeepTrying)
            .await?;
        Ok(server)
    }

    /// Listens at the next address, for a server of one's own.
    ///
    /// # Errors
    ///
    /// When somebody else listens there.
    pub fn listen(&self) -> io::Result<Arc<dyn Acceptor>> {
        self.bind().map(|(acceptor, _)| acceptor)
    }

    fn bind(&self) -> io::Result<(Arc<dyn Acceptor>, u16)> {
        let port = self.last_port.fetch_add(1, Ordering::Relaxed) + 1;
        let acceptor = self.network.bind(&format!("{HOST}:{port}"))?;
        Ok((Arc::new(acceptor), port))
    }
}
