//! Who leads among the classes of a pool: the smallest rank, kept at hand.
//!
//! Ranks lie in one array and are compared sixteen at a time: a pool of few weights
//! is one short scan. Above that, every sixteen have a winner, and every sixteen
//! winners have one, up to the top. Only a change of a rank plays anything again.

#![expect(clippy::cast_possible_truncation, reason = "a rank is two numbers of 64 bits side by side")]

/// Classes, or winners, that are compared in one scan.
const FAN: usize = 16;

/// A slot's standing: load by weight above, its turn below. Smaller leads.
pub(super) type Rank = u128;

/// The rank of a slot without members.
pub(super) const VACANT: Rank = Rank::MAX;

/// How members without an open pick compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::balance) enum Idle {
    /// As (0 + 1) / weight.
    Weighed,
    /// Before everyone else.
    First,
}

/// Orders by load / weight, and among equals by turn: who waited longer leads.
///
/// The load is what a member has to carry after one more pick. The quotient is
/// exact enough: loads take 33 bits and weights 18, so that two different
/// fractions differ by a part of 2^51 at least, and a rounded quotient is off by a
/// part of 2^53 at most. Equal fractions round alike, and bits of positive floats
/// are in the order of their values.
#[inline(always)]
pub(super) fn rank(idle: Idle, open: u32, weight: u32, turn: u64) -> Rank {
    let load = match (open, idle) {
        (0, Idle::First) => 0,
        _ => u64::from(open) + 1,
    };
    let quotient = load as f64 / f64::from(weight);
    Rank::from(quotient.to_bits()) << 64 | Rank::from(turn)
}

/// The load of a rank.
#[inline(always)]
pub(super) fn load_of(rank: Rank) -> u64 {
    (rank >> 64) as u64
}

/// The turn of a rank.
#[inline(always)]
pub(super) fn turn_of(rank: Rank) -> u64 {
    rank as u64
}

/// Ranks by slot, and the slot that leads.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    ranks: Vec<Rank>,
    /// The winner of every `FAN` slots, then of every `FAN` of those, and so on
    /// until `FAN` are left.
    levels: Vec<Vec<u32>>,
    leader: u32,
}

impl Leaders {
    /// The slot with the smallest rank; without classes one that does not exist.
    #[inline(always)]
    pub(super) fn leader(&self) -> u32 {
        self.leader
    }

    #[inline(always)]
    pub(super) fn rank(&self, slot: u32) -> Rank {
        self.ranks.get(slot as usize).copied().unwrap_or(VACANT)
    }

    /// The turn that a slot had last.
    #[inline(always)]
    pub(super) fn turn(&self, slot: u32) -> u64 {
        turn_of(self.rank(slot))
    }

    /// The smallest rank.
    #[inline(always)]
    pub(super) fn least(&self) -> Rank {
        self.rank(self.leader)
    }

    /// One slot more, vacant.
    pub(super) fn push(&mut self) {
        self.ranks.push(VACANT);
        if self.ranks.len() % FAN == 1 {
            self.replay();
        }
    }

    /// Notes a rank without playing; [`replay`](Self::replay) must follow.
    pub(super) fn set(&mut self, slot: u32, rank: Rank) {
        if let Some(place) = self.ranks.get_mut(slot as usize) {
            *place = rank;
        }
    }

    /// A rank has become smaller. Answers whether another slot leads now.
    #[inline]
    pub(super) fn lower(&mut self, slot: u32, rank: Rank) -> bool {
        self.set(slot, rank);
        let mut group = slot as usize;
        for level in &mut self.levels {
            group /= FAN;
            let Some(winner) = level.get_mut(group) else { return false };
            if *winner != slot {
                if rank >= self.ranks.get(*winner as usize).copied().unwrap_or(VACANT) {
                    return false;
                }
                *winner = slot;
            }
        }
        let leads = rank < self.rank(self.leader);
        if leads {
            self.leader = slot;
        }
        leads
    }

    /// A rank has changed.
    #[inline]
    pub(super) fn settle(&mut self, slot: u32, rank: Rank) {
        self.set(slot, rank);
        if self.levels.is_empty() {
            self.leader = first_of(&self.ranks);
        } else {
            self.settle_levels(slot);
        }
    }

    fn settle_levels(&mut self, slot: u32) {
        let mut group = slot as usize / FAN;
        let mut winner = self.best_slot(group);
        for height in 0..self.levels.len() {
            if let Some(place) = self.levels.get_mut(height).and_then(|level| level.get_mut(group)) {
                *place = winner;
            }
            group /= FAN;
            winner = self.best_winner(height, group);
        }
        self.leader = winner;
    }

    /// Plays everything.
    pub(super) fn replay(&mut self) {
        self.levels.clear();
        let mut length = self.ranks.len();
        while length > FAN {
            let groups = 0..length.div_ceil(FAN);
            length = groups.end;
            let winners = match self.levels.len().checked_sub(1) {
                None => groups.map(|group| self.best_slot(group)).collect(),
                Some(below) => groups.map(|group| self.best_winner(below, group)).collect(),
            };
            self.levels.push(winners);
        }
        self.leader = match self.levels.len().checked_sub(1) {
            None => first_of(&self.ranks),
            Some(top) => self.best_winner(top, 0),
        };
    }

    /// The best slot of a group of slots.
    fn best_slot(&self, group: usize) -> u32 {
        let start = group * FAN;
        let end = self.ranks.len().min(start + FAN);
        let start_slot = u32::try_from(start).unwrap_or(u32::MAX);
        start_slot + self.ranks.get(start..end).map_or(0, first_of)
    }

    /// The best of a group of the winners at a height.
    fn best_winner(&self, height: usize, group: usize) -> u32 {
        let level = self.levels.get(height).map_or(&[][..], Vec::as_slice);
        let start = group * FAN;
        let group = level.get(start..level.len().min(start + FAN)).unwrap_or_default();
        group.iter().copied().min_by_key(|slot| self.rank(*slot)).unwrap_or(u32::MAX)
    }

    /// Gives spare room back.
    pub(super) fn shrink(&mut self) {
        self.ranks.shrink_to_fit();
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let levels: usize = self.levels.iter().map(|level| 4 * level.capacity()).sum();
        size_of::<Rank>() * self.ranks.capacity() + levels + size_of::<Vec<u32>>() * self.levels.capacity()
    }
}

/// The place of the smallest; the first of equals.
#[inline(always)]
fn first_of(ranks: &[Rank]) -> u32 {
    let mut best = (VACANT, 0);
    for (place, &rank) in (0..).zip(ranks) {
        if rank < best.0 {
            best = (rank, place);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_smallest_rank_leads(
            count in 1_usize..600,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0_u128..2000), 1..200),
        ) {
            let mut leaders = Leaders::default();
            (0..count).for_each(|_| leaders.push());
            let mut ranks = vec![VACANT; count];
            for (turn, (slot, rank)) in changes.into_iter().enumerate() {
                let slot = slot.index(count);
                // No two are equal, as no two turns are.
                let rank = if rank < 100 { VACANT } else { rank << 64 | turn as u128 };
                let lower = rank < ranks[slot];
                let before = leaders.leader();
                ranks[slot] = rank;
                if lower {
                    let changed = leaders.lower(slot as u32, rank);
                    prop_assert_eq!(changed, leaders.leader() != before);
                } else {
                    leaders.settle(slot as u32, rank);
                }
                let least = ranks.iter().min().unwrap();
                prop_assert_eq!(ranks[leaders.leader() as usize], *least);
            }
            let leader = leaders.leader();
            leaders.replay();
            prop_assert_eq!(ranks[leader as usize], ranks[leaders.leader() as usize]);
        }
    }
}
