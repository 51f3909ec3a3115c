//! How long it takes at worst until a verdict follows from what happened to a member.
//!
//! `vitald check` prints it per channel, because thresholds and interval, not
//! the timeout alone, decide how long a dead member still takes traffic.

use std::time::Duration;

use super::model::HealthCheck;

/// Upper bounds that hold while no slot is skipped and no outcome is inconclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// From the daemon's start to a member's first verdict.
    pub first: Duration,
    /// From a member's failure to `unhealthy`.
    pub down: Duration,
    /// From a member's return to `healthy`.
    pub up: Duration,
}

impl Detection {
    /// The bounds of a check that is on. `window` is how far first probes are
    /// spread where the interval is long (see `health::schedule`).
    ///
    /// A member that fails just after a good answer is asked again one interval
    /// later; the last of `threshold` probes starts `threshold` intervals later
    /// and takes at most the timeout.
    pub fn of(check: &HealthCheck, window: Duration) -> Self {
        let (interval, timeout) = (check.interval(), check.timeout());
        let (up, down) = (u32::from(check.threshold_normal()), u32::from(check.threshold_abnormal()));
        // The first probe begins up to this long after the start: the schedule
        // brings it forward only in long intervals.
        let spread = if interval <= window * 2 { interval } else { window };
        Self {
            first: spread + interval * (up.max(down) - 1) + timeout,
            down: interval * down + timeout,
            up: interval * up + timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{ClientCertificate, Protocol};
    use super::super::words::CheckStatus;
    use super::*;

    fn check((interval, timeout): (u64, u64), threshold_normal: u8, threshold_abnormal: u8) -> HealthCheck {
        HealthCheck {
            protocol: Protocol::Tcp,
            port: None,
            threshold_normal,
            threshold_abnormal,
            interval: Duration::from_secs(interval),
            timeout: Duration::from_secs(timeout),
            client_certificate: ClientCertificate::None,
            status: CheckStatus::On,
        }
    }

    #[test]
    fn bounds_follow_thresholds_interval_and_timeout() {
        let seconds = Duration::from_secs;
        let short = Detection::of(&check((5, 2), 2, 3), seconds(3));
        assert_eq!(short, Detection { first: seconds(17), down: seconds(17), up: seconds(12) });
        let long = Detection::of(&check((60, 10), 2, 1), seconds(3));
        assert_eq!(long, Detection { first: seconds(73), down: seconds(70), up: seconds(130) });
    }

    /// Plays every moment of failure against the schedule.
    #[test]
    fn no_moment_of_failure_goes_unseen_for_longer() {
        let check = check((5, 2), 2, 3);
        let spread = Duration::from_millis(4_900);
        let bound = Detection::of(&check, spread).down;
        let mut longest = Duration::ZERO;
        for failed_at in (5_000..20_000).map(Duration::from_millis) {
            // A probe that starts while the member is down fails by its timeout.
            let starts = (0..10_u32).map(|slot| spread + check.interval() * slot);
            let failing = starts.filter(|start| *start >= failed_at);
            let last = failing.take(usize::from(check.threshold_abnormal())).last().expect("ten probes");
            longest = longest.max(last + check.timeout() - failed_at);
        }
        assert!(longest <= bound && longest > bound - check.interval(), "{longest:?}");
    }
}
