//! Small messages packed into one items frame (PROTOCOL §3.7): taking them apart one by one, and putting them together.

use crate::head::MAX_ITEMS;
use crate::scan::scan_prefix;
use crate::{DecodeError, Frame, Limits, ScanError, StreamId, value};
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use std::iter::FusedIterator;

/// The messages of an items frame, each scanned when its turn comes. Ends after the first error.
///
/// The messages are slices of the frame's body: one that is kept keeps the body, which is at most a frame long.
#[derive(Clone, Debug)]
pub struct Items {
    body: Bytes,
    offset: usize,
    left: u32,
    limits: Limits,
    /// Of [`decode_quickly`](Self::decode_quickly).
    tighter: Limits,
}

/// Why the body of an items frame does not hold the messages it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemsError {
    /// A message is cut off, over the limits, or not well-formed. Offsets count from the body's first byte.
    #[error("a packed message is not well-formed")]
    Message(#[from] ScanError),
    /// All messages are there and bytes follow.
    #[error("byte {offset}: trailing bytes behind the packed messages: {left}")]
    Trailing {
        /// The first byte behind the last message.
        offset: usize,
        /// How many bytes follow.
        left: usize,
    },
}

/// Why there is no value where one was to be: see [`Items::decode_next`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ItemError {
    /// The frame is at fault.
    #[error("the packed messages cannot be taken apart")]
    Items(#[source] ItemsError),
    /// The message is not what it was to be decoded as.
    #[error("a packed message is of another type")]
    Value(#[source] DecodeError),
}

impl Items {
    /// The messages of an items frame with this `count` and `body`, each within `limits`.
    pub fn new(count: u32, body: Bytes, limits: Limits) -> Self {
        Items {
            body,
            offset: 0,
            left: count,
            limits,
            tighter: limits,
        }
    }

    /// How many messages are still to come, if all goes well.
    pub fn remaining(&self) -> u32 {
        self.left
    }

    /// Decodes the next message as a `T`, within `limits` as well; `None` behind the last. It is what [`next`](Self::next)
    /// and [`decode`](value::decode) give one after the other, in one pass and without a slice of its own for the message.
    ///
    /// # Errors
    ///
    /// [`ItemError::Items`] if the frame is at fault: then there is no more. [`ItemError::Value`] if this message is no `T`:
    /// the next one may be.
    #[inline]
    pub fn decode_next<T: DeserializeOwned>(&mut self, limits: &Limits) -> Option<Result<T, ItemError>> {
        let tighter = limits.tighter(&self.limits);
        if self.left > 0
            && let Ok(value) = value::decode_prefix(&self.body, &mut self.offset, &tighter)
        {
            self.left -= 1;
            return Some(Ok(value));
        }
        self.decode_slice(limits)
    }

    /// The same, within the limits that were [said before](Self::tighten), if there is a message and all is well with it;
    /// otherwise nothing has changed, and [`decode_next`](Self::decode_next) says what it is. To move a value that was just
    /// made takes time: this does not.
    ///
    /// # Errors
    ///
    /// That there is an error, or no message.
    #[inline(always)]
    pub fn decode_quickly<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        if self.left == 0 {
            let (offset, needed, left) = (self.offset, 1, 0);
            return Err(ScanError::Truncated { offset, needed, left }.into());
        }
        let result = value::decode_prefix(&self.body, &mut self.offset, &self.tighter);
        self.left -= u32::from(result.is_ok());
        result
    }

    /// From here on [`decode_quickly`](Self::decode_quickly) is within `limits` as well.
    pub fn tighten(&mut self, limits: &Limits) {
        self.tighter = limits.tighter(&self.limits);
    }

    /// In two passes, for the error that they give.
    #[cold]
    fn decode_slice<T: DeserializeOwned>(&mut self, limits: &Limits) -> Option<Result<T, ItemError>> {
        let message = self.next()?;
        Some(match message {
            Ok(message) => value::decode(&message, limits).map_err(ItemError::Value),
            Err(error) => Err(ItemError::Items(error)),
        })
    }

    fn fail(&mut self, error: ItemsError) -> Option<Result<Bytes, ItemsError>> {
        self.left = 0;
        self.offset = 0;
        self.body = Bytes::new();
        Some(Err(error))
    }
}

impl Iterator for Items {
    type Item = Result<Bytes, ItemsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        let rest = self.body.get(offset..).unwrap_or_default();
        let left = rest.len();
        if self.left == 0 {
            return if left == 0 {
                None
            } else {
                self.fail(ItemsError::Trailing { offset, left })
            };
        }
        match scan_prefix(rest, &self.limits) {
            Ok(len) => {
                self.left -= 1;
                self.offset += len;
                Some(Ok(self.body.slice(offset..offset + len)))
            }
            Err(error) => self.fail(ItemsError::Message(error.shifted(offset))),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error may cut it short, or follow the last message.
        let most = self.left as usize + 1;
        (usize::from(self.offset < self.body.len()), Some(most))
    }
}

impl FusedIterator for Items {}

/// Packs ready messages of one stream into one frame, up to a budget of bytes.
#[derive(Debug)]
pub struct ItemsPacker {
    body: BytesMut,
    count: u32,
    budget: usize,
}

impl ItemsPacker {
    /// Packs at most `budget` bytes: [`items_room`](crate::head::items_room) of the peer's frame limit, or the credit of
    /// the stream if that is less. Holds no memory until the first message.
    pub fn new(budget: usize) -> Self {
        ItemsPacker {
            body: BytesMut::new(),
            count: 0,
            budget,
        }
    }

    /// Whether a message of `len` bytes fits beside those already packed.
    pub fn fits(&self, len: usize) -> bool {
        self.count < MAX_ITEMS && self.body.len().saturating_add(len) <= self.budget
    }

    /// Packs `message`, which is one MessagePack value and was checked by the caller, and says whether it
    /// [fitted](Self::fits). An empty one, which is no value, never does.
    pub fn push(&mut self, message: &[u8]) -> bool {
        if message.is_empty() || !self.fits(message.len()) {
            return false;
        }
        self.body.extend_from_slice(message);
        self.count += 1;
        true
    }

    /// How many messages are packed.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes are packed: the body of the frame that [`finish`](Self::finish) would give.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether nothing is packed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frame with what was packed: data for one message, items for more, `None` for none. The packer is empty again.
    pub fn finish(&mut self, stream: StreamId) -> Option<Frame> {
        let body = self.body.split().freeze();
        match std::mem::take(&mut self.count) {
            0 => None,
            1 => Some(Frame::Data {
                stream,
                body: body.into(),
            }),
            count => Some(Frame::Items { stream, count, body }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(count: u32, body: &'static [u8]) -> Items {
        Items::new(count, Bytes::from_static(body), Limits::default())
    }

    #[test]
    fn messages_come_one_by_one_and_share_the_body() {
        let body = Bytes::from_static(&[0x01, 0x92, 0x01, 0x02, 0xa1, b'x']);
        let mut items = Items::new(3, body.clone(), Limits::default());
        for (range, remaining) in [(0..1, 2), (1..4, 1), (4..6, 0)] {
            let message = items.next().unwrap().unwrap();
            assert_eq!(message, body.slice(range.clone()));
            assert_eq!(message.as_ptr(), body[range].as_ptr());
            assert_eq!(items.remaining(), remaining);
        }
        assert_eq!(items.next(), None);
        assert_eq!(items.next(), None);
    }

    #[test]
    fn a_count_that_disagrees_with_the_bytes_is_an_error_and_the_end() {
        let mut short = items(3, &[0x01, 0x02]);
        assert_eq!(short.by_ref().take(2).filter(Result::is_ok).count(), 2);
        let truncated = ScanError::Truncated {
            offset: 2,
            needed: 1,
            left: 0,
        };
        assert_eq!(short.next(), Some(Err(ItemsError::Message(truncated))));
        assert_eq!(short.next(), None);

        let mut long = items(1, &[0x01, 0x02, 0x03]);
        assert_eq!(long.next(), Some(Ok(Bytes::from_static(&[0x01]))));
        assert_eq!(
            long.next(),
            Some(Err(ItemsError::Trailing { offset: 1, left: 2 }))
        );
        assert_eq!(long.next(), None);
    }

    #[test]
    fn each_message_is_scanned_with_its_offset_in_the_body() {
        let mut bad = items(3, &[0x01, 0x91, 0xc1, 0x01]);
        assert!(bad.next().unwrap().is_ok());
        assert_eq!(
            bad.next(),
            Some(Err(ItemsError::Message(ScanError::Reserved { offset: 2 })))
        );
        assert_eq!(bad.next(), None);

        let body = Bytes::from_static(&[0x01, 0x91, 0x91, 0x01]);
        let mut deep = Items::new(2, body, Limits::default().with_depth(1));
        assert!(deep.next().unwrap().is_ok());
        let error = ItemsError::Message(ScanError::TooDeep { offset: 2, limit: 1 });
        assert_eq!(deep.next(), Some(Err(error)));
    }

    #[test]
    fn the_packer_stops_at_its_budget_and_starts_again() {
        let mut packer = ItemsPacker::new(5);
        assert!(packer.finish(StreamId::FIRST).is_none());
        assert!(packer.push(&[0x01]));
        assert!(packer.push(&[0x92, 0x01, 0x02]));
        assert!(!packer.push(&[0xa1, b'x']), "two bytes do not fit one");
        assert!(!packer.push(&[]), "nothing is no message");
        assert!(packer.fits(1) && !packer.fits(2));
        assert_eq!((packer.count(), packer.len()), (2, 4));
        let body = Bytes::from_static(&[0x01, 0x92, 0x01, 0x02]);
        assert_eq!(
            packer.finish(StreamId::FIRST),
            Some(Frame::Items {
                stream: StreamId::FIRST,
                count: 2,
                body
            })
        );
        assert!(packer.is_empty());
        assert!(packer.push(&[0xa1, b'x']));
        let body = Bytes::from_static(&[0xa1, b'x']);
        assert_eq!(
            packer.finish(StreamId::FIRST),
            Some(Frame::Data {
                stream: StreamId::FIRST,
                body: body.into()
            })
        );
    }

    #[test]
    fn no_more_than_65535_messages_are_packed() {
        let mut packer = ItemsPacker::new(usize::MAX);
        for _ in 0..65_535 {
            assert!(packer.push(&[0xc0]));
        }
        assert!(!packer.push(&[0xc0]));
        assert_eq!(packer.count(), 65_535);
    }

    /// The messages of a frame as texts: in two passes, as [`Items::decode_next`] says it is.
    fn in_two_passes<T: DeserializeOwned>(items: Items, limits: &Limits) -> Vec<Result<T, ItemError>> {
        let mut values = Vec::new();
        for message in items {
            values.push(match message {
                Ok(message) => value::decode(&message, limits).map_err(ItemError::Value),
                Err(error) => Err(ItemError::Items(error)),
            });
        }
        values
    }

    fn in_one_pass<T: DeserializeOwned>(mut items: Items, limits: &Limits) -> Vec<Result<T, ItemError>> {
        std::iter::from_fn(|| items.decode_next(limits)).collect()
    }

    /// As a reader takes them that asks why only when it must.
    fn quickly<T: DeserializeOwned>(mut items: Items, limits: &Limits) -> Vec<Result<T, ItemError>> {
        items.tighten(limits);
        std::iter::from_fn(|| match items.decode_quickly() {
            Ok(value) => Some(Ok(value)),
            Err(_) => items.decode_next(limits),
        })
        .collect()
    }

    #[test]
    fn a_message_of_another_type_is_passed_over_and_a_bad_frame_ends() {
        let mut items = items(4, &[0x01, 0xa1, b'x', 0x02, 0xc1]);
        let limits = Limits::default();
        assert_eq!(items.decode_next::<u8>(&limits), Some(Ok(1)));
        assert!(matches!(
            items.decode_next::<u8>(&limits),
            Some(Err(ItemError::Value(_)))
        ));
        assert_eq!(items.decode_next::<u8>(&limits), Some(Ok(2)));
        let reserved = ItemsError::Message(ScanError::Reserved { offset: 4 });
        assert_eq!(
            items.decode_next::<u8>(&limits),
            Some(Err(ItemError::Items(reserved)))
        );
        assert_eq!(items.decode_next::<u8>(&limits), None);
    }

    #[test]
    fn a_large_blob_shares_the_body_of_the_frame() {
        let mut packer = ItemsPacker::new(usize::MAX);
        for byte in 0..3 {
            packer.push(&value::encode(&crate::Blob(vec![byte; 5000].into())).unwrap());
        }
        let Some(Frame::Items { count, body, .. }) = packer.finish(StreamId::FIRST) else {
            panic!("there are three")
        };
        let mut items = Items::new(count, body.clone(), Limits::default());
        for byte in 0..3usize {
            let blob: crate::Blob = items.decode_next(&Limits::default()).unwrap().unwrap();
            assert_eq!(blob[..], vec![byte as u8; 5000]);
            assert_eq!(blob.as_ptr(), body[byte * 5003 + 3..].as_ptr());
        }
        assert_eq!(items.decode_next::<crate::Blob>(&Limits::default()), None);
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Row {
        a: Option<u8>,
        b: Vec<rmpv::Value>,
    }

    proptest! {
        /// Whatever stands in a frame: one pass gives what two give, values and errors.
        #[test]
        fn one_pass_gives_what_two_give(
            body in prop::collection::vec(
                prop_oneof![
                    4 => 0u8..4,
                    2 => 0x80u8..0x84,
                    3 => 0x90u8..0x95,
                    2 => 0xa0u8..0xa3,
                    2 => Just(b'a'),
                    2 => Just(b'b'),
                    1 => any::<u8>(),
                ],
                0..60,
            ),
            count in 0u32..20,
            (depth, nodes) in (0u8..6, 1u32..40),
            (own_depth, own_nodes) in (0u8..6, 1u32..40),
        ) {
            let items = Items::new(count, body.into(), Limits::new(depth, nodes));
            let own = Limits::new(own_depth, own_nodes);
            prop_assert_eq!(
                in_one_pass::<rmpv::Value>(items.clone(), &own),
                in_two_passes(items.clone(), &own)
            );
            prop_assert_eq!(in_one_pass::<Row>(items.clone(), &own), in_two_passes(items.clone(), &own));
            prop_assert_eq!(quickly::<rmpv::Value>(items.clone(), &own), in_two_passes(items.clone(), &own));
            prop_assert_eq!(quickly::<Row>(items.clone(), &own), in_two_passes(items.clone(), &own));
            prop_assert_eq!(in_one_pass::<u8>(items.clone(), &own), in_two_passes(items.clone(), &own));
            prop_assert_eq!(
                in_one_pass::<serde::de::IgnoredAny>(items.clone(), &own),
                in_two_passes(items, &own)
            );
        }

        #[test]
        fn what_is_packed_is_taken_apart_again(texts in prop::collection::vec("[a-z]{0,40}", 2..50)) {
            let messages: Vec<Bytes> = texts.iter().map(|text| crate::value::encode(text).unwrap()).collect();
            let mut packer = ItemsPacker::new(usize::MAX);
            for message in &messages {
                prop_assert!(packer.push(message));
            }
            let Some(Frame::Items { count, body, .. }) = packer.finish(StreamId::FIRST) else {
                panic!("there are two at least")
            };
            let apart: Result<Vec<Bytes>, ItemsError> = Items::new(count, body, Limits::default()).collect();
            prop_assert_eq!(apart, Ok(messages));
        }
    }
}
