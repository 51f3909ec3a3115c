//! Open picks and total picks, counted without a locked instruction.
//!
//! A counter that several threads increment costs a locked instruction and a
//! cache line that travels. So each picker owns a [`CounterShard`] that only its thread
//! writes, with plain loads and stores; a reader adds up all shards. A pick that
//! ends on another thread is subtracted in that thread's shard, or in the
//! shared counters: single counters may run below zero, their sum does not.

#![expect(clippy::indexing_slicing, reason = "blocks are as many as rows of 32 bits can need")]

use std::sync::{Arc, OnceLock};

use super::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// Rows that the first block of counters has at least.
#[cfg(not(vitald_loom))]
const SMALLEST: usize = 64;
#[cfg(vitald_loom)]
const SMALLEST: usize = 4;

/// Blocks beyond the first; each is as long as all before it together.
const GROWTH: usize = 26;

/// One wrapping counter per row. Grows without moving what is there.
#[derive(Debug)]
pub(super) struct RowCounters {
    base: Box<[AtomicU32]>,
    more: [OnceLock<Box<[AtomicU32]>>; GROWTH],
}

impl RowCounters {
    /// Counters that need not grow for so many rows.
    fn new(rows: usize) -> Self {
        let base = zeroes(rows.next_power_of_two().max(SMALLEST));
        Self { base, more: [const { OnceLock::new() }; GROWTH] }
    }

    #[inline(always)]
    fn at(&self, row: u32) -> &AtomicU32 {
        match self.base.get(row as usize) {
            Some(counter) => counter,
            None => self.grown(row as usize),
        }
    }

    #[cold]
    fn grown(&self, row: usize) -> &AtomicU32 {
        let block = (row / self.base.len()).ilog2();
        let start = self.base.len() << block;
        &self.more[block as usize].get_or_init(|| zeroes(start))[row - start]
    }

    #[inline]
    pub(super) fn value(&self, row: u32) -> u32 {
        self.at(row).load(Ordering::Acquire)
    }

    /// Adds from any thread. Wraps, so that adding `u32::MAX` subtracts one.
    #[inline]
    pub(super) fn add(&self, row: u32, amount: u32) {
        self.at(row).fetch_add(amount, Ordering::AcqRel);
    }

    /// Adds from the only thread that writes these counters.
    #[inline(always)]
    fn add_alone(&self, row: u32, amount: u32) {
        let counter = self.at(row);
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release);
    }
}

fn zeroes(count: usize) -> Box<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

/// The counters of one picker. Written by the thread that owns it alone, on cache
/// lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct CounterShard {
    /// How many this balancer made before it.
    pub(super) number: u64,
    open: RowCounters,
    picks: AtomicU64,
}

impl CounterShard {
    /// A pick begins.
    #[inline(always)]
    pub(super) fn open(&self, row: u32) {
        self.open.add_alone(row, 1);
        self.count();
    }

    /// A pick that this thread or another began ends.
    #[inline(always)]
    pub(super) fn close(&self, row: u32) {
        self.open.add_alone(row, u32::MAX);
    }

    /// A pick begins whose open count is kept elsewhere.
    #[inline(always)]
    pub(super) fn count(&self) {
        self.picks.store(self.picks.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// All counters of one balancer.
#[derive(Debug)]
pub(super) struct PickCounters {
    shards: Mutex<Vec<Arc<CounterShard>>>,
    /// Shards made so far.
    made: AtomicU64,
    pub(super) shared: RowCounters,
    shared_picks: AtomicU64,
    /// Open picks in `shared`; kept for bounded load, which needs it per pick.
    shared_open: AtomicU64,
}

impl PickCounters {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            shards: Mutex::new(Vec::new()),
            made: AtomicU64::new(0),
            shared: RowCounters::new(rows),
            shared_picks: AtomicU64::new(0),
            shared_open: AtomicU64::new(0),
        }
    }

    pub(super) fn shard(&self, rows: usize) -> Arc<CounterShard> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let shard = Arc::new(CounterShard { number, open: RowCounters::new(rows), picks: AtomicU64::new(0) });
        lock(&self.shards).push(Arc::clone(&shard));
        shard
    }

    /// Ends a shard: what it counted moves to the shared counters, in one step
    /// for readers, who hold the same lock.
    pub(super) fn retire(&self, shard: &Arc<CounterShard>) {
        let mut shards = lock(&self.shards);
        let RowCounters { base, more } = &shard.open;
        let more = more.iter().filter_map(OnceLock::get).flatten();
        for (row, counter) in (0..).zip(base.iter().chain(more)) {
            let value = counter.load(Ordering::Acquire);
            if value != 0 {
                self.shared.add(row, value);
            }
        }
        self.shared_picks.fetch_add(shard.picks.load(Ordering::Relaxed), Ordering::Relaxed);
        shards.retain(|other| !Arc::ptr_eq(other, shard));
    }

    /// Open picks of a row. Exact once the threads rest; while they pick, off
    /// by at most what began or ended during the sum.
    pub(super) fn open(&self, row: u32) -> u32 {
        let shards = lock(&self.shards);
        let shared = self.shared.value(row);
        let sum = shards.iter().fold(shared, |sum, shard| sum.wrapping_add(shard.open.value(row)));
        // A pick that ended in a shard already read and began in one read later
        // may leave the sum below zero for a moment.
        if sum > u32::MAX / 2 { 0 } else { sum }
    }

    pub(super) fn picks(&self) -> u64 {
        let shards = lock(&self.shards);
        shards.iter().fold(self.shared_picks.load(Ordering::Relaxed), |sum, shard| {
            sum.wrapping_add(shard.picks.load(Ordering::Relaxed))
        })
    }

    /// Open picks of all rows in the shared counters.
    #[inline]
    pub(super) fn shared_open(&self) -> u64 {
        self.shared_open.load(Ordering::Acquire)
    }

    /// A pick counted in the shared counters begins.
    #[inline]
    pub(super) fn open_shared(&self, row: u32) {
        self.shared.add(row, 1);
        self.shared_open.fetch_add(1, Ordering::AcqRel);
    }

    /// A pick counted in the shared counters ends.
    #[inline]
    pub(super) fn close_shared(&self, row: u32) {
        self.shared.add(row, u32::MAX);
        self.shared_open.fetch_sub(1, Ordering::AcqRel);
    }
}
