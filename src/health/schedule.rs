//! When each member is probed: its own phase, every interval, never caught up.
//!
//! A member's *slots* are the moments `phase + k * interval`, measured start to
//! start on the monotonic clock. Phases come from a [`PhaseAllotter`] that keeps
//! them evenly spread over the interval however members come and go. The engine
//! of each driver keeps a [`Schedule`] with exactly one deadline per member.
//!
//! Three rules make lateness harmless:
//! - a slot that is found late by more than [`late_after`] is skipped and counted:
//!   after a stall there is no burst;
//! - a slot that waited only because every place was taken keeps its turn, so
//!   that a full prober stays fair instead of skipping always the same members;
//! - a member still being probed at its next slot skips that slot.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::moment::{Moment, nanos};

/// First probes of members whose interval is longer than twice this are brought
/// forward into a window of this length.
pub const START_WINDOW: Duration = Duration::from_secs(3);

/// At most so many first probes are brought forward per second, over all drivers.
pub const START_RATE: u32 = 5_000;

/// How much earlier than its slot a probe may start, so that neighbours share
/// one wake-up of their driver: waking costs about as much as a tenth of a probe.
///
/// Wakes lie on multiples of it, and each serves the slots up to the next: whose
/// interval is a multiple of it too starts by the same time early every time.
pub const AHEAD: Duration = Duration::from_millis(1);

/// How late a slot may be found and still be used: a twentieth of the interval,
/// at least 50 ms and at most 1 s.
#[must_use]
pub fn late_after(interval: Duration) -> Duration {
    (interval / 20).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

/// The window over which the first probes of `members` new members are spread:
/// [`START_WINDOW`], or longer where [`START_RATE`] asks for it.
#[must_use]
pub fn start_window(members: usize) -> Duration {
    let seconds = u32::try_from(members).unwrap_or(u32::MAX) / START_RATE;
    START_WINDOW.max(Duration::from_secs(u64::from(seconds)))
}

/// A member's place within every interval, as a fraction of 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phase(pub u64);

impl Phase {
    /// This phase as an offset into an interval, in nanoseconds.
    fn offset(self, interval: u64) -> u64 {
        let product = u128::from(self.0) * u128::from(interval);
        u64::try_from(product >> 64).unwrap_or(u64::MAX)
    }
}

/// Hands out phases so that the members of one interval are always evenly spread.
///
/// The n-th phase is the fraction of n times the golden ratio: by the
/// three-distance theorem any run of these numbers leaves gaps of at most three
/// lengths, so no two members crowd whether there are ten or a million. Returned
/// numbers are used again, lowest first.
#[derive(Debug)]
pub struct PhaseAllotter {
    seed: u64,
    intervals: BTreeMap<Duration, Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    next: u32,
    returned: BTreeSet<u32>,
}

/// What a phase is given back by: its number, plus one, so that a list of many
/// has room for "none" in the same four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhaseNumber(NonZeroU32);

/// A phase that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllottedPhase {
    /// To be given back when its member goes.
    pub number: PhaseNumber,
    /// The phase itself.
    pub phase: Phase,
}

impl PhaseAllotter {
    /// `seed` shifts all phases, so that two probers with one configuration do
    /// not probe in step.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, intervals: BTreeMap::new() }
    }

    /// A phase for one more member with this interval.
    pub fn allot(&mut self, interval: Duration) -> AllottedPhase {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let numbers = self.intervals.entry(interval).or_default();
        let number = numbers.returned.pop_first().unwrap_or_else(|| {
            numbers.next = numbers.next.saturating_add(1);
            numbers.next - 1
        });
        let phase = Phase(u64::from(number).wrapping_mul(GOLDEN).wrapping_add(self.seed));
        AllottedPhase { number: PhaseNumber(NonZeroU32::MIN.saturating_add(number)), phase }
    }

    /// Takes back the phase of a member that is gone; `interval` is the one it was
    /// allotted for.
    pub fn release(&mut self, interval: Duration, number: PhaseNumber) {
        if let Some(numbers) = self.intervals.get_mut(&interval) {
            numbers.returned.insert(number.0.get() - 1);
        }
    }
}

/// Why a due member may start although it is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// The prober was not running: late slots are skipped.
    Judged,
    /// Every place was taken since this moment: slots that came due since then
    /// keep their turn.
    ExcusedSince(Moment),
}

/// A slot that is due and will be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueSlot {
    /// The member's index.
    pub member: u32,
    /// When it was due.
    pub due: Moment,
}

/// One deadline per member, in time order.
#[derive(Debug, Default)]
pub struct Schedule {
    queue: BTreeSet<(Moment, u32)>,
    timings: Vec<Option<Timing>>,
    ahead: Duration,
    skipped: u64,
}

#[derive(Debug, Clone, Copy)]
struct Timing {
    interval: NonZeroU64,
    offset: u64,
    next: Moment,
}

impl Timing {
    /// The first slot after `moment`.
    fn slot_after(self, moment: Moment) -> Moment {
        let interval = self.interval.get();
        let past = (moment.0 + interval - self.offset) % interval;
        Moment(moment.0.saturating_add(interval - past))
    }
}

impl Schedule {
    /// Gathers the slots between two multiples of `ahead` on the earlier one; see
    /// [`AHEAD`].
    pub fn set_ahead(&mut self, ahead: Duration) {
        self.ahead = ahead;
    }

    /// The moment from which a slot that is due at `due` may be used.
    fn gathered(&self, due: Moment) -> Moment {
        Moment(due.0 - due.0.checked_rem(nanos(self.ahead)).unwrap_or(0))
    }

    /// Starts probing a member: its first probe falls into `window` where the
    /// interval is long, and into its own slot otherwise. A member that was
    /// scheduled before is scheduled anew.
    ///
    /// An interval of zero cannot come from the rules of `channel`; it is taken
    /// as one nanosecond rather than divided by.
    pub fn insert(&mut self, member: u32, interval: Duration, phase: Phase, window: Duration, now: Moment) {
        self.remove(member);
        let interval_nanos = NonZeroU64::new(nanos(interval)).unwrap_or(NonZeroU64::MIN);
        let mut timing =
            Timing { interval: interval_nanos, offset: phase.offset(interval_nanos.get()), next: Moment(0) };
        let own_slot = timing.slot_after(now);
        let wait = own_slot.since(now);
        timing.next = if interval <= window * 2 || wait <= window {
            own_slot
        } else {
            // Even over the interval, so even over the window too.
            now + window.mul_f64(wait.as_secs_f64() / interval.as_secs_f64())
        };
        let index = member as usize;
        if self.timings.len() <= index {
            self.timings.resize(index + 1, None);
        }
        if let Some(place) = self.timings.get_mut(index) {
            *place = Some(timing);
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
    pub fn next_deadline(&self) -> Option<Moment> {
        self.queue.first().map(|(due, _)| self.gathered(*due))
    }

    /// The next member to start at `now`, if one is due, or nearly. Its following slot is
    /// already set; slots that went by are counted as skipped.
    pub fn poll_due(&mut self, now: Moment, lateness: Lateness) -> Option<DueSlot> {
        loop {
            let (due, member) = *self.queue.first()?;
            if self.gathered(due) > now {
                return None;
            }
            let (late_by, limit) = self.advance(member, now)?;
            let excused = match lateness {
                Lateness::Judged => false,
                Lateness::ExcusedSince(since) => due + limit >= since,
            };
            if late_by <= limit || excused {
                return Some(DueSlot { member, due });
            }
            self.skipped += 1;
        }
    }

    /// Counts a slot that could not be used because the member's last probe
    /// still runs.
    pub fn handle_overlap(&mut self) {
        self.skipped += 1;
    }

    /// Slots skipped so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Members with a deadline.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no member has a deadline.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Moves a due member to its first slot after `now` and counts the whole
    /// intervals that went by. Returns how late it was and how late it may be.
    fn advance(&mut self, member: u32, now: Moment) -> Option<(Duration, Duration)> {
        let timing = self.timings.get_mut(member as usize)?.as_mut()?;
        let due = timing.next;
        self.queue.remove(&(due, member));
        timing.next = timing.slot_after(now.max(due));
        self.queue.insert((timing.next, member));
        // The slots strictly between the one that was due and the next one.
        let passed = timing.next.0.saturating_sub(due.0 + 1) / timing.interval.get();
        self.skipped += passed;
        Some((now.since(due), late_after(Duration::from_nanos(timing.interval.get()))))
    }
}

#[cfg(test)]
#[path = "schedule/tests.rs"]
mod tests;
