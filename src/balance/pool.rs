//! Which members a pick chooses among: pools, and the one that is active.
//!
//! `channel::rotation` decides who takes traffic. Each of its tiers has a pool here, of the
//! members that the tier admits. The writer keeps the counts that decide up to date, so
//! that fail-over is one store by the writer and one branch in a pick.

#![expect(clippy::indexing_slicing, reason = "pools are below the length of what they index")]

use std::ops::{Index, IndexMut};

use crate::channel::{Health, MemberStatus, NobodyReason, Role, Standing, Tier};

/// A set of members that take picks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MemberPool {
    Primary = 0,
    Backup = 1,
    /// Everyone enabled that has a weight, of both roles: fail-open.
    Everyone = 2,
    /// Everyone enabled of weight 0, as equals: fail-open while nobody has a weight.
    EveryoneWeightless = 3,
}

impl MemberPool {
    pub(super) const COUNT: usize = 4;
    pub(super) const ALL: [Self; Self::COUNT] =
        [Self::Primary, Self::Backup, Self::Everyone, Self::EveryoneWeightless];

    /// The tier whose members these are.
    pub(super) fn tier(self) -> Tier {
        match self {
            Self::Primary => Tier::Primary,
            Self::Backup => Tier::Backup,
            Self::Everyone => Tier::FailOpen,
            Self::EveryoneWeightless => Tier::FailOpenEqual,
        }
    }

    fn of(role: Role) -> Self {
        match role {
            Role::Primary => Self::Primary,
            Role::Backup => Self::Backup,
        }
    }

    #[inline]
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Everyone | Self::EveryoneWeightless)
    }

    pub(super) fn is_weightless(self) -> bool {
        self == Self::EveryoneWeightless
    }

    /// Whether members of this role are in this pool or, with another weight, could be.
    pub(super) fn has_role(self, role: Role) -> bool {
        self.is_open() || self == Self::of(role)
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

impl From<Tier> for Active {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Primary => Self::Pool(MemberPool::Primary),
            Tier::Backup => Self::Pool(MemberPool::Backup),
            Tier::FailOpen => Self::Pool(MemberPool::Everyone),
            Tier::FailOpenEqual => Self::Pool(MemberPool::EveryoneWeightless),
            Tier::Nobody(reason) => Self::Nobody(reason),
        }
    }
}

impl Active {
    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::Pool(pool) => pool as u8,
            Self::Nobody(NobodyReason::NoMembers) => 4,
            Self::Nobody(NobodyReason::AllDisabled) => 5,
            Self::Nobody(NobodyReason::AllUnhealthy) => 6,
            Self::Nobody(NobodyReason::AllWeightsZero) => 7,
        }
    }

    #[inline(always)]
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte {
            4 => Self::Nobody(NobodyReason::NoMembers),
            5 => Self::Nobody(NobodyReason::AllDisabled),
            6 => Self::Nobody(NobodyReason::AllUnhealthy),
            7 => Self::Nobody(NobodyReason::AllWeightsZero),
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
            Self::Pool(pool) => pool.tier(),
            Self::Nobody(reason) => Tier::Nobody(reason),
        }
    }
}

/// The pools in which a member of this standing could take picks: that of its role, and one
/// of those for fail-open.
pub(super) fn pools_of(standing: Standing) -> [Option<MemberPool>; 2] {
    let admits = |pool: &MemberPool| pool.tier().admits(standing);
    [
        Some(MemberPool::of(standing.role)).filter(admits),
        [MemberPool::Everyone, MemberPool::EveryoneWeightless].into_iter().find(admits),
    ]
}

/// The pools that a member belongs to, whether it may take picks from them or not.
pub(super) fn pools_if_able(standing: Standing) -> [Option<MemberPool>; 2] {
    pools_of(Standing { status: MemberStatus::Enabled, health: Health::Healthy, ..standing })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::channel::FailOpen;

    fn standings() -> impl Strategy<Value = Standing> {
        let role = prop_oneof![Just(Role::Primary), Just(Role::Backup)];
        let status = prop_oneof![Just(MemberStatus::Enabled), Just(MemberStatus::Disabled)];
        let health = prop::sample::select(&Health::ALL[..]);
        (role, status, health, 0_u16..3).prop_map(|(role, status, health, weight)| Standing {
            role,
            status,
            health,
            weight,
        })
    }

    #[test]
    fn every_tier_is_one_byte_and_the_same_again() {
        let pools = MemberPool::ALL.map(MemberPool::tier);
        let nobody = NobodyReason::ALL.map(Tier::Nobody);
        let mut bytes = std::collections::BTreeSet::new();
        for tier in pools.into_iter().chain(nobody) {
            let byte = Active::from(tier).to_byte();
            assert_eq!(Active::from_byte(byte).tier(), tier);
            assert!(bytes.insert(byte), "{tier:?} has a byte of its own");
        }
    }

    proptest! {
        /// The active pool holds exactly the members that the tier admits.
        #[test]
        fn pools_hold_whom_their_tier_admits(
            members in prop::collection::vec(standings(), 0..6),
            open in any::<bool>(),
        ) {
            let fail_open = if open { FailOpen::AllEnabled } else { FailOpen::Closed };
            let tier = Tier::of(members.iter().copied(), fail_open);
            for member in members {
                let pooled =
                    Active::from(tier).pool().is_some_and(|pool| pools_of(member).contains(&Some(pool)));
                prop_assert_eq!(pooled, tier.admits(member));
            }
        }
    }
}
