//! Which member has a key: a table in which every member owns one slot, and a race
//! between the members for each key.
//!
//! The table has 2^b slots. A slot is empty or holds one member's *column*. A key makes
//! a fixed sequence of *throws*; each hits a random slot, a random time after the one
//! before. The times are exponential, so the throws that one slot sees are a Poisson
//! process. A column of weight w that is first hit at time t *waits* t / w. The key
//! belongs to the member that waits least.
//!
//! - Shares follow weights, to the grain of the gaps: the first hit of a slot comes after
//!   an exponential time, and of several such times, each divided by a weight, the
//!   least belongs to a member with a probability in proportion to its weight.
//! - A raised weight shortens the waits of its own member only. So keys move only to
//!   that member, however far its weight is raised; nothing here is scaled by the
//!   weights of others.
//! - A member that goes down never wins: one store, in place. Its keys go to the
//!   member that waits least of the rest, and all return when it is back. No other key
//!   moves.
//! - The slots of columns depend on the members' identities alone. So instances with
//!   the same members, options and seed have the same table, whatever happened before.
//!   Two members that want one slot: the one with the larger hash yields and goes on,
//!   which gives one result for any order of insertion.
//!
//! A search is over when not even the heaviest member could beat the best wait so far:
//! after about as many throws as the heaviest weighs more than the mean, by the filling.
//!
//! Keys move in bulk only when the members outgrow 2^b slots; `HashOptions` has a
//! reserve for that. A joining or leaving member moves its own keys and those of the few
//! columns that yielded to it.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "slots are masked and columns counted in this file, never given by a peer"
)]

use super::slots::{KeySlots, RaceState, SlownessRange, dice};
use crate::balance::hash::{GOLDEN, fold};
use crate::balance::sync::{AtomicU64, Ordering};

/// No slot.
const NONE: u32 = u32::MAX;

/// One member of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlacedMember {
    pub(super) row: u32,
    /// The hash of its identity.
    pub(super) identity: u64,
    /// What it weighs in full; says how long searches will be, and nothing else.
    pub(super) weight: u32,
}

/// How long a member of this weight waits for a unit of time; 0: it takes no keys.
#[inline]
fn slowness(weight: u32) -> u32 {
    u32::MAX.checked_div(weight).unwrap_or(0)
}

/// The table.
#[derive(Debug)]
pub(super) struct Placement {
    slots: KeySlots,
    /// A [`SlownessRange`].
    range: AtomicU64,
    /// The slot of each row's column.
    slot_of_row: Box<[u32]>,
}

impl Placement {
    /// Lays out the members; none takes keys yet.
    pub(super) fn new(members: &[PlacedMember], reserve_members: usize) -> Option<Self> {
        let last_row = members.iter().map(|member| member.row).max()?;
        let mut weights =
            members.iter().map(|member| slowness(member.weight)).filter(|slowness| *slowness > 0);
        let range = weights.next().map_or(SlownessRange { fastest: u32::MAX, is_even: false }, |first| {
            weights.fold(SlownessRange { fastest: first, is_even: true }, SlownessRange::with)
        });
        let mut table = Self {
            slots: KeySlots::new(slots_for(members.len().max(reserve_members))),
            range: AtomicU64::new(range.to_bits()),
            slot_of_row: vec![NONE; last_row as usize + 1].into_boxed_slice(),
        };
        table.place(members);
        Some(table)
    }

    fn place(&mut self, members: &[PlacedMember]) {
        struct Placing {
            hash: u64,
            draw: u32,
        }
        let hash = |member: &PlacedMember| fold(member.identity, GOLDEN) ^ member.identity;
        let mut all: Vec<Placing> =
            members.iter().map(|member| Placing { hash: hash(member), draw: 0 }).collect();
        let mut holders = vec![NONE; self.slots.len()];
        for start in 0..all.len() {
            let mut index = start;
            // The one that yields goes on from its next draw.
            loop {
                let column = &mut all[index];
                let slot = self.slot_of_draw(column.hash, column.draw);
                column.draw += 1;
                let hash = column.hash;
                let holder = holders[slot];
                if holder == NONE {
                    holders[slot] = index as u32;
                    break;
                }
                if hash < all[holder as usize].hash {
                    holders[slot] = index as u32;
                    index = holder as usize;
                }
            }
        }
        for (slot, holder) in (0..).zip(holders) {
            if holder != NONE {
                let row = members[holder as usize].row;
                self.slots.give(slot as usize, row);
                self.slot_of_row[row as usize] = slot;
            }
        }
    }

    fn slot_of_draw(&self, hash: u64, draw: u32) -> usize {
        // Half a word serves a draw, as for keys.
        let word = dice(hash, u64::from(draw / 2));
        let half = if draw.is_multiple_of(2) { word as u32 } else { (word >> 32) as u32 };
        half as usize & (self.slots.len() - 1)
    }

    #[inline(always)]
    fn range(&self) -> SlownessRange {
        SlownessRange::from_bits(self.range.load(Ordering::Acquire))
    }

    /// Sets how much weight a member takes now; 0 takes it out. Called by the one writer.
    #[inline]
    pub(super) fn set_weight(&self, row: u32, weight: u32) {
        let slot = self.slot_of_row[row as usize];
        if slot == NONE {
            return;
        }
        let slowness = slowness(weight);
        let range = self.range();
        // Searches must know before they meet it.
        if weight > 0 && range.with(slowness) != range {
            self.range.store(range.with(slowness).to_bits(), Ordering::Release);
        }
        self.slots.set_slowness(slot as usize, slowness);
    }

    /// After weights or verdicts have changed: searches as short as can be. Called by the one
    /// writer.
    pub(super) fn tune(&self) {
        if let Some(range) = self.slots.range().filter(|range| *range != self.range()) {
            self.range.store(range.to_bits(), Ordering::Release);
        }
    }

    /// Whether searches are as short as can be.
    #[cfg(test)]
    pub(super) fn is_tuned(&self) -> bool {
        self.slots.range().is_none_or(|range| range == self.range())
    }

    /// The member of a key: who waits least.
    #[inline(always)]
    pub(super) fn hit(&self, key: u64) -> Option<u32> {
        let range = self.range();
        if range.is_even {
            return self.slots.hit_even(key).or_else(|| self.find_from(RaceState::START, key));
        }
        match self.slots.hit(key, range.fastest) {
            Ok(row) => Some(row),
            Err(best) => self.find_from(best, key),
        }
    }

    #[inline(never)]
    fn find_from(&self, best: RaceState, key: u64) -> Option<u32> {
        self.slots.hit_from(key, self.range().fastest, best)
    }

    /// Who waits least of those that `accept` takes.
    pub(super) fn find(&self, key: u64, mut accept: impl FnMut(u32) -> bool) -> Option<u32> {
        self.slots.find(key, self.range().fastest, RaceState::START, &mut accept)
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.heap_bytes() + size_of_val(&*self.slot_of_row)
    }
}

/// Slots for so many columns: a power of two, filled to 63/64 at most.
fn slots_for(columns: usize) -> usize {
    (columns + columns / 64).next_power_of_two()
}

#[cfg(test)]
mod tests;
