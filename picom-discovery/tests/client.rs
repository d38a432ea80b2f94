//! The Consul client against the embedded dev agent: a whole registration and what watchers see of it, through faults
//! and restarts. On a virtual clock, but for the test about a runtime that is really blocked.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use picom_discovery::consul::{ByteStream, Consul, ConsulConfig, Dial};
use picom_discovery::dev_agent::{
    Calls, Compat, DevAgent, DevAgentConfig, Failure, Faults, InMemoryAgent, IndexFault, Restart,
};
use picom_discovery::{
    AliveProbe, Discovery, Freshness, Health, Lane, Lease, LeaseState, OnUnavailable, Registration,
    ServiceName, Snapshot, Watch,
};
use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct ToAgent(Arc<InMemoryAgent>);

#[async_trait]
impl Dial for ToAgent {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(self.0.connect()?))
    }
}

/// An agent and two processes that use it.
struct World {
    agent: Arc<InMemoryAgent>,
    server: Consul,
    caller: Consul,
}

impl World {
    fn new(compat: Compat) -> Self {
        let agent = Arc::new(DevAgent::in_memory(DevAgentConfig {
            compat,
            seed: Some(1),
            ..DevAgentConfig::default()
        }));
        let client = |seed| {
            let mut config = ConsulConfig::new("agent.test", 8500);
            (config.lane, config.seed) = (Lane::Inline, Some(seed));
            Consul::with_dial(config, Arc::new(ToAgent(agent.clone()))).unwrap()
        };
        Self {
            server: client(1),
            caller: client(2),
            agent,
        }
    }

    fn faults(&self) -> Faults {
        self.agent.faults()
    }

    async fn register(&self, port: u16) -> Lease {
        self.server
            .register(registration(port), OnUnavailable::Fail)
            .await
            .unwrap()
    }

    fn watch(&self) -> Watch {
        self.caller.watch(&name())
    }
}

fn name() -> ServiceName {
    ServiceName::new("svc").unwrap()
}

fn registration(port: u16) -> Registration {
    Registration::new(name(), "127.0.0.1", port).unwrap()
}

fn ports(snapshot: &Arc<Snapshot>) -> Vec<u16> {
    let mut ports: Vec<_> = snapshot.usable().map(|one| one.port).collect();
    ports.sort_unstable();
    ports
}

/// Waits until the watch shows what is wanted, and says how long that took.
async fn until(watch: &mut Watch, within: Duration, wanted: impl Fn(&Arc<Snapshot>) -> bool) -> Duration {
    let begun = Instant::now();
    let waiting = async {
        let mut latest = watch.latest();
        while !wanted(&latest) {
            latest = watch.changed().await;
        }
    };
    if timeout(within, waiting).await.is_err() {
        panic!("not within {within:?}: {:?}", watch.latest());
    }
    begun.elapsed()
}

/// Every snapshot of the next while, all of which must keep the promise.
async fn throughout(watch: &mut Watch, time: Duration, promise: impl Fn(&Arc<Snapshot>) -> bool) {
    let end = Instant::now() + time;
    let mut latest = watch.latest();
    loop {
        assert!(promise(&latest), "{latest:?}");
        match tokio::time::timeout_at(end, watch.changed()).await {
            Ok(next) => latest = next,
            Err(_) => return,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_is_seen_stays_and_is_gone_after_its_end() {
    for compat in [Compat::V1_8, Compat::V1_11] {
        let world = World::new(compat);
        let mut watch = world.watch();
        assert!(watch.ready().await.instances.is_empty());
        let lease = world.register(9000).await;
        let took = until(&mut watch, SECOND, |now| ports(now) == [9000]).await;
        assert!(took <= SECOND / 10, "{took:?}");
        let seen = watch.latest().instances[0].clone();
        assert_eq!(
            (&*seen.id, seen.uuid().is_some(), seen.weight),
            (lease.id(), true, 1)
        );
        let revision = watch.latest().revision;
        sleep(600 * SECOND).await;
        assert_eq!(watch.latest().revision, revision, "heartbeats wake nobody");
        lease.end(5 * SECOND).await.unwrap();
        until(&mut watch, SECOND, |now| now.instances.is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn odd_ids_register_beat_and_deregister() {
    for compat in [Compat::V1_8, Compat::V1_11] {
        let world = World::new(compat);
        let odd = registration(9000).with_id("a/b c%25ö?x#y&z").unwrap();
        let lease = world.server.register(odd, OnUnavailable::Fail).await.unwrap();
        sleep(120 * SECOND).await;
        assert!(matches!(lease.state(), LeaseState::Passing));
        assert_eq!(ports(&world.watch().ready().await), [9000]);
        lease.end(5 * SECOND).await.unwrap();
        assert!(world.watch().ready().await.instances.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_its_memory_is_registered_with_again_in_time() {
    for (compat, how) in [
        (Compat::V1_8, Restart::Killed),
        (Compat::V1_8, Restart::Terminated),
        (Compat::V1_11, Restart::Killed),
    ] {
        let world = World::new(compat);
        let lease = world.register(9000).await;
        let mut watch = world.watch();
        watch.ready().await;
        // So that the new indexes are below the old ones.
        for port in 1..30 {
            world.register(port).await.end(SECOND).await.unwrap();
        }
        world.faults().restart(how);
        let took = until(&mut watch, 30 * SECOND, |now| {
            now.instances.is_empty() || !now.freshness.is_live()
        })
        .await;
        assert!(took <= SECOND, "{took:?}");
        let took = until(&mut watch, 30 * SECOND, |now| {
            now.freshness.is_live() && ports(now) == [9000]
        })
        .await;
        assert!(took <= 12 * SECOND, "heartbeat interval and a second: {took:?}");
        assert!(matches!(lease.state(), LeaseState::Passing));
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_away_empties_nothing_and_is_found_again_within_two_seconds() {
    let world = World::new(Compat::V1_8);
    let lease = world.register(9000).await;
    let mut watch = world.watch();
    watch.ready().await;
    world.faults().go_away();
    until(&mut watch, SECOND, |now| {
        matches!(now.freshness, Freshness::Stale { .. })
    })
    .await;
    throughout(&mut watch, 10 * SECOND, |now| ports(now) == [9000]).await;
    world.faults().come_back();
    let took = until(&mut watch, 2 * SECOND, |now| {
        now.freshness.is_live() && ports(now) == [9000]
    })
    .await;
    assert!(took <= 2 * SECOND);
    sleep(3 * SECOND).await;
    assert!(matches!(lease.state(), LeaseState::Passing));
}

#[tokio::test(start_paused = true)]
async fn a_lost_leader_takes_no_instance_away_and_new_ones_come_with_the_next() {
    let world = World::new(Compat::V1_8);
    let _lease = world.register(9000).await;
    let mut watch = world.watch();
    watch.ready().await;
    world.faults().lose_leader();
    let server = world.server.clone();
    let newcomer = tokio::spawn(async move {
        server
            .register(registration(9001), OnUnavailable::KeepTrying)
            .await
            .unwrap()
    });
    // An election with Consul's default timing.
    throughout(&mut watch, 16 * SECOND, |now| ports(now).contains(&9000)).await;
    world.faults().elect_leader();
    let took = until(&mut watch, 10 * SECOND, |now| {
        now.freshness.is_live() && ports(now) == [9000, 9001]
    })
    .await;
    assert!(took <= 6 * SECOND, "{took:?}");
    throughout(&mut watch, 60 * SECOND, |now| ports(now) == [9000, 9001]).await;
    drop(newcomer.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_heartbeats_fail_is_out_after_its_ttl_and_back_after_the_next() {
    let world = World::new(Compat::V1_8);
    let _lease = world.register(9000).await;
    let mut watch = world.watch();
    watch.ready().await;
    let text = "rpc error making call: EOF".to_owned();
    world.faults().fail(Some(Failure {
        calls: Calls::Agent,
        status: 500,
        text,
        retry_after: None,
    }));
    let took = until(&mut watch, 40 * SECOND, |now| {
        now.instances[0].health == Health::Critical
    })
    .await;
    assert!(took > 19 * SECOND && took <= 31 * SECOND, "{took:?}");
    world.faults().heal();
    let took = until(&mut watch, 40 * SECOND, |now| ports(now) == [9000]).await;
    assert!(took <= 2 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_serve_is_out_at_the_next_heartbeat() {
    let world = World::new(Compat::V1_8);
    let alive = Arc::new(AtomicBool::new(true));
    let asked = alive.clone();
    let probed = registration(9000).with_alive(AliveProbe::new(move || asked.load(Ordering::Relaxed)));
    let _lease = world.server.register(probed, OnUnavailable::Fail).await.unwrap();
    let mut watch = world.watch();
    assert_eq!(ports(&watch.ready().await), [9000]);
    alive.store(false, Ordering::Relaxed);
    until(&mut watch, 12 * SECOND, |now| {
        now.instances[0].health == Health::Critical
    })
    .await;
    alive.store(true, Ordering::Relaxed);
    until(&mut watch, 2 * SECOND, |now| ports(now) == [9000]).await;
}

#[tokio::test(start_paused = true)]
async fn indexes_that_begin_anew_cost_one_wait_at_most() {
    let world = World::new(Compat::V1_8);
    let _lease = world.register(9000).await;
    let mut watch = world.watch();
    watch.ready().await;
    world.faults().reset_index(1);
    let _other = world.register(9001).await;
    // The blocked query has an index ahead of the agent's: nobody can help it before its wait is over.
    let took = until(&mut watch, 70 * SECOND, |now| ports(now) == [9000, 9001]).await;
    assert!(took <= 64 * SECOND, "{took:?}");
    let _third = world.register(9002).await;
    let took = until(&mut watch, SECOND, |now| ports(now).len() == 3).await;
    assert!(took <= SECOND / 10, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_indexes_is_polled_gently() {
    for fault in [IndexFault::Zero, IndexFault::Missing] {
        let world = World::new(Compat::V1_8);
        world.faults().index(Some(fault));
        let mut watch = world.watch();
        watch.ready().await;
        let before = world.agent.counters().requests;
        sleep(60 * SECOND).await;
        let made = world.agent.counters().requests - before;
        assert!((50..=61).contains(&made), "{made}");
        let _lease = world.register(9000).await;
        until(&mut watch, 2 * SECOND, |now| ports(now) == [9000]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_cut_short_keep_what_is_known() {
    let world = World::new(Compat::V1_8);
    let _lease = world.register(9000).await;
    let mut watch = world.watch();
    watch.ready().await;
    world.faults().truncate_bodies(Some(20));
    world.faults().drop_connections();
    throughout(&mut watch, 60 * SECOND, |now| ports(now) == [9000]).await;
    assert!(!watch.latest().freshness.is_live());
    world.faults().heal();
    until(&mut watch, 11 * SECOND, |now| now.freshness.is_live()).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_back_in_time_from_an_agent_that_hangs_and_leaves_nothing() {
    let world = World::new(Compat::V1_8);
    let lease = world.register(9000).await;
    world.faults().pause();
    let begun = Instant::now();
    lease.end(4 * SECOND).await.unwrap_err();
    assert_eq!(begun.elapsed(), 4 * SECOND);
    world.faults().resume();
    let mut watch = world.watch();
    watch.ready().await;
    until(&mut watch, 10 * SECOND, |now| now.instances.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_instance_stays_out_of_service_whatever_the_agent_forgets() {
    for compat in [Compat::V1_8, Compat::V1_11] {
        let world = World::new(compat);
        let lease = world.register(9000).await;
        let mut watch = world.watch();
        assert_eq!(ports(&watch.ready().await), [9000]);
        assert!(lease.drain(SECOND).await);
        until(&mut watch, SECOND, |now| {
            now.instances[0].health == Health::Maintenance
        })
        .await;
        world.faults().forget_state();
        throughout(&mut watch, 120 * SECOND, |now| {
            ports(now).is_empty() || !now.freshness.is_live()
        })
        .await;
        assert_eq!(watch.latest().instances[0].health, Health::Maintenance);
        assert!(matches!(lease.state(), LeaseState::Passing));
        lease.end(5 * SECOND).await.unwrap();
        until(&mut watch, SECOND, |now| now.instances.is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn more_names_than_connections_take_turns_and_all_are_heard() {
    let world = World::new(Compat::V1_8);
    let mut config = ConsulConfig::new("agent.test", 8500);
    (config.lane, config.seed, config.max_watches) = (Lane::Inline, Some(3), 4);
    let caller = Consul::with_dial(config, Arc::new(ToAgent(world.agent.clone()))).unwrap();
    let (mut watches, mut leases) = (Vec::new(), Vec::new());
    for port in 9000..9010 {
        let name = ServiceName::new(format!("svc{port}")).unwrap();
        watches.push(caller.watch(&name));
        watches.last_mut().unwrap().ready().await;
        let one = Registration::new(name, "127.0.0.1", port).unwrap();
        leases.push(world.server.register(one, OnUnavailable::Fail).await.unwrap());
    }
    for watch in &mut watches {
        until(watch, 6 * SECOND, |now| ports(now).len() == 1).await;
    }
    sleep(31 * SECOND).await; // New registrations are beaten more often.
    let before = world.agent.counters();
    throughout(&mut watches[0], 60 * SECOND, |now| now.freshness.is_live()).await;
    assert!(watches.iter().all(|watch| watch.latest().freshness.is_live()));
    let after = world.agent.counters();
    assert!(after.blocked <= 4 && after.requests - before.requests <= 340);
}

#[tokio::test(start_paused = true)]
async fn the_last_watch_leaves_no_connection() {
    let world = World::new(Compat::V1_8);
    let mut watches: Vec<_> = (0..10).map(|_| world.watch()).collect();
    watches[0].ready().await;
    let blocked = async |count| {
        while world.agent.counters().blocked != count {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SECOND, blocked(1)).await.unwrap();
    assert_eq!(world.agent.counters().connections, 1);
    drop(watches);
    timeout(SECOND, blocked(0)).await.unwrap();
    assert_eq!(world.agent.counters().connections, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn an_agent_on_a_unix_socket_is_as_good_as_any() {
    let path = std::env::temp_dir().join(format!("picom-agent-{}.sock", std::process::id()));
    // Left over from a run that was killed, under a process id that has come round again.
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let agent = Arc::new(DevAgent::in_memory(DevAgentConfig::default()));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let agent = agent.clone();
            tokio::spawn(async move { agent.serve_connection(stream).await });
        }
    });
    let mut config = ConsulConfig::default();
    config.address = format!("unix://{}", path.display()).parse().unwrap();
    let consul = Consul::new(config).unwrap();
    assert!(consul.describe().contains(path.to_str().unwrap()));
    let lease = consul
        .register(registration(9000), OnUnavailable::Fail)
        .await
        .unwrap();
    assert_eq!(ports(&consul.watch(&name()).ready().await), [9000]);
    lease.end(5 * SECOND).await.unwrap();
    serving.abort();
    std::fs::remove_file(&path).unwrap();
}

/// On the process's own heartbeat thread, over real sockets.
#[test]
fn a_blocked_runtime_does_not_keep_heartbeats_from_being_sent() {
    let observer = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let blocked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let agent = observer
        .block_on(DevAgent::start(DevAgentConfig::default()))
        .unwrap();
    let port = agent.addr().port();
    let client = || Consul::new(ConsulConfig::new("127.0.0.1", port)).unwrap();
    let lease = blocked
        .block_on(async {
            let short = registration(9000).with_ttl(SECOND).unwrap();
            client().register(short, OnUnavailable::Fail).await
        })
        .unwrap();
    let seen = observer.spawn({
        let mut watch = client().watch_on(&observer);
        async move {
            let mut worst = Vec::new();
            let first = watch.ready().await;
            assert_eq!(ports(&first), [9000]);
            while let Ok(next) = timeout(3 * SECOND, watch.changed()).await {
                worst.push(next);
            }
            worst
        }
    });
    // Nothing runs on it for three times the time to live.
    blocked.block_on(async { std::thread::sleep(3 * SECOND) });
    let changes = observer.block_on(seen).unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    blocked.block_on(lease.end(5 * SECOND)).unwrap();
    observer.block_on(async {
        assert!(client().watch(&name()).ready().await.instances.is_empty());
        agent.stop().await;
    });
}

trait WatchOn {
    fn watch_on(&self, runtime: &tokio::runtime::Runtime) -> Watch;
}

impl WatchOn for Consul {
    fn watch_on(&self, runtime: &tokio::runtime::Runtime) -> Watch {
        let _entered = runtime.enter();
        self.watch(&name())
    }
}

/// What goes wrong, and for how long.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Pause,
    HoldAnswers,
    GoAway,
    Forget,
    LoseLeader,
    Drop,
    Fail,
    Slow,
    Calm,
}

fn troubles() -> impl Strategy<Value = Vec<(Trouble, u64)>> {
    let trouble = proptest::sample::select(vec![
        Trouble::Pause,
        Trouble::HoldAnswers,
        Trouble::GoAway,
        Trouble::Forget,
        Trouble::LoseLeader,
        Trouble::Drop,
        Trouble::Fail,
        Trouble::Slow,
        Trouble::Calm,
    ]);
    proptest::collection::vec((trouble, 0u64..8000), 0..6)
}

async fn inflict(faults: &Faults, troubles: &[(Trouble, u64)]) {
    for (trouble, millis) in troubles {
        let failure = Failure {
            calls: Calls::All,
            status: 500,
            text: "EOF".to_owned(),
            retry_after: None,
        };
        match trouble {
            Trouble::Pause => faults.pause(),
            Trouble::HoldAnswers => faults.hold_answers(),
            Trouble::GoAway => faults.go_away(),
            Trouble::Forget => faults.forget_state(),
            Trouble::LoseLeader => faults.lose_leader(),
            Trouble::Drop => faults.drop_connections(),
            Trouble::Fail => faults.fail(Some(failure)),
            Trouble::Slow => faults.slow(SECOND),
            Trouble::Calm => {}
        }
        sleep(Duration::from_millis(*millis)).await;
        faults.heal();
    }
}

/// How an owner lets its registration go.
#[derive(Debug, Clone, Copy)]
enum Farewell {
    End,
    DropLease,
    DropRegister,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_happens_when_nothing_is_left_behind(
        before in troubles(),
        after in troubles(),
        end_at in 0u64..20_000,
        farewell in proptest::sample::select(vec![Farewell::End, Farewell::DropLease, Farewell::DropRegister]),
        keep_trying in any::<bool>(),
        drains in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let left = runtime.block_on(async {
            let world = World::new(Compat::V1_8);
            let faults = world.faults();
            let storm = tokio::spawn({
                let (faults, before) = (faults.clone(), before.clone());
                async move { inflict(&faults, &before).await }
            });
            let how = if keep_trying { OnUnavailable::KeepTrying } else { OnUnavailable::Fail };
            let registering = tokio::spawn({
                let server = world.server.clone();
                async move { server.register(registration(9000), how).await }
            });
            sleep(Duration::from_millis(end_at)).await;
            match farewell {
                Farewell::DropRegister => {
                    registering.abort();
                    drop(registering.await);
                }
                Farewell::DropLease => drop(registering.await),
                Farewell::End => {
                    if let Ok(Ok(lease)) = registering.await {
                        let ending = tokio::spawn(async move {
                            if drains {
                                                        lease.drain(Duration::ZERO).await;
                            }
                            let begun = Instant::now();
                            // A failure is told, and what happens after it is what is tested here.
                            let _ = lease.end(5 * SECOND).await;
                            begun.elapsed()
                        });
                        inflict(&faults, &after).await;
                        assert!(ending.await.unwrap() <= 5 * SECOND);
                    }
                }
            }
            storm.await.unwrap();
            faults.heal();
            // The background attempts go on for a minute after the bound; then a second for the last of them.
            sleep(75 * SECOND).await;
            world.watch().ready().await.instances.clone()
        });
        prop_assert!(left.is_empty(), "{left:?}");
    }
}
