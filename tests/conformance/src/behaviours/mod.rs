//! The behaviours, by what they are about. Each takes a new subject and panics where that does not behave.

pub mod errors;
pub mod loss;
pub mod registration;
pub mod ttl;
pub mod watching;

use std::sync::Arc;
use std::time::Duration;

use picom_discovery::{Discovery, Lease, OnUnavailable, Registration, Watch};

use crate::http::Api;
use crate::subject::{Subject, service};

const SECOND: Duration = Duration::from_secs(1);

/// Soon enough that nobody counts.
const SOON: Duration = Duration::from_millis(100);

/// A watch of a process of its own that has seen its first answer.
async fn watched(subject: &dyn Subject) -> Watch {
    let process: Arc<dyn Discovery> = subject.process();
    let mut watch = process.watch(&service());
    watch.ready().await;
    watch
}

async fn announce(process: &Arc<dyn Discovery>, registration: Registration) -> Lease {
    let made = process.register(registration, OnUnavailable::Fail).await;
    made.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

fn api(subject: &dyn Subject) -> &Api {
    subject.api().expect("a subject with an HTTP API")
}
