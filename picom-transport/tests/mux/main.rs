//! The multiplexer without a socket: two of them, a wire between them, and a clock that the test moves.

mod backlog;
mod calls;
mod dialogue;
mod drains;
mod ends;
mod limits;
mod model;
mod pair;
mod pocket;
mod violations;
