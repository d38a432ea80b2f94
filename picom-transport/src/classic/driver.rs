//! The one task of a classic connection: bytes into the machine, its bytes out, and the end as the dialect wants it.

use super::half::halves;
use super::machine::{Machine, Rules, Socket};
use super::room::{Grant, HeaderBudget, HeaderRoom};
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

/// A handler whose caller has closed its direction learns within so long that the caller is gone: a look costs a call of the
/// system, so that ten thousand such handlers cost a hundredth of a core.
const LOOK: Duration = Duration::from_secs(1);

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
    /// When it was accepted.
    pub(crate) begun: Instant,
    pub(crate) headers: Arc<HeaderBudget>,
}

impl Served {
    /// Starts to serve it, on a task of its own.
    pub(crate) fn start(self) -> ClassicHandle {
        let machine = Machine::server(self.service, Rules::of(&self.config), self.begun);
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
    /// So much it would have to hold to go on, and there is no room.
    wanted: Option<usize>,
    /// Of a call: its place in the pool, given back when the socket is closed.
    pub(super) place: Option<OwnedSemaphorePermit>,
    read_ended: bool,
    end_told: bool,
    staged: BytesMut,
    shut: bool,
    /// When to look again whether the peer is still there, which nothing else would tell.
    look_at: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
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
            wanted: None,
            place: None,
            read_ended: false,
            end_told: false,
            staged: BytesMut::new(),
            shut: false,
            look_at: None,
            sleep: Box::pin(time::sleep(Duration::ZERO)),
        }
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, now: Instant) {
        for turn in 0..=READS {
            // Not even what has come is looked at again: it would make the buffer grow.
            if self.wanted.is_some() && !self.has_room(cx, now) {
                return;
            }
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
            if !self.has_room(cx, now) {
                return;
            }
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => self.read_ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    self.read_ended = true;
                    self.end_told = true;
                    self.lost(error);
                    return;
                }
            }
        }
    }

    /// Whether a header that is incomplete may hold what its buffer takes.
    fn has_room(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        let Some(room) = &mut self.room else { return true };
        let need = self.wanted.unwrap_or(self.read.capacity());
        let (have, limit) = (need as u64, room.limit());
        match room.hold(have, cx) {
            Grant::Held => {
                if self.wanted.take().is_some() {
                    self.shared.with(|state| state.machine.go_on(now));
                }
                true
            }
            Grant::Wait => {
                if self.wanted.is_none() {
                    self.wanted = Some(need);
                    // The room that the buffer has, and that nobody has granted, is given back.
                    self.read = BytesMut::from(&self.read[..]);
                }
                self.shared
                    .with(|state| state.machine.hold_back(have, limit, now));
                false
            }
            Grant::Never(error) => {
                self.shared.with(|state| state.machine.lose(error, Socket::Abort));
                false
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
                    args: call.args.unwrap_or_else(value::nil).into(),
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
            self.look(now);
            let Some(next) = next.into_iter().chain(self.look_at).min() else {
                return;
            };
            if self.sleep.deadline().into_std() != next {
                self.sleep.as_mut().reset(next.into());
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Looks whether a caller that has closed its direction is gone altogether.
    fn look(&mut self, now: Instant) {
        let working = self.shared.with(|state| state.machine.socket()) == Socket::Working;
        if !working || !self.read_ended || self.answers.is_none() {
            self.look_at = None;
            return;
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            if let Some(error) = tcp::failure(&self.io) {
                return self.lost(error);
            }
        }
        self.look_at.get_or_insert(now + LOOK);
    }

    /// Flush, say that nothing follows, read to the peer's end: the machine says for how long.
    fn poll_finish(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.answers.is_none() {
            // The server has said all it will, and wants no more input.
            self.staged.clear();
        }
        if self.poll_output(cx, now).is_ready() && self.poll_shut(cx).is_ready() {
            self.shared.with(|state| state.machine.shut(now));
            if self.read_ended {
                return Poll::Ready(());
            }
        }
        self.read.clear();
        self.poll_time(cx);
        Poll::Pending
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
                Socket::Finishing => {
                    if driver.poll_finish(cx, now).is_ready() {
                        return Poll::Ready(());
                    }
                    if driver.shared.with(|state| state.machine.socket()) == Socket::Finishing {
                        return Poll::Pending;
                    }
                }
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
