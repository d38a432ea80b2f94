//! The line of those who wait for a free slot on any connection to a target. A slot that becomes free is promised to the
//! first in line, and who comes later leaves promised ones alone: calls get their turn in the order in which they came, and
//! none is woken for nothing. Costs nothing while nobody waits.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Shared by the connections of one target and those who wait for a slot of any of them. Its lock is taken behind that of
/// a connection, never the other way round.
#[derive(Debug, Default)]
pub(crate) struct Vacancy {
    line: Mutex<Line>,
    /// Who waits, and who was called and has not looked yet: changed under the lock, read without.
    concerned: AtomicUsize,
}

#[derive(Debug, Default)]
struct Line {
    /// By number, ascending.
    waiting: VecDeque<(u64, Waker)>,
    /// Slots that are free and promised.
    called: usize,
    /// The number of the next.
    next: u64,
}

impl Line {
    /// Calls the first.
    fn call(&mut self) -> Option<Waker> {
        let (_, waker) = self.waiting.pop_front()?;
        self.called += 1;
        Some(waker)
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.waiting
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()
    }
}

impl Vacancy {
    /// One slot is free: the first in line is called. Its waker, to be woken when the locks are free.
    #[must_use]
    pub(crate) fn freed(&self) -> Option<Waker> {
        if self.is_contended() {
            self.line().call()
        } else {
            None
        }
    }

    /// The slots have changed altogether: everybody looks again, in order.
    pub(crate) fn changed(&self) {
        if !self.is_contended() {
            return;
        }
        let mut wakers = Vec::new();
        {
            let mut line = self.line();
            line.called += line.waiting.len();
            wakers.extend(line.waiting.drain(..).map(|(_, waker)| waker));
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Somebody waits, or was called and is on the way: free slots may be promised.
    pub(crate) fn is_contended(&self) -> bool {
        self.concerned.load(Ordering::SeqCst) > 0
    }

    /// How many of the free slots are promised.
    pub(crate) fn promised(&self) -> usize {
        if self.is_contended() {
            self.line().called
        } else {
            0
        }
    }

    /// Stands in line. Look for a slot once more before awaiting [`Place::called`], and pass it on with
    /// [`freed`](Self::freed) if there is one: what was freed before is promised to nobody.
    pub(crate) fn stand(self: &Arc<Self>) -> Place {
        let mut line = self.line();
        self.concerned.fetch_add(1, Ordering::SeqCst);
        let number = line.next;
        line.next += 1;
        line.waiting.push_back((number, Waker::noop().clone()));
        Place {
            vacancy: self.clone(),
            number,
            answered: false,
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in line. Dropped, it is given up, and a slot that was promised to it goes to the next.
#[derive(Debug)]
pub(crate) struct Place {
    vacancy: Arc<Vacancy>,
    number: u64,
    /// Its holder has looked for the promised slot.
    answered: bool,
}

impl Place {
    /// Waits until it is called. Cancel safe.
    pub(crate) async fn called(&mut self) {
        poll_fn(|cx| self.poll_called(cx)).await;
    }

    fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = self.vacancy.line();
        let Some(at) = line.position(self.number) else {
            return Poll::Ready(());
        };
        let replaced = line
            .waiting
            .get_mut(at)
            .filter(|(_, waker)| !waker.will_wake(cx.waker()))
            .map(|(_, waker)| std::mem::replace(waker, cx.waker().clone()));
        drop(line);
        drop(replaced);
        Poll::Pending
    }

    /// Whoever was called has looked, and takes what is there.
    pub(crate) fn answer(mut self) {
        self.answered = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Bound outside: wakers are woken and dropped when the lock is free.
        let (woken, _given_up) = {
            let mut line = self.vacancy.line();
            self.vacancy.concerned.fetch_sub(1, Ordering::SeqCst);
            match line.position(self.number) {
                Some(at) => (None, line.waiting.remove(at)),
                None => {
                    line.called = line.called.saturating_sub(1);
                    (if self.answered { None } else { line.call() }, None)
                }
            }
        };
        if let Some(waker) = woken {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ready(place: &mut Place) -> bool {
        place
            .poll_called(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    fn waits(place: &mut Place) -> bool {
        !is_ready(place)
    }

    #[test]
    fn slots_are_promised_in_order_and_counted_until_they_are_looked_for() {
        let vacancy = Arc::new(Vacancy::default());
        assert!(vacancy.freed().is_none() && !vacancy.is_contended());
        let (mut one, mut two) = (vacancy.stand(), vacancy.stand());
        assert!(waits(&mut two) && waits(&mut one));
        assert!(vacancy.freed().is_some());
        assert!(is_ready(&mut one) && waits(&mut two));
        assert_eq!(vacancy.promised(), 1);
        one.answer();
        assert_eq!((vacancy.promised(), vacancy.is_contended()), (0, true));
        assert!(vacancy.freed().is_some());
        assert!(is_ready(&mut two));
        two.answer();
        assert!(!vacancy.is_contended());
    }

    #[test]
    fn who_goes_away_passes_a_promise_on() {
        let vacancy = Arc::new(Vacancy::default());
        let (mut one, mut two, mut three) = (vacancy.stand(), vacancy.stand(), vacancy.stand());
        assert!(waits(&mut one) && waits(&mut two) && waits(&mut three));
        drop(two);
        assert!(vacancy.freed().is_some());
        drop(one);
        assert!(is_ready(&mut three));
        drop(three);
        assert_eq!((vacancy.promised(), vacancy.is_contended()), (0, false));
    }

    #[test]
    fn when_everything_changes_everybody_looks_again() {
        let vacancy = Arc::new(Vacancy::default());
        let mut places: Vec<Place> = (0..5).map(|_| vacancy.stand()).collect();
        vacancy.changed();
        assert!(places.iter_mut().all(is_ready));
        assert_eq!(vacancy.promised(), 5);
        places.into_iter().for_each(Place::answer);
        assert_eq!((vacancy.promised(), vacancy.is_contended()), (0, false));
    }
}
