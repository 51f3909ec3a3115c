//! Shares, flips, weights, histories; small tables and large.

use proptest::prelude::*;

use super::*;
use crate::balance::member::FULL_RAMP;

fn hash(number: u64) -> u64 {
    fold(number.wrapping_add(1).wrapping_mul(GOLDEN), 0xD6E8_FEB8_6659_FD93)
}

fn members(weights: &[u32]) -> Vec<PlacedMember> {
    (0..)
        .zip(weights)
        .map(|(row, &weight)| PlacedMember {
            row,
            identity: hash(u64::from(row) << 32),
            weight: weight * FULL_RAMP,
        })
        .collect()
}

fn up(members: &[PlacedMember]) -> Placement {
    let table = Placement::new(members, 0).unwrap();
    for member in members {
        table.set_weight(member.row, member.weight);
    }
    table
}

fn map(table: &Placement, keys: u64) -> Vec<u32> {
    (0..keys).map(|key| table.find(hash(key), |_| true).unwrap()).collect()
}

const KNOWN: [u32; 24] = [1, 0, 3, 0, 3, 1, 0, 0, 2, 0, 3, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 3, 1];

/// Chi-square per degree of freedom of the shares.
fn spread(map: &[u32], weights: &[u32]) -> f64 {
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let mut counts = vec![0_u32; weights.len()];
    for &row in map {
        counts[row as usize] += 1;
    }
    let square: f64 = counts
        .iter()
        .zip(weights)
        .map(|(&count, &weight)| {
            let expected = map.len() as f64 * f64::from(weight) / total;
            (f64::from(count) - expected).powi(2) / expected
        })
        .sum();
    square / (weights.len() - 1) as f64
}

#[test]
fn shares_follow_weights() {
    let sets: [Vec<u32>; 9] = [
        (0..1000).map(|member| 1 + member % 10).collect(),
        vec![1; 1000],
        (0..1000).map(|member| 1 + (member * 7919) % 100).collect(),
        vec![3, 1, 4, 1, 5],
        vec![100; 64],
        std::iter::once(200).chain(std::iter::repeat_n(1, 299)).collect(),
        vec![2, 1],
        vec![9999, 10_000, 1, 5000, 2],
        (0..200).map(|member| 1 + (member * 7919) % 10_000).collect(),
    ];
    for weights in sets {
        let keys = 400 * weights.len() as u64 + 100_000;
        let ratio = spread(&map(&up(&members(&weights)), keys), &weights);
        let allowed = 5.0 * (2.0 / (weights.len() - 1) as f64).sqrt();
        assert!((ratio - 1.0).abs() <= allowed, "{ratio} +- {allowed} for {} members", weights.len());
    }
}

#[test]
fn shares_follow_weights_when_most_are_down() {
    let weights = vec![1_u32; 1000];
    let all = members(&weights);
    let table = up(&all);
    for member in &all[20..] {
        table.set_weight(member.row, 0);
    }
    let ratio = spread(&map(&table, 200_000), &weights[..20]);
    assert!((ratio - 1.0).abs() <= 5.0 * (2.0_f64 / 19.0).sqrt(), "{ratio}");
    for member in &all[1..] {
        table.set_weight(member.row, 0);
    }
    assert!(map(&table, 2000).iter().all(|row| *row == 0));
    table.set_weight(0, 0);
    assert_eq!(table.find(7, |_| true), None);
}

#[test]
fn a_heavy_member_among_many_light_ones_gets_its_share() {
    let weights: Vec<u32> = std::iter::once(10_000).chain(std::iter::repeat_n(1, 999)).collect();
    let table = up(&members(&weights));
    let before = map(&table, 20_000);
    let share = before.iter().filter(|row| **row == 0).count() as f64 / 20_000.0;
    assert!((share - 10_000.0 / 10_999.0).abs() < 0.01, "{share}");
    table.set_weight(0, 0);
    assert!(map(&table, 2000).iter().all(|row| *row != 0));
    table.set_weight(0, 10_000 * FULL_RAMP);
    assert_eq!(map(&table, 20_000), before);
}

/// Searches may end early by what they know of the weights; it never changes the answer.
#[test]
fn what_a_search_knows_of_the_weights_changes_no_answer() {
    let table = up(&members(&[7; 50]));
    let even = map(&table, 5000);
    let hits =
        |table: &Placement| -> Vec<u32> { (0..5000).map(|key| table.hit(hash(key)).unwrap()).collect() };
    assert!(table.range().is_even);
    assert_eq!(hits(&table), even);
    // Someone heavier comes and goes: the range stays wide until it is tuned.
    table.set_weight(3, 9 * FULL_RAMP);
    assert_eq!(hits(&table), map(&table, 5000));
    table.set_weight(3, 7 * FULL_RAMP);
    assert!(!table.range().is_even);
    assert_eq!(hits(&table), even);
    table.tune();
    assert!(table.range().is_even);
    assert_eq!(hits(&table), even);
    // Nobody is left to tune by.
    (0..50).for_each(|row| table.set_weight(row, 0));
    table.tune();
    assert_eq!(table.hit(1), None);
    (0..50).for_each(|row| table.set_weight(row, 7 * FULL_RAMP));
    assert_eq!(hits(&table), even);
}

/// What changes this moves keys between instances of different versions.
#[test]
fn some_keys_live_where_they_always_did() {
    assert_eq!(map(&up(&members(&[5, 3, 2, 4])), 24), KNOWN);
}

#[test]
fn tables_beyond_seventeen_bits_work() {
    let weights = vec![1; 140_000];
    let table = up(&members(&weights));
    let found = map(&table, 300_000);
    assert!(found.iter().any(|row| *row >= 65_536));
    let upper = found.iter().filter(|row| **row >= 70_000).count() as f64 / 300_000.0;
    assert!((upper - 0.5).abs() < 0.01, "{upper}");
}

/// Weights of every size, and those beside powers of two.
fn weight() -> impl Strategy<Value = u32> {
    let power = (0_u32..14, 0_u32..3).prop_map(|(power, step)| ((1 << power) + step).max(2) - 1);
    prop_oneof![1_u32..=10, 1_u32..=10_000, power, Just(10_000)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn who_goes_down_moves_only_its_own_keys(
        weights in prop::collection::vec(1_u32..50, 2..40),
        downs in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let all = members(&weights);
        let table = up(&all);
        let first = map(&table, 3000);
        let mut before = first.clone();
        let mut gone = std::collections::BTreeSet::new();
        for down in downs {
            let row = down.index(weights.len()) as u32;
            if gone.len() + 1 == weights.len() && !gone.contains(&row) {
                continue;
            }
            gone.insert(row);
            table.set_weight(row, 0);
            let after = map(&table, 3000);
            for (old, new) in before.iter().zip(&after) {
                prop_assert!(old == new || *old == row);
                prop_assert!(!gone.contains(new));
            }
            before = after;
        }
        for row in gone {
            table.set_weight(row, all[row as usize].weight);
        }
        prop_assert_eq!(map(&table, 3000), first);
    }

    #[test]
    fn a_changed_weight_moves_keys_only_to_or_from_its_member(
        weights in prop::collection::vec(weight(), 1..40),
        who in any::<prop::sample::Index>(),
        weight in weight(),
        ramp in 1..=FULL_RAMP,
        down in any::<prop::sample::Index>(),
    ) {
        let [who, down] = [who, down].map(|index| index.index(weights.len()));
        let made = |weights: &[u32]| {
            let table = up(&members(weights));
            // Someone else may be in slow start, or down.
            table.set_weight(down as u32, weights[down] * (ramp % FULL_RAMP));
            table
        };
        let mut changed = weights.clone();
        changed[who] = weight;
        let table = made(&weights);
        let before: Vec<_> = (0..1000).map(|key| table.hit(hash(key))).collect();
        let after: Vec<_> = { let table = made(&changed); (0..1000).map(|key| table.hit(hash(key))).collect() };
        let row = Some(who as u32);
        for (old, new) in before.iter().zip(&after) {
            let gains = weight > weights[who] && *new == row;
            let loses = weight < weights[who] && *old == row;
            // Who is down itself gains and loses nothing.
            prop_assert!(old == new || gains || loses, "{old:?} {new:?}");
        }
        // In place, with a range that lags behind and with one that does not.
        if who != down {
            for tuned in [false, true] {
                table.set_weight(who as u32, weight * FULL_RAMP);
                if tuned {
                    table.tune();
                }
                let in_place: Vec<_> = (0..1000).map(|key| table.hit(hash(key))).collect();
                prop_assert_eq!(&in_place, &after);
                table.set_weight(who as u32, weights[who] * FULL_RAMP);
            }
        }
    }

    #[test]
    fn order_of_members_does_not_matter(
        weights in prop::collection::vec(1_u32..1000, 1..60),
        shuffle in any::<u64>(),
    ) {
        let plain = members(&weights);
        let mut other = plain.clone();
        other.sort_by_key(|member| hash(member.identity ^ shuffle));
        prop_assert_eq!(map(&up(&plain), 1000), map(&up(&other), 1000));
    }

    #[test]
    fn a_joining_member_moves_little_else(weights in prop::collection::vec(1_u32..8, 20..30)) {
        // 20 to 31 columns fit 32 slots: the table keeps its size.
        let mut all = members(&weights);
        let before = map(&up(&all), 3000);
        all.push(PlacedMember { row: 99, identity: hash(99 << 32), weight: FULL_RAMP });
        let after = map(&up(&all), 3000);
        let moved = before.iter().zip(&after).filter(|(old, new)| old != new && **new != 99).count();
        prop_assert!(moved < 3000 / 3, "{} moved between others", moved);
    }
}

fn raced(slownesses: &[u32]) -> Placement {
    let slot = |(row, slowness): (u32, &u32)| KeySlot { slowness: AtomicU32::new(*slowness), row };
    let slots = (100..).zip(slownesses).map(slot).collect();
    let table = Placement { slots, range: AtomicU64::new(0), slot_of_row: Box::default() };
    table.tune();
    table
}

/// By the definition: every throw of a long time, and the least wait.
fn least(slownesses: &[u32], key: u64, accept: impl Fn(u32) -> bool) -> Option<u32> {
    let throws = (0..20_000).flat_map(|number| [dice(key, number), dice(key, number) >> 32]);
    let mut time = 0;
    let waits = throws.filter_map(|throw| {
        time += u128::from(gap(throw as u32));
        let slot = throw as usize % slownesses.len();
        let takes = slownesses[slot] > 0 && accept(slot as u32 + 100);
        takes.then(|| (time * u128::from(slownesses[slot]), slot))
    });
    waits.min_by_key(|(wait, _)| *wait).map(|(_, slot)| slot as u32 + 100)
}

fn slownesses() -> impl Strategy<Value = u32> {
    let weight = prop_oneof![1_u32..400, 1_u32..200_000, Just(20)];
    prop_oneof![2 => Just(0), 5 => weight.prop_map(|weight| u32::MAX / weight)]
}

proptest! {
    #[test]
    fn a_search_finds_who_waits_least(
        slownesses in prop::collection::vec(slownesses(), 32),
        key in any::<u64>(),
        banned in 100_u32..132,
    ) {
        let table = raced(&slownesses);
        let accept = |row: u32| row != banned && !row.is_multiple_of(3);
        let Some(SlownessRange { fastest, is_even }) = table.tuned_range() else { return Ok(()) };
        let expected = least(&slownesses, key, |_| true);
        // What is known of the weights may be anything that is not too slow.
        for known in [fastest, fastest / 2, 1] {
            let range = SlownessRange { fastest: known, is_even: is_even && known == fastest };
            table.range.store(range.to_bits(), Ordering::Release);
            prop_assert_eq!(table.hit(key), expected);
            prop_assert_eq!(table.hit_from(key, RaceState::START), expected);
            prop_assert_eq!(table.find(key, |_| true), expected);
            prop_assert_eq!(table.find(key, accept), least(&slownesses, key, accept));
        }
    }

    #[test]
    fn of_equals_the_first_hit_waits_least(up in prop::collection::vec(any::<bool>(), 32), key in any::<u64>()) {
        let slownesses: Vec<u32> = up.iter().map(|up| u32::from(*up) * 1000).collect();
        let table = raced(&slownesses);
        if let Some(hit) = table.hit_even(key) {
            prop_assert_eq!(Some(hit), least(&slownesses, key, |_| true));
        }
    }
}

#[test]
fn the_last_resort_follows_weights_and_moves_no_other_keys() {
    let weights = [1, 2, 3, 4, 0, 10];
    let slownesses: Vec<u32> =
        weights.iter().chain(&[0, 0]).map(|&weight| u32::MAX.checked_div(weight * 20).unwrap_or(0)).collect();
    let table = raced(&slownesses);
    let owners = |table: &Placement| -> Vec<Option<u32>> {
        (0..40_000_u64)
            .map(|key| table.find_among_all(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), |_| true))
            .collect()
    };
    let before = owners(&table);
    for (row, weight) in (100..).zip(weights) {
        let share = before.iter().filter(|owner| **owner == Some(row)).count() as f64 / 40_000.0;
        assert!((share - f64::from(weight) / 20.0).abs() < 0.01, "{row}: {share}");
    }
    table.slots[3].slowness.store(0, Ordering::Release);
    for (old, new) in before.iter().zip(owners(&table)) {
        assert!(*old == new || *old == Some(103));
    }
}

#[test]
fn a_search_that_gives_up_says_who_is_there() {
    // One column among so many that most searches do not meet it in time.
    let table = raced(&vec![0; 1 << 23]);
    assert_eq!(table.hit(5), None);
    table.slots[77].slowness.store(1000, Ordering::Release);
    table.tune();
    assert_eq!(table.hit(5), Some(177));
    assert_eq!(table.find(5, |_| false), None);
}

#[test]
fn gaps_are_exponential() {
    let sum: f64 = GAPS.iter().map(|gap| f64::from(*gap)).sum();
    assert!((sum / GAP_COUNT as f64 / MEAN_GAP - 1.0).abs() < 1e-4, "{sum}");
    for (index, gap) in GAPS.iter().enumerate() {
        let [shortest, longest] =
            [index + 1, index].map(|end| -(end as f64 / GAP_COUNT as f64).ln() * MEAN_GAP);
        let gap = f64::from(*gap);
        assert!(gap + 0.5 >= shortest && gap - 0.5 <= longest, "{index}: {gap}");
    }
}
