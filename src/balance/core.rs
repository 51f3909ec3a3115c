//! What the writer and all pickers of a balancer share.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::counters::PickCounters;
use super::key::Hashing;
use super::least::{Idle, LeastConnections};
use super::options::{LeastRule, Options};
use super::snapshot::Snapshot;
use super::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::channel::Strategy;

/// Where the open picks of a balancer are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// In the picker's shard: nobody decides by them.
    Sharded,
    /// In shared counters: bounded load and sampling decide by them.
    Shared,
    /// In the least-connections order.
    Ordered,
}

/// A cache line of its own, so that a busy word does not slow its neighbours.
/// Two lines: processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// Shared by all handles of one balancer.
#[derive(Debug)]
pub(super) struct Core<A> {
    pub(super) strategy: Strategy,
    pub(super) options: Options,
    pub(super) counting: Counting,
    pub(super) hashing: Hashing,
    /// Raised after every change that a pick could see, published or in place.
    epoch: Padded<AtomicU64>,
    /// The generation of what is in `published`; written after it.
    generation: AtomicU64,
    /// Virtual time up to which blocks of weighted round robin are claimed.
    pub(super) cursor: Padded<AtomicU64>,
    published: Mutex<Arc<Snapshot<A>>>,
    pub(super) least: LeastConnections,
    pub(super) counters: PickCounters,
}

impl<A> Core<A> {
    pub(super) fn new(
        strategy: Strategy,
        options: Options,
        hashing: Hashing,
        first: Arc<Snapshot<A>>,
        rows: usize,
    ) -> Self {
        let counting = match (strategy, options.least, options.hash.bounded_load) {
            (Strategy::WeightedLeastConnections, LeastRule::Sampled(_), _) => Counting::Shared,
            (Strategy::WeightedLeastConnections, _, _) => Counting::Ordered,
            (Strategy::SourceHash | Strategy::UriHash, _, Some(_)) => Counting::Shared,
            _ => Counting::Sharded,
        };
        let idle = if options.least == LeastRule::IdleFirst { Idle::First } else { Idle::Weighed };
        Self {
            strategy,
            options,
            counting,
            hashing,
            epoch: Padded(AtomicU64::new(0)),
            generation: AtomicU64::new(first.generation),
            cursor: Padded(AtomicU64::new(0)),
            published: Mutex::new(first),
            least: LeastConnections::new(idle),
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

    /// The generation of the newest snapshot.
    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The newest snapshot.
    #[cold]
    pub(super) fn newest(&self) -> Arc<Snapshot<A>> {
        Arc::clone(&lock(&self.published))
    }

    /// Called by the one writer.
    pub(super) fn publish(&self, snapshot: Arc<Snapshot<A>>) {
        let generation = snapshot.generation;
        let old = std::mem::replace(&mut *lock(&self.published), snapshot);
        self.generation.store(generation, Ordering::Release);
        self.touch();
        // Freed, if at all, outside the lock.
        drop(old);
    }

    /// Open picks of a row, wherever they are counted.
    pub(super) fn open_picks(&self, row: u32) -> u32 {
        match self.counting {
            Counting::Ordered => self.least.open(row),
            Counting::Sharded | Counting::Shared => self.counters.open(row),
        }
    }

    /// How many candidates sampled least connections draws.
    pub(super) fn samples(&self) -> usize {
        match self.options.least {
            LeastRule::Sampled(count) => count.get(),
            LeastRule::Exact | LeastRule::IdleFirst => NonZeroUsize::MIN.get(),
        }
    }
}
