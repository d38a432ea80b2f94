//! Values beside `rmp-serde`: a small struct, one with texts and lists, a row of a stream, and bytes; and the scan alone.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use picom_bench::peers::row::{BareRow, Item as _, Row};
use picom_codec::scan::scan;
use picom_codec::{Blob, Encoding, Limits, value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::hint::black_box;

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    email: String,
    tags: Vec<String>,
    active: bool,
}

fn user() -> User {
    User {
        id: 77,
        name: "Ada Lovelace".to_owned(),
        email: "ada@example.org".to_owned(),
        tags: ["admin", "ops", "analysis"].map(str::to_owned).into(),
        active: true,
    }
}

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("value");
    each(&mut group, "Add", &Add { a: 2, b: 70_000 });
    each(&mut group, "User", &user());
    each(&mut group, "Row", &Row::numbered(4711));
    each(&mut group, "BareRow", &BareRow::numbered(4711));
    each(&mut group, "Blob of 64 KiB", &Blob(vec![7; 64 * 1024].into()));
    group.finish();
}

fn each<T: Serialize + DeserializeOwned>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, one: &T) {
    let limits = Limits::default();
    let bytes = value::encode(one).expect("it encodes");
    let arrays = value::encode_with(one, Encoding::Arrays).expect("it encodes");
    group.bench_function(format!("{name}: encode"), |bencher| {
        bencher.iter(|| value::encode(black_box(one)));
    });
    group.bench_function(format!("{name}: encode by rmp-serde"), |bencher| {
        bencher.iter(|| rmp_serde::to_vec_named(black_box(one)));
    });
    group.bench_function(format!("{name}: scan"), |bencher| {
        bencher.iter(|| scan(black_box(&bytes), &limits));
    });
    group.bench_function(format!("{name}: decode a map"), |bencher| {
        bencher.iter(|| value::decode::<T>(black_box(&bytes), &limits));
    });
    group.bench_function(format!("{name}: decode an array"), |bencher| {
        bencher.iter(|| value::decode::<T>(black_box(&arrays), &limits));
    });
    group.bench_function(format!("{name}: decode a map by rmp-serde"), |bencher| {
        bencher.iter(|| by_rmp_serde::<T>(black_box(&bytes)));
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "what our decoder is compared with; the bytes are our own"
)]
fn by_rmp_serde<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

criterion_group!(benches, values);
criterion_main!(benches);
