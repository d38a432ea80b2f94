//! Peers of the Node library as raw sockets: what its own services die of, leak, or answer wrongly (the table of its faults
//! that this dialect could bring along) must not happen here.

use futures_util::{StreamExt, TryStreamExt, stream};
use picom::{ConnectionConfig, Fault, Fixed, In, Methods, Outcome, Picom};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const SOON: Duration = Duration::from_secs(10);
const THE_END: &[u8] = b"\x0c\x81\xa6_type_\xa3end";

#[derive(Default)]
struct Seen {
    dropped: AtomicUsize,
}

struct Guard(Arc<Seen>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn methods(seen: &Arc<Seen>, gate: &Arc<Semaphore>) -> Methods {
    let (seen, gate) = (seen.clone(), gate.clone());
    Methods::new()
        .unary("nine", |_: ()| async move { Ok(9) })
        .unary("double", |n: i64| async move { Ok(n * 2) })
        .unary("panics", |_: ()| async move {
            if true {
                panic!("on purpose");
            }
            Ok(())
        })
        .unary("gate", move |_: ()| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.map_err(Fault::internal)?.forget();
                Ok("through")
            }
        })
        .client_stream("sum", |_: (), numbers: In<i64>| async move {
            Ok(numbers.try_fold(0, |sum, n| async move { Ok(sum + n) }).await?)
        })
        .stream("falsy", |_: ()| async move {
            Ok(stream::iter([0, 0].map(Ok::<i32, Fault>)))
        })
        .stream("endless", move |_: ()| {
            let guard = Guard(seen.clone());
            async move {
                Ok(stream::iter(0_u64..).map(move |n| {
                    let _held = &guard;
                    Ok(format!("{n:01000}"))
                }))
            }
        })
}

struct Running {
    picom: Picom,
    address: String,
    seen: Arc<Seen>,
    gate: Arc<Semaphore>,
}

async fn service() -> Running {
    service_with(true).await
}

async fn service_with(classic: bool) -> Running {
    let (seen, gate) = (Arc::<Seen>::default(), Arc::new(Semaphore::new(0)));
    let picom = Picom::builder("svc")
        .without_environment()
        .discovery(Arc::new(Fixed::new()))
        .bind([127, 0, 0, 1].into())
        .advertise("127.0.0.1")
        .keep_accepting(Duration::ZERO)
        .connections(ConnectionConfig {
            hello_timeout: Duration::from_millis(300),
            ..ConnectionConfig::default()
        })
        .classic(classic)
        .build()
        .unwrap();
    picom.expose(methods(&seen, &gate)).await.unwrap();
    let address = picom.status().server.unwrap().address;
    Running {
        picom,
        address,
        seen,
        gate,
    }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// Sends bytes, and with `end` closes the direction; gives what comes back until the service closes.
    async fn say(&self, bytes: &[u8], end: bool) -> Vec<u8> {
        let mut socket = self.connect().await;
        let _ = socket.write_all(bytes).await;
        if end {
            let _ = socket.shutdown().await;
        }
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, socket.read_to_end(&mut answer)).await;
        let _ = read.expect("the service closes its side");
        answer
    }

    async fn nothing_is_left(&self) {
        let left = || {
            let server = self.picom.status().server.unwrap();
            (server.listener.unwrap().connections, server.handlers_running)
        };
        let gone = async {
            while left() != (0, 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, gone)
            .await
            .unwrap_or_else(|_| panic!("{:?} are left", left()));
    }
}

fn header(cmd: &str) -> Vec<u8> {
    let mut bytes = vec![6 + cmd.len() as u8, 0x81, 0xa3];
    bytes.extend_from_slice(b"cmd");
    bytes.push(0xa0 | cmd.len() as u8);
    bytes.extend_from_slice(cmd.as_bytes());
    bytes
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn bytes_that_the_original_dies_of_end_one_call_at_most() {
    let running = service().await;
    let table: [(&str, Vec<u8>); 8] = [
        ("the reserved byte", b"\x02\x81\xc1".to_vec()),
        (
            "an item that is the reserved byte",
            [header("sum"), b"\x01\xc1".to_vec()].concat(),
        ),
        (
            "a map with a long header that lies",
            b"\x06\xdf\xff\xff\xff\xff\x00".to_vec(),
        ),
        (
            "an ext of no kind",
            b"\x0e\x82\xa3cmd\xa3sum\xa4args\xd4\x00\x00".to_vec(),
        ),
        (
            "4 GiB announced",
            [&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x81][..]].concat(),
        ),
        (
            "more than 4 GiB announced",
            [&[0xff, 0xff, 0xff, 0xff, 0x7f, 0x81][..]].concat(),
        ),
        ("a length without an end", vec![0xff; 120]),
        (
            "an item over the limit",
            [header("sum"), vec![0xff, 0xff, 0xff, 0x7f, 0x01]].concat(),
        ),
    ];
    for (what, bytes) in table {
        let answer = running.say(&bytes, true).await;
        assert!(!answer.ends_with(THE_END), "{what}: {}", text(&answer));
        assert_eq!(
            running.say(&header("nine"), true).await,
            [b"\x01\x09", THE_END].concat(),
            "after {what}"
        );
    }
    running.nothing_is_left().await;
}

#[tokio::test]
async fn names_that_are_no_methods_are_told_so() {
    let running = service().await;
    for cmd in ["toString", "constructor", "__proto__", "nope", ""] {
        for input in [&b""[..], b"\x01\x01", b"\x01\x01\x01\x02"] {
            let answer = text(&running.say(&[&header(cmd), input].concat(), false).await);
            assert!(answer.contains(&format!("svc:{cmd} Does not exist")), "{answer}");
            assert!(answer.ends_with("end"), "{answer}");
        }
    }
    for no_cmd in [&b"\x01\x80"[..], b"\x06\x81\xa3cmd\x05", b"\x07\x81\xa4args\x05"] {
        let answer = text(&running.say(no_cmd, false).await);
        assert!(answer.contains("svc:undefined Does not exist"), "{answer}");
    }
    running.nothing_is_left().await;
}

#[tokio::test]
async fn connections_without_a_header_are_closed_in_time() {
    let running = service().await;
    for start in [&b""[..], b"\x00\x00", b"\x10\x81\xa3cm"] {
        for end in [false, true] {
            let answer = running.say(start, end).await;
            assert_eq!(answer, b"", "{start:?}, {end}");
        }
    }
    running.nothing_is_left().await;
}

#[tokio::test]
async fn input_that_is_not_read_or_not_ended_leaves_no_socket() {
    let running = service().await;
    let flood = [header("nine"), b"\x01\x07".repeat(100_000)].concat();
    let mut socket = running.connect().await;
    let (mut read, mut write) = socket.split();
    let mut answer = Vec::new();
    let (_, read) = tokio::join!(write.write_all(&flood), read.read_to_end(&mut answer));
    let _ = read;
    assert!(answer.starts_with(b"\x01\x09"), "{answer:?}");
    // A client that never closes its side, as the original's behind an error record.
    let mut silent = running.connect().await;
    silent.write_all(&header("nope")).await.unwrap();
    running.nothing_is_left().await;
    drop(silent);
}

#[tokio::test]
async fn cut_off_input_is_an_error_of_the_handler() {
    let running = service().await;
    let whole = [header("sum"), b"\x01\x03\x01\x04".to_vec()].concat();
    assert_eq!(running.say(&whole, true).await, [b"\x01\x07", THE_END].concat());
    let cut = [header("sum"), b"\x01\x03\x05\xce\x00".to_vec()].concat();
    let answer = text(&running.say(&cut, true).await);
    assert!(answer.contains("_type_") && answer.contains("[svc] "), "{answer}");
    assert!(!answer.ends_with("end"), "{answer}");
}

#[tokio::test]
async fn falsy_items_and_panics_reach_the_caller() {
    let running = service().await;
    let answer = running.say(&header("falsy"), true).await;
    assert_eq!(answer, [b"\x01\x00\x01\x00", THE_END].concat());
    let answer = text(&running.say(&header("panics"), true).await);
    assert!(answer.contains("[svc] the handler panicked"), "{answer}");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_handler() {
    let running = service().await;
    let mut socket = running.connect().await;
    socket.write_all(&header("endless")).await.unwrap();
    socket.read_exact(&mut [0; 5000]).await.unwrap();
    drop(socket);
    running.nothing_is_left().await;
    assert_eq!(running.seen.dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_end_of_a_service_waits_for_its_classic_calls() {
    let running = service().await;
    let mut socket = running.connect().await;
    socket.write_all(&header("gate")).await.unwrap();
    while running.picom.status().server.unwrap().handlers_running == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ending = tokio::spawn({
        let picom = running.picom.clone();
        async move { picom.end().await }
    });
    tokio::task::yield_now().await;
    running.gate.add_permits(1);
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [b"\x08\xa7through", THE_END].concat());
    drop(socket);
    assert!(ending.await.unwrap().is_clean());
}

#[tokio::test]
async fn switched_off_nothing_classic_is_answered_or_called() {
    let running = service_with(false).await;
    assert_eq!(running.say(&header("nine"), false).await, b"");
    let fixed = Fixed::new().with_classic("old", ["127.0.0.1:9"]).unwrap();
    let caller = Picom::builder("caller")
        .without_environment()
        .discovery(Arc::new(fixed))
        .classic(false)
        .build()
        .unwrap();
    let error = caller.fetch::<i64>("old", "nine", &()).await.unwrap_err();
    assert!(
        error.to_string().contains("1 do not speak this protocol"),
        "{error}"
    );
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
