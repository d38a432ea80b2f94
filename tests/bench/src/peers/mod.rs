//! The peers by name: which code serves and which one calls.

pub mod bare;
pub mod grpc;
pub mod picom;
pub mod row;
pub mod tarpc;
pub mod transport;

use std::fmt;
use std::net::SocketAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::job::Hosting;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// Bare sockets: a connection per task, no ids.
    #[serde(rename = "ping-pong")]
    PingPong,
    /// Bare sockets: one connection, call ids, a slot and a waker per call, no codec.
    #[serde(rename = "mux")]
    Mux,
    /// The same; both writers let other tasks run once before they write.
    #[serde(rename = "mux+yield")]
    MuxYield,
    /// Bare sockets: one connection, no ids, requests sent without waiting for replies.
    #[serde(rename = "pipelined")]
    Pipelined,
    /// Bare sockets: items packed into buffers of 32 KiB, or chunks with their length before them.
    #[serde(rename = "stream")]
    Stream,
    /// tonic with prost.
    #[serde(rename = "tonic")]
    Tonic,
    /// tarpc with bincode.
    #[serde(rename = "tarpc")]
    Tarpc,
    /// picom's streams and values without discovery, balancing, retries and handlers.
    #[serde(rename = "transport")]
    Transport,
    /// picom.
    #[serde(rename = "picom")]
    Picom,
    /// picom; items that serde sees as tuples, so that they travel as arrays.
    #[serde(rename = "picom-arrays")]
    PicomArrays,
}

impl Peer {
    /// All of them.
    pub const ALL: [Peer; 10] = [
        Peer::PingPong,
        Peer::Mux,
        Peer::MuxYield,
        Peer::Pipelined,
        Peer::Stream,
        Peer::Tonic,
        Peer::Tarpc,
        Peer::Transport,
        Peer::Picom,
        Peer::PicomArrays,
    ];

    /// As it is called on the command line and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Peer::PingPong => "ping-pong",
            Peer::Mux => "mux",
            Peer::MuxYield => "mux+yield",
            Peer::Pipelined => "pipelined",
            Peer::Stream => "stream",
            Peer::Tonic => "tonic",
            Peer::Tarpc => "tarpc",
            Peer::Transport => "transport",
            Peer::Picom => "picom",
            Peer::PicomArrays => "picom-arrays",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Starts a peer's server within the runtime of the caller. It runs as long as that does.
///
/// # Errors
///
/// When it cannot listen.
pub async fn serve(hosting: &Hosting) -> Result<Vec<SocketAddr>> {
    match hosting.peer {
        Peer::PingPong | Peer::Pipelined | Peer::Stream => bare::plain::serve(hosting).await,
        Peer::Mux => bare::mux_server::serve(hosting, false).await,
        Peer::MuxYield => bare::mux_server::serve(hosting, true).await,
        Peer::Tonic => grpc::server::serve(hosting).await,
        Peer::Tarpc => tarpc::serve(hosting).await,
        Peer::Transport => transport::serve(hosting).await,
        Peer::Picom | Peer::PicomArrays => picom::serve(hosting).await,
    }
}

/// So many listeners on free ports.
async fn listeners(count: usize) -> Result<Vec<TcpListener>> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn the_name_of_a_peer_is_the_same_for_machines() {
        for peer in Peer::ALL {
            assert_eq!(serde_json::to_value(peer).unwrap(), peer.name());
        }
    }
}
