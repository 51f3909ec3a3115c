//! A fixed-bucket histogram of durations: plain counters, no clock, no locks.
//!
//! Filled by the drivers, summed over drivers and printed by `serve`.

use std::time::Duration;

use super::moment::nanos;

/// Upper bounds in nanoseconds of a histogram's buckets, ascending.
pub type Bounds<const N: usize> = [u64; N];

/// Buckets for probe phases: 100 microseconds to 10 seconds.
pub const PROBE_BOUNDS: Bounds<10> = [
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    25_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Buckets for the lateness of probe starts: 500 microseconds to 5 seconds.
pub const LAG_BOUNDS: Bounds<10> = [
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// Counts of durations per bucket, with their sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    bounds: &'static Bounds<N>,
    counts: [u64; N],
    above: u64,
    sum_nanos: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram over these bounds.
    #[must_use]
    pub fn new(bounds: &'static Bounds<N>) -> Self {
        Self { bounds, counts: [0; N], above: 0, sum_nanos: 0 }
    }

    /// Counts one duration.
    pub fn observe(&mut self, duration: Duration) {
        let value = nanos(duration);
        self.sum_nanos = self.sum_nanos.saturating_add(value);
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        match bucket.and_then(|bucket| self.counts.get_mut(bucket)) {
            Some(count) => *count += 1,
            None => self.above += 1,
        }
    }

    /// Adds the counts of another histogram over the same bounds.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.above += other.above;
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
    }

    /// (upper bound in nanoseconds, cumulative count) per bucket, without `+Inf`.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.bounds.iter().zip(self.counts).scan(0, |total, (bound, count)| {
            *total += count;
            Some((*bound, *total))
        })
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// The sum of all durations, in nanoseconds.
    #[must_use]
    pub fn sum_nanos(&self) -> u64 {
        self.sum_nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_the_rest_counts_above() {
        let mut histogram = Histogram::new(&LAG_BOUNDS);
        for micros in [0, 500, 501, 5_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let cumulative: Vec<_> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!((histogram.count(), histogram.sum_nanos()), (4, 5_001_002_000));
        let mut sum = Histogram::new(&LAG_BOUNDS);
        sum.merge(&histogram);
        sum.merge(&histogram);
        assert_eq!(sum.count(), 8);
    }
}
