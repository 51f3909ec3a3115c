//! Every pick against a scan of all members; D'Hondt; rotation of ties.

use proptest::prelude::*;

use super::*;

fn made(weights: &[u32], idle: Idle) -> Order {
    let mut least = Order::new(idle);
    for (row, &weight) in (0..).zip(weights) {
        least.link(row, Some((MemberPool::Primary, weight)));
    }
    least
}

fn pick(order: &mut Order) -> Option<u32> {
    order.pick(MemberPool::Primary).map(|(row, _)| row)
}

fn pick_where(order: &mut Order, able: impl Fn(u32) -> bool) -> Option<u32> {
    let (_, row) = order.least_where(MemberPool::Primary, able)?;
    order.open_pick(row);
    Some(row)
}

/// D'Hondt: seat by seat to the largest weight / (seats + 1); ties to the first.
fn dhondt(weights: &[u32], seats: usize) -> Vec<u32> {
    let mut counts = vec![0; weights.len()];
    for _ in 0..seats {
        let mut best = 0;
        for other in 1..weights.len() {
            let challenger = u64::from(weights[other]) * u64::from(counts[best] + 1);
            let champion = u64::from(weights[best]) * u64::from(counts[other] + 1);
            if challenger > champion {
                best = other;
            }
        }
        counts[best] += 1;
    }
    counts
}

#[test]
fn ties_rotate() {
    let mut least = made(&[7; 5], Idle::Weighed);
    let order: Vec<u32> = (0..10).map(|_| pick(&mut least).unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    // Picked and released at once, everyone has a turn.
    let mut least = made(&[1; 4], Idle::Weighed);
    let mut seen = Vec::new();
    for _ in 0..8 {
        let row = pick(&mut least).unwrap();
        seen.push(row);
        least.release(row);
    }
    assert_eq!(seen, [0, 1, 2, 3, 0, 1, 2, 3]);
}

#[test]
fn all_at_once_is_as_one_by_one() {
    let weights: Vec<u32> = (0..40).map(|member| 1 + member * 7 % 9).collect();
    let mut one_by_one = made(&weights, Idle::Weighed);
    let mut at_once = Order::new(Idle::Weighed);
    let places = |without: u32| {
        let placed = (0..).zip(&weights);
        placed.map(move |(row, &weight)| (row != without).then_some((MemberPool::Primary, weight)))
    };
    at_once.link_all(places(u32::MAX));
    for _ in 0..300 {
        assert_eq!(pick(&mut one_by_one), pick(&mut at_once));
    }
    // Open picks stay, in rotation and out of it.
    let open = at_once.open(7);
    at_once.link_all(places(7));
    assert!(open > 0 && at_once.open(7) == open);
    at_once.release(7);
    assert_eq!(at_once.open(7), open - 1);
    for _ in 0..300 {
        let load = |row: u32, open: u32| f64::from(open + 1) / f64::from(weights[row as usize]);
        let loads = (0..40).filter(|row| *row != 7).map(|row| load(row, at_once.open(row)));
        let least = loads.fold(f64::INFINITY, f64::min);
        let row = pick(&mut at_once).unwrap();
        assert!(row != 7 && load(row, at_once.open(row) - 1) == least);
    }
}

#[test]
fn idle_members_go_first() {
    let mut least = made(&[100, 1], Idle::First);
    assert_eq!(pick(&mut least), Some(0));
    assert_eq!(pick(&mut least), Some(1), "idle, though light");
    assert_eq!(pick(&mut least), Some(0), "then by weight");
    let mut exact = made(&[100, 1], Idle::Weighed);
    let picks: Vec<_> = (0..3).map(|_| pick(&mut exact)).collect();
    assert_eq!(picks, [Some(0); 3]);
}

#[test]
fn releases_of_members_that_left_count() {
    let mut least = made(&[1, 1], Idle::Weighed);
    let row = pick(&mut least).unwrap();
    least.link(row, None);
    assert_eq!(least.open(row), 1);
    least.release(row);
    least.release(row);
    assert_eq!(least.open(row), 0, "and never below zero");
    assert_eq!(pick(&mut least), Some(1 - row));
    assert_eq!(least.pick(MemberPool::Backup), None);
}

proptest! {
    #[test]
    fn picks_without_release_are_dhondt_seats(
        weights in prop::collection::vec(1_u32..50, 1..20),
        picks in 0_usize..300,
    ) {
        let mut least = made(&weights, Idle::Weighed);
        let mut counts = vec![0_u32; weights.len()];
        for _ in 0..picks {
            counts[pick(&mut least).unwrap() as usize] += 1;
        }
        // Equal up to ties: the same multiset of taken quotients.
        let quotients = |counts: &[u32]| {
            let mut all: Vec<(u64, u64)> = Vec::new();
            for (&count, &weight) in counts.iter().zip(&weights) {
                all.extend((1..=u64::from(count)).map(|row| (u64::from(weight), row)));
            }
            all.sort_by(|left, right| (right.0 * left.1).cmp(&(left.0 * right.1)));
            all
        };
        let ours = quotients(&counts);
        let expected = quotients(&dhondt(&weights, picks));
        prop_assert_eq!(ours.len(), expected.len());
        for (left, right) in ours.iter().zip(&expected) {
            prop_assert_eq!(left.0 * right.1, right.0 * left.1);
        }
    }

    #[test]
    fn every_pick_is_a_minimum(
        // Few weights, and so many that most members are alone in their class.
        operations in prop::sample::select(vec![2_u32, 6, 60])
            .prop_flat_map(|top| prop::collection::vec((0_u8..9, 0_u32..12, 0..top), 1..400)),
        idle_first in any::<bool>(),
    ) {
        let idle = if idle_first { Idle::First } else { Idle::Weighed };
        let mut least = Order::new(idle);
        let mut weights = [None::<u32>; 12];
        let mut open = [0_u32; 12];
        for (operation, row, weight) in operations {
            match operation {
                0 => {
                    weights[row as usize] = None;
                    least.link(row, None);
                }
                1 => {
                    weights[row as usize] = Some(weight + 1);
                    least.link(row, Some((MemberPool::Primary, weight + 1)));
                }
                8 => {
                    // Everyone anew, with the picks that are open.
                    let places = weights.map(|weight| weight.map(|weight| (MemberPool::Primary, weight)));
                    least.link_all(places.into_iter());
                }
                2 | 3 => {
                    if open[row as usize] > 0 {
                        open[row as usize] -= 1;
                        least.release(row);
                    }
                }
                _ => {
                    let banned = (operation == 7).then_some(row);
                    let able = |row: u32| Some(row) != banned;
                    let key = |row: usize| {
                        let load = if open[row] == 0 && idle_first { 0 } else { open[row] + 1 };
                        weights[row].map(|weight| f64::from(load) / f64::from(weight))
                    };
                    let best = (0..12)
                        .filter(|&row| able(row as u32))
                        .filter_map(key)
                        .fold(f64::INFINITY, f64::min);
                    let picked = match banned {
                        None => pick(&mut least),
                        Some(_) => pick_where(&mut least, able),
                    };
                    match picked {
                        None => prop_assert!(best.is_infinite()),
                        Some(row) => {
                            prop_assert!(able(row));
                            prop_assert_eq!(key(row as usize), Some(best));
                            open[row as usize] += 1;
                        }
                    }
                }
            }
            for row in 0..12 {
                prop_assert_eq!(least.open(row), open[row as usize]);
            }
        }
    }
}
