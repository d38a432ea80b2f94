//! The scan: exact offsets by table, and rmpv as the oracle.

use crate::arbitrary;
use picom_codec::scan::{scan, scan_prefix};
use picom_codec::{Limits, ScanError};
use proptest::prelude::*;
use rmpv::Value;

/// How deep rmpv may recurse for our 64 levels: it counts two for an array or map, and three for a text in the innermost.
const RMPV_DEPTH: usize = 2 * 64 + 3;

/// The levels and the number of values of `value`, as the scan counts them.
fn measure(value: &Value) -> (u32, u64) {
    let inner: Vec<(u32, u64)> = match value {
        Value::Array(elements) => elements.iter().map(measure).collect(),
        Value::Map(entries) => entries
            .iter()
            .flat_map(|(key, value)| [measure(key), measure(value)])
            .collect(),
        _ => return (0, 1),
    };
    let depth = inner.iter().map(|(depth, _)| *depth).max().unwrap_or(0);
    (depth + 1, 1 + inner.iter().map(|(_, nodes)| nodes).sum::<u64>())
}

fn read_by_rmpv(bytes: &[u8]) -> Option<(Value, usize)> {
    let mut rest = bytes;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, RMPV_DEPTH + 20).ok()?;
    Some((value, bytes.len() - rest.len()))
}

/// What the scan says of `bytes` must agree with what rmpv finds in them.
fn agrees_with_rmpv(bytes: &[u8], limits: &Limits) {
    let read = read_by_rmpv(bytes);
    match scan_prefix(bytes, limits) {
        Ok(len) => {
            let mut rest = bytes;
            let value = rmpv::decode::read_value_with_max_depth(&mut rest, RMPV_DEPTH)
                .unwrap_or_else(|error| panic!("{bytes:02x?} passes the scan, and rmpv says: {error}"));
            assert_eq!(bytes.len() - rest.len(), len);
            let (depth, nodes) = measure(&value);
            assert!(
                depth <= limits.depth().into() && nodes <= limits.nodes().into(),
                "{bytes:02x?}"
            );
            assert_eq!(scan(bytes, limits).is_ok(), rest.is_empty());
        }
        Err(ScanError::Truncated { offset, needed, left }) => {
            assert_eq!(read, None, "{bytes:02x?}");
            assert_eq!(left, bytes.len() - offset);
            assert!(needed > left as u64, "{bytes:02x?}");
        }
        Err(ScanError::Reserved { offset }) => assert_eq!(bytes[offset], 0xc1),
        Err(ScanError::TooDeep { limit, .. }) => {
            assert!(
                read.is_none_or(|(value, _)| measure(&value).0 > limit.into()),
                "{bytes:02x?}"
            );
        }
        Err(ScanError::TooManyNodes { announced, limit, .. }) => {
            assert!(announced > limit.into());
            assert!(
                read.is_none_or(|(value, _)| measure(&value).1 >= announced),
                "{bytes:02x?}"
            );
        }
        Err(ScanError::Trailing { .. }) => panic!("a prefix has no end to trail"),
    }
}

proptest! {
    #[test]
    fn every_value_passes_and_takes_all_its_bytes(value in arbitrary::value(6), tail: Vec<u8>) {
        let mut bytes = arbitrary::written_by_rmpv(&value);
        let len = bytes.len();
        prop_assert_eq!(scan(&bytes, &Limits::default()), Ok(()));
        let (depth, nodes) = measure(&value);
        let exact = Limits::new(depth as u8, nodes as u32);
        prop_assert_eq!(scan(&bytes, &exact), Ok(()));
        if depth > 0 {
            let shallow = scan(&bytes, &exact.with_depth(depth as u8 - 1));
            assert!(matches!(shallow, Err(ScanError::TooDeep { .. })));
            let few = scan(&bytes, &exact.with_nodes(nodes as u32 - 1));
            assert!(matches!(few, Err(ScanError::TooManyNodes { .. })));
        }
        for cut in 0..len {
            let cut = scan(&bytes[..cut], &Limits::default());
            assert!(matches!(cut, Err(ScanError::Truncated { .. })));
        }
        bytes.extend(&tail);
        prop_assert_eq!(scan_prefix(&bytes, &Limits::default()), Ok(len));
        let trailing = Err(ScanError::Trailing { offset: len, left: tail.len() });
        prop_assert_eq!(scan(&bytes, &Limits::default()), if tail.is_empty() { Ok(()) } else { trailing });
    }

    #[test]
    fn rmpv_agrees_about_bytes_that_are_nearly_a_value(
        bytes in arbitrary::nearly_a_value(),
        depth in 0..=64u8,
        nodes in 1..200u32,
    ) {
        agrees_with_rmpv(&bytes, &Limits::default());
        agrees_with_rmpv(&bytes, &Limits::new(depth, nodes));
    }
}

#[test]
fn errors_have_exact_offsets() {
    use ScanError::*;
    let limits = Limits::new(3, 20);
    let table: &[(&[u8], ScanError)] = &[
        (
            &[],
            Truncated {
                offset: 0,
                needed: 1,
                left: 0,
            },
        ),
        (
            &[0xcd, 0x01],
            Truncated {
                offset: 0,
                needed: 3,
                left: 2,
            },
        ),
        (
            &[0xa5, b'h', b'i'],
            Truncated {
                offset: 0,
                needed: 6,
                left: 3,
            },
        ),
        (
            &[0xc4],
            Truncated {
                offset: 0,
                needed: 2,
                left: 1,
            },
        ),
        (
            &[0xc4, 0x03, 0x01],
            Truncated {
                offset: 0,
                needed: 5,
                left: 2 + 1,
            },
        ),
        (
            &[0xc7, 0x01, 0x05],
            Truncated {
                offset: 0,
                needed: 4,
                left: 3,
            },
        ),
        (
            &[0xd4, 0x05],
            Truncated {
                offset: 0,
                needed: 3,
                left: 2,
            },
        ),
        (
            &[0xdb, 0xff, 0xff, 0xff, 0xff],
            Truncated {
                offset: 0,
                needed: 5 + 0xffff_ffff,
                left: 5,
            },
        ),
        // Announced lengths: found out at the header that lies, also within others.
        (
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
            Truncated {
                offset: 0,
                needed: 5 + 0xffff_ffff,
                left: 5,
            },
        ),
        (
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
            Truncated {
                offset: 0,
                needed: 5 + 2 * 0xffff_ffff,
                left: 5,
            },
        ),
        (
            &[0x93, 0x01, 0x92, 0x01, 0x02],
            Truncated {
                offset: 2,
                needed: 1 + 2 + 1,
                left: 3,
            },
        ),
        (
            &[0x92, 0x01, 0xdc, 0x00],
            Truncated {
                offset: 2,
                needed: 3,
                left: 2,
            },
        ),
        (&[0xc1], Reserved { offset: 0 }),
        (&[0x92, 0x01, 0xc1], Reserved { offset: 2 }),
        (&[0x91, 0x91, 0x91, 0x91, 0x01], TooDeep { offset: 3, limit: 3 }),
        (&[0x91, 0x91, 0x91, 0x90], TooDeep { offset: 3, limit: 3 }),
        (&[0x01, 0x02, 0x03], Trailing { offset: 1, left: 2 }),
        (&[0x92, 0x01, 0x02, 0xc1], Trailing { offset: 3, left: 1 }),
    ];
    for (bytes, error) in table {
        assert_eq!(scan(bytes, &limits), Err(*error), "{bytes:02x?}");
    }
    // Twenty values are allowed: the array and nineteen in it.
    let mut bytes = vec![0xdc, 0, 19];
    bytes.extend([0; 19]);
    assert_eq!(scan(&bytes, &limits), Ok(()));
    bytes[2] = 20;
    bytes.push(0);
    assert_eq!(
        scan(&bytes, &limits),
        Err(TooManyNodes {
            offset: 0,
            announced: 21,
            limit: 20
        })
    );
    let text = scan(&bytes, &limits).unwrap_err().to_string();
    assert_eq!(
        text,
        "byte 0: 21 values are announced up to here, the limit is 20"
    );
}

#[test]
fn the_default_limits_hold_at_their_borders() {
    let limits = Limits::default();
    let nested = |levels: usize| [vec![0x91; levels], vec![0xc0]].concat();
    assert_eq!(scan(&nested(64), &limits), Ok(()));
    assert_eq!(
        scan(&nested(65), &limits),
        Err(ScanError::TooDeep {
            offset: 64,
            limit: 64
        })
    );
    assert_eq!(
        scan(&nested(100_000), &limits),
        Err(ScanError::TooDeep {
            offset: 64,
            limit: 64
        })
    );

    let wide = |values: u32| {
        let mut bytes = vec![0xdd];
        bytes.extend(values.to_be_bytes());
        bytes.resize(bytes.len() + values as usize, 0xc0);
        bytes
    };
    assert_eq!(scan(&wide(262_143), &limits), Ok(()));
    let error = ScanError::TooManyNodes {
        offset: 0,
        announced: 262_145,
        limit: 262_144,
    };
    assert_eq!(scan(&wide(262_144), &limits), Err(error));
    assert_eq!(scan(&wide(65_535), &Limits::untrusted()), Ok(()));
    assert!(scan(&wide(65_536), &Limits::untrusted()).is_err());
}

#[test]
fn every_first_byte_is_known() {
    // Followed by plenty of zeros, every byte but one begins a value, and rmpv agrees how long it is.
    for marker in 0..=255u8 {
        let bytes = [vec![marker], vec![0; 40]].concat();
        match marker {
            0xc1 => assert_eq!(
                scan_prefix(&bytes, &Limits::default()),
                Err(ScanError::Reserved { offset: 0 })
            ),
            _ => agrees_with_rmpv(&bytes, &Limits::default()),
        }
    }
}
