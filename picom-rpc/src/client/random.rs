//! Random numbers for picking and for spreading: a stream that its seed determines. Not for secrets.

use std::hash::{BuildHasher, RandomState};

/// Vigna's SplitMix64. Eight bytes of state, no failure, and the same numbers for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers this seed determines.
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A seed that differs between processes and between calls: the keys the standard library draws for its maps.
    pub(crate) fn seed() -> u64 {
        RandomState::new().hash_one("picom")
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number under `bound`, or 0 if that is 0. The bias is below `bound`/2⁶⁴.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// A number from 0 up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Spreads the bits of a number over all 64: neighbours in, strangers out.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_numbers() {
        let mut one = Random::new(7);
        let mut two = Random::new(7);
        let mut three = Random::new(8);
        let first: Vec<u64> = (0..4).map(|_| one.next()).collect();
        assert_eq!(first, (0..4).map(|_| two.next()).collect::<Vec<_>>());
        assert_ne!(first, (0..4).map(|_| three.next()).collect::<Vec<_>>());
    }

    #[test]
    fn the_published_first_number_of_seed_zero_comes_out() {
        // From the reference implementation of SplitMix64.
        assert_eq!(Random::new(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::new(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[random.below(5)] = true;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
    }
}
