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
//!
//! A throw costs one load and a flip one store: what a search reads of a slot is one
//! word of 32 bits. The row of a column never changes, and is read once a search. The
//! time between two throws, their *gap*, comes from a table: ten random bits choose one
//! of 1024 equally likely gaps, each the mean of its part of the distribution. The
//! compiler computes them, with arithmetic that is the same on every machine: instances
//! that agree on a key must agree on its gaps.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "slots are masked and columns counted in this file; the compiler computes the gaps"
)]

use crate::balance::hash::{GOLDEN, fold};
use crate::balance::sync::{AtomicU32, AtomicU64, Ordering};

/// No slot.
const NONE: u32 = u32::MAX;

/// Throws per batch: evaluated together, without a branch between them.
const BATCH: u64 = 8;

/// Words of dice in a batch: each serves two throws, the lower half first. The gap
/// before a throw is its upper `GAP_BITS`, the slot its lower bits. Beyond four million
/// slots the two share bits, the least of the gap: less than a thousandth of it.
const WORDS: u64 = BATCH / 2;

/// Words after which a search that has met no member sees whether there is any.
const PATIENCE: u64 = 512;

/// The most words of a search.
const MOST_WORDS: u64 = 1 << 18;

/// The time up to which a wait leaves room for a number in a batch.
const BATCHED: u64 = 1 << 28;

/// Throws per slot before a search gives up: a single column is missed by one key in
/// 3000 then.
const LAPS: u64 = 8;

/// The wait of a slot that takes no keys. Shorter by the bits of a number in a batch.
const NOBODY: u64 = u64::MAX >> BATCH.ilog2();

/// One member of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlacedMember {
    pub(super) row: u32,
    /// The hash of its identity.
    pub(super) identity: u64,
    /// What it weighs in full; says how long searches will be, and nothing else.
    pub(super) weight: u32,
}

/// How the members' weights lie: what ends a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SlownessRange {
    /// No member is faster; a smaller number is safe and lengthens searches.
    fastest: u32,
    /// Whether all are equally fast.
    is_even: bool,
}

impl SlownessRange {
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        Self { fastest: bits as u32, is_even: bits >> 32 != 0 }
    }

    fn to_bits(self) -> u64 {
        u64::from(self.is_even) << 32 | u64::from(self.fastest)
    }

    /// Of all that take keys; none if nobody does.
    fn of(slownesses: impl Iterator<Item = u32>) -> Option<Self> {
        let mut takers = slownesses.filter(|slowness| *slowness > 0);
        let first = Self { fastest: takers.next()?, is_even: true };
        Some(takers.fold(first, Self::with))
    }

    /// With one more member that takes keys.
    fn with(self, slowness: u32) -> Self {
        Self { fastest: self.fastest.min(slowness), is_even: self.is_even && slowness == self.fastest }
    }
}

/// How long a member of this weight waits for a unit of time; 0: it takes no keys.
#[inline]
fn slowness(weight: u32) -> u32 {
    u32::MAX.checked_div(weight).unwrap_or(0)
}

/// A slot of the table. What a search ends with is beside what it looks at.
#[derive(Debug)]
struct KeySlot {
    /// What a throw's time is multiplied by: the inverse of a weight. 0: takes no keys.
    slowness: AtomicU32,
    /// The row of its column; any row where it has none.
    row: u32,
}

impl KeySlot {
    #[inline(always)]
    fn slowness(&self) -> u32 {
        self.slowness.load(Ordering::Acquire)
    }
}

/// How far the search for a key has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RaceState {
    /// When the last throw was.
    time: u64,
    /// The shortest wait so far.
    wait: u64,
    /// Its slot.
    slot: usize,
    /// Words of dice used.
    words: u64,
}

impl RaceState {
    const START: Self = Self { time: 0, wait: NOBODY, slot: 0, words: 0 };

    /// Whether no later throw can beat the best, when nobody collects faster than this.
    #[inline(always)]
    fn is_over(&self, fastest: u32) -> bool {
        self.wait < self.time.saturating_mul(fastest.into())
    }
}

/// The table.
#[derive(Debug)]
pub(in crate::balance::strategy) struct Placement {
    /// A power of two of them.
    slots: Box<[KeySlot]>,
    /// A [`SlownessRange`].
    range: AtomicU64,
    /// The slot of each row's column.
    slot_of_row: Box<[u32]>,
}

impl Placement {
    /// Lays out the members; none takes keys yet.
    pub(super) fn new(members: &[PlacedMember], reserve_members: usize) -> Option<Self> {
        let last_row = members.iter().map(|member| member.row).max()?;
        let range = SlownessRange::of(members.iter().map(|member| slowness(member.weight)));
        let range = range.unwrap_or(SlownessRange { fastest: u32::MAX, is_even: false });
        let empty = |_| KeySlot { slowness: AtomicU32::new(0), row: 0 };
        let mut table = Self {
            slots: (0..slots_for(members.len().max(reserve_members))).map(empty).collect(),
            range: AtomicU64::new(range.to_bits()),
            slot_of_row: vec![NONE; last_row as usize + 1].into_boxed_slice(),
        };
        table.place(members);
        Some(table)
    }

    fn place(&mut self, members: &[PlacedMember]) {
        let hash = |member: &PlacedMember| fold(member.identity, GOLDEN) ^ member.identity;
        // The hash of each member, and its next draw.
        let mut all: Vec<(u64, u32)> = members.iter().map(|member| (hash(member), 0)).collect();
        let mut holders = vec![NONE; self.slots.len()];
        for start in 0..all.len() {
            let mut index = start;
            // The one that yields goes on from its next draw.
            loop {
                let (hash, draw) = all[index];
                all[index].1 += 1;
                // Half a word serves a draw, as for keys.
                let half = dice(hash, u64::from(draw / 2)) >> (draw % 2 * 32);
                let slot = half as u32 as usize & (self.slots.len() - 1);
                let holder = std::mem::replace(&mut holders[slot], index as u32);
                if holder == NONE {
                    break;
                }
                if hash < all[holder as usize].0 {
                    index = holder as usize;
                } else {
                    holders[slot] = holder;
                }
            }
        }
        for (slot, holder) in (0..).zip(holders).filter(|(_, holder)| *holder != NONE) {
            let row = members[holder as usize].row;
            self.slots[slot as usize].row = row;
            self.slot_of_row[row as usize] = slot;
        }
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
        self.slots[slot as usize].slowness.store(slowness, Ordering::Release);
    }

    /// After weights or verdicts have changed: searches as short as can be. Called by the one
    /// writer.
    pub(in crate::balance::strategy) fn tune(&self) {
        if let Some(range) = self.tuned_range().filter(|range| *range != self.range()) {
            self.range.store(range.to_bits(), Ordering::Release);
        }
    }

    fn tuned_range(&self) -> Option<SlownessRange> {
        SlownessRange::of(self.slots.iter().map(KeySlot::slowness))
    }

    /// The member of a key: the one that waits least.
    #[inline(always)]
    pub(in crate::balance::strategy) fn hit(&self, key: u64) -> Option<u32> {
        let range = self.range();
        if range.is_even {
            return self.hit_even(key).or_else(|| self.hit_from(key, RaceState::START));
        }
        let best = self.search_batch(key, RaceState::START);
        if best.is_over(range.fastest) { Some(self.slots[best.slot].row) } else { self.hit_from(key, best) }
    }

    #[inline(never)]
    fn hit_from(&self, key: u64, mut best: RaceState) -> Option<u32> {
        let fastest = self.range().fastest;
        while best.time < BATCHED && (best.words < PATIENCE || best.wait < NOBODY) {
            best = self.search_batch(key, best);
            if best.is_over(fastest) {
                return Some(self.slots[best.slot].row);
            }
        }
        self.find_from(key, best, |_| true)
    }

    /// Searches on, by the next batch of a key's throws.
    #[inline(always)]
    fn search_batch(&self, key: u64, from: RaceState) -> RaceState {
        let slots = &*self.slots;
        let mask = slots.len() - 1;
        let mut time = from.time;
        // A wait above the number of its throw, so that one comparison, and no branch,
        // keeps both: which is best is nothing a processor can foresee.
        let before = from.wait << BATCH.ilog2();
        let mut best = before;
        for number in 0..WORDS {
            let word = dice(key, from.words + number);
            for (half, throw) in [(0, word), (1, word >> 32)] {
                time += gap(throw as u32);
                let wait = wait(time, slots[throw as usize & mask].slowness());
                best = best.min(wait << BATCH.ilog2() | (2 * number + half));
            }
        }
        let number = best % BATCH;
        let slot = (dice(key, from.words + number / 2) >> (32 * (number % 2))) as usize & mask;
        RaceState {
            time,
            wait: best >> BATCH.ilog2(),
            slot: if best < before { slot } else { from.slot },
            words: from.words + WORDS,
        }
    }

    /// As `hit`, where all that take keys are equally fast: the first one hit.
    #[inline(always)]
    fn hit_even(&self, key: u64) -> Option<u32> {
        let slots = &*self.slots;
        let mask = slots.len() - 1;
        // From the last throw to the first, so that the first stays.
        let mut first = usize::MAX;
        for number in (0..WORDS).rev() {
            let word = dice(key, number);
            for throw in [word >> 32, word] {
                let slot = throw as usize & mask;
                let takes = slots[slot].slowness() != 0;
                first = if takes { slot } else { first };
            }
        }
        (first != usize::MAX).then(|| slots[first].row)
    }

    /// The member that waits least of those that `accept` takes.
    pub(super) fn find(&self, key: u64, accept: impl Fn(u32) -> bool) -> Option<u32> {
        self.find_from(key, RaceState::START, accept)
    }

    /// As `find`, from where a search has got to.
    fn find_from(&self, key: u64, mut best: RaceState, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let slots = &*self.slots;
        let mask = slots.len() - 1;
        let fastest = self.range().fastest;
        let words = (LAPS * slots.len() as u64 / 2).clamp(2 * PATIENCE, MOST_WORDS);
        let takes_any = || slots.iter().any(|slot| slot.slowness() > 0 && accept(slot.row));
        while best.words < words {
            if best.words == PATIENCE && best.wait == NOBODY && !takes_any() {
                return None;
            }
            let word = dice(key, best.words);
            for throw in [word, word >> 32] {
                best.time += gap(throw as u32);
                let slot = throw as usize & mask;
                let wait = wait(best.time, slots[slot].slowness());
                if wait < best.wait && accept(slots[slot].row) {
                    best = RaceState { wait, slot, ..best };
                }
            }
            best.words += 1;
            if best.is_over(fastest) {
                return Some(slots[best.slot].row);
            }
        }
        if best.wait < NOBODY { Some(slots[best.slot].row) } else { self.find_among_all(key, accept) }
    }

    /// The last resort, when almost everybody is down or full: one throw at each slot.
    #[cold]
    fn find_among_all(&self, key: u64, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let waits = (0_u64..).zip(&self.slots).filter_map(|(number, slot)| {
            let slowness = slot.slowness();
            // No search has used these dice.
            let wait = || u128::from(fine_gap(dice(key, !number))) * u128::from(slowness);
            (slowness > 0 && accept(slot.row)).then(|| (wait(), number, slot.row))
        });
        waits.min().map(|(.., row)| row)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.slot_of_row)
    }

    /// Whether searches are as short as can be.
    #[cfg(test)]
    pub(in crate::balance::strategy) fn is_tuned(&self) -> bool {
        self.tuned_range().is_none_or(|range| range == self.range())
    }
}

/// Slots for so many columns: a power of two, filled to 63/64 at most.
fn slots_for(columns: usize) -> usize {
    (columns + columns / 64).next_power_of_two()
}

/// The n-th word of a key's throws: two throws.
#[inline(always)]
fn dice(key: u64, number: u64) -> u64 {
    fold(key ^ number.wrapping_add(1).wrapping_mul(GOLDEN), 0xA076_1D64_78BD_642F)
}

/// What a column waits for a throw; the one that waits least gets the key.
#[inline(always)]
fn wait(time: u64, slowness: u32) -> u64 {
    // A slot that takes no keys waits longest of all.
    time.wrapping_mul(slowness.into()).wrapping_sub(1)
}

#[inline(always)]
fn gap(throw: u32) -> u64 {
    GAPS[(throw >> (32 - GAP_BITS)) as usize].into()
}

/// Random bits of a gap.
const GAP_BITS: u32 = 10;

const GAP_COUNT: usize = 1 << GAP_BITS;

/// The mean of all gaps.
const MEAN_GAP: f64 = 4096.0;

/// The gaps, from the longest to the shortest.
static GAPS: [u16; GAP_COUNT] = gaps();

const fn gaps() -> [u16; GAP_COUNT] {
    let logarithms = logarithms();
    let count = GAP_COUNT as f64;
    let mut gaps = [0; GAP_COUNT];
    let mut index = 0;
    let mut below = 0.0;
    while index < GAP_COUNT {
        // The area under -ln(x), from 0 up to the end of this part.
        let end = (index + 1) as f64 / count;
        let area = end - end * (logarithms[index + 1] - logarithms[GAP_COUNT]);
        gaps[index] = ((area - below) * count * MEAN_GAP + 0.5) as u16;
        below = area;
        index += 1;
    }
    gaps
}

/// ln(n), from 1 on.
const fn logarithms() -> [f64; GAP_COUNT + 1] {
    let mut logarithms = [0.0; GAP_COUNT + 1];
    let mut number = 1;
    while number < GAP_COUNT {
        // ln((n + 1) / n) is twice the inverse hyperbolic tangent of 1 / (2n + 1).
        let step = 1.0 / (2 * number + 1) as f64;
        let mut power = step;
        let mut sum = 0.0;
        let mut term = 1;
        while term < 40 {
            sum += power / term as f64;
            power *= step * step;
            term += 2;
        }
        logarithms[number + 1] = logarithms[number] + 2.0 * sum;
        number += 1;
    }
    logarithms
}

/// A gap with all the bits of a word: between two of the table's.
fn fine_gap(word: u64) -> u64 {
    let index = (word >> (64 - GAP_BITS)) as usize;
    let at = |index: usize| u64::from(GAPS[index.min(GAPS.len() - 1)]) << 32;
    let part = word << GAP_BITS >> 32;
    at(index) - ((at(index) - at(index + 1)) >> 32) * part
}

#[cfg(test)]
mod tests;
