//! A service of one method, as tonic's own code generation has it.

use tonic::{Request, Response, Status};

/// The messages, by hand: without protoc nobody reads a `.proto` file.
pub mod messages {
    /// The arguments.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Pair {
        /// One.
        #[prost(int64, tag = "1")]
        pub a: i64,
        /// The other.
        #[prost(int64, tag = "2")]
        pub b: i64,
    }

    /// The reply.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Number {
        /// The sum.
        #[prost(int64, tag = "1")]
        pub value: i64,
    }
}

mod generated {
    include!(concat!(env!("OUT_DIR"), "/bench.Bench.rs"));
}

#[derive(Debug, Default)]
struct Answers;

#[tonic::async_trait]
impl generated::bench_server::Bench for Answers {
    async fn add(&self, request: Request<messages::Pair>) -> Result<Response<messages::Number>, Status> {
        let messages::Pair { a, b } = request.into_inner();
        let value = a.wrapping_add(b);
        Ok(Response::new(messages::Number { value }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = generated::bench_server::BenchServer::new(Answers);
    let address = "127.0.0.1:0".parse()?;
    tonic::transport::Server::builder().add_service(server).serve(address).await?;
    Ok(())
}
