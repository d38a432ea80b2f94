//! Whatever is sent to it, the agent neither panics nor hangs nor holds more than its limits.

use std::time::Duration;

use hyper::Method;
use picom_discovery::dev_agent::{DevAgent, DevAgentConfig};
use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::caller::Caller;

/// Sends bytes, half-closes if told to, and gives what came back until the agent closed. The connection is served on
/// this task, so that a panic is the test's.
async fn served(bytes: &[u8], close: bool) -> Vec<u8> {
    let agent = DevAgent::in_memory(DevAgentConfig {
        seed: Some(1),
        ..DevAgentConfig::default()
    });
    let (mut near, far) = tokio::io::duplex(16 * 1024);
    let talk = async {
        drop(near.write_all(bytes).await);
        if close {
            drop(near.shutdown().await);
        }
        let mut back = Vec::new();
        drop(near.read_to_end(&mut back).await);
        back
    };
    let both = async { tokio::join!(agent.serve_connection(far), talk).1 };
    timeout(Duration::from_secs(24 * 3600), both)
        .await
        .expect("the connection ends")
}

#[tokio::test(start_paused = true)]
async fn what_is_not_http_is_closed() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\x00\x00\x00\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        &[0xff; 4096],
    ] {
        let back = served(bytes, false).await;
        assert!(
            back.is_empty() || back.starts_with(b"HTTP/1.1 4"),
            "{:?}",
            String::from_utf8_lossy(&back)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn heads_that_never_end_are_closed_in_time_and_size() {
    let began = Instant::now();
    served(b"GET /v1/agent/self HTTP/1.1\r\nHost:", false).await;
    assert_eq!(began.elapsed().as_secs(), 120, "slow");
    let mut long = b"GET /v1/agent/self HTTP/1.1\r\n".to_vec();
    long.extend_from_slice("X: y\r\n".repeat(100_000).as_bytes());
    let back = served(&long, false).await;
    assert!(
        back.starts_with(b"HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&back)
    );
    let idle = Instant::now();
    served(b"", false).await;
    assert_eq!(idle.elapsed().as_secs(), 120, "idle");
}

#[tokio::test(start_paused = true)]
async fn bodies_are_bounded_in_size_and_time() {
    let caller = Caller::new();
    let large = format!("{{\"Name\":\"{}\"}}", "x".repeat(600 * 1024));
    let answer = caller.put("/v1/agent/service/register", &large).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (413, "Request body too large, max size: 524288 bytes")
    );
    let began = Instant::now();
    let back = served(
        b"PUT /v1/agent/service/register HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        false,
    )
    .await;
    assert_eq!((back.len(), began.elapsed().as_secs()), (0, 10));
}

#[tokio::test(start_paused = true)]
async fn broken_paths_are_refused_and_odd_ones_answered() {
    let caller = Caller::new();
    for (target, status) in [
        ("/v1/agent/service/a%zz", 400),
        ("/v1/agent/service/%ff", 400),
        ("/v1/agent/self?x=%zz", 500),
        ("/v1//agent/self", 301),
        ("/v1/agent/service/%0d%0aX-Evil:%201", 404),
        ("/v1/agent/health/service/id/%0d%0aX-Evil:%201", 404),
        ("//%0d%0aX-Evil:%201", 301),
        ("/", 404),
    ] {
        let answer = caller.get(target).await;
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("x-evil"), None, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn checks_of_one_registration_are_counted() {
    let caller = Caller::new();
    let checks: Vec<_> = (0..65)
        .map(|n| json!({"TTL": "1s", "CheckID": n.to_string()}))
        .collect();
    let answer = caller
        .put(
            "/v1/agent/service/register",
            &json!({"Name": "x", "Checks": checks}).to_string(),
        )
        .await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (400, "picom's dev agent: more than 64 checks")
    );
}

#[tokio::test(start_paused = true)]
async fn durations_of_any_size_do_no_harm() {
    let caller = Caller::new();
    for ttl in [
        json!("2562047h"),
        json!(9_223_372_036_854_775_807_i64),
        json!(1e300),
        json!("0.000000001ns"),
        json!(1),
    ] {
        let check = json!({"TTL": ttl, "Status": "passing", "DeregisterCriticalServiceAfter": "2562047h"});
        let body = json!({"Name": "x", "Check": check}).to_string();
        let answer = caller.put("/v1/agent/service/register", &body).await;
        assert!([200, 400].contains(&answer.status), "{}", answer.text);
        caller.put("/v1/agent/check/fail/service:x", "").await;
        assert_eq!(
            caller
                .get("/v1/health/service/x?index=1&wait=2562047h")
                .await
                .status,
            200
        );
    }
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![
        Just(Method::GET),
        Just(Method::PUT),
        Just(Method::POST),
        Just(Method::OPTIONS)
    ]
}

fn path() -> impl Strategy<Value = String> {
    let known = prop_oneof![
        Just("/v1/agent/service/register"),
        Just("/v1/agent/service/deregister/"),
        Just("/v1/agent/service/maintenance/"),
        Just("/v1/agent/check/register"),
        Just("/v1/agent/check/update/"),
        Just("/v1/agent/check/pass/"),
        Just("/v1/agent/health/service/name/"),
        Just("/v1/catalog/register"),
        Just("/v1/catalog/deregister"),
        Just("/v1/health/service/"),
        Just("/v1/"),
    ];
    let tail = "[a-c%/?&=+:-]{0,12}";
    let query = prop_oneof![
        Just(""),
        Just("?index=1&wait=1ms"),
        Just("?enable=true&reason=%41"),
        Just("?passing&tag=a&node-meta=a:b&near=x&stale"),
        Just("?replace-existing-checks=1"),
        Just("?pretty&note=%e2%82%ac"),
    ];
    (known, tail, query).prop_map(|(known, tail, query)| format!("{known}{tail}{query}"))
}

fn body() -> impl Strategy<Value = String> {
    let word = || {
        prop_oneof![
            Just("\"a\""),
            Just("\"b\""),
            Just("1"),
            Just("null"),
            Just("\"5s\""),
            Just("{}"),
            Just("[]"),
            Just("true")
        ]
    };
    let key = prop_oneof![
        Just("Name"),
        Just("ID"),
        Just("Node"),
        Just("Address"),
        Just("Service"),
        Just("ServiceID"),
        Just("CheckID"),
        Just("Status"),
        Just("Output"),
        Just("TTL"),
        Just("Tags"),
        Just("Meta"),
        Just("Port"),
        Just("Weights"),
    ];
    let pairs = proptest::collection::vec((key, word()), 0..6).prop_map(|pairs| {
        let pairs: Vec<String> = pairs
            .into_iter()
            .map(|(key, value)| format!("\"{key}\":{value}"))
            .collect();
        format!("{{{}}}", pairs.join(","))
    });
    let checked = pairs
        .clone()
        .prop_map(|inner| format!(r#"{{"Name":"a","ID":"b","Check":{inner},"Node":"n","Address":"x"}}"#));
    prop_oneof![pairs, checked, "[\\PC]{0,20}".prop_map(|text| text)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_answered_or_closed(noise in proptest::collection::vec(any::<u8>(), 0..300), close in any::<bool>()) {
        runtime().block_on(served(&noise, close));
    }

    #[test]
    fn any_requests_are_answered(calls in proptest::collection::vec((method(), path(), body()), 1..20)) {
        runtime().block_on(async {
            let caller = Caller::new();
            for (method, target, body) in calls {
                // What hyper's own client will not send needs no answer.
                if target.parse::<hyper::Uri>().is_err() {
                    continue;
                }
                let answer = timeout(Duration::from_secs(3600), caller.call(method, &target, &body)).await;
                assert!(answer.expect("an answer in time").status >= 200);
            }
            assert_eq!(caller.get("/v1/agent/services").await.status, 200);
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}
