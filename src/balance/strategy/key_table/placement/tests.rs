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

/// A column in every slot; the row is the slot.
fn raced(weights: &[u32]) -> Placement {
    let count = weights.len() as u32;
    let table = Placement {
        slots: (0..count).map(|row| KeySlot { slowness: AtomicU32::new(0), row }).collect(),
        range: AtomicU64::new(SlownessRange { fastest: u32::MAX, is_even: false }.to_bits()),
        words: words_for(weights.len()),
        levels: WeightLevels::new(weights.len(), 0..count),
        place_of_row: (0..count).map(AtomicU32::new).collect(),
    };
    for (row, weight) in (0..).zip(weights) {
        table.set_weight(row, *weight);
    }
    table.tune();
    table
}

/// By the definition: when each slot is first hit, by a throw or later; and the least wait.
fn least(weights: &[u32], key: u64, accept: impl Fn(u32) -> bool) -> Option<u32> {
    let mut first = vec![None; weights.len()];
    let mut time = 0;
    for number in 0..words_for(weights.len()) {
        for throw in [dice(key, number), dice(key, number) >> 32] {
            time += u128::from(gap(throw as u32));
            first[throw as usize % weights.len()].get_or_insert(time << 32);
        }
    }
    let late = |slot: u32| {
        let lap = weights.len() as u128 * u128::from(MEAN_GAP);
        (time << 32) + u128::from(exponential(late_dice(key, slot))) * lap
    };
    let waits =
        (0..).zip(weights).filter(|(slot, weight)| **weight > 0 && accept(*slot)).map(|(slot, weight)| {
            let hit = first[slot as usize].unwrap_or_else(|| late(slot));
            (hit * u128::from(u32::MAX / weight), slot)
        });
    waits.min().map(|(_, slot)| slot)
}

/// What a member takes, in steps; many take nothing.
fn taken() -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(0), 1 => 1_u32..400, 1 => 1_u32..=10_000 * FULL_RAMP, 1 => Just(20)]
}

proptest! {
    #[test]
    fn a_search_finds_who_waits_least(
        weights in prop_oneof![
            prop::collection::vec(taken(), 32),
            prop::collection::vec(taken(), 1024),
            // So few that throws meet none, or one that outweighs all.
            prop::collection::vec(prop_oneof![400 => Just(0), 1 => taken()], 2048),
            prop::collection::vec(prop_oneof![400 => Just(20), 1 => taken()], 2048),
        ],
        keys in prop::collection::vec(any::<u64>(), 8),
        banned in 0_u32..32,
    ) {
        let table = raced(&weights);
        let accept = |row: u32| row != banned && !row.is_multiple_of(3);
        let Some(SlownessRange { fastest, is_even }) = table.tuned_range() else {
            prop_assert_eq!(table.hit(keys[0]), None);
            return Ok(());
        };
        for key in keys {
            let expected = least(&weights, key, |_| true);
            // What is known of the weights may be anything that is not too slow.
            for known in [fastest, fastest / 2, 1] {
                let range = SlownessRange { fastest: known, is_even: is_even && known == fastest };
                table.range.store(range.to_bits(), Ordering::Release);
                prop_assert_eq!(table.hit(key), expected);
                prop_assert_eq!(table.hit_from(key, RaceState::START), expected);
                prop_assert_eq!(table.find(key, |_| true), expected);
                prop_assert_eq!(table.find(key, accept), least(&weights, key, accept));
            }
        }
    }

    #[test]
    fn of_equals_the_first_hit_waits_least(up in prop::collection::vec(any::<bool>(), 32), key in any::<u64>()) {
        let weights: Vec<u32> = up.iter().map(|up| u32::from(*up) * 1000).collect();
        let table = raced(&weights);
        if let Some(hit) = table.hit_even(key) {
            prop_assert_eq!(Some(hit), least(&weights, key, |_| true));
        }
    }

    /// Whatever was up and down before, in whatever order.
    #[test]
    fn a_map_depends_on_what_is_up_and_on_nothing_before(
        weights in prop::collection::vec(taken(), 700),
        before in prop::collection::vec((0_u32..700, taken()), 0..100),
        order in any::<u64>(),
    ) {
        let table = raced(&weights);
        before.iter().for_each(|(row, weight)| table.set_weight(*row, *weight));
        let mut rows: Vec<u32> = (0..700).collect();
        rows.sort_by_key(|row| hash(u64::from(*row) ^ order));
        rows.iter().for_each(|row| table.set_weight(*row, weights[*row as usize]));
        let new = raced(&weights);
        for key in 0..200 {
            prop_assert_eq!(table.hit(hash(key)), new.hit(hash(key)));
        }
    }
}

/// Steps of searches, throws and looks: the mean, and the most of all but one in a thousand.
fn steps(table: &Placement) -> (f64, u64) {
    let mut all: Vec<u64> = (0..4000)
        .map(|key| table.search_from(hash(key), RaceState::START, |_| true).unwrap().steps)
        .collect();
    all.sort_unstable();
    (all.iter().sum::<u64>() as f64 / 4000.0, all[4000 - 4])
}

/// Time by count: a step takes about a nanosecond. Nothing is tuned, as right after verdicts.
#[test]
fn searches_are_short_whatever_members_weigh_and_whoever_is_down() {
    let light = |count: usize| std::iter::repeat_n(1, count);
    let with_heavy = |heavy: usize, count: usize| -> Vec<u32> {
        std::iter::repeat_n(10_000, heavy).chain(light(count - heavy)).collect()
    };
    for count in [10, 1000, 10_000, 100_000] {
        let root = (2.0 * slots_for(count) as f64).sqrt();
        let mut cases: Vec<(String, Vec<u32>, usize)> = vec![(
            "weights to 10,000".into(),
            (0..count as u32).map(|member| 1 + (member * 7919) % 10_000).collect(),
            0,
        )];
        for heavy in [1, 10, 100, 1000] {
            // Large tables take long to make without optimisation.
            if heavy < count && (count < 100_000 || heavy == 1) {
                cases.push((format!("{heavy} heavy"), with_heavy(heavy, count), 0));
                cases.push((format!("{heavy} heavy, down"), with_heavy(heavy, count), heavy));
            }
        }
        for up in [1, 10, 100, 300, 1000, 1500, 3000] {
            if up < count && (count < 100_000 || up == 1500) {
                cases.push((format!("{up} up"), vec![1; count], count - up));
            }
        }
        // Each power of two has as much of the weight as any other.
        let even = |member: usize| 1 << (count / (member + 1)).ilog2().min(13);
        cases.push(("each level as heavy".into(), (0..count).map(even).collect(), 0));
        for (name, weights, down) in cases {
            let all = members(&weights);
            let table = up(&all);
            table.tune();
            all[..down].iter().for_each(|member| table.set_weight(member.row, 0));
            let (mean, most) = steps(&table);
            assert!(mean <= root + 16.0, "{count}, {name}: {mean} steps a search");
            assert!(most as f64 <= 5.0 * root + 24.0, "{count}, {name}: {most} steps");
        }
    }
}

#[test]
fn late_hits_follow_weights_and_move_no_other_keys() {
    let mut weights = vec![0; 4096];
    for (number, weight) in [1, 2, 3, 4, 10].into_iter().enumerate() {
        weights[number * 700] = weight * FULL_RAMP;
    }
    let table = raced(&weights);
    let owners = || -> Vec<u32> { (0..40_000).map(|key| table.hit(hash(key)).unwrap()).collect() };
    let before = owners();
    for (number, weight) in [1, 2, 3, 4, 10].into_iter().enumerate() {
        let share = before.iter().filter(|owner| **owner as usize == number * 700).count() as f64 / 40_000.0;
        assert!((share - f64::from(weight) / 20.0).abs() < 0.01, "{number}: {share}");
    }
    table.set_weight(2100, 0);
    for (old, new) in before.iter().zip(owners()) {
        assert!(*old == new || *old == 2100);
    }
}

#[test]
fn one_column_of_many_has_every_key() {
    let mut weights = vec![0; 1 << 16];
    assert_eq!(raced(&weights).hit(5), None);
    weights[77] = 1;
    let table = raced(&weights);
    assert!((0..100).all(|key| table.hit(hash(key)) == Some(77)));
    assert_eq!(table.find(5, |_| false), None);
}

proptest! {
    #[test]
    fn levels_list_each_slot_where_it_belongs(
        changes in prop::collection::vec((0_u32..90, taken()), 1..300),
    ) {
        let levels = WeightLevels::new(128, (0..90).map(|column| column + 5));
        let mut places: Vec<u32> = (0..90).collect();
        let mut known = std::collections::BTreeMap::new();
        for (column, weight) in changes {
            let place = places[column as usize];
            levels.relevel(place, level_of(weight), |slot, place| places[slot as usize - 5] = place);
            known.insert(column + 5, level_of(weight));
        }
        for level in 1..=HIGHEST {
            let mut listed: Vec<u32> = levels.at(level).collect();
            listed.sort_unstable();
            let expected: Vec<u32> =
                known.iter().filter(|(_, known)| **known == level).map(|(slot, _)| *slot).collect();
            prop_assert_eq!(listed, expected);
        }
        for (slot, level) in (0..).zip(levels.of_slots()) {
            prop_assert_eq!(level.load(Ordering::Relaxed), known.get(&slot).copied().unwrap_or(0));
        }
        for (column, place) in (0..).zip(places) {
            prop_assert_eq!(levels.slot_at(place), column + 5);
        }
        prop_assert_eq!(levels.highest(), known.values().copied().max().filter(|level| *level > 0));
    }
}
