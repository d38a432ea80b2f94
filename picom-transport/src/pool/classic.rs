//! Calls of the classic dialect: a connection each, only so many at a time to one address, and known to the pool while they
//! are under way, so that it can end in order.

use super::dial::{DialContext, DialError};
use super::{Pool, Target};
use crate::classic::{ClassicConnection, ClassicHandle, ClassicShared, Unused};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// See the module.
pub(super) struct ClassicCalls {
    /// Connections to one address at a time: as many as native connections to it would carry streams.
    most: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    places: HashMap<Arc<str>, Arc<Semaphore>>,
    /// Calls under way, and some that are over.
    calls: Vec<Weak<ClassicShared>>,
    /// The pool is closed; when what is left is cut.
    cut_at: Option<Instant>,
}

impl ClassicCalls {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(ClassicCalls {
            most: most.min(Semaphore::MAX_PERMITS),
            table: Mutex::default(),
        })
    }

    /// Waits for a place. Cancel safe.
    async fn place(&self, authority: &Arc<str>) -> Result<OwnedSemaphorePermit, DialError> {
        let places = {
            let mut table = self.table();
            if table.cut_at.is_some() {
                return Err(DialError::Closed);
            }
            // Swept when it would grow: nobody holds or waits for a place at an address that is not called any more.
            if table.places.len() == table.places.capacity() {
                table.places.retain(|_, places| Arc::strong_count(places) > 1);
            }
            let new = || Arc::new(Semaphore::new(self.most));
            table.places.entry(authority.clone()).or_insert_with(new).clone()
        };
        places.acquire_owned().await.map_err(|_| DialError::Closed)
    }

    fn remember(&self, handle: &ClassicHandle) {
        let cut_at = {
            let mut table = self.table();
            let calls = &mut table.calls;
            // Swept when it would grow, so that it stays as long as the calls under way need, doubled.
            if calls.len() == calls.capacity() {
                calls.retain(|call| call.strong_count() > 0);
            }
            calls.push(handle.downgrade());
            table.cut_at
        };
        // It was opened just as the pool was closed.
        if let Some(until) = cut_at {
            handle.drain(until.saturating_duration_since(Instant::now()));
        }
    }

    /// No more calls; what is under way may go on until `grace` has passed. Gives what there is to wait for.
    pub(super) fn close(&self, grace: Duration) -> Vec<ClassicHandle> {
        let (handles, places) = {
            let mut table = self.table();
            table.cut_at = Some(Instant::now() + grace);
            let handles: Vec<_> = table.calls.iter().filter_map(ClassicHandle::upgrade).collect();
            (handles, std::mem::take(&mut table.places))
        };
        places.into_values().for_each(|places| places.close());
        for handle in &handles {
            handle.drain(grace);
        }
        handles
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// A connection for one call to an instance that speaks classic. Nobody shares it, and what this dial teaches nobody
    /// remembers. While as many are open to that address as native connections would carry streams, waits until one is
    /// closed, as long as the caller likes. Cancel safe: dropped, the connection is closed and the place given on.
    ///
    /// # Errors
    ///
    /// When the byte stream cannot be opened, or the pool is closed.
    pub async fn classic(&self, target: &Target) -> Result<ClassicConnection, DialError> {
        let calls = &self.inner.classic;
        let place = calls.place(&target.authority).await?;
        let context = DialContext {
            connector: self.inner.connector.clone(),
            // Not longer than for native ones: a peer whose kernel has no room for the connection loses the SYN, and one that
            // gets in when it is repeated a second later is reset more often than not. A dial that was given up is made again.
            connect_timeout: self.inner.config.connect_timeout,
            connection: self.inner.connection.clone(),
        };
        let io = context.connect(&target.authority).await?;
        let calls = Arc::downgrade(calls);
        Ok(ClassicConnection {
            unused: Unused::new(io),
            place,
            service: target.service.clone().unwrap_or_else(|| "".into()),
            config: self.inner.connection.clone(),
            remember: Box::new(move |handle| {
                if let Some(calls) = calls.upgrade() {
                    calls.remember(&handle);
                }
            }),
        })
    }
}
