//! What a picker remembers between picks: the newest tables, the shortest way
//! through them, and its place in the rotation.
//!
//! Most picks find that nothing has changed since the last one. One word, the
//! epoch, says so: the writer raises it after every change that a pick could see.
//! While it stands still a [`PickerCache`] holds all that a pick must know, and a
//! [`ClaimedTurns`] has the next members of weighted round robin ready.

use std::cell::Cell;
use std::sync::Arc;

use super::core::{Core, Counting};
use super::key::GOLDEN;
use super::member::MemberId;
use super::pool::Active;
use super::sequence::Sequence;
use super::snapshot::{MemberTable, PoolTable, Snapshot};
use super::sync::{AtomicU64, Ordering};
use crate::channel::Strategy;

/// Slots of weighted round robin that a picker claims at once: one locked
/// instruction for so many picks. Every slot is used once, whoever claims it.
const BLOCK: u32 = 64;

/// The tables as of an epoch.
#[derive(Debug)]
pub(super) struct PickerCache<A> {
    pub(super) snapshot: Arc<Snapshot<A>>,
    /// The snapshot's, one step nearer.
    pub(super) members: Arc<MemberTable<A>>,
    /// The table of a hash strategy, if the key alone decides.
    pub(super) keyed: Option<Arc<PoolTable>>,
}

impl<A> PickerCache<A> {
    /// The cache as it is now.
    pub(super) fn newest(core: &Core<A>) -> Self {
        Self::of(core, core.newest())
    }

    fn of(core: &Core<A>, snapshot: Arc<Snapshot<A>>) -> Self {
        let members = Arc::clone(&snapshot.members);
        let table = match members.active() {
            Active::MemberPool(pool) => snapshot.pools.get(pool.index()).and_then(Option::as_ref),
            Active::Nobody(_) => None,
        };
        let keyed = core.counting == Counting::Sharded
            && matches!(core.strategy, Strategy::SourceHash | Strategy::UriHash);
        let keyed = table.filter(|_| keyed).cloned();
        Self { snapshot, members, keyed }
    }

    /// Catches up with the writer. The epoch is read before, so that what is
    /// remembered is never older than it.
    pub(super) fn refresh(&mut self, core: &Core<A>) {
        let snapshot = if self.snapshot.generation == core.generation() {
            Arc::clone(&self.snapshot)
        } else {
            core.newest()
        };
        *self = Self::of(core, snapshot);
    }
}

/// A member that a pick hands out.
pub(super) struct PickedMember<A> {
    pub(super) row: u32,
    pub(super) serial: u32,
    pub(super) address: A,
}

impl<A> PickedMember<A> {
    /// The member's name.
    #[inline(always)]
    pub(super) fn id(&self) -> MemberId {
        MemberId { row: self.row, serial: self.serial }
    }
}

impl<A: Clone> PickedMember<A> {
    /// The member of a row, if it is still there.
    #[inline(always)]
    pub(super) fn at(members: &MemberTable<A>, row: u32) -> Option<Self> {
        let entry = members.rows.get(row as usize)?.as_ref()?;
        Some(Self { row, serial: entry.serial, address: entry.address.clone() })
    }
}

/// Where a picker is.
pub(super) struct ClaimedTurns<A> {
    /// How many members are ready: the last ones of `block`, in order.
    ready: Cell<u32>,
    block: [Cell<Option<PickedMember<A>>>; BLOCK as usize],
    /// Claimed slots that are not ready.
    rest: Cell<u32>,
    /// The virtual time behind what is ready, where the rest begins.
    time: Cell<u64>,
    /// Virtual time per slot of what is ready.
    step: Cell<u64>,
    /// Turns of what has no order of its own: redirected picks, samples,
    /// requests without a key.
    turn: Cell<u64>,
}

impl<A> ClaimedTurns<A> {
    /// Before its first block. Different seeds do not run in step.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            ready: Cell::new(0),
            block: [const { Cell::new(None) }; BLOCK as usize],
            rest: Cell::new(0),
            time: Cell::new(0),
            step: Cell::new(0),
            turn: Cell::new(seed),
        }
    }

    /// The next member, if one is ready.
    #[inline(always)]
    pub(super) fn next(&self) -> Option<PickedMember<A>> {
        let ready = self.ready.get();
        self.ready.set(ready.checked_sub(1)?);
        self.block.get((BLOCK.wrapping_sub(ready) % BLOCK) as usize)?.take()
    }

    /// Makes members of this sequence ready; one at least.
    pub(super) fn prepare(&self, sequence: &Sequence, members: &MemberTable<A>, shared: &AtomicU64)
    where
        A: Clone,
    {
        self.forget();
        let step = sequence.step();
        self.claim_if_empty(step, shared);
        let count = self.rest.get();
        let Some(places) = self.block.get(BLOCK.saturating_sub(count) as usize..) else { return };
        sequence.for_turns(self.time.get(), places, |place, row| place.set(PickedMember::at(members, row)));
        // A clone that panics or picks has left the slots claimed or taken.
        if self.rest.get() == count {
            self.rest.set(0);
            self.ready.set(count);
            self.step.set(step);
            self.time.set(self.time.get().wrapping_add(step.wrapping_mul(count.into())));
        }
    }

    /// The order has changed: who is ready may be wrong. Their slots remain.
    pub(super) fn forget(&self) {
        let ready = self.ready.replace(0);
        if ready > 0 {
            self.rest.set(ready);
            self.time.set(self.time.get().wrapping_sub(self.step.get().wrapping_mul(ready.into())));
        }
    }

    /// The virtual time of the next pick, in an order of this step.
    pub(super) fn next_time(&self, step: u64, shared: &AtomicU64) -> u64 {
        self.forget();
        self.claim_if_empty(step, shared);
        self.rest.set(self.rest.get() - 1);
        self.time.replace(self.time.get().wrapping_add(step))
    }

    fn claim_if_empty(&self, step: u64, shared: &AtomicU64) {
        if self.rest.get() == 0 {
            self.time.set(shared.fetch_add(step.wrapping_mul(BLOCK.into()), Ordering::Relaxed));
            self.rest.set(BLOCK);
        }
    }

    /// The next turn of what has no order of its own.
    #[inline]
    pub(super) fn turn(&self) -> u64 {
        let turn = self.turn.get().wrapping_add(GOLDEN);
        self.turn.set(turn);
        turn
    }
}
