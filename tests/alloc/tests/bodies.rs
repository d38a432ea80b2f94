//! What bodies hold that a handler keeps: not much more than themselves, whatever came beside them.

use bytes::Bytes;
use picom_alloc::kept;
use picom_codec::{Blob, Method, value};
use picom_transport::{
    Connection, ConnectionConfig, Connector, Identity, Incoming, Listener, ListenerConfig, Request,
    StreamHandler, TcpAcceptor, TcpConnector, Turn,
};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

/// Long enough not to be copied out of the read buffer anyway.
const BODY: usize = 17_000;
const KEPT: usize = 80;
/// Between two that are kept comes so much that is not: they do not share a read buffer.
const BESIDE: usize = 12;
const LARGE: usize = 60_000;

/// Eight read buffers of 256 KiB, the one in use, and as much again for all else.
const BEYOND: usize = 10 * 256 * 1024;

/// Keeps the args of calls of `keep`, and forgets the others.
#[derive(Default)]
struct Keeper(Mutex<Vec<Bytes>>);

impl StreamHandler for Keeper {
    fn handle(&self, incoming: Incoming, _: &mut Turn) {
        if incoming.method.as_str() == "keep" {
            self.0.lock().unwrap().push(incoming.args);
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
    assert_eq!(reply.recv().await.unwrap(), Some(value::nil()));
}

#[test]
fn bodies_that_are_kept_do_not_keep_the_read_buffers_they_came_in() {
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
    let beside = || async {
        let calls = (0..BESIDE).map(|_| call(&connection, "drop", LARGE));
        futures_util::future::join_all(calls).await;
    };
    let ((), held) = kept(|| {
        runtime.block_on(async {
            for _ in 0..KEPT {
                beside().await;
                call(&connection, "keep", BODY).await;
            }
            beside().await;
        });
    });
    let bodies = keeper.0.lock().unwrap();
    assert!(bodies.iter().all(|body| body.len() > BODY) && bodies.len() == KEPT);
    let most = isize::try_from(KEPT * (BODY + 1000) + BEYOND).unwrap();
    assert!(held <= most, "{held} bytes are held, {most} at most");
}
