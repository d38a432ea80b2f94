//! A waker that remembers having been called, so that what is polled together with something else can be left alone until
//! it has something to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// See the module. To be polled with [`waker`](Self::waker), each time behind [`attend`](Self::attend).
#[derive(Debug)]
pub(super) struct Nudge {
    called: Arc<Called>,
    /// `called`, as it is handed out.
    waker: Waker,
    /// The task that attended last.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Called {
    called: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Nudge {
    pub(super) fn new() -> Self {
        let called = Arc::new(Called {
            called: AtomicBool::new(false),
            task: Mutex::new(None),
        });
        Nudge {
            waker: Waker::from(called.clone()),
            called,
            task: None,
        }
    }

    /// `task` is about to poll: it is the one to be woken, and what was called so far has been heard.
    pub(super) fn attend(&mut self, task: &Waker) {
        if !self.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            let replaced = self.called.task().replace(task.clone());
            drop(replaced);
            self.task = Some(task.clone());
        }
        // Behind the task, before the poll: a call in between wakes a task that is awake, and is heard.
        self.called.called.swap(false, Ordering::AcqRel);
    }

    /// Nothing was called since `task` attended, and it is the one that would be woken.
    #[inline]
    pub(super) fn is_quiet(&self, task: &Waker) -> bool {
        !self.called.called.load(Ordering::Acquire)
            && self.task.as_ref().is_some_and(|known| known.will_wake(task))
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Called {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
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

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn task() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), Waker::from(count))
    }

    #[test]
    fn it_is_quiet_until_it_is_called() {
        let (count, task) = task();
        let mut nudge = Nudge::new();
        assert!(!nudge.is_quiet(&task), "nobody has attended");
        nudge.attend(&task);
        assert!(nudge.is_quiet(&task));
        nudge.waker().wake_by_ref();
        assert!(!nudge.is_quiet(&task));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        nudge.attend(&task);
        assert!(nudge.is_quiet(&task));
        nudge.waker().wake_by_ref();
        assert!(!nudge.is_quiet(&task));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_task_that_attended_last_is_woken() {
        let ((first, one), (second, other)) = (task(), task());
        let mut nudge = Nudge::new();
        nudge.attend(&one);
        let handed_out = nudge.waker().clone();
        assert!(!nudge.is_quiet(&other), "it would not be woken");
        nudge.attend(&other);
        assert!(nudge.is_quiet(&other));
        assert!(!nudge.is_quiet(&one));
        handed_out.wake();
        assert_eq!(first.0.load(Ordering::Relaxed), 0);
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
    }

    /// Whoever is told something and finds it quiet must have been woken after.
    #[test]
    fn no_call_is_lost_between_threads() {
        for _ in 0..200 {
            let (count, task) = task();
            let mut nudge = Nudge::new();
            nudge.attend(&task);
            let waker = nudge.waker().clone();
            let told = Arc::new(AtomicBool::new(false));
            let tell = std::thread::spawn({
                let told = told.clone();
                move || {
                    told.store(true, Ordering::Release);
                    waker.wake();
                }
            });
            let (later, moved) = super::tests::task();
            nudge.attend(&moved);
            let seen = told.load(Ordering::Acquire);
            tell.join().unwrap();
            let woken = count.0.load(Ordering::Relaxed) + later.0.load(Ordering::Relaxed);
            assert_eq!(woken, 1);
            // What was not seen yet in this poll is heard, or its task is the one that polls now.
            assert!(seen || !nudge.is_quiet(&moved));
        }
    }
}
