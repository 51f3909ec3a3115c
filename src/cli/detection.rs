//! The longest time until a verdict, computed from a health config.
//!
//! `vitald check` prints it, because thresholds and interval, not the timeout
//! alone, decide how long a dead member still takes traffic.

use std::time::Duration;

use crate::channel::HealthCheck;

/// Upper bounds for one channel, of a prober that is not overloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Detection {
    /// From the daemon's start to a member's first verdict.
    pub(super) first: Duration,
    /// From a member's failure to `unhealthy`.
    pub(super) down: Duration,
    /// From a member's return to `healthy`.
    pub(super) up: Duration,
}

impl Detection {
    /// `window` is how far first probes are spread where the interval is long.
    ///
    /// A member that fails just after a good answer is asked again one interval
    /// later; the last of `threshold` probes starts `threshold` intervals later
    /// and takes at most the timeout.
    pub(super) fn of(check: &HealthCheck, window: Duration) -> Self {
        Self::from_timing(
            check.interval(),
            check.timeout(),
            u32::from(check.threshold_normal()),
            u32::from(check.threshold_abnormal()),
            window,
        )
    }

    fn from_timing(interval: Duration, timeout: Duration, up: u32, down: u32, window: Duration) -> Self {
        // Up to this long after the start the first probe begins: see
        // `health::schedule`, which brings it forward only in long intervals.
        let spread = if interval <= window * 2 { interval } else { window };
        Self {
            first: spread + interval * (up.max(down).saturating_sub(1)) + timeout,
            down: interval * down + timeout,
            up: interval * up + timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_thresholds_interval_and_timeout() {
        let seconds = Duration::from_secs;
        let window = seconds(3);
        let short = Detection::from_timing(seconds(5), seconds(2), 2, 3, window);
        assert_eq!(short, Detection { first: seconds(17), down: seconds(17), up: seconds(12) });
        let long = Detection::from_timing(seconds(60), seconds(10), 2, 1, window);
        assert_eq!(long, Detection { first: seconds(73), down: seconds(70), up: seconds(130) });
    }
}
