//! A global allocator that counts, by thread, so that tests beside each other do not disturb each other. What is
//! measured with it stands in `tests/`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What a piece of code took from the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How often it asked for memory; growing counts, freeing does not.
    pub count: usize,
    /// The most bytes it held at once, of those it asked for itself.
    pub peak: usize,
}

/// Runs `code` and says what it took, on this thread.
pub fn taken<T>(code: impl FnOnce() -> T) -> (T, Taken) {
    let (value, counters) = counted(code);
    (
        value,
        Taken {
            count: counters.count,
            peak: counters.peak.max(0) as usize,
        },
    )
}

/// Runs `code` and says how many bytes more are held afterwards than before, of what this thread asked for and freed;
/// below zero if they are less.
pub fn kept<T>(code: impl FnOnce() -> T) -> (T, isize) {
    let (value, counters) = counted(code);
    (value, counters.held)
}

fn counted<T>(code: impl FnOnce() -> T) -> (T, Counters) {
    let outer = COUNTERS.replace(Counters {
        count: 0,
        held: 0,
        peak: 0,
    });
    let value = code();
    (value, COUNTERS.replace(outer))
}

#[derive(Clone, Copy)]
struct Counters {
    count: usize,
    /// Below zero when memory from before is freed.
    held: isize,
    peak: isize,
}

thread_local! {
    static COUNTERS: Cell<Counters> = const { Cell::new(Counters { count: 0, held: 0, peak: 0 }) };
}

fn count(asked: bool, more: isize) {
    // A thread that is ending has no counters any more.
    let _ = COUNTERS.try_with(|cell| {
        let mut counters = cell.get();
        counters.count += usize::from(asked);
        counters.held += more;
        counters.peak = counters.peak.max(counters.held);
        cell.set(counters);
    });
}

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(
    unsafe_code,
    reason = "the trait of allocators is unsafe; every call goes on to the system's unchanged"
)]
// SAFETY: each method passes its arguments to the system's allocator and returns what that says. Counting allocates
// nothing: the counters are `const` and have no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(true, layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(true, layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(false, -(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves, both may be held.
        count(true, size as isize);
        count(false, -(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_and_held_is_counted_exactly() {
        let before: Vec<u8> = vec![1; 5000];
        let (grown, counted) = taken(|| {
            drop(vec![0u8; 1000]);
            drop(before);
            let mut grown: Vec<u8> = Vec::with_capacity(100);
            grown.push(1);
            grown.reserve_exact(299);
            grown
        });
        assert_eq!(grown.capacity(), 300);
        // What was held before and freed within makes room for no more than was asked for within.
        assert_eq!(counted, Taken { count: 3, peak: 1000 });
        let (vector, bytes) = kept(|| vec![0u8; 70]);
        assert_eq!((bytes, kept(|| drop(vector)).1), (70, -70));
        let ((), nothing) = taken(|| ());
        assert_eq!(nothing, Taken::default());
    }

    #[test]
    fn threads_do_not_count_for_each_other() {
        let ((), counted) = taken(|| {
            let thread = std::thread::spawn(|| taken(|| vec![0u8; 1 << 20]).1);
            assert_eq!(
                thread.join().unwrap(),
                Taken {
                    count: 1,
                    peak: 1 << 20
                }
            );
        });
        assert!(counted.peak < 1 << 16, "{counted:?}");
    }
}
