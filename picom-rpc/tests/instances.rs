//! Which instances calls go to, as discovery and connections tell of them: in turn, by key, while the registry is late,
//! away, wrong or has lost everything.

use picom_discovery::ServiceName;
use picom_rpc::testing::InMemory;
use picom_rpc::{CallFailure, ClientConfig, Methods, Outcome};
use std::collections::BTreeSet;
use std::time::Duration;

fn who(name: &'static str) -> Methods {
    Methods::new().unary("who", move |_: ()| async move { Ok(name) })
}

fn service() -> ServiceName {
    ServiceName::new("s").unwrap()
}

#[tokio::test]
async fn instances_are_chosen_in_turn_on_request() {
    let memory = InMemory::new();
    for name in ["one", "two", "three"] {
        memory.serve("s", who(name)).await.unwrap();
    }
    let mut config = ClientConfig::default();
    config.balance = picom_rpc::Balance::RoundRobin;
    let client = memory.client_with(config).unwrap();
    while client.status().first().is_none_or(|status| {
        status
            .endpoints
            .iter()
            .filter(|e| e.state == picom_rpc::EndpointState::Ready)
            .count()
            < 3
    }) {
        client.fetch::<String>("s", "who", &()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut seen = Vec::new();
    for _ in 0..9 {
        seen.push(client.fetch::<String>("s", "who", &()).await.unwrap());
    }
    for turn in seen.chunks(3) {
        assert_eq!(turn.iter().collect::<BTreeSet<_>>().len(), 3, "{seen:?}");
    }
}

#[tokio::test]
async fn calls_with_one_key_go_to_one_instance_from_every_client() {
    let memory = InMemory::new();
    for name in ["one", "two", "three", "four"] {
        memory.serve("s", who(name)).await.unwrap();
    }
    let (here, there) = (memory.client().unwrap(), memory.client().unwrap());
    let mut owners = BTreeSet::new();
    for customer in 0..20 {
        let key = format!("customer-{customer}");
        let owner: String = here.fetch("s", "who", &()).key(&key).await.unwrap();
        for _ in 0..3 {
            assert_eq!(
                here.fetch::<String>("s", "who", &()).key(&key).await.unwrap(),
                owner
            );
            assert_eq!(
                there.fetch::<String>("s", "who", &()).key(&key).await.unwrap(),
                owner
            );
        }
        owners.insert(owner);
    }
    assert!(owners.len() > 1, "the keys are spread");
}

#[tokio::test(start_paused = true)]
async fn while_discovery_has_not_answered_calls_wait_within_their_time() {
    let memory = InMemory::new();
    memory.registry().fail_unavailable();
    memory.serve("s", who("one")).await.unwrap();
    let client = memory.client().unwrap();
    let begun = tokio::time::Instant::now();
    let error = client
        .fetch::<String>("s", "who", &())
        .timeout(Duration::from_secs(2))
        .await
        .unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert!(
        matches!(error.failure(), CallFailure::Discovery(Some(_))),
        "{error:?}"
    );
    assert!(error.is_timeout() && error.is_unavailable());
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.fetch::<String>("s", "who", &()).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    memory.registry().recover();
    assert_eq!(waiting.await.unwrap().unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_is_waited_for_on_request_alone() {
    let memory = InMemory::new();
    let client = memory.client().unwrap();
    let begun = tokio::time::Instant::now();
    let error = client.fetch::<String>("s", "who", &()).await.unwrap_err();
    assert!(error.is_unknown_service());
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.fetch::<String>("s", "who", &()).wait_for_ready().await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!waiting.is_finished());
    let server = memory.serve("s", who("one")).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "one");
    // Registered, but nobody can connect: waited for as well.
    server.end().await;
    memory.serve("s", who("two")).await.unwrap();
    memory.network().refuse("memory:2");
    let waiting = tokio::spawn({
        let client = memory.client().unwrap();
        async move {
            client
                .fetch::<String>("s", "who", &())
                .wait_for_ready()
                .no_timeout()
                .await
        }
    });
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!waiting.is_finished());
    memory.network().heal("memory:2");
    assert_eq!(waiting.await.unwrap().unwrap(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_lost_everything_does_not_stop_calls_that_work() {
    let memory = InMemory::new();
    let server = memory.serve("s", who("one")).await.unwrap();
    let client = memory.client().unwrap();
    let mut config = ClientConfig::default();
    config.strict = true;
    let strict = memory.client_with(config).unwrap();
    for client in [&client, &strict] {
        client.fetch::<String>("s", "who", &()).await.unwrap();
    }
    let id = memory.registry().registrations()[0].id().to_owned();
    assert!(memory.registry().remove(&service(), &id));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "one");
    assert!(
        strict
            .fetch::<String>("s", "who", &())
            .await
            .unwrap_err()
            .is_unknown_service()
    );
    memory.registry().beat();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "one");
    assert!(memory.registry().remove(&service(), &id));
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(
        client
            .fetch::<String>("s", "who", &())
            .await
            .unwrap_err()
            .is_unknown_service()
    );
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_does_not_stop_calls() {
    let memory = InMemory::new();
    memory.serve("s", who("one")).await.unwrap();
    let client = memory.client().unwrap();
    client.fetch::<String>("s", "who", &()).await.unwrap();
    memory.registry().fail_unavailable();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "one");
    let status = client.status();
    assert!(
        status[0].discovery_error.is_some() && status[0].known,
        "{status:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_called_any_more_is_not_watched_any_more() {
    let memory = InMemory::new();
    memory.serve("s", who("one")).await.unwrap();
    let client = memory.client().unwrap();
    client.fetch::<String>("s", "who", &()).await.unwrap();
    assert_eq!(client.status().len(), 1);
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert!(client.status().is_empty());
    assert_eq!(client.fetch::<String>("s", "who", &()).await.unwrap(), "one");
}

#[tokio::test]
async fn a_process_that_took_over_an_address_is_not_called_for_its_predecessor() {
    let memory = InMemory::new();
    memory.serve("other", who("stranger")).await.unwrap();
    // A stale entry says that an instance of "s" is at the address that "other" has now.
    let stale = picom_discovery::Instance::at(service(), "memory", 1).native(1);
    memory.registry().set(&service(), [stale]);
    let client = memory.client().unwrap();
    let error = client
        .fetch::<String>("s", "who", &())
        .retries(0)
        .await
        .unwrap_err();
    assert!(
        matches!(error.failure(), CallFailure::Unreachable(_)),
        "{error:?}"
    );
    assert_eq!(error.outcome(), Outcome::NeverSent);
    assert!(format!("{error:?}").contains("wrong-peer"), "{error:?}");
    assert_eq!(
        client.fetch::<String>("other", "who", &()).await.unwrap(),
        "stranger"
    );
}

#[tokio::test]
async fn another_process_of_the_same_service_at_a_reused_address_is_told_apart() {
    let memory = InMemory::new();
    memory.serve("s", who("new")).await.unwrap();
    let mut stale = picom_discovery::Instance::at(service(), "memory", 1).native(1);
    stale
        .meta
        .insert(picom_discovery::META_UUID.into(), "the process before".into());
    let fresh = memory.registry().registrations()[0].id().to_owned();
    assert!(memory.registry().remove(&service(), &fresh));
    memory.registry().set(&service(), [stale]);
    let client = memory.client().unwrap();
    let error = client
        .fetch::<String>("s", "who", &())
        .retries(0)
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("wrong-peer"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_one_instance_has_slots_for_wait_their_turn() {
    let memory = InMemory::new();
    let mut config = picom_rpc::ServerConfig::default();
    config.listener.connection.stream_limit = 8;
    let methods = Methods::new().unary("nap", |n: u64| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(n)
    });
    memory.serve_with("s", methods, config).await.unwrap();
    let client = memory.client().unwrap();
    let calls: Vec<_> = (0..1000u64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.fetch::<u64>("s", "nap", &n).await })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), n as u64);
    }
}

/// Streams that nobody ends hold slots; calls that wait for others must not stand behind them, nor count attempts.
#[tokio::test(start_paused = true)]
async fn calls_do_not_wait_behind_streams_that_live_for_ever() {
    let memory = InMemory::new();
    let mut config = picom_rpc::ServerConfig::default();
    config.listener.connection.stream_limit = 4;
    let methods = Methods::new()
        .stream("watch", |_: ()| async move {
            Ok(futures_util::stream::pending::<Result<u64, picom_rpc::Fault>>())
        })
        .unary("nap", |n: u64| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(n)
        });
    memory.serve_with("s", methods, config).await.unwrap();
    let client = memory.client().unwrap();
    // Of the 16 slots that there can be, 15 are taken for good.
    let mut watches = Vec::new();
    for _ in 0..15 {
        watches.push(
            client
                .stream::<(), u64>("s", "watch", &())
                .receive()
                .await
                .unwrap(),
        );
    }
    let begun = tokio::time::Instant::now();
    let calls: Vec<_> = (0..100u64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.fetch::<u64>("s", "nap", &n).retries(0).await })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), n as u64);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // A stream waits for a slot, too, and gets the next that becomes free.
    let last = client
        .stream::<(), u64>("s", "watch", &())
        .receive()
        .await
        .unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .stream::<(), u64>("s", "watch", &())
                .receive()
                .await
                .map(drop)
        }
    });
    let queued = tokio::spawn({
        let client = client.clone();
        async move { client.fetch::<u64>("s", "nap", &7).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!waiting.is_finished() && !queued.is_finished());
    drop(last);
    waiting.await.unwrap().unwrap();
    assert_eq!(queued.await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn calls_and_streams_that_wait_for_slots_share_them_without_a_pause() {
    let memory = InMemory::new();
    let mut config = picom_rpc::ServerConfig::default();
    config.listener.connection.stream_limit = 4;
    let nap = || tokio::time::sleep(Duration::from_millis(20));
    let methods = Methods::new()
        .unary("nap", move |n: u64| async move {
            nap().await;
            Ok(n)
        })
        .stream("naps", move |n: u64| async move {
            nap().await;
            Ok(futures_util::stream::iter([Ok(n)]))
        });
    memory.serve_with("s", methods, config).await.unwrap();
    let client = memory.client().unwrap();
    let begun = tokio::time::Instant::now();
    let calls: Vec<_> = (0..600u64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                if n % 3 == 0 {
                    let mut items = client.stream::<(), u64>("s", "naps", &n).receive().await?;
                    let item = items.next().await?;
                    assert_eq!(items.next().await?, None);
                    Ok(item)
                } else {
                    client.fetch::<u64>("s", "nap", &n).await.map(Some)
                }
            })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), Some(n as u64));
    }
    // 600 naps of 20 ms in 16 slots take three quarters of a second.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// A call stood in the line of a connection whose streams live for ever. When others have room, those that follow use it.
#[tokio::test(start_paused = true)]
async fn calls_do_not_follow_one_into_a_line_that_does_not_move() {
    let memory = InMemory::new();
    let mut config = picom_rpc::ServerConfig::default();
    config.listener.connection.stream_limit = 4;
    let methods = Methods::new()
        .stream("watch", |_: ()| async move {
            Ok(futures_util::stream::pending::<Result<u64, picom_rpc::Fault>>())
        })
        .unary("echo", |n: u64| async move { Ok(n) });
    memory.serve_with("s", methods, config).await.unwrap();
    let client = memory.client().unwrap();
    let mut watches = Vec::new();
    for _ in 0..16 {
        let watch = client.stream::<(), u64>("s", "watch", &()).receive();
        watches.push(watch.await.unwrap());
    }
    let fetch = |n: u64| {
        let client = client.clone();
        tokio::spawn(async move { client.fetch::<u64>("s", "echo", &n).await })
    };
    let first = fetch(1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!first.is_finished());
    watches.truncate(4);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let begun = tokio::time::Instant::now();
    for n in 2..40 {
        assert_eq!(fetch(n).await.unwrap().unwrap(), n);
    }
    assert!(
        begun.elapsed() < Duration::from_millis(50),
        "{:?}",
        begun.elapsed()
    );
    // It was in the wrong line, and leaves it after a second.
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
