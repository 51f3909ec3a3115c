//! The one writer: members, health and switches in; snapshots and words out.
//!
//! Health, status and drain are words in the published tables; weights and
//! membership replace what they change. Weighted round robin also keeps its order
//! smooth: a short cycle is written again at every change of who is able, a long
//! one at the next [`Control::advance`]; until then picks that meet a member out
//! of rotation are spread over the others in proportion to their weights. So are
//! those of short cycles when many members flip together: what is written at once
//! between two advances is bounded.

mod ramp;
mod register;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::ramp::FIRST_STEP;
use self::register::{Record, Register};
use super::core::{Core, Counting};
use super::member::{Drain, FULL_RAMP, MAX_WEIGHT, Member, MemberId, UnknownMember};
use super::pool::{Active, Census, Pool, pools_of};
use super::snapshot::{Roster, Snapshot, Table};
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
pub(super) struct Control<A> {
    register: Register<A>,
    census: Census,
    now: Duration,
    /// Pools of weighted round robin whose order lags behind.
    lagging: [bool; Pool::COUNT],
    /// Slots of orders written at once since the last advance.
    written: u64,
    /// Since when each seat has been in slow start.
    ramping: BTreeMap<u32, Duration>,
    snapshot: Arc<Snapshot<A>>,
}

impl<A: Clone> Control<A> {
    /// A writer without members, and the snapshot that says so.
    pub(super) fn new() -> (Self, Arc<Snapshot<A>>) {
        let active = Census::default().active(crate::channel::FailOpen::Closed);
        let roster = Arc::new(Roster::new(Box::default(), active));
        let snapshot = Arc::new(Snapshot { generation: 0, roster, pools: Default::default() });
        let control = Self {
            register: Register::new(),
            census: Census::default(),
            now: Duration::ZERO,
            lagging: [false; Pool::COUNT],
            written: 0,
            ramping: BTreeMap::new(),
            snapshot: Arc::clone(&snapshot),
        };
        (control, snapshot)
    }

    /// The id of an identity.
    pub(super) fn id_of(&self, core: &Core<A>, identity: &str) -> Option<MemberId> {
        self.register.id_of(&core.hashing, identity)
    }

    /// Seats and records of those who are members, in the order of seats.
    pub(super) fn members(&self) -> impl Iterator<Item = (u32, &Record<A>)> {
        self.register.members()
    }

    pub(super) fn active(&self) -> Active {
        self.snapshot.roster.active()
    }

    /// Bytes of the tables.
    pub(super) fn heap_bytes(&self, core: &Core<A>) -> usize {
        self.snapshot.heap_bytes() + core.least.lock_all().heap_bytes()
    }

    /// Replaces the members. Who is there already keeps health, drain, ramp and
    /// open picks; a changed weight, role or status takes effect.
    pub(super) fn update(&mut self, core: &Core<A>, members: Vec<Member<A>>) -> Result<(), UpdateError> {
        self.register.replace(&core.hashing, members, |seat| core.open_picks(seat) == 0)?;
        self.rebuild(core);
        Ok(())
    }

    /// Changes one member and makes that visible before it returns.
    pub(super) fn change(
        &mut self,
        core: &Core<A>,
        id: MemberId,
        edit: impl FnOnce(&mut Record<A>),
    ) -> Result<(), UnknownMember> {
        let record = self.register.record_mut(id)?;
        let before = (record.standing(), record.effective());
        edit(record);
        let after = (record.standing(), record.effective());
        if before == after {
            return Ok(());
        }
        self.census.remove(before.0, before.1);
        self.census.add(after.0, after.1);
        if before.1 != after.1 {
            self.reweigh(core, id.seat, before.1, after.1);
        } else {
            self.flip(core, id.seat, before.0, after.0, after.1);
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
        self.change(core, id, |record| {
            let recovers = record.health == Health::Unhealthy && health != Health::Unhealthy;
            record.health = health;
            if health == Health::Unhealthy {
                record.ramp = FULL_RAMP;
            } else if recovers && core.options.slow_start.is_some_and(|slow| !slow.window.is_zero()) {
                record.ramp = FIRST_STEP;
                started = true;
            }
        })?;
        if started {
            self.ramping.insert(id.seat, now);
        }
        Ok(())
    }

    pub(super) fn set_status(
        &mut self,
        core: &Core<A>,
        id: MemberId,
        status: MemberStatus,
    ) -> Result<(), UnknownMember> {
        self.change(core, id, |record| record.status = status)
    }

    pub(super) fn set_drain(
        &mut self,
        core: &Core<A>,
        id: MemberId,
        drain: Drain,
    ) -> Result<(), UnknownMember> {
        self.change(core, id, |record| record.drain = drain)
    }

    pub(super) fn set_weight(
        &mut self,
        core: &Core<A>,
        id: MemberId,
        weight: u16,
    ) -> Result<(), UnknownMember> {
        self.change(core, id, |record| record.weight = weight.min(MAX_WEIGHT))
    }

    /// Standing changed, weight did not: words, no new tables.
    fn flip(&mut self, core: &Core<A>, seat: u32, before: Standing, after: Standing, weight: u32) {
        let old_active = self.active();
        let active = self.census.active(core.options.fail_open);
        let (old, new) = (pools_of(before, weight), pools_of(after, weight));
        let joins = new.iter().flatten().count() > old.iter().flatten().count();
        if core.counting == Counting::Ordered {
            return self.relink(core, seat, old_active, active);
        }
        self.write_words(core, seat, active, joins, after, weight);
        if core.strategy == Strategy::WeightedRoundRobin {
            let touched = [Pool::of(after.role, weight), Pool::open_of(weight)];
            for pool in
                touched.into_iter().filter(|pool| old.contains(&Some(*pool)) != new.contains(&Some(*pool)))
            {
                self.reorder(core, pool);
            }
        }
    }

    /// Moves a member in the order of least connections.
    fn relink(&self, core: &Core<A>, seat: u32, before: Active, after: Active) {
        let place_of = |record| place(record, after);
        let place = self.register.seated(seat).and_then(place_of);
        if before == after {
            return core.least.link(seat, place);
        }
        let mut least = core.least.lock_all();
        self.snapshot.roster.set_active(after);
        least.set_active(pool_of(after));
        if is_open(before) == is_open(after) {
            least.link(seat, place);
        } else {
            let places: Vec<_> = self.register.records().iter().map(place_of).collect();
            least.link_all(&places);
        }
    }

    /// Writes one member's words: the active pool before it leaves, after it joins.
    fn write_words(
        &self,
        core: &Core<A>,
        seat: u32,
        active: Active,
        joins: bool,
        standing: Standing,
        weight: u32,
    ) {
        let roster = &self.snapshot.roster;
        if !joins {
            roster.set_active(active);
        }
        roster.eligible.set(seat, standing.is_eligible());
        roster.enabled.set(seat, standing.status == MemberStatus::Enabled);
        let takes = pools_of(standing, weight);
        for pool in [Pool::of(standing.role, weight), Pool::open_of(weight)] {
            if let Some(Table::Hash(table)) = self.snapshot.table(pool) {
                let able = takes.contains(&Some(pool));
                table.set_weight(seat, if able { Record::<A>::weight_in_pool(weight) } else { 0 });
            }
        }
        if joins {
            roster.set_active(active);
        }
        core.touch();
    }

    /// A weight changed, perhaps with the standing: in place where the tables allow it.
    fn reweigh(&mut self, core: &Core<A>, seat: u32, before: u32, after: u32) {
        let Some(record) = self.register.seated(seat) else { return };
        let standing = record.standing();
        let same_pools = (before == 0) == (after == 0);
        match core.strategy {
            Strategy::WeightedLeastConnections if core.counting == Counting::Ordered => {
                let active = self.census.active(core.options.fail_open);
                self.relink(core, seat, self.active(), active);
            }
            Strategy::SourceHash | Strategy::UriHash if same_pools => {
                let active = self.census.active(core.options.fail_open);
                self.write_words(core, seat, active, standing.is_eligible(), standing, after);
                self.tune();
            }
            _ => self.rebuild(core),
        }
    }
}

/// Where least connections keeps a member while this pool is active.
fn place<A>(record: &Record<A>, active: Active) -> Option<(Pool, u32)> {
    if !record.is_member() {
        return None;
    }
    let weight = record.effective();
    let [own, open] = pools_of(record.standing(), weight);
    let pool = if is_open(active) { open } else { own };
    pool.map(|pool| (pool, Record::<A>::weight_in_pool(weight)))
}

fn is_open(active: Active) -> bool {
    pool_of(active).is_some_and(Pool::is_open)
}

fn pool_of(active: Active) -> Option<Pool> {
    match active {
        Active::Pool(pool) => Some(pool),
        Active::Nobody(_) => None,
    }
}

#[cfg(test)]
mod tests;
