//! What is to be reached, and how far it is: figures measured in one run, compared within it.

use crate::cell::Figure;
use crate::peers::Peer::{self, MuxYield, Picom, PicomArrays, PingPong, Pipelined, Stream, Tarpc, Tonic};
use crate::results::Results;

/// A figure to be reached.
#[derive(Clone, Copy)]
pub struct Goal {
    /// What is measured.
    pub what: &'static str,
    /// How the figure comes about.
    pub measure: fn(&Results) -> Option<f64>,
    /// What it should be.
    pub want: Want,
    /// What stands behind the figure.
    pub unit: &'static str,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
}

/// How a goal stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Not measured in this run.
    Unknown,
    /// Reached.
    Met(f64),
    /// Not reached; the second number is the factor that is missing.
    Missed(f64, f64),
}

impl Goal {
    /// How it stands.
    pub fn standing(&self, results: &Results) -> Standing {
        let Some(value) = (self.measure)(results) else {
            return Standing::Unknown;
        };
        match self.want {
            Want::AtLeast(bound) if value < bound => {
                Standing::Missed(value, bound / value.max(f64::MIN_POSITIVE))
            }
            Want::AtMost(bound) if value > bound => Standing::Missed(value, value / bound),
            _ => Standing::Met(value),
        }
    }
}

const fn least(
    what: &'static str,
    bound: f64,
    unit: &'static str,
    measure: fn(&Results) -> Option<f64>,
) -> Goal {
    Goal {
        what,
        measure,
        want: Want::AtLeast(bound),
        unit,
    }
}

const fn most(
    what: &'static str,
    bound: f64,
    unit: &'static str,
    measure: fn(&Results) -> Option<f64>,
) -> Goal {
    Goal {
        what,
        measure,
        want: Want::AtMost(bound),
        unit,
    }
}

fn calls(results: &Results, cell: &str, of: Peer) -> Option<f64> {
    results.ratio(cell, Figure::Calls, Picom, of)
}

/// The small-call latency of one in flight, the least there is.
fn lone_p50(results: &Results) -> Option<f64> {
    results.latency("add-1", Picom, |latency| latency.p50)
}

/// All of them.
pub const GOALS: &[Goal] = &[
    least("add, 1 in flight", 0.90, "× ping-pong", |r| {
        calls(r, "add-1", PingPong)
    }),
    least("add, 16 in flight", 0.50, "× mux+yield", |r| {
        calls(r, "add-16", MuxYield)
    }),
    least("add, 64 in flight", 0.50, "× mux+yield", |r| {
        calls(r, "add-64", MuxYield)
    }),
    least("add, 256 in flight", 0.35, "× mux+yield", |r| {
        calls(r, "add-256", MuxYield)
    }),
    least("echo 1 KiB, 1 in flight", 0.90, "× ping-pong", |r| {
        calls(r, "echo1k-1", PingPong)
    }),
    least("echo 1 KiB, 32 in flight", 4.0, "× tarpc", |r| {
        calls(r, "echo1k-32", Tarpc)
    }),
    least("echo 64 KiB, 1 in flight", 0.80, "× ping-pong", |r| {
        calls(r, "echo64k-1", PingPong)
    }),
    least("echo 64 KiB, 32 in flight", 0.75, "× pipelined", |r| {
        calls(r, "echo64k-32", Pipelined)
    }),
    least("small items, as maps", 1.1, "× tonic", |r| {
        r.ratio("items", Figure::Items, Picom, Tonic)
    }),
    least("small items, as arrays", 1.5, "× tonic", |r| {
        r.ratio("items", Figure::Items, PicomArrays, Tonic)
    }),
    least("both ways, as maps", 1.1, "× tonic", |r| {
        r.ratio("both-ways", Figure::Items, Picom, Tonic)
    }),
    least("both ways, as arrays", 1.5, "× tonic", |r| {
        r.ratio("both-ways", Figure::Items, PicomArrays, Tonic)
    }),
    least("64 KiB chunks", 0.85, "× bare stream", |r| {
        r.ratio("chunks", Figure::Megabytes, Picom, Stream)
    }),
    most("open loop at 50 %, p99", 3.0, "× p50 of 1 in flight", |r| {
        Some(r.latency("open-50", Picom, |latency| latency.p99)? / lone_p50(r)?)
    }),
    // "Without a cliff": a stall of a few milliseconds would be a factor of a hundred.
    most("open loop at 50 %, p99.9", 10.0, "× p50 of 1 in flight", |r| {
        Some(r.latency("open-50", Picom, |latency| latency.p999)? / lone_p50(r)?)
    }),
    most("small calls beside 64 MiB, p99", 2.0, "ms", |r| {
        Some(r.latency("beside", Picom, |latency| latency.p99)? / 1000.0)
    }),
    most("memory of an idle connection", 4.0, "KiB", |r| {
        Some(r.median_of("idle-memory", Picom, |sample| sample.bytes_each)? / 1024.0)
    }),
    most("memory of a slow call", 1.0, "KiB", |r| {
        Some(r.median_of("slow-memory", Picom, |sample| sample.bytes_each)? / 1024.0)
    }),
    least("two workers, 64 in flight", 2.5, "× tarpc", |r| {
        calls(r, "two-workers", Tarpc)
    }),
    // Milliseconds of computing done in a millisecond: a connection that is served in turn reaches 1 and no more.
    least("handlers that compute, at a time", 1.25, "of 2", |r| {
        Some(r.median_of("burn", Picom, |sample| Some(sample.rate()))? / 1000.0)
    }),
    least("1,000 endpoints known", 0.9, "× 1 endpoint", |r| {
        r.ratio_between(("endpoints-1000", Picom), ("endpoints-1", Picom), Figure::Calls)
    }),
    least("10,000 idle connections", 0.9, "× none", |r| {
        r.ratio_between(("idle-10000", Picom), ("idle-0", Picom), Figure::Calls)
    }),
    most("cold build, seconds", 1.0, "× tonic", |r| {
        cold(r, |build| build.seconds)
    }),
    most("cold build, crates", 1.0, "× tonic", |r| {
        cold(r, |build| build.crates as f64)
    }),
];

fn cold(results: &Results, read: fn(&crate::cold_build::ColdBuild) -> f64) -> Option<f64> {
    let of = |peer| {
        let builds = results.cold_builds.iter();
        crate::results::median(builds.filter(|build| build.peer == peer).map(read).collect())
    };
    Some(of(Picom)? / of(Tonic)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Sample;

    #[test]
    fn the_distance_is_the_factor_that_is_missing() {
        let mut results = Results::default();
        let goal = least("", 0.5, "", |r| calls(r, "add-64", MuxYield));
        assert_eq!(goal.standing(&results), Standing::Unknown);
        for (peer, count) in [(Picom, 25), (MuxYield, 100)] {
            let sample = Sample {
                count,
                seconds: 1.0,
                ..Sample::default()
            };
            results.push("add-64", peer, Some(sample));
        }
        assert_eq!(goal.standing(&results), Standing::Missed(0.25, 2.0));
        let other = most("", 0.25, "", |r| calls(r, "add-64", MuxYield));
        assert_eq!(other.standing(&results), Standing::Met(0.25));
    }

    #[test]
    fn every_goal_reads_cells_that_exist() {
        // A run in which everybody reached the same meets or misses every goal but those of builds.
        let mut results = Results::default();
        for cell in crate::cell::all() {
            for &peer in cell.peers {
                let sample = Sample {
                    count: 1,
                    seconds: 1.0,
                    latency: Some(crate::job::Latency::default()),
                    bytes_each: Some(1.0),
                    ..Sample::default()
                };
                results.push(cell.id, peer, Some(sample));
            }
        }
        for goal in GOALS.iter().filter(|goal| !goal.what.starts_with("cold build")) {
            assert_ne!(goal.standing(&results), Standing::Unknown, "{}", goal.what);
        }
    }
}
