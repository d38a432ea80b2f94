//! The one task of a classic connection: bytes into the machine, its bytes out, and the end as the dialect wants it.

use super::half::halves;
use super::machine::{Machine, Rules, Socket};
use super::room::{HeaderBudget, HeaderRoom};
use super::shared::{ClassicHandle, Shared, Stage};
use crate::conn::{Incoming, PeerInfo, RecvHalf, SendHalf, StreamHandler, Turn};
use crate::connector::BoxIo;
use crate::proto::{ConnectionConfig, ConnectionError};
use crate::tcp;
use bytes::{Buf, BytesMut};
use picom_codec::{Method, value};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{self, Sleep};
use tokio_util::io::{poll_read_buf, poll_write_buf};

/// One read: as the native driver.
const READ: usize = 64 * 1024;
const FIRST_READ: usize = 512;
/// Reads in one turn, so that others on the thread have theirs.
const READS: usize = 8;
/// How long a peer that is silent may take to close its side behind our end. The original's client may never do it.
const LINGER: Duration = Duration::from_secs(1);
/// The same for one that still sends, or has not yet taken what we wrote: then closing would destroy it.
const LONGEST_LINGER: Duration = Duration::from_secs(10);

impl Rules {
    pub(super) fn of(config: &ConnectionConfig) -> Self {
        Rules {
            message_limit: config.message_limit,
            scan: config.scan,
            header_timeout: config.hello_timeout,
            stall_timeout: config.stall_timeout,
        }
    }
}

/// A connection whose client speaks classic, taken over with what was read of it.
pub(crate) struct Served {
    pub(crate) io: BoxIo,
    pub(crate) read: BytesMut,
    pub(crate) peer: String,
    pub(crate) service: Arc<str>,
    pub(crate) config: ConnectionConfig,
    pub(crate) handler: Arc<dyn StreamHandler>,
    /// When the header must be complete.
    pub(crate) until: Instant,
    pub(crate) headers: Arc<HeaderBudget>,
}

impl Served {
    /// Starts to serve it, on a task of its own.
    pub(crate) fn start(self) -> ClassicHandle {
        let now = time::Instant::now().into_std();
        let machine = Machine::server(self.service, Rules::of(&self.config), self.until, now);
        let shared = Shared::new(machine);
        let peer = PeerInfo {
            address: self.peer,
            ..PeerInfo::default()
        };
        let answers = Some((self.handler, Arc::new(peer)));
        let mut driver = Driver::new(self.io, self.read, shared.clone(), answers);
        // As much as a native client can make us hold before its hello.
        driver.room = Some(HeaderRoom::new(self.headers, self.config.frame_limit.into()));
        tokio::spawn(driver);
        ClassicHandle(shared)
    }
}

pub(super) struct Driver {
    io: BoxIo,
    shared: Arc<Shared>,
    answers: Option<(Arc<dyn StreamHandler>, Arc<PeerInfo>)>,
    read: BytesMut,
    /// What the header holds while it is incomplete.
    room: Option<HeaderRoom>,
    /// Of a call: its place in the pool, given back when the socket is closed.
    pub(super) place: Option<OwnedSemaphorePermit>,
    read_ended: bool,
    end_told: bool,
    staged: BytesMut,
    shut: bool,
    sleep: Pin<Box<Sleep>>,
    /// While it finishes: until when at most, and until when if nothing happens.
    linger: Option<(Instant, Instant)>,
}

impl Driver {
    pub(super) fn new(
        io: BoxIo,
        read: BytesMut,
        shared: Arc<Shared>,
        answers: Option<(Arc<dyn StreamHandler>, Arc<PeerInfo>)>,
    ) -> Self {
        Driver {
            io,
            shared,
            answers,
            read,
            room: None,
            place: None,
            read_ended: false,
            end_told: false,
            staged: BytesMut::new(),
            shut: false,
            sleep: Box::pin(time::sleep(Duration::ZERO)),
            linger: None,
        }
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, now: Instant) {
        for turn in 0..=READS {
            let (ended, told) = (self.read_ended, self.end_told);
            let read = &mut self.read;
            let wants = self.shared.with(|state| {
                state.machine.receive(read, now);
                let wants = state.machine.wants_input();
                if wants && ended && !told {
                    state.machine.receive_end(read.len());
                }
                wants
            });
            self.dispatch();
            if !wants {
                return;
            }
            if self.read_ended {
                self.end_told = true;
                return;
            }
            if turn == READS {
                cx.waker().wake_by_ref();
                return;
            }
            self.make_room();
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => self.read_ended = true,
                Poll::Ready(Ok(_)) => {
                    if let Some((_, until)) = &mut self.linger {
                        *until = now + LINGER;
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.read_ended = true;
                    self.end_told = true;
                    self.lost(error);
                    return;
                }
            }
        }
    }

    fn make_room(&mut self) {
        let capacity = self.read.capacity();
        if self.read.len() == capacity {
            self.read.reserve(capacity.clamp(FIRST_READ, READ));
        }
    }

    fn lost(&mut self, error: std::io::Error) {
        self.shared.with(|state| {
            // The end of a call that is complete already is no loss.
            if state.machine.socket() == Socket::Working {
                state.machine.lose(ConnectionError::Io(error), Socket::Gone);
            } else {
                state.machine.gone();
            }
        });
    }

    /// Hands the call to the handler, once its header is there.
    fn dispatch(&mut self) {
        let Some((handler, peer)) = &self.answers else {
            return;
        };
        let (call, ready) = self
            .shared
            .with(|state| (state.machine.take_call(), state.machine.is_ready()));
        if ready {
            self.room = None;
            self.shared.reached(Stage::Called);
        } else if let Some(room) = &mut self.room
            && let Err(error) = room.hold(self.read.capacity() as u64)
        {
            tracing::debug!(address = %peer.address, %error, "a classic call is cut off");
            self.shared.with(|state| state.machine.lose(error, Socket::Abort));
            return;
        }
        let Some(call) = call else { return };
        match call.cmd.as_deref().map(Method::new) {
            Some(Ok(method)) => {
                let (send, recv) = halves(&self.shared);
                let incoming = Incoming {
                    method,
                    metadata: None,
                    deadline: None,
                    idempotent: false,
                    args: call.args.unwrap_or_else(value::nil),
                    input_ended: false,
                    send: SendHalf::classic(send),
                    recv: RecvHalf::classic(recv),
                    peer: peer.clone(),
                };
                handler.handle(incoming, &mut Turn::begin());
            }
            _ => self.shared.with(|state| state.machine.unknown()),
        }
    }

    /// Writes what there is. Ready: the socket has taken everything.
    fn poll_output(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        loop {
            if self.staged.is_empty() {
                let staged = self.shared.with(|state| {
                    state.machine.begins_to_write(now);
                    state.machine.take_output()
                });
                self.staged = staged;
            }
            if self.staged.is_empty() {
                return Poll::Ready(());
            }
            let written = match poll_write_buf(Pin::new(&mut self.io), cx, &mut self.staged) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => count,
                Poll::Ready(result) => {
                    let error = result.err().unwrap_or(std::io::ErrorKind::WriteZero.into());
                    self.staged.clear();
                    self.shut = true;
                    self.lost(error);
                    return Poll::Ready(());
                }
            };
            self.shared.with(|state| state.machine.wrote(written, now));
            if let Some((_, until)) = &mut self.linger {
                *until = now + LINGER;
            }
        }
    }

    /// Our direction is closed behind what is written.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut {
            match Pin::new(&mut self.io).poll_shutdown(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => self.shut = true,
            }
        }
        Poll::Ready(())
    }

    fn poll_time(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = time::Instant::now().into_std();
            let staged = self.staged.has_remaining();
            let next = self.shared.with(|state| {
                if state.machine.next_timeout(staged).is_some_and(|at| at <= now) {
                    state.machine.handle_timeout(staged, now);
                }
                state.machine.next_timeout(staged)
            });
            let Some(next) = next else { return };
            if self.sleep.deadline().into_std() != next {
                self.sleep.as_mut().reset(next.into());
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Flush, say that nothing follows, read to the peer's end: for a moment.
    fn poll_finish(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let (longest, silent) = *self.linger.get_or_insert((now + LONGEST_LINGER, now + LINGER));
        // While something waits to be written, silence is not the peer's: it may be slow.
        let until = if self.staged.is_empty() {
            longest.min(silent)
        } else {
            longest
        };
        if self.poll_output(cx, now).is_ready() && self.poll_shut(cx).is_ready() && self.read_ended {
            return Poll::Ready(());
        }
        self.read.clear();
        self.sleep.as_mut().reset(until.into());
        self.sleep.as_mut().poll(cx)
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = time::Instant::now().into_std();
        let driver = &mut *self;
        let _replaced = driver.shared.with(|state| match &state.driver {
            Some(known) if known.will_wake(cx.waker()) => None,
            _ => state.driver.replace(cx.waker().clone()),
        });
        driver.poll_input(cx, now);
        driver.poll_time(cx);
        loop {
            let (socket, half_closes) = driver
                .shared
                .with(|state| (state.machine.socket(), state.machine.half_closes()));
            match socket {
                Socket::Working => {
                    if driver.poll_output(cx, now).is_ready() && half_closes {
                        let _ = driver.poll_shut(cx);
                    }
                    // Writing may have found the connection lost, and begun to wait for the socket.
                    driver.poll_time(cx);
                    if driver.shared.with(|state| state.machine.socket()) == Socket::Working {
                        return Poll::Pending;
                    }
                }
                Socket::Finishing => return driver.poll_finish(cx, now),
                Socket::Abort => {
                    tcp::reset_on_close(&driver.io);
                    return Poll::Ready(());
                }
                Socket::Gone => return Poll::Ready(()),
            }
        }
    }
}

impl Drop for Driver {
    /// Also when the runtime drops the task at its end: whoever waits must learn it.
    fn drop(&mut self) {
        self.shared.with(|state| {
            if state.machine.socket() == Socket::Working {
                state
                    .machine
                    .lose(ConnectionError::Closed("the runtime ended"), Socket::Gone);
            }
        });
        self.shared.reached(Stage::Closed);
    }
}
