//! The member table that pickers read: one row a member, and the words that say who
//! may take picks.
//!
//! Rows never change once the table is published. Health, status and drain change words
//! in place: the active pool and one bit per member. The writer stores the active
//! pool before it takes the last member of a pool out, and after it brings the
//! first one in; so a pick that finds a pool empty finds another pool active when it
//! looks again.

use std::fmt;

use super::member::MemberId;
use super::pool::{Active, MemberPool};
use super::sync::{AtomicU8, AtomicU64, Ordering};

/// One bit per row.
#[derive(Debug)]
pub(super) struct RowBits(Box<[AtomicU64]>);

impl RowBits {
    fn new(rows: usize) -> Self {
        Self((0..rows.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline(always)]
    pub(super) fn contains(&self, row: u32) -> bool {
        self.0.get(row as usize / 64).is_some_and(|word| word.load(Ordering::Acquire) >> (row % 64) & 1 == 1)
    }

    /// Called by the one writer.
    pub(super) fn set(&self, row: u32, value: bool) {
        let bit = 1 << (row % 64);
        if let Some(word) = self.0.get(row as usize / 64) {
            let old = word.load(Ordering::Relaxed);
            word.store(if value { old | bit } else { old & !bit }, Ordering::Release);
        }
    }
}

/// A member as picks see it.
#[derive(Debug, Clone)]
pub(super) struct TableRow<A> {
    pub(super) address: A,
    pub(super) serial: u32,
}

/// The members of a balancer by row, and who of them may take picks.
#[derive(Debug)]
pub(super) struct MemberTable<A> {
    active: AtomicU8,
    /// Enabled and not unhealthy.
    pub(super) eligible: RowBits,
    /// Enabled; what counts when failing open.
    pub(super) enabled: RowBits,
    /// None where a member has left.
    rows: Box<[Option<TableRow<A>>]>,
}

impl<A> MemberTable<A> {
    pub(super) fn new(rows: Box<[Option<TableRow<A>>]>, active: Active) -> Self {
        let count = rows.len();
        Self {
            active: AtomicU8::new(active.to_byte()),
            eligible: RowBits::new(count),
            enabled: RowBits::new(count),
            rows,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    #[inline(always)]
    pub(super) fn active(&self) -> Active {
        Active::from_byte(self.active.load(Ordering::Acquire))
    }

    /// Called by the one writer.
    pub(super) fn set_active(&self, active: Active) {
        self.active.store(active.to_byte(), Ordering::Release);
    }

    /// The bits that say who may take picks from a pool.
    #[inline(always)]
    pub(super) fn able(&self, pool: MemberPool) -> &RowBits {
        if pool.is_open() { &self.enabled } else { &self.eligible }
    }

    #[inline(always)]
    pub(super) fn row(&self, row: u32) -> Option<&TableRow<A>> {
        self.rows.get(row as usize)?.as_ref()
    }

    /// The member of a row, if it is still there.
    #[inline(always)]
    pub(super) fn pick(&self, row: u32) -> Option<PickedMember<A>>
    where
        A: Clone,
    {
        let TableRow { address, serial } = self.row(row)?;
        Some(PickedMember { row, serial: *serial, address: address.clone() })
    }
}

/// A member that a pick hands out.
pub(super) struct PickedMember<A> {
    pub(super) row: u32,
    serial: u32,
    pub(super) address: A,
}

impl<A> PickedMember<A> {
    #[inline(always)]
    pub(super) fn id(&self) -> MemberId {
        MemberId { row: self.row, serial: self.serial }
    }
}

impl<A: fmt::Debug> PickedMember<A> {
    /// Shows a pick of it.
    pub(super) fn debug(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick").field("id", &self.id()).field("address", &self.address).finish()
    }
}
