//! Weighted least connections: the exact minimum of (open + 1) / weight in
//! constant time.
//!
//! Members of one weight form a *class*. A class keeps its members in *blocks*
//! of equal open count, blocks in ascending order, members of a block in the
//! order they came (so ties rotate). A pick or a release moves one member to the
//! neighbouring block: a few links. Only between classes is there anything to
//! compare, and a small tournament over the classes remembers who leads. Keys are
//! compared as fractions, exactly.
//!
//! One lock around it makes every pick the true minimum of its moment.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "seats, blocks and classes are indices into this file's own slabs; a broken link is a bug here"
)]

use std::collections::HashMap;

use super::pool::Pool;

/// No index.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    open: u32,
    prev: u32,
    next: u32,
    /// The block it is linked into, or `NONE`.
    block: u32,
}

impl Node {
    const UNLINKED: Self = Self { open: 0, prev: NONE, next: NONE, block: NONE };
}

#[derive(Debug, Clone, Copy)]
struct Block {
    open: u32,
    class: u32,
    head: u32,
    tail: u32,
    prev: u32,
    next: u32,
}

#[derive(Debug, Clone, Copy)]
struct Class {
    weight: u32,
    pool: Pool,
    /// The block with the fewest open picks; `NONE` when the class is free.
    first: u32,
    /// The open picks there, and its place in the order of who leads, as of its
    /// last match.
    least: u32,
    rank: u128,
    /// Its place among the leaves of the pool's tournament.
    leaf: u32,
    /// When it last gave a member, or was made; among equals the longest waiting leads.
    turn: u64,
}

/// A tournament over the classes of a pool: `winners[1]` leads.
#[derive(Debug, Default)]
struct Tournament {
    winners: Vec<u32>,
    free: Vec<u32>,
}

impl Tournament {
    fn leaves(&self) -> usize {
        self.winners.len() / 2
    }
}

/// How members without an open pick compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// As (0 + 1) / weight.
    Weighed,
    /// Before everyone else.
    First,
}

/// Open counts of all seats, and the order of those in rotation.
#[derive(Debug)]
pub(super) struct LeastConnections {
    nodes: Vec<Node>,
    blocks: Vec<Block>,
    free_blocks: Vec<u32>,
    classes: Vec<Class>,
    free_classes: Vec<u32>,
    index: HashMap<(u8, u32), u32>,
    pools: [Tournament; Pool::COUNT],
    idle: Idle,
    turn: u64,
}

impl LeastConnections {
    pub(super) fn new(idle: Idle) -> Self {
        Self {
            nodes: Vec::new(),
            blocks: Vec::new(),
            free_blocks: Vec::new(),
            classes: Vec::new(),
            free_classes: Vec::new(),
            index: HashMap::new(),
            pools: Default::default(),
            idle,
            turn: 0,
        }
    }

    /// Makes room for seats below `seats`.
    pub(super) fn reserve_seats(&mut self, seats: usize) {
        if self.nodes.len() < seats {
            self.nodes.resize(seats, Node::UNLINKED);
        }
    }

    /// Open picks of a seat, linked or not.
    pub(super) fn open(&self, seat: u32) -> u32 {
        self.nodes.get(seat as usize).map_or(0, |node| node.open)
    }

    /// Puts a member into rotation, or into another pool or class; `None` takes
    /// it out. Its open picks stay.
    pub(super) fn link(&mut self, seat: u32, place: Option<(Pool, u32)>) {
        self.reserve_seats(seat as usize + 1);
        if self.nodes[seat as usize].block != NONE {
            self.unlink(seat);
        }
        if let Some((pool, weight)) = place {
            let class = self.class(pool, weight);
            self.enter(seat, class);
            self.sift(class);
        }
    }

    /// Puts every seat, in order, where `places` says, as `link` would one by one.
    pub(super) fn link_all(&mut self, places: impl Iterator<Item = Option<(Pool, u32)>>) {
        self.clear();
        // Members of one weight often come together, and then need no look-up.
        let mut last = None;
        for (seat, place) in (0..).zip(places) {
            self.reserve_seats(seat as usize + 1);
            let Some(place) = place else { continue };
            let class = match last {
                Some((other, class)) if other == place => class,
                _ => self.class(place.0, place.1),
            };
            last = Some((place, class));
            self.enter(seat, class);
        }
        for pool in Pool::ALL {
            self.play(pool);
        }
    }

    /// Takes everyone out of rotation; open picks stay.
    fn clear(&mut self) {
        for node in &mut self.nodes {
            (node.prev, node.next, node.block) = (NONE, NONE, NONE);
        }
        self.blocks.clear();
        self.free_blocks.clear();
        self.classes.clear();
        self.free_classes.clear();
        self.index.clear();
        self.pools = Default::default();
    }

    /// Puts an unlinked member into a class, without playing any match.
    fn enter(&mut self, seat: u32, class: u32) {
        let open = self.nodes[seat as usize].open;
        // Find the last block with at most as many open picks.
        let mut before = NONE;
        let mut next = self.classes[class as usize].first;
        while next != NONE && self.blocks[next as usize].open <= open {
            before = next;
            next = self.blocks[next as usize].next;
        }
        let block = if before != NONE && self.blocks[before as usize].open == open {
            before
        } else {
            self.insert_block(class, open, before, next)
        };
        self.append(block, seat);
    }

    /// Picks the least loaded member of the pool that `accept` takes, and opens it.
    #[inline]
    pub(super) fn pick(&mut self, pool: Pool) -> Option<u32> {
        let class = self.leader(pool)?;
        let seat = self.blocks[self.classes[class as usize].first as usize].head;
        self.open_pick(seat);
        Some(seat)
    }

    /// As `pick`, among the members that `accept` takes.
    pub(super) fn pick_where(&mut self, pool: Pool, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let seat = self.least_where(pool, accept)?;
        self.open_pick(seat);
        Some(seat)
    }

    /// Who `pick_where` would pick.
    pub(super) fn least_where(&self, pool: Pool, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let tournament = &self.pools[pool.index()];
        let classes = tournament.winners[tournament.leaves()..].iter().filter(|class| **class != NONE);
        let best = classes.filter_map(|&class| {
            let details = &self.classes[class as usize];
            let (seat, open) = self.first_where(details.first, &accept)?;
            Some((rank(load(self.idle, open), details.weight, details.turn), seat))
        });
        best.min().map(|(_, seat)| seat)
    }

    fn first_where(&self, first: u32, accept: impl Fn(u32) -> bool) -> Option<(u32, u32)> {
        let mut block = first;
        while block != NONE {
            let mut seat = self.blocks[block as usize].head;
            while seat != NONE {
                if accept(seat) {
                    return Some((seat, self.blocks[block as usize].open));
                }
                seat = self.nodes[seat as usize].next;
            }
            block = self.blocks[block as usize].next;
        }
        None
    }

    fn leader(&self, pool: Pool) -> Option<u32> {
        let class = *self.pools[pool.index()].winners.get(1)?;
        (class != NONE).then_some(class)
    }

    fn open_pick(&mut self, seat: u32) {
        let class = self.move_up(seat);
        self.turn += 1;
        self.classes[class as usize].turn = self.turn;
        self.sift(class);
    }

    /// Ends a pick. Also of a member that is out of rotation or has left.
    #[inline]
    pub(super) fn release(&mut self, seat: u32) {
        let Some(node) = self.nodes.get(seat as usize).copied() else { return };
        if node.open == 0 {
            return;
        }
        if node.block == NONE {
            self.nodes[seat as usize].open -= 1;
            return;
        }
        let class = self.blocks[node.block as usize].class;
        let least = self.classes[class as usize].least;
        self.move_down(seat);
        // Only a new minimum can change who leads.
        if node.open <= least {
            self.sift(class);
        }
    }

    /// One more open pick: to the block above.
    fn move_up(&mut self, seat: u32) -> u32 {
        let from = self.nodes[seat as usize].block;
        let Block { open, class, next, head, tail, .. } = self.blocks[from as usize];
        self.nodes[seat as usize].open = open + 1;
        let joins = next != NONE && self.blocks[next as usize].open == open + 1;
        if !joins && head == tail {
            self.blocks[from as usize].open = open + 1;
            return class;
        }
        let to = if joins { next } else { self.insert_block(class, open + 1, from, next) };
        self.detach(seat);
        self.append(to, seat);
        class
    }

    /// One open pick fewer: to the block below.
    fn move_down(&mut self, seat: u32) {
        let from = self.nodes[seat as usize].block;
        let Block { open, class, prev, head, tail, .. } = self.blocks[from as usize];
        self.nodes[seat as usize].open = open - 1;
        let joins = prev != NONE && self.blocks[prev as usize].open == open - 1;
        if !joins && head == tail {
            self.blocks[from as usize].open = open - 1;
            return;
        }
        let to = if joins { prev } else { self.insert_block(class, open - 1, prev, from) };
        self.detach(seat);
        self.append(to, seat);
    }

    fn unlink(&mut self, seat: u32) {
        let class = self.blocks[self.nodes[seat as usize].block as usize].class;
        self.detach(seat);
        self.nodes[seat as usize].block = NONE;
        if self.classes[class as usize].first == NONE {
            self.free_class(class);
        } else {
            self.sift(class);
        }
    }

    /// Takes a member out of its block, and the block out if it is then empty.
    fn detach(&mut self, seat: u32) {
        let Node { prev, next, block, .. } = self.nodes[seat as usize];
        if prev == NONE {
            self.blocks[block as usize].head = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next == NONE {
            self.blocks[block as usize].tail = prev;
        } else {
            self.nodes[next as usize].prev = prev;
        }
        if prev == NONE && next == NONE {
            self.remove_block(block);
        }
    }

    fn append(&mut self, block: u32, seat: u32) {
        let tail = std::mem::replace(&mut self.blocks[block as usize].tail, seat);
        if tail == NONE {
            self.blocks[block as usize].head = seat;
        } else {
            self.nodes[tail as usize].next = seat;
        }
        let node = &mut self.nodes[seat as usize];
        (node.prev, node.next, node.block) = (tail, NONE, block);
    }

    fn insert_block(&mut self, class: u32, open: u32, prev: u32, next: u32) -> u32 {
        let block = Block { open, class, head: NONE, tail: NONE, prev, next };
        let index = match self.free_blocks.pop() {
            Some(index) => {
                self.blocks[index as usize] = block;
                index
            }
            None => {
                self.blocks.push(block);
                self.blocks.len() as u32 - 1
            }
        };
        if prev == NONE {
            self.classes[class as usize].first = index;
        } else {
            self.blocks[prev as usize].next = index;
        }
        if next != NONE {
            self.blocks[next as usize].prev = index;
        }
        index
    }

    fn remove_block(&mut self, index: u32) {
        let Block { class, prev, next, .. } = self.blocks[index as usize];
        if prev == NONE {
            self.classes[class as usize].first = next;
        } else {
            self.blocks[prev as usize].next = next;
        }
        if next != NONE {
            self.blocks[next as usize].prev = prev;
        }
        self.free_blocks.push(index);
    }

    /// The class of a weight in a pool, made if need be.
    fn class(&mut self, pool: Pool, weight: u32) -> u32 {
        if let Some(&class) = self.index.get(&(pool as u8, weight)) {
            return class;
        }
        let leaf = self.free_leaf(pool);
        // No two classes wait equally long, so that every match has one winner.
        self.turn += 1;
        let class = Class { weight, pool, first: NONE, least: NONE, rank: u128::MAX, leaf, turn: self.turn };
        let index = match self.free_classes.pop() {
            Some(index) => {
                self.classes[index as usize] = class;
                index
            }
            None => {
                self.classes.push(class);
                self.classes.len() as u32 - 1
            }
        };
        self.index.insert((pool as u8, weight), index);
        let tournament = &mut self.pools[pool.index()];
        let leaves = tournament.leaves();
        tournament.winners[leaves + leaf as usize] = index;
        index
    }

    fn free_class(&mut self, class: u32) {
        let Class { weight, pool, leaf, .. } = self.classes[class as usize];
        self.index.remove(&(pool as u8, weight));
        let tournament = &mut self.pools[pool.index()];
        let leaves = tournament.leaves();
        tournament.winners[leaves + leaf as usize] = NONE;
        tournament.free.push(leaf);
        self.sift_leaf(pool, leaf);
        self.free_classes.push(class);
    }

    fn free_leaf(&mut self, pool: Pool) -> u32 {
        if let Some(leaf) = self.pools[pool.index()].free.pop() {
            return leaf;
        }
        // Twice the leaves, the old ones in front; then play every match again.
        let tournament = &mut self.pools[pool.index()];
        let old = tournament.leaves();
        let leaves = (2 * old).max(1);
        let classes = tournament.winners.split_off(old);
        tournament.winners = vec![NONE; leaves];
        tournament.winners.extend(&classes);
        tournament.winners.resize(2 * leaves, NONE);
        tournament.free.extend((old as u32..leaves as u32).rev());
        self.play(pool);
        self.pools[pool.index()].free.pop().unwrap_or_default()
    }

    /// Plays all matches of a pool.
    fn play(&mut self, pool: Pool) {
        let leaves = self.pools[pool.index()].leaves();
        for leaf in leaves..2 * leaves {
            let class = self.pools[pool.index()].winners[leaf];
            if class != NONE {
                self.measure(class);
            }
        }
        for node in (1..leaves).rev() {
            let winners = &mut self.pools[pool.index()].winners;
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            winners[node] = winner(&self.classes, left, right);
        }
    }

    /// Notes where a class stands by its first block and its turn.
    #[inline]
    fn measure(&mut self, class: u32) {
        let details = &mut self.classes[class as usize];
        // A class that is just being made has no block yet; it comes last.
        let Some(block) = self.blocks.get(details.first as usize) else { return };
        details.least = block.open;
        details.rank = rank(load(self.idle, block.open), details.weight, details.turn);
    }

    /// A class's minimum or turn has changed: plays its matches again.
    #[inline]
    fn sift(&mut self, class: u32) {
        self.measure(class);
        let Class { pool, leaf, .. } = self.classes[class as usize];
        self.sift_leaf(pool, leaf);
    }

    fn sift_leaf(&mut self, pool: Pool, leaf: u32) {
        let Tournament { winners, .. } = &mut self.pools[pool.index()];
        let mut node = winners.len() / 2 + leaf as usize;
        let mut leader = winners[node];
        while node > 1 {
            leader = winner(&self.classes, leader, winners[node ^ 1]);
            node /= 2;
            winners[node] = leader;
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.classes.capacity() * size_of::<Class>()
            + self.index.capacity() * size_of::<((u8, u32), u32)>()
            + self
                .pools
                .iter()
                .map(|pool| 4 * (pool.winners.capacity() + pool.free.capacity()))
                .sum::<usize>()
    }
}

/// What a member with so many open picks has to carry after one more.
#[inline(always)]
fn load(idle: Idle, open: u32) -> u64 {
    match (open, idle) {
        (0, Idle::First) => 0,
        _ => u64::from(open) + 1,
    }
}

/// Orders by load / weight, and among equals by turn: who waited longer leads.
///
/// The quotient is exact enough: loads take 33 bits and weights 18, so that two
/// different fractions differ by a part of 2^51 at least, and a rounded quotient is
/// off by a part of 2^53 at most. Equal fractions round alike, and bits of
/// positive floats are in the order of their values.
#[inline(always)]
fn rank(load: u64, weight: u32, turn: u64) -> u128 {
    let quotient = load as f64 / f64::from(weight);
    u128::from(quotient.to_bits()) << 64 | u128::from(turn)
}

/// Who of two classes leads; of a class and nobody, the class.
#[inline(always)]
fn winner(classes: &[Class], one: u32, other: u32) -> u32 {
    let rank = |class: u32| classes.get(class as usize).map_or(u128::MAX, |class| class.rank);
    if rank(other) < rank(one) { other } else { one }
}

#[cfg(test)]
mod tests;
