//! Which members a pick chooses among: pools, and the one that is active.
//!
//! `channel::rotation` decides the tier from all members in one pass. Here the same
//! decision is kept up to date by counting, so that fail-over is one store by the
//! writer and one branch in a pick; a property test holds the two equal. Members
//! of weight 0 form pools of their own: they take part only when no eligible member
//! of their tier has a weight, and then count as equal.

#![expect(clippy::indexing_slicing, reason = "pools are below the length of what they index")]

use std::ops::{Index, IndexMut};

use crate::channel::{FailOpen, MemberStatus, NobodyReason, Role, Standing, Tier};

/// A set of members that take picks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MemberPool {
    Primary = 0,
    PrimaryWeightless = 1,
    Backup = 2,
    BackupWeightless = 3,
    /// Everyone enabled, of both roles: fail-open.
    Everyone = 4,
    EveryoneWeightless = 5,
}

impl MemberPool {
    pub(super) const COUNT: usize = 6;
    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::Primary,
        Self::PrimaryWeightless,
        Self::Backup,
        Self::BackupWeightless,
        Self::Everyone,
        Self::EveryoneWeightless,
    ];

    /// The pool a member belongs to in its own tier.
    pub(super) fn of(role: Role, weight: u32) -> Self {
        match (role, weight) {
            (Role::Primary, 0) => Self::PrimaryWeightless,
            (Role::Primary, _) => Self::Primary,
            (Role::Backup, 0) => Self::BackupWeightless,
            (Role::Backup, _) => Self::Backup,
        }
    }

    pub(super) fn open_of(weight: u32) -> Self {
        if weight == 0 { Self::EveryoneWeightless } else { Self::Everyone }
    }

    #[inline]
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Everyone | Self::EveryoneWeightless)
    }

    pub(super) fn is_weightless(self) -> bool {
        matches!(self, Self::PrimaryWeightless | Self::BackupWeightless | Self::EveryoneWeightless)
    }

    /// Whether members of this role are in this pool or, with another weight, could be.
    pub(super) fn has_role(self, role: Role) -> bool {
        self.is_open() || self == Self::of(role, 0) || self == Self::of(role, 1)
    }
}

/// A value for each pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByPool<T>(pub(super) [T; MemberPool::COUNT]);

impl<T> ByPool<T> {
    pub(super) fn from_fn(value: impl FnMut(MemberPool) -> T) -> Self {
        Self(MemberPool::ALL.map(value))
    }
}

impl<T> Index<MemberPool> for ByPool<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, pool: MemberPool) -> &T {
        &self.0[pool as usize]
    }
}

impl<T> IndexMut<MemberPool> for ByPool<T> {
    fn index_mut(&mut self, pool: MemberPool) -> &mut T {
        &mut self.0[pool as usize]
    }
}

/// Who takes picks now, as one byte that pickers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Active {
    Pool(MemberPool),
    Nobody(NobodyReason),
}

impl Active {
    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::Pool(pool) => pool as u8,
            Self::Nobody(NobodyReason::NoMembers) => 6,
            Self::Nobody(NobodyReason::AllDisabled) => 7,
            Self::Nobody(NobodyReason::AllUnhealthy) => 8,
        }
    }

    #[inline(always)]
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte {
            6 => Self::Nobody(NobodyReason::NoMembers),
            7 => Self::Nobody(NobodyReason::AllDisabled),
            8 => Self::Nobody(NobodyReason::AllUnhealthy),
            pool => Self::Pool(MemberPool::ALL[pool as usize]),
        }
    }

    #[inline]
    pub(super) fn pool(self) -> Option<MemberPool> {
        match self {
            Self::Pool(pool) => Some(pool),
            Self::Nobody(_) => None,
        }
    }

    pub(super) fn is_open(self) -> bool {
        self.pool().is_some_and(MemberPool::is_open)
    }

    pub(super) fn tier(self) -> Tier {
        match self {
            Self::Pool(MemberPool::Primary | MemberPool::PrimaryWeightless) => Tier::Primary,
            Self::Pool(MemberPool::Backup | MemberPool::BackupWeightless) => Tier::Backup,
            Self::Pool(MemberPool::Everyone | MemberPool::EveryoneWeightless) => Tier::FailOpen,
            Self::Nobody(reason) => Tier::Nobody(reason),
        }
    }
}

/// How many members could take picks in each pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TierCounts {
    members: usize,
    able: ByPool<usize>,
}

impl TierCounts {
    pub(super) fn add(&mut self, standing: Standing, weight: u32) {
        self.members += 1;
        for pool in pools_of(standing, weight).into_iter().flatten() {
            self.able[pool] += 1;
        }
    }

    pub(super) fn remove(&mut self, standing: Standing, weight: u32) {
        self.members -= 1;
        for pool in pools_of(standing, weight).into_iter().flatten() {
            self.able[pool] -= 1;
        }
    }

    /// The rule of `channel::rotation`, from the counts.
    pub(super) fn active(&self, fail_open: FailOpen) -> Active {
        use MemberPool::{
            Backup, BackupWeightless, Everyone, EveryoneWeightless, Primary, PrimaryWeightless,
        };
        let able = |pool: &MemberPool| self.able[*pool] > 0;
        if let Some(pool) = [Primary, PrimaryWeightless, Backup, BackupWeightless].into_iter().find(able) {
            return Active::Pool(pool);
        }
        match (fail_open, [Everyone, EveryoneWeightless].into_iter().find(able)) {
            (FailOpen::AllEnabled, Some(pool)) => Active::Pool(pool),
            (FailOpen::Closed, Some(_)) => Active::Nobody(NobodyReason::AllUnhealthy),
            (_, None) if self.members > 0 => Active::Nobody(NobodyReason::AllDisabled),
            (_, None) => Active::Nobody(NobodyReason::NoMembers),
        }
    }
}

/// The pools in which a member of this standing could take picks.
pub(super) fn pools_of(standing: Standing, weight: u32) -> [Option<MemberPool>; 2] {
    [
        standing.is_eligible().then(|| MemberPool::of(standing.role, weight)),
        (standing.status == MemberStatus::Enabled).then(|| MemberPool::open_of(weight)),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::channel::Health;

    fn standings() -> impl Strategy<Value = (Standing, u32)> {
        let role = prop_oneof![Just(Role::Primary), Just(Role::Backup)];
        let status = prop_oneof![Just(MemberStatus::Enabled), Just(MemberStatus::Disabled)];
        let health = prop::sample::select(&Health::ALL[..]);
        (role, status, health, 0_u32..3)
            .prop_map(|(role, status, health, weight)| (Standing { role, status, health }, weight))
    }

    proptest! {
        #[test]
        fn the_counts_agree_with_rotation(
            members in prop::collection::vec(standings(), 0..6),
            gone in prop::collection::vec(standings(), 0..6),
            open in any::<bool>(),
        ) {
            let fail_open = if open { FailOpen::AllEnabled } else { FailOpen::Closed };
            let mut counts = TierCounts::default();
            for (standing, weight) in members.iter().chain(&gone) {
                counts.add(*standing, *weight);
            }
            for (standing, weight) in gone {
                counts.remove(standing, weight);
            }
            let active = counts.active(fail_open);
            let tier = Tier::of(members.iter().map(|(standing, _)| *standing), fail_open);
            prop_assert_eq!(active.tier(), tier);
            prop_assert_eq!(Active::from_byte(active.to_byte()), active);
            // The pool holds exactly those that the tier admits and that the
            // rule of weights lets through.
            let admitted: Vec<_> = members.iter().filter(|(standing, _)| tier.admits(*standing)).collect();
            let weighted = admitted.iter().any(|(_, weight)| *weight > 0);
            for (standing, weight) in &members {
                let takes = tier.admits(*standing) && (*weight > 0 || !weighted);
                let pooled = match active {
                    Active::Pool(pool) => pools_of(*standing, *weight).contains(&Some(pool)),
                    Active::Nobody(_) => false,
                };
                prop_assert_eq!(pooled, takes);
            }
        }
    }
}
