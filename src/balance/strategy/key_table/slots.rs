//! The slots of a placement, the throws of a key, and the search for the best throw.
//!
//! A throw costs one load and a flip one store: what a search reads of a slot is one
//! word of 32 bits. The row of a slot's column never changes, and is read once a search.
//!
//! The time between two throws of a key, its *gap*, is exponential: ten random bits
//! choose one of 1024 equally likely gaps, each the mean of its part of the
//! distribution. The compiler computes them, with arithmetic that is the same on every
//! machine: instances that agree on a key must agree on its gaps.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "slots are masked, and gaps are computed by the compiler, which refuses what is out of range"
)]

use crate::balance::hash::{GOLDEN, fold};
use crate::balance::sync::{AtomicU32, Ordering};

/// Throws per batch: evaluated together, without a branch between them.
const BATCH: u64 = 8;

/// Words of dice in a batch: each serves two throws, the lower half first. The gap
/// before a throw is its upper `GAP_BITS`, the slot its lower bits. Beyond four million
/// slots the two share bits, the least of the gap: less than a thousandth of it.
const WORDS: u64 = BATCH / 2;

/// Words after which a search that has met nobody sees whether there is anybody.
const PATIENCE: u64 = 512;

/// The most words of a search.
const MOST_WORDS: u64 = 1 << 18;

/// The time up to which a wait leaves room for a number in a batch.
const BATCHED: u64 = 1 << 28;

/// Throws per slot before a search gives up: a single column is missed by one key in
/// 3000 then.
const LAPS: u64 = 8;

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

/// The n-th word of a key's throws: two throws.
#[inline(always)]
pub(super) fn dice(key: u64, number: u64) -> u64 {
    fold(key ^ number.wrapping_add(1).wrapping_mul(GOLDEN), 0xA076_1D64_78BD_642F)
}

/// How the members' weights lie: what ends a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlownessRange {
    /// No member is faster; a smaller number is safe and lengthens searches.
    pub(super) fastest: u32,
    /// Whether all are equally fast.
    pub(super) is_even: bool,
}

impl SlownessRange {
    #[inline(always)]
    pub(super) fn from_bits(bits: u64) -> Self {
        Self { fastest: bits as u32, is_even: bits >> 32 != 0 }
    }

    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.is_even) << 32 | u64::from(self.fastest)
    }

    /// With one more member that takes keys.
    pub(super) fn with(self, slowness: u32) -> Self {
        Self { fastest: self.fastest.min(slowness), is_even: self.is_even && slowness == self.fastest }
    }
}

/// All slots; a power of two.
#[derive(Debug)]
pub(super) struct KeySlots(Box<[KeySlot]>);

/// A slot. What a search ends with is beside what it looks at.
#[derive(Debug)]
struct KeySlot {
    /// What a throw's time is multiplied by: the inverse of a weight. 0: takes no keys.
    slowness: AtomicU32,
    /// Whose column it is; anyone's where none stands.
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
pub(super) struct RaceState {
    /// When the last throw was.
    time: u64,
    /// The shortest wait so far.
    wait: u64,
    /// Where.
    slot: usize,
    /// Words of dice used.
    words: u64,
}

impl RaceState {
    pub(super) const START: Self = Self { time: 0, wait: NOBODY, slot: 0, words: 0 };

    /// Whether no later throw can beat the best, when nobody collects faster than this.
    #[inline(always)]
    fn is_over(&self, fastest: u32) -> bool {
        self.wait < self.time.saturating_mul(fastest.into())
    }
}

/// The wait of those who take no keys. Shorter by the bits of a number in a batch.
const NOBODY: u64 = u64::MAX >> BATCH.ilog2();

/// What a column waits for a throw; the one that waits least gets the key.
#[inline(always)]
fn wait(time: u64, slowness: u32) -> u64 {
    // Who takes no keys waits longest of all.
    time.wrapping_mul(slowness.into()).wrapping_sub(1)
}

#[inline(always)]
fn gap(throw: u32) -> u64 {
    GAPS[(throw >> (32 - GAP_BITS)) as usize].into()
}

impl KeySlots {
    /// Slots without columns.
    pub(super) fn new(slots: usize) -> Self {
        Self((0..slots).map(|_| KeySlot { slowness: AtomicU32::new(0), row: 0 }).collect())
    }

    /// How many there are.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives a slot to a member; before anyone searches.
    pub(super) fn give(&mut self, slot: usize, row: u32) {
        self.0[slot].row = row;
    }

    /// Called by the one writer.
    #[inline]
    pub(super) fn set_slowness(&self, slot: usize, slowness: u32) {
        self.0[slot].slowness.store(slowness, Ordering::Release);
    }

    /// How the weights of those lie who take keys; none: nobody does.
    pub(super) fn range(&self) -> Option<SlownessRange> {
        let mut all = self.0.iter().map(KeySlot::slowness).filter(|slowness| *slowness > 0);
        let first = SlownessRange { fastest: all.next()?, is_even: true };
        Some(all.fold(first, SlownessRange::with))
    }

    /// The row of a key by the first batch of its throws, or how far that got.
    #[inline(always)]
    pub(super) fn hit(&self, key: u64, fastest: u32) -> Result<u32, RaceState> {
        let best = self.search_batch(key, RaceState::START);
        if best.is_over(fastest) { Ok(self.0[best.slot].row) } else { Err(best) }
    }

    /// As `find`, where everyone will do.
    pub(super) fn hit_from(&self, key: u64, fastest: u32, mut best: RaceState) -> Option<u32> {
        while best.time < BATCHED && (best.words < PATIENCE || best.wait < NOBODY) {
            best = self.search_batch(key, best);
            if best.is_over(fastest) {
                return Some(self.0[best.slot].row);
            }
        }
        self.find(key, fastest, best, &mut |_| true)
    }

    /// Searches on, by the next batch of a key's throws.
    #[inline(always)]
    fn search_batch(&self, key: u64, from: RaceState) -> RaceState {
        let slots = &*self.0;
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

    /// As `hit`, where all who take keys are equally fast: the first one hit.
    #[inline(always)]
    pub(super) fn hit_even(&self, key: u64) -> Option<u32> {
        let slots = &*self.0;
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

    /// The row of a key among those that `accept` takes, from where a search has got to.
    pub(super) fn find(
        &self,
        key: u64,
        fastest: u32,
        mut best: RaceState,
        accept: &mut impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let slots = &*self.0;
        let mask = slots.len() - 1;
        let words = (LAPS * self.len() as u64 / 2).clamp(2 * PATIENCE, MOST_WORDS);
        while best.words < words {
            let met_nobody = best.words == PATIENCE && best.wait == NOBODY;
            if met_nobody && !self.takes_any(accept) {
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

    fn takes_any(&self, accept: &mut impl FnMut(u32) -> bool) -> bool {
        self.0.iter().any(|slot| slot.slowness() > 0 && accept(slot.row))
    }

    /// The last resort, when almost everybody is down or full: one throw at each slot.
    #[cold]
    fn find_among_all(&self, key: u64, accept: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let waits = (0_u64..).zip(&self.0).filter_map(|(number, slot)| {
            let slowness = slot.slowness();
            // No search has used these dice.
            let wait = || u128::from(fine_gap(dice(key, !number))) * u128::from(slowness);
            (slowness > 0 && accept(slot.row)).then(|| (wait(), number, slot.row))
        });
        waits.min().map(|(.., row)| row)
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// A gap with all the bits of a word: between two of the table's.
fn fine_gap(word: u64) -> u64 {
    let index = (word >> (64 - GAP_BITS)) as usize;
    let at = |index: usize| u64::from(GAPS[index.min(GAPS.len() - 1)]) << 32;
    let part = word << GAP_BITS >> 32;
    at(index) - ((at(index) - at(index + 1)) >> 32) * part
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(slownesses: &[u32]) -> KeySlots {
        let mut slots = KeySlots::new(slownesses.len());
        for (slot, slowness) in slownesses.iter().enumerate() {
            slots.give(slot, slot as u32 + 100);
            slots.set_slowness(slot, *slowness);
        }
        slots
    }

    /// By the definition: every throw of a long time, and the least wait.
    fn least(slownesses: &[u32], key: u64, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let throws = (0..20_000).flat_map(|number| [dice(key, number), dice(key, number) >> 32]);
        let mut time = 0;
        let waits = throws.filter_map(|throw| {
            time += u128::from(gap(throw as u32));
            let slot = throw as usize % slownesses.len();
            let takes = slownesses[slot] > 0 && accept(slot as u32 + 100);
            takes.then(|| (time * u128::from(slownesses[slot]), slot))
        });
        waits.min_by_key(|(wait, _)| *wait).map(|(_, slot)| slot as u32 + 100)
    }

    fn slowness() -> impl Strategy<Value = u32> {
        let weight = prop_oneof![1_u32..400, 1_u32..200_000, Just(20)];
        prop_oneof![2 => Just(0), 5 => weight.prop_map(|weight| u32::MAX / weight)]
    }

    proptest! {
        #[test]
        fn a_search_finds_who_waits_least(
            slownesses in prop::collection::vec(slowness(), 32),
            key in any::<u64>(),
            banned in 100_u32..132,
        ) {
            let slots = made(&slownesses);
            let accept = |row: u32| row != banned && !row.is_multiple_of(3);
            let Some(SlownessRange { fastest, .. }) = slots.range() else { return Ok(()) };
            let expected = least(&slownesses, key, |_| true);
            // What is known of the weights may be anything that is not too slow.
            for fastest in [fastest, fastest / 2, 1] {
                let hit = slots.hit(key, fastest).map_or_else(|best| slots.hit_from(key, fastest, best), Some);
                prop_assert_eq!(hit, expected);
                prop_assert_eq!(slots.hit_from(key, fastest, RaceState::START), expected);
                prop_assert_eq!(slots.find(key, fastest, RaceState::START, &mut |_| true), expected);
                let found = slots.find(key, fastest, RaceState::START, &mut |row| accept(row));
                prop_assert_eq!(found, least(&slownesses, key, accept));
            }
        }

        #[test]
        fn of_equals_the_first_hit_waits_least(up in prop::collection::vec(any::<bool>(), 32), key in any::<u64>()) {
            let slownesses: Vec<u32> = up.iter().map(|up| u32::from(*up) * 1000).collect();
            let slots = made(&slownesses);
            if let Some(hit) = slots.hit_even(key) {
                prop_assert_eq!(Some(hit), least(&slownesses, key, |_| true));
            }
        }
    }

    #[test]
    fn the_last_resort_follows_weights_and_moves_no_other_keys() {
        let weights = [1, 2, 3, 4, 0, 10];
        let slownesses: Vec<u32> = weights
            .iter()
            .chain(&[0, 0])
            .map(|&weight| u32::MAX.checked_div(weight * 20).unwrap_or(0))
            .collect();
        let slots = made(&slownesses);
        let owners = |slots: &KeySlots| -> Vec<Option<u32>> {
            (0..40_000_u64)
                .map(|key| slots.find_among_all(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), &mut |_| true))
                .collect()
        };
        let before = owners(&slots);
        for (row, weight) in (100..).zip(weights) {
            let share = before.iter().filter(|owner| **owner == Some(row)).count() as f64 / 40_000.0;
            assert!((share - f64::from(weight) / 20.0).abs() < 0.01, "{row}: {share}");
        }
        slots.set_slowness(3, 0);
        for (old, new) in before.iter().zip(owners(&slots)) {
            assert!(*old == new || *old == Some(103));
        }
    }

    #[test]
    fn a_search_that_gives_up_says_who_is_there() {
        // One column among so many that most searches do not meet it in time.
        let slots = KeySlots::new(1 << 23);
        assert_eq!(slots.hit_from(5, 1, RaceState::START), None);
        slots.set_slowness(77, 1000);
        assert_eq!(slots.hit_from(5, 1000, RaceState::START), Some(0));
        assert_eq!(slots.find(5, 1000, RaceState::START, &mut |_| false), None);
    }

    #[test]
    fn gaps_are_exponential() {
        let sum: f64 = GAPS.iter().map(|gap| f64::from(*gap)).sum();
        assert!((sum / GAP_COUNT as f64 / MEAN_GAP - 1.0).abs() < 1e-4, "{sum}");
        for (index, gap) in GAPS.iter().enumerate() {
            let [shortest, longest] =
                [index + 1, index].map(|end| -(end as f64 / GAP_COUNT as f64).ln() * MEAN_GAP);
            let gap = f64::from(*gap);
            assert!(gap + 0.5 >= shortest && gap - 0.5 <= longest, "{index}: {gap}");
        }
    }
}
