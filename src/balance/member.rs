//! Members as the user gives them, and as picks name them.

use std::fmt;

use crate::channel::{Health, MemberStatus, Role, Standing};

/// The highest weight of a member (the vendor's API: 0 to 10000).
pub const MAX_WEIGHT: u16 = 10_000;

/// The steps of a full weight in slow start. Inside this room weights are
/// `weight * steps`.
pub(super) const FULL_RAMP: u32 = 20;

/// The first step of slow start: 10 %.
pub(super) const FIRST_STEP: u32 = 2;

/// A member of a balancer.
///
/// `A` is what a pick hands out: a socket address, an index, a handle. It is
/// cloned per pick, so let it be cheap; `Copy` types are best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<A> {
    /// What makes it this member: on an update, the same identity keeps its
    /// health and its open picks. The hash strategies place it by this, so let it
    /// be the same on every instance. The daemon uses group, host and port.
    pub identity: String,
    /// What a pick hands out.
    pub address: A,
    /// Its effective weight, 0 to [`MAX_WEIGHT`]; more counts as that. 0 takes no
    /// picks, but with `fail_open` while every enabled member has weight 0.
    pub weight: u16,
    /// Primary or backup.
    pub role: Role,
    /// The user's switch.
    pub status: MemberStatus,
    /// What is known of it when it joins. A member that is already there keeps
    /// the health it has.
    pub health: Health,
}

impl<A: fmt::Display> Member<A> {
    /// An enabled primary of weight 1, known by its address.
    #[must_use]
    pub fn new(address: A) -> Self {
        Self::named(address.to_string(), address)
    }
}

impl<A> Member<A> {
    /// An enabled primary of weight 1, known by `identity`.
    #[must_use]
    pub fn named(identity: impl Into<String>, address: A) -> Self {
        Self {
            identity: identity.into(),
            address,
            weight: 1,
            role: Role::Primary,
            status: MemberStatus::Enabled,
            health: Health::Unknown,
        }
    }

    /// With this weight.
    #[must_use]
    pub fn weight(self, weight: u16) -> Self {
        Self { weight, ..self }
    }

    /// As primary or backup.
    #[must_use]
    pub fn role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// Switched on or off.
    #[must_use]
    pub fn status(self, status: MemberStatus) -> Self {
        Self { status, ..self }
    }

    /// Joining with this health.
    #[must_use]
    pub fn health(self, health: Health) -> Self {
        Self { health, ..self }
    }
}

/// Names one member of one balancer, as long as it stays a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    pub(super) row: u32,
    pub(super) serial: u32,
}

/// The member has left the balancer, or never was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such member: it has left the balancer; look its id up again")]
pub struct UnknownMember;

/// Whether a member is being emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Drain {
    /// Takes picks as its status and health say.
    #[default]
    Off,
    /// Takes no new picks; open ones finish.
    Draining,
}

/// One member as the balancer sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSummary<A> {
    /// Its name for picks and changes.
    pub id: MemberId,
    /// Its identity.
    pub identity: String,
    /// What picks hand out.
    pub address: A,
    /// Its weight, as given.
    pub weight: u16,
    /// The share of its weight that slow start lets it take now, in percent.
    pub ramp_percent: u8,
    /// Whether it takes new picks now: the active tier admits it.
    pub in_rotation: bool,
    /// Role, status, health and weight. A draining member stands as disabled.
    pub standing: Standing,
    /// Whether it is being emptied.
    pub drain: Drain,
    /// Picks that have begun and not ended.
    pub open_picks: u32,
}
