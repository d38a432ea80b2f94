//! The end-to-end suite: services as processes of their own, found through a registry and called over sockets, halted,
//! killed and restarted.
//!
//! | what | where |
//! |---|---|
//! | what is proved | [`scenario`] |
//! | what a scenario plays in: an agent, nodes, names | [`world`] |
//! | a service as a process, told what to do over its input | [`node`], [`protocol`], the program `picom-e2e-node` |
//! | the agent: a real one, or the dev agent | [`agent`]; what it knows, read past the product: [`registry`], [`http`] |
//! | three servers and an agent, for what a single one cannot show | [`cluster`] |
//! | that nothing ran twice, was lost or mixed up | [`history`], [`journal`] |
//! | signals, time limits, directories | [`signal`], [`patience`], [`scratch`] |
//!
//! Every scenario runs twice: against the dev agent in `tests/dev_*.rs`, with `cargo test`, and against a real Consul in
//! `tests/consul_*.rs`, with `cargo xtask integration`; what takes servers away runs in `tests/cluster_*.rs` only.

pub mod agent;
pub mod cluster;
pub mod history;
pub mod http;
pub mod journal;
pub mod node;
pub mod patience;
pub mod protocol;
pub mod registry;
pub mod scenario;
pub mod scratch;
pub mod signal;
pub mod world;

/// Makes tests of scenarios: `play!(dev, calls: [values_arrive, errors_arrive])`.
#[macro_export]
macro_rules! play {
    ($agent:ident, $stage:ident: [$($scenario:ident),+ $(,)?]) => {
        $(
            #[tokio::test]
            async fn $scenario() {
                let world = $crate::world::World::$agent(env!("CARGO_BIN_EXE_picom-e2e-node")).await;
                $crate::scenario::$stage::$scenario(&world).await;
            }
        )+
    };
}
