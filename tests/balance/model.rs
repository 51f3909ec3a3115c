//! Random operations against a plain model.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;
use vitald::balance::{
    Balancer, Drain, HashOptions, LeastRule, Member, MemberId, NoPick, Options, Request, SlowStart,
};
use vitald::channel::{FailOpen, Health, MemberStatus, Role, Standing, Strategy as Way, Tier};

use crate::{balancer, id, map, uri};

#[derive(Debug, Clone, Copy)]
enum Operation {
    Health(u32, Health),
    Status(u32, MemberStatus),
    Drain(u32, Drain),
    Weight(u32, u16),
    Update(u64),
    Advance(u64),
    Release(usize),
    Pick(u64),
    Retry(u64),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let member = 0_u32..8;
    let one = prop_oneof![
        3 => (member.clone(), prop::sample::select(&Health::ALL[..])).prop_map(|(m, h)| Operation::Health(m, h)),
        1 => (member.clone(), any::<bool>()).prop_map(|(m, on)| {
            Operation::Status(m, if on { MemberStatus::Enabled } else { MemberStatus::Disabled })
        }),
        1 => (member.clone(), any::<bool>()).prop_map(|(m, on)| {
            Operation::Drain(m, if on { Drain::Draining } else { Drain::Off })
        }),
        1 => (member, prop_oneof![Just(0), 1_u16..20, Just(10_000)]).prop_map(|(m, w)| Operation::Weight(m, w)),
        1 => any::<u64>().prop_map(Operation::Update),
        1 => (0_u64..100).prop_map(Operation::Advance),
        3 => any::<usize>().prop_map(Operation::Release),
        8 => any::<u64>().prop_map(Operation::Pick),
        1 => any::<u64>().prop_map(Operation::Retry),
    ];
    prop::collection::vec(one, 1..150)
}

fn options() -> impl Strategy<Value = Options> {
    let least = prop_oneof![
        Just(LeastRule::Exact),
        Just(LeastRule::IdleFirst),
        Just(LeastRule::Sampled(NonZeroUsize::new(2).unwrap())),
    ];
    let bound = prop_oneof![Just(None), (1.0_f64..2.0).prop_map(Some)];
    (any::<bool>(), any::<bool>(), least, bound).prop_map(|(open, slow, least, bounded_load)| Options {
        fail_open: if open { FailOpen::AllEnabled } else { FailOpen::Closed },
        slow_start: slow.then(|| SlowStart::linear(Duration::from_secs(30))),
        least,
        hash: HashOptions { bounded_load, ..Default::default() },
    })
}

#[derive(Debug, Clone, Copy)]
struct Known {
    standing: Standing,
    drain: Drain,
}

impl Known {
    fn standing(self) -> Standing {
        match self.drain {
            Drain::Off => self.standing,
            Drain::Draining => Standing { status: MemberStatus::Disabled, ..self.standing },
        }
    }
}

fn members_of(bits: u64) -> Vec<Member<u32>> {
    (0..8)
        .filter(|member| bits >> member & 1 == 1)
        .map(|member| {
            let role = if bits >> (8 + member) & 1 == 1 { Role::Backup } else { Role::Primary };
            let weight = (bits >> (16 + 4 * member) & 15) as u16;
            Member::new(member).role(role).weight(weight)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_balancer_agrees_with_the_model(
        way in prop::sample::select(&Way::ALL[..]),
        options in options(),
        first in any::<u64>(),
        operations in operations(),
    ) {
        let balancer = Balancer::new(way, options, members_of(first)).unwrap();
        let mut model: BTreeMap<u32, Known> = BTreeMap::new();
        let known = |member: &Member<u32>| {
            let Member { role, status, health, weight, .. } = *member;
            Known { standing: Standing { role, status, health, weight }, drain: Drain::Off }
        };
        model.extend(members_of(first).iter().map(|member| (member.address, known(member))));
        let pickers = [balancer.picker(), balancer.picker()];
        let mut open: Vec<(u32, Box<dyn std::any::Any + '_>)> = Vec::new();
        let mut left: BTreeMap<u32, usize> = BTreeMap::new();
        let mut now = Duration::ZERO;
        let mut picks = 0;
        for operation in operations {
            match operation {
                Operation::Health(member, health) => match balancer.id_of(&member.to_string()) {
                    Some(id) => {
                        balancer.set_health(id, health).unwrap();
                        model.get_mut(&member).unwrap().standing.health = health;
                    }
                    None => prop_assert!(!model.contains_key(&member)),
                },
                Operation::Status(member, status) => if let Some(id) = balancer.id_of(&member.to_string()) {
                    balancer.set_status(id, status).unwrap();
                    model.get_mut(&member).unwrap().standing.status = status;
                },
                Operation::Drain(member, drain) => if let Some(id) = balancer.id_of(&member.to_string()) {
                    balancer.set_drain(id, drain).unwrap();
                    model.get_mut(&member).unwrap().drain = drain;
                },
                Operation::Weight(member, weight) => if let Some(id) = balancer.id_of(&member.to_string()) {
                    balancer.set_weight(id, weight).unwrap();
                    model.get_mut(&member).unwrap().standing.weight = weight;
                },
                Operation::Update(bits) => {
                    balancer.update(members_of(bits)).unwrap();
                    let mut next = BTreeMap::new();
                    for member in members_of(bits) {
                        let mut entry = known(&member);
                        if let Some(old) = model.get(&member.address) {
                            entry.standing.health = old.standing.health;
                            entry.drain = old.drain;
                        }
                        next.insert(member.address, entry);
                    }
                    // Open picks of who left no longer show under the address.
                    for address in model.keys() {
                        if !next.contains_key(address) {
                            let count = open.iter().filter(|(member, _)| member == address).count();
                            *left.entry(*address).or_default() = count;
                            open.iter_mut().filter(|(member, _)| member == address).for_each(|pick| pick.0 += 100);
                        }
                    }
                    model = next;
                }
                Operation::Advance(seconds) => {
                    now += Duration::from_secs(seconds);
                    balancer.advance(now);
                }
                Operation::Release(which) => if !open.is_empty() {
                    drop(open.swap_remove(which % open.len()));
                },
                Operation::Pick(key) | Operation::Retry(key) => {
                    let text = uri(key);
                    let source = IpAddr::from((key as u128).to_be_bytes());
                    let mut request = Request::new();
                    if key % 7 != 0 {
                        request = request.uri(text.as_bytes()).source(source);
                    }
                    let some: Vec<MemberId> = (0..8)
                        .filter(|member| key >> member & 1 == 1)
                        .filter_map(|member: u32| balancer.id_of(&member.to_string()))
                        .collect();
                    let retry = matches!(operation, Operation::Retry(_));
                    if retry {
                        request = request.tried(&some);
                    }
                    let tier = Tier::of(model.values().map(|known| known.standing()), options.fail_open);
                    prop_assert_eq!(balancer.tier(), tier);
                    let takes =
                        |address: u32| model.get(&address).is_some_and(|known| tier.admits(known.standing()));
                    let tried = |address: u32| {
                        retry && balancer.id_of(&address.to_string()).is_some_and(|id| some.contains(&id))
                    };
                    let due: Vec<u32> = (0..8).filter(|address| takes(*address) && !tried(*address)).collect();
                    let views = balancer.members();
                    for view in &views {
                        prop_assert_eq!(view.in_rotation, takes(view.address));
                        let counted = open.iter().filter(|(member, _)| *member == view.address).count();
                        prop_assert_eq!(view.open_picks as usize, counted);
                    }
                    let total: usize = open.len();
                    let result: Result<(u32, Box<dyn std::any::Any>), NoPick> = match key % 3 {
                        0 => balancer.pick_owned(&request).map(|pick| (*pick.address(), Box::new(pick) as _)),
                        _ => {
                            // Through a picker, kept open as a picker's pick.
                            let picker = &pickers[(key % 2) as usize];
                            match picker.pick(&request) {
                                Ok(pick) => {
                                    let address = *pick.address();
                                    drop(pick);
                                    picks += 1;
                                    let again = balancer.pick_owned(&request.tried(
                                        &views.iter().map(|view| view.id).filter(|id| {
                                            Some(*id) != balancer.id_of(&address.to_string())
                                        }).collect::<Vec<_>>(),
                                    ));
                                    again.map(|pick| (*pick.address(), Box::new(pick) as _))
                                }
                                Err(error) => Err(error),
                            }
                        }
                    };
                    match result {
                        Ok((address, pick)) => {
                            prop_assert!(due.contains(&address), "{} is not due", address);
                            picks += 1;
                            // Exact least connections: nobody due was less loaded.
                            let view = |address: u32| views.iter().find(|view| view.address == address).unwrap();
                            let weight = |address: u32| {
                                let view = view(address);
                                if view.weight == 0 { 100 } else { u64::from(view.weight) * u64::from(view.ramp_percent) }
                            };
                            let load = |address: u32| u64::from(view(address).open_picks) + 1;
                            if way == Way::WeightedLeastConnections && options.least == LeastRule::Exact {
                                for &other in &due {
                                    prop_assert!(load(address) * weight(other) <= load(other) * weight(address));
                                }
                            }
                            let hashes = matches!(way, Way::SourceHash | Way::UriHash);
                            if let (true, false, Some(factor)) = (hashes, retry || key % 3 != 0, options.hash.bounded_load) {
                                let all: u64 = due.iter().map(|address| weight(*address)).sum();
                                let share = factor * (total + 1) as f64 * weight(address) as f64 / all as f64;
                                prop_assert!(load(address) as f64 <= share.ceil().max(1.0) + 1e-3 * share);
                            }
                            open.push((address, pick));
                        }
                        Err(error) => {
                            prop_assert!(due.is_empty(), "{:?} though {:?} are due", error, due);
                            let expected = match tier {
                                Tier::Nobody(reason) => NoPick::Nobody(reason),
                                _ => NoPick::AllTried,
                            };
                            prop_assert_eq!(error, expected);
                        }
                    }
                }
            }
        }
        prop_assert_eq!(balancer.total_picks(), picks);
        open.clear();
        prop_assert!(balancer.members().iter().all(|member| member.open_picks == 0));
    }

    #[test]
    fn flips_in_any_order_give_one_map(
        weights in prop::collection::vec(1_u16..20, 2..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..30),
    ) {
        let one = balancer(Way::UriHash, Options::default(), &weights);
        let other = balancer(Way::UriHash, Options::default(), &weights);
        let mut last = BTreeMap::new();
        for (member, up) in &flips {
            let member = member.index(weights.len()) as u32;
            let health = if *up { Health::Healthy } else { Health::Unhealthy };
            one.set_health(id(&one, member), health).unwrap();
            last.insert(member, health);
        }
        // The other saw only the outcome, in the order of members.
        for (member, health) in last {
            other.set_health(id(&other, member), health).unwrap();
        }
        if let Tier::Primary = one.tier() {
            prop_assert_eq!(map(&one, 1000), map(&other, 1000));
        }
    }
}
