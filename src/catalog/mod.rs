//! Which channels exist, and where each member's state lives.
//!
//! The daemon's control loop is the one writer; everybody else reads a
//! published [`Channels`]. `serve` reads a [`Snapshot`]: these and
//! the drivers' snapshots, taken together. [`registry`] holds what the management
//! API knows of channels beyond what is probed and balanced.

mod balancing;
mod change;
mod registry;
mod resuming;
mod seating;
mod slots;
mod snapshot;

pub use balancing::set_health;
pub use change::{Changes, DriverCommand, MemberProbe, ReloadSummary};
pub use registry::{
    ApiRecord, Archive, BackendCertificate, Body, Call, Cause, Cce, CceService, ChannelEdit, ChannelFilter,
    ChannelPath, Cse, Delta, Desk, Effect, Fault, FaultDetail, Feature, FeatureName, FeatureSetting, Fresh,
    GroupTag, Id, Instance, InstanceEdit, InstanceFilter, InstanceId, InstanceSetting, MemberFilter, Members,
    Microservice, Nacos, NacosServer, NacosUser, NameClash, Page, Paging, PathFamily, Planned, Project,
    Published, Quotas, ReadGuard, RecordEdit, RecordError, Registry, Reply, Resource, Service, Tag,
    TextFilter, UnixSeconds,
};
pub use seating::{Catalog, CatalogError, ChannelError, Edit, Prepared, Wanted};
pub use snapshot::{
    ChannelBalancer, ChannelSlot, ChannelSnapshot, Channels, Entry, MemberCounts, MemberSlot, MemberSnapshot,
    ReloadState, Snapshot, Source,
};
