//! Answers: shapes, texts and headers as Consul 1.8.7 was seen to give them.

use serde_json::{Value, json};

use super::caller::Caller;

const FULL: &str = r#"{
    "ID": "greeter-1", "Name": "greeter", "Address": "127.0.0.1", "Port": 9001,
    "Tags": ["v1", "blue"], "Meta": {"proto": "picom/1", "instance": "u-1"},
    "TaggedAddresses": {
        "lan": {"Address": "127.0.0.1", "Port": 9001},
        "wan": {"Address": "198.51.100.7", "Port": 443},
        "custom": {"Address": "10.0.0.9", "Port": 1}
    },
    "Weights": {"Passing": 10, "Warning": 2}, "EnableTagOverride": false,
    "Check": {
        "CheckID": "greeter-1:ttl", "Name": "heartbeat", "Notes": "n", "TTL": "10s",
        "Status": "passing", "DeregisterCriticalServiceAfter": "1m"
    }
}"#;

fn tagged() -> Value {
    json!({
        "custom": {"Address": "10.0.0.9", "Port": 1},
        "lan": {"Address": "127.0.0.1", "Port": 9001},
        "lan_ipv4": {"Address": "127.0.0.1", "Port": 9001},
        "wan": {"Address": "198.51.100.7", "Port": 443},
        "wan_ipv4": {"Address": "127.0.0.1", "Port": 9001}
    })
}

/// Indexes and ids are of the run: replaced where they stand for something, kept where they are 0.
fn shaped(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Object(map) => {
                for (key, value) in map {
                    match (key.as_str(), &*value) {
                        ("CreateIndex" | "ModifyIndex", Value::Number(n)) if n.as_u64() > Some(0) => {
                            *value = json!("index");
                        }
                        ("ID", Value::String(id)) if id.len() == 36 => *value = json!("uuid"),
                        _ => walk(value),
                    }
                }
            }
            _ => {}
        }
    }
    walk(&mut value);
    value
}

#[tokio::test(start_paused = true)]
async fn a_change_is_answered_with_nothing() {
    let caller = Caller::new();
    let answer = caller
        .put("/v1/agent/service/register?replace-existing-checks=true", FULL)
        .await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(answer.header("content-length"), Some("0"));
    assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
}

#[tokio::test(start_paused = true)]
async fn health_lists_nodes_services_and_checks() {
    let caller = Caller::new();
    caller.put("/v1/agent/service/register", FULL).await;
    let answer = caller.get("/v1/health/service/greeter?passing=true").await;
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-consul-effective-consistency", "leader"),
        ("x-consul-knownleader", "true"),
        ("x-consul-lastcontact", "0"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert!(answer.index() > 10);
    let expected = json!([{
        "Node": {
            "ID": "uuid", "Node": "picom-dev", "Address": "127.0.0.1", "Datacenter": "dc1",
            "TaggedAddresses": {
                "lan": "127.0.0.1", "lan_ipv4": "127.0.0.1", "wan": "127.0.0.1", "wan_ipv4": "127.0.0.1"
            },
            "Meta": {"consul-network-segment": ""}, "CreateIndex": "index", "ModifyIndex": "index"
        },
        "Service": {
            "ID": "greeter-1", "Service": "greeter", "Tags": ["v1", "blue"], "Address": "127.0.0.1",
            "TaggedAddresses": tagged(), "Meta": {"instance": "u-1", "proto": "picom/1"}, "Port": 9001,
            "Weights": {"Passing": 10, "Warning": 2}, "EnableTagOverride": false,
            "Proxy": {"MeshGateway": {}, "Expose": {}}, "Connect": {},
            "CreateIndex": "index", "ModifyIndex": "index"
        },
        "Checks": [
            {
                "Node": "picom-dev", "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing",
                "Notes": "", "Output": "Agent alive and reachable", "ServiceID": "", "ServiceName": "",
                "ServiceTags": [], "Type": "", "Definition": {}, "CreateIndex": "index", "ModifyIndex": "index"
            },
            {
                "Node": "picom-dev", "CheckID": "greeter-1:ttl", "Name": "heartbeat", "Status": "passing",
                "Notes": "n", "Output": "", "ServiceID": "greeter-1", "ServiceName": "greeter",
                "ServiceTags": ["v1", "blue"], "Type": "ttl", "Definition": {},
                "CreateIndex": "index", "ModifyIndex": "index"
            }
        ]
    }]);
    assert_eq!(shaped(answer.json()), expected);
}

#[tokio::test(start_paused = true)]
async fn a_bare_service_has_null_meta_in_the_catalog_and_an_empty_one_in_the_agent() {
    let caller = Caller::new();
    caller
        .put(
            "/v1/agent/service/register",
            r#"{"ID":"dflt-1","Name":"dflt","Port":9002,"Check":{"TTL":"15s"}}"#,
        )
        .await;
    let health = caller.get("/v1/health/service/dflt").await.json();
    let service = &health[0]["Service"];
    assert_eq!(
        (&service["Meta"], &service["Address"]),
        (&Value::Null, &json!(""))
    );
    assert_eq!(service.get("TaggedAddresses"), None);
    assert_eq!(health[0]["Checks"][1]["Status"], "critical");
    assert_eq!(health[0]["Checks"][1]["Name"], "Service 'dflt' check");

    let answer = caller.get("/v1/agent/service/dflt-1").await;
    let mut local = answer.json();
    assert_eq!(
        answer.header("x-consul-contenthash"),
        local["ContentHash"].as_str()
    );
    local.as_object_mut().expect("an object").remove("ContentHash");
    let expected = json!({
        "ID": "dflt-1", "Service": "dflt", "Tags": [], "Meta": {}, "Port": 9002, "Address": "",
        "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false
    });
    assert_eq!(local, expected);
    assert_eq!(
        caller.get("/v1/agent/services").await.json(),
        json!({ "dflt-1": expected })
    );
    assert_eq!(
        caller.get("/v1/agent/checks").await.json(),
        json!({ "service:dflt-1": {
            "Node": "picom-dev", "CheckID": "service:dflt-1", "Name": "Service 'dflt' check", "Status": "critical",
            "Notes": "", "Output": "", "ServiceID": "dflt-1", "ServiceName": "dflt", "ServiceTags": [],
            "Type": "ttl", "Definition": {}, "CreateIndex": 0, "ModifyIndex": 0
        }})
    );
}

#[tokio::test(start_paused = true)]
async fn the_agents_own_health_speaks_by_status_codes() {
    let caller = Caller::new();
    caller.put("/v1/agent/service/register", FULL).await;
    for (verb, status, word) in [
        ("warn", 429, "warning"),
        ("fail", 503, "critical"),
        ("pass", 200, "passing"),
    ] {
        caller
            .done(&format!("/v1/agent/check/{verb}/greeter-1:ttl?note={verb}1"))
            .await;
        let by_name = caller.get("/v1/agent/health/service/name/greeter").await;
        assert_eq!(
            (by_name.status, by_name.header("x-consul-reason")),
            (status, Some(word))
        );
        assert_eq!(by_name.json()[0]["Checks"][0]["Output"], format!("{verb}1"));
        let by_id = caller.get("/v1/agent/health/service/id/greeter-1").await;
        assert_eq!(
            (by_id.status, &by_id.json()["AggregatedStatus"]),
            (status, &json!(word))
        );
        assert_eq!(by_id.json()["Checks"][0]["Definition"]["Interval"], "0s");
        let text = caller
            .get("/v1/agent/health/service/id/greeter-1?format=text")
            .await;
        assert_eq!(
            (text.status, text.text.as_str(), text.header("content-type")),
            (status, word, Some("text/plain"))
        );
    }
    let unknown = caller.get("/v1/agent/health/service/id/nope").await;
    assert_eq!(
        (unknown.status, unknown.header("x-consul-reason")),
        (404, Some("ServiceId nope not found"))
    );
    assert_eq!(
        unknown.json(),
        json!({"AggregatedStatus": "critical", "Service": null, "Checks": null})
    );
    let unknown = caller.get("/v1/agent/health/service/name/nope").await;
    assert_eq!((unknown.status, unknown.text.as_str()), (404, "[]\n"));
}

#[tokio::test(start_paused = true)]
async fn odd_ids_are_decoded_in_every_path() {
    let caller = Caller::new();
    for (id, encoded) in [
        ("a/b c", "a%2Fb%20c"),
        ("50%", "50%25"),
        ("gr\u{fc}\u{df}e", "gr%C3%BC%C3%9Fe"),
    ] {
        caller.register("odd", id, json!({})).await;
        caller
            .done(&format!("/v1/agent/check/pass/service:{encoded}"))
            .await;
        assert_eq!(
            caller.get(&format!("/v1/agent/service/{encoded}")).await.json()["ID"],
            id
        );
        caller
            .done(&format!(
                "/v1/agent/service/maintenance/{encoded}?enable=true&reason=deploy%20now"
            ))
            .await;
        let health = caller.get("/v1/health/service/odd").await.json();
        assert_eq!(health[0]["Checks"][1]["Notes"], "deploy now");
        caller
            .done(&format!("/v1/agent/service/deregister/{encoded}"))
            .await;
        assert_eq!(caller.ids("/v1/health/service/odd").await, Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn several_checks_are_numbered_and_of_two_with_one_id_the_second_counts() {
    let caller = Caller::new();
    let checks = json!([{"TTL": "15s"}, {"TTL": "20s", "Name": "second", "Status": "passing"}]);
    caller
        .put(
            "/v1/agent/service/register",
            &json!({"Name": "two", "ID": "t", "Checks": checks}).to_string(),
        )
        .await;
    let known = caller.get("/v1/agent/checks").await.json();
    assert_eq!(
        (&known["service:t:1"]["Name"], &known["service:t:2"]["Name"]),
        (&json!("Service 'two' check"), &json!("second"))
    );
    assert_eq!(
        caller.put("/v1/agent/check/pass/service:t", "").await.status,
        500,
        "there is no such check"
    );

    let same = json!([{"TTL": "9s", "CheckID": "c", "Status": "warning"}, {"TTL": "9s", "CheckID": "c", "Status": "passing"}]);
    let body = json!({"Name": "two", "ID": "t", "Checks": same}).to_string();
    caller.put("/v1/agent/service/register", &body).await;
    let known = caller.get("/v1/agent/checks").await.json();
    assert_eq!(
        (known.as_object().map(|map| map.len()), &known["c"]["Status"]),
        (Some(3), &json!("passing"))
    );
    caller
        .put("/v1/agent/service/register?replace-existing-checks=true", &body)
        .await;
    let known = caller.get("/v1/agent/checks").await.json();
    assert_eq!(
        known.as_object().map(|map| map.len()),
        Some(1),
        "those that were not named are gone"
    );
}

#[tokio::test(start_paused = true)]
async fn reads_select_by_state_tag_and_node() {
    let caller = Caller::new();
    for (id, tags, status) in [
        ("h-0", json!(["v1", "blue"]), "passing"),
        ("h-1", json!(["v2"]), "passing"),
        ("h-2", json!(["v1"]), "warning"),
    ] {
        let check = json!({"TTL": "600s", "Status": status});
        caller
            .register("h", id, json!({"Tags": tags, "Check": check}))
            .await;
    }
    for (query, ids) in [
        ("", vec!["h-0", "h-1", "h-2"]),
        ("?passing", vec!["h-0", "h-1"]),
        ("?passing=1", vec!["h-0", "h-1"]),
        ("?passing=false", vec!["h-0", "h-1", "h-2"]),
        ("?tag=v1", vec!["h-0", "h-2"]),
        ("?tag=V1&tag=blue", vec!["h-0"]),
        ("?tag=none", vec![]),
        ("?passing&tag=v1", vec!["h-0"]),
        ("?near=_agent", vec!["h-0", "h-1", "h-2"]),
        ("?near=nonode", vec!["h-0", "h-1", "h-2"]),
        ("?node-meta=consul-network-segment:", vec!["h-0", "h-1", "h-2"]),
        ("?node-meta=a:b", vec![]),
        (
            "?partition=default&peer=x&merge-central-config&dc=dc1",
            vec!["h-0", "h-1", "h-2"],
        ),
    ] {
        assert_eq!(
            caller.ids(&format!("/v1/health/service/h{query}")).await,
            ids,
            "{query}"
        );
    }
    let names = caller.get("/v1/catalog/services").await.json();
    assert_eq!(names, json!({"consul": [], "h": ["v1", "blue", "v2"]}));
    let catalog = caller.get("/v1/catalog/service/h?tag=v2").await.json();
    assert_eq!(
        (&catalog[0]["ServiceID"], &catalog[0]["NodeMeta"]),
        (&json!("h-1"), &json!({"consul-network-segment": ""}))
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_ill_takes_its_services_with_it() {
    let caller = Caller::new();
    caller.register("h", "h-0", json!({})).await;
    let passing = "/v1/health/service/h?passing";
    caller.done("/v1/agent/maintenance?enable=true&reason=x").await;
    assert!(caller.ids(passing).await.is_empty());
    caller.done("/v1/agent/maintenance?enable=false").await;
    assert_eq!(caller.ids(passing).await, ["h-0"]);
    caller
        .put(
            "/v1/agent/check/register",
            r#"{"ID":"disk","Name":"disk","TTL":"600s"}"#,
        )
        .await;
    assert!(caller.ids(passing).await.is_empty());
    caller.done("/v1/agent/check/pass/disk").await;
    assert_eq!(caller.ids(passing).await, ["h-0"]);
    caller.done("/v1/agent/check/fail/disk").await;
    caller.done("/v1/agent/check/deregister/disk").await;
    assert_eq!(caller.ids(passing).await, ["h-0"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_on_two_nodes_is_two_instances() {
    let caller = Caller::new();
    caller.register("h", "h-0", json!({})).await;
    let other = r#"{"Node":"other","Address":"192.0.2.5","Service":{"ID":"h-0","Service":"h","Port":2},
        "Check":{"CheckID":"c","Name":"c","Status":"passing","ServiceID":"h-0"}}"#;
    assert_eq!(caller.put("/v1/catalog/register", other).await.text, "true\n");
    let health = caller.get("/v1/health/service/h?passing").await.json();
    let nodes: Vec<_> = health
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| &entry["Node"]["Node"])
        .collect();
    assert_eq!(nodes, ["other", "picom-dev"]);
    assert_eq!(health[0]["Node"]["Address"], "192.0.2.5");
    caller.put("/v1/catalog/deregister", r#"{"Node":"other"}"#).await;
    assert_eq!(caller.ids("/v1/health/service/h").await, ["h-0"]);
}

#[tokio::test(start_paused = true)]
async fn modes_of_reading_are_told_in_headers() {
    let caller = Caller::new();
    for (mode, word) in [
        ("", "leader"),
        ("?stale", "stale"),
        ("?consistent", "consistent"),
        ("?cached", "leader"),
    ] {
        let answer = caller.get(&format!("/v1/health/service/h{mode}")).await;
        assert_eq!(
            answer.header("x-consul-effective-consistency"),
            Some(word),
            "{mode}"
        );
    }
    let cached = "/v1/health/service/new?cached";
    assert_eq!(caller.get(cached).await.header("x-cache"), Some("MISS"));
    let again = caller.get("/v1/health/service/new?cached&index=1").await;
    assert_eq!(
        (again.header("x-cache"), again.header("age")),
        (Some("HIT"), Some("0"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_agent_says_who_it_is() {
    let caller = Caller::new();
    let about = caller.get("/v1/agent/self").await;
    assert_eq!(about.header("x-picom-dev-agent"), Some("1"));
    assert_eq!(about.json()["Config"]["Version"], "1.8.7");
    assert_eq!(about.json()["Config"]["NodeName"], "picom-dev");
    assert_eq!(caller.get("/v1/status/leader").await.json(), "127.0.0.1:8300");
    assert_eq!(
        caller.get("/v1/status/peers").await.json(),
        json!(["127.0.0.1:8300"])
    );
    assert_eq!(caller.get("/v1/catalog/datacenters").await.json(), json!(["dc1"]));
    let moved = caller.get("/v1/health/service").await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some("/v1/health/service/"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_made_for_human_eyes() {
    let caller = Caller::new();
    let pretty = caller.get("/v1/health/service/consul?pretty").await;
    let plain = caller.get("/v1/health/service/consul").await;
    assert_eq!(pretty.json(), plain.json());
    assert!(pretty.text.lines().count() > 10 && plain.text.lines().count() == 1);
}
