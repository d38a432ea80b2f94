//! Instances that come and go under load, on several threads, over TCP and the real Consul client: no call fails.

use picom::dev_agent::{DevAgent, DevAgentConfig};
use picom::{Builder, Methods, Outcome, Picom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

fn service(name: &str, agent: &DevAgent) -> Builder {
    Picom::builder(name)
        .without_environment()
        .consul_host(agent.addr().ip().to_string())
        .consul_port(agent.addr().port())
        .keep_accepting(Duration::from_millis(100))
        .drain_timeout(Duration::from_secs(5))
}

async fn instance(agent: &DevAgent, runs: &Arc<AtomicU64>) -> Picom {
    let runs = runs.clone();
    let picom = service("work", agent).build().unwrap();
    let methods = Methods::new().unary("work", move |n: u64| {
        let runs = runs.clone();
        async move {
            runs.fetch_add(1, Ordering::Relaxed);
            if n.is_multiple_of(3) {
                tokio::time::sleep(Duration::from_millis(n % 10)).await;
            }
            Ok(n)
        }
    });
    picom.expose(methods).await.unwrap();
    picom
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_fails_no_call_and_runs_none_twice() {
    let agent = DevAgent::start(DevAgentConfig::default()).await.unwrap();
    let runs = Arc::new(AtomicU64::new(0));
    let mut running = vec![instance(&agent, &runs).await, instance(&agent, &runs).await];
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..2u64 {
        let app = service("app", &agent).build().unwrap();
        for task in 0..8u64 {
            let (app, stop) = (app.clone(), stop.clone());
            callers.spawn(async move {
                let (mut n, mut calls) = (caller * 1_000_000 + task * 10_000, 0u64);
                while !stop.load(Ordering::Relaxed) {
                    let answer: u64 = app.fetch("work", "work", &n).await.unwrap();
                    assert_eq!(answer, n, "the reply of this call");
                    (n, calls) = (n + 1, calls + 1);
                }
                calls
            });
        }
    }
    for _ in 0..4 {
        running.push(instance(&agent, &runs).await);
        let report = running.remove(0).end().await;
        assert!(report.is_clean(), "{report:?}");
    }
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    while let Some(made) = callers.join_next().await {
        calls += made.unwrap();
    }
    assert!(calls > 200, "{calls}");
    assert_eq!(runs.load(Ordering::Relaxed), calls, "each call ran once");
    for picom in running {
        picom.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_dropped_at_any_point_leave_nothing_behind() {
    let agent = DevAgent::start(DevAgentConfig::default()).await.unwrap();
    let runs = Arc::new(AtomicU64::new(0));
    let work = instance(&agent, &runs).await;
    let app = service("app", &agent).build().unwrap();
    let mut callers = JoinSet::new();
    for task in 0..4u64 {
        let app = app.clone();
        callers.spawn(async move {
            for n in 0..500u64 {
                let call = app.fetch::<u64>("work", "work", &n);
                let patience = Duration::from_micros((n * 37 + task * 11) % 900);
                match tokio::time::timeout(patience, call).await {
                    Ok(Ok(answer)) => assert_eq!(answer, n),
                    Ok(Err(error)) => assert_ne!(error.outcome(), Outcome::Executed, "{error}"),
                    Err(_) => {}
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let settled = async {
        while work
            .status()
            .server
            .is_none_or(|server| server.handlers_running > 0)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), settled)
        .await
        .expect("every handler is gone");
    let in_flight: u32 = app.status().calls[0]
        .endpoints
        .iter()
        .map(|endpoint| endpoint.in_flight)
        .sum();
    assert_eq!(in_flight, 0);
    assert_eq!(app.fetch::<u64>("work", "work", &7u64).await.unwrap(), 7);
    app.end().await;
    assert!(work.end().await.is_clean());
}
