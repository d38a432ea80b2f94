//! How much memory hostile input can make the codec take.

use bytes::{Bytes, BytesMut};
use picom_alloc::{Taken, taken};
use picom_codec::scan::scan;
use picom_codec::{Blob, Frame, FrameCodec, Items, LengthCodec, Limits, StreamId, head, value};
use rmpv::Value;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use tokio_util::codec::{Decoder, Encoder};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "it is only decoded")]
struct Tree(Vec<Tree>);

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is only decoded")]
enum Untagged {
    Number(i64),
    Text(String),
    List(Vec<Untagged>),
}

/// Decoding `bytes` as a `T` fails and takes no more than an error does.
#[track_caller]
fn refused_for_nothing<T: DeserializeOwned>(bytes: &[u8]) {
    refused_for::<T>(bytes, Taken { count: 4, peak: KIB });
}

/// Decoding `bytes` as a `T` fails and takes no more than `most`.
#[track_caller]
fn refused_for<T: DeserializeOwned>(bytes: &[u8], most: Taken) {
    let bytes = Bytes::copy_from_slice(bytes);
    let (result, taken) = taken(|| value::decode::<T>(&bytes, &Limits::default()).map(|_| ()));
    assert!(result.is_err());
    assert!(
        taken.peak <= most.peak && taken.count <= most.count,
        "{result:?}: {taken:?}"
    );
}

/// Decodes `bytes` as a `T` and says the most it held meanwhile.
#[track_caller]
fn peak<T: DeserializeOwned>(bytes: Vec<u8>, limits: Limits) -> usize {
    let bytes = Bytes::from(bytes);
    let (result, taken) = taken(|| value::decode::<T>(&bytes, &limits));
    if let Err(error) = result {
        panic!("{error}");
    }
    taken.peak
}

fn array(len: usize, element: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xdd];
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend(element.repeat(len));
    bytes
}

#[test]
fn announced_lengths_reserve_nothing() {
    for bomb in [
        &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
        &[0xdc, 0xff, 0xff],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0xdb, 0xff, 0xff, 0xff, 0xff],
        &[0xc9, 0xff, 0xff, 0xff, 0xff],
    ] {
        refused_for_nothing::<Vec<u8>>(bomb);
        refused_for_nothing::<Vec<u64>>(bomb);
        refused_for_nothing::<Vec<String>>(bomb);
        refused_for_nothing::<Vec<[u64; 32]>>(bomb);
        refused_for_nothing::<HashMap<String, u64>>(bomb);
        refused_for_nothing::<BTreeMap<String, u64>>(bomb);
        refused_for_nothing::<String>(bomb);
        refused_for_nothing::<Blob>(bomb);
        refused_for_nothing::<Value>(bomb);
        refused_for_nothing::<Untagged>(bomb);
    }
    // 5,110 bytes that asked for a gigabyte elsewhere.
    let nested = [0xdd, 0xff, 0xff, 0xff, 0xff].repeat(1022);
    refused_for_nothing::<Tree>(&nested);
    refused_for_nothing::<Value>(&nested);
    // Each as long as the bytes left allow: the innermost has room for none.
    let nested: Vec<u8> = (0..60u32)
        .flat_map(|i| [vec![0xdd], (300 - 5 * i).to_be_bytes().to_vec()].concat())
        .collect();
    refused_for_nothing::<Tree>(&nested);
}

#[test]
fn deep_and_reserved_and_trailing_bytes_cost_no_more_than_the_levels_before_them() {
    // A vector of one element a level, as far down as the limit goes.
    let levels = Taken {
        count: 64 + 4,
        peak: 16 * KIB,
    };
    refused_for::<Tree>(&vec![0x91; 100_000], levels);
    refused_for::<Value>(&vec![0x91; 100_000], levels);
    refused_for::<Untagged>(&vec![0x91; 100_000], levels);
    // 1,001 bytes that made half a million allocations elsewhere.
    refused_for::<Untagged>(&[vec![0x91; 1000], vec![0x90]].concat(), levels);
    refused_for_nothing::<Value>(&[0xc1]);
    refused_for_nothing::<Value>(&[0xc0, 0xc0]);
}

#[test]
fn a_message_that_breaks_off_costs_what_its_bytes_announce() {
    // As many headers as there are levels, each with as many elements as fit, and then nothing.
    let levels = 50u32;
    let bytes: Vec<u8> = (0..levels)
        .flat_map(|_| [&[0xdd][..], &200u32.to_be_bytes()].concat())
        .collect();
    let bytes = [bytes, vec![0xc0; 200 * levels as usize]].concat();
    // 10,000 elements in all, of 24 bytes.
    refused_for::<Tree>(
        &bytes,
        Taken {
            count: 60,
            peak: 10_250 * 24 + KIB,
        },
    );
}

#[test]
fn the_scan_allocates_nothing() {
    let inputs = [
        array(200_000, &[0xc0]),
        array(
            1000,
            &[
                0x82, 0xa1, b'k', 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xc4, 0x02, 0x01, 0x02,
            ],
        ),
        vec![0x91; 100_000],
        [0xdd, 0xff, 0xff, 0xff, 0xff].repeat(1022),
        vec![0xc1],
        Vec::new(),
    ];
    for input in inputs {
        let (_, taken) = taken(|| scan(&input, &Limits::default()).is_ok());
        assert_eq!(taken.count, 0);
    }
}

#[test]
fn the_node_limit_bounds_what_dynamic_values_hold() {
    let nodes = Limits::DEFAULT_NODES as usize;
    let chain = |levels: usize| [vec![0x91; levels - 1], vec![0xc0]].concat();
    let maps = [0x81, 0xc0, 0xc0];
    // 160 bytes a value, whatever its shape, and half as much again while the outermost array grows.
    let most = nodes * 160 * 3 / 2;
    for (name, bytes) in [
        ("nils", array(nodes - 1, &[0xc0])),
        ("arrays of one", array(nodes / 2 - 1, &[0x91, 0xc0])),
        ("maps of one", array(nodes / 3 - 1, &maps)),
        ("chains", array(nodes / 63 - 1, &chain(63))),
    ] {
        let peak = peak::<Value>(bytes, Limits::default());
        assert!(peak <= most, "{name}: {peak} bytes");
    }
    let untrusted = Limits::untrusted();
    let peak = peak::<Value>(array(untrusted.nodes() as usize / 63 - 1, &chain(63)), untrusted);
    assert!(peak <= most / 4, "{peak} bytes");
}

#[test]
fn typed_values_hold_little_more_than_their_bytes() {
    assert!(peak::<Vec<u64>>(array(262_143, &[0x07]), Limits::default()) <= 4 * MIB);
    assert!(
        peak::<Vec<u8>>(
            [vec![0xc6, 0, 16, 0, 0], vec![7; MIB]].concat(),
            Limits::default()
        ) <= 2 * MIB
    );
    let text = [vec![0xdb, 0, 16, 0, 0], vec![b'x'; MIB]].concat();
    assert!(peak::<String>(text, Limits::default()) <= MIB + KIB);
}

#[test]
fn a_blob_costs_nothing_whatever_its_size() {
    let message = Bytes::from([vec![0xc6, 0, 16, 0, 0], vec![7; MIB]].concat());
    let (blob, taken) = taken(|| value::decode::<Blob>(&message, &Limits::default()).unwrap());
    assert_eq!(blob.len(), MIB);
    assert!(taken.peak <= KIB, "{taken:?}");
}

#[test]
fn untagged_types_stay_within_what_the_depth_allows() {
    // The deepest chain there may be. serde copies what is below for every level, so it is quadratic in them.
    let deepest = [vec![0x91; 63], vec![0x90]].concat();
    let bytes = Bytes::from(deepest);
    let (result, taken) = taken(|| value::decode::<Untagged>(&bytes, &Limits::default()).map(|_| ()));
    result.unwrap();
    assert!(taken.peak <= 256 * KIB && taken.count <= 10_000, "{taken:?}");
}

#[test]
fn errors_do_not_carry_what_was_received() {
    let long = [vec![0x81, 0xdb, 0, 16, 0, 0], vec![b'k'; MIB], vec![0x01]].concat();
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[expect(dead_code, reason = "it is only decoded")]
        known: u8,
    }
    let bytes = Bytes::from(long);
    let (error, taken) = taken(|| value::decode::<Strict>(&bytes, &Limits::default()).unwrap_err());
    assert!(
        error.to_string().starts_with("byte 1: unknown field `kkk"),
        "{error}"
    );
    assert!(taken.peak <= 2 * KIB, "{taken:?}");
}

#[test]
fn an_announced_frame_of_4_gib_that_trickles_in_holds_what_has_come() {
    let prefix = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let (_, length) = taken(|| {
        let mut codec = LengthCodec::new(u32::MAX);
        let mut buffer = BytesMut::new();
        for byte in prefix.into_iter().chain([0; 2000]) {
            buffer.extend_from_slice(&[byte]);
            assert!(codec.decode(&mut buffer).unwrap().is_none());
        }
    });
    assert!(length.peak < 64 * KIB && length.count < 10, "{length:?}");
    let (_, frame) = taken(|| {
        let mut codec = FrameCodec::new(u32::MAX);
        let mut buffer = BytesMut::new();
        for byte in prefix.into_iter().chain([0x93; 2000]) {
            buffer.extend_from_slice(&[byte]);
            assert!(codec.decode(&mut buffer).unwrap().is_none());
        }
    });
    assert!(frame.peak < 64 * KIB && frame.count < 10, "{frame:?}");
    // Over the limit, the prefix alone decides.
    let (_, over) = taken(|| {
        let mut buffer = BytesMut::from(&prefix[..]);
        FrameCodec::new(64 * 1024).decode(&mut buffer).unwrap_err()
    });
    assert!(over.peak < 100, "{over:?}");
}

#[test]
fn packed_messages_are_taken_apart_without_copies() {
    let body = Bytes::from([0x92, 0x01, 0x02].repeat(10_000));
    let (count, taken) = taken(|| {
        let items = Items::new(10_000, body.clone(), Limits::default());
        items.filter(Result::is_ok).count()
    });
    assert_eq!(count, 10_000);
    // One for the first share of a body that nobody shared before.
    assert!(taken.count <= 1, "{taken:?}");
}

#[test]
fn a_lying_head_costs_nothing() {
    // A part that says 4 GiB are to come in all, a packed frame that says 65,535 messages.
    for (wire, len) in [
        (
            &[
                0x0c, 0x95, 0x05, 0x01, 0xce, 0xff, 0xff, 0xff, 0xff, 0xc2, 0xc4, 0x01, 0x01,
            ][..],
            1,
        ),
        (&[0x07, 0x93, 0x06, 0x01, 0xdc, 0xff, 0xff, 0x01], 1),
    ] {
        let mut buffer = BytesMut::from(wire);
        let (frame, taken) = taken(|| FrameCodec::new(64 * 1024).decode(&mut buffer).unwrap().unwrap());
        assert_eq!(head::body_len(&frame), Some(len));
        // The block that the next small bodies share, and nothing of what the head says.
        assert!(taken.peak <= 192, "{taken:?}");
    }
}

#[test]
fn a_body_that_is_kept_holds_no_more_than_it_is_charged() {
    // Little is kept, and two KiB of others come and go, again and again: the best a peer can do to make little hold much. The
    // least that is not in the body itself, so that it holds anything at all, is 24 bytes.
    const KEPT: usize = 1000;
    const LITTLE: usize = 24;
    let mut wire = BytesMut::new();
    let mut writer = FrameCodec::new(64 * 1024);
    let mut put = |body: &'static [u8]| {
        let (stream, body) = (StreamId::FIRST, Bytes::from_static(body));
        writer
            .encode(
                &Frame::Data {
                    stream,
                    body: body.into(),
                },
                &mut wire,
            )
            .unwrap();
    };
    for _ in 0..KEPT {
        put(&[7; LITTLE]);
        (0..32).for_each(|_| put(&[7; 64]));
    }
    let mut kept = Vec::with_capacity(KEPT);
    let (_, taken) = taken(|| {
        let mut codec = FrameCodec::new(64 * 1024);
        while let Some(frame) = codec.decode(&mut wire).unwrap() {
            match frame {
                Frame::Data { body, .. } if body.len() == LITTLE => kept.push(body),
                _ => {}
            }
        }
    });
    assert_eq!(kept.len(), KEPT);
    // PROTOCOL §7.1 charges 256 bytes for each; what an allocation costs beside its bytes is allowed for.
    assert!(taken.peak <= KEPT * (256 + 64), "{taken:?}");
}
