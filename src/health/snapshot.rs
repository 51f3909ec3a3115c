//! What a driver shows of its members: flat pages, cloned by reference.
//!
//! A driver owns the pages and writes to them in place. A reader gets a clone, which
//! shares the pages; the driver's first write to a shared page copies that page alone.
//! So a write costs nothing more while nobody reads, and a reader sees each page as it
//! was at one instant.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::outcome::{MemberReason, Outcome, Phases, ProberReason, Report};
use super::time::{Timestamp, nanos};
use super::verdict::{ConfirmedAt, Resumed, VerdictFrom};
use crate::channel::{Continuity, Health};

/// Members per page: few, because a write to a page that a reader holds copies it.
pub const PAGE: usize = 16;

/// What is known of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// Tells apart the members that used one slot one after another.
    pub generation: u32,
    /// The verdict, or what counts as long as there is none.
    pub health: Health,
    /// Whose it is.
    pub verdict_from: VerdictFrom,
    /// Successes in a row up to the last conclusive probe.
    pub consecutive_successes: u32,
    /// Failures in a row up to the last conclusive probe.
    pub consecutive_failures: u32,
    /// When `health` became what it is.
    pub since: Timestamp,
    /// When the last conclusive probe began, of this check or an earlier one.
    pub confirmed: ConfirmedAt,
    /// Probes so far by result.
    pub counts: ResultCounts,
    /// Transitions so far by the health they led to, in [`Health::ALL`] order.
    pub transitions: [u32; 3],
    /// The last probe that ended, none before the first.
    pub last: Option<LastProbe>,
    /// `notAfter` of the last certificate seen, seconds since the Unix epoch.
    pub certificate_not_after: Option<i64>,
}

impl MemberState {
    /// A member nothing is known of yet.
    #[must_use]
    pub fn new(generation: u32, health: Health, since: Timestamp) -> Self {
        Self {
            generation,
            health,
            verdict_from: VerdictFrom::InitialState,
            consecutive_successes: 0,
            consecutive_failures: 0,
            since,
            confirmed: ConfirmedAt::default(),
            counts: ResultCounts::default(),
            transitions: [0; 3],
            last: None,
            certificate_not_after: None,
        }
    }

    /// What the member could go on with elsewhere.
    #[must_use]
    pub fn known(&self) -> Resumed {
        Resumed {
            health: self.health,
            from: self.verdict_from,
            consecutive_successes: self.consecutive_successes,
            consecutive_failures: self.consecutive_failures,
            since: self.since,
            confirmed: self.confirmed,
        }
    }

    /// Takes over what was known elsewhere, and the health that goes with it.
    pub(super) fn resume(&mut self, known: Resumed) {
        let Resumed { health, from, consecutive_successes, consecutive_failures, since, confirmed } = known;
        (self.health, self.verdict_from) = (health, from);
        (self.consecutive_successes, self.consecutive_failures) =
            (consecutive_successes, consecutive_failures);
        (self.since, self.confirmed) = (since, confirmed);
    }

    /// The member after a change of its channel. Its totals go on in any case.
    pub(super) fn through(
        &self,
        continuity: Continuity,
        (generation, initial): (u32, Health),
        now: Timestamp,
    ) -> Self {
        if continuity == Continuity::Kept {
            return Self { generation, ..self.clone() };
        }
        let mut state = Self {
            counts: self.counts,
            transitions: self.transitions,
            ..Self::new(generation, initial, now)
        };
        if let Some(known) = self.known().through(continuity, now) {
            state.resume(known);
        }
        state
    }
}

/// Probes by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResultCounts {
    /// Probes that succeeded.
    pub success: u64,
    /// Probes that failed for a [`MemberReason`].
    pub failure: u64,
    /// Probes that could not know.
    pub inconclusive: u64,
}

/// The last probe of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastProbe {
    /// When it started.
    pub at: Timestamp,
    /// What it found.
    pub outcome: Outcome,
    /// The status code, when a head was read.
    pub status: Option<u16>,
    /// One line for people.
    pub detail: Cow<'static, str>,
    /// Of a member that is a name: the address that was probed, when one was known.
    pub address: Option<Arc<IpAddr>>,
    /// How long it and its phases took.
    pub durations: Durations,
}

/// How long a probe and its phases took, in nanoseconds of eight bytes: every member
/// has these, and an `Option<Duration>` takes sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durations {
    total: u64,
    connect: u64,
    tls: u64,
    response: u64,
}

/// A phase that was not reached; longer than any probe.
const NOT_REACHED: u64 = u64::MAX;

impl Durations {
    /// The same in less room.
    #[must_use]
    pub fn new(total: Duration, phases: Phases) -> Self {
        let phase = |duration: Option<Duration>| duration.map_or(NOT_REACHED, nanos);
        Self {
            total: nanos(total),
            connect: phase(phases.connect),
            tls: phase(phases.tls),
            response: phase(phases.response),
        }
    }

    /// The whole probe.
    #[must_use]
    pub fn total(self) -> Duration {
        Duration::from_nanos(self.total)
    }

    /// Its phases.
    #[must_use]
    pub fn phases(self) -> Phases {
        let phase = |nanos| (nanos != NOT_REACHED).then(|| Duration::from_nanos(nanos));
        Phases { connect: phase(self.connect), tls: phase(self.tls), response: phase(self.response) }
    }
}

/// Upper bounds in microseconds of a histogram's buckets, ascending.
pub type Bounds = [u64; 10];

/// Buckets for probe phases: 100 microseconds to 10 seconds.
pub const PROBE_BOUNDS: Bounds =
    [100, 500, 1_000, 5_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000];

/// Buckets for the lateness of probe starts: 500 microseconds to 5 seconds.
pub const LAG_BOUNDS: Bounds =
    [500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// Counts of durations per bucket, with their sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static Bounds,
    counts: [u64; 10],
    above: u64,
    sum_nanos: u64,
}

impl Histogram {
    /// An empty histogram over these bounds.
    #[must_use]
    pub fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, counts: [0; 10], above: 0, sum_nanos: 0 }
    }

    /// Counts one duration.
    pub fn observe(&mut self, duration: Duration) {
        let value = nanos(duration);
        self.sum_nanos = self.sum_nanos.saturating_add(value);
        let micros = value.div_ceil(1_000);
        let bucket = self.bounds.iter().position(|bound| micros <= *bound);
        match bucket.and_then(|bucket| self.counts.get_mut(bucket)) {
            Some(count) => *count += 1,
            None => self.above += 1,
        }
    }

    /// Adds the counts of another histogram over the same bounds.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.above += other.above;
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
    }

    /// (upper bound in nanoseconds, cumulative count) per bucket, without `+Inf`.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.bounds.iter().zip(self.counts).scan(0, |total, (bound, count)| {
            *total += count;
            Some((*bound * 1_000, *total))
        })
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// The sum of all durations, in nanoseconds.
    #[must_use]
    pub fn sum_nanos(&self) -> u64 {
        self.sum_nanos
    }
}

/// Counters of one channel in one driver; `serve` sums them over drivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelStats {
    /// Failures by [`MemberReason::index`].
    pub failures: [u64; MemberReason::ALL.len()],
    /// Inconclusive probes by [`ProberReason::index`].
    pub inconclusive: [u64; ProberReason::ALL.len()],
    /// Durations of the connect phase.
    pub connect: Histogram,
    /// Durations of TLS handshakes.
    pub tls: Histogram,
    /// Durations of the response phase.
    pub response: Histogram,
    /// Durations of whole probes.
    pub total: Histogram,
}

impl Default for ChannelStats {
    fn default() -> Self {
        let empty = Histogram::new(&PROBE_BOUNDS);
        Self {
            failures: [0; MemberReason::ALL.len()],
            inconclusive: [0; ProberReason::ALL.len()],
            connect: empty.clone(),
            tls: empty.clone(),
            response: empty.clone(),
            total: empty,
        }
    }
}

impl ChannelStats {
    /// Counts a probe that ended.
    pub(super) fn count(&mut self, report: &Report) {
        let reason = match report.outcome {
            Outcome::Success => None,
            Outcome::Failure(reason) => self.failures.get_mut(reason.index()),
            Outcome::Inconclusive(reason) => self.inconclusive.get_mut(reason.index()),
        };
        if let Some(count) = reason {
            *count += 1;
        }
        // A duration measured by a prober in trouble says nothing of the member.
        if matches!(report.outcome, Outcome::Inconclusive(_)) {
            return;
        }
        let Phases { connect, tls, response } = report.phases;
        let durations = [
            (&mut self.connect, connect),
            (&mut self.tls, tls),
            (&mut self.response, response),
            (&mut self.total, Some(report.total)),
        ];
        for (histogram, duration) in durations {
            if let Some(duration) = duration {
                histogram.observe(duration);
            }
        }
    }

    /// Adds another driver's counters.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.failures.iter_mut().zip(other.failures) {
            *mine += theirs;
        }
        for (mine, theirs) in self.inconclusive.iter_mut().zip(other.inconclusive) {
            *mine += theirs;
        }
        self.connect.merge(&other.connect);
        self.tls.merge(&other.tls);
        self.response.merge(&other.response);
        self.total.merge(&other.total);
    }
}

/// One driver at one instant.
#[derive(Debug, Clone)]
pub struct DriverSnapshot {
    /// Members by slot, [`PAGE`] to a page.
    pub pages: Vec<Arc<Vec<MemberState>>>,
    /// Counters by channel slot.
    pub channels: Vec<Arc<ChannelStats>>,
    /// How late probes started against their slots.
    pub lag: Histogram,
    /// Probes running now.
    pub in_flight: usize,
    /// How many may run at once.
    pub concurrency: usize,
    /// Members that are due and wait until another probe may run.
    pub waiting: usize,
    /// How often a member had to wait so.
    pub delayed: u64,
    /// Slots skipped because they were late.
    pub skipped: u64,
}

impl DriverSnapshot {
    /// A driver that has seen nothing yet.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            pages: Vec::new(),
            channels: Vec::new(),
            lag: Histogram::new(&LAG_BOUNDS),
            in_flight: 0,
            concurrency: 0,
            waiting: 0,
            delayed: 0,
            skipped: 0,
        }
    }

    /// The member in `slot`, if it is still the one of `generation`.
    #[must_use]
    pub fn member(&self, slot: u32, generation: u32) -> Option<&MemberState> {
        self.state(slot).filter(|state| state.generation == generation)
    }

    pub(super) fn state(&self, slot: u32) -> Option<&MemberState> {
        let slot = slot as usize;
        self.pages.get(slot / PAGE)?.get(slot % PAGE)
    }

    pub(super) fn state_mut(&mut self, slot: u32) -> Option<&mut MemberState> {
        let slot = slot as usize;
        Arc::make_mut(self.pages.get_mut(slot / PAGE)?).get_mut(slot % PAGE)
    }

    /// Writes a member's state into its slot; slots before it that were never used show
    /// a generation that no member has.
    pub(super) fn put(&mut self, slot: u32, state: MemberState) {
        let (page, place) = (slot as usize / PAGE, slot as usize % PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || Arc::new(Vec::with_capacity(PAGE)));
        }
        let Some(page) = self.pages.get_mut(page).map(Arc::make_mut) else { return };
        if page.len() <= place {
            page.resize(place + 1, MemberState::new(u32::MAX, Health::Unknown, state.since));
        }
        if let Some(place) = page.get_mut(place) {
            *place = state;
        }
    }

    /// The counters in a channel slot; made when the slot is new.
    pub(super) fn channel_mut(&mut self, channel: u32) -> Option<&mut ChannelStats> {
        let channel = channel as usize;
        if self.channels.len() <= channel {
            self.channels.resize_with(channel + 1, Arc::default);
        }
        self.channels.get_mut(channel).map(Arc::make_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_the_rest_counts_above() {
        let mut histogram = Histogram::new(&LAG_BOUNDS);
        for micros in [0, 500, 501, 5_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let cumulative: Vec<_> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!((histogram.count(), histogram.sum_nanos()), (4, 5_001_002_000));
        let mut sum = Histogram::new(&LAG_BOUNDS);
        sum.merge(&histogram);
        sum.merge(&histogram);
        assert_eq!(sum.count(), 8);
    }
}
