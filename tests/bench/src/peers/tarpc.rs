//! tarpc with bincode over its own transport.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_bytes::ByteBuf;
use tarpc::context::{self, Context};
use tarpc::serde_transport;
use tarpc::server::{self, BaseChannel, Channel as _};
use tarpc::tokio_serde::formats::Bincode;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::LengthDelimitedCodec;

use crate::caller::{Caller, Target};
use crate::clock::now;
use crate::job::Hosting;
use crate::service;

/// The largest frame, where large messages are allowed; 8 MiB otherwise.
const LARGE: usize = 128 * 1024 * 1024;

/// tarpc bounds what is under way; nothing here is to wait for that.
const UNDER_WAY: usize = 100_000;

/// Its default of 10 s is shorter than some measurements.
const DEADLINE: Duration = Duration::from_secs(300);

#[tarpc::service]
trait Bench {
    async fn add(a: i64, b: i64) -> i64;
    async fn echo(body: ByteBuf) -> ByteBuf;
    async fn size(body: ByteBuf) -> u64;
    async fn burn(micros: u64);
    async fn slow();
}

#[derive(Clone)]
struct Answers;

impl Bench for Answers {
    async fn add(self, _: Context, a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    async fn echo(self, _: Context, body: ByteBuf) -> ByteBuf {
        body
    }

    async fn size(self, _: Context, body: ByteBuf) -> u64 {
        body.len() as u64
    }

    async fn burn(self, _: Context, micros: u64) {
        service::burn(micros);
    }

    async fn slow(self, _: Context) {
        service::slow().await;
    }
}

/// Starts the server.
pub(crate) async fn serve(hosting: &Hosting) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for listener in super::listeners(hosting.listeners).await? {
        addresses.push(listener.local_addr()?);
        tokio::spawn(accept(listener, hosting.large));
    }
    Ok(addresses)
}

async fn accept(listener: TcpListener, large: bool) -> Result<()> {
    loop {
        let (io, _) = listener.accept().await?;
        io.set_nodelay(true)?;
        let transport = serde_transport::new(framing(large).new_framed(io), Bincode::default());
        let config = server::Config {
            pending_response_buffer: UNDER_WAY,
        };
        let requests = BaseChannel::new(config, transport).execute(Answers.serve());
        tokio::spawn(requests.for_each(|handler| async { drop(tokio::spawn(handler)) }));
    }
}

fn framing(large: bool) -> tokio_util::codec::length_delimited::Builder {
    let mut builder = LengthDelimitedCodec::builder();
    if large {
        builder.max_frame_length(LARGE);
    }
    builder
}

/// A client for each address, in turn.
pub struct Client {
    clients: Arc<[BenchClient]>,
    turn: Arc<AtomicUsize>,
}

impl Client {
    fn next(&self) -> &BenchClient {
        let at = match self.clients.len() {
            0 | 1 => 0,
            many => self.turn.fetch_add(1, Ordering::Relaxed) % many,
        };
        &self.clients[at]
    }
}

impl Caller for Client {
    async fn connect(target: &Target) -> Result<Self> {
        ensure!(!target.addresses.is_empty(), "no address");
        let mut clients = Vec::new();
        for address in &target.addresses {
            let io = TcpStream::connect(address).await?;
            io.set_nodelay(true)?;
            let transport = serde_transport::new(framing(target.large).new_framed(io), Bincode::default());
            let mut config = tarpc::client::Config::default();
            config.max_in_flight_requests = UNDER_WAY;
            clients.push(BenchClient::new(config, transport).spawn());
        }
        Ok(Client {
            clients: clients.into(),
            turn: Arc::default(),
        })
    }

    async fn fork(&self) -> Result<Self> {
        Ok(Client {
            clients: self.clients.clone(),
            turn: self.turn.clone(),
        })
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(self.next().add(context::current(), a, b).await?)
    }

    async fn echo(&mut self, body: &Bytes) -> Result<usize> {
        let body = ByteBuf::from(&body[..]);
        Ok(self.next().echo(context::current(), body).await?.len())
    }

    async fn size(&mut self, body: &Bytes) -> Result<u64> {
        let body = ByteBuf::from(&body[..]);
        Ok(self.next().size(patient(), body).await?)
    }

    async fn burn(&mut self, micros: u64) -> Result<()> {
        Ok(self.next().burn(context::current(), micros).await?)
    }

    async fn slow(&mut self) -> Result<()> {
        Ok(self.next().slow(patient()).await?)
    }
}

fn patient() -> Context {
    let mut context = context::current();
    context.deadline = now() + DEADLINE;
    context
}
