//! What pickers read: tables that never change shape, words that do change.
//!
//! A [`Snapshot`] is published whole and replaced whole. Health, status and
//! drain only change words inside: the active pool, one bit per member, one
//! column's weight. The writer stores the active pool before it takes the last
//! member of a pool out and after it brings the first one in, so that a picker
//! which finds a pool empty finds another active pool when it looks again.

use std::sync::Arc;

use super::placement::Placement;
use super::pool::{Active, MemberPool};
use super::sequence::{Part, Sequence};
use super::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// One bit per row.
#[derive(Debug)]
pub(super) struct Bits(Box<[AtomicU64]>);

impl Bits {
    pub(super) fn new(rows: usize) -> Self {
        Self((0..rows.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline(always)]
    pub(super) fn contains(&self, row: u32) -> bool {
        let word = self.0.get(row as usize / 64).map_or(0, |word| word.load(Ordering::Acquire));
        word >> (row % 64) & 1 == 1
    }

    /// Called by the one writer.
    pub(super) fn set(&self, row: u32, value: bool) {
        let bit = 1 << (row % 64);
        if let Some(word) = self.0.get(row as usize / 64) {
            let old = word.load(Ordering::Relaxed);
            word.store(if value { old | bit } else { old & !bit }, Ordering::Release);
        }
    }
}

/// A member as picks see it.
#[derive(Debug, Clone)]
pub(super) struct TableRow<A> {
    pub(super) address: A,
    pub(super) serial: u32,
}

/// Who sits where, and who may take picks.
#[derive(Debug)]
pub(super) struct MemberTable<A> {
    active: AtomicU8,
    /// Enabled and not unhealthy.
    pub(super) eligible: Bits,
    /// Enabled; what counts when failing open.
    pub(super) enabled: Bits,
    /// By row; none where a member has left.
    pub(super) rows: Box<[Option<TableRow<A>>]>,
}

impl<A> MemberTable<A> {
    pub(super) fn new(rows: Box<[Option<TableRow<A>>]>, active: Active) -> Self {
        let count = rows.len();
        Self {
            active: AtomicU8::new(active.to_byte()),
            eligible: Bits::new(count),
            enabled: Bits::new(count),
            rows,
        }
    }

    #[inline(always)]
    pub(super) fn active(&self) -> Active {
        Active::from_byte(self.active.load(Ordering::Acquire))
    }

    pub(super) fn set_active(&self, active: Active) {
        self.active.store(active.to_byte(), Ordering::Release);
    }

    /// The bits that say who may take picks from a pool.
    #[inline(always)]
    pub(super) fn able(&self, pool: MemberPool) -> &Bits {
        if pool.is_open() { &self.enabled } else { &self.eligible }
    }
}

/// The members of a pool, arranged for its strategy.
#[derive(Debug)]
pub(super) enum PoolTable {
    RoundRobin(RoundRobin),
    Hash(KeyTable),
    /// Candidates of sampled least connections: row and weight.
    Sample(Box<[(u32, u32)]>),
}

/// Weighted round robin over a pool.
#[derive(Debug, Clone)]
pub(super) struct RoundRobin {
    /// What picks follow: `full`, or a sequence of those who were able lately.
    pub(super) current: Sequence,
    /// Whether everyone in `current` is able. A change of who is able publishes
    /// another table, so that picks need not look as long as they have this one.
    pub(super) steady: bool,
    /// Everyone in the pool, able or not.
    pub(super) full: Sequence,
    /// Everyone in the pool.
    pub(super) rows: Arc<[u32]>,
}

impl RoundRobin {
    /// The order of these of its members; if it is everyone, or nobody, there is
    /// nothing to write.
    pub(super) fn among(&self, able: &[Part]) -> Sequence {
        let some = able.len() < self.rows.len();
        some.then(|| Sequence::new(able)).flatten().unwrap_or_else(|| self.full.clone())
    }
}

/// Key placement over a pool.
#[derive(Debug)]
pub(super) struct KeyTable {
    pub(super) placement: Placement,
    /// For bounded load alone: what each row takes now, and all together.
    pub(super) loads: Option<AbleWeights>,
}

/// Effective weights of a pool's able members.
#[derive(Debug)]
pub(super) struct AbleWeights {
    weights: Box<[AtomicU32]>,
    total: AtomicU64,
}

impl AbleWeights {
    pub(super) fn new(rows: usize) -> Self {
        Self { weights: (0..rows).map(|_| AtomicU32::new(0)).collect(), total: AtomicU64::new(0) }
    }

    pub(super) fn weight(&self, row: u32) -> u32 {
        self.weights.get(row as usize).map_or(0, |weight| weight.load(Ordering::Relaxed))
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Rows that take anything.
    pub(super) fn able(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..)
            .zip(&self.weights)
            .map(|(row, weight)| (row, weight.load(Ordering::Relaxed)))
            .filter(|(_, weight)| *weight > 0)
    }

    /// Called by the one writer.
    fn set(&self, row: u32, weight: u32) {
        if let Some(slot) = self.weights.get(row as usize) {
            let old = slot.load(Ordering::Relaxed);
            let total = self.total() - u64::from(old) + u64::from(weight);
            slot.store(weight, Ordering::Relaxed);
            self.total.store(total, Ordering::Relaxed);
        }
    }
}

impl KeyTable {
    /// Called by the one writer: how much a row takes now.
    pub(super) fn set_weight(&self, row: u32, weight: u32) {
        if let Some(loads) = &self.loads {
            loads.set(row, weight);
        }
        self.placement.set_weight(row, weight);
    }
}

/// AllShards a picker needs, except counters and the least-connections order.
#[derive(Debug)]
pub(super) struct Snapshot<A> {
    pub(super) generation: u64,
    pub(super) members: Arc<MemberTable<A>>,
    pub(super) pools: [Option<Arc<PoolTable>>; MemberPool::COUNT],
}

impl<A> Snapshot<A> {
    #[inline(always)]
    pub(super) fn table(&self, pool: MemberPool) -> Option<&PoolTable> {
        self.pools.get(pool.index()).and_then(Option::as_deref)
    }

    /// Bytes of tables on the heap, without the members' addresses.
    pub(super) fn heap_bytes(&self) -> usize {
        let bits = self.members.rows.len().div_ceil(64) * 16;
        let tables = self.pools.iter().flatten().map(|table| match &**table {
            PoolTable::RoundRobin(table) => {
                let compact = if table.current.is_same(&table.full) { 0 } else { table.current.heap_bytes() };
                table.full.heap_bytes() + compact + size_of_val(&*table.rows)
            }
            PoolTable::Hash(table) => {
                table.placement.heap_bytes()
                    + table.loads.as_ref().map_or(0, |loads| size_of_val(&*loads.weights))
            }
            PoolTable::Sample(rows) => size_of_val(&**rows),
        });
        bits + tables.sum::<usize>()
    }
}
