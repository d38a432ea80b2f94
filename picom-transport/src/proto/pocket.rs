//! Where senders leave small messages while the driver is on its way to their stream: a lock of a few instructions each,
//! instead of that of the connection. The driver takes them together, as if they had been put in line one by one.

use super::pack::Pack;
use super::packed::Packed;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most room that is made at once for what comes next, in bytes: as much as was taken the last time, but no more.
const MOST_RESERVED: usize = 32 * 1024;

/// See the module. It is open only while its stream waits for its turn to be written: whoever finds it open need not tell
/// anybody. Closed, or full, it takes nothing, and the sender goes to the stream, which may open it again.
#[derive(Debug, Default)]
pub struct Pocket(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    packed: Packed,
    /// How many bytes more it takes before it is full; 0: closed. The last message may be over.
    room: usize,
    /// How many bytes were taken out the last time.
    last: usize,
}

impl Pocket {
    /// Takes the messages of a pack, which is empty then. `false`: it is closed or full, and they stay.
    #[inline]
    pub fn push(&self, pack: &mut Pack) -> bool {
        let mut inner = self.lock();
        if inner.room == 0 {
            return false;
        }
        inner.room = inner.room.saturating_sub(pack.len());
        inner.packed.extend(pack);
        drop(inner);
        pack.clear();
        true
    }

    /// Opens it, with room for so many bytes and a pack in it.
    pub(super) fn open(&self, room: usize, pack: &Pack) {
        let mut inner = self.lock();
        let expected = inner.last.min(MOST_RESERVED);
        inner.packed.reserve(expected);
        inner.room = room.saturating_sub(pack.len());
        inner.packed.extend(pack);
    }

    /// Closes it, and gives what is in it.
    pub(super) fn close(&self) -> Packed {
        let mut inner = self.lock();
        inner.room = 0;
        inner.last = inner.packed.len();
        let mut packed = std::mem::take(&mut inner.packed);
        drop(inner);
        // Less came than the last time: it may wait for credit for long.
        packed.trim();
        packed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(message: &[u8]) -> Pack {
        Pack::of([message])
    }

    #[test]
    fn it_takes_messages_while_it_is_open_and_has_room() {
        let pocket = Pocket::default();
        assert!(!pocket.push(&mut pack(&[1])), "closed at first");
        pocket.open(10, &pack(&[1, 2, 3]));
        let mut second = pack(&[4; 6]);
        assert!(pocket.push(&mut second));
        assert!(second.is_empty());
        assert!(pocket.push(&mut pack(&[5, 6])), "the last may be over");
        let mut late = pack(&[7]);
        assert!(!pocket.push(&mut late));
        assert_eq!(late.count(), 1, "it stays");
        let mut taken = pocket.close();
        assert_eq!(
            taken.take(usize::MAX),
            Some((3, vec![1, 2, 3, 4, 4, 4, 4, 4, 4, 5, 6].into()))
        );
        assert!(!pocket.push(&mut late), "closed again");
        assert!(pocket.close().is_empty());
    }

    /// What waits for credit takes about the memory that it counts for.
    #[test]
    fn little_behind_much_does_not_keep_the_room_of_much() {
        let pocket = Pocket::default();
        pocket.open(usize::MAX, &pack(&[1; 100]));
        while pocket.push(&mut pack(&[1; 100])) && pocket.lock().packed.len() < MOST_RESERVED {}
        assert!(pocket.close().capacity() >= MOST_RESERVED);
        pocket.open(usize::MAX, &pack(&[2; 10]));
        assert!(
            pocket.lock().packed.capacity() >= MOST_RESERVED,
            "as much may follow"
        );
        let mut little = pocket.close();
        assert!(little.capacity() <= 2 * 256, "{}", little.capacity());
        assert_eq!(little.take(usize::MAX), Some((1, vec![2; 10].into())));
    }
}
