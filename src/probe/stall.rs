//! How long the prober itself did not run, and which failures that may have caused.
//!
//! A driver that is stopped, starved of its core or suspended cannot tell a late member
//! from its own stall. It therefore tells its [`StallMeter`] when it wakes and when it
//! goes to sleep. The meter adds up by how much each turn began later than planned, or
//! took longer than it should. The driver publishes the sum on its thread
//! ([`set_total`]), where its probes read it.
//!
//! The sum is used twice. A probe at its deadline gives the lost time back to the member
//! before it calls the member silent (`machine`). When the probe has ended, the driver
//! withdraws a failure that is still in doubt ([`excuse`]).

use std::cell::Cell;
use std::time::Duration;

use crate::health::time::nanos;
use crate::health::{MemberReason, MonotonicTime, Outcome, ProberReason, Report};

/// A turn that is late by less than this is ordinary scheduling.
pub const ORDINARY: Duration = Duration::from_millis(20);

/// While probes run a driver wakes at least this often, so that a stall cannot hide
/// between two events.
pub const HEARTBEAT: Duration = Duration::from_millis(50);

thread_local! {
    static TOTAL_NANOS: Cell<u64> = const { Cell::new(0) };
}

/// How much stall a probe may suffer and still be believed as it is: a tenth of its
/// timeout, at least [`ORDINARY`].
#[must_use]
pub fn allowance(timeout: Duration) -> Duration {
    (timeout / 10).max(ORDINARY)
}

/// Publishes how long this thread has been stalled in all, while it ran probes.
pub fn set_total(total: Duration) {
    TOTAL_NANOS.set(nanos(total));
}

/// What [`set_total`] had published at some time; zero where nobody measures. Every
/// probe under way keeps one: half as large as a [`Duration`].
#[derive(Debug, Clone, Copy)]
pub(super) struct StallMark(u64);

impl StallMark {
    pub(super) fn now() -> Self {
        Self(TOTAL_NANOS.get())
    }

    /// How long the thread has been stalled since.
    pub(super) fn lost(self) -> Duration {
        Duration::from_nanos(TOTAL_NANOS.get().saturating_sub(self.0))
    }
}

/// Time in which a driver did not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StalledTime {
    /// From whatever cause.
    pub total: Duration,
    /// The part in which the whole machine was suspended, and the kernel did not
    /// receive either.
    pub suspended: Duration,
}

impl StalledTime {
    /// What has been added since `before`.
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
    stalled: StalledTime,
    suspended: Option<Duration>,
    /// When the running turn began; none while the driver sleeps.
    turn_began: Option<MonotonicTime>,
    /// When the driver is to wake at the latest; none while it runs.
    wake_at: Option<MonotonicTime>,
}

impl StallMeter {
    /// The driver begins a turn.
    pub fn handle_wake(&mut self, now: MonotonicTime) {
        if let Some(planned) = self.wake_at.take() {
            self.stalled.total += beyond_ordinary(now.since(planned));
        }
        self.turn_began.get_or_insert(now);
    }

    /// The machine has been suspended for so long in all, since it booted. The
    /// clock of the other calls stood still meanwhile; the members went on.
    pub fn handle_suspended(&mut self, in_all: Duration) {
        let before = self.suspended.replace(in_all).unwrap_or(in_all);
        let added = beyond_ordinary(in_all.saturating_sub(before));
        self.stalled.total += added;
        self.stalled.suspended += added;
    }

    /// The driver ends its turn and means to sleep until `wake_at` at the latest.
    pub fn handle_sleep(&mut self, now: MonotonicTime, wake_at: MonotonicTime) {
        self.stalled = self.stalled_at(now);
        self.turn_began = None;
        self.wake_at = Some(wake_at.max(now));
    }

    /// All stalls so far, that of the running turn included: probes are polled inside
    /// it. The difference over a probe's life is what the probe suffered.
    #[must_use]
    pub fn stalled_at(&self, now: MonotonicTime) -> StalledTime {
        let turn = self.turn_began.map_or(Duration::ZERO, |began| beyond_ordinary(now.since(began)));
        StalledTime { total: self.stalled.total + turn, ..self.stalled }
    }
}

/// The whole of an excess that is more than ordinary.
fn beyond_ordinary(excess: Duration) -> Duration {
    if excess > ORDINARY { excess } else { Duration::ZERO }
}

/// Withdraws a failure that a stall of the prober may have caused.
///
/// - Refusals, wrong answers and bad certificates stand, however late they were read.
/// - A silence stands when the member had its whole timeout after the prober last sent
///   something: the kernel receives while the prober does not run, and the prober has
///   read the socket in the end.
/// - A connection that the member closed or reset stands only when the member cannot
///   have waited for the prober.
/// - After a suspend neither of the last two stands: the kernel did not run either.
#[must_use]
pub fn excuse(mut report: Report, timeout: Duration, stalled: StalledTime) -> Report {
    use MemberReason as R;
    let Outcome::Failure(reason) = report.outcome else { return report };
    let allowance = allowance(timeout);
    let may_be_ours = match reason {
        R::ConnectTimeout | R::TlsTimeout | R::ResponseTimeout => {
            report.waited + allowance < timeout || stalled.suspended > Duration::ZERO
        }
        R::Closed | R::Reset | R::TlsHandshake => {
            report.total.saturating_sub(report.waited) > allowance || stalled.suspended > Duration::ZERO
        }
        R::Refused
        | R::Unreachable
        | R::SelfConnect
        | R::Resolve
        | R::TlsCertificate
        | R::Protocol
        | R::Status => false,
    };
    if may_be_ours && stalled.total > allowance {
        report.detail = format!(
            "the prober itself was not running for {} ms of this probe ({}: {})",
            stalled.total.as_millis(),
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

    fn at(millis: u64) -> MonotonicTime {
        MonotonicTime(millis * 1_000_000)
    }

    fn lost(meter: &StallMeter, now: MonotonicTime) -> Duration {
        meter.stalled_at(now).total
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
        assert_eq!(meter.stalled_at(at(1)).suspended, Duration::from_secs(90));
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
    fn is_excused(reason: MemberReason, waited: u64, stalled_for: u64, suspended: u64) -> bool {
        let millis = Duration::from_millis;
        let report = Report {
            outcome: Outcome::Failure(reason),
            phases: Phases::default(),
            total: millis(500),
            waited: millis(waited),
            status: None,
            detail: "late".into(),
            peer: None,
            address: None,
            certificate_not_after: None,
        };
        let stalled = StalledTime { total: millis(stalled_for), suspended: millis(suspended) };
        match excuse(report, millis(400), stalled).outcome {
            Outcome::Inconclusive(ProberReason::LocalStall) => true,
            Outcome::Failure(same) if same == reason => false,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_silence_stands_when_the_member_had_its_time() {
        use MemberReason as R;
        for reason in [R::ConnectTimeout, R::TlsTimeout, R::ResponseTimeout] {
            assert!(!is_excused(reason, 100, 40, 0), "{reason:?}: a short stall is allowed for");
            assert!(is_excused(reason, 359, 41, 0), "{reason:?}: its time was cut");
            assert!(!is_excused(reason, 360, 450, 0), "{reason:?}: it had its time all the same");
            assert!(is_excused(reason, 500, 450, 450), "{reason:?}: the kernel was away too");
        }
    }

    #[test]
    fn a_peer_that_left_may_have_waited_for_us() {
        use MemberReason as R;
        for reason in [R::Closed, R::Reset, R::TlsHandshake] {
            assert!(!is_excused(reason, 0, 40, 0), "{reason:?}: a short stall is allowed for");
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
