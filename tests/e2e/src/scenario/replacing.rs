//! Instances that are ended in order and replaced while they are called: nobody notices.

use std::time::Duration;

use crate::history::failures;
use crate::protocol::{Event, Load, Report, Settings};
use crate::signal::Signal;
use crate::world::{SOON, World};

/// Longer than an ending service goes on accepting (1 s by default), so that there are calls only a drain can save.
const LONG: Duration = Duration::from_millis(1500);

/// Two instances are ended by SIGTERM and replaced, one after the other and again and again, under load; not one call
/// fails, though nothing may run twice and nobody has configured anything.
pub async fn a_rolling_restart_fails_no_call(world: &World) {
    let rounds = if world.is_real() { 5 } else { 2 };
    restart(world, rounds, |service| world.settings(service)).await;
}

/// The same with instances that take no call from the moment they are told to end: those on their way to them run
/// elsewhere, as it is known which were begun.
pub async fn a_rolling_restart_without_a_pause_fails_no_call(world: &World) {
    let hasty = |service: &str| Settings {
        keep_accepting: Some(Duration::ZERO),
        ..world.settings(service)
    };
    restart(world, 2, hasty).await;
}

async fn restart(world: &World, rounds: usize, settings: impl Fn(&str) -> Settings) {
    let service = world.name("rolling");
    let mut servers = Vec::new();
    for _ in 0..2 {
        servers.push(world.server_until_signal(settings(&service)).await);
    }
    world
        .until_passing(&service, &[&servers[0].instance, &servers[1].instance])
        .await;
    let callers = [world.caller().await, world.caller().await, world.caller().await];
    let loads = [
        Load::on(&service, 1),
        Load::on(&service, 1_000_000),
        Load {
            work: LONG,
            ..Load::on(&service, 2_000_000)
        },
    ];
    for (caller, load) in callers.iter().zip(loads) {
        caller.load(load).await;
        caller.calls(20).await;
    }
    for _ in 0..rounds {
        for at in 0..2 {
            let old = &mut servers[at];
            old.node.signal(Signal::Terminate);
            let ended = old
                .node
                .event_like(SOON, "the end", |event| matches!(event, Event::Ended(_)))
                .await;
            assert_eq!(ended, Event::Ended(Report::default()), "nothing was cut or left");
            assert!(old.node.exit(SOON).await.success());
            servers[at] = world.server_until_signal(settings(&service)).await;
            world
                .until_passing(&service, &[&servers[0].instance, &servers[1].instance])
                .await;
            servers[at].answers(&callers[0], &service).await;
        }
    }
    let mut records = Vec::new();
    for caller in &callers {
        records.extend(caller.end_load().await);
    }
    world.check(&records);
    let failed = failures(&records);
    assert!(
        failed.is_empty(),
        "{} of {} calls failed: {:?}",
        failed.len(),
        records.len(),
        failed.first()
    );
    assert!(
        records.len() > 200 * rounds,
        "{} calls are no load",
        records.len()
    );
}
