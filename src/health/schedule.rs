//! When each member is due: once in every interval, at an offset of its own.
//!
//! A member is due at the times `offset + k * interval` of the monotonic clock; they are
//! measured from the start of one probe to the start of the next. An [`OffsetAllotter`]
//! hands out the offsets and keeps them evenly spread over the interval, however members
//! come and go. The engine of each driver keeps a [`Schedule`] with exactly one deadline
//! per member: the next time at which it is due.
//!
//! Three rules make lateness harmless:
//! - A probe that would start late by more than [`late_after`] is skipped and counted:
//!   there is no burst after a stall.
//! - A probe that is late only because no further probe could run is not skipped, so
//!   that a full prober serves all members in turn instead of skipping always the same.
//! - A member whose last probe still runs when it is due again is skipped.

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

/// How a member that is found late is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// Skipped: the prober was not running.
    Judged,
    /// Probed all the same if it came due since this time: since then as many probes ran
    /// as may.
    ExcusedSince(MonotonicTime),
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
}

impl Schedule {
    /// Lets probes start early, by less than `ahead`; see [`AHEAD`].
    pub fn set_ahead(&mut self, ahead: Duration) {
        self.cell = NonZeroU64::new(nanos(ahead));
    }

    /// From when on a probe that is due at `due` may start: the start of its cell.
    fn start_of(&self, due: MonotonicTime) -> MonotonicTime {
        MonotonicTime(self.cell.map_or(due.0, |cell| due.0 - due.0 % cell))
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
            self.queue.insert((timing.next, member));
        }
    }

    /// Stops probing a member.
    pub fn remove(&mut self, member: u32) {
        if let Some(timing) = self.timings.get_mut(member as usize).and_then(Option::take) {
            self.queue.remove(&(timing.next, member));
        }
    }

    /// From when on the next member can be started.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonotonicTime> {
        self.queue.first().map(|(due, _)| self.start_of(*due))
    }

    /// The next member to start at `now`, if one is due, or nearly. When it is due again
    /// is already set; the times that went by are counted as skipped.
    pub fn poll_due(&mut self, now: MonotonicTime, lateness: Lateness) -> Option<DueMember> {
        loop {
            let (due, member) = *self.queue.first()?;
            if self.start_of(due) > now {
                return None;
            }
            let timing = self.timings.get_mut(member as usize)?.as_mut()?;
            timing.next = timing.due_after(now.max(due));
            self.queue.pop_first();
            self.queue.insert((timing.next, member));
            // The due times strictly between this one and the next.
            self.skipped += timing.next.0.saturating_sub(due.0 + 1) / timing.interval;
            let limit = late_after(Duration::from_nanos(timing.interval.get()));
            let is_excused = match lateness {
                Lateness::Judged => false,
                Lateness::ExcusedSince(since) => due + limit >= since,
            };
            if now.since(due) <= limit || is_excused {
                return Some(DueMember { member, due });
            }
            self.skipped += 1;
        }
    }

    /// Counts a member that was due while its last probe still ran.
    pub fn handle_overlap(&mut self) {
        self.skipped += 1;
    }

    /// How often a member was due and not probed.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests;
