//! The server.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::{LARGE, Nothing, Number, Pair, Payload, Row, path};
use crate::job::Hosting;
use crate::service::{CHUNK, burn, slow};

/// Starts it.
pub(crate) async fn serve(hosting: &Hosting) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for listener in super::super::listeners(hosting.listeners).await? {
        addresses.push(listener.local_addr()?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let bench = Bench { large: hosting.large };
        let server = Server::builder()
            // Otherwise 200 calls at a time are the most.
            .max_concurrent_streams(20_000)
            .serve_with_incoming(bench, incoming);
        tokio::spawn(server);
    }
    Ok(addresses)
}

#[derive(Clone)]
struct Bench {
    large: bool,
}

impl NamedService for Bench {
    const NAME: &'static str = "bench.Bench";
}

impl Service<http::Request<Body>> for Bench {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let most = self.large.then_some(LARGE);
        Box::pin(async move { Ok(route(request, most).await) })
    }
}

async fn route(request: http::Request<Body>, most: Option<usize>) -> http::Response<Body> {
    match request.uri().path() {
        path::ADD => {
            Grpc::new(ProstCodec::default())
                .unary(service_fn(add), request)
                .await
        }
        path::ECHO => {
            Grpc::new(ProstCodec::default())
                .unary(service_fn(echo), request)
                .await
        }
        path::SIZE => {
            let mut grpc = Grpc::new(ProstCodec::default());
            if let Some(most) = most {
                grpc = grpc.max_decoding_message_size(most);
            }
            grpc.unary(service_fn(size), request).await
        }
        path::BURN => {
            Grpc::new(ProstCodec::default())
                .unary(service_fn(compute), request)
                .await
        }
        path::SLOW => {
            Grpc::new(ProstCodec::default())
                .unary(service_fn(wait), request)
                .await
        }
        path::ITEMS => {
            Grpc::new(ProstCodec::default())
                .server_streaming(service_fn(items), request)
                .await
        }
        path::CHUNKS => {
            Grpc::new(ProstCodec::default())
                .server_streaming(service_fn(chunks), request)
                .await
        }
        path::MIRROR => {
            Grpc::new(ProstCodec::default())
                .streaming(service_fn(mirror), request)
                .await
        }
        other => Status::unimplemented(other).into_http(),
    }
}

async fn add(request: Request<Pair>) -> Result<Response<Number>, Status> {
    let Pair { a, b } = request.into_inner();
    Ok(Response::new(Number {
        value: a.wrapping_add(b),
    }))
}

async fn echo(request: Request<Payload>) -> Result<Response<Payload>, Status> {
    Ok(Response::new(request.into_inner()))
}

async fn size(request: Request<Payload>) -> Result<Response<Number>, Status> {
    let value = request.into_inner().body.len() as i64;
    Ok(Response::new(Number { value }))
}

async fn compute(request: Request<Number>) -> Result<Response<Nothing>, Status> {
    burn(request.into_inner().value as u64);
    Ok(Response::new(Nothing {}))
}

async fn wait(_: Request<Nothing>) -> Result<Response<Nothing>, Status> {
    slow().await;
    Ok(Response::new(Nothing {}))
}

type Answer<T> = Response<Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>>;

async fn items(_: Request<Nothing>) -> Result<Answer<Row>, Status> {
    Ok(Response::new(Box::pin(stream::iter(
        (0..).map(|id| Ok(Row::numbered(id))),
    ))))
}

async fn chunks(_: Request<Nothing>) -> Result<Answer<Payload>, Status> {
    let body = Bytes::from(vec![7; CHUNK]);
    Ok(Response::new(Box::pin(stream::repeat_with(move || {
        Ok(Payload { body: body.clone() })
    }))))
}

async fn mirror(request: Request<Streaming<Row>>) -> Result<Answer<Row>, Status> {
    Ok(Response::new(request.into_inner().boxed()))
}
