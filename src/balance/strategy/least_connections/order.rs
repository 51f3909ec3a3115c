//! An exact order of members by (open + 1) / weight, in constant time.
//!
//! Members of one weight form a *class*. A class keeps its members in *blocks*
//! of equal open count, blocks in ascending order, members of a block in the
//! order they came. A pick or a release moves one member to the neighbouring
//! block, by a few links. Classes are compared only when the fewest open picks of one
//! change, or when its turn ends. Among equals a class keeps the lead until
//! everyone in its first block was picked, so that ties rotate over all members.
//!
//! A class of one member has no block: its node says what the block would. So members
//! that all weigh differently take little more room than others.

#![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a broken link is a bug")]

use super::classes::{Class, ClassIndex, Idle, NONE, PoolClasses, Rank, VACANT, load_of, rank};
use crate::balance::pool::MemberPool;

/// In place of a block's index: a member alone in its class, and its row.
const SOLO: u32 = 1 << 31;

/// A member. `prev` of a block's head and `next` of its tail mean nothing; alone, a
/// member has its slot and the index of its pool there.
#[derive(Debug, Clone, Copy)]
struct OrderNode {
    open: u32,
    /// The block it is linked into, `SOLO` and its row, or `NONE`.
    block: u32,
    prev: u32,
    next: u32,
}

impl OrderNode {
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
    pool: MemberPool,
}

/// How far the turn of the class that leads has come with a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClassTurn {
    /// The class still leads.
    GoesOn,
    /// Every member that was to have a turn has had it: perhaps another class leads.
    Ended,
}

/// Open counts of all rows, and the order of those in rotation.
#[derive(Debug)]
pub(super) struct Order {
    nodes: Vec<OrderNode>,
    blocks: Vec<Block>,
    /// The first free block; its `next` is the one after it.
    free: u32,
    /// By pool; as far as pools were used.
    groups: Vec<PoolClasses>,
    idle: Idle,
    /// Turns so far; among equals the class whose last turn is longest ago leads.
    pub(super) turn: u64,
}

impl Order {
    pub(super) fn new(idle: Idle) -> Self {
        Self { nodes: Vec::new(), blocks: Vec::new(), free: NONE, groups: Vec::new(), idle, turn: 0 }
    }

    pub(super) fn reserve_rows(&mut self, rows: usize) {
        if self.nodes.len() < rows {
            self.nodes.resize(rows, OrderNode::UNLINKED);
        }
    }

    /// Open picks of a row, linked or not.
    pub(super) fn open(&self, row: u32) -> u32 {
        self.nodes.get(row as usize).map_or(0, |node| node.open)
    }

    /// Puts a member into rotation, or into another pool or class; `None` takes
    /// it out. Its open picks stay.
    pub(super) fn link(&mut self, row: u32, place: Option<(MemberPool, u32)>) {
        self.reserve_rows(row as usize + 1);
        if self.nodes[row as usize].block != NONE {
            self.unlink(row);
        }
        if let Some((pool, weight)) = place {
            let slot = self.slot(pool, weight, None);
            self.enter(row, pool, slot);
            self.settle(pool, slot, self.groups[pool as usize].leaders.turn(slot));
        }
    }

    /// Puts every row, in order, where `places` says, as `link` would one by one.
    pub(super) fn link_all(&mut self, places: impl Iterator<Item = Option<(MemberPool, u32)>>) {
        self.clear();
        // Members of one weight often come together, and then need no look-up.
        let mut last = None;
        // Only for many members at once: a single one is as well off with a scan.
        let mut slots: [ClassIndex; MemberPool::COUNT] = Default::default();
        for (row, place) in (0..).zip(places) {
            self.reserve_rows(row as usize + 1);
            let Some((pool, weight)) = place else { continue };
            let slot = match last {
                Some((other, slot)) if other == place => slot,
                _ => self.slot(pool, weight, Some(&mut slots[pool as usize])),
            };
            last = Some((place, slot));
            self.enter(row, pool, slot);
        }
        for pool in MemberPool::ALL {
            let Some(group) = self.groups.get_mut(pool as usize) else { continue };
            for (slot, class) in (0..).zip(&group.classes) {
                let open = fewest(&self.blocks, &self.nodes, class.first);
                let turn = group.leaders.turn(slot);
                let rank = open.map_or(VACANT, |open| rank(self.idle, open, class.weight, turn));
                group.leaders.set(slot, rank);
            }
            group.leaders.replay();
            group.left = 0;
            group.shrink();
        }
        // Room for some more levels of load than there are.
        self.blocks.shrink_to(self.blocks.len() + self.blocks.len() / 16 + 16);
    }

    /// Takes everyone out of rotation; open picks stay.
    fn clear(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.block = NONE);
        self.blocks.clear();
        self.free = NONE;
        self.groups.clear();
    }

    /// Puts an unlinked member into a class, without playing any match.
    fn enter(&mut self, row: u32, pool: MemberPool, slot: u32) {
        let open = self.nodes[row as usize].open;
        let first = self.groups[pool as usize].classes[slot as usize].first;
        if first == NONE {
            self.groups[pool as usize].classes[slot as usize].first = SOLO | row;
            self.nodes[row as usize] =
                OrderNode { open, block: SOLO | row, prev: slot, next: pool as usize as u32 };
            return;
        }
        if first & SOLO != 0 {
            // Not alone any more.
            let other = first & !SOLO;
            let open = self.nodes[other as usize].open;
            let block = self.insert_block(pool, slot, open, NONE, NONE);
            self.append(block, other, open);
        }
        // Find the last block with at most as many open picks.
        let mut before = NONE;
        let mut next = self.groups[pool as usize].classes[slot as usize].first;
        while next != NONE && self.blocks[next as usize].open <= open {
            before = next;
            next = self.blocks[next as usize].next;
        }
        let block = if before != NONE && self.blocks[before as usize].open == open {
            before
        } else {
            self.insert_block(pool, slot, open, before, next)
        };
        self.append(block, row, open);
    }

    /// Picks the least loaded member of the pool, and opens it.
    #[inline(always)]
    pub(super) fn pick(&mut self, pool: MemberPool) -> Option<(u32, ClassTurn)> {
        let group = self.groups.get_mut(pool as usize)?;
        let slot = group.leaders.leader;
        let first = group.classes.get(slot as usize)?.first;
        let Some(block) = self.blocks.get(first as usize).copied() else {
            return self.raise_solo(first).map(|row| (row, ClassTurn::Ended));
        };
        // A turn ends when every member that was there when it began was picked.
        let left = if group.left == 0 { block.count } else { group.left } - 1;
        group.left = left;
        self.raise(block.head, first, block);
        if left > 0 && block.count > 1 {
            return Some((block.head, ClassTurn::GoesOn));
        }
        self.end_turn(pool, slot);
        Some((block.head, ClassTurn::Ended))
    }

    pub(super) fn open_pick(&mut self, row: u32) {
        let from = self.nodes[row as usize].block;
        let Some(block) = self.blocks.get(from as usize).copied() else {
            self.raise_solo(from);
            return;
        };
        self.raise(row, from, block);
        self.end_turn(block.pool, block.slot);
    }

    /// The least loaded member of the pool that `accept` takes, and its load by weight.
    pub(super) fn least_where(&self, pool: MemberPool, accept: impl Fn(u32) -> bool) -> Option<(u64, u32)> {
        let group = self.groups.get(pool as usize)?;
        let best = (0..).zip(&group.classes).filter_map(|(slot, class)| {
            let (row, open) = self.first_where(class.first, &accept)?;
            Some((rank(self.idle, open, class.weight, group.leaders.turn(slot)), row))
        });
        best.min().map(|(rank, row)| (load_of(rank), row))
    }

    fn first_where(&self, first: u32, accept: impl Fn(u32) -> bool) -> Option<(u32, u32)> {
        if first & SOLO != 0 {
            let node = self.nodes.get((first & !SOLO) as usize)?;
            return accept(first & !SOLO).then_some((first & !SOLO, node.open));
        }
        let mut index = first;
        while let Some(block) = self.blocks.get(index as usize) {
            let mut row = block.head;
            for _ in 0..block.count {
                if accept(row) {
                    return Some((row, block.open));
                }
                row = self.nodes[row as usize].next;
            }
            index = block.next;
        }
        None
    }

    /// Ends a pick. Also of a member that is out of rotation or has left. Answers
    /// whether a class has a new minimum.
    #[inline(always)]
    pub(super) fn release(&mut self, row: u32) -> bool {
        let Some(node) = self.nodes.get_mut(row as usize) else { return false };
        let Some(open) = node.open.checked_sub(1) else { return false };
        let from = node.block;
        let Some(block) = self.blocks.get(from as usize).copied() else {
            node.open = open;
            return from != NONE && self.lower_solo(row);
        };
        let joins = self.blocks.get(block.prev as usize).is_some_and(|prev| prev.open == open);
        if block.count == 1 && !joins {
            node.open = open;
            self.blocks[from as usize].open = open;
        } else {
            let insert =
                |order: &mut Self| order.insert_block(block.pool, block.slot, open, block.prev, from);
            let to = if joins { block.prev } else { insert(self) };
            self.detach(row, from);
            self.append(to, row, open);
        }
        // Only the least loaded block of a class can change which class leads.
        let is_least = block.prev == NONE;
        if is_least {
            self.lower(block.pool as usize, block.slot, open);
        }
        is_least
    }

    /// The fewest open picks of a class have become this.
    #[inline(always)]
    fn lower(&mut self, pool: usize, slot: u32, open: u32) {
        let group = &mut self.groups[pool];
        let turn = group.leaders.turn(slot);
        let weight = group.classes[slot as usize].weight;
        group.leaders.lower(slot, rank(self.idle, open, weight, turn));
        group.left = 0;
    }

    /// One more open pick of a member that is alone in its class, if `first` is one.
    #[inline(never)]
    fn raise_solo(&mut self, first: u32) -> Option<u32> {
        let row = first & !SOLO;
        let node = self.nodes.get_mut(row as usize)?;
        node.open += 1;
        let OrderNode { prev: slot, next: pool, .. } = *node;
        self.end_turn(MemberPool::ALL[pool as usize], slot);
        Some(row)
    }

    /// One open pick less of a member that is alone in its class.
    #[inline(never)]
    fn lower_solo(&mut self, row: u32) -> bool {
        let OrderNode { open, prev: slot, next: pool, .. } = self.nodes[row as usize];
        self.lower(pool as usize, slot, open);
        true
    }

    /// One more open pick: to the block above.
    #[inline(always)]
    fn raise(&mut self, row: u32, from: u32, block: Block) {
        let open = block.open + 1;
        let joins = self.blocks.get(block.next as usize).is_some_and(|next| next.open == open);
        if block.count == 1 && !joins {
            self.nodes[row as usize].open = open;
            self.blocks[from as usize].open = open;
            return;
        }
        let insert = |order: &mut Self| order.insert_block(block.pool, block.slot, open, from, block.next);
        let to = if joins { block.next } else { insert(self) };
        self.detach(row, from);
        self.append(to, row, open);
    }

    fn unlink(&mut self, row: u32) {
        let OrderNode { block: from, prev, next, .. } = self.nodes[row as usize];
        let (pool, slot) = match self.blocks.get(from as usize) {
            Some(block) => (block.pool, block.slot),
            None => (MemberPool::ALL[next as usize], prev),
        };
        if from & SOLO == 0 {
            self.detach(row, from);
        } else {
            self.groups[pool as usize].classes[slot as usize].first = NONE;
        }
        self.nodes[row as usize].block = NONE;
        let group = &mut self.groups[pool as usize];
        if group.classes[slot as usize].first == NONE {
            group.vacate(slot);
        }
        self.settle(pool, slot, self.groups[pool as usize].leaders.turn(slot));
    }

    /// Takes a member out of its block, and the block out if it is then empty.
    #[inline(always)]
    fn detach(&mut self, row: u32, from: u32) {
        let OrderNode { prev, next, .. } = self.nodes[row as usize];
        let block = &mut self.blocks[from as usize];
        block.count -= 1;
        if block.count == 0 {
            self.remove_block(from);
        } else if block.head == row {
            block.head = next;
        } else if block.tail == row {
            block.tail = prev;
        } else {
            self.nodes[prev as usize].next = next;
            self.nodes[next as usize].prev = prev;
        }
    }

    #[inline(always)]
    fn append(&mut self, to: u32, row: u32, open: u32) {
        let block = &mut self.blocks[to as usize];
        let tail = std::mem::replace(&mut block.tail, row);
        block.count += 1;
        if block.count == 1 {
            block.head = row;
        } else {
            self.nodes[tail as usize].next = row;
        }
        self.nodes[row as usize] = OrderNode { open, block: to, prev: tail, next: NONE };
    }

    /// A block without members, for one to be appended at once.
    fn insert_block(&mut self, pool: MemberPool, slot: u32, open: u32, prev: u32, next: u32) -> u32 {
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
            self.groups[pool as usize].classes[slot as usize].first = index;
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
            self.groups[pool as usize].classes[slot as usize].first = next;
        } else {
            self.blocks[prev as usize].next = next;
        }
        if next != NONE {
            self.blocks[next as usize].prev = prev;
        }
        self.blocks[index as usize].next = std::mem::replace(&mut self.free, index);
    }

    /// The slot of a weight in a pool, made if need be; found by an index of the slots in
    /// this pool, if there is one.
    fn slot(&mut self, pool: MemberPool, weight: u32, index: Option<&mut ClassIndex>) -> u32 {
        let group = group_of(&mut self.groups, pool);
        let found = match &index {
            Some(index) => index.slot_of(group, weight),
            None => group.slot_of(weight),
        };
        found.unwrap_or_else(|| {
            self.turn += 1;
            let slot = group.add(weight, self.turn);
            if let Some(index) = index {
                index.insert(group, slot);
            }
            slot
        })
    }

    /// The turn of a class has ended, or its first block has.
    #[inline(always)]
    fn end_turn(&mut self, pool: MemberPool, slot: u32) {
        self.turn += 1;
        self.settle(pool, slot, self.turn);
    }

    /// Compares a class that had its last turn then with the others of its pool.
    #[inline(always)]
    fn settle(&mut self, pool: MemberPool, slot: u32, turn: u64) {
        let group = &mut self.groups[pool as usize];
        let Class { weight, first } = group.classes[slot as usize];
        let open = fewest(&self.blocks, &self.nodes, first);
        let rank = open.map_or(VACANT, |open| rank(self.idle, open, weight, turn));
        group.leaders.settle(slot, rank);
        group.left = 0;
    }

    /// The rank of the class that leads in a pool: its load is what the next pick has to
    /// carry, by weight. Its last turn is later than a moment if every member that ties
    /// has had one since.
    #[inline(always)]
    pub(super) fn lead(&self, pool: MemberPool) -> Rank {
        self.groups.get(pool as usize).map_or(VACANT, |group| group.leaders.least())
    }

    /// Starts again with these rows, out of rotation, with so many open picks each.
    pub(super) fn restore(&mut self, open: impl Iterator<Item = u32>) {
        self.clear();
        self.nodes = open.map(|open| OrderNode { open, ..OrderNode::UNLINKED }).collect();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let groups = self.groups.iter().map(PoolClasses::heap_bytes);
        self.nodes.capacity() * size_of::<OrderNode>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.groups.capacity() * size_of::<PoolClasses>()
            + groups.sum::<usize>()
    }
}

/// The fewest open picks of a class, by its `first`.
#[inline(always)]
fn fewest(blocks: &[Block], nodes: &[OrderNode], first: u32) -> Option<u32> {
    match blocks.get(first as usize) {
        Some(block) => Some(block.open),
        None => nodes.get((first & !SOLO) as usize).map(|node| node.open),
    }
}

fn group_of(groups: &mut Vec<PoolClasses>, pool: MemberPool) -> &mut PoolClasses {
    if groups.len() <= pool as usize {
        groups.resize_with(pool as usize + 1, PoolClasses::default);
    }
    &mut groups[pool as usize]
}

#[cfg(test)]
mod tests;
