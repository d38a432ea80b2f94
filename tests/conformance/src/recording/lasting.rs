//! What of an answer is the same in every run: numbers, ids and moments are replaced by what they are, and what has no
//! order is put in one.

use serde_json::Value;

/// A header worth comparing, with its value as far as that lasts.
pub(super) fn header(name: &str, value: &str) -> Option<(String, Value)> {
    let name = name.to_ascii_lowercase();
    let value = match name.as_str() {
        "content-type" | "cache-control" | "location" | "allow" | "vary" => value,
        "x-consul-knownleader" | "x-consul-effective-consistency" | "x-consul-reason" | "x-cache" => value,
        // 0 and 1 mean something; else it counts.
        "x-consul-index" if value.len() > 1 => "<index>",
        "x-consul-index" => value,
        "x-consul-lastcontact" | "age" | "x-consul-contenthash" => "<varies>",
        _ if name.starts_with("x-consul") => value,
        _ => return None,
    };
    Some((name, Value::String(value.to_owned())))
}

/// A body as far as it lasts.
pub(super) fn body(mut body: Value) -> Value {
    settle(&mut body, "");
    body
}

fn settle(value: &mut Value, key: &str) {
    match value {
        Value::Array(items) => {
            for item in items.iter_mut() {
                settle(item, key);
            }
            // Of tags, checks and local health Consul has no order of its own.
            let order = |item: &Value| match item {
                Value::String(text) => Some(text.clone()),
                item => [&item["CheckID"], &item["Service"]["ID"]]
                    .into_iter()
                    .find_map(|id| id.as_str().map(str::to_owned)),
            };
            items.sort_by_key(order);
        }
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                match key.as_str() {
                    "CreateIndex" | "ModifyIndex" => *field = "<index>".into(),
                    "ContentHash" => *field = "<hash>".into(),
                    // How this very process was started and how it does.
                    "DebugConfig" | "Stats" | "port" | "wan_join_port" => *field = "<varies>".into(),
                    key => settle(field, key),
                }
            }
        }
        Value::String(text) => {
            if is_uuid(text) {
                *text = "<uuid>".to_owned();
            } else if is_address(text) {
                *text = "<address>".to_owned();
            }
        }
        // The `consul` service is at the port of its server.
        Value::Number(number) if key == "Port" && number.as_u64().is_some_and(is_own_port) => {
            *value = "<port>".into();
        }
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// Consul's usual ports, or what tests give it instead; services of the questions have none like these.
fn is_own_port(port: u64) -> bool {
    (8300..=8302).contains(&port) || (20_000..33_000).contains(&port)
}

/// An address of this machine with a port, as the server has one.
fn is_address(text: &str) -> bool {
    text.strip_prefix("127.0.0.1:")
        .is_some_and(|port| port.parse::<u16>().is_ok())
}

fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    lengths.iter().all(|length| {
        let part = parts.next().unwrap_or_default();
        part.len() == *length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    }) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_counts_or_is_drawn_by_lot_is_replaced_and_the_rest_stays() {
        let settled = body(json!({
            "ID": "3ac78260-292c-f682-7a3c-2169517976b3", "Port": 7000, "CreateIndex": 12, "Tags": ["b", "a"],
            "Checks": [{"CheckID": "z", "Status": "passing"}, {"CheckID": "a"}], "Leader": "127.0.0.1:8300",
        }));
        let expected = json!({
            "ID": "<uuid>", "Port": 7000, "CreateIndex": "<index>", "Tags": ["a", "b"],
            "Checks": [{"CheckID": "a"}, {"CheckID": "z", "Status": "passing"}], "Leader": "<address>",
        });
        assert_eq!(settled, expected);
    }

    #[test]
    fn headers_that_say_nothing_are_left_out() {
        assert_eq!(header("Date", "today"), None);
        assert_eq!(
            header("X-Consul-Index", "57"),
            Some(("x-consul-index".into(), json!("<index>")))
        );
        assert_eq!(
            header("X-Consul-Index", "1"),
            Some(("x-consul-index".into(), json!("1")))
        );
    }
}
