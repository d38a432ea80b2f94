//! Behaviours 26 to 28 and 33 to 37: what wakes a watcher, how soon, and what it costs.

use picom_discovery::{Health, ServiceName};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{SECOND, SOON, announce, api, watched};
use crate::sight::{listed, throughout, until, usable};
use crate::subject::{Entry, Kind, Subject, Word, service};

/// 26: the first answer comes without waiting, for unknown names too: an empty set, no error.
pub async fn the_first_answer_comes_at_once(subject: &dyn Subject) {
    let process = subject.process();
    let begun = Instant::now();
    let mut watch = process.watch(&ServiceName::new("nobody").unwrap());
    let first = watch.ready().await;
    assert!(first.instances.is_empty() && first.freshness.is_live());
    assert!(begun.elapsed() <= SOON + subject.slack());
}

/// 27: a change is delivered within 100 ms.
pub async fn a_change_is_delivered_within_100_ms(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    for number in 0..5 {
        subject
            .put(&Entry::new(subject, &format!("{number}"), 9000 + number))
            .await;
        let took = until(&mut watch, SECOND + subject.slack(), |now| {
            now.instances.len() == usize::from(number) + 1
        })
        .await;
        assert!(took <= SOON + subject.slack(), "{took:?}");
    }
    subject.take("0").await;
    let took = until(&mut watch, SECOND + subject.slack(), |now| {
        now.instances.len() == 4
    })
    .await;
    assert!(took <= SOON + subject.slack(), "{took:?}");
}

/// 28: what wakes a blocking query without changing the set is told to nobody.
pub async fn waking_without_a_change_is_no_news(subject: &dyn Subject) {
    let process = subject.process();
    let mut empty = process.watch(&ServiceName::new("nobody").unwrap());
    empty.ready().await;
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    until(&mut watch, SECOND + subject.slack(), |now| usable(now) == [9000]).await;
    let before = (watch.latest().revision, empty.latest().revision);
    subject.say("a", Word::Pass).await;
    if subject.api().is_some() {
        let other = Entry {
            service: ServiceName::new("other").unwrap(),
            ..Entry::new(subject, "o", 9009)
        };
        subject.put(&other).await;
        subject.say("o", Word::Fail).await;
        // The last instance of any service wakes those who watch a name without one.
        subject.take("o").await;
        let path = "/agent/check/pass/service:a?note=another";
        api(subject).put(path, None).await;
    }
    // Longer than anything is looked at again.
    throughout(&mut watch, 3 * SECOND / 2, |now| now.revision == before.0).await;
    assert_eq!(empty.latest().revision, before.1);
}

/// 33: of fifty changes in a second the last is seen within one more, and not every one is asked for.
pub async fn a_storm_of_changes_ends_in_the_last(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let before = subject.meter().map(crate::Meter::writes);
    for number in 0..50 {
        subject.put(&Entry::new(subject, "a", 9000 + number)).await;
        sleep(SECOND / 50).await;
    }
    let limit = match subject.kind() {
        // A second after the last change they are looked at again.
        Kind::File | Kind::Dns => SECOND + subject.slack(),
        Kind::Consul | Kind::Dev | Kind::Mock => SECOND,
    };
    let took = until(&mut watch, SECOND + limit, |now| usable(now) == [9049]).await;
    assert!(took <= limit, "{took:?}");
    if let (Some(before), Some(meter)) = (before, subject.meter()) {
        let made = meter.writes() - before;
        // Ten at once, then five a second, for as long as this took: two seconds, or three on a loaded machine.
        assert!(made <= 10 + 5 * 3 + 2, "{made} requests");
    }
}

/// 34: with the last watch its connection goes, within a second.
pub async fn the_last_watch_takes_its_connection_with_it(subject: &dyn Subject) {
    let meter = subject.meter().expect("a subject with connections");
    let process = subject.process();
    let mut watch = process.watch(&service());
    watch.ready().await;
    sleep(SOON).await;
    assert_eq!(meter.open(), 1);
    drop(watch);
    sleep(SECOND).await;
    assert_eq!(meter.open(), 0);
}

/// 35: two who watch one name in one process use one blocking query.
pub async fn two_watches_of_a_name_share_a_query(subject: &dyn Subject) {
    let meter = subject.meter().expect("a subject with connections");
    let process = subject.process();
    let mut first = process.watch(&service());
    let mut second = process.watch(&service());
    first.ready().await;
    second.ready().await;
    sleep(SOON).await;
    assert_eq!((meter.open(), meter.made()), (1, 1));
    drop(first);
    subject.put(&Entry::new(subject, "a", 9000)).await;
    until(&mut second, SECOND, |now| usable(now) == [9000]).await;
    assert_eq!(meter.made(), 1);
}

/// 36: what is said of a node is said of all its instances.
pub async fn a_node_in_maintenance_takes_all_its_instances_out(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    subject.put(&Entry::new(subject, "b", 9001)).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000, 9001]).await;
    api(subject)
        .put("/agent/maintenance?enable=true&reason=test", None)
        .await;
    until(&mut watch, SECOND, |now| {
        now.instances.iter().all(|one| one.health == Health::Maintenance)
    })
    .await;
    assert_eq!(listed(&watch.latest()), [9000, 9001]);
    api(subject).put("/agent/maintenance?enable=false", None).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000, 9001]).await;
    let check = json!({"Name": "node", "ID": "node", "TTL": "10m", "Status": "critical"});
    api(subject).put("/agent/check/register", Some(&check)).await;
    until(&mut watch, SECOND, |now| {
        now.instances.iter().all(|one| one.health == Health::Critical)
    })
    .await;
    api(subject).put("/agent/check/deregister/node", None).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000, 9001]).await;
}

/// 37: an instance with a warning is listed, not usable, and tells its weights.
pub async fn a_warning_is_listed_and_not_usable(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let mut body = Entry::new(subject, "a", 9000).body();
    body["Weights"] = json!({"Passing": 10, "Warning": 3});
    api(subject).put("/agent/service/register", Some(&body)).await;
    subject.say("a", Word::Warn).await;
    until(&mut watch, SECOND, |now| {
        now.instances.iter().any(|one| one.health == Health::Warning)
    })
    .await;
    let latest = watch.latest();
    assert_eq!((usable(&latest), latest.instances[0].weight), (vec![], 10));
    let tolerant = subject.process_with(&|config| config.use_warnings = true);
    let seen = tolerant.watch(&service()).ready().await;
    assert_eq!((usable(&seen), seen.instances[0].weight), (vec![9000], 3));
    let process = subject.process();
    let lease = announce(&process, subject.registration(9001).with_weight(7).unwrap()).await;
    until(&mut watch, SECOND, |now| now.usable().any(|one| one.weight == 7)).await;
    lease.end(5 * SECOND).await.unwrap();
}

/// 38: with a tag asked for, gaining it shows an instance, losing it hides one, and others are never seen.
pub async fn a_tag_that_is_asked_for_shows_and_hides(subject: &dyn Subject) {
    let process = subject.process_with(&|config| config.tags = vec!["eu".to_owned()]);
    let mut watch = process.watch(&service());
    watch.ready().await;
    let entry = |id, port, tags: &[&'static str]| Entry {
        tags: tags.to_vec(),
        ..Entry::new(subject, id, port)
    };
    subject.put(&entry("a", 9000, &["us"])).await;
    subject.put(&entry("b", 9001, &["us", "eu"])).await;
    until(&mut watch, SECOND, |now| listed(now) == [9001]).await;
    subject.put(&entry("a", 9000, &["eu"])).await;
    let took = until(&mut watch, SECOND, |now| listed(now) == [9000, 9001]).await;
    assert!(took <= SOON + subject.slack(), "{took:?}");
    subject.put(&entry("b", 9001, &["us"])).await;
    until(&mut watch, SECOND, |now| listed(now) == [9000]).await;
    subject.put(&entry("c", 9002, &[])).await;
    throughout(&mut watch, SECOND / 2, |now| listed(now) == [9000]).await;
}
