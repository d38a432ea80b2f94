//! The dev agent that all processes of a machine share: whoever comes first serves it, and another takes over.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::protocol::{Call, Identity, Settings};
use crate::registry::Registry;
use crate::signal::Signal;
use crate::world::{SOON, World};

/// Nodes that are told nothing but a port find each other; when the one that served the agent is killed, another serves
/// it, and everybody is registered there again.
pub async fn nodes_share_a_dev_agent_that_outlives_its_owner(world: &World) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let registry = Registry {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
    };
    let shared = |service: &str| Settings {
        dev: Some(port),
        consul: None,
        ..world.settings(service)
    };
    let (first, second) = (world.name("first"), world.name("second"));
    let mut owner = world.server_with(shared(&first)).await;
    let guest = world.server_with(shared(&second)).await;
    let who: Identity = guest.node.fetch(Call::new(&first, "whoami", ())).await.unwrap();
    assert_eq!(who.instance, owner.instance);

    owner.node.signal(Signal::Kill);
    owner.node.exit(SOON).await;
    registry
        .until(&second, SOON, "it is registered again", |seen| {
            seen.passes(&guest.instance)
        })
        .await;
    let successor = world.server_with(shared(&first)).await;
    let call = Call::new(&first, "whoami", ()).wait_for_ready().within(SOON);
    let who: Identity = guest.node.fetch(call).await.unwrap();
    assert_eq!(who.instance, successor.instance);
    let back: Identity = successor
        .node
        .fetch(Call::new(&second, "whoami", ()))
        .await
        .unwrap();
    assert_eq!(back.instance, guest.instance);
}
