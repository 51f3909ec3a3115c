//! What the writer and all pickers of a balancer share.

use std::sync::Arc;

use super::counters::PickCounters;
use super::member_table::MemberTable;
use super::options::Options;
use super::pool::{Active, ByPool, MemberPool};
use super::strategy::{Counting, PickMethod, PoolTable};
use super::sync::{AtomicU64, Mutex, Ordering, Padded, lock};
use crate::channel::{NobodyReason, Strategy};

/// Everything that a pick reads, but for counters and the least-connections order.
/// Published whole and replaced whole.
#[derive(Debug)]
pub(super) struct TableSnapshot<A> {
    pub(super) generation: u64,
    pub(super) members: Arc<MemberTable<A>>,
    pub(super) pools: ByPool<Option<Arc<PoolTable>>>,
}

impl<A> TableSnapshot<A> {
    #[inline(always)]
    pub(super) fn table(&self, pool: MemberPool) -> Option<&PoolTable> {
        self.pools[pool].as_deref()
    }

    /// Bytes of tables on the heap, without the members' addresses.
    pub(super) fn heap_bytes(&self) -> usize {
        let bits = self.members.rows.len().div_ceil(64) * 16;
        bits + self.pools.0.iter().flatten().map(|table| table.heap_bytes()).sum::<usize>()
    }
}

/// Shared by all handles of one balancer.
#[derive(Debug)]
pub(super) struct Core<A> {
    pub(super) method: PickMethod,
    /// Raised after every change that a pick could see, published or in place.
    epoch: Padded<AtomicU64>,
    /// The generation of what is in `published`; written after it.
    generation: AtomicU64,
    published: Mutex<Arc<TableSnapshot<A>>>,
    pub(super) counters: PickCounters,
}

impl<A> Core<A> {
    /// Without members yet, and with counters for so many.
    pub(super) fn new(strategy: Strategy, options: Options, rows: usize) -> Self {
        let members = Arc::new(MemberTable::new(Box::default(), Active::Nobody(NobodyReason::NoMembers)));
        let empty = TableSnapshot { generation: 0, members, pools: ByPool::default() };
        Self {
            method: PickMethod::new(strategy, options),
            epoch: Padded(AtomicU64::new(0)),
            generation: AtomicU64::new(0),
            published: Mutex::new(Arc::new(empty)),
            counters: PickCounters::new(rows),
        }
    }

    /// What a pick must not be older than.
    #[inline(always)]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.0.load(Ordering::Acquire)
    }

    /// Called by the one writer after it has changed words in place.
    pub(super) fn touch(&self) {
        // One writer: nobody else changes it between the load and the store.
        let epoch = self.epoch.0.load(Ordering::Relaxed);
        self.epoch.0.store(epoch.wrapping_add(1), Ordering::Release);
    }

    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    #[cold]
    pub(super) fn newest(&self) -> Arc<TableSnapshot<A>> {
        Arc::clone(&lock(&self.published))
    }

    pub(super) fn publish(&self, snapshot: Arc<TableSnapshot<A>>) {
        let generation = snapshot.generation;
        let old = std::mem::replace(&mut *lock(&self.published), snapshot);
        self.generation.store(generation, Ordering::Release);
        self.touch();
        // Freed, if at all, outside the lock.
        drop(old);
    }

    pub(super) fn open_picks(&self, row: u32) -> u32 {
        match self.method.counting {
            Counting::Ordered => self.method.least.open(row),
            Counting::Sharded | Counting::Shared => self.counters.open(row),
        }
    }

    /// Ends a pick on a thread that has no counters of its own here.
    #[inline(never)]
    pub(super) fn end(&self, row: u32) {
        match self.method.counting {
            // Below zero if need be: the picker that counted it is on another thread.
            Counting::Sharded => self.counters.shared.add(row, u32::MAX),
            Counting::Shared => self.counters.close_shared(row),
            Counting::Ordered => self.method.least.release(row),
        }
    }
}
