//! The server without ids: it answers in order, and turns a connection into a stream when it is asked to.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::frame::{ADD, BURN, CHUNKS, ECHO, ITEMS, Input, MIRROR, PLAIN, SLOW, complete, head, number, op};
use super::rows;
use crate::job::Hosting;
use crate::service::{CHUNK, burn, slow};

/// Starts it.
pub(crate) async fn serve(hosting: &Hosting) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for listener in super::super::listeners(hosting.listeners).await? {
        addresses.push(listener.local_addr()?);
        tokio::spawn(accept(listener));
    }
    Ok(addresses)
}

async fn accept(listener: TcpListener) -> Result<()> {
    loop {
        let (io, _) = listener.accept().await?;
        io.set_nodelay(true)?;
        tokio::spawn(connection(io));
    }
}

async fn connection(mut io: TcpStream) -> Result<()> {
    let mut input = Input::new(PLAIN);
    let mut out = Vec::new();
    while input.fill(&mut io).await? {
        let mut at = 0;
        while let Some(frame) = complete(&input.bytes[at..], PLAIN) {
            match op(frame) {
                // As it came, from where it came: nobody could echo with less.
                ECHO => io.write_all(frame).await?,
                ADD => {
                    let sum = number(frame, PLAIN).wrapping_add(number(frame, PLAIN + 8));
                    out.extend_from_slice(&head(ADD, 8));
                    out.extend_from_slice(&sum.to_le_bytes());
                }
                BURN => {
                    burn(number(frame, PLAIN));
                    out.extend_from_slice(&head(BURN, 0));
                }
                SLOW => slow().await,
                ITEMS => return items(io).await,
                CHUNKS => return chunks(io).await,
                MIRROR => {
                    let begun = at + frame.len();
                    return mirror(io, input, begun).await;
                }
                other => bail!("operation {other}"),
            }
            at += frame.len();
        }
        if at == input.bytes.len() {
            input.bytes.clear();
        } else {
            bytes::Buf::advance(&mut input.bytes, at);
        }
        if !out.is_empty() {
            io.write_all(&out).await?;
            out.clear();
        }
    }
    Ok(())
}

async fn items(mut io: TcpStream) -> Result<()> {
    let (mut out, mut id) = (Vec::new(), 0);
    loop {
        rows::pack(&mut out, &mut id);
        io.write_all(&out).await?;
    }
}

async fn chunks(mut io: TcpStream) -> Result<()> {
    let mut chunk = head(CHUNKS, CHUNK).to_vec();
    chunk.resize(PLAIN + CHUNK, 7);
    loop {
        io.write_all(&chunk).await?;
    }
}

async fn mirror(mut io: TcpStream, mut input: Input, begun: usize) -> Result<()> {
    bytes::Buf::advance(&mut input.bytes, begun);
    let (mut out, mut next) = (Vec::new(), 0);
    loop {
        let used = rows::mirror(&input.bytes, &mut next, &mut out)?;
        bytes::Buf::advance(&mut input.bytes, used);
        io.write_all(&out).await?;
        out.clear();
        if !input.fill(&mut io).await? {
            return Ok(());
        }
    }
}
