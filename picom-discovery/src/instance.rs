//! One running server of a service, as discovery sees it. Sets of them live in `snapshot.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use crate::name::ServiceName;

/// The meta key under which an instance says which version of picom's native protocol it speaks (a decimal number).
/// An instance without it is called in the classic dialect.
pub const META_NATIVE: &str = "picom";

/// The meta key of the unique id every process start gives its instance; the handshake compares it.
pub const META_UUID: &str = "picom-instance";

/// What all checks of an instance, and of the node it runs on, say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Every check passes.
    Passing,
    /// The worst check is a warning.
    Warning,
    /// A check fails, or says something unknown.
    Critical,
    /// An operator, or the instance itself, took it out of service.
    Maintenance,
}

/// One running server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The id it registered under; unique on its node only.
    pub id: Arc<str>,
    /// The node (in Consul: the agent) it is registered at.
    pub node: Arc<str>,
    /// The service it is an instance of.
    pub service: ServiceName,
    /// Host name or IP address, without brackets.
    pub host: Arc<str>,
    /// TCP port, never 0.
    pub port: u16,
    /// Tags, in the order they were registered.
    pub tags: Vec<Arc<str>>,
    /// Key-value pairs.
    pub meta: BTreeMap<Arc<str>, Arc<str>>,
    /// Share of the calls it asks for, relative to the others; 1 unless it says otherwise.
    pub weight: u32,
    /// The state of its checks.
    pub health: Health,
    /// The registry's counter at its registration: of two instances the one with the higher value is newer. 0 where
    /// the source has no such counter.
    pub created: u64,
}

/// What tells one instance from another: ids are unique on their node only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    /// The node.
    pub node: Arc<str>,
    /// The id on that node.
    pub id: Arc<str>,
}

impl Instance {
    /// A passing instance at `host` and `port` without tags or meta, on the node `local`, with the id `host:port`.
    /// The fields are public: change what should differ.
    pub fn at(service: ServiceName, host: impl AsRef<str>, port: u16) -> Self {
        let host = host.as_ref();
        Self {
            id: authority(host, port).into(),
            node: "local".into(),
            service,
            host: host.into(),
            port,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            weight: 1,
            health: Health::Passing,
            created: 0,
        }
    }

    /// The same instance with the mark that it speaks the native protocol in `version`.
    pub fn native(mut self, version: u16) -> Self {
        self.meta.insert(META_NATIVE.into(), version.to_string().into());
        self
    }

    /// Node and id.
    pub fn key(&self) -> InstanceKey {
        InstanceKey {
            node: self.node.clone(),
            id: self.id.clone(),
        }
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Whether new calls may go to it: only while every check passes.
    pub fn is_usable(&self) -> bool {
        self.health == Health::Passing
    }

    /// The version of the native protocol it announces; `None` for an instance that speaks classic, or whose mark is
    /// not a number.
    pub fn native_version(&self) -> Option<u16> {
        self.meta.get(META_NATIVE)?.parse().ok()
    }

    /// The unique id of its process start, if it announces one.
    pub fn uuid(&self) -> Option<&str> {
        self.meta.get(META_UUID).map(AsRef::as_ref)
    }

    /// Whether `self` comes before `other` in a snapshot, without cloning their keys.
    pub(crate) fn cmp_key(&self, other: &Self) -> std::cmp::Ordering {
        (&*self.node, &*self.id).cmp(&(&*other.node, &*other.id))
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.id)
    }
}

/// `host:port`, an IPv6 address (with or without a zone) in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    let address = host.split('%').next().unwrap_or(host);
    if address.parse::<Ipv6Addr>().is_ok() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(host: &str) -> Instance {
        Instance::at(ServiceName::new("s").unwrap(), host, 80)
    }

    #[test]
    fn an_ipv6_address_is_bracketed_and_nothing_else_is() {
        assert_eq!(instance("::1").authority(), "[::1]:80");
        assert_eq!(instance("fe80::1%eth0").authority(), "[fe80::1%eth0]:80");
        assert_eq!(instance("10.0.0.1").authority(), "10.0.0.1:80");
        assert_eq!(instance("db.example").authority(), "db.example:80");
    }

    #[test]
    fn only_a_passing_instance_is_usable() {
        for (health, usable) in [
            (Health::Passing, true),
            (Health::Warning, false),
            (Health::Critical, false),
            (Health::Maintenance, false),
        ] {
            let mut one = instance("h");
            one.health = health;
            assert_eq!(one.is_usable(), usable, "{health:?}");
        }
    }

    #[test]
    fn the_native_mark_is_a_number_or_nothing() {
        assert_eq!(instance("h").native_version(), None);
        assert_eq!(instance("h").native(1).native_version(), Some(1));
        let mut odd = instance("h");
        for text in ["", "x", "-1", "65536", "1.0"] {
            odd.meta.insert(META_NATIVE.into(), text.into());
            assert_eq!(odd.native_version(), None, "{text:?}");
        }
    }
}
