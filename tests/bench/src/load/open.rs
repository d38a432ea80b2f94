//! Open loop: calls at fixed times, whether or not earlier ones have been answered. Latency counts from the time that was
//! meant, so a stall shows in every call it delays.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;

use super::latency::Recorder;
use super::window::Mark;
use super::{body, make, measure, warm_up};
use crate::caller::Caller;
use crate::clock::now;
use crate::job::{Call, Job, Sample};
use crate::turn::yield_once;

/// More calls are not begun: the peer cannot keep up, and its memory is not what is measured. Skipped ones are reported.
const UNDER_WAY: u64 = 20_000;

/// How long the last calls may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the generator and its calls share.
pub(super) struct Calls<C> {
    call: Call,
    body: Bytes,
    /// Handles that no call uses at present.
    lanes: Mutex<Vec<C>>,
    root: C,
    recorder: Recorder,
    begun: AtomicU64,
    ended: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    error: OnceLock<String>,
}

impl<C: Caller> Calls<C> {
    pub(super) fn new(root: C, call: Call) -> Result<Arc<Self>> {
        let calls = Calls {
            call,
            body: body(call),
            lanes: Mutex::default(),
            root,
            recorder: Recorder::new()?,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            error: OnceLock::new(),
        };
        Ok(Arc::new(calls))
    }

    /// Begins a call that was meant to begin at `meant`. It is recorded if it `counts`.
    pub(super) fn begin(self: &Arc<Self>, meant: std::time::Instant, counts: bool) {
        if self.under_way() >= UNDER_WAY {
            self.skipped.fetch_add(u64::from(counts), Ordering::Relaxed);
            return;
        }
        let n = self.begun.fetch_add(1, Ordering::Relaxed);
        let calls = self.clone();
        tokio::spawn(async move {
            match calls.make(n).await {
                Ok(()) if counts => calls.recorder.record(now() - meant),
                Ok(()) => {}
                Err(error) => {
                    calls.failed.fetch_add(1, Ordering::Relaxed);
                    // The first tells most.
                    let _ = calls.error.set(format!("{error:#}"));
                }
            }
            calls.ended.fetch_add(1, Ordering::Relaxed);
        });
    }

    async fn make(&self, n: u64) -> Result<()> {
        let lane = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut lane = match lane {
            Some(lane) => lane,
            None => self.root.fork().await?,
        };
        make(&mut lane, self.call, &self.body, n as i64).await?;
        self.lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(lane);
        Ok(())
    }

    fn under_way(&self) -> u64 {
        self.begun.load(Ordering::Relaxed) - self.ended.load(Ordering::Relaxed)
    }

    /// Waits for the last ones and says what was seen in this span. What is still missing then counts among the skipped.
    pub(super) async fn finish(&self, span: Duration) -> Result<Sample> {
        let end = now() + PATIENCE;
        while self.under_way() > 0 && now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let latency = self.recorder.summary();
        let error = self.error.get().cloned();
        ensure!(
            latency.is_some(),
            "no call was answered: {}",
            error.unwrap_or_default()
        );
        Ok(Sample {
            count: latency.map_or(0, |latency| latency.count),
            seconds: span.as_secs_f64(),
            latency,
            skipped: self.skipped.load(Ordering::Relaxed) + self.under_way(),
            failed: self.failed.load(Ordering::Relaxed),
            error,
            ..Sample::default()
        })
    }
}

/// As many calls as are answered when a new one is begun whenever fewer than `under_way` are: the capacity of a peer with
/// this generator, which has a task for each call.
pub(super) async fn saturate<C: Caller>(job: &Job, call: Call, under_way: u64) -> Result<Sample> {
    let calls = Calls::new(C::connect(&job.target()).await?, call)?;
    let begin = now();
    let (from, to) = (begin + warm_up(job), begin + warm_up(job) + measure(job));
    let mut mark = None;
    let end = loop {
        let at = now();
        let ended = calls.ended.load(Ordering::Relaxed);
        match &mark {
            None if at >= from => mark = Some(Mark::set(job, ended)),
            Some(_) if at >= to => break Mark::set(job, ended),
            _ => {}
        }
        while calls.under_way() < under_way {
            calls.begin(at, mark.is_some());
        }
        yield_once().await;
    };
    let sample = calls.finish(measure(job)).await?;
    let spent = mark.map(|mark| mark.until(&end)).unwrap_or_default();
    Ok(Sample {
        count: spent.count,
        seconds: spent.seconds,
        client_cpu_us: spent.client_cpu_us,
        server_cpu_us: spent.server_cpu_us,
        ..sample
    })
}

pub(super) async fn run<C: Caller>(job: &Job, call: Call, rate: f64) -> Result<Sample> {
    ensure!(rate.is_finite() && rate >= 1.0, "a rate of {rate} calls a second");
    let calls = Calls::new(C::connect(&job.target()).await?, call)?;
    let begin = now();
    let (from, to) = (begin + warm_up(job), begin + warm_up(job) + measure(job));
    let (mut next, mut mark) = (0u64, None);
    loop {
        let at = now();
        if at >= to {
            break;
        }
        if at >= from && mark.is_none() {
            mark = Some(Mark::set(job, 0));
        }
        loop {
            let meant = begin + Duration::from_secs_f64(next as f64 / rate);
            if meant > at || meant >= to {
                break;
            }
            calls.begin(meant, meant >= from);
            next += 1;
        }
        // The runtime's timers are a millisecond coarse, so the generator spins.
        yield_once().await;
    }
    let cpu = Mark::set(job, 1);
    let sample = calls.finish(measure(job)).await?;
    let spent = mark.map(|mark| mark.until(&cpu)).unwrap_or_default();
    Ok(Sample {
        // The spinning generator is part of the client's, so only the server's says something.
        server_cpu_us: spent.server_cpu_us.map(|all| all / sample.count as f64),
        ..sample
    })
}
