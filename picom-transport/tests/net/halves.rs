//! Halves that outlive their stream: they get nothing, and take nothing from the next tenant of its place.

use bytes::Bytes;
use picom_codec::Method;
use picom_transport::testing::MemoryNetwork;
use picom_transport::{
    Connection, ConnectionConfig, Identity, Incoming, Listener, ListenerConfig, Request, StreamHandler, Turn,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use tokio::sync::mpsc;

/// Hands the calls to the test.
struct Handing(mpsc::UnboundedSender<Incoming>);

impl StreamHandler for Handing {
    fn handle(&self, incoming: Incoming, _turn: &mut Turn) {
        let _ = self.0.send(incoming);
    }
}

#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn request(ends: bool) -> Request {
    Request {
        method: Method::new("m").unwrap(),
        args: Bytes::from_static(&[1]).into(),
        metadata: None,
        deadline: None,
        idempotent: false,
        ends,
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_of_a_stream_that_is_gone_does_not_take_the_wake_up_of_another() {
    let network = MemoryNetwork::new();
    let (sender, mut calls) = mpsc::unbounded_channel();
    let acceptor = Arc::new(network.bind("service:1").unwrap());
    let _listener = Listener::start(
        acceptor,
        Identity::default(),
        ListenerConfig::default(),
        Arc::new(Handing(sender)),
    )
    .unwrap();
    let io = network.connector().connect("service:1").await.unwrap();
    let client = Connection::client(
        io,
        "service:1".into(),
        Identity::default(),
        ConnectionConfig::default(),
    )
    .await
    .unwrap();

    // A call that is over for both sides, of which the service's side keeps a half.
    let (send, mut reply) = client.open(request(false)).unwrap();
    send.finish_with(Bytes::from_static(&[2])).unwrap();
    let mut first = calls.recv().await.unwrap();
    assert_eq!(first.recv.recv().await.unwrap().unwrap(), [2][..]);
    first.send.finish().unwrap();
    assert!(reply.recv().await.unwrap().is_none());
    let kept = first.recv;

    // The next call stands in its place.
    let pending = client.call(request(true), None).unwrap();
    let mut second = calls.recv().await.unwrap();
    let counting = Arc::new(Counting::default());
    let waker = Waker::from(counting.clone());
    assert!(
        second
            .send
            .poll_ended(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert!(
        kept.poll_ended(&mut Context::from_waker(Waker::noop()))
            .is_pending(),
        "nothing will be told of a stream that is gone"
    );
    drop(pending);
    // The clock stands still while anybody has something to do: by then the reset has come.
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(
        counting.0.load(Ordering::SeqCst),
        1,
        "the handler learns that its caller went away"
    );
}
