//! One service, its handles, and its calls. How methods are exposed is `exposure.rs`, how it ends `ending.rs`.

use crate::builder::Builder;
use crate::ending::Ending;
use crate::error::Error;
use crate::exposure::Exposure;
use crate::settings::Settings;
use crate::status::Status;
use picom_discovery::Discovery;
use picom_rpc::{All, Client, EndReport, Methods, One, Optional, Receive, Transmit};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// A call that ends in a value; see [`Picom::fetch`].
pub type Fetch<T> = picom_rpc::Fetch<One<T>, Error>;
/// A call that ends in a value or none; see [`Picom::fetch_opt`].
pub type FetchOpt<T> = picom_rpc::Fetch<Optional<T>, Error>;
/// A call that ends in all its values; see [`Picom::fetch_all`].
pub type FetchAll<T> = picom_rpc::Fetch<All<T>, Error>;
/// A call that is a stream in both directions; see [`Picom::stream`].
pub type StreamCall<I, O> = picom_rpc::StreamCall<I, O, Error>;
/// A call whose reply is a stream; see [`Picom::stream`].
pub type ReceiveCall<O> = picom_rpc::ReceiveCall<O, Error>;

/// A service: it exposes methods, and calls those of others by name. A cheap handle, which handlers may capture.
///
/// Dropping handles ends nothing: what is exposed stays exposed until [`end`](Self::end).
#[derive(Clone)]
pub struct Picom {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) discovery: Arc<dyn Discovery>,
    pub(crate) client: Client,
    pub(crate) exposure: Exposure,
    pub(crate) ending: Ending,
}

impl Picom {
    /// A service with all defaults, whatever the environment says: Consul at 127.0.0.1:8500, a time to live of 30 s, 3
    /// retries, any free port.
    ///
    /// # Errors
    ///
    /// When the name cannot be that of a service.
    pub fn new(name: &str) -> Result<Picom, Error> {
        Builder::new(name).without_environment().build()
    }

    /// A service as the environment describes it; see [`Builder`] for the variables.
    ///
    /// # Errors
    ///
    /// A name or a variable that cannot be used.
    pub fn from_env(name: &str) -> Result<Picom, Error> {
        Builder::new(name).build()
    }

    /// Describes a service step by step.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    pub(crate) fn from_parts(settings: Settings, discovery: Arc<dyn Discovery>, client: Client) -> Picom {
        let (exposure, ending) = (Exposure::default(), Ending::default());
        Picom {
            inner: Arc::new(Inner {
                settings,
                discovery,
                client,
                exposure,
                ending,
            }),
        }
    }

    /// The name of the service.
    pub fn name(&self) -> &str {
        self.inner.settings.name.as_str()
    }

    /// Exposes methods under the name of the service, once. Returns when calls are accepted and the registration is
    /// confirmed; with [`Builder::keep_trying`] also when Consul is away.
    ///
    /// Dropped before it is ready, it goes on by itself: [`end`](Self::end) is what takes it back.
    ///
    /// # Errors
    ///
    /// A mistake in the methods, an address that cannot be listened on, a registration that was not confirmed. Nothing is
    /// left behind, and `expose` may be called again; only after it succeeded, or after `end`, it may not.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn expose(&self, methods: impl Into<Methods>) -> Result<(), Error> {
        Exposure::begin(&self.inner, methods.into()).await
    }

    /// Calls a method and gives the first value of its reply, once the reply is complete. Options are set before it is
    /// awaited: `.timeout(..)`, `.idempotent()`, `.key(..)`, `.metadata(..)`, `.input(stream)`, `.wait_for_ready()`.
    pub fn fetch<T: Receive>(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Fetch<T> {
        self.inner.client.fetch_as(service, method, args)
    }

    /// The same for a reply that may be empty.
    pub fn fetch_opt<T: Receive>(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> FetchOpt<T> {
        self.inner.client.fetch_as(service, method, args)
    }

    /// Calls a method and gives all values of its reply, as far as one message's limits go.
    pub fn fetch_all<T: Receive>(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> FetchAll<T> {
        self.inner.client.fetch_as(service, method, args)
    }

    /// Calls a method and gives a sender for its input and a receiver for its reply; `.receive()` and `.input(stream)`
    /// give the receiver alone.
    pub fn stream<I: Transmit, O: Receive>(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> StreamCall<I, O> {
        self.inner.client.stream(service, method, args).with_error()
    }

    /// How the service and those it calls stand.
    pub fn status(&self) -> Status {
        Status::of(&self.inner)
    }

    /// Ends the service in order: leaves Consul, takes calls for a moment longer, lets calls under way finish, those it
    /// answers and those it makes, and reports what had to be cut when the drain time-out had passed.
    ///
    /// May be called before, during and after `expose`, and more than once: all get the same report. Dropped, the ending
    /// goes on. Within a handler of this service, spawn it: awaited there, it waits for that very handler.
    pub async fn end(&self) -> EndReport {
        Ending::run(&self.inner).await
    }

    /// Waits for SIGINT or SIGTERM (Ctrl-C on other systems), and ends. A second signal cuts what is not finished yet.
    /// Dropped before a signal came, nothing happens. Signals are heard from its first poll on: one that comes between
    /// `expose` and that ends the process at once.
    ///
    /// # Errors
    ///
    /// When the system does not let us wait for signals; the service goes on.
    pub async fn run_until_signal(&self) -> Result<EndReport, Error> {
        crate::ending::signal().await.map_err(Error::signal)?;
        tokio::select! {
            report = self.end() => return Ok(report),
            again = crate::ending::signal() => again.map_err(Error::signal)?,
        }
        Ending::hurry(&self.inner);
        Ok(self.end().await)
    }

    #[cfg(test)]
    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    #[cfg(test)]
    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }
}

impl fmt::Debug for Picom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picom")
            .field("name", &self.name())
            .field("exposure", &self.inner.exposure)
            .finish()
    }
}
