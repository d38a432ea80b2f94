//! The client with ids: a slot and a waker per call, one task that writes and one that reads for each connection.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::frame::{ADD, BURN, ECHO, Input, SLOW, WITH_ID, complete, head_with_id, id, number};
use crate::caller::{Caller, Target};
use crate::turn::yield_once;

/// A connection to each address. With `YIELDS` other tasks run once before each write.
pub struct Mux<const YIELDS: bool> {
    connections: Arc<[Arc<Connection>]>,
    turn: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Connection {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    out: Vec<u8>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    writer: Option<Waker>,
    gone: bool,
}

#[derive(Default)]
enum Slot {
    #[default]
    Free,
    Waiting(Option<Waker>),
    /// The length of the body, and the number at its beginning.
    Answered(usize, u64),
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, op: u8, body: &[u8]) -> Result<(usize, u64)> {
        let (key, writer) = {
            let mut state = self.lock();
            let key = match state.free.pop() {
                Some(key) => key,
                None => {
                    state.slots.push(Slot::Free);
                    state.slots.len() - 1
                }
            };
            state.slots[key] = Slot::Waiting(None);
            state
                .out
                .extend_from_slice(&head_with_id(op, key as u64, body.len()));
            state.out.extend_from_slice(body);
            (key, state.writer.take())
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.gone {
                return Poll::Ready(None);
            }
            match &mut state.slots[key] {
                Slot::Waiting(waker) => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                slot => {
                    let Slot::Answered(length, first) = std::mem::take(slot) else {
                        return Poll::Ready(None);
                    };
                    state.free.push(key);
                    Poll::Ready(Some((length, first)))
                }
            }
        })
        .await
        .context("the server has gone")
    }

    async fn write(self: Arc<Self>, mut io: OwnedWriteHalf, yields: bool) {
        let mut out = Vec::new();
        loop {
            let wait = |state: &mut State, cx: &mut std::task::Context<'_>| match state.out.is_empty() {
                true => {
                    state.writer = Some(cx.waker().clone());
                    Poll::Pending
                }
                false => Poll::Ready(()),
            };
            poll_fn(|cx| wait(&mut self.lock(), cx)).await;
            if yields {
                yield_once().await;
            }
            out.clear();
            std::mem::swap(&mut out, &mut self.lock().out);
            if io.write_all(&out).await.is_err() {
                return self.lost();
            }
        }
    }

    async fn read(self: Arc<Self>, mut io: OwnedReadHalf) {
        let mut input = Input::new(WITH_ID);
        let mut wakers = Vec::new();
        while input.fill(&mut io).await.unwrap_or(false) {
            let mut at = 0;
            {
                let mut state = self.lock();
                while let Some(frame) = complete(&input.bytes[at..], WITH_ID) {
                    let body = frame.len() - WITH_ID;
                    let first = if body >= 8 { number(frame, WITH_ID) } else { 0 };
                    at += frame.len();
                    let Some(slot) = state.slots.get_mut(id(frame) as usize) else {
                        continue;
                    };
                    if let Slot::Waiting(Some(waker)) = std::mem::replace(slot, Slot::Answered(body, first)) {
                        wakers.push(waker);
                    }
                }
            }
            wakers.drain(..).for_each(Waker::wake);
            input.bytes.advance(at);
        }
        self.lost();
    }

    fn lost(&self) {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            state.gone = true;
            let waiting = |slot: &mut Slot| match slot {
                Slot::Waiting(waker) => waker.take(),
                _ => None,
            };
            state.slots.iter_mut().filter_map(waiting).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<const YIELDS: bool> Mux<YIELDS> {
    fn next(&self) -> &Connection {
        let at = match self.connections.len() {
            0 | 1 => 0,
            many => self.turn.fetch_add(1, Ordering::Relaxed) % many,
        };
        &self.connections[at]
    }
}

impl<const YIELDS: bool> Caller for Mux<YIELDS> {
    async fn connect(target: &Target) -> Result<Self> {
        ensure!(!target.addresses.is_empty(), "no address");
        let mut connections = Vec::new();
        for address in &target.addresses {
            let (read, write) = super::connect(address).await?.into_split();
            let connection = Arc::new(Connection::default());
            tokio::spawn(connection.clone().write(write, YIELDS));
            tokio::spawn(connection.clone().read(read));
            connections.push(connection);
        }
        Ok(Mux {
            connections: connections.into(),
            turn: Arc::default(),
        })
    }

    async fn fork(&self) -> Result<Self> {
        Ok(Mux {
            connections: self.connections.clone(),
            turn: self.turn.clone(),
        })
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        let mut body = [0; 16];
        body[..8].copy_from_slice(&a.to_le_bytes());
        body[8..].copy_from_slice(&b.to_le_bytes());
        Ok(self.next().call(ADD, &body).await?.1 as i64)
    }

    async fn echo(&mut self, body: &Bytes) -> Result<usize> {
        Ok(self.next().call(ECHO, body).await?.0)
    }

    async fn burn(&mut self, micros: u64) -> Result<()> {
        self.next().call(BURN, &micros.to_le_bytes()).await.map(drop)
    }

    async fn slow(&mut self) -> Result<()> {
        self.next().call(SLOW, &[]).await.map(drop)
    }
}
