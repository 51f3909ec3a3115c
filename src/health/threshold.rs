//! When a verdict moves: consecutive results against the two thresholds.
//!
//! Called by the engine for every finished probe. The rule is that of
//! `threshold_normal` and `threshold_abnormal` (docs/vendor-api.md, "Verdicts"): so many results
//! of one kind in a row; one opposite result resets the count; an inconclusive
//! result changes nothing.

use super::outcome::Outcome;
use super::snapshot::MemberState;
use super::time::Timestamp;
use crate::channel::{Health, HealthCheck};

/// The two thresholds of a health check, each 1 to 10.
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
    pub fn judge(self, state: &mut MemberState, outcome: Outcome, at: Timestamp) -> Option<Health> {
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
        if !reached || state.health == to {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::health::{MemberReason, ProberReason};

    const SUCCESS: Outcome = Outcome::Success;
    const FAILURE: Outcome = Outcome::Failure(MemberReason::Refused);
    const INCONCLUSIVE: Outcome = Outcome::Inconclusive(ProberReason::LocalStall);

    fn run(thresholds: Thresholds, initial: Health, results: &str) -> String {
        let mut state = MemberState::new(0, initial, Timestamp(0));
        let letters = results.chars().enumerate().map(|(at, letter)| {
            let outcome = match letter {
                's' => SUCCESS,
                'f' => FAILURE,
                _ => INCONCLUSIVE,
            };
            thresholds.judge(&mut state, outcome, Timestamp(at as u64));
            state.health.word().chars().next().unwrap()
        });
        letters.collect()
    }

    /// Every row is (normal, abnormal), the initial health, the results, and the
    /// health after each: `u`nknown or `u`nhealthy are told apart by the row.
    #[test]
    fn every_state_meets_every_outcome() {
        let two_three = Thresholds { normal: 2, abnormal: 3 };
        let rows = [
            // From unknown the same thresholds apply.
            (two_three, Health::Unknown, "ss", "uh"),
            (two_three, Health::Unknown, "sfs", "uuu"),
            (two_three, Health::Unknown, "sfss", "uuuh"),
            // Interleaved results never trip a threshold (docs/health-checking.md, "Thresholds").
            (two_three, Health::Healthy, "fsfsfs", "hhhhhh"),
            (two_three, Health::Healthy, "fff", "hhu"),
            (two_three, Health::Healthy, "ffsff", "hhhhh"),
            (two_three, Health::Unhealthy, "sfs", "uuu"),
            (two_three, Health::Unhealthy, "ss", "uh"),
            // Inconclusive results neither count nor reset.
            (two_three, Health::Healthy, "ffiiif", "hhhhhu"),
            (two_three, Health::Unhealthy, "siiis", "uuuuh"),
            (two_three, Health::Unknown, "iiiii", "uuuuu"),
            // Thresholds of one follow each result.
            (Thresholds { normal: 1, abnormal: 1 }, Health::Unknown, "sfsfi", "huhuu"),
        ];
        for (thresholds, initial, results, expected) in rows {
            assert_eq!(run(thresholds, initial, results), expected, "{initial:?} {results}");
        }
    }

    #[test]
    fn counts_and_time_of_a_transition() {
        let mut state = MemberState::new(7, Health::Unknown, Timestamp(1));
        let thresholds = Thresholds { normal: 1, abnormal: 2 };
        assert_eq!(thresholds.judge(&mut state, SUCCESS, Timestamp(2)), Some(Health::Unknown));
        assert_eq!(thresholds.judge(&mut state, FAILURE, Timestamp(3)), None);
        assert_eq!(state.since, Timestamp(2));
        assert_eq!(thresholds.judge(&mut state, FAILURE, Timestamp(4)), Some(Health::Healthy));
        assert_eq!((state.since, state.transitions), (Timestamp(4), [0, 1, 1]));
        assert_eq!((state.consecutive_successes, state.consecutive_failures), (0, 2));
    }

    proptest! {
        /// The model: look back at the conclusive results; the verdict is that of
        /// the last run that reached its threshold.
        #[test]
        fn agrees_with_looking_back(
            normal in 1u8..=10, abnormal in 1u8..=10, results in prop::collection::vec(0u8..3, 0..200),
        ) {
            let thresholds = Thresholds { normal, abnormal };
            let mut state = MemberState::new(0, Health::Unknown, Timestamp(0));
            let mut conclusive = Vec::new();
            for result in results {
                let outcome = [SUCCESS, FAILURE, INCONCLUSIVE][usize::from(result)];
                thresholds.judge(&mut state, outcome, Timestamp(0));
                if result < 2 {
                    conclusive.push(result);
                }
                let expected = (1..=conclusive.len()).rev().find_map(|end| {
                    let last = conclusive[end - 1];
                    let run = conclusive[..end].iter().rev().take_while(|seen| **seen == last).count();
                    match last {
                        0 if run >= usize::from(normal) => Some(Health::Healthy),
                        1 if run >= usize::from(abnormal) => Some(Health::Unhealthy),
                        _ => None,
                    }
                });
                prop_assert_eq!(state.health, expected.unwrap_or(Health::Unknown));
            }
        }
    }
}
