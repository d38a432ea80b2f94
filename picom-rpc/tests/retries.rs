//! Which calls are made again, where, and which never: connections that are refused, lost or ending, instances that are
//! full, and deadlines that span all of it.

use picom_discovery::ServiceName;
use picom_rpc::testing::InMemory;
use picom_rpc::{CallFailure, ClientConfig, Context, Fault, Methods, Outcome, Server, ServerConfig};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

fn who(name: &'static str) -> Methods {
    Methods::new().unary("who", move |_: ()| async move { Ok(name) })
}

fn service() -> ServiceName {
    ServiceName::new("s").unwrap()
}

fn quick_end() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.keep_accepting = Duration::from_millis(10);
    config.drain_timeout = Duration::from_secs(2);
    config
}

#[tokio::test]
async fn a_refused_dial_goes_to_another_host() {
    let memory = InMemory::new();
    memory.serve("s", who("one")).await.unwrap();
    memory.serve("s", who("two")).await.unwrap();
    memory.network().refuse("memory:1");
    for _ in 0..20 {
        let client = memory.client().unwrap();
        assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "two");
    }
}

#[tokio::test]
async fn when_nobody_can_be_reached_the_error_lists_every_attempt() {
    let memory = InMemory::new();
    for name in ["one", "two", "three"] {
        memory.serve("s", who(name)).await.unwrap();
    }
    for port in 1..=3 {
        memory.network().refuse(&format!("memory:{port}"));
    }
    let mut config = ClientConfig::default();
    config.retries = 2;
    let client = memory.client_with(config).unwrap();
    let error = client.fetch::<String>("s", "who", &()).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert_eq!(error.outcome(), Outcome::NeverSent);
    let hosts: BTreeSet<&str> = error.attempts().iter().map(|attempt| attempt.host()).collect();
    assert_eq!(
        hosts,
        BTreeSet::from(["memory:1", "memory:2", "memory:3"]),
        "each on another host"
    );
    let error = client
        .fetch::<String>("s", "who", &())
        .retries(0)
        .await
        .unwrap_err();
    assert_eq!(error.attempts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_costs_no_more_than_the_connect_time() {
    let memory = InMemory::new();
    memory.serve("s", who("one")).await.unwrap();
    memory.serve("s", who("two")).await.unwrap();
    memory.network().silence("memory:1");
    for _ in 0..5 {
        let client = memory.client().unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "two");
        assert!(
            begun.elapsed() < Duration::from_millis(100),
            "the other dial is not waited for"
        );
    }
}

#[tokio::test]
async fn a_call_refused_for_want_of_room_runs_elsewhere() {
    let memory = InMemory::new();
    let gate = Arc::new(Semaphore::new(0));
    let started = Arc::new(Notify::new());
    let (held, begun) = (gate.clone(), started.clone());
    let hold = move |name: &'static str| {
        let (gate, started) = (held.clone(), begun.clone());
        Methods::new().unary("hold", move |wait: bool| {
            let (gate, started) = (gate.clone(), started.clone());
            async move {
                if wait {
                    started.notify_one();
                    gate.acquire().await.map_err(Fault::internal)?.forget();
                }
                Ok(name)
            }
        })
    };
    let mut small = ServerConfig::default();
    small.handlers = 1;
    let full = memory.serve_with("s", hold("small"), small).await.unwrap();
    let first = tokio::spawn({
        let client = memory.client().unwrap();
        async move { client.fetch::<String>("s", "hold", &true).await }
    });
    started.notified().await;
    memory.serve("s", hold("large")).await.unwrap();
    let client = memory.client().unwrap();
    let mut config = ClientConfig::default();
    config.balance = picom_rpc::Balance::RoundRobin;
    let turns = memory.client_with(config).unwrap();
    for _ in 0..20 {
        assert_eq!(
            client.fetch::<String>("s", "hold", &false).await.unwrap(),
            "large"
        );
        assert_eq!(turns.fetch::<String>("s", "hold", &false).await.unwrap(), "large");
    }
    assert!(full.status().calls_refused > 0);
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), "small");
}

#[tokio::test]
async fn a_call_that_is_refused_everywhere_says_so() {
    let memory = InMemory::new();
    let mut none = ServerConfig::default();
    none.handlers = 0;
    memory.serve_with("s", who("one"), none).await.unwrap();
    let client = memory.client().unwrap();
    let error = client.fetch::<String>("s", "who", &()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Refused);
    assert!(error.is_unavailable());
    assert_eq!(
        error.attempts().len(),
        4,
        "three further attempts, with pauses between them"
    );
}

/// Handlers that begin and never end, and count.
fn hanging(runs: &Arc<AtomicUsize>, begun: &Arc<Notify>) -> Methods {
    let (runs, begun) = (runs.clone(), begun.clone());
    Methods::new().unary("work", move |_: ()| {
        let (runs, begun) = (runs.clone(), begun.clone());
        async move {
            runs.fetch_add(1, Ordering::Relaxed);
            begun.notify_one();
            std::future::pending::<()>().await;
            Ok("hung")
        }
    })
}

#[tokio::test]
async fn a_call_that_may_have_run_is_never_run_again_unasked() {
    let memory = InMemory::new();
    let (runs, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    memory.serve("s", hanging(&runs, &begun)).await.unwrap();
    memory.serve("s", hanging(&runs, &begun)).await.unwrap();
    let client = memory.client().unwrap();
    let call = tokio::spawn(async move { client.fetch::<String>("s", "work", &()).await });
    begun.notified().await;
    memory.network().cut("memory:1");
    memory.network().cut("memory:2");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeExecuted);
    assert!(matches!(error.failure(), CallFailure::Stream(_)), "{error}");
    assert_eq!((runs.load(Ordering::Relaxed), error.attempts().len()), (1, 1));
}

#[tokio::test]
async fn an_idempotent_call_runs_again_on_another_host() {
    let memory = InMemory::new();
    let (runs, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    memory.serve("s", hanging(&runs, &begun)).await.unwrap();
    let client = memory.client().unwrap();
    let call = tokio::spawn(async move { client.fetch::<String>("s", "work", &()).idempotent().await });
    begun.notified().await;
    memory
        .serve(
            "s",
            Methods::new().unary("work", |_: ()| async move {
                Ok(Context::current().is_idempotent().to_string())
            }),
        )
        .await
        .unwrap();
    memory.network().refuse("memory:1");
    memory.network().cut("memory:1");
    assert_eq!(call.await.unwrap().unwrap(), "true");
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_repeats_and_tells_those_above() {
    let memory = InMemory::new();
    let (runs, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    memory.serve("s", hanging(&runs, &begun)).await.unwrap();
    let client = memory.client().unwrap();
    let mut spent = 0;
    // Each call is lost again and again until its attempts are used up or the budget (ten a second, the clock stands
    // still here but for the pauses) is.
    for _ in 0..12 {
        let client = client.clone();
        let mut call =
            tokio::spawn(async move { client.fetch::<String>("s", "work", &()).idempotent().await });
        let error = loop {
            tokio::select! {
                ended = &mut call => break ended.unwrap().unwrap_err(),
                () = begun.notified() => memory.network().cut("memory:1"),
            }
        };
        assert_eq!(error.outcome(), Outcome::MaybeExecuted, "{error}");
        spent += usize::from(error.says_do_not_retry());
    }
    assert!(spent > 0, "at some point the budget is spent");
    let made = runs.load(Ordering::Relaxed);
    assert!(made < 12 * 4, "{made} of 48 attempts");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_spans_all_attempts() {
    let memory = InMemory::new();
    memory.serve("s", who("one")).await.unwrap();
    memory.network().silence("memory:1");
    let client = memory.client().unwrap();
    let begun = tokio::time::Instant::now();
    let error = client
        .fetch::<String>("s", "who", &())
        .timeout(Duration::from_millis(1500))
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::NeverSent);
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(1510), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_inherits_what_is_left() {
    let memory = InMemory::new();
    let inner = Methods::new().unary("left", |_: ()| async move {
        Ok(Context::current()
            .deadline_left()
            .map(|left| left.as_millis() as u64))
    });
    memory.serve("inner", inner).await.unwrap();
    let client = memory.client().unwrap();
    let outer = Methods::new().unary("ask", move |how: String| {
        let client = client.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let call = client.fetch::<Option<u64>>("inner", "left", &());
            let call = match how.as_str() {
                "inherit" => call,
                "shorter" => call.timeout(Duration::from_millis(100)),
                "longer" => call.timeout(Duration::from_secs(60)),
                "no timeout" => call.no_timeout(),
                _ => call.detached(),
            };
            Ok(call.await?)
        }
    });
    memory.serve("outer", outer).await.unwrap();
    let client = memory.client().unwrap();
    for (how, low, high) in [
        ("inherit", 590, 600),
        ("shorter", 90, 100),
        ("longer", 590, 600),
        ("no timeout", 590, 600),
        ("detached", 29_990, 30_000),
    ] {
        let left: Option<u64> = client
            .fetch("outer", "ask", how)
            .timeout(Duration::from_secs(1))
            .await
            .unwrap();
        assert!((low..=high).contains(&left.unwrap()), "{how}: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_inherited_deadline_ends_the_nested_call_and_says_so() {
    let memory = InMemory::new();
    let (runs, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    memory.serve("inner", hanging(&runs, &begun)).await.unwrap();
    let client = memory.client().unwrap();
    let outer = Methods::new().unary("ask", move |_: ()| {
        let client = client.clone();
        async move {
            // The caller of this handler stops waiting at the same moment; what it hears is a timeout in any case.
            let inner: String = client.fetch("inner", "work", &()).await?;
            Ok(inner)
        }
    });
    memory.serve("outer", outer).await.unwrap();
    let client = memory.client().unwrap();
    let begun = tokio::time::Instant::now();
    let error = client
        .fetch::<String>("outer", "ask", &())
        .timeout(Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(320));
}

#[tokio::test]
async fn a_rolling_restart_fails_no_call() {
    let memory = InMemory::new();
    let client = memory.client().unwrap();
    let mut running: Vec<Server> = Vec::new();
    for _ in 0..2 {
        running.push(memory.serve_with("s", who("old"), quick_end()).await.unwrap());
    }
    let stop = Arc::new(Notify::new());
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, stop) = (client.clone(), stop.clone());
        callers.spawn(async move {
            let mut stopped = std::pin::pin!(stop.notified());
            let mut calls = 0u64;
            loop {
                tokio::select! {
                    biased;
                    () = &mut stopped => return calls,
                    called = client.fetch::<String>("s", "who", &()) => { called.unwrap(); }
                }
                calls += 1;
                tokio::task::yield_now().await;
            }
        });
    }
    for _ in 0..6 {
        running.push(memory.serve_with("s", who("new"), quick_end()).await.unwrap());
        let report = running.remove(0).end().await;
        assert!(report.is_clean(), "{report}");
    }
    stop.notify_waiters();
    let mut calls = 0;
    while let Some(made) = callers.join_next().await {
        calls += made.unwrap();
    }
    assert!(calls > 100, "{calls}");
}

#[tokio::test]
async fn instances_are_chosen_in_turn_on_request() {
    let memory = InMemory::new();
    for name in ["one", "two", "three"] {
        memory.serve("s", who(name)).await.unwrap();
    }
    let mut config = ClientConfig::default();
    config.balance = picom_rpc::Balance::RoundRobin;
    let client = memory.client_with(config).unwrap();
    while client.status().first().is_none_or(|status| {
        status
            .endpoints
            .iter()
            .filter(|e| e.state == picom_rpc::EndpointState::Ready)
            .count()
            < 3
    }) {
        client.fetch::<String>("s", "who", &()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut seen = Vec::new();
    for _ in 0..9 {
        seen.push(client.fetch::<String>("s", "who", &()).await.unwrap());
    }
    for turn in seen.chunks(3) {
        assert_eq!(turn.iter().collect::<BTreeSet<_>>().len(), 3, "{seen:?}");
    }
}

#[tokio::test]
async fn calls_with_one_key_go_to_one_instance_from_every_client() {
    let memory = InMemory::new();
    for name in ["one", "two", "three", "four"] {
        memory.serve("s", who(name)).await.unwrap();
    }
    let (here, there) = (memory.client().unwrap(), memory.client().unwrap());
    let mut owners = BTreeSet::new();
    for customer in 0..20 {
        let key = format!("customer-{customer}");
        let owner: String = here.fetch("s", "who", &()).key(&key).await.unwrap();
        for _ in 0..3 {
            assert_eq!(
                here.fetch::<String>("s", "who", &()).key(&key).await.unwrap(),
                owner
            );
            assert_eq!(
                there.fetch::<String>("s", "who", &()).key(&key).await.unwrap(),
                owner
            );
        }
        owners.insert(owner);
    }
    assert!(owners.len() > 1, "the keys are spread");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_keeps_failing_is_left_alone() {
    let memory = InMemory::new();
    let mut none = ServerConfig::default();
    none.handlers = 0;
    let bad = memory.serve_with("s", who("bad"), none).await.unwrap();
    memory.serve("s", who("good")).await.unwrap();
    let mut config = ClientConfig::default();
    config.balance = picom_rpc::Balance::RoundRobin;
    let client = memory.client_with(config).unwrap();
    for _ in 0..60 {
        assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "good");
    }
    assert_eq!(
        bad.status().calls_refused,
        5,
        "five in a row, and it is left alone"
    );
    tokio::time::sleep(Duration::from_secs(6)).await;
    for _ in 0..20 {
        assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "good");
    }
    assert_eq!(
        bad.status().calls_refused,
        6,
        "one call finds out whether it is better"
    );
}

#[tokio::test(start_paused = true)]
async fn while_discovery_has_not_answered_calls_wait_within_their_time() {
    let memory = InMemory::new();
    memory.registry().fail_unavailable();
    memory.serve("s", who("one")).await.unwrap();
    let client = memory.client().unwrap();
    let begun = tokio::time::Instant::now();
    let error = client
        .fetch::<String>("s", "who", &())
        .timeout(Duration::from_secs(2))
        .await
        .unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert!(
        matches!(error.failure(), CallFailure::Discovery(Some(_))),
        "{error:?}"
    );
    assert!(error.is_timeout() && error.is_unavailable());
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.fetch::<String>("s", "who", &()).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    memory.registry().recover();
    assert_eq!(waiting.await.unwrap().unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_is_waited_for_on_request_alone() {
    let memory = InMemory::new();
    let client = memory.client().unwrap();
    let begun = tokio::time::Instant::now();
    let error = client.fetch::<String>("s", "who", &()).await.unwrap_err();
    assert!(error.is_unknown_service());
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.fetch::<String>("s", "who", &()).wait_for_ready().await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!waiting.is_finished());
    let server = memory.serve("s", who("one")).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "one");
    // Registered, but nobody can connect: waited for as well.
    server.end().await;
    memory.serve("s", who("two")).await.unwrap();
    memory.network().refuse("memory:2");
    let waiting = tokio::spawn({
        let client = memory.client().unwrap();
        async move {
            client
                .fetch::<String>("s", "who", &())
                .wait_for_ready()
                .no_timeout()
                .await
        }
    });
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!waiting.is_finished());
    memory.network().heal("memory:2");
    assert_eq!(waiting.await.unwrap().unwrap(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_lost_everything_does_not_stop_calls_that_work() {
    let memory = InMemory::new();
    let server = memory.serve("s", who("one")).await.unwrap();
    let client = memory.client().unwrap();
    let mut config = ClientConfig::default();
    config.strict = true;
    let strict = memory.client_with(config).unwrap();
    for client in [&client, &strict] {
        client.fetch::<String>("s", "who", &()).await.unwrap();
    }
    let id = memory.registry().registrations()[0].id().to_owned();
    assert!(memory.registry().remove(&service(), &id));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "one");
    assert!(
        strict
            .fetch::<String>("s", "who", &())
            .await
            .unwrap_err()
            .is_unknown_service()
    );
    memory.registry().beat();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "one");
    assert!(memory.registry().remove(&service(), &id));
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(
        client
            .fetch::<String>("s", "who", &())
            .await
            .unwrap_err()
            .is_unknown_service()
    );
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_does_not_stop_calls() {
    let memory = InMemory::new();
    memory.serve("s", who("one")).await.unwrap();
    let client = memory.client().unwrap();
    client.fetch::<String>("s", "who", &()).await.unwrap();
    memory.registry().fail_unavailable();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "one");
    let status = client.status();
    assert!(
        status[0].discovery_error.is_some() && status[0].known,
        "{status:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_called_any_more_is_not_watched_any_more() {
    let memory = InMemory::new();
    memory.serve("s", who("one")).await.unwrap();
    let client = memory.client().unwrap();
    client.fetch::<String>("s", "who", &()).await.unwrap();
    assert_eq!(client.status().len(), 1);
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert!(client.status().is_empty());
    assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "one");
}

#[tokio::test]
async fn a_process_that_took_over_an_address_is_not_called_for_its_predecessor() {
    let memory = InMemory::new();
    memory.serve("other", who("stranger")).await.unwrap();
    // A stale entry says that an instance of "s" is at the address that "other" has now.
    let stale = picom_discovery::Instance::at(service(), "memory", 1).native(1);
    memory.registry().set(&service(), [stale]);
    let client = memory.client().unwrap();
    let error = client
        .fetch::<String>("s", "who", &())
        .retries(0)
        .await
        .unwrap_err();
    assert!(
        matches!(error.failure(), CallFailure::Unreachable(_)),
        "{error:?}"
    );
    assert_eq!(error.outcome(), Outcome::NeverSent);
    assert!(format!("{error:?}").contains("wrong-peer"), "{error:?}");
    assert_eq!(
        client.fetch::<String>("other", "who", &()).await.unwrap(),
        "stranger"
    );
}

#[tokio::test]
async fn another_process_of_the_same_service_at_a_reused_address_is_told_apart() {
    let memory = InMemory::new();
    memory.serve("s", who("new")).await.unwrap();
    let mut stale = picom_discovery::Instance::at(service(), "memory", 1).native(1);
    stale
        .meta
        .insert(picom_discovery::META_UUID.into(), "the process before".into());
    let fresh = memory.registry().registrations()[0].id().to_owned();
    assert!(memory.registry().remove(&service(), &fresh));
    memory.registry().set(&service(), [stale]);
    let client = memory.client().unwrap();
    let error = client
        .fetch::<String>("s", "who", &())
        .retries(0)
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("wrong-peer"), "{error:?}");
}
