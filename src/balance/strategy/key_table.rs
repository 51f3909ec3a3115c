//! Where the keys of `source` and `uri` live: the table of a pool, and bounded load.
//!
//! `placement` says which member has a key. With bounded load a member that is full
//! counts as a miss: its key goes to the next one of the key's own order.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rows are those that the table was made with; the load factor is clamped"
)]

mod placement;

use self::placement::{PlacedMember, Placement};
use crate::balance::member::FULL_RAMP;
use crate::balance::membership::PoolMembers;
use crate::balance::options::HashOptions;
use crate::balance::request::Search;
use crate::balance::sync::{AtomicU32, AtomicU64, Ordering};

/// Key placement over a pool.
#[derive(Debug)]
pub(in crate::balance) struct KeyTable {
    pub(super) placement: Placement,
    bound: Option<LoadBound>,
}

/// Bounded load: how much each member of a pool may hold.
#[derive(Debug)]
struct LoadBound {
    factor: f64,
    /// By row, what each able member weighs; 0 of others.
    weights: Box<[AtomicU32]>,
    total: AtomicU64,
}

impl KeyTable {
    /// The table of a pool; none if it has no members.
    ///
    /// Everyone in the pool's tier has a column, also those who weigh too little or too
    /// much for the pool. So a weight that goes to 0 and comes back stops and starts a
    /// column, and moves nobody else's.
    pub(super) fn new<A>(members: &PoolMembers<'_, A>, options: &HashOptions) -> Option<Self> {
        let rows = members.membership.entries.len();
        let mut placed = Vec::with_capacity(rows);
        let tier = members.membership.members().filter(|(_, entry)| members.pool.has_role(entry.role));
        placed.extend(tier.map(|(row, entry)| {
            let weight = if members.pool.is_weightless() { 1 } else { entry.weight };
            PlacedMember { row, identity: entry.hash, weight: u32::from(weight) * FULL_RAMP }
        }));
        let placement = Placement::new(&placed, options.reserve_members)?;
        let bound = |factor| {
            let weights = (0..rows).map(|_| AtomicU32::new(0)).collect();
            LoadBound { factor, weights, total: AtomicU64::new(0) }
        };
        let table = Self { placement, bound: options.bounded_load.map(bound) };
        for (row, entry) in members.iter().filter(|(row, _)| members.able.contains(*row)) {
            table.set_weight(row, entry.weight_in_pool());
        }
        table.placement.tune();
        Some(table)
    }

    /// How much a row takes from now on; 0 takes it out. Called by the one writer.
    pub(super) fn set_weight(&self, row: u32, weight: u32) {
        if let Some(bound) = &self.bound {
            bound.set(row, weight);
        }
        self.placement.set_weight(row, weight);
    }

    /// The member of a key among those that were not tried and have room.
    pub(super) fn choose<A>(&self, search: &Search<'_, A>, key: u64) -> Option<u32> {
        match &self.bound {
            Some(bound) => self.choose_within(bound, search, key),
            None if search.request.tried.is_empty() => self.placement.hit(key),
            None => self.placement.find(key, |row| !search.was_tried(row)),
        }
    }

    fn choose_within<A>(&self, bound: &LoadBound, search: &Search<'_, A>, key: u64) -> Option<u32> {
        let open = search.counters.shared_open().saturating_add(1);
        let has_room = |row| search.load(row) <= bound.cap(open, row);
        let found = self.placement.find(key, |row| has_room(row) && !search.was_tried(row));
        // Nobody has room when the others were tried, or are being taken at this
        // moment: then the one with the most room.
        found.or_else(|| search.least_loaded(bound.able().filter(|(row, _)| !search.was_tried(*row))))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.placement.heap_bytes() + self.bound.as_ref().map_or(0, |bound| size_of_val(&*bound.weights))
    }
}

impl LoadBound {
    /// Open picks that a member may hold when so many are open.
    fn cap(&self, open: u64, row: u32) -> u64 {
        // The factor in 1/65536, so that the bound is exact in integers.
        const UNIT: u128 = 1 << 16;
        let factor = (self.factor.clamp(1.0, 65_536.0) * 65_536.0).round() as u128;
        let weight = self.weights[row as usize].load(Ordering::Relaxed);
        let share = factor * u128::from(open) * u128::from(weight);
        let weights = self.total.load(Ordering::Relaxed);
        let cap = share.div_ceil((u128::from(weights) * UNIT).max(1));
        u64::try_from(cap).unwrap_or(u64::MAX).max(1)
    }

    fn able(&self) -> impl Iterator<Item = (u32, u32)> {
        let weights = self.weights.iter().map(|weight| weight.load(Ordering::Relaxed));
        (0..).zip(weights).filter(|(_, weight)| *weight > 0)
    }

    fn set(&self, row: u32, weight: u32) {
        let old = self.weights[row as usize].load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed) - u64::from(old) + u64::from(weight);
        self.weights[row as usize].store(weight, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}
