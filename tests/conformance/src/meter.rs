//! A dial that counts: how many connections the processes of a subject have open, and how many they have made.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use picom_discovery::consul::{ByteStream, Dial};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    made: AtomicUsize,
    writes: AtomicUsize,
}

/// A dial whose streams are counted.
#[derive(Debug)]
pub(crate) struct Metered {
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) meter: Meter,
}

struct Stream {
    inner: Box<dyn ByteStream>,
    counts: Arc<Counts>,
}

impl Meter {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Connections made, ever.
    pub fn made(&self) -> usize {
        self.counts.made.load(Ordering::Relaxed)
    }

    /// Writes that reached a connection: a request of ours is one, its head and body may be two.
    pub fn writes(&self) -> usize {
        self.counts.writes.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Dial for Metered {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        let inner = self.dial.dial().await?;
        let counts = self.meter.counts.clone();
        counts.open.fetch_add(1, Ordering::Relaxed);
        counts.made.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Stream { inner, counts }))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        if polled.is_ready() {
            self.counts.writes.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
