//! A message that comes in parts (PROTOCOL §6): its total is known from the first, is reserved from the receive budget, and
//! only then does the credit of its parts flow back. So what is begun can always be completed.

use bytes::{Bytes, BytesMut};

/// The largest step in which the buffer grows ahead of what has come: an announced total is not memory.
const STEP: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Assembly {
    total: u64,
    received: u64,
    /// Nobody wants the message: its parts are only counted, so that its end is known.
    discard: bool,
    buffer: BytesMut,
    /// The total is set aside from the budget.
    pub(super) reserved: bool,
    /// Credit of parts that came before the reservation was granted.
    pub(super) withheld: u32,
}

/// A part does not fit the message it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PartError {
    /// More than the total.
    Overlong,
    /// Too short for one that is not the last (PROTOCOL §6.2).
    Tiny,
    /// The half ends within the message.
    EndsEarly,
}

/// Each part but the last carries at least so much (PROTOCOL §6.2), so that parts cannot be made costly.
const LEAST_PART: usize = 4096;

impl Assembly {
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            received: 0,
            discard: false,
            buffer: BytesMut::new(),
            reserved: false,
            withheld: 0,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Holds no more of the message. Returns what was reserved for it.
    pub(super) fn discard(&mut self) -> u64 {
        self.discard = true;
        self.buffer = BytesMut::new();
        if std::mem::take(&mut self.reserved) {
            self.total
        } else {
            0
        }
    }

    /// Adds a part. `Some`: the message is complete.
    pub(super) fn push(&mut self, part: &Bytes, end: bool) -> Result<Option<Bytes>, PartError> {
        let missing = self.total.saturating_sub(self.received);
        let length = part.len() as u64;
        if length > missing {
            return Err(PartError::Overlong);
        }
        self.received += length;
        if length == missing {
            if !self.discard {
                self.buffer.extend_from_slice(part);
            }
            return Ok(Some(std::mem::take(&mut self.buffer).freeze()));
        }
        if end {
            return Err(PartError::EndsEarly);
        }
        if part.len() < LEAST_PART {
            return Err(PartError::Tiny);
        }
        if self.discard {
            return Ok(None);
        }
        if self.buffer.capacity() - self.buffer.len() < part.len() {
            let ahead = self
                .buffer
                .len()
                .clamp(STEP, 16 * STEP)
                .min(usize::try_from(missing).unwrap_or(usize::MAX));
            self.buffer.reserve(ahead.max(part.len()));
        }
        self.buffer.extend_from_slice(part);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_message_again() {
        let mut assembly = Assembly::new(10_001);
        let part = Bytes::from(vec![7u8; 5000]);
        assert_eq!(assembly.push(&part, false), Ok(None));
        assert_eq!(assembly.push(&part, false), Ok(None));
        let whole = assembly.push(&Bytes::from_static(b"x"), true).unwrap().unwrap();
        assert_eq!((whole.len(), whole.last()), (10_001, Some(&b'x')));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let part = Bytes::from(vec![0u8; 5000]);
        assert_eq!(Assembly::new(4999).push(&part, false), Err(PartError::Overlong));
        assert_eq!(Assembly::new(5001).push(&part, true), Err(PartError::EndsEarly));
        assert_eq!(
            Assembly::new(5001).push(&part.slice(..4095), false),
            Err(PartError::Tiny)
        );
    }

    #[test]
    fn an_announced_total_takes_no_memory() {
        let mut assembly = Assembly::new(1 << 40);
        assert_eq!(assembly.push(&Bytes::from(vec![0u8; 5000]), false), Ok(None));
        assert!(assembly.buffer.capacity() <= 2 * STEP);
    }
}
