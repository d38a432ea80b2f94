//! The set of endpoints under what discovery, connections and calls say.

use super::*;
use picom_discovery::{Health, Instance, ServiceName};
use proptest::prelude::*;

fn base() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn instance(port: u16) -> Instance {
    Instance::at(ServiceName::new("orders").unwrap(), "10.0.0.1", port).native(1)
}

fn live(ports: &[u16]) -> Snapshot {
    Snapshot::live(
        ServiceName::new("orders").unwrap(),
        ports.iter().map(|port| instance(*port)),
    )
}

fn set(ports: &[u16], now: Instant) -> Endpoints {
    let mut set = Endpoints::new(Balance::TwoChoices, false);
    set.apply(&live(ports), now);
    set
}

fn id(set: &Endpoints, port: u16) -> EndpointId {
    let found = set.entries().find(|entry| entry.endpoint.instance.port == port);
    found.expect("the port is in the set").endpoint.id
}

fn picks(
    set: &mut Endpoints,
    now: Instant,
    tried: &[EndpointId],
    key: Option<u64>,
    n: usize,
) -> Vec<(bool, u16)> {
    let mut random = Random::new(5);
    let mut seen: Vec<(bool, u16)> = (0..n)
        .map(|_| match set.pick(now, &mut random, tried, key) {
            Pick::Ready(endpoint) => (true, endpoint.instance.port),
            Pick::Dial(endpoint) => (false, endpoint.instance.port),
            other => panic!("an endpoint was expected, not {other:?}"),
        })
        .collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

fn consistent(set: &Endpoints) {
    let mut listed = 0;
    for (place, list) in [
        (Place::Ready, &set.ready),
        (Place::Idle, &set.idle),
        (Place::Ejected, &set.ejected),
    ] {
        for (position, slot) in list.iter().enumerate() {
            let entry = set.entry(*slot).expect("listed slots are filled");
            assert_eq!((entry.place, entry.position as usize), (place, position));
            listed += 1;
        }
    }
    assert_eq!(listed, set.by_id.len());
    assert_eq!(listed, set.by_instance.len());
    assert_eq!(listed + set.vacant.len(), set.slots.len());
}

#[test]
fn a_connected_endpoint_is_picked_before_any_that_is_not() {
    let now = base();
    let mut set = set(&[1, 2, 3], now);
    assert_eq!(
        picks(&mut set, now, &[], None, 50),
        [(false, 1), (false, 2), (false, 3)]
    );
    set.connected(id(&set, 2));
    assert_eq!(picks(&mut set, now, &[], None, 50), [(true, 2)]);
    let tried = [id(&set, 2)];
    assert_eq!(picks(&mut set, now, &tried, None, 50), [(false, 1), (false, 3)]);
}

#[test]
fn a_lost_connection_is_believed_at_once() {
    let now = base();
    let mut set = set(&[1, 2], now);
    set.connected(id(&set, 1));
    set.connected(id(&set, 2));
    set.disconnected(id(&set, 1), Some(now + seconds(1)));
    assert_eq!(picks(&mut set, now, &[], None, 20), [(true, 2)]);
    let tried = [id(&set, 2)];
    assert_eq!(
        picks(&mut set, now, &tried, None, 20),
        [(false, 1)],
        "the last resort, in backoff as it is"
    );
    let tried = [id(&set, 1), id(&set, 2)];
    assert!(matches!(
        set.pick(now, &mut Random::new(1), &tried, None),
        Pick::Exhausted
    ));
}

#[test]
fn an_endpoint_that_drains_is_not_dialed_and_the_call_hears_that_more_may_come() {
    let now = base();
    let mut set = set(&[1], now);
    set.connected(id(&set, 1));
    set.draining(id(&set, 1), now);
    assert!(matches!(
        set.pick(now, &mut Random::new(1), &[], None),
        Pick::Draining
    ));
    assert!(set.take_due(now, &mut Random::new(1)).is_empty());
    assert!(!set.has_other(now, &[]));
    // A successor may have taken the address.
    let later = now + DRAIN_PAUSE;
    assert_eq!(set.next_event(now, true), Some(later));
    assert_eq!(picks(&mut set, later, &[], None, 1), [(false, 1)]);
    assert_eq!(set.take_due(later, &mut Random::new(1)).len(), 1);
}

#[test]
fn a_failing_check_means_no_new_calls() {
    let now = base();
    let mut set = set(&[1, 2], now);
    set.connected(id(&set, 1));
    set.connected(id(&set, 2));
    let mut failing = instance(1);
    failing.health = Health::Critical;
    let snapshot = Snapshot::live(
        ServiceName::new("orders").unwrap(),
        [failing.clone(), instance(2)],
    );
    let gone = set.apply(&snapshot, now);
    assert_eq!(gone.len(), 1);
    assert_eq!(&*gone[0].authority, "10.0.0.1:1");
    assert_eq!(picks(&mut set, now, &[], None, 20), [(true, 2)]);
    // All failing is not all vanished: nothing is kept.
    let mut other = instance(2);
    other.health = Health::Critical;
    set.apply(
        &Snapshot::live(ServiceName::new("orders").unwrap(), [failing, other]),
        now,
    );
    assert!(matches!(
        set.pick(now, &mut Random::new(1), &[], None),
        Pick::Empty
    ));
    assert!(matches!(set.standing(), Standing::Known { registered: 2, .. }));
}

#[test]
fn when_all_vanish_at_once_open_connections_serve_for_ten_seconds() {
    let now = base();
    let mut set = set(&[1, 2], now);
    set.connected(id(&set, 1));
    let gone = set.apply(&live(&[]), now);
    assert_eq!(gone.len(), 1, "the one without a connection goes");
    let almost = now + seconds(10) - Duration::from_nanos(1);
    assert_eq!(picks(&mut set, almost, &[], None, 5), [(true, 1)]);
    assert_eq!(set.next_event(now, true), Some(now + seconds(10)));
    // The one whose connection goes now is not dialed, and nobody must be woken for it again and again.
    set.disconnected(id(&set, 1), Some(now + seconds(1)));
    let due = now + seconds(2);
    assert!(set.take_due(due, &mut Random::new(1)).is_empty());
    assert_eq!(set.next_event(due, true), Some(now + seconds(10)));
    set.connected(id(&set, 1));
    assert!(
        set.take_due(now, &mut Random::new(1)).is_empty(),
        "nothing is dialed on a dead word"
    );
    let lost = id(&set, 1);
    set.disconnected(lost, None);
    assert!(
        matches!(set.pick(now, &mut Random::new(1), &[], None), Pick::Empty),
        "not even again"
    );
    set.connected(lost);
    assert!(matches!(
        set.pick(now + seconds(10), &mut Random::new(1), &[], None),
        Pick::Empty
    ));
    assert_eq!(set.expire(now + seconds(10)).len(), 1);
    assert!(set.is_empty());
}

#[test]
fn repeated_empty_answers_do_not_prolong_the_afterglow() {
    let now = base();
    let mut set = set(&[1], now);
    set.connected(id(&set, 1));
    set.apply(&live(&[]), now);
    assert!(set.apply(&live(&[]), now + seconds(9)).is_empty());
    assert_eq!(set.apply(&live(&[]), now + seconds(10)).len(), 1);
    assert!(set.is_empty());
}

#[test]
fn instances_that_come_back_in_the_afterglow_keep_their_connections() {
    let now = base();
    let mut set = set(&[1], now);
    let before = id(&set, 1);
    set.connected(before);
    set.apply(&live(&[]), now);
    assert!(set.apply(&live(&[1, 2]), now + seconds(5)).is_empty());
    assert_eq!(id(&set, 1), before);
    assert_eq!(picks(&mut set, now + seconds(60), &[], None, 20), [(true, 1)]);
}

#[test]
fn a_set_that_drained_or_a_strict_client_keeps_nothing() {
    let now = base();
    let mut drained = set(&[1, 2], now);
    drained.connected(id(&drained, 1));
    drained.draining(id(&drained, 2), now);
    assert_eq!(drained.apply(&live(&[]), now).len(), 2);

    let mut strict = Endpoints::new(Balance::TwoChoices, true);
    strict.apply(&live(&[1]), now);
    strict.connected(id(&strict, 1));
    assert_eq!(strict.apply(&live(&[]), now).len(), 1);
    assert!(strict.is_empty());
}

#[test]
fn an_error_never_empties_the_set() {
    let now = base();
    let mut set = set(&[1], now);
    set.connected(id(&set, 1));
    let pending = Snapshot::pending(ServiceName::new("orders").unwrap());
    assert!(set.apply(&pending, now).is_empty());
    assert_eq!(picks(&mut set, now, &[], None, 3), [(true, 1)]);
}

#[test]
fn an_instance_with_a_new_identity_is_a_new_endpoint() {
    let now = base();
    let mut set = set(&[1], now);
    let before = id(&set, 1);
    let mut reborn = instance(1);
    reborn
        .meta
        .insert(picom_discovery::META_UUID.into(), "another process".into());
    let gone = set.apply(
        &Snapshot::live(ServiceName::new("orders").unwrap(), [reborn]),
        now,
    );
    assert_eq!(gone.len(), 1);
    assert_ne!(id(&set, 1), before);
    consistent(&set);
}

#[test]
fn instances_of_another_protocol_are_counted_and_not_called() {
    let now = base();
    let mut set = Endpoints::new(Balance::TwoChoices, false);
    let classic = Instance::at(ServiceName::new("orders").unwrap(), "10.0.0.1", 9);
    set.apply(
        &Snapshot::live(ServiceName::new("orders").unwrap(), [classic]),
        now,
    );
    assert!(matches!(
        set.standing(),
        Standing::Known {
            registered: 1,
            foreign: 1,
            stale: None
        }
    ));
    assert!(matches!(
        set.pick(now, &mut Random::new(1), &[], None),
        Pick::Empty
    ));
}

#[test]
fn five_failures_take_an_endpoint_out_until_a_probe_succeeds() {
    let now = base();
    let mut set = set(&[1, 2], now);
    let (one, two) = (id(&set, 1), id(&set, 2));
    set.connected(one);
    set.connected(two);
    for _ in 0..4 {
        assert!(!set.failed(one, now));
    }
    assert!(set.failed(one, now));
    assert_eq!(picks(&mut set, now, &[], None, 40), [(true, 2)]);
    // One call finds out, the others stay away.
    let later = now + seconds(5);
    assert_eq!(picks(&mut set, later, &[], None, 1), [(true, 1)]);
    assert_eq!(picks(&mut set, later, &[], None, 40), [(true, 2)]);
    set.answered(one);
    assert_eq!(picks(&mut set, later, &[], None, 40), [(true, 1), (true, 2)]);
    consistent(&set);
}

#[test]
fn ejecting_everything_makes_nothing_unreachable() {
    let now = base();
    let mut set = set(&[1, 2], now);
    for port in [1, 2] {
        set.connected(id(&set, port));
        for _ in 0..5 {
            set.failed(id(&set, port), now);
        }
    }
    assert!(matches!(
        set.pick(now, &mut Random::new(1), &[], None),
        Pick::Ready(_)
    ));
}

#[test]
fn a_key_stays_with_its_endpoint_and_moves_only_while_that_is_away() {
    let now = base();
    let mut set = set(&[1, 2, 3, 4], now);
    for port in [1, 2, 3, 4] {
        set.connected(id(&set, port));
    }
    let key = Some(0x1234_5678_9abc_def0);
    let owner = picks(&mut set, now, &[], key, 30);
    assert_eq!(owner.len(), 1);
    let port = owner[0].1;
    set.disconnected(id(&set, port), Some(now + seconds(1)));
    let substitute = picks(&mut set, now, &[], key, 30);
    assert_eq!(substitute.len(), 1);
    assert_ne!(substitute[0].1, port);
    assert_eq!(
        picks(&mut set, now + seconds(1), &[], key, 30),
        [(false, port)],
        "it is dialed again for its key"
    );
    let tried = [id(&set, port)];
    assert_eq!(picks(&mut set, now + seconds(1), &tried, key, 30), substitute);
}

#[test]
fn a_client_connects_ahead_to_a_bounded_number() {
    let now = base();
    let ports: Vec<u16> = (1..=1000).collect();
    let mut set = set(&ports, now);
    let mut random = Random::new(11);
    assert_eq!(set.take_due(now, &mut random).len(), CONNECTED);
    assert!(set.take_due(now, &mut random).is_empty(), "those are under way");
    let dialing: Vec<EndpointId> = set
        .entries()
        .filter(|e| e.dialing)
        .map(|e| e.endpoint.id)
        .collect();
    set.disconnected(dialing[0], Some(now + seconds(1)));
    set.connected(dialing[1]);
    assert_eq!(
        set.take_due(now, &mut random).len(),
        1,
        "one takes the place of the failed one"
    );
    consistent(&set);
}

#[derive(Clone, Debug)]
enum Operation {
    Apply(u8),
    Connected(u8),
    Disconnected(u8, u16),
    Draining(u8),
    Failed(u8),
    Answered(u8),
    Pick(u8, Option<u64>),
    Pause(u16),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        any::<u8>().prop_map(Operation::Apply),
        (0u8..8).prop_map(Operation::Connected),
        ((0u8..8), any::<u16>()).prop_map(|(port, ms)| Operation::Disconnected(port, ms)),
        (0u8..8).prop_map(Operation::Draining),
        (0u8..8).prop_map(Operation::Failed),
        (0u8..8).prop_map(Operation::Answered),
        (any::<u8>(), any::<Option<u64>>()).prop_map(|(tried, key)| Operation::Pick(tried, key)),
        any::<u16>().prop_map(Operation::Pause),
    ]
}

proptest! {
    #[test]
    fn the_lists_agree_and_picks_keep_the_rules(operations in prop::collection::vec(operation(), 1..120), seed in any::<u64>()) {
        let mut now = base();
        let mut set = Endpoints::new(Balance::TwoChoices, false);
        let mut random = Random::new(seed);
        for operation in operations {
            let find = |set: &Endpoints, port: u8| {
                set.entries().find(|e| e.endpoint.instance.port == u16::from(port) + 1).map(|e| e.endpoint.id)
            };
            match operation {
                Operation::Apply(mask) => {
                    let ports: Vec<u16> = (0..8).filter(|bit| mask & (1 << bit) != 0).map(|bit| bit + 1).collect();
                    set.apply(&live(&ports), now);
                }
                Operation::Connected(port) => if let Some(id) = find(&set, port) { set.connected(id); },
                Operation::Disconnected(port, ms) => if let Some(id) = find(&set, port) {
                    set.disconnected(id, Some(now + Duration::from_millis(ms.into())));
                },
                Operation::Draining(port) => if let Some(id) = find(&set, port) { set.draining(id, now) },
                Operation::Failed(port) => if let Some(id) = find(&set, port) { set.failed(id, now); },
                Operation::Answered(port) => if let Some(id) = find(&set, port) { set.answered(id) },
                Operation::Pause(ms) => now += Duration::from_millis(ms.into()),
                Operation::Pick(mask, key) => {
                    let tried: Vec<_> = (0..8).filter(|bit| mask & (1 << bit) != 0).filter_map(|bit| find(&set, bit)).collect();
                    match set.pick(now, &mut random, &tried, key) {
                        Pick::Ready(endpoint) => prop_assert!(!tried.contains(&endpoint.id)),
                        Pick::Dial(endpoint) => {
                            prop_assert!(!tried.contains(&endpoint.id));
                            if key.is_none() && set.next_probe.is_none_or(|at| at > now) {
                                let other = set.entries().any(|e| e.place == Place::Ready && !tried.contains(&e.endpoint.id));
                                let ejected = set.by_id.get(&endpoint.id).and_then(|s| set.entry(*s)).is_some_and(|e| e.place == Place::Ejected);
                                prop_assert!(!other || ejected, "a connected endpoint was passed over");
                            }
                        }
                        Pick::Draining | Pick::Exhausted => prop_assert!(
                            set.entries().all(|e| tried.contains(&e.endpoint.id) || e.is_draining(now))
                        ),
                        Pick::Empty => prop_assert!(set.is_empty() || set.afterglow.is_some()),
                    }
                }
            }
            consistent(&set);
        }
    }
}
