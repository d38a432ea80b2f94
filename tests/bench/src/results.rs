//! All samples of a run, and what is computed from them: medians, and ratios of what was measured side by side.

use std::collections::BTreeMap;

use crate::cell::{Cell, Figure};
use crate::job::{Latency, Sample};
use crate::peers::Peer;
use crate::stall::Stalls;

/// The samples by cell and peer, in the order of the rounds. A round in which a peer failed has none.
#[derive(Debug, Default)]
pub struct Results {
    samples: BTreeMap<(&'static str, Peer), Vec<Option<Sample>>>,
    /// What went wrong, in words.
    pub failures: Vec<String>,
    /// How often the machine stood still, watched once a round.
    pub stalls: Stalls,
    /// How long a cold build takes, if that was asked for.
    pub cold_builds: Vec<crate::cold_build::ColdBuild>,
}

impl Results {
    /// Adds the sample of a round.
    pub fn push(&mut self, cell: &'static str, peer: Peer, sample: Option<Sample>) {
        self.samples.entry((cell, peer)).or_default().push(sample);
    }

    /// The samples of a peer in a cell.
    pub fn samples(&self, cell: &str, peer: Peer) -> &[Option<Sample>] {
        let found = self
            .samples
            .iter()
            .find(|((id, who), _)| *id == cell && *who == peer);
        found.map_or(&[], |(_, samples)| samples)
    }

    /// Who was measured in a cell.
    pub fn peers(&self, cell: &str) -> Vec<Peer> {
        let here = self.samples.keys().filter(|(id, _)| *id == cell);
        here.map(|(_, peer)| *peer)
            .filter(|peer| self.samples(cell, *peer).iter().any(Option::is_some))
            .collect()
    }

    /// The median over the rounds of whatever is read from a sample.
    pub fn median_of(&self, cell: &str, peer: Peer, read: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        median(
            self.samples(cell, peer)
                .iter()
                .flatten()
                .filter_map(read)
                .collect(),
        )
    }

    /// The median of the cell's own figure.
    pub fn figure(&self, cell: &Cell, peer: Peer) -> Option<f64> {
        self.median_of(cell.id, peer, |sample| cell.figure.of(sample))
    }

    /// The median of a latency.
    pub fn latency(&self, cell: &str, peer: Peer, read: impl Fn(&Latency) -> f64) -> Option<f64> {
        self.median_of(cell, peer, |sample| sample.latency.as_ref().map(&read))
    }

    /// One peer's figure as a multiple of another's: the median of the ratios of each round, so that what slows a whole
    /// round slows both sides.
    pub fn ratio(&self, cell: &str, figure: Figure, peer: Peer, of: Peer) -> Option<f64> {
        self.ratio_between((cell, peer), (cell, of), figure)
    }

    /// The same between two cells.
    pub fn ratio_between(&self, one: (&str, Peer), of: (&str, Peer), figure: Figure) -> Option<f64> {
        let (above, below) = (self.samples(one.0, one.1), self.samples(of.0, of.1));
        let pairs = above.iter().zip(below);
        let ratios = pairs.filter_map(|(above, below)| {
            let (above, below) = (figure.of(above.as_ref()?)?, figure.of(below.as_ref()?)?);
            (below > 0.0).then_some(above / below)
        });
        median(ratios.collect())
    }

    /// Every sample, for machines.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Peer, &[Option<Sample>])> {
        self.samples
            .iter()
            .map(|((cell, peer), samples)| (*cell, *peer, &samples[..]))
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u64) -> Option<Sample> {
        Some(Sample {
            count,
            seconds: 1.0,
            ..Sample::default()
        })
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, f64::NAN, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let mut results = Results::default();
        // The machine was twice as slow in the second round, and the third has one side only.
        for (one, other) in [
            (sample(100), sample(200)),
            (sample(50), sample(100)),
            (sample(900), None),
        ] {
            results.push("add-1", Peer::Picom, one);
            results.push("add-1", Peer::PingPong, other);
        }
        let ratio = results.ratio("add-1", Figure::Calls, Peer::Picom, Peer::PingPong);
        assert_eq!(ratio, Some(0.5));
        assert_eq!(
            results.ratio("add-1", Figure::Calls, Peer::Picom, Peer::Tonic),
            None
        );
        assert_eq!(results.peers("add-1"), [Peer::PingPong, Peer::Picom]);
    }
}
