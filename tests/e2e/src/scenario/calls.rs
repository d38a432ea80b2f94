//! Calls with one value each way, between processes: values, errors, deadlines.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::protocol::{Call, Event, Failure, Identity, Load, Ran};
use crate::world::{SOON, World};

/// PROTOCOL §10.
const UNKNOWN_METHOD: u16 = 5;
const BAD_ARGUMENT: u16 = 7;
const APPLICATION: u16 = 8;
const INTERNAL: u16 = 9;
const PANIC: u16 = 10;

/// Values of every kind go to another process and come back as they were, up to sizes that travel in parts.
pub async fn values_arrive_as_they_were_sent(world: &World) {
    let service = world.name("values");
    let _server = world.server(&service).await;
    let caller = world.caller().await;
    let sum: i64 = caller
        .fetch(Call::new(&service, "add", json!({ "a": 2, "b": 5 })))
        .await
        .unwrap();
    assert_eq!(sum, 7);
    let values = [
        json!(null),
        json!(true),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.1),
        json!(""),
        json!("tab\tnul\0 \u{1F980} e\u{301}"),
        json!([]),
        json!({}),
        json!({ "": [1, [2, [3, { "deep": null }]]], "k".repeat(300): "v" }),
        // The sizes of gRPC's interoperability test, large enough to be cut into parts.
        json!("x".repeat(271_828)),
        json!("y".repeat(314_159)),
        // Nearly as many nodes as a message may have.
        json!(vec![7; 262_000]),
    ];
    for value in values {
        let back: Value = caller.fetch(Call::new(&service, "echo", &value)).await.unwrap();
        assert!(
            back == value,
            "{:.80} came back as {:.80}",
            value.to_string(),
            back.to_string()
        );
    }
}

/// A typed error arrives as the type it was; others as what they say.
pub async fn errors_arrive_as_what_they_are(world: &World) {
    let service = world.name("errors");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    let fail = |method: &str, args: Value| {
        let call = Call::new(&service, method, args);
        async { caller.fetch::<Value>(call).await.unwrap_err() }
    };

    let typed = fail("fail", json!(3)).await;
    assert_eq!(
        (typed.code, typed.left, typed.outcome),
        (Some(APPLICATION), Some(3), Some(Ran::Yes))
    );
    assert!(typed.text.contains("only 3 left"), "{typed}");

    let plain = fail("fail_plainly", json!("the disk is full")).await;
    assert_eq!(
        (plain.code, plain.left, plain.outcome),
        (Some(INTERNAL), None, Some(Ran::Yes))
    );
    assert!(plain.text.contains("the disk is full"), "{plain}");

    let wrong = fail("add", json!("no numbers")).await;
    assert_eq!(wrong.code, Some(BAD_ARGUMENT), "{wrong}");
    assert_ne!(wrong.outcome, Some(Ran::Maybe), "{wrong}");

    assert!(
        [&typed, &plain]
            .iter()
            .all(|failure| failure.host.as_deref() == Some(&*server.listens))
    );
    let sum: i64 = caller
        .fetch(Call::new(&service, "add", json!({ "a": 1, "b": 1 })))
        .await
        .unwrap();
    assert_eq!(sum, 2, "the connection has taken no harm");
}

/// A handler that panics fails its own call and nothing else: not its process, not the calls beside it.
pub async fn a_panic_costs_its_own_call_only(world: &World) {
    let service = world.name("panics");
    let _server = world.server(&service).await;
    let caller = world.caller().await;
    let before: Identity = caller.fetch(Call::new(&service, "whoami", ())).await.unwrap();
    caller.load(Load::on(&service, 1)).await;
    for round in 0..20 {
        let call = Call::new(&service, "panic", format!("round {round}"));
        let failure = caller.fetch::<Value>(call).await.unwrap_err();
        assert_eq!(
            (failure.code, failure.outcome),
            (Some(PANIC), Some(Ran::Yes)),
            "{failure}"
        );
    }
    let records = caller.end_load().await;
    assert!(
        records.iter().all(|record| record.result.is_ok()),
        "a call beside a panic failed"
    );
    world.check(&records);
    let after: Identity = caller.fetch(Call::new(&service, "whoami", ())).await.unwrap();
    assert_eq!(before, after, "the process lives");
}

/// A service nobody offers and a method it does not have are two errors that say which is which, at once.
pub async fn an_unknown_method_and_an_unknown_service_are_told_apart(world: &World) {
    let service = world.name("known");
    let nobody = world.name("nobody");
    let _server = world.server(&service).await;
    let caller = world.caller().await;

    let method = caller
        .fetch::<Value>(Call::new(&service, "divide", ()))
        .await
        .unwrap_err();
    assert_eq!(method.code, Some(UNKNOWN_METHOD), "{method}");
    assert!(
        method.text.contains("divide") && method.text.contains(&service),
        "{method}"
    );
    assert!(
        !method.unavailable && method.outcome != Some(Ran::Maybe),
        "{method}"
    );

    let begun = Instant::now();
    let service = caller
        .fetch::<Value>(Call::new(&nobody, "add", ()))
        .await
        .unwrap_err();
    assert!(begun.elapsed() < SOON, "it was known at once");
    assert_eq!(
        (service.code, service.outcome),
        (None, Some(Ran::NeverSent)),
        "{service}"
    );
    assert!(service.unavailable && service.text.contains(&nobody), "{service}");
}

/// A caller that waits for readiness gets its answer as soon as there is a service.
pub async fn a_call_can_wait_for_its_service(world: &World) {
    let service = world.name("late");
    let caller = world.caller().await;
    let call = Call::new(&service, "add", json!({ "a": 20, "b": 22 }))
        .wait_for_ready()
        .within(SOON);
    let order = caller.order(crate::protocol::Command::Fetch(call));
    let _server = world.server(&service).await;
    assert_eq!(order.answer::<i64>().await, Ok(42));
}

/// A call ends when its time is over, and the handler at the other process is dropped.
pub async fn a_deadline_ends_the_call_and_its_handler(world: &World) {
    let service = world.name("deadline");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    // The connection stands, so that the time measured is the call's own.
    let _: Identity = caller.fetch(Call::new(&service, "whoami", ())).await.unwrap();

    let limit = Duration::from_millis(200);
    let begun = Instant::now();
    let call = Call::new(&service, "hang", "the call").within(limit);
    let failure = caller.fetch::<Value>(call).await.unwrap_err();
    let took = begun.elapsed();
    assert!(failure.timeout, "{failure}");
    assert!(
        matches!(failure.outcome, Some(Ran::Maybe | Ran::Yes)),
        "it was begun: {failure:?}"
    );
    assert!(
        took >= limit && took < limit + SOON / 5,
        "a limit of {limit:?} took {took:?}"
    );
    server.node.event(SOON, Event::Begun("the call".into())).await;
    server.node.event(SOON, Event::Dropped("the call".into())).await;
}

/// What a handler calls on inherits the time its own caller has left, through a process that names no time.
pub async fn a_nested_call_inherits_the_deadline(world: &World) {
    let (near, far) = (world.name("near"), world.name("far"));
    let _near = world.server(&near).await;
    let far_server = world.server(&far).await;
    let caller = world.caller().await;

    let ask = Call::new(
        &near,
        "relay",
        json!({ "service": far, "method": "time_left", "args": null }),
    );
    let left: Option<u64> = caller.fetch(ask.within(Duration::from_secs(5))).await.unwrap();
    let left = left.expect("the far handler has a deadline");
    assert!((1..=5000).contains(&left), "{left} ms are left of 5000");

    let hang = Call::new(
        &near,
        "relay",
        json!({ "service": far, "method": "hang", "args": "far away" }),
    );
    let failure = caller
        .fetch::<Value>(hang.within(Duration::from_millis(400)))
        .await
        .unwrap_err();
    assert!(failure.timeout, "{failure}");
    far_server.node.event(SOON, Event::Begun("far away".into())).await;
    far_server
        .node
        .event(SOON, Event::Dropped("far away".into()))
        .await;
}

/// Thousands of calls over shared connections: every one ran once, and every reply went to its call; both instances
/// had their share.
pub async fn every_call_runs_once_and_gets_its_own_reply(world: &World) {
    let service = world.name("many");
    let servers = [world.server(&service).await, world.server(&service).await];
    let ids: Vec<&str> = servers.iter().map(|server| &*server.instance).collect();
    world.until_passing(&service, &ids).await;
    let callers = [world.caller().await, world.caller().await];
    for (caller, first) in callers.iter().zip([1, 1_000_000]) {
        let busy = Load {
            callers: 32,
            work: Duration::ZERO,
            rest: Duration::ZERO,
            ..Load::on(&service, first)
        };
        caller.load(busy).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut records = Vec::new();
    for caller in &callers {
        records.extend(caller.end_load().await);
    }
    world.check(&records);
    let failures: Vec<&Failure> = records
        .iter()
        .filter_map(|record| record.result.as_ref().err())
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} failed: {:?}",
        failures.len(),
        records.len(),
        failures.first()
    );
    assert!(
        records.len() > 500,
        "{} calls in a second are no load",
        records.len()
    );
    let by: BTreeSet<&str> = records
        .iter()
        .filter_map(|record| record.result.as_ref().ok())
        .map(|reply| &*reply.by.instance)
        .collect();
    assert_eq!(by, ids.into_iter().collect(), "both took calls");
}
