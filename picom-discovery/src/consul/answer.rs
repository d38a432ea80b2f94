//! What an answer of the agent means: pure judgement of status, headers and text. Health entries are in `entry.rs`.
//!
//! Sources: Consul's API documentation; the texts of 1.8, which answers 500 to much that later versions answer 404 to,
//! were observed. No text decides anything that a status or a question can.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use super::http::Answer;
use crate::error::{DiscoveryError, ProtocolFault};
use crate::excerpt::Excerpt;
use crate::registration::Registration;

/// The longest wait a `Retry-After` is obeyed: what a peer says must not stop us for an hour.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Who asked for what, for error messages.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) agent: Arc<str>,
    pub(crate) purpose: &'static str,
}

/// What the agent knows of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// What we registered.
    Ours,
    /// Something else: another process, or an operator, registered the id again.
    Drifted,
}

impl Asked {
    /// The error in an answer that is not a success.
    pub(crate) fn fault(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> DiscoveryError {
        let Self {
            agent,
            purpose: request,
        } = self.clone();
        let text = Excerpt::from_bytes(body);
        let says = |part: &str| text.as_str().contains(part);
        match status.as_u16() {
            401 | 403 => DiscoveryError::Denied { agent, request, text },
            429 => DiscoveryError::RateLimited {
                agent,
                request,
                text,
                retry_after: retry_after(headers),
            },
            // From servers that limit what only their leader can do; any other 503 is of a proxy, or says what it lacks.
            503 if says("rate limit") => DiscoveryError::RateLimited {
                agent,
                request,
                text,
                retry_after: retry_after(headers),
            },
            status @ 400..=499 => DiscoveryError::BadRequest {
                agent,
                request,
                status,
                text,
            },
            // Servers of some versions pass these on as a plain 500.
            500 if says("Permission denied") || says("ACL not found") => {
                DiscoveryError::Denied { agent, request, text }
            }
            // The request can never be served, though the status says "server".
            status @ 500 if says("No path to datacenter") || says("boolean expression") => {
                DiscoveryError::BadRequest {
                    agent,
                    request,
                    status,
                    text,
                }
            }
            status @ 500..=599 => DiscoveryError::Unavailable {
                agent,
                request,
                status,
                text,
                retry_after: retry_after(headers),
            },
            status => self.broken(ProtocolFault::Status(status)),
        }
    }

    /// An answer that breaks the rules of the API.
    pub(crate) fn broken(&self, fault: ProtocolFault) -> DiscoveryError {
        DiscoveryError::Protocol {
            agent: self.agent.clone(),
            request: self.purpose,
            fault,
        }
    }

    /// A registration is done when the agent says so.
    pub(crate) fn registered(&self, answer: &Answer) -> Result<(), DiscoveryError> {
        if answer.status.is_success() {
            return Ok(());
        }
        Err(self.fault(answer.status, &answer.headers, &answer.body))
    }

    /// A heartbeat was accepted, or the check is unknown (404 since about Consul 1.11; two texts with 500 before), or
    /// something else is wrong.
    pub(crate) fn beaten(&self, id: &Arc<str>, answer: &Answer) -> Result<(), DiscoveryError> {
        let text = String::from_utf8_lossy(&answer.body);
        let unknown = match answer.status.as_u16() {
            404 => true,
            500 => text.contains("does not have associated TTL") || text.contains("Unknown check"),
            _ => false,
        };
        if unknown {
            return Err(DiscoveryError::NotRegistered {
                agent: self.agent.clone(),
                id: id.clone(),
            });
        }
        self.registered(answer)
    }

    /// Maintenance was set, or the id is unknown: a 404 in every version.
    pub(crate) fn maintained(&self, id: &Arc<str>, answer: &Answer) -> Result<(), DiscoveryError> {
        if answer.status == StatusCode::NOT_FOUND {
            return Err(DiscoveryError::NotRegistered {
                agent: self.agent.clone(),
                id: id.clone(),
            });
        }
        self.registered(answer)
    }

    /// What the agent knows of the id of `registration`.
    pub(crate) fn looked(
        &self,
        registration: &Registration,
        answer: &Answer,
    ) -> Result<Seen, DiscoveryError> {
        match answer.status.as_u16() {
            200 => {
                let known: Definition = serde_json::from_slice(&answer.body)
                    .map_err(|error| self.broken(ProtocolFault::Json(Excerpt::new(error.to_string()))))?;
                Ok(if known.is(registration) {
                    Seen::Ours
                } else {
                    Seen::Drifted
                })
            }
            404 => Err(DiscoveryError::NotRegistered {
                agent: self.agent.clone(),
                id: registration.id().into(),
            }),
            _ => Err(self.fault(answer.status, &answer.headers, &answer.body)),
        }
    }

    /// A deregistration is done when the id is gone, also if it was gone before (200 without ACLs, 500 with a text in
    /// 1.8 with ACLs, 404 later).
    pub(crate) fn deregistered(&self, answer: &Answer) -> Result<(), DiscoveryError> {
        let text = String::from_utf8_lossy(&answer.body);
        let gone = answer.status == StatusCode::NOT_FOUND
            || answer.status == StatusCode::INTERNAL_SERVER_ERROR && text.contains("Unknown service");
        if gone { Ok(()) } else { self.registered(answer) }
    }
}

/// The agent's own view of a service, as far as we compare it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Definition {
    service: Option<String>,
    address: Option<String>,
    port: Option<i64>,
    tags: Option<Vec<String>>,
    meta: Option<std::collections::BTreeMap<String, String>>,
}

impl Definition {
    fn is(&self, registration: &Registration) -> bool {
        self.service.as_deref() == Some(registration.service().as_str())
            && self.address.as_deref() == Some(registration.host())
            && self.port == Some(i64::from(registration.port()))
            && self.tags.as_deref().unwrap_or_default() == registration.tags()
            && self.meta.iter().flatten().eq(registration.meta())
    }
}

/// A `Retry-After` in seconds, bounded; the form with a date is not worth a calendar.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::name::ServiceName;

    fn asked() -> Asked {
        Asked {
            agent: "Consul at h:1".into(),
            purpose: "a test",
        }
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn kind(error: &DiscoveryError) -> &'static str {
        match error {
            DiscoveryError::NotRegistered { .. } => "not registered",
            DiscoveryError::Denied { .. } => "denied",
            DiscoveryError::RateLimited { .. } => "limited",
            DiscoveryError::Unavailable { .. } => "unavailable",
            DiscoveryError::BadRequest { .. } => "bad request",
            DiscoveryError::Protocol { .. } => "protocol",
            _ => "other",
        }
    }

    #[test]
    fn every_status_and_text_has_its_error() {
        for (status, body, expected) in [
            (400, "Invalid index", "bad request"),
            (404, "", "bad request"),
            (405, "method GET not allowed", "bad request"),
            (413, "", "bad request"),
            (403, "ACL not found", "denied"),
            (
                403,
                "Permission denied: Missing service:write on greeter",
                "denied",
            ),
            (401, "", "denied"),
            (429, "", "limited"),
            (
                503,
                "rate limit exceeded for operation that can only be performed by the leader",
                "limited",
            ),
            (503, "upstream connect error", "unavailable"),
            (503, "", "unavailable"),
            (500, "No cluster leader", "unavailable"),
            (500, "rpc error making call: No cluster leader", "unavailable"),
            (500, "rpc error making call: EOF", "unavailable"),
            (500, "No known Consul servers", "unavailable"),
            (500, "rpc error making call: Permission denied", "denied"),
            (500, "No path to datacenter", "bad request"),
            (
                500,
                "Failed to create boolean expression evaluator: …",
                "bad request",
            ),
            (502, "<html>Bad Gateway</html>", "unavailable"),
            (301, "", "protocol"),
            (307, "", "protocol"),
            (204, "", "protocol"),
        ] {
            let error = asked().fault(
                StatusCode::from_u16(status).unwrap(),
                &HeaderMap::new(),
                body.as_bytes(),
            );
            assert_eq!(kind(&error), expected, "{status} {body}");
            assert!(error.to_string().contains("Consul at h:1"), "{error}");
        }
    }

    #[test]
    fn the_wait_an_agent_asks_for_is_obeyed_up_to_a_minute() {
        for (text, expected) in [("7", Some(7)), ("86400", Some(60)), ("soon", None), ("-1", None)] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            let least = expected.map_or(Duration::from_secs(1), Duration::from_secs);
            for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
                let error = asked().fault(status, &headers, b"the words");
                assert!(error.to_string().contains("the words"), "{error}");
                assert_eq!(error.pause(), Some(least), "{text}");
            }
            let error = asked().fault(StatusCode::BAD_GATEWAY, &headers, b"");
            assert_eq!(error.pause(), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_forgotten_check_is_recognised_in_every_version() {
        let id: Arc<str> = "a-1".into();
        for (status, body) in [
            (500, "CheckID \"service:a-1\" does not have associated TTL"),
            (500, "Unknown check \"service:a-1\""),
            (
                404,
                "Unknown check ID \"service:a-1\". Ensure that the check ID is passed, not the check name.",
            ),
            (404, ""),
        ] {
            let error = asked().beaten(&id, &answer(status, body)).unwrap_err();
            assert_eq!(kind(&error), "not registered", "{status} {body}");
        }
        let stalled = asked()
            .beaten(&id, &answer(500, "No cluster leader"))
            .unwrap_err();
        assert_eq!(kind(&stalled), "unavailable");
        assert!(asked().beaten(&id, &answer(200, "")).is_ok());
    }

    #[test]
    fn an_id_that_was_gone_before_counts_as_deregistered() {
        for (status, body) in [
            (200, ""),
            (500, "Unknown service {\"a-1\" {}}"),
            (500, "Unknown service \"a-1\""),
            (
                404,
                "Unknown service ID \"a-1\". Ensure that the service ID is passed, not the service name.",
            ),
        ] {
            assert!(
                asked().deregistered(&answer(status, body)).is_ok(),
                "{status} {body}"
            );
        }
        assert_eq!(
            kind(&asked().deregistered(&answer(403, "ACL not found")).unwrap_err()),
            "denied"
        );
        assert_eq!(
            kind(&asked().deregistered(&answer(500, "EOF")).unwrap_err()),
            "unavailable"
        );
    }

    #[test]
    fn a_look_tells_ours_from_drifted_from_gone() {
        let ours = Registration::new(ServiceName::new("svc").unwrap(), "10.0.0.1", 9000)
            .and_then(|one| one.with_tag("v1"))
            .unwrap();
        let uuid = ours.uuid().unwrap();
        let json = format!(
            r#"{{"ID": "x", "Service": "svc", "Tags": ["v1"], "Meta": {{"picom-instance": "{uuid}"}}, "Port": 9000,
                "Address": "10.0.0.1", "Weights": {{"Passing": 1}}, "ContentHash": "0123", "Locality": null}}"#
        );
        let look = |status, body: &str| asked().looked(&ours, &answer(status, body));
        assert_eq!(look(200, &json).unwrap(), Seen::Ours);
        for (from, to) in [
            ("9000", "9001"),
            ("v1", "v2"),
            (uuid, "else"),
            ("10.0.0.1", ""),
            ("\"svc\"", "\"x\""),
        ] {
            assert_eq!(look(200, &json.replace(from, to)).unwrap(), Seen::Drifted, "{to}");
        }
        assert_eq!(
            look(200, r#"{"Tags": null, "Meta": null}"#).unwrap(),
            Seen::Drifted
        );
        assert_eq!(
            kind(&look(404, "unknown service ID: x").unwrap_err()),
            "not registered"
        );
        assert_eq!(kind(&look(200, "<html>").unwrap_err()), "protocol");
        assert_eq!(kind(&look(403, "").unwrap_err()), "denied");
    }
}
