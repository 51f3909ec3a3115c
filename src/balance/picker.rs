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
use super::key::{GOLDEN, fold, scale};
use super::lane::{Begun, Cursor, Lane};
use super::least::Home;
use super::ledger::Shard;
use super::member::MemberId;
use super::pool::{Active, Pool};
use super::request::{NoPick, Request};
use super::snapshot::{HashTable, Roster, RoundRobin, Table};
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
    shard: Arc<Shard>,
    counting: Counting,
    cursor: Cursor<A>,
    /// The place in the order of least connections.
    home: Home,
    /// What `lane` and `cursor` are as new as.
    epoch: Cell<u64>,
    /// Taken out while a pick runs, so that a pick inside a pick (from a `Clone` of
    /// `A`) finds it gone and manages without.
    lane: Cell<Option<Box<Lane<A>>>>,
}

/// Puts the lane back, also when a `Clone` of `A` panics.
struct Held<'p, A> {
    place: &'p Cell<Option<Box<Lane<A>>>>,
    lane: Option<Box<Lane<A>>>,
}

impl<A> Drop for Held<'_, A> {
    #[inline(always)]
    fn drop(&mut self) {
        // Nothing is in its place: who finds it empty leaves it so.
        std::mem::forget(self.place.replace(self.lane.take()));
    }
}

impl<A> fmt::Debug for Picker<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picker").field("strategy", &self.core.strategy).finish_non_exhaustive()
    }
}

impl<A> Drop for Picker<A> {
    fn drop(&mut self) {
        self.core.ledger.retire(&self.shard);
    }
}

impl<A> Picker<A> {
    /// Where it counts.
    pub(super) fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// Ends a pick on the thread that owns this picker.
    #[inline(always)]
    pub(super) fn end(&self, seat: u32) {
        match self.counting {
            Counting::Sharded => self.shard.close(seat),
            Counting::Shared | Counting::Ordered => self.end_decided_by_load(seat),
        }
    }

    #[inline(never)]
    fn end_decided_by_load(&self, seat: u32) {
        if self.counting == Counting::Ordered {
            self.core.least.release(seat);
        } else {
            self.core.ledger.close_shared(seat);
        }
    }
}

impl<A: Clone> Picker<A> {
    pub(super) fn new(core: &Arc<Core<A>>) -> Self {
        let epoch = core.epoch();
        let lane = Box::new(Lane::newest(core));
        let shard = core.ledger.shard(lane.roster.seats.len());
        // Differs between pickers, so that their redirects do not run in step.
        let seed = fold((shard.number + 1).wrapping_mul(GOLDEN), GOLDEN);
        Self {
            core: Arc::clone(core),
            home: Home::new(shard.number),
            shard,
            counting: core.counting,
            cursor: Cursor::new(seed),
            epoch: Cell::new(epoch),
            lane: Cell::new(Some(lane)),
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
            Some(begun) => Ok(Pick { picker: self, begun }),
            None => self.pick_slowly(*request),
        }
    }

    #[inline(never)]
    fn pick_slowly(&self, request: Request<'_>) -> Result<Pick<'_, A>, NoPick> {
        self.begin(request).map(|begun| Pick { picker: self, begun })
    }

    /// A pick that finds its member without a search, if there is one; counted as
    /// open, and the caller sees to it that it ends.
    #[inline(always)]
    pub(super) fn begin_ready(&self, request: &Request<'_>) -> Option<Begun<A>> {
        if !request.tried.is_empty() || self.epoch.get() != self.core.epoch() {
            return None;
        }
        if let Some(begun) = self.cursor.next() {
            self.shard.open(begun.seat);
            return Some(begun);
        }
        self.begin_by_key(request)
    }

    /// A pick by a hash strategy that takes whomever the key hits.
    #[inline(always)]
    fn begin_by_key(&self, request: &Request<'_>) -> Option<Begun<A>> {
        if self.counting != Counting::Sharded {
            return None;
        }
        let key = key_of(&self.core, request)?;
        let held = Held { place: &self.lane, lane: Some(self.lane.take()?) };
        let lane = held.lane.as_deref()?;
        let Table::Hash(table) = lane.keyed.as_deref()? else { return None };
        self.counted(&lane.roster, table.placement.hit(key)?)
    }

    /// Counts a pick in this picker's shard.
    #[inline(always)]
    fn counted(&self, roster: &Roster<A>, seat: u32) -> Option<Begun<A>> {
        // Cloned before it counts: a clone that panics leaves nothing open.
        let begun = Begun::at(roster, seat)?;
        self.shard.open(seat);
        Some(begun)
    }

    /// As `begin_ready`, where there is more to look at: changes, tried members,
    /// loads, and why there is nobody.
    pub(super) fn begin(&self, request: Request<'_>) -> Result<Begun<A>, NoPick> {
        let request = &request;
        let begun = match self.counting {
            // Nothing may change between the look and the pick.
            Counting::Ordered => self.begin_ordered(request),
            Counting::Sharded => self.with_lane(|lane| {
                if let Some(begun) = self.prepared(lane, request) {
                    self.shard.open(begun.seat);
                    return Some(begun);
                }
                let found = self.search(lane, request).or_else(|| self.search_again(lane, request));
                self.counted(&lane.roster, found?)
            }),
            Counting::Shared => self.with_lane(|lane| {
                // Opened when it was accepted.
                let found = self.search(lane, request).or_else(|| self.search_again(lane, request));
                let begun = self.seated(&lane.roster, found?)?;
                self.shard.count();
                Some(begun)
            }),
        };
        begun.ok_or_else(|| self.with_lane(|lane| nobody(&lane.roster, request)))
    }

    /// The next of a round robin in which everyone is able, and more of them for
    /// the picks to come.
    fn prepared(&self, lane: &Lane<A>, request: &Request<'_>) -> Option<Begun<A>> {
        let Active::Pool(pool) = lane.roster.active() else { return None };
        match lane.snapshot.table(pool)? {
            Table::RoundRobin(table) if table.steady && request.tried.is_empty() => {
                self.cursor.prepare(&table.current, &lane.roster, &self.core.cursor.0);
                self.cursor.next()
            }
            _ => None,
        }
    }

    /// Runs with a lane that is not older than this call.
    #[inline]
    fn with_lane<R>(&self, work: impl FnOnce(&Lane<A>) -> R) -> R {
        let Some(mut lane) = self.lane.take() else {
            // A pick inside a pick.
            return work(&Lane::newest(&self.core));
        };
        let epoch = self.core.epoch();
        if self.epoch.get() != epoch {
            self.cursor.forget();
            lane.refresh(&self.core);
            self.epoch.set(epoch);
        }
        let held = Held { place: &self.lane, lane: Some(lane) };
        match &held.lane {
            Some(lane) => work(lane),
            None => work(&Lane::newest(&self.core)),
        }
    }

    /// The member of a pick that is open already, and ends if `clone` panics.
    #[inline]
    fn seated(&self, roster: &Roster<A>, seat: u32) -> Option<Begun<A>> {
        struct EndOnPanic<'p, A>(&'p Picker<A>, u32);
        impl<A> Drop for EndOnPanic<'_, A> {
            fn drop(&mut self) {
                self.0.end(self.1);
            }
        }
        let guard = EndOnPanic(self, seat);
        let begun = Begun::at(roster, seat)?;
        std::mem::forget(guard);
        Some(begun)
    }

    /// The first search found nobody: the tables changed under it, or nobody is
    /// there.
    #[cold]
    fn search_again(&self, lane: &Lane<A>, request: &Request<'_>) -> Option<u32> {
        for _ in 0..SEARCHES {
            if matches!(lane.roster.active(), Active::Nobody(_)) {
                return None;
            }
            if let Some(seat) = self.search(lane, request) {
                return Some(seat);
            }
            if !request.tried.is_empty() {
                return None;
            }
        }
        None
    }

    fn search(&self, lane: &Lane<A>, request: &Request<'_>) -> Option<u32> {
        let roster = &*lane.roster;
        let Active::Pool(pool) = roster.active() else { return None };
        match lane.snapshot.table(pool)? {
            Table::RoundRobin(table) => self.round_robin(roster, pool, table, request),
            Table::Hash(table) => self.hash(roster, table, request),
            Table::Sample(seats) => self.sample(roster, pool, seats, request),
        }
    }

    fn round_robin(
        &self,
        roster: &Roster<A>,
        pool: Pool,
        table: &RoundRobin,
        request: &Request<'_>,
    ) -> Option<u32> {
        let sequence = &table.current;
        let shared = &self.core.cursor.0;
        let seat = sequence.at(self.cursor.next_time(sequence.step(), shared));
        if roster.able(pool).contains(seat) && request.tried.is_empty() {
            return Some(seat);
        }
        self.redirect(seat, roster, pool, table, request)
    }

    /// The slot's member is out of rotation, or was tried: another slot, every
    /// one as likely, so that the others gain in proportion to their weights.
    #[cold]
    fn redirect(
        &self,
        seat: u32,
        roster: &Roster<A>,
        pool: Pool,
        table: &RoundRobin,
        request: &Request<'_>,
    ) -> Option<u32> {
        let able = roster.able(pool);
        let accepts = |seat: &u32| able.contains(*seat) && !was_tried(roster, request, *seat);
        if accepts(&seat) {
            return Some(seat);
        }
        let lucky = (0..REDIRECTS).map(|_| table.current.at(self.cursor.turn())).find(accepts);
        lucky.or_else(|| {
            let start = scale(self.cursor.turn(), table.seats.len() as u64) as usize;
            let (before, after) = table.seats.split_at(start);
            after.iter().chain(before).copied().find(accepts)
        })
    }

    fn hash(&self, roster: &Roster<A>, table: &HashTable, request: &Request<'_>) -> Option<u32> {
        let key = self.key(request);
        if self.counting == Counting::Shared {
            return self.bounded(roster, table, request, key);
        }
        if request.tried.is_empty() {
            return table.placement.hit(key);
        }
        table.placement.find(key, |seat| !was_tried(roster, request, seat))
    }

    #[inline(always)]
    fn key(&self, request: &Request<'_>) -> u64 {
        // Without a key every member gets its share.
        key_of(&self.core, request).unwrap_or_else(|| fold(self.cursor.turn(), GOLDEN))
    }

    /// Bounded load: a full member counts as a miss.
    fn bounded(&self, roster: &Roster<A>, table: &HashTable, request: &Request<'_>, key: u64) -> Option<u32> {
        let loads = table.loads.as_ref()?;
        let ledger = &self.core.ledger;
        let factor = self.core.options.hash.bounded_load.unwrap_or(f64::INFINITY);
        let total = ledger.shared_open().saturating_add(1);
        let found = table.placement.find(key, |seat| {
            let cap = load_cap(factor, total, loads.weight(seat), loads.total());
            u64::from(ledger.shared_open_at(seat)) < cap && !was_tried(roster, request, seat)
        });
        // Nobody has room when the others were tried, or are being taken at this
        // moment: then the one with the most room.
        let seat = found.or_else(|| {
            let open = loads.able().filter(|(seat, _)| !was_tried(roster, request, *seat));
            let load = |seat| u64::from(ledger.shared_open_at(seat)) + 1;
            open.map(|(seat, weight)| (seat, load(seat), u64::from(weight)))
                .min_by(|left, right| (left.1 * right.2).cmp(&(right.1 * left.2)))
                .map(|(seat, ..)| seat)
        })?;
        ledger.open_shared(seat);
        Some(seat)
    }

    /// Sampled least connections: the best of a few drawn at random.
    fn sample(
        &self,
        roster: &Roster<A>,
        pool: Pool,
        seats: &[(u32, u32)],
        request: &Request<'_>,
    ) -> Option<u32> {
        let able = roster.able(pool);
        let ledger = &self.core.ledger;
        let accepts = |seat: u32| able.contains(seat) && !was_tried(roster, request, seat);
        let load = |(seat, weight): (u32, u32)| {
            (u64::from(ledger.shared_open_at(seat)) + 1, u64::from(weight), seat)
        };
        let count = seats.len() as u64;
        let drawn = (0..REDIRECTS)
            .filter_map(|_| seats.get(scale(fold(self.cursor.turn(), GOLDEN), count) as usize).copied())
            .filter(|(seat, _)| accepts(*seat));
        let lucky = drawn
            .take(self.core.samples())
            .map(load)
            .reduce(|best, other| if other.0 * best.1 < best.0 * other.1 { other } else { best });
        let picked = lucky.map(|(.., seat)| seat).or_else(|| {
            let start = scale(fold(self.cursor.turn(), GOLDEN), count) as usize;
            let (before, after) = seats.split_at(start);
            after.iter().chain(before).map(|(seat, _)| *seat).find(|seat| accepts(*seat))
        })?;
        ledger.open_shared(picked);
        Some(picked)
    }

    fn begin_ordered(&self, request: &Request<'_>) -> Option<Begun<A>> {
        let least = &self.core.least;
        // The lane is looked at after the lock: the writer publishes while it holds all.
        let locked = if request.tried.is_empty() { least.lock_least(&self.home) } else { None };
        let Some(mut locked) = locked else { return self.begin_among_all(request) };
        self.with_lane(|lane| {
            let seat = locked.pick(&self.home);
            drop(locked);
            let begun = self.seated(&lane.roster, seat?)?;
            self.shard.count();
            Some(begun)
        })
    }

    #[cold]
    fn begin_among_all(&self, request: &Request<'_>) -> Option<Begun<A>> {
        let mut all = self.core.least.lock_all();
        self.with_lane(|lane| {
            let roster = &*lane.roster;
            let seat = all.pick_where(&self.home, |seat| !was_tried(roster, request, seat));
            drop(all);
            let begun = self.seated(roster, seat?)?;
            self.shard.count();
            Some(begun)
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
pub(super) fn was_tried<A>(roster: &Roster<A>, request: &Request<'_>, seat: u32) -> bool {
    request.tried.iter().any(|id| {
        let seated = || roster.seats.get(seat as usize).and_then(Option::as_ref);
        id.seat == seat && seated().is_some_and(|seated| seated.serial == id.serial)
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
fn nobody<A>(roster: &Roster<A>, request: &Request<'_>) -> NoPick {
    match roster.active() {
        Active::Nobody(reason) => NoPick::Nobody(reason),
        Active::Pool(_) if !request.tried.is_empty() => NoPick::AllTried,
        // The last member went while this pick ran.
        Active::Pool(_) => NoPick::Nobody(NobodyReason::AllUnhealthy),
    }
}

/// A picked member. Counts as open until dropped.
#[must_use = "the pick ends when it is dropped"]
pub struct Pick<'p, A> {
    picker: &'p Picker<A>,
    begun: Begun<A>,
}

impl<A> Pick<'_, A> {
    /// What the member was made with.
    #[inline]
    pub fn address(&self) -> &A {
        &self.begun.address
    }

    /// The member's name, for [`Request::tried`] and for changes.
    #[must_use]
    #[inline]
    pub fn id(&self) -> MemberId {
        self.begun.id()
    }
}

impl<A: fmt::Debug> fmt::Debug for Pick<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick").field("id", &self.begun.id()).field("address", &self.begun.address).finish()
    }
}

impl<A> Drop for Pick<'_, A> {
    #[inline]
    fn drop(&mut self) {
        self.picker.end(self.begun.seat);
    }
}
