//! Calls of all shapes, end to end in memory: values, streams, errors, metadata, deadlines.

use futures_util::{StreamExt, TryStreamExt, stream};
use picom_rpc::testing::InMemory;
use picom_rpc::{CallFailure, Context, Fault, In, Metadata, Methods, Out, Outcome, RemoteError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

#[derive(Debug, Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OutOfStock {
    left: u32,
}

impl fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "only {} left", self.left)
    }
}

impl RemoteError for OutOfStock {
    const NAME: &'static str = "orders.OutOfStock";
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct LookAlike {
    left: u32,
}

impl fmt::Display for LookAlike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("look-alike")
    }
}

impl RemoteError for LookAlike {
    const NAME: &'static str = "other.LookAlike";
}

fn methods() -> Methods {
    Methods::new()
        .unary("add", |Add { a, b }: Add| async move { Ok(a + b) })
        .unary("nothing", |_: ()| async move { Ok(()) })
        .unary("echo", |value: rmpv::Value| async move { Ok(value) })
        .unary("blob", |blob: picom_codec::Blob| async move { Ok(blob) })
        .unary("order", |n: u32| async move {
            if n > 2 {
                Err(OutOfStock { left: 2 })?
            } else {
                Ok(n)
            }
        })
        .unary("io", |_: ()| async move {
            Err::<(), _>(std::io::Error::other("the disk is gone"))?;
            Ok(())
        })
        .unary("sleep", |ms: u64| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(ms)
        })
        .unary("left", |_: ()| async move {
            Ok(Context::current()
                .deadline_left()
                .map(|left| left.as_millis() as u64))
        })
        .unary("trace", |_: ()| async move {
            Ok(Context::current().metadata().text("trace").map(str::to_owned))
        })
        .stream("count", |n: u64| async move { Ok(stream::iter((0..n).map(Ok))) })
        .stream("fails", |n: u64| async move {
            let items = stream::iter((0..n).map(Ok))
                .chain(stream::once(async { Err(OutOfStock { left: 0 }.into()) }));
            Ok(items)
        })
        .client_stream("sum", |start: i64, mut numbers: In<i64>| async move {
            let mut sum = start;
            while let Some(number) = numbers.next().await? {
                sum += number;
            }
            Ok(sum)
        })
        .client_stream("first", |_: (), mut numbers: In<i64>| async move {
            Ok(numbers.next().await?)
        })
        .bidi(
            "double",
            |_: (), mut numbers: In<i64>, out: Out<i64>| async move {
                while let Some(number) = numbers.next().await? {
                    out.send(2 * number).await?;
                }
                Ok(())
            },
        )
        .bidi(
            "relay",
            |_: (), mut values: In<rmpv::Value>, out: Out<rmpv::Value>| async move {
                while let Some(value) = values.next().await? {
                    out.send(value).await?;
                }
                Ok(())
            },
        )
}

async fn world() -> (InMemory, picom_rpc::Client) {
    let world = InMemory::new();
    world.serve("math", methods()).await.unwrap();
    let client = world.client().unwrap();
    (world, client)
}

#[tokio::test]
async fn a_unary_call_gives_its_value() {
    let (_world, client) = world().await;
    let sum: i64 = client.fetch("math", "add", &Add { a: 2, b: 5 }).await.unwrap();
    assert_eq!(sum, 7);
    let () = client.fetch("math", "nothing", &()).await.unwrap();
    let none: Option<Option<String>> = client.fetch_opt("math", "trace", &()).await.unwrap();
    assert_eq!(none, Some(None));
}

#[tokio::test]
async fn a_fetch_can_be_sent_to_another_task() {
    let (_world, client) = world().await;
    let call = client.fetch::<i64>("math", "add", &Add { a: 1, b: 1 });
    let sum = tokio::spawn(async move { call.await }).await.unwrap().unwrap();
    assert_eq!(sum, 2);
}

#[tokio::test]
async fn dynamic_values_and_blobs_travel_as_they_are() {
    let (_world, client) = world().await;
    let value = rmpv::Value::Array(vec![
        rmpv::Value::from(1),
        rmpv::Value::Nil,
        rmpv::Value::from("x"),
    ]);
    let echoed: rmpv::Value = client.fetch("math", "echo", &value).await.unwrap();
    assert_eq!(echoed, value);
    let large = picom_codec::Blob(vec![7u8; 3_000_000].into());
    let back: picom_codec::Blob = client.fetch("math", "blob", &large).await.unwrap();
    assert_eq!(back.0, large.0);
}

#[tokio::test]
async fn a_server_stream_is_read_in_order_in_all_ways() {
    let (_world, client) = world().await;
    let mut items = client
        .stream::<(), u64>("math", "count", &5u64)
        .receive()
        .await
        .unwrap();
    let mut seen = Vec::new();
    while let Some(item) = items.next().await.unwrap() {
        seen.push(item);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert!(items.next().await.unwrap().is_none(), "the end stays the end");
    let as_stream = client
        .stream::<(), u64>("math", "count", &2000u64)
        .receive()
        .await
        .unwrap();
    assert_eq!(as_stream.try_collect::<Vec<_>>().await.unwrap().len(), 2000);
    let all: Vec<u64> = client.fetch_all("math", "count", &3u64).await.unwrap();
    assert_eq!(all, [0, 1, 2]);
    let first: u64 = client.fetch("math", "count", &3u64).await.unwrap();
    assert_eq!(first, 0, "the first item, once all have come");
    let none: Option<u64> = client.fetch_opt("math", "count", &0u64).await.unwrap();
    assert_eq!(none, None);
    let error = client.fetch::<u64>("math", "count", &0u64).await.unwrap_err();
    assert!(matches!(error.failure(), CallFailure::NoValue), "{error}");
}

#[tokio::test]
async fn an_error_behind_the_items_is_an_error() {
    let (_world, client) = world().await;
    let error = client.fetch::<u64>("math", "fails", &3u64).await.unwrap_err();
    assert_eq!(error.remote::<OutOfStock>(), Some(OutOfStock { left: 0 }));
    let mut items = client
        .stream::<(), u64>("math", "fails", &2u64)
        .receive()
        .await
        .unwrap();
    assert_eq!(items.next().await.unwrap(), Some(0));
    assert_eq!(items.next().await.unwrap(), Some(1));
    let error = items.next().await.unwrap_err();
    assert_eq!(error.remote::<OutOfStock>(), Some(OutOfStock { left: 0 }));
    assert_eq!(
        items.next().await.unwrap_err().remote::<OutOfStock>(),
        Some(OutOfStock { left: 0 })
    );
}

#[tokio::test]
async fn client_streams_are_sent_by_hand_or_as_input() {
    let (_world, client) = world().await;
    let (numbers, mut sum) = client.stream::<i64, i64>("math", "sum", &100i64).await.unwrap();
    for number in [27182, 8, 1828, 45904] {
        numbers.send(number).await.unwrap();
    }
    numbers.finish().unwrap();
    assert_eq!(sum.next().await.unwrap(), Some(75022));
    assert_eq!(sum.next().await.unwrap(), None);
    let sum: i64 = client
        .fetch("math", "sum", &0i64)
        .input(stream::iter(1..=1000i64))
        .await
        .unwrap();
    assert_eq!(sum, 500_500);
    let none: i64 = client
        .fetch("math", "sum", &5i64)
        .input(stream::empty::<i64>())
        .await
        .unwrap();
    assert_eq!(none, 5);
}

#[tokio::test]
async fn a_handler_may_answer_before_its_input_has_ended() {
    let (_world, client) = world().await;
    let endless = stream::iter(0i64..);
    let first: Option<i64> = client.fetch("math", "first", &()).input(endless).await.unwrap();
    assert_eq!(first, Some(0));
    let add: i64 = client
        .fetch("math", "add", &Add { a: 1, b: 2 })
        .input(stream::pending::<i64>())
        .await
        .unwrap();
    assert_eq!(add, 3, "a unary method does not read its input at all");
}

#[tokio::test]
async fn bidirectional_streams_alternate_strictly() {
    let (_world, client) = world().await;
    let (numbers, mut doubled) = client.stream::<i64, i64>("math", "double", &()).await.unwrap();
    for number in 0..500 {
        numbers.send(number).await.unwrap();
        assert_eq!(doubled.next().await.unwrap(), Some(2 * number));
    }
    numbers.finish().unwrap();
    assert_eq!(doubled.next().await.unwrap(), None);
    let doubled: Vec<i64> = client
        .fetch_all("math", "double", &())
        .input(stream::iter(1..4i64))
        .await
        .unwrap();
    assert_eq!(doubled, [2, 4, 6]);
    let relayed = client
        .stream::<(), rmpv::Value>("math", "relay", &())
        .input(stream::iter(["a", "b"]))
        .await
        .unwrap();
    let relayed: Vec<rmpv::Value> = relayed.try_collect().await.unwrap();
    assert_eq!(relayed, ["a".into(), "b".into()]);
}

#[tokio::test]
async fn errors_keep_their_type_and_no_other() {
    let (_world, client) = world().await;
    let error = client.fetch::<u32>("math", "order", &9u32).await.unwrap_err();
    assert_eq!(error.remote::<OutOfStock>(), Some(OutOfStock { left: 2 }));
    assert_eq!(error.remote::<LookAlike>(), None);
    assert_eq!(error.outcome(), Outcome::Executed);
    assert!(error.to_string().contains("only 2 left"), "{error}");
    let error = client.fetch::<()>("math", "io", &()).await.unwrap_err();
    assert_eq!(error.fault().unwrap().code(), picom_codec::Code::INTERNAL);
    assert_eq!(error.fault().unwrap().text(), "the disk is gone");
}

#[tokio::test]
async fn bad_arguments_unknown_methods_and_unknown_services_are_told_apart() {
    let (world, client) = world().await;
    let error = client
        .fetch::<i64>("math", "add", &"two and five")
        .await
        .unwrap_err();
    assert_eq!(error.fault().unwrap().code(), picom_codec::Code::BAD_ARGUMENT);
    assert_eq!((error.outcome(), error.attempts().len()), (Outcome::Refused, 1));

    let error = client.fetch::<i64>("math", "ad", &()).await.unwrap_err();
    assert!(error.is_unknown_method() && !error.is_unknown_service() && !error.is_unavailable());
    assert!(
        error.to_string().contains("\"ad\"") && error.to_string().contains("add, blob"),
        "{error}"
    );

    let error = client.fetch::<i64>("maths", "add", &()).await.unwrap_err();
    assert!(error.is_unknown_service() && error.is_unavailable() && !error.is_unknown_method());
    assert!(
        error.to_string().contains("\"maths\"") && error.to_string().contains("service is down"),
        "{error}"
    );
    assert!(error.attempts().is_empty());

    let name = picom_discovery::ServiceName::new("math").unwrap();
    let id = world.registry().registrations()[0].id().to_owned();
    world
        .registry()
        .set_health(&name, &id, picom_discovery::Health::Critical);
    let error = loop {
        if let Err(error) = client.fetch::<i64>("math", "add", &Add { a: 0, b: 0 }).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(
        matches!(
            error.failure(),
            CallFailure::ServiceDown {
                failing: 1,
                foreign: 0
            }
        ),
        "{error}"
    );
    assert!(error.is_unavailable() && !error.is_unknown_service());
}

#[tokio::test]
async fn names_and_values_that_cannot_be_sent_are_typed_errors() {
    let (_world, client) = world().await;
    let error = client.fetch::<()>("", "add", &()).await.unwrap_err();
    assert!(matches!(error.failure(), CallFailure::Service(_)), "{error}");
    let error = client.fetch::<()>("math", "", &()).await.unwrap_err();
    assert!(matches!(error.failure(), CallFailure::Method(_)), "{error}");
    let huge: Metadata = [("x", "y".repeat(10_000))].into_iter().collect();
    let error = client
        .fetch::<()>("math", "nothing", &())
        .metadata(huge)
        .await
        .unwrap_err();
    assert!(matches!(error.failure(), CallFailure::Metadata(_)), "{error}");
    let huge = picom_codec::Blob(vec![0u8; 17 << 20].into());
    let error = client
        .fetch::<picom_codec::Blob>("math", "blob", &huge)
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::NeverSent, "{error:?}");
}

#[tokio::test]
async fn a_reply_of_another_type_is_an_error_of_the_caller() {
    let (_world, client) = world().await;
    let error = client
        .fetch::<String>("math", "add", &Add { a: 1, b: 1 })
        .await
        .unwrap_err();
    assert!(matches!(error.failure(), CallFailure::Decode(_)));
    assert_eq!(error.outcome(), Outcome::Executed);
    let mut items = client
        .stream::<(), String>("math", "count", &3u64)
        .receive()
        .await
        .unwrap();
    assert!(items.next().await.is_err());
    assert!(items.next().await.is_err(), "going on would be a gap");
}

#[tokio::test]
async fn a_bad_input_message_is_the_callers_fault() {
    let (_world, client) = world().await;
    let error = client
        .fetch::<i64>("math", "sum", &0i64)
        .input(stream::iter(["no number"]))
        .await
        .unwrap_err();
    assert_eq!(error.fault().unwrap().code(), picom_codec::Code::BAD_ARGUMENT);
}

#[tokio::test]
async fn metadata_arrives_beside_the_arguments() {
    let (_world, client) = world().await;
    let metadata: Metadata = [("trace", "4bf9")].into_iter().collect();
    let seen: Option<String> = client
        .fetch("math", "trace", &())
        .metadata(metadata)
        .await
        .unwrap();
    assert_eq!(seen.as_deref(), Some("4bf9"));
    let seen: Option<String> = client.fetch("math", "trace", &()).await.unwrap();
    assert_eq!(seen, None);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_call_travels_and_ends_it() {
    let (_world, client) = world().await;
    let left: Option<u64> = client
        .fetch("math", "left", &())
        .timeout(Duration::from_secs(5))
        .await
        .unwrap();
    assert!((4900..=5000).contains(&left.unwrap()), "{left:?}");
    let left: Option<u64> = client.fetch("math", "left", &()).await.unwrap();
    assert!(
        (29_900..=30_000).contains(&left.unwrap()),
        "the default is 30 s: {left:?}"
    );
    let left: Option<u64> = client.fetch("math", "left", &()).no_timeout().await.unwrap();
    assert_eq!(left, None);
    let begun = tokio::time::Instant::now();
    let error = client
        .fetch::<u64>("math", "sleep", &10_000u64)
        .timeout(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(error.is_timeout() && !error.is_unavailable(), "{error:?}");
    assert_eq!(error.outcome(), Outcome::MaybeExecuted);
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "{:?}",
        begun.elapsed()
    );
    let error = client
        .fetch::<u64>("math", "sleep", &0u64)
        .timeout(Duration::ZERO)
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(error.outcome(), Outcome::NeverSent);
}

#[tokio::test]
async fn fetch_all_is_bounded() {
    let world = InMemory::new();
    world.serve("math", methods()).await.unwrap();
    let mut config = picom_rpc::ClientConfig::default();
    config.collect_items = 100;
    let client = world.client_with(config).unwrap();
    assert_eq!(
        client
            .fetch_all::<u64>("math", "count", &100u64)
            .await
            .unwrap()
            .len(),
        100
    );
    let error = client
        .fetch_all::<u64>("math", "count", &1_000_000u64)
        .await
        .unwrap_err();
    assert!(
        matches!(error.failure(), CallFailure::TooMuch { items: 101, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_reply_over_the_limit_fails_that_call_alone() {
    let world = InMemory::new();
    let methods = Methods::new().unary("blob", |n: usize| async move {
        Ok(picom_codec::Blob(vec![0u8; n].into()))
    });
    world.serve("big", methods).await.unwrap();
    let client = world.client().unwrap();
    let error = client
        .fetch::<picom_codec::Blob>("big", "blob", &(17usize << 20))
        .await
        .unwrap_err();
    assert_eq!(
        error.fault().unwrap().code(),
        picom_codec::Code::MESSAGE_TOO_LARGE,
        "{error}"
    );
    let blob: picom_codec::Blob = client.fetch("big", "blob", &10usize).await.unwrap();
    assert_eq!(blob.0.len(), 10);
}

#[tokio::test]
async fn free_functions_and_state_make_handlers() {
    async fn triple(n: i64) -> Result<i64, Fault> {
        Ok(3 * n)
    }
    let world = InMemory::new();
    let methods = Methods::new()
        .unary("triple", triple)
        .unary("async_closure", async |n: i64| Ok(n + 1))
        .with_state(std::sync::Arc::new(40i64))
        .unary("more", |base: std::sync::Arc<i64>, n: i64| async move {
            Ok(*base + n)
        })
        .stream("up", |base: std::sync::Arc<i64>, n: i64| async move {
            Ok(stream::iter((*base..*base + n).map(Ok)))
        })
        .client_stream(
            "sum",
            |base: std::sync::Arc<i64>, _: (), numbers: In<i64>| async move {
                Ok(*base + numbers.try_fold(0, |sum, n| async move { Ok(sum + n) }).await?)
            },
        )
        .bidi(
            "add",
            |base: std::sync::Arc<i64>, _: (), mut numbers: In<i64>, out: Out<i64>| async move {
                while let Some(number) = numbers.next().await? {
                    out.send(number + *base).await?;
                }
                Ok(())
            },
        );
    world.serve("s", methods).await.unwrap();
    let client = world.client().unwrap();
    assert_eq!(client.fetch::<i64>("s", "triple", &2).await.unwrap(), 6);
    assert_eq!(client.fetch::<i64>("s", "async_closure", &2).await.unwrap(), 3);
    assert_eq!(client.fetch::<i64>("s", "more", &2).await.unwrap(), 42);
    assert_eq!(client.fetch_all::<i64>("s", "up", &2).await.unwrap(), [40, 41]);
    assert_eq!(
        client
            .fetch::<i64>("s", "sum", &())
            .input(stream::iter([1, 2]))
            .await
            .unwrap(),
        43
    );
    assert_eq!(
        client
            .fetch::<i64>("s", "add", &())
            .input(stream::iter([5]))
            .await
            .unwrap(),
        45
    );
}
