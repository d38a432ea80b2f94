//! One stream that never ends, counted while it runs.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::latency::Recorder;
use super::{watched, window};
use crate::caller::{Caller, Meter};
use crate::job::{Job, Sample};

/// Which stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Items,
    Chunks,
    BothWays,
    OneByOne,
    Pipelined { bytes: usize, depth: usize },
}

pub(super) async fn run<C: Caller>(job: &Job, kind: Kind) -> Result<Sample> {
    let mut caller = C::connect(&job.target()).await?;
    let (failed, failures) = mpsc::channel(1);
    let meter = Arc::new(Meter::default());
    let counted = meter.clone();
    watched(&failed, async move {
        match kind {
            Kind::Items => caller.items(counted).await,
            Kind::Chunks => caller.chunks(counted).await,
            Kind::BothWays => caller.both_ways(counted).await,
            Kind::OneByOne => caller.one_by_one(counted).await,
            Kind::Pipelined { bytes, depth } => {
                let body = Bytes::from(vec![7; bytes]);
                caller.pipelined(&body, depth, counted).await
            }
        }
    });
    let sample = window::watch(job, failures, &Recorder::new()?, || meter.read()).await?;
    ensure!(sample.count > 0, "nothing came through the stream");
    Ok(sample)
}
