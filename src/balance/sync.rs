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
#[cfg(not(vitald_loom))]
use std::{sync::Condvar, time::Duration};

/// A cache line of its own, so that a busy word does not slow its neighbours.
/// Two lines: processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// Locks, also after another thread panicked while it held the lock.
///
/// Every critical section of this room leaves its data consistent at each
/// point where foreign code (a user's `Clone`) may panic.
#[inline]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lock for a few dozen instructions. Giving it back is a plain store, where a
/// [`Mutex`] needs a second locked instruction to see whether a thread sleeps.
#[cfg(not(vitald_loom))]
pub(super) type BriefMutex<T> = spin::mutex::SpinMutex<T>;
#[cfg(not(vitald_loom))]
pub(super) type BriefGuard<'m, T> = spin::mutex::SpinMutexGuard<'m, T>;
#[cfg(vitald_loom)]
pub(super) type BriefMutex<T> = Mutex<T>;
#[cfg(vitald_loom)]
pub(super) type BriefGuard<'m, T> = MutexGuard<'m, T>;

/// The lock, if no thread holds it.
#[inline(always)]
pub(super) fn try_lock_brief<T>(mutex: &BriefMutex<T>) -> Option<BriefGuard<'_, T>> {
    #[cfg(not(vitald_loom))]
    return mutex.try_lock();
    #[cfg(vitald_loom)]
    mutex.try_lock().ok()
}

/// The lock; waits for it.
#[inline(always)]
pub(super) fn lock_brief<T>(mutex: &BriefMutex<T>) -> BriefGuard<'_, T> {
    #[cfg(not(vitald_loom))]
    return try_lock_brief(mutex).unwrap_or_else(|| wait_for(mutex));
    #[cfg(vitald_loom)]
    lock(mutex)
}

/// Spins, then sleeps: a holder that takes so long has been taken off its processor,
/// and may even need this one.
#[cfg(not(vitald_loom))]
#[cold]
#[inline(never)]
fn wait_for<T>(mutex: &BriefMutex<T>) -> BriefGuard<'_, T> {
    /// Nobody ever notifies: waiting on it is a short sleep.
    static PAUSE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    for tries in 1_u32.. {
        if !mutex.is_locked()
            && let Some(guard) = mutex.try_lock()
        {
            return guard;
        }
        if tries % SPINS == 0 {
            drop(PAUSE.1.wait_timeout(lock(&PAUSE.0), Duration::from_micros(50)));
        } else {
            std::hint::spin_loop();
        }
    }
    mutex.lock()
}

/// Looks at a lock before a sleep: some microseconds.
#[cfg(not(vitald_loom))]
const SPINS: u32 = 100;
