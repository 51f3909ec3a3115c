//! An exact order of members by (open + 1) / weight, in constant time.
//!
//! Members of one weight form a *class*. A class keeps its members in *blocks*
//! of equal open count, blocks in ascending order, members of a block in the
//! order they came. A pick or a release moves one member to the neighbouring
//! block: a few links. Classes are compared only when the fewest open picks of one
//! change, or when its turn ends: among equals a class keeps the lead until
//! everyone in its first block was picked, so that ties rotate over all members.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "seats, blocks and slots are indices into this file's own slabs; a broken link is a bug here"
)]

use hashbrown::HashTable;

use super::super::key::{GOLDEN, fold};
use super::super::pool::Pool;
use super::leaders::{Leaders, Rank, VACANT, load_of, turn_of};

/// No index.
const NONE: u32 = u32::MAX;

/// A member. `prev` of a block's head and `next` of its tail mean nothing.
#[derive(Debug, Clone, Copy)]
struct Node {
    open: u32,
    /// The block it is linked into, or `NONE`.
    block: u32,
    prev: u32,
    next: u32,
}

impl Node {
    const UNLINKED: Self = Self { open: 0, block: NONE, prev: NONE, next: NONE };
}

/// Members of a class with equally many open picks; never empty.
#[derive(Debug, Clone, Copy)]
struct Block {
    open: u32,
    count: u32,
    head: u32,
    tail: u32,
    prev: u32,
    next: u32,
    slot: u32,
    pool: Pool,
}

/// The members of a pool with one weight.
#[derive(Debug, Clone, Copy)]
struct Class {
    weight: u32,
    /// The block with the fewest open picks; `NONE` when the slot is vacant.
    first: u32,
}

/// The classes of a pool, by slot.
#[derive(Debug, Default)]
struct Group {
    classes: Vec<Class>,
    leaders: Leaders,
    /// Picks until the turn of the leader ends; 0 before its first.
    left: u32,
    vacant: Vec<u32>,
    /// The slots that are not vacant, by weight.
    index: HashTable<u32>,
}

/// How members without an open pick compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::balance) enum Idle {
    /// As (0 + 1) / weight.
    Weighed,
    /// Before everyone else.
    First,
}

/// Open counts of all seats, and the order of those in rotation.
#[derive(Debug)]
pub(in crate::balance) struct Order {
    nodes: Vec<Node>,
    blocks: Vec<Block>,
    /// The first free block; its `next` is the one after it.
    free: u32,
    /// By pool; as far as pools were used.
    groups: Vec<Group>,
    idle: Idle,
    /// Counts turns; among equals the class whose last turn is longest ago leads.
    turn: u64,
}

impl Order {
    pub(in crate::balance) fn new(idle: Idle) -> Self {
        Self { nodes: Vec::new(), blocks: Vec::new(), free: NONE, groups: Vec::new(), idle, turn: 0 }
    }

    /// Makes room for seats below `seats`.
    pub(in crate::balance) fn reserve_seats(&mut self, seats: usize) {
        if self.nodes.len() < seats {
            self.nodes.resize(seats, Node::UNLINKED);
        }
    }

    /// Open picks of a seat, linked or not.
    pub(in crate::balance) fn open(&self, seat: u32) -> u32 {
        self.nodes.get(seat as usize).map_or(0, |node| node.open)
    }

    /// Puts a member into rotation, or into another pool or class; `None` takes
    /// it out. Its open picks stay.
    pub(in crate::balance) fn link(&mut self, seat: u32, place: Option<(Pool, u32)>) {
        self.reserve_seats(seat as usize + 1);
        if self.nodes[seat as usize].block != NONE {
            self.unlink(seat);
        }
        if let Some((pool, weight)) = place {
            let slot = self.slot(pool, weight);
            self.enter(seat, pool, slot);
            self.settle(pool, slot);
        }
    }

    /// Puts every seat, in order, where `places` says, as `link` would one by one.
    pub(in crate::balance) fn link_all(&mut self, places: impl Iterator<Item = Option<(Pool, u32)>>) {
        self.clear();
        // Members of one weight often come together, and then need no look-up.
        let mut last = None;
        for (seat, place) in (0..).zip(places) {
            self.reserve_seats(seat as usize + 1);
            let Some(place) = place else { continue };
            let slot = match last {
                Some((other, slot)) if other == place => slot,
                _ => self.slot(place.0, place.1),
            };
            last = Some((place, slot));
            self.enter(seat, place.0, slot);
        }
        for pool in Pool::ALL {
            let Some(group) = self.groups.get_mut(pool.index()) else { continue };
            for (slot, class) in (0..).zip(&group.classes) {
                let rank = self.blocks.get(class.first as usize).map_or(VACANT, |block| {
                    rank(self.idle, block.open, class.weight, group.leaders.turn(slot))
                });
                group.leaders.set(slot, rank);
            }
            group.leaders.replay();
            group.left = 0;
            group.classes.shrink_to_fit();
            group.leaders.shrink();
        }
        // Room for some more levels of load than there are.
        self.blocks.shrink_to(self.blocks.len() + self.blocks.len() / 16 + 16);
    }

    /// Takes everyone out of rotation; open picks stay.
    fn clear(&mut self) {
        for node in &mut self.nodes {
            node.block = NONE;
        }
        self.blocks.clear();
        self.free = NONE;
        self.groups.clear();
    }

    /// Puts an unlinked member into a class, without playing any match.
    fn enter(&mut self, seat: u32, pool: Pool, slot: u32) {
        let open = self.nodes[seat as usize].open;
        // Find the last block with at most as many open picks.
        let mut before = NONE;
        let mut next = self.groups[pool.index()].classes[slot as usize].first;
        while next != NONE && self.blocks[next as usize].open <= open {
            before = next;
            next = self.blocks[next as usize].next;
        }
        let block = if before != NONE && self.blocks[before as usize].open == open {
            before
        } else {
            self.insert_block(pool, slot, open, before, next)
        };
        self.append(block, seat, open);
    }

    /// Picks the least loaded member of the pool, and opens it. Answers also whether the
    /// turn of its class has ended, and so perhaps what comes next.
    #[inline(always)]
    pub(in crate::balance) fn pick(&mut self, pool: Pool) -> Option<(u32, bool)> {
        let group = self.groups.get_mut(pool.index())?;
        let slot = group.leaders.leader();
        let first = group.classes.get(slot as usize)?.first;
        let block = *self.blocks.get(first as usize)?;
        // A turn ends when everyone who was there when it began was picked.
        let left = if group.left == 0 { block.count } else { group.left } - 1;
        group.left = left;
        self.raise(block.head, first, block);
        let ends = left == 0 || block.count == 1;
        if ends {
            self.end_turn(pool, slot);
        }
        Some((block.head, ends))
    }

    /// Opens a pick of a member that is linked.
    pub(in crate::balance) fn open_pick(&mut self, seat: u32) {
        let from = self.nodes[seat as usize].block;
        let Some(block) = self.blocks.get(from as usize).copied() else { return };
        self.raise(seat, from, block);
        self.end_turn(block.pool, block.slot);
    }

    /// The least loaded member of the pool that `accept` takes, and its load by weight.
    pub(in crate::balance) fn least_where(
        &self,
        pool: Pool,
        accept: impl Fn(u32) -> bool,
    ) -> Option<(u64, u32)> {
        let group = self.groups.get(pool.index())?;
        let best = (0..).zip(&group.classes).filter_map(|(slot, class)| {
            let (seat, open) = self.first_where(class.first, &accept)?;
            Some((rank(self.idle, open, class.weight, group.leaders.turn(slot)), seat))
        });
        best.min().map(|(rank, seat)| (load_of(rank), seat))
    }

    fn first_where(&self, first: u32, accept: impl Fn(u32) -> bool) -> Option<(u32, u32)> {
        let mut index = first;
        while let Some(block) = self.blocks.get(index as usize) {
            let mut seat = block.head;
            for _ in 0..block.count {
                if accept(seat) {
                    return Some((seat, block.open));
                }
                seat = self.nodes[seat as usize].next;
            }
            index = block.next;
        }
        None
    }

    /// Ends a pick. Also of a member that is out of rotation or has left. Answers
    /// whether a class has a new minimum.
    #[inline(always)]
    pub(in crate::balance) fn release(&mut self, seat: u32) -> bool {
        let Some(node) = self.nodes.get_mut(seat as usize) else { return false };
        let Some(open) = node.open.checked_sub(1) else { return false };
        let from = node.block;
        if from == NONE {
            node.open = open;
            return false;
        }
        let block = self.blocks[from as usize];
        let joins = self.blocks.get(block.prev as usize).is_some_and(|prev| prev.open == open);
        if block.count == 1 && !joins {
            node.open = open;
            self.blocks[from as usize].open = open;
        } else {
            let to = if joins {
                block.prev
            } else {
                self.insert_block(block.pool, block.slot, open, block.prev, from)
            };
            self.detach(seat, from);
            self.append(to, seat, open);
        }
        // Only that can change who leads.
        let is_least = block.prev == NONE;
        if is_least {
            let group = &mut self.groups[block.pool.index()];
            let turn = group.leaders.turn(block.slot);
            let weight = group.classes[block.slot as usize].weight;
            group.leaders.lower(block.slot, rank(self.idle, open, weight, turn));
            group.left = 0;
        }
        is_least
    }

    /// One more open pick: to the block above.
    #[inline(always)]
    fn raise(&mut self, seat: u32, from: u32, block: Block) {
        let open = block.open + 1;
        let joins = self.blocks.get(block.next as usize).is_some_and(|next| next.open == open);
        if block.count == 1 && !joins {
            self.nodes[seat as usize].open = open;
            self.blocks[from as usize].open = open;
            return;
        }
        let to = if joins {
            block.next
        } else {
            self.insert_block(block.pool, block.slot, open, from, block.next)
        };
        self.detach(seat, from);
        self.append(to, seat, open);
    }

    fn unlink(&mut self, seat: u32) {
        let from = self.nodes[seat as usize].block;
        let Block { pool, slot, .. } = self.blocks[from as usize];
        self.detach(seat, from);
        self.nodes[seat as usize].block = NONE;
        let group = &mut self.groups[pool.index()];
        let Class { weight, first } = group.classes[slot as usize];
        if first == NONE {
            if let Ok(entry) = group.index.find_entry(hash(weight), |other| *other == slot) {
                entry.remove();
            }
            group.vacant.push(slot);
        }
        self.settle(pool, slot);
    }

    /// Takes a member out of its block, and the block out if it is then empty.
    #[inline(always)]
    fn detach(&mut self, seat: u32, from: u32) {
        let Node { prev, next, .. } = self.nodes[seat as usize];
        let block = &mut self.blocks[from as usize];
        block.count -= 1;
        if block.count == 0 {
            self.remove_block(from);
        } else if block.head == seat {
            block.head = next;
        } else if block.tail == seat {
            block.tail = prev;
        } else {
            self.nodes[prev as usize].next = next;
            self.nodes[next as usize].prev = prev;
        }
    }

    #[inline(always)]
    fn append(&mut self, to: u32, seat: u32, open: u32) {
        let block = &mut self.blocks[to as usize];
        let tail = std::mem::replace(&mut block.tail, seat);
        block.count += 1;
        if block.count == 1 {
            block.head = seat;
        } else {
            self.nodes[tail as usize].next = seat;
        }
        self.nodes[seat as usize] = Node { open, block: to, prev: tail, next: NONE };
    }

    /// A block without members, for one to be appended at once.
    fn insert_block(&mut self, pool: Pool, slot: u32, open: u32, prev: u32, next: u32) -> u32 {
        let block = Block { open, count: 0, head: NONE, tail: NONE, prev, next, slot, pool };
        let index = if self.free == NONE {
            self.blocks.push(block);
            self.blocks.len() as u32 - 1
        } else {
            let index = self.free;
            self.free = std::mem::replace(&mut self.blocks[index as usize], block).next;
            index
        };
        if prev == NONE {
            self.groups[pool.index()].classes[slot as usize].first = index;
        } else {
            self.blocks[prev as usize].next = index;
        }
        if next != NONE {
            self.blocks[next as usize].prev = index;
        }
        index
    }

    fn remove_block(&mut self, index: u32) {
        let Block { pool, slot, prev, next, .. } = self.blocks[index as usize];
        if prev == NONE {
            self.groups[pool.index()].classes[slot as usize].first = next;
        } else {
            self.blocks[prev as usize].next = next;
        }
        if next != NONE {
            self.blocks[next as usize].prev = prev;
        }
        self.blocks[index as usize].next = std::mem::replace(&mut self.free, index);
    }

    /// The slot of a weight in a pool, made if need be.
    fn slot(&mut self, pool: Pool, weight: u32) -> u32 {
        if self.groups.len() <= pool.index() {
            self.groups.resize_with(pool.index() + 1, Group::default);
        }
        let Group { classes, leaders, vacant, index, .. } = &mut self.groups[pool.index()];
        let is_it = |slot: &u32| classes[*slot as usize].weight == weight;
        if let Some(&slot) = index.find(hash(weight), is_it) {
            return slot;
        }
        let class = Class { weight, first: NONE };
        let slot = match vacant.pop() {
            Some(slot) => {
                classes[slot as usize] = class;
                slot
            }
            None => {
                classes.push(class);
                leaders.push();
                classes.len() as u32 - 1
            }
        };
        // No two classes wait equally long. Vacant until a member has entered.
        self.turn += 1;
        leaders.set(slot, VACANT << 64 | Rank::from(self.turn));
        index.insert_unique(hash(weight), slot, |slot| hash(classes[*slot as usize].weight));
        slot
    }

    /// The turn of a class has ended, or its first block has.
    #[inline(always)]
    fn end_turn(&mut self, pool: Pool, slot: u32) {
        self.turn += 1;
        let group = &mut self.groups[pool.index()];
        let Class { weight, first } = group.classes[slot as usize];
        let rank = rank(self.idle, self.blocks[first as usize].open, weight, self.turn);
        group.leaders.settle(slot, rank);
        group.left = 0;
    }

    /// A class has gained or lost a member.
    fn settle(&mut self, pool: Pool, slot: u32) {
        let group = &mut self.groups[pool.index()];
        let Class { weight, first } = group.classes[slot as usize];
        let turn = group.leaders.turn(slot);
        let rank =
            self.blocks.get(first as usize).map_or(VACANT, |block| rank(self.idle, block.open, weight, turn));
        group.leaders.settle(slot, rank);
        group.left = 0;
    }

    /// What the next pick from a pool has to carry, by weight; the largest number when
    /// there is nobody.
    #[inline(always)]
    pub(in crate::balance) fn load(&self, pool: Pool) -> u64 {
        self.groups.get(pool.index()).map_or(u64::MAX, |group| load_of(group.leaders.least()))
    }

    /// Turns so far.
    pub(in crate::balance) fn turn(&self) -> u64 {
        self.turn
    }

    /// The turn that the leader of a pool had last: later than a moment if everyone
    /// that ties has had one since.
    #[inline(always)]
    pub(in crate::balance) fn last_turn(&self, pool: Pool) -> u64 {
        self.groups.get(pool.index()).map_or(0, |group| turn_of(group.leaders.least()))
    }

    /// Starts again with these seats, out of rotation, with so many open picks each.
    pub(in crate::balance) fn restore(&mut self, open: impl Iterator<Item = u32>) {
        self.clear();
        self.nodes = open.map(|open| Node { open, ..Node::UNLINKED }).collect();
    }

    /// Bytes on the heap.
    pub(in crate::balance) fn heap_bytes(&self) -> usize {
        let groups = self.groups.iter().map(|group| {
            group.classes.capacity() * size_of::<Class>()
                + group.leaders.heap_bytes()
                + group.vacant.capacity() * 4
                + group.index.allocation_size()
        });
        self.nodes.capacity() * size_of::<Node>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.groups.capacity() * size_of::<Group>()
            + groups.sum::<usize>()
    }
}

/// Orders by load / weight, and among equals by turn: who waited longer leads.
///
/// The load is what a member has to carry after one more pick. The quotient is
/// exact enough: loads take 33 bits and weights 18, so that two different
/// fractions differ by a part of 2^51 at least, and a rounded quotient is off by a
/// part of 2^53 at most. Equal fractions round alike, and bits of positive floats
/// are in the order of their values.
#[inline(always)]
fn rank(idle: Idle, open: u32, weight: u32, turn: u64) -> Rank {
    let load = match (open, idle) {
        (0, Idle::First) => 0,
        _ => u64::from(open) + 1,
    };
    let quotient = load as f64 / f64::from(weight);
    Rank::from(quotient.to_bits()) << 64 | Rank::from(turn)
}

fn hash(weight: u32) -> u64 {
    fold(weight.into(), GOLDEN)
}

#[cfg(test)]
mod tests;
