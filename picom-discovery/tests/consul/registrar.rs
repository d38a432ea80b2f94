//! Registrations against a scripted agent on a virtual clock: what is asked, when, and what is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::scripted::{Exchange, Script, name};
use picom_discovery::consul::{Consul, Token};
use picom_discovery::{
    AliveProbe, Discovery, DiscoveryError, EndError, Lease, LeaseState, OnUnavailable, Phase, RegisterError,
    Registration,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const REGISTER: &str = "PUT /v1/agent/service/register";
const PASS: &str = "PUT /v1/agent/check/pass/service%3Asvc-1";
const FAIL: &str = "PUT /v1/agent/check/fail/service%3Asvc-1";
const LOOK: &str = "GET /v1/agent/service/svc-1";
const DEREGISTER: &str = "PUT /v1/agent/service/deregister/svc-1";

fn registration() -> Registration {
    Registration::new(name("svc"), "10.0.0.1", 9000)
        .and_then(|one| one.with_id("svc-1"))
        .and_then(|one| one.with_meta("picom-instance", "u"))
        .unwrap()
}

fn register(consul: &Consul, how: OnUnavailable) -> JoinHandle<Result<Lease, RegisterError>> {
    register_this(consul, registration(), how)
}

fn register_this(
    consul: &Consul,
    registration: Registration,
    how: OnUnavailable,
) -> JoinHandle<Result<Lease, RegisterError>> {
    let consul = consul.clone();
    tokio::spawn(async move { consul.register(registration, how).await })
}

impl Script {
    /// The next request, which must be this.
    async fn expect(&mut self, what: &str) -> Exchange {
        let exchange = self.next().await;
        assert_eq!(exchange.what(), what);
        exchange
    }

    /// A lease that passes.
    async fn passing(&mut self, consul: &Consul) -> Lease {
        let lease = register(consul, OnUnavailable::Fail);
        self.expect(REGISTER).await.done();
        self.expect(PASS).await.done();
        let lease = lease.await.unwrap().unwrap();
        assert!(matches!(lease.state(), LeaseState::Passing));
        lease
    }

    /// Nothing more comes, for a long time.
    async fn is_silent(&mut self) {
        let more = self.next_within(3600 * SECOND).await;
        assert!(more.is_none(), "{:?}", more.unwrap().what());
    }
}

/// What an agent answers to a look at our registration.
fn ours(exchange: Exchange, port: u16) {
    let body = format!(
        r#"{{"ID": "svc-1", "Service": "svc", "Address": "10.0.0.1", "Port": {port}, "Tags": [],
            "Meta": {{"picom-instance": "u"}}}}"#
    );
    exchange.respond(200, &[], &body);
}

#[tokio::test(start_paused = true)]
async fn register_returns_when_the_registration_and_its_first_heartbeat_are_confirmed() {
    let (mut script, consul) = Script::new(|_| {});
    let lease = register(&consul, OnUnavailable::Fail);
    let call = script.expect(REGISTER).await;
    assert_eq!(
        (call.query.as_str(), call.header("content-type")),
        ("replace-existing-checks=true", Some("application/json"))
    );
    for part in [
        r#""ID":"svc-1""#,
        r#""Address":"10.0.0.1""#,
        r#""TTL":"30s""#,
        r#""Status":"passing""#,
        r#""90s""#,
    ] {
        assert!(call.body.contains(part), "{part}: {}", call.body);
    }
    let begun = call.at;
    call.done();
    let beat = script.expect(PASS).await;
    assert_eq!(beat.at, begun, "at once");
    assert!(!lease.is_finished());
    beat.done();
    let lease = lease.await.unwrap().unwrap();
    assert_eq!(lease.id(), "svc-1");
    let mut last = begun;
    for _ in 0..5 {
        let beat = script.expect(PASS).await;
        let apart = beat.at - last;
        assert!(apart >= 9 * SECOND && apart <= 11 * SECOND, "{apart:?}");
        last = beat.at;
        beat.done();
    }
    assert_eq!(script.dials(), 2, "heartbeats have a connection of their own");
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_forgotten_is_made_again_whatever_the_version_says() {
    for (status, text) in [
        (500, "CheckID \"service:svc-1\" does not have associated TTL"),
        (500, "Unknown check \"service:svc-1\""),
        (
            404,
            "Unknown check ID \"service:svc-1\". Ensure that the check ID is passed, not the check name.",
        ),
        (404, ""),
    ] {
        let (mut script, consul) = Script::new(|_| {});
        let mut lease = script.passing(&consul).await;
        let beat = script.expect(PASS).await;
        let begun = beat.at;
        beat.fail(status, text);
        let again = script.expect(REGISTER).await;
        assert_eq!(again.at, begun, "at once");
        let LeaseState::Failing { error } = lease.changed().await else {
            panic!()
        };
        assert!(matches!(*error, DiscoveryError::NotRegistered { .. }), "{text}");
        again.done();
        script.expect(PASS).await.done();
        assert!(matches!(lease.changed().await, LeaseState::Passing), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_nobody_knows_is_cleared_up_by_a_question() {
    let (mut script, consul) = Script::new(|_| {});
    let _lease = script.passing(&consul).await;
    script
        .expect(PASS)
        .await
        .fail(500, "something a later version says");
    script.expect(LOOK).await.fail(404, "unknown service ID: svc-1");
    script.expect(REGISTER).await.done();
    script.expect(PASS).await.done();
    script.expect(PASS).await.fail(500, "No cluster leader");
    let look = script.expect(LOOK).await;
    let begun = look.at;
    ours(look, 9000);
    let beat = script.expect(PASS).await;
    assert_eq!(beat.at - begun, SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_someone_overwrote_is_repaired_within_about_a_minute() {
    let (mut script, consul) = Script::new(|_| {});
    let _lease = script.passing(&consul).await;
    let begun = Instant::now();
    loop {
        let exchange = script.next().await;
        match exchange.what().as_str() {
            PASS => exchange.done(),
            LOOK => break ours(exchange, 9001),
            other => panic!("{other}"),
        }
    }
    assert!(begun.elapsed() <= 70 * SECOND);
    script.expect(REGISTER).await.done();
    script.expect(PASS).await.done();
}

#[tokio::test(start_paused = true)]
async fn without_an_agent_register_fails_at_once_and_nothing_is_left() {
    let (mut script, consul) = Script::new(|_| {});
    script.refuse(true);
    let begun = Instant::now();
    let error = consul
        .register(registration(), OnUnavailable::Fail)
        .await
        .unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let RegisterError::Unavailable { service, source } = error else {
        panic!("{error}")
    };
    assert_eq!(service, "svc");
    assert!(matches!(
        *source,
        DiscoveryError::Transport {
            phase: Phase::Dial,
            ..
        }
    ));
    assert!(source.to_string().contains("agent.test:8500"));
    script.refuse(false);
    script.is_silent().await;
    let _lease = script.passing(&consul).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_refused_also_when_told_to_keep_trying() {
    for how in [OnUnavailable::Fail, OnUnavailable::KeepTrying] {
        let (mut script, consul) = Script::new(|_| {});
        let lease = register(&consul, how);
        script
            .expect(REGISTER)
            .await
            .fail(400, "Invalid Service Meta: too odd");
        let error = lease.await.unwrap().unwrap_err();
        let RegisterError::Refused { source, .. } = error else {
            panic!("{error}")
        };
        assert!(source.to_string().contains("too odd"));
        script.is_silent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn told_to_keep_trying_the_lease_passes_once_the_agent_is_there() {
    let (mut script, consul) = Script::new(|_| {});
    script.refuse(true);
    let mut lease = consul
        .register(registration(), OnUnavailable::KeepTrying)
        .await
        .unwrap();
    assert!(matches!(
        lease.state(),
        LeaseState::Registering { error: Some(_) }
    ));
    tokio::time::sleep(600 * SECOND).await;
    script.refuse(false);
    let back = Instant::now();
    script.expect(REGISTER).await.fail(403, "ACL not found");
    let LeaseState::Registering { error: Some(error) } = lease.changed().await else {
        panic!()
    };
    assert!(back.elapsed() <= 5 * SECOND && matches!(*error, DiscoveryError::Denied { .. }));
    script.expect(REGISTER).await.done();
    script.expect(PASS).await.done();
    assert!(matches!(lease.changed().await, LeaseState::Passing));
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_was_held_too_long_is_undone() {
    let (mut script, consul) = Script::new(|_| {});
    let lease = register(&consul, OnUnavailable::Fail);
    let held = script.expect(REGISTER).await;
    let begun = held.at;
    held.given_up().await;
    assert_eq!(begun.elapsed(), 15 * SECOND);
    let error = lease.await.unwrap().unwrap_err();
    assert!(matches!(error, RegisterError::Unavailable { .. }), "{error}");
    // It has been carried out after all, and again after the first deregistration.
    script.expect(DEREGISTER).await.done();
    ours(script.expect(LOOK).await, 9000);
    script.expect(DEREGISTER).await.done();
    for _ in 0..3 {
        script.expect(LOOK).await.fail(404, "unknown service ID: svc-1");
    }
    script.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn one_id_has_one_lease_at_a_time() {
    let (mut script, consul) = Script::new(|_| {});
    let lease = script.passing(&consul).await;
    let error = consul
        .register(registration(), OnUnavailable::KeepTrying)
        .await
        .unwrap_err();
    assert!(matches!(error, RegisterError::Duplicate { id } if id == "svc-1"));
    let ending = tokio::spawn(lease.end(5 * SECOND));
    script.expect(DEREGISTER).await.done();
    ending.await.unwrap().unwrap();
    let _lease = script.passing(&consul).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_deregisters_and_no_heartbeat_follows() {
    let (mut script, consul) = Script::new(|_| {});
    let lease = script.passing(&consul).await;
    let ending = tokio::spawn(lease.end(5 * SECOND));
    script.expect(DEREGISTER).await.done();
    ending.await.unwrap().unwrap();
    script.is_silent().await;
    assert!(script.open() <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_deregistration_counts_as_done_if_there_is_nothing_to_remove() {
    for (status, text) in [
        (500, "Unknown service {\"svc-1\" {}}"),
        (404, "Unknown service ID \"svc-1\""),
    ] {
        let (mut script, consul) = Script::new(|_| {});
        let lease = script.passing(&consul).await;
        let ending = tokio::spawn(lease.end(5 * SECOND));
        script.expect(DEREGISTER).await.fail(status, text);
        ending.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_during_a_heartbeat_does_not_wait_for_it() {
    let (mut script, consul) = Script::new(|_| {});
    let lease = script.passing(&consul).await;
    let beat = script.expect(PASS).await;
    let begun = beat.at;
    let ending = tokio::spawn(lease.end(5 * SECOND));
    let call = script.expect(DEREGISTER).await;
    assert_eq!(call.at, begun);
    beat.given_up().await;
    call.done();
    ending.await.unwrap().unwrap();
    script.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_during_a_registration_waits_for_its_answer_and_undoes_it() {
    let (mut script, consul) = Script::new(|_| {});
    script.refuse(true);
    let lease = consul
        .register(registration(), OnUnavailable::KeepTrying)
        .await
        .unwrap();
    script.refuse(false);
    let in_flight = script.expect(REGISTER).await;
    let ending = tokio::spawn(lease.end(10 * SECOND));
    assert!(script.next_within(2 * SECOND).await.is_none());
    in_flight.done();
    script.expect(DEREGISTER).await.done();
    ending.await.unwrap().unwrap();
    script.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_during_a_registration_that_hangs_undoes_it_when_it_comes_late() {
    let (mut script, consul) = Script::new(|_| {});
    script.refuse(true);
    let lease = consul
        .register(registration(), OnUnavailable::KeepTrying)
        .await
        .unwrap();
    script.refuse(false);
    let in_flight = script.expect(REGISTER).await;
    let begun = Instant::now();
    let ending = tokio::spawn(lease.end(10 * SECOND));
    in_flight.given_up().await;
    assert_eq!(begun.elapsed(), 5 * SECOND, "half of the bound");
    script.expect(DEREGISTER).await.done();
    script.expect(LOOK).await.fail(404, "");
    ending.await.unwrap().unwrap();
    assert!(begun.elapsed() < 6 * SECOND);
    // And now the agent gets round to it.
    ours(script.expect(LOOK).await, 9000);
    script.expect(DEREGISTER).await.done();
    script.expect(LOOK).await.fail(404, "");
    script.expect(LOOK).await.fail(404, "");
    script.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_returns_within_its_bound_when_the_agent_hangs_and_goes_on_behind() {
    let (mut script, consul) = Script::new(|_| {});
    let lease = script.passing(&consul).await;
    let begun = Instant::now();
    let ending = tokio::spawn(lease.end(7 * SECOND));
    let mut hanging = vec![script.expect(DEREGISTER).await, script.expect(DEREGISTER).await];
    let error = ending.await.unwrap().unwrap_err();
    assert_eq!(begun.elapsed(), 7 * SECOND);
    assert!(
        matches!(error, EndError::Timeout { .. } | EndError::Failed { .. }),
        "{error}"
    );
    loop {
        let call = script.expect(DEREGISTER).await;
        if begun.elapsed() > 30 * SECOND {
            break call.done();
        }
        hanging.push(call);
    }
    script.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_use_up_its_bound_when_nobody_listens() {
    let (mut script, consul) = Script::new(|_| {});
    let lease = script.passing(&consul).await;
    script.refuse(true);
    let begun = Instant::now();
    let ending = tokio::spawn(lease.end(60 * SECOND));
    // The connection that was kept is closed by the agent's end.
    drop(script.expect(DEREGISTER).await);
    let error = ending.await.unwrap().unwrap_err();
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
    let EndError::Failed { source, .. } = error else {
        panic!("{error}")
    };
    assert!(source.to_string().contains("agent.test:8500"));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_deregistered() {
    let (mut script, consul) = Script::new(|_| {});
    let lease = script.passing(&consul).await;
    drop(consul);
    drop(lease);
    script.expect(DEREGISTER).await.done();
    script.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn a_registration_whose_caller_went_away_is_undone() {
    let (mut script, consul) = Script::new(|_| {});
    let lease = register(&consul, OnUnavailable::Fail);
    let call = script.expect(REGISTER).await;
    lease.abort();
    assert!(lease.await.unwrap_err().is_cancelled());
    call.done();
    script.expect(DEREGISTER).await.done();
    script.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_hangs_is_given_up_and_sent_again_in_time() {
    let (mut script, consul) = Script::new(|_| {});
    let mut lease = script.passing(&consul).await;
    let hanging = script.expect(PASS).await;
    let begun = hanging.at;
    hanging.given_up().await;
    assert_eq!(begun.elapsed(), 10 * SECOND);
    assert!(matches!(lease.changed().await, LeaseState::Failing { .. }));
    let again = script.expect(PASS).await;
    assert!(again.at - begun < 15 * SECOND, "half of the time to live");
    again.done();
    assert!(matches!(lease.changed().await, LeaseState::Passing));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_went_away_is_registered_with_again_when_it_is_back() {
    let (mut script, consul) = Script::new(|_| {});
    let mut lease = script.passing(&consul).await;
    let beat = script.expect(PASS).await;
    script.refuse(true);
    drop(beat);
    let LeaseState::Failing { error } = lease.changed().await else {
        panic!()
    };
    assert!(matches!(*error, DiscoveryError::Transport { .. }));
    tokio::time::sleep(30 * SECOND).await;
    script.refuse(false);
    let back = Instant::now();
    let beat = script.expect(PASS).await;
    assert!(back.elapsed() <= SECOND + SECOND / 10);
    beat.fail(404, "");
    script.expect(REGISTER).await.done();
    script.expect(PASS).await.done();
    while !matches!(lease.state(), LeaseState::Passing) {
        lease.changed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_was_closed_costs_no_heartbeat() {
    let (mut script, consul) = Script::new(|_| {});
    let mut lease = script.passing(&consul).await;
    let beat = script.expect(PASS).await;
    let (connection, begun) = (beat.connection, beat.at);
    // The server closes a connection it had kept, just as the request arrives.
    drop(beat);
    let again = script.expect(PASS).await;
    assert_eq!(again.at, begun);
    assert_ne!(again.connection, connection);
    again.done();
    let quiet = tokio::time::timeout(SECOND, lease.changed()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_serve_fails_its_check_on_purpose() {
    let (mut script, consul) = Script::new(|_| {});
    let alive = Arc::new(AtomicBool::new(true));
    let asked = alive.clone();
    let probed = registration().with_alive(AliveProbe::new(move || asked.load(Ordering::Relaxed)));
    let lease = register_this(&consul, probed, OnUnavailable::Fail);
    script.expect(REGISTER).await.done();
    script.expect(PASS).await.done();
    let mut lease = lease.await.unwrap().unwrap();
    alive.store(false, Ordering::Relaxed);
    let fail = script.expect(FAIL).await;
    assert!(fail.parameter("note").is_some());
    fail.done();
    let LeaseState::Failing { error } = lease.changed().await else {
        panic!()
    };
    assert!(matches!(*error, DiscoveryError::NotServing { .. }));
    alive.store(true, Ordering::Relaxed);
    script.expect(PASS).await.done();
    assert!(matches!(lease.changed().await, LeaseState::Passing));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_of_one_lease_go_on_while_the_registrations_of_others_hang() {
    let (mut script, consul) = Script::new(|_| {});
    let _lease = script.passing(&consul).await;
    let mut hanging = Vec::new();
    for number in 2..8 {
        let other = registration().with_id(format!("other-{number}")).unwrap();
        hanging.push(register_this(&consul, other, OnUnavailable::KeepTrying));
    }
    let (mut beats, mut held) = (Vec::new(), Vec::new());
    while beats.len() < 6 {
        let exchange = script.next().await;
        match exchange.what().as_str() {
            PASS => {
                beats.push(exchange.at);
                exchange.done();
            }
            LOOK => ours(exchange, 9000),
            _ => held.push(exchange),
        }
        assert!(script.open() <= 8);
    }
    assert!(held.len() >= 4);
    assert!(
        beats.windows(2).all(|pair| pair[1] - pair[0] <= 11 * SECOND),
        "{beats:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_renews_the_registration() {
    let path = std::env::temp_dir().join(format!("picom-registrar-token-{}", std::process::id()));
    std::fs::write(&path, "one\n").unwrap();
    let (mut script, consul) = Script::new(|config| {
        config.token = Token::File {
            path: path.clone(),
            fallback: None,
        }
    });
    let lease = script.passing(&consul).await;
    std::fs::write(&path, "two\n").unwrap();
    let beat = loop {
        let beat = script.expect(PASS).await;
        if beat.header("x-consul-token") == Some("two") {
            break beat;
        }
        beat.done();
    };
    beat.done();
    let renewal = script.expect(REGISTER).await;
    assert_eq!(renewal.header("x-consul-token"), Some("two"));
    renewal.done();
    script.expect(PASS).await.done();
    script.expect(PASS).await.done();
    assert!(matches!(lease.state(), LeaseState::Passing));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_lease_whose_lane_was_shut_down_has_ended() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let (mut script, consul) = Script::new(|_| {});
    let lease = runtime.block_on(script.passing(&consul));
    drop(runtime);
    assert!(matches!(lease.state(), LeaseState::Ended));
}
