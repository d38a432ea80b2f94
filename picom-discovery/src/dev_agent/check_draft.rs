//! A check as announced: read field by field, judged as a whole. Pure; what becomes of it is decided in `checks`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::config::Compat;
use super::definition::Status;
use super::go_duration::GoDuration;
use super::go_json::{self, DecodeError, Field};
use super::refusal::Refusal;

/// A check as announced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CheckDefinition {
    /// Empty: the agent makes one.
    pub(crate) id: String,
    /// Empty: the agent makes one.
    pub(crate) name: String,
    pub(crate) notes: String,
    /// Empty means critical; anything else was validated.
    pub(crate) status: Option<Status>,
    /// How long it may go without a heartbeat.
    pub(crate) ttl: Duration,
    /// How long the service may stay critical before it is removed.
    pub(crate) deregister_after: Option<Duration>,
    /// For checks that are announced by themselves: the service they belong to; empty is the node.
    pub(crate) service_id: String,
}

/// The body of `PUT /v1/agent/check/register`.
pub(crate) fn check(body: &[u8], compat: Compat) -> Result<CheckDefinition, Refusal> {
    let map = go_json::object(body)?;
    let mut service_id = String::new();
    let mut id = String::new();
    let mut draft = Draft::default();
    for field in go_json::fields(&map, "") {
        match field.key.as_str() {
            // Only here is the id of a check called `ID`; `CheckID` is an unknown field.
            "id" => id = field.string()?,
            "serviceid" | "service_id" => service_id = field.string()?,
            "token" => drop(field.string()?),
            _ => draft.set(&field, compat)?,
        }
    }
    if draft.check.name.is_empty() {
        return Err(Refusal::new(400, "Missing check name"));
    }
    if !draft.status.is_empty() && Status::parse(&draft.status).is_none() {
        return Err(Refusal::new(400, "Bad check status"));
    }
    draft
        .validate()
        .map_err(|why| Refusal::new(400, format!("Invalid check: {why}")))?;
    let mut check = draft.finish("Bad check status")?;
    check.id = if id.is_empty() { check.name.clone() } else { id };
    check.service_id = service_id;
    Ok(check)
}

/// A check while it is being read: what was said, not yet judged.
#[derive(Default)]
pub(crate) struct Draft {
    check: CheckDefinition,
    status: String,
    ttl: GoDuration,
    interval: GoDuration,
    polled: bool,
    alias: bool,
    /// Nothing was said: as good as no check.
    pub(crate) empty: bool,
}

/// One check inside a registration.
pub(crate) fn read_check(map: &Map<String, Value>, path: &str, compat: Compat) -> Result<Draft, DecodeError> {
    let mut draft = Draft {
        empty: true,
        ..Draft::default()
    };
    for field in go_json::fields(map, path) {
        if field.key == "checkid" {
            draft.check.id = field.string()?;
            draft.empty = draft.empty && draft.check.id.is_empty();
        } else {
            draft.set(&field, compat)?;
        }
    }
    Ok(draft)
}

impl Draft {
    fn set(&mut self, field: &Field<'_>, compat: Compat) -> Result<(), DecodeError> {
        let said = match field.key.as_str() {
            "name" => text(&mut self.check.name, field)?,
            "notes" => text(&mut self.check.notes, field)?,
            "status" => text(&mut self.status, field)?,
            "ttl" => duration(&mut self.ttl, field)?,
            "interval" => duration(&mut self.interval, field)?,
            "timeout" => duration(&mut GoDuration::default(), field)?,
            "deregistercriticalserviceafter" | "deregister_critical_service_after" => {
                let mut after = GoDuration::default();
                let said = duration(&mut after, field)?;
                self.check.deregister_after = after.positive();
                said
            }
            "http" | "tcp" | "grpc" | "dockercontainerid" | "docker_container_id" => {
                let said = !field.string()?.is_empty();
                self.polled |= said;
                said
            }
            "args" | "scriptargs" | "script_args" => {
                let said = !field.strings()?.is_empty();
                self.polled |= said;
                said
            }
            "aliasnode" | "aliasservice" => {
                let said = !field.string()?.is_empty();
                self.alias |= said;
                said
            }
            "header" => field.object()?.is_some_and(|map| !map.is_empty()),
            "method" | "body" | "shell" | "proxyhttp" | "proxygrpc" => !field.string()?.is_empty(),
            "grpcusetls" | "tlsskipverify" | "tls_skip_verify" => field.boolean()?,
            "successbeforepassing" | "failuresbeforecritical" | "outputmaxsize" => field.integer()? != 0,
            "failuresbeforewarning" if compat.is_newer() => field.integer()? != 0,
            "tlsservername" | "h2ping" | "udp" | "osservice" if compat.is_newer() => {
                !field.string()?.is_empty()
            }
            _ => return Err(field.unknown()),
        };
        self.empty = self.empty && !said;
        Ok(())
    }

    /// Consul's rules about the kinds of checks.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        if self.interval.0 > 0 && self.ttl.0 > 0 {
            return Err("Interval and TTL cannot both be specified");
        }
        if self.polled && self.interval.0 <= 0 {
            return Err("Interval must be > 0 for Script, HTTP, or TCP checks");
        }
        if !self.polled && !self.alias && self.ttl.0 <= 0 {
            return Err("TTL must be > 0 for TTL checks");
        }
        Ok(())
    }

    /// The check, if this agent can have it; `bad_status` is what is said about a status that is none.
    pub(crate) fn finish(mut self, bad_status: &str) -> Result<CheckDefinition, Refusal> {
        self.check.status = match self.status.as_str() {
            "" => None,
            text => Some(Status::parse(text).ok_or_else(|| Refusal::new(400, bad_status))?),
        };
        match self.ttl.positive() {
            Some(ttl) => self.check.ttl = ttl,
            None => {
                return Err(Refusal::dev_agent(
                    400,
                    format_args!("only TTL checks are supported"),
                ));
            }
        }
        Ok(self.check)
    }
}

fn text(into: &mut String, field: &Field<'_>) -> Result<bool, DecodeError> {
    *into = field.string()?;
    Ok(!into.is_empty())
}

/// A text is Go's form, a number is nanoseconds, anything else is passed over, as Consul does.
fn duration(into: &mut GoDuration, field: &Field<'_>) -> Result<bool, DecodeError> {
    *into = match field.value() {
        Value::String(text) => GoDuration::parse(text).map_err(DecodeError)?,
        Value::Number(number) => GoDuration(number.as_f64().unwrap_or_default() as i64),
        _ => return Ok(false),
    };
    Ok(into.0 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_of_its_own_is_called_by_id_not_check_id() {
        let checked = check(
            br#"{"ID":"n2","Name":"n","ServiceID":"o1","TTL":"30s"}"#,
            Compat::V1_8,
        )
        .unwrap();
        assert_eq!((checked.id.as_str(), checked.service_id.as_str()), ("n2", "o1"));
        for (body, error) in [
            (r#"{"TTL":"30s"}"#, "Missing check name"),
            (
                r#"{"Name":"n","CheckID":"n"}"#,
                r#"Request decode failed: json: unknown field "CheckID""#,
            ),
            (
                r#"{"Name":"n","Bogus":1}"#,
                r#"Request decode failed: json: unknown field "Bogus""#,
            ),
            (r#"{"Name":"n"}"#, "Invalid check: TTL must be > 0 for TTL checks"),
            (r#"{"Name":"n","TTL":"1s","Status":"odd"}"#, "Bad check status"),
        ] {
            assert_eq!(check(body.as_bytes(), Compat::V1_8).unwrap_err().text, error);
        }
    }
}
