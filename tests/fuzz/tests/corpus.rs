//! Replays the corpus of every target, so that what was found once stays found without a fuzzer.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
            panic!("{} fails", path.display());
        }
        replayed += 1;
    }
    assert!(replayed >= 20, "{replayed} inputs in {}", folder.display());
}

#[test]
fn the_corpus_of_frames_holds() {
    replay("frames", picom_fuzz::frames);
}

#[test]
fn the_corpus_of_scan_holds() {
    replay("scan", picom_fuzz::scan);
}

#[test]
fn the_corpus_of_values_holds() {
    replay("values", picom_fuzz::values);
}

#[test]
fn noise_holds_without_a_fuzzer_too() {
    // A few thousand inputs from a fixed sequence (xorshift): quick, the same every time, and biased to headers.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..3000 {
        let len = next() % 80;
        let input: Vec<u8> = (0..len)
            .map(|_| match next() % 3 {
                0 => 0x80 + (next() % 0x60) as u8,
                1 => (next() % 32) as u8,
                _ => next() as u8,
            })
            .collect();
        picom_fuzz::frames(&input);
        picom_fuzz::scan(&input);
        picom_fuzz::values(&input);
    }
}
