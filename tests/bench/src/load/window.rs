//! The part of a run that counts: counters, clocks and processor times at its two ends.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::mpsc;

use super::latency::Recorder;
use crate::clock::now;
use crate::job::{Job, Sample};
use crate::proc_fs::cpu;

/// How things stood at one moment.
pub(super) struct Mark {
    at: Instant,
    count: u64,
    client: Option<Duration>,
    server: Option<Duration>,
}

impl Mark {
    pub(super) fn set(job: &Job, count: u64) -> Self {
        Mark {
            at: now(),
            count,
            client: cpu(std::process::id()),
            server: cpu(job.host.pid),
        }
    }

    /// What came to pass between the two.
    pub(super) fn until(&self, end: &Mark) -> Sample {
        let count = end.count - self.count;
        let each = |begin: Option<Duration>, end: Option<Duration>| {
            Some(end?.checked_sub(begin?)?.as_secs_f64() * 1e6 / count as f64)
        };
        Sample {
            count,
            seconds: end.at.duration_since(self.at).as_secs_f64(),
            client_cpu_us: each(self.client, end.client).filter(|_| count > 0),
            server_cpu_us: each(self.server, end.server).filter(|_| count > 0),
            ..Sample::default()
        }
    }
}

/// Lets the load run warm, then measures. `read` says how much has been done so far.
pub(super) async fn watch(
    job: &Job,
    mut failures: mpsc::Receiver<anyhow::Error>,
    recorder: &Recorder,
    read: impl Fn() -> u64,
) -> Result<Sample> {
    let timed = async {
        tokio::time::sleep(super::warm_up(job)).await;
        recorder.reset();
        let begin = Mark::set(job, read());
        tokio::time::sleep(super::measure(job)).await;
        let end = Mark::set(job, read());
        Sample {
            latency: recorder.summary(),
            ..begin.until(&end)
        }
    };
    tokio::select! {
        Some(error) = failures.recv() => Err(error),
        sample = timed => Ok(sample),
    }
}
