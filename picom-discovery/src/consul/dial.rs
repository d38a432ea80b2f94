//! Byte streams to the agent. What is spoken over them is in `http.rs`.

use std::fmt::Debug;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Silence after which the kernel asks whether the agent's machine is still there: a watch waits a minute and more
/// without traffic. The value is the one Go's client uses.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// What a connection to an agent is made of.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// Opens connections to one agent. The seam through which tests and simulations bring a network of their own.
#[async_trait]
pub trait Dial: Send + Sync + Debug + 'static {
    /// Opens one connection. The caller bounds the time. Cancel safe: a dropped dial leaves nothing open.
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>>;
}

/// TCP to a host and port.
#[derive(Debug)]
pub(crate) struct TcpDial {
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(self.open().await?))
    }
}

impl TcpDial {
    /// A connection the kernel looks after.
    pub(crate) async fn open(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(stream)
    }
}

/// A unix socket.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct UnixDial {
    pub(crate) path: std::path::PathBuf,
}

#[cfg(unix)]
#[async_trait]
impl Dial for UnixDial {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(tokio::net::UnixStream::connect(&self.path).await?))
    }
}
