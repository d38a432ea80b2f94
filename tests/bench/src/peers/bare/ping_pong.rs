//! The client without ids: one call at a time on a connection of its own, or many sent without waiting; and the streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::frame::{
    ADD, BURN, CHUNKS, ECHO, ITEMS, Input, MIRROR, PLAIN, SLOW, announced, complete, head, number,
};
use super::rows;
use crate::caller::{Caller, Meter, Target};
use crate::service::CHUNK;

/// Bodies up to this are copied behind their head, so that one buffer is written; larger ones are written from where they
/// are.
const COPY: usize = 4096;

/// One connection.
pub struct PingPong {
    io: TcpStream,
    input: Input,
    out: Vec<u8>,
    addresses: Arc<[String]>,
    turn: Arc<AtomicUsize>,
}

impl PingPong {
    async fn open(addresses: Arc<[String]>, turn: Arc<AtomicUsize>) -> Result<Self> {
        let at = turn.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        let address = addresses.get(at).context("no address")?;
        let io = super::connect(address).await?;
        Ok(PingPong {
            io,
            input: Input::new(PLAIN),
            out: Vec::new(),
            addresses,
            turn,
        })
    }

    async fn send(&mut self, op: u8, body: &[u8]) -> Result<()> {
        self.out.clear();
        self.out.extend_from_slice(&head(op, body.len()));
        if body.len() <= COPY {
            self.out.extend_from_slice(body);
            self.io.write_all(&self.out).await?;
        } else {
            self.io.write_all_buf(&mut (&self.out[..]).chain(body)).await?;
        }
        Ok(())
    }

    /// The length of the body, and a number at its beginning if it has one.
    async fn receive(&mut self) -> Result<(usize, u64)> {
        loop {
            if let Some(frame) = complete(&self.input.bytes, PLAIN) {
                let (length, body) = (frame.len(), frame.len() - PLAIN);
                let first = if body >= 8 { number(frame, PLAIN) } else { 0 };
                self.input.bytes.advance(length);
                return Ok((body, first));
            }
            ensure!(self.input.fill(&mut self.io).await?, "the server has gone");
        }
    }
}

impl Caller for PingPong {
    async fn connect(target: &Target) -> Result<Self> {
        Self::open(target.addresses.as_slice().into(), Arc::default()).await
    }

    async fn fork(&self) -> Result<Self> {
        Self::open(self.addresses.clone(), self.turn.clone()).await
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        let mut body = [0; 16];
        body[..8].copy_from_slice(&a.to_le_bytes());
        body[8..].copy_from_slice(&b.to_le_bytes());
        self.send(ADD, &body).await?;
        Ok(self.receive().await?.1 as i64)
    }

    async fn echo(&mut self, body: &Bytes) -> Result<usize> {
        self.send(ECHO, body).await?;
        Ok(self.receive().await?.0)
    }

    async fn burn(&mut self, micros: u64) -> Result<()> {
        self.send(BURN, &micros.to_le_bytes()).await?;
        self.receive().await.map(drop)
    }

    async fn slow(&mut self) -> Result<()> {
        self.send(SLOW, &[]).await?;
        self.receive().await.map(drop)
    }

    async fn items(&mut self, meter: Arc<Meter>) -> Result<()> {
        self.send(ITEMS, &[]).await?;
        let (mut next, mut sum) = (0, 0.0);
        while self.input.fill(&mut self.io).await? {
            let before = next;
            let used = rows::unpack(&self.input.bytes, &mut next, |_, value| sum += value)?;
            self.input.bytes.advance(used);
            meter.add(next - before);
        }
        ensure!(sum < 0.0, "the server has gone");
        Ok(())
    }

    async fn chunks(&mut self, meter: Arc<Meter>) -> Result<()> {
        self.send(CHUNKS, &[]).await?;
        loop {
            while let Some(chunk) = complete(&self.input.bytes, PLAIN) {
                let length = chunk.len();
                ensure!(
                    length == PLAIN + CHUNK && chunk[length - 1] == 7,
                    "a chunk is wrong"
                );
                self.input.bytes.advance(length);
                meter.add(CHUNK as u64);
            }
            ensure!(self.input.fill(&mut self.io).await?, "the server has gone");
        }
    }

    async fn both_ways(&mut self, meter: Arc<Meter>) -> Result<()> {
        self.send(MIRROR, &[]).await?;
        let (mut read, mut write) = self.io.split();
        let writer = async {
            let (mut out, mut id) = (Vec::new(), 0);
            loop {
                rows::pack(&mut out, &mut id);
                if let Err(error) = write.write_all(&out).await {
                    return Err::<(), _>(error.into());
                }
            }
        };
        let input = &mut self.input;
        let reader = async {
            let (mut next, mut sum) = (0, 0.0);
            while input.fill(&mut read).await? {
                let before = next;
                let used = rows::unpack(&input.bytes, &mut next, |_, value| sum += value)?;
                input.bytes.advance(used);
                meter.add(next - before);
            }
            ensure!(sum < 0.0, "the server has gone");
            Ok(())
        };
        tokio::try_join!(writer, reader).map(|((), ())| ())
    }

    async fn pipelined(&mut self, body: &Bytes, depth: usize, meter: Arc<Meter>) -> Result<()> {
        let mut frame = head(ECHO, body.len()).to_vec();
        frame.extend_from_slice(body);
        let (mut read, mut write) = self.io.split();
        let free = Semaphore::new(depth);
        let writer = async {
            loop {
                free.acquire().await?.forget();
                if let Err(error) = write.write_all(&frame).await {
                    return Err::<(), anyhow::Error>(error.into());
                }
            }
        };
        let (input, expected) = (&mut self.input, frame.len());
        let reader = async {
            while input.fill(&mut read).await? {
                let mut whole = 0;
                while input.bytes.len() >= expected {
                    ensure!(
                        announced(&input.bytes, PLAIN) == Some(expected),
                        "a reply is wrong"
                    );
                    input.bytes.advance(expected);
                    whole += 1;
                }
                free.add_permits(whole);
                meter.add(whole as u64);
            }
            bail!("the server has gone")
        };
        tokio::try_join!(writer, reader).map(|((), ())| ())
    }
}
