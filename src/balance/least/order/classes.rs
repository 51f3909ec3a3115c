//! The classes of a pool: which slot each weight has.

use hashbrown::HashTable;

use super::super::super::key::{GOLDEN, fold};
use super::super::leaders::{Leaders, Rank, VACANT};
use super::NONE;

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
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.classes[slot as usize] = class;
                slot
            }
            None => {
                self.classes.push(class);
                self.leaders.push();
                self.classes.len() as u32 - 1
            }
        };
        // No two classes wait equally long. Vacant until a member has entered.
        self.leaders.set(slot, VACANT << 64 | Rank::from(turn));
        slot
    }

    /// The last member of a class has left it.
    pub(super) fn vacate(&mut self, slot: u32) {
        self.classes[slot as usize] = Class { weight: 0, first: NONE };
        self.vacant.push(slot);
    }

    /// Gives spare room back.
    pub(super) fn shrink(&mut self) {
        self.classes.shrink_to_fit();
        self.leaders.shrink();
    }

    /// Bytes on the heap.
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

    /// Notes a slot of the group.
    pub(super) fn insert(&mut self, group: &PoolClasses, slot: u32) {
        let hash_of = |slot: &u32| hash(group.classes[*slot as usize].weight);
        self.0.insert_unique(hash_of(&slot), slot, hash_of);
    }
}

fn hash(weight: u32) -> u64 {
    fold(weight.into(), GOLDEN)
}
