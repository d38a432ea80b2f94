//! The mock as a subject. It has no timers, so those who use it bring them: here the clock of the test runs out the
//! checks of entries and beats for leases.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use picom_discovery::consul::ConsulConfig;
use picom_discovery::{Discovery, Health, Instance, Mock};
use tokio::time::{Instant, sleep};

use crate::http::Api;
use crate::meter::Meter;
use crate::subject::{Entry, Kind, Subject, Word, service};

/// Between two looks at the clock: a hundredth of the time to live.
const STEP: Duration = Duration::from_millis(10);

/// The mock, with entries that live by a clock.
#[derive(Debug, Default)]
pub struct Double {
    mock: Mock,
    entries: Mutex<BTreeMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    instance: Instance,
    ttl: Duration,
    until: Instant,
}

impl Double {
    fn place(&self) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        self.mock
            .set(&service(), entries.values().map(|held| held.instance.clone()));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Held>)) {
        change(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        self.place();
    }
}

#[async_trait]
impl Subject for Double {
    fn kind(&self) -> Kind {
        Kind::Mock
    }

    fn process(&self) -> Arc<dyn Discovery> {
        Arc::new(self.mock.clone())
    }

    fn process_with(&self, _: &dyn Fn(&mut ConsulConfig)) -> Arc<dyn Discovery> {
        panic!("the mock has no settings")
    }

    async fn put(&self, entry: &Entry) {
        let mut instance = Instance::at(
            entry.service.clone(),
            &entry.host,
            entry.port.try_into().unwrap_or(1),
        );
        instance.id = entry.id.as_str().into();
        instance.tags = entry.tags.iter().map(|tag| (*tag).into()).collect();
        let mut until = Instant::now();
        (instance.health, until) = match entry.begins {
            Some(Word::Pass) => (Health::Passing, until + entry.ttl),
            Some(Word::Warn) => (Health::Warning, until + entry.ttl),
            Some(Word::Fail) | None => {
                until += entry.ttl;
                (Health::Critical, until)
            }
        };
        self.change(|entries| {
            if let Some(known) = entries.get(&entry.id) {
                // As with Consul: the status a check has stands.
                instance.health = known.instance.health;
            }
            let (ttl, id) = (entry.ttl, entry.id.clone());
            entries.insert(id, Held { instance, ttl, until });
        });
    }

    async fn say(&self, id: &str, word: Word) {
        let health = match word {
            Word::Pass => Health::Passing,
            Word::Warn => Health::Warning,
            Word::Fail => Health::Critical,
        };
        self.change(|entries| {
            if let Some(held) = entries.get_mut(id) {
                held.instance.health = health;
                held.until = Instant::now() + held.ttl;
            }
        });
        self.mock.set_health(&service(), id, health);
    }

    async fn take(&self, id: &str) {
        self.change(|entries| {
            entries.remove(id);
        });
        self.mock.remove(&service(), id);
    }

    async fn forget(&self) {
        self.change(BTreeMap::clear);
        for registration in self.mock.registrations() {
            self.mock.remove(registration.service(), registration.id());
        }
    }

    async fn leave(&self) {
        self.mock.fail_unavailable();
    }

    async fn come_back(&self) {
        self.mock.recover();
    }

    async fn hang(&self) {
        self.mock.fail_unavailable();
    }

    async fn go_on(&self) {
        self.mock.recover();
    }

    async fn pass_time(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(STEP.min(end - Instant::now())).await;
            let mut lapsed = false;
            self.entries
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values_mut()
                .filter(|held| held.until <= Instant::now() && held.instance.health != Health::Critical)
                .for_each(|held| (held.instance.health, lapsed) = (Health::Critical, true));
            if lapsed {
                self.place();
            }
            self.mock.beat();
        }
    }

    fn api(&self) -> Option<&Api> {
        None
    }

    fn meter(&self) -> Option<&Meter> {
        None
    }
}
