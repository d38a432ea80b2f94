//! When an endpoint that keeps failing is left alone, and how it gets its next chance. What counts as a failure is for
//! `call.rs` to say; who takes its place is for `endpoints.rs`. Pure.

use std::time::{Duration, Instant};

/// Failures in a row that eject an endpoint: one is chance, five are not (Finagle's number).
const FAILURES: u32 = 5;

/// How long the first ejection lasts (Finagle's number): about a restart.
const FIRST: Duration = Duration::from_secs(5);

/// The longest ejection. The probe costs one call; more often than every five minutes is not worth one.
const LONGEST: Duration = Duration::from_secs(300);

/// What one endpoint's last calls say about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accrual {
    failures: u32,
    ejections: u32,
    until: Option<Instant>,
    probing: bool,
}

impl Accrual {
    /// A call was answered, if only with a fault: the endpoint works. Whether that ends an ejection.
    pub(crate) fn success(&mut self) -> bool {
        let restored = self.until.is_some();
        *self = Accrual::default();
        restored
    }

    /// A call failed in a way that speaks against the endpoint. Whether it is ejected now and was not before.
    pub(crate) fn failure(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        match self.until {
            None if self.failures >= FAILURES => {
                self.eject(now);
                true
            }
            // Only the probe decides: calls that were under way before the ejection are no news.
            Some(_) if self.probing => {
                self.eject(now);
                false
            }
            _ => false,
        }
    }

    /// A call ended without saying anything about the endpoint, as when its caller went away.
    pub(crate) fn undecided(&mut self) {
        self.probing = false;
    }

    /// Whether the endpoint is left alone, probes aside.
    pub(crate) fn is_ejected(&self) -> bool {
        self.until.is_some()
    }

    /// When one call may try the endpoint again; `None` if it is not ejected or is being tried.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.until.filter(|_| !self.probing)
    }

    /// A call is sent to find out.
    pub(crate) fn probe(&mut self) {
        self.probing = true;
    }

    fn eject(&mut self, now: Instant) {
        let span = FIRST.saturating_mul(1 << self.ejections.min(16)).min(LONGEST);
        self.until = Some(now + span);
        self.ejections = self.ejections.saturating_add(1);
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn five_failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let now = base();
        let mut accrual = Accrual::default();
        for _ in 0..4 {
            assert!(!accrual.failure(now));
        }
        assert!(!accrual.success());
        for _ in 0..4 {
            assert!(!accrual.failure(now));
        }
        assert!(!accrual.is_ejected());
        assert!(accrual.failure(now));
        assert!(accrual.is_ejected());
        assert_eq!(accrual.probe_at(), Some(now + seconds(5)));
    }

    #[test]
    fn a_failed_probe_doubles_the_time_up_to_five_minutes() {
        let mut now = base();
        let mut accrual = Accrual::default();
        for _ in 0..5 {
            accrual.failure(now);
        }
        let mut spans = Vec::new();
        for _ in 0..9 {
            let at = accrual.probe_at().unwrap();
            spans.push((at - now).as_secs());
            now = at;
            accrual.probe();
            assert_eq!(accrual.probe_at(), None, "one probe at a time");
            assert!(!accrual.failure(now));
        }
        assert_eq!(spans, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn late_failures_of_older_calls_do_not_prolong_an_ejection() {
        let now = base();
        let mut accrual = Accrual::default();
        for _ in 0..40 {
            accrual.failure(now);
        }
        assert_eq!(accrual.probe_at(), Some(now + seconds(5)));
    }

    #[test]
    fn a_good_probe_restores_and_forgets() {
        let now = base();
        let mut accrual = Accrual::default();
        for _ in 0..5 {
            accrual.failure(now);
        }
        accrual.probe();
        assert!(accrual.success());
        assert!(!accrual.is_ejected());
        for _ in 0..5 {
            accrual.failure(now);
        }
        assert_eq!(
            accrual.probe_at(),
            Some(now + seconds(5)),
            "the next ejection is a first one"
        );
    }

    #[test]
    fn a_probe_whose_caller_went_away_is_repeated() {
        let now = base();
        let mut accrual = Accrual::default();
        for _ in 0..5 {
            accrual.failure(now);
        }
        accrual.probe();
        accrual.undecided();
        assert_eq!(accrual.probe_at(), Some(now + seconds(5)));
    }
}
