//! From the messages of a reply to what the caller asked for: its first value, perhaps one, or all. Decoding happens
//! here, once.

use super::config::ClientConfig;
use crate::failure::CallFailure;
use crate::message::Receive;
use picom_codec::{Body, value};
use std::marker::PhantomData;

/// Takes the messages of a reply and makes the caller's value of them when the reply has ended.
///
/// Sealed: the three ways there are, [`One`], [`Optional`] and [`All`].
pub trait Collect: Default + Send + Unpin + sealed::Sealed + 'static {
    /// What the caller gets.
    type Output;

    #[doc(hidden)]
    fn take(&mut self, message: Body, config: &ClientConfig) -> Result<(), CallFailure>;

    #[doc(hidden)]
    fn finish(&mut self, config: &ClientConfig) -> Result<Self::Output, CallFailure>;
}

mod sealed {
    pub trait Sealed {}
}

/// The first value, which there must be. What follows it is received and dropped; an error behind it is an error.
#[derive(Debug)]
pub struct One<T>(Option<Body>, PhantomData<fn() -> T>);

/// The first value, if there is one.
#[derive(Debug)]
pub struct Optional<T>(Option<Body>, PhantomData<fn() -> T>);

/// All values, in order.
#[derive(Debug)]
pub struct All<T> {
    messages: Vec<Body>,
    bytes: u64,
    marker: PhantomData<fn() -> T>,
}

impl<T> Default for One<T> {
    fn default() -> Self {
        One(None, PhantomData)
    }
}

impl<T> Default for Optional<T> {
    fn default() -> Self {
        Optional(None, PhantomData)
    }
}

impl<T> Default for All<T> {
    fn default() -> Self {
        All {
            messages: Vec::new(),
            bytes: 0,
            marker: PhantomData,
        }
    }
}

impl<T> sealed::Sealed for One<T> {}
impl<T> sealed::Sealed for Optional<T> {}
impl<T> sealed::Sealed for All<T> {}

impl<T: Receive> Collect for One<T> {
    type Output = T;

    fn take(&mut self, message: Body, _: &ClientConfig) -> Result<(), CallFailure> {
        self.0.get_or_insert(message);
        Ok(())
    }

    fn finish(&mut self, config: &ClientConfig) -> Result<T, CallFailure> {
        let message = self.0.take().ok_or(CallFailure::NoValue)?;
        value::decode_body(&message, &config.limits).map_err(CallFailure::Decode)
    }
}

impl<T: Receive> Collect for Optional<T> {
    type Output = Option<T>;

    fn take(&mut self, message: Body, _: &ClientConfig) -> Result<(), CallFailure> {
        self.0.get_or_insert(message);
        Ok(())
    }

    fn finish(&mut self, config: &ClientConfig) -> Result<Option<T>, CallFailure> {
        let Some(message) = self.0.take() else {
            return Ok(None);
        };
        value::decode_body(&message, &config.limits)
            .map(Some)
            .map_err(CallFailure::Decode)
    }
}

impl<T: Receive> Collect for All<T> {
    type Output = Vec<T>;

    fn take(&mut self, message: Body, config: &ClientConfig) -> Result<(), CallFailure> {
        self.bytes = self.bytes.saturating_add(message.len() as u64);
        let items = self.messages.len() + 1;
        if self.bytes > config.collect_bytes || items > config.collect_items {
            return Err(CallFailure::TooMuch {
                items,
                bytes: self.bytes,
            });
        }
        self.messages.push(message);
        Ok(())
    }

    fn finish(&mut self, config: &ClientConfig) -> Result<Vec<T>, CallFailure> {
        let messages = std::mem::take(&mut self.messages);
        let decoded = messages
            .iter()
            .map(|message| value::decode_body(message, &config.limits));
        decoded.collect::<Result<_, _>>().map_err(CallFailure::Decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect<C: Collect>(messages: &[u32], config: &ClientConfig) -> Result<C::Output, CallFailure> {
        let mut collect = C::default();
        for message in messages {
            collect.take(value::encode_body(message).unwrap(), config)?;
        }
        collect.finish(config)
    }

    #[test]
    fn each_way_gives_its_value() {
        let config = ClientConfig::default();
        assert_eq!(collect::<One<u32>>(&[7, 8], &config).unwrap(), 7);
        assert!(matches!(
            collect::<One<u32>>(&[], &config),
            Err(CallFailure::NoValue)
        ));
        assert_eq!(collect::<Optional<u32>>(&[7, 8], &config).unwrap(), Some(7));
        assert_eq!(collect::<Optional<u32>>(&[], &config).unwrap(), None);
        assert_eq!(collect::<All<u32>>(&[7, 8], &config).unwrap(), [7, 8]);
        assert!(collect::<All<u32>>(&[], &config).unwrap().is_empty());
        assert!(matches!(
            collect::<One<String>>(&[7], &config),
            Err(CallFailure::Decode(_))
        ));
    }

    #[test]
    fn what_is_collected_is_bounded_in_items_and_bytes() {
        let config = ClientConfig {
            collect_items: 2,
            ..ClientConfig::default()
        };
        let error = collect::<All<u32>>(&[1, 2, 3], &config).unwrap_err();
        assert!(matches!(error, CallFailure::TooMuch { items: 3, bytes: 3 }));
        let config = ClientConfig {
            collect_bytes: 9,
            ..ClientConfig::default()
        };
        assert!(collect::<All<u32>>(&[70_000], &config).is_ok());
        let error = collect::<All<u32>>(&[70_000, 70_000], &config).unwrap_err();
        assert!(matches!(error, CallFailure::TooMuch { items: 2, bytes: 10 }));
    }
}
