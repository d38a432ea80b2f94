//! The trait every source of discovery implements; the layers above know nothing else of them.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::RegisterError;
use crate::lease::Lease;
use crate::name::ServiceName;
use crate::registration::Registration;
use crate::watch::Watch;

/// What to do while the registry cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnavailable {
    /// Fail: who starts without a registry should know.
    #[default]
    Fail,
    /// Return a lease that keeps trying in the background; only what can never succeed is an error.
    KeepTrying,
}

/// A source of discovery: who is alive where, and a place to say so oneself.
///
/// Object safe, so that the layers above hold an `Arc<dyn Discovery>`.
#[async_trait]
pub trait Discovery: Send + Sync + Debug + 'static {
    /// The instances of `service` from now on. Returns at once, with a pending snapshot if nothing is known yet; who
    /// watches one name twice shares one source.
    ///
    /// A source may run its work on the runtime this is called on.
    fn watch(&self, service: &ServiceName) -> Watch;

    /// Announces an instance and keeps it announced until the lease ends. Returns once the registry has confirmed the
    /// registration, and that its check passes (or fails on purpose); with [`OnUnavailable::KeepTrying`] also when it
    /// could not be asked.
    ///
    /// Cancel safe: a registration whose future is dropped is taken back in the background.
    ///
    /// # Errors
    /// [`RegisterError`]: refused for good, unavailable (with [`OnUnavailable::Fail`]), an id already in use here.
    async fn register(
        &self,
        registration: Registration,
        on_unavailable: OnUnavailable,
    ) -> Result<Lease, RegisterError>;

    /// What this is, for error messages: "Consul at 127.0.0.1:8500".
    fn describe(&self) -> String;
}
