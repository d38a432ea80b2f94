//! The suite on the mock.

use picom_conformance::{Double, behaviours, on_mock};

macro_rules! tests {
    ($($number:literal $module:ident $name:ident,)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            behaviours::$module::$name(&Double::default()).await;
        }
    )* };
}

on_mock!(tests);
