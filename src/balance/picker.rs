//! Picking: the fast path of a worker, and the pick it hands out.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "indices are below the length that scaled them; the load factor is clamped"
)]

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::core::{Core, Counting};
use super::counters::CounterShard;
use super::key::{GOLDEN, fold, scale};
use super::lane::{ClaimedTurns, PickedMember, PickerCache};
use super::least::ShardAffinity;
use super::member::MemberId;
use super::pool::{Active, MemberPool};
use super::request::{NoPick, Request};
use super::snapshot::{KeyTable, MemberTable, PoolTable, RoundRobin};
use crate::channel::{NobodyReason, Strategy};

/// Slots tried before a search gives up on luck and looks at every member.
const REDIRECTS: usize = 64;

/// Searches before a pick believes that nobody is there. A search only fails
/// without cause when a writer moves the last member while it runs.
const SEARCHES: usize = 64;

/// A worker's handle: picks without locks, locked instructions or allocation
/// (least connections takes one short lock).
///
/// It belongs to one thread at a time. Picks borrow it, and any number of them
/// may be open. Keep it for the worker's life: it remembers its place in the
/// rotation, and dropping it costs a pass over its counters.
pub struct Picker<A> {
    core: Arc<Core<A>>,
    shard: Arc<CounterShard>,
    counting: Counting,
    cursor: ClaimedTurns<A>,
    /// The place in the order of least connections.
    home: ShardAffinity,
    /// What `lane` and `cursor` are as new as.
    epoch: Cell<u64>,
    /// Taken out while a pick runs, so that a pick inside a pick (from a `Clone` of
    /// `A`) finds it gone and manages without.
    cache: Cell<Option<Box<PickerCache<A>>>>,
}

/// Puts the cache back, also when a `Clone` of `A` panics.
struct CacheGuard<'p, A> {
    place: &'p Cell<Option<Box<PickerCache<A>>>>,
    cache: Option<Box<PickerCache<A>>>,
}

impl<A> Drop for CacheGuard<'_, A> {
    #[inline(always)]
    fn drop(&mut self) {
        // Nothing is in its place: who finds it empty leaves it so.
        std::mem::forget(self.place.replace(self.cache.take()));
    }
}

impl<A> fmt::Debug for Picker<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picker").field("strategy", &self.core.strategy).finish_non_exhaustive()
    }
}

impl<A> Drop for Picker<A> {
    fn drop(&mut self) {
        self.core.counters.retire(&self.shard);
    }
}

impl<A> Picker<A> {
    /// Where it counts.
    pub(super) fn shard(&self) -> &Arc<CounterShard> {
        &self.shard
    }

    /// Ends a pick on the thread that owns this picker.
    #[inline(always)]
    pub(super) fn end(&self, row: u32) {
        match self.counting {
            Counting::Sharded => self.shard.close(row),
            Counting::Shared | Counting::Ordered => self.end_decided_by_load(row),
        }
    }

    #[inline(never)]
    fn end_decided_by_load(&self, row: u32) {
        if self.counting == Counting::Ordered {
            self.core.least.release(row);
        } else {
            self.core.counters.close_shared(row);
        }
    }
}

impl<A: Clone> Picker<A> {
    pub(super) fn new(core: &Arc<Core<A>>) -> Self {
        let epoch = core.epoch();
        let cache = Box::new(PickerCache::newest(core));
        let shard = core.counters.shard(cache.members.rows.len());
        // Differs between pickers, so that their redirects do not run in step.
        let seed = fold((shard.number + 1).wrapping_mul(GOLDEN), GOLDEN);
        Self {
            core: Arc::clone(core),
            home: ShardAffinity::new(shard.number),
            shard,
            counting: core.counting,
            cursor: ClaimedTurns::new(seed),
            epoch: Cell::new(epoch),
            cache: Cell::new(Some(cache)),
        }
    }

    /// Picks a member for the request. The pick counts as open until dropped.
    ///
    /// # Errors
    ///
    /// [`NoPick`] says why there is nobody.
    #[inline(always)]
    pub fn pick(&self, request: &Request<'_>) -> Result<Pick<'_, A>, NoPick> {
        match self.begin_ready(request) {
            Some(picked) => Ok(Pick { picker: self, picked }),
            None => self.pick_slowly(*request),
        }
    }

    #[inline(never)]
    fn pick_slowly(&self, request: Request<'_>) -> Result<Pick<'_, A>, NoPick> {
        self.begin(request).map(|picked| Pick { picker: self, picked })
    }

    /// A pick that finds its member without a search, if there is one; counted as
    /// open, and the caller sees to it that it ends.
    #[inline(always)]
    pub(super) fn begin_ready(&self, request: &Request<'_>) -> Option<PickedMember<A>> {
        if !request.tried.is_empty() || self.epoch.get() != self.core.epoch() {
            return None;
        }
        if let Some(picked) = self.cursor.next() {
            self.shard.open(picked.row);
            return Some(picked);
        }
        self.begin_by_key(request)
    }

    /// A pick by a hash strategy that takes whomever the key hits.
    #[inline(always)]
    fn begin_by_key(&self, request: &Request<'_>) -> Option<PickedMember<A>> {
        if self.counting != Counting::Sharded {
            return None;
        }
        let key = key_of(&self.core, request)?;
        let held = CacheGuard { place: &self.cache, cache: Some(self.cache.take()?) };
        let cache = held.cache.as_deref()?;
        let PoolTable::Hash(table) = cache.keyed.as_deref()? else { return None };
        self.counted(&cache.members, table.placement.hit(key)?)
    }

    /// Counts a pick in this picker's shard.
    #[inline(always)]
    fn counted(&self, members: &MemberTable<A>, row: u32) -> Option<PickedMember<A>> {
        // Cloned before it counts: a clone that panics leaves nothing open.
        let picked = PickedMember::at(members, row)?;
        self.shard.open(row);
        Some(picked)
    }

    /// As `begin_ready`, where there is more to look at: changes, tried members,
    /// loads, and why there is nobody.
    pub(super) fn begin(&self, request: Request<'_>) -> Result<PickedMember<A>, NoPick> {
        let request = &request;
        let picked = match self.counting {
            // Nothing may change between the look and the pick.
            Counting::Ordered => self.begin_ordered(request),
            Counting::Sharded => self.with_cache(|cache| {
                if let Some(picked) = self.prepared(cache, request) {
                    self.shard.open(picked.row);
                    return Some(picked);
                }
                let found = self.search(cache, request).or_else(|| self.search_again(cache, request));
                self.counted(&cache.members, found?)
            }),
            Counting::Shared => self.with_cache(|cache| {
                // Opened when it was accepted.
                let found = self.search(cache, request).or_else(|| self.search_again(cache, request));
                let picked = self.opened(&cache.members, found?)?;
                self.shard.count();
                Some(picked)
            }),
        };
        picked.ok_or_else(|| self.with_cache(|cache| nobody(&cache.members, request)))
    }

    /// The next of a round robin in which everyone is able, and more of them for
    /// the picks to come.
    fn prepared(&self, cache: &PickerCache<A>, request: &Request<'_>) -> Option<PickedMember<A>> {
        let Active::MemberPool(pool) = cache.members.active() else { return None };
        match cache.snapshot.table(pool)? {
            PoolTable::RoundRobin(table) if table.steady && request.tried.is_empty() => {
                self.cursor.prepare(&table.current, &cache.members, &self.core.cursor.0);
                self.cursor.next()
            }
            _ => None,
        }
    }

    /// Runs with a cache that is not older than this call.
    #[inline]
    fn with_cache<R>(&self, work: impl FnOnce(&PickerCache<A>) -> R) -> R {
        let Some(mut cache) = self.cache.take() else {
            // A pick inside a pick.
            return work(&PickerCache::newest(&self.core));
        };
        let epoch = self.core.epoch();
        if self.epoch.get() != epoch {
            self.cursor.forget();
            cache.refresh(&self.core);
            self.epoch.set(epoch);
        }
        let held = CacheGuard { place: &self.cache, cache: Some(cache) };
        match &held.cache {
            Some(cache) => work(cache),
            None => work(&PickerCache::newest(&self.core)),
        }
    }

    /// The member of a pick that is open already, and ends if `clone` panics.
    #[inline]
    fn opened(&self, members: &MemberTable<A>, row: u32) -> Option<PickedMember<A>> {
        struct EndOnPanic<'p, A>(&'p Picker<A>, u32);
        impl<A> Drop for EndOnPanic<'_, A> {
            fn drop(&mut self) {
                self.0.end(self.1);
            }
        }
        let guard = EndOnPanic(self, row);
        let picked = PickedMember::at(members, row)?;
        std::mem::forget(guard);
        Some(picked)
    }

    /// The first search found nobody: the tables changed under it, or nobody is
    /// there.
    #[cold]
    fn search_again(&self, cache: &PickerCache<A>, request: &Request<'_>) -> Option<u32> {
        for _ in 0..SEARCHES {
            if matches!(cache.members.active(), Active::Nobody(_)) {
                return None;
            }
            if let Some(row) = self.search(cache, request) {
                return Some(row);
            }
            if !request.tried.is_empty() {
                return None;
            }
        }
        None
    }

    fn search(&self, cache: &PickerCache<A>, request: &Request<'_>) -> Option<u32> {
        let members = &*cache.members;
        let Active::MemberPool(pool) = members.active() else { return None };
        match cache.snapshot.table(pool)? {
            PoolTable::RoundRobin(table) => self.round_robin(members, pool, table, request),
            PoolTable::Hash(table) => self.hash(members, table, request),
            PoolTable::Sample(rows) => self.sample(members, pool, rows, request),
        }
    }

    fn round_robin(
        &self,
        members: &MemberTable<A>,
        pool: MemberPool,
        table: &RoundRobin,
        request: &Request<'_>,
    ) -> Option<u32> {
        let sequence = &table.current;
        let shared = &self.core.cursor.0;
        let row = sequence.at(self.cursor.next_time(sequence.step(), shared));
        if members.able(pool).contains(row) && request.tried.is_empty() {
            return Some(row);
        }
        self.redirect(row, members, pool, table, request)
    }

    /// The slot's member is out of rotation, or was tried: another slot, every
    /// one as likely, so that the others gain in proportion to their weights.
    #[cold]
    fn redirect(
        &self,
        row: u32,
        members: &MemberTable<A>,
        pool: MemberPool,
        table: &RoundRobin,
        request: &Request<'_>,
    ) -> Option<u32> {
        let able = members.able(pool);
        let accepts = |row: &u32| able.contains(*row) && !was_tried(members, request, *row);
        if accepts(&row) {
            return Some(row);
        }
        let lucky = (0..REDIRECTS).map(|_| table.current.at(self.cursor.turn())).find(accepts);
        lucky.or_else(|| {
            let start = scale(self.cursor.turn(), table.rows.len() as u64) as usize;
            let (before, after) = table.rows.split_at(start);
            after.iter().chain(before).copied().find(accepts)
        })
    }

    fn hash(&self, members: &MemberTable<A>, table: &KeyTable, request: &Request<'_>) -> Option<u32> {
        let key = self.key(request);
        if self.counting == Counting::Shared {
            return self.bounded(members, table, request, key);
        }
        if request.tried.is_empty() {
            return table.placement.hit(key);
        }
        table.placement.find(key, |row| !was_tried(members, request, row))
    }

    #[inline(always)]
    fn key(&self, request: &Request<'_>) -> u64 {
        // Without a key every member gets its share.
        key_of(&self.core, request).unwrap_or_else(|| fold(self.cursor.turn(), GOLDEN))
    }

    /// Bounded load: a full member counts as a miss.
    fn bounded(
        &self,
        members: &MemberTable<A>,
        table: &KeyTable,
        request: &Request<'_>,
        key: u64,
    ) -> Option<u32> {
        let loads = table.loads.as_ref()?;
        let counters = &self.core.counters;
        let factor = self.core.options.hash.bounded_load.unwrap_or(f64::INFINITY);
        let total = counters.shared_open().saturating_add(1);
        let found = table.placement.find(key, |row| {
            let cap = load_cap(factor, total, loads.weight(row), loads.total());
            u64::from(counters.shared_open_at(row)) < cap && !was_tried(members, request, row)
        });
        // Nobody has room when the others were tried, or are being taken at this
        // moment: then the one with the most room.
        let row = found.or_else(|| {
            let open = loads.able().filter(|(row, _)| !was_tried(members, request, *row));
            let load = |row| u64::from(counters.shared_open_at(row)) + 1;
            open.map(|(row, weight)| (row, load(row), u64::from(weight)))
                .min_by(|left, right| (left.1 * right.2).cmp(&(right.1 * left.2)))
                .map(|(row, ..)| row)
        })?;
        counters.open_shared(row);
        Some(row)
    }

    /// Sampled least connections: the best of a few drawn at random.
    fn sample(
        &self,
        members: &MemberTable<A>,
        pool: MemberPool,
        rows: &[(u32, u32)],
        request: &Request<'_>,
    ) -> Option<u32> {
        let able = members.able(pool);
        let counters = &self.core.counters;
        let accepts = |row: u32| able.contains(row) && !was_tried(members, request, row);
        let load =
            |(row, weight): (u32, u32)| (u64::from(counters.shared_open_at(row)) + 1, u64::from(weight), row);
        let count = rows.len() as u64;
        let drawn = (0..REDIRECTS)
            .filter_map(|_| rows.get(scale(fold(self.cursor.turn(), GOLDEN), count) as usize).copied())
            .filter(|(row, _)| accepts(*row));
        let lucky = drawn
            .take(self.core.samples())
            .map(load)
            .reduce(|best, other| if other.0 * best.1 < best.0 * other.1 { other } else { best });
        let picked = lucky.map(|(.., row)| row).or_else(|| {
            let start = scale(fold(self.cursor.turn(), GOLDEN), count) as usize;
            let (before, after) = rows.split_at(start);
            after.iter().chain(before).map(|(row, _)| *row).find(|row| accepts(*row))
        })?;
        counters.open_shared(picked);
        Some(picked)
    }

    fn begin_ordered(&self, request: &Request<'_>) -> Option<PickedMember<A>> {
        let least = &self.core.least;
        // The cache is looked at after the lock: the writer publishes while it holds all.
        let locked = if request.tried.is_empty() { least.lock_least(&self.home) } else { None };
        let Some(mut locked) = locked else { return self.begin_among_all(request) };
        self.with_cache(|cache| {
            let row = locked.pick(&self.home);
            drop(locked);
            let picked = self.opened(&cache.members, row?)?;
            self.shard.count();
            Some(picked)
        })
    }

    #[cold]
    fn begin_among_all(&self, request: &Request<'_>) -> Option<PickedMember<A>> {
        let mut all = self.core.least.lock_all();
        self.with_cache(|cache| {
            let members = &*cache.members;
            let row = all.pick_where(&self.home, |row| !was_tried(members, request, row));
            drop(all);
            let picked = self.opened(members, row?)?;
            self.shard.count();
            Some(picked)
        })
    }
}

/// The hash of what the strategy places by, if the request has it.
#[inline(always)]
pub(super) fn key_of<A>(core: &Core<A>, request: &Request<'_>) -> Option<u64> {
    match core.strategy {
        Strategy::SourceHash => request.source.map(|source| core.hashing.source(source)),
        Strategy::UriHash => request.uri.map(|uri| core.hashing.uri(uri)),
        Strategy::WeightedRoundRobin | Strategy::WeightedLeastConnections => None,
    }
}

#[inline]
pub(super) fn was_tried<A>(members: &MemberTable<A>, request: &Request<'_>, row: u32) -> bool {
    request.tried.iter().any(|id| {
        let entry = || members.rows.get(row as usize).and_then(Option::as_ref);
        id.row == row && entry().is_some_and(|entry| entry.serial == id.serial)
    })
}

/// Open picks that a member may hold under bounded load.
pub(super) fn load_cap(factor: f64, total: u64, weight: u32, weights: u64) -> u64 {
    // The factor in 1/65536, so that the bound is exact in integers.
    const UNIT: u128 = 1 << 16;
    let factor = (factor.clamp(1.0, 65_536.0) * 65_536.0).round() as u128;
    let share = factor * u128::from(total) * u128::from(weight);
    let cap = share.div_ceil((u128::from(weights) * UNIT).max(1));
    u64::try_from(cap).unwrap_or(u64::MAX).max(1)
}

#[cold]
fn nobody<A>(members: &MemberTable<A>, request: &Request<'_>) -> NoPick {
    match members.active() {
        Active::Nobody(reason) => NoPick::Nobody(reason),
        Active::MemberPool(_) if !request.tried.is_empty() => NoPick::AllTried,
        // The last member went while this pick ran.
        Active::MemberPool(_) => NoPick::Nobody(NobodyReason::AllUnhealthy),
    }
}

/// A picked member. Counts as open until dropped.
#[must_use = "the pick ends when it is dropped"]
pub struct Pick<'p, A> {
    picker: &'p Picker<A>,
    picked: PickedMember<A>,
}

impl<A> Pick<'_, A> {
    /// What the member was made with.
    #[inline]
    pub fn address(&self) -> &A {
        &self.picked.address
    }

    /// The member's name, for [`Request::tried`] and for changes.
    #[must_use]
    #[inline]
    pub fn id(&self) -> MemberId {
        self.picked.id()
    }
}

impl<A: fmt::Debug> fmt::Debug for Pick<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick").field("id", &self.picked.id()).field("address", &self.picked.address).finish()
    }
}

impl<A> Drop for Pick<'_, A> {
    #[inline]
    fn drop(&mut self) {
        self.picker.end(self.picked.row);
    }
}
