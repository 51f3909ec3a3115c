//! What a pick needs to know, what its search may look at, and why it may find no member.

#![expect(clippy::cast_possible_truncation, reason = "a fraction is scaled to the length of a slice")]

use std::cell::Cell;
use std::net::IpAddr;

use super::counters::PickCounters;
use super::hash::{GOLDEN, scale};
use super::member::MemberId;
use super::member_table::MemberTable;
use super::pool::{Active, MemberPool};
use crate::channel::NobodyReason;

/// What is known of the request that needs a member.
///
/// `wrr` and `wleastconn` need nothing. `source` needs the client's address and
/// `uri` the URI; without it they spread such requests evenly.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    pub(super) source: Option<IpAddr>,
    pub(super) uri: Option<&'a [u8]>,
    pub(super) tried: &'a [MemberId],
}

impl<'a> Request<'a> {
    /// Nothing known.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self { source: None, uri: None, tried: &[] }
    }

    /// From this client.
    #[must_use]
    #[inline]
    pub const fn source(self, address: IpAddr) -> Self {
        Self { source: Some(address), ..self }
    }

    /// For this URI: a path with its query, or as the request line had it.
    #[must_use]
    #[inline]
    pub const fn uri(self, uri: &'a [u8]) -> Self {
        Self { uri: Some(uri), ..self }
    }

    /// A retry: not one of these.
    #[must_use]
    #[inline]
    pub const fn tried(self, members: &'a [MemberId]) -> Self {
        Self { tried: members, ..self }
    }

    /// Whether the member of a row was tried before.
    #[inline]
    pub(super) fn has_tried<A>(&self, members: &MemberTable<A>, row: u32) -> bool {
        let is_it = |id: &MemberId| {
            id.row == row && members.row(row).is_some_and(|member| member.serial == id.serial)
        };
        self.tried.iter().any(is_it)
    }
}

/// Why there is no member for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPick {
    /// Nobody is in rotation.
    #[error("{}", reason(*.0))]
    Nobody(NobodyReason),
    /// Everyone in rotation was tried before.
    #[error("every member in rotation was tried")]
    AllTried,
}

impl NoPick {
    /// Why a search among the members found none.
    #[cold]
    pub(super) fn because(active: Active, request: &Request<'_>) -> Self {
        match active {
            Active::Nobody(reason) => Self::Nobody(reason),
            Active::Pool(_) if !request.tried.is_empty() => Self::AllTried,
            // The last member left the pool while the search ran.
            Active::Pool(_) => Self::Nobody(NobodyReason::AllUnhealthy),
        }
    }
}

fn reason(reason: NobodyReason) -> &'static str {
    match reason {
        NobodyReason::NoMembers => "there are no members",
        NobodyReason::AllDisabled => "all members are disabled",
        NobodyReason::AllUnhealthy => "all enabled members are unhealthy",
        NobodyReason::AllWeightsZero => "all enabled members that are not unhealthy have weight 0",
    }
}

/// What a strategy may look at while it searches a member for one request.
pub(super) struct Search<'s, A> {
    pub(super) request: &'s Request<'s>,
    pub(super) members: &'s MemberTable<A>,
    pub(super) pool: MemberPool,
    pub(super) counters: &'s PickCounters,
    pub(super) draws: &'s Draws,
}

impl<A> Search<'_, A> {
    #[inline]
    pub(super) fn was_tried(&self, row: u32) -> bool {
        self.request.has_tried(self.members, row)
    }

    /// Whether the member of a row may take the pick.
    #[inline]
    pub(super) fn accepts(&self, row: u32) -> bool {
        self.members.able(self.pool).contains(row) && !self.was_tried(row)
    }

    /// What the member of a row would have to carry with one more pick, by the shared
    /// counters.
    pub(super) fn load(&self, row: u32) -> u64 {
        u64::from(self.counters.shared.value(row)) + 1
    }

    /// Of rows and their weights, the row with the smallest load by weight; the first of
    /// equals.
    pub(super) fn least_loaded(&self, candidates: impl Iterator<Item = (u32, u32)>) -> Option<u32> {
        let loads = candidates.map(|(row, weight)| (self.load(row), u64::from(weight), row));
        loads
            .reduce(|best, other| if other.0 * best.1 < best.0 * other.1 { other } else { best })
            .map(|(.., row)| row)
    }

    /// The first candidate that may take the pick, from a fraction of them on and
    /// around.
    pub(super) fn first_of<T: Copy>(&self, all: &[T], start: u64, row_of: impl Fn(T) -> u32) -> Option<u32> {
        let (before, after) = all.split_at(scale(start, all.len() as u64) as usize);
        after.iter().chain(before).map(|one| row_of(*one)).find(|row| self.accepts(*row))
    }
}

/// Numbers of a picker for choices that have no order of their own: redirected picks,
/// samples, requests without a key. Different seeds do not run in step.
pub(super) struct Draws(pub(super) Cell<u64>);

impl Draws {
    /// The next number; successive ones lie evenly spread over 64 bits.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(GOLDEN));
        self.0.get()
    }
}
