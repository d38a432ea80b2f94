//! Generates the service, without protoc.

use tonic_prost_build::manual::{Builder, Method, Service};

fn main() {
    let add = Method::builder()
        .name("add")
        .route_name("Add")
        .input_type("crate::messages::Pair")
        .output_type("crate::messages::Number")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let service = Service::builder().name("Bench").package("bench").method(add).build();
    Builder::new().compile(&[service]);
}
