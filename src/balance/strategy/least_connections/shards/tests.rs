//! Shards: still the smallest of all, ties among all, and nothing lost when dealt anew.

use proptest::prelude::*;

use super::*;

const POOL: MemberPool = MemberPool::Primary;

fn made(weights: &[u32]) -> LeastConnections {
    let least = LeastConnections::new(Idle::Weighed);
    deal(&least, weights);
    least
}

/// Weight 0: not in rotation.
fn deal(least: &LeastConnections, weights: &[u32]) {
    let places: Vec<_> = weights.iter().map(|&weight| (weight > 0).then_some((POOL, weight))).collect();
    let mut all = least.lock_all();
    all.link_all(&places);
    all.set_active(Some(POOL));
}

fn pick(least: &LeastConnections, affinity: &ShardAffinity) -> Option<u32> {
    least.lock_least(affinity)?.pick(affinity)
}

/// Whether these are seats by D'Hondt: nobody has taken a load above the next of anyone.
fn are_seats(weights: &[u32], open: &[u32]) -> bool {
    let last = weights.iter().zip(open).map(|(weight, open)| f64::from(*open) / f64::from(*weight));
    let next = weights.iter().zip(open).map(|(weight, open)| f64::from(open + 1) / f64::from(*weight));
    last.fold(0.0, f64::max) <= next.fold(f64::INFINITY, f64::min)
}

#[test]
fn few_members_are_one_shard_and_many_are_some() {
    for (members, shards) in [(0, 1), (127, 1), (128, 2), (511, 4), (512, 8), (70_000, 8)] {
        let least = made(&vec![1; members]);
        assert_eq!(least.lock_all().used().count(), shards, "{members} members");
    }
}

#[test]
fn ties_rotate_over_all_members() {
    for members in [5, 130, 1000] {
        // Every third is lighter, and never least loaded.
        let weights: Vec<u32> = (0..members).map(|member| if member % 3 == 2 { 1 } else { 7 }).collect();
        let least = made(&weights);
        let affinity = ShardAffinity::new(3);
        let heavy = weights.iter().filter(|weight| **weight == 7).count();
        for lap in 0..4 {
            let mut seen = vec![0; weights.len()];
            for _ in 0..heavy {
                let row = pick(&least, &affinity).unwrap();
                seen[row as usize] += 1;
                least.release(row);
            }
            for (seen, weight) in seen.iter().zip(&weights) {
                assert_eq!(*seen, u32::from(*weight == 7), "lap {lap} of {members}");
            }
        }
    }
}

#[test]
fn ties_of_several_weights_rotate_over_all_members() {
    // The heavier half takes its first picks and keeps them: then all tie.
    let weights: Vec<u32> = (0..1024).map(|row| 1 + row / 8 % 2).collect();
    let least = made(&weights);
    let affinity = ShardAffinity::new(5);
    (0..512).for_each(|_| assert_eq!(weights[pick(&least, &affinity).unwrap() as usize], 2));
    for lap in 0..3 {
        let mut seen = vec![0; weights.len()];
        let mut moves = 0;
        let mut last = None;
        for _ in 0..1024 {
            let row = pick(&least, &affinity).unwrap();
            seen[row as usize] += 1;
            moves += u32::from(last.replace(row % 8) != Some(row % 8));
            least.release(row);
        }
        assert!(seen.iter().all(|picks| *picks == 1), "lap {lap}");
        // A shard is left when all of it had a turn, and not before.
        assert!(moves <= 9, "{moves} moves in lap {lap}");
    }
}

#[test]
fn picks_among_all_take_turns_between_shards() {
    let least = made(&[1; 1024]);
    let affinity = ShardAffinity::new(0);
    let picks = (0..8).map(|_| least.lock_all().pick_where(&affinity, |_| true).unwrap() % 8);
    assert_eq!(picks.fold(0, |all, shard| all | 1 << shard), 0xFF_u32);
}

#[test]
fn members_dealt_anew_stay_in_rotation() {
    let least = made(&[1; 100]);
    least.lock_all().link_all(&[Some((POOL, 1)); 600]);
    let affinity = ShardAffinity::new(0);
    let mut picks: Vec<_> = (0..600).map(|_| pick(&least, &affinity).unwrap()).collect();
    picks.sort_unstable();
    assert!(picks.into_iter().eq(0..600));
}

#[test]
fn pickers_that_met_keep_apart_for_a_while() {
    let least = made(&[1; 1024]);
    let affinities = [ShardAffinity::new(0), ShardAffinity::new(1)];
    let turn = |affinity: &ShardAffinity| {
        let row = pick(&least, affinity).unwrap();
        least.release(row);
        row % 8
    };
    // They have not met: each sees everyone, whatever the other does.
    let apart = |affinity: &ShardAffinity, picks: usize| {
        (0..picks).map(|_| 1 << turn(affinity)).fold(0_u32, |all, one| all | one)
    };
    assert!(affinities.iter().all(|affinity| apart(affinity, 1024) == 0xFF));
    // A lock that is held is a picker met.
    for affinity in &affinities {
        let held = lock(least.mutex(affinity.shard.get() % 8));
        affinity.all_had_turn.set(false);
        turn(affinity);
        drop(held);
    }
    let both = || [0, 1].map(|affinity: usize| apart(&affinities[affinity], 128));
    both();
    for _ in 0..10 {
        let [one, other] = both();
        assert_eq!(one & other, 0, "in each other's shards");
    }
    // The other rests: its shards are not left out for long.
    apart(&affinities[0], 64 * 128);
    assert_eq!(apart(&affinities[0], 1024), 0xFF);
}

#[test]
fn picks_of_many_threads_are_dhondt_seats() {
    let weights: Vec<u32> = (0..1000).map(|member| 1 + member * 7 % 13).collect();
    for round in 0..10 {
        let least = made(&weights);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (least, affinity) = (&least, ShardAffinity::new(round + thread));
                scope.spawn(move || (0..1500).for_each(|_| assert!(pick(least, &affinity).is_some())));
            }
        });
        let open: Vec<u32> = (0..1000).map(|row| least.open(row)).collect();
        assert_eq!(open.iter().sum::<u32>(), 6000);
        assert!(are_seats(&weights, &open), "round {round}");
    }
}

#[test]
fn releases_and_flips_beside_picks_add_up() {
    let weights: Vec<u32> = (0..200).map(|member| 1 + member % 10).collect();
    let least = made(&weights);
    let down = 17;
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (least, affinity) = (&least, ShardAffinity::new(thread));
            scope.spawn(move || {
                let mut open = std::collections::VecDeque::new();
                for turn in 0..5000 {
                    // Nobody may be there while a writer holds everything: then all are asked.
                    let row =
                        pick(least, &affinity).or_else(|| least.lock_all().pick_where(&affinity, |_| true));
                    open.push_back(row.unwrap());
                    if open.len() > turn % 50 {
                        least.release(open.pop_front().unwrap());
                    }
                }
                open.into_iter().for_each(|row| least.release(row));
            });
        }
        for turn in 0..500 {
            match turn % 5 {
                0 => least.link(down, None),
                1 => least.link(down, Some((POOL, 3))),
                // Two shards, or eight with rows that nobody has.
                2 => deal(&least, &weights),
                3 => deal(&least, &[&weights[..], &[0; 400]].concat()),
                _ => least.lock_all().set_active(Some(POOL)),
            }
        }
    });
    assert!((0..200).all(|row| least.open(row) == 0));
}

proptest! {
    #[test]
    fn every_pick_is_a_minimum(
        members in prop::sample::select(vec![3_usize, 128, 300, 512]),
        weights in prop::collection::vec(0_u32..6, 512),
        operations in prop::collection::vec((0_u8..20, 0_usize..512, 0_u32..6), 1..600),
    ) {
        let mut weights = weights[..members].to_vec();
        let least = made(&weights);
        let affinities = [ShardAffinity::new(0), ShardAffinity::new(1), ShardAffinity::new(7)];
        let mut open = [0_u32; 513];
        for (operation, number, weight) in operations {
            let row = number % weights.len();
            let affinity = &affinities[number % 3];
            match operation {
                0 => {
                    weights[row] = weight;
                    least.link(row as u32, (weight > 0).then_some((POOL, weight)));
                }
                1 => {
                    // More shards or fewer, with the picks that are open; rows never go.
                    let used = open.iter().rposition(|open| *open > 0).map_or(1, |last| last + 1);
                    weights.resize(number.max(used), weight + 1);
                    deal(&least, &weights);
                }
                2..6 => if open[row] > 0 {
                    open[row] -= 1;
                    least.release(row as u32);
                },
                _ => {
                    let banned = (operation == 6).then_some(row as u32);
                    let accept = |row: u32| Some(row) != banned;
                    let load = |row: usize| f64::from(open[row] + 1) / f64::from(weights[row]);
                    let able = (0..weights.len()).filter(|row| weights[*row] > 0 && accept(*row as u32));
                    let best = able.map(load).fold(f64::INFINITY, f64::min);
                    let picked = match banned {
                        None => pick(&least, affinity),
                        Some(_) => least.lock_all().pick_where(affinity, accept),
                    };
                    match picked {
                        None => prop_assert!(best.is_infinite()),
                        Some(row) => {
                            prop_assert!(accept(row));
                            prop_assert_eq!(load(row as usize), best);
                            open[row as usize] += 1;
                        }
                    }
                }
            }
            prop_assert_eq!(least.open(row as u32), open[row]);
        }
        for (row, open) in (0..).zip(&open[..weights.len()]) {
            prop_assert_eq!(least.open(row), *open);
        }
    }
}
