//! A run: rounds over all cells and peers, so that what disturbs the machine disturbs all alike.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::cell::{CAPACITY, Cell, Work};
use crate::children;
use crate::cold_build;
use crate::command_line::Options;
use crate::job::{Hosting, Job, Load, Sample};
use crate::peers::Peer;
use crate::pinning::Pinning;
use crate::progress::Progress;
use crate::report;
use crate::results::{Results, median};

/// A cell that is measured seldom is measured in the first of so many rounds.
const SELDOM: usize = 3;

/// In each round it is watched for so long whether the machine stands still.
const WATCHED_MS: u64 = 500;

/// Builds take long: there is one for so many rounds.
const BUILD_EVERY: usize = 3;

/// Measures, prints the report and writes it.
///
/// # Errors
///
/// When the files cannot be written. A peer that fails is reported, and the others go on.
pub fn run(options: &Options) -> Result<()> {
    let pinning = Pinning::find();
    if let Some(warning) = &pinning.warning {
        eprintln!("WARNING: {warning}");
    }
    let mut run = Run {
        options,
        progress: Progress::new(steps(options)),
        pinning,
        results: Results::default(),
    };
    run.rounds(|cell| !matches!(cell.work, Work::Share(_)), &BTreeMap::new());
    let capacity = run.capacity();
    run.rounds(|cell| matches!(cell.work, Work::Share(_)), &capacity);
    run.build();
    run.progress.finish();
    report::publish(options, &run.pinning, &run.results)
}

struct Run<'a> {
    options: &'a Options,
    pinning: Pinning,
    progress: Progress,
    results: Results,
}

fn steps(options: &Options) -> usize {
    let rounds = |cell: &Cell| {
        if cell.seldom {
            options.rounds.div_ceil(SELDOM)
        } else {
            options.rounds
        }
    };
    let measured = options
        .cells
        .iter()
        .map(|(cell, peers)| rounds(cell) * peers.len());
    measured.sum::<usize>() + 2 * builds(options)
}

/// How often each build is timed.
fn builds(options: &Options) -> usize {
    if options.cold_build {
        options.rounds.div_ceil(BUILD_EVERY)
    } else {
        0
    }
}

impl Run<'_> {
    fn rounds(&mut self, chosen: impl Fn(&Cell) -> bool, capacity: &BTreeMap<Peer, f64>) {
        let options = self.options;
        for round in 0..options.rounds {
            if !options.cells.iter().any(|(cell, _)| chosen(cell)) {
                return;
            }
            if let Ok(stalls) = children::stalls(WATCHED_MS, &self.pinning.client()) {
                self.results.stalls = self.results.stalls.and(stalls);
            }
            for (cell, peers) in options.cells.iter().filter(|(cell, _)| chosen(cell)) {
                // Each round begins with another, so that nobody is always behind the same one.
                let turned = peers.iter().cycle().skip(round % peers.len()).take(peers.len());
                for &peer in turned {
                    let due = !cell.seldom || round % SELDOM == 0;
                    let load = cell.load(peer, capacity.get(&peer).copied());
                    let sample = load
                        .filter(|_| due)
                        .and_then(|load| self.sample(cell, peer, load, round));
                    self.results.push(cell.id, peer, sample);
                }
            }
        }
    }

    fn sample(&mut self, cell: &Cell, peer: Peer, load: Load, round: usize) -> Option<Sample> {
        let what = format!(
            "round {} of {}: {} {peer}",
            round + 1,
            self.options.rounds,
            cell.id
        );
        self.progress.begin(&what);
        let outcome = measure(self.options, &self.pinning, cell, peer, load);
        self.progress.step();
        match outcome {
            Ok(sample) => {
                if let Some(error) = &sample.error {
                    let (failed, all) = (sample.failed, sample.count + sample.failed);
                    self.note(format!("{what}: {failed} of about {all} calls failed: {error}"));
                }
                Some(sample)
            }
            Err(error) => {
                self.note(format!("{what}: {error:#}"));
                None
            }
        }
    }

    fn note(&mut self, failure: String) {
        self.progress.note(&failure);
        self.results.failures.push(failure);
    }

    /// The most calls a second of each peer that takes part in an open loop: what this run measured, or a look at it now.
    fn capacity(&mut self) -> BTreeMap<Peer, f64> {
        let open = self
            .options
            .cells
            .iter()
            .filter(|(cell, _)| matches!(cell.work, Work::Share(_)));
        let peers: Vec<Peer> = open.flat_map(|(_, peers)| peers.iter().copied()).collect();
        let mut capacity = BTreeMap::new();
        for peer in peers {
            if capacity.contains_key(&peer) {
                continue;
            }
            let rate = |sample: &Sample| Some(sample.rate());
            let measured = self.results.median_of(CAPACITY, peer, rate);
            if let Some(rate) = measured.or_else(|| self.look(peer)) {
                capacity.insert(peer, rate);
            }
        }
        capacity
    }

    fn look(&mut self, peer: Peer) -> Option<f64> {
        let cells = crate::cell::all();
        let cell = cells.iter().find(|cell| cell.id == CAPACITY)?;
        let load = cell.load(peer, None)?;
        self.progress.begin(&format!("the capacity of {peer}"));
        let samples = (0..3).filter_map(|_| measure(self.options, &self.pinning, cell, peer, load).ok());
        median(samples.map(|sample| sample.rate()).collect())
    }

    fn build(&mut self) {
        for _ in 0..builds(self.options) {
            for peer in [Peer::Picom, Peer::Tonic] {
                self.progress.begin(&format!("a cold build of {peer}"));
                match cold_build::measure(peer, &self.options.out) {
                    Ok(build) => self.results.cold_builds.push(build),
                    Err(error) => self
                        .results
                        .failures
                        .push(format!("cold build of {peer}: {error:#}")),
                }
                self.progress.step();
            }
        }
    }
}

fn measure(options: &Options, pinning: &Pinning, cell: &Cell, peer: Peer, load: Load) -> Result<Sample> {
    let (before_server, before_client) = match cell.unpinned {
        false => (pinning.server(), pinning.client()),
        true => (Vec::new(), Vec::new()),
    };
    let workers = cell.workers(options.one_worker);
    let agent = cell.agent.then(children::agent).transpose()?;
    let agent_address = agent.as_ref().map(|agent| agent.ready.clone());
    let hosting = Hosting {
        peer,
        workers,
        listeners: cell.listeners,
        large: cell.large,
        agent: agent_address.clone(),
    };
    let server = children::server(&hosting, &before_server)?;
    let job = Job {
        peer,
        workers,
        load,
        warm_up_ms: options.warm_up_ms,
        measure_ms: options.measure_ms,
        host: server.ready.clone(),
        large: cell.large,
        agent: agent_address,
        idle: cell.idle,
    };
    children::client(&job, &before_client)
}
