//! What connections hold that have made a call and stand by: there may be thousands.

use picom_alloc::kept;
use picom_codec::{Method, value};
use picom_transport::{
    Connection, ConnectionConfig, Connector, Identity, Incoming, Listener, ListenerConfig, Request,
    StreamHandler, TcpAcceptor, TcpConnector, Turn,
};
use std::net::Ipv4Addr;
use std::sync::Arc;

const CONNECTIONS: usize = 100;

/// Of both ends together, in bytes: 6,781 when this was written. Each end's state takes 1,530 of it, its task 640, the
/// runtime's entry for its socket 256.
const BOTH_ENDS: usize = 7 * 1024;

/// Answers with nil, at once.
struct Nothing;

impl StreamHandler for Nothing {
    fn handle(&self, incoming: Incoming, _: &mut Turn) {
        incoming.send.finish_with(value::nil()).unwrap();
    }
}

async fn connect(address: &str) -> Connection {
    let io = TcpConnector.connect(address).await.unwrap();
    let config = ConnectionConfig::default();
    let connection = Connection::client(io, address.into(), Identity::default(), config)
        .await
        .unwrap();
    let request = Request {
        method: Method::new("nothing").unwrap(),
        args: value::nil().into(),
        metadata: None,
        deadline: None,
        idempotent: false,
        ends: true,
    };
    let mut reply = connection.call(request, None).unwrap();
    assert_eq!(reply.recv().await.unwrap(), Some(value::nil().into()));
    assert_eq!(reply.recv().await.unwrap(), None);
    connection
}

#[test]
fn a_connection_that_stands_by_holds_little() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let acceptor = runtime.block_on(async { TcpAcceptor::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap() });
    let address = acceptor.local_socket_addr().to_string();
    let listener = runtime.block_on(async {
        let (identity, config) = (Identity::default(), ListenerConfig::default());
        Listener::start(Arc::new(acceptor), identity, config, Arc::new(Nothing)).unwrap()
    });
    // What the first takes is not to be counted for each.
    let first = runtime.block_on(connect(&address));
    let (held, bytes) = kept(|| {
        runtime.block_on(async {
            let mut held = Vec::with_capacity(CONNECTIONS);
            for _ in 0..CONNECTIONS {
                held.push(connect(&address).await);
            }
            // Both ends are driven on this thread: in these turns they find that nothing follows.
            for _ in 0..CONNECTIONS {
                tokio::task::yield_now().await;
            }
            held
        })
    });
    assert_eq!(listener.stats().connections, CONNECTIONS + 1);
    let each = usize::try_from(bytes).unwrap() / CONNECTIONS;
    assert!((1000..=BOTH_ENDS).contains(&each), "{each} bytes for both ends");
    drop((first, held));
}
