//! The dev agent as a subject, in memory and in virtual time, with the real client.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use picom_discovery::consul::{ByteStream, Consul, ConsulConfig, Dial};
use picom_discovery::dev_agent::{Compat, DevAgent, DevAgentConfig, Faults, InMemoryAgent, Restart};
use picom_discovery::{Discovery, Lane};

use crate::http::Api;
use crate::meter::{Meter, Metered};
use crate::subject::{Entry, Kind, Subject, Word};

/// The dev agent on the test's runtime.
#[derive(Debug)]
pub struct Dev {
    agent: Arc<InMemoryAgent>,
    api: Api,
    dial: Arc<Metered>,
    processes: AtomicU64,
}

#[derive(Debug)]
struct ToAgent(Arc<InMemoryAgent>);

#[async_trait]
impl Dial for ToAgent {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(self.0.connect()?))
    }
}

impl Dev {
    /// A new agent, like this Consul. Must be called within a runtime.
    pub fn new(compat: Compat) -> Self {
        let agent = Arc::new(DevAgent::in_memory(DevAgentConfig {
            compat,
            seed: Some(1),
            ..DevAgentConfig::default()
        }));
        let dial: Arc<dyn Dial> = Arc::new(ToAgent(agent.clone()));
        Self {
            agent,
            api: Api::new(dial.clone()),
            dial: Arc::new(Metered {
                dial,
                meter: Meter::default(),
            }),
            processes: AtomicU64::new(1),
        }
    }

    /// What can be made to go wrong.
    pub fn faults(&self) -> Faults {
        self.agent.faults()
    }

    /// Its HTTP API.
    pub fn plain_api(&self) -> &Api {
        &self.api
    }

    /// The name of its node.
    pub fn node(&self) -> String {
        DevAgentConfig::default().node
    }
}

#[async_trait]
impl Subject for Dev {
    fn kind(&self) -> Kind {
        Kind::Dev
    }

    fn process(&self) -> Arc<dyn Discovery> {
        self.process_with(&|_| {})
    }

    fn process_with(&self, change: &dyn Fn(&mut ConsulConfig)) -> Arc<dyn Discovery> {
        let mut config = ConsulConfig::new("agent.test", 8500);
        config.lane = Lane::Inline;
        config.seed = Some(self.processes.fetch_add(1, Ordering::Relaxed));
        change(&mut config);
        Arc::new(Consul::with_dial(config, self.dial.clone()).expect("a configuration in order"))
    }

    async fn put(&self, entry: &Entry) {
        self.api.register(entry).await;
    }

    async fn say(&self, id: &str, word: Word) {
        self.api.say(id, word).await;
    }

    async fn take(&self, id: &str) {
        self.api.take(id).await;
    }

    async fn forget(&self) {
        self.agent.faults().restart(Restart::Killed);
    }

    async fn leave(&self) {
        self.agent.faults().go_away();
    }

    async fn come_back(&self) {
        self.agent.faults().come_back();
    }

    async fn hang(&self) {
        self.agent.faults().pause();
    }

    async fn go_on(&self) {
        self.agent.faults().resume();
    }

    async fn pass_time(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn api(&self) -> Option<&Api> {
        Some(&self.api)
    }

    fn meter(&self) -> Option<&Meter> {
        Some(&self.dial.meter)
    }
}
