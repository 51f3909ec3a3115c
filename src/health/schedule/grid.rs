//! The grid on which the slots of a driver lie, so that neighbours share one wake-up of
//! the driver at their slot.
//!
//! What probing costs is wake-ups more than probes, so a driver should start many probes
//! at each; and a probe that waits for the others of its wake-up is late. The grid follows
//! what is planned: its step is the longest at which one wake-up has about
//! [`PROBES_A_WAKE`] probes and [`WORK_A_WAKE`] of work, at most [`LONGEST_STEP`] and a
//! fiftieth of the interval. Steps are halvings of one another, so intervals with
//! different steps share wake-ups too, and a member whose step changes moves by less than
//! the longer of the two. Called by [`Schedule`](super::Schedule).

use std::num::NonZeroU64;
use std::time::Duration;

use crate::channel::Protocol;
use crate::health::time::nanos;

/// The longest step. All others are halves, quarters and so on of it.
pub const LONGEST_STEP: Duration = Duration::from_millis(10);

/// How often the longest step may be halved; what comes out is whole nanoseconds.
const MOST_HALVINGS: u32 = 7;

/// So many probes one wake-up has at most, on average. More would save little: a wake-up
/// costs about as much as one probe.
pub const PROBES_A_WAKE: u64 = 32;

/// So much work one wake-up has at most, on average: about how late its last probe starts.
pub const WORK_A_WAKE: Duration = Duration::from_millis(1);

/// Probes are counted per so many nanoseconds: the rates of long intervals are whole
/// numbers too.
const PERIOD: u64 = 1_000_000_000_000_000;

/// Parts of what a wake-up may have.
const WHOLE: u128 = 1024;

/// What one probe takes of its driver's time, roughly (docs/probing-cost.md).
#[must_use]
pub fn planned_work(protocol: &Protocol) -> Duration {
    Duration::from_micros(match protocol {
        Protocol::Tcp => 20,
        Protocol::Http(_) => 30,
        Protocol::Https(_) => 400,
    })
}

/// The grid of one driver.
#[derive(Debug, Default)]
pub(super) struct Grid {
    /// How often the longest step is halved.
    halvings: u32,
    /// By which part of its step the grid lies later than that of the first driver.
    turn: u16,
    /// Planned probes in each [`PERIOD`].
    probes: u128,
    /// Planned nanoseconds of work in each [`PERIOD`].
    work: u128,
}

impl Grid {
    /// The grid lies where those of the drivers with lower numbers have gaps: drivers take
    /// turns.
    pub(super) fn set_driver(&mut self, number: u16) {
        // In the order of a van der Corput sequence: 0, 1/2, 1/4, 3/4, 1/8 of a step.
        self.turn = number.reverse_bits();
    }

    /// One more member, whose probes take so many nanoseconds each.
    pub(super) fn add(&mut self, interval: NonZeroU64, work: u32) {
        let probes = u128::from(PERIOD / interval);
        self.probes += probes;
        self.work += probes * u128::from(work);
        self.adapt();
    }

    /// One less.
    pub(super) fn remove(&mut self, interval: NonZeroU64, work: u32) {
        let probes = u128::from(PERIOD / interval);
        self.probes -= probes;
        self.work -= probes * u128::from(work);
        self.adapt();
    }

    /// Halves a step at which a wake-up has too much, and doubles one that leaves a quarter
    /// free even then: rates that go up and down by less do not move anybody.
    fn adapt(&mut self) {
        while self.halvings < MOST_HALVINGS && self.parts(self.halvings) > WHOLE {
            self.halvings += 1;
        }
        while self.halvings > 0 && self.parts(self.halvings - 1) <= WHOLE * 3 / 4 {
            self.halvings -= 1;
        }
    }

    /// What a wake-up has at a step, in parts of what it may have.
    fn parts(&self, halvings: u32) -> u128 {
        let planned = |sum: u128| sum * WHOLE * u128::from(step(halvings)) / u128::from(PERIOD);
        let (probes, work) = (u128::from(PROBES_A_WAKE), u128::from(nanos(WORK_A_WAKE)));
        (planned(self.probes) / probes).max(planned(self.work) / work)
    }

    /// The step for members of an interval, in nanoseconds.
    fn step(&self, interval: NonZeroU64) -> u64 {
        let mut steps = (self.halvings..=MOST_HALVINGS).map(step);
        // No interval is so short that none fits.
        steps.find(|step| *step <= interval.get() / 50).unwrap_or(1)
    }

    /// How many nanoseconds after a whole number of steps the grid lies.
    fn shift(&self, step: u64) -> u64 {
        ((self::step(self.halvings) * u64::from(self.turn)) >> u16::BITS) % step
    }

    /// Where in the interval a member is due that would be due at `offset` if there were no
    /// grid: less than a step before.
    pub(super) fn phase(&self, offset: u64, interval: NonZeroU64) -> u64 {
        let step = self.step(interval);
        let shift = self.shift(step);
        let past = (offset + interval.get() - shift) % interval % step;
        (offset + interval.get() - past) % interval
    }

    /// The point of the grid at a time, or the last one before, for members of an interval
    /// that are not due at their phase yet.
    pub(super) fn point(&self, time: u64, interval: NonZeroU64) -> u64 {
        let step = self.step(interval);
        let shift = self.shift(step);
        time.saturating_sub(shift) / step * step + shift
    }
}

/// The longest step, halved so often, in nanoseconds.
fn step(halvings: u32) -> u64 {
    nanos(LONGEST_STEP) >> halvings
}
