//! Which calls are made again, where, and which never: connections that are refused, lost or ending, instances that are
//! full, and deadlines that span all of it.

use futures_util::{TryStreamExt, stream};
use picom_rpc::testing::InMemory;
use picom_rpc::{CallFailure, ClientConfig, Context, Fault, In, Methods, Outcome, Server, ServerConfig};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

fn who(name: &'static str) -> Methods {
    Methods::new().unary("who", move |_: ()| async move { Ok(name) })
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
async fn a_refused_call_takes_its_input_along() {
    let memory = InMemory::new();
    let sum = || {
        Methods::new().client_stream("sum", |_: (), numbers: In<u64>| async move {
            Ok(numbers.try_fold(0, |sum, n| async move { Ok(sum + n) }).await?)
        })
    };
    let mut none = ServerConfig::default();
    none.handlers = 0;
    let full = memory.serve_with("s", sum(), none).await.unwrap();
    memory.serve("s", sum()).await.unwrap();
    let mut config = ClientConfig::default();
    config.balance = picom_rpc::Balance::RoundRobin;
    let client = memory.client_with(config).unwrap();
    for _ in 0..10 {
        let total: u64 = client
            .fetch("s", "sum", &())
            .input(stream::iter(1..=100u64))
            .await
            .unwrap();
        assert_eq!(total, 5050, "every number once");
    }
    assert!(full.status().calls_refused > 0);
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
