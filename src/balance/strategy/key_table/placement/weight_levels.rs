//! Which slots take keys, by the power of two that their members weigh: what a long
//! search looks at in place of the whole table. `placement` keeps and reads it.
//!
//! Weights from 2^(l - 1) on are at level l; a member in slow start is at the level of
//! what it takes at the moment, and level 0 takes no keys. There is one byte a slot, so
//! that throws that can only be won by heavy members look at few cache lines, and one list
//! of slots, the highest level first, for what no throw decides. A flip changes one byte,
//! and moves one slot of each level in the list that it passes; nothing is allocated.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "slots, places and levels are its own"
)]

use crate::balance::member::{FULL_RAMP, MAX_WEIGHT};
use crate::balance::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The highest level: `MAX_WEIGHT` is at it.
pub(super) const HIGHEST: u8 = MAX_WEIGHT.ilog2() as u8 + 1;

/// Times that a reader of the list begins again because the writer was at work; then it
/// takes what it finds. A flip takes a tenth of the time of the shortest such read.
const READS: usize = 4;

/// The level of a weight, in steps of `FULL_RAMP`.
#[inline(always)]
pub(super) fn level_of(weight: u32) -> u8 {
    if weight == 0 { 0 } else { (weight / FULL_RAMP).max(1).ilog2().min(HIGHEST.into()) as u8 + 1 }
}

/// What members of a level weigh less than, in steps of `FULL_RAMP`.
#[inline(always)]
pub(super) fn above(level: u8) -> u32 {
    FULL_RAMP << level
}

/// The levels of all slots.
#[derive(Debug)]
pub(super) struct WeightLevels {
    /// The level of each slot.
    of_slot: Box<[AtomicU8]>,
    /// Slots with a column; the highest level first, and those that take no keys last.
    list: Box<[AtomicU32]>,
    /// How many of the list are at this level or higher, from level 1 on.
    ends: [AtomicU32; HIGHEST as usize],
    /// Odd while the writer changes the list.
    version: AtomicU64,
}

impl WeightLevels {
    /// None of these slots takes keys yet.
    pub(super) fn new(slots: usize, columns: impl Iterator<Item = u32>) -> Self {
        Self {
            of_slot: (0..slots).map(|_| AtomicU8::new(0)).collect(),
            list: columns.map(AtomicU32::new).collect(),
            ends: std::array::from_fn(|_| AtomicU32::new(0)),
            version: AtomicU64::new(0),
        }
    }

    /// The levels of all slots.
    #[inline(always)]
    pub(super) fn of_slots(&self) -> &[AtomicU8] {
        &self.of_slot
    }

    /// The slot at a place of the list.
    pub(super) fn slot_at(&self, place: u32) -> u32 {
        self.list[place as usize].load(Ordering::Acquire)
    }

    /// Whether no slot takes keys.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.end(1) == 0
    }

    /// The highest level that takes keys; none if none does.
    #[inline]
    pub(super) fn highest(&self) -> Option<u8> {
        if self.is_empty() {
            return None;
        }
        (1..=HIGHEST).rev().find(|level| self.end(*level) > 0)
    }

    /// Takes the slot at a place to another level. `moved` hears of each slot that gets
    /// another place. Called by the one writer.
    pub(super) fn relevel(&self, place: u32, new: u8, mut moved: impl FnMut(u32, u32)) {
        let slot = self.slot_at(place);
        let level = &self.of_slot[slot as usize];
        let old = level.load(Ordering::Relaxed);
        if old == new {
            return;
        }
        level.store(new, Ordering::Release);
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Release);
        let mut place = place;
        // From level to level: to the end of its level that is next to the other, and the
        // border between them moves.
        let mut step = |level: u8, other: u32, end: u32| {
            if other != place {
                let neighbour = self.slot_at(other);
                self.list[place as usize].store(neighbour, Ordering::Release);
                self.list[other as usize].store(slot, Ordering::Release);
                moved(neighbour, place);
                moved(slot, other);
            }
            self.ends[usize::from(level) - 1].store(end, Ordering::Release);
            place = other;
        };
        for level in old + 1..=new {
            let end = self.end(level);
            step(level, end, end + 1);
        }
        for level in (new + 1..=old).rev() {
            let end = self.end(level) - 1;
            step(level, end, end);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// How many slots are at this level or higher.
    #[inline(always)]
    fn end(&self, level: u8) -> u32 {
        self.ends.get(usize::from(level).wrapping_sub(1)).map_or(0, |end| end.load(Ordering::Acquire))
    }

    /// The slots at a level.
    #[inline]
    pub(super) fn at(&self, level: u8) -> impl ExactSizeIterator<Item = u32> {
        let start = self.end(level + 1) as usize;
        let end = (self.end(level) as usize).max(start);
        self.list[start..end].iter().map(|slot| slot.load(Ordering::Acquire))
    }

    /// Runs a read of the list during which the writer changes nothing, if it can.
    #[inline]
    pub(super) fn read<R>(&self, mut work: impl FnMut() -> R) -> R {
        let mut reads = 1;
        loop {
            let version = self.version.load(Ordering::Acquire);
            let found = work();
            let is_whole = version.is_multiple_of(2) && self.version.load(Ordering::Acquire) == version;
            if is_whole || reads == READS {
                return found;
            }
            reads += 1;
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.of_slot) + size_of_val(&*self.list)
    }
}
