//! Large blobs, which are sent without a copy: whatever is around them, they arrive as they were.

use futures_util::stream;
use picom_codec::Blob;
use picom_rpc::testing::InMemory;
use picom_rpc::{In, Methods, Out};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct File {
    name: String,
    first: Blob,
    pieces: Vec<Blob>,
    last: Option<Blob>,
    size: u64,
}

fn blob(length: usize, seed: usize) -> Blob {
    Blob(
        (0..length)
            .map(|n| (n * 7 + seed) as u8)
            .collect::<Vec<u8>>()
            .into(),
    )
}

fn file(length: usize) -> File {
    File {
        name: "a name".into(),
        first: blob(length, 1),
        pieces: vec![blob(length / 2, 2), blob(length, 3), blob(3, 4)],
        last: Some(blob(length, 5)),
        size: length as u64,
    }
}

/// Around what is copied, what fits a frame, and what travels in parts.
const LENGTHS: [usize; 7] = [0, 16_383, 16_384, 40_000, 65_536, 70_000, 1_000_000];

fn methods() -> Methods {
    Methods::new()
        .unary("echo", |file: File| async move { Ok(file) })
        .stream("files", |lengths: Vec<usize>| async move {
            Ok(stream::iter(lengths.into_iter().map(|length| Ok(file(length)))))
        })
        .bidi("back", |_: (), mut files: In<File>, out: Out<File>| async move {
            while let Some(file) = files.next().await? {
                out.send(file).await?;
            }
            Ok(())
        })
}

#[tokio::test]
async fn blobs_of_all_lengths_go_there_and_back() {
    let world = InMemory::new();
    world.serve("svc", methods()).await.unwrap();
    let client = world.client().unwrap();
    for length in LENGTHS {
        let back: File = client.fetch("svc", "echo", &file(length)).await.unwrap();
        assert!(back == file(length), "{length}");
    }
}

#[tokio::test]
async fn blobs_in_streams_keep_their_order_among_small_ones() {
    let world = InMemory::new();
    world.serve("svc", methods()).await.unwrap();
    let client = world.client().unwrap();
    let lengths: Vec<usize> = LENGTHS.into_iter().cycle().take(14).collect();
    let files: Vec<File> = client.fetch_all("svc", "files", &lengths).await.unwrap();
    assert_eq!(files.len(), lengths.len());
    for (got, length) in files.iter().zip(&lengths) {
        assert!(*got == file(*length), "{length}");
    }

    let (out, mut back) = client.stream::<File, File>("svc", "back", &()).await.unwrap();
    let send = async {
        for length in &lengths {
            out.send(file(*length)).await.unwrap();
        }
        out.finish().unwrap();
    };
    let receive = async {
        for length in &lengths {
            let got = back.next().await.unwrap().unwrap();
            assert!(got == file(*length), "{length}");
        }
        assert!(back.next().await.unwrap().is_none());
    };
    tokio::join!(send, receive);
}
