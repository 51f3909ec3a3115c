//! Slow start: weights that grow with time. Part of the writer.

use std::time::Duration;

use super::super::core::Core;
use super::super::member::FULL_RAMP;
use super::super::options::SlowStart;
use super::super::pool::MemberPool;
use super::{MemberEntry, TableWriter};
use crate::channel::Strategy;

/// The first step of slow start: 10 %.
pub(super) const FIRST_STEP: u32 = 2;

impl<A: Clone> TableWriter<A> {
    /// Time has passed: slow starts go on, lagging orders are written again, and searches
    /// for keys stop waiting for members who are out.
    /// Answers when there will be something to do next.
    pub(in crate::balance) fn advance(&mut self, core: &Core<A>, now: Duration) -> Option<Duration> {
        self.now = self.now.max(now);
        self.written = 0;
        let next = core.options.slow_start.and_then(|slow| self.ramp_up(core, slow));
        for pool in MemberPool::ALL {
            if self.lagging.get(pool.index()).copied().unwrap_or(false) {
                self.compact(core, pool);
            }
        }
        // A flip itself is one store, and looks at nobody else.
        self.tune();
        next
    }

    fn ramp_up(&mut self, core: &Core<A>, slow: SlowStart) -> Option<Duration> {
        let mut next = None;
        let mut changed = false;
        for (row, since) in std::mem::take(&mut self.ramping) {
            // Who went down or left is at full again: no longer in slow start.
            let ramping = |entry: &&mut MemberEntry<A>| entry.is_member() && entry.ramp < FULL_RAMP;
            let Some(entry) = self.membership.entry_mut(row).filter(ramping) else { continue };
            let reached = slow.steps(self.now.saturating_sub(since));
            if reached < FULL_RAMP {
                self.ramping.insert(row, since);
                let due = since.saturating_add(slow.reaches(reached + 1));
                next = Some(next.map_or(due, |earliest: Duration| earliest.min(due)));
            }
            if reached == entry.ramp {
                continue;
            }
            let (standing, before) = (entry.standing(), entry.effective());
            entry.ramp = reached;
            let after = entry.effective();
            self.counts.remove(standing, before);
            self.counts.add(standing, after);
            if core.strategy == Strategy::WeightedRoundRobin {
                changed = true;
            } else {
                self.reweigh(core, row, before, after);
            }
        }
        // One rebuild for all that moved.
        if changed {
            self.rebuild(core);
        }
        next
    }
}

impl SlowStart {
    fn exponent(&self) -> f64 {
        if self.aggression > 0.0 { self.aggression } else { 1.0 }
    }

    /// The steps of `FULL_RAMP` that a member takes after this time.
    fn steps(&self, elapsed: Duration) -> u32 {
        if elapsed >= self.window {
            return FULL_RAMP;
        }
        let part = elapsed.as_secs_f64() / self.window.as_secs_f64();
        let share = part.powf(1.0 / self.exponent()) * f64::from(FULL_RAMP);
        // Rounded down, with room for the error of the power.
        let steps = (0..FULL_RAMP).rev().find(|steps| f64::from(*steps) <= share + 1e-9);
        steps.unwrap_or(0).max(FIRST_STEP)
    }

    /// When a member reaches so many steps.
    fn reaches(&self, steps: u32) -> Duration {
        let share = f64::from(steps) / f64::from(FULL_RAMP);
        // One nanosecond more, so that rounding cannot put it before the step.
        self.window.mul_f64(share.powf(self.exponent()).min(1.0)).saturating_add(Duration::from_nanos(1))
    }
}
