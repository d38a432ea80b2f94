//! Peers that do not speak picom, or speak it badly, over real sockets: the connection ends, others do not notice.

use crate::service::{Running, call, serve};
use bytes::BytesMut;
use picom_codec::{Frame, FrameCodec, Hello, Method, Open, StreamId};
use picom_transport::{ConnectionConfig, ListenerConfig};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::Encoder;

fn quick() -> ListenerConfig {
    let hello_timeout = Duration::from_millis(300);
    ListenerConfig {
        connection: ConnectionConfig {
            hello_timeout,
            ..ConnectionConfig::for_server()
        },
        ..ListenerConfig::default()
    }
}

/// Waits until the listener knows so many connections, all of them past their handshake.
async fn settled(running: &Running, connections: usize) {
    let settled = async {
        while (
            running.listener.stats().unready,
            running.listener.stats().connections,
        ) != (0, connections)
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), settled)
        .await
        .expect("connections that ended are forgotten");
}

/// Sends bytes and reads to the end: what comes back, at most 4 KiB of it.
async fn say(running: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = socket.take(4096).read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn what_is_not_picom_is_closed_without_an_answer() {
    let running = serve(quick());
    for (what, bytes) in [
        ("HTTP", &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("TLS", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]),
        ("SSH", b"SSH-2.0-x\r\n"),
        ("classic", &[0x15, 0x82, 0xa3, b'c', b'm', b'd']),
        ("noise", &[0xff; 64]),
        ("zeros", &[0; 512]),
    ] {
        assert_eq!(say(&running, bytes).await, b"", "{what}");
    }
    let connection = running.connect().await;
    assert_eq!(call(&connection, "echo", vec![1]).await.unwrap(), [1][..]);
}

#[tokio::test]
async fn silence_is_closed_after_the_hello_time_out() {
    let running = serve(quick());
    let mut sockets = Vec::new();
    for _ in 0..50 {
        sockets.push(TcpStream::connect(running.address).await.unwrap());
    }
    let good = running.connect().await;
    assert_eq!(call(&good, "echo", vec![1]).await.unwrap(), [1][..]);
    for mut socket in sockets {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"", "a peer whose dialect is not known is told nothing");
    }
    settled(&running, 1).await;
}

/// A client made of bytes: it has shaken hands and does what no client of ours would.
async fn raw_client(running: &Running) -> TcpStream {
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    socket.write_all(&bytes_of([hello()])).await.unwrap();
    let mut answer = [0; 256];
    assert!(socket.read(&mut answer).await.unwrap() > 10, "the server's hello");
    socket
}

pub(crate) fn hello() -> Frame {
    Frame::Hello(Hello {
        min_version: 1,
        max_version: 1,
        service: None,
        instance: None,
        draining: false,
        frame_limit: 66_560,
        message_limit: 16 << 20,
        first_window: 66_560,
        stream_limit: 512,
        idle_ms: 0,
    })
}

pub(crate) fn bytes_of(frames: impl IntoIterator<Item = Frame>) -> BytesMut {
    let mut wire = BytesMut::new();
    let mut codec = FrameCodec::new(66_560);
    for frame in frames {
        codec.encode(frame, &mut wire).unwrap();
    }
    wire
}

fn echo(number: u64) -> Frame {
    let mut args = vec![0xc5, 0xea, 0x60];
    args.resize(60_003, 1);
    Frame::Call(Open {
        stream: StreamId::new(number * 2 + 1),
        method: Method::new("echo").unwrap(),
        micros_left: None,
        idempotent: false,
        args_follow: false,
        metadata: None,
        args: args.into(),
    })
}

fn impatient() -> ListenerConfig {
    let stall_timeout = Duration::from_millis(300);
    ListenerConfig {
        connection: ConnectionConfig {
            stall_timeout,
            ..ConnectionConfig::for_server()
        },
        ..ListenerConfig::default()
    }
}

#[tokio::test]
async fn a_peer_that_asks_and_never_reads_is_cut() {
    let running = serve(impatient());
    let mut socket = raw_client(&running).await;
    let good = running.connect().await;
    let flood = tokio::spawn(async move {
        for number in 0..2000 {
            if socket.write_all(&bytes_of([echo(number)])).await.is_err() {
                return number;
            }
        }
        2000
    });
    let asked = tokio::time::timeout(Duration::from_secs(20), flood)
        .await
        .expect("the connection is cut")
        .unwrap();
    assert!(
        asked < 2000,
        "the server stopped reading and then cut the connection"
    );
    assert_eq!(
        call(&good, "echo", vec![1]).await.unwrap(),
        [1][..],
        "others do not notice"
    );
    settled(&running, 1).await;
}

#[tokio::test]
async fn a_frame_begun_behind_the_handshake_must_be_completed() {
    let running = serve(impatient());
    let mut socket = raw_client(&running).await;
    socket.write_all(&bytes_of([echo(0)])[..100]).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest))
        .await
        .expect("it is cut");
    settled(&running, 0).await;
}

#[tokio::test]
async fn a_frame_that_is_never_completed_does_not_hold_its_connection() {
    let running = serve(quick());
    // The first bytes of a hello, and then nothing.
    assert!(say(&running, &[0x40, 0x9d, 0x00, 0xa5]).await.len() < 256);
    settled(&running, 0).await;
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_from_the_prefix() {
    let running = serve(quick());
    // Before the handshake, a good hello's first byte behind a prefix of 9,000 bytes, which a frame may have later on.
    let answer = say(&running, &[0xa8, 0x46, 0x9d, 0x00]).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("9000") && text.contains("8192"), "{text:?}");
    // Behind it, the first byte of a frame behind 4 GiB.
    let mut socket = raw_client(&running).await;
    socket
        .write_all(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x9d])
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = socket.take(4096).read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("66560"), "the goaway names the limit: {text:?}");
    settled(&running, 0).await;
}
