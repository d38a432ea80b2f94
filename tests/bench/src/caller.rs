//! What the load generator asks of a peer's client. Static dispatch: between the loop and the client stands nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use bytes::Bytes;

/// Where the server is, and how it is set.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// `host:port` of each of its listeners.
    pub addresses: Vec<String>,
    /// Messages may have 64 MiB and more.
    pub large: bool,
    /// The Consul API to find the service in, as `host:port`, where the peer can; else it is given the addresses.
    pub agent: Option<String>,
}

/// Counts what a stream delivers.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// So many more. One task at a time may count.
    pub fn add(&self, count: u64) {
        // One writer, so no read-modify-write is needed: that would be the dearest thing in the loop.
        self.0
            .store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// So many until now.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A peer's client. A call that a peer does not have is an error, and the list of cells does not ask for it.
pub trait Caller: Sized + Send + Sync + 'static {
    /// Connects.
    fn connect(target: &Target) -> impl Future<Output = Result<Self>> + Send;

    /// Another handle for another task, sharing the connection if the peer multiplexes.
    fn fork(&self) -> impl Future<Output = Result<Self>> + Send;

    /// The sum.
    fn add(&mut self, a: i64, b: i64) -> impl Future<Output = Result<i64>> + Send;

    /// Sends bytes and says how many came back.
    fn echo(&mut self, _body: &Bytes) -> impl Future<Output = Result<usize>> + Send {
        async { missing("echo") }
    }

    /// Sends bytes and gets the number of them.
    fn size(&mut self, _body: &Bytes) -> impl Future<Output = Result<u64>> + Send {
        async { missing("size") }
    }

    /// Makes a handler compute for so long.
    fn burn(&mut self, _micros: u64) -> impl Future<Output = Result<()>> + Send {
        async { missing("burn") }
    }

    /// A call that is not answered while the measurement lasts.
    fn slow(&mut self) -> impl Future<Output = Result<()>> + Send {
        async { missing("slow") }
    }

    /// A server's stream of small items, counted in pieces. Ends only in an error.
    fn items(&mut self, _meter: Arc<Meter>) -> impl Future<Output = Result<()>> + Send {
        async { missing("items") }
    }

    /// A server's stream of 64 KiB chunks, counted in bytes. Ends only in an error.
    fn chunks(&mut self, _meter: Arc<Meter>) -> impl Future<Output = Result<()>> + Send {
        async { missing("chunks") }
    }

    /// Small items there and back, a stream each, counted in pieces that came back. Ends only in an error.
    fn both_ways(&mut self, _meter: Arc<Meter>) -> impl Future<Output = Result<()>> + Send {
        async { missing("both_ways") }
    }

    /// The same, but each side sends each item by a call of its own.
    fn one_by_one(&mut self, _meter: Arc<Meter>) -> impl Future<Output = Result<()>> + Send {
        async { missing("one_by_one") }
    }

    /// Echoes without ids, `depth` under way, counted in pieces. Ends only in an error.
    fn pipelined(
        &mut self,
        _body: &Bytes,
        _depth: usize,
        _meter: Arc<Meter>,
    ) -> impl Future<Output = Result<()>> + Send {
        async { missing("pipelined") }
    }
}

fn missing<T>(call: &str) -> Result<T> {
    bail!("this peer has no {call}")
}
