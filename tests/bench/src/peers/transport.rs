//! picom without its upper half: streams of the transport and values of the codec, no discovery, balancing, retries,
//! deadlines or typed handlers. Shows what those cost; and a cheap way to hold many connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use picom_codec::value::{self, Blob};
use picom_codec::{Body, Limits, Method};
use picom_transport::{
    Connection, ConnectionConfig, Connector as _, Identity, Incoming, Listener, ListenerConfig, Request,
    StreamHandler, TcpAcceptor, TcpConnector, Turn,
};
use serde::{Deserialize, Serialize};

use super::row::{Item as _, Row};
use crate::caller::{Caller, Meter, Target};
use crate::job::Hosting;
use crate::service::{self, CHUNK};

/// The arguments of `add`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Add {
    pub(crate) a: i64,
    pub(crate) b: i64,
}

/// The largest message, where large ones are allowed.
pub(crate) const LARGE: u64 = 128 * 1024 * 1024;

/// The limits of a connection that takes large messages: room for one beside everything else.
pub(crate) fn large(connection: &mut ConnectionConfig) {
    connection.message_limit = LARGE;
    connection.receive_budget += 2 * LARGE;
}

/// Starts the server.
pub(crate) async fn serve(hosting: &Hosting) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for _ in 0..hosting.listeners {
        let acceptor = TcpAcceptor::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        addresses.push(acceptor.local_socket_addr());
        let mut config = ListenerConfig::default();
        if hosting.large {
            large(&mut config.connection);
        }
        let identity = Identity {
            service: Some(service::SERVICE.into()),
            instance: None,
        };
        let listener = Listener::start(Arc::new(acceptor), identity, config, Arc::new(Answers))?;
        // It lasts as long as the process.
        std::mem::forget(listener);
    }
    Ok(addresses)
}

struct Answers;

impl StreamHandler for Answers {
    fn handle(&self, incoming: Incoming, _: &mut Turn) {
        let Incoming {
            method,
            args,
            mut send,
            recv,
            ..
        } = incoming;
        match method.as_str() {
            "add" => {
                let Ok(Add { a, b }) = value::decode_body(&args, &Limits::default()) else {
                    return;
                };
                if let Ok(sum) = value::encode_body(&a.wrapping_add(b)) {
                    let _ = send.finish_with(sum);
                }
            }
            "echo" => {
                let _ = send.finish_with(args);
            }
            "items" => drop(tokio::spawn(async move {
                let _whole = recv;
                for id in 0.. {
                    let Ok(row) = value::encode_body(&Row::numbered(id)) else {
                        return;
                    };
                    if send.send(row).await.is_err() {
                        return;
                    }
                }
            })),
            "chunks" => drop(tokio::spawn(async move {
                let _whole = recv;
                let Ok(chunk) = value::encode_body(&Blob(vec![7; CHUNK].into())) else {
                    return;
                };
                while send.send(chunk.clone()).await.is_ok() {}
            })),
            // Dropped unanswered, the call fails.
            _ => {}
        }
    }
}

/// A connection to each address.
pub struct Client {
    connections: Arc<[Connection]>,
    turn: Arc<AtomicUsize>,
    methods: Arc<Names>,
}

struct Names {
    add: Method,
    echo: Method,
    items: Method,
    chunks: Method,
}

impl Client {
    fn open(&self, method: &Method, args: impl Into<Body>) -> Result<picom_transport::RecvHalf> {
        let at = match self.connections.len() {
            0 | 1 => 0,
            many => self.turn.fetch_add(1, Ordering::Relaxed) % many,
        };
        let request = Request {
            method: method.clone(),
            args: args.into(),
            metadata: None,
            deadline: None,
            idempotent: false,
            ends: true,
        };
        let connection = self.connections.get(at).context("no connection")?;
        Ok(connection.open(request)?.1)
    }

    async fn call(&self, method: &Method, args: Body) -> Result<Body> {
        let mut reply = self.open(method, args)?;
        let message = reply.recv().await?.context("no reply")?;
        ensure!(reply.recv().await?.is_none(), "two replies");
        Ok(message)
    }
}

impl Caller for Client {
    async fn connect(target: &Target) -> Result<Self> {
        let mut connections = Vec::new();
        for address in &target.addresses {
            let io = TcpConnector.connect(address).await?;
            let mut config = ConnectionConfig {
                // Idle ones must outlive the measurement.
                idle_close: None,
                ..ConnectionConfig::default()
            };
            if target.large {
                large(&mut config);
            }
            let meant = Identity {
                service: Some(service::SERVICE.into()),
                instance: None,
            };
            connections.push(Connection::client(io, address.clone(), meant, config).await?);
        }
        let methods = Names {
            add: Method::new("add")?,
            echo: Method::new("echo")?,
            items: Method::new("items")?,
            chunks: Method::new("chunks")?,
        };
        Ok(Client {
            connections: connections.into(),
            turn: Arc::default(),
            methods: Arc::new(methods),
        })
    }

    async fn fork(&self) -> Result<Self> {
        Ok(Client {
            connections: self.connections.clone(),
            turn: self.turn.clone(),
            methods: self.methods.clone(),
        })
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        let args = value::encode_body(&Add { a, b })?;
        let reply = self.call(&self.methods.add, args).await?;
        Ok(value::decode_body(&reply, &Limits::default())?)
    }

    async fn echo(&mut self, body: &Bytes) -> Result<usize> {
        let args = value::encode_body(&Blob(body.clone()))?;
        let reply = self.call(&self.methods.echo, args).await?;
        Ok(value::decode_body::<Blob>(&reply, &Limits::default())?.len())
    }

    async fn items(&mut self, meter: Arc<Meter>) -> Result<()> {
        let mut rows = self.open(&self.methods.items, value::nil())?;
        for next in 0.. {
            let row = rows.recv().await?.context("the stream has ended")?;
            let row: Row = value::decode_body(&row, &Limits::default())?;
            ensure!(row.id == next, "a row is wrong");
            meter.add(1);
        }
        Ok(())
    }

    async fn chunks(&mut self, meter: Arc<Meter>) -> Result<()> {
        let mut chunks = self.open(&self.methods.chunks, value::nil())?;
        loop {
            let chunk = chunks.recv().await?.context("the stream has ended")?;
            let chunk: Blob = value::decode_body(&chunk, &Limits::default())?;
            ensure!(chunk.len() == CHUNK, "a chunk is wrong");
            meter.add(CHUNK as u64);
        }
    }
}
