//! What a server holds for connections and calls that do nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{hold, watched};
use crate::caller::Caller;
use crate::clock::now;
use crate::host;
use crate::job::{Job, Sample};
use crate::proc_fs::resident;

/// After which everything that was only passing has been given back.
const SETTLED: Duration = Duration::from_millis(500);

/// How long it may take until all calls have arrived.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn idle<H: Caller>(job: &Job, count: usize) -> Result<Sample> {
    // What the first of all takes is not to be counted for each.
    let _first = hold::<H>(job, 1).await?;
    let before = settled(job).await?;
    let _held = hold::<H>(job, count).await?;
    Ok(per_piece(before, settled(job).await?, count))
}

pub(super) async fn slow<C: Caller>(job: &Job, count: usize) -> Result<Sample> {
    let mut root = C::connect(&job.target()).await?;
    ensure!(root.add(2, 5).await? == 7, "a wrong sum");
    let before = settled(job).await?;
    let (failed, mut failures) = mpsc::channel(1);
    for _ in 0..count {
        let mut lane = root.fork().await?;
        watched(&failed, async move { lane.slow().await });
    }
    let end = now() + PATIENCE;
    loop {
        let started = host::state(&job.host)?.slow_started;
        if started >= count {
            break;
        }
        if let Ok(error) = failures.try_recv() {
            return Err(error.context(format!("{started} of {count} calls have arrived")));
        }
        if now() > end {
            bail!("only {started} of {count} calls have arrived");
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(per_piece(before, settled(job).await?, count))
}

async fn settled(job: &Job) -> Result<u64> {
    sleep(SETTLED).await;
    resident(job.host.pid).context("the memory of the server cannot be read")
}

fn per_piece(before: u64, after: u64, count: usize) -> Sample {
    Sample {
        count: count as u64,
        bytes_each: Some(after.saturating_sub(before) as f64 / count as f64),
        ..Sample::default()
    }
}
