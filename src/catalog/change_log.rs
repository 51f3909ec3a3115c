//! What a change did to members that stay and to the tiers that serve: what the log tells
//! of it, and its counters.
//!
//! The writer fills a [`ChangeLog`] while it puts a change into effect. The daemon tells it,
//! and counts tiers that verdicts change here too. However many members change, few are
//! named and the others are counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::requester::{Origin, Requesters};
use crate::channel::{Channel, Member, MemberStatus, Role, Tier};

/// So many changes are named of one change set; the others are counted.
const MOST_NAMED: usize = 50;

/// A kind of change that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// A member was switched on.
    Enable,
    /// A member was switched off.
    Disable,
    /// A member has another effective weight.
    Weight,
    /// A member is in another group of its channel.
    Group,
    /// A member became a standby member, or a primary one.
    Role,
    /// The primary members of a channel take its traffic from now on.
    TierPrimary,
    /// The standby members do.
    TierStandby,
    /// All enabled members do, because of `fail_open`.
    TierFailOpen,
    /// Nobody does.
    TierNobody,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Enable,
        Self::Disable,
        Self::Weight,
        Self::Group,
        Self::Role,
        Self::TierPrimary,
        Self::TierStandby,
        Self::TierFailOpen,
        Self::TierNobody,
    ];

    /// The word in metrics and the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Weight => "weight",
            Self::Group => "group",
            Self::Role => "role",
            Self::TierPrimary => "tier_primary",
            Self::TierStandby => "tier_standby",
            Self::TierFailOpen => "tier_fail_open",
            Self::TierNobody => "tier_nobody",
        }
    }

    /// Whether something can be changed so from there. Verdicts change tiers alone.
    #[must_use]
    pub fn is_possible(self, origin: Origin) -> bool {
        let is_tier =
            matches!(self, Self::TierPrimary | Self::TierStandby | Self::TierFailOpen | Self::TierNobody);
        is_tier || origin != Origin::Verdict
    }
}

impl From<Tier> for ChangeKind {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Primary => Self::TierPrimary,
            Tier::Backup => Self::TierStandby,
            Tier::FailOpen | Tier::FailOpenEqual => Self::TierFailOpen,
            Tier::Nobody(_) => Self::TierNobody,
        }
    }
}

/// One change of a member that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedChange {
    /// Its channel.
    pub channel: String,
    /// `host:port`.
    pub member: String,
    /// What changed.
    pub kind: ChangeKind,
    /// What it was.
    pub from: String,
    /// What it is.
    pub to: String,
    /// Who asked for it.
    pub asked_by: Requesters,
}

/// Another tier takes the traffic of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierChange {
    /// The channel.
    pub channel: String,
    /// Which tier it was.
    pub from: Tier,
    /// Which it is.
    pub to: Tier,
    /// Who asked for what led to it.
    pub asked_by: Requesters,
}

/// What one change set did.
#[derive(Debug, Default)]
pub struct ChangeLog {
    /// The first changes of members.
    pub members: Vec<LoggedChange>,
    /// The first changes of tiers.
    pub tiers: Vec<TierChange>,
    /// How many changes of each kind are not among those.
    pub unnamed: HashMap<ChangeKind, usize>,
    counts: HashMap<(ChangeKind, Origin), u64>,
}

/// Whether a member is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    Same,
    Changed,
}

impl ChangeLog {
    /// Compares a member before and after.
    pub(super) fn compare(
        &mut self,
        (old, there): (&Channel, &Member),
        (new, member): (&Channel, &Member),
        asked_by: &Requesters,
    ) -> Compared {
        let mut compared = Compared::Same;
        let mut note = |kind, from: &dyn ToString, to: &dyn ToString| {
            compared = Compared::Changed;
            *self.counts.entry((kind, asked_by.origin())).or_default() += 1;
            if self.members.len() >= MOST_NAMED {
                *self.unnamed.entry(kind).or_default() += 1;
                return;
            }
            self.members.push(LoggedChange {
                channel: new.name().to_owned(),
                member: new.member_address(member).to_string(),
                kind,
                from: from.to_string(),
                to: to.to_string(),
                asked_by: asked_by.clone(),
            });
        };
        if there.group() != member.group() {
            note(ChangeKind::Group, &there.group().unwrap_or_default(), &member.group().unwrap_or_default());
        }
        if there.status() != member.status() {
            let kind = match member.status() {
                MemberStatus::Enabled => ChangeKind::Enable,
                MemberStatus::Disabled => ChangeKind::Disable,
            };
            note(kind, &switch_word(there.status()), &switch_word(member.status()));
        }
        let (before, after) = (old.effective_weight(there), new.effective_weight(member));
        if before != after {
            note(ChangeKind::Weight, &before, &after);
        }
        if there.role() != member.role() {
            note(ChangeKind::Role, &role_word(there.role()), &role_word(member.role()));
        }
        compared
    }

    /// Notes the tier of a channel after the change.
    pub(super) fn compare_tier(&mut self, channel: &str, from: Tier, to: Tier, asked_by: &Requesters) {
        if ChangeKind::from(from) == ChangeKind::from(to) {
            return;
        }
        let kind = ChangeKind::from(to);
        *self.counts.entry((kind, asked_by.origin())).or_default() += 1;
        if self.tiers.len() >= MOST_NAMED {
            *self.unnamed.entry(kind).or_default() += 1;
            return;
        }
        self.tiers.push(TierChange { channel: channel.to_owned(), from, to, asked_by: asked_by.clone() });
    }
}

fn switch_word(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Enabled => "enabled",
        MemberStatus::Disabled => "disabled",
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Backup => "standby",
    }
}

/// Counts changes by kind and origin. The control loop writes, scrapes read.
#[derive(Debug, Default)]
pub struct ChangeCounters([[AtomicU64; Origin::ALL.len()]; ChangeKind::ALL.len()]);

/// What had been counted at one instant, by the places of [`ChangeKind::ALL`] and
/// [`Origin::ALL`].
pub type ChangeCounts = [[u64; Origin::ALL.len()]; ChangeKind::ALL.len()];

impl ChangeCounters {
    /// Counts what a change set did.
    pub(super) fn add(&self, log: &ChangeLog) {
        for ((kind, origin), count) in &log.counts {
            self.count(*kind, *origin, *count);
        }
    }

    /// Counts so many changes.
    pub fn count(&self, kind: ChangeKind, origin: Origin, count: u64) {
        if let Some(counter) = self.0.get(kind as usize).and_then(|row| row.get(origin as usize)) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> ChangeCounts {
        self.0.each_ref().map(|row| row.each_ref().map(|counter| counter.load(Ordering::Relaxed)))
    }
}
