//! Where randomness comes from: ids that no other process start will have, and seeds for jitter. What is done with
//! jitter is decided elsewhere, from a number given as an argument.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// A 64-bit number nobody can guess or repeat: SipHash, keyed with 128 bits of the operating system's randomness (that
/// is what the standard library's `RandomState` is), over the process id and a counter. No crate is needed for it.
pub(crate) fn seed() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(process::id());
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    hasher.finish()
}

/// 128 random bits as 32 hexadecimal digits.
pub(crate) fn unique_id() -> String {
    format!("{:016x}{:016x}", seed(), seed())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_32_digits_and_differ_across_threads() {
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| (0..500).map(|_| unique_id()).collect::<Vec<_>>()))
            .collect();
        let ids: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        );
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 4000);
    }
}
