//! The plots: a panel of bars for each cell with a throughput, and lines of latency over load.

use super::number::short;
use super::svg::{Anchor, Svg};
use crate::cell::{Cell, Work};
use crate::job::Latency;
use crate::peers::Peer;
use crate::results::Results;

/// Panels side by side, and their measures in pixels.
const COLUMNS: usize = 2;
const PANEL: f64 = 440.0;
const NAMES: f64 = 96.0;
const VALUES: f64 = 60.0;
const BAR: f64 = 16.0;
const STEP: f64 = 20.0;
const TITLE: f64 = 26.0;
const MARGIN: f64 = 16.0;

/// Bars; nothing if no throughput was measured.
pub(super) fn throughput(cells: &[Cell], results: &Results) -> Option<String> {
    let panels: Vec<(&Cell, Vec<(Peer, f64)>)> = cells
        .iter()
        .filter(|cell| cell.figure.grows())
        .map(|cell| (cell, values(cell, results)))
        // One bar alone says nothing.
        .filter(|(_, values)| values.len() > 1)
        .collect();
    let height = |values: &[(Peer, f64)]| TITLE + STEP * values.len() as f64 + MARGIN;
    let rows: Vec<f64> = panels
        .chunks(COLUMNS)
        .map(|row| row.iter().map(|(_, values)| height(values)).fold(0.0, f64::max))
        .collect();
    if rows.is_empty() {
        return None;
    }
    let whole = COLUMNS as f64 * PANEL + (COLUMNS + 1) as f64 * MARGIN;
    let mut svg = Svg::new(whole, rows.iter().sum::<f64>() + 2.0 * MARGIN);
    let mut top = MARGIN;
    for (row, height) in panels.chunks(COLUMNS).zip(&rows) {
        for (column, (cell, values)) in row.iter().enumerate() {
            let left = MARGIN + column as f64 * (PANEL + MARGIN);
            panel(&mut svg, left, top, cell, values);
        }
        top += height;
    }
    Some(svg.finish())
}

fn values(cell: &Cell, results: &Results) -> Vec<(Peer, f64)> {
    let peers = results.peers(cell.id).into_iter();
    peers
        .filter_map(|peer| Some((peer, results.figure(cell, peer)?)))
        .collect()
}

fn panel(svg: &mut Svg, left: f64, top: f64, cell: &Cell, values: &[(Peer, f64)]) {
    let title = format!("{}, {}", cell.title, cell.figure.unit());
    svg.text(left, top + 14.0, 13.0, Anchor::Start, &title);
    let most = values
        .iter()
        .map(|(_, value)| *value)
        .fold(f64::MIN_POSITIVE, f64::max);
    for (at, (peer, value)) in values.iter().enumerate() {
        let y = top + TITLE + STEP * at as f64;
        let width = (PANEL - NAMES - VALUES) * value / most;
        svg.text(left + NAMES - 8.0, y + 12.5, 12.0, Anchor::End, peer.name());
        svg.rect(left + NAMES, y, width, BAR, colour(*peer));
        svg.text(
            left + NAMES + width + 5.0,
            y + 12.5,
            12.0,
            Anchor::Start,
            &short(*value),
        );
    }
}

/// Measures of the panels of lines.
const WIDE: f64 = 290.0;
const HIGH: f64 = 260.0;
const AXIS: f64 = 52.0;

/// Reads one.
type Percentile = fn(&Latency) -> f64;

/// Lines of three percentiles over the share of capacity; nothing if no open loop was measured.
pub(super) fn latency(cells: &[Cell], results: &Results) -> Option<String> {
    let shares: Vec<(&Cell, u32)> = cells
        .iter()
        .filter_map(|cell| match cell.work {
            Work::Share(percent) => Some((cell, percent)),
            Work::Given(_) => None,
        })
        .collect();
    let measured = |peer: &Peer| {
        shares
            .iter()
            .any(|(cell, _)| results.peers(cell.id).contains(peer))
    };
    let peers: Vec<Peer> = Peer::ALL.into_iter().filter(measured).collect();
    if peers.is_empty() {
        return None;
    }
    let kinds: [(&str, Percentile); 3] = [
        ("p50", |seen| seen.p50),
        ("p99", |seen| seen.p99),
        ("p99.9", |seen| seen.p999),
    ];
    let curve = |peer: Peer, read: Percentile| -> Vec<(f64, f64)> {
        let points = shares.iter();
        points
            .filter_map(|(cell, percent)| {
                Some((
                    f64::from(*percent),
                    results.latency(cell.id, peer, read)?.max(1.0),
                ))
            })
            .collect()
    };
    let all: Vec<f64> = kinds
        .iter()
        .flat_map(|(_, read)| peers.iter().flat_map(|peer| curve(*peer, *read)))
        .map(|(_, micros)| micros)
        .collect();
    let low = all.iter().copied().fold(f64::MAX, f64::min).log10().floor();
    let high = all
        .iter()
        .copied()
        .fold(1.0, f64::max)
        .log10()
        .ceil()
        .max(low + 1.0);

    let mut svg = Svg::new(AXIS + 3.0 * (WIDE + MARGIN) + MARGIN, TITLE + HIGH + 60.0 + STEP);
    for (at, (name, read)) in kinds.iter().enumerate() {
        let left = AXIS + at as f64 * (WIDE + MARGIN);
        let x = |percent: f64| left + WIDE * percent / 100.0;
        let y = |micros: f64| TITLE + HIGH * (high - micros.log10()) / (high - low);
        let title = format!("{name} of the latency, µs");
        svg.text(left + WIDE / 2.0, 16.0, 13.0, Anchor::Middle, &title);
        for power in low as i32..=high as i32 {
            let micros = 10f64.powi(power);
            svg.line((left, y(micros)), (left + WIDE, y(micros)), "#ddd");
            if at == 0 {
                svg.text(left - 6.0, y(micros) + 4.0, 11.0, Anchor::End, &short(micros));
            }
        }
        for (_, percent) in &shares {
            let percent = f64::from(*percent);
            svg.line((x(percent), TITLE), (x(percent), TITLE + HIGH), "#eee");
            svg.text(
                x(percent),
                TITLE + HIGH + 16.0,
                11.0,
                Anchor::Middle,
                &format!("{percent} %"),
            );
        }
        for peer in &peers {
            let points: Vec<_> = curve(*peer, *read).iter().map(|(p, m)| (x(*p), y(*m))).collect();
            svg.path(&points, colour(*peer));
        }
    }
    let foot = TITLE + HIGH + 46.0;
    for (at, peer) in peers.iter().enumerate() {
        let left = AXIS + 110.0 * at as f64;
        svg.rect(left, foot - 10.0, 12.0, 12.0, colour(*peer));
        svg.text(left + 17.0, foot, 12.0, Anchor::Start, peer.name());
    }
    let right = AXIS + 3.0 * (WIDE + MARGIN) - MARGIN;
    svg.text(
        right,
        foot,
        12.0,
        Anchor::End,
        "add, open loop, share of each peer's own capacity",
    );
    Some(svg.finish())
}

/// Bare sockets are grey, picom is red, the others are told apart.
fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::PingPong => "#c4c4c4",
        Peer::Mux => "#a8a8a8",
        Peer::MuxYield | Peer::Pipelined | Peer::Stream => "#7f7f7f",
        Peer::Tonic => "#4878a8",
        Peer::Tarpc => "#5a9a68",
        Peer::Transport => "#e0a070",
        Peer::Picom => "#c8443c",
        Peer::PicomArrays => "#8c2f2a",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell;
    use crate::job::Sample;

    #[test]
    fn plots_show_every_peer_that_was_measured_and_nothing_of_nothing() {
        let cells = cell::all();
        let mut results = Results::default();
        assert_eq!(
            (throughput(&cells, &results), latency(&cells, &results)),
            (None, None)
        );
        for (id, peer) in [
            ("add-1", Peer::Picom),
            ("add-1", Peer::Tonic),
            ("open-50", Peer::Picom),
        ] {
            let sample = Sample {
                count: 1000,
                seconds: 1.0,
                latency: Some(Latency {
                    p50: 10.0,
                    p99: 20.0,
                    p999: 300.0,
                    ..Latency::default()
                }),
                ..Sample::default()
            };
            results.push(id, peer, Some(sample));
        }
        let bars = throughput(&cells, &results).unwrap();
        assert!(
            bars.contains(">picom</text>")
                && bars.contains(">tonic</text>")
                && bars.contains(">1.00k</text>")
        );
        let lines = latency(&cells, &results).unwrap();
        assert_eq!(lines.matches("<polyline").count(), 3);
    }
}
