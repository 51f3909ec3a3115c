//! Open picks and total picks, counted without a locked instruction.
//!
//! A counter that several threads increment costs a locked instruction and a
//! cache line that travels. So each picker owns a [`Shard`] that only its thread
//! writes, with plain loads and stores; a reader adds up all shards. A pick that
//! ends on another thread is subtracted in that thread's shard, or in the
//! shared counters: single counters may run below zero, their sum does not.

use std::sync::{Arc, OnceLock};

use super::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// Seats that the first block of counters has at least.
#[cfg(not(vitald_loom))]
const SMALLEST: usize = 64;
#[cfg(vitald_loom)]
const SMALLEST: usize = 4;

/// Blocks beyond the first; each is as long as all before it together.
const GROWTH: usize = 26;

/// One wrapping counter per seat. Grows without moving what is there.
#[derive(Debug)]
pub(super) struct Counters {
    base: Box<[AtomicU32]>,
    more: [OnceLock<Box<[AtomicU32]>>; GROWTH],
}

impl Counters {
    /// Counters for at least `seats` seats.
    pub(super) fn new(seats: usize) -> Self {
        let base = zeroes(seats.next_power_of_two().max(SMALLEST));
        Self { base, more: [const { OnceLock::new() }; GROWTH] }
    }

    /// The counter of a seat; none beyond 2^32 seats, which cannot be made.
    #[inline(always)]
    pub(super) fn at(&self, seat: u32) -> Option<&AtomicU32> {
        match self.base.get(seat as usize) {
            Some(counter) => Some(counter),
            None => self.grown(seat as usize),
        }
    }

    #[cold]
    fn grown(&self, seat: usize) -> Option<&AtomicU32> {
        let block = (seat / self.base.len()).checked_ilog2()?;
        let start = self.base.len() << block;
        let block = self.more.get(block as usize)?.get_or_init(|| zeroes(start));
        block.get(seat - start)
    }

    /// The counter's value now.
    #[inline]
    pub(super) fn value(&self, seat: u32) -> u32 {
        self.at(seat).map_or(0, |counter| counter.load(Ordering::Acquire))
    }

    /// Adds from any thread. Wraps, so that adding `u32::MAX` subtracts one.
    #[inline]
    pub(super) fn add(&self, seat: u32, amount: u32) {
        if let Some(counter) = self.at(seat) {
            counter.fetch_add(amount, Ordering::AcqRel);
        }
    }

    /// Adds from the only thread that writes these counters.
    #[inline(always)]
    fn add_alone(&self, seat: u32, amount: u32) {
        if let Some(counter) = self.at(seat) {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release);
        }
    }

    fn blocks(&self) -> impl Iterator<Item = &AtomicU32> {
        let more = self.more.iter().filter_map(OnceLock::get).flat_map(|block| block.iter());
        self.base.iter().chain(more)
    }
}

fn zeroes(count: usize) -> Box<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

/// The counters of one picker. Written by the thread that owns it alone, on cache
/// lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    /// How many this balancer made before it.
    pub(super) number: u64,
    open: Counters,
    picks: AtomicU64,
}

impl Shard {
    /// A pick begins.
    #[inline(always)]
    pub(super) fn open(&self, seat: u32) {
        self.open.add_alone(seat, 1);
        self.count();
    }

    /// A pick that this thread or another began ends.
    #[inline(always)]
    pub(super) fn close(&self, seat: u32) {
        self.open.add_alone(seat, u32::MAX);
    }

    /// A pick whose open count is kept elsewhere.
    #[inline(always)]
    pub(super) fn count(&self) {
        self.picks.store(self.picks.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// All counters of one balancer.
#[derive(Debug)]
pub(super) struct Ledger {
    shards: Mutex<Vec<Arc<Shard>>>,
    /// Shards made so far.
    made: AtomicU64,
    shared: Counters,
    shared_picks: AtomicU64,
    /// Open picks in `shared`; kept for bounded load, which needs it per pick.
    shared_open: AtomicU64,
}

impl Ledger {
    pub(super) fn new(seats: usize) -> Self {
        Self {
            shards: Mutex::new(Vec::new()),
            made: AtomicU64::new(0),
            shared: Counters::new(seats),
            shared_picks: AtomicU64::new(0),
            shared_open: AtomicU64::new(0),
        }
    }

    /// A shard for a new picker.
    pub(super) fn shard(&self, seats: usize) -> Arc<Shard> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let shard = Arc::new(Shard { number, open: Counters::new(seats), picks: AtomicU64::new(0) });
        lock(&self.shards).push(Arc::clone(&shard));
        shard
    }

    /// Ends a shard: what it counted moves to the shared counters, in one step
    /// for readers, who hold the same lock.
    pub(super) fn retire(&self, shard: &Arc<Shard>) {
        let mut shards = lock(&self.shards);
        for (seat, counter) in (0..).zip(shard.open.blocks()) {
            let value = counter.load(Ordering::Acquire);
            if value != 0 {
                self.shared.add(seat, value);
            }
        }
        self.shared_picks.fetch_add(shard.picks.load(Ordering::Relaxed), Ordering::Relaxed);
        shards.retain(|other| !Arc::ptr_eq(other, shard));
    }

    /// Open picks of a seat. Exact once the threads rest; while they pick, off
    /// by at most what began or ended during the sum.
    pub(super) fn open(&self, seat: u32) -> u32 {
        let shards = lock(&self.shards);
        let sum = shards
            .iter()
            .fold(self.shared.value(seat), |sum, shard| sum.wrapping_add(shard.open.value(seat)));
        // A pick that ended in a shard already read and began in one read later
        // may leave the sum below zero for a moment.
        if sum > u32::MAX / 2 { 0 } else { sum }
    }

    /// Picks since the balancer was made.
    pub(super) fn picks(&self) -> u64 {
        let shards = lock(&self.shards);
        shards.iter().fold(self.shared_picks.load(Ordering::Relaxed), |sum, shard| {
            sum.wrapping_add(shard.picks.load(Ordering::Relaxed))
        })
    }

    /// Open picks counted in the shared counters of a seat.
    #[inline]
    pub(super) fn shared_open_at(&self, seat: u32) -> u32 {
        self.shared.value(seat)
    }

    /// Open picks counted in all shared counters.
    #[inline]
    pub(super) fn shared_open(&self) -> u64 {
        self.shared_open.load(Ordering::Acquire)
    }

    /// A pick counted in the shared counters begins.
    #[inline]
    pub(super) fn open_shared(&self, seat: u32) {
        self.shared.add(seat, 1);
        self.shared_open.fetch_add(1, Ordering::AcqRel);
    }

    /// A pick counted in the shared counters ends.
    #[inline]
    pub(super) fn close_shared(&self, seat: u32) {
        self.shared.add(seat, u32::MAX);
        self.shared_open.fetch_sub(1, Ordering::AcqRel);
    }

    /// A pick that a shard counted ends on a thread without one.
    pub(super) fn close_elsewhere(&self, seat: u32) {
        self.shared.add(seat, u32::MAX);
    }
}
