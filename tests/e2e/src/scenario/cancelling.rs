//! Calls that are given up: whoever works on them at the other process learns of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::patience::within;
use crate::protocol::{Call, Command, Event};
use crate::signal::Signal;
use crate::world::{SOON, World};

/// Dropping the future of a call drops its handler at the other process, long before its deadline.
pub async fn dropping_a_call_drops_its_handler(world: &World) {
    let service = world.name("dropped");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    let order = caller.order(Command::Fetch(Call::new(&service, "hang", "the call")));
    server.node.event(SOON, Event::Begun("the call".into())).await;
    caller.tell(Command::Cancel(order.number)).await.unwrap();
    server.node.event(SOON, Event::Dropped("the call".into())).await;
    let sum: i64 = caller
        .fetch(Call::new(&service, "add", json!({ "a": 1, "b": 2 })))
        .await
        .unwrap();
    assert_eq!(sum, 3, "the connection has taken no harm");
}

/// A stream that nobody reads any more stops at its source.
pub async fn dropping_the_receiver_stops_the_sender(world: &World) {
    let service = world.name("forever");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    let stream = caller.open(Call::new(&service, "forever", "the stream")).await;
    let some: Vec<u64> = caller.ask(Command::Receive(stream, 3)).await.unwrap();
    assert_eq!(some, [0, 1, 2]);
    caller.tell(Command::DropReceiver(stream)).await.unwrap();
    server.node.event(SOON, Event::Dropped("the stream".into())).await;
}

/// Input that was dropped before its end never looks complete to the handler.
pub async fn input_cut_short_never_looks_complete(world: &World) {
    let service = world.name("input");
    let server = world.server(&service).await;
    let caller = world.caller().await;

    let cut = caller.open(Call::new(&service, "collect", "cut")).await;
    caller
        .tell(Command::Send(cut, vec![json!(1), json!(2)]))
        .await
        .unwrap();
    server.node.event(SOON, Event::Begun("cut".into())).await;
    caller.tell(Command::DropSender(cut)).await.unwrap();
    server.node.event(SOON, Event::Dropped("cut".into())).await;
    assert!(
        caller.ask::<Vec<Value>>(Command::Receive(cut, 1)).await.is_err(),
        "a cut call has no reply"
    );

    let whole = caller.open(Call::new(&service, "collect", "whole")).await;
    caller
        .tell(Command::Send(whole, vec![json!(1), json!(2)]))
        .await
        .unwrap();
    caller.tell(Command::Finish(whole)).await.unwrap();
    server.node.event(SOON, Event::Completed("whole".into())).await;
    let both: Vec<Value> = caller.ask(Command::Receive(whole, 1)).await.unwrap();
    assert_eq!(both, [json!([1, 2])]);
    assert_eq!(server.node.take_all(&Event::Completed("cut".into())), 0);
}

/// When a caller's process is killed, what it had begun is dropped.
pub async fn a_killed_caller_leaves_no_handler_behind(world: &World) {
    let service = world.name("orphans");
    let server = world.server(&service).await;
    let mut caller = world.caller().await;
    let _call = caller.order(Command::Fetch(Call::new(&service, "hang", "call")));
    let stream = caller.open(Call::new(&service, "forever", "stream")).await;
    let _: Vec<u64> = caller.ask(Command::Receive(stream, 1)).await.unwrap();
    server.node.event(SOON, Event::Begun("call".into())).await;
    caller.signal(Signal::Kill);
    caller.exit(SOON).await;
    server.node.event(SOON, Event::Dropped("call".into())).await;
    server.node.event(SOON, Event::Dropped("stream".into())).await;
    // A handler tells when it is dropped; its place is free right behind that.
    let idle = async { while server.node.status().await.unwrap().handling > 0 {} };
    within(SOON, "the places of both to be free", idle).await;
}

/// When a caller's process halts without a word, the service notices by itself and drops what it had begun.
pub async fn a_halted_caller_is_noticed(world: &World) {
    let service = world.name("halted-caller");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    let call = Call::new(&service, "hang", "call").within(Duration::from_secs(300));
    let _call = caller.order(Command::Fetch(call));
    server.node.event(SOON, Event::Begun("call".into())).await;
    caller.halt().await;
    // A ping every 2 s while calls are open, and a pong within 1 s.
    server.node.event(SOON, Event::Dropped("call".into())).await;
    caller.go_on().await;
}
