//! Watches against a scripted agent on a virtual clock: what is asked, when, and what is published.

use std::sync::Arc;
use std::time::Duration;

use crate::scripted::{Exchange, Script, entries, entry, name};
use picom_discovery::consul::{Consistency, Secret, Token};
use picom_discovery::{Discovery, DiscoveryError, Freshness, Health, Phase, ProtocolFault, Snapshot, Watch};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn ports(snapshot: &Arc<Snapshot>) -> Vec<u16> {
    snapshot.usable().map(|one| one.port).collect()
}

fn stale(snapshot: &Arc<Snapshot>) -> &DiscoveryError {
    match &snapshot.freshness {
        Freshness::Stale { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

/// A watch that has the instances at ports 1 and 2 with index 50, and its blocked read.
async fn settled(script: &mut Script, watch: &mut Watch) -> Exchange {
    let first = script.next().await;
    assert_eq!(first.parameter("index"), None);
    first.read(50, &entries(&[1, 2]));
    assert_eq!(ports(&watch.ready().await), [1, 2]);
    let blocked = script.next().await;
    assert_eq!(blocked.parameter("index"), Some("50"));
    blocked
}

async fn is_silent(watch: &mut Watch) {
    let waited = tokio::time::timeout(Duration::from_millis(1), watch.changed()).await;
    assert!(waited.is_err(), "published {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_read_is_plain_and_asks_for_all_instances() {
    let (mut script, consul) = Script::new(|_| {});
    let mut watch = consul.watch(&name("svc"));
    assert!(matches!(
        watch.latest().freshness,
        Freshness::Pending { error: None }
    ));
    let first = script.next().await;
    assert_eq!(first.what(), "GET /v1/health/service/svc");
    assert_eq!(first.query, "stale");
    assert_eq!(first.header("host"), Some("agent.test:8500"));
    assert_eq!(first.header("x-consul-token"), None);
    first.read(7, &format!("[{},{}]", entry(1, "passing"), entry(2, "critical")));
    let snapshot = watch.ready().await;
    assert!(snapshot.freshness.is_live());
    assert_eq!(ports(&snapshot), [1]);
    assert_eq!(
        snapshot.instances[1].health,
        Health::Critical,
        "a failing instance is seen, not used"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_live_and_empty() {
    let (mut script, consul) = Script::new(|config| config.consistency = Consistency::Leader);
    let mut watch = consul.watch(&name("nobody"));
    let first = script.next().await;
    assert_eq!(first.query, "");
    first.read(3, "[]");
    let snapshot = watch.ready().await;
    assert!(snapshot.freshness.is_live() && snapshot.instances.is_empty());
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_change_publish_nothing_and_reuse_one_connection() {
    let (mut script, consul) = Script::new(|_| {});
    let mut watch = consul.watch(&name("svc"));
    let mut blocked = settled(&mut script, &mut watch).await;
    for index in 51..60 {
        // The timer's answer, an unrelated change, and another order: all the same set.
        let wait = blocked.parameter("wait").unwrap();
        assert!(wait.ends_with('s') && wait != "0s", "{wait}");
        blocked.read(index, &entries(&[2, 1]));
        blocked = script.next().await;
        assert_eq!(blocked.parameter("index"), Some(index.to_string().as_str()));
    }
    is_silent(&mut watch).await;
    blocked.read(60, &entries(&[2]));
    assert_eq!(ports(&watch.changed().await), [2]);
    assert_eq!(script.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_error_keeps_the_set_and_is_followed_by_a_plain_read() {
    let huge = format!(
        "HTTP/1.1 200 X\r\nX-Consul-Index: 9\r\nContent-Length: {}\r\n\r\n",
        5 << 30
    );
    let chunked = format!(
        "HTTP/1.1 200 X\r\nX-Consul-Index: 9\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n{}\r\n",
        " ".repeat(0x2000)
    );
    let header = format!("HTTP/1.1 200 X\r\nX-A: {}\r\n\r\n", "a".repeat(1 << 20));
    let html = "HTTP/1.1 200 X\r\nX-Consul-Index: 9\r\nContent-Length: 13\r\n\r\n<html></html>";
    let cut = "HTTP/1.1 200 X\r\nX-Consul-Index: 9\r\nContent-Length: 50\r\n\r\n[";
    let redirect = "HTTP/1.1 301 X\r\nLocation: http://evil.test/\r\nContent-Length: 0\r\n\r\n";
    let no_content = "HTTP/1.1 204 X\r\n\r\n";
    let says = |text: &'static str| move |error: &DiscoveryError| error.to_string().contains(text);
    type Judge = Box<dyn Fn(&DiscoveryError) -> bool>;
    let table: Vec<(Vec<u8>, Judge)> = vec![
        (
            huge.into(),
            Box::new(|error| {
                matches!(
                    error,
                    DiscoveryError::Protocol {
                        fault: ProtocolFault::BodyTooLarge { limit: 4096 },
                        ..
                    }
                )
            }),
        ),
        (
            chunked.into(),
            Box::new(|error| {
                matches!(
                    error,
                    DiscoveryError::Protocol {
                        fault: ProtocolFault::BodyTooLarge { .. },
                        ..
                    }
                )
            }),
        ),
        (
            header.into(),
            Box::new(|error| {
                matches!(
                    error,
                    DiscoveryError::Transport {
                        phase: Phase::Exchange,
                        ..
                    }
                )
            }),
        ),
        (html.into(), Box::new(says("JSON"))),
        (redirect.into(), Box::new(says("301"))),
        (no_content.into(), Box::new(says("204"))),
        (
            b"\x00\x01\x02 noise \r\n\r\n".to_vec(),
            Box::new(|error| matches!(error, DiscoveryError::Transport { .. })),
        ),
        (
            cut.into(),
            Box::new(|error| {
                matches!(
                    error,
                    DiscoveryError::Timeout {
                        phase: Phase::Body,
                        ..
                    }
                )
            }),
        ),
        (
            b"HTTP/1.1 500 X\r\nX-Consul-Index: 1\r\nContent-Length: 17\r\n\r\nNo cluster leader".to_vec(),
            Box::new(says("No cluster leader")),
        ),
        (
            b"HTTP/1.1 403 X\r\nX-Consul-Index: 1\r\nContent-Length: 13\r\n\r\nACL not found".to_vec(),
            Box::new(|error| matches!(error, DiscoveryError::Denied { .. })),
        ),
        (
            b"HTTP/1.1 429 X\r\nRetry-After: 3\r\nX-Consul-Index: 1\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Box::new(|error| {
                matches!(
                    error,
                    DiscoveryError::RateLimited {
                        retry_after: Some(_),
                        ..
                    }
                )
            }),
        ),
        (
            b"HTTP/1.1 400 X\r\nContent-Length: 13\r\n\r\nInvalid index".to_vec(),
            Box::new(|error| error.is_permanent()),
        ),
        (
            b"HTTP/1.1 200 X\r\nX-Consul-Results-Filtered-By-ACLs: true\r\nContent-Length: 2\r\n\r\n[]"
                .to_vec(),
            Box::new(|error| matches!(error, DiscoveryError::Denied { .. })),
        ),
    ];
    for (number, (bytes, judge)) in table.into_iter().enumerate() {
        let (mut script, consul) = Script::new(|config| config.max_body = 4096);
        let mut watch = consul.watch(&name("svc"));
        let blocked = settled(&mut script, &mut watch).await;
        blocked.raw(&bytes);
        let snapshot = watch.changed().await;
        assert_eq!(ports(&snapshot), [1, 2], "row {number}");
        let error = stale(&snapshot);
        assert!(judge(error), "row {number}: {error} {error:?}");
        assert!(
            error.to_string().contains("agent.test:8500"),
            "row {number}: {error}"
        );
        let again = script.next().await;
        assert_eq!(again.parameter("index"), None, "row {number}");
        again.read(51, &entries(&[1, 2]));
        let snapshot = watch.changed().await;
        assert!(snapshot.freshness.is_live(), "row {number}");
        assert_eq!(script.next().await.parameter("index"), Some("51"));
    }
}

#[tokio::test(start_paused = true)]
async fn errors_back_off_and_are_published_once() {
    let (mut script, consul) = Script::new(|_| {});
    let mut watch = consul.watch(&name("svc"));
    settled(&mut script, &mut watch).await.fail(500, "EOF");
    stale(&watch.changed().await);
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < 120 * SECOND {
        let exchange = script.next().await;
        times.push(exchange.at - begun);
        exchange.fail(500, "EOF");
    }
    is_silent(&mut watch).await;
    assert!((12..60).contains(&times.len()), "{}", times.len());
    assert!(
        times.windows(2).all(|pair| pair[1] - pair[0] <= 10 * SECOND),
        "{times:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_wait_for_what_is_asked_and_a_second_at_least() {
    for (after, least) in [(None, 1), (Some("7"), 7), (Some("3600"), 60)] {
        let (mut script, consul) = Script::new(|_| {});
        let mut watch = consul.watch(&name("svc"));
        let blocked = settled(&mut script, &mut watch).await;
        let begun = blocked.at;
        match after {
            Some(after) => blocked.respond(429, &[("Retry-After", after)], ""),
            None => blocked.respond(503, &[], ""),
        }
        let waited = script.next().await.at - begun;
        assert!(
            waited >= least * SECOND && waited <= (least + 2) * SECOND,
            "{after:?}: {waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallen_index_is_not_believed_but_read_again_at_once() {
    let (mut script, consul) = Script::new(|_| {});
    let mut watch = consul.watch(&name("svc"));
    let blocked = settled(&mut script, &mut watch).await;
    let begun = blocked.at;
    blocked.read(13, &entries(&[9]));
    let again = script.next().await;
    assert_eq!((again.parameter("index"), again.at), (None, begun));
    is_silent(&mut watch).await;
    again.read(14, &entries(&[3]));
    assert_eq!(ports(&watch.changed().await), [3]);
    assert_eq!(script.next().await.parameter("index"), Some("14"));
}

#[tokio::test(start_paused = true)]
async fn without_an_index_it_reads_once_a_second() {
    for headers in [&[("X-Consul-Index", "0")][..], &[], &[("X-Consul-Index", "many")]] {
        let (mut script, consul) = Script::new(|_| {});
        let mut watch = consul.watch(&name("svc"));
        let begun = Instant::now();
        for number in 0..20u16 {
            let exchange = script.next().await;
            assert_eq!(exchange.parameter("index"), None);
            assert_eq!((exchange.at - begun).as_secs(), u64::from(number));
            exchange.respond(200, headers, &entries(&[number + 1]));
            assert_eq!(ports(&watch.changed().await), [number + 1]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_changes_is_read_ten_times_at_once_and_five_times_a_second() {
    let (mut script, consul) = Script::new(|_| {});
    let watch = consul.watch(&name("svc"));
    let begun = Instant::now();
    let mut reads = 0u16;
    while begun.elapsed() < 10 * SECOND {
        script
            .next()
            .await
            .read(u64::from(reads) + 1, &entries(&[reads + 1]));
        reads += 1;
    }
    assert!((58..=62).contains(&reads), "{reads}");
    let _next = script.next().await;
    assert_eq!(ports(&watch.latest()), [reads], "the newest set was published");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_is_given_up_after_the_wait_and_its_slack() {
    let (mut script, consul) = Script::new(|_| {});
    let mut watch = consul.watch(&name("svc"));
    let blocked = settled(&mut script, &mut watch).await;
    let begun = blocked.at;
    let wait = Duration::from_millis(
        blocked
            .parameter("wait")
            .unwrap()
            .trim_end_matches("ms")
            .parse()
            .unwrap(),
    );
    assert!(wait >= 55 * SECOND && wait <= 60 * SECOND);
    blocked.given_up().await;
    let took = begun.elapsed();
    assert!(
        took >= wait + wait / 16 + 10 * SECOND && took <= wait + wait / 16 + 11 * SECOND,
        "{took:?}"
    );
    assert!(matches!(
        stale(&watch.changed().await),
        DiscoveryError::Timeout {
            phase: Phase::Exchange,
            ..
        }
    ));
    assert_eq!(script.next().await.parameter("index"), None);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_gone_is_noticed_and_found_again_within_two_seconds() {
    let (mut script, consul) = Script::new(|_| {});
    script.refuse(true);
    let mut watch = consul.watch(&name("svc"));
    let pending = watch.changed().await;
    let Freshness::Pending { error: Some(error) } = &pending.freshness else {
        panic!("{pending:?}")
    };
    assert!(matches!(
        **error,
        DiscoveryError::Transport {
            phase: Phase::Dial,
            ..
        }
    ));
    tokio::time::sleep(600 * SECOND).await;
    is_silent(&mut watch).await;
    assert!((300..3000).contains(&script.dials()), "{}", script.dials());
    script.refuse(false);
    let back = Instant::now();
    let blocked = settled(&mut script, &mut watch).await;
    assert!(back.elapsed() <= 2 * SECOND);
    script.refuse(true);
    drop(blocked);
    assert!(matches!(
        stale(&watch.changed().await),
        DiscoveryError::Transport {
            phase: Phase::Exchange,
            ..
        }
    ));
    assert_eq!(ports(&watch.latest()), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_leader_makes_the_set_stale_and_is_left_soon() {
    let (mut script, consul) = Script::new(|_| {});
    let mut watch = consul.watch(&name("svc"));
    let blocked = settled(&mut script, &mut watch).await;
    let headers = [
        ("X-Consul-Index", "51"),
        ("X-Consul-Knownleader", "false"),
        ("X-Consul-Lastcontact", "900"),
    ];
    blocked.respond(200, &headers, &entries(&[1, 2, 3]));
    let snapshot = watch.changed().await;
    assert_eq!(ports(&snapshot), [1, 2, 3], "it may know more than we do");
    stale(&snapshot);
    let next = script.next().await;
    assert_eq!(next.parameter("index"), Some("51"));
    assert!(
        next.parameter("wait")
            .unwrap()
            .trim_end_matches("ms")
            .parse::<u64>()
            .unwrap_or(0)
            <= 5000
    );
    next.read(52, &entries(&[1, 2, 3]));
    assert!(watch.changed().await.freshness.is_live());
}

#[tokio::test(start_paused = true)]
async fn two_watches_of_a_name_share_one_query_and_the_last_one_closes_it() {
    let (mut script, consul) = Script::new(|_| {});
    let mut one = consul.watch(&name("svc"));
    let other = consul.clone().watch(&name("svc"));
    let blocked = settled(&mut script, &mut one).await;
    assert_eq!(ports(&other.latest()), [1, 2]);
    drop(one);
    assert!(script.next_within(SECOND).await.is_none());
    assert_eq!(script.open(), 1);
    let begun = Instant::now();
    drop(other);
    blocked.given_up().await;
    assert_eq!((begun.elapsed(), script.open()), (Duration::ZERO, 0));
    assert!(
        script.next_within(600 * SECOND).await.is_none(),
        "no task is left"
    );
    let again = consul.watch(&name("svc"));
    assert_eq!(script.next().await.parameter("index"), None);
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn a_watch_outlives_the_handle_it_came_from() {
    let (mut script, consul) = Script::new(|_| {});
    let mut watch = consul.watch(&name("svc"));
    drop(consul);
    settled(&mut script, &mut watch).await.read(51, &entries(&[3]));
    assert_eq!(ports(&watch.changed().await), [3]);
}

#[tokio::test(start_paused = true)]
async fn more_names_than_connections_wait_for_their_turn_and_say_so() {
    let (mut script, consul) = Script::new(|config| config.max_watches = 1);
    let mut one = consul.watch(&name("svc"));
    let _blocked = settled(&mut script, &mut one).await;
    let mut other = consul.watch(&name("other"));
    let waiting = other.changed().await;
    let Freshness::Pending { error: Some(error) } = &waiting.freshness else {
        panic!("{waiting:?}")
    };
    assert!(
        error.to_string().contains("limits.http_max_conns_per_client"),
        "{error}"
    );
    drop(one);
    let first = script.next().await;
    assert_eq!(first.path, "/v1/health/service/other");
    first.read(5, "[]");
    assert!(other.changed().await.freshness.is_live());
}

#[tokio::test(start_paused = true)]
async fn the_token_travels_in_its_header_and_is_never_shown() {
    let token = Secret::new("b1gs3cret").unwrap();
    let (mut script, consul) = Script::new(|config| config.token = Token::Value(token));
    let mut watch = consul.watch(&name("svc"));
    let first = script.next().await;
    assert_eq!(first.header("X-Consul-Token"), Some("b1gs3cret"));
    assert!(!first.query.contains("s3cret"));
    first.fail(403, "Permission denied\n\u{1b}[31mforged line");
    let snapshot = watch.changed().await;
    let Freshness::Pending { error: Some(error) } = &snapshot.freshness else {
        panic!("{snapshot:?}")
    };
    let shown = format!("{error} {error:?} {consul:?}");
    assert!(!shown.contains("s3cret") && !shown.contains('\u{1b}'), "{shown}");
    assert!(shown.contains("CONSUL_HTTP_TOKEN"));
    let again = script.next().await;
    assert!(again.at.elapsed() <= 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_file_is_used_by_the_request_after_a_refusal() {
    let path = std::env::temp_dir().join(format!("picom-resolver-token-{}", std::process::id()));
    std::fs::write(&path, "one\n").unwrap();
    let (mut script, consul) = Script::new(|config| {
        config.token = Token::File {
            path: path.clone(),
            fallback: None,
        }
    });
    let mut watch = consul.watch(&name("svc"));
    let first = script.next().await;
    assert_eq!(first.header("x-consul-token"), Some("one"));
    std::fs::write(&path, "two\n").unwrap();
    first.fail(403, "ACL not found");
    let again = script.next().await;
    assert_eq!(again.header("x-consul-token"), Some("two"));
    again.read(5, "[]");
    assert!(watch.ready().await.freshness.is_live());
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_bad_entry_does_not_take_the_others_with_it() {
    let (mut script, consul) = Script::new(|_| {});
    let mut watch = consul.watch(&name("svc"));
    script.next().await.read(
        5,
        &format!(
            "[{{\"Node\": 7}}, {}, {}]",
            entry(0, "passing"),
            entry(9, "passing")
        ),
    );
    assert_eq!(ports(&watch.ready().await), [9]);
}

#[test]
fn a_watch_whose_runtime_was_shut_down_is_stale_and_the_next_begins_anew() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let first = runtime();
    let (mut script, consul) = Script::new(|_| {});
    let mut watch = first.block_on(async { consul.watch(&name("svc")) });
    let _blocked = first.block_on(settled(&mut script, &mut watch));
    drop(first);
    assert_eq!(ports(&watch.latest()), [1, 2]);
    assert!(matches!(stale(&watch.latest()), DiscoveryError::Stopped { .. }));
    runtime().block_on(async {
        let mut watch = consul.watch(&name("svc"));
        settled(&mut script, &mut watch).await;
    });
}
