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
        let larger = up.max(down);
        Self {
            first: spread(check, window, larger) + interval * (larger - 1) + timeout,
            down: interval * down + timeout,
            up: interval * up + timeout,
        }
    }
}

/// The first of `probes` probes begins up to this long after the start, or the others
/// begin as if it did.
///
/// The schedule brings first probes forward only in long intervals. One that would be due
/// after `due` is begun at `window` x `due` / `interval`; where it still runs at `due`,
/// the next one begins an interval after that.
fn spread(check: &HealthCheck, window: Duration, probes: u32) -> Duration {
    let (interval, timeout) = (check.interval(), check.timeout());
    if interval <= window * 2 {
        return interval;
    }
    // At some `due` after the window it still runs.
    let may_run_on =
        timeout.as_nanos() * interval.as_nanos() > window.as_nanos() * (interval - window).as_nanos();
    if probes > 1 && may_run_on { interval.min(window + timeout) } else { window }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::model::{ClientCertificate, Protocol};
    use super::super::words::CheckStatus;
    use super::*;

    /// A TCP check that is on.
    pub(crate) fn check(interval: Duration, timeout: Duration, normal: u8, abnormal: u8) -> HealthCheck {
        HealthCheck {
            protocol: Protocol::Tcp,
            port: None,
            threshold_normal: normal,
            threshold_abnormal: abnormal,
            interval,
            timeout,
            client_certificate: ClientCertificate::None,
            status: CheckStatus::On,
        }
    }

    fn seconds(interval: u64, timeout: u64, normal: u8, abnormal: u8) -> HealthCheck {
        check(Duration::from_secs(interval), Duration::from_secs(timeout), normal, abnormal)
    }

    #[test]
    fn bounds_follow_thresholds_interval_and_timeout() {
        let of = |first, down, up| Detection {
            first: Duration::from_secs(first),
            down: Duration::from_secs(down),
            up: Duration::from_secs(up),
        };
        let window = Duration::from_secs(3);
        assert_eq!(Detection::of(&seconds(5, 2, 2, 3), window), of(17, 17, 12));
        assert_eq!(Detection::of(&seconds(60, 2, 2, 1), window), of(65, 62, 122));
        // A first probe of 19 s may begin after 1 s, and run when the member is due at 20 s.
        assert_eq!(Detection::of(&seconds(60, 19, 2, 1), window), of(101, 79, 139));
        assert_eq!(Detection::of(&seconds(60, 19, 1, 1), window), of(22, 79, 79));
    }

    /// Plays every moment of failure against the schedule.
    #[test]
    fn no_moment_of_failure_goes_unseen_for_longer() {
        let check = seconds(5, 2, 2, 3);
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
