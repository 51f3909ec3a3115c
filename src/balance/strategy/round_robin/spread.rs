//! Orders too long to write out: whose turn it is, computed from the slot.
//!
//! The cycle is laid out as *groups* of equal weight (as equal as whole numbers
//! allow), each at least as heavy as the heaviest member. Members fill the groups
//! in the order of their rows; who does not fit into the rest of one goes on in
//! the next, so that a member is in two groups at most.
//!
//! - Groups rotate. Some are heavier by one than the others: these *long* groups
//!   rotate among themselves, and so do the short ones, and both kinds alternate
//!   in proportion.
//! - Inside a group a binary tree splits its turns. Of the turns of a node the
//!   first child takes its share, rounded to the nearest: never off by more than
//!   half a turn. Cut members come first, then the heavier half, and so on.
//!
//! Together nobody is ever 2.5 picks away from its share. A group is off by
//! less than one turn. A split adds half a turn, and passes on what came from above
//! in proportion to the child. A cut member has two parts: half a turn, and half
//! plus at most another half; what comes from the groups adds up to at most one,
//! as the member is not heavier than a group. For a whole member the splits above
//! it add up to 1.5 at most: below the two cut members a child is a leaf, or has
//! at most two thirds of its node, so that what comes from above fades.
//!
//! Consecutive slots visit consecutive groups, so that memory is read in order.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "indices and counts come from this file's own trees, never from a peer"
)]

use crate::balance::hash::scale;

/// One member's part in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Who.
    pub(super) row: u32,
    /// Above 0.
    pub(super) weight: u32,
}

/// Marks a child that is a member rather than a node.
const LEAF: u32 = 1 << 31;

/// A half of a share of 32 bits: shares are rounded to the nearest turn.
const HALF: u64 = 1 << 31;

/// Divides the turns of a group, or of a part of it, between two.
#[derive(Debug, Clone, Copy)]
struct Split {
    /// The part of the turns that the first child takes, in 1 / 2^32.
    share: u32,
    /// A node, or with `LEAF` a row.
    first: u32,
    second: u32,
}

impl Split {
    /// Turns of the first child among so many of the node.
    #[inline(always)]
    fn first_among(self, turns: u64) -> u64 {
        (turns * u64::from(self.share) + HALF) >> 32
    }
}

/// The order of a long cycle.
#[derive(Debug)]
pub(super) struct Spread {
    /// The part of all slots that goes to long groups, in 1 / 2^64.
    long_share: u64,
    long: GroupRing,
    short: GroupRing,
    /// A node per group, or with `LEAF` its only member; long groups first.
    roots: Box<[u32]>,
    nodes: Box<[Split]>,
}

/// GroupRing that rotate.
#[derive(Debug, Clone, Copy)]
struct GroupRing {
    /// The first of them among the roots.
    start: u64,
    count: u64,
    /// 2^64 divided by the count, rounded down.
    inverse: u64,
}

impl GroupRing {
    fn new(start: u64, count: u64) -> Self {
        // No slot goes to a ring without groups.
        Self { start, count, inverse: u64::MAX.checked_div(count).unwrap_or(0) }
    }

    /// Which group has a turn of the rotation, and how many it had before.
    #[inline(always)]
    fn at(self, turn: u64) -> (u64, u64) {
        // Rounded down, the quotient is at most one too small.
        let quotient = scale(turn, self.inverse);
        let rest = turn - quotient * self.count;
        let short = u64::from(rest >= self.count);
        (self.start + rest - short * self.count, quotient + short)
    }
}

impl Spread {
    /// The order of these members, weights divided by the divisor.
    pub(super) fn new(parts: &[Part], divisor: u32) -> Self {
        let weight = |part: &Part| u64::from(part.weight / divisor);
        let total: u64 = parts.iter().map(weight).sum();
        let heaviest = parts.iter().map(weight).fold(1, u64::max);
        let count = (total / heaviest).max(1);
        let (least, long) = (total / count, total % count);
        let mut trees = Trees {
            roots: Vec::with_capacity(count as usize),
            // Every group and every cut adds a piece, every group takes one root.
            nodes: Vec::with_capacity(parts.len()),
        };
        let mut group = GroupParts::default();
        let mut room = least + u64::from(long > 0);
        for part in parts {
            let mut rest = weight(part);
            let mut cut = false;
            while rest > 0 {
                let piece = GroupPart { weight: rest.min(room) as u32, row: part.row };
                rest -= u64::from(piece.weight);
                room -= u64::from(piece.weight);
                if cut || rest > 0 {
                    group.cut.push(piece);
                } else {
                    group.whole.push(piece);
                }
                cut = true;
                if room == 0 {
                    trees.plant(&mut group);
                    room = least + u64::from((trees.roots.len() as u64) < long);
                }
            }
        }
        // Of all slots: one rounding, and the cycle ends where it should.
        let long_slots = u128::from(long * (least + 1)) << 64;
        Self {
            long_share: (long_slots / u128::from(total.max(1))) as u64,
            long: GroupRing::new(0, long),
            short: GroupRing::new(long, count - long),
            roots: trees.roots.into(),
            nodes: trees.nodes.into(),
        }
    }

    /// Who has this slot of the cycle.
    #[inline]
    pub(super) fn at(&self, slot: u64) -> u32 {
        let before = self.long_among(slot);
        let is_long = self.long_among(slot + 1) > before;
        let (group, mut turn) = if is_long { self.long.at(before) } else { self.short.at(slot - before) };
        let mut child = self.roots[group as usize];
        while child & LEAF == 0 {
            let node = self.nodes[child as usize];
            let first = node.first_among(turn);
            let is_first = node.first_among(turn + 1) > first;
            (child, turn) = if is_first { (node.first, first) } else { (node.second, turn - first) };
        }
        child & !LEAF
    }

    /// How many of the first slots go to long groups.
    #[inline(always)]
    fn long_among(&self, slots: u64) -> u64 {
        ((u128::from(slots) * u128::from(self.long_share) + (1 << 63)) >> 64) as u64
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.roots) + size_of_val(&*self.nodes)
    }
}

/// What a member has in a group.
#[derive(Debug, Clone, Copy)]
struct GroupPart {
    weight: u32,
    row: u32,
}

/// The pieces of a group.
#[derive(Debug, Default)]
struct GroupParts {
    /// Of members that are also in the group before or behind.
    cut: Vec<GroupPart>,
    whole: Vec<GroupPart>,
}

/// The trees of all groups so far.
#[derive(Debug)]
struct Trees {
    roots: Vec<u32>,
    nodes: Vec<Split>,
}

impl Trees {
    /// Turns the group into a tree, and leaves it empty.
    fn plant(&mut self, group: &mut GroupParts) {
        group.whole.sort_by_key(|piece| std::cmp::Reverse(piece.weight));
        let mut total: u64 = group.cut.iter().chain(&group.whole).map(|piece| u64::from(piece.weight)).sum();
        let mut cut = std::mem::take(&mut group.cut);
        let root = if group.whole.is_empty() { cut.pop().map(leaf) } else { None };
        // Each cut piece against the rest; the last of them, where nobody is
        // whole, is the rest itself.
        let mut parent: Option<usize> = None;
        let mut top = None;
        for piece in cut.drain(..) {
            let node = self.push(u64::from(piece.weight), total, leaf(piece));
            total -= u64::from(piece.weight);
            self.hang(parent, &mut top, node as u32);
            parent = Some(node);
        }
        let rest = root.unwrap_or_else(|| self.tree(&group.whole, total));
        self.hang(parent, &mut top, rest);
        self.roots.push(top.unwrap_or(rest));
        group.cut = cut;
        group.whole.clear();
    }

    fn hang(&mut self, parent: Option<usize>, top: &mut Option<u32>, child: u32) {
        match parent {
            Some(parent) => self.nodes[parent].second = child,
            None => *top = Some(child),
        }
    }

    /// A node that has its second child yet to come.
    fn push(&mut self, weight: u64, total: u64, first: u32) -> usize {
        // Rounded to the nearest; below 2^32 as the first is lighter than all.
        let share = ((weight << 32) + total / 2) / total;
        self.nodes.push(Split { share: share as u32, first, second: LEAF });
        self.nodes.len() - 1
    }

    /// The tree of pieces in descending order: halves as equal as can be.
    fn tree(&mut self, pieces: &[GroupPart], total: u64) -> u32 {
        if let [piece] = pieces {
            return leaf(*piece);
        }
        let mut taken = 0;
        let mut count = 0;
        for piece in &pieces[..pieces.len() - 1] {
            let more = taken + u64::from(piece.weight);
            // The first half ends where it is nearest to the half.
            if count > 0 && (2 * more).abs_diff(total) >= (2 * taken).abs_diff(total) {
                break;
            }
            taken = more;
            count += 1;
        }
        let (heavy, light) = pieces.split_at(count);
        let node = self.push(taken, total, LEAF);
        self.nodes[node].first = self.tree(heavy, taken);
        self.nodes[node].second = self.tree(light, total - taken);
        node as u32
    }
}

fn leaf(piece: GroupPart) -> u32 {
    piece.row | LEAF
}
