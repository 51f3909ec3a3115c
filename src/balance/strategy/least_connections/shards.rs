//! The members of least connections, dealt to shards that each have a lock.
//!
//! Each shard keeps an exact [`Order`] of its members under its lock. It publishes its
//! smallest load whenever that changes. A pick takes a shard's lock and then checks that
//! no other shard has published a smaller load; if one has, the pick goes there
//! instead. So a pick is exact with regard to everything that ended before it
//! began, and differs from that only by what runs at the same time.
//!
//! Members that tie are spread over the shards. A picker prefers one shard, and leaves it
//! when every member of it that ties has had a turn, so that ties rotate over all
//! members. A picker that has met another in a shard goes on, for a while, only to
//! shards that no other picker has preferred since: then two pickers neither wait for
//! each other, nor fetch each other's members from the other core.

#![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "shards are masked")]

use std::cell::Cell;

use super::classes::{Idle, load_of, turn_of};
use super::order::{ClassTurn, Order};
use crate::balance::pool::MemberPool;
use crate::balance::sync::{
    AtomicU32, AtomicU64, BriefGuard, BriefMutex, Ordering, Padded, lock_brief as lock,
    try_lock_brief as try_lock,
};

/// The most shards.
#[cfg(not(vitald_loom))]
const SHARDS: usize = 8;
#[cfg(vitald_loom)]
const SHARDS: usize = 2;

/// Members that a shard has at least, when there are several. With fewer, the
/// smallest load of a shard would change with most picks, and everyone wait for the news.
#[cfg(not(vitald_loom))]
const SMALLEST: usize = 64;
#[cfg(vitald_loom)]
const SMALLEST: usize = 1;

/// Moves of a picker during which it avoids shards that others prefer, after it has met
/// one of them. Not for long: the others may rest, and their shards are not to be left out.
const AVOIDS: u32 = 64;

/// Shards tried before a pick takes all locks. Each failed one means that
/// another pick or release got through.
const TRIES: usize = 16;

/// The load of a shard that has no member in the active pool.
const NOBODY: u64 = u64::MAX;

/// The shard that a picker prefers.
#[derive(Debug)]
pub(in crate::balance) struct ShardAffinity {
    /// The picker's number; not 0.
    picker: u32,
    shard: Cell<u32>,
    /// The turn of the shard's order when the picker came.
    since: Cell<u64>,
    /// Whether every member there that ties has had a turn.
    all_had_turn: Cell<bool>,
    /// Moves left during which it avoids others.
    avoids: Cell<u32>,
    /// Where the next search among all shards begins.
    start: Cell<u32>,
}

impl ShardAffinity {
    pub(in crate::balance) fn new(number: u64) -> Self {
        let picker = (number % 0xFFFF_FFFF) as u32 + 1;
        Self {
            picker,
            shard: Cell::new(picker),
            since: Cell::new(0),
            all_had_turn: Cell::new(true),
            avoids: Cell::new(0),
            start: Cell::new(0),
        }
    }
}

/// Open picks of all members, and the next one to pick.
#[derive(Debug)]
pub(in crate::balance) struct LeastConnections {
    /// There are two to the power of this many shards in use. Changes under all locks.
    shift: Padded<AtomicU32>,
    /// What each shard's next pick in the active pool has to carry.
    loads: Padded<[AtomicU64; SHARDS]>,
    /// The picker that prefers a shard; 0: none.
    owners: Padded<[AtomicU32; SHARDS]>,
    shards: [Padded<BriefMutex<OrderShard>>; SHARDS],
}

/// The members of a shard, in order.
#[derive(Debug)]
struct OrderShard {
    order: Order,
    /// The pool that takes picks. The same in all shards.
    active: Option<MemberPool>,
}

impl OrderShard {
    /// What the next pick has to carry.
    #[inline(always)]
    fn load(&self) -> u64 {
        self.active.map_or(NOBODY, |pool| load_of(self.order.lead(pool)))
    }
}

/// A shard under its lock.
pub(in crate::balance) struct LockedShard<'l> {
    least: &'l LeastConnections,
    inner: BriefGuard<'l, OrderShard>,
    shard: u32,
    shift: u32,
}

impl LeastConnections {
    pub(super) fn new(idle: Idle) -> Self {
        Self {
            shift: Padded(AtomicU32::new(0)),
            loads: Padded([const { NOBODY }; SHARDS].map(AtomicU64::new)),
            owners: Padded([const { 0 }; SHARDS].map(AtomicU32::new)),
            shards: [(); SHARDS]
                .map(|()| Padded(BriefMutex::new(OrderShard { order: Order::new(idle), active: None }))),
        }
    }

    #[inline(always)]
    fn mutex(&self, shard: u32) -> &BriefMutex<OrderShard> {
        &self.shards[shard as usize % SHARDS].0
    }

    #[inline(always)]
    fn shift(&self) -> u32 {
        self.shift.0.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn load(&self, shard: u32) -> u64 {
        self.loads.0[shard as usize % SHARDS].load(Ordering::Acquire)
    }

    /// Lets others know what the next pick from a shard has to carry. Called under
    /// its lock.
    #[inline(always)]
    fn publish(&self, shard: u32, load: u64) {
        let published = &self.loads.0[shard as usize % SHARDS];
        // Most picks change nothing that others would have to fetch.
        if published.load(Ordering::Relaxed) != load {
            published.store(load, Ordering::Release);
        }
    }

    /// The shard of a row, under its lock.
    #[inline(always)]
    fn lock_row(&self, row: u32) -> LockedShard<'_> {
        loop {
            let shift = self.shift();
            let shard = row & ((1 << shift) - 1);
            let inner = lock(self.mutex(shard));
            if self.shift() == shift {
                return LockedShard { least: self, inner, shard, shift };
            }
        }
    }

    /// A shard whose next pick carries least of all, under its lock; none if others
    /// were faster again and again.
    #[inline(always)]
    pub(in crate::balance) fn lock_least(&self, affinity: &ShardAffinity) -> Option<LockedShard<'_>> {
        let shift = self.shift();
        let shard = affinity.shard.get() & ((1 << shift) - 1);
        if shift == 0 {
            let inner = lock(self.mutex(0));
            if self.shift() == 0 {
                return Some(LockedShard { least: self, inner, shard: 0, shift });
            }
        } else if !affinity.all_had_turn.get() {
            match try_lock(self.mutex(shard)) {
                Some(inner) if self.shift() == shift && self.leads(shard) => {
                    return Some(LockedShard { least: self, inner, shard, shift });
                }
                Some(_) => {}
                None => affinity.avoids.set(AVOIDS),
            }
        }
        self.lock_another(affinity)
    }

    /// Whether no shard has published a smaller load than this one.
    #[inline(always)]
    fn leads(&self, shard: u32) -> bool {
        let own = self.load(shard);
        // All of them, for a loop without a branch: those not in use hold nobody.
        self.loads.0.iter().fold(true, |leads, load| leads & (load.load(Ordering::Acquire) >= own))
    }

    #[inline(never)]
    fn lock_another(&self, affinity: &ShardAffinity) -> Option<LockedShard<'_>> {
        for _ in 0..TRIES {
            let shift = self.shift();
            let mask = (1_u32 << shift) - 1;
            let at = affinity.shard.get() & mask;
            let least = (0..=mask).map(|shard| self.load(shard)).fold(NOBODY, u64::min);
            let ties = |shard: &u32| self.load(*shard) == least;
            // The preferred shard stays while others have the least loaded members.
            let stays = !affinity.all_had_turn.get() && !ties(&at);
            let around = || (1..=mask + 1).map(|step| at.wrapping_add(step) & mask).filter(ties);
            let is_free = |shard: &u32| {
                let owner = self.owners.0[*shard as usize % SHARDS].load(Ordering::Relaxed);
                affinity.avoids.get() == 0 || owner == 0 || owner == affinity.picker
            };
            let attempt = |shard: u32| {
                let inner = try_lock(self.mutex(shard));
                if inner.is_none() {
                    affinity.avoids.set(AVOIDS);
                }
                Some((shard, inner?))
            };
            let locked = around()
                .filter(is_free)
                .find_map(attempt)
                .or_else(|| around().find_map(attempt))
                .or_else(|| around().next().map(|shard| (shard, lock(self.mutex(shard)))));
            let Some((shard, inner)) = locked else { continue };
            if self.shift() != shift || self.load(shard) == NOBODY || !self.leads(shard) {
                continue;
            }
            if !stays {
                affinity.avoids.set(affinity.avoids.get().saturating_sub(1));
                affinity.shard.set(shard);
                affinity.since.set(inner.order.turn);
                affinity.all_had_turn.set(false);
                let owner = &self.owners.0[shard as usize % SHARDS];
                if owner.load(Ordering::Relaxed) != affinity.picker {
                    owner.store(affinity.picker, Ordering::Relaxed);
                }
            }
            return Some(LockedShard { least: self, inner, shard, shift });
        }
        None
    }

    pub(in crate::balance) fn lock_all(&self) -> AllShards<'_> {
        AllShards { least: self, shards: std::array::from_fn(|shard| lock(&self.shards[shard].0)) }
    }

    /// Ends a pick. Also of a member that is out of rotation or has left.
    #[inline]
    pub(in crate::balance) fn release(&self, row: u32) {
        let mut locked = self.lock_row(row);
        let own = row >> locked.shift;
        if locked.inner.order.release(own) {
            self.publish(locked.shard, locked.inner.load());
        }
    }

    /// Open picks of a row, in rotation or not.
    pub(in crate::balance) fn open(&self, row: u32) -> u32 {
        let locked = self.lock_row(row);
        locked.inner.order.open(row >> locked.shift)
    }

    /// Puts a member into rotation, or into another pool or class; `None` takes
    /// it out. Its open picks stay.
    pub(in crate::balance) fn link(&self, row: u32, place: Option<(MemberPool, u32)>) {
        let mut locked = self.lock_row(row);
        let own = row >> locked.shift;
        locked.inner.order.link(own, place);
        self.publish(locked.shard, locked.inner.load());
    }
}

impl LockedShard<'_> {
    /// Picks the least loaded member of the shard in the active pool, and opens it.
    #[inline(always)]
    pub(in crate::balance) fn pick(&mut self, affinity: &ShardAffinity) -> Option<u32> {
        let pool = self.inner.active?;
        let (own, turn) = self.inner.order.pick(pool)?;
        if turn == ClassTurn::Ended {
            self.end_turn(pool, affinity);
        }
        Some(own << self.shift | self.shard)
    }

    #[inline(never)]
    fn end_turn(&self, pool: MemberPool, affinity: &ShardAffinity) {
        self.least.publish(self.shard, self.inner.load());
        let is_preferred = affinity.shard.get() & ((1 << self.shift) - 1) == self.shard;
        if is_preferred && turn_of(self.inner.order.lead(pool)) > affinity.since.get() {
            affinity.all_had_turn.set(true);
        }
    }
}

/// All shards, under their locks.
pub(in crate::balance) struct AllShards<'l> {
    least: &'l LeastConnections,
    shards: [BriefGuard<'l, OrderShard>; SHARDS],
}

impl AllShards<'_> {
    fn used(&self) -> impl Iterator<Item = (u32, &OrderShard)> {
        let shards = self.shards.iter().take(1 << self.least.shift());
        (0..).zip(shards.map(|inner| &**inner))
    }

    /// The shard of a row, and its number there.
    fn shard_of(&mut self, row: u32) -> (&mut OrderShard, u32) {
        let shift = self.least.shift();
        let shard = row & ((1 << shift) - 1);
        (&mut self.shards[shard as usize % SHARDS], row >> shift)
    }

    /// Which pool takes picks from now on.
    pub(in crate::balance) fn set_active(&mut self, active: Option<MemberPool>) {
        self.shards.iter_mut().for_each(|shard| shard.active = active);
    }

    pub(in crate::balance) fn link(&mut self, row: u32, place: Option<(MemberPool, u32)>) {
        let (shard, own) = self.shard_of(row);
        shard.order.link(own, place);
    }

    /// Puts every row, in order, where `places` says, over as many shards as suit
    /// their number.
    pub(in crate::balance) fn link_all(&mut self, places: &[Option<(MemberPool, u32)>]) {
        self.deal(places.len());
        let step = 1 << self.least.shift();
        for (shard, inner) in self.shards.iter_mut().enumerate().take(step) {
            let own = places.iter().skip(shard).step_by(step);
            inner.order.reserve_rows(own.len());
            inner.order.link_all(own.copied());
        }
    }

    /// Deals so many rows to shards, with their open picks.
    fn deal(&mut self, rows: usize) {
        let old = self.least.shift();
        let new = (rows / SMALLEST).clamp(1, SHARDS).ilog2();
        if old == new {
            return;
        }
        let open: Vec<u32> = (0..rows as u32)
            .map(|row| {
                let (shard, own) = self.shard_of(row);
                shard.order.open(own)
            })
            .collect();
        for (shard, inner) in self.shards.iter_mut().enumerate() {
            let used = if shard < 1 << new { usize::MAX } else { 0 };
            inner.order.restore(open.iter().skip(shard).step_by(1 << new).copied().take(used));
        }
        for load in self.least.loads.0.iter().skip(1 << new) {
            load.store(NOBODY, Ordering::Release);
        }
        self.least.shift.0.store(new, Ordering::Release);
    }

    /// Picks the least loaded of the members of the active pool that `accept` takes, and
    /// opens it. Shards take turns among equals.
    pub(in crate::balance) fn pick_where(
        &mut self,
        affinity: &ShardAffinity,
        accept: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let start = affinity.start.get();
        affinity.start.set(start.wrapping_add(1));
        let row = self.least_from(start, accept)?;
        let (shard, own) = self.shard_of(row);
        shard.order.open_pick(own);
        Some(row)
    }

    /// The least loaded of the members of the active pool that `accept` takes; among
    /// equals the first from a shard on.
    pub(in crate::balance) fn least_from(&self, start: u32, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let shift = self.least.shift();
        let mask = (1 << shift) - 1;
        let found = self.used().filter_map(|(shard, inner)| {
            let row_of = |own: u32| own << shift | shard;
            let (load, own) = inner.order.least_where(inner.active?, |own| accept(row_of(own)))?;
            Some((load, shard.wrapping_sub(start) & mask, row_of(own)))
        });
        found.min().map(|(.., row)| row)
    }

    pub(in crate::balance) fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.order.heap_bytes()).sum()
    }
}

impl Drop for AllShards<'_> {
    fn drop(&mut self) {
        for (shard, inner) in self.used() {
            self.least.publish(shard, inner.load());
        }
    }
}

#[cfg(test)]
mod tests;
