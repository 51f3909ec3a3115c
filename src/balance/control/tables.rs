//! Tables: built from the records, published whole. Part of the writer.

use std::sync::Arc;

use super::super::core::{Core, Counting};
use super::super::member::FULL_RAMP;
use super::super::placement::{Placed, Placement};
use super::super::pool::{Census, Pool, pools_of};
use super::super::sequence::{Part, Sequence};
use super::super::snapshot::{HashTable, Loads, Roster, RoundRobin, Seated, Snapshot, Table};
use super::{Control, Record, place, pool_of};
use crate::channel::{FailOpen, MemberStatus, Strategy};

/// The most slots that are written at once between two advances: about a
/// millisecond of work, however many members flip together.
const WRITTEN_AT_ONCE: u64 = 1 << 16;

impl<A: Clone> Control<A> {
    /// The members of a pool, able or not.
    pub(super) fn pooled(&self, pool: Pool) -> impl Iterator<Item = (u32, &Record<A>)> {
        self.members().filter(move |(_, record)| {
            let weight = record.effective();
            pool == Pool::of(record.role, weight) || pool == Pool::open_of(weight)
        })
    }

    /// Who has columns in a pool's layout: everyone in its tier, also those who
    /// weigh too little or too much for it. So a weight that goes to 0 and comes
    /// back stops and starts a column, and moves nobody else's.
    pub(super) fn placed(&self, pool: Pool) -> Vec<Placed> {
        let mut placed = Vec::with_capacity(self.register.seats());
        placed.extend(self.members().filter(|(_, record)| pool.has_role(record.role)).map(
            |(seat, record)| Placed {
                seat,
                identity: record.hash,
                weight: if pool.is_weightless() { FULL_RAMP } else { record.full() },
            },
        ));
        placed
    }

    /// The parts of a pool in weighted round robin, in the order of seats.
    pub(super) fn parts(&self, pool: Pool, size: usize) -> Vec<Part> {
        let mut parts = Vec::with_capacity(size);
        parts.extend(
            self.pooled(pool)
                .map(|(seat, record)| Part { seat, weight: Record::<A>::weight_in_pool(record.effective()) }),
        );
        parts
    }

    /// Who is able in a pool has changed: keeps the order smooth.
    pub(super) fn reorder(&mut self, core: &Core<A>, pool: Pool) {
        let Some(Table::RoundRobin(table)) = self.snapshot.table(pool) else { return };
        // Members cost a look each, slots a store each.
        let cost = table.full.length().saturating_add(self.register.seats() as u64);
        if table.full.is_small() && self.written + cost <= WRITTEN_AT_ONCE {
            self.written += cost;
            return self.compact(core, pool);
        }
        if let Some(lagging) = self.lagging.get_mut(pool.index()) {
            *lagging = true;
        }
        if table.steady || !table.current.is_same(&table.full) {
            let table = RoundRobin { current: table.full.clone(), steady: false, ..table.clone() };
            self.replace(core, pool, Table::RoundRobin(table));
        }
    }

    /// Writes the order of a pool for those who are able now.
    pub(super) fn compact(&mut self, core: &Core<A>, pool: Pool) {
        if let Some(lagging) = self.lagging.get_mut(pool.index()) {
            *lagging = false;
        }
        let Some(Table::RoundRobin(table)) = self.snapshot.table(pool) else { return };
        let able = self.snapshot.roster.able(pool);
        let mut parts = self.parts(pool, table.seats.len());
        parts.retain(|part| able.contains(part.seat));
        let current = table.among(&parts);
        let table = RoundRobin { current, steady: !parts.is_empty(), ..table.clone() };
        self.replace(core, pool, Table::RoundRobin(table));
    }

    pub(super) fn replace(&mut self, core: &Core<A>, pool: Pool, table: Table) {
        let mut pools = self.snapshot.pools.clone();
        if let Some(slot) = pools.get_mut(pool.index()) {
            *slot = Some(Arc::new(table));
        }
        let roster = Arc::clone(&self.snapshot.roster);
        self.publish(core, Snapshot { generation: self.snapshot.generation + 1, roster, pools });
    }

    pub(super) fn publish(&mut self, core: &Core<A>, snapshot: Snapshot<A>) {
        self.snapshot = Arc::new(snapshot);
        core.publish(Arc::clone(&self.snapshot));
    }

    /// Searches for keys end as early as who takes them now allows. Nothing else changes.
    pub(super) fn tune(&self) {
        for table in self.snapshot.pools.iter().flatten() {
            if let Table::Hash(table) = &**table {
                table.placement.tune();
            }
        }
    }

    /// Builds everything anew from the records, and publishes it.
    pub(super) fn rebuild(&mut self, core: &Core<A>) {
        let mut census = Census::default();
        // Members of each pool, able or not: most pools are empty, and need no pass.
        let mut sizes = [0_usize; Pool::COUNT];
        for (_, record) in self.members() {
            let weight = record.effective();
            census.add(record.standing(), weight);
            for pool in [Pool::of(record.role, weight), Pool::open_of(weight)] {
                if let Some(size) = sizes.get_mut(pool.index()) {
                    *size += 1;
                }
            }
        }
        self.census = census;
        let active = census.active(core.options.fail_open);
        let seats = self.register.records().iter().map(|record| {
            record.is_member().then(|| Seated { address: record.address.clone(), serial: record.serial })
        });
        let roster = Roster::new(seats.collect(), active);
        for (seat, record) in self.members() {
            let standing = record.standing();
            roster.eligible.set(seat, standing.is_eligible());
            roster.enabled.set(seat, standing.status == MemberStatus::Enabled);
        }
        self.lagging = [false; Pool::COUNT];
        let open_needed = core.options.fail_open == FailOpen::AllEnabled;
        let pools = Pool::ALL.map(|pool| {
            let size = sizes.get(pool.index()).copied().unwrap_or(0);
            let needed = size > 0 && (open_needed || !pool.is_open());
            if needed { self.table(core, pool, size, &roster).map(Arc::new) } else { None }
        });
        let snapshot = Snapshot { generation: self.snapshot.generation + 1, roster: Arc::new(roster), pools };
        if core.counting == Counting::Ordered {
            // Picks hold one of these locks before they look at the snapshot.
            let mut least = core.least.lock_all();
            let places: Vec<_> = self.register.records().iter().map(|record| place(record, active)).collect();
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
        pool: Pool,
        size: usize,
        roster: &Roster<A>,
    ) -> Option<Table> {
        match core.strategy {
            Strategy::WeightedRoundRobin => {
                let mut parts = self.parts(pool, size);
                let full = Sequence::new(&parts)?;
                let seats: Arc<[u32]> = parts.iter().map(|part| part.seat).collect();
                parts.retain(|part| roster.able(pool).contains(part.seat));
                let everyone = RoundRobin { current: full.clone(), steady: !parts.is_empty(), full, seats };
                Some(Table::RoundRobin(RoundRobin { current: everyone.among(&parts), ..everyone }))
            }
            Strategy::WeightedLeastConnections if core.counting == Counting::Ordered => None,
            Strategy::WeightedLeastConnections => {
                let seats: Box<[(u32, u32)]> = self
                    .pooled(pool)
                    .map(|(seat, record)| (seat, Record::<A>::weight_in_pool(record.effective())))
                    .collect();
                (!seats.is_empty()).then_some(Table::Sample(seats))
            }
            Strategy::SourceHash | Strategy::UriHash => {
                let options = &core.options.hash;
                let placement = Placement::new(&self.placed(pool), options.reserve_members)?;
                let loads = options.bounded_load.map(|_| Loads::new(self.register.seats()));
                let table = HashTable { placement, loads };
                for (seat, record) in self.pooled(pool) {
                    let weight = record.effective();
                    if pools_of(record.standing(), weight).contains(&Some(pool)) {
                        table.set_weight(seat, Record::<A>::weight_in_pool(weight));
                    }
                }
                table.placement.tune();
                Some(Table::Hash(table))
            }
        }
    }
}
