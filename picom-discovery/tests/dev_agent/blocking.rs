//! Reads that wait: what wakes them, how long they wait, and which index they answer with. The rows about waking were
//! taken from a run against Consul 1.8.7 and compared with it row by row.

use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tokio::time::{Instant, advance};

use super::caller::{Caller, settle};

/// What a watch must do about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wakes {
    /// Nothing.
    No,
    /// Answer, with another body.
    Changed,
    /// Answer, with the same body.
    Same,
}
use Wakes::{Changed, No, Same};

/// Does one thing, and looks at what a watch of `target` does about it.
async fn event(caller: &Caller, what: &str, target: &str, does: (&str, &str), wakes: Wakes) {
    let before = caller.get(target).await;
    let watching = caller.watch(target, "4s").await;
    let (path, body) = does;
    let answer = caller.put(path, body).await;
    assert_eq!(answer.status, 200, "{what}: {}", answer.text);
    assert_eq!(watching.woke().await, wakes != No, "{what}");
    let index = watching.index;
    let after = watching.answer().await;
    assert_eq!(after.text != before.text, wakes == Changed, "{what}: body");
    match wakes {
        No => assert_eq!(after.index(), index, "{what}: index"),
        Changed | Same => assert!(after.index() > index, "{what}: index"),
    }
}

fn registration(name: &str, id: &str, more: &str) -> String {
    format!(r#"{{"Name":"{name}","ID":"{id}","Port":1,"Check":{{"TTL":"6000s","Status":"passing"}}{more}}}"#)
}

const REGISTER: &str = "/v1/agent/service/register?replace-existing-checks=true";

#[tokio::test(start_paused = true)]
async fn a_watch_wakes_for_what_concerns_its_name() {
    let caller = Caller::new();
    for (name, id, more) in [
        ("b", "b-1", r#","Tags":["t1"]"#),
        ("b", "b-2", r#","Tags":["t2"]"#),
        ("c", "c-1", ""),
        ("c", "c-2", ""),
    ] {
        caller.put(REGISTER, &registration(name, id, more)).await;
    }
    let b1 = registration("b", "b-1", r#","Tags":["t1"]"#);
    let with_meta = registration("b", "b-1", r#","Tags":["t1"],"Meta":{"a":"b"}"#);
    let critical = r#"{"Name":"b","ID":"b-3","Port":3,"Check":{"TTL":"6000s"}}"#;
    let node_check = r#"{"ID":"nc","Name":"nc","TTL":"6000s","Status":"passing"}"#;
    let elsewhere = r#"{"Node":"zext","Address":"192.0.2.5","Service":{"ID":"b-2","Service":"b","Port":1}}"#;
    let moved = r#"{"Node":"zext","Address":"192.0.2.6"}"#;
    let rows = [
        ("a heartbeat", ("/v1/agent/check/pass/service:b-1", ""), No),
        (
            "a heartbeat with a note",
            ("/v1/agent/check/pass/service:b-1?note=x", ""),
            No,
        ),
        (
            "the same registration, with that note",
            (REGISTER, b1.as_str()),
            Changed,
        ),
        ("the same registration", (REGISTER, b1.as_str()), No),
        (
            "the same registration, without replacing",
            ("/v1/agent/service/register", b1.as_str()),
            No,
        ),
        ("other meta", (REGISTER, with_meta.as_str()), Changed),
        ("failing", ("/v1/agent/check/fail/service:b-1", ""), Changed),
        (
            "critical to warning, filtered out both",
            ("/v1/agent/check/warn/service:b-1", ""),
            Same,
        ),
        ("passing again", ("/v1/agent/check/pass/service:b-1", ""), Changed),
        ("a new instance, still critical", (REGISTER, critical), Same),
        ("its end", ("/v1/agent/service/deregister/b-3", ""), Same),
        (
            "another name's check",
            ("/v1/agent/check/fail/service:c-1", ""),
            No,
        ),
        (
            "another name's instance",
            ("/v1/agent/service/deregister/c-1", ""),
            No,
        ),
        (
            "another name's last instance",
            ("/v1/agent/service/deregister/c-2", ""),
            No,
        ),
        (
            "a check of the node",
            ("/v1/agent/check/register", node_check),
            Changed,
        ),
        ("the node's check fails", ("/v1/agent/check/fail/nc", ""), Changed),
        (
            "the node's check passes",
            ("/v1/agent/check/pass/nc", ""),
            Changed,
        ),
        (
            "the node's check goes",
            ("/v1/agent/check/deregister/nc", ""),
            Changed,
        ),
        (
            "the node's maintenance",
            ("/v1/agent/maintenance?enable=true", ""),
            Changed,
        ),
        ("its end", ("/v1/agent/maintenance?enable=false", ""), Changed),
        (
            "maintenance",
            ("/v1/agent/service/maintenance/b-1?enable=true", ""),
            Changed,
        ),
        (
            "maintenance again",
            ("/v1/agent/service/maintenance/b-1?enable=true", ""),
            No,
        ),
        (
            "maintenance dropped by registering",
            (REGISTER, with_meta.as_str()),
            Changed,
        ),
        (
            "an instance on another node",
            ("/v1/catalog/register", elsewhere),
            Changed,
        ),
        (
            "the other node's address",
            ("/v1/catalog/register", moved),
            Changed,
        ),
        (
            "the other node's end",
            ("/v1/catalog/deregister", r#"{"Node":"zext"}"#),
            Changed,
        ),
    ];
    for (what, does, wakes) in rows {
        event(&caller, what, "/v1/health/service/b?passing", does, wakes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_a_tag_wakes_for_that_tag() {
    let caller = Caller::new();
    caller
        .put(REGISTER, &registration("b", "b-1", r#","Tags":["t1"]"#))
        .await;
    caller
        .put(REGISTER, &registration("b", "b-2", r#","Tags":["t2"]"#))
        .await;
    let t2 = "/v1/health/service/b?passing&tag=t2";
    let t9 = "/v1/health/service/b?passing&tag=t9";
    let both = registration("b", "b-1", r#","Tags":["t1","t2"]"#);
    let nine = registration("b", "b-1", r#","Tags":["t1","t9"]"#);
    event(
        &caller,
        "another tag fails",
        t2,
        ("/v1/agent/check/fail/service:b-1", ""),
        No,
    )
    .await;
    event(
        &caller,
        "another tag passes",
        t2,
        ("/v1/agent/check/pass/service:b-1", ""),
        No,
    )
    .await;
    event(&caller, "the tag is gained", t2, (REGISTER, &both), Changed).await;
    event(&caller, "the first of its tag", t9, (REGISTER, &nine), Changed).await;
    event(
        &caller,
        "no match, and a failure",
        "/v1/health/service/b?tag=t7",
        ("/v1/agent/check/fail/service:b-1", ""),
        No,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_nothing_wakes_for_extinctions() {
    let caller = Caller::new();
    let none = "/v1/health/service/none?passing";
    let other = registration("other", "o-1", "");
    event(
        &caller,
        "no extinction yet: another registers",
        none,
        (REGISTER, &other),
        Same,
    )
    .await;
    event(
        &caller,
        "no extinction yet: another fails",
        none,
        ("/v1/agent/check/fail/service:o-1", ""),
        No,
    )
    .await;
    event(
        &caller,
        "another goes extinct",
        none,
        ("/v1/agent/service/deregister/o-1", ""),
        Same,
    )
    .await;
    event(&caller, "another registers", none, (REGISTER, &other), No).await;
    let critical = r#"{"Name":"none","ID":"n-1","Check":{"TTL":"6000s"}}"#;
    event(
        &caller,
        "it registers, critical",
        none,
        (REGISTER, critical),
        Same,
    )
    .await;
    event(
        &caller,
        "it passes",
        none,
        ("/v1/agent/check/pass/service:n-1", ""),
        Changed,
    )
    .await;
    event(
        &caller,
        "it goes extinct",
        none,
        ("/v1/agent/service/deregister/n-1", ""),
        Changed,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn other_reads_wake_for_what_they_show() {
    let caller = Caller::new();
    caller.put(REGISTER, &registration("b", "b-1", "")).await;
    caller.put(REGISTER, &registration("d", "d-1", "")).await;
    let f1 = registration("f", "f-1", "");
    let (fail_b, pass_b) = (
        "/v1/agent/check/fail/service:b-1",
        "/v1/agent/check/pass/service:b-1",
    );
    let (fail_d, pass_d) = (
        "/v1/agent/check/fail/service:d-1",
        "/v1/agent/check/pass/service:d-1",
    );
    let native = registration("b", "b-1", r#","Connect":{"Native":true}"#);
    for (what, target, does, wakes) in [
        ("names: a check", "/v1/catalog/services", (fail_b, ""), No),
        (
            "names: a new one",
            "/v1/catalog/services",
            (REGISTER, f1.as_str()),
            Changed,
        ),
        (
            "names: one less",
            "/v1/catalog/services",
            ("/v1/agent/service/deregister/f-1", ""),
            Changed,
        ),
        ("instances: a check", "/v1/catalog/service/b", (pass_b, ""), No),
        ("nodes: a check", "/v1/catalog/nodes", (fail_b, ""), No),
        (
            "checks of a name: its own",
            "/v1/health/checks/b",
            (pass_b, ""),
            Changed,
        ),
        (
            "checks of a name: another's",
            "/v1/health/checks/b",
            (fail_d, ""),
            No,
        ),
        (
            "checks of a node",
            "/v1/health/node/picom-dev",
            (pass_d, ""),
            Changed,
        ),
        (
            "checks in a state",
            "/v1/health/state/critical",
            (fail_d, ""),
            Changed,
        ),
        (
            "checks in any state",
            "/v1/health/state/any",
            (pass_d, ""),
            Changed,
        ),
        (
            "connect: none yet, a check",
            "/v1/health/connect/b",
            (fail_b, ""),
            No,
        ),
        (
            "connect: the first",
            "/v1/health/connect/b",
            (REGISTER, native.as_str()),
            Changed,
        ),
        ("connect: a check", "/v1/health/connect/b", (pass_b, ""), Changed),
    ] {
        event(&caller, what, target, does, wakes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_moves_to_another_name_wakes_nobody_and_the_index_falls() {
    let caller = Caller::new();
    let gone = registration("gone", "g-1", "");
    caller.put(REGISTER, &gone).await;
    caller.done("/v1/agent/service/deregister/g-1").await;
    let extinction = caller.get("/v1/health/service/gone").await.index();
    caller.put(REGISTER, &registration("old", "r-1", "")).await;
    caller.put(REGISTER, &registration("old", "r-2", "")).await;
    for (id, left) in [("r-1", 1), ("r-2", 0)] {
        let watching = caller.watch("/v1/health/service/old?passing", "4s").await;
        caller.put(REGISTER, &registration("new", id, "")).await;
        assert!(!watching.woke().await);
        let index = watching.index;
        let stale = watching.answer().await;
        assert_eq!(
            (stale.index(), stale.ids().len()),
            (index, left + 1),
            "what it saw at first"
        );
        let fresh = caller.get("/v1/health/service/old?passing").await;
        assert_eq!(fresh.ids().len(), left);
        assert_eq!(fresh.index(), if left == 0 { extinction } else { index });
    }
    assert_eq!(caller.ids("/v1/health/service/new?passing").await, ["r-1", "r-2"]);
}

#[tokio::test(start_paused = true)]
async fn only_an_index_blocks() {
    let caller = Caller::new();
    for query in [
        "",
        "?wait=5s",
        "?index=0&wait=5s",
        "?index=&wait=5s",
        "?index=1&wait=5s",
    ] {
        let answer = caller.get(&format!("/v1/health/service/x{query}")).await;
        assert_eq!((answer.status, answer.took), (200, Duration::ZERO), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_end_on_time_and_a_little_later() {
    let caller = Caller::new();
    let index = caller.get("/v1/health/service/x").await.index();
    for (query, seconds) in [("&wait=4s", 4), ("", 300), ("&wait=0s", 300), ("&wait=20m", 600)] {
        let mut spans = Vec::new();
        for _ in 0..20 {
            let answer = caller
                .get(&format!("/v1/health/service/x?index={index}{query}"))
                .await;
            assert_eq!(answer.index(), index);
            spans.push(answer.took);
        }
        let wait = Duration::from_secs(seconds);
        // A timer of tokio's ticks in milliseconds.
        let most = wait + wait / 16 + Duration::from_millis(1);
        assert!(
            spans.iter().all(|span| *span >= wait && *span <= most),
            "{query}: {spans:?}"
        );
        spans.dedup();
        assert!(spans.len() > 10, "{query}: they come back together");
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_ahead_of_the_agent_misses_changes_until_its_time_is_up() {
    let caller = Caller::new();
    let ahead = caller
        .begin(Method::GET, "/v1/health/service/b?index=9999&wait=4s", "")
        .await;
    caller.register("b", "b-1", json!({})).await;
    settle().await;
    assert!(!ahead.is_finished());
    let answer = ahead.await.expect("the call").expect("an answer");
    assert!(answer.took >= Duration::from_secs(4));
    assert_eq!(answer.ids(), ["b-1"]);
    assert!(answer.index() < 9999);
}

#[tokio::test(start_paused = true)]
async fn many_watchers_wake_together() {
    let caller = Caller::new();
    let mut watching = Vec::new();
    for _ in 0..100 {
        watching.push(caller.watch("/v1/health/service/b", "60s").await);
    }
    assert_eq!(caller.agent.counters().blocked, 100);
    let began = Instant::now();
    caller.register("b", "b-1", json!({})).await;
    for watch in watching {
        assert_eq!(watch.answer().await.ids(), ["b-1"]);
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_its_client() {
    let caller = Caller::new();
    let watching = caller.watch("/v1/health/service/b", "60s").await;
    assert_eq!(caller.agent.counters().blocked, 1);
    watching.call.abort();
    settle().await;
    let counters = caller.agent.counters();
    assert_eq!((counters.blocked, counters.connections), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_service_can_be_watched_by_its_hash() {
    let caller = Caller::new();
    caller.register("b", "b-1", json!({})).await;
    let hash = caller
        .get("/v1/agent/service/b-1")
        .await
        .header("x-consul-contenthash")
        .expect("a hash")
        .to_owned();
    let target = format!("/v1/agent/service/b-1?hash={hash}&wait=10s");
    let watching = caller.begin(Method::GET, &target, "").await;
    caller.done("/v1/agent/check/fail/service:b-1").await;
    advance(Duration::from_secs(1)).await;
    settle().await;
    assert!(!watching.is_finished(), "a check is not the service");
    caller.register("b", "b-1", json!({"Port": 2})).await;
    settle().await;
    assert!(watching.is_finished());
    let answer = watching.await.expect("the call").expect("an answer");
    assert_ne!(answer.header("x-consul-contenthash"), Some(hash.as_str()));
    assert!(
        caller.get(&target).await.took < Duration::from_secs(1),
        "another hash is answered at once"
    );
}
