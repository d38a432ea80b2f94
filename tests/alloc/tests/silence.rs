//! What a connection costs a service before it has said anything: the limit of how many there may be rests on it.

use picom::{Fixed, Methods, Picom};
use picom_alloc::kept;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;

const CONNECTIONS: usize = 500;

/// Bytes a connection, without the kernel's part: measured 3.6 KB, with the growing of tables.
const MOST: usize = 5 * 1024;

#[test]
fn a_silent_connection_holds_a_few_kilobytes() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let service = runtime.block_on(async {
        let service = Picom::builder("math")
            .without_environment()
            .bind(Ipv4Addr::LOCALHOST.into())
            .discovery(Arc::new(Fixed::new()))
            .build()
            .unwrap();
        service.expose(Methods::new()).await.unwrap();
        service
    });
    let unready = || service.status().server.unwrap().listener.unwrap().unready;
    let address = service.status().server.unwrap().address;
    let (_silent, held) = kept(|| {
        let silent: Vec<_> = (0..CONNECTIONS)
            .map(|_| TcpStream::connect(&address).unwrap())
            .collect();
        runtime.block_on(async {
            while unready() < CONNECTIONS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        silent
    });
    let each = held.max(0) as usize / CONNECTIONS;
    assert!((1..=MOST).contains(&each), "{each} bytes each");
}
