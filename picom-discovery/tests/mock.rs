//! The mock registry keeps the promises of the trait, and does what a test tells it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use picom_discovery::{
    AliveProbe, Discovery, EndError, Freshness, Health, Instance, LeaseState, Mock, OnUnavailable,
    RegisterError, Registration, ServiceName, Snapshot,
};

fn name() -> ServiceName {
    ServiceName::new("svc").unwrap()
}

fn registration(port: u16) -> Registration {
    Registration::new(name(), "h", port).unwrap()
}

fn ports(snapshot: &Arc<Snapshot>) -> Vec<u16> {
    let mut ports: Vec<_> = snapshot.usable().map(|one| one.port).collect();
    ports.sort_unstable();
    ports
}

#[tokio::test]
async fn what_is_set_is_seen_at_once() {
    let mock = Mock::new();
    let mut watch = mock.watch(&name());
    assert!(watch.latest().freshness.is_live() && watch.latest().instances.is_empty());
    mock.set(
        &name(),
        [Instance::at(name(), "h", 1), Instance::at(name(), "h", 2)],
    );
    assert_eq!(ports(&watch.changed().await), [1, 2]);
    assert!(mock.set_health(&name(), "h:1", Health::Critical));
    assert_eq!(ports(&watch.changed().await), [2]);
    assert!(mock.remove(&name(), "h:2") && !mock.remove(&name(), "h:2"));
    assert_eq!(watch.changed().await.instances.len(), 1);
}

#[tokio::test]
async fn a_registration_is_seen_until_its_lease_ends() {
    let mock = Mock::new();
    let lease = mock.register(registration(7), OnUnavailable::Fail).await.unwrap();
    let mut watch = mock.watch(&name());
    let seen = watch.latest();
    assert_eq!(ports(&seen), [7]);
    assert_eq!(seen.instances[0].uuid(), mock.registrations()[0].uuid());
    lease.end(Duration::ZERO).await.unwrap();
    assert!(watch.changed().await.instances.is_empty());
    let lease = mock.register(registration(8), OnUnavailable::Fail).await.unwrap();
    assert_eq!(ports(&watch.changed().await), [8]);
    drop(lease);
    assert!(watch.changed().await.instances.is_empty() && mock.registrations().is_empty());
}

#[tokio::test]
async fn one_id_is_registered_once() {
    let mock = Mock::new();
    let one = registration(7).with_id("same").unwrap();
    let _lease = mock.register(one.clone(), OnUnavailable::Fail).await.unwrap();
    let error = mock.register(one, OnUnavailable::KeepTrying).await.unwrap_err();
    assert!(matches!(error, RegisterError::Duplicate { id } if id == "same"));
}

#[tokio::test]
async fn a_failure_keeps_what_is_known_and_recovery_makes_it_live() {
    let mock = Mock::new();
    mock.set(&name(), [Instance::at(name(), "h", 1)]);
    let mut watch = mock.watch(&name());
    mock.fail_unavailable();
    let stale = watch.changed().await;
    assert!(matches!(stale.freshness, Freshness::Stale { .. }));
    mock.set(&name(), []);
    assert_eq!(ports(&watch.changed().await), [1], "nobody can know of it yet");
    let fresh = mock.watch(&ServiceName::new("other").unwrap()).latest();
    assert!(matches!(fresh.freshness, Freshness::Pending { error: Some(_) }));

    let refused = mock.register(registration(2), OnUnavailable::Fail).await;
    assert!(matches!(refused, Err(RegisterError::Unavailable { .. })));
    let lease = mock
        .register(registration(2), OnUnavailable::KeepTrying)
        .await
        .unwrap();
    assert!(matches!(
        lease.state(),
        LeaseState::Registering { error: Some(_) }
    ));
    assert!(mock.registrations().is_empty());
    mock.recover();
    assert!(matches!(lease.state(), LeaseState::Passing));
    let live = watch.changed().await;
    assert!(live.freshness.is_live());
    assert_eq!(ports(&live), [2]);
}

#[tokio::test]
async fn a_lease_that_ends_during_a_failure_is_removed_at_recovery() {
    let mock = Mock::new();
    let lease = mock.register(registration(1), OnUnavailable::Fail).await.unwrap();
    mock.fail_unavailable();
    assert!(matches!(
        lease.end(Duration::ZERO).await,
        Err(EndError::Failed { .. })
    ));
    mock.recover();
    assert!(mock.watch(&name()).latest().instances.is_empty());
}

#[tokio::test]
async fn a_beat_asks_the_probe_and_registers_what_was_forgotten() {
    let mock = Mock::new();
    let alive = Arc::new(AtomicBool::new(true));
    let asked = alive.clone();
    let probed = registration(1).with_alive(AliveProbe::new(move || asked.load(Ordering::Relaxed)));
    let id = probed.id().to_owned();
    let lease = mock.register(probed, OnUnavailable::Fail).await.unwrap();
    let watch = mock.watch(&name());
    alive.store(false, Ordering::Relaxed);
    mock.beat();
    assert_eq!(watch.latest().instances[0].health, Health::Critical);
    assert!(matches!(lease.state(), LeaseState::Failing { .. }));
    alive.store(true, Ordering::Relaxed);
    mock.remove(&name(), &id);
    assert!(watch.latest().instances.is_empty());
    mock.beat();
    assert_eq!(ports(&watch.latest()), [1]);
    assert!(matches!(lease.state(), LeaseState::Passing));
}
