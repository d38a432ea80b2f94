//! What the multiplexer tells the tasks around it.

use super::streams::Key;

/// Something happened that somebody may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete.
    Ready,
    /// The peer opened this stream and its args are complete.
    Opened(Key),
    /// The stream has something to receive: a message, its end, or an error.
    Readable(Key),
    /// The stream takes messages again, or never will.
    Writable(Key),
    /// The stream was ended by the peer, its deadline, or the loss of the connection.
    Ended(Key),
    /// New calls should go elsewhere: the peer drains.
    PeerDraining,
    /// A slot for a stream of ours is free again.
    SlotFree,
}
