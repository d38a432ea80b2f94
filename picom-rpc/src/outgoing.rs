//! The typed stream that goes out: input on the caller's side, items on the handler's.

use crate::context;
use crate::error::{CallError, Subject};
use crate::failure::CallFailure;
use crate::message::Transmit;
use crate::packing::{self, Given, Results, Stop, Stretch, Values};
use crate::sending::{NotSent, Sending};
use crate::turns::Turns;
use futures_core::Stream;
use picom_codec::Body;
use picom_transport::{Pack, Pocket, SendError, SendHalf};
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

/// Messages that go out, in order.
///
/// [`send`](Self::send) waits while the other side does not read: at most 64 KiB are in line (256 KiB of items from 16 KiB
/// on, with no more than 16 calls on the connection), and what the peer's credit covers is on its way.
///
/// **Dropped on the caller's side** without [`finish`](Self::finish), the call is reset: what was cut short never looks
/// complete to the handler. **In a handler** the return value ends the stream: `Ok(())` properly, an error with that
/// error; an `Out` kept beyond that sends nothing any more.
pub struct Out<T> {
    half: Half,
    /// Of the half, once an item was sent by itself.
    pocket: OnceLock<Option<Arc<Pocket>>>,
    marker: PhantomData<fn(T)>,
}

enum Half {
    /// The input of a call of ours.
    Input(Box<Input>),
    /// The items of a call we answer.
    Items(Arc<context::Call>),
}

struct Input {
    half: Mutex<Option<SendHalf>>,
    turns: Turns,
    subject: Subject,
    host: Arc<str>,
}

impl<T> Out<T> {
    pub(crate) fn input(half: SendHalf, subject: Subject, host: Arc<str>) -> Self {
        let input = Input {
            half: Mutex::new(Some(half)),
            turns: Turns::default(),
            subject,
            host,
        };
        Out {
            half: Half::Input(Box::new(input)),
            pocket: OnceLock::new(),
            marker: PhantomData,
        }
    }

    pub(crate) fn items(call: Arc<context::Call>) -> Self {
        Out {
            half: Half::Items(call),
            pocket: OnceLock::new(),
            marker: PhantomData,
        }
    }

    /// Ends the stream properly, behind what was sent. In a handler this comes by itself with `Ok(())`.
    ///
    /// # Errors
    ///
    /// When the other side wants no more or the call has ended; its reply, or the other stream, says why.
    pub fn finish(self) -> Result<(), CallError> {
        let half = self.half().take();
        match half.map_or(Err(SendError::Finished), SendHalf::finish) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.error(CallFailure::Send(error))),
        }
    }

    fn half(&self) -> MutexGuard<'_, Option<SendHalf>> {
        match &self.half {
            Half::Input(input) => input.half.lock().unwrap_or_else(PoisonError::into_inner),
            Half::Items(call) => call.send(),
        }
    }

    pub(crate) fn turns(&self) -> &Turns {
        match &self.half {
            Half::Input(input) => &input.turns,
            Half::Items(call) => &call.turns,
        }
    }

    /// Sends what is in the pack if there is room and nobody waits for it. `false`: not now.
    fn try_send_pack(&self, pack: &mut Pack) -> Result<bool, SendError> {
        if !self.turns().is_free() {
            return Ok(false);
        }
        match self.pocket.get() {
            Some(Some(pocket)) if pocket.push(pack) => Ok(true),
            _ => self.try_put_in_line(pack),
        }
    }

    /// The same where the pocket is closed: opens it.
    fn try_put_in_line(&self, pack: &mut Pack) -> Result<bool, SendError> {
        match &mut *self.half() {
            Some(half) if self.turns().is_free() => {
                self.pocket.get_or_init(|| half.pocket());
                half.try_send_pack(pack)
            }
            Some(_) => Ok(false),
            None => Err(SendError::Finished),
        }
    }

    /// Sends what is in the pack, room or not, and says how much room is left.
    fn send_pack(&self, pack: &mut Pack) -> Result<usize, SendError> {
        match &mut *self.half() {
            Some(half) => half.send_pack(pack),
            None => Err(SendError::Finished),
        }
    }

    /// Sends one message when there is room and all who wait already have sent. Cancel safe: dropped, nothing was sent.
    pub(crate) async fn send_body(&self, message: Body) -> Result<(), SendError> {
        let _first = self.turns().first().await;
        poll_fn(|cx| self.poll_room(cx)).await?;
        match &mut *self.half() {
            Some(half) => half.start_send(message),
            None => Err(SendError::Finished),
        }
    }

    /// Waits until there is room and nobody who waited before wants it, and says how much.
    async fn room(&self) -> Result<usize, SendError> {
        if let Some(room) = self.free_room()? {
            return Ok(room);
        }
        let _first = self.turns().first().await;
        poll_fn(|cx| self.poll_room(cx)).await
    }

    fn free_room(&self) -> Result<Option<usize>, SendError> {
        let half = self.half();
        if !self.turns().is_free() {
            return Ok(None);
        }
        let room = half.as_ref().map_or(Err(SendError::Finished), SendHalf::room)?;
        Ok((room > 0).then_some(room))
    }

    /// Only for the first in line.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, SendError>> {
        match &mut *self.half() {
            Some(half) => half.poll_room(cx),
            None => Poll::Ready(Err(SendError::Finished)),
        }
    }

    fn error(&self, failure: CallFailure) -> CallError {
        match &self.half {
            Half::Input(input) => CallError::new(input.subject.clone(), failure).at(input.host.clone()),
            Half::Items(call) => CallError::new(
                Subject::Handler {
                    method: call.method.as_str().into(),
                },
                failure,
            )
            .at(call.peer.address.as_str().into()),
        }
    }
}

impl<T: Transmit> Out<T> {
    /// Sends one item. Returns when it is in line, which says nothing of its arrival. Several tasks may send through one
    /// `Out`; their items go out in the order in which they began to wait for room.
    ///
    /// Cancel safe: dropped before it is ready, the item was not sent.
    ///
    /// # Errors
    ///
    /// When the item cannot be encoded or is over the peer's limit: the stream goes on without it. When the peer wants no
    /// more or the call has ended: nothing more can be sent.
    #[inline]
    pub fn send(&self, item: T) -> Sending<'_, T> {
        Sending::new(self, item)
    }

    /// Sends the item if it is small and can go at once. What comes of it otherwise is boxed: the result is then a word.
    pub(crate) fn try_send(&self, item: &T) -> Result<(), Box<NotSent>> {
        packing::with_pack(|pack| {
            match packing::push(pack, item) {
                Ok(None) => {}
                Ok(Some(large)) => return Err(Box::new(NotSent::Yet(large))),
                Err(error) => return Err(self.not_sent(CallFailure::Encode(error))),
            }
            match self.try_send_pack(pack) {
                Ok(true) => Ok(()),
                Ok(false) => Err(Box::new(NotSent::Yet(pack.to_bytes().into()))),
                Err(error) => Err(self.not_sent(CallFailure::Send(error))),
            }
        })
    }

    #[cold]
    fn not_sent(&self, failure: CallFailure) -> Box<NotSent> {
        Box::new(NotSent::Never(self.error(failure)))
    }

    /// Sends all items of a stream, in order. Those that are ready together travel together; none waits for others to come.
    ///
    /// Not cancel safe: dropped before it is ready, an item that came out of the stream may be lost.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); at the first one it stops.
    pub async fn send_all(&self, items: impl Stream<Item = T>) -> Result<(), CallError> {
        self.pack_all::<_, Values<CallError>>(pin!(items)).await
    }

    /// The same for a stream of results, such as an [`In`](crate::In) or what was made of one: sends its items up to its end
    /// or its first error, which is given back when those before it are in line.
    ///
    /// Not cancel safe: dropped before it is ready, an item that came out of the stream may be lost.
    ///
    /// # Errors
    ///
    /// The stream's, or as [`send`](Self::send).
    pub async fn forward<E: From<CallError>>(
        &self,
        items: impl Stream<Item = Result<T, E>>,
    ) -> Result<(), E> {
        self.pack_all::<_, Results>(pin!(items)).await
    }

    /// Sends the values of a stream, until its first error. Those that are ready together are packed together: nothing waits
    /// for others to come.
    async fn pack_all<S, G>(&self, mut items: Pin<&mut S>) -> Result<(), G::Error>
    where
        S: Stream,
        G: Given<S::Item, Value = T>,
        G::Error: From<CallError>,
    {
        loop {
            let mut room = self.room().await.map_err(|error| self.send_error(error))?;
            let packed = poll_fn(|cx| {
                packing::with_pack(|pack| self.poll_pack::<S, G>(items.as_mut(), pack, &mut room, cx))
            });
            match packed.await? {
                Packed::All => return Ok(()),
                Packed::NoRoom => {}
                Packed::Before(large) => self
                    .send_body(large)
                    .await
                    .map_err(|error| self.send_error(error))?,
            }
        }
    }

    /// Packs and sends what is ready and has room.
    fn poll_pack<S, G>(
        &self,
        mut items: Pin<&mut S>,
        pack: &mut Pack,
        room: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Packed, G::Error>>
    where
        S: Stream,
        G: Given<S::Item, Value = T>,
        G::Error: From<CallError>,
    {
        let mut stretch = Stretch::default();
        while *room > 0 {
            let packing = Packing { out: self, pack };
            let stop = packing::fill::<S, G>(items.as_mut(), &mut *packing.pack, *room, &mut stretch, cx);
            drop(packing);
            if !pack.is_empty() {
                *room = self.send_pack(pack).map_err(|error| self.send_error(error))?;
            }
            return Poll::Ready(match stop {
                Stop::Full => continue,
                Stop::Waiting | Stop::Tired => {
                    // Others may use what there is before the next poll.
                    *room = 0;
                    return Poll::Pending;
                }
                Stop::Ended => Ok(Packed::All),
                Stop::Large(message) => Ok(Packed::Before(message)),
                Stop::Encode(error) => Err(self.error(CallFailure::Encode(error)).into()),
                Stop::Failed(error) => Err(error),
            });
        }
        Poll::Ready(Ok(Packed::NoRoom))
    }

    pub(crate) fn send_error(&self, error: SendError) -> CallError {
        self.error(CallFailure::Send(error))
    }
}

/// A pack while it is filled. Should the stream panic, what it gave before is sent: the panic comes behind it.
struct Packing<'a, T> {
    out: &'a Out<T>,
    pack: &'a mut Pack,
}

impl<T> Drop for Packing<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.pack.drop_unfinished();
            // Nobody is left to be told.
            let _ = self.out.send_pack(self.pack);
        }
    }
}

/// How far a stream was packed and sent.
enum Packed {
    /// To its end.
    All,
    /// Up to this message, which is too large to be packed.
    Before(Body),
    /// As far as there was room.
    NoRoom,
}

impl<T> fmt::Debug for Out<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match &self.half {
            Half::Input(input) => &*input.host,
            Half::Items(call) => &call.peer.address,
        };
        f.debug_struct("Out").field("host", &host).finish_non_exhaustive()
    }
}
