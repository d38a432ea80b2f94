//! An answer before it is HTTP: status, headers and body as Consul words them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, VARY};
use hyper::{Method, Response, StatusCode};

use super::refusal::Refusal;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Bytes,
}

impl Reply {
    /// What a successful change is answered with: nothing.
    pub(crate) fn empty(status: u16) -> Reply {
        Reply {
            status,
            headers: vec![(VARY, "Accept-Encoding".to_owned())],
            body: Bytes::new(),
        }
    }

    /// A JSON answer.
    pub(crate) fn json(body: Bytes) -> Reply {
        let mut reply = Reply::empty(200).with(CONTENT_TYPE, "application/json");
        reply.body = body;
        reply
    }

    /// A line of text, which is how Consul reports all errors.
    pub(crate) fn text(status: u16, text: impl Into<Bytes>) -> Reply {
        let mut reply = Reply::empty(status).with(CONTENT_TYPE, "text/plain; charset=utf-8");
        reply.body = text.into();
        reply
    }

    /// A path that Consul does not have.
    pub(crate) fn not_found() -> Reply {
        Reply {
            status: 404,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// A method that the path does not take.
    pub(crate) fn wrong_method(found: &Method, allowed: &Method) -> Reply {
        Reply::text(405, format!("method {found} not allowed")).with(ALLOW, format!("OPTIONS,{allowed}"))
    }

    /// What `OPTIONS` gets.
    pub(crate) fn options(allowed: &Method) -> Reply {
        Reply::empty(200).with(ALLOW, format!("OPTIONS,{allowed}"))
    }

    /// The same thing is elsewhere.
    pub(crate) fn moved(to: &str) -> Reply {
        let body = format!("<a href=\"{to}\">Moved Permanently</a>.\n\n");
        let mut reply = Reply {
            status: 301,
            headers: Vec::new(),
            body: Bytes::from(body),
        };
        reply.headers.push((LOCATION, to.to_owned()));
        reply.with(CONTENT_TYPE, "text/html; charset=utf-8")
    }

    /// The same answer with one more header.
    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// Turned into HTTP. A header that HTTP cannot carry (a name in a reason, say) is left out.
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        Reply::text(refusal.status, refusal.text)
    }
}

/// Names of Consul's own headers.
pub(crate) mod names {
    use hyper::header::HeaderName;

    pub(crate) const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
    pub(crate) const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
    pub(crate) const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
    pub(crate) const CONSISTENCY: HeaderName = HeaderName::from_static("x-consul-effective-consistency");
    pub(crate) const CONTENT_HASH: HeaderName = HeaderName::from_static("x-consul-contenthash");
    pub(crate) const REASON: HeaderName = HeaderName::from_static("x-consul-reason");
    pub(crate) const CACHE: HeaderName = HeaderName::from_static("x-cache");
    pub(crate) const BACKEND: HeaderName = HeaderName::from_static("x-consul-query-backend");
    pub(crate) const ACL_POLICY: HeaderName = HeaderName::from_static("x-consul-default-acl-policy");
    /// Not Consul's: how processes that share an agent know that it is one.
    pub(crate) const DEV_AGENT: HeaderName = HeaderName::from_static("x-picom-dev-agent");
}
