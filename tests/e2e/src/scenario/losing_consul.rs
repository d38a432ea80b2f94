//! The registry is away, hangs, or has forgotten everything: services that know each other go on, and come back.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use tokio::time::Instant;

use crate::history;
use crate::protocol::{Call, Command, Identity, Load, Ran, Settings};
use crate::world::{SHORT_TTL, SOON, STEADY_TTL, World};

/// An agent that was killed and knows nothing any more gets its services back within a heartbeat and a second, and calls
/// go on all the time.
pub async fn services_come_back_to_an_agent_that_forgot_them(world: &World) {
    let service = world.name("forgotten");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    caller.load(Load::on(&service, 1)).await;
    caller.calls(50).await;
    world.agent.restart().await;
    let begun = Instant::now();
    world.until_passing(&service, &[&server.instance]).await;
    let took = begun.elapsed();
    // Half a second is for a machine that does other things.
    let limit = STEADY_TTL / 3 + Duration::from_millis(1500);
    assert!(took <= limit, "registered again after {took:?}");
    caller.calls(50).await;
    // Who watched the old agent sees what comes to the new one.
    let second = world.server(&service).await;
    second.answers(&caller, &service).await;
    let records = caller.end_load().await;
    no_failures(&records);
    world.check(&records);
    drop(second);
    let fresh = world.caller().await;
    server.answers(&fresh, &service).await;
}

/// While there is no agent, calls between services that know each other go on, for longer than the time to live; and
/// everything is as before when it is back.
pub async fn an_agent_that_is_gone_does_not_stop_calls(world: &World) {
    let service = world.name("gone");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    caller.load(Load::on(&service, 1)).await;
    caller.calls(20).await;
    world.agent.kill().await;
    // Nothing tells of what must not happen: this is the time it would have.
    tokio::time::sleep(STEADY_TTL + Duration::from_millis(500)).await;
    caller.calls(20).await;
    world.agent.start().await;
    world.until_passing(&service, &[&server.instance]).await;
    caller.calls(20).await;
    let records = caller.end_load().await;
    no_failures(&records);
    world.check(&records);
}

/// An agent that takes requests and answers none does not stop calls either, and does not hold up an end for long.
pub async fn an_agent_that_hangs_does_not_stop_calls(world: &World) {
    let service = world.name("hangs");
    // Consul lets a check fail when it wakes and finds the time to live passed: this one is not, as in production.
    let patient = |service: &str| Settings {
        ttl: Some(Duration::from_secs(30)),
        ..world.settings(service)
    };
    let server = world.server_with(patient(&service)).await;
    let other = world.server_with(patient(&world.name("hangs-other"))).await;
    let caller = world.caller().await;
    caller.load(Load::on(&service, 1)).await;
    caller.calls(20).await;
    world.agent.halt().await;
    caller.calls(200).await;
    let begun = Instant::now();
    let report = other.node.end().await.unwrap();
    let took = begun.elapsed();
    assert!(
        report.left_registered,
        "nobody can have confirmed that it is gone"
    );
    assert!(took < SOON, "it ended after {took:?}");
    caller.calls(20).await;
    world.agent.go_on().await;
    world.until_passing(&service, &[&server.instance]).await;
    caller.calls(20).await;
    let records = caller.end_load().await;
    no_failures(&records);
    world.check(&records);
}

/// After an agent has hung for longer than the time to live, its services pass again by themselves; a call that meets
/// the moment in between is told that it was not sent.
pub async fn an_agent_that_hung_for_long_takes_its_services_back(world: &World) {
    let service = world.name("hung");
    let settings = Settings {
        ttl: Some(SHORT_TTL),
        ..world.settings(&service)
    };
    let server = world.server_with(settings).await;
    let caller = world.caller().await;
    caller.load(Load::on(&service, 1)).await;
    caller.calls(20).await;
    world.agent.halt().await;
    // Nothing tells of time that passes.
    tokio::time::sleep(2 * SHORT_TTL).await;
    world.agent.go_on().await;
    world.until_passing(&service, &[&server.instance]).await;
    server.answers(&caller, &service).await;
    let records = caller.end_load().await;
    for (record, failure) in history::failures(&records) {
        assert_eq!(
            failure.outcome,
            Some(Ran::NeverSent),
            "call {}: {failure}",
            record.id
        );
        assert!(failure.unavailable, "call {}: {failure}", record.id);
    }
    world.check(&records);
}

/// Who starts without a Consul is told so at once, with its address.
pub async fn a_consul_that_is_down_at_start_is_a_clear_error(world: &World) {
    let service = world.name("no-consul");
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let settings = Settings {
        consul: Some(nobody.to_string()),
        ..world.settings(&service)
    };
    let node = world.start(settings).await.unwrap();
    let begun = Instant::now();
    let failure = node.expose().await.unwrap_err();
    assert!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
    assert!(failure.text.contains(&nobody.to_string()), "{failure}");
    assert_eq!(
        node.status().await.unwrap().handling,
        0,
        "the process lives and can try again"
    );

    let failure = node
        .fetch::<Identity>(Call::new(&service, "whoami", ()).within(SOON / 10))
        .await
        .unwrap_err();
    assert!(failure.unavailable || failure.timeout, "{failure}");
    assert!(failure.text.contains(&nobody.to_string()), "{failure}");
}

/// Who is told to keep trying serves without a Consul, and is in it as soon as there is one.
pub async fn a_service_that_keeps_trying_is_registered_when_consul_comes(world: &World) {
    let service = world.name("keeps-trying");
    world.agent.kill().await;
    let server = world
        .server_with(Settings {
            keep_trying: true,
            ..world.settings(&service)
        })
        .await;
    let caller = world.caller().await;
    let waits = caller.order(Command::Fetch(
        Call::new(&service, "whoami", ())
            .wait_for_ready()
            .within(4 * SOON),
    ));
    world.agent.start().await;
    world.until_passing(&service, &[&server.instance]).await;
    assert_eq!(
        waits.answer::<Identity>().await.unwrap().instance,
        server.instance
    );
}

fn no_failures(records: &[history::Record]) {
    let failures = history::failures(records);
    assert!(
        failures.is_empty(),
        "{} of {} calls failed: {:?}",
        failures.len(),
        records.len(),
        failures.first()
    );
}
