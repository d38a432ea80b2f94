//! Whom to choose among endpoints that may be called now. How loaded each is comes from `load.rs`, which ones may be
//! called from `endpoints.rs`. Pure: costs and random numbers in, an index out; the work does not grow with the number
//! of endpoints.

use super::random::Random;

/// How calls are spread over the instances of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// Two instances are drawn, and the one that is expected to answer sooner gets the call: calls in flight times the
    /// decayed peak of the latency, divided by the weight. Comes close to always asking the least loaded without asking
    /// all (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
    #[default]
    TwoChoices,
    /// One after the other. Weights and load play no part.
    RoundRobin,
}

/// The better of two drawn out of `len` candidates, or `None` if all are excluded. `excluded` must be true for at most
/// `exclusions` of them.
pub(crate) fn two_choices(
    len: usize,
    random: &mut Random,
    exclusions: usize,
    excluded: impl Fn(usize) -> bool,
    mut cost: impl FnMut(usize) -> f64,
) -> Option<usize> {
    let first = first_from(random.below(len), len, exclusions, &excluded)?;
    let other = |index: usize| index == first || excluded(index);
    let Some(second) = first_from(random.below(len), len, exclusions + 1, other) else {
        return Some(first);
    };
    Some(if cost(second) < cost(first) { second } else { first })
}

/// The candidate whose turn it is; moves the turn behind it.
pub(crate) fn round_robin(
    len: usize,
    turn: &mut usize,
    exclusions: usize,
    excluded: impl Fn(usize) -> bool,
) -> Option<usize> {
    if len == 0 {
        return None;
    }
    let index = first_from(*turn % len, len, exclusions, excluded)?;
    *turn = (index + 1) % len;
    Some(index)
}

/// The first that is not excluded, beginning at `start`. One more step than there are exclusions is enough.
pub(crate) fn first_from(
    start: usize,
    len: usize,
    exclusions: usize,
    excluded: impl Fn(usize) -> bool,
) -> Option<usize> {
    let steps = len.min(exclusions.saturating_add(1));
    (0..steps)
        .map(|step| (start + step) % len)
        .find(|&index| !excluded(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spread(costs: &[f64], picks: usize) -> Vec<usize> {
        let mut random = Random::new(42);
        let mut counts = vec![0; costs.len()];
        for _ in 0..picks {
            let index = two_choices(costs.len(), &mut random, 0, |_| false, |i| costs[i]).unwrap();
            counts[index] += 1;
        }
        counts
    }

    #[test]
    fn the_cheapest_of_several_gets_most_and_the_dearest_nothing() {
        let counts = spread(&[1.0, 1.0, 1.0, 9.0], 4000);
        assert_eq!(counts[3], 0, "it loses against whichever other is drawn");
        let counts = spread(&[0.5, 1.0, 1.0, 1.0], 4000);
        // It wins whenever it is drawn: in half of all pairs of four.
        assert!((1800..2200).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn equal_costs_are_spread_evenly() {
        for count in spread(&[1.0; 5], 5000) {
            assert!((850..1150).contains(&count), "{count}");
        }
    }

    #[test]
    fn unequal_servers_end_up_with_calls_in_proportion_to_their_speed() {
        // Service times 1 and 4, five calls every four ticks: as much as both together can do.
        let (mut random, mut in_flight, mut done) = (Random::new(3), [0.0f64; 2], [0u32; 2]);
        let speed = [4.0, 1.0];
        for tick in 0..20_000u32 {
            for _ in 0..if tick % 4 == 0 { 2 } else { 1 } {
                let cost = |i: usize| (in_flight[i] + 1.0) / speed[i];
                let pick = two_choices(2, &mut random, 0, |_| false, cost).unwrap();
                in_flight[pick] += 1.0;
            }
            for server in 0..2 {
                let finishes = server == 0 || tick % 4 == 0;
                if finishes && in_flight[server] >= 1.0 {
                    in_flight[server] -= 1.0;
                    done[server] += 1;
                }
            }
        }
        assert!(done[0] > 3 * done[1], "{done:?}");
        assert!(done[1] > 4000, "the slow one works as much as it can: {done:?}");
    }

    #[test]
    fn round_robin_visits_all_in_turn_and_steps_over_the_excluded() {
        let mut turn = 0;
        let picks: Vec<_> = (0..6)
            .map(|_| round_robin(3, &mut turn, 0, |_| false).unwrap())
            .collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
        let picks: Vec<_> = (0..4)
            .map(|_| round_robin(3, &mut turn, 1, |i| i == 1).unwrap())
            .collect();
        assert_eq!(picks, [0, 2, 0, 2]);
        assert_eq!(round_robin(0, &mut turn, 0, |_| false), None);
        assert_eq!(round_robin(2, &mut turn, 2, |_| true), None);
    }

    #[test]
    fn a_pick_looks_at_two_costs_however_many_there_are() {
        let mut random = Random::new(9);
        let mut looked = 0;
        two_choices(
            1_000_000,
            &mut random,
            0,
            |_| false,
            |_| {
                looked += 1;
                1.0
            },
        );
        assert_eq!(looked, 2);
    }

    proptest! {
        #[test]
        fn what_is_excluded_is_never_picked_and_something_is_while_there_is_one(
            len in 0usize..12, mask in any::<u16>(), seed in any::<u64>()
        ) {
            let excluded = |i: usize| mask & (1 << i) != 0;
            let exclusions = (0..len).filter(|&i| excluded(i)).count();
            let mut random = Random::new(seed);
            let picked = two_choices(len, &mut random, exclusions, excluded, |i| i as f64);
            prop_assert_eq!(picked.is_some(), exclusions < len);
            prop_assert!(picked.is_none_or(|i| i < len && !excluded(i)));
            let mut turn = seed as usize % 13;
            let next = round_robin(len, &mut turn, exclusions, excluded);
            prop_assert_eq!(next.is_some(), exclusions < len);
            prop_assert!(next.is_none_or(|i| i < len && !excluded(i)));
        }
    }
}
