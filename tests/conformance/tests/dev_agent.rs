//! The suite on the dev agent, as Consul 1.8 and as 1.11, in virtual time.

use picom_conformance::{Dev, behaviours, on_agents, on_mock, slow};
use picom_discovery::dev_agent::Compat;

macro_rules! tests {
    ($($number:literal $module:ident $name:ident,)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            for compat in [Compat::V1_8, Compat::V1_11] {
                behaviours::$module::$name(&Dev::new(compat)).await;
            }
        }
    )* };
}

on_mock!(tests);
on_agents!(tests);
slow!(tests);
