//! The query part of a request: percent decoding, the options every read has, and how long it may block.

use std::time::Duration;

use super::go_duration::GoDuration;
use super::refusal::Refusal;

/// Consul's `default_query_time` and `max_query_time`.
const DEFAULT_WAIT: Duration = Duration::from_secs(5 * 60);
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// Consul adds up to this part of the wait, so that clients that began together do not come back together.
const JITTER_PART: u32 = 16;

/// The decoded pairs of a query string, in order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Splits and decodes a query string. `None` if a percent sequence is broken.
    pub(crate) fn parse(text: &str) -> Option<Query> {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, true)?, decode(value, true)?))
        };
        text.split('&')
            .filter(|text| !text.is_empty())
            .map(pair)
            .collect::<Option<Vec<_>>>()
            .map(Query)
    }

    /// The first value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the key is there, with or without a value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All pairs, in order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// All values of a key.
    pub(crate) fn all<'a, 'k>(&'a self, key: &'k str) -> impl Iterator<Item = &'a str> + use<'a, 'k> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }
}

/// Undoes percent encoding, and `+` for a blank where `plus` says so. `None` if a sequence is broken or the result is
/// not UTF-8.
pub(crate) fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? * 16 + hex(rest.next()?)?,
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Which servers may answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    Leader,
    Stale,
    Consistent,
}

impl Consistency {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Consistency::Leader => "leader",
            Consistency::Stale => "stale",
            Consistency::Consistent => "consistent",
        }
    }
}

/// The options that all reads of the catalog share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadOptions {
    pub(crate) consistency: Consistency,
    pub(crate) cached: bool,
    /// Answer when the index is above this; 0 answers at once.
    pub(crate) index: u64,
    /// How long to wait for that, without the jitter.
    pub(crate) wait: Duration,
}

impl ReadOptions {
    /// Reads the options in the order in which Consul complains about them.
    pub(crate) fn parse(query: &Query, datacenter: &str) -> Result<ReadOptions, Refusal> {
        let bad = |text: &str| Refusal::new(400, text);
        let wait = match query.get("wait").unwrap_or_default() {
            "" => GoDuration::default(),
            text => GoDuration::parse(text).map_err(|_| bad("Invalid wait time"))?,
        };
        let index = match query.get("index").unwrap_or_default() {
            "" => 0,
            text => text.parse().map_err(|_| bad("Invalid index"))?,
        };
        let consistency = match (query.has("stale"), query.has("consistent")) {
            (true, true) => {
                return Err(bad(
                    "Cannot specify ?stale with ?consistent, conflicting semantics.",
                ));
            }
            (true, false) => Consistency::Stale,
            (false, true) => Consistency::Consistent,
            (false, false) => Consistency::Leader,
        };
        let cached = query.has("cached");
        if cached && consistency == Consistency::Consistent {
            return Err(bad(
                "Cannot specify ?cached with ?consistent, conflicting semantics.",
            ));
        }
        if query
            .get("dc")
            .is_some_and(|dc| !dc.is_empty() && dc != datacenter)
        {
            return Err(Refusal::new(500, "No path to datacenter"));
        }
        Ok(ReadOptions {
            consistency,
            cached,
            index,
            wait: wait.positive().unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT),
        })
    }

    /// Bound of the jitter that comes on top of the wait.
    pub(crate) fn jitter(&self) -> Duration {
        self.wait / JITTER_PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<ReadOptions, (u16, String)> {
        let query = Query::parse(text).unwrap();
        ReadOptions::parse(&query, "dc1").map_err(|refusal| (refusal.status, refusal.text))
    }

    #[test]
    fn ids_are_decoded_and_broken_ones_are_not() {
        assert_eq!(
            decode("service:a%2Fb%20c", false).as_deref(),
            Some("service:a/b c")
        );
        assert_eq!(decode("a+b", false).as_deref(), Some("a+b"));
        assert_eq!(decode("a+b", true).as_deref(), Some("a b"));
        assert_eq!(
            decode("gr%C3%BC%C3%9Fe", false).as_deref(),
            Some("gr\u{fc}\u{df}e")
        );
        for broken in ["%", "%2", "%zz", "%+1", "%ff"] {
            assert_eq!(decode(broken, false), None, "{broken}");
        }
    }

    #[test]
    fn a_key_may_stand_alone_and_may_come_twice() {
        let query = Query::parse("passing&tag=a&tag=b%3D&&x==y").unwrap();
        assert_eq!(query.get("passing"), Some(""));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b="]);
        assert_eq!(query.get("x"), Some("=y"));
        assert!(!query.has(""));
    }

    #[test]
    fn waits_are_five_minutes_unless_said_and_ten_at_most() {
        for (text, seconds) in [
            ("", 300),
            ("wait=0s", 300),
            ("wait=-5s", 300),
            ("wait=4s", 4),
            ("wait=20m", 600),
        ] {
            assert_eq!(
                options(text).unwrap().wait,
                Duration::from_secs(seconds),
                "{text}"
            );
        }
        assert_eq!(options("wait=4s").unwrap().jitter(), Duration::from_millis(250));
    }

    #[test]
    fn bad_options_are_refused_as_consul_does() {
        for (text, status, error) in [
            ("index=abc", 400, "Invalid index"),
            ("index=-1", 400, "Invalid index"),
            ("index=99999999999999999999", 400, "Invalid index"),
            ("wait=abc", 400, "Invalid wait time"),
            (
                "stale&consistent",
                400,
                "Cannot specify ?stale with ?consistent, conflicting semantics.",
            ),
            (
                "cached&consistent",
                400,
                "Cannot specify ?cached with ?consistent, conflicting semantics.",
            ),
            ("dc=nope", 500, "No path to datacenter"),
        ] {
            assert_eq!(options(text), Err((status, error.to_owned())), "{text}");
        }
        assert_eq!(
            options("index=7&dc=dc1&stale").unwrap().consistency,
            Consistency::Stale
        );
    }
}
