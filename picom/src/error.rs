//! The one error of this crate, and the reasons behind it. What went wrong with a call is `picom_rpc::CallError`.

use crate::environment::EnvironmentError;
use picom_discovery::{NameError, RegisterError, RegistrationError, consul};
use picom_rpc::{Attempt, CallError, Fault, MethodsError, Outcome, RemoteError};
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

/// What went wrong: with a configuration, with exposing methods, or with a call. Cheap to clone.
///
/// Ask it questions, or take the reason apart with [`as_call`](Self::as_call), [`as_expose`](Self::as_expose) and
/// [`as_config`](Self::as_config). `Display` says what happened, to whom, what to do, and every cause;
/// there is no `source()` behind it.
#[derive(Clone)]
pub struct Error(Repr);

#[derive(Clone)]
enum Repr {
    Config(Arc<ConfigError>),
    Expose(Arc<ExposeError>),
    Call(CallError),
    Signal(Arc<io::Error>),
}

/// Why a service cannot be built as it was described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name is none.
    #[error("{name:?} cannot be the name of a service")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        #[source]
        error: NameError,
    },
    /// A value of the registration is out of range, a time to live under a second for example.
    #[error("the service cannot be registered like this")]
    Registration(#[source] RegistrationError),
    /// A variable of the environment cannot be read.
    #[error("the environment cannot be used")]
    Environment(#[source] EnvironmentError),
    /// The agent of Consul.
    #[error("Consul cannot be used like this")]
    Consul(#[source] consul::ConfigError),
    /// A token that cannot be one.
    #[error("the token for Consul cannot be used")]
    Token(#[source] consul::SecretError),
    /// The limits of connections do not fit together.
    #[error("the limits of connections do not fit together")]
    Connections(#[source] picom_transport::ConfigError),
    /// An address to advertise that cannot be one.
    #[error(
        "{address:?} cannot be advertised: {reason}; give a host or host:port that other machines can reach"
    )]
    Advertise {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Why methods are not exposed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExposeError {
    /// This service has exposed its methods already.
    #[error("service {service:?} is exposed already, at {address}: put all methods into one `expose`")]
    Twice {
        /// The service.
        service: String,
        /// Where.
        address: String,
    },
    /// This service has ended, or ends.
    #[error("service {service:?} has ended: build another one to expose methods again")]
    Ended {
        /// The service.
        service: String,
    },
    /// Two methods of one name, or a name that is none.
    #[error("the methods of service {service:?} cannot be exposed")]
    Methods {
        /// The service.
        service: String,
        /// The mistake.
        #[source]
        error: MethodsError,
    },
    /// The address cannot be listened on.
    #[error(
        "service {service:?} cannot listen on {address}; is the port taken, or the address of another machine?"
    )]
    Bind {
        /// The service.
        service: String,
        /// The address.
        address: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The address that others should use could not be found out.
    #[error(
        "it could not be found out at which address others reach service {service:?}; set `advertise` or PICOM_ADVERTISE"
    )]
    Advertise {
        /// The service.
        service: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The registration is not possible as it is.
    #[error("service {service:?} cannot be registered like this")]
    Registration {
        /// The service.
        service: String,
        /// Why.
        #[source]
        error: RegistrationError,
    },
    /// Consul did not confirm the registration. With `keep_trying` it is tried on in the background instead.
    #[error("service {service:?} was not registered in {registry}")]
    Register {
        /// The service.
        service: String,
        /// Whom we asked.
        registry: String,
        /// What it said.
        #[source]
        error: RegisterError,
    },
    /// The limits of connections do not fit together.
    #[error("the limits of connections do not fit together")]
    Connections(#[source] picom_transport::ConfigError),
    /// The task that exposed them ended with its runtime.
    #[error("service {service:?} was not exposed: the runtime is ending")]
    Runtime {
        /// The service.
        service: String,
    },
}

impl Error {
    pub(crate) fn signal(error: io::Error) -> Self {
        Error(Repr::Signal(Arc::new(error)))
    }

    /// What is wrong with the configuration, if that is it.
    pub fn as_config(&self) -> Option<&ConfigError> {
        match &self.0 {
            Repr::Config(error) => Some(error),
            _ => None,
        }
    }

    /// Why methods are not exposed, if that is it.
    pub fn as_expose(&self) -> Option<&ExposeError> {
        match &self.0 {
            Repr::Expose(error) => Some(error),
            _ => None,
        }
    }

    /// What went wrong with a call, if that is it.
    pub fn as_call(&self) -> Option<&CallError> {
        match &self.0 {
            Repr::Call(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the call ran. What is no error of a call was never sent.
    pub fn outcome(&self) -> Outcome {
        self.as_call().map_or(Outcome::NeverSent, CallError::outcome)
    }

    /// Whether the time of the call was over.
    pub fn is_timeout(&self) -> bool {
        self.as_call().is_some_and(CallError::is_timeout)
    }

    /// Whether there was nobody to answer: the service is down, or none of its instances can be reached.
    pub fn is_unavailable(&self) -> bool {
        self.as_call().is_some_and(CallError::is_unavailable)
    }

    /// Whether no instance of the service is registered.
    pub fn is_unknown_service(&self) -> bool {
        self.as_call().is_some_and(CallError::is_unknown_service)
    }

    /// Whether the service has no such method.
    pub fn is_unknown_method(&self) -> bool {
        self.as_call().is_some_and(CallError::is_unknown_method)
    }

    /// What the handler of the call stated, if it stated an error.
    pub fn fault(&self) -> Option<&Fault> {
        self.as_call().and_then(CallError::fault)
    }

    /// The application's error that the handler returned, if it is an `E`: its name is compared before it is decoded.
    pub fn remote<E: RemoteError + DeserializeOwned>(&self) -> Option<E> {
        self.as_call().and_then(CallError::remote)
    }

    /// The attempts of the call that failed, the first one first.
    pub fn attempts(&self) -> &[Attempt] {
        self.as_call().map_or(&[], CallError::attempts)
    }

    /// Whether another attempt would only add load.
    pub fn says_do_not_retry(&self) -> bool {
        self.as_call().is_some_and(CallError::says_do_not_retry)
    }

    fn inner(&self) -> &(dyn StdError + 'static) {
        match &self.0 {
            Repr::Config(error) => &**error,
            Repr::Expose(error) => &**error,
            Repr::Call(error) => error,
            Repr::Signal(error) => &**error,
        }
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        Error(Repr::Call(error))
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error(Repr::Config(Arc::new(error)))
    }
}

impl From<ExposeError> for Error {
    fn from(error: ExposeError) -> Self {
        Error(Repr::Expose(Arc::new(error)))
    }
}

/// A call made within a handler that failed becomes that handler's error with `?`.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error.0 {
            Repr::Call(error) => error.into(),
            _ => Fault::internal(error),
        }
    }
}

/// The whole story, causes included: a line that is printed or logged must not leave out the one fact that is needed.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause = match &self.0 {
            Repr::Signal(error) => {
                f.write_str("signals of the operating system cannot be waited for")?;
                Some(&**error as &(dyn StdError + 'static))
            }
            _ => {
                fmt::Display::fmt(self.inner(), f)?;
                self.inner().source()
            }
        };
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Without a source: the text has it already, and printers of chains would say it twice.
impl StdError for Error {}
