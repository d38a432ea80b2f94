//! Byte streams over TCP. Nagle's algorithm is off: frames are written together already, and a lone small one would wait
//! for the peer's delayed acknowledgement (40 ms and more).

use crate::connector::{Acceptor, BoxIo, Connector};
use async_trait::async_trait;
use socket2::{SockRef, TcpKeepalive};
use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// Connections that wait to be accepted: what Linux allows by default, so that a burst of clients is not refused.
const BACKLOG: u32 = 4096;
/// The kernel's own keepalive stands behind our pings, for peers that vanish while nobody polls the connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The kernel takes bytes for a connection only while fewer than this wait to be sent: what it has taken can no longer be
/// overtaken by an answer, and megabytes of it would sit between a small call and a slow link.
#[cfg(any(target_os = "android", target_os = "linux"))]
const NOT_SENT: u32 = 256 * 1024;

/// Opens TCP connections. Host names are resolved at each dial; their addresses are tried in order.
#[derive(Clone, Debug, Default)]
pub struct TcpConnector;

#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self, authority: &str) -> io::Result<BoxIo> {
        let mut last = None;
        for address in lookup_host(authority).await? {
            match connect(address).await {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{authority} resolves to no address"),
            )
        }))
    }
}

/// A connection that is given up while it is made is reset, also if it has just come to stand: of a mere end without a word a
/// service of the Node library learns nothing, and keeps its side for ever.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    let stream = socket.connect(address).await?;
    prepare(&stream)?;
    SockRef::from(&stream).set_linger(None)?;
    Ok(stream)
}

/// Accepts TCP connections.
#[derive(Debug)]
pub struct TcpAcceptor {
    listener: TcpListener,
    address: SocketAddr,
}

impl TcpAcceptor {
    /// Listens at `address`; port 0 takes a free one. The address can be taken again at once after a restart.
    ///
    /// # Errors
    ///
    /// When the address is taken or not ours; the message names it.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }
        .map_err(named)?;
        socket.set_reuseaddr(true).map_err(named)?;
        socket.bind(address).map_err(named)?;
        let listener = socket.listen(BACKLOG).map_err(named)?;
        let address = listener.local_addr().map_err(named)?;
        Ok(Self { listener, address })
    }

    /// The address it listens at, with the port that was found.
    pub fn local_socket_addr(&self) -> SocketAddr {
        self.address
    }
}

#[async_trait]
impl Acceptor for TcpAcceptor {
    async fn accept(&self) -> io::Result<(BoxIo, String)> {
        let (stream, peer) = self.listener.accept().await?;
        // A connection that fails at once must not look like a failure of the listener.
        let _ = prepare(&stream);
        Ok((Box::new(stream), peer.to_string()))
    }

    fn local_addr(&self) -> String {
        self.address.to_string()
    }
}

/// Makes the coming close of a TCP stream a reset: the peer cannot take it for an orderly end. Other streams stay as they
/// are.
pub(crate) fn reset_on_close(io: &BoxIo) {
    let io: &dyn Any = &**io;
    if let Some(stream) = io.downcast_ref::<TcpStream>() {
        // If it fails, the connection is gone already.
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

/// Whether a TCP stream has failed meanwhile, as by a reset. Where reading has come to the end nothing else tells: there is no
/// more to be read, and a writer that has nothing to write asks for nothing. Of other streams nothing is known.
pub(crate) fn failure(io: &BoxIo) -> Option<io::Error> {
    let io: &dyn Any = &**io;
    let stream = io.downcast_ref::<TcpStream>()?;
    stream.take_error().ok().flatten()
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_dial_that_is_given_up_when_it_stands_is_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut accepted = {
            let mut dial = pin!(TcpConnector.connect(&address));
            // Begun, and never told that it stands.
            let polled = dial.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            listener.accept().await.unwrap().0
        };
        let end = accepted.read(&mut [0]).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn one_that_was_made_ends_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (dialed, accepted) = tokio::join!(TcpConnector.connect(&address), listener.accept());
        drop(dialed.unwrap());
        assert_eq!(accepted.unwrap().0.read(&mut [0]).await.unwrap(), 0);
    }
}
