//! The limits and times of a connection, each with its reason, and which of them fit together.

use picom_codec::Limits;
use std::time::Duration;

/// Room for 64 KiB of data and a KiB around it.
const FRAME: u32 = 65 * 1024;

/// Limits and times of one connection. [`check`](Self::check) says whether they fit together; every constructor of a
/// connection, pool or listener calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// The largest payload we take, in bytes. 65 KiB, so that 64 KiB of somebody's data fit with what they are wrapped in: large enough that heads cost nothing, small enough that a stream's
    /// turn takes well under a millisecond. At least 8 KiB, at most 16 MiB.
    pub frame_limit: u32,
    /// The largest message we take, in bytes. 16 MiB: larger data belongs into a stream. At least 8 KiB.
    pub message_limit: u64,
    /// The credit each stream starts with towards us, in bytes: room for the body of one full frame. At least 8 KiB.
    pub first_window: u32,
    /// How far a stream's window may grow, in bytes. 1 MiB keeps 10 Gbit/s busy at a round trip of 0.8 ms.
    pub window_limit: u32,
    /// What the peer can make this connection hold, in bytes. It must have room for `first_window × stream_limit` and one message.
    pub receive_budget: u64,
    /// How many streams the peer may have open at a time.
    pub stream_limit: u32,
    /// What the scan allows a packed message: depth and nodes.
    pub scan: Limits,
    /// How long the handshake may take once the byte stream stands: a peer that is there answers in one round trip.
    pub hello_timeout: Duration,
    /// With streams open, a peer is asked for a sign of life after so much silence. With `pong_timeout` a vanished host is noticed within 3 s.
    pub ping_open: Duration,
    /// The same without streams; it also keeps state in the network alive.
    pub ping_idle: Duration,
    /// How long the answer to a ping may take.
    pub pong_timeout: Duration,
    /// Without streams for so long, the connection is closed. `None`: never. Clients close earlier than servers, so
    /// that a server does not close just as a client sends.
    pub idle_close: Option<Duration>,
    /// How long the socket may take no byte while some wait, and how long a begun frame may stay incomplete.
    pub stall_timeout: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            frame_limit: FRAME,
            message_limit: 16 * 1024 * 1024,
            first_window: FRAME,
            window_limit: 1024 * 1024,
            receive_budget: 64 * 1024 * 1024,
            stream_limit: 512,
            scan: Limits::default(),
            hello_timeout: Duration::from_secs(2),
            ping_open: Duration::from_secs(2),
            ping_idle: Duration::from_secs(10),
            pong_timeout: Duration::from_secs(1),
            idle_close: Some(Duration::from_secs(90)),
            stall_timeout: Duration::from_secs(10),
        }
    }
}

impl ConnectionConfig {
    /// The defaults of the accepting side: idle connections are kept for 120 s, longer than any client keeps them.
    pub fn for_server() -> Self {
        Self {
            idle_close: Some(Duration::from_secs(120)),
            ..Self::default()
        }
    }

    /// For peers that are not trusted: messages of 1 MiB, 256 streams, 8 MiB in all.
    pub fn untrusted() -> Self {
        Self {
            message_limit: 1024 * 1024,
            first_window: 16 * 1024,
            window_limit: 256 * 1024,
            receive_budget: 8 * 1024 * 1024,
            stream_limit: 256,
            scan: Limits::untrusted(),
            ..Self::for_server()
        }
    }

    /// The part of the budget that is set aside for first windows (PROTOCOL §7.3).
    pub(super) fn set_aside(&self) -> u64 {
        u64::from(self.first_window) * u64::from(self.stream_limit)
    }

    /// Whether the values fit together.
    ///
    /// # Errors
    ///
    /// The first one that does not, with its name, its value and what would do.
    pub fn check(&self) -> Result<(), ConfigError> {
        let out = |name, value: u64, rule: String| Err(ConfigError { name, value, rule });
        if !(8192..=16 * 1024 * 1024).contains(&self.frame_limit) {
            return out(
                "frame_limit",
                self.frame_limit.into(),
                "8192 to 16777216 bytes".into(),
            );
        }
        if self.message_limit < 8192 {
            return out("message_limit", self.message_limit, "at least 8192 bytes".into());
        }
        if !(8192..=i32::MAX as u32).contains(&self.first_window) {
            return out(
                "first_window",
                self.first_window.into(),
                "8192 to 2147483647 bytes".into(),
            );
        }
        if !(self.first_window..=i32::MAX as u32).contains(&self.window_limit) {
            return out(
                "window_limit",
                self.window_limit.into(),
                "first_window to 2147483647 bytes".into(),
            );
        }
        if self.stream_limit == 0 {
            return out("stream_limit", 0, "at least 1".into());
        }
        let least = self.set_aside().saturating_add(self.message_limit);
        if self.receive_budget < least {
            let rule = format!("at least first_window × stream_limit + message_limit = {least} bytes");
            return out("receive_budget", self.receive_budget, rule);
        }
        for (name, value) in [
            ("hello_timeout", self.hello_timeout),
            ("ping_open", self.ping_open),
            ("ping_idle", self.ping_idle),
            ("pong_timeout", self.pong_timeout),
            ("stall_timeout", self.stall_timeout),
        ] {
            // A day, so that adding it to an instant never overflows.
            if value.is_zero() || value > Duration::from_secs(86_400) {
                let rule = "more than nothing and at most a day".into();
                return out(name, u64::try_from(value.as_millis()).unwrap_or(u64::MAX), rule);
            }
        }
        Ok(())
    }
}

/// A value of a configuration that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}: it must be {rule}")]
pub struct ConfigError {
    /// The field.
    pub name: &'static str,
    /// Its value, in bytes, milliseconds or pieces.
    pub value: u64,
    /// What would do.
    pub rule: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        for config in [
            ConnectionConfig::default(),
            ConnectionConfig::for_server(),
            ConnectionConfig::untrusted(),
        ] {
            assert_eq!(config.check(), Ok(()));
        }
    }

    #[test]
    fn a_budget_without_room_for_the_first_windows_is_refused_by_name() {
        let config = ConnectionConfig {
            stream_limit: 2000,
            ..ConnectionConfig::default()
        };
        let error = config.check().unwrap_err();
        assert_eq!((error.name, error.value), ("receive_budget", 64 * 1024 * 1024));
        assert!(error.to_string().contains("149897216"), "{error}");
    }
}
