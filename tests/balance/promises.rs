//! Promises of the balancer, one test each.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use vitald::balance::{
    Balancer, Drain, HashOptions, LeastRule, MAX_WEIGHT, Member, NoPick, Options, Request, SlowStart,
    UpdateError,
};
use vitald::channel::{FailOpen, Health, MemberStatus, NobodyReason, Role, Strategy as Way, Tier};

use crate::{balancer, id, map, uri};

#[test]
fn wrr_follows_the_known_order() {
    let table: &[(&[u16], &str)] =
        &[(&[5, 1, 1], "aabaaca"), (&[4, 3, 2], "abcabacba"), (&[10, 1], "aaaaabaaaaa"), (&[1, 1, 1], "abc")];
    for (weights, expected) in table {
        let picked = |mut pick: Box<dyn FnMut() -> u32>| -> String {
            (0..expected.len()).map(|_| char::from(b'a' + u8::try_from(pick()).unwrap())).collect()
        };
        let one = balancer(Way::WeightedRoundRobin, Options::default(), weights);
        let picker = one.picker();
        assert_eq!(picked(Box::new(move || *picker.pick(&Request::new()).unwrap().address())), *expected);
        let other = balancer(Way::WeightedRoundRobin, Options::default(), weights);
        assert_eq!(picked(Box::new(move || *other.pick(&Request::new()).unwrap().address())), *expected);
    }
}

#[test]
fn pickers_share_every_slot_of_the_order() {
    // Two pickers claim blocks of one order: over whole cycles shares are exact.
    let balancer = balancer(Way::WeightedRoundRobin, Options::default(), &[3, 2, 2, 1]);
    let pickers = [balancer.picker(), balancer.picker()];
    let mut counts = [0; 4];
    for picker in &pickers {
        for _ in 0..320 {
            counts[*picker.pick(&Request::new()).unwrap().address() as usize] += 1;
        }
    }
    assert_eq!(counts, [240, 160, 160, 80]);
}

/// While one member flaps, the others keep their exact share of the time.
/// `advance` says after how many flips time is told, if ever.
fn flaps(weights: &[u16], every: u64, rounds: u64, advance: Option<u64>, tolerance: f64) {
    let balancer = balancer(Way::WeightedRoundRobin, Options::default(), weights);
    let picker = balancer.picker();
    let flapping = 7;
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let mut counts = vec![0.0; weights.len()];
    let mut expected = vec![0.0; weights.len()];
    for round in 0..rounds {
        let down = round % 2 == 1;
        balancer
            .set_health(id(&balancer, flapping), if down { Health::Unhealthy } else { Health::Healthy })
            .unwrap();
        if advance.is_some_and(|advance| round % advance == 0) {
            balancer.advance(Duration::from_secs(round));
        }
        let able = if down { total - f64::from(weights[flapping as usize]) } else { total };
        for (expected, &weight) in expected.iter_mut().zip(weights) {
            *expected += f64::from(weight) / able * every as f64;
        }
        if down {
            expected[flapping as usize] -= f64::from(weights[flapping as usize]) / able * every as f64;
        }
        for _ in 0..every {
            counts[*picker.pick(&Request::new()).unwrap().address() as usize] += 1.0;
        }
    }
    for (member, (count, expected)) in counts.iter().zip(&expected).enumerate() {
        if member == flapping as usize {
            continue;
        }
        let off = (count / expected - 1.0).abs();
        assert!(off < tolerance, "member {member} got {count}, due {expected}: {off}");
    }
}

#[test]
fn a_flapping_member_leaves_the_others_their_share() {
    let mixed: Vec<u16> = (0..40).map(|member| 1 + member % 10).collect();
    for (weights, every) in [(&[1; 40][..], 30), (&mixed, 30), (&mixed, 31)] {
        // Written again at each flip, and after a while not any more.
        flaps(weights, every, 20_000, Some(10), 0.005);
        flaps(weights, every, 20_000, None, 0.005);
    }
}

#[test]
fn a_flapping_member_of_a_long_order_leaves_the_others_their_share() {
    // Cycles of 79,000 picks are not written again at once: redirects do it.
    let weights: Vec<u16> = (0..40).map(|member| 1000 + 50 * member + member % 7).collect();
    flaps(&weights, 30, 40_000, None, 0.005);
    flaps(&weights, 30, 400, Some(10), 0.06);
}

#[test]
fn least_connections_counts_and_releases() {
    let balancer = balancer(Way::WeightedLeastConnections, Options::default(), &[1, 2]);
    let picker = balancer.picker();
    let first = picker.pick(&Request::new()).unwrap();
    let second = balancer.pick(&Request::new()).unwrap();
    let third = balancer.pick_owned(&Request::new()).unwrap();
    assert_eq!((*first.address(), *second.address() + *third.address()), (1, 1), "0.5, then both at 1");
    assert_eq!(balancer.open_picks(id(&balancer, 0)), 1);
    assert_eq!(balancer.open_picks(id(&balancer, 1)), 2);
    drop((first, second, third));
    assert_eq!(balancer.members().iter().map(|member| member.open_picks).sum::<u32>(), 0);
    assert_eq!(balancer.total_picks(), 3);
}

#[test]
fn rebuilds_are_counted() {
    for (way, by_a_flip) in [(Way::WeightedRoundRobin, 1), (Way::UriHash, 0)] {
        let balancer = balancer(way, Options::default(), &[1, 2, 3]);
        let before = balancer.rebuilds();
        balancer.set_health(id(&balancer, 0), Health::Unhealthy).unwrap();
        assert_eq!(balancer.rebuilds(), before + by_a_flip, "{way:?}: a key's column is cut in place");
        balancer.update([Member::new(7)]).unwrap();
        assert_eq!(balancer.rebuilds(), before + by_a_flip + 1, "{way:?}");
    }
}

#[test]
fn picks_outlive_their_member_and_end_once() {
    for way in Way::ALL {
        for options in [Options::default(), bounded(1.25), sampled()] {
            let balancer = balancer(way, options, &[1, 1]);
            let request = Request::new().uri(b"/a").source("192.0.2.1".parse().unwrap());
            let picker = balancer.picker();
            let pick = picker.pick(&request).unwrap();
            let shared = balancer.pick_owned(&request).unwrap();
            let ids = [pick.id(), shared.id()];
            balancer.update([Member::new(9)]).unwrap();
            assert_eq!(balancer.pick(&request).unwrap().address(), &9);
            assert!(ids.iter().all(|id| balancer.open_picks(*id) > 0));
            assert!(balancer.set_health(ids[0], Health::Healthy).is_err());
            // A newcomer does not inherit the open picks of who left.
            balancer.update([Member::new(9), Member::new(10), Member::new(11)]).unwrap();
            assert!(balancer.members().iter().all(|member| member.open_picks == 0));
            std::thread::scope(|scope| scope.spawn(|| drop(shared)).join().unwrap());
            drop(pick);
            assert!(ids.iter().all(|id| balancer.open_picks(*id) == 0), "{way:?}");
        }
    }
}

#[test]
fn a_panic_ends_the_pick() {
    for way in Way::ALL {
        let balancer = balancer(way, Options::default(), &[1]);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _pick = balancer.pick(&Request::new()).unwrap();
            panic!("in the middle of a request");
        }));
        assert!(result.is_err());
        assert_eq!(balancer.open_picks(id(&balancer, 0)), 0);
    }
}

#[derive(Debug)]
struct ClonePanics(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Clone for ClonePanics {
    fn clone(&self) -> Self {
        assert!(!self.0.load(std::sync::atomic::Ordering::Relaxed), "clone fails");
        Self(std::sync::Arc::clone(&self.0))
    }
}

#[test]
fn a_panicking_address_leaves_no_open_pick() {
    for (way, options) in [
        (Way::WeightedRoundRobin, Options::default()),
        (Way::WeightedLeastConnections, Options::default()),
        (Way::UriHash, bounded(1.0)),
    ] {
        let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let member = Member::named("a", ClonePanics(std::sync::Arc::clone(&fails)));
        let balancer = Balancer::new(way, options, [member]).unwrap();
        let id = balancer.id_of("a").unwrap();
        fails.store(true, std::sync::atomic::Ordering::Relaxed);
        for _ in 0..3 {
            let picked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                balancer.pick(&Request::new()).is_ok()
            }));
            assert!(picked.is_err());
        }
        fails.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(balancer.open_picks(id), 0, "{way:?}");
        assert!(balancer.pick(&Request::new()).is_ok());
    }
}

fn bounded(factor: f64) -> Options {
    Options { hash: HashOptions { bounded_load: Some(factor), ..Default::default() }, ..Default::default() }
}

fn sampled() -> Options {
    Options { least: LeastRule::Sampled(NonZeroUsize::new(2).unwrap()), ..Default::default() }
}

#[test]
fn nobody_is_said_with_a_reason() {
    let request = Request::new().uri(b"/a").source("192.0.2.1".parse().unwrap());
    for way in Way::ALL {
        for options in [Options::default(), bounded(1.0), sampled()] {
            let none = balancer(way, options, &[]);
            let reason = |balancer: &Balancer<u32>| balancer.pick(&request).map(|_| ()).unwrap_err();
            assert_eq!(reason(&none), NoPick::Nobody(NobodyReason::NoMembers));
            let two = balancer(way, options, &[1, 0]);
            two.set_health(id(&two, 0), Health::Unhealthy).unwrap();
            assert_eq!(reason(&two), NoPick::Nobody(NobodyReason::AllWeightsZero), "drained, though alone");
            two.set_health(id(&two, 1), Health::Unhealthy).unwrap();
            assert_eq!(reason(&two), NoPick::Nobody(NobodyReason::AllUnhealthy));
            two.set_status(id(&two, 0), MemberStatus::Disabled).unwrap();
            two.set_drain(id(&two, 1), Drain::Draining).unwrap();
            assert_eq!(reason(&two), NoPick::Nobody(NobodyReason::AllDisabled));
            two.set_drain(id(&two, 1), Drain::Off).unwrap();
            two.set_health(id(&two, 1), Health::Unknown).unwrap();
            assert_eq!(reason(&two), NoPick::Nobody(NobodyReason::AllWeightsZero));
            two.set_weight(id(&two, 1), 2).unwrap();
            let only = two.pick(&request).unwrap();
            assert_eq!(*only.address(), 1);
            let tried = [only.id()];
            assert_eq!(two.pick(&request.tried(&tried)).map(|_| ()).unwrap_err(), NoPick::AllTried);
            two.update([]).unwrap();
            assert_eq!(reason(&two), NoPick::Nobody(NobodyReason::NoMembers));
        }
    }
}

/// Everyone who is picked, in the order of their addresses.
fn taken(balancer: &Balancer<u32>) -> Vec<u32> {
    let mut open = Vec::new();
    let mut seen = std::collections::BTreeMap::<u32, u32>::new();
    for key in 0..400_u64 {
        let source = IpAddr::from(u128::from(key).to_be_bytes());
        let key = uri(key);
        let Ok(pick) = balancer.pick(&Request::new().uri(key.as_bytes()).source(source)) else { break };
        *seen.entry(*pick.address()).or_default() += 1;
        open.push(pick);
    }
    let shares = seen.values().map(|count| f64::from(*count) * seen.len() as f64 / 400.0);
    assert!(shares.into_iter().all(|share| (0.7..1.3).contains(&share)), "equals: {seen:?}");
    seen.into_keys().collect()
}

#[test]
fn a_weight_of_zero_takes_nothing_by_any_strategy() {
    let member = |address: u32, weight: u16, role: Role| Member::new(address).weight(weight).role(role);
    for way in Way::ALL {
        for options in [Options::default(), bounded(1.25), sampled()] {
            let members = [
                member(0, 0, Role::Primary),
                member(1, 4, Role::Primary),
                member(2, 7, Role::Backup),
                member(3, 0, Role::Backup),
            ];
            let one = Balancer::new(way, options, members).unwrap();
            let state = || (one.tier(), taken(&one));
            assert_eq!(state(), (Tier::Primary, vec![1]), "{way:?}");
            // Standby members take over from drained primaries, and step back.
            one.set_weight(id(&one, 1), 0).unwrap();
            assert_eq!(state(), (Tier::Backup, vec![2]), "{way:?}");
            one.set_weight(id(&one, 0), 3).unwrap();
            assert_eq!(state(), (Tier::Primary, vec![0]), "{way:?}");
            one.set_health(id(&one, 0), Health::Unhealthy).unwrap();
            assert_eq!(state(), (Tier::Backup, vec![2]), "{way:?}");
            one.set_weight(id(&one, 2), 0).unwrap();
            assert_eq!(state(), (Tier::Nobody(NobodyReason::AllWeightsZero), vec![]), "{way:?}");
            assert!(one.members().iter().all(|member| !member.in_rotation));
        }
    }
}

#[test]
fn fail_open_asks_drained_members_last_and_as_equals() {
    for way in Way::ALL {
        for options in [Options::default(), bounded(1.25), sampled()] {
            let options = Options { fail_open: FailOpen::AllEnabled, ..options };
            let one = balancer(way, options, &[0, 5, 0, 5]);
            let state = || (one.tier(), taken(&one));
            for down in [1, 3] {
                one.set_health(id(&one, down), Health::Unhealthy).unwrap();
            }
            assert_eq!(state(), (Tier::FailOpen, vec![1, 3]), "{way:?}: whoever has a weight");
            one.set_status(id(&one, 3), MemberStatus::Disabled).unwrap();
            one.set_weight(id(&one, 1), 0).unwrap();
            one.set_health(id(&one, 2), Health::Unhealthy).unwrap();
            assert_eq!(state(), (Tier::FailOpenEqual, vec![0, 1, 2]), "{way:?}: every enabled one");
            one.set_weight(id(&one, 2), 1).unwrap();
            assert_eq!(state(), (Tier::FailOpen, vec![2]), "{way:?}");
            one.set_health(id(&one, 2), Health::Healthy).unwrap();
            assert_eq!(state(), (Tier::Primary, vec![2]), "{way:?}");
        }
    }
}

#[test]
fn members_that_tie_take_turns() {
    for count in [3_usize, 200, 1000, 5000] {
        let balancer = balancer(Way::WeightedLeastConnections, Options::default(), &vec![7; count]);
        let pickers = [balancer.picker(), balancer.picker()];
        let request = Request::new();
        let turns = |pick: &dyn Fn() -> u32| {
            let mut seen = vec![0; count];
            (0..count).for_each(|_| seen[pick() as usize] += 1);
            assert!(seen.iter().all(|seen| *seen == 1), "{count} members");
        };
        // Each of them sees everyone, whatever the others did before.
        for _ in 0..3 {
            turns(&|| *pickers[0].pick(&request).unwrap().address());
            turns(&|| *pickers[1].pick(&request).unwrap().address());
            turns(&|| *balancer.pick(&request).unwrap().address());
        }
    }
}

#[test]
fn refused_updates_change_nothing() {
    let one = balancer(Way::WeightedRoundRobin, Options::default(), &[1]);
    let twice = one.update([Member::new(5), Member::new(6), Member::new(5)]);
    assert_eq!(twice, Err(UpdateError::DuplicateIdentity("5".into())));
    assert_eq!(*one.pick(&Request::new()).unwrap().address(), 0);
}

#[test]
fn large_balancers_reach_everyone() {
    for count in [65_537_u32, 100_000] {
        for way in Way::ALL {
            let members = (0..count).map(|member| Member::new(member).weight(1));
            let balancer = Balancer::new(way, Options::default(), members).unwrap();
            let picker = balancer.picker();
            let mut seen = vec![false; count as usize];
            let mut open = Vec::new();
            for key in 0..count {
                let key = uri(key.into());
                let pick = picker.pick(&Request::new().uri(key.as_bytes())).unwrap();
                seen[*pick.address() as usize] = true;
                open.push(pick);
            }
            let reached = seen.iter().filter(|seen| **seen).count();
            match way {
                Way::WeightedRoundRobin | Way::WeightedLeastConnections => {
                    assert_eq!(reached, count as usize);
                }
                // n keys over n members leave 1/e without one.
                Way::SourceHash | Way::UriHash => assert!(reached as f64 > 0.6 * f64::from(count)),
            }
            let upper = open.iter().filter(|pick| *pick.address() >= 65_536).count();
            assert!(upper >= (count as usize - 65_536) / 2, "{upper} of the members beyond 2^16");
        }
    }
}

#[test]
fn weights_of_one_and_ten_thousand_together() {
    for way in Way::ALL {
        let balancer = balancer(way, Options::default(), &[1, MAX_WEIGHT]);
        let mut heavy = 0;
        for key in 0..20_002_u64 {
            let source = IpAddr::from(u128::from(key).to_be_bytes());
            let key = uri(key);
            let pick = balancer.pick(&Request::new().uri(key.as_bytes()).source(source)).unwrap();
            heavy += u32::from(*pick.address() == 1);
            if way == Way::WeightedLeastConnections {
                std::mem::forget(pick);
            }
        }
        assert!(heavy >= 19_980, "{way:?}: {heavy}");
        assert!(way != Way::WeightedRoundRobin || heavy == 20_000);
    }
}

#[test]
fn slow_start_ramps_up() {
    for aggression in [1.0, 2.0] {
        let slow = SlowStart { window: Duration::from_secs(100), aggression };
        for way in Way::ALL {
            let options = Options { slow_start: Some(slow), ..Default::default() };
            let balancer = balancer(way, options, &[10, 10]);
            let percent = || balancer.members()[0].ramp_percent;
            let start = Duration::from_secs(1000);
            assert_eq!(balancer.advance(start), None);
            assert_eq!(percent(), 100, "members that begin healthy need no slow start");
            balancer.set_health(id(&balancer, 0), Health::Unhealthy).unwrap();
            balancer.set_health(id(&balancer, 0), Health::Healthy).unwrap();
            assert_eq!(percent(), 10);
            let mut now = start;
            let mut seen = Vec::new();
            while let Some(next) = balancer.advance(now) {
                assert!(next > now, "time moves on");
                seen.push(percent());
                now = next;
            }
            assert_eq!(percent(), 100);
            assert_eq!(seen.first(), Some(&10));
            assert!(seen.is_sorted() && seen.len() >= 15, "{seen:?}");
            let took = now - start;
            assert!(took >= slow.window && took < slow.window + Duration::from_secs(1), "{took:?}");
        }
    }
}

#[test]
fn a_ramping_member_takes_its_part() {
    let slow = SlowStart::linear(Duration::from_secs(100));
    let options = Options { slow_start: Some(slow), ..Default::default() };
    for way in [Way::WeightedRoundRobin, Way::UriHash] {
        let balancer = balancer(way, options, &[10, 10]);
        balancer.set_health(id(&balancer, 0), Health::Unhealthy).unwrap();
        balancer.set_health(id(&balancer, 0), Health::Healthy).unwrap();
        balancer.advance(Duration::from_secs(50));
        let mine = map(&balancer, 30_000).iter().filter(|member| **member == 0).count() as f64;
        assert!((mine / 30_000.0 - 1.0 / 3.0).abs() < 0.02, "{way:?}: half of a half: {mine}");
    }
}

#[test]
fn raised_weights_move_keys_only_to_the_member() {
    let weights: Vec<u16> = (0..100).map(|member| 1 + member % 10).collect();
    let balancer = balancer(Way::UriHash, Options::default(), &weights);
    let before = map(&balancer, 20_000);
    for weight in [6, 16, 17, 40, 1000, 10_000] {
        balancer.set_weight(id(&balancer, 4), weight).unwrap();
        let after = map(&balancer, 20_000);
        assert!(before.iter().zip(&after).all(|(old, new)| old == new || *new == 4), "{weight}");
        assert!(before != after);
        // Whoever is made with these weights has the same map.
        let mut raised = weights.clone();
        raised[4] = weight;
        assert_eq!(map(&self::balancer(Way::UriHash, Options::default(), &raised), 20_000), after);
        balancer.set_weight(id(&balancer, 4), 5).unwrap();
        assert_eq!(map(&balancer, 20_000), before);
    }
}

#[test]
fn a_weight_of_zero_moves_only_the_members_own_keys() {
    // Two members have no weight from the start; 64 columns is where a table doubles.
    for count in [20, 62, 63, 64, 100] {
        let weights: Vec<u16> =
            (0..count).map(|member| if member < 2 { 0 } else { 8 + member % 8 }).collect();
        let balancer = balancer(Way::UriHash, Options::default(), &weights);
        let before = map(&balancer, 5000);
        balancer.set_weight(id(&balancer, 4), 0).unwrap();
        let without = map(&balancer, 5000);
        for (old, new) in before.iter().zip(&without) {
            assert!(*new != 4 && (old == new || *old == 4), "{count}: from {old} to {new}");
        }
        // The first weight of a member draws keys only to it.
        balancer.set_weight(id(&balancer, 1), 9).unwrap();
        let with = map(&balancer, 5000);
        assert!(without.iter().zip(&with).all(|(old, new)| old == new || *new == 1), "{count}");
        assert!(with.contains(&1));
        balancer.set_weight(id(&balancer, 1), 0).unwrap();
        balancer.set_weight(id(&balancer, 4), 12).unwrap();
        assert_eq!(map(&balancer, 5000), before, "{count}: everything is back");
    }
}

#[test]
fn instances_with_different_histories_agree() {
    let options = Options { hash: HashOptions { seed: 42, ..Default::default() }, ..Default::default() };
    let members = |addresses: &[u32]| -> Vec<Member<u32>> {
        addresses.iter().map(|&address| Member::new(address).weight(1 + address as u16 % 5)).collect()
    };
    let straight = Balancer::new(Way::UriHash, options, members(&[1, 2, 3, 5, 8, 13])).unwrap();
    let crooked = Balancer::new(Way::UriHash, options, members(&[13, 99, 3])).unwrap();
    crooked.update(members(&[99, 8, 2])).unwrap();
    crooked.update(members(&[7, 13, 5, 2])).unwrap();
    crooked.set_health(id(&crooked, 5), Health::Unhealthy).unwrap();
    crooked.update(members(&[13, 8, 5, 3, 2, 1])).unwrap();
    crooked.set_health(id(&crooked, 5), Health::Healthy).unwrap();
    assert_eq!(map(&straight, 5000), map(&crooked, 5000));
    let other_seed = Balancer::new(Way::UriHash, Options::default(), members(&[1, 2, 3, 5, 8, 13])).unwrap();
    assert_ne!(map(&straight, 5000), map(&other_seed, 5000));
}

#[test]
fn mapped_sources_go_where_ipv4_goes() {
    let balancer = balancer(Way::SourceHash, Options::default(), &[1; 50]);
    for last in 0..=255 {
        let plain: IpAddr = format!("192.0.2.{last}").parse().unwrap();
        let mapped: IpAddr = format!("::ffff:192.0.2.{last}").parse().unwrap();
        let of = |source| *balancer.pick(&Request::new().source(source)).unwrap().address();
        assert_eq!(of(plain), of(mapped));
    }
}

#[test]
fn explanations_tell_who_and_why() {
    for way in Way::ALL {
        let balancer = balancer(way, Options::default(), &[2, 3, 4]);
        for key in 0..50 {
            let text = uri(key);
            let source = IpAddr::from([192, 0, 2, u8::try_from(key).unwrap()]);
            let request = Request::new().uri(text.as_bytes()).source(source);
            let before = balancer.total_picks();
            let explained = balancer.explain_pick(&request);
            assert_eq!(balancer.total_picks(), before);
            assert_eq!((explained.strategy, explained.tier), (way, Tier::Primary));
            let hashes = matches!(way, Way::SourceHash | Way::UriHash);
            assert_eq!(explained.key_hash.is_some(), hashes);
            // A fresh picker begins where the shared order is.
            let picked = if way == Way::WeightedRoundRobin {
                *balancer.picker().pick(&request).unwrap().address()
            } else {
                *balancer.pick(&request).unwrap().address()
            };
            assert_eq!(explained.member.unwrap().address, picked, "{way:?}");
        }
    }
}

#[test]
fn options_that_are_off_change_nothing() {
    let weights = [5, 3, 2, 9];
    for way in Way::ALL {
        let plain = balancer(way, Options::default(), &weights);
        let window = Duration::ZERO;
        let off = Options {
            slow_start: Some(SlowStart::linear(window)),
            hash: HashOptions { reserve_members: 1, ..Default::default() },
            ..Default::default()
        };
        let other = balancer(way, off, &weights);
        for balancer in [&plain, &other] {
            balancer.set_health(id(balancer, 1), Health::Unhealthy).unwrap();
            balancer.set_health(id(balancer, 1), Health::Healthy).unwrap();
        }
        assert_eq!(map(&plain, 2000), map(&other, 2000), "{way:?}");
    }
}

#[test]
fn addresses_are_what_members_were_made_with() {
    let address: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
    let balancer =
        Balancer::new(Way::WeightedRoundRobin, Options::default(), [Member::new(address)]).unwrap();
    assert_eq!(balancer.pick(&Request::new()).unwrap().address(), &address);
    assert!(balancer.id_of("[2001:db8::1]:443").is_some());
}

#[test]
fn all_four_strategies_together_take_a_hundred_bytes_a_member() {
    for count in [1000_u32, 10_000, 100_000] {
        let bytes = Way::ALL.map(|way| {
            let members = (0..count).map(|member| Member::new(member).weight(1 + (member % 10) as u16));
            Balancer::new(way, Options::default(), members).unwrap().table_bytes()
        });
        let each = bytes.map(|bytes| bytes / count as usize);
        println!("{count}: {each:?}");
        assert!(bytes.iter().sum::<usize>() <= 100 * count as usize, "{count}: {bytes:?}");
    }
}
