//! What a behaviour needs of the source it is tried on: processes that use it, and the hands of others who do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use picom_discovery::consul::ConsulConfig;
use picom_discovery::{Discovery, Registration, ServiceName};
use serde_json::{Value, json};

use crate::http::Api;
use crate::meter::Meter;

/// Which of the three a subject is; a behaviour asks only where the three are allowed to differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Consul of its own, in real time.
    Consul,
    /// The dev agent, in virtual time.
    Dev,
    /// The mock, in virtual time.
    Mock,
    /// A file, in real time.
    File,
    /// DNS, in real time.
    Dns,
}

/// What is said of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It passes.
    Pass,
    /// It is not well.
    Warn,
    /// It fails.
    Fail,
}

/// An instance that another client announces, with a TTL check it has to look after by itself.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its service.
    pub service: ServiceName,
    /// Its id.
    pub id: String,
    /// Its address; empty for the node's.
    pub host: String,
    /// Its port, also one that is none.
    pub port: i64,
    /// Its time to live.
    pub ttl: Duration,
    /// The status its check begins with; `None` leaves it to the registry.
    pub begins: Option<Word>,
    /// Its tags.
    pub tags: Vec<&'static str>,
    /// After how long in a critical state it is removed.
    pub removed_after: Option<&'static str>,
}

/// A source of discovery under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Which it is.
    fn kind(&self) -> Kind;

    /// A process that uses it, with nothing in common with the others.
    fn process(&self) -> Arc<dyn Discovery>;

    /// A process with other settings, where there are settings.
    ///
    /// # Panics
    /// On the mock, which has none.
    fn process_with(&self, change: &dyn Fn(&mut ConsulConfig)) -> Arc<dyn Discovery>;

    /// Another client announces an instance, in place of what the id meant before.
    async fn put(&self, entry: &Entry);

    /// Another client, or an operator, speaks for the check of an id.
    async fn say(&self, id: &str, word: Word);

    /// Another client takes an id away.
    async fn take(&self, id: &str);

    /// The registry is restarted without its memory.
    async fn forget(&self);

    /// The registry is away, until [`come_back`](Self::come_back).
    async fn leave(&self);

    /// It is back, and remembers or not.
    async fn come_back(&self);

    /// It hangs: it takes requests and answers none.
    async fn hang(&self);

    /// It lives again.
    async fn go_on(&self);

    /// Lets time pass, heartbeats included.
    async fn pass_time(&self, time: Duration);

    /// Its HTTP API, if it has one.
    fn api(&self) -> Option<&Api>;

    /// What its processes use up, if they are connected by anything.
    fn meter(&self) -> Option<&Meter>;

    /// How much later than in theory something may be seen. The mock and the embedded agent live on virtual time and are held to
    /// it; a real agent shares its machine with whatever else runs there, which was seen to cost it half a second.
    fn slack(&self) -> Duration {
        match self.kind() {
            Kind::Consul => Duration::from_secs(2),
            Kind::Dev | Kind::Mock => Duration::from_millis(20),
            // They are looked at once a second, and share their machine as well.
            Kind::File | Kind::Dns => Duration::from_secs(3),
        }
    }

    /// The time to live in tests: as short as may be where the clock is real.
    fn ttl(&self) -> Duration {
        match self.kind() {
            Kind::Consul => Duration::from_secs(2),
            Kind::Dev | Kind::Mock | Kind::File | Kind::Dns => Duration::from_secs(30),
        }
    }

    /// What a process announces here: the port is all that differs.
    fn registration(&self, port: u16) -> Registration {
        let made = Registration::new(service(), "127.0.0.1", port).and_then(|one| one.with_ttl(self.ttl()));
        made.expect("a registration in order")
    }
}

impl Entry {
    /// An instance of [`service`] that passes at first.
    pub fn new(subject: &dyn Subject, id: &str, port: u16) -> Self {
        Self {
            service: service(),
            id: id.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: port.into(),
            ttl: subject.ttl(),
            begins: Some(Word::Pass),
            tags: Vec::new(),
            removed_after: None,
        }
    }

    /// The body of its registration.
    pub fn body(&self) -> Value {
        let mut check = json!({ "TTL": format!("{}ms", self.ttl.as_millis()) });
        if let Some(word) = self.begins {
            check["Status"] = word.status().into();
        }
        if let Some(span) = self.removed_after {
            check["DeregisterCriticalServiceAfter"] = span.into();
        }
        json!({
            "ID": self.id, "Name": self.service.as_str(), "Address": self.host, "Port": self.port,
            "Tags": self.tags, "Check": check,
        })
    }
}

impl Word {
    /// The status it makes.
    pub fn status(self) -> &'static str {
        match self {
            Self::Pass => "passing",
            Self::Warn => "warning",
            Self::Fail => "critical",
        }
    }

    /// The word of the call that says it.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The service all behaviours are about: every subject is new, so one name is enough.
pub fn service() -> ServiceName {
    ServiceName::new("svc").expect("a name in order")
}
