//! The random numbers of a key: where it throws, when, and how long a slot waits that no
//! throw hits. `placement` calls this.
//!
//! Everything is in integers, and the compiler computes the tables with arithmetic that
//! is the same on every machine: instances that agree on a key must agree on its times.

use crate::balance::hash::{GOLDEN, fold};

/// The n-th word of a key's throws: two throws, the lower half first. The gap before a
/// throw is its upper `GAP_BITS`, the slot its lower bits. Beyond four million slots the
/// two share bits, the least of the gap: less than a thousandth of it.
#[inline(always)]
pub(super) fn dice(key: u64, number: u64) -> u64 {
    fold(key ^ number.wrapping_add(1).wrapping_mul(GOLDEN), 0xA076_1D64_78BD_642F)
}

/// What decides how long a slot waits that no throw hits: the larger, the shorter. No
/// throw uses these dice.
#[inline(always)]
pub(super) fn late_dice(key: u64, slot: u32) -> u64 {
    dice(key, !u64::from(slot))
}

/// The time between a throw and the one before: ten random bits choose one of 1024 equally
/// likely gaps, each the mean of its part of the exponential distribution.
#[inline(always)]
pub(super) fn gap(throw: u32) -> u64 {
    GAPS[(throw >> (32 - GAP_BITS)) as usize].into()
}

/// Random bits of a gap.
const GAP_BITS: u32 = 10;

const GAP_COUNT: usize = 1 << GAP_BITS;

/// The mean of all gaps.
pub(super) const MEAN_GAP: u64 = 4096;

/// The gaps, from the longest to the shortest.
static GAPS: [u16; GAP_COUNT] = gaps();

const fn gaps() -> [u16; GAP_COUNT] {
    let logarithms = logarithms();
    let count = GAP_COUNT as f64;
    let mut gaps = [0; GAP_COUNT];
    let mut index = 0;
    let mut below = 0.0;
    while index < GAP_COUNT {
        // The area under -ln(x), from 0 up to the end of this part.
        let end = (index + 1) as f64 / count;
        let area = end - end * (logarithms[index + 1] - logarithms[GAP_COUNT]);
        gaps[index] = ((area - below) * count * MEAN_GAP as f64 + 0.5) as u16;
        below = area;
        index += 1;
    }
    gaps
}

/// ln(n), from 1 on.
const fn logarithms() -> [f64; GAP_COUNT + 1] {
    let mut logarithms = [0.0; GAP_COUNT + 1];
    let mut number = 1;
    while number < GAP_COUNT {
        // ln((n + 1) / n) is twice the inverse hyperbolic tangent of 1 / (2n + 1).
        let step = 1.0 / (2 * number + 1) as f64;
        let mut power = step;
        let mut sum = 0.0;
        let mut term = 1;
        while term < 40 {
            sum += power / term as f64;
            power *= step * step;
            term += 2;
        }
        logarithms[number + 1] = logarithms[number] + 2.0 * sum;
        number += 1;
    }
    logarithms
}

/// What [`exponential`] counts as 1.
pub(super) const EXPONENTIAL_ONE: u64 = 1 << 32;

/// Steps of the table of logarithms between 1/2 and 1.
const LOG_STEPS: usize = GAP_COUNT / 2;

/// -ln(x), from 1/2 to 1.
static LOGS: [u64; LOG_STEPS + 1] = logs();

const fn logs() -> [u64; LOG_STEPS + 1] {
    let logarithms = logarithms();
    let mut logs = [0; LOG_STEPS + 1];
    let mut index = 0;
    while index < LOG_STEPS {
        let log = logarithms[GAP_COUNT] - logarithms[LOG_STEPS + index];
        logs[index] = (log * EXPONENTIAL_ONE as f64 + 0.5) as u64;
        index += 1;
    }
    logs
}

/// -ln of a fraction of 2^64: exponentially distributed if the fraction is uniform. Exact
/// to some parts in ten thousand, also where it is small.
pub(super) fn exponential(fraction: u64) -> u64 {
    let fraction = fraction.max(1);
    let halvings = fraction.leading_zeros();
    // Without the leading one: the table's index, and the part of a step behind it.
    let rest = fraction << halvings << 1;
    let index = (rest >> (65 - GAP_BITS)) as usize;
    let part = rest << (GAP_BITS - 1) >> 32;
    let step = LOGS[index] - LOGS[index + 1];
    u64::from(halvings) * LOGS[0] + LOGS[index] - ((step * part) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exponential() {
        let sum: f64 = GAPS.iter().map(|gap| f64::from(*gap)).sum();
        assert!((sum / GAP_COUNT as f64 / MEAN_GAP as f64 - 1.0).abs() < 1e-4, "{sum}");
        for (index, gap) in GAPS.iter().enumerate() {
            let [shortest, longest] =
                [index + 1, index].map(|end| -(end as f64 / GAP_COUNT as f64).ln() * MEAN_GAP as f64);
            let gap = f64::from(*gap);
            assert!(gap + 0.5 >= shortest && gap - 0.5 <= longest, "{index}: {gap}");
        }
    }

    #[test]
    fn late_times_are_exponential_to_the_smallest() {
        let all =
            (0..64).flat_map(|shift| [1_u64 << shift, u64::MAX >> shift, u64::MAX - (u64::MAX >> shift)]);
        for fraction in all.chain((0..10_000).map(|number| dice(7, number))).filter(|fraction| *fraction > 0)
        {
            let exact = -(fraction as f64 / 2.0_f64.powi(64)).ln();
            let found = exponential(fraction) as f64 / EXPONENTIAL_ONE as f64;
            // One part in 2^32 is what is left of the smallest.
            assert!((found - exact).abs() <= 6e-4 * exact + 1e-9, "{fraction}: {found}, not {exact}");
        }
    }
}
