//! Which channels exist, and where each member's state lives.
//!
//! The daemon's control loop is the one writer; everybody else reads a
//! published [`Directory`]. `serve` reads an [`Observation`]: a directory and
//! the drivers' snapshots, taken together. [`registry`] holds what the management
//! API knows of channels beyond what is probed and balanced.

mod balancing;
mod change;
mod observation;
pub mod registry;
mod resuming;
mod seating;
mod slots;

pub use balancing::set_health;
pub use change::{Change, Changes, MemberProbe, ReloadSummary};
pub use observation::{
    ChannelBalancer, ChannelSeat, ChannelView, Directory, Entry, MemberCounts, MemberSeat, MemberView,
    Observation, ReloadState, Source,
};
pub use seating::{Catalog, CatalogError, ChannelError, Edit, Prepared, Wanted};
