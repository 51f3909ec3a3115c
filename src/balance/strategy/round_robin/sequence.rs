//! The order of one cycle of weighted round robin.
//!
//! A place in the cycle is a *virtual time*: a 64-bit fraction of the cycle, advanced
//! by one slot per pick. It names no slot of a certain table, so members keep their
//! phase when a table is replaced by one of another length.
//!
//! | layout | when | deviation |
//! |---|---|---|
//! | listed | up to `LISTED_LIMIT` picks a cycle | below 1 pick |
//! | spread | longer cycles | below 2.5 picks |
//!
//! *Listed*: the order is written out. Members of one weight form a class (up to 32
//! members, each its own). Each slot goes to the class whose next pick is due first,
//! among those that may be picked already: this is Tijdeman's order, and keeps every
//! class within one pick of its share. The members of a class strictly rotate, and so
//! are within one pick themselves.
//!
//! *Spread*: the order is computed from the slot, without a list; see `spread`.

#![expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "the tables are its own")]

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::spread::{Part, Spread};
use crate::balance::hash::scale;

/// The longest cycle that is written out, in picks.
const LISTED_LIMIT: u64 = 1 << 22;

/// Up to so many classes a plain search for the next one beats a heap.
const FEW: usize = 32;

/// One cycle of picks.
#[derive(Debug, Clone)]
pub(in crate::balance) struct Sequence {
    /// Virtual time per pick.
    pub(in crate::balance) step: u64,
    /// Picks of the cycle.
    pub(in crate::balance) length: u64,
    layout: CycleLayout,
}

/// Shared, so that a copy of a sequence is cheap and its slots are one step away.
#[derive(Debug, Clone)]
enum CycleLayout {
    /// The row of every pick, short rows where they suffice.
    Short(Arc<[u16]>),
    Listed(Arc<[u32]>),
    Spread(Arc<Spread>),
}

impl Sequence {
    /// The sequence of these members, given in the order of their rows; none of none.
    pub(super) fn new(parts: &[Part]) -> Option<Self> {
        let divisor = parts.iter().fold(0, |divisor, part| gcd(divisor, part.weight.into()));
        if divisor == 0 {
            return None;
        }
        let length: u64 = parts.iter().map(|part| u64::from(part.weight) / divisor).sum();
        let step = (u64::MAX / length).wrapping_add(1);
        if length > LISTED_LIMIT {
            let layout = CycleLayout::Spread(Arc::new(Spread::new(parts, divisor)));
            return Some(Self { step, length, layout });
        }
        let order = listed(parts, divisor, length);
        let layout = if parts.iter().all(|part| part.row <= u32::from(u16::MAX)) {
            CycleLayout::Short(order.iter().map(|&row| row as u16).collect())
        } else {
            CycleLayout::Listed(order.into())
        };
        Some(Self { step, length, layout })
    }

    /// Gives each place the row whose turn comes, from this virtual time on.
    #[inline]
    pub(super) fn for_turns<P>(&self, time: u64, places: &[P], give: impl Fn(&P, u32)) {
        let first = scale(time, self.length) as usize;
        match &self.layout {
            CycleLayout::Short(order) => give_turns(order, first, places, give),
            CycleLayout::Listed(order) => give_turns(order, first, places, give),
            CycleLayout::Spread(spread) => {
                let mut slot = first as u64;
                for place in places {
                    give(place, spread.at(slot));
                    slot = if slot + 1 == self.length { 0 } else { slot + 1 };
                }
            }
        }
    }

    /// Whose turn it is at this virtual time.
    #[inline]
    pub(in crate::balance) fn at(&self, cursor: u64) -> u32 {
        let slot = scale(cursor, self.length);
        match &self.layout {
            CycleLayout::Short(order) => u32::from(order[slot as usize]),
            CycleLayout::Listed(order) => order[slot as usize],
            CycleLayout::Spread(spread) => spread.at(slot),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match &self.layout {
            CycleLayout::Short(order) => size_of_val(&**order),
            CycleLayout::Listed(order) => size_of_val(&**order),
            CycleLayout::Spread(spread) => spread.heap_bytes(),
        }
    }
}

/// The turns of a cycle from one on, and again from the start.
#[inline]
fn give_turns<S: Copy + Into<u32>, P>(order: &[S], first: usize, places: &[P], give: impl Fn(&P, u32)) {
    match order.get(first..first + places.len()) {
        Some(turns) => places.iter().zip(turns).for_each(|(place, &row)| give(place, row.into())),
        None => {
            let turns = order.iter().cycle().skip(first);
            places.iter().zip(turns).for_each(|(place, &row)| give(place, row.into()));
        }
    }
}

/// The order of one cycle.
fn listed(parts: &[Part], divisor: u64, length: u64) -> Vec<u32> {
    let mut by_weight: Vec<(u32, u32)> = parts.iter().map(|part| (part.weight, part.row)).collect();
    // Heavy first, as ties go to the first; equals stay in the order of their rows.
    by_weight.sort_by_key(|&(weight, _)| std::cmp::Reverse(weight));
    // So few members are ordered one by one, which mixes equals more finely.
    let alone = by_weight.len() <= FEW;
    let classes: Vec<&[(u32, u32)]> = by_weight.chunk_by(|left, right| left.0 == right.0 && !alone).collect();
    let weights: Vec<u64> =
        classes.iter().map(|class| u64::from(class[0].0) / divisor * class.len() as u64).collect();
    let repeats = weights.iter().copied().fold(0, gcd);
    let rates: Vec<u64> = weights.iter().map(|weight| weight / repeats).collect();
    let order = tijdeman(&rates, length / repeats);
    let mut turns = vec![0_usize; classes.len()];
    let mut rows = Vec::with_capacity(length as usize);
    for _ in 0..repeats {
        for &class in &order {
            let members = classes[class as usize];
            let turn = &mut turns[class as usize];
            rows.push(members[*turn].1);
            *turn = if *turn + 1 == members.len() { 0 } else { *turn + 1 };
        }
    }
    rows
}

fn gcd(mut left: u64, mut right: u64) -> u64 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

/// Bits of a deadline behind the slot.
const FRACTION: u32 = 24;

/// When the next pick of a class may come, and when it must.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Picks of the class so far.
    picks: u64,
    release: u64,
    deadline: u64,
}

/// Tijdeman's chairman assignment: the earliest deadline among those released.
/// Pick x (from 0) of a class with rate w may take the slots from
/// `ceil((x + 1/m) L / w) - 1` to `floor((x + 1 - 1/m) L / w)`, where m is 2n - 2.
fn tijdeman(rates: &[u64], length: u64) -> Vec<u32> {
    let wide = 2 * (rates.len() as u128).max(2) - 2;
    let window = |class: usize, picks: u64| {
        let unit = u128::from(rates[class]) * wide;
        let release = ((u128::from(picks) * wide + 1) * u128::from(length)).div_ceil(unit) - 1;
        // In fractions of a slot, so that ties within a slot go to the truly earlier.
        let deadline = (((u128::from(picks + 1) * wide - 1) * u128::from(length)) << FRACTION) / unit;
        Window { picks, release: release as u64, deadline: deadline as u64 }
    };
    if rates.len() <= FEW {
        search_few(rates.len(), length, window)
    } else {
        search_many(rates.len(), length, window)
    }
}

fn search_few(classes: usize, length: u64, window: impl Fn(usize, u64) -> Window) -> Vec<u32> {
    let mut windows: Vec<Window> = (0..classes).map(|class| window(class, 0)).collect();
    let mut order = Vec::with_capacity(length as usize);
    for slot in 0..length {
        // Tijdeman's theorem: one of them is always released.
        let key = |class: usize| (windows[class].release > slot, windows[class].deadline);
        let next = (1..classes).fold(0, |best, class| if key(class) < key(best) { class } else { best });
        order.push(next as u32);
        windows[next] = window(next, windows[next].picks + 1);
    }
    order
}

fn search_many(classes: usize, length: u64, window: impl Fn(usize, u64) -> Window) -> Vec<u32> {
    use std::cmp::Reverse;
    let mut windows: Vec<Window> = (0..classes).map(|class| window(class, 0)).collect();
    let mut waiting: BinaryHeap<Reverse<(u64, u32)>> =
        windows.iter().zip(0..).map(|(window, class)| Reverse((window.release, class))).collect();
    let mut released: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::new();
    let mut order = Vec::with_capacity(length as usize);
    for slot in 0..length {
        while let Some(&Reverse((release, class))) = waiting.peek()
            && (release <= slot || released.is_empty())
        {
            waiting.pop();
            released.push(Reverse((windows[class as usize].deadline, class)));
        }
        let Some(Reverse((_, class))) = released.pop() else { break };
        order.push(class);
        let next = window(class as usize, windows[class as usize].picks + 1);
        windows[class as usize] = next;
        // Mostly the next pick is not due for long; else it is released at once.
        waiting.push(Reverse((next.release, class)));
    }
    order
}

#[cfg(test)]
mod tests;
