//! The classes of a pool, one for each weight, and which of them leads.
//!
//! A class has a slot and a *rank*: the load of its least loaded member, and its last
//! turn. The smallest rank leads, and is kept at hand. Ranks lie in one array and are
//! compared sixteen at a time: a pool of few weights is one short scan. Above that,
//! every sixteen have a winner, and every sixteen winners have one, up to the top. Only a
//! change of a rank compares anything again.

#![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "the slots are its own")]

use hashbrown::HashTable;

use crate::balance::hash::{GOLDEN, fold};

/// No index.
pub(super) const NONE: u32 = u32::MAX;

/// Classes, or winners, that are compared in one scan.
const FAN: usize = 16;

/// A slot's standing: load by weight above, its turn below. Smaller leads.
pub(super) type Rank = u128;

/// The rank of a slot without members.
pub(super) const VACANT: Rank = Rank::MAX;

/// How members without an open pick compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// As (0 + 1) / weight.
    Weighed,
    /// Before everyone else.
    First,
}

/// Orders by load / weight, and among equals by turn: the class that waited longer leads.
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

#[inline(always)]
pub(super) fn load_of(rank: Rank) -> u64 {
    (rank >> 64) as u64
}

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
    /// The slot with the smallest rank; without classes one that does not exist.
    pub(super) leader: u32,
}

impl Leaders {
    #[inline(always)]
    pub(super) fn rank(&self, slot: u32) -> Rank {
        self.ranks.get(slot as usize).copied().unwrap_or(VACANT)
    }

    #[inline(always)]
    pub(super) fn turn(&self, slot: u32) -> u64 {
        turn_of(self.rank(slot))
    }

    #[inline(always)]
    pub(super) fn least(&self) -> Rank {
        self.rank(self.leader)
    }

    pub(super) fn push(&mut self) {
        self.ranks.push(VACANT);
        if self.ranks.len() % FAN == 1 {
            self.replay();
        }
    }

    /// Notes a rank without playing; [`replay`](Self::replay) must follow.
    pub(super) fn set(&mut self, slot: u32, rank: Rank) {
        self.ranks[slot as usize] = rank;
    }

    /// A rank has become smaller. Answers whether another slot leads now.
    #[inline]
    pub(super) fn lower(&mut self, slot: u32, rank: Rank) -> bool {
        self.set(slot, rank);
        let mut group = slot as usize;
        for level in &mut self.levels {
            group /= FAN;
            let winner = &mut level[group];
            if *winner != slot {
                if rank >= self.ranks[*winner as usize] {
                    return false;
                }
                *winner = slot;
            }
        }
        let leads = rank < self.least();
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
            self.levels[height][group] = winner;
            group /= FAN;
            winner = self.best_winner(height, group);
        }
        self.leader = winner;
    }

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

    fn best_slot(&self, group: usize) -> u32 {
        let start = group * FAN;
        start as u32 + first_of(&self.ranks[start..self.ranks.len().min(start + FAN)])
    }

    /// The best of a group of the winners at a height.
    fn best_winner(&self, height: usize, group: usize) -> u32 {
        let level = &self.levels[height];
        let start = group * FAN;
        let group = &level[start..level.len().min(start + FAN)];
        let better = |best, slot| if self.rank(slot) < self.rank(best) { slot } else { best };
        group.iter().copied().fold(group[0], better)
    }

    fn heap_bytes(&self) -> usize {
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

/// The members of a pool with one weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Class {
    /// 0 when the slot is vacant.
    pub(super) weight: u32,
    /// The block with the fewest open picks, or `SOLO` and a row; `NONE` when the slot
    /// is vacant.
    pub(super) first: u32,
}

/// The classes of a pool, by slot.
#[derive(Debug, Default)]
pub(super) struct PoolClasses {
    pub(super) classes: Vec<Class>,
    pub(super) leaders: Leaders,
    /// Picks until the turn of the leader ends; 0 before its first.
    pub(super) left: u32,
    vacant: Vec<u32>,
}

impl PoolClasses {
    /// The slot of a weight. One scan, as long as there are weights.
    pub(super) fn slot_of(&self, weight: u32) -> Option<u32> {
        (0..).zip(&self.classes).find(|(_, class)| class.weight == weight).map(|(slot, _)| slot)
    }

    /// A slot for a weight that has none, after this turn.
    pub(super) fn add(&mut self, weight: u32, turn: u64) -> u32 {
        let class = Class { weight, first: NONE };
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.classes.push(class);
            self.leaders.push();
            self.classes.len() as u32 - 1
        });
        self.classes[slot as usize] = class;
        // No two classes wait equally long. Vacant until a member has entered.
        self.leaders.set(slot, VACANT << 64 | Rank::from(turn));
        slot
    }

    /// The last member of a class has left it.
    pub(super) fn vacate(&mut self, slot: u32) {
        self.classes[slot as usize] = Class { weight: 0, first: NONE };
        self.vacant.push(slot);
    }

    pub(super) fn shrink(&mut self) {
        self.classes.shrink_to_fit();
        self.leaders.ranks.shrink_to_fit();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.classes.capacity() * size_of::<Class>() + self.leaders.heap_bytes() + self.vacant.capacity() * 4
    }
}

/// The slots of a group by weight, for as long as many members are linked at once.
#[derive(Debug, Default)]
pub(super) struct ClassIndex(HashTable<u32>);

impl ClassIndex {
    pub(super) fn slot_of(&self, group: &PoolClasses, weight: u32) -> Option<u32> {
        self.0.find(hash(weight), |slot| group.classes[*slot as usize].weight == weight).copied()
    }

    pub(super) fn insert(&mut self, group: &PoolClasses, slot: u32) {
        let hash_of = |slot: &u32| hash(group.classes[*slot as usize].weight);
        self.0.insert_unique(hash_of(&slot), slot, hash_of);
    }
}

fn hash(weight: u32) -> u64 {
    fold(weight.into(), GOLDEN)
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
                let before = leaders.leader;
                ranks[slot] = rank;
                if lower {
                    let changed = leaders.lower(slot as u32, rank);
                    prop_assert_eq!(changed, leaders.leader != before);
                } else {
                    leaders.settle(slot as u32, rank);
                }
                let least = ranks.iter().min().unwrap();
                prop_assert_eq!(ranks[leaders.leader as usize], *least);
            }
            let leader = leaders.leader;
            leaders.replay();
            prop_assert_eq!(ranks[leader as usize], ranks[leaders.leader as usize]);
        }
    }
}
