//! Error answers: status, text and headers as Consul 1.8.7 was seen to give them, and later versions are known to.

use hyper::Method;
use picom_discovery::dev_agent::{Compat, DevAgentConfig};
use serde_json::json;

use super::caller::Caller;

#[tokio::test(start_paused = true)]
async fn errors_are_one_line_of_text_in_consuls_words() {
    let caller = Caller::new();
    caller.register("dflt", "dflt-1", json!({})).await;
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    let rows = [
        (
            &put,
            "/v1/agent/check/update/service:dflt-1",
            r#"{"Status":"bogus"}"#,
            400,
            "Invalid check status: 'bogus'",
        ),
        (
            &put,
            "/v1/agent/check/update/service:dflt-1",
            "{bad",
            400,
            "Request decode failed: invalid character 'b' looking for beginning of object key string",
        ),
        (
            &put,
            "/v1/agent/check/update/service:dflt-1",
            "",
            400,
            "Request decode failed: EOF",
        ),
        (
            &put,
            "/v1/agent/check/pass/nope",
            "",
            500,
            r#"CheckID "nope" does not have associated TTL"#,
        ),
        (
            &put,
            "/v1/agent/check/update/nope",
            r#"{"Status":"passing"}"#,
            500,
            r#"CheckID "nope" does not have associated TTL"#,
        ),
        (
            &put,
            "/v1/agent/service/register",
            "",
            400,
            "Request decode failed: EOF",
        ),
        (
            &put,
            "/v1/agent/service/register",
            "{}",
            400,
            "Missing service name",
        ),
        (
            &post,
            "/v1/agent/service/register",
            "{}",
            405,
            "method POST not allowed",
        ),
        (
            &get,
            "/v1/agent/check/pass/service:dflt-1",
            "",
            405,
            "method GET not allowed",
        ),
        (&put, "/v1/health/service/h", "", 405, "method PUT not allowed"),
        (&get, "/v1/nope", "", 404, ""),
        (&put, "/v1/agent/service/deregister/nope", "", 200, ""),
        (
            &put,
            "/v1/agent/service/deregister/",
            "",
            500,
            "ServiceID missing",
        ),
        (
            &get,
            "/v1/agent/service/nope",
            "",
            404,
            "unknown service ID: nope",
        ),
        (
            &put,
            "/v1/agent/service/maintenance/dflt-1",
            "",
            400,
            "Missing value for enable",
        ),
        (
            &put,
            "/v1/agent/service/maintenance/dflt-1?enable=maybe",
            "",
            400,
            r#"Invalid value for enable: "maybe""#,
        ),
        (
            &put,
            "/v1/agent/service/maintenance/nope?enable=true",
            "",
            404,
            r#"No service registered with ID "nope""#,
        ),
        (&put, "/v1/agent/maintenance", "", 400, "Missing value for enable"),
        (
            &put,
            "/v1/agent/check/register",
            r#"{"ID":"c","Name":"c","ServiceID":"nope","TTL":"1s"}"#,
            500,
            r#"ServiceID "nope" does not exist"#,
        ),
        (&get, "/v1/health/service/", "", 400, "Missing service name"),
        (&get, "/v1/health/state/", "", 400, "Missing check state"),
        (
            &get,
            "/v1/health/service/h?passing=maybe",
            "",
            400,
            "Invalid value for ?passing",
        ),
        (&get, "/v1/health/service/h?index=abc", "", 400, "Invalid index"),
        (
            &get,
            "/v1/health/service/h?wait=abc",
            "",
            400,
            "Invalid wait time",
        ),
        (
            &get,
            "/v1/health/service/h?stale&consistent",
            "",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        (
            &get,
            "/v1/health/service/h?cached&consistent",
            "",
            400,
            "Cannot specify ?cached with ?consistent, conflicting semantics.",
        ),
        (
            &get,
            "/v1/health/service/h?dc=nope",
            "",
            500,
            "No path to datacenter",
        ),
        (
            &get,
            "/v1/health/service/h?ns=default",
            "",
            400,
            "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
        ),
        (
            &get,
            "/v1/health/service/h?filter=Service.Port==1",
            "",
            500,
            "picom's dev agent: filter expressions are not supported",
        ),
        (
            &put,
            "/v1/catalog/register",
            r#"{"Node":"n"}"#,
            500,
            "Must provide address if SkipNodeUpdate is not set",
        ),
        (&put, "/v1/catalog/deregister", "{}", 500, "Must provide node"),
    ];
    for (method, target, body, status, text) in rows {
        let answer = caller.call(method.clone(), target, body).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (status, text),
            "{method} {target} {body}"
        );
        if !text.is_empty() {
            assert_eq!(
                answer.header("content-type"),
                Some("text/plain; charset=utf-8"),
                "{target}"
            );
        }
        if status == 405 {
            assert!(
                answer
                    .header("allow")
                    .is_some_and(|allow| allow.starts_with("OPTIONS,")),
                "{target}"
            );
        }
        let is_read = target.starts_with("/v1/health/");
        let index = (is_read && status == 500).then_some("1");
        assert_eq!(
            answer.header("x-consul-index"),
            index,
            "{target}: an index that must not be believed"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn later_versions_say_404_to_unknown_ids() {
    let caller = Caller::with(DevAgentConfig {
        compat: Compat::V1_11,
        ..DevAgentConfig::default()
    });
    for (target, text) in [
        (
            "/v1/agent/check/pass/x",
            r#"Unknown check ID "x". Ensure that the check ID is passed, not the check name."#,
        ),
        (
            "/v1/agent/service/deregister/x",
            r#"Unknown service ID "x". Ensure that the service ID is passed, not the service name."#,
        ),
        (
            "/v1/agent/service/maintenance/x?enable=true",
            r#"Unknown service ID "x". Ensure that the service ID is passed, not the service name."#,
        ),
    ] {
        let answer = caller.put(target, "").await;
        assert_eq!((answer.status, answer.text.as_str()), (404, text));
    }
    let read = caller.get("/v1/health/service/x").await;
    assert_eq!(read.header("x-consul-query-backend"), Some("blocking-query"));
    assert_eq!(read.header("x-consul-default-acl-policy"), Some("allow"));
}
