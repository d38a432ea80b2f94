//! Open calls with a stream each way, by the numbers a test speaks of them by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use picom::{In, Out};
use picom_e2e::protocol::Failure;
use serde_json::Value;
use tokio::sync::Mutex as Turn;

use crate::failure;

/// Halves that may have been dropped, each with a turn for whoever uses it.
type Halves<T> = Mutex<HashMap<u64, Arc<Turn<Option<T>>>>>;

/// All open calls. The halves of one are apart, so that one can wait while the other works.
#[derive(Default)]
pub(crate) struct Streams {
    next: AtomicU64,
    senders: Halves<Out<Value>>,
    receivers: Halves<In<Value>>,
}

impl Streams {
    pub(crate) fn add(&self, sender: Out<Value>, receiver: In<Value>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.senders).insert(number, Arc::new(Turn::new(Some(sender))));
        lock(&self.receivers).insert(number, Arc::new(Turn::new(Some(receiver))));
        number
    }

    pub(crate) async fn send(&self, number: u64, items: Vec<Value>) -> Result<(), Failure> {
        let half = half(&self.senders, number)?;
        let half = half.lock().await;
        let sender = half.as_ref().ok_or_else(gone)?;
        for item in items {
            sender
                .send(item)
                .await
                .map_err(|error| failure::of_call(&error))?;
        }
        Ok(())
    }

    pub(crate) async fn finish(&self, number: u64) -> Result<(), Failure> {
        let half = half(&self.senders, number)?;
        let sender = half.lock().await.take().ok_or_else(gone)?;
        sender.finish().map_err(|error| failure::of_call(&error))
    }

    pub(crate) async fn drop_sender(&self, number: u64) -> Result<(), Failure> {
        let half = half(&self.senders, number)?;
        let dropped = half.lock().await.take();
        dropped.map(drop).ok_or_else(gone)
    }

    /// Up to `most` items, fewer at the end. An error behind items comes with the next look: it is there to stay.
    pub(crate) async fn receive(&self, number: u64, most: usize) -> Result<Vec<Value>, Failure> {
        let half = half(&self.receivers, number)?;
        let mut half = half.lock().await;
        let receiver = half.as_mut().ok_or_else(gone)?;
        let mut items = Vec::new();
        while items.len() < most {
            match receiver.next().await {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) if items.is_empty() => return Err(failure::of_call(&error)),
                Err(_) => break,
            }
        }
        Ok(items)
    }

    pub(crate) async fn drop_receiver(&self, number: u64) -> Result<(), Failure> {
        let half = half(&self.receivers, number)?;
        let dropped = half.lock().await.take();
        dropped.map(drop).ok_or_else(gone)
    }
}

fn half<T>(halves: &Halves<T>, number: u64) -> Result<Arc<Turn<Option<T>>>, Failure> {
    lock(halves)
        .get(&number)
        .cloned()
        .ok_or_else(|| failure::said(format!("there is no call {number}")))
}

fn gone() -> Failure {
    failure::said("that half was dropped")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
