//! How long a key waits from one of its throws to the next: exponential, by table.
//!
//! Ten random bits choose one of 1024 equally likely gaps. Each is the mean of its
//! part of the distribution, so that all of them have the mean that they should. Made
//! by the compiler, in integers and in arithmetic that is the same on every machine:
//! instances that agree on a key must agree on these.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "evaluated by the compiler, which refuses what is out of range"
)]

/// Random bits of a gap.
pub(super) const GAP_BITS: u32 = 10;

const COUNT: usize = 1 << GAP_BITS;

/// The mean of all gaps.
const MEAN: f64 = 4096.0;

/// The gaps, from the longest to the shortest.
pub(super) static GAPS: [u16; COUNT] = gaps();

const fn gaps() -> [u16; COUNT] {
    let logarithms = logarithms();
    let count = COUNT as f64;
    let mut gaps = [0; COUNT];
    let mut index = 0;
    let mut below = 0.0;
    while index < COUNT {
        // The area under -ln(x), from 0 up to the end of this part.
        let end = (index + 1) as f64 / count;
        let area = end - end * (logarithms[index + 1] - logarithms[COUNT]);
        gaps[index] = ((area - below) * count * MEAN + 0.5) as u16;
        below = area;
        index += 1;
    }
    gaps
}

/// ln(n), from 1 on.
const fn logarithms() -> [f64; COUNT + 1] {
    let mut logarithms = [0.0; COUNT + 1];
    let mut number = 1;
    while number < COUNT {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exponential() {
        let sum: f64 = GAPS.iter().map(|gap| f64::from(*gap)).sum();
        assert!((sum / COUNT as f64 / MEAN - 1.0).abs() < 1e-4, "{sum}");
        for (index, gap) in GAPS.iter().enumerate() {
            let [shortest, longest] = [index + 1, index].map(|end| -(end as f64 / COUNT as f64).ln() * MEAN);
            let gap = f64::from(*gap);
            assert!(gap + 0.5 >= shortest && gap - 0.5 <= longest, "{index}: {gap}");
        }
    }
}
