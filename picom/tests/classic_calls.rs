//! Calls to services of the Node library, which are raw sockets here: what is sent, what becomes of the answer, and what the
//! original's own callers get wrong. The answering side is in `classic.rs`.

use async_trait::async_trait;
use picom::{Balance, ConnectionConfig, Connector, Fixed, Outcome, Picom};
use picom_transport::{BoxIo, TcpConnector};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const SOON: Duration = Duration::from_secs(10);
const THE_END: &[u8] = b"\x0c\x81\xa6_type_\xa3end";

fn header(cmd: &str) -> Vec<u8> {
    let mut bytes = vec![6 + cmd.len() as u8, 0x81, 0xa3];
    bytes.extend_from_slice(b"cmd");
    bytes.push(0xa0 | cmd.len() as u8);
    bytes.extend_from_slice(cmd.as_bytes());
    bytes
}

/// A service made of a socket: what a caller of ours sends it, and what it makes of the answer.
async fn foreign() -> (TcpListener, Picom) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let fixed = Fixed::new().with_classic("old", [address]).unwrap();
    let caller = Picom::builder("caller")
        .without_environment()
        .discovery(Arc::new(fixed))
        .build()
        .unwrap();
    (listener, caller)
}

#[tokio::test]
async fn a_call_is_its_header_and_the_end_of_our_direction() {
    let (listener, caller) = foreign().await;
    let call = tokio::spawn(async move { caller.fetch::<i64>("old", "nine", &()).await });
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    socket.read_to_end(&mut request).await.unwrap();
    assert_eq!(request, header("nine"));
    socket
        .write_all(&[b"\x00\x81\x80\x00\x09", THE_END].concat())
        .await
        .unwrap();
    drop(socket);
    assert_eq!(call.await.unwrap().unwrap(), 9);
}

#[tokio::test]
async fn a_call_that_is_given_up_is_reset_and_never_looks_complete() {
    let (listener, caller) = foreign().await;
    let (items, replies) = tokio::join!(
        async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 12];
            socket.read_exact(&mut bytes).await.unwrap();
            (socket, bytes)
        },
        async {
            let call = caller.stream::<i64, i64>("old", "sum", &());
            let (out, replies) = call.await.unwrap();
            out.send(7).await.unwrap();
            (out, replies)
        }
    );
    let (mut socket, bytes) = items;
    assert_eq!(bytes[10..], *b"\x01\x07");
    drop(replies);
    let error = socket.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_closed_without_a_record_is_a_lost_call() {
    let (listener, caller) = foreign().await;
    let call = tokio::spawn(async move { caller.fetch::<i64>("old", "nine", &()).await });
    let (mut socket, _) = listener.accept().await.unwrap();
    socket.read_to_end(&mut Vec::new()).await.unwrap();
    socket.write_all(b"\x01\x09").await.unwrap();
    drop(socket);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeExecuted);
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_is_never_answered_and_resets_it() {
    let (listener, caller) = foreign().await;
    let call = tokio::spawn(async move {
        let call = caller.fetch::<i64>("old", "nine", &());
        call.timeout(Duration::from_millis(200)).await
    });
    let (mut socket, _) = listener.accept().await.unwrap();
    socket.read_to_end(&mut Vec::new()).await.unwrap();
    let error = tokio::time::timeout(SOON, call)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.outcome(), Outcome::MaybeExecuted);
    is_reset(socket).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_resets_its_connection() {
    let (listener, caller) = foreign().await;
    let call = tokio::spawn(async move { caller.fetch::<i64>("old", "nine", &()).await });
    let (mut socket, _) = listener.accept().await.unwrap();
    socket.read_to_end(&mut Vec::new()).await.unwrap();
    call.abort();
    is_reset(socket).await;
}

/// Writes until the peer's reset is told.
async fn is_reset(mut socket: TcpStream) {
    let told = async {
        loop {
            if let Err(error) = socket.write_all(b"\x01\x01").await {
                return error.kind();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let kind = tokio::time::timeout(SOON, told).await.expect("it is reset");
    assert!(
        matches!(
            kind,
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        ),
        "{kind}"
    );
}

#[tokio::test]
async fn arguments_that_cannot_be_read_there_are_refused_before_anything_is_sent() {
    let (listener, caller) = foreign().await;
    let error = caller.fetch::<i64>("old", "nine", &u64::MAX).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NeverSent);
    let chain = format!("{error:?}");
    assert!(chain.contains("18446744073709551615"), "{chain}");
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut sent = Vec::new();
    let _ = socket.read_to_end(&mut sent).await;
    assert_eq!(sent, b"");
}

#[tokio::test]
async fn the_end_of_a_caller_waits_for_its_classic_calls() {
    let (listener, caller) = foreign().await;
    let call = tokio::spawn({
        let caller = caller.clone();
        async move { caller.fetch::<i64>("old", "nine", &()).await }
    });
    let (mut socket, _) = listener.accept().await.unwrap();
    socket.read_to_end(&mut Vec::new()).await.unwrap();
    let ending = tokio::spawn(async move { caller.end().await });
    tokio::task::yield_now().await;
    socket.write_all(&[b"\x01\x09", THE_END].concat()).await.unwrap();
    drop(socket);
    assert_eq!(call.await.unwrap().unwrap(), 9);
    let report = tokio::time::timeout(SOON, ending).await.unwrap().unwrap();
    assert!(report.is_clean());
}

/// Counts the dials to each address.
#[derive(Debug, Default)]
struct Counting(Mutex<BTreeMap<String, usize>>);

#[async_trait]
impl Connector for Counting {
    async fn connect(&self, authority: &str) -> std::io::Result<BoxIo> {
        *self.0.lock().unwrap().entry(authority.to_owned()).or_default() += 1;
        TcpConnector.connect(authority).await
    }
}

/// Answers every call with this number.
async fn answers(number: u8) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = socket.read_to_end(&mut Vec::new()).await;
                let _ = socket.write_all(&[&[1, number], THE_END].concat()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_dead_instance_costs_no_call_and_is_not_dialed_by_each() {
    // Bound and not listened at: refused, and nobody else can have it meanwhile.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead = held.local_addr().unwrap().to_string();
    let alive = answers(7).await;
    let fixed = Fixed::new().with_classic("old", [&dead, &alive]).unwrap();
    let dials = Arc::new(Counting::default());
    let caller = Picom::builder("caller")
        .without_environment()
        .discovery(Arc::new(fixed))
        .connector(dials.clone())
        .balance(Balance::RoundRobin)
        .build()
        .unwrap();
    let begun = tokio::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(caller.fetch::<i64>("old", "nine", &()).await.unwrap(), 7);
    }
    let counts = dials.0.lock().unwrap().clone();
    assert_eq!(counts[&alive], 50, "one connection for each call");
    // One dial, and another for each second that these calls took.
    let most = 2 + begun.elapsed().as_secs() as usize;
    assert!((1..=most).contains(&counts[&dead]), "{counts:?}");
}

#[tokio::test]
async fn more_calls_than_there_may_be_sockets_wait_their_turn() {
    let (listener, _) = foreign().await;
    let fixed = Fixed::new().with_classic("old", [listener.local_addr().unwrap().to_string()]);
    let caller = Picom::builder("caller")
        .without_environment()
        .discovery(Arc::new(fixed.unwrap()))
        .connections(ConnectionConfig {
            stream_limit: 1,
            ..ConnectionConfig::default()
        })
        .build()
        .unwrap();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.fetch::<i64>("old", "nine", &()).await })
        })
        .collect();
    // Four connections with a stream each, were they native.
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(listener.accept().await.unwrap().0);
    }
    let fifth = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(fifth.is_err(), "a fifth waits");
    for answered in 0..10 {
        let mut socket = sockets.remove(0);
        socket.read_to_end(&mut Vec::new()).await.unwrap();
        socket.write_all(&[b"\x01\x09", THE_END].concat()).await.unwrap();
        drop(socket);
        if answered < 6 {
            let next = tokio::time::timeout(SOON, listener.accept()).await;
            sockets.push(next.expect("the next has its turn").unwrap().0);
        }
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 9);
    }
    // Whoever still waits when the caller ends learns it.
    let held: Vec<_> = (0..5)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.fetch::<i64>("old", "nine", &()).await })
        })
        .collect();
    for _ in 0..4 {
        sockets.push(listener.accept().await.unwrap().0);
    }
    let ending = tokio::spawn(async move { caller.end().await });
    let mut errors = 0;
    for mut socket in sockets {
        socket.read_to_end(&mut Vec::new()).await.unwrap();
        socket.write_all(&[b"\x01\x09", THE_END].concat()).await.unwrap();
    }
    for call in held {
        let outcome = tokio::time::timeout(SOON, call).await.unwrap().unwrap();
        errors += usize::from(outcome.is_err());
    }
    assert_eq!(errors, 1);
    assert!(ending.await.unwrap().is_clean());
}

#[tokio::test]
async fn each_caller_takes_turns_of_its_own() {
    let both = [answers(1).await, answers(2).await];
    let caller = || {
        let fixed = Fixed::new().with_classic("old", &both).unwrap();
        Picom::builder("caller")
            .without_environment()
            .discovery(Arc::new(fixed))
            .balance(Balance::RoundRobin)
            .build()
            .unwrap()
    };
    let callers = [caller(), caller()];
    let mut counts = [[0; 2]; 2];
    // With turns that callers share, each of the two would always reach the same one.
    for _ in 0..10 {
        for (caller, counts) in callers.iter().zip(&mut counts) {
            let number: usize = caller.fetch("old", "nine", &()).await.unwrap();
            counts[number - 1] += 1;
        }
    }
    assert_eq!(counts, [[5, 5], [5, 5]]);
}

#[tokio::test]
async fn an_item_behind_the_end_is_nothing_and_one_behind_an_error_is_none() {
    for (said, expected) in [
        ([b"\x01\x09", THE_END, b"\x01\x08"].concat(), Ok(vec![9])),
        (
            [
                &b"\x01\x09\x23\x82\xa6_type_\xa5error\xa9_message_\xaa[old] boom"[..],
                b"\x01\x08",
                THE_END,
            ]
            .concat(),
            Err("boom"),
        ),
    ] {
        let (listener, caller) = foreign().await;
        let call = tokio::spawn(async move { caller.fetch_all::<i64>("old", "nine", &()).await });
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_to_end(&mut Vec::new()).await.unwrap();
        socket.write_all(&said).await.unwrap();
        match (call.await.unwrap(), expected) {
            (Ok(items), Ok(expected)) => assert_eq!(items, expected),
            (Err(error), Err(expected)) => assert_eq!(error.fault().unwrap().text(), expected),
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }
}
