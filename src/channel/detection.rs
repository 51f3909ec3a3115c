//! How long it takes at worst until a change of a member shows.
//!
//! `vitald check` prints it per channel, so that an interval and a threshold
//! can be judged before they are used.

use std::time::Duration;

use super::model::HealthCheck;
use super::words::CheckStatus;

/// Upper bounds that follow from a health check and the schedule alone. They
/// hold while no slot is skipped and no outcome is inconclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// From the daemon's start, or a member's arrival, to the start of its
    /// first probe.
    pub spread: Duration,
    /// From a failure to the verdict unhealthy, between probes that go on.
    pub failure: Duration,
    /// From a recovery to the verdict healthy.
    pub recovery: Duration,
}

impl Detection {
    /// The bounds of a check whose first probe starts within `spread`; none when
    /// the check is off.
    ///
    /// Probes start `time_interval` apart. A member that fails right after a
    /// probe has succeeded meets the next one an interval later; the verdict
    /// needs `threshold_abnormal` of them, and the last ends by its `timeout`:
    /// `threshold_abnormal` x `time_interval` + `timeout`. The same with
    /// `threshold_normal` for a recovery, which takes less when answers are fast.
    #[must_use]
    pub fn of(check: &HealthCheck, spread: Duration) -> Option<Self> {
        match check.status() {
            CheckStatus::Off => None,
            CheckStatus::On => {
                let after = |threshold: u8| {
                    check.interval().saturating_mul(threshold.into()).saturating_add(check.timeout())
                };
                Some(Self {
                    spread,
                    failure: after(check.threshold_abnormal()),
                    recovery: after(check.threshold_normal()),
                })
            }
        }
    }

    /// The longest a failure can go unseen: spread, then
    /// `threshold_abnormal` x `time_interval` + `timeout`. Covers a member that
    /// fails at any time, be it before its first probe.
    #[must_use]
    pub fn worst_case(&self) -> Duration {
        self.spread.saturating_add(self.failure)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{ClientCertificate, Protocol};
    use super::*;

    fn check(status: CheckStatus) -> HealthCheck {
        HealthCheck {
            protocol: Protocol::Tcp,
            port: None,
            threshold_normal: 2,
            threshold_abnormal: 3,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            client_certificate: ClientCertificate::None,
            status,
        }
    }

    #[test]
    fn the_documented_example_is_seen_within_its_bounds() {
        let detection =
            Detection::of(&check(CheckStatus::On), Duration::from_secs(3)).expect("checking is on");
        assert_eq!(detection.failure, Duration::from_secs(17));
        assert_eq!(detection.recovery, Duration::from_secs(12));
        assert_eq!(detection.worst_case(), Duration::from_secs(20));
    }

    #[test]
    fn a_check_that_is_off_sees_nothing() {
        assert_eq!(Detection::of(&check(CheckStatus::Off), Duration::ZERO), None);
    }

    /// Plays every moment of failure against the schedule.
    #[test]
    fn no_moment_of_failure_goes_unseen_for_longer() {
        let check = check(CheckStatus::On);
        let spread = Duration::from_millis(4_900);
        let detection = Detection::of(&check, spread).expect("checking is on");
        let mut longest = Duration::ZERO;
        for failed_at in (0..20_000).map(Duration::from_millis) {
            // A probe that starts while the member is down fails by its timeout.
            let starts = (0..10_u32).map(|slot| spread + check.interval() * slot);
            let failing = starts.filter(|start| *start >= failed_at);
            let last = failing.take(usize::from(check.threshold_abnormal())).last().expect("ten probes");
            longest = longest.max(last + check.timeout() - failed_at);
        }
        assert!(longest <= detection.worst_case(), "{longest:?}");
        assert!(longest > detection.failure - check.interval(), "{longest:?}");
    }
}
