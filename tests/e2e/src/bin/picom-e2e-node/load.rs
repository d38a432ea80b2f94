//! A load: callers that call `work` again and again until they are told to stop, and write down what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use picom::Picom;
use picom_e2e::history::{Record, Reply};
use picom_e2e::protocol::{Done, Load, Work};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::failure;

/// A load that runs.
#[derive(Debug)]
pub(crate) struct Running {
    shared: Arc<Shared>,
    callers: JoinSet<Vec<Record>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    begun: Instant,
    ended: watch::Sender<u64>,
}

/// Looks at a load while others end it.
#[derive(Debug, Clone)]
pub(crate) struct View(Arc<Shared>);

impl Running {
    pub(crate) fn begin(picom: &Picom, load: &Load) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            next: AtomicU64::new(load.first),
            begun: Instant::now(),
            ended: watch::Sender::new(0),
        });
        let mut callers = JoinSet::new();
        for _ in 0..load.callers {
            callers.spawn(call(picom.clone(), load.clone(), shared.clone()));
        }
        Self { shared, callers }
    }

    pub(crate) fn view(&self) -> View {
        View(self.shared.clone())
    }

    /// Lets every call end and gives all they did.
    pub(crate) async fn end(self) -> Vec<Record> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

impl View {
    /// Microseconds since the load began.
    pub(crate) fn clock(&self) -> u64 {
        self.0.clock()
    }

    /// Waits until so many more calls have ended.
    pub(crate) async fn calls(&self, more: u64) {
        let mut ended = self.0.ended.subscribe();
        let goal = *ended.borrow() + more;
        // The sender is held by this very view.
        let _ = ended.wait_for(|ended| *ended >= goal).await;
    }
}

impl Shared {
    fn clock(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }
}

async fn call(picom: Picom, load: Load, shared: Arc<Shared>) -> Vec<Record> {
    let mut records = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        let work = Work {
            id,
            ms: load.work.as_millis() as u64,
        };
        let began = shared.clock();
        let mut fetch = picom
            .fetch::<Done>(&load.service, "work", &work)
            .timeout(load.timeout);
        if load.idempotent {
            fetch = fetch.idempotent();
        }
        let result = match fetch.await {
            Ok(Done { id, by }) => Ok(Reply { id, by }),
            Err(error) => Err(failure::of(error)),
        };
        let took = shared.clock() - began;
        records.push(Record {
            id,
            idempotent: load.idempotent,
            began,
            took,
            result,
        });
        shared.ended.send_modify(|ended| *ended += 1);
        match load.rest.is_zero() {
            true => tokio::task::yield_now().await,
            false => sleep(load.rest).await,
        }
    }
    records
}
