//! A Node service and a Rust service under one name in a real Consul, and callers of both kinds. `cargo xtask integration`
//! starts that Consul (`PICOM_TEST_CONSUL`); without it, or without `node`, the tests say so and do nothing.

use futures_util::stream;
use picom::{Balance, Code, Outcome, Picom};
use picom_classic_node::{
    Add, After, Count, Item, Later, Node, PATIENCE, Sum, When, call_from_node, methods,
    no_connections_are_left, no_sockets_between, peers, say_skipped, service,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// One service of each kind under one name, and a caller of ours.
struct Both {
    dir: PathBuf,
    consul: String,
    name: String,
    rust: Picom,
    node: Node,
    caller: Picom,
}

fn consul() -> Option<String> {
    let consul = std::env::var("PICOM_TEST_CONSUL").ok();
    if consul.is_none() {
        say_skipped("there is no Consul (PICOM_TEST_CONSUL)");
    }
    consul
}

fn at(consul: &str, builder: picom::Builder) -> Picom {
    let (host, port) = consul.rsplit_once(':').unwrap();
    builder
        .consul_host(host)
        .consul_port(port.parse::<u16>().unwrap())
        .build()
        .unwrap()
}

impl Both {
    async fn start(mark: &str) -> Option<Both> {
        let (dir, consul) = (peers()?, consul()?);
        // Nobody else's name, so that nothing another run has left is taken for one of these.
        let name = format!("both-{mark}-{}", std::process::id());
        let rust = at(&consul, service(&name));
        rust.expose(methods()).await.unwrap();
        let node = Node::start(&dir, &name, Some(&consul)).await;
        let caller = Picom::builder("caller")
            .without_environment()
            .balance(Balance::RoundRobin);
        let both = Both {
            caller: at(&consul, caller),
            dir,
            consul,
            name,
            rust,
            node,
        };
        both.of_both_kinds(
            "both are known",
            || both.caller.fetch::<String>(&both.name, "who", &()),
            |who| who,
        )
        .await;
        Some(both)
    }

    /// Makes calls until both kinds have answered one.
    async fn of_both_kinds<T, C>(&self, what: &str, call: impl Fn() -> C, by: impl Fn(T) -> String)
    where
        C: IntoFuture<Output = Result<T, picom::Error>>,
    {
        let mut answers = BTreeMap::<String, u32>::new();
        let both = async {
            while answers.len() < 2 {
                let answer = call().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                *answers.entry(by(answer)).or_default() += 1;
            }
        };
        let answered = tokio::time::timeout(PATIENCE, both).await;
        answered.unwrap_or_else(|_| panic!("{what}: only {answers:?}"));
        assert!(
            answers.contains_key("rust") && answers.contains_key("node"),
            "{what}: {answers:?}"
        );
    }

    /// What a Node caller prints that asks Consul itself.
    async fn node_caller_says(&self, task: &str) -> String {
        call_from_node(&self.dir, &["consul", &self.consul, &self.name, task]).await
    }

    fn rust_port(&self) -> u16 {
        let address = self.rust.status().server.unwrap().address;
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Ends everything, and looks for sockets that were forgotten. First the connections that are kept on purpose: ours to
    /// our service.
    async fn end(mut self) {
        assert!(self.caller.end().await.is_clean());
        let (ours, theirs) = (std::process::id(), self.node.pid());
        self.node.no_connections_are_left().await;
        no_connections_are_left(&self.rust).await;
        no_sockets_between(&[ours, theirs], self.node.port).await;
        no_sockets_between(&[ours, theirs], self.rust_port()).await;
        self.node.end().await;
        assert!(self.rust.end().await.is_clean());
        let left = call_from_node(&self.dir, &["consul", &self.consul, &self.name, "who"]).await;
        assert_eq!(left, "", "nobody is registered any more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_caller_reaches_both_with_values_dates_and_errors() {
    let Some(both) = Both::start("values").await else {
        return;
    };
    let (caller, name) = (&both.caller, &both.name);
    // In turn: two calls of each kind reach both.
    for (a, b) in [(2, 5), (-1, 1)] {
        let sum: i64 = caller.fetch(name, "add", &Add { a, b }).await.unwrap();
        assert_eq!(sum, a + b);
    }
    for millis in [1_441_929_600_123.0, -86_400_000.0] {
        let when = picom::ClassicDate::from_millis(millis);
        let later: Later = caller.fetch(name, "later", &When { when }).await.unwrap();
        assert_eq!((later.when, later.later.millis()), (when, millis + 1000.0));
    }
    let mut codes = Vec::new();
    for _ in 0..2 {
        let error = caller
            .fetch_all::<u64>(name, "fail", &After { after: 3, how: None })
            .await
            .unwrap_err();
        let fault = error.fault().unwrap();
        assert_eq!((fault.text(), error.outcome()), ("it broke", Outcome::Executed));
        codes.push(fault.code());
    }
    for _ in 0..2 {
        let error = caller.fetch::<u64>(name, "no-such", &()).await.unwrap_err();
        assert!(error.is_unknown_method(), "{error}");
    }
    // What the dialect has no room for is lost from one of them only.
    codes.sort();
    assert_eq!(codes, [Code::APPLICATION, Code::INTERNAL]);
    both.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_caller_streams_100_000_items_in_each_direction_with_both() {
    let Some(both) = Both::start("streams").await else {
        return;
    };
    let (caller, name) = (&both.caller, &both.name);
    let count = || caller.fetch_all::<Item>(name, "count", &Count { n: 100_000 });
    both.of_both_kinds("out", count, |items| {
        assert_eq!(items.len(), 100_000);
        let by = items[0].by.clone();
        assert!(
            (0..)
                .zip(&items)
                .all(|(n, item)| item.index == n && item.by == by)
        );
        by
    })
    .await;
    let sum = || {
        caller
            .fetch::<Sum>(name, "sum", &())
            .input(stream::iter(0..100_000_u64))
    };
    both.of_both_kinds("in", sum, |sum| {
        assert_eq!((sum.items, sum.sum), (100_000, 4_999_950_000));
        sum.by
    })
    .await;
    for _ in 0..2 {
        let echoed: Vec<u64> = caller
            .fetch_all(name, "echo", &())
            .input(stream::iter(0..100_000_u64))
            .await
            .unwrap();
        assert!(echoed.into_iter().eq(0..100_000));
    }
    both.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_caller_finds_both_by_their_nodes_address_and_gets_everything_from_each() {
    let Some(both) = Both::start("node").await else {
        return;
    };
    let said = both.node_caller_says("all").await;
    let mut who: Vec<&str> = said.lines().collect();
    who.sort_unstable();
    assert_eq!(who, ["node", "rust"]);
    both.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_of_each_kind_of_caller_leave_no_socket_on_either_side() {
    let Some(both) = Both::start("thousand").await else {
        return;
    };
    let said = both.node_caller_says("thousand").await;
    assert_eq!(said.lines().collect::<Vec<_>>(), ["node 500", "rust 500"]);
    let mut answers = BTreeMap::<String, u32>::new();
    for _ in 0..20 {
        let calls = (0..50).map(|_| both.caller.fetch::<String>(&both.name, "who", &()).into_future());
        for who in futures_util::future::join_all(calls).await {
            *answers.entry(who.unwrap()).or_default() += 1;
        }
    }
    assert_eq!(answers.values().sum::<u32>(), 1000);
    assert!(answers.values().all(|calls| *calls >= 400), "{answers:?}");
    both.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_within_a_stream_end_it_at_both() {
    let Some(both) = Both::start("away").await else {
        return;
    };
    // Each call of a Node caller to `endless` goes away after 100 items.
    both.node_caller_says("all").await;
    for _ in 0..4 {
        let call = both.caller.stream::<(), String>(&both.name, "endless", &());
        let (_input, mut items) = call.await.unwrap();
        for index in 0..100 {
            let item = items.next().await.unwrap().unwrap();
            assert_eq!(item, format!("{index:0200}"));
        }
    }
    // No handler goes on: `end` waits for the connections, and the Node service's are those of its handlers.
    both.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_service_that_dies_within_a_stream_is_an_error_and_then_the_other_is_called() {
    let Some(mut both) = Both::start("node-dies").await else {
        return;
    };
    let mut streams = Vec::new();
    for _ in 0..2 {
        let call = both.caller.stream::<(), String>(&both.name, "endless", &());
        let (_input, mut items) = call.await.unwrap();
        items.next().await.unwrap().unwrap();
        streams.push((_input, items));
    }
    both.node.kill().await;
    let mut lost = 0;
    for (_input, mut items) in streams {
        // The one that is alive never ends; it is read for as long as what a dead one has left may take.
        let read = async {
            loop {
                match items.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(error) => return Some(error),
                }
            }
        };
        if let Ok(ended) = tokio::time::timeout(Duration::from_secs(2), read).await {
            let error = ended.expect("a stream cut short is no end");
            assert_eq!(error.outcome(), Outcome::MaybeExecuted, "{error}");
            lost += 1;
        }
    }
    assert_eq!(lost, 1);
    for _ in 0..50 {
        let who: String = both.caller.fetch(&both.name, "who", &()).await.unwrap();
        assert_eq!(who, "rust");
    }
    assert!(both.caller.end().await.is_clean());
    no_sockets_between(&[std::process::id()], both.node.port).await;
    assert!(both.rust.end().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_service_that_dies_within_a_stream_is_an_error_to_a_node_caller() {
    let (Some(dir), Some(consul)) = (peers(), consul()) else {
        return;
    };
    let name = format!("rust-dies-{}", std::process::id());
    // A runtime of its own: with it everything of the service is gone at once, as in a process that is killed.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (told, exposed) = tokio::sync::oneshot::channel();
    let picom = at(&consul, service(&name).deregister_after(Duration::from_secs(60)));
    runtime.spawn(async move {
        picom.expose(methods()).await.unwrap();
        let _ = told.send(picom.clone());
        std::future::pending::<()>().await;
    });
    let picom = exposed.await.unwrap();
    let mut child = Command::new("node")
        .args(["caller.js", "consul", &consul, &name, "endless"])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut says = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, says.next_line()).await.unwrap();
    assert_eq!(line.unwrap().as_deref(), Some("begun"));
    runtime.shutdown_background();
    let line = tokio::time::timeout(PATIENCE, says.next_line()).await.unwrap();
    let said = line.unwrap().expect("why it ended");
    assert!(
        said == "the service dropped the connection" || said.contains("ECONNRESET"),
        "{said}"
    );
    assert!(child.wait().await.unwrap().success());
    // What is left of it in Consul is taken back.
    picom.end().await;
}
