//! Peers of the Node library as raw sockets, and the limits of a listener: before a call has said what it calls it holds
//! little, and not for long.

use crate::service::{Running, call, serve};
use picom_transport::{ConnectionConfig, ListenerConfig, ListenerStats};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(20);
const MIB: usize = 1024 * 1024;
const THE_END: &[u8] = b"\x0c\x81\xa6_type_\xa3end";

/// The length of a frame, and then its first bytes: a call of `echo` with so many bytes as its argument.
fn header(args: usize) -> Vec<u8> {
    let mut payload = b"\x82\xa3cmd\xa4echo\xa4args\xc6".to_vec();
    payload.extend_from_slice(&u32::try_from(args).unwrap().to_be_bytes());
    let mut length = payload.len() + args;
    let mut frame = Vec::new();
    while length > 0x7f {
        frame.push(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    frame.push(length as u8);
    frame.extend_from_slice(&payload);
    frame
}

async fn until(running: &Running, holds: impl Fn(ListenerStats) -> bool) {
    let waiting = async {
        while !holds(running.listener.stats()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    waited.unwrap_or_else(|_| panic!("{:?}", running.listener.stats()));
}

/// Calls `echo` with so many bytes and gives what comes back; nothing if it is cut off.
async fn echo(running: &Running, args: usize) -> Vec<u8> {
    echo_at(running.address, args).await
}

async fn echo_at(address: SocketAddr, args: usize) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = socket.split();
    let request = [header(args), vec![7; args]].concat();
    let mut answer = Vec::new();
    let both = async {
        let (sent, read) = tokio::join!(write.write_all(&request), read.read_to_end(&mut answer));
        sent.is_ok() && read.is_ok()
    };
    let whole = tokio::time::timeout(SOON, both)
        .await
        .expect("the call comes to an end");
    if whole { answer } else { Vec::new() }
}

#[tokio::test]
async fn headers_that_never_end_share_one_budget() {
    let config = ListenerConfig {
        unready_bytes: 4 * MIB as u64,
        connection: ConnectionConfig {
            hello_timeout: Duration::from_secs(3),
            stall_timeout: Duration::from_secs(2),
            ..ConnectionConfig::for_server()
        },
        ..ListenerConfig::default()
    };
    let running = serve(config);
    // Sixteen of them send a MiB each of what they announce as 15.
    let mut sockets = Vec::new();
    for _ in 0..16 {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        // The one that finds no room is cut off while it sends.
        let _ = socket.write_all(&header(15 * MIB)).await;
        let _ = socket.write_all(&vec![7; MIB]).await;
        assert!(running.listener.stats().unready_bytes <= 4 * MIB as u64);
        sockets.push(socket);
    }
    until(&running, |stats| stats.turned_away >= 8).await;
    let stats = running.listener.stats();
    assert!(stats.unready_bytes >= MIB as u64, "{stats:?}");

    // Others are not concerned, unless they are large themselves.
    assert_eq!(echo(&running, 100).await.len(), 1 + 5 + 100 + THE_END.len());
    let native = running.connect().await;
    assert_eq!(call(&native, "echo", vec![1]).await.unwrap(), [1][..]);

    // And not for longer than a handshake, or a frame, may stand still.
    until(&running, |stats| stats.unready == 0 && stats.unready_bytes == 0).await;
    assert!(echo(&running, MIB + MIB / 2).await.ends_with(THE_END));
    until(&running, |stats| stats.classic == 0 && stats.unready_bytes == 0).await;
}

#[tokio::test]
async fn a_header_within_a_frame_costs_the_budget_nothing() {
    let running = serve(ListenerConfig {
        unready_bytes: 0,
        ..ListenerConfig::default()
    });
    assert!(echo(&running, 16 * 1024).await.ends_with(THE_END));
    assert_eq!(echo(&running, MIB).await, b"");
    until(&running, |stats| stats.turned_away == 1 && stats.classic == 0).await;
}

#[tokio::test]
async fn time_spent_in_silence_is_time_of_the_header() {
    let running = serve(ListenerConfig {
        connection: ConnectionConfig {
            hello_timeout: Duration::from_secs(3),
            ..ConnectionConfig::for_server()
        },
        ..ListenerConfig::default()
    });
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    let connected = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Enough to be known as classic, and no more.
    socket.write_all(&header(100)).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(SOON, socket.read_to_end(&mut answer)).await;
    // It is reset, or at least ended without a word.
    let _ = ended.expect("the connection is closed");
    assert_eq!(answer, b"");
    assert!(
        connected.elapsed() < Duration::from_millis(4500),
        "{:?}",
        connected.elapsed()
    );
    until(&running, |stats| stats.connections == 0).await;
}

#[tokio::test]
async fn unfinished_headers_count_as_not_having_shaken_hands() {
    let running = serve(ListenerConfig {
        unready_limit: 3,
        ..ListenerConfig::default()
    });
    let mut begun = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        socket.write_all(&header(100)).await.unwrap();
        begun.push(socket);
    }
    until(&running, |stats| stats.classic == 3 && stats.unready == 3).await;
    let answer = echo(&running, 100).await;
    assert!(answer.ends_with(THE_END), "a whole call finds room: {answer:?}");
    assert_eq!(running.listener.stats().turned_away, 1);
    let mut rest = Vec::new();
    let _ = begun.remove(0).read_to_end(&mut rest).await;
    assert_eq!(rest, b"", "the oldest made it");
    for mut socket in begun {
        socket.write_all(&[7; 100]).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(THE_END), "{answer:?}");
    }
    until(&running, |stats| stats.unready == 0).await;
}

#[tokio::test]
async fn large_calls_at_once_wait_for_each_other_and_all_are_answered() {
    let running = serve(ListenerConfig {
        unready_bytes: 16 * MIB as u64,
        connection: ConnectionConfig {
            message_limit: 4 * MIB as u64,
            ..ConnectionConfig::for_server()
        },
        ..ListenerConfig::default()
    });
    // In buffers of up to 8 MiB, twelve of them are far more than there is room for.
    let calls = (0..12).map(|_| tokio::spawn(echo_at(running.address, 3 * MIB)));
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap().ends_with(THE_END));
    }
    assert_eq!(running.listener.stats().turned_away, 0);
    until(&running, |stats| stats.classic == 0 && stats.unready_bytes == 0).await;
}

#[tokio::test]
async fn a_handler_that_does_nothing_learns_that_its_half_closed_caller_is_gone() {
    let running = serve(ListenerConfig::default());
    for left in [false, true] {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        socket.write_all(b"\x0a\x81\xa3cmd\xa4wait").await.unwrap();
        if left {
            // An item that the handler does not read.
            socket.write_all(b"\x01\x07").await.unwrap();
        }
        socket.shutdown().await.unwrap();
        running
            .service
            .until(|service| service.started.load(SeqCst) == 1 + usize::from(left))
            .await;
        // Reset, as by a caller of ours whose time is over.
        socket.set_zero_linger().unwrap();
        drop(socket);
        let learned = running
            .service
            .until(|service| service.cancelled.load(SeqCst) == 1 + usize::from(left));
        tokio::time::timeout(SOON, learned)
            .await
            .expect("the handler is dropped");
    }
    until(&running, |stats| stats.classic == 0).await;
}
