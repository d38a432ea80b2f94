//! Behaviours 1 to 13: what is registered, how it is seen, and how it is taken back.

use std::time::Duration;

use picom_discovery::{Health, OnUnavailable, RegisterError, Registration, RegistrationError};
use serde_json::json;

use super::{SECOND, SOON, announce, api, watched};
use crate::http::escaped;
use crate::sight::{listed, throughout, until, usable};
use crate::subject::{Entry, Kind, Subject, Word, service};

/// 1: an instance is seen with the id, name, address, port, tags and meta it was registered with.
pub async fn a_registration_is_seen_as_it_was_made(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let made = subject
        .registration(9000)
        .with_tag("one")
        .and_then(|made| made.with_tag("two"));
    let made = made.and_then(|made| made.with_meta("zone", "z 1")).unwrap();
    let process = subject.process();
    let lease = announce(&process, made).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    let seen = watch.latest().instances[0].clone();
    assert_eq!(
        (&*seen.id, &*seen.host, seen.port),
        (lease.id(), "127.0.0.1", 9000)
    );
    assert_eq!(seen.service, service());
    assert_eq!(
        seen.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(),
        ["one", "two"]
    );
    assert_eq!(seen.meta.get("zone").map(|value| &**value), Some("z 1"));
    assert!(seen.uuid().is_some_and(|uuid| lease.id().ends_with(uuid)));
    lease.end(5 * SECOND).await.unwrap();
}

/// 2: without a status of its own a new check fails, until its first heartbeat.
pub async fn a_new_check_fails_until_its_first_heartbeat(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let entry = Entry {
        begins: None,
        ..Entry::new(subject, "a", 9000)
    };
    subject.put(&entry).await;
    until(&mut watch, SECOND, |now| listed(now) == [9000]).await;
    throughout(&mut watch, SOON, |now| usable(now).is_empty()).await;
    subject.say("a", Word::Pass).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
}

/// 3: one that begins as passing is usable at once.
pub async fn a_check_that_begins_as_passing_is_usable_at_once(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    let took = until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    assert!(took <= SOON + subject.slack(), "{took:?}");
}

/// 4: the same id at another port takes the place of the former.
pub async fn an_id_registered_again_replaces_itself(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    until(&mut watch, SECOND, |now| listed(now) == [9000]).await;
    subject.put(&Entry::new(subject, "a", 9001)).await;
    until(&mut watch, SECOND, |now| listed(now) == [9001]).await;
    throughout(&mut watch, SOON, |now| listed(now) == [9001]).await;
}

/// 5: registering the same again tells watchers nothing.
pub async fn registering_the_same_again_is_no_news(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let entry = Entry::new(subject, "a", 9000);
    subject.put(&entry).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    let revision = watch.latest().revision;
    subject.put(&entry).await;
    subject.say("a", Word::Pass).await;
    throughout(&mut watch, SECOND, |now| now.revision == revision).await;
}

/// 6: a check keeps its status through a registration, also over the one the registration names; ours passes again
/// whatever was done to it.
pub async fn a_status_outlives_a_registration_and_ours_passes_in_the_end(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let entry = Entry::new(subject, "a", 9000);
    subject.put(&entry).await;
    subject.say("a", Word::Fail).await;
    until(&mut watch, SECOND, |now| {
        listed(now) == [9000] && usable(now).is_empty()
    })
    .await;
    subject.put(&entry).await;
    throughout(&mut watch, SOON, |now| usable(now).is_empty()).await;
    if let Some(api) = subject.api() {
        // A registration that replaces the checks takes maintenance away.
        subject.say("a", Word::Pass).await;
        api.put("/agent/service/maintenance/a?enable=true", None).await;
        until(&mut watch, SECOND, |now| usable(now).is_empty()).await;
        subject.put(&entry).await;
        until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    }
    subject.take("a").await;
    let process = subject.process();
    let lease = announce(&process, subject.registration(9001)).await;
    subject.say(lease.id(), Word::Fail).await;
    until(&mut watch, SECOND, |now| {
        listed(now) == [9001] && usable(now).is_empty()
    })
    .await;
    subject.pass_time(subject.ttl() / 2).await;
    until(&mut watch, SECOND, |now| usable(now) == [9001]).await;
    // What is ours and was taken from us comes back.
    subject.take(lease.id()).await;
    until(&mut watch, SECOND, |now| listed(now).is_empty()).await;
    subject.pass_time(subject.ttl() / 2).await;
    until(&mut watch, SECOND, |now| usable(now) == [9001]).await;
    // And what drains stays out of service.
    assert!(lease.drain(5 * SECOND).await);
    until(&mut watch, SECOND, |now| {
        now.instances.iter().all(|one| one.health == Health::Maintenance)
    })
    .await;
    subject.take(lease.id()).await;
    until(&mut watch, SECOND, |now| listed(now).is_empty()).await;
    let passing = async {
        throughout(&mut watch, subject.ttl(), |now| usable(now).is_empty()).await;
        assert_eq!(watch.latest().instances[0].health, Health::Maintenance);
    };
    tokio::join!(passing, subject.pass_time(subject.ttl()));
    lease.end(5 * SECOND).await.unwrap();
}

/// 7: two ids at one address are both listed, and one of them is usable.
pub async fn of_two_at_one_address_one_is_usable(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    subject.put(&Entry::new(subject, "b", 9000)).await;
    until(&mut watch, SECOND, |now| listed(now) == [9000, 9000]).await;
    let latest = watch.latest();
    let ids: Vec<_> = latest.usable().map(|one| &*one.id).collect();
    assert_eq!(ids.len(), 1);
    if subject.kind() != Kind::Mock {
        assert_eq!(ids, ["b"], "the newer one has the port now");
    }
}

/// 8: what is wrong is a 400 with Consul's words, for good.
pub async fn what_is_wrong_is_refused_in_consuls_words(subject: &dyn Subject) {
    let check = json!({"TTL": "10s"});
    for (body, words) in [
        (json!({"Port": 1}), "Missing service name"),
        (
            json!({"Name": "s", "Check": {"TTL": "bogus"}}),
            "invalid duration",
        ),
        (json!({"Name": "s", "Check": {"TTL": "-5s"}}), "TTL must be > 0"),
        (
            json!({"Name": "s", "Meta": {"a b": "c"}, "Check": check}),
            "Invalid Service Meta",
        ),
        (
            json!({"Name": "s", "Weights": {"Passing": 0, "Warning": 1}}),
            "Invalid Weights",
        ),
        (
            json!({"Name": "s", "Address": "0.0.0.0"}),
            "Invalid service address",
        ),
    ] {
        let answer = api(subject)
            .call("PUT", "/agent/service/register", Some(&body))
            .await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.text.contains(words), "{body}: {}", answer.text);
    }
    // What we could not know to be wrong is refused for good, not tried for ever: a namespace, of an agent that has none.
    let named = subject.process_with(&|config| config.namespace = Some("team".to_owned()));
    let refused = named
        .register(subject.registration(9000), OnUnavailable::KeepTrying)
        .await;
    let Err(RegisterError::Refused { source, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(source.is_permanent(), "{source}");
    assert!(source.to_string().contains("Enterprise"), "{source}");
    // What we can know is not asked.
    assert!(subject.registration(9000).with_meta("a b", "c").is_err());
    assert!(subject.registration(9000).with_weight(0).is_err());
}

/// 9: a port nobody can dial is refused before anything is asked, and not believed when others announce it.
pub async fn a_port_that_is_none_is_neither_announced_nor_believed(subject: &dyn Subject) {
    let error = Registration::new(service(), "127.0.0.1", 0).unwrap_err();
    assert!(matches!(error, RegistrationError::PortZero { .. }));
    if subject.kind() == Kind::Mock {
        // Its instances have ports by type.
        return;
    }
    let mut watch = watched(subject).await;
    for (id, port) in [("zero", 0), ("less", -5), ("more", 70_000), ("good", 9000)] {
        subject
            .put(&Entry {
                port,
                ..Entry::new(subject, id, 1)
            })
            .await;
    }
    until(&mut watch, SECOND, |now| listed(now) == [9000]).await;
    throughout(&mut watch, SOON, |now| listed(now) == [9000]).await;
}

/// 10: ids with characters that mean something in a path live as others do.
pub async fn odd_ids_register_beat_and_deregister(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let process = subject.process();
    for (port, id) in [(9000, "a/b c"), (9001, "50%"), (9002, "ö?x#y&z"), (9003, "a%2Fb")] {
        let lease = announce(&process, subject.registration(port).with_id(id).unwrap()).await;
        until(&mut watch, SECOND, |now| usable(now) == [port]).await;
        subject.pass_time(subject.ttl() * 3 / 2).await;
        assert_eq!(usable(&watch.latest()), [port], "{id}");
        lease.end(5 * SECOND).await.unwrap();
        until(&mut watch, SECOND, |now| now.instances.is_empty()).await;
    }
}

/// 11: no address is the node's, IPv6 comes out in brackets, a host name stays one.
pub async fn addresses_are_what_one_can_dial(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let mut hosts = vec![("::1", "[::1]:9000"), ("db.example", "db.example:9000")];
    if subject.kind() != Kind::Mock {
        hosts.push(("", "127.0.0.1:9000"));
    }
    for (host, authority) in hosts {
        subject
            .put(&Entry {
                host: host.to_owned(),
                ..Entry::new(subject, "a", 9000)
            })
            .await;
        until(&mut watch, SECOND, |now| {
            now.instances
                .first()
                .is_some_and(|one| one.authority() == authority)
        })
        .await;
    }
}

/// 12: taking away what is gone succeeds.
pub async fn deregistering_twice_succeeds(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    subject.put(&Entry::new(subject, "a", 9000)).await;
    until(&mut watch, SECOND, |now| listed(now) == [9000]).await;
    let process = subject.process();
    let lease = announce(&process, subject.registration(9001)).await;
    // Somebody else was faster.
    subject.take(lease.id()).await;
    lease.end(5 * SECOND).await.unwrap();
    subject.take("a").await;
    subject.take("a").await;
    until(&mut watch, SECOND, |now| listed(now).is_empty()).await;
}

/// 13: nothing comes back after the end: not by a heartbeat, not by a registration that was under way.
pub async fn nothing_comes_back_after_the_end(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    let process = subject.process();
    let lease = announce(&process, subject.registration(9000)).await;
    let id = lease.id().to_owned();
    lease.end(5 * SECOND).await.unwrap();
    if let Some(api) = subject.api() {
        let beat = api
            .call(
                "PUT",
                &format!("/agent/check/pass/service:{}", escaped(&id)),
                None,
            )
            .await;
        assert!(matches!(beat.status, 404 | 500), "{}: {}", beat.status, beat.text);
    }
    // Broken off at moments from before the request to after its answer.
    for number in 0..12_u32 {
        let registering = process.register(subject.registration(9001), OnUnavailable::KeepTrying);
        let broken_off =
            tokio::time::timeout(Duration::from_micros(u64::from(number) * 300), registering).await;
        if let Ok(Ok(lease)) = broken_off {
            drop(lease);
        }
    }
    subject.pass_time(2 * subject.ttl()).await;
    until(&mut watch, 5 * SECOND, |now| now.instances.is_empty()).await;
    throughout(&mut watch, subject.ttl(), |now| now.instances.is_empty()).await;
}

/// 7, 11 and 49 rest on this: an instance is known by its node and its id.
pub async fn one_id_on_two_nodes_is_two_instances(subject: &dyn Subject) {
    let mut watch = watched(subject).await;
    for (node, port) in [("n1", 9000), ("n2", 9001)] {
        let body = json!({
            "Node": node, "Address": "127.0.0.1",
            "Service": {"ID": "a", "Service": service().as_str(), "Address": "127.0.0.1", "Port": port},
        });
        api(subject).put("/catalog/register", Some(&body)).await;
    }
    until(&mut watch, SECOND, |now| listed(now) == [9000, 9001]).await;
    let latest = watch.latest();
    assert!(
        latest
            .instances
            .iter()
            .all(|one| &*one.id == "a" && one.health == Health::Passing)
    );
    let body = json!({"Node": "n1", "ServiceID": "a"});
    api(subject).put("/catalog/deregister", Some(&body)).await;
    until(&mut watch, SECOND, |now| listed(now) == [9001]).await;
}
