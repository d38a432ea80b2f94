//! A handler for tests: what it does is said by the method's name.

use bytes::Bytes;
use picom_codec::{Code, Method};
use picom_transport::{
    Connection, FaultReply, Identity, Incoming, Listener, ListenerConfig, Request, StreamHandler,
    TcpAcceptor, TcpConnector, Turn,
};
use picom_transport::{ConnectionConfig, Connector};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Service {
    pub(crate) started: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) gate: Notify,
    pub(crate) change: Notify,
}

impl Service {
    /// Waits until a condition on the counters holds.
    pub(crate) async fn until(&self, holds: impl Fn(&Service) -> bool) {
        loop {
            let changed = self.change.notified();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }
}

pub(crate) struct Handler(pub(crate) Arc<Service>);

impl StreamHandler for Handler {
    fn handle(&self, incoming: Incoming, _turn: &mut Turn) {
        let service = self.0.clone();
        service.started.fetch_add(1, Ordering::SeqCst);
        service.change.notify_waiters();
        match incoming.method.as_str() {
            "echo" => {
                let Incoming { send, args, .. } = incoming;
                drop(incoming.recv);
                let _ = send.finish_with(args);
            }
            "count" => {
                let Incoming {
                    mut send, args, recv, ..
                } = incoming;
                drop(recv);
                tokio::spawn(async move {
                    for _ in 0..u32::from(args.clone().into_bytes()[0]) * 1000 {
                        if send.send(args.clone()).await.is_err() {
                            return;
                        }
                    }
                    let _ = send.finish();
                });
            }
            "sum" => {
                let Incoming { send, mut recv, .. } = incoming;
                tokio::spawn(async move {
                    let mut count = 0u8;
                    while let Ok(Some(_)) = recv.recv().await {
                        count = count.wrapping_add(1) & 0x7f;
                    }
                    let _ = send.finish_with(Bytes::from(vec![count]));
                });
            }
            "mirror" => {
                let Incoming {
                    mut send, mut recv, ..
                } = incoming;
                tokio::spawn(async move {
                    while let Ok(Some(message)) = recv.recv().await {
                        if send.send(message).await.is_err() {
                            return;
                        }
                    }
                    let _ = send.finish();
                });
            }
            "wait" => {
                let Incoming {
                    mut send, recv, args, ..
                } = incoming;
                tokio::spawn(async move {
                    let _recv = recv;
                    tokio::select! {
                        () = service.gate.notified() => {
                            let _ = send.finish_with(args);
                        }
                        _ = send.ended() => {
                            service.cancelled.fetch_add(1, Ordering::SeqCst);
                            service.change.notify_waiters();
                        }
                    }
                });
            }
            other => {
                let text = format!("no method {other}");
                let _ = incoming.send.fault(FaultReply {
                    code: Code::UNKNOWN_METHOD,
                    started: false,
                    do_not_retry: true,
                    delay: None,
                    text,
                    name: None,
                    details: Bytes::from_static(&[0xc0]),
                });
            }
        }
    }
}

pub(crate) struct Running {
    pub(crate) service: Arc<Service>,
    pub(crate) listener: Listener,
    pub(crate) address: SocketAddr,
}

/// The service on a real socket.
pub(crate) fn serve(config: ListenerConfig) -> Running {
    let acceptor = TcpAcceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = acceptor.local_socket_addr();
    let service = Arc::new(Service::default());
    let identity = Identity {
        service: Some("test".into()),
        instance: Some("one".into()),
    };
    let handler = Arc::new(Handler(service.clone()));
    let listener = Listener::start(Arc::new(acceptor), identity, config, handler).unwrap();
    Running {
        service,
        listener,
        address,
    }
}

impl Running {
    pub(crate) async fn connect(&self) -> Connection {
        let address = self.address.to_string();
        let io = TcpConnector.connect(&address).await.unwrap();
        let meant = Identity {
            service: Some("test".into()),
            instance: None,
        };
        Connection::client(io, address, meant, ConnectionConfig::default())
            .await
            .unwrap()
    }
}

pub(crate) fn request(method: &str, args: impl Into<Bytes>) -> Request {
    Request {
        method: Method::new(method).unwrap(),
        args: args.into().into(),
        metadata: None,
        deadline: None,
        idempotent: false,
        ends: true,
    }
}

/// A call with further input.
pub(crate) fn open(method: &str, args: impl Into<Bytes>) -> Request {
    Request {
        ends: false,
        ..request(method, args)
    }
}

/// A unary call to its end.
pub(crate) async fn call(
    connection: &Connection,
    method: &str,
    args: impl Into<Bytes>,
) -> Result<Bytes, picom_transport::StreamError> {
    let (_send, mut recv) = connection
        .open(request(method, args))
        .expect("the connection takes a call");
    let reply = recv.recv().await?.expect("a reply");
    assert_eq!(recv.recv().await?, None);
    Ok(reply.into_bytes())
}
