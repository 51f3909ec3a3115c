//! Orders too long to write out: whose turn it is, computed from the slot.
//!
//! The cycle is laid out as *groups* of equal weight (as equal as whole numbers
//! allow), each at least as heavy as the heaviest member. Members fill the groups
//! in the order of their rows. A member that does not fit into the rest of a group is
//! *cut*: it goes on in the next group, and so is in two groups at most.
//!
//! - Groups rotate. Some are heavier by one than the others: these *long* groups
//!   rotate among themselves, and so do the short ones; both kinds alternate in
//!   proportion.
//! - Inside a group a binary tree splits its turns. The first child of a node takes its
//!   share of the node's turns, rounded to the nearest: never off by more than half a
//!   turn. Cut members are split off first, then the heavier half, and so on.
//!
//! No member is ever 2.5 picks away from its share. A group is off by less than one
//! turn. A split adds half a turn, and passes on what came from above in proportion to
//! the child. A cut member has two parts: one adds half a turn, the other half a turn
//! plus at most another half; what comes from the groups adds up to at most one,
//! as the member is not heavier than a group. For a whole member the splits above
//! it add up to 1.5 at most: below the two cut members a child is a leaf, or has
//! at most two thirds of its node, so that what comes from above fades.
//!
//! Consecutive slots visit consecutive groups, so that memory is read in order.

#![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "the trees are its own")]

use crate::balance::hash::scale;

/// One member's part in a sequence, or in a group.
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

/// Groups that rotate.
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
    pub(super) fn new(parts: &[Part], divisor: u64) -> Self {
        let weight = |part: &Part| u64::from(part.weight) / divisor;
        let total: u64 = parts.iter().map(weight).sum();
        let heaviest = parts.iter().map(weight).fold(1, u64::max);
        let count = (total / heaviest).max(1);
        let (least, long) = (total / count, total % count);
        // Every group and every cut adds a part, every group takes one root.
        let mut nodes = Vec::with_capacity(parts.len());
        let mut roots = Vec::with_capacity(count as usize);
        // The parts of a group: of members that are also in the group before or behind,
        // and of others.
        let (mut cut, mut whole): (Vec<Part>, Vec<Part>) = (Vec::new(), Vec::new());
        let mut size = least + u64::from(long > 0);
        let mut room = size;
        for part in parts {
            let mut rest = weight(part);
            while rest > 0 {
                let taken = rest.min(room);
                let is_whole = taken == weight(part);
                let parts = if is_whole { &mut whole } else { &mut cut };
                parts.push(Part { weight: taken as u32, row: part.row });
                rest -= taken;
                room -= taken;
                if room == 0 {
                    whole.sort_by_key(|part| std::cmp::Reverse(part.weight));
                    roots.push(tree(&mut nodes, &cut, &whole, size));
                    cut.clear();
                    whole.clear();
                    size = least + u64::from((roots.len() as u64) < long);
                    room = size;
                }
            }
        }
        // Of all slots: one rounding, and the cycle ends where it should.
        let long_slots = u128::from(long * (least + 1)) << 64;
        Self {
            long_share: (long_slots / u128::from(total.max(1))) as u64,
            long: GroupRing::new(0, long),
            short: GroupRing::new(long, count - long),
            roots: roots.into(),
            nodes: nodes.into(),
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

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.roots) + size_of_val(&*self.nodes)
    }
}

/// Adds the tree that splits so many turns between parts. Each cut part is split off
/// first; then whole parts, in descending order, are halved as equally as can be.
fn tree(nodes: &mut Vec<Split>, cut: &[Part], whole: &[Part], turns: u64) -> u32 {
    let (first, second, taken) = match (cut, whole) {
        ([part], []) | ([], [part]) => return part.row | LEAF,
        ([part, rest @ ..], _) => ((&cut[..1], &whole[..0]), (rest, whole), part.weight.into()),
        ([], _) => {
            let mut taken = u64::from(whole[0].weight);
            let mut count = 1;
            // The first half ends where it is nearest to the half.
            while count + 1 < whole.len() {
                let more = taken + u64::from(whole[count].weight);
                if (2 * more).abs_diff(turns) >= (2 * taken).abs_diff(turns) {
                    break;
                }
                (taken, count) = (more, count + 1);
            }
            ((cut, &whole[..count]), (cut, &whole[count..]), taken)
        }
    };
    let node = nodes.len();
    // Rounded to the nearest; below 2^32 as the first is lighter than all.
    let share = ((taken << 32) + turns / 2) / turns;
    nodes.push(Split { share: share as u32, first: LEAF, second: LEAF });
    nodes[node].first = tree(nodes, first.0, first.1, taken);
    nodes[node].second = tree(nodes, second.0, second.1, turns - taken);
    node as u32
}
