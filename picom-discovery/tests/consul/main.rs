//! The Consul client against a scripted agent over in-memory pipes, on a virtual clock.

mod registrar;
mod resolver;
mod scripted;
