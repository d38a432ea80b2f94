//! What the passing of time does: TTLs, the reaper, outputs that reach the catalog late. The clock is the test's.

use std::time::Duration;

use picom_discovery::dev_agent::DevAgentConfig;
use serde_json::json;
use tokio::time::{Instant, advance, sleep};

use super::caller::{Caller, settle};

const PASSING: &str = "/v1/health/service/s?passing";

async fn registered(ttl: &str) -> Caller {
    let caller = Caller::new();
    caller
        .register("s", "s-1", json!({"Check": {"TTL": ttl, "Status": "passing"}}))
        .await;
    caller
}

#[tokio::test(start_paused = true)]
async fn a_ttl_runs_out_to_the_moment() {
    for (ttl, span) in [
        ("2s", Duration::from_secs(2)),
        ("300ms", Duration::from_millis(300)),
    ] {
        let caller = registered(ttl).await;
        let began = Instant::now();
        let watching = caller.watch(PASSING, "60s").await;
        let answer = watching.answer().await;
        assert_eq!(began.elapsed(), span, "woken by the TTL alone");
        assert_eq!(answer.ids(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_it_alive_and_wake_nobody() {
    let caller = registered("2s").await;
    let watching = caller.watch(PASSING, "60s").await;
    for beat in 0..15 {
        advance(Duration::from_millis(660)).await;
        caller
            .done(&format!("/v1/agent/check/pass/service:s-1?note=beat{beat}"))
            .await;
        assert!(!watching.woke().await);
    }
    let last = Instant::now();
    assert_eq!(watching.answer().await.ids(), Vec::<String>::new());
    assert_eq!(last.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn an_expired_check_says_what_was_last_heard_and_a_late_heartbeat_revives_it() {
    let caller = registered("2s").await;
    let output = async |caller: &Caller| {
        let health = caller.get("/v1/health/service/s").await.json();
        health[0]["Checks"][1]["Output"]
            .as_str()
            .expect("a text")
            .to_owned()
    };
    advance(Duration::from_secs(2)).await;
    settle().await;
    assert_eq!(output(&caller).await, "TTL expired");
    caller
        .done("/v1/agent/check/pass/service:s-1?note=lastnote")
        .await;
    assert_eq!(caller.ids(PASSING).await, ["s-1"]);
    advance(Duration::from_secs(2)).await;
    assert_eq!(
        output(&caller).await,
        "TTL expired (last output before timeout follows): lastnote"
    );
    assert!(caller.ids(PASSING).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn registering_again_keeps_the_status_and_restarts_the_ttl() {
    let caller = registered("2s").await;
    advance(Duration::from_millis(1200)).await;
    // Passing stays passing though nothing is said.
    caller.register("s", "s-1", json!({"Check": {"TTL": "2s"}})).await;
    let again = Instant::now();
    let watching = caller.watch(PASSING, "60s").await;
    watching.answer().await;
    assert_eq!(again.elapsed(), Duration::from_secs(2));
    // Critical stays critical though passing is said.
    caller
        .register("s", "s-1", json!({"Check": {"TTL": "2s", "Status": "passing"}}))
        .await;
    assert!(caller.ids(PASSING).await.is_empty());
    caller.done("/v1/agent/check/pass/service:s-1").await;
    assert_eq!(caller.ids(PASSING).await, ["s-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_check_without_a_status_is_critical_until_its_first_heartbeat() {
    let caller = Caller::new();
    caller
        .register("s", "s-1", json!({"Check": {"TTL": "15s"}}))
        .await;
    assert!(caller.ids(PASSING).await.is_empty());
    caller.done("/v1/agent/check/pass/service:s-1").await;
    assert_eq!(caller.ids(PASSING).await, ["s-1"]);
}

#[tokio::test(start_paused = true)]
async fn the_reaper_comes_on_its_own_beat() {
    // Consul, measured: TTL 3 s and "1s" or "1m" gone at 74 s, "75s" at 104 s; its ticks there were at 14, 44, 74, 104.
    for (after, gone) in [("1s", 90), ("1m", 90), ("75s", 90), ("90s", 120)] {
        let caller = Caller::new();
        let began = Instant::now();
        let check = json!({"TTL": "3s", "Status": "passing", "DeregisterCriticalServiceAfter": after});
        caller.register("s", "s-1", json!({"Check": check})).await;
        let watching = caller.watch("/v1/health/service/s", "300s").await;
        watching.answer().await;
        assert_eq!(began.elapsed(), Duration::from_secs(3), "critical");
        let watching = caller.watch("/v1/health/service/s", "300s").await;
        assert_eq!(watching.answer().await.ids(), Vec::<String>::new());
        assert_eq!(began.elapsed(), Duration::from_secs(gone), "{after}");
        assert_eq!(caller.get("/v1/agent/service/s-1").await.status, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fast_reaper_spares_what_comes_back_in_time() {
    let config = DevAgentConfig {
        deregister_min: Duration::from_secs(2),
        reap_interval: Duration::from_millis(500),
        ..DevAgentConfig::default()
    };
    let caller = Caller::with(config);
    let check = json!({"TTL": "1s", "Status": "passing", "DeregisterCriticalServiceAfter": "2s"});
    caller.register("s", "s-1", json!({"Check": check})).await;
    sleep(Duration::from_millis(2900)).await;
    caller.done("/v1/agent/check/pass/service:s-1").await;
    sleep(Duration::from_millis(3000)).await;
    assert_eq!(
        caller.ids("/v1/health/service/s").await,
        ["s-1"],
        "critical for 2 s, not longer"
    );
    sleep(Duration::from_millis(600)).await;
    assert!(caller.ids("/v1/health/service/s").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_output_alone_reaches_the_catalog_minutes_later() {
    let caller = registered("3600s").await;
    let watching = caller.watch("/v1/health/service/s", "600s").await;
    let began = Instant::now();
    caller.done("/v1/agent/check/pass/service:s-1?note=hello").await;
    assert_eq!(
        caller.get("/v1/agent/checks").await.json()["service:s-1"]["Output"],
        "hello"
    );
    assert_eq!(
        caller.get("/v1/health/service/s").await.json()[0]["Checks"][1]["Output"],
        ""
    );
    let answer = watching.answer().await;
    assert_eq!(answer.json()[0]["Checks"][1]["Output"], "hello");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(150) && took <= Duration::from_secs(450),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn registering_again_takes_the_output_along() {
    let caller = registered("600s").await;
    caller.done("/v1/agent/check/pass/service:s-1?note=hello").await;
    let watching = caller.watch("/v1/health/service/s", "60s").await;
    caller
        .register("s", "s-1", json!({"Check": {"TTL": "600s"}}))
        .await;
    assert!(watching.woke().await, "once, for the output");
    let watching = caller.watch("/v1/health/service/s", "60s").await;
    caller
        .register("s", "s-1", json!({"Check": {"TTL": "600s"}}))
        .await;
    assert!(!watching.woke().await, "identical");
}

#[tokio::test(start_paused = true)]
async fn a_long_output_is_cut_and_says_so() {
    let caller = registered("600s").await;
    // 3 bytes a character: 4096 is inside one.
    let note = "%E2%82%AC".repeat(2000);
    caller
        .done(&format!("/v1/agent/check/pass/service:s-1?note={note}"))
        .await;
    let output = caller.get("/v1/agent/checks").await.json()["service:s-1"]["Output"].clone();
    let output = output.as_str().expect("a text");
    assert!(
        output.ends_with("\u{20ac} ... (captured 4096 of 6000 bytes)"),
        "{output}"
    );
    assert_eq!(output.chars().filter(|c| *c == '\u{20ac}').count(), 1365);
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_from_the_catalog_comes_back() {
    let caller = registered("600s").await;
    let watching = caller.watch("/v1/health/service/s", "60s").await;
    caller
        .put(
            "/v1/catalog/deregister",
            r#"{"Node":"picom-dev","ServiceID":"s-1"}"#,
        )
        .await;
    assert_eq!(watching.answer().await.ids(), Vec::<String>::new());
    caller.done("/v1/agent/check/pass/service:s-1").await;
    assert!(
        caller.ids("/v1/health/service/s").await.is_empty(),
        "heartbeats do not help"
    );
    sleep(Duration::from_secs(76)).await;
    assert_eq!(caller.ids("/v1/health/service/s").await, ["s-1"]);
}
