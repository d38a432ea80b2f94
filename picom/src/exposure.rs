//! Exposing methods: once, in steps of which each can fail, and of which none leaves anything behind.

use crate::advertise;
use crate::error::{Error, ExposeError};
use crate::service::Inner;
use crate::settings::{Advertised, Listening, Settings};
use picom_discovery::{OnUnavailable, Registration};
use picom_rpc::{Methods, ServeError, Server};
use picom_transport::{Acceptor, Identity, TcpAcceptor};
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::timeout;

/// How far a service has come with exposing.
#[derive(Debug)]
pub(crate) struct Exposure {
    stage: Mutex<Stage>,
    /// Told when it leaves `Exposing`.
    settled: watch::Sender<()>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    New,
    Exposing,
    Exposed(Exposed),
    Ended,
}

/// What is exposed.
#[derive(Clone, Debug)]
pub(crate) struct Exposed {
    pub(crate) server: Server,
    /// What others are told.
    pub(crate) advertised: String,
    /// The id of the registration.
    pub(crate) registration: String,
}

impl Default for Exposure {
    fn default() -> Self {
        Exposure {
            stage: Mutex::default(),
            settled: watch::Sender::new(()),
        }
    }
}

impl Exposure {
    /// Exposes, on a task of its own: whoever drops the future leaves nothing half done.
    pub(crate) async fn begin(inner: &Arc<Inner>, methods: Methods) -> Result<(), Error> {
        let service = || inner.settings.name.to_string();
        methods.check().map_err(|error| ExposeError::Methods {
            service: service(),
            error,
        })?;
        {
            let mut stage = inner.exposure.stage();
            match &*stage {
                // Also while it ends: what is exposed yet is not for long.
                Stage::New | Stage::Exposed(_) if inner.ending.has_begun() => {
                    return Err(ExposeError::Ended { service: service() }.into());
                }
                Stage::New => *stage = Stage::Exposing,
                Stage::Exposing => {
                    let address = "an address that is being found".to_owned();
                    return Err(ExposeError::Twice {
                        service: service(),
                        address,
                    }
                    .into());
                }
                Stage::Exposed(exposed) => {
                    let address = exposed.advertised.clone();
                    return Err(ExposeError::Twice {
                        service: service(),
                        address,
                    }
                    .into());
                }
                Stage::Ended => return Err(ExposeError::Ended { service: service() }.into()),
            }
        }
        let task = {
            let inner = inner.clone();
            tokio::spawn(async move {
                let exposed = expose(&inner, methods).await;
                inner.exposure.settle(&inner, exposed).await
            })
        };
        match task.await {
            Ok(exposed) => exposed.map_err(Error::from),
            Err(_) => Err(ExposeError::Runtime { service: service() }.into()),
        }
    }

    /// What is exposed, if anything is.
    pub(crate) fn exposed(&self) -> Option<Exposed> {
        match &*self.stage() {
            Stage::Exposed(exposed) => Some(exposed.clone()),
            _ => None,
        }
    }

    /// Nothing is exposed from now on. Waits for what is being exposed, and gives what is to be ended.
    pub(crate) async fn end(&self) -> Option<Exposed> {
        let mut settled = self.settled.subscribe();
        loop {
            {
                let mut stage = self.stage();
                match &*stage {
                    Stage::Exposed(exposed) => return Some(exposed.clone()),
                    Stage::Exposing => {}
                    Stage::New | Stage::Ended => {
                        *stage = Stage::Ended;
                        return None;
                    }
                }
            }
            // The sender is here.
            let _ = settled.changed().await;
        }
    }

    /// What was exposed has ended.
    pub(crate) fn over(&self) {
        *self.stage() = Stage::Ended;
    }

    async fn settle(&self, inner: &Inner, exposed: Result<Exposed, ExposeError>) -> Result<(), ExposeError> {
        let ended = inner.ending.has_begun();
        let result = match exposed {
            Ok(exposed) => {
                tracing::info!(service = %inner.settings.name, address = %exposed.advertised, "exposed");
                *self.stage() = Stage::Exposed(exposed);
                // Who ended meanwhile finds it there, and takes it back.
                if ended {
                    Err(ExposeError::Ended {
                        service: inner.settings.name.to_string(),
                    })
                } else {
                    Ok(())
                }
            }
            Err(error) => {
                *self.stage() = if ended { Stage::Ended } else { Stage::New };
                Err(error)
            }
        };
        self.settled.send_replace(());
        result
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn expose(inner: &Inner, methods: Methods) -> Result<Exposed, ExposeError> {
    let settings = &inner.settings;
    let service = || settings.name.to_string();
    let (acceptor, advertised) = listen(settings).await?;
    if advertise::misleads(&advertised.host, settings.registry.as_ref()) {
        tracing::warn!(
            service = %settings.name, host = %advertised.host, registry = %inner.discovery.describe(),
            "a loopback address is announced to a remote registry: others will not reach this service; set `advertise` or PICOM_ADVERTISE"
        );
    }
    let port = advertised.port.unwrap_or_default();
    let registration = settings
        .registration
        .at(settings.name.clone(), &advertised.host, port)
        .map_err(|error| ExposeError::Registration {
            service: service(),
            error,
        })?;
    // Callers compare both with what the registration says.
    let identity = Identity {
        service: Some(settings.name.as_str().into()),
        instance: registration.uuid().map(Into::into),
    };
    let server =
        Server::start(acceptor, identity, methods, settings.server.clone()).map_err(|error| match error {
            ServeError::Methods(error) => ExposeError::Methods {
                service: service(),
                error,
            },
            ServeError::Config(error) => ExposeError::Connections(error),
            other => ExposeError::Bind {
                service: service(),
                address: registration.authority(),
                error: std::io::Error::other(other),
            },
        })?;
    let exposed = Exposed {
        server: server.clone(),
        advertised: registration.authority(),
        registration: registration.id().to_owned(),
    };
    match announce(inner, &server, registration).await {
        Ok(()) => Ok(exposed),
        Err(error) => {
            server.end().await;
            Err(error)
        }
    }
}

/// Registers. If the service ends meanwhile, the registration is given a moment to come through, so that it can be taken
/// back in order.
async fn announce(inner: &Inner, server: &Server, registration: Registration) -> Result<(), ExposeError> {
    let settings = &inner.settings;
    let on_unavailable = if settings.keep_trying {
        OnUnavailable::KeepTrying
    } else {
        OnUnavailable::Fail
    };
    let mut announced = pin!(server.announce(&*inner.discovery, registration, on_unavailable));
    let announced = tokio::select! {
        announced = &mut announced => Some(announced),
        () = inner.ending.begun() => timeout(settings.server.leave_timeout, announced).await.ok(),
    };
    let service = settings.name.to_string();
    match announced {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(ExposeError::Register {
            service,
            registry: inner.discovery.describe(),
            error,
        }),
        None => Err(ExposeError::Ended { service }),
    }
}

/// Starts to listen, and says what others are told.
async fn listen(settings: &Settings) -> Result<(Arc<dyn Acceptor>, Advertised), ExposeError> {
    let service = || settings.name.to_string();
    let acceptor: Arc<dyn Acceptor> = match &settings.listening {
        Listening::Given(acceptor) => acceptor.clone(),
        #[cfg(feature = "testing")]
        Listening::Memory(world) => world.listen().map_err(|error| ExposeError::Bind {
            service: service(),
            address: "the network in memory".to_owned(),
            error,
        })?,
        Listening::Tcp => return listen_tcp(settings).await,
    };
    let local = acceptor.local_addr();
    let advertised = match &settings.advertise {
        Some(set) => set.clone(),
        None => advertise::parse(&local).map_err(|reason| ExposeError::Advertise {
            service: service(),
            error: std::io::Error::other(format!("{local:?} is listened on: {reason}")),
        })?,
    };
    let port = advertised.port.or_else(|| local.rsplit_once(':')?.1.parse().ok());
    Ok((acceptor, Advertised { port, ..advertised }))
}

async fn listen_tcp(settings: &Settings) -> Result<(Arc<dyn Acceptor>, Advertised), ExposeError> {
    let service = || settings.name.to_string();
    let (bind, host) = match (&settings.advertise, settings.bind) {
        (Some(set), Some(bind)) => (bind, set.host.clone()),
        (Some(set), None) => {
            let any: std::net::IpAddr = std::net::Ipv4Addr::UNSPECIFIED.into();
            (
                set.host.parse().map_or(any, advertise::bind_for),
                set.host.clone(),
            )
        }
        (None, Some(bind)) if !bind.is_unspecified() => (bind, bind.to_string()),
        (None, bind) => {
            let found = advertise::found_out(settings.registry.as_ref())
                .await
                .map_err(|error| ExposeError::Advertise {
                    service: service(),
                    error,
                })?;
            (
                bind.unwrap_or_else(|| advertise::bind_for(found)),
                found.to_string(),
            )
        }
    };
    let address = SocketAddr::new(bind, settings.port);
    let acceptor = TcpAcceptor::bind(address).map_err(|error| ExposeError::Bind {
        service: service(),
        address: address.to_string(),
        error,
    })?;
    let set = settings.advertise.as_ref().and_then(|set| set.port);
    let port = set.unwrap_or_else(|| acceptor.local_socket_addr().port());
    Ok((
        Arc::new(acceptor),
        Advertised {
            host,
            port: Some(port),
        },
    ))
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.registration, self.advertised)
    }
}
