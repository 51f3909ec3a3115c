//! Tables: built from the records, published whole. Part of the writer.

use std::sync::Arc;

use super::super::core::{Core, Counting};
use super::super::member::{FULL_RAMP, MAX_WEIGHT};
use super::super::placement::{Placed, Placement};
use super::super::pool::{Census, Pool, pools_of};
use super::super::sequence::{Part, Sequence};
use super::super::snapshot::{HashTable, Loads, Roster, RoundRobin, Seated, Snapshot, Table};
use super::super::sync::lock;
use super::{Control, Record};
use crate::channel::{MemberStatus, Strategy};

impl<A: Clone> Control<A> {
    /// The members of a pool, able or not.
    pub(super) fn pooled(&self, pool: Pool) -> impl Iterator<Item = (u32, &Record<A>)> {
        self.members().filter(move |(_, record)| {
            let weight = record.effective();
            pool == Pool::of(record.role, weight) || pool == Pool::open_of(weight)
        })
    }

    pub(super) fn placed(&self, pool: Pool) -> Vec<Placed> {
        self.pooled(pool)
            .map(|(seat, record)| Placed {
                seat,
                identity: record.hash,
                weight: Record::<A>::weight_in_pool(record.full()),
            })
            .collect()
    }

    /// The parts of a pool in weighted round robin, in the order of seats.
    pub(super) fn parts(&self, pool: Pool) -> Vec<Part> {
        let part = |(seat, record): (u32, &Record<A>)| Part {
            seat,
            weight: Record::<A>::weight_in_pool(record.effective()),
        };
        self.pooled(pool).map(part).collect()
    }

    /// Who is able in a pool has changed: keeps the order smooth.
    pub(super) fn reorder(&mut self, core: &Core<A>, pool: Pool) {
        let Some(Table::RoundRobin(table)) = self.snapshot.table(pool) else { return };
        if table.full.is_small() {
            return self.compact(core, pool);
        }
        if let Some(lagging) = self.lagging.get_mut(pool.index()) {
            *lagging = true;
        }
        if !table.current.is_same(&table.full) {
            let table = RoundRobin { current: table.full.clone(), ..table.clone() };
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
        let parts: Vec<Part> = self.parts(pool).into_iter().filter(|part| able.contains(part.seat)).collect();
        let current = match Sequence::new(&parts) {
            Some(sequence) if parts.len() < table.seats.len() => sequence,
            // Everyone, or nobody: nothing to write.
            _ => table.full.clone(),
        };
        let table = RoundRobin { current, ..table.clone() };
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

    /// Builds everything anew from the records, and publishes it.
    pub(super) fn rebuild(&mut self, core: &Core<A>) {
        let mut census = Census::default();
        for (_, record) in self.members() {
            census.add(record.standing(), record.effective());
        }
        self.census = census;
        let active = census.active(core.options.fail_open);
        let seats = self.records.iter().map(|record| {
            record.is_member().then(|| Seated { address: record.address.clone(), serial: record.serial })
        });
        let roster = Roster::new(seats.collect(), active);
        for (seat, record) in self.members() {
            let standing = record.standing();
            roster.eligible.set(seat, standing.is_eligible());
            roster.enabled.set(seat, standing.status == MemberStatus::Enabled);
        }
        self.lagging = [false; Pool::COUNT];
        let pools = Pool::ALL.map(|pool| {
            let open_needed = core.options.fail_open == crate::channel::FailOpen::AllEnabled;
            if pool.is_open() && !open_needed {
                return None;
            }
            self.table(core, pool, &roster).map(Arc::new)
        });
        let snapshot = Snapshot { generation: self.snapshot.generation + 1, roster: Arc::new(roster), pools };
        if core.counting == Counting::Ordered {
            // Picks hold this lock before they look at the snapshot.
            let mut least = lock(&core.least.0);
            least.reserve_seats(self.records.len());
            for (seat, _) in (0..).zip(&self.records) {
                least.link(seat, self.place(seat, active));
            }
            self.publish(core, snapshot);
        } else {
            self.publish(core, snapshot);
        }
    }

    /// The table of a pool; none if it is empty or the strategy needs none.
    pub(super) fn table(&mut self, core: &Core<A>, pool: Pool, roster: &Roster<A>) -> Option<Table> {
        match core.strategy {
            Strategy::WeightedRoundRobin => {
                let parts = self.parts(pool);
                let full = Sequence::new(&parts)?;
                let seats: Arc<[u32]> = parts.iter().map(|part| part.seat).collect();
                let able: Vec<Part> =
                    parts.into_iter().filter(|part| roster.able(pool).contains(part.seat)).collect();
                let current = match Sequence::new(&able) {
                    Some(sequence) if able.len() < seats.len() => sequence,
                    _ => full.clone(),
                };
                Some(Table::RoundRobin(RoundRobin { current, full, seats }))
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
                let reserve = u32::from(options.reserve_weight.min(MAX_WEIGHT)) * FULL_RAMP;
                let placement = Placement::new(&self.placed(pool), options.reserve_members, reserve)?;
                let loads = options.bounded_load.map(|_| Loads::new(self.records.len()));
                let table = HashTable { placement, loads };
                for (seat, record) in self.pooled(pool) {
                    let weight = record.effective();
                    if pools_of(record.standing(), weight).contains(&Some(pool)) {
                        table.set_weight(seat, Record::<A>::weight_in_pool(weight));
                    }
                }
                Some(Table::Hash(table))
            }
        }
    }
}
