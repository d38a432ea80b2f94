//! Callers of the Node library as raw sockets: what its own services die of, leak, or answer wrongly must not happen here.
//! The calling side is in `classic_calls.rs`, the whole table in tests/classic-node/README.md.

use futures_util::{StreamExt, TryStreamExt, stream};
use picom::{Builder, ConnectionConfig, Fault, Fixed, In, Methods, Out, Picom};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
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

/// What stands in `rest` is taken by serde before it is known that it is an integer.
#[derive(serde::Deserialize)]
struct Flat {
    #[serde(rename = "name")]
    _name: String,
    #[serde(flatten)]
    rest: BTreeMap<String, i64>,
}

fn methods(seen: &Arc<Seen>, gate: &Arc<Semaphore>) -> Methods {
    let (seen, gate) = (seen.clone(), gate.clone());
    Methods::new()
        .unary("nine", |_: ()| async move { Ok(9) })
        .unary("flat", |Flat { rest, .. }: Flat| async move { Ok(rest["n"] + 1) })
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
        .unary("unreadable", |_: ()| async move { Ok((1_u64 << 53) + 1) })
        .stream("record", |_: ()| async move {
            let items = ["data", "end"].map(|kind| Ok::<_, Fault>(BTreeMap::from([("_type_", kind)])));
            Ok(stream::iter(items))
        })
        .stream("panics-later", |_: ()| async move {
            let items = stream::iter([Ok::<i32, Fault>(1)]);
            Ok(items.chain(stream::once(async { panic!("on purpose") })))
        })
        .bidi("echo", |_: (), mut items: In<i64>, out: Out<i64>| async move {
            while let Some(item) = items.next().await? {
                out.send(item).await?;
            }
            Ok(())
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
    service_with(|builder| builder).await
}

async fn service_with(more: impl FnOnce(Builder) -> Builder) -> Running {
    let (seen, gate) = (Arc::<Seen>::default(), Arc::new(Semaphore::new(0)));
    let builder = Picom::builder("svc")
        .without_environment()
        .discovery(Arc::new(Fixed::new()))
        .bind([127, 0, 0, 1].into())
        .advertise("127.0.0.1")
        .keep_accepting(Duration::ZERO)
        .connections(ConnectionConfig {
            hello_timeout: Duration::from_millis(300),
            ..ConnectionConfig::default()
        });
    let picom = more(builder).build().unwrap();
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
    for no_cmd in [
        &b"\x01\x80"[..],
        b"\x06\x81\xa3cmd\x05",
        b"\x07\x81\xa4args\x05",
        b"\x04\xa3add",
        b"\x01\xc3",
        b"\x03\xcd\x01\x00",
    ] {
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
async fn calls_that_wait_in_the_kernel_when_the_end_begins_are_answered() {
    use std::io::{Read, Write};
    let running = service().await;
    // Blocking, on the thread of the service: nobody is accepted meanwhile.
    let connect = |_| {
        let mut socket = std::net::TcpStream::connect(&running.address).unwrap();
        socket.write_all(&header("nine")).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        socket
    };
    let sockets: Vec<_> = (0..50).map(connect).collect();
    let report = tokio::time::timeout(SOON, running.picom.end()).await.unwrap();
    assert!(report.is_clean(), "{report}");
    for mut socket in sockets {
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [b"\x01\x09", THE_END].concat());
    }
}

#[tokio::test]
async fn a_large_negative_integer_is_one_wherever_serde_looks_for_it() {
    let running = service().await;
    // -3,000,000,001 as the dialect carries it: as a double.
    let call = b"\x22\x82\xa3cmd\xa4flat\xa4args\x82\xa4name\xa1x\xa1n\xcb\xc1\xe6\x5a\x0b\xc0\x20\x00\x00";
    let answer = running.say(call, true).await;
    assert_eq!(
        answer,
        [b"\x09\xcb\xc1\xe6\x5a\x0b\xc0\x00\x00\x00", THE_END].concat(),
        "{}",
        text(&answer)
    );
}

#[tokio::test]
async fn arguments_that_are_not_taken_are_told_as_one_error() {
    let running = service().await;
    let with = |args: &[u8]| {
        let mut bytes = b"\x00\x82\xa3cmd\xa6double\xa4args".to_vec();
        bytes.extend_from_slice(args);
        bytes[0] = bytes.len() as u8 - 1;
        bytes
    };
    let deep = [vec![0x91; 65], vec![0xc0]].concat();
    for (args, expected) in [
        (&deep[..], "nested deeper"),
        (b"\x01\x02", "trailing"),
        (b"\xdd\xff\xff\xff\xff", "announced"),
    ] {
        let answer = text(&running.say(&with(args), false).await);
        assert!(answer.contains("[svc] the arguments cannot be taken"), "{answer}");
        assert!(answer.contains(expected), "{answer}");
    }
    let answer = text(&running.say(b"\xff\xff\xff\x7f\x82\xa3cmd\xa6double", false).await);
    assert!(answer.contains("[svc] a payload of 268435455 bytes"), "{answer}");
    let item = [&header("sum")[..], b"\x01\x07\xff\xff\xff\x7f"].concat();
    let answer = text(&running.say(&item, false).await);
    assert!(answer.contains("[svc] a payload of 268435455 bytes"), "{answer}");
    running.nothing_is_left().await;
}

#[tokio::test]
async fn switched_off_nothing_classic_is_answered_or_called() {
    let running = service_with(|builder| builder.classic(false)).await;
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

#[tokio::test]
async fn values_that_the_caller_cannot_read_are_told_as_one_error() {
    let running = service().await;
    let answer = text(&running.say(&header("unreadable"), true).await);
    assert!(
        answer.contains("[svc] ") && answer.contains("9007199254740993"),
        "{answer}"
    );
    let answer = running.say(&header("record"), true).await;
    let data = b"\x0d\x81\xa6_type_\xa4data";
    assert!(
        answer.starts_with(data),
        "any other `_type_` is data: {}",
        text(&answer)
    );
    let rest = text(&answer[data.len()..]);
    assert!(rest.contains("_type_") && rest.contains("[svc] "), "{rest}");
    assert!(!rest.ends_with("end"), "{rest}");
    running.nothing_is_left().await;
}

#[tokio::test]
async fn a_handler_that_panics_behind_items_is_one_error_to_its_own_caller() {
    let running = service().await;
    for _ in 0..3 {
        let answer = running.say(&header("panics-later"), true).await;
        assert!(answer.starts_with(b"\x01\x01"), "{answer:?}");
        let answer = text(&answer[2..]);
        assert_eq!(answer.matches("_type_").count(), 1, "{answer}");
        assert!(answer.contains("[svc] the handler panicked"), "{answer}");
    }
    let nine = running.say(&header("nine"), true).await;
    assert_eq!(nine, [b"\x01\x09", THE_END].concat());
    running.nothing_is_left().await;
}

#[tokio::test]
async fn an_item_alone_waits_for_no_acknowledgement() {
    let running = service().await;
    let mut socket = running.connect().await;
    socket.set_nodelay(true).unwrap();
    socket.write_all(&header("echo")).await.unwrap();
    // A frame in two small writes with Nagle's algorithm on costs the 40 ms of a delayed acknowledgement nearly each time.
    let mut times = Vec::new();
    for n in 0..50 {
        let begun = tokio::time::Instant::now();
        socket.write_all(&[1, n]).await.unwrap();
        let mut back = [0; 2];
        socket.read_exact(&mut back).await.unwrap();
        assert_eq!(back, [1, n]);
        times.push(begun.elapsed());
    }
    times.sort();
    assert!(times[25] < Duration::from_millis(20), "{times:?}");
}

#[tokio::test]
async fn classic_calls_count_among_the_handlers() {
    let running = service_with(|builder| builder.handlers(1)).await;
    let mut first = running.connect().await;
    first.write_all(&header("gate")).await.unwrap();
    while running.picom.status().server.unwrap().handlers_running == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = text(&running.say(&header("nine"), true).await);
    assert!(answer.contains("[svc] the call was refused"), "{answer}");
    running.gate.add_permits(1);
    let mut answer = Vec::new();
    first.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [b"\x08\xa7through", THE_END].concat());
    drop(first);
    running.nothing_is_left().await;
    let nine = running.say(&header("nine"), true).await;
    assert_eq!(nine, [b"\x01\x09", THE_END].concat());
}

#[tokio::test]
async fn what_does_not_end_within_the_drain_is_cut_told_and_counted() {
    let running = service_with(|builder| builder.drain_timeout(Duration::from_millis(200))).await;
    let mut socket = running.connect().await;
    socket.write_all(&header("gate")).await.unwrap();
    while running.picom.status().server.unwrap().handlers_running == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report = tokio::time::timeout(SOON, running.picom.end());
    let (report, answer) = tokio::join!(report, async {
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        drop(socket);
        text(&answer)
    });
    assert!(answer.contains("[svc] the service is ending"), "{answer}");
    let report = report.expect("the end is bounded");
    assert_eq!((report.calls_cut, report.connections_cut), (1, 1), "{report}");
}
