//! The body of a frame: bytes that the codec does not look into, in one piece or in several that were never put together.

use bytes::{Bytes, BytesMut};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a message, or a fragment of one. What arrives is one piece. What is sent may be several, so that a large
/// [`Blob`](crate::Blob) within it is handed to the socket as it is, without a copy. Clones and slices share the bytes.
///
/// Equal if the bytes are, however they are cut.
#[derive(Clone)]
pub struct Body(Pieces);

#[derive(Clone)]
enum Pieces {
    One(Bytes),
    Several(Arc<Several>),
}

/// At least two, none of them empty.
struct Several {
    pieces: Vec<Bytes>,
    /// Where each ends: a message may have thousands, and is cut into hundreds of parts.
    ends: Vec<usize>,
}

impl Body {
    /// These pieces, one behind the other. Empty ones are left out.
    pub fn of_pieces(mut pieces: Vec<Bytes>) -> Body {
        pieces.retain(|piece| !piece.is_empty());
        match pieces.len() {
            0 => Body::default(),
            1 => Body(Pieces::One(pieces.swap_remove(0))),
            _ => {
                let mut end = 0;
                let ends = pieces.iter().map(|piece| {
                    end += piece.len();
                    end
                });
                let ends = ends.collect();
                Body(Pieces::Several(Arc::new(Several { pieces, ends })))
            }
        }
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Pieces::One(bytes) => bytes.len(),
            Pieces::Several(several) => several.ends.last().copied().unwrap_or_default(),
        }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, one piece behind the other.
    #[inline]
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::One(bytes) => std::slice::from_ref(bytes),
            Pieces::Several(several) => &several.pieces,
        }
    }

    /// The bytes in one piece. Copies them if there are several.
    #[inline]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Pieces::One(bytes) => bytes,
            Pieces::Several(several) => concat(&several.pieces),
        }
    }

    /// These bytes of it. What is asked for beyond the end is not there.
    pub fn slice(&self, range: Range<usize>) -> Body {
        let Several { pieces, ends } = match &self.0 {
            Pieces::One(bytes) => return Body(Pieces::One(cut(bytes, &range))),
            Pieces::Several(several) => &**several,
        };
        let first = ends.partition_point(|end| *end <= range.start);
        let within = pieces.iter().zip(ends).skip(first);
        let parts = within
            .map(|(piece, end)| (piece, end - piece.len()))
            .take_while(|(_, begin)| *begin < range.end)
            .map(|(piece, begin)| cut(piece, &(range.start.saturating_sub(begin)..range.end - begin)));
        Body::of_pieces(parts.collect())
    }
}

/// The bytes of the range that are there.
fn cut(bytes: &Bytes, range: &Range<usize>) -> Bytes {
    let end = range.end.min(bytes.len());
    bytes.slice(range.start.min(end)..end)
}

#[cold]
fn concat(pieces: &[Bytes]) -> Bytes {
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        whole.extend_from_slice(piece);
    }
    whole.freeze()
}

impl Default for Body {
    fn default() -> Self {
        Body(Pieces::One(Bytes::new()))
    }
}

impl From<Bytes> for Body {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Body(Pieces::One(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |body: &Body| body.pieces().iter().flatten().copied().collect::<Vec<u8>>();
        match (&self.0, &other.0) {
            (Pieces::One(one), Pieces::One(other)) => one == other,
            _ => self.len() == other.len() && bytes(self) == bytes(other),
        }
    }
}

impl Eq for Body {}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pieces::One(bytes) => fmt::Debug::fmt(bytes, f),
            Pieces::Several(several) => f.debug_list().entries(&several.pieces).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_is_no_larger_than_bytes() {
        assert_eq!(size_of::<Body>(), size_of::<Bytes>());
    }

    proptest! {
        #[test]
        fn pieces_are_the_bytes_however_they_are_cut(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..6),
            from in 0usize..40,
            len in 0usize..40,
        ) {
            let whole = pieces.concat();
            let body = Body::of_pieces(pieces.into_iter().map(Bytes::from).collect());
            prop_assert_eq!(body.len(), whole.len());
            prop_assert_eq!(body.pieces().concat(), &whole[..]);
            prop_assert_eq!(&body, &Body::from(whole.clone()));
            let end = (from + len).min(whole.len());
            let part = whole.get(from.min(end)..end).unwrap();
            prop_assert_eq!(&body.slice(from..from + len).into_bytes()[..], part);
            prop_assert_eq!(&body.into_bytes()[..], &whole[..]);
        }
    }
}
