//! What bodies hold that a handler keeps: not much more than themselves, whatever came beside them.

use picom_alloc::kept;
use picom_codec::{Blob, Body, Method, value};
use picom_transport::{
    Connection, ConnectionConfig, Connector, Identity, Incoming, Listener, ListenerConfig, Request,
    StreamHandler, TcpAcceptor, TcpConnector, Turn,
};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

/// Long enough not to be copied out of the read buffer anyway.
const BODY: usize = 17_000;
const KEPT: usize = 80;
/// Between two that are kept comes so much that is not: they do not share a read buffer.
const BESIDE: usize = 12;
const LARGE: usize = 60_000;

/// Eight read buffers of 256 KiB, the one in use, and as much again for all else.
const BEYOND: isize = 10 * 256 * 1024;

/// Keeps the args of calls of `keep`, lets go of what it has kept longest for `release`, and forgets the others.
#[derive(Default)]
struct Keeper(Mutex<VecDeque<Body>>);

impl StreamHandler for Keeper {
    fn handle(&self, incoming: Incoming, _: &mut Turn) {
        let mut kept = self.0.lock().unwrap();
        match incoming.method.as_str() {
            "keep" => kept.push_back(incoming.args),
            "release" => drop(kept.pop_front()),
            _ => {}
        }
        incoming.send.finish_with(value::nil()).unwrap();
    }
}

async fn call(connection: &Connection, method: &str, length: usize) {
    let request = Request {
        method: Method::new(method).unwrap(),
        args: value::encode(&Blob(vec![7; length].into())).unwrap().into(),
        metadata: None,
        deadline: None,
        idempotent: false,
        ends: true,
    };
    let mut reply = connection.call(request, None).unwrap();
    assert_eq!(reply.recv().await.unwrap(), Some(value::nil().into()));
}

/// What is held when `talk` is over, beyond what the kept bodies themselves take.
fn held_beyond(talk: impl AsyncFn(&Connection)) -> isize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let keeper = Arc::new(Keeper::default());
    let (connection, _listener) = runtime.block_on(async {
        let acceptor = TcpAcceptor::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = acceptor.local_socket_addr().to_string();
        let (identity, config) = (Identity::default(), ListenerConfig::default());
        let listener = Listener::start(Arc::new(acceptor), identity, config, keeper.clone()).unwrap();
        let io = TcpConnector.connect(&address).await.unwrap();
        let config = ConnectionConfig::default();
        let connection = Connection::client(io, address, Identity::default(), config)
            .await
            .unwrap();
        (connection, listener)
    });
    let ((), held) = kept(|| runtime.block_on(talk(&connection)));
    let bodies = keeper.0.lock().unwrap();
    assert!(bodies.iter().all(|body| body.len() > BODY) && bodies.len() == KEPT);
    held - isize::try_from(KEPT * (BODY + 1000)).unwrap()
}

async fn beside(connection: &Connection) {
    let calls = (0..BESIDE).map(|_| call(connection, "drop", LARGE));
    futures_util::future::join_all(calls).await;
}

#[test]
fn bodies_that_are_kept_do_not_keep_the_read_buffers_they_came_in() {
    let beyond = held_beyond(async |connection| {
        for _ in 0..KEPT {
            beside(connection).await;
            call(connection, "keep", BODY).await;
        }
        beside(connection).await;
    });
    assert!(beyond <= BEYOND, "{beyond} bytes more are held, {BEYOND} at most");
}

/// A buffer that comes free makes room for one, not for one more each time.
#[test]
fn bodies_that_are_let_go_of_one_by_one_do_not_make_room_for_more_and_more() {
    const FIRST: usize = 10;
    let beyond = held_beyond(async |connection| {
        let keep = async || {
            beside(connection).await;
            call(connection, "keep", BODY).await;
        };
        for _ in 0..FIRST {
            keep().await;
        }
        for _ in FIRST..KEPT {
            call(connection, "release", 1).await;
            keep().await;
            keep().await;
        }
    });
    assert!(beyond <= BEYOND, "{beyond} bytes more are held, {BEYOND} at most");
}
