//! What a service announces about itself. What keeps it announced is a lease (`lease.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::instance::{META_NATIVE, META_UUID, authority};
use crate::name::{ServiceName, has_untidy_segment};
use crate::random::unique_id;

/// Time to live of the check unless set: long enough to ride out the election of a Consul leader (16 s with default
/// settings), three heartbeats fit into it.
pub const DEFAULT_TTL: Duration = Duration::from_secs(30);
/// The shortest time to live: a heartbeat every third of it must survive a busy machine.
pub const MIN_TTL: Duration = Duration::from_secs(1);
/// The longest time to live: a day without a sign of life is no health check any more.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// Consul raises shorter spans to this, silently; we say so instead.
pub const MIN_DEREGISTER_AFTER: Duration = Duration::from_secs(60);
/// A month: entries that stay longer are not cleaned up in any useful sense.
pub const MAX_DEREGISTER_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bytes of an id: a name (128), a dash and 32 digits, or what an orchestrator makes of it.
const MAX_ID: usize = 256;
/// Bytes of a host name, by the rules of DNS.
const MAX_HOST: usize = 253;
/// Consul's own limits on meta.
const MAX_META_PAIRS: usize = 64;
const MAX_META_KEY: usize = 128;
const MAX_META_VALUE: usize = 512;
/// Consul sets none on tags; the same as for meta keeps a registration small.
const MAX_TAGS: usize = 64;
const MAX_TAG: usize = 512;
/// Weights end up in DNS SRV records, which have 16 bits for them.
const MAX_WEIGHT: u32 = 65_535;

/// Asked before every heartbeat whether the service still serves: `false` fails the check on purpose, and so does a
/// panic. It must not block: it runs on the heartbeat lane.
#[derive(Clone)]
pub struct AliveProbe(Arc<dyn Fn() -> bool + Send + Sync>);

/// What a service announces: where it is reached, and by which check it is known to be alive.
///
/// Every value is checked when it is set, so that a registry has nothing left to refuse but names it reserves.
#[derive(Debug, Clone)]
pub struct Registration {
    service: ServiceName,
    id: String,
    host: String,
    port: u16,
    ttl: Duration,
    deregister_after: Option<Duration>,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
    weight: u32,
    alive: Option<AliveProbe>,
}

/// Why a value cannot be registered. Every message names the value and the limit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The host is empty, too long, not printable, or means "every address".
    #[error("{host:?} cannot be advertised as a host: {reason}")]
    Host {
        /// The host.
        host: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Port 0 stands for "any", nobody can dial it.
    #[error(
        "port 0 cannot be advertised for {service:?}; register after listening, with the port that was bound"
    )]
    PortZero {
        /// The service.
        service: String,
    },
    /// The id is empty, too long, or unfit for a path.
    #[error("{id:?} cannot be the id of a registration: {reason}")]
    Id {
        /// The id.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The time to live is out of range.
    #[error("ttl {ttl:?} is not between {MIN_TTL:?} and {MAX_TTL:?}")]
    Ttl {
        /// The time to live.
        ttl: Duration,
    },
    /// The span before removal is out of range, or shorter than the time to live.
    #[error("deregister_after {span:?} is not between {least:?} and {MAX_DEREGISTER_AFTER:?}")]
    DeregisterAfter {
        /// The span.
        span: Duration,
        /// The least that is possible here: Consul's minute, or the time to live.
        least: Duration,
    },
    /// A tag is empty or too long, or there are too many.
    #[error("tag {tag:?} cannot be registered: {reason}")]
    Tag {
        /// The tag.
        tag: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A meta pair breaks Consul's rules.
    #[error("meta {key:?} cannot be registered: {reason}")]
    Meta {
        /// The key.
        key: String,
        /// What is wrong with the pair.
        reason: &'static str,
    },
    /// The weight is out of range.
    #[error("weight {weight} is not between 1 and {MAX_WEIGHT}")]
    Weight {
        /// The weight.
        weight: u32,
    },
}

impl Registration {
    /// Announces `service` at `host` and `port`, with the id `service-<32 random digits>`, the same digits as
    /// [`META_UUID`], [`DEFAULT_TTL`], weight 1, no tags and no probe.
    ///
    /// # Errors
    /// Port 0, and hosts nobody can dial (`0.0.0.0`, `::`, empty).
    pub fn new(service: ServiceName, host: impl Into<String>, port: u16) -> Result<Self, RegistrationError> {
        let host = host.into();
        // An address written as in a URL is an address.
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.to_owned(),
            None => host,
        };
        if let Some(reason) = host_fault(&host) {
            return Err(RegistrationError::Host { host, reason });
        }
        if port == 0 {
            return Err(RegistrationError::PortZero {
                service: service.to_string(),
            });
        }
        let uuid = unique_id();
        Ok(Self {
            id: format!("{service}-{uuid}"),
            service,
            host,
            port,
            ttl: DEFAULT_TTL,
            deregister_after: None,
            tags: Vec::new(),
            meta: BTreeMap::from([(META_UUID.to_owned(), uuid)]),
            weight: 1,
            alive: None,
        })
    }

    /// Another id. It must be unique at the agent, and must never be reused for another service: Consul's watches of
    /// the old name would not notice.
    pub fn with_id(mut self, id: impl Into<String>) -> Result<Self, RegistrationError> {
        let id = id.into();
        let reason = if id.is_empty() {
            Some("it is empty")
        } else if id.len() > MAX_ID {
            Some("it has more than 256 bytes")
        } else if id.chars().any(char::is_control) {
            Some("it holds control characters")
        } else if has_untidy_segment(&id) {
            Some("it has an empty, \".\" or \"..\" part between slashes")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(RegistrationError::Id { id, reason });
        }
        self.id = id;
        Ok(self)
    }

    /// The check fails this long after the last heartbeat; heartbeats are sent every third of it.
    pub fn with_ttl(mut self, ttl: Duration) -> Result<Self, RegistrationError> {
        if ttl < MIN_TTL || ttl > MAX_TTL {
            return Err(RegistrationError::Ttl { ttl });
        }
        self.ttl = ttl;
        Ok(self)
    }

    /// The registry removes the entry itself after its check has been critical for this long (Consul looks twice a
    /// minute). Set it after the time to live.
    pub fn with_deregister_after(mut self, span: Duration) -> Result<Self, RegistrationError> {
        let least = MIN_DEREGISTER_AFTER.max(self.ttl);
        if span < least || span > MAX_DEREGISTER_AFTER {
            return Err(RegistrationError::DeregisterAfter { span, least });
        }
        self.deregister_after = Some(span);
        Ok(self)
    }

    /// One more tag.
    pub fn with_tag(mut self, tag: impl Into<String>) -> Result<Self, RegistrationError> {
        let tag = tag.into();
        let reason = if tag.is_empty() {
            Some("it is empty")
        } else if tag.len() > MAX_TAG {
            Some("it has more than 512 bytes")
        } else if self.tags.len() == MAX_TAGS {
            Some("there are 64 already")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(RegistrationError::Tag { tag, reason });
        }
        self.tags.push(tag);
        Ok(self)
    }

    /// Sets a meta pair, over an earlier one of the same key. The limits are Consul's.
    pub fn with_meta(
        mut self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, RegistrationError> {
        let (key, value) = (key.into(), value.into());
        let reason = if key.is_empty() || key.len() > MAX_META_KEY {
            Some("a key has 1 to 128 bytes")
        } else if !key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        {
            Some("a key consists of letters, digits, \"-\" and \"_\"")
        } else if key.starts_with("consul-") {
            Some("keys that begin with \"consul-\" are reserved")
        } else if value.len() > MAX_META_VALUE {
            Some("a value has at most 512 bytes")
        } else if self.meta.len() == MAX_META_PAIRS && !self.meta.contains_key(&key) {
            Some("there are 64 pairs already")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(RegistrationError::Meta { key, reason });
        }
        self.meta.insert(key, value);
        Ok(self)
    }

    /// Marks the instance as one that speaks the native protocol in `version` ([`META_NATIVE`]).
    pub fn with_native_version(self, version: u16) -> Result<Self, RegistrationError> {
        self.with_meta(META_NATIVE, version.to_string())
    }

    /// Its share of the calls, relative to others.
    pub fn with_weight(mut self, weight: u32) -> Result<Self, RegistrationError> {
        if weight == 0 || weight > MAX_WEIGHT {
            return Err(RegistrationError::Weight { weight });
        }
        self.weight = weight;
        Ok(self)
    }

    /// Asks `probe` before every heartbeat; see [`AliveProbe`].
    pub fn with_alive(mut self, probe: AliveProbe) -> Self {
        self.alive = Some(probe);
        self
    }

    /// The service.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The advertised host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The advertised port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// The time to live of the check.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// When the registry removes the entry of a service that died: as set, else three times the time to live, a minute
    /// at least.
    pub fn deregister_after(&self) -> Duration {
        self.deregister_after
            .unwrap_or(MIN_DEREGISTER_AFTER)
            .max(match self.deregister_after {
                Some(_) => self.ttl,
                None => self.ttl * 3,
            })
    }

    /// The tags.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The meta pairs.
    pub fn meta(&self) -> &BTreeMap<String, String> {
        &self.meta
    }

    /// The unique id of this process start, for the handshake.
    pub fn uuid(&self) -> Option<&str> {
        self.meta.get(META_UUID).map(String::as_str)
    }

    /// The weight.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// The probe, if there is one.
    pub fn alive(&self) -> Option<&AliveProbe> {
        self.alive.as_ref()
    }
}

impl AliveProbe {
    /// Wraps a function that answers quickly and does not block.
    pub fn new(probe: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(probe))
    }

    /// Asks. A panic counts as `false`: who cannot even say so does not serve.
    pub fn ask(&self) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.0)())).unwrap_or(false)
    }
}

impl fmt::Debug for AliveProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AliveProbe")
    }
}

/// What keeps `host` from being dialled; shared with what is received from a registry.
pub(crate) fn host_fault(host: &str) -> Option<&'static str> {
    if host.is_empty() {
        return Some("it is empty");
    }
    if host.len() > MAX_HOST {
        return Some("it has more than 253 bytes");
    }
    if host
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || "/[]@?#".contains(c))
    {
        return Some("it holds characters no host has");
    }
    match host.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => {
            Some("it means every address of a machine, nobody can dial it")
        }
        Ok(_) => None,
        // A zone is allowed; any other colon makes "host:port" ambiguous.
        Err(_) if host.contains(':') && !host.contains('%') => {
            Some("it is no IPv6 address but holds a colon")
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Registration {
        Registration::new(ServiceName::new("svc").unwrap(), "127.0.0.1", 80).unwrap()
    }

    #[test]
    fn every_registration_has_an_id_of_its_own_and_the_same_in_its_meta() {
        let (one, other) = (plain(), plain());
        assert_ne!(one.id(), other.id());
        assert_eq!(one.id(), format!("svc-{}", one.uuid().unwrap()));
    }

    #[test]
    fn removal_comes_after_three_ttls_and_a_minute_at_least() {
        let after = |secs| {
            plain()
                .with_ttl(Duration::from_secs(secs))
                .unwrap()
                .deregister_after()
                .as_secs()
        };
        assert_eq!([after(1), after(20), after(30), after(100)], [60, 60, 90, 300]);
        let set = plain().with_deregister_after(Duration::from_secs(61)).unwrap();
        assert_eq!(set.deregister_after().as_secs(), 61);
        assert!(plain().with_deregister_after(Duration::from_secs(59)).is_err());
        let long = plain().with_ttl(Duration::from_secs(120)).unwrap();
        assert!(long.with_deregister_after(Duration::from_secs(100)).is_err());
    }

    #[test]
    fn hosts_nobody_can_dial_are_refused_by_name() {
        let new = |host: &str| Registration::new(ServiceName::new("svc").unwrap(), host, 80);
        for host in [
            "127.0.0.1",
            "::1",
            "fe80::1%eth0",
            "db.example",
            "my_host",
            "größe.example",
        ] {
            assert_eq!(new(host).unwrap().host(), host);
        }
        assert_eq!(new("[::1]").unwrap().authority(), "[::1]:80");
        for host in [
            "",
            "0.0.0.0",
            "::",
            "a b",
            "a\nb",
            "http://a",
            "a:80",
            "[::1",
            &"x".repeat(254),
        ] {
            let error = new(host).unwrap_err().to_string();
            assert!(error.contains(&format!("{host:?}")), "{error}");
        }
        assert!(matches!(
            Registration::new(ServiceName::new("svc").unwrap(), "h", 0),
            Err(RegistrationError::PortZero { service }) if service == "svc"
        ));
    }

    #[test]
    fn a_ttl_out_of_range_is_refused_by_name() {
        for ttl in [
            Duration::ZERO,
            Duration::from_millis(999),
            Duration::from_secs(24 * 3600 + 1),
        ] {
            let error = plain().with_ttl(ttl).unwrap_err();
            assert_eq!(error, RegistrationError::Ttl { ttl });
            assert!(error.to_string().contains(&format!("{ttl:?}")));
        }
        assert!(plain().with_ttl(MIN_TTL).is_ok());
    }

    #[test]
    fn consuls_rules_for_ids_meta_tags_and_weights_are_kept() {
        assert!(plain().with_id("a/b c%ö").is_ok());
        for id in ["", "/", "a/../b", "a\u{0}", &"x".repeat(257)] {
            assert!(plain().with_id(id).is_err(), "{id:?}");
        }
        assert!(plain().with_meta("zone_1-a", "x".repeat(512)).is_ok());
        for key in ["", "a b", "consul-x", "ö", &"k".repeat(129)] {
            assert!(plain().with_meta(key, "v").is_err(), "{key:?}");
        }
        assert!(plain().with_meta("k", "x".repeat(513)).is_err());
        let mut full = plain();
        for number in 1..MAX_META_PAIRS {
            full = full.with_meta(format!("k{number}"), "v").unwrap();
        }
        assert!(full.clone().with_meta("k1", "w").is_ok());
        assert!(full.with_meta("one-more", "v").is_err());
        assert!(plain().with_tag("").is_err() && plain().with_tag("v1").is_ok());
        assert!(plain().with_weight(0).is_err() && plain().with_weight(65_536).is_err());
    }

    #[test]
    fn a_probe_that_panics_says_no() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let answer = AliveProbe::new(|| panic!("broken")).ask();
        std::panic::set_hook(hook);
        assert!(!answer);
        assert!(AliveProbe::new(|| true).ask());
    }
}
