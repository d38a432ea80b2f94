//! The client's process: what it does with a peer, and what it finds.

mod beside;
mod closed;
mod latency;
mod memory;
mod open;
mod streams;
mod window;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;

use crate::caller::Caller;
use crate::host;
use crate::job::{Call, Job, Load, Sample};
use crate::peers::bare::mux::Mux;
use crate::peers::bare::ping_pong::PingPong;
use crate::peers::{Peer, grpc, picom, tarpc, transport};

/// Idle connections are opened one after the other; a server may take at most so many at once.
const TOGETHER: usize = 16;

/// Does the job.
///
/// # Errors
///
/// When a call fails or gives a wrong answer, or the peer has no such call.
pub fn run(job: &Job) -> Result<Sample> {
    match job.peer {
        Peer::PingPong | Peer::Pipelined | Peer::Stream => with::<PingPong, PingPong>(job),
        Peer::Mux => with::<Mux<false>, Mux<false>>(job),
        Peer::MuxYield => with::<Mux<true>, Mux<true>>(job),
        Peer::Tonic => with::<grpc::client::Client, grpc::client::Client>(job),
        Peer::Tarpc => with::<tarpc::Client, tarpc::Client>(job),
        Peer::Transport => with::<transport::Client, transport::Client>(job),
        // One client keeps one connection to an instance. Many come from below, for the same server.
        Peer::Picom => with::<picom::Client<false>, transport::Client>(job),
        Peer::PicomArrays => with::<picom::Client<true>, transport::Client>(job),
    }
}

/// `C` calls, `H` holds idle connections.
fn with<C: Caller, H: Caller>(job: &Job) -> Result<Sample> {
    // A generator that spins would otherwise keep the sockets waiting for 61 of its turns.
    let every = matches!(job.load, Load::Open { .. } | Load::Saturated { .. }).then_some(8);
    let runtime = host::runtime(job.workers, every)?;
    runtime.block_on(async {
        let _idle = hold::<H>(job, job.idle).await?;
        match job.load {
            Load::Closed { call, in_flight } => closed::run::<C>(job, call, in_flight).await,
            Load::Open { call, rate } => open::run::<C>(job, call, rate).await,
            Load::Saturated { call, under_way } => open::saturate::<C>(job, call, under_way).await,
            Load::Items => streams::run::<C>(job, streams::Kind::Items).await,
            Load::Chunks => streams::run::<C>(job, streams::Kind::Chunks).await,
            Load::BothWays => streams::run::<C>(job, streams::Kind::BothWays).await,
            Load::OneByOne => streams::run::<C>(job, streams::Kind::OneByOne).await,
            Load::Pipelined { bytes, depth } => {
                streams::run::<C>(job, streams::Kind::Pipelined { bytes, depth }).await
            }
            Load::Beside { bytes, rate } => beside::run::<C>(job, bytes, rate).await,
            Load::IdleConnections(count) => memory::idle::<H>(job, count).await,
            Load::SlowCalls(count) => memory::slow::<C>(job, count).await,
        }
    })
}

/// Opens connections and makes one call on each.
async fn hold<H: Caller>(job: &Job, count: usize) -> Result<Vec<H>> {
    let target = job.target();
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        let some = (0..TOGETHER.min(count - held.len())).map(|_| async {
            let mut one = H::connect(&target).await?;
            ensure!(one.add(2, 5).await? == 7, "a wrong sum");
            anyhow::Ok(one)
        });
        held.extend(futures_util::future::try_join_all(some).await?);
    }
    Ok(held)
}

/// Makes one call and checks its answer. `n` makes arguments differ.
async fn make<C: Caller>(lane: &mut C, call: Call, body: &Bytes, n: i64) -> Result<()> {
    match call {
        Call::Add => ensure!(lane.add(n, 5).await? == n + 5, "a wrong sum"),
        Call::Echo(size) => ensure!(lane.echo(body).await? == size, "an echo of another length"),
        Call::Burn(micros) => lane.burn(micros).await?,
    }
    Ok(())
}

/// What a call sends.
fn body(call: Call) -> Bytes {
    match call {
        Call::Echo(size) => vec![7; size].into(),
        Call::Add | Call::Burn(_) => Bytes::new(),
    }
}

fn warm_up(job: &Job) -> Duration {
    Duration::from_millis(job.warm_up_ms)
}

fn measure(job: &Job) -> Duration {
    Duration::from_millis(job.measure_ms)
}

/// A task that must not end; if it does, its error ends the measurement.
fn watched(
    failed: &tokio::sync::mpsc::Sender<anyhow::Error>,
    task: impl Future<Output = Result<()>> + Send + 'static,
) {
    let failed = failed.clone();
    tokio::spawn(async move {
        let ended = task.await.and_then(|()| None::<()>.context("a lane has ended"));
        if let Err(error) = ended {
            // Only the first counts.
            let _ = failed.try_send(error);
        }
    });
}
