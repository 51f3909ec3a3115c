//! The balancer against its floors: `cargo bench --bench balance`.

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

fn all(criterion: &mut Criterion) {
    type Run = fn(&mut BenchmarkGroup<'_, WallTime>, usize);
    let runs: [(&str, Run); 6] = [
        ("wrr", support::wrr),
        ("wleastconn", support::wleastconn),
        ("source", support::source),
        ("uri", support::uri),
        ("flip", support::flip),
        ("build", support::build),
    ];
    for (name, run) in runs {
        let mut group = support::group(criterion, name);
        for count in support::SIZES {
            run(&mut group, count);
        }
        group.finish();
    }
    let mut group = support::group(criterion, "wrr_wide");
    support::wide_wrr(&mut group, 100_000);
    group.finish();
}

criterion::criterion_group!(benches, all);
criterion::criterion_main!(benches);
