//! The member table that pickers read: one row a member, and the words that say who
//! may take picks.
//!
//! Rows never change once the table is published. Health, status and drain change words
//! in place: the active pool and one bit per member. The writer stores the active
//! pool before it takes the last member of a pool out, and after it brings the
//! first one in; so a pick that finds a pool empty finds another pool active when it
//! looks again.

use super::member::MemberId;
use super::pool::{Active, MemberPool};
use super::sync::{AtomicU8, AtomicU64, Ordering};
use crate::channel::{MemberStatus, Standing};

/// One bit per row.
#[derive(Debug)]
pub(super) struct RowBits(Box<[AtomicU64]>);

impl RowBits {
    #[inline(always)]
    pub(super) fn contains(&self, row: u32) -> bool {
        self.0.get(row as usize / 64).is_some_and(|word| word.load(Ordering::Acquire) >> (row % 64) & 1 == 1)
    }

    fn set(&self, row: u32, value: bool) {
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

/// The members of a balancer by row, and which of them may take picks.
#[derive(Debug)]
pub(super) struct MemberTable<A> {
    active: AtomicU8,
    /// Enabled and not unhealthy.
    eligible: RowBits,
    /// Enabled; what counts when failing open.
    enabled: RowBits,
    /// None where a member has left.
    pub(super) rows: Box<[Option<TableRow<A>>]>,
}

impl<A> MemberTable<A> {
    pub(super) fn new(rows: Box<[Option<TableRow<A>>]>, active: Active) -> Self {
        let bits = || RowBits((0..rows.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect());
        Self { active: AtomicU8::new(active.to_byte()), eligible: bits(), enabled: bits(), rows }
    }

    #[inline(always)]
    pub(super) fn active(&self) -> Active {
        Active::from_byte(self.active.load(Ordering::Acquire))
    }

    pub(super) fn set_active(&self, active: Active) {
        self.active.store(active.to_byte(), Ordering::Release);
    }

    pub(super) fn set_standing(&self, row: u32, standing: Standing) {
        self.eligible.set(row, standing.is_eligible());
        self.enabled.set(row, standing.status == MemberStatus::Enabled);
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
#[derive(Debug)]
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
