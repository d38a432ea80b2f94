//! Calls between picom and peers on the Node library's own codec, in both roles. Without `node`, or without the packages
//! of `node/` (`npm ci` there), the tests say so and do nothing, unless `PICOM_TEST_NODE` says that they must run.

use futures_util::{StreamExt, TryStreamExt, stream};
use picom::{Balance, Code, Fault, In, Methods, Out, Outcome, Picom};
use picom_codec::Blob;
use picom_codec::classic::ClassicDate;
use picom_discovery::{Fixed, Instance, Mock, ServiceName};
use rmpv::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Each test takes seconds; a minute is a hang.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sum {
    items: u64,
    sum: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    index: u64,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Count {
    n: u64,
}

#[derive(Serialize, Deserialize)]
struct After {
    after: u64,
    how: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct When {
    when: ClassicDate,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Later {
    when: ClassicDate,
    later: ClassicDate,
}

#[derive(Serialize, Deserialize)]
struct Data {
    data: Blob,
}

/// Where the peers are, if they can be run.
fn peers() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let runs = std::process::Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if runs && dir.join("node_modules/msgpack5").exists() {
        return Some(dir);
    }
    let missing = "node is not there, or `npm ci` was not run in tests/classic-node/node";
    assert!(std::env::var_os("PICOM_TEST_NODE").is_none(), "{missing}");
    eprintln!("SKIPPED: {missing}");
    None
}

fn methods() -> Methods {
    Methods::new()
        .unary("add", |Add { a, b }: Add| async move { Ok(a + b) })
        .unary("who", |_: ()| async move { Ok("rust") })
        .unary("nothing", |_: ()| async move { Ok(()) })
        .unary("same", |value: Value| async move { Ok(value) })
        .unary("later", |When { when }: When| async move {
            Ok(Later {
                when,
                later: ClassicDate::from_millis(when.millis() + 1000.0),
            })
        })
        .unary("bytes", |Data { data }: Data| async move {
            Ok(Blob::from([data.as_ref(), data.as_ref()].concat()))
        })
        .unary("wide", |_: ()| async move {
            let most = (1_i64 << 53) - 1;
            Ok(vec![
                i64::from(i32::MIN),
                i64::from(i32::MIN) - 1,
                most,
                -most,
                1 << 32,
            ])
        })
        .unary("huge", |_: ()| async move { Ok((1_u64 << 53) + 1) })
        .unary("record", |_: ()| async move {
            Ok(BTreeMap::from([("_type_", "end")]))
        })
        .stream("count", |Count { n }: Count| async move {
            Ok(stream::iter((0..n).map(|index| {
                Ok(Item {
                    index,
                    name: format!("item-{index}"),
                })
            })))
        })
        .stream("endless", |_: ()| async move {
            Ok(stream::iter(0_u64..).map(|n| Ok(format!("{n:0200}"))))
        })
        .stream("fail", |After { after, .. }: After| async move {
            let broken = stream::once(async { Err(Fault::internal("it broke")) });
            Ok(stream::iter((0..after).map(Ok)).chain(broken))
        })
        .client_stream("sum", |_: (), numbers: In<u64>| async move {
            let add = |all: Sum, n| async move {
                Ok(Sum {
                    items: all.items + 1,
                    sum: all.sum + n,
                })
            };
            Ok(numbers.try_fold(Sum { items: 0, sum: 0 }, add).await?)
        })
        .bidi(
            "echo",
            |_: (), mut items: In<Value>, out: Out<Value>| async move {
                while let Some(item) = items.next().await? {
                    out.send(item).await?;
                }
                Ok(())
            },
        )
}

async fn rusty(discovery: Arc<dyn picom::Discovery>) -> Picom {
    let picom = Picom::builder("rusty")
        .without_environment()
        .discovery(discovery)
        .bind([127, 0, 0, 1].into())
        .advertise("127.0.0.1")
        .keep_accepting(Duration::ZERO)
        .build()
        .unwrap();
    picom.expose(methods()).await.unwrap();
    picom
}

/// A Node service.
struct Node {
    port: u16,
    asks: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Node {
    async fn start(dir: &Path, name: &str, consul: Option<&str>) -> Node {
        let mut command = Command::new("node");
        command.arg("service.js").arg(name).current_dir(dir);
        if let Some(consul) = consul {
            command.env("CONSUL", consul);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut says = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = says.next_line().await.unwrap().unwrap().parse().unwrap();
        Node {
            port,
            asks: child.stdin.take().unwrap(),
            says,
            child,
        }
    }

    async fn sockets(&mut self) -> u32 {
        self.asks.write_all(b"\n").await.unwrap();
        self.says.next_line().await.unwrap().unwrap().parse().unwrap()
    }

    async fn no_sockets_are_left(&mut self) {
        let all_closed = async {
            while self.sockets().await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all_closed)
            .await
            .expect("sockets are left at the Node side");
    }
}

async fn no_connections_are_left(picom: &Picom) {
    let connections = || {
        let server = picom.status().server.unwrap();
        (server.listener.unwrap().connections, server.handlers_running)
    };
    let all_closed = async {
        while connections() != (0, 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_closed)
        .await
        .unwrap_or_else(|_| panic!("connections are left: {:?}", connections()));
}

fn caller(picom_for: &Node) -> Picom {
    let name = ServiceName::new("classic").unwrap();
    let fixed = Fixed::new().with_classic(name, [format!("127.0.0.1:{}", picom_for.port)]);
    Picom::builder("caller")
        .without_environment()
        .discovery(Arc::new(fixed.unwrap()))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_caller_gets_from_a_rust_service_what_it_expects() {
    let Some(dir) = peers() else { return };
    let picom = rusty(Arc::new(Mock::new())).await;
    let address = picom.status().server.unwrap().address;
    let (host, port) = address.rsplit_once(':').unwrap();
    let run = Command::new("node")
        .args(["caller.js", host, port])
        .current_dir(&dir)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    no_connections_are_left(&picom).await;
    let status = picom.status().server.unwrap();
    assert_eq!(status.handlers_panicked, 0);
    assert!(picom.end().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_caller_gets_from_a_node_service_what_it_expects() {
    let Some(dir) = peers() else { return };
    let mut node = Node::start(&dir, "classic", None).await;
    let caller = caller(&node);
    let sum: i64 = caller.fetch("classic", "add", &Add { a: 2, b: 5 }).await.unwrap();
    assert_eq!(sum, 7);
    let kind: String = caller.fetch("classic", "kind", &()).await.unwrap();
    assert_eq!(kind, "undefined");
    let nothing: Option<i64> = caller.fetch_opt("classic", "nothing", &()).await.unwrap();
    assert_eq!(nothing, None);
    let when = When {
        when: ClassicDate::from_millis(1_441_929_600_123.0),
    };
    let later: Later = caller.fetch("classic", "later", &when).await.unwrap();
    assert_eq!(later.when, when.when);
    assert_eq!(later.later.millis(), 1_441_929_601_123.0);
    let data = Data {
        data: Blob::from(vec![1, 2]),
    };
    let twice: Blob = caller.fetch("classic", "bytes", &data).await.unwrap();
    assert_eq!(twice.as_ref(), [1, 2, 1, 2]);

    let wide = vec![i64::from(i32::MIN) - 1, -(1 << 53), 1 << 40];
    // As text: its own writer has no form for the first two.
    let read: String = caller.fetch("classic", "text", &wide).await.unwrap();
    assert_eq!(read, "[-2147483649,-9007199254740992,1099511627776]");
    let error = caller
        .fetch::<f64>("classic", "same", &u64::MAX)
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::NeverSent);
    node.no_sockets_are_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_and_lost_connections_of_a_node_service_are_told_apart() {
    let Some(dir) = peers() else { return };
    let mut node = Node::start(&dir, "classic", None).await;
    let caller = caller(&node);
    let after = |after, how: Option<&str>| After {
        after,
        how: how.map(str::to_owned),
    };
    let error = caller
        .fetch_all::<u64>("classic", "fail", &after(3, None))
        .await
        .unwrap_err();
    let fault = error.fault().unwrap();
    assert_eq!((fault.code(), fault.text()), (Code::APPLICATION, "it broke"));
    assert_eq!(error.outcome(), Outcome::Executed);

    let error = caller.fetch::<u64>("classic", "no-such", &()).await.unwrap_err();
    assert!(error.is_unknown_method(), "{error}");

    for how in ["fin", "rst"] {
        let error = caller
            .fetch_all::<u64>("classic", "drop", &after(2, Some(how)))
            .await
            .unwrap_err();
        assert!(error.is_unavailable(), "{how}: {error}");
        assert_eq!(error.outcome(), Outcome::MaybeExecuted, "{how}: {error}");
    }

    node.no_sockets_are_left().await;

    // Its handler never learns of this one: its socket stays, as the original's do (PROTOCOL §12.9).
    let hang = caller
        .fetch::<u64>("classic", "hang", &())
        .timeout(Duration::from_millis(200));
    assert!(hang.await.unwrap_err().is_timeout());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_100_000_items_pass_in_both_directions_to_a_node_service() {
    let Some(dir) = peers() else { return };
    let mut node = Node::start(&dir, "classic", None).await;
    let caller = caller(&node);
    let items: Vec<Item> = caller
        .fetch_all("classic", "count", &Count { n: 100_000 })
        .await
        .unwrap();
    assert_eq!(items.len(), 100_000);
    assert!((0..).zip(&items).all(|(n, item)| item.index == n));

    let sum: Sum = caller
        .fetch("classic", "sum", &())
        .input(stream::iter(0..100_000_u64))
        .await
        .unwrap();
    assert_eq!(
        sum,
        Sum {
            items: 100_000,
            sum: 4_999_950_000
        }
    );

    let echoed: Vec<u64> = caller
        .fetch_all("classic", "echo", &())
        .input(stream::iter(0..100_000_u64))
        .await
        .unwrap();
    assert!(echoed.into_iter().eq(0..100_000));
    node.no_sockets_are_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_leave_no_socket_at_a_node_service() {
    let Some(dir) = peers() else { return };
    let mut node = Node::start(&dir, "classic", None).await;
    let caller = caller(&node);
    for round in 0..20_i64 {
        let calls = (0..50_i64).map(|n| {
            let call = caller.fetch::<i64>("classic", "add", &Add { a: round, b: n });
            async move { (n, call.await) }
        });
        for (n, sum) in futures_util::future::join_all(calls).await {
            assert_eq!(sum.unwrap(), round + n);
        }
    }
    node.no_sockets_are_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_and_classic_instances_of_one_service_share_the_calls() {
    let Some(dir) = peers() else { return };
    let mut node = Node::start(&dir, "rusty", None).await;
    let mock = Mock::new();
    let picom = rusty(Arc::new(mock.clone())).await;
    let name = ServiceName::new("rusty").unwrap();
    let address = picom.status().server.unwrap().address;
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    mock.set(
        &name,
        [
            Instance::at(name.clone(), "127.0.0.1", port).native(1),
            Instance::at(name.clone(), "127.0.0.1", node.port),
        ],
    );
    let caller = Picom::builder("caller")
        .without_environment()
        .discovery(Arc::new(mock.clone()))
        .balance(Balance::RoundRobin)
        .build()
        .unwrap();
    let mut answers = BTreeMap::<String, u32>::new();
    for _ in 0..200 {
        let who: String = caller.fetch("rusty", "who", &()).await.unwrap();
        *answers.entry(who).or_default() += 1;
    }
    assert_eq!(answers.values().sum::<u32>(), 200);
    assert!(
        answers.len() == 2 && answers.values().all(|calls| *calls >= 90),
        "{answers:?}"
    );
    // A dead classic instance costs no call.
    node.no_sockets_are_left().await;
    node.child.kill().await.unwrap();
    for _ in 0..50 {
        let who: String = caller.fetch("rusty", "who", &()).await.unwrap();
        assert_eq!(who, "rust");
    }
}
