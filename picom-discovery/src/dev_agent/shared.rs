//! One dev agent for all processes of a machine: whoever binds the well-known port first serves, the others use it, and
//! when it goes away one of them takes its place. What was registered is lost then, as when Consul's own dev agent is
//! restarted; clients notice by their heartbeats and register again.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::agent::DevAgent;
use super::config::DevAgentConfig;
use super::error::DevAgentError;
use super::probe::{self, Found, Tie};

/// The well-known port. Consul's own is 8500; the two must be able to stand side by side.
pub const DEFAULT_SHARED_PORT: u16 = 8599;

/// How long binding and asking are tried in turn before the port counts as lost: several times as long as a dev agent
/// takes to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two tries, and before the first after a loss: enough that the processes do not all bind at once.
const REST: Duration = Duration::from_millis(20);
const JITTER_MS: u64 = 80;

/// Between tries when the port is lost, or when agents come and go at once.
const LONG_REST: Duration = Duration::from_secs(1);

/// What part this process has in a shared agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves.
    Owner,
    /// It uses another process's.
    Guest,
    /// Nobody serves at the moment: the owner went, and the port could not be taken over. It is tried again every
    /// second.
    Lost,
}

/// A share in the machine's dev agent. Clones, and further calls of [`DevAgent::shared`] in the same process, are the
/// same share; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Shared {
    keeper: Arc<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    /// `None` while it begins. Closed when the keeper's thread has ended.
    role: watch::Receiver<Option<Result<Role, DevAgentError>>>,
}

/// The shares of this process, by port.
static SHARES: Mutex<BTreeMap<u16, Weak<Keeper>>> = Mutex::new(BTreeMap::new());

impl DevAgent {
    /// Joins the machine's dev agent on a loopback port, [`DEFAULT_SHARED_PORT`] by custom, or becomes it. When this
    /// returns, an agent answers at [`Shared::addr`]; it is given 5 s to.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// [`DevAgentError::Foreign`] if something else listens there, [`DevAgentError::Unresponsive`] if the port is taken
    /// and nobody answers, [`DevAgentError::NoPort`] for port 0, or why the port could not be bound.
    pub async fn shared(port: u16) -> Result<Shared, DevAgentError> {
        if port == 0 {
            return Err(DevAgentError::NoPort);
        }
        let shared = Shared {
            keeper: keeper(port)?,
        };
        let mut role = shared.keeper.role.clone();
        let known = role
            .wait_for(|role| role.is_some())
            .await
            .map_err(|_| DevAgentError::Ended)?
            .clone();
        match known {
            Some(Ok(_)) => Ok(shared),
            Some(Err(error)) => Err(error),
            None => Err(DevAgentError::Ended),
        }
    }
}

impl Shared {
    /// Where the agent listens, whoever serves.
    pub fn addr(&self) -> SocketAddr {
        self.keeper.addr
    }

    /// This process's part at the moment.
    pub fn role(&self) -> Role {
        match &*self.keeper.role.borrow() {
            Some(Ok(role)) => *role,
            _ => Role::Lost,
        }
    }

    /// Waits until this process has the part. Never returns if that never comes. Cancel safe.
    pub async fn until(&self, role: Role) {
        let mut watched = self.keeper.role.clone();
        let has = |now: &Option<Result<Role, DevAgentError>>| matches!(now, Some(Ok(now)) if *now == role);
        if watched.wait_for(has).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Gives the share up. If it was the last of this process, waits until the agent, if it served, has stopped (250 ms
    /// at most). Cancel safe: it ends all the same.
    pub async fn stop(self) {
        if let Some(keeper) = Arc::into_inner(self.keeper) {
            keeper.stop.send_replace(true);
            let mut role = keeper.role.clone();
            while role.changed().await.is_ok() {}
        }
    }
}

fn keeper(port: u16) -> Result<Arc<Keeper>, DevAgentError> {
    let mut shares = SHARES.lock().unwrap_or_else(PoisonError::into_inner);
    shares.retain(|_, keeper| keeper.strong_count() > 0);
    if let Some(keeper) = shares.get(&port).and_then(Weak::upgrade) {
        let failed = matches!(*keeper.role.borrow(), Some(Err(_)));
        if !failed {
            return Ok(keeper);
        }
    }
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (stop, stopped) = watch::channel(false);
    let (tell, role) = watch::channel(None);
    std::thread::Builder::new()
        .name("picom-dev-shared".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(keep(addr, stopped, &tell)),
                Err(error) => drop(tell.send_replace(Some(Err(DevAgentError::Thread(Arc::new(error)))))),
            }
        })
        .map_err(|error| DevAgentError::Thread(Arc::new(error)))?;
    let keeper = Arc::new(Keeper { addr, stop, role });
    shares.insert(port, Arc::downgrade(&keeper));
    Ok(keeper)
}

/// Serves or follows until told to stop, or until the first try fails.
async fn keep(
    addr: SocketAddr,
    mut stopped: watch::Receiver<bool>,
    tell: &watch::Sender<Option<Result<Role, DevAgentError>>>,
) {
    let mut begun = false;
    loop {
        let found = tokio::select! {
            found = settle(addr) => found,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        let since = Instant::now();
        match found {
            Ok(Place::Owner(agent)) => {
                tracing::debug!(%addr, "serving the shared dev agent");
                tell.send_replace(Some(Ok(Role::Owner)));
                tokio::select! {
                    () = agent.ended() => {}
                    _ = stopped.wait_for(|stop| *stop) => return agent.stop().await,
                }
            }
            Ok(Place::Guest(mut tie)) => {
                tracing::debug!(%addr, "using another process's dev agent");
                tell.send_replace(Some(Ok(Role::Guest)));
                tokio::select! {
                    () = tie.broken() => tracing::debug!(%addr, "the shared dev agent is gone"),
                    _ = stopped.wait_for(|stop| *stop) => return,
                }
            }
            Err(error) if !begun => {
                tell.send_replace(Some(Err(error)));
                return;
            }
            Err(error) => {
                tracing::warn!(%addr, %error, "no shared dev agent; trying again");
                tell.send_replace(Some(Ok(Role::Lost)));
            }
        }
        begun = true;
        let quick = since.elapsed() < LONG_REST;
        let rest = if quick { LONG_REST } else { Duration::ZERO };
        tokio::select! {
            () = sleep(rest + jittered_rest()) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

enum Place {
    Owner(DevAgent),
    Guest(Tie),
}

/// Binds the port or finds the agent that has it, whichever comes first.
async fn settle(addr: SocketAddr) -> Result<Place, DevAgentError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match DevAgent::start(DevAgentConfig {
            bind: addr,
            ..DevAgentConfig::default()
        })
        .await
        {
            Ok(agent) => return Ok(Place::Owner(agent)),
            Err(DevAgentError::Bind { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        match timeout_at(deadline, probe::ask(addr)).await {
            Ok(Found::Agent(tie)) => return Ok(Place::Guest(tie)),
            Ok(Found::Stranger) => return Err(DevAgentError::Foreign { addr }),
            Ok(Found::Silence) => {}
            Err(_) => {
                return Err(DevAgentError::Unresponsive {
                    addr,
                    waited: PATIENCE,
                });
            }
        }
        if timeout_at(deadline, sleep(jittered_rest())).await.is_err() {
            return Err(DevAgentError::Unresponsive {
                addr,
                waited: PATIENCE,
            });
        }
    }
}

fn jittered_rest() -> Duration {
    REST + Duration::from_millis(fastrand::u64(..JITTER_MS))
}
