//! The body of a frame: bytes that the codec does not look into, in one piece or in several that were never put together.

use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::slice;
use std::sync::Arc;

/// So many bytes stand in a body itself, which is not larger for it: most calls and replies are so short, and sharing what
/// is copied as fast costs counting who shares it.
pub(crate) const SHORT: usize = 23;

/// The bytes of a message, or a fragment of one. What arrives is one piece. What is sent may be several, so that a large
/// [`Blob`](crate::Blob) within it is handed to the socket as it is, without a copy. Clones and slices share the bytes; a
/// few are copied instead.
///
/// Equal if the bytes are, however they are cut.
#[derive(Clone)]
pub struct Body(Pieces);

#[derive(Clone)]
enum Pieces {
    One(Bytes),
    // Apart, so that it stands where a `Bytes` has more than the one word that tells the two from each other.
    Other(Other),
}

#[derive(Clone)]
enum Other {
    Short(Short),
    Several(Arc<Several>),
}

#[derive(Clone, Copy)]
struct Short {
    /// How many there are, and one.
    filled: NonZero<u8>,
    bytes: [u8; SHORT],
}

impl Short {
    const EMPTY: Short = Short {
        filled: NonZero::<u8>::MIN,
        bytes: [0; SHORT],
    };

    /// `None`: they are too many.
    #[inline]
    fn new(bytes: &[u8]) -> Option<Short> {
        let mut short = Short::EMPTY;
        short.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        short.filled = NonZero::new(bytes.len() as u8 + 1)?;
        Some(short)
    }

    #[inline]
    fn len(&self) -> usize {
        usize::from(self.filled.get()) - 1
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }
}

/// The bytes of a body where they stand.
#[derive(Clone, Copy)]
pub(crate) enum View<'b> {
    /// In the body itself.
    Short(&'b [u8]),
    /// Piece by piece.
    Pieces(&'b [Bytes]),
}

impl View<'_> {
    #[inline]
    pub(crate) fn len(self) -> usize {
        match self {
            View::Short(bytes) => bytes.len(),
            View::Pieces(pieces) => pieces.iter().map(Bytes::len).sum(),
        }
    }
}

/// At least two, none of them empty.
struct Several {
    pieces: Vec<Bytes>,
    /// Where each ends: a message may have thousands, and is cut into hundreds of parts.
    ends: Vec<usize>,
}

impl Body {
    /// A copy of these bytes: of up to 23 in the body itself, of more in an allocation.
    #[inline]
    pub fn copy_from_slice(bytes: &[u8]) -> Body {
        Body::short(bytes).unwrap_or_else(|| Bytes::copy_from_slice(bytes).into())
    }

    /// A copy of these bytes, if they are few enough to stand in the body itself.
    #[inline]
    pub(crate) fn short(bytes: &[u8]) -> Option<Body> {
        Short::new(bytes).map(|short| Body(Pieces::Other(Other::Short(short))))
    }

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
                Body(Pieces::Other(Other::Several(Arc::new(Several { pieces, ends }))))
            }
        }
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Pieces::One(bytes) => bytes.len(),
            Pieces::Other(Other::Short(short)) => short.len(),
            Pieces::Other(Other::Several(several)) => several.ends.last().copied().unwrap_or_default(),
        }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, one piece behind the other.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (short, pieces) = match self.view() {
            View::Short(bytes) => (Some(bytes), &[][..]),
            View::Pieces(pieces) => (None, pieces),
        };
        short.into_iter().chain(pieces.iter().map(|piece| &piece[..]))
    }

    /// The bytes, if they are in one piece, as those of all that arrives are.
    #[inline]
    pub fn in_one_piece(&self) -> Option<&[u8]> {
        match &self.0 {
            Pieces::One(bytes) => Some(bytes),
            Pieces::Other(Other::Short(short)) => Some(short.bytes()),
            Pieces::Other(Other::Several(_)) => None,
        }
    }

    /// Appends the bytes to `out`.
    pub fn copy_to(&self, out: &mut impl BufMut) {
        self.pieces().for_each(|piece| out.put_slice(piece));
    }

    /// The bytes in one piece. Copies them if there are several, or few.
    #[inline]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Pieces::One(bytes) => bytes,
            Pieces::Other(Other::Short(short)) => Bytes::copy_from_slice(short.bytes()),
            Pieces::Other(Other::Several(several)) => concat(&several.pieces),
        }
    }

    /// These bytes of it. What is asked for beyond the end is not there.
    pub fn slice(&self, range: Range<usize>) -> Body {
        let Several { pieces, ends } = match &self.0 {
            Pieces::One(bytes) => return Body(Pieces::One(bytes.slice(within(bytes.len(), &range)))),
            Pieces::Other(Other::Short(short)) => {
                let part = short.bytes().get(within(short.len(), &range));
                return Body::copy_from_slice(part.unwrap_or_default());
            }
            Pieces::Other(Other::Several(several)) => &**several,
        };
        let first = ends.partition_point(|end| *end <= range.start);
        let parts = pieces
            .iter()
            .zip(ends)
            .skip(first)
            .map(|(piece, end)| (piece, end - piece.len()))
            .take_while(|(_, begin)| *begin < range.end)
            .map(|(piece, begin)| {
                let range = range.start.saturating_sub(begin)..range.end - begin;
                piece.slice(within(piece.len(), &range))
            });
        Body::of_pieces(parts.collect())
    }

    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        match &self.0 {
            Pieces::One(bytes) => View::Pieces(slice::from_ref(bytes)),
            Pieces::Other(Other::Short(short)) => View::Short(short.bytes()),
            Pieces::Other(Other::Several(several)) => View::Pieces(&several.pieces),
        }
    }
}

/// The part of the range that is there, of so many.
fn within(len: usize, range: &Range<usize>) -> Range<usize> {
    let end = range.end.min(len);
    range.start.min(end)..end
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
        Body(Pieces::Other(Other::Short(Short::EMPTY)))
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
        match (self.in_one_piece(), other.in_one_piece()) {
            (Some(one), Some(other)) => one == other,
            _ => self.len() == other.len() && self.pieces().flatten().eq(other.pieces().flatten()),
        }
    }
}

impl Eq for Body {}

impl PartialEq<[u8]> for Body {
    fn eq(&self, other: &[u8]) -> bool {
        self.pieces().flatten().eq(other)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pieces::One(bytes) => fmt::Debug::fmt(bytes, f),
            Pieces::Other(Other::Short(short)) => fmt::Debug::fmt(&Bytes::copy_from_slice(short.bytes()), f),
            Pieces::Other(Other::Several(several)) => f.debug_list().entries(&several.pieces).finish(),
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
            prop_assert_eq!(body.pieces().collect::<Vec<_>>().concat(), &whole[..]);
            prop_assert_eq!(&body, &Body::from(whole.clone()));
            prop_assert_eq!(&body, &Body::copy_from_slice(&whole));
            prop_assert_eq!(&Body::copy_from_slice(&whole), &body);
            prop_assert_eq!(&body, &whole[..]);
            let mut out = BytesMut::new();
            body.copy_to(&mut out);
            prop_assert_eq!(&out, &whole);
            let end = (from + len).min(whole.len());
            let part = whole.get(from.min(end)..end).unwrap();
            prop_assert_eq!(&body.slice(from..from + len).into_bytes()[..], part);
            prop_assert_eq!(&body.into_bytes()[..], &whole[..]);
        }

        #[test]
        fn a_copy_is_its_bytes_wherever_they_stand(
            bytes in prop::collection::vec(any::<u8>(), 0..2 * SHORT),
            from in 0usize..3 * SHORT,
            len in 0usize..3 * SHORT,
        ) {
            let body = Body::copy_from_slice(&bytes);
            prop_assert_eq!((body.len(), body.in_one_piece()), (bytes.len(), Some(&bytes[..])));
            prop_assert_eq!(matches!(body.view(), View::Short(_)), bytes.len() <= SHORT);
            prop_assert_eq!(body.view().len(), bytes.len());
            let end = (from + len).min(bytes.len());
            prop_assert_eq!(&body.slice(from..from + len), &bytes[from.min(end)..end]);
            prop_assert_eq!(format!("{body:?}"), format!("{:?}", Bytes::from(bytes.clone())));
            prop_assert_eq!(body.clone().into_bytes(), bytes);
        }
    }

    #[test]
    fn bodies_of_other_bytes_are_not_equal() {
        let one = Body::copy_from_slice(b"12345");
        let several = Body::of_pieces(vec![Bytes::from_static(b"12"), Bytes::from_static(b"346")]);
        let longer = Body::of_pieces(vec![Bytes::from_static(b"123"), Bytes::from_static(b"456")]);
        for other in [
            &several,
            &longer,
            &Body::copy_from_slice(b"1234"),
            &Body::default(),
        ] {
            assert!(one != *other, "{other:?}");
            assert!(*other != one, "{other:?}");
        }
        assert_ne!(&one, &b"1234"[..]);
    }
}
