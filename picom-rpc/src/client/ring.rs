//! Which endpoint a key belongs to: consistent hashing. All clients that see the same instances agree, and an instance
//! that comes or goes moves only the keys that are or were its own. Pure.

use super::random::mix;

/// Points of an endpoint of weight 1. With 64 the shares of equal endpoints differ by about an eighth (1/√64).
const POINTS: u32 = 64;

/// Weights count up to here: 16 × 64 points bound what one registration can make us build.
const HEAVIEST: u32 = 16;

/// Points on the circle of 64-bit hashes, each owned by an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// The ring of these endpoints: a number of the caller's, the name all clients know the endpoint by, its weight.
    pub(crate) fn new<'a>(endpoints: impl Iterator<Item = (u32, &'a str, u32)>) -> Self {
        let mut points = Vec::new();
        for (index, name, weight) in endpoints {
            let base = hash(name.as_bytes());
            let count = POINTS * weight.clamp(1, HEAVIEST);
            points.extend((0..count).map(|n| (mix(base.wrapping_add(mix(u64::from(n) + 1))), index)));
        }
        points.sort_unstable();
        Ring { points }
    }

    /// The owners of a key, the first choice first. An owner may come up again.
    pub(crate) fn owners(&self, key: u64) -> impl Iterator<Item = u32> + '_ {
        let start = self.points.partition_point(|&(point, _)| point < key);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|&(_, index)| index)
    }
}

/// The place of a key, or the name of an endpoint, on the circle. The same in every process: FNV-1a, then spread.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    mix(fnv)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(n: u32) -> Vec<String> {
        (0..n).map(|i| format!("orders-{i:04x}")).collect()
    }

    fn ring(names: &[String]) -> Ring {
        Ring::new(
            names
                .iter()
                .enumerate()
                .map(|(i, name)| (i as u32, name.as_str(), 1)),
        )
    }

    fn owner<'a>(ring: &Ring, names: &'a [String], key: u64) -> &'a str {
        &names[ring.owners(hash(&key.to_le_bytes())).next().unwrap() as usize]
    }

    #[test]
    fn clients_agree_whatever_order_they_know_the_instances_in() {
        let there = names(7);
        let mut here = there.clone();
        here.reverse();
        let (one, two) = (ring(&there), ring(&here));
        for key in 0..500 {
            assert_eq!(owner(&one, &there, key), owner(&two, &here, key));
        }
    }

    #[test]
    fn an_instance_that_goes_moves_only_its_own_keys() {
        let all = names(10);
        let fewer: Vec<String> = all
            .iter()
            .filter(|name| *name != "orders-0003")
            .cloned()
            .collect();
        let (before, after) = (ring(&all), ring(&fewer));
        let mut moved = 0;
        for key in 0..2000 {
            let old = owner(&before, &all, key);
            if old == "orders-0003" {
                moved += 1;
            } else {
                assert_eq!(owner(&after, &fewer, key), old);
            }
        }
        assert!((100..300).contains(&moved), "about a tenth: {moved}");
    }

    #[test]
    fn a_heavier_endpoint_owns_more_keys() {
        let ring = Ring::new([(0, "light", 1), (1, "heavy", 3)].into_iter());
        let heavy = (0..4000u64)
            .filter(|key| ring.owners(hash(&key.to_le_bytes())).next() == Some(1))
            .count();
        assert!((2600..3400).contains(&heavy), "about three quarters: {heavy}");
    }

    #[test]
    fn an_absurd_weight_is_bounded() {
        assert_eq!(Ring::new([(0, "x", u32::MAX)].into_iter()).points.len(), 1024);
        assert_eq!(Ring::new([(0, "x", 0)].into_iter()).points.len(), 64);
        assert_eq!(Ring::default().owners(5).next(), None);
    }

    proptest! {
        #[test]
        fn every_endpoint_comes_up_among_the_owners(count in 1u32..20, key in any::<u64>()) {
            let names = names(count);
            let mut seen: Vec<u32> = ring(&names).owners(key).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), count as usize);
        }
    }
}
