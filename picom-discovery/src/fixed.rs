//! Discovery without a registry: names and addresses from the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;

use crate::discovery::{Discovery, OnUnavailable};
use crate::error::RegisterError;
use crate::instance::Instance;
use crate::lease::Lease;
use crate::name::{NameError, ServiceName};
use crate::registration::{Registration, host_fault};
use crate::snapshot::Snapshot;
use crate::watch::{Publisher, Watch};

/// The version of the native protocol a listed address speaks unless said otherwise: the first, which every picom
/// speaks.
const NATIVE: u16 = 1;

/// A list that never changes: name to addresses. Every instance passes, always; whether one answers shows when it is
/// called. A name that is not listed has no instances. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Fixed {
    services: Arc<HashMap<ServiceName, Arc<Publisher>>>,
}

/// Why a list cannot be taken. Every message names the value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FixedError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The address is not `host:port`.
    #[error("address {address:?} of {service:?} is not host:port: {reason}")]
    Address {
        /// The service.
        service: String,
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Fixed {
    /// A list without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds native instances of `service` at these addresses (`host:port`, IPv6 in brackets).
    pub fn with<A: AsRef<str>>(
        self,
        service: impl AsRef<str>,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Self, FixedError> {
        self.add(service.as_ref(), addresses, Some(NATIVE))
    }

    /// The same for instances that speak the classic dialect only.
    pub fn with_classic<A: AsRef<str>>(
        self,
        service: impl AsRef<str>,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Self, FixedError> {
        self.add(service.as_ref(), addresses, None)
    }

    fn add<A: AsRef<str>>(
        mut self,
        service: &str,
        addresses: impl IntoIterator<Item = A>,
        native: Option<u16>,
    ) -> Result<Self, FixedError> {
        let service = ServiceName::new(service)?;
        let known = self.services.get(&service).map(|publisher| publisher.latest());
        let mut instances: Vec<Instance> = known
            .iter()
            .flat_map(|snapshot| &snapshot.instances)
            .map(|one| (**one).clone())
            .collect();
        for address in addresses {
            let address = address.as_ref();
            let (host, port) = split_authority(address).map_err(|reason| FixedError::Address {
                service: service.to_string(),
                address: address.to_owned(),
                reason,
            })?;
            let instance = Instance::at(service.clone(), host, port);
            instances.push(match native {
                Some(version) => instance.native(version),
                None => instance,
            });
        }
        let publisher = Publisher::new(service.clone());
        publisher.publish(Snapshot::live(service.clone(), instances));
        Arc::make_mut(&mut self.services).insert(service, Arc::new(publisher));
        Ok(self)
    }
}

#[async_trait]
impl Discovery for Fixed {
    fn watch(&self, service: &ServiceName) -> Watch {
        match self.services.get(service) {
            Some(publisher) => publisher.watch(),
            None => {
                let publisher = Publisher::new(service.clone());
                publisher.publish(Snapshot::live(service.clone(), []));
                publisher.watch()
            }
        }
    }

    /// There is nobody to tell: the lease passes at once and ends without effect.
    async fn register(&self, registration: Registration, _: OnUnavailable) -> Result<Lease, RegisterError> {
        Ok(Lease::settled(registration.id()))
    }

    fn describe(&self) -> String {
        format!("a fixed list of {} services", self.services.len())
    }
}

/// Host and port of `host:port` or `[ipv6]:port`, or what is wrong.
pub(crate) fn split_authority(text: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner,
        None if host.contains(':') => return Err("an IPv6 address is written in brackets"),
        None => host,
    };
    if let Some(reason) = host_fault(host) {
        return Err(reason);
    }
    match port.parse() {
        Ok(0) => Err("nobody can dial port 0"),
        // "+80" is a number to Rust, and a typing error to us.
        Ok(number) if port.bytes().all(|byte| byte.is_ascii_digit()) => Ok((host, number)),
        _ => Err("its port is not a number up to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lease::LeaseState;

    #[test]
    fn addresses_are_read_as_one_writes_them() {
        for (text, expected) in [
            ("127.0.0.1:80", ("127.0.0.1", 80)),
            ("[::1]:65535", ("::1", 65_535)),
            ("db.example:1", ("db.example", 1)),
        ] {
            assert_eq!(split_authority(text), Ok(expected));
        }
        for text in [
            "",
            "a",
            "a:",
            ":80",
            "a:0",
            "a:+1",
            "a:65536",
            "a:x",
            "::1:80",
            "0.0.0.0:80",
            "a b:80",
        ] {
            let error = Fixed::new().with("svc", [text]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{text:?}")) && error.contains("svc"),
                "{error}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_listed_service_is_live_and_native_at_once() {
        let fixed = Fixed::new()
            .with("svc", ["b:2"])
            .unwrap()
            .with_classic("svc", ["a:1"])
            .unwrap();
        let name = ServiceName::new("svc").unwrap();
        let snapshot = fixed.watch(&name).ready().await;
        assert!(snapshot.freshness.is_live());
        let seen: Vec<_> = snapshot
            .usable()
            .map(|one| (one.authority(), one.native_version()))
            .collect();
        assert_eq!(seen, [("a:1".to_owned(), None), ("b:2".to_owned(), Some(1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unlisted_service_is_live_and_empty() {
        let mut watch = Fixed::new().watch(&ServiceName::new("other").unwrap());
        let snapshot = watch.ready().await;
        assert!(snapshot.freshness.is_live() && snapshot.instances.is_empty());
        assert!(
            tokio::time::timeout(Duration::from_secs(60), watch.changed())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_registration_passes_and_ends_without_effect() {
        let registration = Registration::new(ServiceName::new("svc").unwrap(), "h", 80).unwrap();
        let mut lease = Fixed::new()
            .register(registration, OnUnavailable::Fail)
            .await
            .unwrap();
        assert!(matches!(lease.state(), LeaseState::Passing));
        assert!(
            tokio::time::timeout(Duration::from_secs(60), lease.changed())
                .await
                .is_err()
        );
        assert!(matches!(lease.state(), LeaseState::Passing));
        lease.end(Duration::ZERO).await.unwrap();
    }
}
