//! Bare sockets: what the machine gives to somebody who needs no library.

mod frame;
pub mod mux;
pub mod mux_server;
pub mod ping_pong;
pub mod plain;
mod rows;

use tokio::net::TcpStream;

async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let io = TcpStream::connect(address).await?;
    io.set_nodelay(true)?;
    Ok(io)
}
