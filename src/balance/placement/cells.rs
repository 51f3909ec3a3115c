//! The slots of a placement: whose column stands at each, how high it is now, and
//! which of a key's draws hit one.
//!
//! A slot is one word, so that a draw costs one load and a flip one store. Up to
//! 2^16 seats it is 32 bits: 16 of height above 16 of seat.

use super::super::sync::{AtomicU32, AtomicU64, Ordering};
use super::{BATCH, FULL, HEIGHT_BITS, dice};

/// The most slots that half a word of dice reaches, next to a height; above, a draw
/// takes a whole word.
const NARROW_SLOTS: usize = 1 << (32 - HEIGHT_BITS);

/// Words of dice in a batch: each serves two draws, the lower half first. The height
/// of a draw is its upper `HEIGHT_BITS`, the slot its lower bits.
const WORDS: u64 = BATCH / 2;

/// All slots; a power of two.
#[derive(Debug)]
pub(super) enum Cells {
    Short(Box<[AtomicU32]>),
    Long(Box<[AtomicU64]>),
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Of `FULL`; 0 takes no keys.
    pub(super) height: u32,
    /// Whose it is; anyone's where the height is always 0.
    pub(super) seat: u32,
}

/// A slot as one atomic word. Words compare by height first.
trait Cell {
    type Word: Copy + Ord + Default;

    fn read(&self) -> Self::Word;

    /// The greatest word that a throw of this draw does not hit: every higher column
    /// has a greater word.
    fn missed(draw: u32) -> Self::Word;

    fn column(word: Self::Word) -> Column;
}

impl Cell for AtomicU32 {
    type Word = u32;

    #[inline(always)]
    fn read(&self) -> u32 {
        self.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn missed(draw: u32) -> u32 {
        const { assert!(HEIGHT_BITS == 15, "the draw moves right by one bit to stand over a seat") };
        draw >> 1 | 0xFFFF
    }

    #[inline(always)]
    fn column(word: u32) -> Column {
        Column { height: word >> 16, seat: word & 0xFFFF }
    }
}

impl Cell for AtomicU64 {
    type Word = u64;

    #[inline(always)]
    fn read(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn missed(draw: u32) -> u64 {
        u64::from(draw >> (32 - HEIGHT_BITS)) << 32 | 0xFFFF_FFFF
    }

    #[inline(always)]
    fn column(word: u64) -> Column {
        Column { height: (word >> 32) as u32, seat: word as u32 }
    }
}

/// The first column that a batch of draws hits.
#[inline(always)]
fn hit_in_batch<C: Cell>(cells: &[C], key: u64, batch: u64) -> Option<u32> {
    // From the last draw to the first, so that the first stays, and without a branch
    // between them: which draw hits is nothing a processor can foresee.
    let mut first = C::Word::default();
    let mask = cells.len() - 1;
    for number in (0..WORDS).rev() {
        let word = dice(key, batch * WORDS + number);
        let (low, high) = (cells[word as usize & mask].read(), cells[(word >> 32) as usize & mask].read());
        first = if high > C::missed((word >> 32) as u32) { high } else { first };
        first = if low > C::missed(word as u32) { low } else { first };
    }
    let column = C::column(first);
    (column.height > 0).then_some(column.seat)
}

/// The first column that a batch of draws hits and `accept` takes.
fn find_in_batch<C: Cell>(
    cells: &[C],
    key: u64,
    batch: u64,
    accept: &mut impl FnMut(u32) -> bool,
) -> Option<u32> {
    let words = (0..WORDS).map(|number| dice(key, batch * WORDS + number));
    words.flat_map(|word| [word as u32, (word >> 32) as u32]).find_map(|draw| {
        let standing = cells[draw as usize & (cells.len() - 1)].read();
        let seat = C::column(standing).seat;
        (standing > C::missed(draw) && accept(seat)).then_some(seat)
    })
}

impl Cells {
    /// Slots without columns, for seats up to this one.
    pub(super) fn new(slots: usize, last_seat: u32) -> Self {
        if slots <= NARROW_SLOTS && last_seat <= u32::from(u16::MAX) {
            Self::Short((0..slots).map(|_| AtomicU32::new(0)).collect())
        } else {
            Self::Long((0..slots).map(|_| AtomicU64::new(0)).collect())
        }
    }

    /// How many there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Short(cells) => cells.len(),
            Self::Long(cells) => cells.len(),
        }
    }

    /// Whether a draw takes a whole word of dice.
    #[inline]
    pub(super) fn is_wide(&self) -> bool {
        self.len() > NARROW_SLOTS
    }

    /// The column at a slot.
    pub(super) fn at(&self, slot: usize) -> Column {
        match self {
            Self::Short(cells) => AtomicU32::column(cells[slot].read()),
            Self::Long(cells) => AtomicU64::column(cells[slot].read()),
        }
    }

    /// Raises or lowers the column at a slot. Called by the one writer.
    #[inline]
    pub(super) fn set(&self, slot: usize, column: Column) {
        debug_assert!(column.height <= FULL, "a column is no higher than the table");
        match self {
            Self::Short(cells) => cells[slot].store(column.height << 16 | column.seat, Ordering::Release),
            Self::Long(cells) => {
                let word = u64::from(column.height) << 32 | u64::from(column.seat);
                cells[slot].store(word, Ordering::Release);
            }
        }
    }

    /// The first column that the first batch of a key's draws hits.
    #[inline(always)]
    pub(super) fn hit(&self, key: u64) -> Option<u32> {
        match self {
            Self::Short(cells) => hit_in_batch(cells, key, 0),
            Self::Long(cells) if !self.is_wide() => hit_in_batch(cells, key, 0),
            Self::Long(cells) => find_in_words(cells, key, 0, &mut |_| true),
        }
    }

    /// The first column that the key's draws of one batch hit and `accept` takes.
    pub(super) fn find(&self, key: u64, batch: u64, accept: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        match self {
            Self::Short(cells) => find_in_batch(cells, key, batch, accept),
            Self::Long(cells) if !self.is_wide() => find_in_batch(cells, key, batch, accept),
            Self::Long(cells) => find_in_words(cells, key, batch, accept),
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Short(cells) => size_of_val(&**cells),
            Self::Long(cells) => size_of_val(&**cells),
        }
    }
}

/// As `find_in_batch`, where every draw takes a whole word of dice.
#[cold]
fn find_in_words(
    cells: &[AtomicU64],
    key: u64,
    batch: u64,
    accept: &mut impl FnMut(u32) -> bool,
) -> Option<u32> {
    (batch * BATCH..(batch + 1) * BATCH).find_map(|draw| {
        let word = dice(key, draw);
        let Column { height, seat } = AtomicU64::column(cells[word as usize & (cells.len() - 1)].read());
        (((word >> (64 - HEIGHT_BITS)) as u32) < height && accept(seat)).then_some(seat)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heights() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0), Just(1), Just(FULL - 1), Just(FULL), 0..=FULL]
    }

    proptest! {
        #[test]
        fn a_word_is_missed_by_throws_at_or_above_its_height(
            draw in any::<u32>(),
            height in heights(),
            seat in prop_oneof![Just(0), Just(0xFFFF), 0..0x1_0000_u32],
        ) {
            let thrown = draw >> (32 - HEIGHT_BITS);
            for draw in [draw, height << (32 - HEIGHT_BITS), (height << (32 - HEIGHT_BITS)).wrapping_sub(1)] {
                let hits = draw >> (32 - HEIGHT_BITS) < height;
                prop_assert_eq!((height << 16 | seat) > <AtomicU32 as Cell>::missed(draw), hits);
                let long = u64::from(height) << 32 | u64::from(seat);
                prop_assert_eq!(long > <AtomicU64 as Cell>::missed(draw), hits);
            }
            prop_assert!(thrown < FULL);
        }

        #[test]
        fn a_hit_is_the_first_that_a_search_finds(
            columns in prop::collection::vec((heights(), 0..0x1_0000_u32), 16),
            key in any::<u64>(),
        ) {
            let short = Cells::new(16, 0xFFFF);
            let long = Cells::new(16, 0x1_0000);
            for (slot, &(height, seat)) in columns.iter().enumerate() {
                for cells in [&short, &long] {
                    cells.set(slot, Column { height, seat });
                    prop_assert_eq!(cells.at(slot), Column { height, seat });
                }
            }
            let found = short.find(key, 0, &mut |_| true);
            prop_assert_eq!(short.hit(key), found);
            prop_assert_eq!(long.hit(key), found);
            prop_assert_eq!(long.find(key, 0, &mut |_| true), found);
        }
    }
}
