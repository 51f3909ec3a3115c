//! The pure heart of a driver: members, schedule, thresholds, places.
//!
//! One engine belongs to one driver of `daemon`, which is its only writer. The
//! driver tells it of changes and results (`handle_*`), asks what to start and
//! when to wake (`poll_*`), and publishes its pages. No clock, no I/O.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::histogram::{Histogram, LAG_BOUNDS};
use super::moment::{Moment, Now, Timestamp};
use super::outcome::{Outcome, ProberReason, Report};
use super::schedule::{Lateness, Phase, Schedule};
use super::snapshot::{ChannelStats, DriverSnapshot, Durations, LastProbe, MemberState, PAGE};
use super::threshold::{Judgement, Thresholds};
use crate::channel::Health;

/// When and how a member is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckTiming {
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// Consecutive results that move the verdict.
    pub thresholds: Thresholds,
    /// The member's place in the interval.
    pub phase: Phase,
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
    /// The seat of its channel's counters.
    pub channel: u32,
    /// None: never probed, stays as `initial`.
    pub timing: Option<CheckTiming>,
    /// What it counts as before its first verdict.
    pub initial: Health,
}

/// What a member goes on with after a restart of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// The verdict.
    pub health: Health,
    /// Successes in a row up to the last conclusive probe.
    pub consecutive_successes: u32,
    /// Failures in a row up to the last conclusive probe.
    pub consecutive_failures: u32,
    /// When `health` became what it is.
    pub since: Timestamp,
}

/// A probe to start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Whom to probe.
    pub slot: u32,
    /// For which generation of the slot; a result of an older one is dropped.
    pub generation: u32,
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
    /// Results of that kind in a row.
    pub consecutive: u32,
    /// When.
    pub at: Now,
}

/// What the engine keeps of a member; when it is due, the schedule knows. One of
/// these stands in memory for every member.
#[derive(Debug, Clone, Copy)]
struct Seat {
    generation: u32,
    channel: u32,
    /// None: never probed.
    thresholds: Option<Thresholds>,
    activity: Activity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Resting,
    Probing,
}

/// Members of one driver: see the file's head.
#[derive(Debug)]
pub struct Engine {
    places: usize,
    in_flight: usize,
    saturated_since: Option<Moment>,
    seats: Vec<Option<Seat>>,
    schedule: Schedule,
    lag: Histogram<10>,
    pages: Vec<Arc<Vec<MemberState>>>,
    channels: Vec<Arc<ChannelStats>>,
    unsettled: usize,
}

impl Engine {
    /// An engine without members that runs at most `places` probes at once.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self {
            places: places.max(1),
            in_flight: 0,
            saturated_since: None,
            seats: Vec::new(),
            schedule: Schedule::default(),
            lag: Histogram::new(&LAG_BOUNDS),
            pages: Vec::new(),
            channels: Vec::new(),
            unsettled: 0,
        }
    }

    /// Lets probes start up to `ahead` before their slots; see
    /// [`super::schedule::AHEAD`].
    #[must_use]
    pub fn ahead_by(mut self, ahead: Duration) -> Self {
        self.schedule.set_ahead(ahead);
        self
    }

    /// Takes a member. A slot that is taken already gets the new check: verdict
    /// and counts in a row start afresh, its totals go on.
    pub fn handle_add(&mut self, member: NewMember, now: Now) {
        self.unsettle(member.slot);
        let index = member.slot as usize;
        let totals = self.seats.get(index).copied().flatten().and_then(|_| self.state(member.slot).cloned());
        let mut state = MemberState::new(member.generation, member.initial, now.wall);
        if let Some(before) = totals {
            state.counts = before.counts;
            state.transitions = before.transitions;
        }
        self.write_state(member.slot, state);
        self.ensure_channel(member.channel);
        if self.seats.len() <= index {
            self.seats.resize(index + 1, None);
        }
        if let Some(seat) = self.seats.get_mut(index) {
            let thresholds = member.timing.map(|timing| timing.thresholds);
            let NewMember { generation, channel, .. } = member;
            *seat = Some(Seat { generation, channel, thresholds, activity: Activity::Resting });
        }
        match member.timing {
            Some(timing) => {
                self.unsettled += usize::from(member.initial == Health::Unknown);
                self.schedule.insert(member.slot, timing.interval, timing.phase, timing.window, now.moment);
            }
            None => self.schedule.remove(member.slot),
        }
    }

    /// Lets a member go on where it was. Without effect once a probe of it has
    /// ended: what is known now counts more.
    pub fn handle_resume(&mut self, slot: u32, generation: u32, resumed: Resumed) {
        let is_fresh = |state: &MemberState| state.generation == generation && state.last.is_none();
        let seat = self.seats.get(slot as usize).and_then(Option::as_ref);
        let is_probed = seat.is_some_and(|seat| seat.thresholds.is_some());
        let Some(state) = self.state_mut(slot).filter(|state| is_probed && is_fresh(state)) else { return };
        let was_unknown = state.health == Health::Unknown;
        state.health = resumed.health;
        state.consecutive_successes = resumed.consecutive_successes;
        state.consecutive_failures = resumed.consecutive_failures;
        state.since = resumed.since;
        let is_unknown = resumed.health == Health::Unknown;
        self.unsettled = (self.unsettled + usize::from(is_unknown)).saturating_sub(usize::from(was_unknown));
    }

    /// Forgets a member. A probe that still runs for it must end as
    /// [`Engine::handle_cancelled`].
    pub fn handle_remove(&mut self, slot: u32) {
        self.unsettle(slot);
        self.schedule.remove(slot);
        if let Some(seat) = self.seats.get_mut(slot as usize) {
            *seat = None;
        }
    }

    /// Starts the counters of a channel seat from zero; called when the catalog
    /// gives the seat to another channel.
    pub fn handle_channel_reset(&mut self, channel: u32) {
        self.ensure_channel(channel);
        if let Some(stats) = self.channels.get_mut(channel as usize) {
            *stats = Arc::new(ChannelStats::default());
        }
    }

    /// Runs at most so many probes at once from now on; those that run already
    /// are left alone.
    pub fn handle_places(&mut self, places: usize) {
        self.places = places.max(1);
    }

    /// The next probe to start, if one is due and a place is free.
    pub fn poll_job(&mut self, now: Now) -> Option<Job> {
        loop {
            if self.in_flight >= self.places {
                self.saturated_since.get_or_insert(now.moment);
                return None;
            }
            let lateness = self.saturated_since.map_or(Lateness::Judged, Lateness::ExcusedSince);
            let Some(slot) = self.schedule.poll_due(now.moment, lateness) else {
                self.saturated_since = None;
                return None;
            };
            let Some(seat) = self.seats.get_mut(slot.member as usize).and_then(Option::as_mut) else {
                continue;
            };
            if seat.activity == Activity::Probing {
                self.schedule.handle_overlap();
                continue;
            }
            seat.activity = Activity::Probing;
            let job = Job { slot: slot.member, generation: seat.generation };
            self.in_flight += 1;
            self.lag.observe(now.moment.since(slot.due));
            return Some(job);
        }
    }

    /// When to ask again without an event. None while every place is taken: then
    /// only a result can help, and waking for deadlines would spin.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Moment> {
        if self.in_flight >= self.places { None } else { self.schedule.next_deadline() }
    }

    /// Whether a job's member is still there and still asked the same. The result
    /// of another job is nobody's: it ends as [`Engine::handle_cancelled`].
    #[must_use]
    pub fn is_current(&self, job: Job) -> bool {
        let seat = self.seats.get(job.slot as usize).and_then(Option::as_ref);
        seat.is_some_and(|seat| seat.generation == job.generation)
    }

    /// Takes the result of a job and says whether the verdict moved. `started`
    /// is when the job was started. Results of members that are gone are dropped.
    pub fn handle_report(&mut self, job: Job, report: Report, started: Now, now: Now) -> Option<Transition> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let seat = self.seats.get_mut(job.slot as usize).and_then(Option::as_mut)?;
        if seat.generation != job.generation {
            return None;
        }
        seat.activity = Activity::Resting;
        let channel = seat.channel;
        let thresholds = seat.thresholds?;
        self.count(channel, &report);
        let state = self.state_mut(job.slot)?;
        let was_unknown = state.health == Health::Unknown;
        let judgement = thresholds.judge(state, report.outcome, now.wall);
        if report.certificate_not_after.is_some() {
            state.certificate_not_after = report.certificate_not_after;
        }
        let transition = match judgement {
            Judgement::Unchanged => None,
            Judgement::Moved { from, to } => Some(Transition {
                slot: job.slot,
                generation: job.generation,
                from,
                to,
                outcome: report.outcome,
                detail: report.detail.clone(),
                consecutive: state.consecutive_successes.max(state.consecutive_failures),
                at: now,
            }),
        };
        state.last = Some(LastProbe {
            at: started.wall,
            outcome: report.outcome,
            status: report.status,
            detail: report.detail,
            durations: Durations::new(report.total, report.phases),
        });
        if transition.is_some() && was_unknown {
            self.unsettled = self.unsettled.saturating_sub(1);
        }
        transition
    }

    /// Ends a job whose probe was given up, or whose result came too late, because
    /// its member went or changed.
    /// `channel` is the seat that the job was started for.
    pub fn handle_cancelled(&mut self, channel: u32) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(stats) = self.channels.get_mut(channel as usize)
            && let Some(count) = Arc::make_mut(stats).inconclusive.get_mut(ProberReason::Cancelled.index())
        {
            *count += 1;
        }
    }

    /// The channel seat of a member.
    #[must_use]
    pub fn channel_of(&self, slot: u32) -> Option<u32> {
        self.seats.get(slot as usize)?.as_ref().map(|seat| seat.channel)
    }

    /// Probed members that have no verdict yet.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Probes running now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Everything a reader may see, by reference: see [`super::snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> DriverSnapshot {
        DriverSnapshot {
            pages: self.pages.clone(),
            channels: self.channels.clone(),
            lag: self.lag.clone(),
            in_flight: self.in_flight,
            skipped: self.schedule.skipped(),
        }
    }

    /// A member's state.
    #[must_use]
    pub fn state(&self, slot: u32) -> Option<&MemberState> {
        let slot = slot as usize;
        self.pages.get(slot / PAGE)?.get(slot % PAGE)
    }

    fn state_mut(&mut self, slot: u32) -> Option<&mut MemberState> {
        let slot = slot as usize;
        Arc::make_mut(self.pages.get_mut(slot / PAGE)?).get_mut(slot % PAGE)
    }

    fn write_state(&mut self, slot: u32, state: MemberState) {
        let slot = slot as usize;
        let pages = slot / PAGE + 1;
        if self.pages.len() < pages {
            self.pages.resize_with(pages, || Arc::new(Vec::with_capacity(PAGE)));
        }
        if let Some(page) = self.pages.get_mut(slot / PAGE) {
            let page = Arc::make_mut(page);
            let vacant = MemberState::new(u32::MAX, Health::Unknown, state.since);
            page.resize(page.len().max(slot % PAGE + 1), vacant);
            if let Some(place) = page.get_mut(slot % PAGE) {
                *place = state;
            }
        }
    }

    fn ensure_channel(&mut self, channel: u32) {
        let needed = channel as usize + 1;
        if self.channels.len() < needed {
            self.channels.resize_with(needed, Arc::default);
        }
    }

    /// Takes a member that leaves or changes out of the count of unsettled ones.
    fn unsettle(&mut self, slot: u32) {
        let probed = self
            .seats
            .get(slot as usize)
            .and_then(Option::as_ref)
            .is_some_and(|seat| seat.thresholds.is_some());
        if probed && self.state(slot).is_some_and(|state| state.health == Health::Unknown) {
            self.unsettled = self.unsettled.saturating_sub(1);
        }
    }

    fn count(&mut self, channel: u32, report: &Report) {
        let Some(stats) = self.channels.get_mut(channel as usize).map(Arc::make_mut) else { return };
        match report.outcome {
            Outcome::Success => {}
            Outcome::Failure(reason) => {
                if let Some(count) = stats.failures.get_mut(reason.index()) {
                    *count += 1;
                }
            }
            Outcome::Inconclusive(reason) => {
                if let Some(count) = stats.inconclusive.get_mut(reason.index()) {
                    *count += 1;
                }
                // A duration measured by a prober in trouble says nothing of the member.
                return;
            }
        }
        let phases = [
            (&mut stats.connect, report.phases.connect),
            (&mut stats.tls, report.phases.tls),
            (&mut stats.response, report.phases.response),
            (&mut stats.total, Some(report.total)),
        ];
        for (histogram, duration) in phases {
            if let Some(duration) = duration {
                histogram.observe(duration);
            }
        }
    }
}

#[cfg(test)]
#[path = "engine/tests.rs"]
mod tests;
