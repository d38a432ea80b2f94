//! The one task of a connection: it reads frames into the multiplexer, hands out what the peer opened, and writes what the
//! multiplexer has to say, as much as the socket takes. Everything that waits, waits inside the multiplexer.

use super::blocks::Blocks;
use super::incoming::{Incoming, StreamHandler, Turn};
use super::recv::RecvHalf;
use super::send::SendHalf;
use super::shared::{Shared, State};
use super::staged::Staged;
use super::wakers::WakeList;
use crate::connector::BoxIo;
use crate::proto::{ConnectionConfig, ConnectionError, Key, Opening, Role};
use bytes::{Buf, BytesMut};
use picom_codec::dialect::leading_empty;
use picom_codec::{FrameCodec, Sniff, sniff};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task;
use tokio::time::{self, Sleep};
use tokio_util::io::poll_read_buf;

/// Frames are taken out of the multiplexer while less than this is staged: what is staged can no longer be overtaken by an
/// answer, dropped, or sent elsewhere. A quarter of a millisecond at 1 GB/s. (With 64 KiB, and reads of 64 KiB, echoes of
/// 64 KiB took 170 µs of processor time on both sides together, with 256 KiB 104. With half, echoes are a tenth slower,
/// 32 of them in flight.)
const STAGE: usize = 256 * 1024;
/// One that has written less has shaken hands and perhaps made a call: it may be one of many that stand by, and keeps no
/// buffers.
const QUIET: u64 = 512;
/// The read buffer grows from a size at which idle connections cost little to one at which large bodies cost few calls.
const FIRST_READ: usize = 512;
const MOST_READ: usize = 128 * 1024;
/// From here on buffers are used again and bodies may be cut from them, and it is counted how many of them bodies hold: a body
/// may be much smaller than its buffer. Before, bodies are copied.
const LARGE_READ: usize = 32 * 1024;
/// A hello takes less than 1 KiB, and a goaway in its place not much more (PROTOCOL §4.5).
const HELLO_LIMIT: u32 = 8 * 1024;
/// Reads in one turn, so that a peer that sends without end does not keep the others on the same thread waiting.
const READS: usize = 8;
/// Room for arrivals that is kept between turns, 2 KiB: there are many idle connections.
const BATCH: usize = 16;
/// Turns in which output may wait for more: a few microseconds each, or a round of those who are ready.
const HELD_BACK: u8 = 8;
/// After goaway, how long the peer may take to close its side. Closing with bytes unread would turn into a reset and destroy
/// replies that are still on their way.
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    io: BoxIo,
    shared: Arc<Shared>,
    handler: Option<Arc<dyn StreamHandler>>,
    codec: FrameCodec,
    read: BytesMut,
    /// Read buffers of before.
    blocks: Blocks,
    /// How much room a read is given at least.
    read_step: usize,
    /// The first bytes have been looked at.
    sniffed: bool,
    /// The peer's hello has come: from here on a frame may be as long as the limit says.
    greeted: bool,
    frame_limit: u32,
    /// How many threads run the tasks that are woken.
    workers: usize,
    /// One thread runs them, and the future of `block_on` beside them.
    steps_aside: bool,
    /// What waits in the read buffer was not looked at yet: the next turn comes by itself.
    left_over: bool,
    /// For so many turns nothing was written because of that.
    held_back: u8,
    /// Since when a frame has been incomplete.
    partial_since: Option<Instant>,
    staged: Staged,
    staged_total: u64,
    written: u64,
    /// When the socket last took something, while something waits.
    progress: Instant,
    /// The other tasks have had their turn since output was noticed.
    yielded: bool,
    stall_timeout: Duration,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    wakes: WakeList,
    /// What the peer has opened, on its way to the handler.
    batch: Vec<(Key, Opening)>,
    /// Set when the multiplexer has ended: until when to linger.
    closing: Option<Closing>,
}

struct Closing {
    until: Instant,
    shut: bool,
}

impl Driver {
    pub(super) fn new(
        io: BoxIo,
        shared: Arc<Shared>,
        role: Role,
        config: &ConnectionConfig,
        handler: Option<Arc<dyn StreamHandler>>,
    ) -> Self {
        let now = time::Instant::now();
        let runtime = Handle::try_current();
        let flavor = runtime.as_ref().map(Handle::runtime_flavor);
        let mut codec = FrameCodec::new(config.frame_limit.min(HELLO_LIMIT));
        codec.set_copying(true);
        Self {
            io,
            shared,
            handler,
            codec,
            read: BytesMut::new(),
            blocks: Blocks::default(),
            read_step: FIRST_READ,
            sniffed: role == Role::Client,
            greeted: false,
            frame_limit: config.frame_limit,
            workers: runtime
                .as_ref()
                .map_or(0, |runtime| runtime.metrics().num_workers()),
            steps_aside: matches!(flavor, Ok(RuntimeFlavor::CurrentThread)),
            left_over: false,
            held_back: 0,
            partial_since: None,
            staged: Staged::default(),
            staged_total: 0,
            written: 0,
            progress: now.into_std(),
            yielded: false,
            stall_timeout: config.stall_timeout,
            sleep: Box::pin(time::sleep_until(now)),
            armed: None,
            wakes: WakeList::default(),
            batch: Vec::new(),
            closing: None,
        }
    }

    /// Reads what is there. Says whether frames came.
    fn poll_input(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut any = false;
        if self.left_over {
            any = true;
            if self.take_frames(now, cx) == Taken::Enough {
                return any;
            }
        }
        for turn in 0..=READS {
            if turn == READS {
                cx.waker().wake_by_ref();
                break;
            }
            self.make_room();
            let room = self.read.capacity() - self.read.len();
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read) {
                Poll::Pending => {
                    if self.is_quiet() && self.read.is_empty() && self.read_step == FIRST_READ {
                        self.read = BytesMut::new();
                    }
                    break;
                }
                Poll::Ready(Ok(0)) => {
                    let have = self.read.len();
                    self.lost(if have == 0 {
                        ConnectionError::PeerClosed
                    } else {
                        ConnectionError::Truncated { have }
                    });
                    break;
                }
                Poll::Ready(Ok(count)) => {
                    self.grow_room(room, count);
                    match self.take_frames(now, cx) {
                        Taken::All => any = true,
                        Taken::Enough => return true,
                        Taken::Ended => break,
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.lost(ConnectionError::Io(error));
                    break;
                }
            }
        }
        any
    }

    fn make_room(&mut self) {
        if self.read.capacity() - self.read.len() >= self.read_step {
            return;
        }
        let step = self.read_step;
        if step < LARGE_READ {
            return self.read.reserve(step);
        }
        // Where bodies hold enough, of what follows none does.
        let cuts = self.blocks.make_room(&mut self.read, step);
        self.codec.set_copying(!cuts);
    }

    /// A read that fills all the room there was asks for more of it the next time.
    fn grow_room(&mut self, room: usize, count: usize) {
        if count >= room {
            self.read_step = (self.read_step * 2).min(MOST_READ);
        }
    }

    /// Hands complete frames to the multiplexer and what was opened to the handler.
    fn take_frames(&mut self, now: Instant, cx: &mut Context<'_>) -> Taken {
        if !self.sniffed {
            match sniff(&self.read) {
                Sniff::NeedMore => return Taken::All,
                Sniff::Native => {
                    self.sniffed = true;
                    self.read.advance(leading_empty(&self.read));
                }
                Sniff::Classic if self.shared.classic.takes() => {
                    let io = std::mem::replace(&mut self.io, Box::new(tokio::io::empty()));
                    self.shared.classic.hand_over(io, std::mem::take(&mut self.read));
                    self.lost(ConnectionError::NotPicom("it is a classic call, taken over"));
                    return Taken::Ended;
                }
                other => {
                    self.lost(ConnectionError::NotPicom(spoken(other)));
                    return Taken::Ended;
                }
            }
        }
        self.shared.hear(now);
        let (codec, read) = (&mut self.codec, &mut self.read);
        let (greeted, frame_limit, workers) = (&mut self.greeted, self.frame_limit, self.workers);
        let (taken, progress) = self.shared.with_wakes(&mut self.wakes, |state| {
            let limit = state.mux.frames_a_turn(workers);
            let mut frames = 0;
            while state.mux.ended().is_none() {
                if frames == limit && !read.is_empty() {
                    return (Taken::Enough, true);
                }
                match codec.take_frame(read) {
                    Ok(Some(frame)) => {
                        tracing::trace!(?frame, "received");
                        frames += 1;
                        state.mux.handle_frame(frame, now);
                        if !*greeted && state.mux.peer_limits().is_some() {
                            *greeted = true;
                            codec.set_limit(frame_limit);
                        }
                    }
                    Ok(None) => return (Taken::All, frames > 0),
                    Err(error) => state.mux.handle_bad_bytes(error),
                }
            }
            (Taken::Ended, frames > 0)
        });
        let first = !self.left_over;
        self.left_over = taken == Taken::Enough;
        self.wakes.wake();
        if self.left_over {
            // Behind those just woken: what they ask for is written before what the next turn causes. One of them may be the
            // future of `block_on`, which a current-thread runtime comes to when no task is left, or now and then: once the
            // driver steps aside for so long, and then takes its turns, so that others who are never done get no more than that.
            if first && self.steps_aside {
                let _ = pin!(task::yield_now()).poll(cx);
            } else {
                cx.waker().wake_by_ref();
            }
        }
        self.partial_since = match self.partial_since {
            _ if self.read.is_empty() => None,
            Some(since) if !progress => Some(since),
            _ => Some(now),
        };
        self.dispatch();
        taken
    }

    /// Gives the streams that the peer opened to the handler.
    fn dispatch(&mut self) {
        let Some(handler) = &self.handler else { return };
        let mut turn: Option<Turn> = None;
        loop {
            let batch = &mut self.batch;
            self.shared.with_wakes(&mut self.wakes, |state| {
                let (opened, mux) = (&mut state.opened, &mut state.mux);
                batch.reserve_exact(opened.len());
                batch.extend(opened.drain(..).filter_map(|key| Some((key, mux.accept(key)?))));
            });
            self.wakes.wake();
            if batch.is_empty() {
                break;
            }
            let peer = self.shared.peer();
            for (key, opening) in batch.drain(..) {
                let incoming = Incoming {
                    method: opening.method,
                    metadata: opening.metadata,
                    deadline: opening.deadline,
                    idempotent: opening.idempotent,
                    args: opening.args,
                    input_ended: opening.ends,
                    send: SendHalf::new(self.shared.clone(), key),
                    recv: RecvHalf::new(self.shared.clone(), key),
                    peer: peer.clone(),
                };
                handler.handle(incoming, turn.get_or_insert_with(Turn::begin));
            }
        }
        self.batch.shrink_to(if self.is_quiet() { 0 } else { BATCH });
    }

    /// See [`QUIET`].
    fn is_quiet(&self) -> bool {
        self.written < QUIET
    }

    /// More has come and is handled in the next turn, which is soon: a few frames can wait for those it causes. Not for
    /// long, whatever keeps coming.
    fn holds_output_back(&mut self) -> bool {
        let workers = self.workers;
        let holds = self.left_over
            && self.held_back < HELD_BACK
            && self.staged.remaining() == 0
            && !self
                .shared
                .with_wakes(&mut self.wakes, |state| state.mux.is_worth_a_write(workers));
        self.wakes.wake();
        self.held_back = if holds { self.held_back + 1 } else { 0 };
        holds
    }

    /// Writes while there is something and the socket takes it. Ready: everything is written. With `yields`, output that is
    /// first noticed now waits until other tasks have run once, so that many small requests share one write.
    fn poll_output(&mut self, cx: &mut Context<'_>, now: Instant, yields: bool) -> Poll<()> {
        loop {
            let yielding = yields && !self.yielded && self.staged.remaining() == 0;
            let quiet = self.is_quiet();
            let (staged, total, written) = (&mut self.staged, &mut self.staged_total, self.written);
            let sniffed = self.sniffed;
            let mut unused = None;
            let outcome = self.shared.with_wakes(&mut self.wakes, |state| {
                state.mux.handle_written(written, now);
                if yielding && state.mux.has_output() {
                    return Stage::Yield;
                }
                // To a peer whose dialect is not known nothing is said, not even goodbye (PROTOCOL §2.1).
                while sniffed && staged.remaining() < STAGE {
                    let Some(frame) = state.mux.poll_frame(now) else {
                        break;
                    };
                    tracing::trace!(?frame, "sent");
                    match staged.push(&frame) {
                        Ok(length) => {
                            *total += length as u64;
                            state.mux.frame_staged(*total);
                        }
                        Err(error) => {
                            tracing::error!(%error, "a frame could not be written");
                            state.mux.close("a frame could not be written");
                        }
                    }
                }
                if staged.remaining() == 0 {
                    state.driver_idle = true;
                    if quiet {
                        unused = Some(state.shrink());
                    }
                    if !state
                        .driver
                        .as_ref()
                        .is_some_and(|waker| waker.will_wake(cx.waker()))
                    {
                        state.driver = Some(cx.waker().clone());
                    }
                    return Stage::Empty;
                }
                state.driver_idle = false;
                Stage::Write
            });
            self.wakes.wake();
            drop(unused);
            match outcome {
                Stage::Yield => {
                    self.yielded = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stage::Empty => {
                    self.yielded = false;
                    if quiet {
                        self.staged = Staged::default();
                    }
                    self.staged.shrink();
                    return Poll::Ready(());
                }
                Stage::Write => {}
            }
            match self.staged.poll_write(Pin::new(&mut self.io), cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => {
                    self.lost(ConnectionError::PeerClosed);
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(count)) => {
                    self.written += count as u64;
                    self.progress = now;
                }
                Poll::Ready(Err(error)) => {
                    self.lost(ConnectionError::Io(error));
                    return Poll::Ready(());
                }
            }
        }
    }

    /// The byte stream is of no use any more.
    fn lost(&mut self, error: ConnectionError) {
        let (written, now) = (self.written, self.progress);
        self.shared.with_wakes(&mut self.wakes, |state| {
            state.mux.handle_written(written, now);
            state.mux.handle_lost(error);
        });
        self.wakes.wake();
        self.staged = Staged::default();
    }

    /// Lets time pass in the multiplexer and sets the timer for the next time. Says whether the timer has fired already.
    fn poll_time(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let stalled = (self.staged.remaining() > 0).then(|| self.progress + self.stall_timeout);
        let partial = self.partial_since.map(|since| since + self.stall_timeout);
        if stalled.into_iter().chain(partial).any(|limit| now >= limit) {
            self.lost(ConnectionError::Stalled(self.stall_timeout));
        }
        let armed = self.armed.filter(|armed| *armed > now);
        let next = self.shared.with_wakes(&mut self.wakes, |state| {
            if state.mux.next_timeout(now).is_some_and(|next| next <= now) {
                state.mux.handle_timeout(now);
            }
            let next = state.mux.next_timeout(now);
            state.armed = armed.into_iter().chain(next).min();
            next
        });
        self.wakes.wake();
        let Some(next) = next.into_iter().chain(stalled).chain(partial).min() else {
            return false;
        };
        // An earlier timer is left as it is: when it fires, this is asked again. Most calls then never touch the timer.
        if self.armed.is_none_or(|armed| next < armed || armed <= now) {
            self.armed = Some(next);
            self.sleep.as_mut().reset(time::Instant::from_std(next));
        }
        let fired = self.sleep.as_mut().poll(cx).is_ready();
        if fired {
            self.armed = None;
        }
        fired
    }

    /// The multiplexer has ended: the rest is written, our direction closed, the peer's read to its end, for at most a
    /// moment.
    fn poll_close(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let until = self
            .closing
            .get_or_insert_with(|| Closing {
                until: now + LINGER,
                shut: false,
            })
            .until;
        if now >= until {
            return Poll::Ready(());
        }
        self.sleep.as_mut().reset(time::Instant::from_std(until));
        if self.sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let broken = self.shared.with(|state| {
            matches!(
                state.mux.ended().map(|error| &**error),
                Some(
                    ConnectionError::Io(_)
                        | ConnectionError::PingTimeout(_)
                        | ConnectionError::Stalled(_)
                        | ConnectionError::PeerClosed
                        | ConnectionError::Truncated { .. }
                        | ConnectionError::NotPicom(_)
                )
            )
        });
        if broken || !self.sniffed {
            return Poll::Ready(());
        }
        if !matches!(self.poll_output(cx, now, false), Poll::Ready(())) {
            return Poll::Pending;
        }
        if let Some(closing) = self.closing.as_mut().filter(|closing| !closing.shut) {
            match Pin::new(&mut self.io).poll_shutdown(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => closing.shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
            }
        }
        loop {
            self.read.clear();
            self.make_room();
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    fn is_ended(&self) -> bool {
        self.shared.with(|state| state.mux.ended().is_some())
    }
}

/// What a client speaks that does not speak picom.
fn spoken(sniff: Sniff) -> &'static str {
    match sniff {
        Sniff::Classic => "it is the dialect of the Node library 0.3.x, which is switched off here",
        Sniff::Tls => "it begins a TLS handshake",
        Sniff::Http => "it sends an HTTP request",
        Sniff::Native | Sniff::NeedMore | Sniff::Unknown => "its first bytes are no frame",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Every complete frame that was there.
    All,
    /// As many as one turn takes.
    Enough,
    /// The connection has ended.
    Ended,
}

enum Stage {
    Yield,
    Empty,
    Write,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = time::Instant::now().into_std();
        let driver = &mut *self;
        if driver.closing.is_none() {
            let read = driver.poll_input(cx, now);
            // The clock is read again for each round: a timer that has fired must not be armed for the past again.
            while driver.poll_time(cx, time::Instant::now().into_std()) {
                if !read && driver.read.is_empty() {
                    // Seconds without a frame: the buffer is worth more elsewhere.
                    driver.blocks.rest(std::mem::take(&mut driver.read));
                    driver.read_step = FIRST_READ;
                    driver.codec.set_copying(true);
                    driver.codec.shrink();
                    drop(driver.shared.with_wakes(&mut driver.wakes, State::shrink));
                }
            }
            if !driver.holds_output_back() {
                let _ = driver.poll_output(cx, now, !read);
            }
            if !driver.is_ended() {
                return Poll::Pending;
            }
        }
        driver.poll_close(cx, now)
    }
}

impl Drop for Driver {
    /// The runtime may drop the task at its end: whoever still waits on the connection must learn it.
    fn drop(&mut self) {
        let ended = self.is_ended();
        if !ended {
            self.lost(ConnectionError::Closed("the runtime ended"));
        }
    }
}
