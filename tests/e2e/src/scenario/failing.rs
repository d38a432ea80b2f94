//! Instances that halt or die while they are called, and what they leave behind in Consul.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::history::{Record, failures};
use crate::node::Node;
use crate::patience::within;
use crate::protocol::{Call, Command, Event, Identity, Load, Ran, Settings};
use crate::signal::Signal;
use crate::world::{SHORT_TTL, SOON, World};

/// How long after Consul has changed a caller may still act on what was: its watch is told in milliseconds.
const NEWS: u64 = 250_000;

/// How long after an instance has died a call may still be given to it, in microseconds.
const NOTICED: u64 = 50_000;

/// An instance that stands still gets no call any more once its time to live has passed, and gets calls again when it
/// goes on.
pub async fn a_halted_instance_gets_no_calls_after_its_ttl_and_comes_back(world: &World) {
    let service = world.name("halted");
    let settings = || Settings {
        ttl: Some(2 * SHORT_TTL),
        ..world.settings(&service)
    };
    let (one, two) = (
        world.server_with(settings()).await,
        world.server_with(settings()).await,
    );
    world
        .until_passing(&service, &[&one.instance, &two.instance])
        .await;
    let caller = world.caller().await;
    caller.load(Load::on(&service, 1)).await;
    one.answers(&caller, &service).await;
    two.answers(&caller, &service).await;

    one.node.halt().await;
    world
        .registry()
        .until(&service, SOON, "it fails its check", |seen| {
            !seen.passes(&one.instance)
        })
        .await;
    let failed = news_has_come(&caller).await;
    caller.calls(50).await;
    let still = caller.mark().await;

    one.node.go_on().await;
    world
        .until_passing(&service, &[&one.instance, &two.instance])
        .await;
    one.answers(&caller, &service).await;
    let records = caller.end_load().await;
    world.check(&records);
    let meanwhile = records
        .iter()
        .filter(|record| (failed..still).contains(&record.began));
    let mut seen = 0;
    for record in meanwhile {
        let reply = record
            .result
            .as_ref()
            .unwrap_or_else(|failure| panic!("call {} failed: {failure}", record.id));
        assert_eq!(
            reply.by.instance, two.instance,
            "call {} went to the halted instance",
            record.id
        );
        seen += 1;
    }
    assert!(seen > 20, "{seen} calls are no load");
    for (record, failure) in failures(&records) {
        assert_eq!(failure.outcome, Some(Ran::Maybe), "call {}: {failure}", record.id);
    }
}

/// An instance that answers as ever, and whose check fails or which is in maintenance, gets no call; with no other
/// instance the service is down, and nothing is sent. As soon as all its checks pass it is called again.
pub async fn an_instance_whose_check_fails_gets_no_calls_though_it_answers(world: &World) {
    let service = world.name("unwell");
    // No heartbeat comes between what is done here.
    let settings = || Settings {
        ttl: Some(Duration::from_secs(90)),
        ..world.settings(&service)
    };
    let (one, two) = (
        world.server_with(settings()).await,
        world.server_with(settings()).await,
    );
    let registry = world.registry();
    world
        .until_passing(&service, &[&one.instance, &two.instance])
        .await;
    let caller = world.caller().await;
    caller.load(Load::on(&service, 1)).await;
    let mut spans = Vec::new();
    for by_maintenance in [false, true] {
        one.answers(&caller, &service).await;
        two.answers(&caller, &service).await;
        let set = async |well: bool| match by_maintenance {
            true => registry.set_maintenance(&one.instance, !well).await,
            false => registry.set_check(&one.instance, well).await,
        };
        set(false).await.unwrap();
        world.until_passing(&service, &[&two.instance]).await;
        let from = news_has_come(&caller).await;
        caller.calls(50).await;
        spans.push(from..caller.mark().await);
        set(true).await.unwrap();
        world
            .until_passing(&service, &[&one.instance, &two.instance])
            .await;
        one.answers(&caller, &service).await;
    }
    let records = caller.end_load().await;
    world.check(&records);
    assert!(failures(&records).is_empty(), "{:?}", failures(&records).first());
    for span in &spans {
        let during = || records.iter().filter(|record| span.contains(&record.began));
        assert!(during().count() > 20, "{} calls are no load", during().count());
        let astray =
            during().find(|record| matches!(&record.result, Ok(reply) if reply.by.instance != two.instance));
        assert!(astray.is_none(), "{astray:?} went to an instance that fails");
    }

    registry.set_check(&one.instance, false).await.unwrap();
    registry.set_check(&two.instance, false).await.unwrap();
    world.until_passing(&service, &[]).await;
    let down = async {
        loop {
            match caller.fetch::<Identity>(Call::new(&service, "whoami", ())).await {
                Err(failure) => return failure,
                Ok(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let failure = within(Duration::from_secs(1), "the caller to know", down).await;
    assert!(
        failure.unavailable && failure.outcome == Some(Ran::NeverSent),
        "{failure:?}"
    );
    assert!(failure.text.contains("checks"), "it says why: {failure}");
    registry.set_check(&two.instance, true).await.unwrap();
    two.answers(&caller, &service).await;
}

/// A call at an instance that halts without a word ends in seconds, whatever its deadline: connections are asked for signs
/// of life while calls are open on them.
pub async fn a_call_at_a_halted_instance_ends_long_before_its_deadline(world: &World) {
    let service = world.name("mute");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    let call = Call::new(&service, "hang", "call").within(Duration::from_secs(300));
    let order = caller.order(Command::Fetch(call));
    server.node.event(SOON, Event::Begun("call".into())).await;
    let begun = Instant::now();
    server.node.halt().await;
    let failure = order.answer::<Value>().await.unwrap_err();
    let took = begun.elapsed();
    // A ping every 2 s, a pong within 1 s (DESIGN, defaults), and time for a busy machine.
    assert!(took < Duration::from_secs(5), "it took {took:?}: {failure}");
    assert_eq!(failure.outcome, Some(Ran::Maybe), "{failure}");
    assert!(!failure.timeout, "it was not the deadline: {failure}");
    server.node.go_on().await;
}

/// When an instance is killed, calls fail only if they were on their way to it, and say that they may have run; those that
/// may run twice do not fail at all; calls made 50 ms later all go elsewhere.
pub async fn a_killed_instance_fails_only_what_was_in_flight_on_it(world: &World) {
    let service = world.name("killed");
    let (mut one, two) = (world.server(&service).await, world.server(&service).await);
    world
        .until_passing(&service, &[&one.instance, &two.instance])
        .await;
    let (strict, lenient) = (world.caller().await, world.caller().await);
    strict.load(Load::on(&service, 1)).await;
    lenient.load(Load::on(&service, 1_000_000).idempotent()).await;
    for caller in [&strict, &lenient] {
        one.answers(caller, &service).await;
        two.answers(caller, &service).await;
    }
    strict.calls(50).await;
    // Load on one instance drives calls to the other, so that soon some are at the one that will die.
    let mut orders = Vec::new();
    let at_one = async {
        while one.node.take_all(&Event::Begun("call".into())) == 0 {
            let call = Call::new(&service, "slow", json!({ "name": "call", "ms": 1000 }));
            orders.push(strict.order(Command::Fetch(call)));
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(SOON, "a call at the instance", at_one).await;

    one.node.signal(Signal::Kill);
    one.node.exit(SOON).await;
    let dead = strict.mark().await;
    strict.calls(200).await;
    lenient.calls(200).await;
    let (strict, lenient) = (strict.end_load().await, lenient.end_load().await);

    let mut cut = 0;
    for order in orders {
        match order.answer::<Identity>().await {
            Ok(who) => assert_eq!(who.instance, two.instance),
            Err(failure) => {
                assert_eq!(failure.outcome, Some(Ran::Maybe), "{failure}");
                assert_eq!(failure.host.as_deref(), Some(&*one.listens), "{failure}");
                cut += 1;
            }
        }
    }
    assert!(cut > 0, "a call was at the instance when it died");
    let failed = failures(&lenient);
    assert!(
        failed.is_empty(),
        "an idempotent call failed: {:?}",
        failed.first()
    );
    for (record, failure) in failures(&strict) {
        assert_eq!(failure.outcome, Some(Ran::Maybe), "call {}: {failure}", record.id);
        assert_eq!(
            failure.host.as_deref(),
            Some(&*one.listens),
            "call {}: {failure}",
            record.id
        );
        let late = record.began.saturating_sub(dead);
        assert!(late < NOTICED, "call {} began {late} µs after the end", record.id);
    }
    let later: Vec<&Record> = strict
        .iter()
        .filter(|record| record.began >= dead + NOTICED)
        .collect();
    assert!(later.len() > 20, "{} calls are no load", later.len());
    assert!(
        later
            .iter()
            .all(|record| matches!(&record.result, Ok(reply) if reply.by.instance == two.instance))
    );
    let all: Vec<Record> = strict.into_iter().chain(lenient).collect();
    world.check(&all);
}

/// An entry of a dead instance whose port belongs to another service now: the handshake refuses, no call reaches the
/// stranger, and with a true instance beside it no call fails.
pub async fn a_stale_entry_is_refused_and_the_call_goes_elsewhere(world: &World) {
    let (service, stranger) = (world.name("stale"), world.name("stranger"));
    // Long enough to be stale for the whole scene.
    let lasting = Settings {
        ttl: Some(Duration::from_secs(60)),
        ..world.settings(&service)
    };
    let mut dead = world.server_with(lasting).await;
    dead.node.signal(Signal::Kill);
    dead.node.exit(SOON).await;
    let port = dead
        .listens
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .unwrap();
    let taker = world
        .server_with(Settings {
            port: Some(port),
            ..world.settings(&stranger)
        })
        .await;
    assert_eq!(taker.listens, dead.listens);
    world.until_passing(&service, &[&dead.instance]).await;

    let caller = world.caller().await;
    let failure = caller
        .fetch::<Value>(Call::new(&service, "whoami", ()).within(SOON))
        .await
        .unwrap_err();
    assert!(
        matches!(failure.outcome, Some(Ran::NeverSent | Ran::Refused)),
        "{failure:?}"
    );
    assert!(failure.unavailable, "{failure:?}");

    let true_one = world.server(&service).await;
    world
        .until_passing(&service, &[&dead.instance, &true_one.instance])
        .await;
    let callers = [caller, world.caller().await];
    let mut records = Vec::new();
    for (caller, first) in callers.iter().zip([1, 1_000_000]) {
        true_one.answers(caller, &service).await;
        caller.load(Load::on(&service, first)).await;
        caller.calls(100).await;
        records.extend(caller.end_load().await);
    }
    assert!(
        records
            .iter()
            .all(|record| matches!(&record.result, Ok(reply) if reply.by.instance == true_one.instance)),
        "{:?}",
        failures(&records).first()
    );
    world.check(&records);
    // The service that has the port now is reached under its own name.
    let who: Identity = callers[0]
        .fetch(Call::new(&stranger, "whoami", ()))
        .await
        .unwrap();
    assert_eq!(who.instance, taker.instance);
    world.registry().deregister(&dead.instance).await.unwrap();
}

/// Waits until a caller must have learned what Consul says, and gives that moment of its load's clock.
async fn news_has_come(caller: &Node) -> u64 {
    let moment = caller.mark().await + NEWS;
    while caller.mark().await < moment {
        caller.calls(1).await;
    }
    moment
}
