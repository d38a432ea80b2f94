//! Ready items of a stream, encoded one behind the other until the stream waits, a pack is full or somebody else should
//! have a turn. Which stream, and where the pack goes, is for those who send.

use futures_core::Stream;
use picom_codec::{Body, EncodeError, value};
use picom_transport::Pack;
use serde::Serialize;
use std::cell::Cell;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The most that is packed at a time, in bytes: beyond it the lock and the frame that a pack costs are lost among its
/// items, and the peer could begin sooner.
const FULL: usize = 32 * 1024;

/// A pack that large is not kept for the next user of the thread.
const KEEP: usize = 4 * FULL;

/// How long items are taken at a stretch from a stream that never waits, before what there is is sent and others have
/// their turn: as long as a full pack of items takes that cost a fifth of a microsecond each.
const STRETCH: Duration = Duration::from_micros(200);

/// After how many items the clock is read. A tenth of a nanosecond for each; of items that take 10 µs to make, it is as
/// many as the runtime's own budget for a task allows.
const GLANCE: u32 = 128;

thread_local! {
    /// A pack holds something only while a stream is polled, so a thread needs one, not each stream. Taken while in use:
    /// a stream that sends on another within itself gets a fresh one.
    static PACK: Cell<Option<Box<Pack>>> = const { Cell::new(None) };
}

/// Runs `work` with an empty pack.
#[inline]
pub(crate) fn with_pack<R>(work: impl FnOnce(&mut Pack) -> R) -> R {
    let mut pack = PACK.take().unwrap_or_default();
    let result = work(&mut pack);
    pack.clear();
    if pack.capacity() <= KEEP {
        PACK.set(Some(pack));
    }
    result
}

/// Adds a value. Gives it back if it is too large to be packed.
#[inline]
pub(crate) fn push<T: Serialize>(pack: &mut Pack, item: &T) -> Result<Option<Body>, EncodeError> {
    pack.push_with(|out, apart| value::encode_apart(item, out, apart))
}

/// How long items have been taken in this poll.
#[derive(Default)]
pub(crate) struct Stretch {
    items: u32,
    since: Option<Instant>,
}

impl Stretch {
    #[inline]
    fn is_over(&mut self) -> bool {
        self.items += 1;
        self.items.is_multiple_of(GLANCE) && self.has_lasted()
    }

    #[cold]
    fn has_lasted(&mut self) -> bool {
        let now = Instant::now();
        now.saturating_duration_since(*self.since.get_or_insert(now)) >= STRETCH
    }
}

/// Why no more is packed. What is in the pack is to be sent in any case.
pub(crate) enum Stop<E> {
    /// The pack is full.
    Full,
    /// The stream has nothing at present; the task will be woken.
    Waiting,
    /// Others should have their turn; the task has been woken.
    Tired,
    /// The stream has ended.
    Ended,
    /// This one is too large to be packed, and is next.
    Large(Body),
    /// The next item cannot be encoded.
    Encode(EncodeError),
    /// The stream gave an error.
    Failed(E),
}

/// What a stream gives: values to be sent, or results with such. Looked at where they are: what was just made takes time to
/// move.
pub(crate) trait Given<G> {
    /// What is sent.
    type Value: Serialize;
    /// What ends the stream.
    type Error;

    /// The value, if it is one.
    fn value(given: &G) -> Option<&Self::Value>;

    /// The error, if it is none.
    fn error(given: G) -> Option<Self::Error>;
}

/// All are values.
pub(crate) struct Values<E>(PhantomData<E>);

/// Results.
pub(crate) struct Results;

impl<T: Serialize, E> Given<T> for Values<E> {
    type Value = T;
    type Error = E;

    #[inline]
    fn value(given: &T) -> Option<&T> {
        Some(given)
    }

    fn error(_: T) -> Option<E> {
        None
    }
}

impl<T: Serialize, E> Given<Result<T, E>> for Results {
    type Value = T;
    type Error = E;

    #[inline]
    fn value(given: &Result<T, E>) -> Option<&T> {
        given.as_ref().ok()
    }

    fn error(given: Result<T, E>) -> Option<E> {
        given.err()
    }
}

/// Packs what is ready of `items`, up to `most` bytes and perhaps one message over.
pub(crate) fn fill<S: Stream, G: Given<S::Item>>(
    mut items: Pin<&mut S>,
    pack: &mut Pack,
    most: usize,
    stretch: &mut Stretch,
    cx: &mut Context<'_>,
) -> Stop<G::Error> {
    let most = most.min(FULL);
    while pack.len() < most {
        if stretch.is_over() {
            cx.waker().wake_by_ref();
            return Stop::Tired;
        }
        let polled = items.as_mut().poll_next(cx);
        let given = match &polled {
            Poll::Pending => return Stop::Waiting,
            Poll::Ready(None) => return Stop::Ended,
            Poll::Ready(Some(given)) => given,
        };
        let pushed = match G::value(given) {
            Some(value) => push(pack, value),
            None => match polled {
                Poll::Ready(Some(given)) => match G::error(given) {
                    Some(error) => return Stop::Failed(error),
                    None => continue,
                },
                _ => return Stop::Waiting,
            },
        };
        match pushed {
            Ok(None) => {}
            Ok(Some(large)) => return Stop::Large(large),
            Err(error) => return Stop::Encode(error),
        }
    }
    Stop::Full
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::task::Waker;

    fn filled(items: impl Stream<Item = u64>, most: usize, stretch: &mut Stretch) -> (usize, Stop<()>) {
        let items = std::pin::pin!(items);
        let mut cx = Context::from_waker(Waker::noop());
        with_pack(|pack| {
            let stop = fill::<_, Values<()>>(items, pack, most, stretch, &mut cx);
            (pack.count(), stop)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_pack_is_as_large_as_there_is_room_and_as_packs_are() {
        let mut stretch = Stretch::default();
        let (count, stop) = filled(stream::iter(0..5), 3, &mut stretch);
        assert!(matches!((count, stop), (3, Stop::Full)));
        let (count, stop) = filled(stream::repeat(1), usize::MAX, &mut stretch);
        assert!(matches!((count, stop), (FULL, Stop::Full)));
        let (count, stop) = filled(stream::iter(0..5), usize::MAX, &mut stretch);
        assert!(matches!((count, stop), (5, Stop::Ended)));
        let (count, stop) = filled(stream::pending(), usize::MAX, &mut stretch);
        assert!(matches!((count, stop), (0, Stop::Waiting)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_never_waits_gives_others_their_turn() {
        let mut stretch = Stretch::default();
        let (count, _) = filled(stream::repeat(1), GLANCE as usize, &mut stretch);
        assert_eq!(count, GLANCE as usize);
        tokio::time::advance(STRETCH).await;
        let (count, stop) = filled(stream::repeat(1), usize::MAX, &mut stretch);
        assert!(matches!((count, stop), (127, Stop::Tired)), "{count}");
    }
}
