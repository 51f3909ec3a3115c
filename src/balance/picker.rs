//! Picking: the fast path of a worker, and the pick it hands out.
//!
//! Most picks find that nothing has changed since the last one. One word, the epoch,
//! says so: the writer raises it after every change that a pick could see. While it
//! stands still a [`PickerCache`] holds all that a pick must know, and
//! [`ClaimedTurns`] have the next members of weighted round robin ready.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::core::{Core, TableSnapshot};
use super::counters::CounterShard;
use super::hash::{GOLDEN, fold};
use super::member::MemberId;
use super::member_table::{MemberTable, PickedMember};
use super::request::{Draws, NoPick, Request, Search};
use super::strategy::{ClaimedTurns, Counting, PoolTable, ShardAffinity};

/// Searches before a pick reports that no member is there. A search fails although
/// there is one only when the writer moves the last member while it runs.
const SEARCHES: usize = 64;

/// A worker's handle: picks without locks, locked instructions or allocation
/// (least connections takes one short lock).
///
/// It belongs to one thread at a time. Picks borrow it, and any number of them
/// may be open. Keep it for the worker's life: it remembers its place in the
/// rotation, and dropping it costs a pass over its counters.
pub struct Picker<A> {
    core: Arc<Core<A>>,
    /// Where it counts.
    pub(super) shard: Arc<CounterShard>,
    counting: Counting,
    turns: ClaimedTurns<A>,
    draws: Draws,
    /// Its place among the shards of least connections.
    affinity: ShardAffinity,
    /// What `cache` and `turns` are as new as.
    epoch: Cell<u64>,
    /// Taken out while a pick runs, so that a pick inside a pick (from a `Clone` of
    /// `A`) finds it gone and manages without.
    cache: Cell<Option<Box<PickerCache<A>>>>,
}

/// The tables as of an epoch.
struct PickerCache<A> {
    snapshot: Arc<TableSnapshot<A>>,
    /// The snapshot's, one step nearer.
    members: Arc<MemberTable<A>>,
    /// The table of the active pool.
    table: Option<Arc<PoolTable>>,
}

impl<A> PickerCache<A> {
    fn of(snapshot: Arc<TableSnapshot<A>>) -> Self {
        let members = Arc::clone(&snapshot.members);
        let table = members.active().pool().and_then(|pool| snapshot.pools[pool].clone());
        Self { snapshot, members, table }
    }

    fn refresh(&mut self, core: &Core<A>) {
        let is_newest = self.snapshot.generation == core.generation();
        *self = Self::of(if is_newest { Arc::clone(&self.snapshot) } else { core.newest() });
    }
}

/// Puts the cache back, also when a `Clone` of `A` panics.
struct CacheGuard<'p, A> {
    place: &'p Cell<Option<Box<PickerCache<A>>>>,
    cache: Option<Box<PickerCache<A>>>,
}

impl<A> Drop for CacheGuard<'_, A> {
    #[inline(always)]
    fn drop(&mut self) {
        // Its place is empty meanwhile: a pick that finds it empty leaves it so.
        std::mem::forget(self.place.replace(self.cache.take()));
    }
}

impl<A> fmt::Debug for Picker<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picker").field("strategy", &self.core.method.strategy).finish_non_exhaustive()
    }
}

impl<A> Drop for Picker<A> {
    fn drop(&mut self) {
        self.core.counters.retire(&self.shard);
    }
}

impl<A> Picker<A> {
    /// Ends a pick on the thread that owns this picker.
    #[inline(always)]
    fn end(&self, row: u32) {
        match self.counting {
            Counting::Sharded => self.shard.close(row),
            Counting::Shared | Counting::Ordered => self.core.end(row),
        }
    }
}

impl<A: Clone> Picker<A> {
    pub(super) fn new(core: &Arc<Core<A>>) -> Self {
        let epoch = core.epoch();
        let cache = Box::new(PickerCache::of(core.newest()));
        let shard = core.counters.shard(cache.members.rows.len());
        Self {
            core: Arc::clone(core),
            affinity: ShardAffinity::new(shard.number),
            counting: core.method.counting,
            turns: ClaimedTurns::new(),
            // Differs between pickers, so that their redirects do not run in step.
            draws: Draws(Cell::new(fold((shard.number + 1).wrapping_mul(GOLDEN), GOLDEN))),
            shard,
            epoch: Cell::new(epoch),
            cache: Cell::new(Some(cache)),
        }
    }

    /// Picks a member for the request. The pick counts as open until dropped.
    ///
    /// # Errors
    ///
    /// [`NoPick`] says why there is no member.
    #[inline(always)]
    pub fn pick(&self, request: &Request<'_>) -> Result<Pick<'_, A>, NoPick> {
        match self.begin_ready(request) {
            Some(picked) => Ok(Pick { picker: self, picked }),
            None => self.pick_slowly(*request),
        }
    }

    #[inline(never)]
    fn pick_slowly(&self, request: Request<'_>) -> Result<Pick<'_, A>, NoPick> {
        self.begin(&request).map(|picked| Pick { picker: self, picked })
    }

    /// A pick that finds its member without a search, if there is one; counted as
    /// open, and the caller sees to it that it ends.
    #[inline(always)]
    pub(super) fn begin_ready(&self, request: &Request<'_>) -> Option<PickedMember<A>> {
        if !request.tried.is_empty() || self.epoch.get() != self.core.epoch() {
            return None;
        }
        if let Some(picked) = self.turns.next() {
            self.shard.open(picked.row);
            return Some(picked);
        }
        self.begin_by_key(request)
    }

    /// A pick that takes the member that its key hits.
    #[inline(always)]
    fn begin_by_key(&self, request: &Request<'_>) -> Option<PickedMember<A>> {
        if self.counting != Counting::Sharded {
            return None;
        }
        let key = self.core.method.key(request)?;
        let guard = CacheGuard { place: &self.cache, cache: Some(self.cache.take()?) };
        let cache = guard.cache.as_deref()?;
        self.counted(&cache.members, cache.table.as_deref()?.hit(key)?)
    }

    /// Counts a pick in this picker's counters.
    #[inline(always)]
    fn counted(&self, members: &MemberTable<A>, row: u32) -> Option<PickedMember<A>> {
        // Cloned before it counts: a clone that panics leaves nothing open.
        let picked = members.pick(row)?;
        self.shard.open(row);
        Some(picked)
    }

    /// As `begin_ready`, where there is more to look at: changes, tried members,
    /// loads, and why there is nobody.
    pub(super) fn begin(&self, request: &Request<'_>) -> Result<PickedMember<A>, NoPick> {
        let picked = match self.counting {
            // Nothing may change between the look and the pick.
            Counting::Ordered => self.begin_ordered(request),
            Counting::Sharded => self.with_cache(|cache| {
                // Members that were tried need a look.
                let table = cache.table.as_deref().filter(|_| request.tried.is_empty());
                let prepare =
                    |table: &PoolTable| table.prepare(&self.core.method, &self.turns, &cache.members);
                if let Some(picked) = table.and_then(prepare) {
                    self.shard.open(picked.row);
                    return Some(picked);
                }
                self.counted(&cache.members, self.search(cache, request)?)
            }),
            Counting::Shared => self.with_cache(|cache| {
                let row = self.search(cache, request)?;
                self.core.counters.open_shared(row);
                self.opened(&cache.members, row)
            }),
        };
        picked.ok_or_else(|| self.with_cache(|cache| NoPick::because(cache.members.active(), request)))
    }

    /// Runs with a cache that is not older than this call.
    #[inline]
    fn with_cache<R>(&self, work: impl FnOnce(&PickerCache<A>) -> R) -> R {
        let Some(mut cache) = self.cache.take() else {
            // A pick inside a pick.
            return work(&PickerCache::of(self.core.newest()));
        };
        // Read before the tables, so that what is cached is never older than it.
        let epoch = self.core.epoch();
        if self.epoch.get() != epoch {
            self.turns.forget();
            cache.refresh(&self.core);
            self.epoch.set(epoch);
        }
        let guard = CacheGuard { place: &self.cache, cache: Some(cache) };
        match &guard.cache {
            Some(cache) => work(cache),
            None => work(&PickerCache::of(self.core.newest())),
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
        let picked = members.pick(row)?;
        std::mem::forget(guard);
        self.shard.count();
        Some(picked)
    }

    /// The row that the strategy chooses. A search that finds none is repeated: the
    /// tables may have changed under it.
    fn search(&self, cache: &PickerCache<A>, request: &Request<'_>) -> Option<u32> {
        let searches = if request.tried.is_empty() { SEARCHES } else { 2 };
        for _ in 0..searches {
            let pool = cache.members.active().pool()?;
            let (counters, draws) = (&self.core.counters, &self.draws);
            let search = Search { request, members: &cache.members, pool, counters, draws };
            let found = self.core.method.choose(cache.snapshot.table(pool)?, &search, &self.turns);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn begin_ordered(&self, request: &Request<'_>) -> Option<PickedMember<A>> {
        let least = &self.core.method.least;
        // The cache is looked at after the lock: the writer publishes while it holds all.
        let locked = if request.tried.is_empty() { least.lock_least(&self.affinity) } else { None };
        let Some(mut locked) = locked else { return self.begin_among_all(request) };
        self.with_cache(|cache| {
            let row = locked.pick(&self.affinity);
            drop(locked);
            self.opened(&cache.members, row?)
        })
    }

    #[cold]
    fn begin_among_all(&self, request: &Request<'_>) -> Option<PickedMember<A>> {
        let mut all = self.core.method.least.lock_all();
        self.with_cache(|cache| {
            let row = all.pick_where(&self.affinity, |row| !request.has_tried(&cache.members, row));
            drop(all);
            self.opened(&cache.members, row?)
        })
    }
}

/// A picked member. Counts as open until dropped.
#[derive(Debug)]
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

impl<A> Drop for Pick<'_, A> {
    #[inline]
    fn drop(&mut self) {
        self.picker.end(self.picked.row);
    }
}
