//! The API of the original, line by line: each test is named after the line it stands for, and runs the real client
//! against a stand-in for Consul's agent and real connections.

use futures_util::{TryStreamExt, stream};
use picom::dev_agent::{DevAgent, DevAgentConfig};
use picom::{Builder, CallFailure, In, Methods, Out, Outcome, Picom};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

async fn agent() -> DevAgent {
    DevAgent::start(DevAgentConfig::default()).await.unwrap()
}

fn service(name: &str, agent: &DevAgent) -> Builder {
    Picom::builder(name)
        .without_environment()
        .consul_host(agent.addr().ip().to_string())
        .consul_port(agent.addr().port())
        .keep_accepting(Duration::from_millis(50))
        .drain_timeout(Duration::from_secs(5))
}

fn math() -> Methods {
    Methods::new()
        .unary("add", |Add { a, b }: Add| async move { Ok(a + b) })
        .stream("count", |n: u64| async move { Ok(stream::iter((0..n).map(Ok))) })
        .client_stream("sum", |_: (), numbers: In<i64>| async move {
            Ok(numbers.try_fold(0, |sum, n| async move { Ok(sum + n) }).await?)
        })
        .bidi(
            "convert",
            |_: (), mut rows: In<i64>, out: Out<String>| async move {
                while let Some(row) = rows.next().await? {
                    out.send(format!("row {row}")).await?;
                }
                Ok(())
            },
        )
}

/// `new Picom('service1')`
#[tokio::test]
async fn new_picom_with_a_name_alone() {
    let picom = Picom::new("service1").unwrap();
    assert_eq!(picom.name(), "service1");
    assert_eq!(picom.status().discovery, "Consul at 127.0.0.1:8500");
    assert!(picom.status().advertised.is_none());
    assert!(
        picom.end().await.is_clean(),
        "nothing was opened, nothing is left"
    );
}

/// `new Picom('service1', {consulHost, consulPort, ttl, retries, port})`
#[tokio::test]
async fn new_picom_with_consul_host_consul_port_ttl_retries_and_port() {
    let agent = agent().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let service1 = Picom::builder("service1")
        .without_environment()
        .consul_host("127.0.0.1")
        .consul_port(agent.addr().port())
        .ttl(Duration::from_secs(30))
        .retries(3)
        .port(free)
        .keep_accepting(Duration::ZERO)
        .build()
        .unwrap();
    service1.expose(math()).await.unwrap();
    assert_eq!(
        service1.status().advertised.as_deref(),
        Some(format!("127.0.0.1:{free}").as_str())
    );
    service1.end().await;
}

/// The environment stands between the builder and the defaults. Variables of this process are not changed here: other
/// tests read them too. What each of them does is tested beside `Builder`.
#[tokio::test]
async fn picom_from_env() {
    assert_eq!(Picom::from_env("service1").unwrap().name(), "service1");
    assert!(Picom::from_env("").unwrap_err().as_config().is_some());
}

/// `picom.expose({add: function (args, inStream, outStream) {…}, …})`
#[tokio::test]
async fn expose_returns_when_the_service_is_registered_and_accepts() {
    let agent = agent().await;
    let service1 = service("service1", &agent).build().unwrap();
    service1.expose(math()).await.unwrap();
    // No waiting, no retries: it is there.
    let service2 = service("service2", &agent).retries(0).build().unwrap();
    let sum: i64 = service2
        .fetch("service1", "add", &Add { a: 2, b: 5 })
        .await
        .unwrap();
    assert_eq!(sum, 7);
    let status = service1.status();
    assert!(status.registration.unwrap().starts_with("service1-"));
    assert_eq!(status.server.unwrap().handlers_started, 1);
    service2.end().await;
    service1.end().await;
}

/// The original asked Consul for each call; this one watches.
#[tokio::test]
async fn calls_do_not_ask_consul() {
    let agent = agent().await;
    let service1 = service("service1", &agent).build().unwrap();
    service1.expose(math()).await.unwrap();
    let service2 = service("service2", &agent).build().unwrap();
    let add = || service2.fetch::<i64>("service1", "add", &Add { a: 2, b: 5 });
    add().await.unwrap();
    let before = agent.counters().requests;
    for _ in 0..500 {
        assert_eq!(add().await.unwrap(), 7);
    }
    let asked = agent.counters().requests - before;
    assert!(asked < 10, "{asked} requests while 500 calls were made");
    service2.end().await;
    service1.end().await;
}

/// What a registration says, beside name and address.
#[tokio::test]
async fn the_registration_tells_the_protocol_and_the_process() {
    let world = picom::testing::InMemory::new();
    let builder = Picom::builder("service1")
        .in_memory(&world)
        .tag("blue")
        .meta("rack", "7")
        .weight(3);
    let service1 = builder
        .ttl(Duration::from_secs(12))
        .keep_accepting(Duration::ZERO)
        .build()
        .unwrap();
    service1.expose(math()).await.unwrap();
    let registrations = world.registry().registrations();
    let registration = &registrations[0];
    let process = registration.meta()["picom-instance"].clone();
    assert_eq!(registration.meta()["picom"], "1");
    assert_eq!(registration.id(), format!("service1-{process}"));
    assert_eq!(
        (registration.meta()["rack"].as_str(), registration.tags()),
        ("7", &["blue".to_owned()][..])
    );
    assert_eq!(
        (registration.weight(), registration.ttl()),
        (3, Duration::from_secs(12))
    );
    assert_eq!(service1.status().registration.as_deref(), Some(registration.id()));
    service1.end().await;
    assert!(world.registry().registrations().is_empty());
}

/// `picom.stream({service, cmd}, args, stream)`
#[tokio::test]
async fn stream_gives_a_sender_and_a_receiver() {
    let agent = agent().await;
    let service1 = service("service1", &agent).build().unwrap();
    service1.expose(math()).await.unwrap();
    let service2 = service("service2", &agent).build().unwrap();

    let (rows, mut converted) = service2
        .stream::<i64, String>("service1", "convert", &())
        .await
        .unwrap();
    for row in 0..3 {
        rows.send(row).await.unwrap();
        assert_eq!(converted.next().await.unwrap().unwrap(), format!("row {row}"));
    }
    rows.finish().unwrap();
    assert_eq!(
        converted.next().await.unwrap(),
        None,
        "the end of the input ends the handler, and that the reply"
    );

    // Without input, and with a stream given as input.
    let count = service2
        .stream::<(), u64>("service1", "count", &4u64)
        .receive()
        .await
        .unwrap();
    assert_eq!(count.try_collect::<Vec<_>>().await.unwrap(), [0, 1, 2, 3]);
    let converted = service2
        .stream::<(), String>("service1", "convert", &())
        .input(stream::iter([7i64]))
        .await
        .unwrap();
    assert_eq!(converted.try_collect::<Vec<_>>().await.unwrap(), ["row 7"]);

    // Each half dropped: a sender without finish never looks complete, a receiver stops the sender.
    let (rows, mut converted) = service2
        .stream::<i64, String>("service1", "convert", &())
        .await
        .unwrap();
    rows.send(1).await.unwrap();
    drop(rows);
    let ended = loop {
        match converted.next().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(ended.is_err());
    let (rows, converted) = service2
        .stream::<i64, String>("service1", "convert", &())
        .await
        .unwrap();
    drop(converted);
    let refused = async { while rows.send(1).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), refused)
        .await
        .expect("the sender hears that nobody listens");

    service2.end().await;
    service1.end().await;
}

/// `picom.fetch({service, cmd}, args)`
#[tokio::test]
async fn fetch_waits_for_the_end_and_gives_the_first_item() {
    let agent = agent().await;
    let service1 = service("service1", &agent).build().unwrap();
    let methods = math().stream("breaks", |_: ()| async move {
        Ok(stream::iter([
            Ok(1u64),
            Err(picom::Fault::internal("behind the first item")),
        ]))
    });
    service1.expose(methods).await.unwrap();
    let service2 = service("service2", &agent).build().unwrap();
    assert_eq!(
        service2
            .fetch::<i64>("service1", "add", &Add { a: 2, b: 5 })
            .await
            .unwrap(),
        7
    );
    assert_eq!(
        service2.fetch::<u64>("service1", "count", &9u64).await.unwrap(),
        0
    );
    let error = service2
        .fetch::<u64>("service1", "breaks", &())
        .await
        .unwrap_err();
    assert_eq!(error.fault().unwrap().text(), "behind the first item");
    assert_eq!(error.outcome(), Outcome::Executed);
    service2.end().await;
    service1.end().await;
}

/// `picom.fetch({service, cmd, multiple: true}, args)`
#[tokio::test]
async fn fetch_all_is_fetch_multiple() {
    let agent = agent().await;
    let service1 = service("service1", &agent).build().unwrap();
    service1.expose(math()).await.unwrap();
    let service2 = service("service2", &agent).build().unwrap();
    let all: Vec<u64> = service2.fetch_all("service1", "count", &5u64).await.unwrap();
    assert_eq!(all, [0, 1, 2, 3, 4]);
    let none: Vec<u64> = service2.fetch_all("service1", "count", &0u64).await.unwrap();
    assert!(none.is_empty());
    service2.end().await;
    service1.end().await;
}

/// `picom.fetch(…)` of a method that sends nothing
#[tokio::test]
async fn fetch_opt_is_none_when_nothing_was_sent() {
    let agent = agent().await;
    let service1 = service("service1", &agent).build().unwrap();
    service1.expose(math()).await.unwrap();
    let service2 = service("service2", &agent).build().unwrap();
    assert_eq!(
        service2
            .fetch_opt::<u64>("service1", "count", &0u64)
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        service2
            .fetch_opt::<u64>("service1", "count", &2u64)
            .await
            .unwrap(),
        Some(0)
    );
    let error = service2
        .fetch::<u64>("service1", "count", &0u64)
        .await
        .unwrap_err();
    assert!(matches!(error.as_call().unwrap().failure(), CallFailure::NoValue));
    service2.end().await;
    service1.end().await;
}

/// `picom.fetch({service, cmd}, args, stream)`
#[tokio::test]
async fn fetch_takes_a_stream_as_input() {
    let agent = agent().await;
    let service1 = service("service1", &agent).build().unwrap();
    service1.expose(math()).await.unwrap();
    let service2 = service("service2", &agent).build().unwrap();
    let sum: i64 = service2
        .fetch("service1", "sum", &())
        .input(stream::iter(1..=100i64))
        .await
        .unwrap();
    assert_eq!(sum, 5050);
    // The input of a call that finds nobody is never touched.
    let touched = stream::poll_fn(|_| -> std::task::Poll<Option<i64>> { panic!("the input was polled") });
    let error = service2
        .fetch::<i64>("nobody", "sum", &())
        .input(touched)
        .await
        .unwrap_err();
    assert!(error.is_unknown_service());
    service2.end().await;
    service1.end().await;
}

/// The original fails a call of a service without instances with "service is down".
#[tokio::test]
async fn a_service_without_instances_is_down() {
    let agent = agent().await;
    let service2 = service("service2", &agent).build().unwrap();
    let begun = Instant::now();
    let error = service2
        .fetch::<i64>("service1", "add", &Add { a: 2, b: 5 })
        .await
        .unwrap_err();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "at once: {:?}",
        begun.elapsed()
    );
    assert!(error.is_unknown_service() && error.is_unavailable());
    assert_eq!(error.outcome(), Outcome::NeverSent);
    assert!(
        error.to_string().contains("\"service1\"") && error.to_string().contains("service is down"),
        "{error}"
    );
    service2.end().await;
}

/// `picom.end()`
#[tokio::test]
async fn end_leaves_consul_lets_calls_finish_and_reports() {
    let agent = agent().await;
    let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let state = (begun.clone(), gate.clone());
    let methods = Methods::new().with_state(state).unary(
        "hold",
        |(begun, gate): (Arc<Semaphore>, Arc<Semaphore>), n: u64| async move {
            begun.add_permits(1);
            gate.acquire().await.map_err(picom::Fault::internal)?.forget();
            Ok(n)
        },
    );
    let service1 = service("service1", &agent).build().unwrap();
    service1.expose(methods).await.unwrap();
    let service2 = service("service2", &agent).build().unwrap();
    let call = tokio::spawn({
        let service2 = service2.clone();
        async move { service2.fetch::<u64>("service1", "hold", &4u64).await }
    });
    begun.acquire().await.unwrap().forget();
    let ending = tokio::spawn({
        let service1 = service1.clone();
        async move { service1.end().await }
    });
    // It leaves Consul while the call still runs.
    let observer = service("observer", &agent).build().unwrap();
    let gone = async {
        loop {
            match observer
                .fetch::<u64>("service1", "hold", &0u64)
                .timeout(Duration::from_millis(200))
                .retries(0)
                .await
            {
                Err(error) if error.is_unknown_service() => break,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("it left Consul");
    assert!(!ending.is_finished() || call.is_finished());
    gate.add_permits(10);
    assert_eq!(call.await.unwrap().unwrap(), 4);
    let report = ending.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(
        service1.end().await.took,
        report.took,
        "a second end gives the same report"
    );
    observer.end().await;
    service2.end().await;
}

/// `picom.end()` is bounded, and says what it cut.
#[tokio::test]
async fn end_is_bounded_and_says_what_it_cut() {
    let agent = agent().await;
    let started = Arc::new(Semaphore::new(0));
    let begun = started.clone();
    let methods = Methods::new().unary("hang", move |_: ()| {
        let begun = begun.clone();
        async move {
            begun.add_permits(1);
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let service1 = service("service1", &agent)
        .drain_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    service1.expose(methods).await.unwrap();
    let service2 = service("service2", &agent).build().unwrap();
    let call = tokio::spawn({
        let service2 = service2.clone();
        async move { service2.fetch::<()>("service1", "hang", &()).await }
    });
    started.acquire().await.unwrap().forget();
    let report = service1.end().await;
    assert_eq!((report.calls_cut, report.connections_cut), (1, 1), "{report:?}");
    assert!(report.took < Duration::from_secs(5), "{report}");
    assert_eq!(call.await.unwrap().unwrap_err().outcome(), Outcome::MaybeExecuted);
    service2.end().await;
}
