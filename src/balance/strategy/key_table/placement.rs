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
//! Two things bound it where one member outweighs thousands, or nearly all are down:
//!
//! - *Throws end* after about the root of twice the slots. A slot that none of them
//!   hit is hit an exponential time later, which its own hash with the key says
//!   (*late hit*). Exponential times have no memory, so this is the same race; but to
//!   compare late hits costs a look at each slot that could still win. Only few can:
//!   those that weigh more than the mean by a factor of the number of throws, or, where
//!   so few members take keys that all throws missed them, those few.
//! - *Throws that only heavy members could win* look at one byte a slot, which says how
//!   heavy its member is to a power of two (`weight_levels`).
//!
//! Keys move in bulk only when the members outgrow 2^b slots; `HashOptions` has a
//! reserve for that. A joining or leaving member moves its own keys and those of the few
//! columns that yielded to it.
//!
//! A throw costs one load: what a search reads of a slot is one word of 32 bits. The row
//! of a column never changes, and is read once a search.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "slots are masked and columns counted in this file and its parts; the compiler computes the gaps"
)]

mod clocks;
mod weight_levels;

use self::clocks::{EXPONENTIAL_ONE, MEAN_GAP, dice, exponential, gap, late_dice};
use self::weight_levels::{HIGHEST, WeightLevels, above, level_of};
use crate::balance::hash::{GOLDEN, fold};
use crate::balance::sync::{AtomicU32, AtomicU64, Ordering};

/// No slot.
const NONE: u32 = u32::MAX;

/// Throws per batch: evaluated together, without a branch between them.
const BATCH: u64 = 8;

/// Words of dice in a batch: each serves two throws.
const WORDS: u64 = BATCH / 2;

/// Words of throws between two looks at which level of weights could still win.
const LEVEL_WORDS: u64 = 8 * WORDS;

/// The wait of a slot that takes no keys. Shorter by the bits of a number in a batch: the
/// throws of the largest table take less than 2^29 of time, a slowness has 32 bits.
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

    /// The level that whoever beats the best from now on is at, or higher.
    #[inline]
    fn level_to_beat(&self) -> u8 {
        let slowest = self.wait.checked_div(self.time).unwrap_or(self.wait);
        let weight = u64::from(u32::MAX) / slowest.saturating_add(1);
        level_of(weight as u32).max(1)
    }
}

/// Where a search has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RaceEnd {
    slot: usize,
    /// Throws, and looks at late hits: the work that it took.
    steps: u64,
}

/// The table.
#[derive(Debug)]
pub(in crate::balance::strategy) struct Placement {
    /// A power of two of them.
    slots: Box<[KeySlot]>,
    /// A [`SlownessRange`].
    range: AtomicU64,
    /// Words of throws before late hits decide.
    words: u64,
    levels: WeightLevels,
    /// The place in the list of levels of each row's column.
    place_of_row: Box<[AtomicU32]>,
}

impl Placement {
    /// Lays out the members; none takes keys yet.
    pub(super) fn new(members: &[PlacedMember], reserve_members: usize) -> Option<Self> {
        let last_row = members.iter().map(|member| member.row).max()?;
        let range = SlownessRange::of(members.iter().map(|member| slowness(member.weight)));
        let range = range.unwrap_or(SlownessRange { fastest: u32::MAX, is_even: false });
        let mut slots: Box<[KeySlot]> = (0..slots_for(members.len().max(reserve_members)))
            .map(|_| KeySlot { slowness: AtomicU32::new(0), row: 0 })
            .collect();
        let place_of_row: Box<[AtomicU32]> = (0..=last_row).map(|_| AtomicU32::new(NONE)).collect();
        let mut columns = Vec::with_capacity(members.len());
        for (slot, holder) in (0_u32..).zip(holders(members, slots.len())) {
            if holder != NONE {
                let row = members[holder as usize].row;
                slots[slot as usize].row = row;
                place_of_row[row as usize].store(columns.len() as u32, Ordering::Relaxed);
                columns.push(slot);
            }
        }
        let levels = WeightLevels::new(slots.len(), columns.into_iter());
        let words = words_for(slots.len());
        Some(Self { slots, range: AtomicU64::new(range.to_bits()), words, levels, place_of_row })
    }

    #[inline(always)]
    fn range(&self) -> SlownessRange {
        SlownessRange::from_bits(self.range.load(Ordering::Acquire))
    }

    /// Sets how much weight a member takes now; 0 takes it out. Called by the one writer.
    #[inline]
    pub(super) fn set_weight(&self, row: u32, weight: u32) {
        let place = self.place_of_row[row as usize].load(Ordering::Relaxed);
        if place == NONE {
            return;
        }
        let slot = &self.slots[self.levels.slot_at(place) as usize];
        let (before, slowness) = (slot.slowness(), slowness(weight));
        let range = self.range();
        // Searches must know before they meet it.
        if weight > 0 && range.with(slowness) != range {
            self.range.store(range.with(slowness).to_bits(), Ordering::Release);
        }
        slot.slowness.store(slowness, Ordering::Release);
        self.levels.relevel(place, level_of(weight), |slot, place| {
            self.place_of_row[self.slots[slot as usize].row as usize].store(place, Ordering::Relaxed);
        });
        if weight == 0 || slowness > before {
            self.limit_range();
        }
    }

    /// No search waits for more than the highest level that takes keys, also when the one
    /// heavy member has just gone down.
    fn limit_range(&self) {
        let range = self.range();
        let fastest = self.levels.highest().map_or(0, |level| u32::MAX / above(level));
        if fastest > range.fastest {
            self.range.store(SlownessRange { fastest, ..range }.to_bits(), Ordering::Release);
        }
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
    fn hit_from(&self, key: u64, best: RaceState) -> Option<u32> {
        Some(self.slots[self.search_from(key, best, |_| true)?.slot].row)
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
        Some(self.slots[self.search_from(key, RaceState::START, accept)?.slot].row)
    }

    /// As `find`, from where a search has got to.
    #[inline]
    fn search_from(&self, key: u64, mut best: RaceState, accept: impl Fn(u32) -> bool) -> Option<RaceEnd> {
        if self.levels.is_empty() {
            return None;
        }
        let fastest = self.range().fastest;
        while best.words < self.words {
            let level = best.level_to_beat();
            let until = self.words.min(best.words + LEVEL_WORDS);
            let wait = best.wait;
            while best.words < until && best.wait == wait {
                best = self.search_level(key, best, level, &accept);
                if best.is_over(fastest) {
                    return Some(RaceEnd { slot: best.slot, steps: 2 * best.words });
                }
            }
        }
        self.levels.read(|| self.search_late(key, best, &accept))
    }

    /// Searches on, by the next batch of a key's throws, among the slots of a level that
    /// could win.
    #[inline(always)]
    fn search_level(&self, key: u64, from: RaceState, level: u8, accept: impl Fn(u32) -> bool) -> RaceState {
        let mask = self.slots.len() - 1;
        let mut best = from;
        let levels = self.levels.of_slots();
        // Negative once a slot of the level was met.
        let mut met = 0_i32;
        for number in 0..WORDS {
            let word = dice(key, from.words + number);
            for throw in [word, word >> 32] {
                let slot = throw as usize & mask;
                met |= i32::from(level) - 1 - i32::from(levels[slot].load(Ordering::Acquire));
                best.time += gap(throw as u32);
            }
        }
        best.words += WORDS;
        if met < 0 { self.search_met(key, from, accept) } else { best }
    }

    /// As `search_level`, where one of the level was met.
    fn search_met(&self, key: u64, mut best: RaceState, accept: impl Fn(u32) -> bool) -> RaceState {
        for _ in 0..WORDS {
            let word = dice(key, best.words);
            for throw in [word, word >> 32] {
                best.time += gap(throw as u32);
                let slot = throw as usize & (self.slots.len() - 1);
                let wait = wait(best.time, self.slots[slot].slowness());
                if wait < best.wait && accept(self.slots[slot].row) {
                    best = RaceState { wait, slot, ..best };
                }
            }
            best.words += 1;
        }
        best
    }

    /// The end of a search whose throws are over: the least wait of its late hits, if
    /// one beats the best.
    fn search_late(&self, key: u64, best: RaceState, accept: impl Fn(u32) -> bool) -> Option<RaceEnd> {
        let mut least = LateHit::beating(best);
        let mut steps = 2 * best.words;
        for level in (1..=HIGHEST).rev() {
            let slots = self.levels.at(level);
            if slots.len() == 0 {
                continue;
            }
            let fastest = u32::MAX / above(level);
            // Those of lower levels have even less of a chance.
            let Some(mut cutoff) = least.cutoff(best.time, self.slots.len(), fastest) else { break };
            for slot in slots {
                steps += 1;
                let fraction = late_dice(key, slot);
                if fraction < cutoff {
                    continue;
                }
                let KeySlot { slowness, row } = &self.slots[slot as usize];
                let slowness = slowness.load(Ordering::Acquire);
                let hit = LateHit::of(fraction, best.time, self.slots.len(), slowness, slot);
                if slowness > 0 && hit < least && accept(*row) {
                    least = hit;
                    cutoff = least.cutoff(best.time, self.slots.len(), fastest).unwrap_or(u64::MAX);
                }
            }
        }
        match least.slot {
            NONE if best.wait == NOBODY => None,
            NONE => Some(RaceEnd { slot: best.slot, steps }),
            slot => Some(RaceEnd { slot: slot as usize, steps }),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.place_of_row) + self.levels.heap_bytes()
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

/// Words of throws before late hits decide, a multiple of a batch: the root of twice the
/// slots is the number of throws. Most states in which members are heavy or down cost no
/// more than that then; more throws would shorten only the rare searches that go on to look
/// at thousands of late hits, and lengthen all others.
fn words_for(slots: usize) -> u64 {
    ((2 * slots as u64).isqrt() / 2).next_multiple_of(WORDS).max(WORDS)
}

/// The member that has each slot of a table, or `NONE`.
fn holders(members: &[PlacedMember], slots: usize) -> Vec<u32> {
    let hash = |member: &PlacedMember| fold(member.identity, GOLDEN) ^ member.identity;
    // The hash of each member, and its next draw.
    let mut all: Vec<(u64, u32)> = members.iter().map(|member| (hash(member), 0)).collect();
    let mut holders = vec![NONE; slots];
    for start in 0..all.len() {
        let mut index = start;
        // The one that yields goes on from its next draw.
        loop {
            let (hash, draw) = all[index];
            all[index].1 += 1;
            // Half a word serves a draw, as for keys.
            let half = dice(hash, u64::from(draw / 2)) >> (draw % 2 * 32);
            let slot = half as u32 as usize & (slots - 1);
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
    holders
}

/// What a column waits for a throw; the one that waits least gets the key.
#[inline(always)]
fn wait(time: u64, slowness: u32) -> u64 {
    // A slot that takes no keys waits longest of all.
    time.wrapping_mul(slowness.into()).wrapping_sub(1)
}

/// The first hit of a slot that no throw hit, in the order of what its column waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LateHit {
    /// In fractions of the time between throws.
    wait: u128,
    /// `NONE` stands for the best of the throws, which none may equal.
    slot: u32,
}

impl LateHit {
    /// What has to be beaten after the throws.
    fn beating(best: RaceState) -> Self {
        // A wait is one less than its product.
        let wait = if best.wait == NOBODY {
            u128::MAX
        } else {
            u128::from(best.wait + 1) * u128::from(EXPONENTIAL_ONE)
        };
        Self { wait: wait.saturating_sub(1), slot: NONE }
    }

    /// That of a slot: the throws took so much time, and its own time is on top.
    fn of(fraction: u64, time: u64, slots: usize, slowness: u32, slot: u32) -> Self {
        let later = u128::from(exponential(fraction)) * (slots as u128 * u128::from(MEAN_GAP));
        let time = u128::from(time) * u128::from(EXPONENTIAL_ONE) + later;
        Self { wait: time * u128::from(slowness), slot }
    }

    /// The least fraction with which a slot that is no faster than this could wait less;
    /// none if it could not. Never too high: it only says whom to look at.
    fn cutoff(self, time: u64, slots: usize, fastest: u32) -> Option<u64> {
        let latest = self.wait as f64 / EXPONENTIAL_ONE as f64 / f64::from(fastest);
        let later = (latest - time as f64) / (slots as f64 * MEAN_GAP as f64);
        // -ln(1 - x) is at least x. What is added is more than all errors of rounding.
        let room = later + 1e-9;
        (room > 0.0).then(|| ((1.0 - room).max(0.0) * 2.0_f64.powi(64)) as u64)
    }
}

#[cfg(test)]
mod tests;
