//! Getting into Consul, staying there, and getting out.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::node::Node;
use crate::protocol::{Call, Command, Identity, Report, Settings};
use crate::world::{SHORT_TTL, SOON, STEADY_TTL, World};

/// What is exposed stands in Consul with the address it listens on, what it speaks, and a TTL check that passes; and it
/// answers there.
pub async fn an_exposed_service_is_in_consul_with_a_passing_ttl_check(world: &World) {
    let service = world.name("visible");
    let server = world.server(&service).await;
    // No waiting: exposing returns when the registration is confirmed.
    let seen = world.registry().look(&service).await.unwrap();
    assert_eq!(seen.passing(), [server.instance.as_str()]);
    let entry = seen.entry(&server.instance).unwrap();
    assert_eq!(entry.authority(), server.listens);
    assert_eq!(
        entry.meta.get("picom").map(String::as_str),
        Some("1"),
        "PROTOCOL §2.2: {:?}",
        entry.meta
    );
    let [check] = &entry.checks[..] else {
        panic!("one check, not {:?}", entry.checks)
    };
    assert_eq!((check.status.as_str(), check.kind.as_str()), ("passing", "ttl"));
    let registration = world
        .registry()
        .registration(&server.instance)
        .await
        .unwrap()
        .expect("the agent has it");
    assert_eq!(registration["Service"], json!(service));

    let caller = world.caller().await;
    let who: Identity = caller.fetch(Call::new(&service, "whoami", ())).await.unwrap();
    assert_eq!(
        who,
        Identity {
            instance: server.instance.clone(),
            pid: server.node.pid()
        }
    );
}

/// Over many heartbeats the instance passes without a gap, and a watcher is not woken once.
pub async fn heartbeats_keep_an_instance_passing_and_wake_nobody(world: &World) {
    let service = world.name("steady");
    let _server = world
        .server_with(Settings {
            ttl: Some(SHORT_TTL),
            ..world.settings(&service)
        })
        .await;
    let seen = world.registry().look(&service).await.unwrap();
    // Consul writes what the first heartbeat said of the check within a moment.
    tokio::time::sleep(SHORT_TTL / 4).await;
    let settled = world.registry().look(&service).await.unwrap();
    assert_eq!(seen.passing(), settled.passing());
    let begun = Instant::now();
    let later = world
        .registry()
        .look_after(&service, settled.index, 4 * SHORT_TTL)
        .await
        .unwrap();
    assert!(
        begun.elapsed() >= 4 * SHORT_TTL,
        "a watcher was woken after {:?}: {later:#?}",
        begun.elapsed()
    );
    assert_eq!(later, settled);
}

/// The time to live in Consul is the one that was set: an instance that stops its heartbeats passes no longer and no
/// shorter.
pub async fn the_ttl_in_consul_is_the_one_that_was_set(world: &World) {
    let service = world.name("ttl");
    let ttl = Duration::from_secs(2);
    let server = world
        .server_with(Settings {
            ttl: Some(ttl),
            ..world.settings(&service)
        })
        .await;
    let halted = Instant::now();
    server.node.halt().await;
    world
        .registry()
        .until(&service, SOON, "its check has failed", |seen| {
            seen.passing().is_empty()
        })
        .await;
    let took = halted.elapsed();
    // The last heartbeat was up to a third of the time to live ago, and a tenth more of that third.
    let least = ttl - ttl * 11 / 30;
    assert!(
        took >= least && took < ttl + Duration::from_secs(1),
        "a TTL of {ttl:?} ran out after {took:?}"
    );
    server.node.go_on().await;
}

/// A service whose every thread is busy for most of its time to live goes on passing: heartbeats have a thread of their
/// own. Without it the last heartbeat, a quarter of that time old when the threads stop, would run out meanwhile.
pub async fn a_blocked_runtime_keeps_its_heartbeats(world: &World) {
    let service = world.name("blocked");
    let ttl = SHORT_TTL;
    let server = world
        .server_with(Settings {
            ttl: Some(ttl),
            ..world.settings(&service)
        })
        .await;
    tokio::time::sleep(ttl / 4).await;
    let settled = world.registry().look(&service).await.unwrap();
    let block = ttl * 9 / 10;
    let order = server.node.order(Command::Block(block.as_millis() as u64));
    let later = world
        .registry()
        .look_after(&service, settled.index, block)
        .await
        .unwrap();
    assert_eq!(
        later.entries, settled.entries,
        "the check of a busy service changed"
    );
    order.answer::<Value>().await.unwrap();
}

/// A service that does nothing else for many times its time to live is taken out, as it answers nobody; and it is back as
/// soon as it is.
pub async fn a_runtime_that_stays_blocked_is_taken_out_and_comes_back(world: &World) {
    let service = world.name("stuck");
    let settings = Settings {
        ttl: Some(SHORT_TTL),
        ..world.settings(&service)
    };
    let server = world.server_with(settings).await;
    let order = server
        .node
        .order(Command::Block((6 * SHORT_TTL).as_millis() as u64));
    world
        .registry()
        .until(&service, 6 * SHORT_TTL, "it is taken out", |seen| {
            seen.passing().is_empty()
        })
        .await;
    order.answer::<Value>().await.unwrap();
    world.until_passing(&service, &[&server.instance]).await;
}

/// Nothing stays in Consul when `end` comes before, while, or after the methods are exposed.
pub async fn end_leaves_nothing_before_during_and_after_expose(world: &World) {
    let before = world.name("before");
    let node = world.start(world.settings(&before)).await.unwrap();
    let report = node.end().await.unwrap();
    assert_eq!(report, Report::default());
    let late = node.expose().await.expect_err("what has ended exposes nothing");
    assert!(!late.text.is_empty());
    world.until_gone(&before).await;

    let during = world.name("during");
    // The end comes at another moment of exposing each time.
    for delay in [0, 1, 2, 4, 8, 16] {
        let settings = Settings {
            keep_accepting: Some(Duration::ZERO),
            ..world.settings(&during)
        };
        let node = world.start(settings).await.unwrap();
        let exposing = node.order(Command::Expose);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        node.end().await.unwrap();
        // It may have been done first, or have been refused; both are right if nothing stays.
        let _ = exposing.answer::<Value>().await;
        world.until_gone(&during).await;
    }

    let after = world.name("after");
    let server = world.server(&after).await;
    world.until_passing(&after, &[&server.instance]).await;
    let report = server.node.end().await.unwrap();
    assert_eq!(report, Report::default());
    world.until_gone(&after).await;
    assert_eq!(
        server.node.end().await.unwrap(),
        report,
        "a second end is the same end"
    );
}

/// A port that somebody else has is named in the error, and nothing is registered.
pub async fn a_taken_port_is_named_and_nothing_is_registered(world: &World) {
    let service = world.name("taken");
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = held.local_addr().unwrap().port();
    let node = world
        .start(Settings {
            port: Some(port),
            ..world.settings(&service)
        })
        .await
        .unwrap();
    let failure = node.expose().await.unwrap_err();
    assert!(failure.text.contains(&format!(":{port}")), "{failure}");
    world.until_gone(&service).await;
    drop(held);
    let standing = node.expose().await.expect("the port is free now");
    assert!(standing.listens.unwrap().ends_with(&format!(":{port}")));
}

/// What the environment says is used where the program says nothing.
pub async fn the_environment_says_where_consul_is(world: &World) {
    let service = world.name("environment");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let environment = [
        ("CONSUL_HTTP_ADDR", format!("http://{}", world.agent.address())),
        ("PICOM_PORT", free.to_string()),
        ("PICOM_TTL", format!("{}s", STEADY_TTL.as_secs())),
    ];
    let settings = Settings {
        service: service.clone(),
        ..Settings::default()
    };
    let node = Node::start(world.program(), &environment, settings)
        .await
        .unwrap();
    let standing = node.expose().await.unwrap();
    let seen = world
        .until_passing(&service, &[&standing.instance.unwrap()])
        .await;
    assert_eq!(seen.entries[0].port, free);
}

/// What cannot work is refused with the value that is wrong, and leaves nothing in Consul.
pub async fn what_cannot_work_is_refused_by_its_value(world: &World) {
    let service = world.name("refused");
    let nameless = world.start(world.settings("")).await.unwrap_err();
    assert!(nameless.text.contains("\"\""), "{nameless}");
    let hasty = Settings {
        ttl: Some(Duration::from_millis(999)),
        ..world.settings(&service)
    };
    let hasty = world.start(hasty).await.unwrap_err();
    assert!(hasty.text.contains("999ms"), "{hasty}");
    world.until_gone(&service).await;

    let server = world.server(&service).await;
    let twice = server.node.expose().await.unwrap_err();
    assert!(
        twice.text.contains(&server.listens) && twice.text.contains(&service),
        "{twice}"
    );
    world.until_passing(&service, &[&server.instance]).await;
}
