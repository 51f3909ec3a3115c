//! Which of a batch of draws hit: four thrown heights against four standing ones at
//! a time, in the lanes of one word.

use super::{BATCH, HEIGHT_BITS};

/// What a throw leaves of a lane of 16 bits: the highest throw.
const HIGHEST: u64 = (1 << HEIGHT_BITS) - 1;
/// `HIGHEST` in the first and third lane, and in all four.
const IN_TWO: u64 = HIGHEST | HIGHEST << 32;
const IN_FOUR: u64 = IN_TWO | IN_TWO << 16;
/// The highest bit of each lane.
const MARKS: u64 = !IN_FOUR;
/// Moves the mark of the first lane to bit 60, of the third to 61, of the second to
/// 62, and leaves that of the fourth at 63; all other products are lower, and no
/// two of them meet.
const GATHER: u64 = 1 << 45 | 1 << 14 | 1 << 31 | 1;

/// A bit per draw that is below the height at its slot. A word holds two draws,
/// the lower half first; the height of a draw is its upper `HEIGHT_BITS`.
#[inline(always)]
pub(super) fn among(words: [u64; BATCH / 2], heights: [u16; BATCH]) -> u32 {
    let [one, two, three, four] = words;
    let [a, b, c, d, e, f, g, h] = heights;
    of_four(one, two, [a, b, c, d]) | of_four(three, four, [e, f, g, h]) << 4
}

#[inline(always)]
fn of_four(one: u64, two: u64, heights: [u16; 4]) -> u32 {
    // The draws of a word are 32 bits apart: those of the second go in between.
    let thrown = (one >> (32 - HEIGHT_BITS)) & IN_TWO | (two >> (16 - HEIGHT_BITS)) & (IN_TWO << 16);
    let [first, third, second, fourth] = heights.map(u64::from);
    let standing = first | second << 16 | third << 32 | fourth << 48;
    // Per lane: standing + HIGHEST - thrown, at most 2^16 - 1. It reaches 2^15, the
    // lane's mark, exactly if the throw is lower.
    let marks = (standing + (thrown ^ IN_FOUR)) & MARKS;
    (marks.wrapping_mul(GATHER) >> 60) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_by_one(words: [u64; BATCH / 2], heights: [u16; BATCH]) -> u32 {
        let draws = words.into_iter().flat_map(|word| [word & 0xFFFF_FFFF, word >> 32]);
        let hits = draws.zip(heights).map(|(draw, height)| draw >> (32 - HEIGHT_BITS) < u64::from(height));
        (0..).zip(hits).map(|(number, hit)| u32::from(hit) << number).sum()
    }

    fn heights() -> impl Strategy<Value = u16> {
        const FULL: u16 = 1 << HEIGHT_BITS;
        prop_oneof![Just(0), Just(1), Just(FULL - 1), Just(FULL), 0..=FULL]
    }

    proptest! {
        #[test]
        fn lanes_agree_with_one_comparison_each(
            words in any::<[u64; BATCH / 2]>(),
            heights in prop::array::uniform8(heights()),
        ) {
            prop_assert_eq!(among(words, heights), one_by_one(words, heights));
        }
    }

    #[test]
    fn the_edges_are_exact() {
        let draw = |height: u64| (height << (32 - HEIGHT_BITS)) | 0x1_FFFF;
        let (low, middle, high) = (draw(0), draw(7), draw(0x7FFF));
        let words = [low | low << 32, low | middle << 32, middle | high << 32, high | low << 32];
        let heights = [0, 1, 1 << HEIGHT_BITS, 7, 8, 0x7FFF, 1 << HEIGHT_BITS, 0];
        assert_eq!(among(words, heights), 0b0101_0110);
        assert_eq!(among(words, heights), one_by_one(words, heights));
    }
}
