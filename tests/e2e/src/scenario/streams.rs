//! Calls with streams, between processes: order, ends, errors behind items, back-pressure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::patience::within;
use crate::protocol::{Call, Command, Event, Identity, POURED};
use crate::world::{SOON, World};

/// More than a first window and many frames hold.
const MANY: u64 = 5_000;

/// A stream from the service arrives in order and whole; `fetch` gives its first item, `fetch_all` all.
pub async fn a_stream_arrives_in_order_and_whole(world: &World) {
    let service = world.name("count");
    let _server = world.server(&service).await;
    let caller = world.caller().await;
    let all: Vec<u64> = caller
        .fetch_all(Call::new(&service, "count", MANY))
        .await
        .unwrap();
    assert!(
        all.iter().copied().eq(0..MANY),
        "{} items, in another order",
        all.len()
    );
    let none: Vec<u64> = caller.fetch_all(Call::new(&service, "count", 0)).await.unwrap();
    assert!(none.is_empty());
    let first: u64 = caller.fetch(Call::new(&service, "count", 3)).await.unwrap();
    assert_eq!(first, 0);

    let stream = caller.open(Call::new(&service, "count", MANY)).await;
    let mut expected = 0..MANY;
    loop {
        let some: Vec<u64> = caller.ask(Command::Receive(stream, 700)).await.unwrap();
        if some.is_empty() {
            break;
        }
        assert!(some.into_iter().all(|item| Some(item) == expected.next()));
    }
    assert_eq!(expected.next(), None, "the stream ended where it should");
}

/// An error behind the items of a stream comes behind them, and makes a `fetch` of the first item an error.
pub async fn an_error_behind_items_is_not_taken_for_the_end(world: &World) {
    let service = world.name("cut");
    let _server = world.server(&service).await;
    let caller = world.caller().await;
    let call = || Call::new(&service, "count_then_fail", 100);
    let stream = caller.open(call()).await;
    let mut items = Vec::<u64>::new();
    let failure = loop {
        match caller.ask::<Vec<u64>>(Command::Receive(stream, 7)).await {
            Ok(some) => {
                assert!(
                    !some.is_empty(),
                    "the stream seemed complete after {} items",
                    items.len()
                );
                items.extend(some);
            }
            Err(failure) => break failure,
        }
    };
    assert_eq!(items, (0..100).collect::<Vec<u64>>());
    assert_eq!(failure.left, Some(100), "{failure}");
    assert_eq!(caller.fetch::<u64>(call()).await.unwrap_err().left, Some(100));
    assert_eq!(caller.fetch_all::<u64>(call()).await.unwrap_err().left, Some(100));
}

/// A stream to the service is taken whole, and answered when it has ended.
pub async fn a_stream_of_input_is_answered_at_its_end(world: &World) {
    let service = world.name("sum");
    let _server = world.server(&service).await;
    let caller = world.caller().await;
    let stream = caller.open(Call::new(&service, "sum", ())).await;
    // The numbers of gRPC's test of the same kind.
    caller
        .tell(Command::Send(
            stream,
            vec![json!(27_182), json!(8), json!(1_828), json!(45_904)],
        ))
        .await
        .unwrap();
    caller.tell(Command::Finish(stream)).await.unwrap();
    let sum: Vec<i64> = caller.ask(Command::Receive(stream, 2)).await.unwrap();
    assert_eq!(sum, [74_922]);

    let empty = caller.open(Call::new(&service, "sum", ())).await;
    caller.tell(Command::Finish(empty)).await.unwrap();
    let sum: Vec<i64> = caller.ask(Command::Receive(empty, 2)).await.unwrap();
    assert_eq!(sum, [0]);
}

/// Both sides speak in turn on one call, and each hears what the other just said.
pub async fn both_sides_speak_in_turn(world: &World) {
    let service = world.name("mirror");
    let _server = world.server(&service).await;
    let caller = world.caller().await;
    let stream = caller.open(Call::new(&service, "mirror", ())).await;
    for turn in 0..100 {
        let said = json!({ "turn": turn, "text": "x".repeat(turn * 50) });
        caller
            .tell(Command::Send(stream, vec![said.clone()]))
            .await
            .unwrap();
        let heard: Vec<Value> = caller.ask(Command::Receive(stream, 1)).await.unwrap();
        assert_eq!(heard, [said]);
    }
    caller.tell(Command::Finish(stream)).await.unwrap();
    let end: Vec<Value> = caller.ask(Command::Receive(stream, 1)).await.unwrap();
    assert!(
        end.is_empty(),
        "the end of one side was the end of the other: {end:?}"
    );
}

/// A reader that does not read halts its own stream's sender, and nobody else on the connection.
pub async fn a_reader_that_does_not_read_halts_its_own_sender_only(world: &World) {
    let service = world.name("slow-reader");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    let stream = caller.open(Call::new(&service, "pour", "the flood")).await;
    let first: Vec<Value> = caller.ask(Command::Receive(stream, 1)).await.unwrap();
    assert_eq!(first.len(), 1);
    // The sender tells of each item before it goes; when nothing is told for a while it has halted.
    let mut poured = 0;
    let halt = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            match server.node.take_all(&Event::Said("poured".into())) {
                0 => return,
                more => poured += more,
            }
        }
    };
    within(SOON, "the sender to halt", halt).await;
    assert!(
        poured * POURED < 4 << 20,
        "{poured} items of {POURED} bytes went to a reader that does not read"
    );
    for _ in 0..100 {
        let _: Identity = caller
            .fetch(Call::new(&service, "whoami", ()).within(SOON))
            .await
            .unwrap();
    }
    // It goes on when it is read again.
    let mut read = 0;
    while read < 2 * poured {
        let some: Vec<Value> = caller.ask(Command::Receive(stream, 16)).await.unwrap();
        assert!(!some.is_empty(), "the flood has no end");
        read += some.len();
    }
    caller.tell(Command::DropReceiver(stream)).await.unwrap();
    server.node.event(SOON, Event::Dropped("the flood".into())).await;
}
