//! The line of those who wait for a free slot on any connection to a target. A slot that becomes free is held for the first in
//! line, which nobody who comes later can take: calls get their turn in the order in which they came, and none is woken for
//! nothing. Costs nothing while nobody waits.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Shared by the connections of one target and those who wait for a slot (an `S`) of any of them. Its lock is taken behind
/// that of a connection, never the other way round.
#[derive(Debug)]
pub(crate) struct Vacancy<S> {
    line: Mutex<Line<S>>,
    /// Who waits, and who was called and has not looked yet: changed under the lock, read without.
    concerned: AtomicUsize,
}

#[derive(Debug)]
struct Line<S> {
    /// By number, ascending.
    waiting: VecDeque<(u64, Waker)>,
    /// Slots of those who were called and have not come for them.
    given: BTreeMap<u64, S>,
    /// So many were called to look by themselves, and have not.
    called: usize,
    /// The number of the next.
    next: u64,
}

impl<S> Line<S> {
    fn position(&self, number: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&number, |(number, _)| *number)
    }

    fn call_first(&mut self) -> Option<Waker> {
        let (_, waker) = self.waiting.pop_front()?;
        self.called += 1;
        Some(waker)
    }
}

impl<S> Default for Vacancy<S> {
    fn default() -> Self {
        let line = Line {
            waiting: VecDeque::new(),
            given: BTreeMap::new(),
            called: 0,
            next: 0,
        };
        Vacancy {
            line: Mutex::new(line),
            concerned: AtomicUsize::new(0),
        }
    }
}

impl<S> Vacancy<S> {
    /// One slot is free: the first in line is called, and gets it. Its waker, to be woken when the locks are free; `None`, and
    /// no slot is made: nobody waits.
    #[must_use]
    pub(crate) fn give(&self, slot: impl FnOnce() -> S) -> Option<Waker> {
        let mut line = self.line();
        let (number, waker) = line.waiting.pop_front()?;
        line.given.insert(number, slot());
        Some(waker)
    }

    /// The first in line is to look what there is.
    pub(crate) fn call_first(&self) {
        let first = self.line().call_first();
        if let Some(first) = first {
            first.wake();
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

    /// Somebody waits, or was called and is on the way.
    pub(crate) fn is_contended(&self) -> bool {
        self.concerned.load(Ordering::SeqCst) > 0
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        if self.is_contended() {
            self.line().waiting.len()
        } else {
            0
        }
    }

    /// How many of the slots that are free, and held for nobody, are for those who were called to look.
    pub(crate) fn promised(&self) -> usize {
        if self.is_contended() {
            self.line().called
        } else {
            0
        }
    }

    /// Stands in line. Look for a slot once more before awaiting [`Place::called`], and say so with
    /// [`call_first`](Self::call_first) if there is one: what was free before is held for nobody.
    pub(crate) fn stand(self: &Arc<Self>) -> Place<S> {
        let mut line = self.line();
        self.concerned.fetch_add(1, Ordering::SeqCst);
        let number = line.next;
        line.next += 1;
        line.waiting.push_back((number, Waker::noop().clone()));
        Place {
            vacancy: self.clone(),
            number,
            state: Standing::InLine,
        }
    }

    fn line(&self) -> MutexGuard<'_, Line<S>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in line. Dropped, it is given up, and what it was called for goes to the next.
#[derive(Debug)]
pub(crate) struct Place<S> {
    vacancy: Arc<Vacancy<S>>,
    number: u64,
    state: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It waits, or was called and does not know it.
    InLine,
    /// It was called to look and knows it.
    Looking,
    /// What it was called for has been taken.
    Done,
}

impl<S> Place<S> {
    /// Waits until it is called: with a slot, or to look by itself. Cancel safe.
    pub(crate) async fn called(&mut self) -> Option<S> {
        poll_fn(|cx| self.poll_called(cx)).await
    }

    fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<Option<S>> {
        let mut line = self.vacancy.line();
        if let Ok(at) = line.position(self.number) {
            let replaced = line
                .waiting
                .get_mut(at)
                .filter(|(_, waker)| !waker.will_wake(cx.waker()))
                .map(|(_, waker)| std::mem::replace(waker, cx.waker().clone()));
            drop(line);
            drop(replaced);
            return Poll::Pending;
        }
        let slot = line.given.remove(&self.number);
        self.state = match slot {
            Some(_) => Standing::Done,
            None => Standing::Looking,
        };
        Poll::Ready(slot)
    }

    /// Who was called has looked, and takes what is there.
    pub(crate) fn answer(mut self) {
        self.settle();
    }

    /// Who was called has found nothing, and stands where it stood before.
    pub(crate) fn stand_again(&mut self) {
        self.settle();
        let mut line = self.vacancy.line();
        if let Err(at) = line.position(self.number) {
            line.waiting.insert(at, (self.number, Waker::noop().clone()));
        }
        self.state = Standing::InLine;
    }

    /// The slot that was given is of no use: it looks by itself.
    pub(crate) fn look_instead(&mut self) {
        self.vacancy.line().called += 1;
        self.state = Standing::Looking;
    }

    fn settle(&mut self) {
        if self.state == Standing::Looking {
            let mut line = self.vacancy.line();
            line.called = line.called.saturating_sub(1);
        }
        self.state = Standing::Done;
    }

    /// Whether it is a place of this line.
    pub(crate) fn is_in(&self, vacancy: &Arc<Vacancy<S>>) -> bool {
        Arc::ptr_eq(&self.vacancy, vacancy)
    }
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        // Bound outside: wakers are woken and slots dropped when the lock is free.
        let (next, _slot, _waker);
        {
            let mut line = self.vacancy.line();
            self.vacancy.concerned.fetch_sub(1, Ordering::SeqCst);
            _slot = line.given.remove(&self.number);
            let at = line.position(self.number).ok();
            let was_called = match self.state {
                Standing::InLine => at.is_none() && _slot.is_none(),
                Standing::Looking => true,
                Standing::Done => false,
            };
            _waker = at.and_then(|at| line.waiting.remove(at));
            next = if was_called {
                line.called = line.called.saturating_sub(1);
                line.call_first()
            } else {
                None
            };
        }
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot that counts those that were dropped.
    #[derive(Debug)]
    struct Slot(u32, Arc<AtomicUsize>);

    impl Drop for Slot {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll<S>(place: &mut Place<S>) -> Poll<Option<S>> {
        place.poll_called(&mut Context::from_waker(Waker::noop()))
    }

    fn gets(place: &mut Place<u32>, slot: u32) -> bool {
        matches!(poll(place), Poll::Ready(Some(got)) if got == slot)
    }

    fn looks(place: &mut Place<u32>) -> bool {
        matches!(poll(place), Poll::Ready(None))
    }

    fn waits(place: &mut Place<u32>) -> bool {
        poll(place).is_pending()
    }

    #[test]
    fn slots_are_given_in_order_and_to_those_who_wait_alone() {
        let vacancy = Arc::new(Vacancy::default());
        assert!(vacancy.give(|| -> u32 { panic!("nobody waits") }).is_none());
        assert!(!vacancy.is_contended());
        let (mut one, mut two) = (vacancy.stand(), vacancy.stand());
        assert!(waits(&mut two) && waits(&mut one));
        assert_eq!(vacancy.waiting(), 2);
        assert!(vacancy.give(|| 7).is_some());
        assert!(waits(&mut two) && gets(&mut one, 7));
        one.answer();
        assert!(vacancy.is_contended());
        assert!(vacancy.give(|| 8).is_some());
        assert!(gets(&mut two, 8));
        two.answer();
        assert_eq!((vacancy.is_contended(), vacancy.promised()), (false, 0));
    }

    #[test]
    fn a_slot_that_nobody_comes_for_is_let_go_of() {
        let (vacancy, dropped) = (Arc::new(Vacancy::default()), Arc::new(AtomicUsize::new(0)));
        let (one, mut two) = (vacancy.stand(), vacancy.stand());
        for n in 0..2 {
            assert!(vacancy.give(|| Slot(n, dropped.clone())).is_some());
        }
        drop(one);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        let Poll::Ready(Some(slot)) = poll(&mut two) else {
            panic!("the second has its own")
        };
        drop(two);
        assert_eq!((slot.0, dropped.load(Ordering::Relaxed)), (1, 1));
        assert!(!vacancy.is_contended());
    }

    #[test]
    fn who_was_called_to_look_and_goes_away_passes_it_on() {
        let vacancy = Arc::new(Vacancy::default());
        let (mut one, mut two, mut three) = (vacancy.stand(), vacancy.stand(), vacancy.stand());
        assert!(waits(&mut one) && waits(&mut two) && waits(&mut three));
        drop(two);
        vacancy.call_first();
        drop(one);
        assert_eq!(vacancy.promised(), 1);
        assert!(looks(&mut three));
        drop(three);
        assert_eq!((vacancy.promised(), vacancy.is_contended()), (0, false));
    }

    #[test]
    fn who_looked_and_found_nothing_stands_where_it_stood() {
        let vacancy = Arc::new(Vacancy::default());
        let mut places: Vec<Place<u32>> = (0..4).map(|_| vacancy.stand()).collect();
        for place in &mut places[..2] {
            vacancy.call_first();
            assert!(looks(place));
        }
        // The second is back first.
        for n in [1, 0] {
            places[n].stand_again();
        }
        assert_eq!((vacancy.promised(), vacancy.waiting()), (0, 4));
        for (n, place) in places.iter_mut().enumerate() {
            assert!(waits(place));
            assert!(vacancy.give(|| n as u32).is_some());
            assert!(gets(place, n as u32), "{n}");
        }
    }

    #[test]
    fn when_everything_changes_everybody_looks_again() {
        let vacancy = Arc::new(Vacancy::default());
        let mut places: Vec<Place<u32>> = (0..5).map(|_| vacancy.stand()).collect();
        vacancy.changed();
        assert!(places.iter_mut().all(looks));
        assert_eq!(vacancy.promised(), 5);
        places.into_iter().for_each(Place::answer);
        assert_eq!((vacancy.promised(), vacancy.is_contended()), (0, false));
    }
}
