//! Weighted least connections: the member with the smallest (open + 1) / weight.
//!
//! `LeastRule` says how exactly. By default every pick has the smallest of all: the
//! members are kept in that order (`order`), under the locks of a few shards
//! (`shards`), beside the published tables. The sampled rule takes no lock: it draws a
//! few members at random and compares their shared counters.

#![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "indices are scaled")]

mod classes;
mod order;
mod shards;

use self::classes::Idle;
pub(in crate::balance) use self::shards::{LeastConnections, ShardAffinity};
use crate::balance::hash::{GOLDEN, fold, scale};
use crate::balance::member_table::MemberTable;
use crate::balance::membership::{MemberEntry, Membership, PoolMembers};
use crate::balance::options::LeastRule;
use crate::balance::pool::{Active, MemberPool};
use crate::balance::request::Search;

/// Members drawn at random before a pick looks at every member.
const DRAWS: usize = 64;

impl LeastConnections {
    /// An order without members.
    pub(super) fn by(rule: LeastRule) -> Self {
        Self::new(if rule == LeastRule::IdleFirst { Idle::First } else { Idle::Weighed })
    }

    /// Moves the member of a row where its standing and weight say, and makes a pool
    /// active. Called by the one writer.
    pub(in crate::balance) fn relink<A>(
        &self,
        membership: &Membership<A>,
        members: &MemberTable<A>,
        row: u32,
        active: Active,
    ) {
        let before = members.active();
        let place = membership.entry(row).and_then(|entry| place(entry, active));
        if before == active {
            return self.link(row, place);
        }
        let mut all = self.lock_all();
        members.set_active(active);
        all.set_active(active.pool());
        if before.is_open() == active.is_open() {
            all.link(row, place);
        } else {
            all.link_all(&places(membership, active));
        }
    }

    /// As `relink`, for all rows. `publish` runs under all locks: picks hold one of them
    /// before they look at what is published.
    pub(in crate::balance) fn relink_all<A>(
        &self,
        membership: &Membership<A>,
        active: Active,
        publish: impl FnOnce(),
    ) {
        let mut all = self.lock_all();
        all.link_all(&places(membership, active));
        all.set_active(active.pool());
        publish();
    }
}

fn places<A>(membership: &Membership<A>, active: Active) -> Vec<Option<(MemberPool, u32)>> {
    membership.entries.iter().map(|entry| place(entry, active)).collect()
}

/// The pool in which a member is kept in order while another is active, and its weight
/// there.
fn place<A>(entry: &MemberEntry<A>, active: Active) -> Option<(MemberPool, u32)> {
    let [own, open] = entry.pools();
    let pool = if active.is_open() { open } else { own };
    pool.filter(|_| entry.is_member).map(|pool| (pool, entry.weight_in_pool()))
}

/// The members of a pool that are drawn from, and their weights.
#[derive(Debug)]
pub(in crate::balance) struct Sampled {
    candidates: Box<[(u32, u32)]>,
    /// Members drawn for a pick.
    samples: usize,
}

impl Sampled {
    pub(super) fn new<A>(pool: &PoolMembers<'_, A>, samples: usize) -> Option<Self> {
        let weighed = pool.iter().map(|(row, entry)| (row, entry.weight_in_pool()));
        let candidates: Box<[(u32, u32)]> = weighed.collect();
        (!candidates.is_empty()).then_some(Self { candidates, samples })
    }

    pub(super) fn choose<A>(&self, search: &Search<'_, A>) -> Option<u32> {
        let draw = || fold(search.draws.next(), GOLDEN);
        let count = self.candidates.len() as u64;
        let drawn = (0..DRAWS).map(|_| self.candidates[scale(draw(), count) as usize]);
        let lucky = drawn.filter(|(row, _)| search.accepts(*row)).take(self.samples);
        search.least_loaded(lucky).or_else(|| search.first_of(&self.candidates, draw(), |(row, _)| row))
    }

    /// The least loaded of all, as an explanation: a sample has no next member.
    pub(super) fn least_loaded<A>(&self, search: &Search<'_, A>) -> Option<u32> {
        search.least_loaded(self.candidates.iter().copied().filter(|(row, _)| search.accepts(*row)))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.candidates)
    }
}
