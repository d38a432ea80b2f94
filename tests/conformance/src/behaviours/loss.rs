//! Behaviours 21, 24, 31 and 50: an agent that forgets, is away, or hangs.

use picom_discovery::{Freshness, LeaseState};
use tokio::time::Instant;

use super::{SECOND, SOON, announce, watched};
use crate::sight::{throughout, until, usable};
use crate::subject::{Entry, Kind, Subject};

/// 21: an agent that was restarted without its memory has us again by the next heartbeat and a second.
pub async fn an_agent_without_memory_has_us_again_by_the_next_heartbeat(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let process = subject.process();
    let lease = announce(&process, subject.registration(9000)).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    subject.forget().await;
    subject.pass_time(subject.ttl() / 3 + SECOND).await;
    // Heartbeats are jittered by a tenth, and a registration at an agent that has just come up takes a moment.
    let within = subject.ttl() / 20 + SECOND;
    until(&mut watch, within, |now| {
        now.freshness.is_live() && usable(now) == [9000]
    })
    .await;
    subject.pass_time(subject.ttl() / 2).await;
    assert!(matches!(lease.state(), LeaseState::Passing));
    lease.end(5 * SECOND).await.unwrap();
}

/// 24: while the agent is away the last set stays, marked as stale, and is fresh two seconds after its return.
pub async fn an_agent_that_is_away_empties_nothing(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let process = subject.process();
    let lease = announce(&process, subject.registration(9000)).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    subject.leave().await;
    until(&mut watch, SECOND, |now| {
        matches!(now.freshness, Freshness::Stale { .. })
    })
    .await;
    throughout(&mut watch, 10 * SECOND, |now| usable(now) == [9000]).await;
    subject.come_back().await;
    let took = until(&mut watch, 4 * SECOND, |now| now.freshness.is_live()).await;
    assert!(took <= 2 * SECOND + subject.slack(), "{took:?}");
    until(&mut watch, 5 * SECOND, |now| usable(now) == [9000]).await;
    lease.end(5 * SECOND).await.unwrap();
}

/// 24, of a list that is read again and again: while it cannot be read the last set stays, marked as stale.
pub async fn a_list_that_is_away_empties_nothing(subject: &dyn Subject) {
    subject.put(&Entry::new(subject, "a", 9000)).await;
    let mut watch = watched(subject).await;
    until(&mut watch, SECOND + subject.slack(), |now| usable(now) == [9000]).await;
    subject.leave().await;
    until(&mut watch, SECOND + subject.slack(), |now| {
        matches!(now.freshness, Freshness::Stale { .. })
    })
    .await;
    throughout(&mut watch, 2 * SECOND, |now| usable(now) == [9000]).await;
    subject.come_back().await;
    // Longer than who has failed for two seconds rests.
    until(&mut watch, 8 * SECOND, |now| {
        now.freshness.is_live() && usable(now) == [9000]
    })
    .await;
}

/// 31: after a restart the indexes are lower; a change right after it is seen all the same.
pub async fn a_change_right_after_a_restart_is_seen(subject: &dyn Subject) {
    for number in 0..40 {
        // So that the indexes have somewhere to fall from.
        subject.put(&Entry::new(subject, "a", 9000 + number)).await;
    }
    let mut watch = watched(subject).await;
    subject.forget().await;
    // Behaviour 24 says how soon the watch is back.
    tokio::time::sleep(SECOND * 3 / 10).await;
    subject.put(&Entry::new(subject, "b", 9100)).await;
    until(&mut watch, 3 * SECOND, |now| usable(now) == [9100]).await;
    subject.put(&Entry::new(subject, "c", 9101)).await;
    let took = until(&mut watch, SECOND, |now| usable(now) == [9100, 9101]).await;
    assert!(took <= SOON + subject.slack(), "{took:?}");
}

/// 50: the end comes back within its bound, whether the agent is dead or hangs, and nothing is left once it is back.
pub async fn the_end_comes_back_within_its_bound(subject: &dyn Subject) {
    let process = subject.process();
    let bound = 2 * SECOND;
    for hangs in [true, false] {
        let lease = announce(&process, subject.registration(9000)).await;
        let begun = Instant::now();
        match hangs {
            true => subject.hang().await,
            false => subject.leave().await,
        }
        let ended = lease.end(bound).await;
        let took = begun.elapsed();
        assert!(took <= bound + subject.slack() + SOON, "{took:?}");
        assert!(ended.is_err(), "nobody can have confirmed it");
        match hangs {
            true => subject.go_on().await,
            false => subject.come_back().await,
        }
        let mut watch = watched(subject).await;
        until(&mut watch, 15 * SECOND, |now| {
            now.freshness.is_live() && now.instances.is_empty()
        })
        .await;
        if subject.kind() == Kind::Mock {
            return;
        }
    }
}
