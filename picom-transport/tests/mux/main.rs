//! The multiplexer without a socket: two of them, a wire between them, and a clock that the test moves.

mod dialogues;
mod model;
mod pair;
