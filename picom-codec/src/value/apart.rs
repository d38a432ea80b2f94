//! Large [`Blob`](super::Blob)s that stay apart while a value is encoded: they are sent as they are, not copied.

use super::blob;
use crate::Body;
use bytes::Bytes;

/// From this length on a blob stays apart. Copying so much takes about a microsecond, a piece more of a write hardly less.
pub(super) const APART_FROM: usize = 16 * 1024;

/// The blobs of a value that was encoded by [`encode_apart`](super::encode_apart), and where in it they belong.
#[derive(Debug, Default)]
pub struct Apart {
    /// By their place in what was written without them, in order.
    blobs: Vec<(usize, Bytes)>,
}

impl Apart {
    /// Whether there are none: what was written is the whole value.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Forgets them.
    #[inline]
    pub fn clear(&mut self) {
        if !self.blobs.is_empty() {
            self.blobs = Vec::new();
        }
    }

    /// How many bytes there are apart from what was written.
    pub fn len(&self) -> usize {
        self.blobs.iter().map(|(_, blob)| blob.len()).sum()
    }

    /// The whole value: `written` is what was appended for it, and nothing else, to a buffer that held `start` bytes before.
    pub fn join(self, start: usize, written: Bytes) -> Body {
        if self.is_empty() {
            return written.into();
        }
        let mut rest = written;
        let mut at = start;
        let mut pieces = Vec::with_capacity(2 * self.blobs.len() + 1);
        for (place, blob) in self.blobs {
            pieces.push(rest.split_to(place.saturating_sub(at).min(rest.len())));
            pieces.push(blob);
            at = place;
        }
        pieces.push(rest);
        Body::of_pieces(pieces)
    }

    /// Keeps these bytes apart if they are those of a large blob that is being written; `false`: they are to be copied.
    #[inline]
    pub(super) fn keep(&mut self, place: usize, bytes: &[u8]) -> bool {
        bytes.len() >= APART_FROM && self.keep_large(place, bytes)
    }

    fn keep_large(&mut self, place: usize, bytes: &[u8]) -> bool {
        match blob::handed_over(bytes) {
            Some(blob) => {
                self.blobs.push((place, blob));
                true
            }
            None => false,
        }
    }

    /// So many bytes were put in at `start`, before what was written from there on. A blob that belongs right there was
    /// written before: each has its header before its place.
    pub(super) fn shift(&mut self, start: usize, by: usize) {
        for (place, _) in self.blobs.iter_mut().filter(|(place, _)| *place > start) {
            *place += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Blob, encode, encode_apart, encode_body};
    use serde::{Serialize, Serializer};

    /// A sequence whose length serde is not told, as of a `flat_map`.
    struct Unknown<T>(Vec<T>);

    impl<T: Serialize> Serialize for Unknown<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.0.iter().filter(|_| true))
        }
    }

    #[derive(Serialize)]
    struct File {
        name: String,
        first: Blob,
        pieces: Unknown<Blob>,
        last: Option<Blob>,
        size: u64,
    }

    fn blob(len: usize) -> Blob {
        Blob((0..len).map(|n| n as u8).collect::<Vec<u8>>().into())
    }

    fn file(lengths: [usize; 4]) -> File {
        let [first, second, third, last] = lengths.map(blob);
        File {
            name: "a name".into(),
            first,
            pieces: Unknown(vec![second, third]),
            last: Some(last),
            size: 1 << 40,
        }
    }

    #[test]
    fn what_is_joined_is_what_is_encoded_in_one_piece() {
        let sizes = [0, 5, APART_FROM - 1, APART_FROM, 70_000];
        for n in 0..sizes.len().pow(4) {
            let size = |place: u32| sizes[n / sizes.len().pow(place) % sizes.len()];
            let file = file([size(0), size(1), size(2), size(3)]);
            let whole = encode(&file).unwrap();
            let body = encode_body(&file).unwrap();
            assert!(
                body.clone().into_bytes() == whole,
                "{:?}",
                [size(0), size(1), size(2), size(3)]
            );

            let mut out = vec![7; 3];
            let mut apart = Apart::default();
            encode_apart(&file, &mut out, &mut apart).unwrap();
            assert_eq!(out.len() - 3 + apart.len(), whole.len());
            let written = Bytes::copy_from_slice(&out[3..]);
            assert!(apart.join(3, written).into_bytes() == whole);
        }
    }

    #[test]
    fn a_large_blob_is_sent_as_it_is_and_a_small_one_is_copied() {
        let (large, small) = (blob(APART_FROM), blob(APART_FROM - 1));
        let body = encode_body(&("x", &large)).unwrap();
        let pieces: Vec<&[u8]> = body.pieces().collect();
        let [head, bytes] = pieces[..] else {
            panic!("{} pieces", pieces.len())
        };
        assert_eq!(head, [0x92, 0xa1, b'x', 0xc5, 0x40, 0x00]);
        assert_eq!((bytes.as_ptr(), bytes.len()), (large.as_ptr(), large.len()));
        assert_eq!(encode_body(&small).unwrap().pieces().count(), 1);
        // Bytes of another kind are nobody's to share.
        assert_eq!(encode_body(&vec![7u8; APART_FROM]).unwrap().pieces().count(), 1);
    }

    #[test]
    fn a_value_that_writes_other_bytes_while_a_blob_is_written_shares_nothing() {
        struct Copied(Blob);
        impl Serialize for Copied {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        let value = (Copied(blob(20_000)), blob(20_000));
        let body = encode_body(&value).unwrap();
        assert_eq!(body.pieces().count(), 2);
        assert_eq!(body.into_bytes(), encode(&value).unwrap());
    }
}
