//! Properties and tables of the codec: frames, the scan, values, and types that recurse. The golden vectors are in
//! `tests/vectors.rs`.

mod arbitrary;
mod bodies;
mod borrowing;
mod errors;
mod frames;
mod recursion;
mod scan;
mod shapes;
mod values;
