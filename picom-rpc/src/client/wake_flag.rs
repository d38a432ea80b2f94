//! A waker that remembers having been called, so that what is polled together with something else can be left alone until
//! it has something to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// See the module. To be polled with [`waker`](Self::waker), each time behind [`attend`](Self::attend).
#[derive(Debug)]
pub(super) struct WakeFlag {
    flag: Arc<Flag>,
    /// The flag, as it is handed out.
    waker: Waker,
    /// The task that attended last.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Flag {
    called: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl WakeFlag {
    pub(super) fn new() -> Self {
        let flag = Arc::new(Flag {
            called: AtomicBool::new(false),
            task: Mutex::new(None),
        });
        WakeFlag {
            waker: Waker::from(flag.clone()),
            flag,
            task: None,
        }
    }

    /// `task` is about to poll: it is the one to be woken, and what was called so far has been heard.
    pub(super) fn attend(&mut self, task: &Waker) {
        if !self.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            // Outside the lock: to drop a waker may run anything.
            let replaced = self.flag.task().replace(task.clone());
            drop(replaced);
            self.task = Some(task.clone());
        }
        // Behind the task, before the poll: a call in between wakes a task that is awake, and is heard.
        self.flag.called.swap(false, Ordering::AcqRel);
    }

    /// Nothing was called since `task` attended, and it is the one that would be woken.
    #[inline]
    pub(super) fn is_quiet(&self, task: &Waker) -> bool {
        !self.flag.called.load(Ordering::Acquire)
            && self.task.as_ref().is_some_and(|known| known.will_wake(task))
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Flag {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // First: a task that is woken must find it set.
        self.called.store(true, Ordering::Release);
        // Not within the lock: the task may be polled right here.
        let task = self.task().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Counts how often a task was woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wakes {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn task() -> (Arc<Wakes>, Waker) {
        let wakes = Arc::new(Wakes::default());
        (wakes.clone(), Waker::from(wakes))
    }

    #[test]
    fn it_is_quiet_until_it_is_called() {
        let (wakes, waker) = task();
        let mut flag = WakeFlag::new();
        assert!(!flag.is_quiet(&waker), "nobody has attended");
        for round in 1..=2 {
            flag.attend(&waker);
            assert!(flag.is_quiet(&waker));
            flag.waker().wake_by_ref();
            assert!(!flag.is_quiet(&waker));
            assert_eq!(wakes.count(), round);
        }
    }

    #[test]
    fn the_task_that_attended_last_is_woken() {
        let ((first, one), (second, other)) = (task(), task());
        let mut flag = WakeFlag::new();
        flag.attend(&one);
        let handed_out = flag.waker().clone();
        assert!(!flag.is_quiet(&other), "it would not be woken");
        flag.attend(&other);
        assert!(flag.is_quiet(&other));
        assert!(!flag.is_quiet(&one));
        handed_out.wake();
        assert_eq!((first.count(), second.count()), (0, 1));
    }

    /// On another thread it may run before `wake` comes back.
    #[test]
    fn a_task_that_is_woken_finds_it_called() {
        struct Looks(Arc<Flag>, AtomicBool);

        impl Wake for Looks {
            fn wake(self: Arc<Self>) {
                self.1
                    .store(self.0.called.load(Ordering::Acquire), Ordering::Relaxed);
            }
        }

        let mut flag = WakeFlag::new();
        let looks = Arc::new(Looks(flag.flag.clone(), AtomicBool::new(false)));
        flag.attend(&Waker::from(looks.clone()));
        flag.waker().wake_by_ref();
        assert!(looks.1.load(Ordering::Relaxed));
    }

    /// A call while the reader moves to another task wakes one of the two, and is seen in this poll or heard behind it.
    #[test]
    fn no_call_is_lost_between_threads() {
        for _ in 0..200 {
            let ((before, one), (behind, other)) = (task(), task());
            let mut flag = WakeFlag::new();
            flag.attend(&one);
            let waker = flag.waker().clone();
            let told = Arc::new(AtomicBool::new(false));
            let teller = std::thread::spawn({
                let told = told.clone();
                move || {
                    told.store(true, Ordering::Release);
                    waker.wake();
                }
            });
            flag.attend(&other);
            let seen = told.load(Ordering::Acquire);
            teller.join().unwrap();
            assert_eq!(before.count() + behind.count(), 1);
            assert!(seen || !flag.is_quiet(&other));
        }
    }
}
