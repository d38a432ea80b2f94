//! The calling side: a byte stream to an instance of the Node library, for one call.

use super::driver::Driver;
use super::half::halves;
use super::machine::{Machine, Rules};
use super::shared::{ClassicHandle, Shared};
use crate::conn::{RecvHalf, Request, SendHalf};
use crate::connector::BoxIo;
use crate::proto::{ConnectionConfig, OpenError};
use crate::tcp;
use bytes::BytesMut;
use std::fmt;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time;

/// A connection on which nothing was sent yet: room for one call. Dropped unused, it is reset: a service of the Node
/// library keeps one that merely ends without a header for ever.
pub struct ClassicConnection {
    pub(crate) unused: Unused,
    /// Its place among those to the address, until it is closed.
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) service: Arc<str>,
    pub(crate) config: ConnectionConfig,
    /// Where the call is remembered while it is under way.
    pub(crate) remember: Box<dyn FnOnce(ClassicHandle) + Send>,
}

/// A byte stream that nobody has written to.
pub(crate) struct Unused(Option<BoxIo>);

impl Unused {
    pub(crate) fn new(io: BoxIo) -> Self {
        Unused(Some(io))
    }
}

impl Drop for Unused {
    fn drop(&mut self) {
        if let Some(io) = &self.0 {
            tcp::reset_on_close(io);
        }
    }
}

impl ClassicConnection {
    /// Makes the call. The halves are those of a native stream, with these differences of the dialect: metadata stays
    /// here, the peer never learns of the deadline, and what it cannot read is refused
    /// ([`SendError::Unreadable`](crate::SendError::Unreadable)).
    ///
    /// # Errors
    ///
    /// When the peer could not read the args. The call has not run.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(mut self, request: Request) -> Result<(SendHalf, RecvHalf), OpenError> {
        let now = time::Instant::now().into_std();
        let machine = Machine::client(
            self.service,
            &request.method,
            &request.args.into_bytes(),
            request.ends,
            request.deadline,
            Rules::of(&self.config),
            now,
        )?;
        let Some(io) = self.unused.0.take() else {
            return Err(OpenError::Draining);
        };
        let shared = Shared::new(machine);
        let (send, recv) = halves(&shared);
        (self.remember)(ClassicHandle(shared.clone()));
        let mut driver = Driver::new(io, BytesMut::new(), shared, None);
        driver.place = Some(self.place);
        tokio::spawn(driver);
        Ok((SendHalf::classic(send), RecvHalf::classic(recv)))
    }
}

impl fmt::Debug for ClassicConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassicConnection")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
