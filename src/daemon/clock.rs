//! The one place that reads a clock.
//!
//! Monotonic time comes from the runtime's clock, so that tests on paused time
//! move it; wall time is for display only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::health::moment::nanos;
use crate::health::{Moment, Now, Timestamp};

/// Reads both clocks; cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    wall: Wall,
}

#[derive(Debug, Clone, Copy)]
enum Wall {
    System,
    /// Moves with the monotonic clock from this start.
    Simulated(Timestamp),
}

impl Clock {
    /// A clock whose [`Moment`]s count from now. One per daemon: moments of
    /// different clocks do not compare.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), wall: Wall::System }
    }

    /// A clock for tests on paused time: the wall moves with the runtime's clock.
    #[must_use]
    pub fn simulated(wall: Timestamp) -> Self {
        Self { start: Instant::now(), wall: Wall::Simulated(wall) }
    }

    /// Both clocks, read together.
    #[must_use]
    pub fn now(&self) -> Now {
        let moment = Moment(nanos(self.start.elapsed()));
        let wall = match self.wall {
            Wall::System => system_wall(),
            Wall::Simulated(start) => Timestamp(start.0.saturating_add(moment.0)),
        };
        Now { moment, wall }
    }

    /// The runtime's instant of a moment, for its timers.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + Duration::from_nanos(moment.0)
    }
}

#[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
fn system_wall() -> Timestamp {
    // A clock before 1970 shows as 1970; nothing is decided on it.
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos))
}
