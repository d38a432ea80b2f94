//! What takes long does not run on the task that drives a connection.

use picom_codec::Blob;
use picom_rpc::Methods;
use picom_rpc::testing::InMemory;
use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Answers with the task that it runs on, having taken so many microseconds of a thread.
fn methods() -> Methods {
    let task = |micros: u64| async move {
        std::thread::sleep(Duration::from_micros(micros));
        Ok(tokio::task::id().to_string())
    };
    Methods::new()
        .unary("slow", task)
        .unary("other", task)
        .unary(
            "weigh",
            |_: Blob| async move { Ok(tokio::task::id().to_string()) },
        )
}

#[tokio::test]
async fn a_method_that_was_slow_gets_a_task_for_each_call() {
    let world = InMemory::new();
    world.serve("svc", methods()).await.unwrap();
    let client = world.client().unwrap();
    let first: String = client.fetch("svc", "slow", &500u64).await.unwrap();
    let mut tasks = BTreeSet::from([first]);
    for n in 2..=20 {
        let task: String = client.fetch("svc", "slow", &500u64).await.unwrap();
        tasks.insert(task);
        assert_eq!(tasks.len(), n, "each has one of its own");
    }
    // What one method takes says nothing of another.
    let quick = async || -> String { client.fetch("svc", "other", &0u64).await.unwrap() };
    let mut quick_tasks = BTreeSet::new();
    for _ in 0..100 {
        quick_tasks.insert(quick().await);
    }
    // One, unless the machine itself held a handler up.
    assert!(quick_tasks.len() < 100, "{}", quick_tasks.len());
}

#[tokio::test]
async fn large_args_are_read_and_dropped_on_a_task_of_their_own() {
    let world = InMemory::new();
    world.serve("svc", methods()).await.unwrap();
    let client = world.client().unwrap();
    let large = Blob(vec![7; 2 * 1024 * 1024].into());
    let mut tasks = BTreeSet::new();
    for n in 1..=5 {
        let task: String = client.fetch("svc", "weigh", &large).await.unwrap();
        tasks.insert(task);
        assert_eq!(tasks.len(), n);
    }
}

/// The thread is taken for longer than the second call has time; it stood behind, and does not begin when it is free.
#[tokio::test]
async fn a_call_whose_time_passes_in_the_queue_does_not_begin() {
    let begun = Arc::new(AtomicU32::new(0));
    let counted = begun.clone();
    let methods = Methods::new().unary("block", move |millis: u64| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            std::thread::sleep(Duration::from_millis(millis));
            Ok(())
        }
    });
    let world = InMemory::new();
    let server = world.serve("svc", methods).await.unwrap();
    let client = world.client().unwrap();
    // From here on its calls get tasks.
    let slow: () = client.fetch("svc", "block", &5u64).await.unwrap();
    let long = client.fetch::<()>("svc", "block", &200u64).into_future();
    let late = client.fetch::<()>("svc", "block", &0u64);
    let late = late.timeout(Duration::from_millis(50)).into_future();
    let (long, late) = tokio::join!(long, late);
    assert_eq!((slow, long.is_ok()), ((), true));
    assert!(late.unwrap_err().is_timeout());
    assert_eq!(begun.load(Ordering::Relaxed), 2, "the late one has not begun");
    drop(server);
}
