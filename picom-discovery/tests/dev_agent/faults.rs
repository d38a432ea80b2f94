//! Faults made on purpose, and that they end.

use std::time::Duration;

use hyper::Method;
use picom_discovery::dev_agent::{Calls, DevAgentConfig, Failure, IndexFault, Restart};
use serde_json::json;
use tokio::time::{Instant, advance};

use super::caller::{Caller, settle};

const B: &str = "/v1/health/service/b?passing";

#[tokio::test(start_paused = true)]
async fn a_paused_agent_does_nothing_and_catches_up() {
    let caller = Caller::new();
    caller
        .register("b", "b-1", json!({"Check": {"TTL": "5s", "Status": "passing"}}))
        .await;
    let watching = caller.watch(B, "60s").await;
    caller.faults().pause();
    let beat = caller
        .begin(Method::PUT, "/v1/agent/check/pass/service:b-1", "")
        .await;
    let read = caller.begin(Method::GET, B, "").await;
    let gone = caller
        .begin(
            Method::PUT,
            "/v1/agent/service/register",
            r#"{"Name":"late","ID":"l-1"}"#,
        )
        .await;
    gone.abort();
    advance(Duration::from_secs(20)).await;
    settle().await;
    assert!(!beat.is_finished() && !read.is_finished() && !watching.woke().await);
    caller.faults().resume();
    assert_eq!(beat.await.expect("the call").expect("an answer").status, 200);
    assert_eq!(read.await.expect("the call").expect("an answer").status, 200);
    assert!(watching.woke().await, "the TTL had run out");
    assert_eq!(caller.ids(B).await, ["b-1"], "and the heartbeat came after it");
    assert_eq!(
        caller.ids("/v1/health/service/late").await,
        ["l-1"],
        "done, though its client had gone"
    );
}

#[tokio::test(start_paused = true)]
async fn held_answers_are_answers_to_things_done() {
    let caller = Caller::new();
    caller.faults().hold_answers();
    let call = caller
        .begin(
            Method::PUT,
            "/v1/agent/service/register",
            r#"{"Name":"b","ID":"b-1"}"#,
        )
        .await;
    advance(Duration::from_secs(60)).await;
    settle().await;
    assert!(!call.is_finished());
    call.abort();
    caller.faults().resume();
    assert_eq!(caller.ids("/v1/health/service/b").await, ["b-1"]);
}

#[tokio::test(start_paused = true)]
async fn slow_answers_take_their_time() {
    let caller = Caller::new();
    caller.faults().slow(Duration::from_secs(3));
    assert_eq!(caller.get("/v1/status/leader").await.took.as_secs(), 3);
    caller.faults().slow(Duration::ZERO);
    assert_eq!(caller.get("/v1/status/leader").await.took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn dropped_connections_leave_the_state_alone() {
    let caller = Caller::new();
    caller.register("b", "b-1", json!({})).await;
    let watching = caller.watch(B, "60s").await;
    caller.faults().drop_connections();
    assert!(watching.call.await.expect("the call").is_err());
    assert_eq!(caller.ids(B).await, ["b-1"]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_went_away_refuses_and_comes_back() {
    let caller = Caller::new();
    caller.register("b", "b-1", json!({})).await;
    let watching = caller.watch(B, "60s").await;
    caller.faults().go_away();
    assert!(watching.call.await.expect("the call").is_err());
    assert!(caller.try_call(Method::GET, B, "").await.is_err());
    caller.faults().come_back();
    assert_eq!(caller.ids(B).await, ["b-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_agent_comes_back_empty_with_a_lower_index() {
    let caller = Caller::new();
    for port in 0..20 {
        caller.register("b", "b-1", json!({"Port": port})).await;
    }
    let watching = caller.watch(B, "60s").await;
    let index = watching.index;
    caller.faults().forget_state();
    assert!(watching.call.await.expect("the call").is_err(), "no answer");
    let after = caller.get(B).await;
    assert!(after.ids().is_empty());
    assert!(after.index() < index, "{} after {index}", after.index());
    assert_eq!(
        caller.put("/v1/agent/check/pass/service:b-1", "").await.text,
        r#"CheckID "service:b-1" does not have associated TTL"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_terminated_agent_answers_what_it_saw_and_closes() {
    let caller = Caller::new();
    caller.register("b", "b-1", json!({})).await;
    let watching = caller.watch(B, "60s").await;
    let index = watching.index;
    caller.faults().restart(Restart::Terminated);
    let last = watching.answer().await;
    assert_eq!(
        (last.status, last.index(), last.ids()),
        (200, index, vec!["b-1".to_owned()])
    );
    assert!(caller.ids(B).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_reads_are_held_and_then_fail() {
    let caller = Caller::new();
    caller.register("b", "b-1", json!({})).await;
    let cached = format!("{B}&cached");
    assert_eq!(caller.get(&cached).await.header("x-cache"), Some("MISS"));
    let watching = caller.watch(B, "60s").await;
    caller.faults().lose_leader();
    let blocked = watching.answer().await;
    assert_eq!(
        (blocked.status, blocked.text.as_str()),
        (500, "rpc error making call: EOF")
    );
    assert_eq!(blocked.header("x-consul-index"), Some("1"));

    let read = caller.get(B).await;
    assert_eq!(
        (read.status, read.text.as_str(), read.took.as_secs()),
        (500, "No cluster leader", 7)
    );
    assert_eq!(
        (read.header("x-consul-index"), read.header("x-consul-knownleader")),
        (Some("1"), Some("false"))
    );
    let stale = caller.get(&format!("{B}&stale")).await;
    assert_eq!((stale.status, stale.took), (200, Duration::ZERO));
    assert_eq!(stale.header("x-consul-knownleader"), Some("false"));
    assert_eq!(stale.header("x-consul-lastcontact"), Some("7000"));
    let cached = caller.get(&cached).await;
    assert_eq!(
        (cached.status, cached.header("x-cache"), cached.header("age")),
        (200, Some("HIT"), Some("7"))
    );
    assert_eq!(caller.get("/v1/status/leader").await.text, "\"\"\n");
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_without_a_leader_appears_with_the_next_one() {
    let caller = Caller::new();
    caller.faults().lose_leader();
    let began = Instant::now();
    let answer = caller
        .put("/v1/agent/service/register", r#"{"Name":"b","ID":"b-1"}"#)
        .await;
    assert_eq!(
        (answer.status, began.elapsed().as_secs()),
        (200, 7),
        "late, but done"
    );
    assert!(caller.ids("/v1/health/service/b?stale").await.is_empty());
    let held = caller.begin(Method::GET, "/v1/health/service/b", "").await;
    advance(Duration::from_secs(1)).await;
    caller.faults().elect_leader();
    let answer = held.await.expect("the call").expect("an answer");
    assert_eq!((answer.status, answer.took.as_secs()), (200, 1));
    assert_eq!(caller.ids("/v1/health/service/b").await, ["b-1"]);
    assert_eq!(caller.get("/v1/status/leader").await.text, "\"127.0.0.1:8300\"\n");
}

#[tokio::test(start_paused = true)]
async fn reset_indexes_run_backwards_and_old_watches_wait_in_vain() {
    let caller = Caller::new();
    caller.register("b", "b-1", json!({})).await;
    let watching = caller.watch(B, "4s").await;
    caller.faults().reset_index(3);
    assert_eq!(caller.get(B).await.index(), 3);
    caller.register("b", "b-2", json!({})).await;
    assert!(!watching.woke().await, "4 is not above what it waits for");
    let answer = watching.answer().await;
    assert_eq!((answer.index(), answer.ids().len()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn indexes_can_be_zero_or_missing() {
    let caller = Caller::new();
    caller.faults().index(Some(IndexFault::Zero));
    assert_eq!(caller.get(B).await.header("x-consul-index"), Some("0"));
    caller.faults().index(Some(IndexFault::Missing));
    assert_eq!(caller.get(B).await.header("x-consul-index"), None);
    caller.faults().index(None);
    assert!(caller.get(B).await.index() > 0);
}

#[tokio::test(start_paused = true)]
async fn failures_hit_the_calls_they_are_meant_for() {
    let caller = Caller::new();
    let statuses = async |caller: &Caller| {
        let agent = caller
            .put("/v1/agent/service/register", r#"{"Name":"b"}"#)
            .await
            .status;
        (
            caller.get(B).await.status,
            agent,
            caller.get("/v1/status/leader").await.status,
        )
    };
    for (calls, expected) in [
        (Calls::All, (503, 503, 503)),
        (Calls::Reads, (503, 200, 200)),
        (Calls::Agent, (200, 503, 200)),
    ] {
        let failure = Failure {
            calls,
            status: 503,
            text: "busy".to_owned(),
            retry_after: None,
        };
        caller.faults().fail(Some(failure));
        assert_eq!(statuses(&caller).await, expected, "{calls:?}");
    }
    caller.faults().fail(None);
    assert_eq!(statuses(&caller).await, (200, 200, 200));
    caller.faults().rate_limit(Some(Duration::from_secs(2)));
    let limited = caller.get(B).await;
    assert_eq!((limited.status, limited.text.as_str()), (429, ""));
    assert_eq!(
        (limited.header("retry-after"), limited.header("x-consul-index")),
        (Some("2"), Some("1"))
    );
}

#[tokio::test(start_paused = true)]
async fn truncated_bodies_are_announced_whole_and_end_early() {
    let caller = Caller::new();
    caller.register("b", "b-1", json!({})).await;
    for after in [0, 1, 100] {
        caller.faults().truncate_bodies(Some(after));
        assert!(caller.try_call(Method::GET, B, "").await.is_err(), "{after}");
    }
    caller.faults().truncate_bodies(Some(1 << 20));
    assert_eq!(caller.ids(B).await, ["b-1"], "what is shorter is whole");
}

#[tokio::test(start_paused = true)]
async fn heal_ends_all_that_has_an_end() {
    let caller = Caller::with(DevAgentConfig::default());
    let faults = caller.faults();
    faults.pause();
    faults.slow(Duration::from_secs(9));
    faults.rate_limit(None);
    faults.lose_leader();
    faults.index(Some(IndexFault::Zero));
    faults.truncate_bodies(Some(0));
    faults.go_away();
    faults.heal();
    caller.register("b", "b-1", json!({})).await;
    let answer = caller.get(B).await;
    assert_eq!(
        (answer.ids(), answer.took),
        (vec!["b-1".to_owned()], Duration::ZERO)
    );
    assert!(answer.index() > 0);
}
