//! Items that are ready together travel together; nobody who sends or receives them can tell.

use futures_util::{Stream, StreamExt, stream};
use picom_discovery::Fixed;
use picom_rpc::testing::InMemory;
use picom_rpc::{CallFailure, Client, ClientConfig, Fault, In, Methods, Out, ServerConfig};
use picom_transport::{
    ConnectionConfig, Identity, Incoming, Listener, ListenerConfig, Pack, StreamError, StreamHandler, Turn,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::{Deserialize, Serialize, Serializer};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// One item, or a pause before the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Step {
    Item(usize),
    Pause,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![12 => 0usize..60, 2 => 60usize..5000, 1 => 5000usize..120_000];
    let step = prop_oneof![8 => length.prop_map(Step::Item), 1 => Just(Step::Pause)];
    prop::collection::vec(step, 0..200)
}

/// The item of this length, at this place.
fn item(place: usize, length: usize) -> Vec<u16> {
    vec![place as u16; length.div_ceil(3)]
}

fn items(steps: &[Step]) -> Vec<Vec<u16>> {
    let of = |(place, step): (usize, &Step)| match step {
        Step::Item(length) => Some(item(place, *length)),
        Step::Pause => None,
    };
    steps.iter().enumerate().filter_map(of).collect()
}

/// The items, with a pause where one is to be: the stream is pending once, and its task is woken.
fn paced(steps: Vec<Step>) -> impl Stream<Item = Vec<u16>> + Send {
    let mut steps = steps.into_iter().enumerate();
    stream::poll_fn(move |cx| {
        Poll::Ready(match steps.next() {
            Some((place, Step::Item(length))) => Some(item(place, length)),
            Some((_, Step::Pause)) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => None,
        })
    })
}

fn methods() -> Methods {
    Methods::new()
        .stream("items", |steps: Vec<Step>| async move { Ok(paced(steps).map(Ok)) })
        .bidi("sent", |steps: Vec<Step>, _: In<()>, out: Out<Vec<u16>>| async move {
            for item in items(&steps) {
                out.send(item).await?;
            }
            Ok(())
        })
        .bidi("all", |steps: Vec<Step>, _: In<()>, out: Out<Vec<u16>>| async move {
            Ok(out.send_all(paced(steps)).await?)
        })
        .bidi("echo", |_: (), mut input: In<Vec<u16>>, out: Out<Vec<u16>>| async move {
            while let Some(item) = input.next().await? {
                out.send(item).await?;
            }
            Ok(())
        })
}

/// Limits that cut packs in all places, and the ordinary ones.
fn connections() -> impl Strategy<Value = ConnectionConfig> {
    prop_oneof![
        Just(ConnectionConfig::default()),
        (8192u32..40_000, 8192u32..40_000).prop_map(|(frame_limit, first_window)| ConnectionConfig {
            frame_limit,
            first_window,
            window_limit: 2 * first_window,
            ..ConnectionConfig::default()
        })
    ]
}

fn rows(client: &Client, method: &str, steps: &Vec<Step>) -> picom_rpc::ReceiveCall<Vec<u16>> {
    client.stream::<(), Vec<u16>>("s", method, steps).receive()
}

async fn collect(mut items: In<Vec<u16>>) -> Vec<Vec<u16>> {
    let mut all = Vec::new();
    while let Some(item) = items.next().await.unwrap() {
        all.push(item);
    }
    all
}

#[test]
fn items_arrive_as_they_were_given_however_they_travel() {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(24));
    let inputs = (steps(), connections(), connections());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let run = runner.run(&inputs, |(steps, mine, theirs)| {
        runtime.block_on(async {
            let memory = InMemory::new();
            let mut server = ServerConfig::default();
            server.listener.connection = theirs;
            let _server = memory.serve_with("s", methods(), server).await.unwrap();
            let mut config = ClientConfig::default();
            config.connection = mine;
            let client = memory.client_with(config).unwrap();
            let expected = items(&steps);
            for method in ["items", "sent", "all"] {
                let got = collect(rows(&client, method, &steps).await.unwrap()).await;
                prop_assert_eq!(&got, &expected, "{}", method);
            }
            let echo = client.stream::<Vec<u16>, Vec<u16>>("s", "echo", &());
            let got = collect(echo.input(paced(steps.clone())).await.unwrap()).await;
            prop_assert_eq!(&got, &expected, "input");
            let all: Vec<Vec<u16>> = client.fetch_all("s", "items", &steps).await.unwrap();
            prop_assert_eq!(&all, &expected, "fetch_all");
            Ok(())
        })
    });
    run.unwrap();
}

/// Three cannot be encoded.
struct Picky(u64);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            3 => Err(serde::ser::Error::custom("three is not for the world")),
            n => serializer.serialize_u64(n),
        }
    }
}

#[tokio::test]
async fn what_came_before_an_item_that_cannot_be_sent_arrives() {
    let memory = InMemory::new();
    let methods = Methods::new()
        .stream("encode", |_: ()| async move {
            Ok(stream::iter((0..5).map(|n| Ok(Picky(n)))))
        })
        .stream("state", |_: ()| async move {
            Ok(stream::iter((0..5).map(|n| match n {
                3 => Err(Fault::new(picom_codec::Code::APPLICATION, "three")),
                n => Ok(n),
            })))
        })
        .stream("large", |_: ()| async move {
            Ok(stream::iter((0..5u64).map(|n| {
                Ok(match n {
                    3 => vec![300u16; 100_000],
                    n => vec![n as u16],
                })
            })))
        });
    let _server = memory.serve("s", methods).await.unwrap();
    let mut config = ClientConfig::default();
    config.connection.message_limit = 64 * 1024;
    let client = memory.client_with(config).unwrap();
    for method in ["encode", "state", "large"] {
        let call = client.stream::<(), rmpv::Value>("s", method, &());
        let mut items = call.receive().await.unwrap();
        for n in 0..3u64 {
            let item = items.next().await.unwrap().unwrap();
            let number = item.as_array().map_or(&item, |array| &array[0]).as_u64();
            assert_eq!(number, Some(n), "{method}");
        }
        assert!(items.next().await.unwrap_err().fault().is_some(), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_item_does_not_wait_for_others() {
    let memory = InMemory::new();
    let methods = Methods::new().stream("one", |_: ()| async move {
        Ok(stream::iter([Ok(7u8)]).chain(stream::pending()))
    });
    let _server = memory.serve("s", methods).await.unwrap();
    let client = memory.client().unwrap();
    let mut items = client.stream::<(), u8>("s", "one", &()).receive().await.unwrap();
    let before = tokio::time::Instant::now();
    assert_eq!(items.next().await.unwrap(), Some(7));
    assert!(before.elapsed() < Duration::from_millis(1));
}

#[tokio::test]
async fn tasks_that_share_a_sender_take_turns_and_none_is_lost() {
    const EACH: u64 = 3000;
    let memory = InMemory::new();
    let methods = Methods::new().bidi(
        "share",
        |_: (), _: In<()>, out: Out<(u64, u64, String)>| async move {
            let out = &out;
            let send = |sender: u64| async move {
                for n in 0..EACH {
                    out.send((sender, n, "x".repeat(50))).await?;
                }
                Ok::<(), picom_rpc::CallError>(())
            };
            let all = async {
                let rest = (0..EACH).map(|n| (2, n, "y".repeat(50)));
                out.send_all(stream::iter(rest)).await
            };
            let (a, b, c) = tokio::join!(send(0), send(1), all);
            a.and(b).and(c)?;
            Ok(())
        },
    );
    let _server = memory.serve("s", methods).await.unwrap();
    let client = memory.client().unwrap();
    let call = client.stream::<(), (u64, u64, String)>("s", "share", &());
    let mut items = call.receive().await.unwrap();
    let mut next = [0; 3];
    while let Some((sender, n, _)) = items.next().await.unwrap() {
        assert_eq!(n, next[sender as usize]);
        next[sender as usize] += 1;
    }
    assert_eq!(next, [EACH; 3]);
}

/// Answers each call with two good items and one that is cut short.
struct Malformed;

impl StreamHandler for Malformed {
    fn handle(&self, mut incoming: Incoming, _: &mut Turn) {
        let mut pack = Pack::default();
        for message in [&[0x01][..], &[0x02], &[0x92, 0x03]] {
            let pushed = pack.push_with(|out, _| {
                out.extend_from_slice(message);
                Ok::<_, ()>(())
            });
            assert_eq!(pushed, Ok(None));
        }
        incoming.send.send_pack(&mut pack).unwrap();
        tokio::spawn(async move { incoming.send.ended().await });
    }
}

#[tokio::test]
async fn malformed_items_end_the_stream_behind_the_good_ones() {
    let memory = InMemory::new();
    let acceptor = memory.listen().unwrap();
    let address = acceptor.local_addr();
    let identity = Identity::default();
    let _listener =
        Listener::start(acceptor, identity, ListenerConfig::default(), Arc::new(Malformed)).unwrap();
    let fixed = Fixed::new().with("s", &[address.to_string()]).unwrap();
    let client = Client::new(
        Arc::new(fixed),
        memory.network().connector(),
        ClientConfig::default(),
    )
    .unwrap();
    let mut items = client.stream::<(), u8>("s", "any", &()).receive().await.unwrap();
    assert_eq!(items.next().await.unwrap(), Some(1));
    assert_eq!(items.next().await.unwrap(), Some(2));
    for _ in 0..2 {
        let error = items.next().await.unwrap_err();
        assert!(
            matches!(error.failure(), CallFailure::Stream(StreamError::BadItems(_))),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn results_are_forwarded_up_to_the_first_error_which_comes_back() {
    let world = InMemory::new();
    let methods = Methods::new()
        .bidi("mirror", |_: (), rows: In<u64>, out: Out<u64>| async move {
            Ok(out.forward(rows).await?)
        })
        .bidi("until", |_: (), rows: In<u64>, out: Out<u64>| async move {
            let rows = rows.map(|row| match row? {
                1000 => Err(Fault::internal("a thousand")),
                row => Ok(2 * row),
            });
            out.forward(rows).await
        });
    world.serve("svc", methods).await.unwrap();
    let client = world.client().unwrap();
    let call = |method| {
        client
            .stream::<u64, u64>("svc", method, &())
            .input(stream::iter(0..3000))
    };

    let rows: Vec<u64> = call("mirror").await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(rows, (0..3000).collect::<Vec<u64>>());

    let mut rows = call("until").await.unwrap();
    for row in 0..1000 {
        assert_eq!(rows.next().await.unwrap(), Some(2 * row));
    }
    let error = rows.next().await.unwrap_err();
    assert!(error.to_string().contains("until"), "{error}");
    assert!(matches!(error.failure(), CallFailure::Fault(fault) if fault.text() == "a thousand"));
}

#[tokio::test]
async fn an_item_is_sent_when_it_is_awaited_and_not_before() {
    let world = InMemory::new();
    world
        .serve(
            "svc",
            Methods::new().bidi("mirror", |_: (), rows: In<u64>, out: Out<u64>| async move {
                Ok(out.forward(rows).await?)
            }),
        )
        .await
        .unwrap();
    let client = world.client().unwrap();
    let (out, mut back) = client.stream::<u64, u64>("svc", "mirror", &()).await.unwrap();
    drop(out.send(1));
    out.send(2).await.unwrap();
    drop(out.send(3));
    out.finish().unwrap();
    assert_eq!(back.next().await.unwrap(), Some(2));
    assert_eq!(back.next().await.unwrap(), None);
}

/// What feeds the input waits for room in its channel between items that came together: the input goes on with each.
#[tokio::test]
async fn replies_that_feed_the_input_do_not_wait_for_themselves() {
    let world = InMemory::new();
    let methods = Methods::new().bidi("many", |_: (), mut rows: In<u64>, out: Out<u64>| async move {
        out.send_all(stream::iter(0..64)).await?;
        while rows.next().await?.is_some() {}
        Ok(())
    });
    world.serve("svc", methods).await.unwrap();
    let client = world.client().unwrap();
    let (feed, fed) = channel(1);
    let call = client.stream::<u64, u64>("svc", "many", &()).input(fed);
    let mut rows = call.await.unwrap();
    for row in 0..64 {
        assert_eq!(rows.next().await.unwrap(), Some(row));
        tokio::time::timeout(Duration::from_secs(10), feed.send(row))
            .await
            .expect("the input goes on")
            .unwrap();
    }
    drop(feed);
    assert_eq!(rows.next().await.unwrap(), None);
}

/// A channel and its stream.
fn channel(room: usize) -> (tokio::sync::mpsc::Sender<u64>, impl Stream<Item = u64> + Send) {
    let (feed, mut fed) = tokio::sync::mpsc::channel(room);
    (feed, stream::poll_fn(move |cx| fed.poll_recv(cx)))
}
