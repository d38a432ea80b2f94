//! picom with everything on that its users have on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use picom::{Blob, Builder, ConnectionConfig, Fixed, In, Methods, Out, Picom};

use super::row::{BareRow, Item, Row};
use super::transport::Add;
use crate::caller::{Caller, Meter, Target};
use crate::job::Hosting;
use crate::service::{self, CHUNK, SERVICE};

/// Starts the server.
pub(crate) async fn serve(hosting: &Hosting) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for _ in 0..hosting.listeners {
        let builder = builder(SERVICE, &[], hosting.agent.as_deref(), hosting.large)?;
        // It stays exposed when the handle is dropped.
        let picom = builder.bind(Ipv4Addr::LOCALHOST.into()).build()?;
        picom.expose(methods()).await?;
        let address = picom.status().advertised.context("nothing is advertised")?;
        addresses.push(address.parse()?);
    }
    Ok(addresses)
}

/// One that looks into a Consul agent, or else into a list.
fn builder(name: &str, addresses: &[String], agent: Option<&str>, large: bool) -> Result<Builder> {
    let mut builder = Picom::builder(name).without_environment();
    if large {
        let mut connections = ConnectionConfig::default();
        super::transport::large(&mut connections);
        builder = builder.connections(connections);
    }
    match agent {
        Some(agent) => {
            let (host, port) = agent.rsplit_once(':').context("an agent without a port")?;
            Ok(builder.consul_host(host).consul_port(port.parse()?))
        }
        None => Ok(builder.discovery(Arc::new(Fixed::new().with(SERVICE, addresses)?))),
    }
}

fn methods() -> Methods {
    Methods::new()
        .unary("add", |Add { a, b }: Add| async move { Ok(a.wrapping_add(b)) })
        .unary("echo", |body: Blob| async move { Ok(body) })
        .unary("size", |body: Blob| async move { Ok(body.len() as u64) })
        .unary("burn", |micros: u64| async move {
            service::burn(micros);
            Ok(())
        })
        .unary("slow", |_: ()| async move {
            service::slow().await;
            Ok(())
        })
        .stream("items", |_: ()| async move {
            Ok(stream::iter((0..).map(|id| Ok(Row::numbered(id)))))
        })
        .stream("bare-items", |_: ()| async move {
            Ok(stream::iter((0..).map(|id| Ok(BareRow::numbered(id)))))
        })
        .stream("chunks", |_: ()| async move {
            let chunk = Blob(vec![7; CHUNK].into());
            Ok(stream::repeat_with(move || Ok(chunk.clone())))
        })
        .bidi("mirror", |_: (), rows: In<Row>, out: Out<Row>| mirror(rows, out))
        .bidi("bare-mirror", |_: (), rows: In<BareRow>, out: Out<BareRow>| {
            mirror(rows, out)
        })
        .bidi("mirror-each", |_: (), rows: In<Row>, out: Out<Row>| {
            mirror_each(rows, out)
        })
        .bidi(
            "bare-mirror-each",
            |_: (), rows: In<BareRow>, out: Out<BareRow>| mirror_each(rows, out),
        )
}

async fn mirror<R: Item>(rows: In<R>, out: Out<R>) -> Result<(), picom::Fault> {
    Ok(out.forward(rows).await?)
}

async fn mirror_each<R: Item>(mut rows: In<R>, out: Out<R>) -> Result<(), picom::Fault> {
    while let Some(row) = rows.next().await? {
        out.send(row).await?;
    }
    Ok(())
}

/// A client; `ARRAYS` says which items it asks for.
pub struct Client<const ARRAYS: bool> {
    picom: Picom,
}

impl<const ARRAYS: bool> Client<ARRAYS> {
    async fn stream_of<R: Item>(&self, method: &str, meter: Arc<Meter>) -> Result<()> {
        let rows = self.picom.stream::<(), R>(SERVICE, method, &()).receive().await?;
        count(rows, &meter).await
    }

    async fn mirrored<R: Item>(&self, method: &str, meter: Arc<Meter>) -> Result<()> {
        let rows = stream::iter((0..).map(R::numbered));
        let back = self
            .picom
            .stream::<R, R>(SERVICE, method, &())
            .input(rows)
            .await?;
        count(back, &meter).await
    }

    async fn mirrored_each<R: Item>(&self, method: &str, meter: Arc<Meter>) -> Result<()> {
        let (out, back) = self.picom.stream::<R, R>(SERVICE, method, &()).await?;
        let sender = async {
            for id in 0.. {
                out.send(R::numbered(id)).await?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(sender, count(back, &meter)).map(drop)
    }
}

impl<const ARRAYS: bool> Caller for Client<ARRAYS> {
    async fn connect(target: &Target) -> Result<Self> {
        let builder = builder("caller", &target.addresses, target.agent.as_deref(), target.large)?;
        let mut client = Client {
            picom: builder.build()?,
        };
        // The others connect here, too: picom does so with its first call.
        ensure!(client.add(2, 5).await? == 7, "a wrong sum");
        Ok(client)
    }

    async fn fork(&self) -> Result<Self> {
        Ok(Client {
            picom: self.picom.clone(),
        })
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(self.picom.fetch(SERVICE, "add", &Add { a, b }).await?)
    }

    async fn echo(&mut self, body: &Bytes) -> Result<usize> {
        let back: Blob = self.picom.fetch(SERVICE, "echo", &Blob(body.clone())).await?;
        Ok(back.len())
    }

    async fn size(&mut self, body: &Bytes) -> Result<u64> {
        Ok(self.picom.fetch(SERVICE, "size", &Blob(body.clone())).await?)
    }

    async fn burn(&mut self, micros: u64) -> Result<()> {
        Ok(self.picom.fetch(SERVICE, "burn", &micros).await?)
    }

    async fn slow(&mut self) -> Result<()> {
        Ok(self.picom.fetch(SERVICE, "slow", &()).no_timeout().await?)
    }

    async fn items(&mut self, meter: Arc<Meter>) -> Result<()> {
        match ARRAYS {
            false => self.stream_of::<Row>("items", meter).await,
            true => self.stream_of::<BareRow>("bare-items", meter).await,
        }
    }

    async fn chunks(&mut self, meter: Arc<Meter>) -> Result<()> {
        let stream = self.picom.stream::<(), Blob>(SERVICE, "chunks", &());
        let mut chunks = stream.receive().await?;
        loop {
            let chunk = chunks.next().await?.context("the stream has ended")?;
            ensure!(chunk.len() == CHUNK, "a chunk is wrong");
            meter.add(CHUNK as u64);
        }
    }

    async fn both_ways(&mut self, meter: Arc<Meter>) -> Result<()> {
        match ARRAYS {
            false => self.mirrored::<Row>("mirror", meter).await,
            true => self.mirrored::<BareRow>("bare-mirror", meter).await,
        }
    }

    async fn one_by_one(&mut self, meter: Arc<Meter>) -> Result<()> {
        match ARRAYS {
            false => self.mirrored_each::<Row>("mirror-each", meter).await,
            true => self.mirrored_each::<BareRow>("bare-mirror-each", meter).await,
        }
    }
}

async fn count<R: Item>(mut rows: In<R>, meter: &Meter) -> Result<()> {
    for next in 0.. {
        let row = rows.next().await?.context("the stream has ended")?;
        ensure!(row.id() == next, "a row is wrong");
        meter.add(1);
    }
    Ok(())
}
