//! Calls between picom and peers on the Node library's own codec, in both roles. Without `node`, or without the packages
//! of `node/` (`npm ci` there), the tests say so and do nothing, unless `PICOM_TEST_NODE` says that they must run.

use chrono::{DateTime, Utc};
use futures_util::stream;
use picom::{Balance, Blob, ClassicDate, Code, Outcome, Picom};
use picom_classic_node::{
    Add, After, Count, Data, Item, Later, Node, Sum, When, call_from_node, no_connections_are_left,
    no_sockets_between, peers, serve,
};
use picom_discovery::{Fixed, Instance, Mock, ServiceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

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
    let (picom, port) = serve("rusty", Arc::new(Mock::new())).await;
    let said = call_from_node(&dir, &["127.0.0.1", &port.to_string()]).await;
    assert_eq!(
        said.lines().filter(|line| line.starts_with("ok ")).count(),
        14,
        "{said}"
    );
    no_connections_are_left(&picom).await;
    no_sockets_between(&[std::process::id()], port).await;
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
    for millis in [0.0, -86_400_000.0, 8.64e15] {
        let when = ClassicDate::from_millis(millis);
        let same: ClassicDate = caller.fetch("classic", "same", &when).await.unwrap();
        assert_eq!(same, when);
    }
    let invalid = ClassicDate::from_millis(f64::NAN);
    let same: ClassicDate = caller.fetch("classic", "same", &invalid).await.unwrap();
    assert!(!same.is_valid());
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
    node.no_connections_are_left().await;
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

    node.no_connections_are_left().await;

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
            sum: 4_999_950_000,
            by: "node".to_owned(),
        }
    );

    let echoed: Vec<u64> = caller
        .fetch_all("classic", "echo", &())
        .input(stream::iter(0..100_000_u64))
        .await
        .unwrap();
    assert!(echoed.into_iter().eq(0..100_000));
    node.no_connections_are_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_leave_no_socket_at_a_node_service() {
    let Some(dir) = peers() else { return };
    let mut node = Node::start(&dir, "classic", None).await;
    let pids = [std::process::id(), node.pid()];
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
    node.no_connections_are_left().await;
    no_sockets_between(&pids, node.port).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_and_classic_instances_of_one_service_share_the_calls() {
    let Some(dir) = peers() else { return };
    let mut node = Node::start(&dir, "rusty", None).await;
    let mock = Mock::new();
    let (_picom, port) = serve("rusty", Arc::new(mock.clone())).await;
    let name = ServiceName::new("rusty").unwrap();
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
    node.no_connections_are_left().await;
    node.kill().await;
    for _ in 0..50 {
        let who: String = caller.fetch("rusty", "who", &()).await.unwrap();
        assert_eq!(who, "rust");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chrono {
    #[serde(with = "picom::date::chrono")]
    when: DateTime<Utc>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Time {
    #[serde(with = "picom::date::time")]
    when: OffsetDateTime,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moments_of_both_libraries_are_dates_to_a_node_service_and_come_back() {
    let Some(dir) = peers() else { return };
    let node = Node::start(&dir, "classic", None).await;
    let caller = caller(&node);
    for millis in [1_441_929_600_123_i64, -86_400_000, 0] {
        let when = DateTime::from_timestamp_millis(millis).unwrap();
        let sent = Chrono { when };
        let text: String = caller.fetch("classic", "text", &sent).await.unwrap();
        let written = ClassicDate::from(when).millis();
        let expected: String = caller
            .fetch(
                "classic",
                "text",
                &BTreeMap::from([("when", ClassicDate::from_millis(written))]),
            )
            .await
            .unwrap();
        assert_eq!(text, expected);
        assert_eq!(
            caller.fetch::<Chrono>("classic", "same", &sent).await.unwrap(),
            sent
        );

        let when = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap();
        let sent = Time { when };
        assert_eq!(
            caller.fetch::<String>("classic", "text", &sent).await.unwrap(),
            text
        );
        assert_eq!(
            caller.fetch::<Time>("classic", "same", &sent).await.unwrap(),
            sent
        );
    }
    let when = DateTime::from_timestamp_millis(1_441_929_600_123).unwrap();
    let text: String = caller.fetch("classic", "text", &Chrono { when }).await.unwrap();
    assert_eq!(text, r#"{"when":"2015-09-11T00:00:00.123Z"}"#);
}
