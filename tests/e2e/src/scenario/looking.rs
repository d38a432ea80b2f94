//! The suite's own eyes and hands: that it sees what an agent knows, and that killing or halting an agent does what the
//! other scenes rely on.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::registry::Entry;
use crate::world::{SOON, World};

fn entry(id: &str) -> Entry {
    let meta = BTreeMap::from([("picom".to_owned(), "1".to_owned())]);
    Entry {
        id: id.to_owned(),
        address: "127.0.0.1".to_owned(),
        port: 7,
        meta,
        checks: Vec::new(),
    }
}

/// An entry that nobody keeps up is seen passing, then failing, and then no more.
pub async fn an_entry_nobody_keeps_up_is_seen_to_fail(world: &World) {
    let service = world.name("abandoned");
    let wanted = entry(&format!("{service}-1"));
    let registry = world.registry();
    assert_eq!(registry.look(&service).await.unwrap().entries, []);
    registry
        .register(&wanted, &service, Duration::from_secs(1))
        .await
        .unwrap();
    let seen = world.until_passing(&service, &[&wanted.id]).await;
    let checks = seen.entries[0].checks.clone();
    assert_eq!(
        seen.entries,
        [Entry {
            checks,
            ..wanted.clone()
        }]
    );
    registry
        .until(&service, SOON, "it fails", |seen| {
            seen.passing().is_empty() && seen.entries.len() == 1
        })
        .await;
    registry.deregister(&wanted.id).await.unwrap();
    world.until_gone(&service).await;
    assert!(registry.registration(&wanted.id).await.unwrap().is_none());
}

/// An agent that was killed is not there; started again it knows nothing.
pub async fn a_killed_agent_is_away_and_comes_back_empty(world: &World) {
    let service = world.name("lost");
    let wanted = entry(&format!("{service}-1"));
    let registry = world.registry();
    registry
        .register(&wanted, &service, Duration::from_secs(60))
        .await
        .unwrap();
    world.until_passing(&service, &[&wanted.id]).await;
    world.agent.kill().await;
    assert!(
        registry.look(&service).await.is_err(),
        "nobody is there to answer"
    );
    world.agent.start().await;
    assert_eq!(registry.look(&service).await.unwrap().entries, []);
    registry
        .register(&wanted, &service, Duration::from_secs(60))
        .await
        .unwrap();
    world.until_passing(&service, &[&wanted.id]).await;
    world.agent.restart().await;
    world.until_gone(&service).await;
}

/// An agent that was halted takes connections and says nothing, and then answers what it was asked.
pub async fn a_halted_agent_takes_questions_and_answers_later(world: &World) {
    let service = world.name("late-answer");
    world.agent.halt().await;
    assert!(
        TcpStream::connect(world.agent.address()).await.is_ok(),
        "the port takes connections"
    );
    let registry = world.registry();
    let mut question = Box::pin(registry.look(&service));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut question).await;
    assert!(early.is_err(), "a halted agent said {early:?}");
    world.agent.go_on().await;
    assert_eq!(question.await.unwrap().entries, []);
}
