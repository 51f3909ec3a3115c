//! Known answers, exact shares and deviations of one cycle.

use proptest::prelude::*;

use super::*;
use crate::balance::hash::{GOLDEN, fold};

fn parts(weights: &[u32]) -> Vec<Part> {
    (0..).zip(weights).map(|(row, &weight)| Part { row, weight }).collect()
}

fn cycle(sequence: &Sequence, picks: usize) -> Vec<u32> {
    let mut cursor = 0_u64;
    (0..picks)
        .map(|_| {
            let row = sequence.at(cursor);
            cursor = cursor.wrapping_add(sequence.step);
            row
        })
        .collect()
}

/// The largest |picks - share| over the picks.
fn deviation(order: impl Iterator<Item = u32>, weights: &[u32]) -> f64 {
    // A member's deviation peaks around its own picks: just before and after.
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let mut counts = vec![0_u64; weights.len()];
    let mut worst = 0.0_f64;
    let mut time = 0_u64;
    for row in order {
        let row = row as usize;
        let share = f64::from(weights[row]) / total;
        worst = worst.max((counts[row] as f64 - share * time as f64).abs());
        time += 1;
        counts[row] += 1;
        worst = worst.max((counts[row] as f64 - share * time as f64).abs());
    }
    for (count, &weight) in counts.iter().zip(weights) {
        worst = worst.max((*count as f64 - f64::from(weight) / total * time as f64).abs());
    }
    worst
}

#[test]
fn small_cycles_are_the_known_answers() {
    let table: &[(&[u32], &str)] = &[
        (&[5, 1, 1], "aabaaca"),
        (&[4, 3, 2], "abcabacba"),
        (&[3, 2, 1], "abacba"),
        (&[10, 1], "aaaaabaaaaa"),
        (&[7, 5, 3, 1], "abacbabacabadcba"),
        (&[1], "a"),
        (&[10_000], "a"),
        (&[3, 3, 3], "abc"),
    ];
    for (weights, expected) in table {
        for scale in [1, 7, 20] {
            let scaled: Vec<u32> = weights.iter().map(|weight| weight * scale).collect();
            let sequence = Sequence::new(&parts(&scaled)).unwrap();
            let order: String =
                cycle(&sequence, expected.len()).into_iter().map(|row| (b'a' + row as u8) as char).collect();
            assert_eq!(order, *expected, "weights {scaled:?}");
        }
    }
}

#[test]
fn nobody_has_no_sequence() {
    assert!(Sequence::new(&[]).is_none());
}

#[test]
fn heavy_and_light_together_stay_smooth() {
    let mut sets: Vec<Vec<u32>> = vec![
        (0..1000).map(|member| 1 + member % 10).collect(),
        (0..10).map(|member| 1 + member * 1111).collect(),
        std::iter::once(1000).chain(std::iter::repeat_n(1, 999)).collect(),
        std::iter::repeat_n(100, 10).chain(std::iter::repeat_n(1, 990)).collect(),
        vec![1, 10_000],
        vec![10_000, 1, 1, 1],
    ];
    sets.push((0..800).map(|member| 1 + (member * 7919) % 10_000).collect());
    for weights in sets {
        let sequence = Sequence::new(&parts(&weights)).unwrap();
        assert!(!matches!(sequence.layout, CycleLayout::Spread(_)));
        let order = cycle(&sequence, sequence.length as usize);
        let worst = deviation(order.into_iter(), &weights);
        assert!(worst <= 1.0, "{worst} for {} members", weights.len());
    }
}

/// Deterministic numbers, different for each seed.
fn random(seed: u64) -> impl FnMut(u32) -> u32 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_add(GOLDEN);
        scale(fold(state, GOLDEN ^ (state >> 29)), u64::from(below)) as u32
    }
}

#[test]
fn long_cycles_deviate_by_less_than_three_picks() {
    let mut sets: Vec<Vec<u32>> = Vec::new();
    for (seed, members) in [(1, 10_000), (2, 10_000), (3, 1_000), (4, 30_000)] {
        let mut random = random(seed);
        sets.push((0..members).map(|_| 1 + random(10_000)).collect());
    }
    let mut random = random(5);
    // Mostly light with a few heavy, all close to each other, and few of them.
    sets.push((0..10_000).map(|_| if random(100) == 0 { 10_000 } else { 1 + random(999) }).collect());
    sets.push((0..5_000).map(|_| 9_990 + random(10)).collect());
    sets.push((0..10).map(|_| 190_001 + random(9_999) + random(2)).chain(vec![199_999; 14]).collect());
    // Slow start: weights count in twentieths.
    sets.push((0..2_000).map(|member| (1 + random(10_000)) * (20 - member % 19)).collect());
    for weights in sets {
        let sequence = Sequence::new(&parts(&weights)).unwrap();
        assert!(matches!(sequence.layout, CycleLayout::Spread(_)));
        let worst = deviation(cycle(&sequence, 5_000_000).into_iter(), &weights);
        println!("{} members: {worst}", weights.len());
        assert!(worst < 2.5, "{worst} for {} members", weights.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_window_of_a_cycle_gives_exact_shares(
        weights in prop::collection::vec(1_u32..40, 1..60),
        offset in any::<u64>(),
    ) {
        let sequence = Sequence::new(&parts(&weights)).unwrap();
        let divisor = weights.iter().fold(0, |divisor, &weight| gcd(divisor, weight.into()));
        let mut cursor = offset;
        let mut counts = vec![0; weights.len()];
        for _ in 0..sequence.length {
            counts[sequence.at(cursor) as usize] += 1;
            cursor = cursor.wrapping_add(sequence.step);
        }
        let expected: Vec<u32> = weights.iter().map(|weight| weight / divisor as u32).collect();
        prop_assert_eq!(counts, expected);
    }

    #[test]
    fn computed_orders_are_exact_too(
        weights in prop::collection::vec(prop_oneof![1_u32..5, 1_u32..200, Just(200)], 1..60),
    ) {
        let parts = parts(&weights);
        let spread = Spread::new(&parts, 1);
        let length = weights.iter().sum::<u32>();
        let order: Vec<u32> = (0..u64::from(length)).map(|slot| spread.at(slot)).collect();
        let mut counts = vec![0; weights.len()];
        for &row in &order {
            counts[row as usize] += 1;
        }
        prop_assert_eq!(&counts, &weights, "one cycle gives everyone its weight");
        let worst = deviation(order.into_iter(), &weights);
        prop_assert!(worst < 2.5, "{}", worst);
    }

    #[test]
    fn scaling_all_weights_changes_nothing(
        weights in prop::collection::vec(1_u32..100, 1..40),
        factor in 1_u32..100,
    ) {
        let plain = Sequence::new(&parts(&weights)).unwrap();
        let scaled: Vec<Part> =
            parts(&weights).into_iter().map(|part| Part { weight: part.weight * factor, ..part }).collect();
        let scaled = Sequence::new(&scaled).unwrap();
        let picks = (plain.length as usize).min(10_000);
        prop_assert_eq!(cycle(&plain, picks), cycle(&scaled, picks));
    }
}

proptest! {
    // Long cycles: few, as they take a while without optimisation.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn deviation_is_bounded(
        weights in prop::collection::vec(prop_oneof![1_u32..10, 1_u32..1000, 1_u32..=10_000], 1..200),
    ) {
        let sequence = Sequence::new(&parts(&weights)).unwrap();
        let order = cycle(&sequence, (sequence.length as usize).min(300_000));
        let bound = if matches!(sequence.layout, CycleLayout::Spread(_)) { 2.5 } else { 1.0 };
        let worst = deviation(order.into_iter(), &weights);
        prop_assert!(worst <= bound, "{} for {:?}", worst, weights);
    }
}
