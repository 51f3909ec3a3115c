//! Outcomes, reasons, thresholds, the schedule, snapshots.
//!
//! Pure: time is an argument, answers are values. A driver of `daemon` asks
//! [`Engine`] what is due, runs it with `probe`, and hands the
//! [`Report`] back; the engine says whether the verdict moved.
//!
//! | file | what it decides or holds |
//! |---|---|
//! | `engine` | a driver's members: what is due, what a result means |
//! | `schedule` | phases, slots, lateness |
//! | `threshold` | when a verdict moves |
//! | `moment` | monotonic and wall time as plain values |
//! | `outcome` | what a probe found, and whose fault it was |
//! | `histogram` | fixed-bucket counts of durations |
//! | `snapshot` | what a driver shows of its members |

pub mod engine;
pub mod histogram;
pub mod moment;
pub mod outcome;
pub mod schedule;
pub mod snapshot;
pub mod threshold;

pub use engine::{CheckTiming, Engine, Job, NewMember, Resumed, Transition};
pub use moment::{Moment, Now, Timestamp};
pub use outcome::{MemberReason, Outcome, Phases, ProberReason, Report};
pub use snapshot::{ChannelStats, DriverSnapshot, Durations, LastProbe, MemberState, ResultCounts};
pub use threshold::{Judgement, Thresholds};
