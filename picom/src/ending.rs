//! How a service ends: first what it answers, then what it calls, since handlers that finish may still call others.

use crate::service::Inner;
use picom_rpc::EndReport;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// Whether the service ends, and how it ended.
#[derive(Debug)]
pub(crate) struct Ending {
    stage: watch::Sender<Stage>,
    hurried: watch::Sender<bool>,
}

#[derive(Clone, Debug, Default)]
enum Stage {
    #[default]
    Alive,
    Ending,
    Ended(EndReport),
}

impl Default for Ending {
    fn default() -> Self {
        Ending {
            stage: watch::Sender::new(Stage::Alive),
            hurried: watch::Sender::new(false),
        }
    }
}

impl Ending {
    /// Ends the service, once, on a task of its own; whoever asks gets the report.
    pub(crate) async fn run(inner: &Arc<Inner>) -> EndReport {
        let mut stage = inner.ending.stage.subscribe();
        let first = inner.ending.stage.send_if_modified(|stage| {
            let first = matches!(stage, Stage::Alive);
            if first {
                *stage = Stage::Ending;
            }
            first
        });
        if first {
            let inner = inner.clone();
            tokio::spawn(async move {
                let report = end(&inner).await;
                inner.ending.stage.send_replace(Stage::Ended(report));
            });
        }
        match stage
            .wait_for(|stage| matches!(stage, Stage::Ended(_)))
            .await
            .as_deref()
        {
            Ok(Stage::Ended(report)) => report.clone(),
            // The sender is held by `inner`.
            _ => EndReport::default(),
        }
    }

    /// Shortens the ending: what is still to be waited for is cut.
    pub(crate) fn hurry(inner: &Inner) {
        inner.ending.hurried.send_replace(true);
        if let Some(exposed) = inner.exposure.exposed() {
            exposed.server.hurry();
        }
    }

    /// Waits until somebody is in a hurry.
    async fn hurried(&self) {
        // The sender is here.
        let _ = self.hurried.subscribe().wait_for(|hurried| *hurried).await;
    }

    pub(crate) fn has_begun(&self) -> bool {
        !matches!(&*self.stage.borrow(), Stage::Alive)
    }

    /// Waits until the service ends.
    pub(crate) async fn begun(&self) {
        // The sender is here.
        let _ = self
            .stage
            .subscribe()
            .wait_for(|stage| !matches!(stage, Stage::Alive))
            .await;
    }
}

async fn end(inner: &Inner) -> EndReport {
    let begun = Instant::now();
    let grace = inner.settings.server.drain_timeout;
    let mut report = match inner.exposure.end().await {
        Some(exposed) => {
            tracing::info!(service = %inner.settings.name, "draining");
            let report = exposed.server.end().await;
            inner.exposure.over();
            report
        }
        None => EndReport::default(),
    };
    // What is left of the time: calls nobody's handler waits for any more may still have it.
    let hurried = tokio::select! {
        () = inner.client.close(grace.saturating_sub(begun.elapsed())) => false,
        () = inner.ending.hurried() => true,
    };
    if hurried {
        inner.client.close(std::time::Duration::ZERO).await;
    }
    report.took = begun.elapsed();
    tracing::info!(service = %inner.settings.name, %report, "ended");
    report
}

/// Waits for the system to ask for the end.
#[cfg(unix)]
pub(crate) async fn signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Waits for the system to ask for the end.
#[cfg(not(unix))]
pub(crate) async fn signal() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
