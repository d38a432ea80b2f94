//! A connection in users' hands: opening streams, asking how it is, ending it.

use super::driver::Driver;
use super::held_slot::HeldSlot;
use super::incoming::StreamHandler;
use super::recv::RecvHalf;
use super::send::SendHalf;
use super::shared::{PeerInfo, Shared};
use super::vacancy::Vacancy;
use super::wakers::register;
use crate::connector::BoxIo;
use crate::proto::{
    ConfigError, ConnectionConfig, ConnectionError, Identity, Key, Mux, MuxStats, OpenError, Opening, Role,
};
use bytes::Bytes;
use bytes::BytesMut;
use picom_codec::{Body, Method};
use std::fmt;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};
use tokio::time;

/// What a call asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is called.
    pub method: Method,
    /// The args: one MessagePack value.
    pub args: Body,
    /// A MessagePack map of at most 8 KiB (PROTOCOL §3.5), or nothing.
    pub metadata: Option<Bytes>,
    /// When the call's time has passed: both sides then end the stream.
    pub deadline: Option<Instant>,
    /// The call may safely run more than once.
    pub idempotent: bool,
    /// No input follows the args.
    pub ends: bool,
}

impl From<Request> for Opening {
    fn from(request: Request) -> Self {
        Opening {
            method: request.method,
            metadata: request.metadata,
            deadline: request.deadline,
            idempotent: request.idempotent,
            args: request.args,
            ends: request.ends,
        }
    }
}

/// Counters of a connection.
pub type ConnectionStats = MuxStats;

/// Why a connection did not come to stand. No call has been sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The configuration does not fit together.
    #[error("the configuration of the connection does not fit")]
    Config(#[from] ConfigError),
    /// The connection ended before the handshake was complete.
    #[error("the handshake failed")]
    Connection(#[source] Arc<ConnectionError>),
}

/// One connection: a cheap handle. When the last handle is dropped the connection drains: open streams go on, and when
/// they have ended it closes.
pub struct Connection {
    handle: Arc<Handle>,
    /// The slot that whoever was given this handle has waited for: the first stream that it opens has it.
    held: Option<HeldSlot>,
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        Connection {
            handle: self.handle.clone(),
            held: None,
        }
    }
}

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        let now = time::Instant::now().into_std();
        self.0.with(|state| {
            if state.mux.is_open() {
                state.mux.drain(Duration::from_secs(86_400), now);
            } else {
                state.mux.close("dropped before the handshake was complete");
            }
        });
    }
}

impl Connection {
    /// Shakes hands over `io` as the client, expecting `meant`, and starts the task that drives the connection.
    ///
    /// Cancel safe: dropped before it is ready, the byte stream is closed.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit, or the handshake fails or takes longer than `hello_timeout`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn client(
        io: BoxIo,
        address: String,
        meant: Identity,
        config: ConnectionConfig,
    ) -> Result<Connection, HandshakeError> {
        let connection = Self::start(io, address, Role::Client, meant, false, config, None)?;
        connection.established().await?;
        Ok(connection)
    }

    /// The server's side of the same, for a byte stream that was accepted. Returns at once: `handler` gets the calls.
    /// `draining` is what hello says.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn server(
        io: BoxIo,
        address: String,
        identity: Identity,
        draining: bool,
        config: ConnectionConfig,
        handler: Arc<dyn StreamHandler>,
    ) -> Result<Connection, HandshakeError> {
        Self::start(
            io,
            address,
            Role::Server,
            identity,
            draining,
            config,
            Some(handler),
        )
    }

    fn start(
        io: BoxIo,
        address: String,
        role: Role,
        identity: Identity,
        draining: bool,
        config: ConnectionConfig,
        handler: Option<Arc<dyn StreamHandler>>,
    ) -> Result<Connection, HandshakeError> {
        config.check()?;
        let now = time::Instant::now().into_std();
        let mux = Mux::new(role, config.clone(), identity, draining, now);
        let shared = Shared::new(mux, address, now);
        tokio::spawn(Driver::new(io, shared.clone(), role, &config, handler));
        Ok(Connection {
            handle: Arc::new(Handle(shared)),
            held: None,
        })
    }

    /// A client that speaks classic is not refused: its byte stream is left for [`take_classic`](Self::take_classic).
    pub(crate) fn want_classic(&self) {
        self.shared().classic.want();
    }

    /// The byte stream of a client that speaks classic, with what was read of it, once the connection has ended for it.
    pub(crate) fn take_classic(&self) -> Option<(BoxIo, BytesMut)> {
        self.shared().classic.take()
    }

    /// Waits until the handshake is complete. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the connection ended first.
    pub async fn established(&self) -> Result<(), HandshakeError> {
        self.shared()
            .until(|mux| match mux.ended() {
                Some(error) => Some(Err(HandshakeError::Connection(error.clone()))),
                None => mux.has_shaken_hands().then_some(Ok(())),
            })
            .await
    }

    /// Opens a stream. Never waits: the request is in line, and is written when the socket takes it. Until then the call
    /// can still go elsewhere (`NeverSent`).
    ///
    /// # Errors
    ///
    /// When there is no slot, the connection drains or is closed, or the args are too large. The call has not run.
    pub fn open(&self, request: Request) -> Result<(SendHalf, RecvHalf), OpenError> {
        let key = self
            .shared()
            .with(|state| self.open_in(&mut state.mux, request.into(), Mux::open))?;
        let shared = self.shared();
        Ok((
            SendHalf::new(shared.clone(), key),
            RecvHalf::new(shared.clone(), key),
        ))
    }

    /// Opens a stream whose request is complete: no input follows the args, whatever [`Request::ends`] says. With a context,
    /// its task is woken when there is something to receive, as if it had asked already.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn call(&self, request: Request, cx: Option<&Context<'_>>) -> Result<RecvHalf, OpenError> {
        self.begin(request, cx, Mux::open)
    }

    /// The same, but without a free slot the call waits for one, behind others that do. If none becomes free for a second, it
    /// ends in [`NoSlot`](crate::StreamError::NoSlot) and can go elsewhere.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn call_queued(&self, request: Request, cx: Option<&Context<'_>>) -> Result<RecvHalf, OpenError> {
        let now = time::Instant::now().into_std();
        self.begin(request, cx, |mux, opening| mux.open_queued(opening, now))
    }

    fn begin(
        &self,
        request: Request,
        cx: Option<&Context<'_>>,
        open: impl FnOnce(&mut Mux, Opening) -> Result<Key, OpenError>,
    ) -> Result<RecvHalf, OpenError> {
        let opening = Opening {
            ends: true,
            ..request.into()
        };
        let shared = self.shared();
        let (key, _replaced) = shared.with(|state| {
            let key = self.open_in(&mut state.mux, opening, open)?;
            let replaced = cx.and_then(|cx| register(&mut state.wakers(key).recv, cx));
            Ok::<_, OpenError>((key, replaced))
        })?;
        Ok(RecvHalf::new(shared.clone(), key))
    }

    /// Opens a stream by `open`, or with the slot that is held for it.
    fn open_in(
        &self,
        mux: &mut Mux,
        opening: Opening,
        open: impl FnOnce(&mut Mux, Opening) -> Result<Key, OpenError>,
    ) -> Result<Key, OpenError> {
        if self.held.as_ref().is_some_and(HeldSlot::take) {
            mux.open_held(opening)
        } else {
            open(mux, opening)
        }
    }

    /// The same connection, with a slot of its that is held for who is given this handle.
    pub(crate) fn with_slot(&self, held: HeldSlot) -> Connection {
        Connection {
            handle: self.handle.clone(),
            held: Some(held),
        }
    }

    /// Sets a slot aside, if one is free.
    pub(crate) fn hold_slot(&self) -> Option<HeldSlot> {
        let shared = self.shared();
        let held = shared.with(|state| {
            let free = state.mux.free_slots() > 0;
            if free {
                state.mux.hold_slot();
            }
            free
        });
        held.then(|| HeldSlot::new(Arc::downgrade(shared)))
    }

    /// Whether it is a slot of this connection.
    pub(crate) fn is_holder_of(&self, slot: &HeldSlot) -> bool {
        slot.is_of(self.shared())
    }

    /// Slots that become free are for those who wait there.
    pub(crate) fn tell_of_slots(&self, vacancy: Arc<Vacancy<HeldSlot>>) {
        let _ = self.shared().vacancy.set(vacancy);
    }

    /// Up to so many slots that are free already, too.
    pub(crate) fn offer_slots(&self, most: usize) {
        self.shared().with(|state| state.mux.offer_slots(most));
    }

    /// It stands, and takes new streams as far as slots go.
    pub fn is_open(&self) -> bool {
        self.shared()
            .with(|state| state.mux.is_open() && !state.mux.is_draining())
    }

    /// It has ended.
    pub fn is_closed(&self) -> bool {
        self.shared().with(|state| state.mux.ended().is_some())
    }

    /// Calls wait in line for slots of this connection, or have just been called from it: a new one should stand behind them.
    pub fn is_contended(&self) -> bool {
        self.shared()
            .vacancy
            .get()
            .is_some_and(|vacancy| vacancy.is_contended())
    }

    /// How many streams could be opened now; `None`: it drains or has ended, or does not stand yet.
    pub(crate) fn room(&self) -> Option<u32> {
        self.shared().with(|state| {
            let open = state.mux.is_open() && !state.mux.is_draining();
            open.then(|| state.mux.free_slots())
        })
    }

    /// How many streams could be opened now.
    pub fn free_slots(&self) -> u32 {
        let held = self.held.as_ref().is_some_and(|slot| !slot.is_used());
        self.shared().with(|state| {
            let takes = state.mux.is_open() && !state.mux.is_draining();
            state.mux.free_slots() + u32::from(held && takes)
        })
    }

    /// Who the other side is.
    pub fn peer(&self) -> Arc<PeerInfo> {
        self.shared().peer()
    }

    /// Waits until the connection takes no new streams: it drains or has ended. Cancel safe.
    pub async fn draining(&self) {
        self.shared()
            .until(|mux| {
                let drains = mux.has_shaken_hands() && mux.is_draining();
                (drains || mux.ended().is_some()).then_some(())
            })
            .await;
    }

    /// Waits for the end of the connection and says why it came. Cancel safe.
    pub async fn closed(&self) -> Arc<ConnectionError> {
        self.shared().until(|mux| mux.ended().cloned()).await
    }

    /// Ends the connection in order (PROTOCOL §9): no new streams; those that are open may take until `grace` has passed.
    pub fn drain(&self, grace: Duration) {
        let now = time::Instant::now().into_std();
        self.shared().with(|state| state.mux.drain(grace, now));
    }

    /// Ends the connection at once: open streams are lost.
    pub fn close(&self, reason: &'static str) {
        self.shared().with(|state| state.mux.close(reason));
    }

    /// Counters.
    pub fn stats(&self) -> ConnectionStats {
        self.shared().with(|state| state.mux.stats())
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}
