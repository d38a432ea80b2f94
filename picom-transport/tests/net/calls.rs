//! Calls over real sockets.

use crate::service::{call, open, request, serve};
use bytes::Bytes;
use picom_codec::Code;
use picom_transport::{
    Connection, ConnectionConfig, ConnectionError, Connector, HandshakeError, Identity, ListenerConfig,
    OpenError, Outcome, SendError, StreamError, TcpConnector,
};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn a_call_comes_back() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    assert_eq!(call(&connection, "echo", vec![7]).await.unwrap(), [7][..]);
    let peer = connection.peer();
    assert_eq!(
        (peer.service.as_deref(), peer.instance.as_deref()),
        (Some("test"), Some("one"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_each_get_their_own_reply() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let calls = (0..200u8).map(|task| {
        let connection = connection.clone();
        tokio::spawn(async move {
            for round in 0..50u8 {
                let args = vec![0xc4, 2, task, round];
                assert_eq!(call(&connection, "echo", args.clone()).await.unwrap(), args[..]);
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(running.service.started.load(Ordering::SeqCst), 10_000);
    assert_eq!(connection.stats().opened_now, 0);
}

#[tokio::test]
async fn bodies_of_all_sizes_come_back_unchanged() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    for size in [
        1usize, 2, 300, 4095, 4096, 4097, 16_383, 16_384, 65_000, 65_536, 65_537, 1_000_000, 10_000_000,
    ] {
        let mut args = vec![0xc6];
        args.extend((size as u32).to_be_bytes());
        args.extend((0..size).map(|n| (n * 31 % 251) as u8));
        let args = Bytes::from(args);
        assert_eq!(
            call(&connection, "echo", args.clone()).await.unwrap(),
            args,
            "{size} bytes"
        );
    }
}

#[tokio::test]
async fn a_stream_of_many_items_arrives_whole() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let (_send, mut recv) = connection.open(request("count", vec![100])).unwrap();
    let mut count = 0;
    while let Some(item) = recv.recv().await.unwrap() {
        assert_eq!(item, [100][..]);
        count += 1;
    }
    assert_eq!(count, 100_000);
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_own_stream_only() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let (_send, mut slow) = connection.open(request("count", vec![100])).unwrap();
    assert!(slow.recv().await.unwrap().is_some());
    for _ in 0..100 {
        assert_eq!(call(&connection, "echo", vec![1]).await.unwrap(), [1][..]);
    }
    let mut rest = 1;
    while slow.recv().await.unwrap().is_some() {
        rest += 1;
    }
    assert_eq!(rest, 100_000);
}

#[tokio::test]
async fn input_is_sent_and_answered() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let (mut send, mut recv) = connection.open(open("sum", vec![0])).unwrap();
    for _ in 0..100 {
        send.send(Bytes::from_static(&[1])).await.unwrap();
    }
    send.finish().unwrap();
    assert_eq!(recv.recv().await.unwrap().unwrap(), [100][..]);
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let (mut send, mut recv) = connection.open(open("mirror", vec![0])).unwrap();
    let sender = tokio::spawn(async move {
        for n in 0..20_000u32 {
            let mut message = vec![0xce];
            message.extend(n.to_be_bytes());
            send.send(message).await.unwrap();
        }
        send.finish().unwrap();
    });
    let mut next = 0u32;
    while let Some(message) = recv.recv().await.unwrap() {
        assert_eq!(message.into_bytes()[1..], next.to_be_bytes());
        next += 1;
    }
    assert_eq!(next, 20_000);
    sender.await.unwrap();
}

#[tokio::test]
async fn dropping_a_call_cancels_its_handler() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let halves = connection.open(request("wait", vec![1])).unwrap();
    running
        .service
        .until(|service| service.started.load(Ordering::SeqCst) == 1)
        .await;
    drop(halves);
    running
        .service
        .until(|service| service.cancelled.load(Ordering::SeqCst) == 1)
        .await;
}

#[tokio::test]
async fn an_unknown_method_is_a_fault_of_its_call() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let error = call(&connection, "none", vec![1]).await.unwrap_err();
    assert!(
        matches!(&error, StreamError::Fault(fault) if fault.code == Code::UNKNOWN_METHOD),
        "{error}"
    );
    assert_eq!(error.outcome(), Outcome::Refused);
    assert_eq!(call(&connection, "echo", vec![1]).await.unwrap(), [1][..]);
}

#[tokio::test]
async fn a_client_that_means_another_service_is_told_so() {
    let running = serve(ListenerConfig::default());
    let address = running.address.to_string();
    let io = TcpConnector.connect(&address).await.unwrap();
    let meant = Identity {
        service: Some("other".into()),
        instance: None,
    };
    let error = Connection::client(io, address, meant, ConnectionConfig::default())
        .await
        .unwrap_err();
    let HandshakeError::Connection(error) = error else {
        panic!("{error}")
    };
    assert!(
        matches!(
            &*error,
            ConnectionError::Goaway {
                code: Code::WRONG_PEER,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_drain_loses_no_reply() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let (_send, mut recv) = connection.open(request("wait", vec![5])).unwrap();
    running
        .service
        .until(|service| service.started.load(Ordering::SeqCst) == 1)
        .await;
    running.listener.start_drain(Duration::from_secs(30));
    connection.draining().await;
    assert!(matches!(
        connection.open(request("echo", vec![1])),
        Err(OpenError::Draining)
    ));
    running.service.gate.notify_one();
    assert_eq!(recv.recv().await.unwrap().unwrap(), [5][..]);
    running.listener.stop_accepting();
    let report = running.listener.drained().await;
    assert_eq!(
        (report.finished + report.cut, report.streams_cut),
        (report.finished, 0)
    );
    assert!(connection.closed().await.is_orderly());
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_end_in_time_and_counts_it() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let (_send, mut recv) = connection.open(request("wait", vec![5])).unwrap();
    running
        .service
        .until(|service| service.started.load(Ordering::SeqCst) == 1)
        .await;
    running.listener.start_drain(Duration::from_millis(50));
    let report = running.listener.drained().await;
    assert_eq!((report.cut, report.streams_cut), (1, 1));
    assert_eq!(recv.recv().await.unwrap_err().outcome(), Outcome::MaybeExecuted);
}

#[tokio::test]
async fn a_message_over_the_limit_leaves_the_stream_as_it_was() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let (mut send, mut recv) = connection.open(open("sum", vec![0])).unwrap();
    let error = send
        .send(Bytes::from(vec![0; 17 * 1024 * 1024]))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            SendError::TooLarge {
                size: 17_825_792,
                limit: 16_777_216
            }
        ),
        "{error}"
    );
    send.send(Bytes::from_static(&[1])).await.unwrap();
    send.finish().unwrap();
    assert_eq!(recv.recv().await.unwrap().unwrap(), [1][..]);
}

#[tokio::test]
async fn the_last_handle_closes_the_connection_and_open_streams_go_on() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let (_send, mut recv) = connection.open(request("wait", vec![5])).unwrap();
    running
        .service
        .until(|service| service.started.load(Ordering::SeqCst) == 1)
        .await;
    drop(connection);
    running.service.gate.notify_one();
    assert_eq!(recv.recv().await.unwrap().unwrap(), [5][..]);
    drop(recv);
    running.listener.drained().await;
    assert_eq!(running.listener.stats().connections, 0);
}

#[tokio::test]
async fn an_address_is_free_again_when_its_listener_stops_though_calls_go_on() {
    let running = serve(ListenerConfig::default());
    let connection = running.connect().await;
    let (_send, mut recv) = connection.open(request("wait", vec![5])).unwrap();
    running
        .service
        .until(|service| service.started.load(Ordering::SeqCst) == 1)
        .await;
    running.listener.stop_accepting();
    let refused = async {
        while TcpConnector.connect(&running.address.to_string()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused)
        .await
        .expect("nobody listens there any more");
    picom_transport::TcpAcceptor::bind(running.address).expect("the address can be taken");
    running.service.gate.notify_one();
    assert_eq!(recv.recv().await.unwrap().unwrap(), [5][..]);
}
