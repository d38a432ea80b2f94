//! Credit of one half of a stream (PROTOCOL §7): all additions and subtractions are here, all of them checked. What a
//! frame costs is the codec's to say; when credit frames go out is the multiplexer's.

/// The most credit a half may ever have (PROTOCOL §7.2).
pub(super) const MAX_CREDIT: u32 = i32::MAX as u32;

/// More credit came than a half may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CreditOverflow;

/// A frame came that the peer had no credit for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CreditOverrun;

/// What we may still send on a stream.
#[derive(Debug)]
pub(super) struct SendWindow {
    credit: u32,
}

impl SendWindow {
    pub(super) fn new(first_window: u32) -> Self {
        Self {
            credit: first_window.min(MAX_CREDIT),
        }
    }

    pub(super) fn credit(&self) -> u32 {
        self.credit
    }

    /// Spends `charge`, or nothing if it is not there.
    #[must_use]
    pub(super) fn spend(&mut self, charge: u32) -> bool {
        match self.credit.checked_sub(charge) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }

    pub(super) fn grant(&mut self, bytes: u32) -> Result<(), CreditOverflow> {
        match self.credit.checked_add(bytes) {
            Some(credit) if credit <= MAX_CREDIT && bytes != 0 => {
                self.credit = credit;
                Ok(())
            }
            _ => Err(CreditOverflow),
        }
    }
}

/// What the peer may still send us on a stream, and what has been read but not granted again.
#[derive(Debug)]
pub(super) struct RecvWindow {
    /// The credit the peer has when nothing waits here.
    size: u32,
    /// The credit the peer has now, granted frames that are still to be written included.
    available: u32,
    /// Read, and not granted again yet.
    unreturned: u32,
}

impl RecvWindow {
    pub(super) fn new(first_window: u32) -> Self {
        let size = first_window.min(MAX_CREDIT);
        Self {
            size,
            available: size,
            unreturned: 0,
        }
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// A frame of this charge has come.
    pub(super) fn receive(&mut self, charge: u32) -> Result<(), CreditOverrun> {
        self.available = self.available.checked_sub(charge).ok_or(CreditOverrun)?;
        Ok(())
    }

    /// A frame of this charge no longer takes room. Says whether it is time to grant: half the window at a time, so that
    /// credit frames are few, and at least as soon as a sender could be waiting for it.
    #[must_use]
    pub(super) fn consume(&mut self, charge: u32) -> bool {
        self.unreturned = self.unreturned.saturating_add(charge);
        self.unreturned >= self.size / 2
    }

    /// The grant that is due: goes into a credit frame.
    pub(super) fn take_grant(&mut self) -> Option<u32> {
        let room = MAX_CREDIT.saturating_sub(self.available);
        let grant = self.unreturned.min(room);
        if grant == 0 {
            return None;
        }
        self.unreturned -= grant;
        self.available += grant;
        Some(grant)
    }

    /// Whether the peer has used most of what it was given: the sign that a larger window would be of use.
    pub(super) fn is_mostly_used(&self) -> bool {
        self.available < self.size / 2
    }

    /// Makes the window larger by `extra`, which the receive budget has given.
    pub(super) fn grow(&mut self, extra: u32) {
        let extra = extra.min(MAX_CREDIT.saturating_sub(self.size));
        self.size += extra;
        self.unreturned = self.unreturned.saturating_add(extra);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_grant_of_nothing_or_over_the_top_is_refused() {
        let mut window = SendWindow::new(MAX_CREDIT - 10);
        assert_eq!(window.grant(0), Err(CreditOverflow));
        assert_eq!(window.grant(11), Err(CreditOverflow));
        assert_eq!(window.grant(10), Ok(()));
        assert_eq!(window.grant(1), Err(CreditOverflow));
        assert_eq!(window.grant(u32::MAX), Err(CreditOverflow));
        assert_eq!(window.credit(), MAX_CREDIT);
    }

    #[test]
    fn spending_too_much_spends_nothing() {
        let mut window = SendWindow::new(300);
        assert!(!window.spend(301));
        assert_eq!(window.credit(), 300);
        assert!(window.spend(300));
        assert!(!window.spend(1));
    }

    #[test]
    fn credit_is_granted_half_a_window_at_a_time() {
        let mut window = RecvWindow::new(4096);
        window.receive(4096).unwrap();
        assert_eq!(window.receive(1), Err(CreditOverrun));
        assert!(!window.consume(2047));
        assert!(window.consume(1));
        assert_eq!(window.take_grant(), Some(2048));
        assert_eq!(window.take_grant(), None);
    }

    proptest! {
        /// Whatever happens, what the peer may send, what waits here and what is to be granted add up to the window.
        #[test]
        fn nothing_leaks(operations in prop::collection::vec((0u8..3, 1u32..5000), 0..200)) {
            let mut window = RecvWindow::new(16_384);
            let mut waiting: u32 = 0;
            for (kind, n) in operations {
                match kind {
                    0 => if window.receive(n).is_ok() { waiting += n },
                    1 => { let n = n.min(waiting); waiting -= n; let _ = window.consume(n); }
                    _ => { let _ = window.take_grant(); }
                }
                prop_assert_eq!(window.available + window.unreturned + waiting, window.size());
            }
        }
    }
}
