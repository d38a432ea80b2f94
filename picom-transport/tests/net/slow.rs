//! Peers of the Node library that are slow, and go on: whoever takes or sends something is not cut off. In memory, under a
//! virtual clock.

use crate::service::{Handler, Service};
use picom_transport::testing::MemoryNetwork;
use picom_transport::{
    ConnectionConfig, DialError, Identity, Listener, ListenerConfig, Pool, PoolConfig, Target,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const MIB: usize = 1024 * 1024;
const THE_END: &[u8] = b"\x0c\x81\xa6_type_\xa3end";
/// A call of `echo` with 1 MiB less 16 bytes.
const HEADER: &[u8] = b"\x84\x80\x40\x82\xa3cmd\xa4echo\xa4args\xc6\x00\x0f\xff\xf0";
const ARGS: usize = MIB - 16;

#[tokio::test(start_paused = true)]
async fn a_slow_caller_sends_its_header_and_reads_its_whole_reply() {
    let network = MemoryNetwork::new();
    let acceptor = Arc::new(network.bind("service:1").unwrap());
    let handler = Arc::new(Handler(Arc::new(Service::default())));
    let config = ListenerConfig::default();
    let listener = Listener::start(acceptor, Identity::default(), config, handler).unwrap();
    let mut io = network.connector().connect("service:1").await.unwrap();
    io.write_all(HEADER).await.unwrap();
    let args = vec![7; ARGS];
    for piece in args.chunks(64 * 1024) {
        tokio::time::sleep(Duration::from_millis(900)).await;
        io.write_all(piece).await.unwrap();
    }
    let mut answer = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match io.read(&mut piece).await.unwrap() {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    assert_eq!(answer.len(), 3 + 5 + ARGS + THE_END.len());
    assert!(answer.ends_with(THE_END));
    drop(io);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(listener.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_classic_dial_waits_no_longer_than_a_native_one() {
    let network = MemoryNetwork::new();
    network.silence("service:1");
    let config = ConnectionConfig::default();
    let pool = Pool::new(network.connector(), PoolConfig::default(), config).unwrap();
    let begun = Instant::now();
    let error = pool.classic(&Target::anyone("service:1")).await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { .. }), "{error}");
    // Who gets in when the kernel says it again, after a second, is reset more often than not.
    assert_eq!(begun.elapsed(), PoolConfig::default().connect_timeout);
}
