//! Calls that end early, and handlers that end badly: who learns of it, and who does not suffer.

use futures_util::stream;
use picom_codec::Code;
use picom_rpc::testing::InMemory;
use picom_rpc::{Client, Context, In, Methods, Out, Server};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Tells when it is dropped.
struct Told(mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

struct World {
    _memory: InMemory,
    client: Client,
    server: Server,
    started: Arc<Notify>,
    events: mpsc::UnboundedReceiver<&'static str>,
}

/// Handlers that never end by themselves and say when they begin and when they are dropped.
async fn world() -> World {
    let (sender, events) = mpsc::unbounded_channel();
    let started = Arc::new(Notify::new());
    let state = (sender, started.clone());
    type State = (mpsc::UnboundedSender<&'static str>, Arc<Notify>);
    let methods: Methods = Methods::new()
        .unary("quick", |n: u64| async move { Ok(n) })
        .with_state(state)
        .unary("hang", |(sender, started): State, _: ()| async move {
            let _told = Told(sender, "hang dropped");
            started.notify_one();
            std::future::pending::<()>().await;
            Ok(())
        })
        .stream("endless", |(sender, started): State, _: ()| async move {
            started.notify_one();
            let told = Told(sender, "endless dropped");
            Ok(stream::unfold((0u64, told), |(n, told)| async move {
                Some((Ok(n), (n + 1, told)))
            }))
        })
        .bidi(
            "listen",
            |(sender, started): State, _: (), mut input: In<u64>, out: Out<u64>| async move {
                let _told = Told(sender, "listen dropped");
                started.notify_one();
                while let Some(n) = input.next().await? {
                    out.send(n).await?;
                }
                Ok(())
            },
        )
        .unary("background", |(sender, started): State, _: ()| async move {
            let context = Context::current();
            tokio::spawn(context.clone().scope(async move {
                assert_eq!(Context::current().method(), Some("background"));
                context.cancelled().await;
                assert!(context.is_cancelled());
                let _ = sender.send("background heard of it");
            }));
            started.notify_one();
            std::future::pending::<()>().await;
            Ok(())
        })
        .into();
    let memory = InMemory::new();
    let server = memory.serve("s", methods).await.unwrap();
    let client = memory.client().unwrap();
    World {
        client,
        server,
        _memory: memory,
        started,
        events,
    }
}

async fn heard(world: &mut World) -> &'static str {
    tokio::time::timeout(Duration::from_secs(5), world.events.recv())
        .await
        .expect("within 5 s")
        .unwrap()
}

#[tokio::test]
async fn dropping_a_call_drops_its_handler() {
    let mut world = world().await;
    let call = tokio::spawn({
        let client = world.client.clone();
        async move { client.fetch::<()>("s", "hang", &()).await }
    });
    world.started.notified().await;
    call.abort();
    assert_eq!(heard(&mut world).await, "hang dropped");
    assert_eq!(
        world.client.fetch::<u64>("s", "quick", &1u64).await.unwrap(),
        1,
        "the connection lives on"
    );
    let status = world.server.status();
    assert_eq!((status.handlers_running, status.handlers_cancelled), (0, 1));
}

#[tokio::test]
async fn dropping_the_receiver_of_a_stream_drops_its_handler() {
    let mut world = world().await;
    let mut items = world
        .client
        .stream::<(), u64>("s", "endless", &())
        .receive()
        .await
        .unwrap();
    for n in 0..100 {
        assert_eq!(items.next().await.unwrap(), Some(n));
    }
    drop(items);
    assert_eq!(heard(&mut world).await, "endless dropped");
}

#[tokio::test]
async fn dropping_both_halves_of_a_stream_drops_its_handler() {
    let mut world = world().await;
    let (sender, mut receiver) = world.client.stream::<u64, u64>("s", "listen", &()).await.unwrap();
    sender.send(5).await.unwrap();
    assert_eq!(receiver.next().await.unwrap(), Some(5));
    drop((sender, receiver));
    assert_eq!(heard(&mut world).await, "listen dropped");
}

#[tokio::test]
async fn a_sender_dropped_without_finish_never_looks_complete() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let methods = Methods::new().client_stream("sum", move |_: (), mut numbers: In<u64>| {
        let sender = sender.clone();
        async move {
            let mut sum = 0;
            let end = loop {
                match numbers.next().await {
                    Ok(Some(number)) => sum += number,
                    other => break other,
                }
            };
            let _ = sender.send(end.is_ok());
            Ok(sum)
        }
    });
    let memory = InMemory::new();
    let server = memory.serve("s", methods).await.unwrap();
    let client = memory.client().unwrap();
    let (numbers, mut sum) = client.stream::<u64, u64>("s", "sum", &()).await.unwrap();
    numbers.send(1).await.unwrap();
    drop(numbers);
    let error = sum.next().await.unwrap_err();
    assert!(error.fault().is_none(), "{error}");
    while server.status().handlers_running > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Either the handler saw the reset, or it was dropped before it could: it never saw an end.
    assert!(!matches!(ends.try_recv(), Ok(true)));
}

#[tokio::test]
async fn work_spawned_by_a_handler_can_hear_that_the_call_is_over() {
    let mut world = world().await;
    let call = tokio::spawn({
        let client = world.client.clone();
        async move { client.fetch::<()>("s", "background", &()).await }
    });
    world.started.notified().await;
    call.abort();
    assert_eq!(heard(&mut world).await, "background heard of it");
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_dropped_when_its_time_has_passed() {
    let mut world = world().await;
    let error = world
        .client
        .fetch::<()>("s", "hang", &())
        .timeout(Duration::from_millis(100))
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(heard(&mut world).await, "hang dropped");
}

#[tokio::test]
async fn a_lost_connection_drops_the_handlers_of_its_calls() {
    let mut world = world().await;
    let call = tokio::spawn({
        let client = world.client.clone();
        async move { client.fetch::<()>("s", "hang", &()).await }
    });
    world.started.notified().await;
    world._memory.network().cut("memory:1");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), picom_rpc::Outcome::MaybeExecuted, "{error}");
    assert_eq!(heard(&mut world).await, "hang dropped");
}

#[tokio::test]
async fn a_panicking_handler_hurts_its_own_call_alone() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let methods = Methods::new()
        .unary("now", |_: ()| async move {
            if true {
                panic!("at once");
            }
            Ok(())
        })
        .unary("later", |_: ()| async move {
            tokio::task::yield_now().await;
            if true {
                panic!("on its task");
            }
            Ok(())
        })
        .unary("closure", |n: u64| {
            assert!(n > 10_000, "before there is a future");
            async move { Ok(n) }
        })
        .stream(
            "items",
            |_: ()| async move { Ok(stream::iter(0..3u64).chain_panic()) },
        )
        .unary("good", move |n: u64| {
            let counted = counted.clone();
            async move {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(n)
            }
        });
    let memory = InMemory::new();
    let server = memory.serve("s", methods).await.unwrap();
    let client = memory.client().unwrap();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut good = tokio::task::JoinSet::new();
    for n in 0..200u64 {
        let client = client.clone();
        good.spawn(async move { client.fetch::<u64>("s", "good", &n).await.map(|got| got == n) });
        if n % 10 == 0 {
            for method in ["now", "later", "closure"] {
                let error = if method == "closure" {
                    client_fault(&memory, method, &1u64).await
                } else {
                    client_fault(&memory, method, &()).await
                };
                assert_eq!(error, Code::PANIC, "{method}");
            }
        }
    }
    let mut items = client
        .stream::<(), u64>("s", "items", &())
        .receive()
        .await
        .unwrap();
    for n in 0..3 {
        assert_eq!(items.next().await.unwrap(), Some(n));
    }
    assert_eq!(
        items.next().await.unwrap_err().fault().unwrap().code(),
        Code::PANIC
    );
    std::panic::set_hook(quiet);
    while let Some(result) = good.join_next().await {
        assert!(result.unwrap().unwrap());
    }
    assert_eq!(calls.load(Ordering::Relaxed), 200);
    let status = server.status();
    assert_eq!((status.handlers_running, status.handlers_panicked), (0, 61));
}

async fn client_fault(memory: &InMemory, method: &str, args: &impl serde::Serialize) -> Code {
    let client = memory.client().unwrap();
    client
        .fetch::<()>("s", method, args)
        .await
        .unwrap_err()
        .fault()
        .unwrap()
        .code()
}

trait ChainPanic: futures_util::Stream<Item = u64> + Sized {
    fn chain_panic(self) -> impl futures_util::Stream<Item = Result<u64, picom_rpc::Fault>> + Send
    where
        Self: Send,
    {
        use futures_util::StreamExt;
        self.map(Ok)
            .chain(stream::poll_fn(|_| panic!("behind the items")))
    }
}

impl<S: futures_util::Stream<Item = u64>> ChainPanic for S {}

#[tokio::test]
async fn nothing_is_left_of_calls_dropped_at_any_point() {
    let world = world().await;
    for round in 0..300u32 {
        let call = world.client.fetch::<()>("s", "hang", &());
        let mut call = Box::pin(std::future::IntoFuture::into_future(call));
        for _ in 0..round % 7 {
            let _ = poll_once(&mut call).await;
            tokio::task::yield_now().await;
        }
        drop(call);
    }
    let left = async {
        while world.server.status().handlers_running > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), left)
        .await
        .expect("all handlers are dropped");
    let status = world.client.status();
    assert_eq!(status[0].endpoints[0].in_flight, 0);
    assert_eq!(world.client.fetch::<u64>("s", "quick", &1u64).await.unwrap(), 1);
}
