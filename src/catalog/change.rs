//! What a change of the catalog means for the drivers.

use std::sync::Arc;

use serde::Deserialize;

use super::snapshot::Channels;
use crate::health::{NewMember, Resumed};
use crate::probe::{Plan, Target};

/// How one member is probed.
#[derive(Debug, Clone)]
pub struct MemberProbe {
    /// What all members of the channel share.
    pub plan: Arc<Plan>,
    /// How the member is called and where it is.
    pub target: Target,
}

/// A change to the members of one driver. Generic over the probe so that drivers
/// can be tested with made-up ones.
#[derive(Debug, Clone)]
pub enum DriverCommand<P> {
    /// Takes a member, or gives a taken slot a new check and generation. Without
    /// a probe it is never probed.
    Assign(NewMember, Option<P>),
    /// A new probe that asks the same: verdict, counts and phase stay.
    Refresh(u32, P),
    /// Lets the member that a slot was just given to, by this generation, go on
    /// where it was before the daemon's restart.
    Resume(u32, u32, Resumed),
    /// Forgets a member.
    Remove(u32),
    /// Starts the counters of a channel slot from zero.
    ResetChannel(u32),
}

/// An accepted change: tell the drivers, then publish the channels.
#[derive(Debug)]
pub struct Changes {
    /// The channels as they are from now on.
    pub channels: Arc<Channels>,
    /// What each driver must do, in order.
    pub drivers: Vec<Vec<DriverCommand<MemberProbe>>>,
    /// What it amounts to.
    pub summary: ReloadSummary,
}

/// What a change amounts to, in numbers of what it is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct ReloadSummary {
    /// Channels in effect now.
    pub channels: usize,
    /// Members in effect now.
    pub members: usize,
    /// Members that are new.
    pub added: usize,
    /// Members that are gone.
    pub removed: usize,
    /// Members that stay but start again at unknown, because their check changed.
    pub restarted: usize,
}
