//! The one place that reads a clock.
//!
//! Monotonic time comes from the runtime's clock, so that tests on paused time
//! move it; wall time is for display only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::health::time::nanos;
use crate::health::{MonotonicTime, Now, Timestamp};
use crate::store::{BootTime, SavedAt};

/// Reads both clocks; cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// None: the wall clock is the system's; else it moves with the monotonic clock, and
    /// showed this at the start.
    simulated_from: Option<Timestamp>,
    /// Which start of the machine this is, where that can be read.
    boot_id: Option<u128>,
}

impl Clock {
    /// A clock whose [`MonotonicTime`] counts from now. One per daemon: the times of
    /// different clocks do not compare.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), simulated_from: None, boot_id: boot_id() }
    }

    /// A clock for tests on paused time: the wall moves with the runtime's clock.
    #[cfg(test)]
    pub(crate) fn simulated(wall: Timestamp) -> Self {
        Self { start: Instant::now(), simulated_from: Some(wall), boot_id: None }
    }

    /// Both clocks, read together.
    #[must_use]
    pub fn now(&self) -> Now {
        let monotonic = MonotonicTime(nanos(self.start.elapsed()));
        let simulated = |from: Timestamp| Timestamp(from.0.saturating_add(monotonic.0));
        let wall = self.simulated_from.map_or_else(system_wall, simulated);
        Now { monotonic, wall }
    }

    /// Now, as it is kept with verdicts.
    #[must_use]
    pub fn saved_at(&self) -> SavedAt {
        let boot = self.boot_id.zip(read(ClockId::Boottime));
        let boot = boot.map(|(boot_id, time)| BootTime { boot_id, nanos: nanos(time) });
        SavedAt { wall: self.now().wall, boot }
    }

    /// How long the machine has been suspended so far, since it booted: what the
    /// monotonic clock, which stops then, lacks against the boot clock
    /// (clock_gettime(2)). None on simulated time.
    #[must_use]
    pub fn suspended(&self) -> Option<Duration> {
        if self.simulated_from.is_some() {
            return None;
        }
        let monotonic = read(ClockId::Monotonic)?;
        Some(read(ClockId::Boottime)?.saturating_sub(monotonic))
    }

    /// How long the calling thread has run so far, on whatever core. None on simulated time.
    #[must_use]
    pub fn thread_time(&self) -> Option<Duration> {
        if self.simulated_from.is_some() {
            return None;
        }
        read(ClockId::ThreadCPUTime)
    }

    /// The runtime's instant of a time, for its timers.
    #[must_use]
    pub fn instant(&self, time: MonotonicTime) -> Instant {
        self.start + Duration::from_nanos(time.0)
    }
}

/// None where the clock shows a time before its zero, which such a clock never does.
fn read(clock: ClockId) -> Option<Duration> {
    Duration::try_from(clock_gettime(clock)).ok()
}

#[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
fn system_wall() -> Timestamp {
    // A clock before 1970 shows as 1970; nothing is decided on it.
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos))
}

/// A service without `/proc/sys` has none; wall time then has to do.
fn boot_id() -> Option<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}
