//! Doubles for tests of this layer and the ones above: a network in memory whose connections can be refused, stalled and cut.

use crate::connector::{Acceptor, BoxIo, Connector};
use async_trait::async_trait;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::sync::{mpsc, watch};

/// What a direction of a connection holds before its writer waits.
const BUFFER: usize = 64 * 1024;

/// A network in memory. A cheap handle.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    listeners: HashMap<String, mpsc::UnboundedSender<(BoxIo, String)>>,
    /// Told when the connections of an address are to be cut.
    cuts: HashMap<String, watch::Sender<u64>>,
    refused: HashSet<String>,
    silent: HashSet<String>,
    dials: HashMap<String, u64>,
    connections: u64,
}

impl MemoryNetwork {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens at an address of one's choice.
    ///
    /// # Errors
    ///
    /// `AddrInUse`, as a real network would say.
    pub fn bind(&self, authority: &str) -> io::Result<MemoryAcceptor> {
        let mut inner = self.inner();
        if inner
            .listeners
            .get(authority)
            .is_some_and(|listener| !listener.is_closed())
        {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("{authority} is taken"),
            ));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        inner.listeners.insert(authority.to_owned(), sender);
        Ok(MemoryAcceptor {
            authority: authority.to_owned(),
            incoming: tokio::sync::Mutex::new(receiver),
        })
    }

    /// A connector into this network.
    pub fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(MemoryConnector {
            network: self.clone(),
        })
    }

    /// Cuts all connections to an address, as if its host had closed them.
    pub fn cut(&self, authority: &str) {
        if let Some(cut) = self.inner().cuts.get(authority) {
            cut.send_modify(|count| *count += 1);
        }
    }

    /// Refuses further connections to an address.
    pub fn refuse(&self, authority: &str) {
        self.inner().refused.insert(authority.to_owned());
    }

    /// Lets further connections to an address hang without an answer.
    pub fn silence(&self, authority: &str) {
        self.inner().silent.insert(authority.to_owned());
    }

    /// Ends [`refuse`](Self::refuse) and [`silence`](Self::silence).
    pub fn heal(&self, authority: &str) {
        let mut inner = self.inner();
        inner.refused.remove(authority);
        inner.silent.remove(authority);
    }

    /// How often an address was dialed.
    pub fn dials(&self, authority: &str) -> u64 {
        self.inner().dials.get(authority).copied().unwrap_or(0)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, authority: &str) -> io::Result<Option<DuplexStream>> {
        let mut inner = self.inner();
        *inner.dials.entry(authority.to_owned()).or_default() += 1;
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, format!("{authority} refuses"));
        if inner.refused.contains(authority) {
            return Err(refused());
        }
        if inner.silent.contains(authority) {
            return Ok(None);
        }
        inner.connections += 1;
        let peer = format!("memory:{}", inner.connections);
        let (ours, mut near) = duplex(BUFFER);
        let (mut far, theirs) = duplex(BUFFER);
        let listener = inner.listeners.get(authority).ok_or_else(refused)?;
        listener.send((Box::new(theirs), peer)).map_err(|_| refused())?;
        let mut cut = inner
            .cuts
            .entry(authority.to_owned())
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = cut.changed() => {}
            }
        });
        Ok(Some(ours))
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct MemoryConnector {
    network: MemoryNetwork,
}

#[async_trait]
impl Connector for MemoryConnector {
    async fn connect(&self, authority: &str) -> io::Result<BoxIo> {
        match self.network.open(authority)? {
            Some(stream) => Ok(Box::new(stream)),
            None => std::future::pending().await,
        }
    }
}

/// Accepts what is dialed at its address.
#[derive(Debug)]
pub struct MemoryAcceptor {
    authority: String,
    incoming: tokio::sync::Mutex<mpsc::UnboundedReceiver<(BoxIo, String)>>,
}

#[async_trait]
impl Acceptor for MemoryAcceptor {
    async fn accept(&self) -> io::Result<(BoxIo, String)> {
        match self.incoming.lock().await.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> String {
        self.authority.clone()
    }
}
