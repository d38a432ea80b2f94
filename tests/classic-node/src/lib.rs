//! What the tests share: services of both kinds, and a look at their sockets. The foreign peers are in `node/`.

mod node;
mod rust;
mod sockets;

pub use node::{Node, PATIENCE, call_from_node, peers, say_skipped};
pub use rust::{
    Add, After, Count, Data, Item, Later, Sum, When, methods, no_connections_are_left, serve, service,
};
pub use sockets::{no_sockets_between, sockets};
