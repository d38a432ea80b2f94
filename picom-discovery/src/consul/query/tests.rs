//! The query by table, and against a model of what its index may be.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::error::ProtocolFault;
use crate::excerpt::Excerpt;

const WAIT: Duration = Duration::from_secs(60);

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn unavailable() -> DiscoveryError {
    let text = Excerpt::new("No cluster leader");
    DiscoveryError::Unavailable {
        agent: "a".into(),
        request: "a watch",
        status: 500,
        text,
        retry_after: None,
    }
}

fn read(query: &mut BlockingQuery, now: Instant) -> Option<u64> {
    match query.next(now, 0) {
        Next::Read(plan) => plan.block.map(|block| block.index),
        Next::Sleep(until) => panic!("sleeps {:?}", until - now),
    }
}

/// A query that has index 100.
fn settled(now: Instant) -> BlockingQuery {
    let mut query = BlockingQuery::new(WAIT);
    assert_eq!(read(&mut query, now), None);
    assert_eq!(query.answered(now, Some(100), true), Verdict::Publish);
    query
}

#[test]
fn the_first_read_is_plain_and_the_next_blocks_on_its_index() {
    let now = start();
    let mut query = settled(now);
    let Next::Read(plan) = query.next(now, 0) else {
        panic!()
    };
    assert_eq!(
        plan.block,
        Some(Block {
            index: 100,
            wait: WAIT
        })
    );
    assert_eq!(plan.deadline, Duration::from_millis(60_000 + 3_750 + 10_000));
}

#[test]
fn an_unchanged_index_blocks_again_and_a_higher_one_is_taken() {
    let now = start();
    let mut query = settled(now);
    assert_eq!(read(&mut query, now), Some(100));
    assert_eq!(query.answered(now, Some(100), true), Verdict::Publish);
    assert_eq!(read(&mut query, now), Some(100));
    assert_eq!(query.answered(now, Some(u64::MAX), true), Verdict::Publish);
    assert_eq!(read(&mut query, now), Some(u64::MAX));
}

#[test]
fn a_fallen_index_is_read_again_plainly_and_then_taken() {
    let now = start();
    let mut query = settled(now);
    assert_eq!(read(&mut query, now), Some(100));
    assert_eq!(query.answered(now, Some(13), true), Verdict::ReadAgain);
    assert_eq!(read(&mut query, now), None, "at once");
    assert_eq!(query.answered(now, Some(13), true), Verdict::Publish);
    assert_eq!(read(&mut query, now), Some(13));
}

#[test]
fn without_an_index_it_polls_every_second() {
    let now = start();
    for index in [None, Some(0)] {
        let mut query = settled(now);
        assert_eq!(read(&mut query, now), Some(100));
        assert_eq!(query.answered(now, index, true), Verdict::Publish);
        assert_eq!(query.next(now, 0), Next::Sleep(now + POLL));
        assert_eq!(read(&mut query, now + POLL), None);
    }
}

#[test]
fn every_error_is_followed_by_a_plain_read() {
    let now = start();
    let cause: crate::error::Cause = Arc::new(std::io::Error::other("x"));
    let agent: Arc<str> = "a".into();
    let limited = |after| DiscoveryError::RateLimited {
        agent: agent.clone(),
        request: "a watch",
        text: Excerpt::new("x"),
        retry_after: after,
    };
    for (error, least, most) in [
        (unavailable(), 50, 100),
        (
            DiscoveryError::Timeout {
                agent: agent.clone(),
                phase: Phase::Exchange,
                after: WAIT,
            },
            50,
            100,
        ),
        (
            DiscoveryError::Transport {
                agent: agent.clone(),
                phase: Phase::Dial,
                source: cause,
            },
            50,
            100,
        ),
        (
            DiscoveryError::Protocol {
                agent: agent.clone(),
                request: "a watch",
                fault: ProtocolFault::Status(301),
            },
            50,
            100,
        ),
        (limited(None), 1500, 2000),
        (
            DiscoveryError::Unavailable {
                agent: agent.clone(),
                request: "a watch",
                status: 503,
                text: Excerpt::new("x"),
                retry_after: Some(Duration::from_secs(3)),
            },
            3500,
            4000,
        ),
        (limited(Some(Duration::from_secs(7))), 7500, 8000),
        (limited(Some(Duration::ZERO)), 1500, 2000),
        (
            DiscoveryError::Denied {
                agent: agent.clone(),
                request: "a watch",
                text: Excerpt::new("x"),
            },
            1000,
            1000,
        ),
        (
            DiscoveryError::BadRequest {
                agent: agent.clone(),
                request: "a watch",
                status: 400,
                text: Excerpt::new("x"),
            },
            27_000,
            33_000,
        ),
    ] {
        for random in [0, u64::MAX / 2, u64::MAX] {
            let mut query = settled(now);
            assert_eq!(read(&mut query, now), Some(100));
            query.failed(now, &error, random);
            let Next::Sleep(until) = query.next(now, 0) else {
                panic!("{error}")
            };
            let slept = (until - now).as_millis();
            assert!((least..=most).contains(&slept), "{error}: {slept}");
            assert_eq!(read(&mut query, until), None, "{error}");
        }
    }
}

#[test]
fn errors_in_a_row_are_answered_by_longer_waits_up_to_a_cap_of_their_kind() {
    let now = start();
    let cause: crate::error::Cause = Arc::new(std::io::Error::other("x"));
    let agent: Arc<str> = "a".into();
    let dial = DiscoveryError::Transport {
        agent: agent.clone(),
        phase: Phase::Dial,
        source: cause,
    };
    let denied = DiscoveryError::Denied {
        agent,
        request: "a watch",
        text: Excerpt::new("x"),
    };
    for (error, cap) in [(unavailable(), 10), (dial, 2), (denied, 30)] {
        let mut query = BlockingQuery::new(WAIT);
        for _ in 0..40 {
            query.failed(now, &error, u64::MAX);
        }
        let Next::Sleep(until) = query.next(now, 0) else {
            panic!()
        };
        assert_eq!((until - now).as_secs_f64().round() as u64, cap, "{error}");
        assert_eq!(read(&mut query, until), None);
        query.answered(until, Some(5), true);
        query.failed(until, &error, u64::MAX);
        let Next::Sleep(again) = query.next(until, 0) else {
            panic!()
        };
        assert!(
            again - until <= Duration::from_secs(1),
            "a good answer begins anew"
        );
    }
}

#[test]
fn quick_answers_are_read_ten_at_once_and_then_five_a_second() {
    let now = start();
    let mut query = BlockingQuery::new(WAIT);
    let mut index = 0;
    for _ in 0..BURST {
        read(&mut query, now);
        index += 1;
        query.answered(now, Some(index), true);
    }
    assert_eq!(query.next(now, 0), Next::Sleep(now + PACE));
    let mut at = now;
    let mut reads = 0;
    while at < now + Duration::from_secs(10) {
        match query.next(at, 0) {
            Next::Sleep(until) => at = until,
            Next::Read(_) => {
                reads += 1;
                index += 1;
                query.answered(at, Some(index), true);
            }
        }
    }
    assert!((49..=50).contains(&reads), "{reads}");
    let later = at + Duration::from_secs(60);
    for _ in 0..BURST {
        read(&mut query, later);
    }
    assert!(
        matches!(query.next(later, 0), Next::Sleep(_)),
        "a rest makes the burst whole, not larger"
    );
}

#[test]
fn beginning_anew_reads_plainly() {
    let now = start();
    let mut query = settled(now);
    query.begin_anew();
    assert_eq!(read(&mut query, now), None);
}

#[test]
fn every_ten_minutes_one_read_is_plain() {
    let now = start();
    let mut query = settled(now);
    let mut at = now;
    let mut plain = Vec::new();
    for _ in 0..30 {
        at += WAIT;
        if read(&mut query, at).is_none() {
            plain.push((at - now).as_secs());
        }
        query.answered(at, Some(100), true);
    }
    // ± 10 %, in steps of the wait; 0 as the random number is the shortest.
    assert_eq!(plain, [540, 1080, 1620]);
}

#[test]
fn a_server_without_a_leader_is_not_waited_for_long() {
    let now = start();
    let mut query = BlockingQuery::new(WAIT);
    read(&mut query, now);
    query.answered(now, Some(5), false);
    let Next::Read(plan) = query.next(now, 0) else {
        panic!()
    };
    assert_eq!(
        plan.block,
        Some(Block {
            index: 5,
            wait: NERVOUS_WAIT
        })
    );
}

#[derive(Debug, Clone)]
enum Event {
    Index(Option<u64>),
    Fail,
    Limit,
}

fn events() -> impl Strategy<Value = Vec<(Event, u64, u64)>> {
    let event = prop_oneof![
        proptest::option::of(0u64..20).prop_map(Event::Index),
        Just(Event::Fail),
        Just(Event::Limit),
    ];
    // The event, the milliseconds an answer takes, a random number.
    proptest::collection::vec((event, 0u64..400, any::<u64>()), 1..200)
}

proptest! {
    #[test]
    fn whatever_is_answered_the_rate_and_the_index_keep_the_rules(events in events()) {
        let begun = start();
        let mut now = begun;
        let mut query = BlockingQuery::new(WAIT);
        let mut reads = 0u32;
        // The model: the index a blocking read may carry.
        let mut last_good: Option<u64> = None;
        for (event, took, random) in events {
            let plan = loop {
                match query.next(now, random) {
                    Next::Sleep(until) => {
                        prop_assert!(until > now && until - now <= Duration::from_secs(71));
                        now = until;
                    }
                    Next::Read(plan) => break plan,
                }
            };
            reads += 1;
            let allowed = BURST + (now - begun).as_millis() as u32 / PACE.as_millis() as u32;
            prop_assert!(reads <= allowed, "{reads} reads, {allowed} allowed");
            if let Some(block) = plan.block {
                prop_assert_eq!(Some(block.index), last_good);
                prop_assert!(block.wait >= WAIT * 11 / 12 && block.wait <= WAIT);
                prop_assert!(plan.deadline >= block.wait * 17 / 16 + SLACK);
            }
            now += Duration::from_millis(took);
            match event {
                Event::Index(index) => {
                    let verdict = query.answered(now, index, true);
                    let fell = plan.block.is_some_and(|block| {
                        index.is_some_and(|index| index != 0 && index < block.index)
                    });
                    prop_assert_eq!(verdict == Verdict::ReadAgain, fell);
                    last_good = index.filter(|index| *index != 0 && !fell);
                }
                Event::Fail => {
                    query.failed(now, &unavailable(), random);
                    last_good = None;
                }
                Event::Limit => {
                    let error = DiscoveryError::RateLimited {
                        agent: "a".into(), request: "a watch", text: Excerpt::new("x"), retry_after: Some(Duration::from_secs(60)),
                    };
                    query.failed(now, &error, random);
                    last_good = None;
                }
            }
        }
    }
}
