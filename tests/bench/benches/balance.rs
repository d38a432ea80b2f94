//! Choosing among 1, 10 and 1,000 endpoints. The balancer is private to `picom-rpc`, as it should be; its pure files are
//! compiled here once more.

use criterion::{Criterion, criterion_group, criterion_main};
use picom_bench::clock::now;
use std::hint::black_box;
use std::time::Duration;

// rustfmt would follow into files that are not this package's.
#[rustfmt::skip]
#[path = "../../../picom-rpc/src/client"]
#[expect(unused, unreachable_pub, reason = "not everything is measured, and of their tests only the parts are compiled")]
mod client {
    //! The names under which the files know each other.

    pub(crate) mod balance;
    pub(crate) mod load;
    pub(crate) mod random;
}

use client::balance::{round_robin, two_choices};
use client::load::Load;
use client::random::Random;

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick an endpoint");
    let at = now();
    for count in [1, 10, 1000] {
        let mut loads: Vec<Load> = (0..count).map(|_| Load::default()).collect();
        for (number, load) in loads.iter_mut().enumerate() {
            load.observe(Duration::from_micros(100 + number as u64), at);
        }
        let mut random = Random::new(7);
        let later = at + Duration::from_millis(3);
        group.bench_function(format!("two choices of {count}"), |bencher| {
            bencher.iter(|| {
                let cost = |index: usize| loads[index].cost(1, later);
                two_choices(black_box(count), &mut random, 0, |_| false, cost)
            });
        });
        let mut turn = 0;
        group.bench_function(format!("round robin of {count}"), |bencher| {
            bencher.iter(|| round_robin(black_box(count), &mut turn, 0, |_| false));
        });
    }
    group.finish();
}

criterion_group!(benches, pick);
criterion_main!(benches);
