//! What a service offers: methods by name, each an async closure of one of four shapes.

use super::handler::{Bidirectional, Collecting, Handler, Shape, Streaming, Unary};
use crate::fault::Fault;
use crate::incoming::In;
use crate::message::{Receive, Transmit};
use crate::outgoing::Out;
use futures_core::Stream;
use picom_codec::{Method, MethodError};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// The methods of a service.
///
/// Handlers are async closures or functions that return `Result<_, Fault>`; `?` makes a [`Fault`] of every
/// [`RemoteError`](crate::RemoteError), of the errors of this library and of `io::Error`. Types that messages are decoded
/// as stand in the closure's arguments; `rmpv::Value` takes anything. State is captured, or given to all with
/// [`with_state`](Self::with_state); everything else a handler may want to know is in
/// [`Context::current`](crate::Context::current).
///
/// ```
/// use futures_util::stream;
/// use picom_rpc::{In, Methods, Out};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Add { a: i64, b: i64 }
///
/// let methods = Methods::new()
///     .unary("add", |Add { a, b }: Add| async move { Ok(a + b) })
///     .stream("count", |n: u64| async move { Ok(stream::iter((0..n).map(Ok))) })
///     .client_stream("sum", |_: (), mut numbers: In<i64>| async move {
///         let mut sum = 0;
///         while let Some(number) = numbers.next().await? { sum += number; }
///         Ok(sum)
///     })
///     .bidi("double", |_: (), mut numbers: In<i64>, out: Out<i64>| async move {
///         while let Some(number) = numbers.next().await? { out.send(2 * number).await?; }
///         Ok(())
///     });
/// # drop(methods);
/// ```
#[derive(Default)]
pub struct Methods {
    handlers: HashMap<Method, Arc<dyn Handler>>,
    /// The first mistake; reported when the methods are exposed.
    error: Option<MethodsError>,
}

/// Why methods cannot be exposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodsError {
    /// Two of one name.
    #[error("the method {name:?} is defined twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A name that cannot be one.
    #[error("{name:?} cannot be the name of a method")]
    Name {
        /// The name.
        name: String,
        /// Why.
        #[source]
        error: MethodError,
    },
}

impl Methods {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A method that takes a value and answers with one.
    pub fn unary<A, T, F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
        A: Receive,
        T: Transmit,
    {
        self.handler(name, Shape::<F, Unary<A, T>>::new(handler))
    }

    /// A method that takes a value and answers with a stream of results. The first error ends the stream, and the caller
    /// gets it behind the items.
    pub fn stream<A, T, S, F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S, Fault>> + Send + 'static,
        S: Stream<Item = Result<T, Fault>> + Send + 'static,
        A: Receive,
        T: Transmit,
    {
        self.handler(name, Shape::<F, Streaming<A, S>>::new(handler))
    }

    /// A method that takes a value and a stream, and answers with a value. It may answer before the stream has ended.
    pub fn client_stream<A, I, T, F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(A, In<I>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
        A: Receive,
        I: Receive,
        T: Transmit,
    {
        self.handler(name, Shape::<F, Collecting<A, I, T>>::new(handler))
    }

    /// A method with a stream in each direction. `Ok(())` ends the answer properly, an error ends it with that error.
    pub fn bidi<A, I, O, F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(A, In<I>, Out<O>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
        A: Receive,
        I: Receive,
        O: Transmit,
    {
        self.handler(name, Shape::<F, Bidirectional<A, I, O>>::new(handler))
    }

    /// A method answered by a handler of one's own, without types.
    pub fn handler(mut self, name: &str, handler: impl Handler) -> Self {
        let mistake = match Method::new(name) {
            Ok(method) => {
                let taken = self.handlers.contains_key(name);
                if !taken {
                    self.handlers.insert(method, Arc::new(handler));
                }
                taken.then(|| MethodsError::Duplicate {
                    name: name.to_owned(),
                })
            }
            Err(error) => Some(MethodsError::Name {
                name: name.chars().take(64).collect(),
                error,
            }),
        };
        self.error = self.error.or(mistake);
        self
    }

    /// The methods added from here on get a clone of `state` as their first argument: make it cheap to clone, an `Arc` for
    /// example.
    ///
    /// ```
    /// use picom_rpc::Methods;
    /// use std::sync::Arc;
    ///
    /// let names: Arc<[&str]> = Arc::new(["zero", "one"]);
    /// let methods: Methods = Methods::new()
    ///     .with_state(names)
    ///     .unary("name", |names: Arc<[&'static str]>, n: usize| async move { Ok(names.get(n).copied()) })
    ///     .into();
    /// # drop(methods);
    /// ```
    pub fn with_state<S: Clone + Send + Sync + 'static>(self, state: S) -> MethodsWith<S> {
        MethodsWith { methods: self, state }
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.handlers.keys().map(Method::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Whether a mistake was made: a name that is none, or one given twice. Exposing says the same.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub fn check(&self) -> Result<(), MethodsError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    pub(super) fn into_handlers(self) -> Result<HashMap<Method, Arc<dyn Handler>>, MethodsError> {
        self.error.map_or(Ok(self.handlers), Err)
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Methods")
            .field("names", &self.names())
            .field("error", &self.error)
            .finish()
    }
}

/// [`Methods`] whose handlers share a state: the same shapes, with the state as first argument. Everything that takes
/// methods takes these too.
#[derive(Debug)]
pub struct MethodsWith<S> {
    methods: Methods,
    state: S,
}

impl<S: Clone + Send + Sync + 'static> MethodsWith<S> {
    /// As [`Methods::unary`].
    pub fn unary<A, T, F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(S, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
        A: Receive,
        T: Transmit,
    {
        let MethodsWith { methods, state } = self;
        let given = state.clone();
        MethodsWith {
            methods: methods.unary(name, move |args| handler(given.clone(), args)),
            state,
        }
    }

    /// As [`Methods::stream`].
    pub fn stream<A, T, R, F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(S, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Fault>> + Send + 'static,
        R: Stream<Item = Result<T, Fault>> + Send + 'static,
        A: Receive,
        T: Transmit,
    {
        let MethodsWith { methods, state } = self;
        let given = state.clone();
        MethodsWith {
            methods: methods.stream(name, move |args| handler(given.clone(), args)),
            state,
        }
    }

    /// As [`Methods::client_stream`].
    pub fn client_stream<A, I, T, F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(S, A, In<I>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
        A: Receive,
        I: Receive,
        T: Transmit,
    {
        let MethodsWith { methods, state } = self;
        let given = state.clone();
        let methods = methods.client_stream(name, move |args, input| handler(given.clone(), args, input));
        MethodsWith { methods, state }
    }

    /// As [`Methods::bidi`].
    pub fn bidi<A, I, O, F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(S, A, In<I>, Out<O>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
        A: Receive,
        I: Receive,
        O: Transmit,
    {
        let MethodsWith { methods, state } = self;
        let given = state.clone();
        let methods = methods.bidi(name, move |args, input, out| {
            handler(given.clone(), args, input, out)
        });
        MethodsWith { methods, state }
    }
}

impl<S> From<MethodsWith<S>> for Methods {
    fn from(methods: MethodsWith<S>) -> Methods {
        methods.methods
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(n: u64) -> Result<u64, Fault> {
        Ok(n)
    }

    #[test]
    fn mistakes_are_kept_until_they_can_be_reported() {
        let twice = Methods::new()
            .unary("a", answer)
            .unary("a", answer)
            .unary("", answer);
        assert_eq!(twice.check(), Err(MethodsError::Duplicate { name: "a".into() }));
        let empty = Methods::new().unary("", answer);
        assert_eq!(
            empty.check(),
            Err(MethodsError::Name {
                name: String::new(),
                error: MethodError::Empty
            })
        );
        let long = Methods::new()
            .unary(&"m".repeat(200), answer)
            .check()
            .unwrap_err();
        assert!(
            long.to_string().contains(&"m".repeat(64)) && long.to_string().len() < 120,
            "{long}"
        );
        assert!(twice.into_handlers().is_err());
    }

    #[test]
    fn state_methods_and_plain_ones_go_together() {
        let methods: Methods = Methods::new()
            .unary("plain", answer)
            .with_state(5u64)
            .unary("with", |five: u64, n: u64| async move { Ok(five + n) })
            .into();
        assert_eq!(methods.names(), ["plain", "with"]);
        let plain: Methods = Methods::new().unary("one", answer);
        assert!(plain.check().is_ok());
    }
}
