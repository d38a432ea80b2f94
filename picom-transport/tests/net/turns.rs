//! Whose turn it is when many replies have come together.

use crate::hostile::{bytes_of, hello};
use crate::service::request;
use bytes::BytesMut;
use picom_codec::{Frame, FrameCodec};
use picom_transport::{Connection, ConnectionConfig, Identity, RecvHalf};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const CALLS: usize = 64;

/// A call, and one more when it has been answered.
async fn two_calls(connection: &Connection) {
    for _ in 0..2 {
        let (_, mut reply) = connection.open(request("echo", vec![7])).unwrap();
        assert_eq!(reply.recv().await.unwrap().unwrap(), [7][..]);
    }
}

/// A connection over memory to a peer that has said hello and takes so many calls at a time.
async fn connected(streams: u32) -> (Connection, DuplexStream) {
    let (io, mut peer) = duplex(1 << 20);
    let Frame::Hello(mut hello) = hello() else {
        panic!("it is one")
    };
    hello.stream_limit = streams;
    peer.write_all(&bytes_of([Frame::Hello(hello)])).await.unwrap();
    let config = ConnectionConfig::default();
    let connection = Connection::client(Box::new(io), "peer".into(), Identity::default(), config)
        .await
        .unwrap();
    (connection, peer)
}

/// The replies to these calls: their args.
fn replies(calls: &[Frame]) -> BytesMut {
    bytes_of(calls.iter().map(|call| match call {
        Frame::Call(open) => Frame::Last {
            stream: open.stream,
            body: open.args.clone(),
        },
        other => panic!("{other:?}"),
    }))
}

/// Waits for so many calls.
async fn called(peer: &mut DuplexStream, count: usize) -> Vec<Frame> {
    let (mut codec, mut read) = (FrameCodec::new(66_560), BytesMut::new());
    let mut calls = Vec::new();
    poll_fn(|cx| {
        calls.extend(arrived(peer, &mut codec, &mut read, cx));
        match calls.len() == count {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    calls
}

/// Waits for the replies.
async fn answered(halves: Vec<RecvHalf>) {
    for mut half in halves {
        assert_eq!(half.recv().await.unwrap().unwrap(), [7][..]);
    }
}

/// The calls that are there to be read.
fn arrived(
    peer: &mut DuplexStream,
    codec: &mut FrameCodec,
    read: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Vec<Frame> {
    while let Poll::Ready(count) = pin!(peer.read_buf(read)).poll(cx) {
        assert!(count.unwrap() > 0, "the caller has gone");
    }
    let frames = std::iter::from_fn(|| codec.take_frame(read).unwrap());
    frames.filter(|frame| matches!(frame, Frame::Call(_))).collect()
}

/// All of it within the future of `block_on`, which a lone worker comes to when none of its tasks has anything to do.
#[tokio::test]
async fn what_half_of_the_replies_cause_is_sent_before_the_other_half_is_handled() {
    let (connection, mut peer) = connected(512).await;
    let mut calls: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = (0..CALLS)
        .map(|_| Box::pin(two_calls(&connection)) as _)
        .collect();
    let (mut codec, mut read) = (FrameCodec::new(66_560), BytesMut::new());
    let mut unanswered = Vec::new();
    let mut batches = Vec::new();
    poll_fn(|cx| {
        for call in &mut calls {
            assert!(call.as_mut().poll(cx).is_pending());
        }
        let frames = arrived(&mut peer, &mut codec, &mut read, cx);
        if unanswered.len() < CALLS {
            unanswered.extend(frames);
            if unanswered.len() == CALLS {
                let replies = replies(&unanswered);
                assert!(pin!(peer.write_all(&replies)).poll(cx).is_ready());
            }
        } else if !frames.is_empty() {
            batches.push(frames.len());
        }
        match batches.iter().sum::<usize>() {
            CALLS => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    assert_eq!(batches, [CALLS / 2, CALLS / 2]);
}

/// Slots that become free let calls be sent that wait for one, without anybody's doing.
#[tokio::test]
async fn a_driver_with_something_to_write_does_not_wake_itself_before_others_have_run() {
    let (connection, mut peer) = connected(CALLS as u32).await;
    let mut halves: Vec<_> = (0..2 * CALLS)
        .map(|_| connection.call_queued(request("echo", vec![7]), None).unwrap())
        .collect();
    let first = called(&mut peer, CALLS).await;
    let mut answered = |cx: &mut Context<'_>| {
        halves.retain_mut(|half| half.poll_recv(cx).is_pending());
        2 * CALLS - halves.len()
    };
    poll_fn(|cx| {
        assert_eq!(answered(cx), 0);
        Poll::Ready(())
    })
    .await;
    peer.write_all(&replies(&first)).await.unwrap();
    let seen = poll_fn(|cx| match answered(cx) {
        0 => Poll::Pending,
        answered => Poll::Ready(answered),
    });
    assert_eq!(seen.await, CALLS / 2);
}

/// A task that always has something to do, as the driver of a connection on which much arrives: it is given way to once.
#[tokio::test]
async fn what_is_left_over_waits_once_for_those_who_are_never_done() {
    const REPLIES: usize = 512;
    /// How many tasks a runtime polls before it looks at its sockets and at `block_on`.
    const ROUND: u64 = 61;
    let (connection, mut peer) = connected(REPLIES as u32).await;
    let open = || -> Vec<_> {
        let calls = (0..REPLIES).map(|_| connection.call(request("echo", vec![7]), None));
        calls.collect::<Result<_, _>>().unwrap()
    };
    // Until what comes together is read together.
    for _ in 0..3 {
        let halves = open();
        let calls = called(&mut peer, REPLIES).await;
        peer.write_all(&replies(&calls)).await.unwrap();
        answered(halves).await;
    }
    let halves = open();
    let calls = called(&mut peer, REPLIES).await;
    let over = Arc::new(AtomicBool::new(false));
    let busy = tokio::spawn({
        let (connection, over) = (connection.clone(), over.clone());
        let heard = connection.stats().frames_in;
        let (mut polls, mut whole) = (0, 0);
        poll_fn(move |cx| {
            let come = (connection.stats().frames_in - heard) as usize;
            polls += u64::from((1..REPLIES).contains(&come));
            whole += u64::from(come == REPLIES);
            cx.waker().wake_by_ref();
            match over.load(Ordering::Relaxed) {
                true => Poll::Ready((polls, whole)),
                false => Poll::Pending,
            }
        })
    });
    peer.write_all(&replies(&calls)).await.unwrap();
    answered(halves).await;
    over.store(true, Ordering::Relaxed);
    let (polls, whole) = busy.await.unwrap();
    assert!(whole > 0, "the other task was polled to the end");
    assert!(
        (1..2 * ROUND).contains(&polls),
        "{polls} polls while they were handled"
    );
}
