//! The synchronisation primitives of this room, exchangeable for loom's.
//!
//! Everything concurrent in `balance` takes its atomics and locks from here.
//! Built with `--cfg vitald_loom` they are loom's, so that `tests/loom` can
//! walk through every interleaving (the command is in `docs/balance.md`).

#[cfg(vitald_loom)]
pub(super) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
#[cfg(vitald_loom)]
pub(super) use loom::sync::{Mutex, MutexGuard};

#[cfg(not(vitald_loom))]
pub(super) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
#[cfg(not(vitald_loom))]
pub(super) use std::sync::{Mutex, MutexGuard};

use std::sync::PoisonError;

/// Locks, also after another thread panicked while it held the lock.
///
/// Every critical section of this room leaves its data consistent at each
/// point where foreign code (a user's `Clone`) may panic.
#[inline]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
