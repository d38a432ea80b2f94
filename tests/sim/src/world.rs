//! The services and their callers.

use crate::chaos::{Fault, chaos};
use crate::dice::Dice;
use crate::history::{Ending, History};
use futures_util::future::join_all;
use picom_discovery::ServiceName;
use picom_rpc::testing::InMemory;
use picom_rpc::{CallError, Client, ClientConfig, Methods, Server, ServerConfig};
use picom_transport::PoolConfig;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How late after its time a call may end: the resolution of the timers on both sides.
const LATE: Duration = Duration::from_millis(20);
/// What a `fetch` without a time-out of its own may take.
const DEFAULT: Duration = Duration::from_secs(30);

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// Instances of the service.
    pub instances: usize,
    /// Callers, each with a client of its own.
    pub callers: usize,
    /// Calls of each.
    pub calls: usize,
    /// How many of them it makes at a time.
    pub together: usize,
    /// Streams that a connection of a service takes; `None`: as many as usual, which is more than there are calls.
    pub slots: Option<u32>,
    /// The longest pause between two faults.
    pub pause: Duration,
    /// What may break; `None`: everything.
    pub faults: Option<&'static [Fault]>,
    /// Callers give some calls little time, and drop some.
    pub hasty: bool,
}

impl Plan {
    /// A middling one.
    pub fn new(seed: u64) -> Self {
        let pause = Duration::from_millis(150);
        Plan {
            seed,
            instances: 3,
            callers: 6,
            calls: 40,
            together: 1,
            slots: None,
            pause,
            faults: None,
            hasty: true,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Calls that were answered.
    pub replied: usize,
    /// Calls that failed and did not run.
    pub not_run: usize,
    /// Calls that failed and may have run.
    pub perhaps_run: usize,
    /// Calls that were dropped.
    pub dropped: usize,
    /// The sentences of the model that do not hold.
    pub violations: Vec<String>,
    /// What the failed calls said, the first few.
    pub errors: Vec<String>,
    /// How much time went by, as the system saw it.
    pub elapsed: Duration,
}

/// A running instance.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) server: Server,
    pub(crate) id: String,
    pub(crate) authority: String,
}

/// What everybody on it shares.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) world: InMemory,
    pub(crate) service: ServiceName,
    history: History,
    slots: Option<u32>,
    instances: Arc<Mutex<Vec<Instance>>>,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    violations: Vec<String>,
    errors: Vec<String>,
}

impl Stage {
    /// Starts another instance; waits for a registry that is away.
    pub(crate) async fn start(&self) {
        let mut config = ServerConfig::default();
        if let Some(slots) = self.slots {
            config.listener.connection.stream_limit = slots;
        }
        let server = loop {
            match self
                .world
                .serve_with(self.service.as_str(), methods(&self.history), config.clone())
                .await
            {
                Ok(server) => break server,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        let authority = server.local_addr().to_owned();
        let registrations = self.world.registry().registrations();
        let own = registrations
            .iter()
            .find(|registration| registration.authority() == authority);
        let id = own
            .map(|registration| registration.id().to_owned())
            .unwrap_or_default();
        self.instances().push(Instance {
            server,
            id,
            authority,
        });
    }

    /// One of the running instances.
    pub(crate) fn pick(&self, dice: &mut Dice) -> Option<Instance> {
        let instances = self.instances();
        let index = dice.below(instances.len().max(1) as u64) as usize;
        instances.get(index).cloned()
    }

    /// The instance is none of the running ones any more.
    pub(crate) fn retire(&self, instance: &Instance) {
        self.instances()
            .retain(|other| other.authority != instance.authority);
    }

    fn instances(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn answer(number: u64) -> u64 {
    number.wrapping_mul(3).wrapping_add(1)
}

fn methods(history: &History) -> Methods {
    let (for_run, for_list) = (history.clone(), history.clone());
    Methods::new()
        .unary("run", move |(number, millis): (u64, u64)| {
            let history = for_run.clone();
            async move {
                history.executed(number);
                sleep(Duration::from_millis(millis)).await;
                Ok(answer(number))
            }
        })
        .bidi(
            "list",
            move |(number, count): (u64, u64), _input: picom_rpc::In<()>, output: picom_rpc::Out<u64>| {
                let history = for_list.clone();
                async move {
                    history.executed(number);
                    for item in 0..count {
                        output.send(answer(number) + item).await?;
                    }
                    Ok(())
                }
            },
        )
}

/// Runs a plan. Call it on a runtime of one thread whose time is paused.
pub async fn run(plan: Plan) -> Tally {
    let start = Instant::now();
    let mut dice = Dice::new(plan.seed);
    let stage = Stage {
        world: InMemory::new(),
        service: ServiceName::new("svc").expect("a good name"),
        history: History::default(),
        slots: plan.slots,
        instances: Arc::default(),
        notes: Arc::default(),
    };
    for _ in 0..plan.instances {
        stage.start().await;
    }
    let breaking = tokio::spawn(chaos(stage.clone(), dice.fork(), plan.faults, plan.pause));
    let callers: Vec<_> = (0..plan.callers)
        .map(|_| tokio::spawn(caller(stage.clone(), dice.fork(), plan.clone())))
        .collect();
    for caller in callers {
        if let Err(error) = caller.await {
            stage.note(|notes| notes.violations.push(format!("a caller panicked: {error}")));
        }
    }
    breaking.abort();
    let [replied, not_run, perhaps_run, dropped] = stage.history.counts();
    let mut violations = stage.history.violations();
    let mut errors = Vec::new();
    stage.note(|notes| {
        violations.append(&mut notes.violations);
        errors.append(&mut notes.errors);
    });
    Tally {
        replied,
        not_run,
        perhaps_run,
        dropped,
        violations,
        errors,
        elapsed: start.elapsed(),
    }
}

fn client(stage: &Stage, dice: &mut Dice) -> Client {
    let mut config = ClientConfig::default();
    config.seed = Some(dice.number());
    config.pool = PoolConfig {
        seed: dice.number(),
        ..PoolConfig::default()
    };
    stage.world.client_with(config).expect("the defaults fit")
}

async fn caller(stage: Stage, mut dice: Dice, plan: Plan) {
    let client = client(&stage, &mut dice);
    let mut left = plan.calls;
    while left > 0 {
        sleep(Duration::from_millis(dice.below(40))).await;
        let some = left.min(plan.together.max(1));
        left -= some;
        let calls = (0..some).map(|_| {
            let (stage, client, mut dice, hasty) = (&stage, &client, dice.fork(), plan.hasty);
            async move { call(stage, client, &mut dice, hasty).await }
        });
        join_all(calls).await;
    }
    // A second of grace, and what a peer that says nothing may take on top.
    let closed = tokio::time::timeout(Duration::from_secs(10), client.close(Duration::from_secs(1))).await;
    if closed.is_err() {
        stage.note(|notes| {
            notes
                .violations
                .push(format!("a client did not close: {:?}", client.pool_stats()))
        });
    }
}

async fn call(stage: &Stage, client: &Client, dice: &mut Dice, hasty: bool) {
    let idempotent = dice.once_in(3);
    let timeout = (hasty && dice.once_in(3)).then(|| Duration::from_millis(dice.below(300) + 5));
    let patience = (hasty && dice.once_in(10)).then(|| Duration::from_millis(dice.below(60)));
    let list = dice.once_in(4);
    let (work, count) = (dice.below(60), dice.below(2000));
    let number = stage.history.begin(idempotent);
    let begun = Instant::now();
    let calling = async {
        if list {
            let mut call = client.fetch_all::<u64>("svc", "list", &(number, count));
            call = if idempotent { call.idempotent() } else { call };
            call = if let Some(timeout) = timeout {
                call.timeout(timeout)
            } else {
                call
            };
            let items = call.await?;
            let expected: Vec<u64> = (0..count).map(|item| answer(number) + item).collect();
            Ok::<bool, CallError>(items == expected)
        } else {
            let mut call = client.fetch::<u64>("svc", "run", &(number, work));
            call = if idempotent { call.idempotent() } else { call };
            call = if let Some(timeout) = timeout {
                call.timeout(timeout)
            } else {
                call
            };
            Ok(call.await? == answer(number))
        }
    };
    let outcome = match patience {
        Some(patience) => tokio::time::timeout(patience, calling).await.ok(),
        None => Some(calling.await),
    };
    let took = begun.elapsed();
    if took > timeout.unwrap_or(DEFAULT) + LATE {
        stage.note(|notes| {
            notes
                .violations
                .push(format!("call {number} took {took:?} of {timeout:?}: {outcome:?}"))
        });
    }
    stage.history.ended(
        number,
        match outcome {
            None => Ending::Dropped,
            Some(Ok(right)) => {
                if !right {
                    stage.note(|notes| {
                        notes
                            .violations
                            .push(format!("call {number} got another's reply"))
                    });
                }
                Ending::Replied
            }
            Some(Err(error)) => {
                stage.note(|notes| {
                    if notes.errors.len() < 5 {
                        notes.errors.push(format!(
                            "call {number} ({timeout:?}, {took:?}): {error} {error:?}"
                        ));
                    }
                });
                Ending::Failed(error.outcome())
            }
        },
    );
}
