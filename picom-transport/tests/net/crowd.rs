//! More connections at once than may be unready: nobody who speaks is lost, and silence makes room. In memory, under a
//! virtual clock that stands still while anybody has something to do.

use crate::service::{Handler, Service, call};
use picom_transport::testing::MemoryNetwork;
use picom_transport::{
    BoxIo, Connection, ConnectionConfig, ConnectionError, HandshakeError, Identity, Listener, ListenerConfig,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

const LIMIT: usize = 4;

fn serve(network: &MemoryNetwork, unready_limit: usize) -> Listener {
    let config = ListenerConfig {
        unready_limit,
        ..ListenerConfig::default()
    };
    let acceptor = Arc::new(network.bind("service:1").unwrap());
    let handler = Arc::new(Handler(Arc::new(Service::default())));
    Listener::start(acceptor, Identity::default(), config, handler).unwrap()
}

async fn dial(network: &MemoryNetwork) -> BoxIo {
    network.connector().connect("service:1").await.unwrap()
}

async fn connect(network: &MemoryNetwork) -> Result<Connection, HandshakeError> {
    let io = dial(network).await;
    Connection::client(
        io,
        "service:1".into(),
        Identity::default(),
        ConnectionConfig::default(),
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn a_burst_waits_for_the_readers_and_nobody_is_turned_away() {
    let network = MemoryNetwork::new();
    let listener = serve(&network, LIMIT);
    let begun = Instant::now();
    let calls = (0..40 * LIMIT).map(|n| {
        let network = network.clone();
        tokio::spawn(async move {
            let connection = connect(&network).await.unwrap();
            let args = vec![n as u8 & 0x7f];
            assert_eq!(call(&connection, "echo", args.clone()).await.unwrap(), args);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(listener.stats().turned_away, 0);
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited for a time-out");
}

#[tokio::test(start_paused = true)]
async fn silence_makes_room_for_who_has_something_to_say() {
    let network = MemoryNetwork::new();
    let listener = serve(&network, LIMIT);
    let mut silent = Vec::new();
    for _ in 0..3 * LIMIT {
        silent.push(dial(&network).await);
    }
    let begun = Instant::now();
    let connection = connect(&network).await.unwrap();
    assert_eq!(call(&connection, "echo", vec![1]).await.unwrap(), [1][..]);
    // Behind two more crowds of silence: each is given its tenth of a second, and the hello time-out is two seconds.
    assert!(
        begun.elapsed() <= Duration::from_millis(301),
        "{:?}",
        begun.elapsed()
    );
    let stats = listener.stats();
    assert!(stats.unready <= LIMIT, "{stats:?}");
    assert!(stats.turned_away as usize >= 2 * LIMIT, "{stats:?}");
    let mut rest = Vec::new();
    silent.remove(0).read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "a peer whose dialect is not known is told nothing");
}

#[tokio::test(start_paused = true)]
async fn with_room_for_all_silence_has_its_time() {
    let network = MemoryNetwork::new();
    let listener = serve(&network, LIMIT);
    let _silent = [dial(&network).await, dial(&network).await];
    tokio::time::sleep(Duration::from_millis(1900)).await;
    let stats = listener.stats();
    assert_eq!((stats.unready, stats.turned_away), (2, 0));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(listener.stats().unready, 0, "the hello time-out has passed");
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_none_lets_nobody_in() {
    let network = MemoryNetwork::new();
    let listener = serve(&network, 0);
    let error = connect(&network).await.unwrap_err();
    assert!(
        matches!(&error, HandshakeError::Connection(error) if matches!(**error, ConnectionError::PeerClosed)),
        "{error:?}"
    );
    assert_eq!(listener.stats().turned_away, 1);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_waits_for_room_still_stops() {
    let network = MemoryNetwork::new();
    let listener = serve(&network, 1);
    let (_first, mut second) = (dial(&network).await, dial(&network).await);
    tokio::task::yield_now().await;
    listener.close();
    let mut rest = Vec::new();
    second.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
    assert_eq!(listener.stats().accepted, 1, "the one that waited was not let in");
}
