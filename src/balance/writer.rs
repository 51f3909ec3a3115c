//! The one writer: members, health and switches in; snapshots and words out.
//!
//! Health, status and drain are words in the published tables; weights and
//! membership replace what they change. Weighted round robin also keeps its order
//! smooth: a short cycle is written again at every change of who is able, a long
//! one at the next [`TableWriter::advance`]; until then picks that meet a member out
//! of rotation are spread over the others in proportion to their weights. So are
//! those of short cycles when many members flip together: what is written at once
//! between two advances is bounded.

mod membership;
mod ramp;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::membership::{MemberEntry, Membership};
use self::ramp::FIRST_STEP;
use super::core::{Core, Counting};
use super::member::{Drain, FULL_RAMP, MAX_WEIGHT, Member, MemberId, UnknownMember};
use super::pool::{Active, MemberPool, TierCounts, pools_of};
use super::snapshot::{MemberTable, PoolTable, Snapshot};
use crate::channel::{Health, MemberStatus, Standing, Strategy};

/// Why a list of members was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// Two members have one identity.
    #[error("two members have the identity {0:?}; give each its own")]
    DuplicateIdentity(String),
    /// More members than weights of 32 bits can be added up for.
    #[error("{0} members are too many for one balancer; the limit is {MAX_MEMBERS}")]
    TooManyMembers(usize),
}

/// The most members of one balancer; 16 million.
pub const MAX_MEMBERS: usize = 1 << 24;

/// The writer's state, behind the balancer's lock.
#[derive(Debug)]
pub(super) struct TableWriter<A> {
    membership: Membership<A>,
    counts: TierCounts,
    now: Duration,
    /// Pools of weighted round robin whose order lags behind.
    lagging: [bool; MemberPool::COUNT],
    /// Slots of orders written at once since the last advance.
    written: u64,
    /// Since when each row has been in slow start.
    ramping: BTreeMap<u32, Duration>,
    snapshot: Arc<Snapshot<A>>,
}

impl<A: Clone> TableWriter<A> {
    /// A writer without members, and the snapshot that says so.
    pub(super) fn new() -> (Self, Arc<Snapshot<A>>) {
        let active = TierCounts::default().active(crate::channel::FailOpen::Closed);
        let members = Arc::new(MemberTable::new(Box::default(), active));
        let snapshot = Arc::new(Snapshot { generation: 0, members, pools: Default::default() });
        let writer = Self {
            membership: Membership::new(),
            counts: TierCounts::default(),
            now: Duration::ZERO,
            lagging: [false; MemberPool::COUNT],
            written: 0,
            ramping: BTreeMap::new(),
            snapshot: Arc::clone(&snapshot),
        };
        (writer, snapshot)
    }

    /// The id of an identity.
    pub(super) fn id_of(&self, core: &Core<A>, identity: &str) -> Option<MemberId> {
        self.membership.id_of(&core.hashing, identity)
    }

    /// Rows and entries of those who are members, in the order of rows.
    pub(super) fn members(&self) -> impl Iterator<Item = (u32, &MemberEntry<A>)> {
        self.membership.members()
    }

    pub(super) fn active(&self) -> Active {
        self.snapshot.members.active()
    }

    /// Bytes of the tables.
    pub(super) fn heap_bytes(&self, core: &Core<A>) -> usize {
        self.snapshot.heap_bytes() + core.least.lock_all().heap_bytes()
    }

    /// Replaces the members. Who is there already keeps health, drain, ramp and
    /// open picks; a changed weight, role or status takes effect.
    pub(super) fn update(&mut self, core: &Core<A>, members: Vec<Member<A>>) -> Result<(), UpdateError> {
        self.membership.replace(&core.hashing, members, |row| core.open_picks(row) == 0)?;
        self.rebuild(core);
        Ok(())
    }

    /// Changes one member and makes that visible before it returns.
    pub(super) fn change(
        &mut self,
        core: &Core<A>,
        id: MemberId,
        edit: impl FnOnce(&mut MemberEntry<A>),
    ) -> Result<(), UnknownMember> {
        let entry = self.membership.entry_of(id)?;
        let before = (entry.standing(), entry.effective());
        edit(entry);
        let after = (entry.standing(), entry.effective());
        if before == after {
            return Ok(());
        }
        self.counts.remove(before.0, before.1);
        self.counts.add(after.0, after.1);
        if before.1 != after.1 {
            self.reweigh(core, id.row, before.1, after.1);
        } else {
            self.flip(core, id.row, before.0, after.0, after.1);
        }
        Ok(())
    }

    /// A verdict: may start a slow start.
    pub(super) fn set_health(
        &mut self,
        core: &Core<A>,
        id: MemberId,
        health: Health,
    ) -> Result<(), UnknownMember> {
        let now = self.now;
        let mut started = false;
        self.change(core, id, |entry| {
            let recovers = entry.health == Health::Unhealthy && health != Health::Unhealthy;
            entry.health = health;
            if health == Health::Unhealthy {
                entry.ramp = FULL_RAMP;
            } else if recovers && core.options.slow_start.is_some_and(|slow| !slow.window.is_zero()) {
                entry.ramp = FIRST_STEP;
                started = true;
            }
        })?;
        if started {
            self.ramping.insert(id.row, now);
        }
        Ok(())
    }

    pub(super) fn set_status(
        &mut self,
        core: &Core<A>,
        id: MemberId,
        status: MemberStatus,
    ) -> Result<(), UnknownMember> {
        self.change(core, id, |entry| entry.status = status)
    }

    pub(super) fn set_drain(
        &mut self,
        core: &Core<A>,
        id: MemberId,
        drain: Drain,
    ) -> Result<(), UnknownMember> {
        self.change(core, id, |entry| entry.drain = drain)
    }

    pub(super) fn set_weight(
        &mut self,
        core: &Core<A>,
        id: MemberId,
        weight: u16,
    ) -> Result<(), UnknownMember> {
        self.change(core, id, |entry| entry.weight = weight.min(MAX_WEIGHT))
    }

    /// Standing changed, weight did not: words, no new tables.
    fn flip(&mut self, core: &Core<A>, row: u32, before: Standing, after: Standing, weight: u32) {
        let old_active = self.active();
        let active = self.counts.active(core.options.fail_open);
        let (old, new) = (pools_of(before, weight), pools_of(after, weight));
        let joins = new.iter().flatten().count() > old.iter().flatten().count();
        if core.counting == Counting::Ordered {
            return self.relink(core, row, old_active, active);
        }
        self.write_words(core, row, active, joins, after, weight);
        if core.strategy == Strategy::WeightedRoundRobin {
            let touched = [MemberPool::of(after.role, weight), MemberPool::open_of(weight)];
            for pool in
                touched.into_iter().filter(|pool| old.contains(&Some(*pool)) != new.contains(&Some(*pool)))
            {
                self.reorder(core, pool);
            }
        }
    }

    /// Moves a member in the order of least connections.
    fn relink(&self, core: &Core<A>, row: u32, before: Active, after: Active) {
        let place_of = |entry| place(entry, after);
        let place = self.membership.entry(row).and_then(place_of);
        if before == after {
            return core.least.link(row, place);
        }
        let mut least = core.least.lock_all();
        self.snapshot.members.set_active(after);
        least.set_active(pool_of(after));
        if is_open(before) == is_open(after) {
            least.link(row, place);
        } else {
            let places: Vec<_> = self.membership.entries().iter().map(place_of).collect();
            least.link_all(&places);
        }
    }

    /// Writes one member's words: the active pool before it leaves, after it joins.
    fn write_words(
        &self,
        core: &Core<A>,
        row: u32,
        active: Active,
        joins: bool,
        standing: Standing,
        weight: u32,
    ) {
        let members = &self.snapshot.members;
        if !joins {
            members.set_active(active);
        }
        members.eligible.set(row, standing.is_eligible());
        members.enabled.set(row, standing.status == MemberStatus::Enabled);
        let takes = pools_of(standing, weight);
        for pool in [MemberPool::of(standing.role, weight), MemberPool::open_of(weight)] {
            if let Some(PoolTable::Hash(table)) = self.snapshot.table(pool) {
                let able = takes.contains(&Some(pool));
                table.set_weight(row, if able { MemberEntry::<A>::weight_in_pool(weight) } else { 0 });
            }
        }
        if joins {
            members.set_active(active);
        }
        core.touch();
    }

    /// A weight changed, perhaps with the standing: in place where the tables allow it.
    fn reweigh(&mut self, core: &Core<A>, row: u32, before: u32, after: u32) {
        let Some(entry) = self.membership.entry(row) else { return };
        let standing = entry.standing();
        let same_pools = (before == 0) == (after == 0);
        match core.strategy {
            Strategy::WeightedLeastConnections if core.counting == Counting::Ordered => {
                let active = self.counts.active(core.options.fail_open);
                self.relink(core, row, self.active(), active);
            }
            Strategy::SourceHash | Strategy::UriHash if same_pools => {
                let active = self.counts.active(core.options.fail_open);
                self.write_words(core, row, active, standing.is_eligible(), standing, after);
                self.tune();
            }
            _ => self.rebuild(core),
        }
    }
}

/// Where least connections keeps a member while this pool is active.
fn place<A>(entry: &MemberEntry<A>, active: Active) -> Option<(MemberPool, u32)> {
    if !entry.is_member() {
        return None;
    }
    let weight = entry.effective();
    let [own, open] = pools_of(entry.standing(), weight);
    let pool = if is_open(active) { open } else { own };
    pool.map(|pool| (pool, MemberEntry::<A>::weight_in_pool(weight)))
}

fn is_open(active: Active) -> bool {
    pool_of(active).is_some_and(MemberPool::is_open)
}

fn pool_of(active: Active) -> Option<MemberPool> {
    match active {
        Active::MemberPool(pool) => Some(pool),
        Active::Nobody(_) => None,
    }
}

#[cfg(test)]
mod tests;
