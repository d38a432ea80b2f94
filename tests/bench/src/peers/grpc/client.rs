//! The client: one channel, shared by all tasks.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{IntoStreamingRequest as _, Request, Streaming};
use tonic_prost::ProstCodec;

use super::{LARGE, Nothing, Number, Pair, Payload, Row, path};
use crate::caller::{Caller, Meter, Target};
use crate::service::CHUNK;

/// One channel; over several addresses it balances.
pub struct Client {
    grpc: Grpc<Channel>,
}

impl Client {
    async fn unary<M1, M2>(&mut self, message: M1, path: &'static str) -> Result<M2>
    where
        M1: prost::Message + 'static,
        M2: prost::Message + Default + 'static,
    {
        self.grpc.ready().await?;
        let codec = ProstCodec::<M1, M2>::default();
        let path = PathAndQuery::from_static(path);
        Ok(self
            .grpc
            .unary(Request::new(message), path, codec)
            .await?
            .into_inner())
    }

    async fn stream<M>(&mut self, path: &'static str) -> Result<Streaming<M>>
    where
        M: prost::Message + Default + 'static,
    {
        self.grpc.ready().await?;
        let codec = ProstCodec::<Nothing, M>::default();
        let request = Request::new(Nothing {});
        let response = self
            .grpc
            .server_streaming(request, PathAndQuery::from_static(path), codec)
            .await?;
        Ok(response.into_inner())
    }
}

impl Caller for Client {
    async fn connect(target: &Target) -> Result<Self> {
        let mut endpoints = Vec::new();
        for address in &target.addresses {
            endpoints.push(Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true));
        }
        let channel = match &endpoints[..] {
            [one] => one.connect().await?,
            _ => Channel::balance_list(endpoints.into_iter()),
        };
        let mut grpc = Grpc::new(channel);
        if target.large {
            grpc = grpc.max_encoding_message_size(LARGE);
        }
        Ok(Client { grpc })
    }

    async fn fork(&self) -> Result<Self> {
        Ok(Client {
            grpc: self.grpc.clone(),
        })
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        let sum: Number = self.unary(Pair { a, b }, path::ADD).await?;
        Ok(sum.value)
    }

    async fn echo(&mut self, body: &Bytes) -> Result<usize> {
        let message = Payload { body: body.clone() };
        let back: Payload = self.unary(message, path::ECHO).await?;
        Ok(back.body.len())
    }

    async fn size(&mut self, body: &Bytes) -> Result<u64> {
        let message = Payload { body: body.clone() };
        let size: Number = self.unary(message, path::SIZE).await?;
        Ok(size.value as u64)
    }

    async fn burn(&mut self, micros: u64) -> Result<()> {
        let message = Number { value: micros as i64 };
        self.unary::<_, Nothing>(message, path::BURN).await.map(drop)
    }

    async fn slow(&mut self) -> Result<()> {
        self.unary::<_, Nothing>(Nothing {}, path::SLOW).await.map(drop)
    }

    async fn items(&mut self, meter: Arc<Meter>) -> Result<()> {
        let rows = self.stream::<Row>(path::ITEMS).await?;
        count(rows, &meter).await
    }

    async fn chunks(&mut self, meter: Arc<Meter>) -> Result<()> {
        let mut chunks = self.stream::<Payload>(path::CHUNKS).await?;
        loop {
            let chunk = chunks.message().await?.context("the stream has ended")?;
            ensure!(chunk.body.len() == CHUNK, "a chunk is wrong");
            meter.add(CHUNK as u64);
        }
    }

    async fn both_ways(&mut self, meter: Arc<Meter>) -> Result<()> {
        self.grpc.ready().await?;
        let rows = stream::iter((0..).map(Row::numbered));
        let codec = ProstCodec::<Row, Row>::default();
        let request = rows.into_streaming_request();
        let path = PathAndQuery::from_static(path::MIRROR);
        let back = self.grpc.streaming(request, path, codec).await?;
        count(back.into_inner(), &meter).await
    }
}

async fn count(mut rows: Streaming<Row>, meter: &Meter) -> Result<()> {
    let mut next = 0;
    loop {
        let row = rows.message().await?.context("the stream has ended")?;
        ensure!(row.id == next, "a row is wrong");
        next += 1;
        meter.add(1);
    }
}
