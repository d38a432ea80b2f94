//! What every source of discovery must do, on a real Consul: one agent of its own for each behaviour.

use picom_conformance::{RealConsul, behaviours, on_agents, on_mock, only_on_consul};

macro_rules! tests {
    ($($number:literal $module:ident $name:ident,)*) => { $(
        #[tokio::test]
        async fn $name() {
            behaviours::$module::$name(&RealConsul::start().await).await;
        }
    )* };
}

macro_rules! only_here {
    ($($number:literal $start:ident $name:ident,)*) => { $(
        #[tokio::test]
        async fn $name() {
            behaviours::errors::$name(&RealConsul::$start().await).await;
        }
    )* };
}

on_mock!(tests);
on_agents!(tests);
only_on_consul!(only_here);
