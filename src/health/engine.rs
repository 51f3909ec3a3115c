//! The pure part of a driver: its members, when they are due, what a result means.
//!
//! One engine belongs to one driver of `daemon`, which is its only writer. The
//! driver tells it of changes and results (`handle_*`), asks what to start and
//! when to wake (`poll_*`), and shows readers its snapshots. No clock, no I/O.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::outcome::{Outcome, ProberReason, Report};
use super::permits::{Permits, WaitingMember};
use super::schedule::{Cadence, DueMember, Offset, Schedule, Timing, time_limit};
use super::snapshot::{ChannelStats, DriverSnapshot, Durations, LastProbe, MemberState};
use super::time::{MonotonicTime, Now, Timestamp};
use super::verdict::{ConfirmedAt, Resumed, VerdictFrom};
use crate::channel::{Continuity, Health, HealthCheck};

/// `threshold_normal` and `threshold_abnormal`, each 1 to 10: so many results of one
/// kind in a row move the verdict (docs/vendor-api.md, "Verdicts"). One opposite result
/// resets the count; an inconclusive result changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes in a row to become healthy.
    pub normal: u8,
    /// Failures in a row to become unhealthy.
    pub abnormal: u8,
}

impl From<&HealthCheck> for Thresholds {
    fn from(check: &HealthCheck) -> Self {
        Self { normal: check.threshold_normal(), abnormal: check.threshold_abnormal() }
    }
}

impl Thresholds {
    /// Counts one result into a member's state and moves its verdict when a
    /// threshold is reached; returns the verdict of before, if it moved.
    fn judge(self, state: &mut MemberState, outcome: Outcome, at: Timestamp) -> Option<Health> {
        let (reached, to) = match outcome {
            Outcome::Success => {
                state.counts.success += 1;
                state.consecutive_failures = 0;
                state.consecutive_successes = state.consecutive_successes.saturating_add(1);
                (state.consecutive_successes >= u32::from(self.normal), Health::Healthy)
            }
            Outcome::Failure(_) => {
                state.counts.failure += 1;
                state.consecutive_successes = 0;
                state.consecutive_failures = state.consecutive_failures.saturating_add(1);
                (state.consecutive_failures >= u32::from(self.abnormal), Health::Unhealthy)
            }
            Outcome::Inconclusive(_) => {
                state.counts.inconclusive += 1;
                return None;
            }
        };
        if !reached {
            return None;
        }
        state.verdict_from = VerdictFrom::Check;
        if state.health == to {
            return None;
        }
        let from = state.health;
        state.health = to;
        state.since = at;
        if let Some(count) = state.transitions.get_mut(to.index()) {
            *count += 1;
        }
        Some(from)
    }
}

/// When and how a member is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckTiming {
    /// How often, and what a probe costs.
    pub cadence: Cadence,
    /// Consecutive results that move the verdict.
    pub thresholds: Thresholds,
    /// When in each interval the member is due.
    pub offset: Offset,
    /// How far first probes of this batch are spread (see [`super::schedule::start_window`]).
    pub window: Duration,
}

/// A member as the engine takes it.
#[derive(Debug, Clone, Copy)]
pub struct NewMember {
    /// Its slot; given out by the catalog, reused after removal.
    pub slot: u32,
    /// Tells apart the members that used the slot one after another.
    pub generation: u32,
    /// The slot of its channel's counters.
    pub channel: u32,
    /// None: never probed, stays as it is.
    pub timing: Option<CheckTiming>,
    /// What it counts as before its first verdict.
    pub initial: Health,
    /// What it goes on with of what its slot holds, if the slot is its own already.
    pub continuity: Continuity,
}

/// A probe to start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Whom to probe.
    pub slot: u32,
    /// For which generation of the slot; a result of an older one is dropped.
    pub generation: u32,
    /// The slot of the channel's counters, whose permit it has.
    pub channel: u32,
}

/// A verdict that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Whose.
    pub slot: u32,
    /// Of which generation.
    pub generation: u32,
    /// What it was.
    pub from: Health,
    /// What it is now.
    pub to: Health,
    /// The result that tipped it.
    pub outcome: Outcome,
    /// That result in one line for people.
    pub detail: Cow<'static, str>,
    /// Of a member that is a name: the address that was probed, when one was known.
    pub address: Option<Arc<IpAddr>>,
    /// Results of that kind in a row.
    pub consecutive: u32,
    /// When.
    pub at: Now,
}

/// What the engine keeps of a member beside its state; when the member is due, the
/// schedule knows. One of these is in memory for every member.
#[derive(Debug, Clone, Copy)]
struct EngineSlot {
    generation: u32,
    channel: u32,
    /// None: never probed.
    thresholds: Option<Thresholds>,
    activity: Activity,
}

/// What a member is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    /// Nothing, until the schedule says that it is due.
    Resting,
    /// It is due, and waits for a permit.
    Waiting,
    /// Its probe runs.
    Probing,
    /// Its probe runs, and it is due again: the schedule holds it until that one ends.
    ProbingAndDue,
}

/// A member on its way from one engine to another, with all that is known of it.
#[derive(Debug, Clone)]
pub struct MovingMember {
    state: MemberState,
    /// Both none: it is never probed.
    timing: Option<Timing>,
    thresholds: Option<Thresholds>,
    channel: u32,
}

/// Members of one driver: see the file's head.
#[derive(Debug)]
pub struct Engine {
    permits: Permits,
    slots: Vec<Option<EngineSlot>>,
    schedule: Schedule,
    shown: DriverSnapshot,
    unsettled: usize,
}

impl Engine {
    /// An engine without members that runs at most `concurrency` probes at once.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self {
            permits: Permits::new(concurrency),
            slots: Vec::new(),
            schedule: Schedule::default(),
            shown: DriverSnapshot::empty(),
            unsettled: 0,
        }
    }

    /// The engine of the driver of that number, so that drivers take turns; see
    /// [`Schedule::set_driver`].
    #[must_use]
    pub fn of_driver(mut self, number: u16) -> Self {
        self.schedule.set_driver(number);
        self
    }

    /// Takes a member, or changes the one that has the slot: its totals go on, and of its
    /// verdict what `continuity` says. With [`Continuity::Kept`] a running probe still
    /// counts; any other must have ended, as [`Engine::handle_cancelled`].
    pub fn handle_add(&mut self, member: NewMember, now: Now) {
        let NewMember { slot, generation, channel, timing, initial, continuity } = member;
        self.unsettle(slot);
        self.unschedule(slot);
        let before = self.slot(slot).copied();
        let state = match before.and_then(|_| self.shown.state(slot)) {
            Some(state) => state.through(continuity, (generation, initial), now.wall),
            None => MemberState::new(generation, initial, now.wall),
        };
        let is_unknown = state.health == Health::Unknown;
        self.shown.put(slot, state);
        // Shows the channel, even before its first probe has ended.
        self.shown.channel_mut(channel);
        let thresholds = timing.map(|timing| timing.thresholds);
        let activity = match (continuity, before.map(|before| before.activity)) {
            (Continuity::Kept, Some(Activity::Probing | Activity::ProbingAndDue)) => Activity::Probing,
            _ => Activity::Resting,
        };
        self.set_slot(slot, EngineSlot { generation, channel, thresholds, activity });
        if let Some(CheckTiming { cadence, offset, window, .. }) = timing {
            self.unsettled += usize::from(is_unknown);
            self.permits.add_member(channel);
            self.schedule.insert(slot, cadence, offset, window, now.monotonic);
        }
    }

    /// Gives a probed member other thresholds. A count that has passed one already takes
    /// effect at the next result.
    pub fn handle_thresholds(&mut self, slot: u32, thresholds: Thresholds) {
        if let Some(slot) = self.slots.get_mut(slot as usize).and_then(Option::as_mut)
            && slot.thresholds.is_some()
        {
            slot.thresholds = Some(thresholds);
        }
    }

    /// Lets a member that was just added go on where it was elsewhere. Without effect once
    /// its check has reached a verdict; probes that have ended before count on.
    pub fn handle_resume(&mut self, slot: u32, generation: u32, resumed: Resumed) {
        let is_probed = self.slot(slot).is_some_and(|slot| slot.thresholds.is_some());
        let is_last_known = matches!(resumed.from, VerdictFrom::LastKnown(_));
        let Some(state) = self.shown.state_mut(slot) else { return };
        let is_judged = state.verdict_from != VerdictFrom::InitialState;
        if state.generation != generation || is_judged || is_probed == is_last_known {
            return;
        }
        let before = state.known();
        let mut after = resumed;
        if resumed.from == VerdictFrom::InitialState {
            after.health = before.health;
        }
        if before.confirmed != ConfirmedAt::default() {
            after.consecutive_successes = before.consecutive_successes;
            after.consecutive_failures = before.consecutive_failures;
            after.confirmed = before.confirmed;
        }
        state.resume(after);
        if is_probed {
            let unknown = |known: Resumed| usize::from(known.health == Health::Unknown);
            self.unsettled = self.unsettled + unknown(after) - unknown(before);
        }
    }

    /// Forgets a member. A probe that still runs for it must end as
    /// [`Engine::handle_cancelled`].
    pub fn handle_remove(&mut self, slot: u32) {
        self.unsettle(slot);
        self.unschedule(slot);
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            *slot = None;
        }
    }

    /// Forgets a member that goes to another engine. None, and nothing changes, while its
    /// probe runs or it waits for a permit, or where nobody has the slot.
    pub fn handle_take_out(&mut self, slot: u32) -> Option<MovingMember> {
        let EngineSlot { channel, thresholds, activity, .. } = *self.slot(slot)?;
        if activity != Activity::Resting {
            return None;
        }
        let state = self.shown.state(slot)?.clone();
        self.unsettle(slot);
        let timing = self.schedule.take_out(slot);
        if timing.is_some() {
            self.permits.remove_member(channel);
        }
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            *slot = None;
        }
        Some(MovingMember { state, timing, thresholds, channel })
    }

    /// Takes a member that was taken out of another engine, under the slot and generation
    /// that it has here.
    pub fn handle_put_in(&mut self, slot: u32, generation: u32, member: MovingMember) {
        let MovingMember { state, timing, thresholds, channel } = member;
        self.unsettled += usize::from(thresholds.is_some() && state.health == Health::Unknown);
        self.shown.put(slot, MemberState { generation, ..state });
        self.shown.channel_mut(channel);
        self.set_slot(slot, EngineSlot { generation, channel, thresholds, activity: Activity::Resting });
        if let Some(timing) = timing {
            self.permits.add_member(channel);
            self.schedule.put_in(slot, timing);
        }
    }

    fn set_slot(&mut self, slot: u32, entry: EngineSlot) {
        let index = slot as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(entry);
        }
    }

    /// Starts the counters of a channel slot from zero; called when the catalog
    /// gives the slot to another channel.
    pub fn handle_channel_reset(&mut self, channel: u32) {
        if let Some(stats) = self.shown.channel_mut(channel) {
            *stats = ChannelStats::default();
        }
    }

    /// Runs at most so many probes at once from now on; those that run already
    /// are left alone.
    pub fn handle_concurrency(&mut self, concurrency: usize) {
        self.permits.set_limit(concurrency);
    }

    /// The next probe to start, if one is due and may run beside the others.
    pub fn poll_job(&mut self, now: Now) -> Option<Job> {
        while let Some(DueMember { member, due }) = self.schedule.take_due(now.monotonic) {
            let Some(slot) = self.slots.get_mut(member as usize).and_then(Option::as_mut) else { continue };
            let channel = slot.channel;
            match slot.activity {
                Activity::Probing | Activity::ProbingAndDue => slot.activity = Activity::ProbingAndDue,
                Activity::Resting | Activity::Waiting if self.permits.are_free_for(channel) => {
                    return self.start(member, due, now);
                }
                Activity::Resting | Activity::Waiting => {
                    slot.activity = Activity::Waiting;
                    self.permits.wait(WaitingMember { channel, due, member });
                }
            }
        }
        let next = self.permits.next_waiting()?;
        self.permits.leave(next);
        self.start(next.member, next.due, now)
    }

    fn start(&mut self, member: u32, due: MonotonicTime, now: Now) -> Option<Job> {
        let slot = self.slots.get_mut(member as usize)?.as_mut()?;
        slot.activity = Activity::Probing;
        let (generation, channel) = (slot.generation, slot.channel);
        self.schedule.handle_start(member, now.monotonic);
        self.permits.take(channel);
        self.shown.lag.observe(now.monotonic.since(due));
        Some(Job { slot: member, generation, channel })
    }

    /// How long the probe of a job that starts now may take: `timeout`, or a little less
    /// where that would reach beyond the member's next slot, see
    /// [`time_limit`].
    #[must_use]
    pub fn time_limit(&self, job: Job, timeout: Duration, now: Now) -> Duration {
        let next = self.schedule.next_due(job.slot);
        next.map_or(timeout, |next| time_limit(timeout, now.monotonic, next))
    }

    /// When to ask again without an event: a time in the past is at once. None when only
    /// a result can help.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<MonotonicTime> {
        match self.permits.next_waiting() {
            Some(next) => Some(next.due),
            None => self.schedule.next_deadline(),
        }
    }

    /// Whether a job's member is still there and still checked in the same way. The
    /// result of another job counts for no member: it ends as [`Engine::handle_cancelled`].
    #[must_use]
    pub fn is_current(&self, job: Job) -> bool {
        self.slot(job.slot).is_some_and(|slot| slot.generation == job.generation)
    }

    /// Takes the result of a job and says whether the verdict moved. `started`
    /// is when the job was started. Results of members that are gone are dropped.
    pub fn handle_report(&mut self, job: Job, report: Report, started: Now, now: Now) -> Option<Transition> {
        self.permits.give_back(job.channel);
        let slot = self.slots.get_mut(job.slot as usize).and_then(Option::as_mut)?;
        if slot.generation != job.generation {
            return None;
        }
        let EngineSlot { channel, thresholds, activity, .. } = *slot;
        slot.activity = Activity::Resting;
        if activity == Activity::ProbingAndDue {
            self.schedule.put_back(job.slot);
        }
        let thresholds = thresholds?;
        self.shown.channel_mut(channel)?.count(&report);
        let state = self.shown.state_mut(job.slot)?;
        let moved_from = thresholds.judge(state, report.outcome, now.wall);
        if !matches!(report.outcome, Outcome::Inconclusive(_)) {
            state.confirmed = ConfirmedAt::at(started.wall);
        }
        if report.certificate_not_after.is_some() {
            state.certificate_not_after = report.certificate_not_after;
        }
        let transition = moved_from.map(|from| Transition {
            slot: job.slot,
            generation: job.generation,
            from,
            to: state.health,
            outcome: report.outcome,
            detail: report.detail.clone(),
            address: report.address.clone(),
            consecutive: state.consecutive_successes.max(state.consecutive_failures),
            at: now,
        });
        state.last = Some(LastProbe {
            at: started.wall,
            outcome: report.outcome,
            status: report.status,
            detail: report.detail,
            address: report.address,
            durations: Durations::new(report.total, report.phases),
        });
        if moved_from == Some(Health::Unknown) {
            self.unsettled -= 1;
        }
        transition
    }

    /// Ends a job whose probe was given up, or whose result came too late, because
    /// its member went or changed.
    pub fn handle_cancelled(&mut self, job: Job) {
        self.permits.give_back(job.channel);
        if let Some(stats) = self.shown.channel_mut(job.channel) {
            stats.count(&Report::inconclusive(ProberReason::Cancelled, ""));
        }
    }

    /// Probed members that have no verdict yet.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Probes running now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.permits.taken()
    }

    /// Everything a reader may see, by reference: see [`super::snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> DriverSnapshot {
        DriverSnapshot {
            in_flight: self.permits.taken(),
            concurrency: self.permits.limit(),
            waiting: self.permits.waiting(),
            delayed: self.permits.delayed(),
            skipped: self.schedule.skipped(),
            ..self.shown.clone()
        }
    }

    /// A member's state.
    #[must_use]
    pub fn state(&self, slot: u32) -> Option<&MemberState> {
        self.shown.state(slot)
    }

    fn slot(&self, slot: u32) -> Option<&EngineSlot> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// Takes a member that leaves or changes out of the schedule, and out of those that
    /// wait.
    fn unschedule(&mut self, slot: u32) {
        let (Some(due), Some(&EngineSlot { channel, activity, .. })) =
            (self.schedule.remove(slot), self.slot(slot))
        else {
            return;
        };
        if activity == Activity::Waiting {
            self.permits.leave(WaitingMember { channel, due, member: slot });
        }
        self.permits.remove_member(channel);
    }

    /// Takes a member that leaves or changes out of the count of unsettled ones.
    fn unsettle(&mut self, slot: u32) {
        let is_probed = self.slot(slot).is_some_and(|slot| slot.thresholds.is_some());
        if is_probed && self.state(slot).is_some_and(|state| state.health == Health::Unknown) {
            self.unsettled -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
