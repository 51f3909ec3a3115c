//! Outcomes, reasons, thresholds, the schedule, snapshots.
//!
//! Pure: time is an argument, answers are values. A driver of `daemon` asks
//! `Engine` what is due, runs it with `probe`, and hands the
//! [`Report`] back; the engine says whether the verdict moved.
//!
//! | file | what it decides or holds |
//! |---|---|
//! | `moment` | monotonic and wall time as plain values |
//! | `outcome` | what a probe found, and whose fault it was |
//! | `histogram` | fixed-bucket counts of durations |
//! | `snapshot` | what a driver shows of its members |

pub mod histogram;
pub mod moment;
pub mod outcome;
pub mod snapshot;

pub use moment::{Moment, Now, Timestamp};
pub use outcome::{MemberReason, Outcome, Phases, ProberReason, Report};
pub use snapshot::{ChannelStats, DriverSnapshot, LastProbe, MemberState, ResultCounts};
