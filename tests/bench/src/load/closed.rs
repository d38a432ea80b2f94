//! Closed loop: each task makes its next call when the last has been answered.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::sync::mpsc;

use super::latency::Recorder;
use super::{body, make, watched, window};
use crate::caller::{Caller, Meter};
use crate::clock::now;
use crate::job::{Call, Job, Sample};

/// With many in flight a call takes less than a microsecond, and reading the clock twice would be a good part of it: then
/// one call in so many is timed.
const TIMED: u64 = 16;

pub(super) async fn run<C: Caller>(job: &Job, call: Call, in_flight: usize) -> Result<Sample> {
    let root = C::connect(&job.target()).await?;
    let (failed, failures) = mpsc::channel(1);
    let recorder = Recorder::new()?;
    let body = body(call);
    let mut meters = Vec::with_capacity(in_flight);
    for lane in 0..in_flight {
        let mut caller = root.fork().await?;
        let meter = Arc::new(Meter::default());
        meters.push(meter.clone());
        let (recorder, body) = (recorder.clone(), body.clone());
        watched(&failed, async move {
            // Lanes take turns in being timed.
            let mut n = lane as u64;
            loop {
                n += 1;
                let begun = (in_flight == 1 || n.is_multiple_of(TIMED)).then(now);
                make(&mut caller, call, &body, n as i64).await?;
                meter.add(1);
                if let Some(begun) = begun {
                    recorder.record(now() - begun);
                }
            }
        });
    }
    let sample = window::watch(job, failures, &recorder, || {
        meters.iter().map(|meter| meter.read()).sum()
    })
    .await?;
    ensure!(sample.count > 0, "no call came back");
    Ok(sample)
}
