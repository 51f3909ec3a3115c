//! What the balancer allocates, counted by the allocator: nothing per pick, and few bytes a member.
//!
//! A binary of its own, as it replaces the global allocator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use allocation_counter::measure;
use vitald::balance::{
    Balancer, HashFunction, HashOptions, LeastRule, Member, MemberId, Options, Request, SlowStart,
};
use vitald::channel::{Health, Role, Strategy};

fn members(count: u32, weight: fn(u32) -> u16) -> impl Iterator<Item = Member<u32>> {
    (0..count).map(move |member| {
        let role = if member == 3 { Role::Backup } else { Role::Primary };
        Member::new(member).weight(weight(member)).role(role)
    })
}

fn narrow(member: u32) -> u16 {
    1 + (member % 10) as u16
}

fn wide(member: u32) -> u16 {
    1 + (member.wrapping_mul(7919) % 10_000) as u16
}

fn options() -> [Options; 5] {
    let hash = HashOptions { function: HashFunction::FloodResistant, ..Default::default() };
    let bounded = HashOptions { bounded_load: Some(1.1), ..Default::default() };
    [
        Options::default(),
        Options { least: LeastRule::IdleFirst, hash, ..Options::default() },
        Options { hash: bounded, ..Options::default() },
        Options { least: LeastRule::Sampled(NonZeroUsize::new(2).unwrap()), ..Options::default() },
        Options { slow_start: Some(SlowStart::linear(Duration::from_secs(30))), ..Options::default() },
    ]
}

/// Requests whose own memory is made in advance.
fn keys() -> Vec<(String, IpAddr)> {
    (0..997_u32).map(|key| (format!("/object/{key}?version=1"), IpAddr::from(key.to_be_bytes()))).collect()
}

/// Picks with a changing number of them open, some of them retries, some without a key.
fn pick_often<'b, P>(
    keys: &[(String, IpAddr)],
    tried: &[MemberId],
    open: &mut VecDeque<P>,
    pick: impl Fn(&Request<'_>) -> P + 'b,
) {
    for (turn, (uri, source)) in keys.iter().enumerate() {
        let mut request = Request::new();
        if turn % 11 != 0 {
            request = request.uri(uri.as_bytes()).source(*source);
        }
        if turn % 13 == 0 {
            request = request.tried(tried);
        }
        open.push_back(pick(&request));
        while open.len() > 20 + turn % 300 {
            open.pop_front();
        }
    }
    open.clear();
}

#[test]
fn a_pick_allocates_nothing() {
    let keys = keys();
    for strategy in Strategy::ALL {
        for options in options() {
            for (count, weight) in [(9, narrow as fn(u32) -> u16), (2000, narrow), (2000, wide)] {
                let balancer = Balancer::new(strategy, options, members(count, weight)).unwrap();
                let ids: Vec<MemberId> = balancer.members().iter().map(|member| member.id).collect();
                for id in ids.iter().step_by(5) {
                    balancer.set_health(*id, Health::Unhealthy).unwrap();
                }
                let picker = balancer.picker();
                let tried = [ids[1], ids[2]];
                let mut picks = VecDeque::with_capacity(1000);
                let mut shared = VecDeque::with_capacity(1000);
                let mut owned = VecDeque::with_capacity(1000);
                let mut round = || {
                    pick_often(&keys, &tried, &mut picks, |request| picker.pick(request).unwrap());
                    pick_often(&keys, &tried, &mut shared, |request| balancer.pick(request).unwrap());
                    pick_often(&keys, &tried, &mut owned, |request| balancer.pick_owned(request).unwrap());
                };
                // The first round makes this thread's picker, and least connections
                // makes room for as many levels of load as there are at once.
                round();
                let counted = measure(&mut round);
                assert_eq!(counted.count_total, 0, "{strategy:?}, {options:?}, {count} members");
            }
        }
    }
}

#[test]
fn a_flip_of_a_hash_member_allocates_nothing() {
    for strategy in [Strategy::SourceHash, Strategy::UriHash] {
        let balancer = Balancer::new(strategy, Options::default(), members(1000, narrow)).unwrap();
        let id = balancer.id_of("500").unwrap();
        let counted = measure(|| {
            for health in [Health::Unhealthy, Health::Healthy, Health::Unhealthy] {
                balancer.set_health(id, health).unwrap();
            }
        });
        assert_eq!(counted.count_total, 0, "{strategy:?}");
    }
}

#[test]
fn a_member_takes_few_bytes() {
    for count in [1000_u32, 10_000, 100_000] {
        for (name, weight) in [("1 to 10", narrow as fn(u32) -> u16), ("1 to 10000", wide)] {
            let mut tables = 0;
            for strategy in Strategy::ALL {
                let members: Vec<Member<u32>> = members(count, weight).collect();
                let mut balancer = None;
                // Names were allocated before, and the list of members goes.
                let counted = measure(|| {
                    balancer = Some(Balancer::new(strategy, Options::default(), members).unwrap());
                });
                let list = (count as usize * size_of::<Member<u32>>()) as i64;
                let live = usize::try_from(counted.bytes_current + list).unwrap();
                let own = balancer.unwrap().table_bytes();
                let each = |bytes: usize| bytes as f64 / f64::from(count);
                println!("{count} of {name}, {strategy:?}: tables {:.1}, all {:.1}", each(own), each(live));
                // Records, index, addresses, counters; and nothing forgotten in `table_bytes`.
                assert!(own <= live, "{strategy:?}: {own} of {live}");
                let fixed = 8192.0;
                assert!(each(live - own) <= 80.0 + fixed / f64::from(count), "{strategy:?}: {own} of {live}");
                tables += own;
            }
            // Only a round robin order of many picks and few members may take more.
            assert!(tables <= 110 * count as usize, "{count} of {name}: {tables}");
        }
    }
}
