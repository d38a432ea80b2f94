//! What a sender collects before it asks for the connection: small messages one behind the other in a buffer that is used
//! again and again. How they wait for their turn is `packed.rs`.

use bytes::Bytes;
use picom_codec::Body;
use picom_codec::value::Apart;

/// Messages up to this size are packed: above, a frame of their own costs little.
pub(super) const MOST_PACKED: usize = 4096;

/// Small messages of one stream, to be put in line together: see [`SendHalf::send_pack`](crate::SendHalf::send_pack).
/// Emptied, it keeps its memory.
#[derive(Debug, Default)]
pub struct Pack {
    bytes: Vec<u8>,
    /// How long each message is: [`MOST_PACKED`] at most, and never nothing.
    lengths: Vec<u16>,
    /// What the message that is being added keeps apart; otherwise nothing.
    apart: Apart,
}

impl Pack {
    /// Adds the message that `write` appends, one MessagePack value, apart from what it keeps apart. Gives it back if it is
    /// too large to be packed, over 4 KiB or with something apart: it is to be sent by itself, behind what is here.
    ///
    /// # Errors
    ///
    /// What `write` says; the pack is then as before.
    #[inline]
    pub fn push_with<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>, &mut Apart) -> Result<(), E>,
    ) -> Result<Option<Body>, E> {
        let start = self.bytes.len();
        if let Err(error) = write(&mut self.bytes, &mut self.apart) {
            self.bytes.truncate(start);
            self.apart = Apart::default();
            return Err(error);
        }
        let length = self.bytes.len().saturating_sub(start);
        if length == 0 || length > MOST_PACKED || !self.apart.is_empty() {
            return Ok(Some(self.take_last(start)));
        }
        self.lengths.push(length as u16);
        Ok(None)
    }

    /// The message from `start` on. It takes the buffer along if that is mostly its own, and is copied out otherwise.
    #[cold]
    fn take_last(&mut self, start: usize) -> Body {
        let apart = std::mem::take(&mut self.apart);
        if start == 0 && self.bytes.len() > MOST_PACKED {
            return apart.join(0, std::mem::take(&mut self.bytes).into());
        }
        let written = Bytes::copy_from_slice(self.bytes.get(start..).unwrap_or_default());
        self.bytes.truncate(start);
        apart.join(start, written)
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.lengths.len()
    }

    /// How many bytes they take.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The messages, one behind the other.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.bytes)
    }

    /// Forgets what a `write` that panicked has left.
    pub fn drop_unfinished(&mut self) {
        let whole: usize = self.lengths.iter().map(|length| usize::from(*length)).sum();
        self.bytes.truncate(whole);
        self.apart = Apart::default();
    }

    /// Forgets the messages.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
        self.apart.clear();
    }

    /// How much memory it holds, in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + 2 * self.lengths.capacity()
    }

    /// The messages, one by one.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Bytes> {
        let mut rest = self.to_bytes();
        let lengths = self.lengths.iter().map(|length| usize::from(*length));
        lengths.map(move |length| rest.split_to(length.min(rest.len())))
    }

    /// One of these messages, all small.
    #[cfg(test)]
    pub(super) fn of<M: AsRef<[u8]>>(messages: impl IntoIterator<Item = M>) -> Pack {
        let mut pack = Pack::default();
        for message in messages {
            let large = pack.push_with(|out, _| {
                out.extend_from_slice(message.as_ref());
                Ok::<_, ()>(())
            });
            assert_eq!(large, Ok(None));
        }
        pack
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn lengths(&self) -> &[u16] {
        &self.lengths
    }
}

impl Clone for Pack {
    /// With no more memory than the messages need.
    fn clone(&self) -> Self {
        Pack {
            bytes: self.bytes.clone(),
            lengths: self.lengths.clone(),
            apart: Apart::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picom_codec::EncodeError;
    use picom_codec::value::encode_apart;

    fn push(pack: &mut Pack, message: &[u8]) -> Option<Body> {
        pack.push_with(|out, _| {
            out.extend_from_slice(message);
            Ok::<_, ()>(())
        })
        .unwrap()
    }

    #[test]
    fn a_message_that_fails_leaves_no_trace() {
        let mut pack = Pack::default();
        assert_eq!(push(&mut pack, &[1, 2]), None);
        let failed = pack.push_with(|out, _| {
            out.push(3);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!((pack.bytes(), pack.lengths()), (&[1, 2][..], &[2][..]));
    }

    #[test]
    fn a_message_that_panics_leaves_no_trace_that_stays() {
        let mut pack = Pack::default();
        assert_eq!(push(&mut pack, &[1, 2]), None);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pack.push_with(|out, _| -> Result<(), ()> {
                out.push(3);
                std::panic::resume_unwind(Box::new("no"))
            })
        }));
        assert!(panicked.is_err());
        pack.drop_unfinished();
        assert_eq!((pack.bytes(), pack.lengths()), (&[1, 2][..], &[2][..]));
    }

    #[test]
    fn what_a_panicking_message_kept_apart_is_not_the_next_ones() {
        let mut pack = Pack::default();
        let large = picom_codec::Blob(vec![7; 20_000].into());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pack.push_with(|out, apart| -> Result<(), EncodeError> {
                encode_apart(&large, out, apart)?;
                std::panic::resume_unwind(Box::new("no"))
            })
        }));
        assert!(panicked.is_err());
        pack.clear();
        assert_eq!(push(&mut pack, &[1, 2]), None);
        assert_eq!((pack.count(), pack.len()), (1, 2));
    }

    #[test]
    fn what_is_too_large_is_given_back_and_the_rest_stays() {
        let mut pack = Pack::default();
        assert_eq!(push(&mut pack, &[7; MOST_PACKED]), None);
        assert_eq!(
            push(&mut pack, &[8; MOST_PACKED + 1]),
            Some(vec![8; MOST_PACKED + 1].into())
        );
        assert_eq!(push(&mut pack, &[9]), None);
        assert_eq!((pack.count(), pack.len()), (2, MOST_PACKED + 1));
        pack.clear();
        assert_eq!(
            push(&mut pack, &[8; MOST_PACKED + 1]),
            Some(vec![8; MOST_PACKED + 1].into())
        );
        assert!(pack.is_empty());
        assert_eq!(pack.len(), 0);
    }
}
