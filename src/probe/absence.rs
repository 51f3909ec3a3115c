//! How long was the prober itself away? What a probe may blame on a member then.
//!
//! A driver polls its probes on its own thread, and says here how long that thread
//! was absent in all: stopped, starved of its core, or held up by a long turn. A
//! probe that lost time this way gives it back to the member before it calls it
//! silent. See `daemon::stall`, which measures and has the last word.

use std::cell::Cell;
use std::time::Duration;

use crate::health::moment::nanos;

/// A turn that is late by less than this is ordinary scheduling.
pub const ORDINARY: Duration = Duration::from_millis(20);

thread_local! {
    static NANOS: Cell<u64> = const { Cell::new(0) };
}

/// How much absence a probe may suffer and still be believed as it is: a tenth of
/// its timeout, at least [`ORDINARY`].
#[must_use]
pub fn allowance(timeout: Duration) -> Duration {
    (timeout / 10).max(ORDINARY)
}

/// This thread has been absent for so long in all, while it ran probes.
pub fn set_total(total: Duration) {
    NANOS.set(nanos(total));
}

/// A reading of this thread's absence. Every probe under way keeps one: half as large
/// as a [`Duration`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading(u64);

impl Reading {
    /// What [`set_total`] said last; zero where nobody measures.
    pub(super) fn now() -> Self {
        Self(NANOS.get())
    }

    /// How long the thread has been absent since.
    pub(super) fn lost(self) -> Duration {
        Duration::from_nanos(NANOS.get().saturating_sub(self.0))
    }
}
