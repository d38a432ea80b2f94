//! Small calls at fixed times, while another task sends one large message after the other over the same client.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::open::Calls;
use super::{measure, warm_up, watched};
use crate::caller::{Caller, Meter};
use crate::clock::now;
use crate::job::{Call, Job, Sample};

pub(super) async fn run<C: Caller>(job: &Job, bytes: usize, rate: f64) -> Result<Sample> {
    let root = C::connect(&job.target()).await?;
    let (mut small, mut large) = (root.fork().await?, root.fork().await?);
    ensure!(small.add(2, 5).await? == 7, "a wrong sum");
    // Prepared beforehand, its pages touched.
    let body = Bytes::from(vec![7; bytes]);
    ensure!(large.size(&body).await? == bytes as u64, "a wrong size");

    let (failed, mut failures) = mpsc::channel(1);
    let sent = Arc::new(Meter::default());
    let meter = sent.clone();
    watched(&failed, async move {
        loop {
            ensure!(large.size(&body).await? == body.len() as u64, "a wrong size");
            meter.add(1);
        }
    });
    let calls = Calls::new(root, Call::Add)?;
    let (warm_up, whole) = (warm_up(job), warm_up(job) + measure(job));
    let (done, finished) = oneshot::channel();
    let (generator, handle) = (calls.clone(), Handle::current());
    let before = sent.read();
    // A thread that sleeps: it keeps time to a tenth of a millisecond and leaves the workers alone, which one that spins
    // among them would not.
    thread::spawn(move || {
        let _within = handle.enter();
        let begin = now();
        for next in 0u64.. {
            let after = Duration::from_secs_f64(next as f64 / rate);
            if after >= whole {
                break;
            }
            let meant = begin + after;
            thread::sleep(meant.saturating_duration_since(now()));
            generator.begin(meant, after >= warm_up);
        }
        let _ = done.send(());
    });
    finished.await?;
    let sample = calls.finish(measure(job)).await?;
    if let Ok(error) = failures.try_recv() {
        return Err(error);
    }
    Ok(Sample {
        beside: Some((sent.read() - before) as f64 / whole.as_secs_f64()),
        ..sample
    })
}
