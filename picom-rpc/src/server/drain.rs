//! How a server ends: the order of the steps, their bounds, and what is reported. That connections drain is the
//! transport's work.

use super::{Announced, Inner};
use picom_discovery::EndError;
use picom_transport::DrainReport;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{self, Instant};

/// What connections may take beyond the grace to say goodbye: a goaway, a flush, and reading to the peer's end for a
/// second.
const FAREWELL: Duration = Duration::from_secs(3);

/// How a server ended.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EndReport {
    /// Why the registration may still be there. The attempt goes on in the background for a while; then the registry
    /// removes it itself.
    pub left_registered: Option<EndError>,
    /// Connections whose calls were all finished.
    pub connections_finished: usize,
    /// Connections that were cut with calls under way.
    pub connections_cut: usize,
    /// Calls that were cut.
    pub calls_cut: usize,
    /// How long it took.
    pub took: Duration,
}

impl EndReport {
    /// Nothing was cut, and the registry confirmed that the registration is gone.
    pub fn is_clean(&self) -> bool {
        self.left_registered.is_none() && self.connections_cut == 0 && self.calls_cut == 0
    }
}

impl fmt::Display for EndReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ended in {:.1?}: ", self.took)?;
        match self.calls_cut {
            0 => f.write_str("every call was finished")?,
            1 => f.write_str("1 call was cut")?,
            n => write!(f, "{n} calls were cut")?,
        }
        match &self.left_registered {
            None => Ok(()),
            Some(error) => write!(f, "; the registration may still be there: {error}"),
        }
    }
}

/// Whether the server ends, and how it ended.
pub(super) struct Ending {
    begun: AtomicBool,
    report: watch::Sender<Option<EndReport>>,
    hurried: watch::Sender<bool>,
}

impl Ending {
    pub(super) fn new() -> Self {
        Ending {
            begun: AtomicBool::new(false),
            report: watch::Sender::new(None),
            hurried: watch::Sender::new(false),
        }
    }

    /// What is still to be waited for is cut.
    pub(super) fn hurry(&self) {
        self.hurried.send_replace(true);
    }

    /// Waits until somebody is in a hurry.
    async fn hurried(&self) {
        // The sender is here.
        let _ = self.hurried.subscribe().wait_for(|hurried| *hurried).await;
    }

    /// Holds the server until it has ended.
    pub(super) async fn guard(inner: Arc<Inner>) {
        let mut report = inner.ending.report.subscribe();
        let _ = report.wait_for(Option::is_some).await;
    }

    /// Ends the server, once, on a task of its own; whoever asks gets the report.
    pub(super) async fn run(inner: &Arc<Inner>) -> EndReport {
        let mut report = inner.ending.report.subscribe();
        if !inner.ending.begun.swap(true, Ordering::AcqRel) {
            let inner = inner.clone();
            tokio::spawn(async move {
                let report = end(&inner).await;
                tracing::debug!(%report, "the server ended");
                inner.ending.report.send_replace(Some(report));
            });
        }
        match report.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(report)) => report.clone(),
            // The sender is held by `inner`.
            _ => EndReport::default(),
        }
    }
}

async fn end(inner: &Inner) -> EndReport {
    let begun = Instant::now();
    let config = &inner.config;
    let announced = std::mem::replace(&mut *inner.lease(), Announced::Ended);
    let (announced, left_registered) = match announced {
        Announced::By(lease) => (true, lease.end(config.leave_timeout).await.err()),
        Announced::Not | Announced::Ended => (false, None),
    };
    if announced {
        tokio::select! {
            () = time::sleep(config.keep_accepting) => {}
            () = inner.ending.hurried() => {}
        }
    }
    let listener = inner.listener().as_ref().cloned();
    let drained = match listener {
        Some(listener) => {
            listener.start_drain(config.drain_timeout);
            listener.stop_accepting();
            let bound = config.drain_timeout.saturating_add(FAREWELL);
            let drained = async {
                let mut drained = std::pin::pin!(listener.drained());
                tokio::select! {
                    report = &mut drained => return report,
                    () = inner.ending.hurried() => listener.start_drain(Duration::ZERO),
                }
                drained.await
            };
            match time::timeout(bound, drained).await {
                Ok(report) => report,
                Err(_) => {
                    let left = listener.stats().connections;
                    listener.close();
                    DrainReport {
                        cut: left,
                        ..DrainReport::default()
                    }
                }
            }
        }
        None => DrainReport::default(),
    };
    // With its last handle the listening socket is closed.
    drop(inner.listener().take());
    EndReport {
        left_registered,
        connections_finished: drained.finished,
        connections_cut: drained.cut,
        calls_cut: drained.streams_cut,
        took: begun.elapsed(),
    }
}
