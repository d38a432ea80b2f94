//! Behaviours 14 to 19: the check, as long as the agent is well.

use std::time::Duration;

use picom_discovery::{Health, LeaseState};
use serde_json::json;
use tokio::time::Instant;

use super::{SECOND, SOON, announce, api, watched};
use crate::sight::{listed, until, usable};
use crate::subject::{Entry, Subject, Word};

/// 14: through five times its time to live a lease passes, and nobody is woken.
pub async fn heartbeats_keep_it_passing_and_wake_nobody(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let process = subject.process();
    let lease = announce(&process, subject.registration(9000)).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    let revision = watch.latest().revision;
    subject.pass_time(5 * subject.ttl()).await;
    assert_eq!(watch.latest().revision, revision);
    assert!(matches!(lease.state(), LeaseState::Passing));
    lease.end(5 * SECOND).await.unwrap();
}

/// 15: without heartbeats it is out after its time to live, neither before nor much later.
pub async fn without_heartbeats_it_is_out_after_its_ttl(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    let begun = Instant::now();
    subject.say("a", Word::Pass).await;
    let told = begun.elapsed();
    let out = lapse(subject, &mut watch).await;
    let took = out - begun;
    let ttl = subject.ttl();
    let bound = ttl + told + Duration::from_millis(300) + subject.slack();
    assert!(took >= ttl && took <= bound, "{took:?}");
}

/// 16: a late heartbeat brings it back.
pub async fn a_late_heartbeat_brings_it_back(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    lapse(subject, &mut watch).await;
    subject.say("a", Word::Pass).await;
    let took = until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    assert!(took <= SOON + subject.slack(), "{took:?}");
}

/// 17: a warning and a failure take it out at once, a pass brings it back.
pub async fn a_warning_and_a_failure_take_it_out_at_once(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    for (word, health) in [(Word::Warn, Health::Warning), (Word::Fail, Health::Critical)] {
        until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
        subject.say("a", word).await;
        let took = until(&mut watch, SECOND, |now| {
            now.instances.iter().all(|one| one.health == health)
        })
        .await;
        assert!(took <= SOON + subject.slack(), "{took:?}");
        assert!(usable(&watch.latest()).is_empty() && listed(&watch.latest()) == [9000]);
        subject.say("a", Word::Pass).await;
    }
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
}

/// 18: what stays critical for a minute is removed by the registry, within 105 s.
pub async fn what_stays_critical_is_removed(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let entry = Entry {
        removed_after: Some("1m"),
        ..Entry::new(subject, "a", 9000)
    };
    subject.put(&entry).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    subject.say("a", Word::Fail).await;
    let took = until(&mut watch, Duration::from_secs(130), |now| {
        now.instances.is_empty()
    })
    .await;
    assert!(took >= 59 * SECOND && took <= 106 * SECOND, "{took:?}");
}

/// 19: a long output does not fail.
pub async fn a_long_output_does_no_harm(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    let body = json!({"Status": "passing", "Output": "x".repeat(6000)});
    api(subject)
        .put("/agent/check/update/service:a", Some(&body))
        .await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
}

/// Lets its time run out, and says when that was seen.
async fn lapse(subject: &dyn Subject, watch: &mut picom_discovery::Watch) -> Instant {
    let seen = async {
        until(watch, subject.ttl() + 5 * SECOND, |now| usable(now).is_empty()).await;
        Instant::now()
    };
    let (seen, ()) = tokio::join!(seen, subject.pass_time(subject.ttl() + 2 * SECOND));
    seen
}
