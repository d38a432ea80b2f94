//! Everything at once: instances killed, halted and replaced, and an agent that loses its state, under loads whose whole
//! history is held against what ran.

use std::time::Duration;

use crate::history::{Record, failures};
use crate::protocol::{Load, Ran};
use crate::signal::Signal;
use crate::world::{SOON, Server, World};

/// Long enough for connections to be given up (a ping every 2 s, a pong within 1 s), so that a halted instance wakes to
/// callers that have left.
const HALT: Duration = Duration::from_secs(4);

/// However instances and the agent come and go: no call runs twice, none is answered without having run, none runs after
/// its caller was told that it did not, no reply goes astray; the only failures are of calls that were at an instance
/// that died or fell silent, and they say so; calls that may run twice do not fail.
pub async fn nothing_is_lost_repeated_or_mixed_up_in_a_storm(world: &World) {
    let rounds = if world.is_real() { 4 } else { 1 };
    let service = world.name("storm");
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(world.server_until_signal(world.settings(&service)).await);
    }
    all_pass(world, &service, &servers).await;
    let (strict, lenient) = (world.caller().await, world.caller().await);
    strict.load(Load::on(&service, 1)).await;
    lenient.load(Load::on(&service, 1_000_000).idempotent()).await;
    let both = async |more| {
        strict.calls(more).await;
        lenient.calls(more).await;
    };
    for _ in 0..rounds {
        both(100).await;
        servers[0].node.signal(Signal::Kill);
        servers[0].node.exit(SOON).await;
        servers[0] = world.server_until_signal(world.settings(&service)).await;
        servers[0].answers(&strict, &service).await;

        both(100).await;
        world.agent.restart().await;
        all_pass(world, &service, &servers).await;

        both(100).await;
        servers[1].node.halt().await;
        tokio::time::sleep(HALT).await;
        servers[1].node.go_on().await;
        all_pass(world, &service, &servers).await;
        servers[1].answers(&strict, &service).await;

        both(100).await;
        servers[2].node.signal(Signal::Terminate);
        assert!(servers[2].node.exit(SOON).await.success());
        servers[2] = world.server_until_signal(world.settings(&service)).await;
        servers[2].answers(&strict, &service).await;
        servers.rotate_left(1);
    }
    both(100).await;
    let (strict, lenient) = (strict.end_load().await, lenient.end_load().await);
    for (record, failure) in failures(&strict) {
        assert_eq!(failure.outcome, Some(Ran::Maybe), "call {}: {failure}", record.id);
    }
    assert_eq!(
        failures(&lenient).len(),
        0,
        "an idempotent call failed: {:?}",
        failures(&lenient).first()
    );
    let all: Vec<Record> = strict.into_iter().chain(lenient).collect();
    world.check(&all);
}

/// Whatever was there before may still fail its check; those that live all pass.
async fn all_pass(world: &World, service: &str, servers: &[Server]) {
    let is_so = |seen: &crate::registry::Sighting| servers.iter().all(|server| seen.passes(&server.instance));
    world
        .registry()
        .until(service, SOON, "those that live pass", is_so)
        .await;
}
