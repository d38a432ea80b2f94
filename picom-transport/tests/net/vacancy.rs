//! More calls than slots, some of which wait for a slot of any connection and some in the line of one: each gets its turn.

use crate::pool::listen;
use crate::service::{open, request};
use picom_transport::testing::MemoryNetwork;
use picom_transport::{
    Connection, ConnectionConfig, DialError, Outcome, Pool, PoolConfig, RecvHalf, Room, SendHalf, Target,
};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// A service whose connections take `stream_limit` streams, and a pool that makes so many connections.
fn narrow(stream_limit: u32, connections_per_target: usize) -> (MemoryNetwork, Pool, Target) {
    let network = MemoryNetwork::new();
    let service = ConnectionConfig {
        stream_limit,
        ..ConnectionConfig::for_server()
    };
    listen(&network, "a:1", "one", service);
    let config = PoolConfig {
        connections_per_target,
        seed: 1,
        ..PoolConfig::default()
    };
    let pool = Pool::new(network.connector(), config, ConnectionConfig::default()).unwrap();
    (network, pool, Target::anyone("a:1"))
}

/// A stream that takes up a slot.
struct Held(SendHalf, RecvHalf);

impl Held {
    fn on(connection: &Connection) -> Held {
        let (send, recv) = connection.open(open("mirror", vec![1])).unwrap();
        Held(send, recv)
    }

    /// Ends it in order: the peer has let go of it, too.
    async fn end(mut self) {
        self.0.finish().unwrap();
        assert!(self.1.recv().await.unwrap().is_none());
    }
}

/// Waits for a slot, tells its number when it has opened a stream there, and keeps that for a tenth of a second.
fn waiter(pool: &Pool, target: &Target, told: &UnboundedSender<u32>, n: u32) -> JoinHandle<()> {
    let (pool, target, told) = (pool.clone(), target.clone(), told.clone());
    tokio::spawn(async move {
        let connection = pool.connection(&target).await.unwrap();
        let held = Held::on(&connection);
        told.send(n).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        held.end().await;
    })
}

async fn next(order: &mut UnboundedReceiver<u32>) -> u32 {
    soon(order.recv()).await.unwrap()
}

/// Nobody is forgotten.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), what)
        .await
        .expect("nobody comes for it")
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_held_for_who_waits_is_not_taken_by_a_call_that_queues() {
    let (_network, pool, target) = narrow(1, 1);
    let first = pool.connection(&target).await.unwrap();
    let held = Held::on(&first);
    let (told, mut order) = unbounded_channel();
    for n in 0..3 {
        waiter(&pool, &target, &told, n);
    }
    let begun = Instant::now();
    // A task among others: when the slot is free it has its turn before the first of those who wait.
    let queued = tokio::spawn(async move {
        held.end().await;
        assert!(matches!(pool.room(&target), Room::Queue(_)), "the slot is held");
        let mut queued = first.call_queued(request("echo", vec![1]), None).unwrap();
        assert_eq!(first.stats().backlog, 1);
        queued.recv().await
    });
    for n in 0..3 {
        assert_eq!(next(&mut order).await, n);
        assert_eq!(begun.elapsed().as_millis(), u128::from(100 * n));
    }
    // The line of the connection moves when nobody waits who was there before.
    assert_eq!(soon(queued).await.unwrap().unwrap().unwrap(), [1][..]);
    assert_eq!(begun.elapsed().as_millis(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_burst_over_new_connections_is_served_in_the_order_in_which_it_came() {
    let (network, pool, target) = narrow(2, 3);
    let (told, mut order) = unbounded_channel();
    for n in 0..30 {
        waiter(&pool, &target, &told, n);
    }
    let begun = Instant::now();
    for n in 0..30 {
        assert_eq!(next(&mut order).await, n);
        assert_eq!(
            begun.elapsed().as_millis(),
            u128::from(n / 6 * 100),
            "six at a time"
        );
    }
    assert_eq!(network.dials("a:1"), 3);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_with_a_slot_leaves_it_to_the_next() {
    let (_network, pool, target) = narrow(1, 1);
    let first = pool.connection(&target).await.unwrap();
    let held = Held::on(&first);
    let (told, mut order) = unbounded_channel();
    let gone = waiter(&pool, &target, &told, 0);
    waiter(&pool, &target, &told, 1);
    // This one makes no use of what it gets.
    let idle = tokio::spawn({
        let (pool, target) = (pool.clone(), target.clone());
        async move { pool.connection(&target).await.map(drop) }
    });
    waiter(&pool, &target, &told, 2);
    let queued = tokio::spawn(async move {
        held.end().await;
        assert!(
            first.is_contended() && first.free_slots() == 0,
            "it has been called"
        );
        gone.abort();
        first
            .call_queued(request("echo", vec![1]), None)
            .unwrap()
            .recv()
            .await
    });
    for n in 1..3 {
        assert_eq!(next(&mut order).await, n);
    }
    soon(idle).await.unwrap().unwrap();
    assert_eq!(soon(queued).await.unwrap().unwrap().unwrap(), [1][..]);
    assert!(matches!(pool.room(&target), Room::Free(_)), "nobody uses it");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_added_is_no_failure_of_those_who_wait_for_a_slot() {
    let (network, pool, target) = narrow(1, 2);
    let first = pool.connection(&target).await.unwrap();
    let held = Held::on(&first);
    network.refuse("a:1");
    let (told, mut order) = unbounded_channel();
    let waiters: Vec<_> = (0..2).map(|n| waiter(&pool, &target, &told, n)).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(pool.stats().failed_dials, 1);
    assert!(
        matches!(pool.room(&target), Room::Queue(_)),
        "who comes now waits, too"
    );
    held.end().await;
    for n in 0..2 {
        assert_eq!(next(&mut order).await, n);
    }
    for waiter in waiters {
        soon(waiter).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_a_connection_that_could_not_be_added_at_first() {
    let (network, pool, target) = narrow(1, 2);
    let first = pool.connection(&target).await.unwrap();
    let _held_for_hours = Held::on(&first);
    network.refuse("a:1");
    let (told, mut order) = unbounded_channel();
    waiter(&pool, &target, &told, 0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(pool.stats().failed_dials, 1);
    network.heal("a:1");
    let begun = Instant::now();
    assert_eq!(next(&mut order).await, 0);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_is_called_for_a_slot_of_a_connection_that_ends_gets_another() {
    let (network, pool, target) = narrow(1, 1);
    let first = pool.connection(&target).await.unwrap();
    let held = Held::on(&first);
    let (told, mut order) = unbounded_channel();
    for n in 0..2 {
        waiter(&pool, &target, &told, n);
    }
    let begun = Instant::now();
    tokio::spawn(async move {
        held.end().await;
        assert!(
            first.is_contended() && first.free_slots() == 0,
            "it has been called"
        );
        first.close("before it has looked");
    });
    for n in 0..2 {
        assert_eq!(next(&mut order).await, n);
        assert_eq!(begun.elapsed().as_millis(), u128::from(100 * n));
    }
    assert_eq!(network.dials("a:1"), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_first_connection_is_not_forgotten_with_its_target() {
    let (network, pool, target) = narrow(1, 1);
    let (told, mut order) = unbounded_channel();
    for n in 0..2 {
        waiter(&pool, &target, &told, n);
    }
    // A task among others: it has its turn before the dial.
    tokio::spawn({
        let pool = pool.clone();
        async move { pool.forget(&target) }
    });
    let begun = Instant::now();
    for n in 0..2 {
        assert_eq!(next(&mut order).await, n);
        assert_eq!(
            begun.elapsed().as_millis(),
            u128::from(100 * n),
            "one connection, one slot"
        );
    }
    // What was dialed for the target that was forgotten is none of its successor's.
    assert_eq!((network.dials("a:1"), pool.stats().connections), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_that_the_pool_is_closed() {
    let (network, pool, target) = narrow(1, 1);
    network.silence("a:1");
    let waiting = |pool: &Pool, target: &Target| {
        let (pool, target) = (pool.clone(), target.clone());
        tokio::spawn(async move { pool.connection(&target).await.map(drop) })
    };
    let dialing = waiting(&pool, &target);
    tokio::task::yield_now().await;
    let begun = Instant::now();
    pool.close(Duration::ZERO).await;
    assert!(matches!(soon(dialing).await.unwrap(), Err(DialError::Closed)));
    assert_eq!(begun.elapsed(), Duration::ZERO);

    let (_network, pool, target) = narrow(1, 1);
    let first = pool.connection(&target).await.unwrap();
    let _held = Held::on(&first);
    let queueing = waiting(&pool, &target);
    tokio::task::yield_now().await;
    pool.close(Duration::ZERO).await;
    assert!(matches!(soon(queueing).await.unwrap(), Err(DialError::Closed)));
}

/// Callers of both kinds on several threads, some of whom go away: in the end everybody was served and nothing is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_on_several_threads_leaves_nothing_behind() {
    let (_network, pool, target) = narrow(3, 2);
    let callers = (0..60u32).map(|n| {
        let (pool, target) = (pool.clone(), target.clone());
        tokio::spawn(async move {
            for turn in 0..100 {
                one_call(&pool, &target, n + turn).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        soon(caller).await.unwrap();
    }
    soon(async {
        loop {
            match pool.room(&target) {
                Room::Free(connection) if connection.stats().opened_now == 0 => {
                    assert_eq!(
                        (connection.stats().backlog, connection.is_contended()),
                        (0, false)
                    );
                    assert_eq!(connection.free_slots(), 3, "no slot is held for nobody");
                    return;
                }
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
}

async fn one_call(pool: &Pool, target: &Target, n: u32) {
    loop {
        let opened = match pool.room(target) {
            Room::Queue(connection) | Room::Free(connection) if n.is_multiple_of(2) => {
                connection.call_queued(request("echo", vec![7]), None)
            }
            // Goes away while it waits, or with what it was given.
            _ if n.is_multiple_of(5) => {
                let mut waiting = std::pin::pin!(pool.connection(target));
                for _ in 0..2 {
                    let polled = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
                    if polled.is_ready() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                return;
            }
            _ => pool
                .connection(target)
                .await
                .unwrap()
                .call(request("echo", vec![7]), None),
        };
        // Another may have been quicker, and a peer that has not let go of the last stream refuses the next.
        let Ok(mut reply) = opened else { continue };
        match reply.recv().await {
            Ok(reply) => return assert_eq!(reply.unwrap(), [7][..]),
            Err(error) => assert!(
                matches!(error.outcome(), Outcome::Refused | Outcome::NeverSent),
                "{error}"
            ),
        }
    }
}
