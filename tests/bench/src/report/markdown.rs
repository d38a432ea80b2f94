//! The report for people.

use std::fmt::Write as _;
use std::iter;

use super::machine::Machine;
use super::number::{digits, ratio, short};
use crate::cell::{Cell, Figure, Group, Work};
use crate::goal::{GOALS, Goal, Standing, Want};
use crate::peers::Peer;
use crate::results::Results;
use crate::stall::Stalls;

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr) => { $out.push('\n') };
    ($out:expr, $($word:tt)*) => {{ let _ = writeln!($out, $($word)*); }};
}

/// Whose multiples are of interest, where they take part.
const REFERENCES: [Peer; 7] = [
    Peer::PingPong,
    Peer::Mux,
    Peer::MuxYield,
    Peer::Pipelined,
    Peer::Stream,
    Peer::Tonic,
    Peer::Tarpc,
];

pub(super) fn write(machine: &Machine, cells: &[Cell], results: &Results) -> String {
    let mut out = String::new();
    head(&mut out, machine);
    stalls(&mut out, results);
    goals(&mut out, results);
    for group in Group::ALL {
        let cells: Vec<&Cell> = cells.iter().filter(|cell| cell.group == group).collect();
        figures(&mut out, group, &cells, results);
    }
    latencies(&mut out, cells, results);
    processor(&mut out, cells, results);
    builds(&mut out, results);
    if !results.failures.is_empty() {
        line!(out, "\n## What failed\n");
        for failure in &results.failures {
            line!(out, "- {failure}");
        }
    }
    out
}

fn head(out: &mut String, machine: &Machine) {
    line!(out, "# Benchmark\n");
    if let Some(warning) = &machine.warning {
        line!(out, "**{warning}.**\n");
    }
    line!(
        out,
        "{}, revision {}, by `{}`: {} rounds of {} s after {} s of warm-up, medians; ratios are medians of those within a round.",
        machine.date,
        machine.revision,
        machine.command,
        machine.rounds,
        machine.measure_ms as f64 / 1000.0,
        machine.warm_up_ms as f64 / 1000.0
    );
    line!(
        out,
        "{}, {} cores, {} GiB, {}, {}. {}, {}, loopback, TCP_NODELAY, one connection for all that multiplex, unless a table says otherwise.",
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.system,
        machine.compiler,
        machine.runtime,
        machine.pinning
    );
    let versions: Vec<String> = machine
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    line!(out, "{}.", versions.join(", "));
}

fn stalls(out: &mut String, results: &Results) {
    let Stalls {
        watched_ms,
        lost_ms,
        longest_ms,
    } = results.stalls;
    if watched_ms > 0.0 {
        line!(
            out,
            "\nA loop that only reads the clock, on the client's core between the rounds, stood still for {:.2} % of its time, {:.1} ms at most: no tail of a latency can be shorter.",
            100.0 * lost_ms / watched_ms,
            longest_ms
        );
    }
}

fn goals(out: &mut String, results: &Results) {
    line!(out, "\n## Targets\n");
    line!(out, "| what | wanted | measured | |");
    line!(out, "|---|--:|--:|---|");
    let (mut met, mut known) = (0, 0);
    for goal in GOALS {
        let standing = goal.standing(results);
        known += usize::from(standing != Standing::Unknown);
        met += usize::from(matches!(standing, Standing::Met(_)));
        line!(out, "{}", goal_row(goal, standing));
    }
    line!(
        out,
        "\n{met} of {known} measured here are met. Allocations per call are a test: `cargo test -p picom-alloc`."
    );
}

fn goal_row(goal: &Goal, standing: Standing) -> String {
    let wanted = match goal.want {
        Want::AtLeast(bound) => format!("≥ {bound}"),
        Want::AtMost(bound) => format!("≤ {bound}"),
    };
    let (value, verdict) = match standing {
        Standing::Unknown => ("–".to_owned(), "not measured".to_owned()),
        Standing::Met(value) => (digits(value), "met".to_owned()),
        Standing::Missed(value, factor) => (
            digits(value),
            format!("**missed by a factor of {}**", digits(factor)),
        ),
    };
    format!("| {} | {wanted} {} | {value} | {verdict} |", goal.what, goal.unit)
}

fn figures(out: &mut String, group: Group, cells: &[&Cell], results: &Results) {
    let measured = |peer: &Peer| cells.iter().any(|cell| results.peers(cell.id).contains(peer));
    let peers: Vec<Peer> = Peer::ALL.into_iter().filter(measured).collect();
    if peers.is_empty() {
        return;
    }
    line!(out, "\n## {}\n", group.title());
    if group == Group::Open {
        line!(
            out,
            "Of each peer's own capacity: the most calls a second that the generator of the open loop, a task for each call, made with it.\n"
        );
    }
    let columns = peers.iter().map(|peer| format!(" {peer} |")).collect::<String>();
    let of: Vec<Peer> = REFERENCES
        .into_iter()
        .filter(|peer| peers.contains(peer))
        .collect();
    let compares = peers.contains(&Peer::Picom) && !of.is_empty();
    let ratios = of
        .iter()
        .filter(|_| compares)
        .map(|peer| format!(" ÷ {peer} |"))
        .collect::<String>();
    line!(out, "| | unit |{columns}{ratios}");
    let rules = iter::repeat_n("--:|", peers.len() + if compares { of.len() } else { 0 });
    line!(out, "|---|---|{}", rules.collect::<String>());
    for cell in cells {
        let values = peers.iter().map(|&peer| figure(cell, peer, results));
        let of = of.iter().filter(|_| compares).map(|&peer| {
            results
                .ratio(cell.id, cell.figure, Peer::Picom, peer)
                .map_or_else(|| " |".to_owned(), |r| format!(" {} |", ratio(r)))
        });
        let row: String = values.chain(of).collect();
        line!(out, "| {} | {} |{row}", cell.title, cell.figure.unit());
    }
    if compares {
        line!(
            out,
            "\n÷: picom as a multiple of it{}.",
            if cells.iter().all(|cell| cell.figure.grows()) {
                ""
            } else {
                "; where less is better, under 1 is better"
            }
        );
    }
}

fn figure(cell: &Cell, peer: Peer, results: &Results) -> String {
    let Some(value) = results.figure(cell, peer) else {
        return " |".to_owned();
    };
    let skipped: u64 = results
        .samples(cell.id, peer)
        .iter()
        .flatten()
        .map(|sample| sample.skipped + sample.failed)
        .sum();
    let overrun = if skipped > 0 { " (overrun)" } else { "" };
    format!(" {}{overrun} |", short(value))
}

fn latencies(out: &mut String, cells: &[Cell], results: &Results) {
    // With several in flight the latency of a closed loop is the throughput, said otherwise.
    let telling = |cell: &&Cell| cell.figure == Figure::P99 || cell.id.ends_with("-1");
    let cells: Vec<&Cell> = cells.iter().filter(telling).collect();
    let rows: Vec<String> = cells
        .iter()
        .flat_map(|cell| {
            results
                .peers(cell.id)
                .into_iter()
                .filter_map(|peer| latency_row(cell, peer, results))
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    line!(out, "\n## Latencies, µs\n");
    line!(out, "| | peer | calls/s | p50 | p90 | p99 | p99.9 | most |");
    line!(out, "|---|---|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        line!(out, "{row}");
    }
}

fn latency_row(cell: &Cell, peer: Peer, results: &Results) -> Option<String> {
    let at = |read: fn(&crate::job::Latency) -> f64| results.latency(cell.id, peer, read).map(digits);
    let rate = results.median_of(cell.id, peer, |sample| Some(sample.rate()))?;
    Some(format!(
        "| {} | {peer} | {} | {} | {} | {} | {} | {} |",
        cell.title,
        short(rate),
        at(|seen| seen.p50)?,
        at(|seen| seen.p90)?,
        at(|seen| seen.p99)?,
        at(|seen| seen.p999)?,
        at(|seen| seen.max)?,
    ))
}

fn processor(out: &mut String, cells: &[Cell], results: &Results) {
    let cells: Vec<&Cell> = cells
        .iter()
        .filter(|cell| cell.group == Group::Calls && matches!(cell.work, Work::Given(_)))
        .collect();
    let peers: Vec<Peer> = Peer::ALL
        .into_iter()
        .filter(|&peer| cells.iter().any(|cell| results.peers(cell.id).contains(&peer)))
        .collect();
    if peers.is_empty() {
        return;
    }
    line!(out, "\n## Processor time per call, client + server, µs\n");
    line!(
        out,
        "| |{}",
        peers.iter().map(|peer| format!(" {peer} |")).collect::<String>()
    );
    line!(out, "|---|{}", "--:|".repeat(peers.len()));
    for cell in cells {
        let row: String = peers
            .iter()
            .map(|&peer| {
                let client = results.median_of(cell.id, peer, |sample| sample.client_cpu_us);
                let server = results.median_of(cell.id, peer, |sample| sample.server_cpu_us);
                match (client, server) {
                    (Some(client), Some(server)) => format!(" {} + {} |", digits(client), digits(server)),
                    _ => " |".to_owned(),
                }
            })
            .collect();
        line!(out, "| {} |{row}", cell.title);
    }
}

fn builds(out: &mut String, results: &Results) {
    if results.cold_builds.is_empty() {
        return;
    }
    line!(out, "\n## A cold `cargo build`\n");
    line!(out, "| | seconds | of processors | crates |");
    line!(out, "|---|--:|--:|--:|");
    for build in &results.cold_builds {
        line!(
            out,
            "| {} | {:.1} | {:.1} | {} |",
            build.peer,
            build.seconds,
            build.processor_seconds,
            build.crates
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_shows_what_was_wanted_what_came_and_the_distance() {
        let goal = &GOALS[0];
        assert_eq!(
            goal_row(goal, Standing::Missed(0.45, 2.0)),
            "| add, 1 in flight | ≥ 0.9 × ping-pong | 0.45 | **missed by a factor of 2.00** |"
        );
        assert!(goal_row(goal, Standing::Met(1.0)).ends_with("| 1.00 | met |"));
        assert!(goal_row(goal, Standing::Unknown).ends_with("| – | not measured |"));
    }
}
