//! The first frame in each direction (PROTOCOL §4): what we say of ourselves, and whether the peer is the one we meant.

use super::config::ConnectionConfig;
use picom_codec::{Code, Hello};
use std::{sync::Arc, time::Duration};

/// The protocol versions this crate speaks.
pub const VERSION: u16 = 1;

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It dialed.
    Client,
    /// It accepted.
    Server,
}

/// A service and one instance of it. On a client: whom it means to reach; `None`: anyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The service; at most 256 bytes.
    pub service: Option<Arc<str>>,
    /// The instance; at most 256 bytes.
    pub instance: Option<Arc<str>>,
}

/// What the peer takes, as its hello says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// Bytes of a payload.
    pub frame_limit: u32,
    /// Bytes of a message.
    pub message_limit: u64,
    /// Credit each stream starts with.
    pub first_window: u32,
    /// Streams that may be open at a time.
    pub stream_limit: u32,
    /// After so long without streams it may close.
    pub idle: Option<Duration>,
}

/// Limits below this are refused (PROTOCOL §4.4): parts could not be sent.
const LEAST: u64 = 8192;

pub(super) fn hello(config: &ConnectionConfig, identity: &Identity, draining: bool) -> Hello {
    Hello {
        min_version: VERSION,
        max_version: VERSION,
        service: identity.service.as_deref().map(str::to_owned),
        instance: identity.instance.as_deref().map(str::to_owned),
        draining,
        frame_limit: config.frame_limit,
        message_limit: config.message_limit,
        first_window: config.first_window,
        stream_limit: config.stream_limit,
        idle_ms: config
            .idle_close
            .map_or(0, |idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Reads the peer's hello against what we are, or whom we meant.
pub(super) fn check(hello: &Hello, ours: &Identity) -> Result<PeerLimits, (Code, &'static str)> {
    if !(hello.min_version..=hello.max_version).contains(&VERSION) {
        return Err((Code::VERSION, "no common protocol version (this side speaks 1)"));
    }
    if differs(ours.service.as_deref(), hello.service.as_deref()) {
        return Err((Code::WRONG_PEER, "this is another service than the one meant"));
    }
    if differs(ours.instance.as_deref(), hello.instance.as_deref()) {
        return Err((Code::WRONG_PEER, "this is another instance than the one meant"));
    }
    let smallest = u64::from(hello.frame_limit)
        .min(hello.message_limit)
        .min(u64::from(hello.first_window));
    if smallest < LEAST || hello.stream_limit == 0 {
        return Err((Code::PROTOCOL, "hello: a limit is too small"));
    }
    Ok(PeerLimits {
        frame_limit: hello.frame_limit,
        message_limit: hello.message_limit,
        first_window: hello.first_window,
        stream_limit: hello.stream_limit,
        idle: (hello.idle_ms != 0).then(|| Duration::from_millis(hello.idle_ms)),
    })
}

fn differs(ours: Option<&str>, theirs: Option<&str>) -> bool {
    matches!((ours, theirs), (Some(ours), Some(theirs)) if ours != theirs)
}

#[cfg(test)]
impl PeerLimits {
    pub(super) fn for_tests() -> Self {
        check(
            &hello(&ConnectionConfig::default(), &Identity::default(), false),
            &Identity::default(),
        )
        .unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(service: &str, instance: &str) -> Identity {
        Identity {
            service: Some(service.into()),
            instance: Some(instance.into()),
        }
    }

    #[test]
    fn a_stale_entry_that_leads_to_another_service_is_noticed() {
        let config = ConnectionConfig::default();
        let meant = hello(&config, &named("orders", "o-1"), false);
        assert!(check(&meant, &named("orders", "o-1")).is_ok());
        assert!(check(&meant, &Identity::default()).is_ok());
        assert_eq!(
            check(&meant, &named("stock", "o-1")).unwrap_err().0,
            Code::WRONG_PEER
        );
        assert_eq!(
            check(&meant, &named("orders", "o-2")).unwrap_err().0,
            Code::WRONG_PEER
        );
    }

    #[test]
    fn versions_and_limits_are_checked() {
        let good = hello(&ConnectionConfig::default(), &Identity::default(), false);
        let anyone = Identity::default();
        let later = Hello {
            min_version: 2,
            max_version: 9,
            ..good.clone()
        };
        assert_eq!(check(&later, &anyone).unwrap_err().0, Code::VERSION);
        let wide = Hello {
            min_version: 0,
            max_version: 9,
            ..good.clone()
        };
        assert!(check(&wide, &anyone).is_ok());
        for bad in [
            Hello {
                frame_limit: 4095,
                ..good.clone()
            },
            Hello {
                message_limit: 0,
                ..good.clone()
            },
            Hello {
                first_window: 100,
                ..good.clone()
            },
            Hello {
                stream_limit: 0,
                ..good.clone()
            },
        ] {
            assert_eq!(check(&bad, &anyone).unwrap_err().0, Code::PROTOCOL);
        }
    }
}
