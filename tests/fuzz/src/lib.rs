//! What the fuzz targets do with their input. The targets themselves, which need libFuzzer, are a package of their own in
//! `targets/`; here everything is plain code, so that `tests/corpus.rs` replays the corpus in any `cargo test`.
//!
//! ```text
//! cargo install cargo-fuzz --locked
//! cargo fuzz run -s none --fuzz-dir tests/fuzz/targets frames \
//!     tests/fuzz/targets/target/corpus/frames tests/fuzz/corpus/frames -- -max_total_time=60
//! ```
//!
//! What a run finds worth keeping goes to the first directory, which must exist and is not checked in; the second is only
//! read. A crash is fixed together with its input, copied to `tests/fuzz/corpus`.

mod frames;
mod scan;
mod script;
mod values;

pub use frames::frames;
pub use scan::scan;
pub use values::values;
