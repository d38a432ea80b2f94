//! Mistakes of users and of their machines: every error names the value, and nothing is left behind.

use picom::dev_agent::{DevAgent, DevAgentConfig};
use picom::testing::InMemory;
use picom::{Builder, ConfigError, ExposeError, Methods, MethodsError, Picom};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::time::Instant;

fn methods() -> Methods {
    Methods::new().unary("double", |n: i64| async move { Ok(2 * n) })
}

fn service(name: &str, agent: &DevAgent) -> Builder {
    Picom::builder(name)
        .without_environment()
        .consul_host(agent.addr().ip().to_string())
        .consul_port(agent.addr().port())
        .keep_accepting(Duration::from_millis(20))
}

async fn agent() -> DevAgent {
    DevAgent::start(DevAgentConfig::default()).await.unwrap()
}

#[tokio::test]
async fn two_exposes_are_refused_and_the_first_goes_on() {
    let world = InMemory::new();
    let picom = Picom::builder("s").in_memory(&world).build().unwrap();
    picom.expose(methods()).await.unwrap();
    let error = picom.expose(methods()).await.unwrap_err();
    let Some(ExposeError::Twice { service, address }) = error.as_expose() else {
        panic!("{error}")
    };
    assert_eq!((service.as_str(), address.as_str()), ("s", "memory:1"));
    assert!(
        error.to_string().contains("\"s\"") && error.to_string().contains("memory:1"),
        "{error}"
    );
    assert_eq!(picom.fetch::<i64>("s", "double", &21).await.unwrap(), 42);
    let (one, two) = (Picom::builder("t").in_memory(&world).build().unwrap(), methods());
    let (first, second) = tokio::join!(one.expose(two), one.expose(methods()));
    assert!(first.is_ok() != second.is_ok(), "also at the same time");
}

#[tokio::test]
async fn duplicate_and_empty_method_names_are_named() {
    let world = InMemory::new();
    let picom = Picom::builder("s").in_memory(&world).build().unwrap();
    let error = picom
        .expose(methods().unary("double", |n: i64| async move { Ok(n) }))
        .await
        .unwrap_err();
    let Some(ExposeError::Methods {
        error: MethodsError::Duplicate { name },
        ..
    }) = error.as_expose()
    else {
        panic!("{error}")
    };
    assert_eq!(name, "double");
    assert!(
        error.to_string().contains("\"double\" is defined twice"),
        "{error}"
    );
    let error = picom
        .expose(Methods::new().unary("", |n: i64| async move { Ok(n) }))
        .await
        .unwrap_err();
    assert!(
        format!("{error:?}").contains("\"\" cannot be the name of a method"),
        "{error:?}"
    );
    assert!(world.registry().registrations().is_empty());
    picom.expose(methods()).await.expect("a mistake can be mended");
}

#[tokio::test]
async fn names_and_times_to_live_that_cannot_be_are_named() {
    let error = Picom::new("").unwrap_err();
    assert!(
        matches!(error.as_config(), Some(ConfigError::Name { name, .. }) if name.is_empty()),
        "{error}"
    );
    let error = Picom::builder("s")
        .ttl(Duration::from_millis(500))
        .build()
        .unwrap_err();
    assert!(matches!(error.as_config(), Some(ConfigError::Registration(_))));
    assert!(error.to_string().contains("500ms"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let agent = agent().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let picom = service("s", &agent).port(address.port()).build().unwrap();
    let error = picom.expose(methods()).await.unwrap_err();
    let Some(ExposeError::Bind {
        address: named,
        error: io,
        ..
    }) = error.as_expose()
    else {
        panic!("{error}")
    };
    assert_eq!(*named, address.to_string());
    assert_eq!(io.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    drop(taken);
    picom.expose(methods()).await.expect("it can be tried again");
    assert_eq!(picom.fetch::<i64>("s", "double", &4).await.unwrap(), 8);
    picom.end().await;
}

#[tokio::test]
async fn without_consul_expose_fails_clearly_and_leaves_nothing() {
    // A port where nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let picom = Picom::builder("s")
        .without_environment()
        .consul_port(port)
        .build()
        .unwrap();
    let begun = Instant::now();
    let error = picom.expose(methods()).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(
        matches!(error.as_expose(), Some(ExposeError::Register { .. })),
        "{error:?}"
    );
    assert!(
        format!("{error:?}").contains(&format!("127.0.0.1:{port}")),
        "{error:?}"
    );
    assert!(picom.status().advertised.is_none());
    assert!(picom.end().await.is_clean());
}

#[tokio::test]
async fn without_consul_a_call_says_whom_it_waits_for() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let picom = Picom::builder("s")
        .without_environment()
        .consul_port(port)
        .build()
        .unwrap();
    let error = picom
        .fetch::<i64>("other", "double", &1)
        .timeout(Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(error.is_timeout() && error.is_unavailable());
    assert!(
        format!("{error:?}").contains(&format!("127.0.0.1:{port}")),
        "{error:?}"
    );
    picom.end().await;
}

#[tokio::test]
async fn keep_trying_serves_before_consul_is_there_and_registers_when_it_is() {
    let world = InMemory::new();
    world.registry().fail_unavailable();
    let patient = Picom::builder("s")
        .in_memory(&world)
        .keep_trying()
        .build()
        .unwrap();
    patient.expose(methods()).await.unwrap();
    let hasty = Picom::builder("t").in_memory(&world).build().unwrap();
    let error = hasty.expose(methods()).await.unwrap_err();
    assert!(
        matches!(error.as_expose(), Some(ExposeError::Register { .. })),
        "{error:?}"
    );
    world.registry().recover();
    assert_eq!(hasty.fetch::<i64>("s", "double", &3).await.unwrap(), 6);
    assert_eq!(world.registry().registrations().len(), 1);
}

#[tokio::test]
async fn end_before_expose_is_safe_and_final() {
    let agent = agent().await;
    let picom = service("s", &agent).build().unwrap();
    assert!(picom.end().await.is_clean());
    let error = picom.expose(methods()).await.unwrap_err();
    assert!(
        matches!(error.as_expose(), Some(ExposeError::Ended { service }) if service == "s"),
        "{error}"
    );
    let error = picom.fetch::<i64>("s", "double", &1).await.unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
    assert!(picom.end().await.is_clean());
}

#[tokio::test]
async fn what_was_exposed_and_has_ended_is_not_exposed_any_more() {
    let world = InMemory::new();
    let picom = Picom::builder("s").in_memory(&world).build().unwrap();
    picom.expose(methods()).await.unwrap();
    assert!(picom.status().to_string().contains("exposed at"));
    assert!(picom.end().await.is_clean());
    let status = picom.status();
    assert!(status.advertised.is_none() && status.server.is_none(), "{status}");
    let error = picom.expose(methods()).await.unwrap_err();
    assert!(
        matches!(error.as_expose(), Some(ExposeError::Ended { service }) if service == "s"),
        "{error}"
    );
}

#[tokio::test]
async fn end_during_expose_leaves_nothing_in_consul() {
    let agent = agent().await;
    for pause in [0, 1, 2, 3, 5, 8, 13, 21] {
        let picom = service("s", &agent).build().unwrap();
        let exposing = tokio::spawn({
            let picom = picom.clone();
            async move { picom.expose(methods()).await }
        });
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let report = picom.end().await;
        assert!(report.is_clean(), "{report:?}");
        if let Err(error) = exposing.await.unwrap() {
            assert!(
                matches!(error.as_expose(), Some(ExposeError::Ended { .. })),
                "{error:?}"
            );
        }
        let observer = service("observer", &agent).build().unwrap();
        let error = observer.fetch::<i64>("s", "double", &1).await.unwrap_err();
        assert!(error.is_unknown_service(), "{error:?}");
        observer.end().await;
    }
}

#[tokio::test]
async fn a_dropped_expose_goes_on_and_is_taken_back_by_end() {
    let agent = agent().await;
    let picom = service("s", &agent).build().unwrap();
    let dropped = tokio::time::timeout(Duration::ZERO, picom.expose(methods())).await;
    assert!(dropped.is_err());
    let observer = service("observer", &agent).build().unwrap();
    let answer: i64 = observer.fetch("s", "double", &5).wait_for_ready().await.unwrap();
    assert_eq!(answer, 10);
    assert!(picom.end().await.is_clean());
    observer.end().await;
    let late = service("late", &agent).build().unwrap();
    assert!(
        late.fetch::<i64>("s", "double", &5)
            .await
            .unwrap_err()
            .is_unknown_service()
    );
    late.end().await;
}

#[tokio::test]
async fn dropping_every_handle_does_not_end_what_is_exposed() {
    let agent = agent().await;
    let picom = service("s", &agent).build().unwrap();
    picom.expose(methods()).await.unwrap();
    drop(picom);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let observer = service("observer", &agent).build().unwrap();
    assert_eq!(observer.fetch::<i64>("s", "double", &8).await.unwrap(), 16);
    observer.end().await;
}

#[tokio::test]
async fn handlers_may_capture_their_own_service_and_call_others() {
    let agent = agent().await;
    let front = service("front", &agent).build().unwrap();
    let back = service("back", &agent).build().unwrap();
    back.expose(methods()).await.unwrap();
    let within = front.clone();
    let relay = Methods::new()
        .unary("twice", move |n: i64| {
            let within = within.clone();
            async move {
                let once: i64 = within.fetch("back", "double", &n).await?;
                let twice: i64 = within.fetch("back", "double", &once).await?;
                Ok(twice)
            }
        })
        .unary("fails", {
            let within = front.clone();
            move |_: ()| {
                let within = within.clone();
                async move { Ok(within.fetch::<i64>("back", "missing", &()).await?) }
            }
        });
    front.expose(relay).await.unwrap();
    let app = service("app", &agent).build().unwrap();
    assert_eq!(app.fetch::<i64>("front", "twice", &3).await.unwrap(), 12);
    let error = app.fetch::<i64>("front", "fails", &()).await.unwrap_err();
    assert!(!error.is_unknown_method(), "that was between the two others");
    assert!(error.fault().unwrap().text().contains("\"missing\""), "{error}");
    for picom in [app, front, back] {
        picom.end().await;
    }
}

#[tokio::test]
async fn the_advertised_address_can_differ_from_the_one_listened_on() {
    let agent = agent().await;
    let probe = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let picom = service("s", &agent)
        .bind(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .port(probe)
        .advertise(format!("localhost:{probe}"))
        .build()
        .unwrap();
    picom.expose(methods()).await.unwrap();
    let status = picom.status();
    assert_eq!(status.advertised.unwrap(), format!("localhost:{probe}"));
    assert_eq!(status.server.unwrap().address, format!("127.0.0.1:{probe}"));
    assert_eq!(picom.fetch::<i64>("s", "double", &2).await.unwrap(), 4);
    picom.end().await;
}

#[tokio::test]
async fn processes_that_share_the_dev_agent_find_each_other() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let one = Picom::builder("one")
        .without_environment()
        .dev_on(port)
        .keep_accepting(Duration::ZERO)
        .build()
        .unwrap();
    let two = Picom::builder("two")
        .without_environment()
        .dev_on(port)
        .build()
        .unwrap();
    // The first to ask becomes the agent, also by a mere call.
    let error = two
        .fetch::<i64>("one", "double", &4)
        .timeout(Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(error.is_unknown_service(), "{error:?}");
    one.expose(methods()).await.unwrap();
    assert_eq!(
        two.fetch::<i64>("one", "double", &4)
            .wait_for_ready()
            .await
            .unwrap(),
        8
    );
    two.end().await;
    assert!(one.end().await.is_clean());
}
