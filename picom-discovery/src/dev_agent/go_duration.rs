//! Durations as Consul writes and reads them: Go's text form (`10s`, `1h2m3.5s`). Reading only; what is done with a
//! duration is decided elsewhere.

use std::time::Duration;

/// Nanoseconds in each unit that Go knows, longest suffix first so that `ms` is not taken for `m`.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Longest text read: a real duration has a dozen characters, and the text comes back in the error.
const LONGEST: usize = 64;

/// A duration in Go is a signed count of nanoseconds in 64 bits; this is the whole of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct GoDuration(pub(crate) i64);

impl GoDuration {
    /// Reads Go's text form. The error is Go's own wording, which Consul passes on to its clients.
    pub(crate) fn parse(text: &str) -> Result<GoDuration, String> {
        let invalid = || format!("time: invalid duration {text:?}");
        if text.len() > LONGEST {
            return Err(invalid());
        }
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(GoDuration(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut nanos = 0f64;
        while !rest.is_empty() {
            let number_ends = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '.'))
                .unwrap_or(rest.len());
            let (number, tail) = rest.split_at(number_ends);
            let number: f64 = number.parse().map_err(|_| invalid())?;
            let unit_ends = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_ends);
            if unit.is_empty() {
                return Err(format!("time: missing unit in duration {text:?}"));
            }
            let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
            };
            nanos += number * scale;
            rest = tail;
        }
        // Beyond this the sum does not fit into Go's 64 bits either; `as` saturates, so nothing can wrap.
        if nanos >= i64::MAX as f64 {
            return Err(invalid());
        }
        let nanos = nanos.round() as i64;
        Ok(GoDuration(if negative { -nanos } else { nanos }))
    }

    /// The span, if it is longer than nothing.
    pub(crate) fn positive(self) -> Option<Duration> {
        u64::try_from(self.0)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let second = 1_000_000_000i64;
        for (text, nanos) in [
            ("0", 0),
            ("10s", 10 * second),
            ("1h2m3.5s", 3723 * second + second / 2),
            ("300ms", 300_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("7ns", 7),
            ("-5s", -5 * second),
            ("+5s", 5 * second),
            (".5s", second / 2),
        ] {
            assert_eq!(GoDuration::parse(text), Ok(GoDuration(nanos)), "{text}");
        }
    }

    #[test]
    fn bad_durations_are_refused_in_gos_words() {
        for (text, error) in [
            ("", r#"time: invalid duration """#),
            ("bogus", r#"time: invalid duration "bogus""#),
            ("zz", r#"time: invalid duration "zz""#),
            ("5", r#"time: missing unit in duration "5""#),
            ("5x", r#"time: unknown unit "x" in duration "5x""#),
            ("1.2.3s", r#"time: invalid duration "1.2.3s""#),
            ("9999999999h", r#"time: invalid duration "9999999999h""#),
            ("-", r#"time: invalid duration "-""#),
        ] {
            assert_eq!(GoDuration::parse(text), Err(error.to_owned()), "{text}");
        }
        assert!(GoDuration::parse(&"1".repeat(100_000)).is_err());
    }

    #[test]
    fn only_a_duration_above_nothing_is_positive() {
        assert_eq!(GoDuration(0).positive(), None);
        assert_eq!(GoDuration(-1).positive(), None);
        assert_eq!(GoDuration(1).positive(), Some(Duration::from_nanos(1)));
    }
}
