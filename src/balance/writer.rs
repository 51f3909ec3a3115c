//! The one writer: members, health and switches in; snapshots and words out.
//!
//! Health, status and drain are words in the published tables. Weights and membership
//! replace what they change. What a change means to a table, its strategy says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, TableSnapshot};
use super::member::{FIRST_STEP, FULL_RAMP, Member, MemberId, UnknownMember};
use super::member_table::{MemberTable, TableRow};
use super::membership::{MemberEntry, Membership, PoolMembers, UpdateError, weight_in_pool};
use super::options::SlowStart;
use super::pool::{Active, ByPool, MemberPool, pools_if_able, pools_of};
use super::strategy::{Counting, PoolTable};
use crate::channel::{FailOpen, Health, Standing, TierCounts};

/// The writer's state, behind the balancer's lock.
#[derive(Debug)]
pub(super) struct TableWriter<A> {
    pub(super) membership: Membership<A>,
    counts: TierCounts,
    now: Duration,
    /// Slots of orders written at once since the last advance.
    written: u64,
    /// Since when each row has been in slow start.
    ramping: BTreeMap<u32, Duration>,
    snapshot: Arc<TableSnapshot<A>>,
}

impl<A: Clone> TableWriter<A> {
    /// The writer of a balancer without members.
    pub(super) fn new(core: &Core<A>) -> Self {
        Self {
            membership: Membership::default(),
            counts: TierCounts::default(),
            now: Duration::ZERO,
            written: 0,
            ramping: BTreeMap::new(),
            snapshot: core.newest(),
        }
    }

    /// Replaces the members. Who is there already keeps health, drain, ramp and
    /// open picks; a changed weight, role or status takes effect.
    pub(super) fn update(&mut self, core: &Core<A>, members: Vec<Member<A>>) -> Result<(), UpdateError> {
        self.membership.replace(&core.method.hashing, members, |row| core.open_picks(row) == 0)?;
        self.rebuild(core);
        Ok(())
    }

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
        if before != after {
            self.apply(core, id.row, before, after);
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
        let mut started = false;
        self.change(core, id, |entry| {
            let recovers = entry.health == Health::Unhealthy && health != Health::Unhealthy;
            entry.health = health;
            let slow_start = core.method.options.slow_start;
            if health == Health::Unhealthy {
                entry.ramp = FULL_RAMP;
            } else if recovers && slow_start.is_some_and(|slow| !slow.window.is_zero()) {
                entry.ramp = FIRST_STEP;
                started = true;
            }
        })?;
        if started {
            self.ramping.insert(id.row, self.now);
        }
        Ok(())
    }

    /// Time has passed: slow starts go on, lagging orders are written again, and searches
    /// for keys become as short as the members in rotation allow.
    /// Answers when there will be something to do next.
    pub(super) fn advance(&mut self, core: &Core<A>, now: Duration) -> Option<Duration> {
        self.now = self.now.max(now);
        self.written = 0;
        let next = core.method.options.slow_start.and_then(|slow| self.ramp_up(core, slow));
        for pool in MemberPool::ALL {
            let table = self.snapshot.table(pool);
            if let Some(table) = table.and_then(|table| table.caught_up(&self.pooled(pool))) {
                self.replace(core, pool, table);
            }
        }
        next
    }

    fn ramp_up(&mut self, core: &Core<A>, slow: SlowStart) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        let mut changed = false;
        for (row, since) in std::mem::take(&mut self.ramping) {
            // Who went down or left is at full again: no longer in slow start.
            let ramping = |entry: &&mut MemberEntry<A>| entry.is_member && entry.ramp < FULL_RAMP;
            let Some(entry) = self.membership.entry_mut(row).filter(ramping) else { continue };
            let reached = slow.steps(self.now.saturating_sub(since));
            if reached < FULL_RAMP {
                self.ramping.insert(row, since);
                let due = since.saturating_add(slow.reaches(reached + 1));
                next = Some(next.map_or(due, |earliest| earliest.min(due)));
            }
            if reached == entry.ramp {
                continue;
            }
            let before = (entry.standing(), entry.effective());
            entry.ramp = reached;
            let after = (entry.standing(), entry.effective());
            if core.method.weighs_in_place() {
                self.apply(core, row, before, after);
            } else {
                changed = true;
            }
        }
        // One rebuild for all that moved.
        if changed {
            self.rebuild(core);
        }
        next
    }

    /// Brings another standing or weight of a member into effect: by words where the
    /// tables allow it.
    fn apply(&mut self, core: &Core<A>, row: u32, before: (Standing, u32), after: (Standing, u32)) {
        self.counts.remove(before.0);
        self.counts.add(after.0);
        let active = Active::from(self.counts.tier(core.method.options.fail_open));
        if core.method.counting == Counting::Ordered {
            return core.method.least.relink(&self.membership, &self.snapshot.members, row, active);
        }
        let is_reweighed = before.1 != after.1;
        if is_reweighed && !(core.method.weighs_in_place() && (before.1 == 0) == (after.1 == 0)) {
            return self.rebuild(core);
        }
        let (old, new) = (pools_of(before.0), pools_of(after.0));
        let joins = new.iter().flatten().count() > old.iter().flatten().count();
        let members = &self.snapshot.members;
        // The active pool changes before a member leaves it, and after one joins.
        if !joins {
            members.set_active(active);
        }
        members.set_standing(row, after.0);
        for pool in pools_if_able(after.0).into_iter().flatten() {
            if let Some(table) = self.snapshot.table(pool) {
                let weight = if new.contains(&Some(pool)) { weight_in_pool(after.1) } else { 0 };
                table.set_weight(row, weight);
            }
        }
        if joins {
            members.set_active(active);
        }
        core.touch();
        if is_reweighed {
            self.snapshot.pools.0.iter().flatten().for_each(|table| table.tune());
        }
        for (old, new) in old.into_iter().zip(new) {
            let Some(pool) = old.or(new).filter(|_| old != new) else { continue };
            let mut written = self.written;
            let after = |table: &PoolTable| table.after_flip(&self.pooled(pool), &mut written);
            let table = self.snapshot.table(pool).and_then(after);
            self.written = written;
            if let Some(table) = table {
                self.replace(core, pool, table);
            }
        }
    }

    fn pooled(&self, pool: MemberPool) -> PoolMembers<'_, A> {
        PoolMembers { membership: &self.membership, pool, able: self.snapshot.members.able(pool) }
    }

    /// Builds everything anew from the entries, and publishes it.
    fn rebuild(&mut self, core: &Core<A>) {
        let method = &core.method;
        self.counts = TierCounts::default();
        // Most pools have no members, and need no pass over all.
        let mut used = ByPool::<bool>::default();
        for (_, entry) in self.membership.members() {
            self.counts.add(entry.standing());
            entry.pools_if_able().into_iter().flatten().for_each(|pool| used[pool] = true);
        }
        let active = Active::from(self.counts.tier(method.options.fail_open));
        let rows = self.membership.entries.iter().map(|entry| {
            entry.is_member.then(|| TableRow { address: entry.address.clone(), serial: entry.serial })
        });
        let members = MemberTable::new(rows.collect(), active);
        self.membership.members().for_each(|(row, entry)| members.set_standing(row, entry.standing()));
        let open_needed = method.options.fail_open == FailOpen::AllEnabled;
        let pools = ByPool::from_fn(|pool| {
            let needed = used[pool] && (open_needed || !pool.is_open());
            let pooled = PoolMembers { membership: &self.membership, pool, able: members.able(pool) };
            needed.then(|| method.table(&pooled)).flatten().map(Arc::new)
        });
        let members = Arc::new(members);
        let snapshot = Arc::new(TableSnapshot { generation: self.snapshot.generation + 1, members, pools });
        self.snapshot = Arc::clone(&snapshot);
        if method.counting == Counting::Ordered {
            method.least.relink_all(&self.membership, active, || core.publish(snapshot));
        } else {
            core.publish(snapshot);
        }
    }

    fn replace(&mut self, core: &Core<A>, pool: MemberPool, table: PoolTable) {
        let mut pools = self.snapshot.pools.clone();
        pools[pool] = Some(Arc::new(table));
        let members = Arc::clone(&self.snapshot.members);
        self.snapshot = Arc::new(TableSnapshot { generation: self.snapshot.generation + 1, members, pools });
        core.publish(Arc::clone(&self.snapshot));
    }
}

#[cfg(test)]
mod tests;
