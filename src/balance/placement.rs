//! Where keys live: a table in which every member owns a column of its weight's
//! height, and a key takes the first column that its own dice hit.
//!
//! The table has 2^b slots; a slot is empty or holds one member's column. All
//! columns are drawn against the same full height, the power of two at or above
//! the heaviest weight. A key throws a fixed sequence of (slot, height) pairs,
//! its own, and belongs to the first member whose column is higher than the
//! height thrown at its slot.
//!
//! - Shares are exact: every member is hit in proportion to its weight.
//! - A member that goes down has its column cut to zero, in place: one store. Its
//!   keys throw on, all others never notice; when it is back they all return.
//! - A raised weight is a higher column: keys only move to it.
//! - Columns are placed by the members' identities alone, so every instance
//!   with the same members, options and seed has the same table, whatever
//!   happened before. Who meets an occupied slot yields to the smaller hash and
//!   throws on, which gives one result for any order of insertion.
//!
//! Keys move in bulk only when the members outgrow 2^b slots or the heaviest
//! weight outgrows the full height; `HashOptions` has a reserve for either. A
//! joining or leaving member moves its own keys and those of the few columns
//! that yielded to it. A member far heavier than the mean gets several columns.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "slots are masked and columns counted in this file, never given by a peer"
)]

mod cells;

use self::cells::{Cells, Column};
use super::key::{GOLDEN, fold};

/// The height that is drawn: 15 bits, so that a full column fits 16.
const HEIGHT_BITS: u32 = 15;
const FULL: u32 = 1 << HEIGHT_BITS;

/// Draws per batch: evaluated together, without a branch between them.
const BATCH: u64 = 8;

/// Batches before the search gives up on luck and looks at every column. With a
/// hundredth of the table occupied and up, one key in 30,000 gets there.
const BATCHES: u64 = 128;

/// Columns higher than this multiple of the mean weight are split.
const SKEW: u64 = 16;

/// No slot.
const NONE: u32 = u32::MAX;

/// One member of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) seat: u32,
    /// The hash of its identity.
    pub(super) identity: u64,
    /// Its configured weight: what the layout is made for.
    pub(super) weight: u32,
}

impl Placed {
    /// How many columns it has; who weighs nothing has one that is never raised.
    fn columns(&self, quantum: u32) -> u32 {
        self.weight.div_ceil(quantum).max(1)
    }
}

fn columns_of(members: &[Placed], quantum: u32) -> usize {
    members.iter().map(|member| member.columns(quantum) as usize).sum()
}

/// The table.
#[derive(Debug)]
pub(super) struct Placement {
    cells: Cells,
    /// The weight of a full column.
    quantum: u32,
    /// The slot of each seat's first column.
    first: Box<[u32]>,
    /// The slots of further columns, sorted by seat and then by column.
    further: Box<[(u32, u32)]>,
}

impl Placement {
    /// Lays out the members; every column starts at height 0.
    pub(super) fn new(members: &[Placed], reserve_members: usize, reserve_weight: u32) -> Option<Self> {
        let heaviest = members.iter().map(|member| member.weight).max()?;
        let last_seat = members.iter().map(|member| member.seat).max()?;
        let quantum = Self::quantum(members, heaviest.max(reserve_weight), heaviest);
        let columns = columns_of(members, quantum);
        let slots = slots_for(columns.max(reserve_members));
        let mut table = Self {
            cells: Cells::new(slots, last_seat),
            quantum,
            first: vec![NONE; last_seat as usize + 1].into_boxed_slice(),
            further: Box::default(),
        };
        table.place(members, columns);
        Some(table)
    }

    /// The full height: a power of two times the unit of effective weight.
    fn quantum(members: &[Placed], ceiling: u32, heaviest: u32) -> u32 {
        let unit = super::member::FULL_RAMP;
        let units = |weight: u32| weight.div_ceil(unit).next_power_of_two();
        let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
        let mean = total.div_ceil(members.len() as u64);
        let skewed = u32::try_from(mean.saturating_mul(SKEW)).unwrap_or(u32::MAX / 4);
        let limit = if ceiling > heaviest { ceiling } else { skewed };
        unit * units(ceiling).min(units(limit))
    }

    fn place(&mut self, members: &[Placed], columns: usize) {
        struct Placing {
            hash: u64,
            seat: u32,
            number: u32,
            draw: u32,
        }
        let mut all = Vec::with_capacity(columns);
        for member in members {
            for number in 0..member.columns(self.quantum) {
                let hash = fold(member.identity ^ (u64::from(number) << 32), GOLDEN) ^ member.identity;
                all.push(Placing { hash, seat: member.seat, number, draw: 0 });
            }
        }
        let mut holders = vec![NONE; self.cells.len()];
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
        let mut further = Vec::new();
        for (slot, holder) in (0..).zip(holders) {
            if holder == NONE {
                continue;
            }
            let column = &all[holder as usize];
            self.cells.set(slot as usize, Column { height: 0, seat: column.seat });
            if column.number == 0 {
                self.first[column.seat as usize] = slot;
            } else {
                further.push((column.seat, column.number, slot));
            }
        }
        further.sort_unstable();
        self.further = further.into_iter().map(|(seat, _, slot)| (seat, slot)).collect();
    }

    fn slot_of_draw(&self, hash: u64, draw: u32) -> usize {
        // Half a word serves a draw, as for keys; heights do not matter here.
        let word = dice(hash, u64::from(draw / 2));
        let half = if draw.is_multiple_of(2) { word as u32 } else { (word >> 32) as u32 };
        let wide = if self.cells.is_wide() { dice(hash, u64::from(draw)) } else { half.into() };
        wide as usize & (self.cells.len() - 1)
    }

    /// Whether a table made for these members would differ from this one in
    /// more than its heights.
    pub(super) fn fits(&self, members: &[Placed], reserve_members: usize, reserve_weight: u32) -> bool {
        let Some(heaviest) = members.iter().map(|member| member.weight).max() else { return false };
        let quantum = Self::quantum(members, heaviest.max(reserve_weight), heaviest);
        let columns = columns_of(members, quantum);
        quantum == self.quantum
            && slots_for(columns.max(reserve_members)) == self.cells.len()
            && columns == members.len()
            && self.further.is_empty()
            && members.len() == self.first.iter().filter(|slot| **slot != NONE).count()
            && members
                .iter()
                .all(|member| self.first.get(member.seat as usize).is_some_and(|slot| *slot != NONE))
    }

    /// Sets how much weight a member takes now; 0 takes it out.
    #[inline]
    pub(super) fn set_weight(&self, seat: u32, weight: u32) {
        let Some(&first) = self.first.get(seat as usize) else { return };
        if first == NONE {
            return;
        }
        self.set_height(first, seat, weight);
        if !self.further.is_empty() {
            self.set_further(seat, weight);
        }
    }

    fn set_further(&self, seat: u32, weight: u32) {
        let from = self.further.partition_point(|&(other, _)| other < seat);
        let mut rest = weight;
        for &(other, slot) in &self.further[from..] {
            if other != seat {
                break;
            }
            rest = rest.saturating_sub(self.quantum);
            self.set_height(slot, seat, rest);
        }
    }

    #[inline]
    fn set_height(&self, slot: u32, seat: u32, weight: u32) {
        let height = u64::from(weight.min(self.quantum)) * u64::from(FULL) / u64::from(self.quantum);
        // A member in rotation keeps at least a sliver.
        let height = if weight == 0 { 0 } else { (height as u32).max(1) };
        self.cells.set(slot as usize, Column { height, seat });
    }

    /// The member of a key: the first one hit.
    #[inline(always)]
    pub(super) fn hit(&self, key: u64) -> Option<u32> {
        match self.cells.hit(key) {
            None => self.hit_further(key),
            found => found,
        }
    }

    /// As `hit`, where the first batch has hit nobody.
    #[inline(never)]
    fn hit_further(&self, key: u64) -> Option<u32> {
        self.find_from(1, key, &mut |_| true)
    }

    /// The first one hit that `accept` takes.
    pub(super) fn find(&self, key: u64, mut accept: impl FnMut(u32) -> bool) -> Option<u32> {
        self.find_from(0, key, &mut accept)
    }

    fn find_from(&self, batch: u64, key: u64, accept: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        (batch..BATCHES)
            .find_map(|batch| self.cells.find(key, batch, accept))
            .or_else(|| self.find_among_all(key, accept))
    }

    /// The last resort, when almost the whole table is down or full: one throw
    /// over what is left, weighted, in the order of the slots.
    #[cold]
    fn find_among_all(&self, key: u64, accept: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let slots = self.cells.len();
        let heights = || (0..slots).map(|slot| u64::from(self.cells.at(slot).height));
        let total: u64 = heights().sum();
        let mut left = super::key::scale(dice(key, u64::MAX), total);
        let start = heights().position(|height| {
            let hit = left < height;
            left = left.saturating_sub(height);
            hit
        })?;
        (start..start + slots)
            .map(|slot| self.cells.at(slot & (slots - 1)))
            .find_map(|column| (column.height != 0 && accept(column.seat)).then_some(column.seat))
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.cells.heap_bytes() + size_of_val(&*self.first) + size_of_val(&*self.further)
    }
}

/// Slots for so many columns: a power of two, filled to 63/64 at most.
fn slots_for(columns: usize) -> usize {
    (columns + columns / 64).next_power_of_two()
}

/// The n-th throw of a key.
#[inline(always)]
fn dice(key: u64, number: u64) -> u64 {
    fold(key ^ number.wrapping_add(1).wrapping_mul(GOLDEN), 0xA076_1D64_78BD_642F)
}

#[cfg(test)]
mod tests;
