//! From a span to a moment: how long a call may take, given what its caller asks, what its client is set to and what
//! the handler around it has left. Pure: `now` is an argument. Waiting until the moment is for the shells.

use std::time::{Duration, Instant};

/// How long a call may take, as its builder says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// Nothing was said: the default of the verb.
    #[default]
    Default,
    /// This span, from the moment the call is first polled.
    After(Duration),
    /// No span of its own. A deadline inherited from a handler still holds.
    Never,
}

/// The moment a call must have ended, or `None` if it may take for ever: the earlier of its own and the inherited one.
///
/// A span so long that the clock cannot express its end is no deadline.
pub(crate) fn moment(
    now: Instant,
    timeout: Timeout,
    default: Option<Duration>,
    inherited: Option<Instant>,
) -> Option<Instant> {
    let own = match timeout {
        Timeout::Default => default,
        Timeout::After(span) => Some(span),
        Timeout::Never => None,
    };
    let own = own.and_then(|span| now.checked_add(span));
    match (own, inherited) {
        (Some(own), Some(inherited)) => Some(own.min(inherited)),
        (own, inherited) => own.or(inherited),
    }
}

/// What is left of a deadline: zero once it has passed, `None` if there is none.
pub(crate) fn left(deadline: Option<Instant>, now: Instant) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(now))
}

/// Whether a deadline has passed. The moment itself has.
pub(crate) fn passed(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_earlier_moment_of_own_and_inherited_holds() {
        let now = base();
        let table = [
            (Timeout::Default, None, None, None),
            (Timeout::Default, Some(30), None, Some(30)),
            (Timeout::Default, Some(30), Some(10), Some(10)),
            (Timeout::Default, Some(30), Some(40), Some(30)),
            (Timeout::After(5 * SECOND), Some(30), Some(10), Some(5)),
            (Timeout::After(50 * SECOND), Some(30), Some(10), Some(10)),
            (Timeout::After(50 * SECOND), Some(30), None, Some(50)),
            (Timeout::After(Duration::ZERO), Some(30), None, Some(0)),
            (Timeout::Never, Some(30), None, None),
            (Timeout::Never, Some(30), Some(10), Some(10)),
        ];
        for (timeout, default, inherited, expected) in table {
            let span = |seconds: u64| Duration::from_secs(seconds);
            let got = moment(now, timeout, default.map(span), inherited.map(|s| now + span(s)));
            assert_eq!(
                got,
                expected.map(|s| now + span(s)),
                "{timeout:?} {default:?} {inherited:?}"
            );
        }
    }

    #[test]
    fn a_span_beyond_the_clock_is_no_deadline() {
        let now = base();
        assert_eq!(moment(now, Timeout::After(Duration::MAX), None, None), None);
        assert_eq!(
            moment(now, Timeout::After(Duration::MAX), None, Some(now)),
            Some(now)
        );
    }

    proptest! {
        #[test]
        fn a_nested_call_never_outlives_its_parent(own in any::<Option<u32>>(), parent in any::<u32>()) {
            let now = base();
            let parent = now + Duration::from_micros(parent.into());
            let timeout = own.map_or(Timeout::Never, |us| Timeout::After(Duration::from_micros(us.into())));
            let got = moment(now, timeout, None, Some(parent)).expect("the parent has one");
            prop_assert!(got <= parent);
            prop_assert_eq!(passed(Some(got), now), left(Some(got), now) == Some(Duration::ZERO));
        }
    }
}
