//! What takes minutes of a real Consul's time.
#![cfg(feature = "slow")]

use picom_conformance::{RealConsul, behaviours, slow};

macro_rules! tests {
    ($($number:literal $module:ident $name:ident,)*) => { $(
        #[tokio::test]
        async fn $name() {
            behaviours::$module::$name(&RealConsul::start().await).await;
        }
    )* };
}

slow!(tests);
