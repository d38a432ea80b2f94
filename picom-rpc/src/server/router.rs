//! Which handler a call gets: by the name of its method.

use super::handler::Handler;
use super::methods::{Methods, MethodsError};
use super::pace::Pace;
use crate::fault::Fault;
use picom_codec::{Code, Method};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names listed to a caller that asked for an unknown one: enough to see a slip of the pen.
const LISTED: usize = 10;

pub(super) struct Router {
    service: Arc<str>,
    /// By the bytes of the name: its text would be checked again for each call.
    routes: BTreeMap<Box<[u8]>, Route>,
    known: String,
}

/// One method.
pub(super) struct Route {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) pace: Pace,
}

impl Router {
    pub(super) fn new(service: Arc<str>, methods: Methods) -> Result<Self, MethodsError> {
        let names = methods.names();
        let mut known = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
        if names.len() > LISTED {
            known.push_str(", …");
        }
        let routes = methods
            .into_handlers()?
            .into_iter()
            .map(|(method, handler)| {
                let pace = Pace::default();
                (method.as_bytes().into(), Route { handler, pace })
            })
            .collect();
        Ok(Router {
            service,
            routes,
            known,
        })
    }

    pub(super) fn find(&self, method: &Method) -> Option<&Route> {
        self.routes.get(method.as_bytes())
    }

    /// What a caller of an unknown method is told. It would hear the same from every instance.
    pub(super) fn unknown(&self, method: &Method) -> Fault {
        let text = format!(
            "service {:?} has no method {:?}; it has: {}",
            self.service,
            method.as_str(),
            self.known
        );
        Fault::unstarted(Code::UNKNOWN_METHOD, text).do_not_retry()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_method_is_told_the_known_ones() {
        let answer = |n: u64| async move { Ok(n) };
        let router = Router::new(
            "math".into(),
            Methods::new().unary("sub", answer).unary("add", answer),
        )
        .ok()
        .unwrap();
        let asked = Method::new("ad").unwrap();
        assert!(router.find(&asked).is_none());
        assert!(router.find(&Method::new("add").unwrap()).is_some());
        let fault = router.unknown(&asked);
        assert_eq!(
            fault.text(),
            "service \"math\" has no method \"ad\"; it has: add, sub"
        );
        assert!(!fault.started() && fault.says_do_not_retry());
    }
}
