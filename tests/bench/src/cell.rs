//! What is measured: one cell of the table after the other.

use crate::job::{Call, Load, Sample, Workers};
use crate::peers::Peer;
use crate::peers::Peer::{
    Mux, MuxYield, Picom, PicomArrays, PingPong, Pipelined, Stream, Tarpc, Tonic, Transport,
};
use crate::service::CHUNK;

/// A cell: one load, and the peers that can bear it.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its name on the command line.
    pub id: &'static str,
    /// Its name in the tables.
    pub title: &'static str,
    /// The table it stands in.
    pub group: Group,
    /// What the client does.
    pub work: Work,
    /// The figure that counts.
    pub figure: Figure,
    /// Who takes part.
    pub peers: &'static [Peer],
    /// Who takes part if it is named: no rival, but a help to understand one.
    pub on_request: &'static [Peer],
    /// Two workers a side, where the system puts them; otherwise one, pinned to a core.
    pub unpinned: bool,
    /// Instances of the service.
    pub listeners: usize,
    /// Messages may have 64 MiB and more.
    pub large: bool,
    /// The service is found in a Consul agent (our stand-in for one) instead of a list.
    pub agent: bool,
    /// Connections that stand by and do nothing.
    pub idle: usize,
    /// Takes long and hardly varies: measured in every third round.
    pub seldom: bool,
}

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Unary calls in a closed loop.
    Calls,
    /// Streams.
    Streams,
    /// Calls in an open loop.
    Open,
    /// Two workers a side, unpinned.
    Workers,
    /// Memory of the server.
    Memory,
    /// What grows with what.
    Scaling,
}

impl Group {
    /// In the order of the report.
    pub const ALL: [Group; 6] = [
        Group::Calls,
        Group::Streams,
        Group::Open,
        Group::Workers,
        Group::Memory,
        Group::Scaling,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Calls => "Calls, closed loop",
            Group::Streams => "Streams",
            Group::Open => "Calls, open loop",
            Group::Workers => "Two workers a side, unpinned",
            Group::Memory => "Memory of the server",
            Group::Scaling => "Discovery and scale",
        }
    }
}

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// This.
    Given(Load),
    /// An open loop at so much per cent of the peer's [capacity](CAPACITY).
    Share(u32),
}

/// The figure of a sample that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Calls a second.
    Calls,
    /// Items a second.
    Items,
    /// Megabytes a second.
    Megabytes,
    /// The 99th percentile of the latency, in microseconds.
    P99,
    /// Bytes of memory for each.
    BytesEach,
}

impl Figure {
    /// Reads it.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Figure::Calls | Figure::Items => Some(sample.rate()),
            Figure::Megabytes => Some(sample.rate() / 1e6),
            Figure::P99 => sample.latency.map(|latency| latency.p99),
            Figure::BytesEach => sample.bytes_each,
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Figure::Calls => "calls/s",
            Figure::Items => "items/s",
            Figure::Megabytes => "MB/s",
            Figure::P99 => "µs (p99)",
            Figure::BytesEach => "bytes each",
        }
    }

    /// Whether more is better.
    pub fn grows(self) -> bool {
        matches!(self, Figure::Calls | Figure::Items | Figure::Megabytes)
    }
}

const CALLERS: &[Peer] = &[PingPong, Mux, MuxYield, Tonic, Tarpc, Picom];
const LIBRARIES: &[Peer] = &[MuxYield, Tonic, Tarpc, Picom];
const MIB: usize = 1024 * 1024;

/// The cell whose figure is a peer's capacity. A closed loop has few tasks, which live on; an open loop has one for each call,
/// and the generator alone takes more for those than a bare peer takes for its call. So capacity is what the generator of
/// the open loop reaches, with so many calls under way as the largest closed loop.
pub const CAPACITY: &str = "capacity";
const UNDER_WAY: u64 = 256;

/// Connections whose memory is measured.
const IDLE: usize = 2_000;
/// Calls whose memory is measured.
const SLOW: usize = 10_000;
/// So many endpoints are known, and so many idle connections stand by, when it is measured whether that costs anything.
const MANY_ENDPOINTS: usize = 1_000;
const MANY_IDLE: usize = 10_000;

impl Cell {
    const PLAIN: Cell = Cell {
        id: "",
        title: "",
        group: Group::Calls,
        work: Work::Share(0),
        figure: Figure::Calls,
        peers: CALLERS,
        on_request: &[Transport],
        unpinned: false,
        listeners: 1,
        large: false,
        agent: false,
        idle: 0,
        seldom: false,
    };

    fn closed(id: &'static str, title: &'static str, call: Call, in_flight: usize) -> Cell {
        Cell {
            id,
            title,
            work: Work::Given(Load::Closed { call, in_flight }),
            ..Cell::PLAIN
        }
    }

    fn stream(
        id: &'static str,
        title: &'static str,
        load: Load,
        figure: Figure,
        peers: &'static [Peer],
    ) -> Cell {
        Cell {
            id,
            title,
            group: Group::Streams,
            work: Work::Given(load),
            figure,
            peers,
            ..Cell::PLAIN
        }
    }

    fn open(id: &'static str, title: &'static str, percent: u32) -> Cell {
        Cell {
            id,
            title,
            group: Group::Open,
            work: Work::Share(percent),
            figure: Figure::P99,
            peers: LIBRARIES,
            ..Cell::PLAIN
        }
    }

    /// Both sides' workers; `one` is what a single worker runs on.
    pub fn workers(&self, one: Workers) -> Workers {
        if self.unpinned { Workers::Threads(2) } else { one }
    }

    /// What the client of a peer does; in an open loop at this capacity. Nothing if that is not known.
    pub fn load(&self, peer: Peer, capacity: Option<f64>) -> Option<Load> {
        match self.work {
            // One that has no ids cannot have calls overtake each other: it sends them on without waiting.
            Work::Given(Load::Closed {
                call: Call::Echo(bytes),
                in_flight,
            }) if peer == Pipelined => Some(Load::Pipelined {
                bytes,
                depth: in_flight,
            }),
            Work::Given(load) => Some(load),
            Work::Share(percent) => Some(Load::Open {
                call: Call::Add,
                rate: capacity? * f64::from(percent) / 100.0,
            }),
        }
    }
}

/// All cells, in the order in which they are measured and reported.
pub fn all() -> Vec<Cell> {
    let mut cells = calls();
    cells.extend(streams());
    cells.extend([
        capacity(),
        Cell::open("open-25", "25 % of capacity", 25),
        Cell::open("open-50", "50 % of capacity", 50),
        Cell::open("open-75", "75 % of capacity", 75),
    ]);
    cells.extend(workers());
    cells.extend(memory());
    cells.extend(scaling());
    cells
}

fn calls() -> Vec<Cell> {
    vec![
        Cell::closed("add-1", "add(i64, i64), 1 in flight", Call::Add, 1),
        Cell::closed("add-16", "add, 16 in flight", Call::Add, 16),
        Cell::closed("add-64", "add, 64 in flight", Call::Add, 64),
        Cell::closed("add-256", "add, 256 in flight", Call::Add, 256),
        Cell::closed("echo1k-1", "echo 1 KiB, 1 in flight", Call::Echo(1024), 1),
        Cell::closed("echo1k-32", "echo 1 KiB, 32 in flight", Call::Echo(1024), 32),
        Cell {
            peers: &[PingPong, MuxYield, Tonic, Tarpc, Picom],
            ..Cell::closed("echo64k-1", "echo 64 KiB, 1 in flight", Call::Echo(CHUNK), 1)
        },
        Cell {
            peers: &[PingPong, Pipelined, MuxYield, Tonic, Tarpc, Picom],
            ..Cell::closed("echo64k-32", "echo 64 KiB, 32 in flight", Call::Echo(CHUNK), 32)
        },
        Cell {
            peers: LIBRARIES,
            listeners: 8,
            ..Cell::closed("fan-out", "add over 8 instances, 64 in flight", Call::Add, 64)
        },
    ]
}

fn capacity() -> Cell {
    Cell {
        id: CAPACITY,
        title: "capacity: a task for each call, 256 under way",
        group: Group::Open,
        work: Work::Given(Load::Saturated {
            call: Call::Add,
            under_way: UNDER_WAY,
        }),
        peers: LIBRARIES,
        ..Cell::PLAIN
    }
}

fn streams() -> Vec<Cell> {
    const ITEMS: &[Peer] = &[Stream, Tonic, Picom, PicomArrays];
    vec![
        Cell::stream(
            "items",
            "small items from the server",
            Load::Items,
            Figure::Items,
            ITEMS,
        ),
        Cell {
            on_request: &[],
            ..Cell::stream(
                "both-ways",
                "small items there and back",
                Load::BothWays,
                Figure::Items,
                ITEMS,
            )
        },
        Cell::stream(
            "one-by-one",
            "the same, each item sent by a call of its own",
            Load::OneByOne,
            Figure::Items,
            &[Picom, PicomArrays],
        ),
        Cell::stream(
            "chunks",
            "64 KiB chunks from the server",
            Load::Chunks,
            Figure::Megabytes,
            &[Stream, Tonic, Picom],
        ),
    ]
}

fn workers() -> Vec<Cell> {
    let two = Cell {
        group: Group::Workers,
        unpinned: true,
        on_request: &[],
        ..Cell::PLAIN
    };
    let closed = |call, in_flight| Work::Given(Load::Closed { call, in_flight });
    vec![
        Cell {
            id: "two-workers",
            title: "add, 64 in flight, two workers",
            work: closed(Call::Add, 64),
            peers: LIBRARIES,
            on_request: &[PingPong, Mux, Transport],
            ..two.clone()
        },
        Cell {
            id: "burn",
            title: "a handler that computes for 1 ms, 4 in flight, two workers",
            work: closed(Call::Burn(1000), 4),
            peers: &[Tonic, Tarpc, Picom],
            ..two.clone()
        },
        Cell {
            id: "beside",
            title: "add, 2,000 a second, beside messages of 64 MiB, two workers",
            work: Work::Given(Load::Beside {
                bytes: 64 * MIB,
                rate: 2000.0,
            }),
            figure: Figure::P99,
            peers: &[Tonic, Tarpc, Picom],
            large: true,
            ..two
        },
    ]
}

fn memory() -> Vec<Cell> {
    let held = Cell {
        group: Group::Memory,
        figure: Figure::BytesEach,
        peers: LIBRARIES,
        seldom: true,
        ..Cell::PLAIN
    };
    vec![
        Cell {
            id: "idle-memory",
            title: "an idle connection (of 2,000)",
            work: Work::Given(Load::IdleConnections(IDLE)),
            ..held.clone()
        },
        Cell {
            id: "slow-memory",
            title: "a slow call in flight (of 10,000, over 8 instances)",
            work: Work::Given(Load::SlowCalls(SLOW)),
            // picom opens at most 2,048 streams to an instance; their connections are part of what is measured.
            listeners: 8,
            on_request: &[],
            ..held
        },
    ]
}

fn scaling() -> Vec<Cell> {
    let scale = |id, title, in_flight| Cell {
        group: Group::Scaling,
        peers: &[Picom],
        on_request: &[MuxYield, Tonic, Tarpc],
        ..Cell::closed(id, title, Call::Add, in_flight)
    };
    vec![
        Cell {
            agent: true,
            on_request: &[],
            ..scale("discovered", "add, 64 in flight, found in a Consul agent", 64)
        },
        scale("endpoints-1", "add, 1 in flight, 1 endpoint known", 1),
        Cell {
            listeners: MANY_ENDPOINTS,
            ..scale("endpoints-1000", "add, 1 in flight, 1,000 endpoints known", 1)
        },
        scale("idle-0", "add, 64 in flight, no other connection", 64),
        Cell {
            idle: MANY_IDLE,
            seldom: true,
            ..scale("idle-10000", "add, 64 in flight, 10,000 idle connections", 64)
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_no_peer_has_such_a_name() {
        let cells = all();
        let ids: BTreeSet<&str> = cells.iter().map(|cell| cell.id).collect();
        assert_eq!(ids.len(), cells.len());
        for peer in Peer::ALL {
            assert!(!ids.contains(peer.name()));
        }
    }

    #[test]
    fn an_open_loop_runs_at_its_share_of_the_capacity() {
        let cell = Cell::open("open-25", "", 25);
        assert_eq!(cell.load(Picom, None), None);
        let load = Load::Open {
            call: Call::Add,
            rate: 250.0,
        };
        assert_eq!(cell.load(Picom, Some(1000.0)), Some(load));
    }
}
