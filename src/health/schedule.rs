//! When each member is due: once in every interval, at an offset of its own.
//!
//! A member is due at the times `offset + k * interval` of the monotonic clock; they are
//! measured from the start of one probe to the start of the next. An [`OffsetAllotter`]
//! hands out the offsets and keeps them evenly spread over the interval, however members
//! come and go. The engine of each driver keeps a [`Schedule`] with exactly one deadline
//! per member: the next time at which it is due.
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

use super::time::{MonotonicTime, nanos};

/// First probes of members whose interval is longer than twice this are brought
/// forward into a window of this length.
pub const START_WINDOW: Duration = Duration::from_secs(3);

/// At most so many first probes are brought forward per second, over all drivers.
pub const START_RATE: u64 = 5_000;

/// How much earlier than it is due a probe may start, so that members that are due at
/// nearly the same time share one wake-up of their driver: a wake-up costs about a tenth
/// of a probe.
///
/// The clock is divided into cells of this length. A driver wakes at the start of a cell
/// and starts every probe that is due within it. A member whose interval is a whole
/// number of cells therefore starts early by the same time in every interval.
pub const AHEAD: Duration = Duration::from_millis(1);

/// How late a probe may start and is still made: a twentieth of the interval, at least
/// 50 ms and at most 1 s.
#[must_use]
pub fn late_after(interval: Duration) -> Duration {
    (interval / 20).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

/// How long a probe may take that starts at `started`, of a member that may be started
/// again at `next`: its timeout, or up to a hundredth less, so that it ends by then.
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

/// Hands out offsets so that the members of one interval are always evenly spread.
///
/// The n-th offset is the fractional part of n times the golden ratio: by the
/// three-distance theorem any run of these numbers leaves gaps of at most three
/// lengths, so no two members crowd whether there are ten or a million. Returned
/// numbers are used again, lowest first.
#[derive(Debug)]
pub struct OffsetAllotter {
    seed: u64,
    intervals: BTreeMap<Duration, Numbers>,
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
        Self { seed, intervals: BTreeMap::new() }
    }

    /// An offset for one more member with this interval.
    pub fn allot(&mut self, interval: Duration) -> AllottedOffset {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let numbers = self.intervals.entry(interval).or_default();
        let number = numbers.returned.pop_first().unwrap_or_else(|| {
            numbers.next = numbers.next.saturating_add(1);
            numbers.next - 1
        });
        let offset = Offset(u64::from(number).wrapping_mul(GOLDEN).wrapping_add(self.seed));
        AllottedOffset { number: OffsetNumber(NonZeroU32::MIN.saturating_add(number)), offset }
    }

    /// Takes back the offset of a member that is gone; `interval` is the one it was
    /// allotted for.
    pub fn release(&mut self, interval: Duration, number: OffsetNumber) {
        if let Some(numbers) = self.intervals.get_mut(&interval) {
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
    /// From when on each member may be started; one that was taken as due is in
    /// `timings` alone.
    queue: BTreeSet<(MonotonicTime, u32)>,
    timings: Vec<Option<Timing>>,
    /// Length of a cell in nanoseconds, see [`AHEAD`]; none: probes never start early.
    cell: Option<NonZeroU64>,
    skipped: u64,
}

#[derive(Debug, Clone, Copy)]
struct Timing {
    /// Both in nanoseconds.
    interval: NonZeroU64,
    offset: u64,
    next: MonotonicTime,
}

impl Timing {
    /// The first time after `time` at which the member is due.
    fn due_after(self, time: MonotonicTime) -> MonotonicTime {
        let past = (time.0 + self.interval.get() - self.offset) % self.interval;
        MonotonicTime(time.0.saturating_add(self.interval.get() - past))
    }

    /// From when on the next probe may start: the start of its cell. Where the interval
    /// is no whole number of cells that would be early by more at one time than at
    /// another, and detection could take longer than promised; then it is when it is due.
    fn start(self, cell: Option<NonZeroU64>) -> MonotonicTime {
        match cell {
            Some(cell) if self.interval.get() % cell == 0 => MonotonicTime(self.next.0 - self.next.0 % cell),
            Some(_) | None => self.next,
        }
    }
}

impl Schedule {
    /// Lets probes start early, by less than `ahead`; see [`AHEAD`].
    pub fn set_ahead(&mut self, ahead: Duration) {
        self.cell = NonZeroU64::new(nanos(ahead));
        for (_, member) in std::mem::take(&mut self.queue) {
            self.put_back(member);
        }
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
        interval: Duration,
        offset: Offset,
        window: Duration,
        now: MonotonicTime,
    ) {
        self.remove(member);
        let nanos = NonZeroU64::new(nanos(interval)).unwrap_or(NonZeroU64::MIN);
        let mut timing = Timing { interval: nanos, offset: offset.within(nanos.get()), next: now };
        timing.next = timing.due_after(now);
        let wait = timing.next.since(now);
        if interval > window * 2 && wait > window {
            // Even over the interval, so even over the window too.
            timing.next = now + window.mul_f64(wait.as_secs_f64() / interval.as_secs_f64());
        }
        let index = member as usize;
        if self.timings.len() <= index {
            self.timings.resize(index + 1, None);
        }
        if let Some(entry) = self.timings.get_mut(index) {
            *entry = Some(timing);
            self.put_back(member);
        }
    }

    /// Stops probing a member; says when it was due next, or had been when it was taken.
    pub fn remove(&mut self, member: u32) -> Option<MonotonicTime> {
        let timing = self.timings.get_mut(member as usize).and_then(Option::take)?;
        self.queue.remove(&(timing.start(self.cell), member));
        Some(timing.next)
    }

    /// From when on the next member can be started.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonotonicTime> {
        self.queue.first().map(|(start, _)| *start)
    }

    /// From when on a member can be started again.
    #[must_use]
    pub fn next_start(&self, member: u32) -> Option<MonotonicTime> {
        Some(self.timing(member)?.start(self.cell))
    }

    /// Takes the next member that is due at `now`, or nearly. Members that are too late
    /// are skipped and counted.
    pub fn take_due(&mut self, now: MonotonicTime) -> Option<DueMember> {
        loop {
            let &(start, member) = self.queue.first()?;
            if start > now {
                return None;
            }
            self.queue.pop_first();
            let Timing { interval, next: due, .. } = self.timing(member)?;
            if now.since(due) <= late_after(Duration::from_nanos(interval.get())) {
                return Some(DueMember { member, due });
            }
            self.skipped += 1;
            self.handle_start(member, now);
        }
    }

    /// The probe of a member that was taken starts now: it is due again at its next time.
    /// The times that went by since it was due are counted as skipped.
    pub fn handle_start(&mut self, member: u32, now: MonotonicTime) {
        let Some(timing) = self.timings.get_mut(member as usize).and_then(Option::as_mut) else { return };
        let due = timing.next;
        timing.next = timing.due_after(now.max(due));
        self.skipped += timing.next.0.saturating_sub(due.0 + 1) / timing.interval;
        let start = timing.start(self.cell);
        self.queue.insert((start, member));
    }

    /// A member that was taken could not be probed yet and can be now, if it is not too
    /// late for it: it is due as it was.
    pub fn put_back(&mut self, member: u32) {
        if let Some(start) = self.next_start(member) {
            self.queue.insert((start, member));
        }
    }

    fn timing(&self, member: u32) -> Option<Timing> {
        *self.timings.get(member as usize)?
    }

    /// How often a member was due and not probed.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests;
