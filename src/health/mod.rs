//! Outcomes, reasons, thresholds, the schedule, snapshots.
//!
//! Pure: time is an argument, answers are values. A driver of `daemon` asks
//! [`Engine`] what is due, runs it with `probe`, and hands the
//! [`Report`] back; the engine says whether the verdict moved.
//!
//! | file | what it decides or holds |
//! |---|---|
//! | `engine` | a driver's members: what is due, when a result moves a verdict |
//! | `schedule` | when a member is due, and when it is too late |
//! | `schedule/grid` | how many members are due at one moment |
//! | `permits` | which probes may run when not all can |
//! | `outcome` | what a probe found, and whose fault it was |
//! | `snapshot` | what a driver shows of its members |
//! | `verdict` | whose a verdict is, and what of it goes on after a change |
//! | `time` | monotonic time and wall time |

pub mod engine;
pub mod outcome;
mod permits;
pub mod schedule;
pub mod snapshot;
pub mod time;
pub mod verdict;

pub use engine::{CheckTiming, Engine, Job, MovingMember, NewMember, Thresholds, Transition};
pub use outcome::{MemberReason, Outcome, Phases, ProberReason, Report};
pub use snapshot::{ChannelStats, DriverSnapshot, Durations, LastProbe, MemberState, ResultCounts};
pub use time::{MonotonicTime, Now, Timestamp};
pub use verdict::{ConfirmedAt, Resumed, VerdictFrom};
