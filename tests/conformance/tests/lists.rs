//! The part of the suite that applies to sources which are read again and again: a file, and DNS.

mod file {
    use picom_conformance::{Written, behaviours, on_lists};

    macro_rules! tests {
        ($($number:literal $module:ident $name:ident,)*) => { $(
            #[tokio::test]
            async fn $name() {
                behaviours::$module::$name(&Written::new()).await;
            }
        )* };
    }

    on_lists!(tests);
}

mod dns {
    use picom_conformance::{Named, behaviours, on_lists};

    macro_rules! tests {
        ($($number:literal $module:ident $name:ident,)*) => { $(
            #[tokio::test]
            async fn $name() {
                behaviours::$module::$name(&Named::start().await).await;
            }
        )* };
    }

    on_lists!(tests);
}
