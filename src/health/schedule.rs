//! When each member is due: once in every interval, at an offset of its own.
//!
//! A member is due at the times `offset + k * interval` of the monotonic clock; they are
//! measured from the start of one probe to the start of the next. An [`OffsetAllotter`]
//! hands out the offsets and keeps them evenly spread over the interval, however members
//! come and go. The engine of each driver keeps a [`Schedule`] with exactly one deadline
//! per member: the next time at which it is due. The schedule rounds offsets down to a
//! grid, so that members share wake-ups (see `schedule/grid.rs`).
//!
//! A member that is due is taken out of the time order. It comes back when its probe
//! starts ([`Schedule::handle_start`]), or by [`Schedule::put_back`] where its last probe
//! still ran. Three rules make lateness harmless:
//! - A probe that would start late by more than [`late_after`] is skipped and counted:
//!   there is no burst after a stall.
//! - A probe that is late only because no further probe could run is not skipped: the
//!   engine keeps its member until it has a permit.
//! - A member whose last probe still runs when it is due again is probed as soon as that
//!   one ends, and skipped where that is too late. [`time_limit`] keeps a member that is
//!   silent for the whole interval from being later every time.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use self::grid::Grid;
pub use self::grid::{LONGEST_STEP, PROBES_A_WAKE, WORK_A_WAKE, planned_work};
use super::time::{MonotonicTime, nanos};
use crate::channel::HealthCheck;

mod grid;

/// First probes of members whose interval is longer than twice this are brought
/// forward into a window of this length.
pub const START_WINDOW: Duration = Duration::from_secs(3);

/// At most so many first probes are brought forward per second, over all drivers.
pub const START_RATE: u64 = 5_000;

/// How late a probe may start and is still made: a twentieth of the interval, at least
/// 50 ms and at most 1 s.
#[must_use]
pub fn late_after(interval: Duration) -> Duration {
    (interval / 20).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

/// How long a probe may take that starts at `started`, of a member that is due again at
/// `next`: its timeout, or up to a hundredth less, so that it ends by then.
///
/// Where the timeout is as long as the interval, a probe of a silent member that starts
/// late ends late, and the next one starts later still. A hundredth is more than the time
/// in which a driver wakes, so lateness does not add up; and a member that needs 99 % of
/// its timeout still gets it.
#[must_use]
pub fn time_limit(timeout: Duration, started: MonotonicTime, next: MonotonicTime) -> Duration {
    timeout.saturating_sub((started + timeout).since(next).min(timeout / 100))
}

/// The window over which the first probes of `members` new members are spread:
/// [`START_WINDOW`], or longer where [`START_RATE`] asks for it.
#[must_use]
pub fn start_window(members: usize) -> Duration {
    START_WINDOW.max(Duration::from_secs(members as u64 / START_RATE))
}

/// When in each interval a member is due, as a fraction of 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(pub u64);

impl Offset {
    /// The same in nanoseconds from the start of an interval of so many.
    fn within(self, interval: u64) -> u64 {
        let product = u128::from(self.0) * u128::from(interval);
        (product >> 64) as u64
    }
}

/// Hands out offsets so that the members of one cadence are always evenly spread.
///
/// The n-th offset is the fractional part of n times the golden ratio: by the
/// three-distance theorem any run of these numbers leaves gaps of at most three
/// lengths, so no two members crowd whether there are ten or a million. Returned
/// numbers are used again, lowest first.
#[derive(Debug)]
pub struct OffsetAllotter {
    seed: u64,
    cadences: BTreeMap<Cadence, Numbers>,
}

/// How often a member is probed, and what one probe of it costs. Members that agree in
/// both are spread evenly among themselves: a costly probe has as few others at its point
/// of the grid as can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cadence {
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// See [`planned_work`].
    pub work: Duration,
}

impl From<&HealthCheck> for Cadence {
    fn from(check: &HealthCheck) -> Self {
        Self { interval: check.interval(), work: planned_work(check.protocol()) }
    }
}

#[derive(Debug, Default)]
struct Numbers {
    next: u32,
    returned: BTreeSet<u32>,
}

/// What an offset is given back by: its number plus one, so that in a list of many
/// "none" takes no more room than the four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetNumber(NonZeroU32);

/// An offset that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllottedOffset {
    /// To be given back when its member goes.
    pub number: OffsetNumber,
    /// The offset itself.
    pub offset: Offset,
}

impl OffsetAllotter {
    /// `seed` shifts all offsets, so that two probers with one configuration do
    /// not probe in step.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, cadences: BTreeMap::new() }
    }

    /// An offset for one more member with this cadence.
    pub fn allot(&mut self, cadence: Cadence) -> AllottedOffset {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let numbers = self.cadences.entry(cadence).or_default();
        let number = numbers.returned.pop_first().unwrap_or_else(|| {
            numbers.next = numbers.next.saturating_add(1);
            numbers.next - 1
        });
        let offset = Offset(u64::from(number).wrapping_mul(GOLDEN).wrapping_add(self.seed));
        AllottedOffset { number: OffsetNumber(NonZeroU32::MIN.saturating_add(number)), offset }
    }

    /// Takes back the offset of a member that is gone; `cadence` is the one it was
    /// allotted for.
    pub fn release(&mut self, cadence: Cadence, number: OffsetNumber) {
        if let Some(numbers) = self.cadences.get_mut(&cadence) {
            numbers.returned.insert(number.0.get() - 1);
        }
    }
}

/// A member that is to be probed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueMember {
    /// The member's index.
    pub member: u32,
    /// When it was due.
    pub due: MonotonicTime,
}

/// One deadline per member, in time order.
#[derive(Debug, Default)]
pub struct Schedule {
    /// When each member is due; one that was taken as due is in `timings` alone.
    queue: BTreeSet<(MonotonicTime, u32)>,
    timings: Vec<Option<Timing>>,
    grid: Grid,
    skipped: u64,
}

/// When one member is due. One of these is in memory for every member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// In nanoseconds.
    interval: NonZeroU64,
    /// As a fraction of 2^32 of the interval.
    offset: u32,
    /// Of one probe, in nanoseconds.
    work: u32,
    /// The offset as it lies on the grid, in nanoseconds.
    phase: u64,
    next: MonotonicTime,
}

impl Timing {
    fn phase_on(self, grid: &Grid) -> u64 {
        grid.phase(Offset(u64::from(self.offset) << 32).within(self.interval.get()), self.interval)
    }

    /// The first time after `time` at which the member is due.
    fn due_after(self, time: MonotonicTime) -> MonotonicTime {
        let past = (time.0 + self.interval.get() - self.phase) % self.interval;
        MonotonicTime(time.0.saturating_add(self.interval.get() - past))
    }

    /// Takes the member's place on the grid of now, which is less than a step away. One
    /// that moves back is due as it was, and earlier from the next time on.
    fn settle(&mut self, grid: &Grid) {
        let phase = self.phase_on(grid);
        let later = (phase + self.interval.get() - self.phase) % self.interval;
        self.phase = phase;
        if later < self.interval.get() / 2 {
            self.next.0 += later;
        }
    }
}

impl Schedule {
    /// Lets drivers take turns: the schedules of two numbers do not wake their drivers at
    /// the same moments.
    pub fn set_driver(&mut self, number: u16) {
        self.grid.set_driver(number);
    }

    /// Starts probing a member: its first probe falls into `window` where the
    /// interval is long, and is made when the member is due otherwise. A member that
    /// was scheduled before is scheduled anew.
    ///
    /// An interval of zero cannot come from the rules of `channel`; it is taken
    /// as one nanosecond rather than divided by.
    pub fn insert(
        &mut self,
        member: u32,
        cadence: Cadence,
        offset: Offset,
        window: Duration,
        now: MonotonicTime,
    ) {
        self.remove(member);
        let interval = NonZeroU64::new(nanos(cadence.interval)).unwrap_or(NonZeroU64::MIN);
        let work = u32::try_from(cadence.work.as_nanos()).unwrap_or(u32::MAX);
        self.grid.add(interval, work);
        // The upper half: a step is much longer than what is lost.
        let offset = (offset.0 >> 32) as u32;
        let mut timing = Timing { interval, offset, work, phase: 0, next: now };
        timing.phase = timing.phase_on(&self.grid);
        timing.next = timing.due_after(now);
        let wait = timing.next.since(now);
        if cadence.interval > window * 2 && wait > window {
            // Even over the interval, so even over the window too.
            let first = now + window.mul_f64(wait.as_secs_f64() / cadence.interval.as_secs_f64());
            let point = MonotonicTime(self.grid.point(first.0, interval));
            timing.next = if point > now { point } else { first };
        }
        self.place(member, timing);
    }

    /// Stops probing a member; says when it was due next, or had been when it was taken.
    pub fn remove(&mut self, member: u32) -> Option<MonotonicTime> {
        let timing = self.timings.get_mut(member as usize).and_then(Option::take)?;
        self.grid.remove(timing.interval, timing.work);
        self.queue.remove(&(timing.next, member));
        Some(timing.next)
    }

    /// Stops probing a member that goes to another driver's schedule; none where it is not
    /// probed.
    pub(super) fn take_out(&mut self, member: u32) -> Option<Timing> {
        let timing = *self.timings.get(member as usize)?;
        self.remove(member);
        timing
    }

    /// Goes on with a member of another driver's schedule: it is due as it was. Its phase moves
    /// by less than a step where the grid of this driver is another.
    pub(super) fn put_in(&mut self, member: u32, timing: Timing) {
        self.remove(member);
        self.grid.add(timing.interval, timing.work);
        self.place(member, timing);
    }

    fn place(&mut self, member: u32, timing: Timing) {
        let index = member as usize;
        if self.timings.len() <= index {
            self.timings.resize(index + 1, None);
        }
        if let Some(entry) = self.timings.get_mut(index) {
            *entry = Some(timing);
            self.put_back(member);
        }
    }

    /// When the next member is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonotonicTime> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// When a member is due next, or was due when it was taken.
    #[must_use]
    pub fn next_due(&self, member: u32) -> Option<MonotonicTime> {
        Some(self.timings.get(member as usize)?.as_ref()?.next)
    }

    /// Takes the next member that is due at `now`. Members that are too late are skipped
    /// and counted.
    pub fn take_due(&mut self, now: MonotonicTime) -> Option<DueMember> {
        loop {
            let &(due, member) = self.queue.first()?;
            if due > now {
                return None;
            }
            self.queue.pop_first();
            let timing = self.timings.get_mut(member as usize)?.as_mut()?;
            timing.settle(&self.grid);
            let Timing { interval, next: due, .. } = *timing;
            if due > now {
                self.put_back(member);
            } else if now.since(due) <= late_after(Duration::from_nanos(interval.get())) {
                return Some(DueMember { member, due });
            } else {
                self.skipped += 1;
                self.handle_start(member, now);
            }
        }
    }

    /// The probe of a member that was taken starts now: it is due again at its next time.
    /// The times that went by since it was due are counted as skipped.
    pub fn handle_start(&mut self, member: u32, now: MonotonicTime) {
        let Some(timing) = self.timings.get_mut(member as usize).and_then(Option::as_mut) else { return };
        let due = timing.next;
        timing.next = timing.due_after(now.max(due));
        self.skipped += timing.next.0.saturating_sub(due.0 + 1) / timing.interval;
        self.queue.insert((timing.next, member));
    }

    /// A member that was taken could not be probed yet and can be now, if it is not too
    /// late for it: it is due as it was.
    pub fn put_back(&mut self, member: u32) {
        if let Some(due) = self.next_due(member) {
            self.queue.insert((due, member));
        }
    }

    /// How often a member was due and not probed.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests;
