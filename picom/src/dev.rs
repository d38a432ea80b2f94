//! Discovery through the dev agent of this machine, which a process joins or becomes when it first asks.

use async_trait::async_trait;
use picom_discovery::consul::Consul;
use picom_discovery::dev_agent::{DevAgent, DevAgentError, Shared};
use picom_discovery::{
    Discovery, DiscoveryError, Freshness, Lease, OnUnavailable, Phase, Publisher, RegisterError,
    Registration, ServiceName, Snapshot, Watch,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::sleep;

/// Between attempts to join: the port is taken by something else, and may be given free.
const REST: Duration = Duration::from_secs(1);

/// The real client of Consul, in front of the shared dev agent. The share ends with the last clone.
#[derive(Clone)]
pub(crate) struct DevDiscovery {
    consul: Consul,
    port: u16,
    share: Arc<OnceCell<Shared>>,
}

impl DevDiscovery {
    pub(crate) fn new(consul: Consul, port: u16) -> Self {
        DevDiscovery {
            consul,
            port,
            share: Arc::default(),
        }
    }

    async fn joined(&self) -> Result<(), DiscoveryError> {
        let joined = self.share.get_or_try_init(|| DevAgent::shared(self.port)).await;
        joined.map(drop).map_err(|error| self.error(error))
    }

    fn error(&self, error: DevAgentError) -> DiscoveryError {
        DiscoveryError::Transport {
            agent: self.describe().into(),
            phase: Phase::Dial,
            source: Arc::new(error),
        }
    }
}

#[async_trait]
impl Discovery for DevDiscovery {
    fn watch(&self, service: &ServiceName) -> Watch {
        if self.share.initialized() {
            return self.consul.watch(service);
        }
        let publisher = Publisher::new(service.clone());
        let watch = publisher.watch();
        let (discovery, service) = (self.clone(), service.clone());
        tokio::spawn(async move {
            while let Err(error) = discovery.joined().await {
                tracing::warn!(%error, "there is no dev agent");
                let mut snapshot = Snapshot::pending(service.clone());
                snapshot.freshness = Freshness::Pending {
                    error: Some(Arc::new(error)),
                };
                publisher.publish(snapshot);
                if publisher.is_unwatched() {
                    return;
                }
                sleep(REST).await;
            }
            let mut watch = discovery.consul.watch(&service);
            let mut snapshot = watch.latest();
            loop {
                publisher.publish(Snapshot::clone(&snapshot));
                tokio::select! {
                    newest = watch.changed() => snapshot = newest,
                    () = publisher.unwatched() => return,
                }
            }
        });
        watch
    }

    async fn register(
        &self,
        registration: Registration,
        on_unavailable: OnUnavailable,
    ) -> Result<Lease, RegisterError> {
        self.joined().await.map_err(|error| RegisterError::Unavailable {
            service: registration.service().to_string(),
            source: Arc::new(error),
        })?;
        self.consul.register(registration, on_unavailable).await
    }

    fn describe(&self) -> String {
        format!("the dev agent at 127.0.0.1:{}", self.port)
    }
}

impl fmt::Debug for DevDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevDiscovery")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
