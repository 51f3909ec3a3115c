//! Time as plain values: monotonic time, wall-clock time, and counts of durations.
//!
//! The pure rooms never read a clock. `daemon/clock.rs` makes the times, and tests
//! make them up. The drivers fill the histograms; `serve` adds them up over drivers
//! and prints them.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Monotonic nanoseconds since the daemon's start. Not affected by wall-clock
/// steps; 584 years fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MonotonicTime(pub u64);

impl MonotonicTime {
    /// The time from `earlier` to this moment; zero when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MonotonicTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub<Duration> for MonotonicTime {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

/// A duration as nanoseconds, capped at what [`MonotonicTime`] can hold.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Wall-clock time: nanoseconds since the Unix epoch. For display only; no
/// decision is taken on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Seconds since the Unix epoch, for metrics.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a metric needs microseconds at best")]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Decides.
    pub monotonic: MonotonicTime,
    /// Is shown.
    pub wall: Timestamp,
}

/// Upper bounds in microseconds of a histogram's buckets, ascending.
pub type Bounds = [u64; 10];

/// Buckets for probe phases: 100 microseconds to 10 seconds.
pub const PROBE_BOUNDS: Bounds =
    [100, 500, 1_000, 5_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000];

/// Buckets for the lateness of probe starts: 500 microseconds to 5 seconds.
pub const LAG_BOUNDS: Bounds =
    [500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// Counts of durations per bucket, with their sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static Bounds,
    counts: [u64; 10],
    above: u64,
    sum_nanos: u64,
}

impl Histogram {
    /// An empty histogram over these bounds.
    #[must_use]
    pub fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, counts: [0; 10], above: 0, sum_nanos: 0 }
    }

    /// Counts one duration.
    pub fn observe(&mut self, duration: Duration) {
        let value = nanos(duration);
        self.sum_nanos = self.sum_nanos.saturating_add(value);
        let micros = value.div_ceil(1_000);
        let bucket = self.bounds.iter().position(|bound| micros <= *bound);
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
            Some((*bound * 1_000, *total))
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
