//! What pickers read: tables that never change shape, words that do change.
//!
//! A [`Snapshot`] is published whole and replaced whole. Health, status and
//! drain only change words inside: the active pool, one bit per member, one
//! column's weight. The writer stores the active pool before it takes the last
//! member of a pool out and after it brings the first one in, so that a picker
//! which finds a pool empty finds another active pool when it looks again.

use std::sync::Arc;

use super::placement::Placement;
use super::pool::{Active, Pool};
use super::sequence::{Part, Sequence};
use super::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// One bit per seat.
#[derive(Debug)]
pub(super) struct Bits(Box<[AtomicU64]>);

impl Bits {
    pub(super) fn new(seats: usize) -> Self {
        Self((0..seats.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline(always)]
    pub(super) fn contains(&self, seat: u32) -> bool {
        let word = self.0.get(seat as usize / 64).map_or(0, |word| word.load(Ordering::Acquire));
        word >> (seat % 64) & 1 == 1
    }

    /// Called by the one writer.
    pub(super) fn set(&self, seat: u32, value: bool) {
        let bit = 1 << (seat % 64);
        if let Some(word) = self.0.get(seat as usize / 64) {
            let old = word.load(Ordering::Relaxed);
            word.store(if value { old | bit } else { old & !bit }, Ordering::Release);
        }
    }
}

/// A member as picks see it.
#[derive(Debug, Clone)]
pub(super) struct Seated<A> {
    pub(super) address: A,
    pub(super) serial: u32,
}

/// Who sits where, and who may take picks.
#[derive(Debug)]
pub(super) struct Roster<A> {
    active: AtomicU8,
    /// Enabled and not unhealthy.
    pub(super) eligible: Bits,
    /// Enabled; what counts when failing open.
    pub(super) enabled: Bits,
    /// By seat; none where a member has left.
    pub(super) seats: Box<[Option<Seated<A>>]>,
}

impl<A> Roster<A> {
    pub(super) fn new(seats: Box<[Option<Seated<A>>]>, active: Active) -> Self {
        let count = seats.len();
        Self {
            active: AtomicU8::new(active.to_byte()),
            eligible: Bits::new(count),
            enabled: Bits::new(count),
            seats,
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
    pub(super) fn able(&self, pool: Pool) -> &Bits {
        if pool.is_open() { &self.enabled } else { &self.eligible }
    }
}

/// The members of a pool, arranged for its strategy.
#[derive(Debug)]
pub(super) enum Table {
    RoundRobin(RoundRobin),
    Hash(HashTable),
    /// Candidates of sampled least connections: seat and weight.
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
    pub(super) seats: Arc<[u32]>,
}

impl RoundRobin {
    /// The order of these of its members; if it is everyone, or nobody, there is
    /// nothing to write.
    pub(super) fn among(&self, able: &[Part]) -> Sequence {
        let some = able.len() < self.seats.len();
        some.then(|| Sequence::new(able)).flatten().unwrap_or_else(|| self.full.clone())
    }
}

/// Key placement over a pool.
#[derive(Debug)]
pub(super) struct HashTable {
    pub(super) placement: Placement,
    /// For bounded load alone: what each seat takes now, and all together.
    pub(super) loads: Option<Loads>,
}

/// Effective weights of a pool's able members.
#[derive(Debug)]
pub(super) struct Loads {
    weights: Box<[AtomicU32]>,
    total: AtomicU64,
}

impl Loads {
    pub(super) fn new(seats: usize) -> Self {
        Self { weights: (0..seats).map(|_| AtomicU32::new(0)).collect(), total: AtomicU64::new(0) }
    }

    pub(super) fn weight(&self, seat: u32) -> u32 {
        self.weights.get(seat as usize).map_or(0, |weight| weight.load(Ordering::Relaxed))
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Seats that take anything.
    pub(super) fn able(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..)
            .zip(&self.weights)
            .map(|(seat, weight)| (seat, weight.load(Ordering::Relaxed)))
            .filter(|(_, weight)| *weight > 0)
    }

    /// Called by the one writer.
    fn set(&self, seat: u32, weight: u32) {
        if let Some(slot) = self.weights.get(seat as usize) {
            let old = slot.load(Ordering::Relaxed);
            let total = self.total() - u64::from(old) + u64::from(weight);
            slot.store(weight, Ordering::Relaxed);
            self.total.store(total, Ordering::Relaxed);
        }
    }
}

impl HashTable {
    /// Called by the one writer: how much a seat takes now.
    pub(super) fn set_weight(&self, seat: u32, weight: u32) {
        if let Some(loads) = &self.loads {
            loads.set(seat, weight);
        }
        self.placement.set_weight(seat, weight);
    }
}

/// Everything a picker needs, except counters and the least-connections order.
#[derive(Debug)]
pub(super) struct Snapshot<A> {
    pub(super) generation: u64,
    pub(super) roster: Arc<Roster<A>>,
    pub(super) pools: [Option<Arc<Table>>; Pool::COUNT],
}

impl<A> Snapshot<A> {
    #[inline(always)]
    pub(super) fn table(&self, pool: Pool) -> Option<&Table> {
        self.pools.get(pool.index()).and_then(Option::as_deref)
    }

    /// Bytes of tables on the heap, without the members' addresses.
    pub(super) fn heap_bytes(&self) -> usize {
        let bits = self.roster.seats.len().div_ceil(64) * 16;
        let tables = self.pools.iter().flatten().map(|table| match &**table {
            Table::RoundRobin(table) => {
                let compact = if table.current.is_same(&table.full) { 0 } else { table.current.heap_bytes() };
                table.full.heap_bytes() + compact + size_of_val(&*table.seats)
            }
            Table::Hash(table) => {
                table.placement.heap_bytes()
                    + table.loads.as_ref().map_or(0, |loads| size_of_val(&*loads.weights))
            }
            Table::Sample(seats) => size_of_val(&**seats),
        });
        bits + tables.sum::<usize>()
    }
}
