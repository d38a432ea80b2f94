//! `end()` while calls run: what was begun is finished, within bounds, and nothing is left behind.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;

use crate::protocol::{Call, Command, Event, Identity, Ran, Report, Settings};
use crate::signal::Signal;
use crate::world::{SOON, World};

/// Calls and streams under way get their replies; then Consul has nothing of the service, nobody listens on its port,
/// and a new call says that the service is down.
pub async fn replies_arrive_while_a_service_ends(world: &World) {
    let service = world.name("ends");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    let names: Vec<String> = (0..10).map(|number| format!("call {number}")).collect();
    let calls: Vec<_> = names
        .iter()
        .map(|name| {
            let args = json!({ "name": name, "ms": 1500 });
            caller.order(Command::Fetch(Call::new(&service, "slow", args)))
        })
        .collect();
    let stream = caller.open(Call::new(&service, "mirror", ())).await;
    caller
        .tell(Command::Send(stream, vec![json!("before")]))
        .await
        .unwrap();
    for name in &names {
        server.node.event(SOON, Event::Begun(name.clone())).await;
    }
    let before: Vec<String> = caller.ask(Command::Receive(stream, 1)).await.unwrap();
    assert_eq!(before, ["before"]);

    let ending = server.node.order(Command::End);
    world.until_gone(&service).await;
    // It has left Consul; the stream goes on both ways.
    caller
        .tell(Command::Send(stream, vec![json!("meanwhile")]))
        .await
        .unwrap();
    let meanwhile: Vec<String> = caller.ask(Command::Receive(stream, 1)).await.unwrap();
    assert_eq!(meanwhile, ["meanwhile"]);
    for call in calls {
        let who: Identity = call.answer().await.expect("a call that was begun is answered");
        assert_eq!(who.instance, server.instance);
    }
    caller.tell(Command::Finish(stream)).await.unwrap();
    let rest: Vec<String> = caller.ask(Command::Receive(stream, 1)).await.unwrap();
    assert!(rest.is_empty());

    let report: Report = ending.answer().await.unwrap();
    assert_eq!(
        report,
        Report {
            left_registered: false,
            cut: 0
        }
    );
    assert!(
        TcpStream::connect(&server.listens).await.is_err(),
        "somebody listens on {}",
        server.listens
    );
    let failure = caller
        .fetch::<Identity>(Call::new(&service, "whoami", ()))
        .await
        .unwrap_err();
    assert!(
        failure.unavailable && failure.outcome == Some(Ran::NeverSent),
        "{failure:?}"
    );
}

/// What does not finish in the time set is cut, told to its caller, and counted in the report.
pub async fn what_does_not_finish_is_cut_and_counted(world: &World) {
    let service = world.name("cut-off");
    let short = Some(Duration::from_millis(300));
    let settings = Settings {
        drain_timeout: short,
        keep_accepting: Some(Duration::ZERO),
        ..world.settings(&service)
    };
    let server = world.server_with(settings).await;
    let caller = world.caller().await;
    let names = ["one", "two", "three"];
    let calls = names.map(|name| caller.order(Command::Fetch(Call::new(&service, "hang", name))));
    for name in names {
        server.node.event(SOON, Event::Begun(name.into())).await;
    }
    let report = server.node.end().await.unwrap();
    assert_eq!(
        report,
        Report {
            left_registered: false,
            cut: 3
        }
    );
    for call in calls {
        let failure = call.answer::<Identity>().await.expect_err("it never ends");
        assert!(
            matches!(failure.outcome, Some(Ran::Maybe | Ran::Yes)),
            "{failure:?}"
        );
    }
    for name in names {
        server.node.event(SOON, Event::Dropped(name.into())).await;
    }
}

/// A service that is told to end by SIGTERM finishes what it has begun and exits with success.
pub async fn sigterm_ends_a_service_in_order(world: &World) {
    let service = world.name("sigterm");
    let mut server = world.server_until_signal(world.settings(&service)).await;
    let caller = world.caller().await;
    let call = Call::new(&service, "slow", json!({ "name": "call", "ms": 500 }));
    let order = caller.order(Command::Fetch(call));
    server.node.event(SOON, Event::Begun("call".into())).await;
    server.node.signal(Signal::Terminate);
    let who: Identity = order.answer().await.expect("a call that was begun is answered");
    assert_eq!(who.instance, server.instance);
    server
        .node
        .event(
            SOON,
            Event::Ended(Report {
                left_registered: false,
                cut: 0,
            }),
        )
        .await;
    assert!(server.node.exit(SOON).await.success());
    world.until_gone(&service).await;
}

/// Who tells a service a second time does not want to wait: what is under way is cut, counted, and told to its caller.
pub async fn a_second_sigterm_waits_for_nothing(world: &World) {
    let service = world.name("impatient");
    let mut server = world.server_until_signal(world.settings(&service)).await;
    let caller = world.caller().await;
    let call = Call::new(&service, "hang", "call").within(Duration::from_secs(300));
    let order = caller.order(Command::Fetch(call));
    server.node.event(SOON, Event::Begun("call".into())).await;
    server.node.signal(Signal::Terminate);
    // It has left Consul: the first signal was heard.
    world.until_gone(&service).await;
    server.node.signal(Signal::Terminate);
    let cut = Report {
        left_registered: false,
        cut: 1,
    };
    server.node.event(SOON, Event::Ended(cut)).await;
    assert!(server.node.exit(SOON).await.success());
    let failure = order.answer::<Identity>().await.expect_err("it never ends");
    assert!(
        matches!(failure.outcome, Some(Ran::Maybe | Ran::Yes)),
        "{failure:?}"
    );
}

/// A node that has ended makes no more calls and says why.
pub async fn who_has_ended_makes_no_more_calls(world: &World) {
    let service = world.name("asked");
    let _server = world.server(&service).await;
    let caller = world.caller().await;
    let _: Identity = caller.fetch(Call::new(&service, "whoami", ())).await.unwrap();
    caller.end().await.unwrap();
    let failure = caller
        .fetch::<Identity>(Call::new(&service, "whoami", ()))
        .await
        .unwrap_err();
    assert_eq!(failure.outcome, Some(Ran::NeverSent), "{failure:?}");
    assert!(failure.text.contains("ended"), "{failure}");
}
