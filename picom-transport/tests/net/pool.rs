//! The pool, on a network in memory with its faults.

use crate::service::{Handler, Service, call, open, request};
use picom_transport::testing::MemoryNetwork;
use picom_transport::{
    ConnectionConfig, ConnectionError, DialError, HandshakeError, Identity, Listener, ListenerConfig,
    Outcome, Pool, PoolConfig, Request, Room, SlotStatus, StreamError, Target,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) fn listen(
    network: &MemoryNetwork,
    authority: &str,
    instance: &str,
    connection: ConnectionConfig,
) -> Arc<Service> {
    let service = Arc::new(Service::default());
    let identity = Identity {
        service: Some("test".into()),
        instance: Some(instance.into()),
    };
    let config = ListenerConfig {
        connection,
        ..ListenerConfig::default()
    };
    let acceptor = Arc::new(network.bind(authority).unwrap());
    Listener::start(acceptor, identity, config, Arc::new(Handler(service.clone()))).unwrap();
    service
}

fn pool(network: &MemoryNetwork) -> Pool {
    let config = PoolConfig {
        seed: 1,
        ..PoolConfig::default()
    };
    Pool::new(network.connector(), config, ConnectionConfig::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn many_waiters_share_one_dial() {
    let network = MemoryNetwork::new();
    listen(&network, "a:1", "one", ConnectionConfig::for_server());
    let pool = pool(&network);
    let target = Target::anyone("a:1");
    assert_eq!(pool.status(&target), SlotStatus::Idle);
    let waiters: Vec<_> = (0..100)
        .map(|n| {
            let (pool, target) = (pool.clone(), target.clone());
            tokio::spawn(async move {
                let connection = pool.connection(&target).await.unwrap();
                assert_eq!(call(&connection, "echo", vec![n]).await.unwrap(), [n][..]);
            })
        })
        .collect();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(network.dials("a:1"), 1);
    assert!(matches!(
        pool.status(&target),
        SlotStatus::Connected { free_slots: 512 }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_goes_away_does_not_end_the_dial() {
    let network = MemoryNetwork::new();
    listen(&network, "a:1", "one", ConnectionConfig::for_server());
    let pool = pool(&network);
    let target = Target::anyone("a:1");
    let first = tokio::spawn({
        let (pool, target) = (pool.clone(), target.clone());
        async move { pool.connection(&target).await.map(drop) }
    });
    tokio::task::yield_now().await;
    first.abort();
    pool.connection(&target).await.unwrap();
    assert_eq!(network.dials("a:1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_address_is_not_dialed_again_at_once() {
    let network = MemoryNetwork::new();
    let pool = pool(&network);
    let target = Target::anyone("a:1");
    let error = pool.connection(&target).await.unwrap_err();
    assert!(matches!(error, DialError::Connect { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NeverSent);
    let error = pool.connection(&target).await.unwrap_err();
    assert!(
        matches!(&error, DialError::Backoff { last: Some(last), .. } if matches!(**last, DialError::Connect { .. }))
    );
    assert!(matches!(pool.status(&target), SlotStatus::Backoff { .. }));
    assert_eq!(network.dials("a:1"), 1);
    listen(&network, "a:1", "one", ConnectionConfig::for_server());
    tokio::time::advance(Duration::from_millis(61)).await;
    pool.connection(&target).await.unwrap();
    assert_eq!(network.dials("a:1"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_takes_the_connect_time_out() {
    let network = MemoryNetwork::new();
    network.silence("a:1");
    let pool = pool(&network);
    let before = tokio::time::Instant::now();
    let error = pool.connection(&Target::anyone("a:1")).await.unwrap_err();
    assert!(
        matches!(error, DialError::Timeout { limit, .. } if limit == Duration::from_secs(1)),
        "{error}"
    );
    assert_eq!(before.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn another_instance_at_the_address_is_a_failed_dial() {
    let network = MemoryNetwork::new();
    listen(&network, "a:1", "new", ConnectionConfig::for_server());
    let pool = pool(&network);
    let target = Target {
        authority: "a:1".into(),
        service: Some("test".into()),
        instance: Some("old".into()),
    };
    let error = pool.connection(&target).await.unwrap_err();
    let DialError::Handshake {
        error: HandshakeError::Connection(error),
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert!(matches!(&*error, ConnectionError::Goaway { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_full_connection_gets_a_second_one_up_to_the_limit() {
    let network = MemoryNetwork::new();
    let service = ConnectionConfig {
        stream_limit: 2,
        ..ConnectionConfig::for_server()
    };
    listen(&network, "a:1", "one", service);
    let config = PoolConfig {
        connections_per_target: 2,
        seed: 1,
        ..PoolConfig::default()
    };
    let pool = Pool::new(network.connector(), config, ConnectionConfig::default()).unwrap();
    let target = Target::anyone("a:1");
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(
            pool.connection(&target)
                .await
                .unwrap()
                .open(open("wait", vec![1]))
                .unwrap(),
        );
    }
    assert_eq!(network.dials("a:1"), 2);
    // A fifth waits for its turn, and gets the slot that is freed.
    let fifth = tokio::spawn({
        let (pool, target) = (pool.clone(), target.clone());
        async move {
            pool.connection(&target)
                .await
                .map(|connection| connection.free_slots())
        }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!fifth.is_finished());
    calls.pop();
    assert_eq!(fifth.await.unwrap().unwrap(), 1);
    assert_eq!(network.dials("a:1"), 2);
}

#[tokio::test(start_paused = true)]
async fn more_callers_than_slots_are_all_served_in_the_end() {
    let network = MemoryNetwork::new();
    let service = ConnectionConfig {
        stream_limit: 3,
        ..ConnectionConfig::for_server()
    };
    listen(&network, "a:1", "one", service);
    let pool = pool(&network);
    let target = Target::anyone("a:1");
    let callers: Vec<_> = (0..200u8)
        .map(|n| {
            let (pool, target) = (pool.clone(), target.clone());
            tokio::spawn(async move {
                loop {
                    let connection = pool.connection(&target).await.unwrap();
                    // Another may have been quicker.
                    let Ok((_send, mut recv)) = connection.open(request("echo", vec![n & 0x7f])) else {
                        continue;
                    };
                    match recv.recv().await {
                        Ok(reply) => return assert_eq!(reply.unwrap(), [n & 0x7f][..]),
                        Err(error) => assert_eq!(error.outcome(), Outcome::Refused, "{error}"),
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        tokio::time::timeout(Duration::from_secs(60), caller)
            .await
            .expect("nobody is forgotten")
            .unwrap();
    }
    assert_eq!(network.dials("a:1"), 4);
}

#[tokio::test(start_paused = true)]
async fn slots_go_to_those_who_wait_in_the_order_in_which_they_came() {
    let network = MemoryNetwork::new();
    let service = ConnectionConfig {
        stream_limit: 1,
        ..ConnectionConfig::for_server()
    };
    listen(&network, "a:1", "one", service);
    let config = PoolConfig {
        connections_per_target: 1,
        seed: 1,
        ..PoolConfig::default()
    };
    let pool = Pool::new(network.connector(), config, ConnectionConfig::default()).unwrap();
    let target = Target::anyone("a:1");
    let first = pool.connection(&target).await.unwrap();
    let held = first.open(open("wait", vec![1])).unwrap();
    let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
    let mut waiters = Vec::new();
    for n in 0..6 {
        let (pool, target, told) = (pool.clone(), target.clone(), told.clone());
        waiters.push(tokio::spawn(async move {
            let connection = pool.connection(&target).await.unwrap();
            let held = connection.open(open("wait", vec![1])).unwrap();
            told.send(n).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(held);
        }));
        tokio::task::yield_now().await;
    }
    waiters[2].abort();
    drop(held);
    // The slot is free, and promised: nobody who comes now gets it.
    assert!(first.is_contended());
    assert!(matches!(pool.room(&target), Room::Queue(_)));
    for n in [0, 1, 3, 4, 5] {
        assert_eq!(order.recv().await, Some(n));
    }
    waiters.remove(5).await.unwrap();
    assert!(!first.is_contended());
    assert!(matches!(pool.room(&target), Room::Free(_)));
}

/// A call that stands in line gives the connection nothing to write: its time passes all the same.
#[tokio::test(start_paused = true)]
async fn a_call_in_line_ends_in_time_where_nothing_else_happens() {
    let network = MemoryNetwork::new();
    let service = ConnectionConfig {
        stream_limit: 1,
        ..ConnectionConfig::for_server()
    };
    listen(&network, "a:1", "one", service);
    let connection = pool(&network).connection(&Target::anyone("a:1")).await.unwrap();
    let _held = connection.open(open("wait", vec![1])).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for (timeout, expected) in [(Some(20), 20), (None, 1000), (Some(300), 300)] {
        let begun = Instant::now();
        let queued = Request {
            deadline: timeout.map(|timeout| (begun + Duration::from_millis(timeout)).into_std()),
            ..request("echo", vec![1])
        };
        let mut reply = connection.call_queued(queued, None).unwrap();
        let error = reply.recv().await.unwrap_err();
        match timeout {
            Some(_) => assert!(matches!(error, StreamError::Deadline { sent: false }), "{error}"),
            None => assert!(matches!(error, StreamError::NoSlot), "{error}"),
        }
        let took = begun.elapsed().as_millis();
        assert!(
            (expected..expected + 3).contains(&took),
            "{took} ms, not {expected}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_ending_is_dialed_once_and_then_left_alone() {
    let network = MemoryNetwork::new();
    let identity = Identity::default();
    let handler = Arc::new(Handler(Arc::default()));
    let acceptor = Arc::new(network.bind("a:1").unwrap());
    let listener = Listener::start(acceptor, identity, ListenerConfig::default(), handler).unwrap();
    listener.start_drain(Duration::from_secs(30));
    let pool = pool(&network);
    let target = Target::anyone("a:1");
    assert!(matches!(
        pool.connection(&target).await,
        Err(DialError::Draining { .. })
    ));
    assert!(matches!(pool.status(&target), SlotStatus::Backoff { .. }));
    assert_eq!(network.dials("a:1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_replaced_and_its_calls_learn_it() {
    let network = MemoryNetwork::new();
    listen(&network, "a:1", "one", ConnectionConfig::for_server());
    let pool = pool(&network);
    let target = Target::anyone("a:1");
    let connection = pool.connection(&target).await.unwrap();
    assert_eq!(call(&connection, "echo", vec![1]).await.unwrap(), [1][..]);
    let (_send, mut recv) = connection.open(request("wait", vec![1])).unwrap();
    tokio::time::advance(Duration::from_millis(10)).await;
    network.cut("a:1");
    assert_eq!(recv.recv().await.unwrap_err().outcome(), Outcome::MaybeExecuted);
    assert_eq!(pool.status(&target), SlotStatus::Idle);
    let again = pool.connection(&target).await.unwrap();
    assert_eq!(call(&again, "echo", vec![2]).await.unwrap(), [2][..]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_takes_no_calls_and_drains_its_connections() {
    let network = MemoryNetwork::new();
    listen(&network, "a:1", "one", ConnectionConfig::for_server());
    let pool = pool(&network);
    let target = Target::anyone("a:1");
    let connection = pool.connection(&target).await.unwrap();
    pool.close(Duration::from_secs(5)).await;
    assert!(connection.is_closed());
    assert!(matches!(pool.connection(&target).await, Err(DialError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_target_loses_its_connection_only_when_idle() {
    let network = MemoryNetwork::new();
    let service = listen(&network, "a:1", "one", ConnectionConfig::for_server());
    let pool = pool(&network);
    let target = Target::anyone("a:1");
    let connection = pool.connection(&target).await.unwrap();
    let (_send, mut recv) = connection.open(request("wait", vec![3])).unwrap();
    pool.forget(&target);
    assert!(
        matches!(pool.status(&target), SlotStatus::Connected { .. }),
        "a call is open on it"
    );
    service.gate.notify_one();
    assert_eq!(recv.recv().await.unwrap().unwrap(), [3][..]);
    assert_eq!(recv.recv().await.unwrap(), None);
    drop(connection);
    pool.forget(&target);
    assert_eq!(pool.status(&target), SlotStatus::Idle);
}
