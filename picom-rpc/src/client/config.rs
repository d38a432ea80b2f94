//! How a client makes its calls, each default with its reason.

use super::balance::Balance;
use picom_codec::Limits;
use picom_transport::{ConnectionConfig, PoolConfig};
use std::time::Duration;

/// How a client makes its calls.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Attempts of a call behind the first. 3: with a dead instance among four, one call in 256 meets it four times over
    /// even if choices were blind. 0: none.
    pub retries: u32,
    /// How long a `fetch` takes at most, unless its builder says otherwise. 30 s: longer than any answer a person waits
    /// for. `None`: for ever.
    pub fetch_timeout: Option<Duration>,
    /// How long a `stream` takes at most. `None`: streams may live for days.
    pub stream_timeout: Option<Duration>,
    /// Whom calls go to.
    pub balance: Balance,
    /// Instances that vanish from the registry all at once are not called any more, even if they answer.
    pub strict: bool,
    /// Instances without the native mark are taken for services of the Node library 0.3.x and called in its dialect
    /// (PROTOCOL §12). Otherwise they are not called.
    pub classic: bool,
    /// Depth and number of values that a reply may have.
    pub limits: Limits,
    /// What `fetch_all` holds at most, in bytes. Those of one message.
    pub collect_bytes: u64,
    /// What `fetch_all` holds at most, in items. The values of one message.
    pub collect_items: usize,
    /// Dialing.
    pub pool: PoolConfig,
    /// Connections.
    pub connection: ConnectionConfig,
    /// Where choices begin; a fixed number makes a simulation repeatable.
    pub seed: Option<u64>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        let connection = ConnectionConfig::default();
        ClientConfig {
            retries: 3,
            fetch_timeout: Some(Duration::from_secs(30)),
            stream_timeout: None,
            balance: Balance::default(),
            strict: false,
            classic: true,
            limits: Limits::default(),
            collect_bytes: connection.message_limit,
            collect_items: Limits::DEFAULT_NODES as usize,
            pool: PoolConfig::default(),
            connection,
            seed: None,
        }
    }
}
