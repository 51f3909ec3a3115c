//! Numbers for members and channels, and who has which. Part of the catalog's writer.

use std::collections::BTreeSet;

/// Numbers from 0, the lowest free one first.
#[derive(Debug, Default)]
pub(super) struct Pool {
    next: u32,
    free: BTreeSet<u32>,
}

impl Pool {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn give_back(&mut self, number: u32) {
        self.free.insert(number);
    }
}

/// The slots of one driver.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pool: Pool,
    occupants: Vec<Occupant>,
}

/// Who sits in a slot, so that a transition can be named.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Occupant {
    pub(super) generation: u32,
    /// The slot of its channel.
    pub(super) channel: u32,
    /// Its place among the channel's members.
    pub(super) position: u32,
}

impl Slots {
    /// A free slot, and a generation that nobody had there.
    pub(super) fn take(&mut self) -> (u32, u32) {
        let slot = self.pool.take();
        (slot, self.occupant(slot).map_or(0, |before| before.generation.wrapping_add(1)))
    }

    pub(super) fn give_back(&mut self, slot: u32) {
        self.pool.give_back(slot);
    }

    pub(super) fn occupy(&mut self, slot: u32, occupant: Occupant) {
        let index = slot as usize;
        if self.occupants.len() <= index {
            self.occupants.resize(index + 1, Occupant::default());
        }
        if let Some(place) = self.occupants.get_mut(index) {
            *place = occupant;
        }
    }

    /// Who sits there, or did last.
    pub(super) fn occupant(&self, slot: u32) -> Option<Occupant> {
        self.occupants.get(slot as usize).copied()
    }
}
