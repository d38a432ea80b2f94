//! More connections at once than may be unready: nobody who speaks is lost, and silence makes room. In memory, under a
//! virtual clock that stands still while anybody has something to do.

use crate::service::{Handler, Service, call};
use picom_transport::testing::{MemoryAcceptor, MemoryNetwork};
use picom_transport::{
    Acceptor, BoxIo, Connection, ConnectionConfig, ConnectionError, HandshakeError, Identity, Listener,
    ListenerConfig,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const LIMIT: usize = 4;
const ECHO: &[u8] = b"\x10\x82\xa3cmd\xa4echo\xa4args\x07";
const THE_END: &[u8] = b"\x0c\x81\xa6_type_\xa3end";

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
    for _ in 0..2 * LIMIT {
        silent.push(dial(&network).await);
    }
    let begun = Instant::now();
    let call = classic_call(&network).await;
    assert!(call.await.unwrap().ends_with(THE_END));
    // Behind another crowd of silence: each is given its second, and the hello time-out is two.
    assert!(
        begun.elapsed() <= Duration::from_millis(2001),
        "{:?}",
        begun.elapsed()
    );
    let stats = listener.stats();
    assert!(stats.unready <= LIMIT, "{stats:?}");
    assert!(stats.turned_away as usize > LIMIT, "{stats:?}");
    let mut rest = Vec::new();
    silent.remove(0).read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "a peer whose dialect is not known is told nothing");
}

/// Connects, and then calls `echo` of the classic dialect: gives its whole answer.
async fn classic_call(network: &MemoryNetwork) -> tokio::task::JoinHandle<Vec<u8>> {
    let mut io = dial(network).await;
    tokio::spawn(async move {
        io.write_all(ECHO).await.unwrap();
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await.unwrap();
        answer
    })
}

#[tokio::test(start_paused = true)]
async fn clients_that_connect_first_and_write_later_all_have_their_answer() {
    let network = MemoryNetwork::new();
    let listener = serve(&network, LIMIT);
    // As a program does that opens all its connections before it writes to the first.
    let mut connected = Vec::new();
    for _ in 0..40 * LIMIT {
        connected.push(dial(&network).await);
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    let calls = connected.into_iter().map(|mut io| {
        tokio::spawn(async move {
            io.write_all(ECHO).await.unwrap();
            let mut answer = Vec::new();
            io.read_to_end(&mut answer).await.unwrap();
            answer
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap().ends_with(THE_END));
    }
    assert_eq!(listener.stats().turned_away, 0);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_keeps_coming_is_not_evicted_by_silence() {
    let network = MemoryNetwork::new();
    let listener = serve(&network, LIMIT);
    let mut speaking = dial(&network).await;
    let (first, rest) = ECHO.split_at(2);
    speaking.write_all(first).await.unwrap();
    let mut silent = Vec::new();
    for byte in rest {
        // Each time as many newcomers as there may be.
        for _ in 0..LIMIT {
            silent.push(dial(&network).await);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        speaking.write_all(&[*byte]).await.unwrap();
    }
    let mut answer = Vec::new();
    speaking.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(THE_END), "{answer:?}");
    assert!(listener.stats().turned_away > 0);
}

/// Has no descriptors left until it is told otherwise.
#[derive(Debug)]
struct Exhausted {
    acceptor: MemoryAcceptor,
    room: AtomicUsize,
}

#[async_trait::async_trait]
impl Acceptor for Exhausted {
    async fn accept(&self) -> io::Result<(BoxIo, String)> {
        let taken = self
            .room
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| room.checked_sub(1));
        match taken {
            // EMFILE.
            Err(_) => Err(io::Error::from_raw_os_error(24)),
            Ok(_) => self.acceptor.accept().await,
        }
    }

    fn local_addr(&self) -> String {
        self.acceptor.local_addr()
    }
}

#[tokio::test(start_paused = true)]
async fn without_descriptors_silence_makes_room_too() {
    let network = MemoryNetwork::new();
    let acceptor = Arc::new(Exhausted {
        acceptor: network.bind("service:1").unwrap(),
        room: AtomicUsize::new(1),
    });
    let handler = Arc::new(Handler(Arc::new(Service::default())));
    let (identity, config) = (Identity::default(), ListenerConfig::default());
    let listener = Listener::start(acceptor.clone(), identity, config, handler).unwrap();
    let mut silent = dial(&network).await;
    let begun = Instant::now();
    let call = classic_call(&network).await;
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    let waited = begun.elapsed();
    assert!(waited < Duration::from_millis(2000), "{waited:?}");
    // What it held is free again.
    acceptor.room.store(usize::MAX, Ordering::SeqCst);
    assert!(call.await.unwrap().ends_with(THE_END));
    assert_eq!(listener.stats().turned_away, 1);
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

#[tokio::test(start_paused = true)]
async fn whoever_has_connected_before_the_end_is_still_answered() {
    let network = MemoryNetwork::new();
    let listener = serve(&network, 1);
    // One in, one that waits for room, and some that nobody has accepted.
    let mut connected = Vec::new();
    for _ in 0..5 {
        connected.push(dial(&network).await);
    }
    tokio::task::yield_now().await;
    listener.start_drain(Duration::from_secs(30));
    listener.stop_accepting();
    let ending = tokio::spawn({
        let listener = listener.clone();
        async move { listener.drained().await }
    });
    tokio::task::yield_now().await;
    for mut io in connected {
        io.write_all(ECHO).await.unwrap();
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(THE_END), "{answer:?}");
    }
    let report = ending.await.unwrap();
    assert_eq!((report.finished, report.cut), (5, 0));
    assert!(
        network.connector().connect("service:1").await.is_err(),
        "nobody listens"
    );
}
