//! Every default of a service, in one place, each with its reason. What a builder or the environment sets wins.

use std::time::Duration;

/// Where Consul's agent is: Consul's model is an agent on every machine.
pub const CONSUL_HOST: &str = "127.0.0.1";

/// The port of Consul's HTTP API, Consul's own default.
pub const CONSUL_PORT: u16 = 8500;

/// The time to live of the check. A heartbeat is sent every third of it: two may be lost. 30 s also rides out an election
/// of Consul's leader (16 s with its defaults). The registration of a service that died is removed after three times
/// this, a minute at least, which is Consul's own least.
pub const TTL: Duration = picom_discovery::DEFAULT_TTL;

/// Attempts of a call behind the first, each on another host while there is one.
pub const RETRIES: u32 = 3;

/// The port to listen on: any that is free, since callers learn it from Consul.
pub const PORT: u16 = 0;

/// How long a `fetch` takes at most: longer than any answer a person waits for.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a `stream` takes at most: they may live for days.
pub const STREAM_TIMEOUT: Option<Duration> = None;

/// How long calls under way may take to finish at the end: as long as a `fetch` may take.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long calls are still taken after the registration was taken back, because the watches of others may be late.
pub const KEEP_ACCEPTING: Duration = Duration::from_secs(1);

/// How long Consul may take to confirm, at the end, that the registration is gone.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The share of calls, relative to other instances.
pub const WEIGHT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use picom_rpc::{ClientConfig, ServerConfig};

    #[test]
    fn the_layers_below_agree_with_this_table() {
        let (client, server) = (ClientConfig::default(), ServerConfig::default());
        assert_eq!(client.retries, RETRIES);
        assert_eq!(client.fetch_timeout, Some(FETCH_TIMEOUT));
        assert_eq!(client.stream_timeout, STREAM_TIMEOUT);
        assert_eq!(server.drain_timeout, DRAIN_TIMEOUT);
        assert_eq!(server.keep_accepting, KEEP_ACCEPTING);
        assert_eq!(server.leave_timeout, LEAVE_TIMEOUT);
        assert_eq!(server.handlers, 65_536);
        assert_eq!(TTL, Duration::from_secs(30));
        let consul = picom_discovery::consul::ConsulConfig::default();
        assert_eq!(consul.address.to_string(), format!("{CONSUL_HOST}:{CONSUL_PORT}"));
        let connection = client.connection;
        assert_eq!(connection.message_limit, 16 << 20);
        // A body of 64 KiB and room for its head.
        assert!((64 << 10..=65 << 10).contains(&connection.frame_limit));
        assert_eq!((client.limits.depth(), client.limits.nodes()), (64, 262_144));
        assert_eq!(
            (
                connection.window_limit,
                connection.receive_budget,
                connection.stream_limit
            ),
            (1 << 20, 64 << 20, 512)
        );
        assert_eq!(client.pool.connect_timeout, Duration::from_secs(1));
        assert_eq!(connection.hello_timeout, Duration::from_secs(2));
        assert_eq!(connection.stall_timeout, Duration::from_secs(10));
        assert_eq!(
            (connection.ping_open, connection.ping_idle),
            (Duration::from_secs(2), Duration::from_secs(10))
        );
        assert_eq!(connection.pong_timeout, Duration::from_secs(1));
        assert_eq!(connection.idle_close, Some(Duration::from_secs(90)));
        assert_eq!(
            server.listener.connection.idle_close,
            Some(Duration::from_secs(120))
        );
        assert_eq!(server.listener.unready_limit, 16_384);
        assert_eq!(
            (client.pool.first_backoff, client.pool.most_backoff),
            (Duration::from_millis(50), Duration::from_secs(5))
        );
    }
}
