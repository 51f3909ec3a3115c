//! What is known of a member beyond its last probe: the verdict, whose it is, and the
//! counts; and what of this goes on when its channel changes.
//!
//! The engine asks for members that stay in their slots, the catalog for those that come
//! from another slot or from before a restart.

use std::num::NonZeroU64;
use std::time::Duration;

use super::time::{Timestamp, nanos};
use crate::channel::{Continuity, Health};

/// Whose a member's health is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum VerdictFrom {
    /// Nobody's: no check has reached a verdict, and the health is the channel's
    /// `initial_state`.
    #[default]
    InitialState,
    /// The check's that the member has.
    Check,
    /// An earlier check's, carried over: it asked something else, or was switched off in
    /// between. The check of now has not reached a verdict yet.
    EarlierCheck,
    /// Nobody's: checking is off and the health is unknown. This was the verdict, healthy
    /// or unhealthy, when it was on.
    LastKnown(Health),
}

/// When a member's last conclusive probe began; none before the first. It takes eight
/// bytes, because every member has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfirmedAt(Option<NonZeroU64>);

impl ConfirmedAt {
    /// At a time; the very beginning of 1970 counts as none.
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        Self(NonZeroU64::new(time.0))
    }

    /// The time.
    #[must_use]
    pub fn time(self) -> Option<Timestamp> {
        self.0.map(|nanos| Timestamp(nanos.get()))
    }
}

/// What a member can go on with: in its slot, in another one, or after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// The health that counts.
    pub health: Health,
    /// Whose it is. Of [`VerdictFrom::InitialState`] only the rest goes on.
    pub from: VerdictFrom,
    /// Successes in a row up to the last conclusive probe.
    pub consecutive_successes: u32,
    /// Failures in a row up to the last conclusive probe.
    pub consecutive_failures: u32,
    /// When `health` became what it is.
    pub since: Timestamp,
    /// When the last conclusive probe began.
    pub confirmed: ConfirmedAt,
}

impl Resumed {
    /// What is left of it after a change at `now`; none for another member.
    #[must_use]
    pub fn through(self, continuity: Continuity, now: Timestamp) -> Option<Self> {
        let uncounted = Self { consecutive_successes: 0, consecutive_failures: 0, ..self };
        match (continuity, self.from) {
            (Continuity::NewMember, _) => None,
            (Continuity::Kept, _) | (Continuity::LastKnown, VerdictFrom::LastKnown(_)) => Some(self),
            (Continuity::CarriedOver, VerdictFrom::InitialState) => Some(uncounted),
            (Continuity::CarriedOver, VerdictFrom::Check | VerdictFrom::EarlierCheck) => {
                Some(Self { from: VerdictFrom::EarlierCheck, ..uncounted })
            }
            (Continuity::CarriedOver, VerdictFrom::LastKnown(health)) => {
                Some(Self { health, from: VerdictFrom::EarlierCheck, since: now, ..uncounted })
            }
            (Continuity::LastKnown, VerdictFrom::InitialState) => {
                Some(Self { health: Health::Unknown, since: now, ..uncounted })
            }
            (Continuity::LastKnown, VerdictFrom::Check | VerdictFrom::EarlierCheck) => {
                let from = VerdictFrom::LastKnown(self.health);
                Some(Self { health: Health::Unknown, from, since: now, ..uncounted })
            }
        }
    }

    /// Whether the last conclusive probe was at most so long ago.
    #[must_use]
    pub fn is_within(&self, limit: Duration, now: Timestamp) -> bool {
        self.confirmed.time().is_some_and(|time| now.0.saturating_sub(time.0) <= nanos(limit))
    }

    /// Of several, the greatest counts: verdicts before members without one, then by the
    /// last conclusive probe.
    #[must_use]
    pub fn rank(&self) -> (bool, ConfirmedAt) {
        (self.from != VerdictFrom::InitialState, self.confirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Timestamp = Timestamp(1_000);
    const NOW: Timestamp = Timestamp(5_000);

    fn known(health: Health, from: VerdictFrom) -> Resumed {
        let confirmed = ConfirmedAt::at(Timestamp(4_000));
        Resumed { health, from, consecutive_successes: 1, consecutive_failures: 2, since: THEN, confirmed }
    }

    /// Health, whose, the counts and since when, after a change.
    fn after(
        before: Resumed,
        continuity: Continuity,
    ) -> Option<(Health, VerdictFrom, (u32, u32), Timestamp)> {
        let after = before.through(continuity, NOW)?;
        assert_eq!(after.confirmed, before.confirmed, "the last conclusive probe was when it was");
        let counts = (after.consecutive_successes, after.consecutive_failures);
        Some((after.health, after.from, counts, after.since))
    }

    #[test]
    fn the_table_of_changes() {
        use Health::{Healthy, Unhealthy, Unknown};
        use VerdictFrom::{Check, EarlierCheck, InitialState, LastKnown};
        let rows = [
            (Continuity::Kept, Unhealthy, Check, Some((Unhealthy, Check, (1, 2), THEN))),
            (Continuity::Kept, Healthy, EarlierCheck, Some((Healthy, EarlierCheck, (1, 2), THEN))),
            (Continuity::Kept, Unknown, InitialState, Some((Unknown, InitialState, (1, 2), THEN))),
            (Continuity::CarriedOver, Unhealthy, Check, Some((Unhealthy, EarlierCheck, (0, 0), THEN))),
            (Continuity::CarriedOver, Healthy, EarlierCheck, Some((Healthy, EarlierCheck, (0, 0), THEN))),
            (Continuity::CarriedOver, Unknown, InitialState, Some((Unknown, InitialState, (0, 0), THEN))),
            (
                Continuity::CarriedOver,
                Unknown,
                LastKnown(Unhealthy),
                Some((Unhealthy, EarlierCheck, (0, 0), NOW)),
            ),
            (Continuity::LastKnown, Unhealthy, Check, Some((Unknown, LastKnown(Unhealthy), (0, 0), NOW))),
            (Continuity::LastKnown, Healthy, EarlierCheck, Some((Unknown, LastKnown(Healthy), (0, 0), NOW))),
            (Continuity::LastKnown, Unhealthy, InitialState, Some((Unknown, InitialState, (0, 0), NOW))),
            (
                Continuity::LastKnown,
                Unknown,
                LastKnown(Healthy),
                Some((Unknown, LastKnown(Healthy), (1, 2), THEN)),
            ),
            (Continuity::NewMember, Unhealthy, Check, None),
        ];
        for (continuity, health, from, expected) in rows {
            assert_eq!(
                after(known(health, from), continuity),
                expected,
                "{continuity:?} {health:?} {from:?}"
            );
        }
    }

    #[test]
    fn verdicts_rank_before_their_absence_and_by_their_last_conclusive_probe() {
        let verdict = |at| Resumed {
            confirmed: ConfirmedAt::at(Timestamp(at)),
            ..known(Health::Healthy, VerdictFrom::Check)
        };
        let none = known(Health::Unknown, VerdictFrom::InitialState);
        assert!(verdict(2).rank() > verdict(1).rank());
        assert!(verdict(1).rank() > none.rank());
        let last_known = known(Health::Unknown, VerdictFrom::LastKnown(Health::Healthy));
        assert!(last_known.rank() > none.rank());
        let limit = Duration::from_nanos(1_000);
        assert!(none.is_within(limit, NOW) && !none.is_within(limit, Timestamp(5_001)));
        assert!(!Resumed { confirmed: ConfirmedAt::default(), ..none }.is_within(Duration::MAX, NOW));
    }
}
