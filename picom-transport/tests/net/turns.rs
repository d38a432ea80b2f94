//! Whose turn it is when many replies have come together.

use crate::hostile::{bytes_of, hello};
use crate::service::request;
use bytes::BytesMut;
use picom_codec::{Frame, FrameCodec};
use picom_transport::{Connection, ConnectionConfig, Identity};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
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
    let (io, mut peer) = duplex(1 << 20);
    peer.write_all(&bytes_of([hello()])).await.unwrap();
    let config = ConnectionConfig::default();
    let connection = Connection::client(Box::new(io), "peer".into(), Identity::default(), config)
        .await
        .unwrap();
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
                let replies = unanswered.iter().map(|call| match call {
                    Frame::Call(open) => Frame::Last {
                        stream: open.stream,
                        body: open.args.clone(),
                    },
                    other => panic!("{other:?}"),
                });
                let replies = bytes_of(replies);
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
