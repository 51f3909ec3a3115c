//! vitald beside its peers, in one process:
//! `cargo bench --manifest-path benches/peers/Cargo.toml`.

#[path = "../../support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use pingora_load_balancing::discovery::Static;
use pingora_load_balancing::selection::{
    BackendIter, BackendSelection, Consistent, FNVHash, Random, RoundRobin,
};
use pingora_load_balancing::{Backend, Backends, LoadBalancer};
use vitald_peers::{EdfHeap, OrderedTree, SmoothScan};

/// pingora keeps members as 16-bit indices and panics or misroutes above.
const PINGORA_LIMIT: usize = 10_000;

fn backends(count: usize) -> BTreeSet<Backend> {
    let backend = |member| {
        let address = format!("{}:80", support::address(member));
        Backend::new_with_weight(&address, usize::from(support::weight(member))).expect("an address")
    };
    (0..count).map(backend).collect()
}

fn pingora<S>(count: usize) -> LoadBalancer<S>
where
    S: BackendSelection + 'static,
    S::Iter: BackendIter,
    S::Config: Send + Sync + Clone,
{
    let balancer = LoadBalancer::<S>::from_backends(Backends::new(Static::new(backends(count))));
    let update = balancer.update();
    futures::executor::block_on(update).expect("a static list");
    balancer
}

fn select<S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, count: usize)
where
    S: BackendSelection + 'static,
    S::Iter: BackendIter,
    S::Config: Send + Sync + Clone,
{
    if count > PINGORA_LIMIT {
        return;
    }
    let balancer = pingora::<S>(count);
    let keys = support::keys();
    let mut turn = support::Turn::new();
    group.bench_function(BenchmarkId::new(name, count), |bench| {
        bench.iter(|| balancer.select(&turn.next(&keys)[..], 256));
    });
}

fn wrr(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    select::<RoundRobin>(group, "pingora_round_robin", count);
    select::<Random>(group, "pingora_random", count);
    let scan = SmoothScan::new((0..count).map(support::weight));
    group.bench_function(BenchmarkId::new("nginx_scan", count), |bench| bench.iter(|| scan.pick()));
    let mut heap = EdfHeap::new((0..count).map(support::weight));
    group.bench_function(BenchmarkId::new("edf_heap", count), |bench| bench.iter(|| heap.pick()));
}

fn wleastconn(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let scan = SmoothScan::new((0..count).map(support::weight));
    for _ in 0..2 * count.min(10_000) {
        scan.pick_least();
    }
    group.bench_function(BenchmarkId::new("nginx_scan", count), |bench| {
        bench.iter(|| scan.release(scan.pick_least()));
    });
    let tree = OrderedTree::new((0..count).map(support::weight));
    for _ in 0..2 * count {
        tree.pick();
    }
    group.bench_function(BenchmarkId::new("ordered_tree", count), |bench| {
        bench.iter(|| tree.release(tree.pick()));
    });
}

fn uri(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    select::<FNVHash>(group, "pingora_fnv", count);
    select::<Consistent>(group, "pingora_ketama", count);
}

fn build(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    if count > PINGORA_LIMIT {
        return;
    }
    let backends = backends(count);
    group.sample_size(10);
    group.bench_function(BenchmarkId::new("pingora_round_robin", count), |bench| {
        bench.iter(|| RoundRobin::build(&backends));
    });
    group.bench_function(BenchmarkId::new("pingora_ketama", count), |bench| {
        bench.iter(|| Consistent::build(&backends));
    });
}

fn all(criterion: &mut Criterion) {
    type Run = fn(&mut BenchmarkGroup<'_, WallTime>, usize);
    let nothing: Run = |_, _| ();
    let runs: [(&str, Run, Run); 6] = [
        ("wrr", support::wrr, wrr),
        ("wleastconn", support::wleastconn, wleastconn),
        ("source", support::source, uri),
        ("uri", support::uri, uri),
        ("flip", support::flip, nothing),
        ("build", support::build, build),
    ];
    for (name, vitald, peers) in runs {
        let mut group = support::group(criterion, name);
        for count in support::SIZES {
            vitald(&mut group, count);
            peers(&mut group, count);
        }
        group.finish();
    }
    // Weights up to 10,000: where nobody can write out a cycle.
    let mut group = support::group(criterion, "wrr_wide");
    support::wide_wrr(&mut group, 100_000);
    let mut heap = EdfHeap::new((0..100_000).map(support::wide_weight));
    group.bench_function(BenchmarkId::new("edf_heap", 100_000), |bench| bench.iter(|| heap.pick()));
    group.finish();
}

criterion::criterion_group!(benches, all);
criterion::criterion_main!(benches);
