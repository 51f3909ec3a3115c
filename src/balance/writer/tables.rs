//! Tables: built from the entries, published whole. Part of the writer.

use std::sync::Arc;

use super::super::core::{Core, Counting};
use super::super::member::FULL_RAMP;
use super::super::placement::{PlacedMember, Placement};
use super::super::pool::{MemberPool, TierCounts, pools_of};
use super::super::sequence::{Part, Sequence};
use super::super::snapshot::{AbleWeights, KeyTable, MemberTable, PoolTable, RoundRobin, Snapshot, TableRow};
use super::{MemberEntry, TableWriter, place, pool_of};
use crate::channel::{FailOpen, MemberStatus, Strategy};

/// The most slots that are written at once between two advances: about a
/// millisecond of work, however many members flip together.
const WRITTEN_AT_ONCE: u64 = 1 << 16;

impl<A: Clone> TableWriter<A> {
    /// The members of a pool, able or not.
    pub(super) fn pooled(&self, pool: MemberPool) -> impl Iterator<Item = (u32, &MemberEntry<A>)> {
        self.members().filter(move |(_, entry)| {
            let weight = entry.effective();
            pool == MemberPool::of(entry.role, weight) || pool == MemberPool::open_of(weight)
        })
    }

    /// Who has columns in a pool's layout: everyone in its tier, also those who
    /// weigh too little or too much for it. So a weight that goes to 0 and comes
    /// back stops and starts a column, and moves nobody else's.
    pub(super) fn placed(&self, pool: MemberPool) -> Vec<PlacedMember> {
        let mut placed = Vec::with_capacity(self.membership.rows());
        placed.extend(self.members().filter(|(_, entry)| pool.has_role(entry.role)).map(|(row, entry)| {
            PlacedMember {
                row,
                identity: entry.hash,
                weight: if pool.is_weightless() { FULL_RAMP } else { entry.full() },
            }
        }));
        placed
    }

    /// The parts of a pool in weighted round robin, in the order of rows.
    pub(super) fn parts(&self, pool: MemberPool, size: usize) -> Vec<Part> {
        let mut parts = Vec::with_capacity(size);
        parts.extend(
            self.pooled(pool).map(|(row, entry)| Part {
                row,
                weight: MemberEntry::<A>::weight_in_pool(entry.effective()),
            }),
        );
        parts
    }

    /// Who is able in a pool has changed: keeps the order smooth.
    pub(super) fn reorder(&mut self, core: &Core<A>, pool: MemberPool) {
        let Some(PoolTable::RoundRobin(table)) = self.snapshot.table(pool) else { return };
        // Members cost a look each, slots a store each.
        let cost = table.full.length().saturating_add(self.membership.rows() as u64);
        if table.full.is_small() && self.written + cost <= WRITTEN_AT_ONCE {
            self.written += cost;
            return self.compact(core, pool);
        }
        if let Some(lagging) = self.lagging.get_mut(pool.index()) {
            *lagging = true;
        }
        if table.steady || !table.current.is_same(&table.full) {
            let table = RoundRobin { current: table.full.clone(), steady: false, ..table.clone() };
            self.replace(core, pool, PoolTable::RoundRobin(table));
        }
    }

    /// Writes the order of a pool for those who are able now.
    pub(super) fn compact(&mut self, core: &Core<A>, pool: MemberPool) {
        if let Some(lagging) = self.lagging.get_mut(pool.index()) {
            *lagging = false;
        }
        let Some(PoolTable::RoundRobin(table)) = self.snapshot.table(pool) else { return };
        let able = self.snapshot.members.able(pool);
        let mut parts = self.parts(pool, table.rows.len());
        parts.retain(|part| able.contains(part.row));
        let current = table.among(&parts);
        let table = RoundRobin { current, steady: !parts.is_empty(), ..table.clone() };
        self.replace(core, pool, PoolTable::RoundRobin(table));
    }

    pub(super) fn replace(&mut self, core: &Core<A>, pool: MemberPool, table: PoolTable) {
        let mut pools = self.snapshot.pools.clone();
        if let Some(slot) = pools.get_mut(pool.index()) {
            *slot = Some(Arc::new(table));
        }
        let members = Arc::clone(&self.snapshot.members);
        self.publish(core, Snapshot { generation: self.snapshot.generation + 1, members, pools });
    }

    pub(super) fn publish(&mut self, core: &Core<A>, snapshot: Snapshot<A>) {
        self.snapshot = Arc::new(snapshot);
        core.publish(Arc::clone(&self.snapshot));
    }

    /// Searches for keys end as early as who takes them now allows. Nothing else changes.
    pub(super) fn tune(&self) {
        for table in self.snapshot.pools.iter().flatten() {
            if let PoolTable::Hash(table) = &**table {
                table.placement.tune();
            }
        }
    }

    /// Builds everything anew from the entries, and publishes it.
    pub(super) fn rebuild(&mut self, core: &Core<A>) {
        let mut counts = TierCounts::default();
        // Members of each pool, able or not: most pools are empty, and need no pass.
        let mut sizes = [0_usize; MemberPool::COUNT];
        for (_, entry) in self.members() {
            let weight = entry.effective();
            counts.add(entry.standing(), weight);
            for pool in [MemberPool::of(entry.role, weight), MemberPool::open_of(weight)] {
                if let Some(size) = sizes.get_mut(pool.index()) {
                    *size += 1;
                }
            }
        }
        self.counts = counts;
        let active = counts.active(core.options.fail_open);
        let rows = self.membership.entries().iter().map(|entry| {
            entry.is_member().then(|| TableRow { address: entry.address.clone(), serial: entry.serial })
        });
        let members = MemberTable::new(rows.collect(), active);
        for (row, entry) in self.members() {
            let standing = entry.standing();
            members.eligible.set(row, standing.is_eligible());
            members.enabled.set(row, standing.status == MemberStatus::Enabled);
        }
        self.lagging = [false; MemberPool::COUNT];
        let open_needed = core.options.fail_open == FailOpen::AllEnabled;
        let pools = MemberPool::ALL.map(|pool| {
            let size = sizes.get(pool.index()).copied().unwrap_or(0);
            let needed = size > 0 && (open_needed || !pool.is_open());
            if needed { self.table(core, pool, size, &members).map(Arc::new) } else { None }
        });
        let snapshot =
            Snapshot { generation: self.snapshot.generation + 1, members: Arc::new(members), pools };
        if core.counting == Counting::Ordered {
            // Picks hold one of these locks before they look at the snapshot.
            let mut least = core.least.lock_all();
            let places: Vec<_> = self.membership.entries().iter().map(|entry| place(entry, active)).collect();
            least.link_all(&places);
            least.set_active(pool_of(active));
            self.publish(core, snapshot);
        } else {
            self.publish(core, snapshot);
        }
    }

    /// The table of a pool; none if it is empty or the strategy needs none.
    pub(super) fn table(
        &mut self,
        core: &Core<A>,
        pool: MemberPool,
        size: usize,
        members: &MemberTable<A>,
    ) -> Option<PoolTable> {
        match core.strategy {
            Strategy::WeightedRoundRobin => {
                let mut parts = self.parts(pool, size);
                let full = Sequence::new(&parts)?;
                let rows: Arc<[u32]> = parts.iter().map(|part| part.row).collect();
                parts.retain(|part| members.able(pool).contains(part.row));
                let everyone = RoundRobin { current: full.clone(), steady: !parts.is_empty(), full, rows };
                Some(PoolTable::RoundRobin(RoundRobin { current: everyone.among(&parts), ..everyone }))
            }
            Strategy::WeightedLeastConnections if core.counting == Counting::Ordered => None,
            Strategy::WeightedLeastConnections => {
                let rows: Box<[(u32, u32)]> = self
                    .pooled(pool)
                    .map(|(row, entry)| (row, MemberEntry::<A>::weight_in_pool(entry.effective())))
                    .collect();
                (!rows.is_empty()).then_some(PoolTable::Sample(rows))
            }
            Strategy::SourceHash | Strategy::UriHash => {
                let options = &core.options.hash;
                let placement = Placement::new(&self.placed(pool), options.reserve_members)?;
                let loads = options.bounded_load.map(|_| AbleWeights::new(self.membership.rows()));
                let table = KeyTable { placement, loads };
                for (row, entry) in self.pooled(pool) {
                    let weight = entry.effective();
                    if pools_of(entry.standing(), weight).contains(&Some(pool)) {
                        table.set_weight(row, MemberEntry::<A>::weight_in_pool(weight));
                    }
                }
                table.placement.tune();
                Some(PoolTable::Hash(table))
            }
        }
    }
}
