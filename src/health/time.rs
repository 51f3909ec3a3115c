//! Time as plain values: monotonic time and wall-clock time.
//!
//! The pure rooms never read a clock. `daemon/clock.rs` makes these values, and tests
//! make them up.

use std::ops::Add;
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

/// A duration as nanoseconds, capped at what [`MonotonicTime`] can hold.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Wall-clock time: nanoseconds since the Unix epoch. For display, and for two decisions:
/// whether a verdict from before a pause is too old to go on with, and whether a signed
/// request is (docs/security.md, "What is trusted").
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
    /// For decisions.
    pub monotonic: MonotonicTime,
    /// For people.
    pub wall: Timestamp,
}
