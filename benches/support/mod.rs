//! What both bench packages measure: vitald, and the floors under it.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "benches run on their own small numbers; both packages share this file"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use vitald::balance::{Balancer, HashOptions, LeastRule, Member, MemberId, Options, Request};
use vitald::channel::{Health, Strategy};

/// Members of a run.
pub(crate) const SIZES: [usize; 5] = [10, 100, 1000, 10_000, 100_000];

/// Weights 1 to 10 in turn.
pub(crate) fn weight(member: usize) -> u16 {
    1 + (member % 10) as u16
}

/// Weights up to 10,000, spread.
pub(crate) fn wide_weight(member: usize) -> u16 {
    1 + ((member * 7919) % 10_000) as u16
}

/// An address per member.
pub(crate) fn address(member: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0A00_0000 + member as u32)
}

pub(crate) fn balancer(strategy: Strategy, count: usize, weight: fn(usize) -> u16) -> Balancer<u32> {
    with_options(strategy, Options::default(), count, weight)
}

pub(crate) fn with_options(
    strategy: Strategy,
    options: Options,
    count: usize,
    weight: fn(usize) -> u16,
) -> Balancer<u32> {
    Balancer::new(strategy, options, members(count, weight)).expect("members differ")
}

pub(crate) fn members(count: usize, weight: fn(usize) -> u16) -> Vec<Member<u32>> {
    (0..count)
        .map(|member| {
            Member::named(format!("{}:80", address(member)), member as u32)
                .weight(weight(member))
                .health(Health::Healthy)
        })
        .collect()
}

/// Keys of 40 bytes.
pub(crate) fn keys() -> Vec<[u8; 40]> {
    (0..1024_u64)
        .map(|key| {
            let text = format!("/static/img/{:016x}/index.html", key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut bytes = [b'.'; 40];
            for (to, from) in bytes.iter_mut().zip(text.bytes()) {
                *to = from;
            }
            bytes
        })
        .collect()
}

/// Runs through keys in turn.
pub(crate) struct Turn(usize);

impl Turn {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    pub(crate) fn next<'k, T>(&mut self, keys: &'k [T]) -> &'k T {
        self.0 = (self.0 + 1) & 1023;
        &keys[self.0]
    }
}

pub(crate) fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(30);
    group
}

/// The members repeated by weight: what a table look-up is at best.
fn table(count: usize) -> Vec<u32> {
    let mut table: Vec<u32> = (0..count)
        .flat_map(|member| std::iter::repeat_n(member as u32, usize::from(weight(member))))
        .collect();
    // Not in runs, as a smooth order is not.
    let length = table.len();
    for index in 0..length {
        table.swap(index, (index * 7919) % length);
    }
    table
}

pub(crate) fn wrr(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let id = |name: &str| BenchmarkId::new(name, count);
    let balanced = balancer(Strategy::WeightedRoundRobin, count, weight);
    let picker = balanced.picker();
    group.bench_function(id("vitald"), |bench| {
        bench.iter(|| picker.pick(&Request::new()).map(|pick| *pick.address()));
    });
    group.bench_function(id("vitald_shared"), |bench| {
        bench.iter(|| balanced.pick(&Request::new()).map(|pick| *pick.address()));
    });
    let table = table(count);
    let mut cursor = 0;
    group.bench_function(id("floor"), |bench| {
        bench.iter(|| {
            let member = table[cursor];
            cursor = if cursor + 1 == table.len() { 0 } else { cursor + 1 };
            member
        });
    });
    counted_floor(group, count, &table);
    let shared = AtomicU64::new(0);
    group.bench_function(id("floor_atomic"), |bench| {
        bench.iter(|| table[(shared.fetch_add(1, Ordering::Relaxed) % table.len() as u64) as usize]);
    });
}

/// What a pick owes whatever its strategy: it sees that nothing has changed, counts
/// itself, and counts as open until it ends. By plain loads and stores, as vitald does.
fn counted_floor(group: &mut BenchmarkGroup<'_, WallTime>, count: usize, table: &[u32]) {
    let (epoch, picks) = (AtomicU64::new(0), AtomicU64::new(0));
    let open: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
    let add = |counter: &AtomicU32, amount| {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release);
    };
    let mut cursor = 0;
    group.bench_function(BenchmarkId::new("floor_counted", count), |bench| {
        bench.iter(|| {
            if epoch.load(Ordering::Acquire) != 0 {
                return None;
            }
            let member = table[cursor];
            cursor = if cursor + 1 == table.len() { 0 } else { cursor + 1 };
            let counter = &open[member as usize];
            add(counter, 1);
            picks.store(picks.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            // Whoever holds the pick does something now.
            let member = black_box(member);
            add(counter, u32::MAX);
            Some(member)
        });
    });
}

pub(crate) fn wide_wrr(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let balanced = balancer(Strategy::WeightedRoundRobin, count, wide_weight);
    let picker = balanced.picker();
    group.bench_function(BenchmarkId::new("vitald", count), |bench| {
        bench.iter(|| picker.pick(&Request::new()).map(|pick| *pick.address()));
    });
}

pub(crate) fn wleastconn(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let id = |name: &str| BenchmarkId::new(name, count);
    let balanced = balancer(Strategy::WeightedLeastConnections, count, weight);
    let picker = balanced.picker();
    // Some picks stay open, as in life.
    let open: Vec<_> = (0..2 * count).map(|_| picker.pick(&Request::new())).collect();
    group.bench_function(id("vitald"), |bench| {
        bench.iter(|| picker.pick(&Request::new()).map(|pick| *pick.address()));
    });
    group.bench_function(id("vitald_shared"), |bench| {
        bench.iter(|| balanced.pick(&Request::new()).map(|pick| *pick.address()));
    });
    drop(open);
    let sampled = LeastRule::Sampled(const { std::num::NonZeroUsize::new(2).unwrap() });
    let options = Options { least: sampled, ..Options::default() };
    let balanced = with_options(Strategy::WeightedLeastConnections, options, count, weight);
    let picker = balanced.picker();
    group.bench_function(id("vitald_sampled"), |bench| {
        bench.iter(|| picker.pick(&Request::new()).map(|pick| *pick.address()));
    });
    // A heap cannot release, so the floor is two moves of the top.
    let heap: BinaryHeap<Reverse<(u64, u32)>> =
        (0..count).map(|member| Reverse(((1 << 32) / u64::from(weight(member)), member as u32))).collect();
    let heap = Mutex::new(heap);
    group.bench_function(id("floor"), |bench| {
        bench.iter(|| {
            let mut last = 0;
            for _ in 0..2 {
                let mut heap = heap.lock().expect("not poisoned");
                let mut top = heap.peek_mut().expect("not empty");
                last = top.0.1;
                top.0.0 += (1 << 32) / u64::from(weight(last as usize));
            }
            last
        });
    });
}

pub(crate) fn source(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let sources: Vec<IpAddr> =
        (0..1024_u32).map(|key| IpAddr::from(Ipv4Addr::from(key.wrapping_mul(0x9E37_79B9)))).collect();
    hashed(group, count, Strategy::SourceHash, &sources, |source| Request::new().source(*source));
    let table = table(count);
    let mut turn = Turn::new();
    group.bench_function(BenchmarkId::new("floor", count), |bench| {
        bench.iter(|| {
            let IpAddr::V4(address) = turn.next(&sources) else { return 0 };
            let mixed = u128::from(address.to_bits() ^ 0x9E37_79B9)
                .wrapping_mul(0xA076_1D64_78BD_642F_E703_7ED1_A0B4_28DB);
            let hash = (mixed as u64) ^ (mixed >> 64) as u64;
            table[((u128::from(hash) * table.len() as u128) >> 64) as usize]
        });
    });
}

pub(crate) fn uri(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let keys = keys();
    hashed(group, count, Strategy::UriHash, &keys, |key| Request::new().uri(key));
    let table = table(count);
    let mut turn = Turn::new();
    group.bench_function(BenchmarkId::new("floor", count), |bench| {
        bench.iter(|| {
            let hash = rapidhash::v3::rapidhash_v3(&turn.next(&keys)[..]);
            table[((u128::from(hash) * table.len() as u128) >> 64) as usize]
        });
    });
    let bound = HashOptions { bounded_load: Some(1.25), ..HashOptions::default() };
    let options = Options { hash: bound, ..Options::default() };
    let balanced = with_options(Strategy::UriHash, options, count, weight);
    let picker = balanced.picker();
    group.bench_function(BenchmarkId::new("vitald_bounded", count), |bench| {
        bench.iter(|| picker.pick(&Request::new().uri(&turn.next(&keys)[..])).map(|pick| *pick.address()));
    });
}

fn hashed<K>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    count: usize,
    strategy: Strategy,
    keys: &[K],
    request: impl for<'k> Fn(&'k K) -> Request<'k>,
) {
    let balanced = balancer(strategy, count, weight);
    let picker = balanced.picker();
    let mut turn = Turn::new();
    group.bench_function(BenchmarkId::new("vitald", count), |bench| {
        bench.iter(|| picker.pick(&request(turn.next(keys))).map(|pick| *pick.address()));
    });
    group.bench_function(BenchmarkId::new("vitald_shared", count), |bench| {
        bench.iter(|| balanced.pick(&request(turn.next(keys))).map(|pick| *pick.address()));
    });
}

/// One verdict, until it is visible: half of them down, half up.
pub(crate) fn flip(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    for (name, strategy) in [
        ("vitald", Strategy::UriHash),
        ("vitald_wrr", Strategy::WeightedRoundRobin),
        ("vitald_wleastconn", Strategy::WeightedLeastConnections),
    ] {
        let balanced = balancer(strategy, count, weight);
        let ids: Vec<MemberId> = balanced.members().iter().map(|member| member.id).collect();
        let mut next = 0_usize;
        let mut health = Health::Unhealthy;
        group.bench_function(BenchmarkId::new(name, count), |bench| {
            bench.iter(|| {
                next += 1;
                if next == ids.len() / 2 {
                    next = 0;
                    health = if health == Health::Healthy { Health::Unhealthy } else { Health::Healthy };
                }
                balanced.set_health(ids[next], health)
            });
        });
    }
}

/// From a list of members to the first pick.
pub(crate) fn build(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    group.sample_size(10);
    for (name, strategy) in [
        ("vitald", Strategy::UriHash),
        ("vitald_wrr", Strategy::WeightedRoundRobin),
        ("vitald_wleastconn", Strategy::WeightedLeastConnections),
    ] {
        let members = members(count, weight);
        group.bench_function(BenchmarkId::new(name, count), |bench| {
            bench.iter_batched(
                || members.clone(),
                |members| black_box(Balancer::new(strategy, Options::default(), members)),
                criterion::BatchSize::LargeInput,
            );
        });
    }
}
