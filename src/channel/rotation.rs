//! Which members take traffic: one pure rule over enabled, role and health
//! (docs/vendor-api.md, "Weights" and "Status and standby").
//!
//! Status, metrics, balancers and the API all use this rule, so that they can never
//! disagree. A member is *in rotation* when it is enabled, not unhealthy, and its
//! tier is the active one; its *effective weight* then says how much it takes.

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
}

impl Standing {
    /// Enabled and not unhealthy: could take traffic if its tier is active.
    pub fn is_eligible(self) -> bool {
        self.status == MemberStatus::Enabled && self.health != Health::Unhealthy
    }
}

/// Which members of a channel take traffic now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The eligible primaries.
    Primary,
    /// No primary is eligible: the eligible backups.
    Backup,
    /// Nobody is eligible and `fail_open` is set: every enabled member.
    FailOpen,
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
}

impl Tier {
    /// The active tier of a channel, from all its members in one pass.
    pub fn of(members: impl IntoIterator<Item = Standing>, fail_open: FailOpen) -> Self {
        let mut any_member = false;
        let mut any_enabled = false;
        let mut any_backup = false;
        for member in members {
            any_member = true;
            any_enabled |= member.status == MemberStatus::Enabled;
            if member.is_eligible() {
                match member.role {
                    Role::Primary => return Self::Primary,
                    Role::Backup => any_backup = true,
                }
            }
        }
        match (any_backup, any_enabled, fail_open) {
            (true, _, _) => Self::Backup,
            (false, true, FailOpen::AllEnabled) => Self::FailOpen,
            (false, true, FailOpen::Closed) => Self::Nobody(NobodyReason::AllUnhealthy),
            (false, false, _) if any_member => Self::Nobody(NobodyReason::AllDisabled),
            (false, false, _) => Self::Nobody(NobodyReason::NoMembers),
        }
    }

    /// Whether a member takes part while this tier is active.
    pub fn admits(self, member: Standing) -> bool {
        match self {
            Self::Primary => member.is_eligible() && member.role == Role::Primary,
            Self::Backup => member.is_eligible() && member.role == Role::Backup,
            Self::FailOpen => member.status == MemberStatus::Enabled,
            Self::Nobody(_) => false,
        }
    }
}
