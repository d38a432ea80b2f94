//! The tasks around the multiplexer: over a few real sockets, and over a network in memory with its faults.

mod calls;
mod classic;
mod crowd;
mod halves;
mod hostile;
mod pool;
mod service;
mod slow;
mod turns;
mod vacancy;
