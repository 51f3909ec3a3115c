//! Was the prober itself awake? The measure behind `local_stall`.
//!
//! A driver that is stopped, starved or suspended cannot tell a late member from
//! its own absence. It therefore counts by how much each of its turns came later
//! than planned, or took longer than it should; a probe whose time was cut by
//! more than [`allowance`] proves nothing bad about its member.

use std::time::Duration;

use crate::health::{MemberReason, Moment, Outcome, ProberReason, Report};

/// A turn that is late by less than this is ordinary scheduling.
const ORDINARY: Duration = Duration::from_millis(20);

/// While probes run a driver wakes at least this often, so that an absence cannot
/// hide between two events.
pub const HEARTBEAT: Duration = Duration::from_millis(50);

/// How much stall a probe may suffer and still be believed: a tenth of its
/// timeout, at least what [`StallMeter`] takes for ordinary.
#[must_use]
pub fn allowance(timeout: Duration) -> Duration {
    (timeout / 10).max(ORDINARY)
}

/// Adds up the time in which a driver should have run and did not.
#[derive(Debug, Default)]
pub struct StallMeter {
    total: Duration,
    suspended: Option<Duration>,
    /// When the running turn began; none while the driver sleeps.
    turn: Option<Moment>,
    plan: Option<Plan>,
}

#[derive(Debug)]
struct Plan {
    asleep_from: Moment,
    wake_at: Moment,
}

impl StallMeter {
    /// The driver begins a turn.
    pub fn handle_wake(&mut self, now: Moment) {
        if let Some(plan) = self.plan.take() {
            self.total += beyond_ordinary(now.since(plan.wake_at.max(plan.asleep_from)));
        }
        self.turn.get_or_insert(now);
    }

    /// The machine has been suspended for so long in all, since it booted. The
    /// clock of the other calls stood still meanwhile; the members went on.
    pub fn handle_suspended(&mut self, in_all: Duration) {
        let before = self.suspended.replace(in_all).unwrap_or(in_all);
        self.total += beyond_ordinary(in_all.saturating_sub(before));
    }

    /// The driver ends its turn and means to sleep until `wake_at` at the latest.
    pub fn handle_sleep(&mut self, now: Moment, wake_at: Moment) {
        self.total = self.total_at(now);
        self.turn = None;
        self.plan = Some(Plan { asleep_from: now, wake_at });
    }

    /// All stall so far, the running turn included: probes are polled inside it.
    /// The difference over a probe's life is what it suffered.
    #[must_use]
    pub fn total_at(&self, now: Moment) -> Duration {
        self.total + self.turn.map_or(Duration::ZERO, |began| beyond_ordinary(now.since(began)))
    }
}

/// The whole of an excess that is more than ordinary.
fn beyond_ordinary(excess: Duration) -> Duration {
    if excess > ORDINARY { excess } else { Duration::ZERO }
}

/// Withdraws a failure that the prober's own stall may have caused.
///
/// Refusals, wrong answers and bad certificates stand however late they were
/// read. Silence, and a peer that gave up on us, prove nothing when we were away.
#[must_use]
pub fn excuse(mut report: Report, timeout: Duration, stalled: Duration) -> Report {
    use MemberReason as R;
    let Outcome::Failure(reason) = report.outcome else { return report };
    let may_be_ours = match reason {
        R::ConnectTimeout | R::TlsTimeout | R::ResponseTimeout | R::Closed | R::Reset | R::TlsHandshake => {
            true
        }
        R::Refused
        | R::Unreachable
        | R::SelfConnect
        | R::Resolve
        | R::TlsCertificate
        | R::Protocol
        | R::Status => false,
    };
    if may_be_ours && stalled > allowance(timeout) {
        report.detail = format!(
            "the prober itself was not running for {} ms of this probe ({}: {})",
            stalled.as_millis(),
            reason.word(),
            report.detail
        )
        .into();
        report.outcome = Outcome::Inconclusive(ProberReason::LocalStall);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Phases;

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    #[test]
    fn a_suspended_machine_was_away_whatever_the_clock_says() {
        let mut meter = StallMeter::default();
        let hour = Duration::from_secs(3600);
        meter.handle_suspended(hour); // before the daemon started
        assert_eq!(meter.total_at(at(1)), Duration::ZERO);
        meter.handle_sleep(at(1), at(50));
        meter.handle_suspended(hour + Duration::from_secs(90));
        meter.handle_wake(at(50));
        assert_eq!(meter.total_at(at(1)), Duration::from_secs(90));
        // The two clocks are read one after the other.
        meter.handle_suspended(hour + Duration::from_secs(90) + Duration::from_micros(3));
        meter.handle_suspended(hour + Duration::from_secs(90));
        assert_eq!(meter.total_at(at(1)), Duration::from_secs(90));
    }

    #[test]
    fn only_lateness_beyond_the_ordinary_counts() {
        let mut meter = StallMeter::default();
        meter.handle_wake(at(0));
        meter.handle_sleep(at(1), at(50));
        meter.handle_wake(at(60)); // 10 ms late: ordinary
        assert_eq!(meter.total_at(at(60)), Duration::ZERO);
        meter.handle_sleep(at(61), at(100));
        meter.handle_wake(at(70)); // an event came first
        assert_eq!(meter.total_at(at(70)), Duration::ZERO);
        meter.handle_sleep(at(71), at(100));
        meter.handle_wake(at(30_100)); // stopped for 30 s
        assert_eq!(meter.total_at(at(30_100)), Duration::from_secs(30));
    }

    #[test]
    fn a_long_turn_and_a_deadline_already_past_count_once_each() {
        let mut meter = StallMeter::default();
        meter.handle_wake(at(0));
        assert_eq!(meter.total_at(at(20)), Duration::ZERO);
        assert_eq!(meter.total_at(at(300)), Duration::from_millis(300), "known while it runs");
        meter.handle_sleep(at(300), at(100)); // a turn of 300 ms
        assert_eq!(meter.total_at(at(300)), Duration::from_millis(300));
        meter.handle_wake(at(301)); // woke at once: the past deadline is not counted again
        meter.handle_wake(at(301)); // an event's wake, then the turn's own
        assert_eq!(meter.total_at(at(301)), Duration::from_millis(300));
    }

    #[test]
    fn excuses_silence_but_not_answers() {
        let timeout = Duration::from_secs(2);
        let cases = [
            (MemberReason::ResponseTimeout, 201, true),
            (MemberReason::ResponseTimeout, 200, false),
            (MemberReason::ConnectTimeout, 3_000, true),
            (MemberReason::Closed, 3_000, true),
            (MemberReason::Refused, 3_000, false),
            (MemberReason::Status, 3_000, false),
            (MemberReason::TlsCertificate, 3_000, false),
        ];
        for (reason, stalled, excused) in cases {
            let report = Report {
                outcome: Outcome::Failure(reason),
                phases: Phases::default(),
                total: timeout,
                status: None,
                detail: "late".into(),
                peer: None,
                certificate_not_after: None,
            };
            let judged = excuse(report, timeout, Duration::from_millis(stalled));
            let expected = if excused {
                Outcome::Inconclusive(ProberReason::LocalStall)
            } else {
                Outcome::Failure(reason)
            };
            assert_eq!(judged.outcome, expected, "{reason:?} after {stalled} ms");
        }
    }
}
