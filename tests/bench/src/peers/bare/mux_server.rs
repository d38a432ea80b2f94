//! The server with ids: all that one read brought is answered with one write.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use bytes::Buf as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::frame::{ADD, BURN, ECHO, Input, SLOW, WITH_ID, complete, head_with_id, id, number, op};
use crate::job::Hosting;
use crate::service::{burn, slow};
use crate::turn::yield_once;

/// Starts it. With `yields` other tasks run once before each write.
pub(crate) async fn serve(hosting: &Hosting, yields: bool) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for listener in super::super::listeners(hosting.listeners).await? {
        addresses.push(listener.local_addr()?);
        tokio::spawn(accept(listener, yields));
    }
    Ok(addresses)
}

async fn accept(listener: TcpListener, yields: bool) -> Result<()> {
    loop {
        let (io, _) = listener.accept().await?;
        io.set_nodelay(true)?;
        tokio::spawn(connection(io, yields));
    }
}

async fn connection(mut io: TcpStream, yields: bool) -> Result<()> {
    let mut input = Input::new(WITH_ID);
    let mut out = Vec::new();
    while input.fill(&mut io).await? {
        let mut at = 0;
        while let Some(frame) = complete(&input.bytes[at..], WITH_ID) {
            answer(frame, &mut out)?;
            at += frame.len();
        }
        input.bytes.advance(at);
        if out.is_empty() {
            continue;
        }
        if yields {
            yield_once().await;
        }
        io.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

fn answer(frame: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match op(frame) {
        ADD => {
            let sum = number(frame, WITH_ID).wrapping_add(number(frame, WITH_ID + 8));
            out.extend_from_slice(&head_with_id(ADD, id(frame), 8));
            out.extend_from_slice(&sum.to_le_bytes());
        }
        ECHO => out.extend_from_slice(frame),
        BURN => {
            burn(number(frame, WITH_ID));
            out.extend_from_slice(&head_with_id(BURN, id(frame), 0));
        }
        SLOW => drop(tokio::spawn(slow())),
        other => bail!("operation {other}"),
    }
    Ok(())
}
