//! Weighted round robin: members take turns in a fixed order, each as often as its
//! weight says.
//!
//! All pickers share one order (`sequence`) and one cursor. A picker claims 64 turns
//! at once from the cursor, and keeps their members ready as long as nothing changes:
//! most picks take the next one. While every member of the order is able, the order is
//! *steady* and a turn needs no look at its member.
//!
//! A member that goes out of rotation makes the order uneven. A short order is written
//! again at once, for the members that are able now. A long one is written again at the
//! next advance of the writer; until then picks that meet a member out of rotation are
//! spread over the others in proportion to their weights. The same holds for short
//! orders when many members flip together: what is written at once between two
//! advances is bounded.

mod sequence;
mod spread;

use std::cell::Cell;
use std::sync::Arc;

pub(super) use self::sequence::Sequence;
use self::spread::Part;
use crate::balance::member_table::{MemberTable, PickedMember};
use crate::balance::membership::PoolMembers;
use crate::balance::request::Search;
use crate::balance::sync::{AtomicU64, Ordering};

/// Turns that a picker claims at once: one locked instruction for so many picks.
/// Every turn is used once, whoever claims it.
const BLOCK: u32 = 64;

/// Turns drawn at random for a redirected pick before it looks at every member.
const REDIRECTS: usize = 64;

/// The longest order that is written again at once: a few microseconds of work.
const SMALL: u64 = 1 << 12;

/// The most slots of orders that are written at once between two advances: about a
/// millisecond of work, however many members flip together.
const WRITTEN_AT_ONCE: u64 = 1 << 16;

/// The order of a pool.
#[derive(Debug, Clone)]
pub(in crate::balance) struct RoundRobin {
    /// What picks follow: `full`, or an order of those who were able lately.
    pub(super) current: Sequence,
    is_full: bool,
    /// Whether everyone in `current` is able. A change of who is able publishes
    /// another table, so that picks need not look as long as they have this one.
    steady: bool,
    /// Whether the next advance writes `current` again.
    lags: bool,
    /// The order of everyone in the pool, able or not.
    full: Sequence,
    /// Everyone in the pool.
    rows: Arc<[u32]>,
}

impl RoundRobin {
    /// The order of a pool's members; none if there are none.
    pub(super) fn new<A>(pool: &PoolMembers<'_, A>) -> Option<Self> {
        let parts = parts(pool);
        let full = Sequence::new(&parts)?;
        let rows = parts.iter().map(|part| part.row).collect();
        let table = Self { current: full.clone(), is_full: true, steady: false, lags: false, full, rows };
        Some(table.among(parts, pool))
    }

    /// The same members with an order of those who are able. If that is everyone, or
    /// nobody, there is nothing to write.
    fn among<A>(&self, mut parts: Vec<Part>, pool: &PoolMembers<'_, A>) -> Self {
        parts.retain(|part| pool.able.contains(part.row));
        let some = if parts.len() < self.rows.len() { Sequence::new(&parts) } else { None };
        let is_full = some.is_none();
        let current = some.unwrap_or_else(|| self.full.clone());
        Self { current, is_full, steady: !parts.is_empty(), lags: false, ..self.clone() }
    }

    /// The table after a change of who is able, if it is another one. `written` counts
    /// the slots written at once since the last advance.
    pub(super) fn after_flip<A>(&self, pool: &PoolMembers<'_, A>, written: &mut u64) -> Option<Self> {
        // Members cost a look each, slots a store each.
        let cost = self.full.length.saturating_add(pool.membership.entries.len() as u64);
        if self.full.length <= SMALL && *written + cost <= WRITTEN_AT_ONCE {
            *written += cost;
            return Some(self.among(parts(pool), pool));
        }
        let late =
            || Self { current: self.full.clone(), is_full: true, steady: false, lags: true, ..self.clone() };
        (!self.lags).then(late)
    }

    /// The table with an order of those who are able now, if writing it was put off.
    pub(super) fn caught_up<A>(&self, pool: &PoolMembers<'_, A>) -> Option<Self> {
        self.lags.then(|| self.among(parts(pool), pool))
    }

    /// The member whose turn is next. If it is out of rotation or was tried, another
    /// turn of the order, each as likely, so that the other members gain in proportion
    /// to their weights.
    pub(super) fn choose<A>(
        &self,
        search: &Search<'_, A>,
        turns: &ClaimedTurns<A>,
        cursor: &AtomicU64,
    ) -> Option<u32> {
        let row = self.current.at(turns.next_time(self.current.step, cursor));
        if search.accepts(row) { Some(row) } else { self.redirect(search) }
    }

    #[cold]
    fn redirect<A>(&self, search: &Search<'_, A>) -> Option<u32> {
        let mut drawn = (0..REDIRECTS).map(|_| self.current.at(search.draws.next()));
        let lucky = drawn.find(|row| search.accepts(*row));
        lucky.or_else(|| search.first_of(&self.rows, search.draws.next(), |row| row))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let current = if self.is_full { 0 } else { self.current.heap_bytes() };
        self.full.heap_bytes() + current + size_of_val(&*self.rows)
    }
}

fn parts<A>(pool: &PoolMembers<'_, A>) -> Vec<Part> {
    let mut parts = Vec::with_capacity(pool.membership.entries.len());
    parts.extend(pool.iter().map(|(row, entry)| Part { row, weight: entry.weight_in_pool() }));
    parts
}

/// The turns that a picker has claimed and not used.
///
/// A turn is a *virtual time*, a 64-bit fraction of the cycle (see `sequence`).
pub(in crate::balance) struct ClaimedTurns<A> {
    /// How many members are ready: the last ones of `block`, in order.
    ready: Cell<u32>,
    block: [Cell<Option<PickedMember<A>>>; BLOCK as usize],
    /// Claimed turns that are not ready.
    rest: Cell<u32>,
    /// The virtual time behind what is ready, where the rest begins.
    time: Cell<u64>,
    /// Virtual time per turn of what is ready.
    step: Cell<u64>,
}

impl<A> ClaimedTurns<A> {
    /// No turns: the next one is claimed from the cursor.
    pub(in crate::balance) fn new() -> Self {
        Self {
            ready: Cell::new(0),
            block: [const { Cell::new(None) }; BLOCK as usize],
            rest: Cell::new(0),
            time: Cell::new(0),
            step: Cell::new(0),
        }
    }

    /// The next turn of the cursor, without a claim to it: for an explanation.
    pub(super) fn next_of(cursor: &AtomicU64) -> Self {
        let turns = Self::new();
        turns.time.set(cursor.load(Ordering::Relaxed));
        turns.rest.set(1);
        turns
    }

    /// The next member, if one is ready.
    #[inline(always)]
    pub(in crate::balance) fn next(&self) -> Option<PickedMember<A>> {
        let ready = self.ready.get();
        self.ready.set(ready.checked_sub(1)?);
        self.block.get((BLOCK.wrapping_sub(ready) % BLOCK) as usize)?.take()
    }

    /// The member of the next turn, while the order of a table is steady; those of more
    /// turns are made ready.
    pub(super) fn prepare(
        &self,
        table: &RoundRobin,
        members: &MemberTable<A>,
        cursor: &AtomicU64,
    ) -> Option<PickedMember<A>>
    where
        A: Clone,
    {
        if !table.steady {
            return None;
        }
        self.forget();
        let (sequence, step) = (&table.current, table.current.step);
        self.claim_if_empty(step, cursor);
        let count = self.rest.get();
        let places = self.block.get(BLOCK.saturating_sub(count) as usize..)?;
        sequence.for_turns(self.time.get(), places, |place, row| place.set(members.pick(row)));
        // A clone that panics or picks has left the turns claimed or taken.
        if self.rest.get() == count {
            self.rest.set(0);
            self.ready.set(count);
            self.step.set(step);
            self.time.set(self.time.get().wrapping_add(step.wrapping_mul(count.into())));
        }
        self.next()
    }

    /// Drops the members that are ready, as the order has changed. Their turns remain.
    pub(in crate::balance) fn forget(&self) {
        let ready = self.ready.replace(0);
        if ready > 0 {
            self.rest.set(ready);
            self.time.set(self.time.get().wrapping_sub(self.step.get().wrapping_mul(ready.into())));
        }
    }

    /// The virtual time of the next turn, in an order of this step.
    fn next_time(&self, step: u64, cursor: &AtomicU64) -> u64 {
        self.forget();
        self.claim_if_empty(step, cursor);
        self.rest.set(self.rest.get() - 1);
        self.time.replace(self.time.get().wrapping_add(step))
    }

    fn claim_if_empty(&self, step: u64, cursor: &AtomicU64) {
        if self.rest.get() == 0 {
            self.time.set(cursor.fetch_add(step.wrapping_mul(BLOCK.into()), Ordering::Relaxed));
            self.rest.set(BLOCK);
        }
    }
}
