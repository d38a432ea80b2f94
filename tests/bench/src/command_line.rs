//! The words behind `picom-bench run`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::cell::{self, Cell};
use crate::job::Workers;
use crate::peers::Peer;

/// What `--help` prints.
pub const HELP: &str = "\
Measures picom beside tonic, tarpc and bare sockets: interleaved rounds, server and client as two processes pinned to a
core each, medians and ratios of one run.

Usage: picom-bench run [options]

  --quick         three short rounds of everything: under ten minutes
  --only a,b      these cells, groups of cells (add, echo1k, open) and peers; both kinds may stand in one list
  --rounds N      so many rounds (default 7; quick 3)
  --seconds S     so long is measured in each (default 2; quick 0.7)
  --thread        the one worker is a thread of tokio's multi-thread runtime; else its current-thread runtime
  --cold-build    also how long `cargo build` takes from nothing, for picom and for tonic
  --json          print the JSON instead of the Markdown
  --out DIR       where report.md, results.json, throughput.svg and latency.svg go (default target/bench)
  --list          print the cells and the peers
";

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cells, each with the peers that are left.
    pub cells: Vec<(Cell, Vec<Peer>)>,
    /// Rounds.
    pub rounds: usize,
    /// Before anything counts, in milliseconds.
    pub warm_up_ms: u64,
    /// What counts, in milliseconds.
    pub measure_ms: u64,
    /// What a single worker runs on.
    pub one_worker: Workers,
    /// Whether builds are timed.
    pub cold_build: bool,
    /// Whether JSON is printed.
    pub json: bool,
    /// Where the files go.
    pub out: PathBuf,
    /// The words themselves, for the report.
    pub words: Vec<String>,
}

/// What the words ask for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A run.
    Run(Box<Options>),
    /// The help.
    Help,
    /// The cells and the peers.
    List,
}

/// Reads them.
///
/// # Errors
///
/// A word that makes no sense, by name.
pub fn read(words: Vec<String>) -> Result<Asked> {
    let mut one_worker = Workers::CurrentThread;
    let (mut quick, mut cold_build, mut json) = (false, false, false);
    let (mut only, mut rounds, mut seconds) = (Vec::new(), None, None);
    let mut out = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    let mut left = words.iter();
    while let Some(word) = left.next() {
        let mut value = || left.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--list" => return Ok(Asked::List),
            "--quick" => quick = true,
            "--thread" => one_worker = Workers::Threads(1),
            "--cold-build" => cold_build = true,
            "--json" => json = true,
            "--only" => only.extend(value()?.split(',').map(str::to_owned)),
            "--rounds" => rounds = Some(value()?.parse().context("--rounds wants a whole number")?),
            "--seconds" => seconds = Some(value()?.parse::<f64>().context("--seconds wants a number")?),
            "--out" => out = PathBuf::from(value()?),
            other => bail!("unknown option {other}; `picom-bench run --help` lists them"),
        }
    }
    let (usual_rounds, usual_seconds, warm_up_ms) = if quick { (3, 0.7, 250) } else { (7, 2.0, 500) };
    let seconds = seconds.unwrap_or(usual_seconds);
    if !(0.05..=600.0).contains(&seconds) {
        bail!("--seconds wants something between 0.05 and 600");
    }
    Ok(Asked::Run(Box::new(Options {
        cells: select(cell::all(), &only)?,
        rounds: rounds.unwrap_or(usual_rounds).max(1),
        warm_up_ms,
        measure_ms: (seconds * 1000.0) as u64,
        one_worker,
        cold_build,
        json,
        out,
        words,
    })))
}

/// The cells and peers that the words name: a cell by its name or by what stands before its last hyphen. No cell named
/// means all, and so it is with peers.
fn select(cells: Vec<Cell>, only: &[String]) -> Result<Vec<(Cell, Vec<Peer>)>> {
    let peer = |word: &String| Peer::ALL.into_iter().find(|peer| peer.name() == word);
    let names = |cell: &Cell, word: &str| {
        cell.id == word || cell.id.rsplit_once('-').is_some_and(|(group, _)| group == word)
    };
    let peers: Vec<Peer> = only.iter().filter_map(peer).collect();
    let words: Vec<&String> = only.iter().filter(|word| peer(word).is_none()).collect();
    // `--only none` is for builds alone.
    if let Some(unknown) = words
        .iter()
        .find(|word| **word != "none" && !cells.iter().any(|cell| names(cell, word)))
    {
        bail!("{unknown:?} is neither a cell nor a peer; `picom-bench run --list` has them");
    }
    let chosen = |cell: &Cell| words.is_empty() || words.iter().any(|word| names(cell, word));
    let left = |cell: &Cell| -> Vec<Peer> {
        let rivals = cell
            .peers
            .iter()
            .filter(|peer| peers.is_empty() || peers.contains(peer));
        let helpers = cell.on_request.iter().filter(|peer| peers.contains(peer));
        rivals.chain(helpers).copied().collect()
    };
    let cells = cells.into_iter().filter(chosen).map(|cell| {
        let peers = left(&cell);
        (cell, peers)
    });
    Ok(cells.filter(|(_, peers)| !peers.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(only: &[&str]) -> Vec<(&'static str, usize)> {
        let only: Vec<String> = only.iter().map(|word| (*word).to_owned()).collect();
        let cells = select(cell::all(), &only).unwrap();
        cells.iter().map(|(cell, peers)| (cell.id, peers.len())).collect()
    }

    #[test]
    fn cells_and_peers_are_chosen_by_name() {
        assert_eq!(selected(&["add-1", "picom", "tonic"]), [("add-1", 2)]);
        let adds = ["add-1", "add-16", "add-64", "add-256"];
        assert_eq!(
            selected(&["add"]).iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            adds
        );
        assert_eq!(selected(&[]).len(), cell::all().len());
        assert!(selected(&["pipelined"]).contains(&("echo64k-32", 1)));
        assert_eq!(selected(&["none"]), []);
    }

    #[test]
    fn a_help_takes_part_only_if_it_is_named() {
        assert!(selected(&["add-1", "transport"]).contains(&("add-1", 1)));
        assert_eq!(selected(&["add-1"]), [("add-1", 6)]);
    }

    #[test]
    fn what_is_not_known_is_named() {
        let error = select(cell::all(), &["adds".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"adds\""), "{error}");
        let error = read(vec!["--fast".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("--fast"), "{error}");
        assert!(read(vec!["--rounds".to_owned()]).is_err());
    }
}
