//! How servers and clients end: what is finished, what is cut, and what is said of it.

use picom_rpc::testing::InMemory;
use picom_rpc::{CallFailure, Fault, In, Methods, Out, Outcome, Server, ServerConfig};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Semaphore;

fn config() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.drain_timeout = Duration::from_secs(5);
    config
}

/// Calls that end when the semaphore lets them.
async fn held(memory: &InMemory) -> (Server, Arc<Semaphore>, Arc<Semaphore>) {
    let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let state = (begun.clone(), gate.clone());
    type State = (Arc<Semaphore>, Arc<Semaphore>);
    let methods = Methods::new()
        .with_state(state)
        .unary("hold", |(begun, gate): State, n: u64| async move {
            begun.add_permits(1);
            gate.acquire().await.map_err(Fault::internal)?.forget();
            Ok(n)
        })
        .bidi(
            "echo",
            |(begun, _): State, _: (), mut input: In<u64>, out: Out<u64>| async move {
                begun.add_permits(1);
                while let Some(n) = input.next().await? {
                    out.send(n).await?;
                }
                Ok(())
            },
        );
    (
        memory.serve_with("s", methods, config()).await.unwrap(),
        begun,
        gate,
    )
}

#[tokio::test(start_paused = true)]
async fn end_lets_calls_finish_and_reports_nothing_cut() {
    let memory = InMemory::new();
    let (server, begun, gate) = held(&memory).await;
    let client = memory.client().unwrap();
    let calls: Vec<_> = (0..10u64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.fetch::<u64>("s", "hold", &n).await })
        })
        .collect();
    begun.acquire_many(10).await.unwrap().forget();
    let ending = tokio::spawn({
        let server = server.clone();
        async move { server.end().await }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(
        memory.registry().registrations().is_empty(),
        "it left the registry first"
    );
    assert!(!ending.is_finished(), "it waits for the calls");
    let error = client
        .fetch::<u64>("s", "hold", &0u64)
        .timeout(Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(
        error.outcome() != Outcome::MaybeExecuted,
        "no new call is taken: {error}"
    );
    gate.add_permits(10);
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), n as u64);
    }
    let report = ending.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.connections_finished, report.calls_cut), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_in_time_is_cut_and_counted() {
    let memory = InMemory::new();
    let (server, begun, _gate) = held(&memory).await;
    let client = memory.client().unwrap();
    let calls: Vec<_> = (0..3u64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.fetch::<u64>("s", "hold", &n).await })
        })
        .collect();
    begun.acquire_many(3).await.unwrap().forget();
    let started = tokio::time::Instant::now();
    let report = server.end().await;
    assert_eq!(report.calls_cut, 3, "{report:?}");
    assert!(!report.is_clean());
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::MaybeExecuted, "{error}");
    }
    assert_eq!(server.status().handlers_running, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_are_still_taken_for_a_moment_after_the_registration_is_gone() {
    let memory = InMemory::new();
    let (server, begun, gate) = held(&memory).await;
    let client = memory.client().unwrap();
    gate.add_permits(1);
    client.fetch::<u64>("s", "hold", &1u64).await.unwrap();
    begun.acquire_many(1).await.unwrap().forget();
    let ending = tokio::spawn({
        let server = server.clone();
        async move { server.end().await }
    });
    while !memory.registry().registrations().is_empty() {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    assert_eq!(
        client.fetch::<u64>("s", "hold", &2u64).await.unwrap(),
        2,
        "the watch of others may be late"
    );
    assert!(ending.await.unwrap().is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_open_at_the_end_may_finish() {
    let memory = InMemory::new();
    let (server, begun, _gate) = held(&memory).await;
    let client = memory.client().unwrap();
    let (numbers, mut echoes) = client.stream::<u64, u64>("s", "echo", &()).await.unwrap();
    begun.acquire_many(1).await.unwrap().forget();
    let ending = tokio::spawn({
        let server = server.clone();
        async move { server.end().await }
    });
    for n in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        numbers.send(n).await.unwrap();
        assert_eq!(echoes.next().await.unwrap(), Some(n));
    }
    numbers.finish().unwrap();
    assert_eq!(echoes.next().await.unwrap(), None);
    let report = ending.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn ending_twice_gives_one_report_and_dropping_it_changes_nothing() {
    let memory = InMemory::new();
    let (server, ..) = held(&memory).await;
    let mut dropped = Box::pin(server.end());
    assert!(
        poll_fn(|cx| Poll::Ready(dropped.as_mut().poll(cx)))
            .await
            .is_pending()
    );
    drop(dropped);
    let (one, two) = tokio::join!(server.end(), server.end());
    assert_eq!(one.took, two.took);
    assert!(memory.registry().registrations().is_empty());
    assert_eq!(server.end().await.took, one.took);
    assert!(
        server.status().listener.is_none(),
        "the listening socket is closed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_registry_does_not_keep_the_server_from_ending() {
    let memory = InMemory::new();
    let (server, ..) = held(&memory).await;
    memory.registry().fail_unavailable();
    let report = server.end().await;
    assert!(report.left_registered.is_some() && !report.is_clean());
    assert!(report.to_string().contains("may still be there"), "{report}");
    // What is left behind in the registry does not hold the address.
    memory
        .network()
        .bind("memory:1")
        .expect("the listening socket is closed");
}

#[tokio::test(start_paused = true)]
async fn dropping_every_handle_does_not_end_a_server() {
    let memory = InMemory::new();
    let (server, _begun, gate) = held(&memory).await;
    drop(server);
    gate.add_permits(1);
    let client = memory.client().unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(client.fetch::<u64>("s", "hold", &4u64).await.unwrap(), 4);
    assert_eq!(memory.registry().registrations().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_ends_when_its_calls_have() {
    let memory = InMemory::new();
    let (_server, begun, gate) = held(&memory).await;
    let client = memory.client().unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.fetch::<u64>("s", "hold", &1u64).await }
    });
    begun.acquire_many(1).await.unwrap().forget();
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close(Duration::from_secs(10)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!closing.is_finished());
    let error = client.fetch::<u64>("s", "hold", &1u64).await.unwrap_err();
    assert!(matches!(error.failure(), CallFailure::Ended), "{error}");
    gate.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap(), 1);
    closing.await.unwrap();
    let waiting = memory.client().unwrap();
    let call = tokio::spawn({
        let client = waiting.clone();
        async move {
            client
                .fetch::<u64>("nobody", "hold", &1u64)
                .wait_for_ready()
                .await
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    waiting.close(Duration::ZERO).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error.failure(), CallFailure::Ended), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_drains_is_not_dialed_over_and_over() {
    let memory = InMemory::new();
    let (server, begun, gate) = held(&memory).await;
    // A stale registry goes on listing it.
    let name = picom_discovery::ServiceName::new("s").unwrap();
    let stale = picom_discovery::Instance::at(name.clone(), "memory", 1).native(1);
    let old = memory.client().unwrap();
    let call = tokio::spawn({
        let client = old.clone();
        async move { client.fetch::<u64>("s", "hold", &1u64).await }
    });
    begun.acquire_many(1).await.unwrap().forget();
    let ending = tokio::spawn({
        let server = server.clone();
        async move { server.end().await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    memory.registry().set(&name, [stale]);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let before = memory.network().dials("memory:1");
    let fresh = memory.client().unwrap();
    let error = fresh
        .fetch::<u64>("s", "hold", &1u64)
        .timeout(Duration::from_secs(3))
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::NeverSent, "{error}");
    let dials = memory.network().dials("memory:1") - before;
    assert!(dials < 20, "{dials} dials in three seconds");
    gate.add_permits(1);
    call.await.unwrap().unwrap();
    ending.await.unwrap();
}

#[tokio::test]
async fn an_instance_whose_hello_says_that_it_drains_is_left_in_peace() {
    use picom_transport::{Identity, Listener, ListenerConfig, StreamHandler};
    struct Nobody;
    impl StreamHandler for Nobody {
        fn handle(&self, _: picom_transport::Incoming, _: &mut picom_transport::Turn) {}
    }
    let memory = InMemory::new();
    let acceptor = Arc::new(memory.network().bind("memory:77").unwrap());
    let identity = Identity {
        service: Some("s".into()),
        instance: None,
    };
    let listener = Listener::start(acceptor, identity, ListenerConfig::default(), Arc::new(Nobody)).unwrap();
    listener.start_drain(Duration::from_secs(30));
    let name = picom_discovery::ServiceName::new("s").unwrap();
    let ending = picom_discovery::Instance::at(name.clone(), "memory", 77).native(1);
    memory.registry().set(&name, [ending]);
    let client = memory.client().unwrap();
    let error = client
        .fetch::<u64>("s", "hold", &1u64)
        .timeout(Duration::from_millis(300))
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::NeverSent, "{error}");
    let dials = memory.network().dials("memory:77");
    assert!(dials < 10, "{dials} dials in 0.3 s");
}
