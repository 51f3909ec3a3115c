//! Was the prober itself awake? The measure behind `local_stall`.
//!
//! A driver that is stopped, starved or suspended cannot tell a late member from
//! its own absence. It therefore counts by how much each of its turns came later
//! than planned, or took longer than it should. A probe that lost more than
//! [`allowance`] goes on for as long as its member is owed
//! (`probe::absence`); what it then finds is held against what is left to doubt.

use std::time::Duration;

use crate::health::{MemberReason, Moment, Outcome, ProberReason, Report};
use crate::probe::absence::{ORDINARY, allowance};

/// While probes run a driver wakes at least this often, so that an absence cannot
/// hide between two events.
pub const HEARTBEAT: Duration = Duration::from_millis(50);

/// Time in which a driver did not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Absence {
    /// Whatever held it up.
    pub total: Duration,
    /// The part in which the whole machine was suspended, and the kernel did not
    /// listen either.
    pub suspended: Duration,
}

impl Absence {
    /// What has come to it since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            suspended: self.suspended.saturating_sub(before.suspended),
        }
    }
}

/// Adds up the time in which a driver should have run and did not.
#[derive(Debug, Default)]
pub struct StallMeter {
    absent: Absence,
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
            self.absent.total += beyond_ordinary(now.since(plan.wake_at.max(plan.asleep_from)));
        }
        self.turn.get_or_insert(now);
    }

    /// The machine has been suspended for so long in all, since it booted. The
    /// clock of the other calls stood still meanwhile; the members went on.
    pub fn handle_suspended(&mut self, in_all: Duration) {
        let before = self.suspended.replace(in_all).unwrap_or(in_all);
        let away = beyond_ordinary(in_all.saturating_sub(before));
        self.absent.total += away;
        self.absent.suspended += away;
    }

    /// The driver ends its turn and means to sleep until `wake_at` at the latest.
    pub fn handle_sleep(&mut self, now: Moment, wake_at: Moment) {
        self.absent = self.absence_at(now);
        self.turn = None;
        self.plan = Some(Plan { asleep_from: now, wake_at });
    }

    /// All absence so far, the running turn included: probes are polled inside it.
    /// The difference over a probe's life is what it suffered.
    #[must_use]
    pub fn absence_at(&self, now: Moment) -> Absence {
        let turn = self.turn.map_or(Duration::ZERO, |began| beyond_ordinary(now.since(began)));
        Absence { total: self.absent.total + turn, ..self.absent }
    }
}

/// The whole of an excess that is more than ordinary.
fn beyond_ordinary(excess: Duration) -> Duration {
    if excess > ORDINARY { excess } else { Duration::ZERO }
}

/// Withdraws a failure that the prober's own absence may have caused.
///
/// Refusals, wrong answers and bad certificates stand however late they were
/// read. A silence stands when the member had its whole timeout after the prober's
/// last words: the kernel listens while the prober does not, and the socket was
/// looked at in the end. A peer that left proves something only when it cannot
/// have waited for us. After a suspend neither does: the kernel was away too.
#[must_use]
pub fn excuse(mut report: Report, timeout: Duration, absent: Absence) -> Report {
    use MemberReason as R;
    let Outcome::Failure(reason) = report.outcome else { return report };
    let allowance = allowance(timeout);
    let may_be_ours = match reason {
        R::ConnectTimeout | R::TlsTimeout | R::ResponseTimeout => {
            report.waited + allowance < timeout || absent.suspended > Duration::ZERO
        }
        R::Closed | R::Reset | R::TlsHandshake => {
            report.total.saturating_sub(report.waited) > allowance || absent.suspended > Duration::ZERO
        }
        R::Refused
        | R::Unreachable
        | R::SelfConnect
        | R::Resolve
        | R::TlsCertificate
        | R::Protocol
        | R::Status => false,
    };
    if may_be_ours && absent.total > allowance {
        report.detail = format!(
            "the prober itself was not running for {} ms of this probe ({}: {})",
            absent.total.as_millis(),
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

    fn lost(meter: &StallMeter, now: Moment) -> Duration {
        meter.absence_at(now).total
    }

    #[test]
    fn a_suspended_machine_was_away_whatever_the_clock_says() {
        let mut meter = StallMeter::default();
        let hour = Duration::from_secs(3600);
        meter.handle_suspended(hour); // before the daemon started
        assert_eq!(lost(&meter, at(1)), Duration::ZERO);
        meter.handle_sleep(at(1), at(50));
        meter.handle_suspended(hour + Duration::from_secs(90));
        meter.handle_wake(at(50));
        assert_eq!(lost(&meter, at(1)), Duration::from_secs(90));
        assert_eq!(meter.absence_at(at(1)).suspended, Duration::from_secs(90));
        // The two clocks are read one after the other.
        meter.handle_suspended(hour + Duration::from_secs(90) + Duration::from_micros(3));
        meter.handle_suspended(hour + Duration::from_secs(90));
        assert_eq!(lost(&meter, at(1)), Duration::from_secs(90));
    }

    #[test]
    fn only_lateness_beyond_the_ordinary_counts() {
        let mut meter = StallMeter::default();
        meter.handle_wake(at(0));
        meter.handle_sleep(at(1), at(50));
        meter.handle_wake(at(60)); // 10 ms late: ordinary
        assert_eq!(lost(&meter, at(60)), Duration::ZERO);
        meter.handle_sleep(at(61), at(100));
        meter.handle_wake(at(70)); // an event came first
        assert_eq!(lost(&meter, at(70)), Duration::ZERO);
        meter.handle_sleep(at(71), at(100));
        meter.handle_wake(at(30_100)); // stopped for 30 s
        assert_eq!(lost(&meter, at(30_100)), Duration::from_secs(30));
    }

    #[test]
    fn a_long_turn_and_a_deadline_already_past_count_once_each() {
        let mut meter = StallMeter::default();
        meter.handle_wake(at(0));
        assert_eq!(lost(&meter, at(20)), Duration::ZERO);
        assert_eq!(lost(&meter, at(300)), Duration::from_millis(300), "known while it runs");
        meter.handle_sleep(at(300), at(100)); // a turn of 300 ms
        assert_eq!(lost(&meter, at(300)), Duration::from_millis(300));
        meter.handle_wake(at(301)); // woke at once: the past deadline is not counted again
        meter.handle_wake(at(301)); // an event's wake, then the turn's own
        assert_eq!(lost(&meter, at(301)), Duration::from_millis(300));
    }

    /// A failed probe of 500 ms, of which the prober spoke last at `waited` before
    /// the end; timeout 400 ms, so 40 ms are allowed for.
    fn is_excused(reason: MemberReason, waited: u64, absent: u64, suspended: u64) -> bool {
        let millis = Duration::from_millis;
        let report = Report {
            outcome: Outcome::Failure(reason),
            phases: Phases::default(),
            total: millis(500),
            waited: millis(waited),
            status: None,
            detail: "late".into(),
            peer: None,
            certificate_not_after: None,
        };
        let absent = Absence { total: millis(absent), suspended: millis(suspended) };
        match excuse(report, millis(400), absent).outcome {
            Outcome::Inconclusive(ProberReason::LocalStall) => true,
            Outcome::Failure(same) if same == reason => false,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_silence_stands_when_the_member_had_its_time() {
        use MemberReason as R;
        for reason in [R::ConnectTimeout, R::TlsTimeout, R::ResponseTimeout] {
            assert!(!is_excused(reason, 100, 40, 0), "{reason:?}: a short absence is allowed for");
            assert!(is_excused(reason, 359, 41, 0), "{reason:?}: its time was cut");
            assert!(!is_excused(reason, 360, 450, 0), "{reason:?}: it had its time all the same");
            assert!(is_excused(reason, 500, 450, 450), "{reason:?}: the kernel was away too");
        }
    }

    #[test]
    fn a_peer_that_left_may_have_waited_for_us() {
        use MemberReason as R;
        for reason in [R::Closed, R::Reset, R::TlsHandshake] {
            assert!(!is_excused(reason, 0, 40, 0), "{reason:?}: a short absence is allowed for");
            assert!(is_excused(reason, 459, 450, 0), "{reason:?}: we spoke late");
            assert!(!is_excused(reason, 460, 450, 0), "{reason:?}: it had our words all along");
            assert!(is_excused(reason, 460, 450, 450), "{reason:?}: the kernel was away too");
        }
    }

    #[test]
    fn what_only_the_member_can_say_stands() {
        use MemberReason as R;
        let said = [R::Refused, R::Unreachable, R::SelfConnect, R::Resolve, R::TlsCertificate, R::Protocol];
        for reason in said.into_iter().chain([R::Status]) {
            assert!(!is_excused(reason, 0, 450, 450), "{reason:?}");
        }
    }
}
