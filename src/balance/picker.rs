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
use super::ledger::Shard;
use super::member::MemberId;
use super::pool::{Active, Pool};
use super::request::{NoPick, Request};
use super::snapshot::{HashTable, Roster, RoundRobin, Snapshot, Table};
use super::sync::{AtomicU64, Ordering, lock};
use crate::channel::{NobodyReason, Strategy};

/// Slots of weighted round robin that a picker claims at once: one locked
/// instruction for so many picks. Every slot is used once, whoever claims it.
const BLOCK: u32 = 32;

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
    /// The snapshot of the last pick. Taken out while a pick runs, so that a
    /// pick inside a pick (from a `Clone` of `A`) merely loads it again.
    cached: Cell<Option<Arc<Snapshot<A>>>>,
    cursor: Cursor,
}

/// A pick that counts as open, before it has someone to end it.
pub(super) struct Begun<A> {
    pub(super) seat: u32,
    pub(super) serial: u32,
    pub(super) address: A,
}

/// Where a picker is.
#[derive(Debug)]
struct Cursor {
    /// Virtual time of the next pick of weighted round robin.
    time: Cell<u64>,
    /// Slots left of the claimed block.
    left: Cell<u32>,
    /// Turns of what has no order of its own: redirected picks, samples,
    /// requests without a key.
    turn: Cell<u64>,
}

impl Cursor {
    #[inline(always)]
    fn next(&self, shared: &AtomicU64, step: u64) -> u64 {
        let left = self.left.get();
        if left == 0 {
            return self.claim(shared, step);
        }
        self.left.set(left - 1);
        let time = self.time.get();
        self.time.set(time.wrapping_add(step));
        time
    }

    #[cold]
    fn claim(&self, shared: &AtomicU64, step: u64) -> u64 {
        let time = shared.fetch_add(step.wrapping_mul(u64::from(BLOCK)), Ordering::Relaxed);
        self.left.set(BLOCK - 1);
        self.time.set(time.wrapping_add(step));
        time
    }

    #[inline]
    fn turn(&self) -> u64 {
        let turn = self.turn.get().wrapping_add(GOLDEN);
        self.turn.set(turn);
        turn
    }
}

impl<A> fmt::Debug for Picker<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picker").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl<A> Drop for Picker<A> {
    fn drop(&mut self) {
        self.core.ledger.retire(&self.shard);
    }
}

impl<A> Picker<A> {
    /// Ends a pick on the thread that owns this picker.
    #[inline(always)]
    pub(super) fn end(&self, seat: u32) {
        match self.core.counting {
            Counting::Sharded => self.shard.close(seat),
            Counting::Shared | Counting::Ordered => self.end_decided_by_load(seat),
        }
    }

    #[inline(never)]
    fn end_decided_by_load(&self, seat: u32) {
        if self.core.counting == Counting::Ordered {
            lock(&self.core.least.0).release(seat);
        } else {
            self.core.ledger.close_shared(seat);
        }
    }
}

impl<A: Clone> Picker<A> {
    pub(super) fn new(core: &Arc<Core<A>>) -> Self {
        let snapshot = core.newest();
        let shard = core.ledger.shard(snapshot.roster.seats.len());
        // Differs between pickers, so that their redirects do not run in step.
        let turn = Arc::as_ptr(&shard).addr() as u64;
        Self {
            core: Arc::clone(core),
            shard,
            cached: Cell::new(Some(snapshot)),
            cursor: Cursor {
                time: Cell::new(0),
                left: Cell::new(0),
                turn: Cell::new(turn.wrapping_mul(GOLDEN)),
            },
        }
    }

    /// Picks a member for the request. The pick counts as open until dropped.
    ///
    /// # Errors
    ///
    /// [`NoPick`] says why there is nobody.
    #[inline(always)]
    pub fn pick(&self, request: &Request<'_>) -> Result<Pick<'_, A>, NoPick> {
        match self.begin(request) {
            Some(Begun { seat, serial, address }) => Ok(Pick { picker: self, seat, serial, address }),
            None => Err(self.refuse(request)),
        }
    }

    /// Why `begin` found nobody.
    #[cold]
    pub(super) fn refuse(&self, request: &Request<'_>) -> NoPick {
        let snapshot = self.take_snapshot();
        let refusal = nobody(&snapshot.roster, request);
        self.cached.set(Some(snapshot));
        refusal
    }

    /// A pick that is counted as open; the caller sees to it that it ends.
    #[inline(always)]
    pub(super) fn begin(&self, request: &Request<'_>) -> Option<Begun<A>> {
        if self.core.counting != Counting::Sharded {
            return self.begin_decided_by_load(request);
        }
        let snapshot = self.take_snapshot();
        let roster = &*snapshot.roster;
        let found = match self.search(roster, &snapshot, request) {
            None => self.search_again(&snapshot, request),
            found => found,
        };
        let begun = found.and_then(|seat| {
            let seated = roster.seats.get(seat as usize)?.as_ref()?;
            // Cloned before it counts: a clone that panics leaves nothing open.
            let begun = Begun { seat, serial: seated.serial, address: seated.address.clone() };
            self.shard.open(seat);
            Some(begun)
        });
        self.cached.set(Some(snapshot));
        begun
    }

    /// As `begin`, where open picks decide.
    #[inline(never)]
    fn begin_decided_by_load(&self, request: &Request<'_>) -> Option<Begun<A>> {
        // Least connections: nothing may change between the look and the pick.
        if self.core.counting == Counting::Ordered {
            return self.begin_ordered(request);
        }
        let snapshot = self.take_snapshot();
        let found = self.search(&snapshot.roster, &snapshot, request);
        // Opened when it was accepted.
        let found = found.or_else(|| self.search_again(&snapshot, request));
        let begun = found.and_then(|seat| self.seated(&snapshot, seat));
        if begun.is_some() {
            self.shard.count();
        }
        self.cached.set(Some(snapshot));
        begun
    }

    #[inline(always)]
    fn take_snapshot(&self) -> Arc<Snapshot<A>> {
        match self.cached.take() {
            Some(snapshot) if snapshot.generation == self.core.generation() => snapshot,
            _ => self.core.newest(),
        }
    }

    /// The member of a pick that is open already, and ends if `clone` panics.
    #[inline]
    fn seated(&self, snapshot: &Snapshot<A>, seat: u32) -> Option<Begun<A>> {
        struct EndOnPanic<'p, A>(&'p Picker<A>, u32);
        impl<A> Drop for EndOnPanic<'_, A> {
            fn drop(&mut self) {
                self.0.end(self.1);
            }
        }
        let guard = EndOnPanic(self, seat);
        let seated = snapshot.roster.seats.get(seat as usize)?.as_ref()?;
        let begun = Begun { seat, serial: seated.serial, address: seated.address.clone() };
        std::mem::forget(guard);
        Some(begun)
    }

    /// The first search found nobody: the tables changed under it, or nobody is
    /// there.
    #[cold]
    fn search_again(&self, snapshot: &Arc<Snapshot<A>>, request: &Request<'_>) -> Option<u32> {
        for _ in 0..SEARCHES {
            if matches!(snapshot.roster.active(), Active::Nobody(_)) {
                return None;
            }
            if let Some(seat) = self.search(&snapshot.roster, snapshot, request) {
                return Some(seat);
            }
            if !request.tried.is_empty() {
                return None;
            }
        }
        None
    }

    #[inline(always)]
    fn search(&self, roster: &Roster<A>, snapshot: &Snapshot<A>, request: &Request<'_>) -> Option<u32> {
        let Active::Pool(pool) = roster.active() else { return None };
        match snapshot.table(pool)? {
            Table::RoundRobin(table) => self.round_robin(roster, pool, table, request),
            Table::Hash(table) => self.hash(roster, table, request),
            Table::Sample(seats) => self.sample(roster, pool, seats, request),
        }
    }

    #[inline(always)]
    fn round_robin(
        &self,
        roster: &Roster<A>,
        pool: Pool,
        table: &RoundRobin,
        request: &Request<'_>,
    ) -> Option<u32> {
        let sequence = &table.current;
        let seat = sequence.at(self.cursor.next(&self.core.cursor.0, sequence.step()));
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

    #[inline(always)]
    fn hash(&self, roster: &Roster<A>, table: &HashTable, request: &Request<'_>) -> Option<u32> {
        let key = self.key(request);
        if self.core.counting == Counting::Shared {
            return self.bounded(roster, table, request, key);
        }
        if request.tried.is_empty() {
            return table.placement.find(key, |_| true);
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

    #[inline]
    fn begin_ordered(&self, request: &Request<'_>) -> Option<Begun<A>> {
        let mut least = lock(&self.core.least.0);
        // After the lock: the writer publishes while it holds it.
        let snapshot = self.take_snapshot();
        let roster = &snapshot.roster;
        let seat = match roster.active() {
            Active::Pool(pool) if request.tried.is_empty() => least.pick(pool),
            Active::Pool(pool) => least.pick_where(pool, |seat| !was_tried(roster, request, seat)),
            Active::Nobody(_) => None,
        };
        drop(least);
        let begun = seat.and_then(|seat| self.seated(&snapshot, seat));
        if begun.is_some() {
            self.shard.count();
        }
        self.cached.set(Some(snapshot));
        begun
    }
}

/// The hash of what the strategy places by, if the request has it.
#[inline]
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
    seat: u32,
    serial: u32,
    address: A,
}

impl<A> Pick<'_, A> {
    /// What the member was made with.
    #[inline]
    pub fn address(&self) -> &A {
        &self.address
    }

    /// The member's name, for [`Request::tried`] and for changes.
    #[must_use]
    #[inline]
    pub fn id(&self) -> MemberId {
        MemberId { seat: self.seat, serial: self.serial }
    }
}

impl<A: fmt::Debug> fmt::Debug for Pick<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick")
            .field("id", &MemberId { seat: self.seat, serial: self.serial })
            .field("address", &self.address)
            .finish()
    }
}

impl<A> Drop for Pick<'_, A> {
    #[inline]
    fn drop(&mut self) {
        self.picker.end(self.seat);
    }
}
