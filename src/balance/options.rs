//! What a balancer can be told. Every option is off by default, and an option
//! that is off changes nothing.

use std::time::Duration;

use super::member::{FIRST_STEP, FULL_RAMP};
use crate::channel::FailOpen;
pub use crate::channel::{HashFunction, LeastRule, Query, SourcePrefix, UriForm, UriRule};

/// Options of a [`Balancer`](super::Balancer).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// What happens when nobody is in rotation.
    pub fail_open: FailOpen,
    /// Ramps a member up after it became healthy again.
    pub slow_start: Option<SlowStart>,
    /// How `wleastconn` compares.
    pub least: LeastRule,
    /// How `source` and `uri` hash and place.
    pub hash: HashOptions,
}

/// Slow start: a member that turns from unhealthy to not unhealthy takes 10 % of
/// its weight at first and all of it after `window`.
///
/// In between it takes `(elapsed / window)^(1 / aggression)`, in steps of 5 %.
/// Time comes from [`Balancer::advance`](super::Balancer::advance).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// From the first pick to the full weight. Zero: no slow start.
    pub window: Duration,
    /// 1.0 is linear; above, the weight rises faster at first. Values that are
    /// not above 0 count as 1.0.
    pub aggression: f64,
}

impl SlowStart {
    /// A linear ramp over `window`.
    #[must_use]
    pub const fn linear(window: Duration) -> Self {
        Self { window, aggression: 1.0 }
    }

    fn exponent(&self) -> f64 {
        if self.aggression > 0.0 { self.aggression } else { 1.0 }
    }

    /// The steps of `FULL_RAMP` that a member takes after this time.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a few steps")]
    pub(super) fn steps(&self, elapsed: Duration) -> u32 {
        if elapsed >= self.window {
            return FULL_RAMP;
        }
        let part = elapsed.as_secs_f64() / self.window.as_secs_f64();
        let share = part.powf(1.0 / self.exponent()) * f64::from(FULL_RAMP);
        // Rounded down, with room for the error of the power.
        ((share + 1e-9) as u32).clamp(FIRST_STEP, FULL_RAMP - 1)
    }

    /// When a member reaches so many steps.
    pub(super) fn reaches(&self, steps: u32) -> Duration {
        let share = f64::from(steps) / f64::from(FULL_RAMP);
        // One nanosecond more, so that rounding cannot put it before the step.
        self.window.mul_f64(share.powf(self.exponent()).min(1.0)).saturating_add(Duration::from_nanos(1))
    }
}

/// How `source` and `uri` turn a request into a member.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HashOptions {
    /// Secret, and the same on every instance that must agree. Who knows it can
    /// aim keys at one member.
    pub seed: u128,
    /// The hash function.
    pub function: HashFunction,
    /// How much of a client address counts.
    pub source_prefix: SourcePrefix,
    /// How much of a URI counts.
    pub uri: UriRule,
    /// Bounded load: no member holds more than `max(1, ceil(c * (open + 1) * share))`
    /// open picks, where `c` is this factor. Values below 1.0 count as 1.0.
    pub bounded_load: Option<f64>,
    /// Sizes the table as if there were at least this many members. Keys move in
    /// bulk only when the members outgrow the table, at powers of two; a reserve
    /// puts that off, for a longer search per pick. Same on every instance.
    pub reserve_members: usize,
}
