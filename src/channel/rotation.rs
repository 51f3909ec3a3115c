//! Which members take traffic: one pure rule over enabled, role, health and weight
//! (docs/vendor-api.md, "Weights" and "Status and standby").
//!
//! Status, metrics, balancers and the API all use this rule, so that they can never
//! disagree. A member is *in rotation* when the active tier admits it; its *effective
//! weight* then says how much it takes. A member of weight 0 takes no new traffic,
//! whatever the strategy, and keeps no tier alive.

use super::words::{FailOpen, Health, MemberStatus, Role};

/// What the rule needs to know of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Primary or backup.
    pub role: Role,
    /// The user's switch.
    pub status: MemberStatus,
    /// What the probes have shown.
    pub health: Health,
    /// Its effective weight; 0 takes no new traffic.
    pub weight: u16,
}

impl Standing {
    /// Enabled and not unhealthy: could take traffic, given a weight and an active tier.
    pub fn is_eligible(self) -> bool {
        self.status == MemberStatus::Enabled && self.health != Health::Unhealthy
    }
}

/// Which members of a channel take traffic now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The eligible primaries that have a weight.
    Primary,
    /// There is no such primary: the eligible backups that have a weight.
    Backup,
    /// There is no such backup either, and `fail_open` is set: every enabled member that
    /// has a weight, in proportion to it.
    FailOpen,
    /// `fail_open` is set, and every enabled member has weight 0: all of them, as equals.
    FailOpenEqual,
    /// Nobody.
    Nobody(NobodyReason),
}

/// Why [`Tier::Nobody`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NobodyReason {
    /// The channel has no members.
    NoMembers,
    /// Every member is switched off.
    AllDisabled,
    /// Every enabled member is unhealthy.
    AllUnhealthy,
    /// Some enabled member is not unhealthy, but all of those have weight 0.
    AllWeightsZero,
}

impl NobodyReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::NoMembers, Self::AllDisabled, Self::AllUnhealthy, Self::AllWeightsZero];

    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoMembers => "no_members",
            Self::AllDisabled => "all_disabled",
            Self::AllUnhealthy => "all_unhealthy",
            Self::AllWeightsZero => "all_weights_zero",
        }
    }
}

/// Why a member takes no traffic; of several reasons the first of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutOfRotation {
    /// It is switched off.
    Disabled,
    /// It is unhealthy.
    Unhealthy,
    /// Its effective weight is 0.
    WeightZero,
    /// Its tier is not the active one: it is a standby member, and primaries take the
    /// traffic.
    InactiveTier,
}

impl OutOfRotation {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Unhealthy => "unhealthy",
            Self::WeightZero => "weight_zero",
            Self::InactiveTier => "inactive_tier",
        }
    }
}

impl Tier {
    /// The active tier of a channel, from all its members in one pass.
    pub fn of(members: impl IntoIterator<Item = Standing>, fail_open: FailOpen) -> Self {
        let mut counts = TierCounts::default();
        for member in members {
            // The others cannot change what one such primary decides.
            if Self::Primary.admits(member) {
                return Self::Primary;
            }
            counts.add(member);
        }
        counts.tier(fail_open)
    }

    /// Whether a member takes part while this tier is active.
    #[inline]
    pub fn admits(self, member: Standing) -> bool {
        self.excludes(member).is_none()
    }

    /// Why a member takes no part while this tier is active; none if it does.
    #[inline]
    pub fn excludes(self, member: Standing) -> Option<OutOfRotation> {
        let is_open = matches!(self, Self::FailOpen | Self::FailOpenEqual);
        if member.status == MemberStatus::Disabled {
            return Some(OutOfRotation::Disabled);
        }
        if member.health == Health::Unhealthy && !is_open {
            return Some(OutOfRotation::Unhealthy);
        }
        if member.weight == 0 && self != Self::FailOpenEqual {
            return Some(OutOfRotation::WeightZero);
        }
        let is_active = match self {
            Self::Primary => member.role == Role::Primary,
            Self::Backup => member.role == Role::Backup,
            Self::FailOpen | Self::FailOpenEqual => true,
            Self::Nobody(_) => false,
        };
        (!is_active).then_some(OutOfRotation::InactiveTier)
    }
}

/// How many members each tier would admit; which one is active follows from that.
/// A balancer keeps them up to date, member by member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TierCounts {
    members: usize,
    eligible: usize,
    primaries: usize,
    backups: usize,
    /// By [`Tier::FailOpen`].
    weighted: usize,
    /// By [`Tier::FailOpenEqual`]: every enabled member.
    enabled: usize,
}

impl TierCounts {
    pub(crate) fn add(&mut self, member: Standing) {
        self.count(member, |count| *count += 1);
    }

    pub(crate) fn remove(&mut self, member: Standing) {
        self.count(member, |count| *count -= 1);
    }

    fn count(&mut self, member: Standing, count: impl Fn(&mut usize)) {
        count(&mut self.members);
        if member.is_eligible() {
            count(&mut self.eligible);
        }
        for (admitted, tier) in [
            (&mut self.primaries, Tier::Primary),
            (&mut self.backups, Tier::Backup),
            (&mut self.weighted, Tier::FailOpen),
            (&mut self.enabled, Tier::FailOpenEqual),
        ] {
            if tier.admits(member) {
                count(admitted);
            }
        }
    }

    /// The tier that is active among these members.
    pub(crate) fn tier(&self, fail_open: FailOpen) -> Tier {
        match fail_open {
            _ if self.primaries > 0 => Tier::Primary,
            _ if self.backups > 0 => Tier::Backup,
            FailOpen::AllEnabled if self.weighted > 0 => Tier::FailOpen,
            FailOpen::AllEnabled if self.enabled > 0 => Tier::FailOpenEqual,
            _ if self.members == 0 => Tier::Nobody(NobodyReason::NoMembers),
            _ if self.enabled == 0 => Tier::Nobody(NobodyReason::AllDisabled),
            _ if self.eligible == 0 => Tier::Nobody(NobodyReason::AllUnhealthy),
            _ => Tier::Nobody(NobodyReason::AllWeightsZero),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `"healthy 5"`, then perhaps `standby` or `disabled`.
    fn standing(text: &str) -> Standing {
        let mut words = text.split(' ');
        let health = match words.next() {
            Some("healthy") => Health::Healthy,
            Some("unhealthy") => Health::Unhealthy,
            _ => Health::Unknown,
        };
        let weight = words.next().and_then(|weight| weight.parse().ok()).expect("a weight");
        let rest: Vec<&str> = words.collect();
        Standing {
            role: if rest.contains(&"standby") { Role::Backup } else { Role::Primary },
            status: if rest.contains(&"disabled") { MemberStatus::Disabled } else { MemberStatus::Enabled },
            health,
            weight,
        }
    }

    /// What it shows, the members, who takes traffic, and who does with `fail_open`.
    type Case = (&'static str, &'static [&'static str], Answer, Answer);
    /// The tier, and why each member is out; none for those that are in.
    type Answer = (Tier, &'static [Option<OutOfRotation>]);

    #[test]
    fn known_answers() {
        use NobodyReason::{AllDisabled, AllUnhealthy, AllWeightsZero, NoMembers};
        use OutOfRotation::{Disabled, InactiveTier, Unhealthy, WeightZero};
        use Tier::{Backup, FailOpen, FailOpenEqual, Nobody, Primary};
        let primary: Answer = (Primary, &[None, Some(WeightZero), Some(InactiveTier)]);
        let standby: Answer = (Backup, &[Some(WeightZero), Some(WeightZero), None]);
        let cases: [Case; 11] = [
            ("a drained one", &["unknown 1", "healthy 0", "healthy 1 standby"], primary, primary),
            ("drained primaries", &["healthy 0", "unknown 0", "healthy 1 standby"], standby, standby),
            (
                "a drained one, and another that is down",
                &["healthy 0", "unhealthy 5", "healthy 1 standby"],
                (Backup, &[Some(WeightZero), Some(Unhealthy), None]),
                (Backup, &[Some(WeightZero), Some(Unhealthy), None]),
            ),
            (
                "a drained standby member beside one with a weight",
                &["unhealthy 1", "healthy 0 standby", "healthy 1 standby"],
                (Backup, &[Some(Unhealthy), Some(WeightZero), None]),
                (Backup, &[Some(Unhealthy), Some(WeightZero), None]),
            ),
            (
                "everybody drained",
                &["healthy 0", "unknown 0 standby"],
                (Nobody(AllWeightsZero), &[Some(WeightZero), Some(WeightZero)]),
                (FailOpenEqual, &[None, None]),
            ),
            (
                "everybody drained, and one of them down",
                &["healthy 0", "unhealthy 0"],
                (Nobody(AllWeightsZero), &[Some(WeightZero), Some(Unhealthy)]),
                (FailOpenEqual, &[None, None]),
            ),
            (
                "who has a weight is down, and who is up has none",
                &["unhealthy 5", "healthy 0 standby", "healthy 3 disabled"],
                (Nobody(AllWeightsZero), &[Some(Unhealthy), Some(WeightZero), Some(Disabled)]),
                (FailOpen, &[None, Some(WeightZero), Some(Disabled)]),
            ),
            (
                "all down",
                &["unhealthy 5", "unhealthy 1 standby"],
                (Nobody(AllUnhealthy), &[Some(Unhealthy), Some(Unhealthy)]),
                (FailOpen, &[None, None]),
            ),
            (
                "all down and drained",
                &["unhealthy 0", "unhealthy 0 standby"],
                (Nobody(AllUnhealthy), &[Some(Unhealthy), Some(Unhealthy)]),
                (FailOpenEqual, &[None, None]),
            ),
            (
                "all switched off",
                &["healthy 1 disabled", "healthy 0 disabled"],
                (Nobody(AllDisabled), &[Some(Disabled), Some(Disabled)]),
                (Nobody(AllDisabled), &[Some(Disabled), Some(Disabled)]),
            ),
            ("empty", &[], (Nobody(NoMembers), &[]), (Nobody(NoMembers), &[])),
        ];
        for (case, members, closed, open) in cases {
            for (fail_open, expected) in
                [(super::FailOpen::Closed, closed), (super::FailOpen::AllEnabled, open)]
            {
                let members = || members.iter().map(|text| standing(text));
                let tier = Tier::of(members(), fail_open);
                let excluded: Vec<_> = members().map(|member| tier.excludes(member)).collect();
                assert_eq!((tier, &*excluded), expected, "{case}, {fail_open:?}");
            }
        }
    }

    fn standings() -> impl Strategy<Value = Vec<Standing>> {
        let role = prop_oneof![Just(Role::Primary), Just(Role::Backup)];
        let status = prop_oneof![3 => Just(MemberStatus::Enabled), 1 => Just(MemberStatus::Disabled)];
        let health = prop::sample::select(&Health::ALL[..]);
        let one = (role, status, health, 0_u16..3).prop_map(|(role, status, health, weight)| Standing {
            role,
            status,
            health,
            weight,
        });
        prop::collection::vec(one, 0..6)
    }

    proptest! {
        /// Against the rule, said in another way: the first set that is not empty.
        #[test]
        fn the_first_set_that_is_not_empty_takes_traffic(
            members in standings(),
            gone in standings(),
            fail_open in prop_oneof![Just(FailOpen::Closed), Just(FailOpen::AllEnabled)],
        ) {
            let mut counts = TierCounts::default();
            members.iter().chain(&gone).for_each(|member| counts.add(*member));
            gone.iter().for_each(|member| counts.remove(*member));
            let tier = Tier::of(members.iter().copied(), fail_open);
            prop_assert_eq!(counts.tier(fail_open), tier);
            let is_open = fail_open == FailOpen::AllEnabled;
            let enabled = |member: &Standing| member.status == MemberStatus::Enabled;
            let up = |member: &Standing| enabled(member) && member.health != Health::Unhealthy;
            let sets: [&dyn Fn(&Standing) -> bool; 4] = [
                &|member| up(member) && member.weight > 0 && member.role == Role::Primary,
                &|member| up(member) && member.weight > 0 && member.role == Role::Backup,
                &|member| is_open && enabled(member) && member.weight > 0,
                &|member| is_open && enabled(member),
            ];
            let takers = sets.into_iter().find(|set| members.iter().any(set));
            for member in &members {
                prop_assert_eq!(tier.admits(*member), takers.is_some_and(|set| set(member)));
            }
        }
    }
}
