//! Any bytes, scanned, with rmpv as the oracle.

use bytes::Bytes;
use picom_codec::scan::{scan as scan_whole, scan_prefix};
use picom_codec::{Items, Limits, ScanError, value};
use rmpv::Value;

/// How deep rmpv may recurse for our 64 levels: it counts two for an array or map, and three for a text in the innermost.
const RMPV_DEPTH: usize = 2 * 64 + 3;

/// Scans `data` and checks that rmpv agrees. The first two bytes are the limits: depth, and a hundredth of the values.
pub fn scan(data: &[u8]) {
    let [depth, nodes, bytes @ ..] = data else { return };
    check(bytes, &Limits::default());
    check(bytes, &Limits::new(*depth, 1 + 100 * u32::from(*nodes)));
}

fn check(bytes: &[u8], limits: &Limits) {
    let mut rest = bytes;
    let read = rmpv::decode::read_value_with_max_depth(&mut rest, RMPV_DEPTH + 20);
    let measured = read.as_ref().ok().map(measure);
    match scan_prefix(bytes, limits) {
        Ok(len) => {
            let value = rmpv::decode::read_value_with_max_depth(&mut &bytes[..], RMPV_DEPTH);
            let value = value.unwrap_or_else(|error| panic!("it passes the scan, and rmpv says: {error}"));
            assert_eq!(len, bytes.len() - rest.len());
            let (depth, nodes) = measure(&value);
            assert!(depth <= limits.depth().into() && nodes <= limits.nodes().into());
            passed(&bytes[..len], &value, limits);
            let trailing = ScanError::Trailing {
                offset: len,
                left: rest.len(),
            };
            assert_eq!(
                scan_whole(bytes, limits),
                if rest.is_empty() { Ok(()) } else { Err(trailing) }
            );
        }
        Err(error) => {
            assert!(error.offset() <= bytes.len());
            match error {
                ScanError::Truncated { offset, needed, left } => {
                    assert_eq!(left, bytes.len() - offset);
                    assert!(needed > left as u64 && read.is_err());
                }
                ScanError::Reserved { offset } => assert_eq!(bytes[offset], 0xc1),
                ScanError::TooDeep { limit, .. } => {
                    assert!(measured.is_none_or(|(depth, _)| depth > limit.into()))
                }
                ScanError::TooManyNodes { announced, limit, .. } => {
                    assert!(announced > limit.into() && measured.is_none_or(|(_, nodes)| nodes >= announced));
                }
                ScanError::Trailing { .. } => panic!("a prefix has no end to trail"),
            }
        }
    }
}

/// What holds for one value that passed the scan.
fn passed(bytes: &[u8], value: &Value, limits: &Limits) {
    let message = Bytes::copy_from_slice(bytes);
    let mut items = Items::new(1, message.clone(), *limits);
    assert_eq!(items.next(), Some(Ok(message.clone())));
    assert_eq!(items.next(), None);
    let decoded: Value = value::decode(&message, limits).unwrap_or_else(|error| panic!("{error}"));
    assert!(same(&decoded, value), "{decoded:?} is not {value:?}");
    for cut in [0, bytes.len() / 2, bytes.len() - 1] {
        assert!(matches!(
            scan_whole(&bytes[..cut], limits),
            Err(ScanError::Truncated { .. })
        ));
    }
}

/// Whether `ours` is what serde makes of `oracle`: the same, but text that is not UTF-8 is binary, and NaN is NaN.
fn same(ours: &Value, oracle: &Value) -> bool {
    match (ours, oracle) {
        (Value::Binary(ours), Value::String(oracle)) => {
            oracle.as_str().is_none() && ours == oracle.as_bytes()
        }
        (Value::F32(ours), Value::F32(oracle)) => ours.to_bits() == oracle.to_bits(),
        (Value::F64(ours), Value::F64(oracle)) => ours.to_bits() == oracle.to_bits(),
        (Value::Array(ours), Value::Array(oracle)) => {
            ours.len() == oracle.len() && ours.iter().zip(oracle).all(|(ours, oracle)| same(ours, oracle))
        }
        (Value::Map(ours), Value::Map(oracle)) => {
            ours.len() == oracle.len()
                && ours
                    .iter()
                    .zip(oracle)
                    .all(|(ours, oracle)| same(&ours.0, &oracle.0) && same(&ours.1, &oracle.1))
        }
        (ours, oracle) => ours == oracle,
    }
}

/// The levels and the number of values, as the scan counts them.
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
