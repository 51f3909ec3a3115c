//! Which channels exist, what the management API knows of them, and where each
//! member's state lives.
//!
//! The daemon's control loop is the one writer; everybody else reads a
//! published [`Channels`]. `serve` reads a [`Snapshot`]: these and the drivers'
//! snapshots, taken together. Ids, times and everything else from outside are
//! arguments.

mod archive;
mod balancing;
mod body;
mod change;
mod delta;
mod desk;
mod draft;
mod fault;
mod files;
mod ids;
mod instance;
mod microservice;
mod plan;
mod query;
mod record;
mod resource;
mod restore;
mod resuming;
mod seating;
mod slots;
mod snapshot;
mod state;

#[cfg(test)]
mod tests;

pub use archive::Archive;
pub use balancing::set_health;
pub use body::Body;
pub use change::{Changes, DriverCommand, MemberProbe, ReloadSummary};
pub use delta::{Cause, ChannelEdit, Delta, InstanceEdit, RecordEdit};
pub use desk::{Desk, Effect, Published, ReadGuard};
pub use fault::{Fault, FaultDetail};
pub use files::NameClash;
pub use ids::{Fresh, Id, InstanceId, UnixSeconds};
pub use instance::{BackendCertificate, Feature, FeatureName, FeatureSetting, Instance, Project, Quotas};
pub use microservice::{Cce, CceService, Cse, Microservice, Nacos, NacosServer, NacosUser, Service};
pub use plan::{Call, ChannelPath, PathFamily, Planned, Reply};
pub use query::{ChannelFilter, InstanceFilter, MemberFilter, Page, Paging, TextFilter};
pub use record::{ApiRecord, RecordError};
pub use resource::{GroupTag, Members, Resource, Tag};
pub use restore::InstanceSetting;
pub use seating::{Catalog, CatalogError, ChannelError, Edit, Prepared, Wanted};
pub use snapshot::{
    ChannelBalancer, ChannelSlot, ChannelSnapshot, Channels, Entry, MemberCounts, MemberSlot, MemberSnapshot,
    ReloadState, Snapshot, Source,
};
pub use state::Registry;
